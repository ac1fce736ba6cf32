//! Flipped bits, files cut off and files lost: noticed every time, and never taken for good state.

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::inspection::{self, Remove};
use super::super::log::CheckpointError;
use super::super::sealed;
use super::*;

/// A log of a few epochs, with some of them settled.
async fn log_of(store: &Arc<dyn Store>, count: u64) {
    let (mut log, _) = open(store).await;
    for _ in 0..count {
        log.settled("sink", Epoch(log.last_epoch().0.saturating_sub(1)));
        append(&mut log, 1).await;
    }
}

async fn copy(files: &BTreeMap<String, Bytes>) -> Arc<dyn Store> {
    let store = memory();
    for (path, bytes) in files {
        store.put(path, bytes.clone()).await.unwrap();
    }
    store
}

fn damaged(bytes: &Bytes, random: &mut ChaCha8Rng) -> Option<Bytes> {
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..5) {
        0 => None,
        1 => Some(bytes.slice(..at)),
        _ => {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << random.random_range(0..8);
            Some(bytes.into())
        }
    }
}

/// The files that checkpoint `epoch` cannot do without.
async fn needed(store: &Arc<dyn Store>, epoch: u64) -> Vec<String> {
    let found = inspection::list(store).await.unwrap().into_iter().find(|found| found.epoch.0 == epoch).unwrap();
    let manifest = found.manifest.unwrap();
    let state = manifest.parts().map(|part| part.file.clone());
    let rows = manifest.sinks.values().flat_map(|sink| sink.unsettled()).map(|entry| entry.file.clone());
    state.chain(rows).chain([found.path]).collect()
}

/// Damages the file at `path`.
async fn damage(store: &Arc<dyn Store>, path: &str, random: &mut ChaCha8Rng) {
    let bytes = store.get(path).await.unwrap();
    match damaged(&bytes, random) {
        Some(bytes) => store.put(path, bytes).await.unwrap(),
        None => store.delete(path).await.unwrap(),
    }
}

/// What `verify` says of files and of their copies.
async fn found_by_verify(store: &Arc<dyn Store>) -> Vec<String> {
    let verified = inspection::verify(store).await.unwrap();
    [verified.flaws, verified.gaps].concat()
}

#[tokio::test]
async fn what_a_crash_leaves_is_no_damage() {
    let store = memory();
    log_of(&store, 6).await;
    let files = all_files(&store).await;
    for path in files.keys() {
        let store = copy(&files).await;
        store.delete(path).await.unwrap();
        let verified = inspection::verify(&store).await.unwrap();
        assert_eq!(verified.flaws, [""; 0], "{path}");
        let other = path.strip_suffix(".copy").map_or_else(|| format!("{path}.copy"), str::to_owned);
        let gap = format!(
            "{path}: it is missing, as after a crash; {other} is whole, and a run that reads it writes the other one again"
        );
        assert_eq!(verified.gaps, [gap]);
    }
}

#[tokio::test]
async fn a_thousand_kinds_of_damage_to_one_file_are_noticed_and_lose_nothing() {
    let store = memory();
    log_of(&store, 6).await;
    let files = all_files(&store).await;
    let paths: Vec<&String> = files.keys().collect();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut hit = std::collections::BTreeSet::new();
    for case in 0..1000 {
        let path = paths[random.random_range(0..paths.len())];
        let store = copy(&files).await;
        damage(&store, path, &mut random).await;
        hit.insert(path.split('/').next().unwrap());
        let flaws = found_by_verify(&store).await;
        assert!(flaws.len() == 1 && flaws[0].starts_with(&format!("{path}: ")), "case {case}, {path}: {flaws:?}");
        let (log, recovered) = open(&store).await;
        let recovered = recovered.unwrap();
        assert_eq!((state_of(&recovered), log.last_epoch()), ((1..=6).collect(), Epoch(6)), "case {case}, {path}");
        assert_eq!(log.writer().incarnation.0, 2, "case {case}, {path}");
        for epoch in &recovered.undelivered["sink"] {
            assert_eq!(values(&log.outbox().read("sink", *epoch).await.unwrap()), [epoch.0 as i64], "{path}");
        }
    }
    assert_eq!(Vec::from_iter(hit), ["incarnations", "log.json", "log.json.copy", "manifests", "outbox", "state"]);
}

