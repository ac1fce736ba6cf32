//! Reading and writing the files of a log: waited for while the store is away, checked when they come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::log::CheckpointError;
use super::manifest::FileEntry;
use super::patience::{Failures, Patience};
use super::sections::SectionFile;
use super::store::{Check, Store, StoreError};
use crate::faults::{Bug, planted};
use crate::time::{Epoch, Incarnation};

/// Names and writes the new files of one run.
pub(super) struct NewFiles {
    incarnation: Incarnation,
    count: AtomicU64,
    /// Written perhaps, and not used.
    failed: Mutex<Vec<String>>,
    failures: Failures,
}

impl NewFiles {
    pub(super) fn new(incarnation: Incarnation, failures: &Failures) -> NewFiles {
        NewFiles { incarnation, count: AtomicU64::new(0), failed: Mutex::default(), failures: Arc::clone(failures) }
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
        let mut patience = Patience::to_write(format!("epoch {epoch}"), &self.failures);
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
    let bytes = store.get_whole(path, as_in(entry.clone())).await.map_err(|error| match error {
        StoreError::Missing { .. } => FileFlaw::Damaged("it is missing".into()),
        StoreError::Torn { flaw, .. } => FileFlaw::Damaged(flaw),
        error => FileFlaw::Store(error),
    })?;
    SectionFile::open(bytes, true).map_err(FileFlaw::Damaged)
}

/// Compares a file with what a manifest says of it.
pub(super) fn as_in(entry: FileEntry) -> Check {
    Arc::new(move |bytes| {
        if planted(Bug::ChecksumIgnored) {
            return Ok(());
        }
        let found = FileEntry::of(bytes);
        if found.bytes != entry.bytes {
            return Err(format!("it has {} bytes and should have {}", found.bytes, entry.bytes));
        }
        match found.crc32 == entry.crc32 {
            true => Ok(()),
            false => Err("its checksum does not match what it holds".into()),
        }
    })
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
