//! A store that fails at any of its calls: what is found later is what had been confirmed, or a whole epoch more.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;

use super::super::log::CheckpointError;
use super::super::store::{Lock, StoreError};
use super::*;

/// Hands calls on to another store until they run out. The call that fails may still have been carried out.
pub(super) struct Failing {
    inner: Arc<dyn Store>,
    left: AtomicI64,
    carries_out: bool,
    /// Goes on after this many failures.
    failures: i64,
}

impl Failing {
    pub(super) fn after(inner: &Arc<dyn Store>, calls: i64, carries_out: bool, failures: i64) -> Arc<dyn Store> {
        Arc::new(Failing { inner: Arc::clone(inner), left: AtomicI64::new(calls), carries_out, failures })
    }

    fn fails(&self) -> bool {
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        left <= 0 && left > -self.failures
    }

    fn error<T>(&self) -> Result<T, StoreError> {
        let (place, message) = ("a disk".to_owned(), "no space left on device".to_owned());
        match self.failures {
            i64::MAX => Err(StoreError::Refused { place, message }),
            _ => Err(StoreError::Unavailable { place, message }),
        }
    }
}

#[async_trait]
impl Store for Failing {
    fn describe(&self) -> String {
        "a disk".into()
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let fails = self.fails();
        if !fails || self.carries_out {
            self.inner.put(path, bytes).await?;
        }
        if fails { self.error() } else { Ok(()) }
    }

    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let fails = self.fails();
        let done = !fails || self.carries_out;
        let absent = if done { self.inner.put_if_absent(path, bytes).await? } else { true };
        if fails { self.error() } else { Ok(absent) }
    }

    fn keeps_copies(&self) -> bool {
        self.inner.keeps_copies()
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        if self.fails() { self.error() } else { self.inner.get(path).await }
    }

    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        if self.fails() { self.error() } else { self.inner.list(folder).await }
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let fails = self.fails();
        if !fails || self.carries_out {
            self.inner.delete(path).await?;
        }
        if fails { self.error() } else { Ok(()) }
    }

    async fn lock(&self) -> Result<Option<Lock>, StoreError> {
        self.inner.lock().await
    }
}

/// A way to a store on which manifests stay under way until someone lets them arrive.
struct Late {
    inner: Arc<dyn Store>,
    holds: AtomicBool,
    held: Mutex<Vec<(String, Bytes)>>,
    holding: Notify,
}

