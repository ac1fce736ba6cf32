//! Where checkpoints are kept: named blobs behind a small trait, on a disk, in an object store, or in a test's memory.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use super::files::offload;
use super::local_store::LocalStore;
use super::object_store::ObjectStorage;
use crate::time::LogId;

/// Named blobs. Paths are relative, with `/` between their parts.
///
/// What a call has confirmed survives a loss of power: on a disk the file and its folder are synced.
#[async_trait]
pub trait Store: Send + Sync {
    /// Where it is, for messages. Holds no secret.
    fn describe(&self) -> String;

    /// Writes a blob whole or not at all, replacing one of that name.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// Writes a blob whole or not at all, unless there is one of that name. Whether it was written. Of two writers at
    /// the same time one gets `true`.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError>;

    /// Reads a blob.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and the others.
    async fn get(&self, path: &str) -> Result<Bytes, StoreError>;

    /// Reads a blob that must be as it was written. A store with several copies looks for one that is.
    ///
    /// # Errors
    /// [`StoreError::Torn`] when the check fails, [`StoreError::Missing`] and the others.
    async fn get_whole(&self, path: &str, check: Check) -> Result<Bytes, StoreError> {
        let bytes = self.get(path).await?;
        let place = || format!("{path} at {}", self.describe());
        let checked = bytes.clone();
        let outcome = offload(move || check(&checked)).await;
        outcome.map(|()| bytes).map_err(|flaw| StoreError::Torn { place: place(), flaw })
    }

    /// Whether one damaged disk, or one damaged file, loses nothing: such a store need not be given everything twice.
    fn keeps_copies(&self) -> bool;

    /// The blobs whose paths begin with `folder` and a `/`, with their sizes in bytes, in the order of their paths.
    ///
    /// # Errors
    /// See [`StoreError`]. A folder without blobs is none.
    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError>;

    /// Deletes a blob. One that is not there is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn delete(&self, path: &str) -> Result<(), StoreError>;

    /// The name of a log that is made here, unlike any other.
    fn new_log_id(&self) -> LogId {
        // The standard library's hash keys come from the system's randomness.
        let draw = || RandomState::new().build_hasher().finish();
        LogId(format!("{:016x}{:016x}", draw(), draw()))
    }

    /// Keeps other processes out until the result is dropped, or the process ends. `None` when another one holds it.
    /// A store that knows no locks gives one that keeps nobody out: the incarnations' numbers then have to do.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn lock(&self) -> Result<Option<Lock>, StoreError>;
}

/// Opens a store: a folder's path, `file:///folder`, `s3://bucket/prefix`, or `memory:///` for a test, which is empty each
/// time. Access to S3 is taken from the variables of the environment that AWS's own tools read.
///
/// # Errors
/// [`StoreError::Refused`] when there is no such kind of place, or its settings are wrong.
pub fn open(place: &str) -> Result<Arc<dyn Store>, StoreError> {
    let Some((scheme, rest)) = place.split_once("://") else {
        return Ok(Arc::new(LocalStore::new(place)));
    };
    match scheme {
        "file" => Ok(Arc::new(LocalStore::new(rest))),
        "s3" => Ok(Arc::new(ObjectStorage::s3(place)?)),
        "memory" => Ok(Arc::new(ObjectStorage::memory())),
        _ => Err(StoreError::Refused {
            place: without_secret(place),
            message: format!(
                "checkpoints cannot be kept in '{scheme}': give a folder's path, file:///folder or s3://bucket/prefix"
            ),
        }),
    }
}

/// A URL without the user and the password that may be in it.
fn without_secret(place: &str) -> String {
    match place.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or_default();
            let shown = host.rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[shown..])
        }
        None => place.to_owned(),
    }
}

/// The blob that names the holder of the lock, for stores that know locks.
pub const LOCK: &str = "lock";

/// Says what is wrong with a blob, if anything is.
pub type Check = Arc<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

/// Held while a run uses a store.
pub type Lock = Box<dyn Send + Sync>;

/// What a store could not do.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no such blob.
    #[error("{place} is missing")]
    Missing {
        /// The store and the path.
        place: String,
    },
    /// It is not as it was written.
    #[error("{place}: {flaw}")]
    Torn {
        /// The store and the path.
        place: String,
        /// What is wrong with it.
        flaw: String,
    },
    /// Trying again may help: no space, no connection.
    #[error("{place}: {message}")]
    Unavailable {
        /// The store and the path.
        place: String,
        /// What happened.
        message: String,
    },
    /// Trying again will not help: no rights, no such bucket.
    #[error("{place}: {message}")]
    Refused {
        /// The store and the path.
        place: String,
        /// What happened and what would be right.
        message: String,
    },
}
