//! What SQLite's errors mean for a sink: wait, look for the bad row, or give up.

use sqlx::Error;

use crate::connectors::ConnectorError;
use crate::connectors::sql_table::database::Failure;

/// What can be done about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Remedy {
    /// Another process has the file, or the disk is full.
    Wait,
    /// A value of some row is to blame.
    FindRow,
    /// Nothing but a person's help.
    GiveUp,
}

/// What can be done about `error`.
pub(super) fn remedy(error: &Error) -> Remedy {
    let code = match error {
        Error::Database(database) => database.code().and_then(|code| code.parse::<i32>().ok()),
        Error::WorkerCrashed => return Remedy::Wait,
        _ => None,
    };
    // The low byte is the primary result code: https://www.sqlite.org/rescode.html
    match code.map(|code| code & 0xff) {
        // BUSY, LOCKED, IOERR, FULL
        Some(5 | 6 | 10 | 13) => Remedy::Wait,
        // TOOBIG, CONSTRAINT, MISMATCH
        Some(18..=20) => Remedy::FindRow,
        _ => Remedy::GiveUp,
    }
}

/// The database's words.
fn words(error: &Error) -> String {
    match error {
        Error::Database(database) => database.message().to_string(),
        error => error.to_string(),
    }
}

/// The error of a connector for one that no row is to blame for.
pub(crate) fn connector_error(what: &str, error: &Error) -> ConnectorError {
    let (what, message) = (what.to_string(), words(error));
    match remedy(error) {
        Remedy::Wait => ConnectorError::Unavailable { what, message },
        Remedy::FindRow | Remedy::GiveUp => ConnectorError::Refused { what, message },
    }
}

/// What an error means for the step of a transaction.
pub(super) fn failure(what: &str, error: &Error) -> Failure {
    match remedy(error) {
        Remedy::FindRow => Failure::Row(words(error)),
        _ => Failure::Error(connector_error(what, error)),
    }
}
