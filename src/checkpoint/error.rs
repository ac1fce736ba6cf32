//! What can be wrong with checkpoints, for whoever must say it or choose an exit code.

use arrow::error::ArrowError;
use thiserror::Error;

use super::store::StoreError;

/// Why checkpoints cannot be used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// Another run is alive.
    #[error("{0}")]
    Held(String),
    /// A later run has taken over.
    #[error("{0}")]
    Fenced(String),
    /// None is whole, or the one asked for is not there.
    #[error("{0}")]
    Damaged(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A state could not be written or read as Arrow.
    #[error("{what}: {source}")]
    Arrow {
        /// Which.
        what: String,
        /// Arrow's words.
        source: ArrowError,
    },
}
