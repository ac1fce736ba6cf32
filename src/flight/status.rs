//! What a client is told when something goes wrong: gRPC's code, and the words.

use tonic::Status;

use super::parameters::ParameterError;
use crate::connectors::ConnectorError;
use crate::history::HistoryError;
use crate::history::live::LiveError;

/// A question to the history that has no answer.
pub fn of_history(error: &HistoryError) -> Status {
    match error {
        HistoryError::Sql(mistakes) => Status::invalid_argument(mistakes.render(false).trim_end()),
        HistoryError::Live(LiveError::Unknown { .. }) => Status::invalid_argument(error.to_string()),
        HistoryError::Live(_) | HistoryError::Table(ConnectorError::Unavailable { .. }) => Status::unavailable(error.to_string()),
        HistoryError::Table(_) => Status::failed_precondition(error.to_string()),
        HistoryError::Memory(_) => Status::resource_exhausted(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

/// Values that cannot be bound.
pub fn of_parameters(error: ParameterError) -> Status {
    match error {
        ParameterError::Engine(error) => of_history(&HistoryError::from(error)),
        error => Status::invalid_argument(error.to_string()),
    }
}

/// A statement or a handle that is not there any more.
pub fn gone() -> Status {
    Status::not_found(
        "this statement is not known: it was closed or fetched before, or was not used for ten minutes; send it again",
    )
}

/// Something that would change what is kept.
pub fn read_only(what: &str) -> Status {
    Status::unimplemented(format!("{what}: the history is read here, and written by 'acequia run' alone"))
}