impl Late {
    async fn pass(&self, path: &str, bytes: &Bytes) {
        if self.holds.load(Ordering::Relaxed) && path.starts_with("manifests/") {
            self.held.lock().push((path.to_owned(), bytes.clone()));
            self.holding.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Store for Late {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.pass(path, &bytes).await;
        self.inner.put(path, bytes).await
    }

    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        self.pass(path, &bytes).await;
        self.inner.put_if_absent(path, bytes).await
    }

    fn keeps_copies(&self) -> bool {
        self.inner.keeps_copies()
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.inner.get(path).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.inner.list(folder).await
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.inner.delete(path).await
    }

    async fn lock(&self) -> Result<Option<Lock>, StoreError> {
        self.inner.lock().await
    }
}

/// A run is cut off while its manifest is under way, another one takes over, and then the manifest arrives.
pub(super) async fn late_manifest(store: Arc<dyn Store>) {
    let (mut log, _) = open(&store).await;
    append(&mut log, 3).await;
    drop(log);
    // Epoch 4 as `offset` has it, and nothing else: there is no other file that would tell of it.
    let moved = |offset: i64| {
        let mut moved = record(Epoch(4));
        moved.outbox.clear();
        moved.added.operators.clear();
        moved.added.sources.values_mut().for_each(|source| source.positions = [("t[0]".into(), offset)].into());
        moved
    };
    let holds = AtomicBool::new(false);
    let late = Arc::new(Late { inner: Arc::clone(&store), holds, held: Mutex::default(), holding: Notify::new() });
    let (mut first, _) = open(&(Arc::clone(&late) as Arc<dyn Store>)).await;
    late.holds.store(true, Ordering::Relaxed);
    tokio::select! {
        outcome = first.append(moved(44)) => panic!("it was not held: {outcome:?}"),
        () = late.holding.notified() => {}
    }
    let (mut second, _) = open(&store).await;
    second.append(moved(400)).await.unwrap();
    let held = std::mem::take(&mut *late.held.lock());
    for (path, bytes) in held {
        store.put(&path, bytes).await.unwrap();
    }
    drop(second);
    let (_, recovered) = open(&store).await;
    let recovered = recovered.unwrap();
    assert_eq!((recovered.state.epoch, recovered.state.sources["source"].positions["t[0]"]), (Epoch(4), 400));
}

#[tokio::test]
async fn a_manifest_that_arrives_late_replaces_none_of_a_later_run() {
    late_manifest(memory()).await;
}

/// Appends until something fails. Returns the last epoch that was confirmed and the last one that was tried.
pub(super) async fn run_until_failure(store: Arc<dyn Store>, epochs: u64) -> (u64, u64) {
    let Ok((mut log, recovered)) = CheckpointLog::open(store, options()).await else { return (0, 0) };
    begin(&mut log, recovered.as_ref());
    let mut confirmed = 0;
    for _ in 0..epochs {
        let epoch = log.last_epoch().next();
        match log.append(record(epoch)).await {
            Ok(_) => confirmed = epoch.0,
            Err(_) => return (confirmed, epoch.0),
        }
    }
    (confirmed, confirmed)
}

#[tokio::test]
async fn whichever_call_is_the_last_what_was_confirmed_is_there() {
    for carries_out in [false, true] {
        let mut whole_runs = 0;
        for calls in 0..240 {
            let disk = memory();
            let (confirmed, tried) = run_until_failure(Failing::after(&disk, calls, carries_out, i64::MAX), 7).await;
            let (log, recovered) = open(&disk).await;
            let found = recovered.as_ref().map_or(0, |recovered| recovered.state.epoch.0);
            assert!((confirmed..=tried).contains(&found), "{calls} calls: {confirmed} to {tried}, found {found}");
            if let Some(recovered) = &recovered {
                assert_eq!(state_of(recovered), (1..=found as i64).collect::<Vec<_>>(), "{calls} calls");
                for epoch in &recovered.undelivered["sink"] {
                    assert_eq!(values(&log.outbox().read("sink", *epoch).await.unwrap()), [epoch.0 as i64]);
                }
            }
            whole_runs += u32::from(confirmed == 7);
        }
        assert!(whole_runs > 0, "240 calls are too few for a run");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for() {
    for carries_out in [false, true] {
        for calls in 0..90 {
            let disk = memory();
            let (log, _) = open(&disk).await;
            drop(log);
            let (confirmed, _) = run_until_failure(Failing::after(&disk, calls, carries_out, 5), 5).await;
            let (_, recovered) = open(&disk).await;
            let found = recovered.map_or(vec![], |recovered| state_of(&recovered));
            assert_eq!(found, (1..=confirmed as i64).collect::<Vec<_>>(), "{calls} calls");
            assert_eq!(confirmed, 5, "{calls} calls: it gave up");
        }
    }
}

/// Random epochs, confirmations, crashes and starts, against a list of what was appended.
#[tokio::test]
async fn random_lives_of_a_log_agree_with_a_list() {
    for seed in 0..60 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let disk = memory();
        let (mut state, mut settled, mut highest) = (vec![], None::<u64>, 0);
        for _ in 0..random.random_range(2..7) {
            let (log, recovered) = open(&disk).await;
            let found = recovered.as_ref().map(state_of).unwrap_or_default();
            let in_doubt: Vec<i64> = found.iter().copied().filter(|epoch| !state.contains(epoch)).collect();
            assert!(in_doubt.len() <= 1 && found.starts_with(&state), "seed {seed}: {found:?}, {state:?}");
            state = found;
            assert!(log.last_epoch().0 >= highest, "seed {seed}");
            let waiting =
                recovered.and_then(|recovered| recovered.undelivered.get("sink").cloned()).unwrap_or_default();
            let must_wait = state.iter().filter(|epoch| settled.is_none_or(|settled| **epoch as u64 > settled));
            assert!(must_wait.clone().all(|epoch| waiting.contains(&Epoch(*epoch as u64))), "seed {seed}: {waiting:?}");
            for epoch in waiting {
                assert_eq!(values(&log.outbox().read("sink", epoch).await.unwrap()), [epoch.0 as i64], "seed {seed}");
            }
            drop(log);
            let failing = Failing::after(&disk, random.random_range(0..200), random.random(), i64::MAX);
            let Ok((mut log, recovered)) = CheckpointLog::open(failing, options()).await else { continue };
            begin(&mut log, recovered.as_ref());
            for _ in 0..random.random_range(0..40) {
                let epoch = Epoch(log.last_epoch().0 + random.random_range(1..3));
                highest = epoch.0;
                if log.append(record(epoch)).await.is_err() {
                    // Perhaps its files are there, perhaps nothing tells of it.
                    highest = log.last_epoch().0;
                    break;
                }
                state.push(epoch.0 as i64);
                if random.random_ratio(1, 3) {
                    settled = Some(epoch.0 - random.random_range(0..3).min(epoch.0 - 1)).max(settled);
                    log.settled("sink", Epoch(settled.unwrap()));
                }
            }
        }
    }
}

#[tokio::test]
async fn what_waiting_cannot_heal_is_said() {
    let disk = memory();
    open(&disk).await;
    let (mut log, _) = open(&Failing::after(&disk, 40, false, i64::MAX)).await;
    let error = loop {
        let epoch = log.last_epoch().next();
        if let Err(error) = log.append(record(epoch)).await {
            break error;
        }
    };
    assert!(matches!(error, CheckpointError::Store(StoreError::Refused { .. })));
    assert_eq!(error.to_string(), "a disk: no space left on device");
}
