//! Every blob twice, on stores that keep no copies themselves: what one damage can hit is in two files.
//!
//! Kept checkpoints share files of state and of rows, so going back to the one before does not help when one of those is
//! damaged, and destinations that have the newest epoch refuse an older one. The second blob has the name of the first
//! with [`COPY`] behind it; all others see one blob. A store without copies has a lock, so that one process writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::store::{Check, Lock, Store, StoreError};
use crate::time::LogId;

/// What the name of a second blob ends with.
const COPY: &str = ".copy";

/// Where the second blob of a name is.
pub(super) fn copy_of(path: &str) -> String {
    format!("{path}{COPY}")
}

/// For the run that holds the lock: what it finds damaged it writes again.
pub(super) fn writing(store: Arc<dyn Store>) -> Arc<dyn Store> {
    over(store, true)
}

/// For those who only look.
pub(super) fn reading(store: &Arc<dyn Store>) -> Arc<dyn Store> {
    over(Arc::clone(store), false)
}

fn over(store: Arc<dyn Store>, heals: bool) -> Arc<dyn Store> {
    match store.keeps_copies() {
        true => store,
        false => Arc::new(Mirrored { store, heals, alone: Mutex::default() }),
    }
}

/// A store that keeps each blob twice.
struct Mirrored {
    store: Arc<dyn Store>,
    /// Writes again what it finds damaged.
    heals: bool,
    /// Blobs that were listed without an equal beside them.
    alone: Mutex<BTreeSet<String>>,
}

impl Mirrored {
    /// Reads the second blob after the first was found to be bad, and replaces the first.
    async fn second(&self, path: &str, check: Check, first: StoreError) -> Result<Bytes, StoreError> {
        let copy = copy_of(path);
        match self.store.get_whole(&copy, check).await {
            Ok(bytes) => {
                if self.heals {
                    tracing::warn!("{first}: its copy {copy} is whole and is used, and the damaged file written again");
                    self.write_again(path, &bytes).await;
                }
                Ok(bytes)
            }
            Err(StoreError::Missing { .. } | StoreError::Torn { .. }) => Err(first),
            // When nothing is known of the first either, that is what is waited for.
            Err(error) => Err(if matches!(first, StoreError::Unavailable { .. }) { first } else { error }),
        }
    }

    /// What does not work now is tried again at the next look.
    async fn write_again(&self, path: &str, bytes: &Bytes) {
        if let Err(error) = self.store.put(path, bytes.clone()).await {
            tracing::warn!("{path} is not written again: {error}");
        }
    }
}

#[async_trait]
impl Store for Mirrored {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn keeps_copies(&self) -> bool {
        true
    }

    fn new_log_id(&self) -> LogId {
        self.store.new_log_id()
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let copy = copy_of(path);
        let (first, second) = futures::join!(self.store.put(path, bytes.clone()), self.store.put(&copy, bytes));
        first.and(second)
    }

    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let copy = copy_of(path);
        let absent = |path, bytes| self.store.put_if_absent(path, bytes);
        let (first, second) = futures::join!(absent(path, bytes.clone()), absent(&copy, bytes.clone()));
        match (first?, second?) {
            (true, false) => self.store.put(&copy, bytes).await.map(|()| true),
            // The first one, which is another's, had lost its copy.
            (false, true) => self.store.delete(&copy).await.map(|()| false),
            (absent, _) => Ok(absent),
        }
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        match self.store.get(path).await {
            Err(missing @ StoreError::Missing { .. }) => {
                let anything: Check = Arc::new(|_| Ok(()));
                self.second(path, anything, missing).await
            }
            other => other,
        }
    }

    async fn get_whole(&self, path: &str, check: Check) -> Result<Bytes, StoreError> {
        match self.store.get_whole(path, Arc::clone(&check)).await {
            Ok(bytes) => {
                let was_alone = self.heals && self.alone.lock().remove(path);
                if was_alone {
                    let copy = copy_of(path);
                    tracing::warn!("{copy} at {}, the copy of a file, is written again", self.describe());
                    self.write_again(&copy, &bytes).await;
                }
                Ok(bytes)
            }
            // A disk may also fail to read one file.
            Err(bad) => self.second(path, check, bad).await,
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let mut found: BTreeMap<String, (Option<u64>, Option<u64>)> = BTreeMap::new();
        for (path, bytes) in self.store.list(folder).await? {
            match path.strip_suffix(COPY) {
                Some(path) => found.entry(path.to_owned()).or_default().1 = Some(bytes),
                None => found.entry(path).or_default().0 = Some(bytes),
            }
        }
        let unequal = found.iter().filter(|(_, (first, second))| first != second).map(|(path, _)| path.clone());
        self.alone.lock().extend(unequal);
        Ok(found.into_iter().map(|(path, (first, second))| (path, first.or(second).unwrap_or_default())).collect())
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let copy = copy_of(path);
        let (first, second) = futures::join!(self.store.delete(path), self.store.delete(&copy));
        first.and(second)
    }

    async fn lock(&self) -> Result<Option<Lock>, StoreError> {
        self.store.lock().await
    }
}