#[tokio::test]
async fn what_was_damaged_and_is_read_is_written_again() {
    let store = memory();
    log_of(&store, 6).await;
    let files = all_files(&store).await;
    let mut random = ChaCha8Rng::seed_from_u64(8);
    for path in files.keys().filter(|path| !path.starts_with("incarnations")) {
        let store = copy(&files).await;
        damage(&store, path, &mut random).await;
        let (mut log, _) = open(&store).await;
        let reader = log.outbox();
        for epoch in reader.epochs("sink", Epoch(0)) {
            reader.read("sink", epoch).await.unwrap();
        }
        append(&mut log, 1).await;
        drop(log);
        let flaws = found_by_verify(&store).await;
        // A copy whose first file is whole is only replaced when its size is not right.
        assert!(
            flaws.is_empty() || path.ends_with(".copy") && flaws[0].starts_with(path.as_str()),
            "{path}: {flaws:?}"
        );
    }
}

#[tokio::test]
async fn with_both_copies_damaged_the_one_before_is_used_or_none() {
    let store = memory();
    log_of(&store, 6).await;
    let files = all_files(&store).await;
    let paths: Vec<&String> = files.keys().filter(|path| !path.ends_with(".copy")).collect();
    let mut of = BTreeMap::new();
    for epoch in 4..=6 {
        of.insert(epoch, needed(&store, epoch).await);
    }
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let (mut newest_lost, mut all_lost) = (0, 0);
    for case in 0..500 {
        let path = paths[random.random_range(0..paths.len())];
        let store = copy(&files).await;
        damage(&store, path, &mut random).await;
        damage(&store, &format!("{path}.copy"), &mut random).await;
        // A manifest or a run's number that is gone has left nothing to look at.
        let is_gone = all_files(&store).await.keys().all(|found| found.strip_suffix(".copy").unwrap_or(found) != path);
        let leaves_a_gap = !is_gone || !["manifests", "incarnations"].iter().any(|gone| path.starts_with(gone));
        let flaws = inspection::verify(&store).await.unwrap().flaws;
        assert_eq!(flaws.len(), usize::from(leaves_a_gap), "case {case}, {path}: {flaws:?}");
        assert!(flaws.iter().all(|flaw| flaw.starts_with(path.as_str())), "case {case}, {path}: {flaws:?}");
        let expected = of.iter().rev().find(|(_, needed)| !needed.contains(path)).map(|(epoch, _)| *epoch);
        match (CheckpointLog::open(Arc::clone(&store), options()).await, expected) {
            (Ok((log, recovered)), Some(epoch)) => {
                assert_eq!(state_of(recovered.as_ref().unwrap()), (1..=epoch as i64).collect::<Vec<_>>(), "{path}");
                assert_eq!(log.last_epoch(), Epoch(6), "case {case}, {path}");
                newest_lost += u32::from(epoch == 5);
            }
            (Err(CheckpointError::Damaged(message)), None) => {
                assert!(message.contains(path) && message.contains("acequia checkpoints verify"), "{message}");
                assert!(message.contains("--fresh"), "{message}");
                all_lost += 1;
            }
            (outcome, expected) => panic!("case {case}, {path}: {expected:?}, {:?}", outcome.err()),
        }
    }
    assert!(newest_lost > 20 && all_lost > 20, "{newest_lost}, {all_lost}");
}

