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

/// A window over rows that have no event time.
pub fn no_event_time() -> PlanError {
    PlanError::refused(
        "a window needs an event time, and these rows have none",
        "declare WATERMARK FOR column AS column - INTERVAL '10 seconds' in every table that the query reads",
    )
}

/// An aggregate over an input without end into a sink that only adds rows.
pub fn aggregate_without_end() -> PlanError {
    PlanError::refused(
        "an aggregate without a window never ends on an input without end, and the sink can only add rows",
        "add a window, GROUP BY tumble(INTERVAL '1 minute'), or write to a table with a PRIMARY KEY, whose rows can be \
         updated",
    )
}

/// An aggregate over rows that are never final.
pub fn aggregate_of_endless() -> PlanError {
    PlanError::refused(
        "an aggregate over an aggregate without a window never gets its input on an input without end",
        "add a window to the inner one, GROUP BY tumble(INTERVAL '1 minute') AS window, ...",
    )
}
