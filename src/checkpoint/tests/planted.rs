//! Known mistakes of the log, planted one at a time: each is noticed by what an ordinary life of a log must be.
//!
//! `NoSync` and `NoFolderSync` are noticed beside the local store; the simulation looks for most of these, too, amid
//! everything else.

use super::super::inspection;
use super::*;
use crate::faults::{Bug, plant};

/// Takes the mistake out again, whatever happens.
struct Planted;

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

/// What is wrong with a log's life of a hundred epochs with a crash in between; `None` when all is well.
async fn life() -> Option<&'static str> {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 90).await;
    log.settled("sink", Epoch(40));
    append(&mut log, 10).await;
    let waiting = log.outbox().epochs("sink", Epoch(40));
    drop(log);
    let (log, recovered) = CheckpointLog::open(Arc::clone(&store), options()).await.ok()?;
    let recovered = recovered?;
    if state_of(&recovered) != (1..=100).collect::<Vec<_>>() {
        return Some("state is not what was appended");
    }
    if waiting != epochs(41..=100) || recovered.undelivered.get("sink") != Some(&waiting) {
        return Some("rows are missing that wait");
    }
    if log.writer().incarnation.0 != 2 {
        return Some("two runs have one number");
    }
    drop(log);
    inspection::remove(&store, inspection::Remove::One(Epoch(100))).await.ok()?;
    let (log, _) = open(&store).await;
    if log.last_epoch() != Epoch(100) {
        return Some("a number is used again");
    }
    None
}

/// What is wrong when the newest manifest, or a file of state, has been flipped a bit in both copies.
async fn damage() -> Option<&'static str> {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 3).await;
    drop(log);
    for path in ["manifests/000000000003-1.json", "manifests/000000000003-1.json.copy"] {
        let bytes = store.get(path).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        // It still reads well, and says another offset.
        store.put(path, text.replacen("\"t[0]\": 3", "\"t[0]\": 7", 1).into()).await.unwrap();
    }
    let (_, recovered) = CheckpointLog::open(store, options()).await.ok()?;
    match recovered?.state.sources["source"].positions["t[0]"] {
        2 => None,
        _ => Some("a damaged manifest is gone on from"),
    }
}

/// What is wrong when the store fails for good at some call.
async fn last_call() -> Option<&'static str> {
    for calls in 0..60 {
        let disk = memory();
        super::failing::run_until_failure(super::failing::Failing::after(&disk, calls, false, i64::MAX), 3).await;
        let Ok((_, recovered)) = CheckpointLog::open(disk, options()).await else {
            return Some("what was interrupted cannot be gone on from");
        };
        if let Some(recovered) = recovered
            && state_of(&recovered) != (1..=recovered.state.epoch.0 as i64).collect::<Vec<_>>()
        {
            return Some("a manifest is there before its files");
        }
    }
    None
}

#[tokio::test]
async fn each_is_noticed() {
    assert_eq!((life().await, damage().await, last_call().await), (None, None, None));
    let of_life = [
        (Bug::StateDeltaLost, "state is not what was appended"),
        (Bug::CompactionDropsDelta, "state is not what was appended"),
        (Bug::OutboxDroppedEarly, "rows are missing that wait"),
        (Bug::IncarnationNotTaken, "two runs have one number"),
        (Bug::EpochReused, "a number is used again"),
    ];
    let _taken_out = Planted;
    for (bug, expected) in of_life {
        plant(Some(bug));
        assert_eq!(life().await, Some(expected), "{bug:?}");
    }
    plant(Some(Bug::ChecksumIgnored));
    assert_eq!(damage().await, Some("a damaged manifest is gone on from"));
    plant(Some(Bug::ManifestFirst));
    assert!(last_call().await.is_some(), "ManifestFirst");
}