#[tokio::test]
async fn where_all_manifests_are_gone_no_run_begins_from_nothing() {
    let store = memory();
    log_of(&store, 3).await;
    for (path, _) in store.list("manifests").await.unwrap() {
        store.delete(&path).await.unwrap();
    }
    let error = CheckpointLog::open(Arc::clone(&store), options()).await.err().unwrap();
    assert!(matches!(error, CheckpointError::Damaged(_)));
    assert_eq!(
        error.to_string(),
        "the checkpoints at memory:/// are lost: log.json says that there were checkpoints, and none is left. Restore \
         the folder from a copy, or begin anew with --fresh"
    );
    for path in ["log.json", "log.json.copy"] {
        store.delete(path).await.unwrap();
    }
    let error = CheckpointLog::open(Arc::clone(&store), options()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the checkpoints at memory:/// are lost: log.json: it is missing. Restore the folder from a copy, or begin anew \
         with --fresh"
    );
    let fresh = LogOptions { fresh: true, ..options() };
    let (log, recovered) = CheckpointLog::open(Arc::clone(&store), fresh).await.unwrap();
    assert!(recovered.is_none());
    assert_eq!(log.last_epoch(), Epoch(3));
    drop(log);
    // It came to no checkpoint; that is not a loss.
    assert!(open(&store).await.1.is_none());
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused() {
    let store = memory();
    log_of(&store, 2).await;
    let path = "manifests/000000000002-1.json";
    let mut manifest = inspection::list(&store).await.unwrap().pop().unwrap().manifest.unwrap();
    manifest.format = 2;
    for path in [path.to_owned(), format!("{path}.copy")] {
        store.put(&path, sealed::seal(&manifest).unwrap()).await.unwrap();
    }
    let error = CheckpointLog::open(store, options()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the checkpoint manifests/000000000002-1.json at memory:/// cannot be read: it was written by a newer acequia \
         (format 2, this one reads up to 1): go on with that one"
    );
}

#[tokio::test]
async fn nothing_whole_says_what_is_wrong_and_the_ways_out() {
    let store = memory();
    log_of(&store, 1).await;
    let path = "manifests/000000000001-1.json";
    for path in [path.to_owned(), format!("{path}.copy")] {
        store.put(&path, Bytes::from_static(b"{}")).await.unwrap();
    }
    let error = CheckpointLog::open(Arc::clone(&store), options()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "no checkpoint is whole at memory:///:\n  checkpoint 1 is damaged: manifests/000000000001-1.json: cut off: 2 \
         bytes without a checksum\nSee `acequia checkpoints verify`; restore the folder from a copy, or begin anew with \
         --fresh"
    );
    let fresh = LogOptions { fresh: true, ..options() };
    let (log, recovered) = CheckpointLog::open(store, fresh).await.unwrap();
    assert!(recovered.is_none());
    assert_eq!(log.last_epoch(), Epoch(1));
}

#[tokio::test]
async fn removing_keeps_what_others_need_and_numbers_rise() {
    let store = memory();
    log_of(&store, 6).await;
    assert_eq!(inspection::remove(&store, Remove::One(Epoch(6))).await.unwrap(), epochs([6]));
    assert!(inspection::verify(&store).await.unwrap().flaws.is_empty());
    let (log, recovered) = open(&store).await;
    assert_eq!((state_of(&recovered.unwrap()), log.last_epoch()), ((1..=5).collect(), Epoch(6)));
    drop(log);
    let missing = inspection::remove(&store, Remove::One(Epoch(9))).await.unwrap_err().to_string();
    assert_eq!(missing, "there is no checkpoint 9 at memory:///; there are: 4, 5");
    assert_eq!(inspection::remove(&store, Remove::AllBut(1)).await.unwrap(), epochs([4]));
    assert_eq!(inspection::remove(&store, Remove::All).await.unwrap(), epochs([5]));
    let (log, recovered) = open(&store).await;
    assert!(recovered.is_none());
    assert_eq!(log.last_epoch(), Epoch(0));
}
