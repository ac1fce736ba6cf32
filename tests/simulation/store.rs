//! A store in memory that knows what was synced.
//!
//! What a call has confirmed survives everything. What it has not may be there, be lost, or be torn after a loss of
//! power; may have been written though the answer was an error; and, in an object store, may arrive long after its
//! caller has given it up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acequia::checkpoint::store::{Lock, Store, StoreError};
use acequia::faults::{Bug, planted};
use acequia::time::LogId;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::process::Process;
use crate::world::World;

/// The disk or object store itself: outlives all processes.
pub struct Disk {
    world: World,
    state: Mutex<State>,
}

struct State {
    blobs: BTreeMap<String, Blob>,
    /// The process that holds the lock.
    lock: Option<u64>,
    /// Full, or away.
    out_until: Instant,
}

struct Blob {
    bytes: Bytes,
    /// Whether it survives a loss of power.
    synced: bool,
    /// What it has replaced, as long as it is not synced.
    before: Option<Bytes>,
}

/// A process's way to it.
pub struct SimStore {
    disk: Arc<Disk>,
    process: Arc<Process>,
}

impl Disk {
    pub fn new(world: &World) -> Arc<Disk> {
        let state = State { blobs: BTreeMap::new(), lock: None, out_until: Instant::now() };
        Arc::new(Disk { world: world.clone(), state: Mutex::new(state) })
    }

    pub fn handle(self: &Arc<Disk>, process: &Arc<Process>) -> Arc<dyn Store> {
        Arc::new(SimStore { disk: Arc::clone(self), process: Arc::clone(process) })
    }

    /// The kernel lets go what a process held.
    pub fn process_died(&self, id: u64) {
        let mut state = self.state.lock();
        if state.lock == Some(id) {
            state.lock = None;
        }
    }

    /// What was not synced is kept, lost or torn.
    pub fn lose_power(&self) {
        let mut state = self.state.lock();
        state.lock = None;
        let paths: Vec<String> =
            state.blobs.iter().filter(|(_, blob)| !blob.synced).map(|(path, _)| path.clone()).collect();
        for path in paths {
            // A torn manifest alone is no log, nor is one without its name: the run must ask a person then, and does.
            let name = |path: &str| path.trim_end_matches(".copy").to_owned();
            let is_another = |other: &str| other.starts_with("manifests/") && name(other) != name(&path);
            let is_only = path.starts_with("manifests/")
                && !state.blobs.iter().any(|(other, blob)| is_another(other) && blob.synced);
            let Some(blob) = state.blobs.get_mut(&path) else { continue };
            let is_whole = is_only || path.starts_with("log.json") || planted(Bug::NoFolderSync);
            let fate = self.world.below(if is_whole { 2 } else { 4 });
            let length = blob.bytes.len() as u64;
            match (fate, blob.before.take()) {
                (0, _) => {}
                (_, Some(before)) => blob.bytes = before,
                (1, None) => drop(state.blobs.remove(&path)),
                (2, None) => blob.bytes.truncate(self.world.below(length) as usize),
                (_, None) => {
                    let mut bytes = blob.bytes.to_vec();
                    let from = self.world.below(length) as usize;
                    bytes.iter_mut().skip(from).for_each(|byte| *byte = 0);
                    blob.bytes = bytes.into();
                }
            }
            if let Some(blob) = state.blobs.get_mut(&path) {
                blob.synced = true;
            }
            self.world.note(format_args!(
                "store: power lost, {path}: {}",
                ["kept", "lost", "cut off", "zeros"][fate as usize]
            ));
        }
    }

    /// A bit of a blob that was synced is not what it was any more. Whether there was one.
    pub fn rot(&self) -> bool {
        let mut state = self.state.lock();
        let folders = ["manifests/", "state/", "outbox/"];
        let mut blobs: Vec<_> =
            state.blobs.iter_mut().filter(|(path, _)| folders.iter().any(|folder| path.starts_with(folder))).collect();
        if blobs.is_empty() {
            return false;
        }
        let (path, blob) = blobs.swap_remove(self.world.below(blobs.len() as u64) as usize);
        let mut bytes = blob.bytes.to_vec();
        let bit = self.world.below(bytes.len() as u64 * 8) as usize;
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        self.world.note(format_args!("store: bit {bit} of {path} is turned"));
        blob.bytes = bytes.into();
        true
    }

    fn found(&self, prefix: &str) -> Vec<(String, u64)> {
        let state = self.state.lock();
        let own = state.blobs.iter().filter(|(path, _)| path.starts_with(prefix));
        own.map(|(path, blob)| (path.clone(), blob.bytes.len() as u64)).collect()
    }

    fn write(&self, path: &str, bytes: Bytes) {
        let mut state = self.state.lock();
        let before = state.blobs.remove(path);
        let before = before.and_then(|blob| if blob.synced { Some(blob.bytes) } else { blob.before });
        state.blobs.insert(path.to_owned(), Blob { bytes, synced: false, before });
    }

