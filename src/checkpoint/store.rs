//! Where checkpoints are kept: named blobs behind a small trait, on a disk, in an object store, or in a test's memory.

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

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

    /// Keeps other processes out until the result is dropped, or the process ends. `None` when another one holds it.
    /// A store that knows no locks gives one that keeps nobody out: the incarnations' numbers then have to do.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn lock(&self) -> Result<Option<Lock>, StoreError>;
}

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
