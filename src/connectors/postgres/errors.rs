//! What PostgreSQL's errors mean for a sink: wait, look for the bad row, or give up.

use sqlx::Error;

use crate::connectors::ConnectorError;
use crate::connectors::sql_table::database::Failure;

/// What can be done about an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// The server is away, starting, full or busy: connect again and send again.
    Wait,
    /// A value of some row is to blame.
    FindRow,
    /// Nothing but a person's help.
    GiveUp,
}

/// What can be done about `error`.
///
/// The classes are PostgreSQL's SQLSTATE: 22 data, 23 constraints, 08 connection, 53 resources, 57 operator, 58 system.
pub fn remedy(error: &Error) -> Remedy {
    match error {
        Error::Database(database) => database.code().map_or(Remedy::GiveUp, |code| remedy_of_state(&code)),
        // TLS refused what the server showed; it will show the same the next time.
        Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => Remedy::GiveUp,
        Error::Io(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed => {
            Remedy::Wait
        }
        _ => Remedy::GiveUp,
    }
}

fn remedy_of_state(code: &str) -> Remedy {
    match code {
        // A check option, a trigger that raises, a row too wide for an index.
        "44000" | "P0001" | "54000" => Remedy::FindRow,
        // Serialization failures, deadlocks and a standby that cannot be written pass by themselves.
        "40001" | "40P01" | "25006" | "55P03" => Remedy::Wait,
        _ => match code.get(..2) {
            Some("22" | "23") => Remedy::FindRow,
            Some("08" | "53" | "57" | "58") => Remedy::Wait,
            _ => Remedy::GiveUp,
        },
    }
}

/// The database's words, with what it says in detail and its code.
pub fn words(error: &Error) -> String {
    let Error::Database(database) = error else {
        return error.to_string();
    };
    let mut words = database.message().to_string();
    if let Some(postgres) = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        for more in [postgres.detail(), postgres.hint()].into_iter().flatten() {
            words.push_str("; ");
            words.push_str(more.trim_end_matches('.'));
        }
    }
    match database.code() {
        Some(code) => format!("{words} (SQLSTATE {code})"),
        None => words,
    }
}

/// The error of a connector for one that no row is to blame for.
pub fn connector_error(what: &str, error: &Error) -> ConnectorError {
    let (what, message) = (what.to_string(), words(error));
    match remedy(error) {
        Remedy::Wait => ConnectorError::Unavailable { what, message },
        Remedy::FindRow | Remedy::GiveUp => ConnectorError::Refused { what, message },
    }
}

/// What an error means for the step of a transaction.
pub fn failure(what: &str, error: &Error) -> Failure {
    match remedy(error) {
        Remedy::FindRow => Failure::Row(words(error)),
        Remedy::Wait if has_code(error, "55P03") => Failure::Locked(connector_error(what, error)),
        _ => Failure::Error(connector_error(what, error)),
    }
}

/// Whether a right is missing.
pub fn is_missing_right(error: &Error) -> bool {
    has_code(error, "42501")
}

fn has_code(error: &Error, code: &str) -> bool {
    matches!(error, Error::Database(database) if database.code().as_deref() == Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_apart() {
        for (code, expected) in [
            ("22001", Remedy::FindRow), // text too long
            ("23505", Remedy::FindRow), // unique violation
            ("57P01", Remedy::Wait),    // shut down by an administrator
            ("57P03", Remedy::Wait),    // starting up
            ("53300", Remedy::Wait),    // too many connections
            ("53100", Remedy::Wait),    // disk full
            ("40P01", Remedy::Wait),    // deadlock
            ("28P01", Remedy::GiveUp),  // wrong password
            ("42501", Remedy::GiveUp),  // no rights
            ("3D000", Remedy::GiveUp),  // no such database
        ] {
            assert_eq!(remedy_of_state(code), expected, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_waited_for() {
        let lost = Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(connector_error("PostgreSQL", &lost), ConnectorError::Unavailable { .. }));
    }
}
