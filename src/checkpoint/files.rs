//! Reading and writing the files of a log: waited for while the store is away, checked when they come back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use super::log::CheckpointError;
use super::manifest::FileEntry;
use super::sections::SectionFile;
use super::store::{Store, StoreError};
use crate::faults::{Bug, planted};
use crate::time::{Epoch, Incarnation};

/// The first pause before a store is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The time between two log lines about a store that is away.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Waits for a store that is full or away.
pub(super) struct Patience {
    verb: &'static str,
    what: String,
    began: Instant,
    failures: u32,
    logged: Option<Instant>,
    pause: Duration,
}

impl Patience {
    /// With the writing of `what`.
    pub(super) fn new(what: impl Into<String>) -> Patience {
        Patience { verb: "write", ..Patience::to_read(what) }
    }

    /// With the reading of `what`.
    pub(super) fn to_read(what: impl Into<String>) -> Patience {
        Patience {
            verb: "read",
            what: what.into(),
            began: Instant::now(),
            failures: 0,
            logged: None,
            pause: FIRST_PAUSE,
        }
    }

    /// After a failure: returns when it is time to try again.
    pub(super) async fn wait(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !matches!(error, StoreError::Unavailable { .. }) {
            return Err(error);
        }
        self.failures += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
            tracing::warn!("waiting to {} {}: {error} (attempt {})", self.verb, self.what, self.failures);
            self.logged = Some(Instant::now());
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// It went well at last.
    pub(super) fn end(self) {
        if self.failures > 0 {
            tracing::info!("could {} {} after {:.1} s", self.verb, self.what, self.began.elapsed().as_secs_f64());
        }
    }
}

/// Names and writes the new files of one run.
pub(super) struct NewFiles {
    incarnation: Incarnation,
    count: AtomicU64,
    /// Written perhaps, and not used.
    failed: Mutex<Vec<String>>,
}

impl NewFiles {
    pub(super) fn new(incarnation: Incarnation) -> NewFiles {
        NewFiles { incarnation, count: AtomicU64::new(0), failed: Mutex::default() }
    }

    /// Writes a file, however long that takes. Each try has a name of its own, because after a failed sync the pages of
    /// the old one may be gone though the next sync succeeds.
    pub(super) async fn write(
        &self,
        store: &dyn Store,
        folder: &str,
        epoch: Epoch,
        kind: &str,
        bytes: Bytes,
    ) -> Result<String, StoreError> {
        let mut patience = Patience::new(format!("epoch {epoch}"));
        loop {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let path = format!("{folder}/{:012}-{}-{count}.{kind}", epoch.0, self.incarnation);
            match store.put(&path, bytes.clone()).await {
                Ok(()) => {
                    patience.end();
                    return Ok(path);
                }
                Err(error) => {
                    self.failed.lock().push(path);
                    patience.wait(error).await?;
                }
            }
        }
    }

    /// Will not be used.
    pub(super) fn abandon(&self, paths: impl IntoIterator<Item = String>) {
        self.failed.lock().extend(paths);
    }

    /// What was perhaps written, and is not used.
    pub(super) fn take_failed(&self) -> Vec<String> {
        std::mem::take(&mut self.failed.lock())
    }
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum FileFlaw {
    /// It is not as it was written, or gone.
    Damaged(String),
    /// The store cannot be asked.
    Store(StoreError),
}

impl FileFlaw {
    /// As an error about `what`.
    pub(super) fn into_error(self, what: String) -> CheckpointError {
        match self {
            FileFlaw::Damaged(flaw) => CheckpointError::Damaged(format!("{what}: {flaw}")),
            FileFlaw::Store(error) => error.into(),
        }
    }
}

/// Reads a file and compares it with what its manifest says.
pub(super) async fn load(store: &dyn Store, path: &str, entry: &FileEntry) -> Result<SectionFile, FileFlaw> {
    let bytes = match store.get(path).await {
        Ok(bytes) => bytes,
        Err(StoreError::Missing { .. }) => return Err(FileFlaw::Damaged("it is missing".into())),
        Err(error) => return Err(FileFlaw::Store(error)),
    };
    if !planted(Bug::ChecksumIgnored) {
        let found = FileEntry::of(&bytes);
        if found.bytes != entry.bytes {
            return Err(FileFlaw::Damaged(format!("it has {} bytes and should have {}", found.bytes, entry.bytes)));
        }
        if found.crc32 != entry.crc32 {
            return Err(FileFlaw::Damaged("its checksum does not match what it holds".into()));
        }
    }
    SectionFile::open(bytes, true).map_err(FileFlaw::Damaged)
}

/// Does work that takes long off the runtime's threads; at once where the runtime has only one, so that a simulation
/// stays the same from run to run.
pub(super) async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and whoever waits with it.
            Err(_) => std::future::pending().await,
        },
    }
}
