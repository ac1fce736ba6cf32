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
    let found = inspection::list(&**store).await.unwrap().into_iter().find(|found| found.epoch.0 == epoch).unwrap();
    let manifest = found.manifest.unwrap();
    let state = manifest.parts().map(|part| part.file.clone());
    let rows = manifest.sinks.values().flat_map(|sink| sink.unsettled()).map(|entry| entry.file.clone());
    state.chain(rows).chain([format!("manifests/{epoch:012}.json")]).collect()
}

#[tokio::test]
async fn a_thousand_kinds_of_damage_are_noticed_and_never_loaded() {
    let store = memory();
    log_of(&store, 6).await;
    let files = all_files(&store).await;
    let paths: Vec<&String> = files.keys().collect();
    let mut of = BTreeMap::new();
    for epoch in 4..=6 {
        of.insert(epoch, needed(&store, epoch).await);
    }
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut newest_lost, mut all_lost) = (0, 0);
    for case in 0..1000 {
        let path = paths[random.random_range(0..paths.len())];
        let store = copy(&files).await;
        let change = damaged(&files[path], &mut random);
        match &change {
            Some(bytes) => store.put(path, bytes.clone()).await.unwrap(),
            None => store.delete(path).await.unwrap(),
        }
        // A manifest or a run's number that is gone has left nothing to look at.
        let leaves_a_gap = change.is_some() || !["manifests", "incarnations"].iter().any(|gone| path.starts_with(gone));
        let verified = inspection::verify(&*store).await.unwrap();
        assert_eq!(verified.flaws.len(), usize::from(leaves_a_gap), "case {case}, {path}: {:?}", verified.flaws);
        assert!(verified.flaws.iter().all(|flaw| flaw.starts_with(path)), "case {case}, {path}: {:?}", verified.flaws);
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
    assert!(newest_lost > 50 && all_lost > 50, "{newest_lost}, {all_lost}");
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused() {
    let store = memory();
    log_of(&store, 2).await;
    let path = "manifests/000000000002.json";
    let mut manifest = inspection::list(&*store).await.unwrap().pop().unwrap().manifest.unwrap();
    manifest.format = 2;
    store.put(path, sealed::seal(&manifest).unwrap()).await.unwrap();
    let error = CheckpointLog::open(store, options()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the checkpoint manifests/000000000002.json at memory:/// cannot be read: it was written by a newer acequia \
         (format 2, this one reads up to 1): go on with that one"
    );
}

#[tokio::test]
async fn nothing_whole_says_what_is_wrong_and_the_ways_out() {
    let store = memory();
    log_of(&store, 1).await;
    let path = "manifests/000000000001.json";
    store.put(path, Bytes::from_static(b"{}")).await.unwrap();
    let error = CheckpointLog::open(Arc::clone(&store), options()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "no checkpoint is whole at memory:///:\n  checkpoint 1 is damaged: manifests/000000000001.json: cut off: 2 \
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
    assert_eq!(inspection::remove(&*store, Remove::One(Epoch(6))).await.unwrap(), epochs([6]));
    assert!(inspection::verify(&*store).await.unwrap().flaws.is_empty());
    let (log, recovered) = open(&store).await;
    assert_eq!((state_of(&recovered.unwrap()), log.last_epoch()), ((1..=5).collect(), Epoch(6)));
    drop(log);
    let missing = inspection::remove(&*store, Remove::One(Epoch(9))).await.unwrap_err().to_string();
    assert_eq!(missing, "there is no checkpoint 9 at memory:///; there are: 4, 5");
    assert_eq!(inspection::remove(&*store, Remove::AllBut(1)).await.unwrap(), epochs([4]));
    assert_eq!(inspection::remove(&*store, Remove::All).await.unwrap(), epochs([5]));
    let (log, recovered) = open(&store).await;
    assert!(recovered.is_none());
    assert_eq!(log.last_epoch(), Epoch(0));
}
