//! Waiting for a store that is full or away, with a log line now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::store::{Check, Lock, Store, StoreError};
use crate::time::LogId;

/// The first pause before a store is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The time between two log lines about a store that is away.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How often a store was full or away.
pub(super) type Failures = Arc<AtomicU64>;

/// Waits for a store that is full or away.
pub(super) struct Patience {
    verb: &'static str,
    what: String,
    all: Failures,
    began: Instant,
    failures: u32,
    logged: Option<Instant>,
    pause: Duration,
}

impl Patience {
    /// With the writing of `what`.
    pub(super) fn to_write(what: impl Into<String>, all: &Failures) -> Patience {
        Patience { verb: "write", ..Patience::to_read(what, all) }
    }

    /// With the reading of `what`.
    pub(super) fn to_read(what: impl Into<String>, all: &Failures) -> Patience {
        Patience {
            verb: "read",
            what: what.into(),
            all: Arc::clone(all),
            began: Instant::now(),
            failures: 0,
            logged: None,
            pause: FIRST_PAUSE,
        }
    }

    /// After a failure: returns when it is time to try again.
    ///
    /// # Errors
    /// The failure, if waiting cannot heal it.
    pub(super) async fn wait(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !matches!(error, StoreError::Unavailable { .. }) {
            return Err(error);
        }
        self.all.fetch_add(1, Ordering::Relaxed);
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

/// A store whose calls go on until they succeed, or fail in a way that waiting cannot heal. A blob that must not be
/// written twice under one name is not written through it: see [`super::files::NewFiles`].
pub(super) struct Patient {
    store: Arc<dyn Store>,
    failures: Failures,
}

impl Patient {
    /// Counts what fails in `failures`.
    pub(super) fn over(store: Arc<dyn Store>, failures: &Failures) -> Arc<dyn Store> {
        Arc::new(Patient { store, failures: Arc::clone(failures) })
    }

    fn to_read(&self, path: &str) -> Patience {
        Patience::to_read(path, &self.failures)
    }

    fn to_write(&self, path: &str) -> Patience {
        Patience::to_write(path, &self.failures)
    }
}

/// Calls until it is done.
macro_rules! until_done {
    ($patience:expr, $call:expr) => {{
        let mut patience = $patience;
        loop {
            match $call.await {
                Ok(done) => {
                    patience.end();
                    return Ok(done);
                }
                Err(error) => patience.wait(error).await?,
            }
        }
    }};
}

#[async_trait]
impl Store for Patient {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn keeps_copies(&self) -> bool {
        self.store.keeps_copies()
    }

    fn new_log_id(&self) -> LogId {
        self.store.new_log_id()
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        until_done!(self.to_write(path), self.store.put(path, bytes.clone()))
    }

    /// After a failure whose outcome is not known the blob may be there, and the answer `false`: whoever asks must know
    /// its own.
    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        until_done!(self.to_write(path), self.store.put_if_absent(path, bytes.clone()))
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        until_done!(self.to_read(path), self.store.get(path))
    }

    async fn get_whole(&self, path: &str, check: Check) -> Result<Bytes, StoreError> {
        until_done!(self.to_read(path), self.store.get_whole(path, Arc::clone(&check)))
    }

    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        until_done!(self.to_read(folder), self.store.list(folder))
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        until_done!(self.to_write(path), self.store.delete(path))
    }

    async fn lock(&self) -> Result<Option<Lock>, StoreError> {
        until_done!(self.to_write("the lock"), self.store.lock())
    }
}