    fn sync(&self, path: &str) {
        // What a store forgets that does not sync.
        if planted(Bug::NoSync) || planted(Bug::NoFolderSync) {
            return;
        }
        if let Some(blob) = self.state.lock().blobs.get_mut(path) {
            blob.synced = true;
            blob.before = None;
        }
    }
}

impl SimStore {
    fn note(&self, call: &str, path: &str, outcome: &str) {
        self.disk.world.note(format_args!("{} store.{call} {path}: {outcome}", self.process.id));
    }

    fn unavailable(&self, path: &str, message: &str) -> StoreError {
        StoreError::Unavailable { place: format!("memory:{path}"), message: message.into() }
    }

    /// The way in of every call.
    async fn begin(&self, call: &str, path: &str) -> Result<(), StoreError> {
        self.process.step().await;
        let world = &self.disk.world;
        world.latency().await;
        self.process.step().await;
        let now = Instant::now();
        if world.strikes(world.knobs().store_outages) {
            self.disk.state.lock().out_until = now + Duration::from_millis(world.below(3000));
        }
        let out = self.disk.state.lock().out_until > now && !world.is_calm();
        if out || world.strikes(world.knobs().store_errors) {
            self.note(call, path, "not done");
            return Err(self.unavailable(path, if out { "no space is left" } else { "the connection was reset" }));
        }
        Ok(())
    }

    /// The way out of a call that changes something.
    async fn end(&self, call: &str, path: &str, outcome: &str) -> Result<(), StoreError> {
        let world = &self.disk.world;
        if world.strikes(world.knobs().store_lost_answers) {
            self.note(call, path, "done, and the answer lost");
            return Err(self.unavailable(path, "the connection was reset"));
        }
        self.note(call, path, outcome);
        self.process.step().await;
        Ok(())
    }

    /// Whether the request is on its way for long: then it arrives some time, whatever becomes of its caller.
    fn straggles(&self, path: &str, bytes: &Bytes, if_absent: bool) -> bool {
        let world = &self.disk.world;
        if world.knobs().disk || !world.strikes(world.knobs().store_stragglers) {
            return false;
        }
        let (disk, path, bytes) = (Arc::clone(&self.disk), path.to_owned(), bytes.clone());
        let late = Duration::from_millis(world.below(3000));
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            if if_absent && disk.state.lock().blobs.contains_key(&path) {
                return;
            }
            disk.world.note(format_args!("store: {path} arrives late"));
            disk.write(&path, bytes);
            disk.sync(&path);
        });
        true
    }

    async fn confirm(&self, path: &str) {
        self.process.step().await;
        self.disk.world.latency().await;
        self.process.step().await;
        self.disk.sync(path);
    }
}

#[async_trait]
impl Store for SimStore {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn new_log_id(&self) -> LogId {
        LogId(format!("log{}", self.disk.world.below(1000)))
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.begin("put", path).await?;
        if self.straggles(path, &bytes, false) {
            self.note("put", path, "on its way, and given up");
            return Err(self.unavailable(path, "it did not answer in time"));
        }
        self.disk.write(path, bytes);
        self.confirm(path).await;
        self.end("put", path, "done").await
    }

    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        self.begin("put_if_absent", path).await?;
        if self.straggles(path, &bytes, true) {
            self.note("put_if_absent", path, "on its way, and given up");
            return Err(self.unavailable(path, "it did not answer in time"));
        }
        if self.disk.state.lock().blobs.contains_key(path) {
            self.end("put_if_absent", path, "is there already").await?;
            return Ok(false);
        }
        self.disk.write(path, bytes);
        self.confirm(path).await;
        self.end("put_if_absent", path, "done").await?;
        Ok(true)
    }

    fn keeps_copies(&self) -> bool {
        !self.disk.world.knobs().disk
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.begin("get", path).await?;
        let bytes = self.disk.state.lock().blobs.get(path).map(|blob| blob.bytes.clone());
        self.note("get", path, if bytes.is_some() { "done" } else { "missing" });
        self.process.step().await;
        bytes.ok_or_else(|| StoreError::Missing { place: format!("memory:{path}") })
    }

    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.begin("list", folder).await?;
        let found = self.disk.found(&format!("{folder}/"));
        self.note("list", folder, &format!("{} blobs", found.len()));
        self.process.step().await;
        Ok(found)
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.begin("delete", path).await?;
        self.disk.state.lock().blobs.remove(path);
        self.end("delete", path, "done").await
    }

    async fn lock(&self) -> Result<Option<Lock>, StoreError> {
        self.process.step().await;
        let world = &self.disk.world;
        if !world.knobs().disk {
            return Ok(Some(Box::new(())));
        }
        let mut state = self.disk.state.lock();
        if state.lock.is_some() {
            world.note(format_args!("{} store.lock: held", self.process.id));
            return Ok(None);
        }
        state.lock = Some(self.process.id);
        Ok(Some(Box::new(Held { disk: Arc::clone(&self.disk), process: self.process.id })))
    }
}

/// The lock, until it is dropped.
struct Held {
    disk: Arc<Disk>,
    process: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.process_died(self.process);
    }
}
