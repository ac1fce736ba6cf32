//! Why a query cannot be planned, before it is known where in which file it stands.

use datafusion::error::DataFusionError;
use thiserror::Error;

/// A query cannot be planned.
#[derive(Debug, Error)]
pub enum PlanError {
    /// DataFusion says no: an unknown column, a wrong type.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
    /// It cannot run as a stream.
    #[error("{message}")]
    Refused {
        /// What cannot run.
        message: String,
        /// Which form would.
        help: String,
    },
}

impl PlanError {
    /// A refusal: what cannot run, and which form would.
    pub fn refused(message: impl Into<String>, help: impl Into<String>) -> PlanError {
        PlanError::Refused { message: message.into(), help: help.into() }
    }
}

/// The outcome of a step of planning.
pub type Result<T> = std::result::Result<T, PlanError>;
