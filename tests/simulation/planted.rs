//! Known mistakes, planted one at a time: the simulation must notice each within so many seeds.

use acequia::faults::Bug;
use parking_lot::Mutex;

use crate::{on_all_cores, simulate};

/// The seed that noticed.
fn noticed(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let stopped = on_all_cores(1..seeds + 1, |seed| match simulate::run(seed, Some(bug)).violation {
        None => Ok(()),
        Some(violation) => {
            *found.lock() = Some((seed, violation));
            Err("noticed".into())
        }
    });
    drop(stopped);
    found.into_inner()
}

macro_rules! planted {
    ($($test:ident: $bug:ident within $seeds:literal;)*) => {
        $(
            #[test]
            fn $test() {
                match noticed(Bug::$bug, $seeds) {
                    Some((seed, violation)) => println!("{:?}: seed {seed}: {violation}", Bug::$bug),
                    None => panic!("{:?} was not noticed in {} seeds", Bug::$bug, $seeds),
                }
            }
        )*
    };
}

planted! {
    a_marker_before_its_data_is_noticed: MarkerBeforeData within 500;
    data_before_its_marker_is_noticed: DataBeforeMarker within 500;
    a_marker_read_before_the_fence_is_noticed: MarkerBeforeFence within 5000;
    a_fence_forgotten_is_noticed: FenceForgotten within 3000;
    an_unknown_outcome_taken_for_done_is_noticed: UnknownTakenForDone within 500;
    an_unknown_outcome_taken_for_failed_is_noticed: UnknownTakenForFailed within 500;
    a_producer_that_is_not_recycled_is_noticed: ProducerNotRecycled within 12000;
    a_loss_that_is_not_made_good_is_noticed: RewindForgotten within 3000;
    what_is_not_synced_is_noticed: NoSync within 3000;
    a_folder_that_is_not_synced_is_noticed: NoFolderSync within 3000;
    an_outbox_dropped_early_is_noticed: OutboxDroppedEarly within 3000;
    an_epoch_delivered_before_it_is_durable_is_noticed: DeliveredBeforeDurable within 3000;
    a_manifest_before_its_files_is_noticed: ManifestFirst within 3000;
    a_checksum_ignored_is_noticed: ChecksumIgnored within 5000;
    barriers_that_are_not_aligned_are_noticed: BarrierNotAligned within 3000;
    a_lost_delta_is_noticed: StateDeltaLost within 500;
    positions_ahead_of_the_state_are_noticed: PositionAhead within 500;
    an_incarnation_not_taken_is_noticed: IncarnationNotTaken within 3000;
    a_delta_dropped_in_compaction_is_noticed: CompactionDropsDelta within 3000;
}
