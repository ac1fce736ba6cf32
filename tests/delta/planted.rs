//! Known mistakes of the upkeep, planted one at a time: those who read the table must notice each.

use std::time::{Duration, Instant};

use crate::numbers::Numbered;
use crate::others::Others;
use crate::pipeline::Pipeline;

/// What is noticed while a pipeline with this mistake runs.
fn noticed(bug: &str) -> String {
    let (others, place) = (Others::start(), Numbered::new(1_000_000, 1000, "200 ms"));
    let mut command = place.command();
    command.env("ACEQUIA_PLANT", bug);
    let mut pipeline = Pipeline::start(command);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        // Without a writer, so that nothing else can be the matter than the mistake.
        std::thread::sleep(Duration::from_millis(100));
        pipeline.signal("-STOP");
        let verdict = place.verdict(&others, "deltalake");
        pipeline.signal("-CONT");
        if let Err(noticed) = verdict {
            return noticed;
        }
        assert!(Instant::now() < deadline && !pipeline.has_ended(), "{bug} is not noticed\n{}", pipeline.said());
    }
}

#[test]
fn a_vacuum_that_takes_a_file_which_the_log_names_is_noticed() {
    let noticed = noticed("VacuumTakesLive");
    assert!(noticed.contains("files that are not there"), "{noticed}");
}

#[test]
fn a_compaction_that_leaves_what_it_replaces_in_the_log_is_noticed() {
    let noticed = noticed("CompactedTwice");
    assert!(noticed.contains("Numbers"), "{noticed}");
}
