//! Why there is no answer.

use datafusion::error::DataFusionError;
use thiserror::Error;

use crate::connectors::ConnectorError;
use crate::sql::SqlErrors;

/// Why a question to the history has no answer.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Mistakes in the text, each with its place.
    #[error(transparent)]
    Sql(#[from] SqlErrors),
    /// A table cannot be opened.
    #[error(transparent)]
    Table(#[from] ConnectorError),
    /// The text is right, and running it failed.
    #[error("{0}")]
    Running(String),
    /// More memory is needed than may be used.
    #[error("{message}")]
    Memory {
        /// What needs how much, and what can be done.
        message: String,
    },
    /// DataFusion could not be set up, which is a defect.
    #[error("cannot set up the query engine: {0}")]
    Engine(#[source] DataFusionError),
}
