//! What a client is told when something goes wrong: gRPC's code, and the words.

use tonic::{Code, Status};

use super::parameters::ParameterError;
use crate::connectors::ConnectorError;
use crate::history::HistoryError;
use crate::history::live::LiveError;

/// Words travel in a header, and some clients take no more than 8 KB of headers.
const LONGEST: usize = 6_000;

/// A question to the history that has no answer.
pub fn of_history(error: &HistoryError) -> Status {
    let code = match error {
        HistoryError::Sql(_) | HistoryError::Live(LiveError::Unknown { .. }) => Code::InvalidArgument,
        HistoryError::Live(_) | HistoryError::Table(ConnectorError::Unavailable { .. }) => Code::Unavailable,
        HistoryError::Table(_) => Code::FailedPrecondition,
        HistoryError::Memory(_) => Code::ResourceExhausted,
        HistoryError::Running(_) | HistoryError::Engine(_) => Code::Internal,
    };
    match error {
        HistoryError::Sql(mistakes) => Status::new(code, shortened(mistakes.render(false).trim_end())),
        error => Status::new(code, shortened(&error.to_string())),
    }
}

/// Values that cannot be bound.
pub fn of_parameters(error: ParameterError) -> Status {
    match error {
        ParameterError::Engine(error) => of_history(&HistoryError::from(error)),
        error => Status::invalid_argument(shortened(&error.to_string())),
    }
}

/// As much of a text as fits, each byte that is no plain letter written as three.
fn shortened(text: &str) -> String {
    let mut room = LONGEST;
    for (at, character) in text.char_indices() {
        let size = if (' '..='~').contains(&character) { 1 } else { 3 * character.len_utf8() };
        match room.checked_sub(size) {
            Some(left) => room = left,
            None => return format!("{} ...", &text[..at]),
        }
    }
    text.to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_into_a_header() {
        assert_eq!(shortened("as it is\n"), "as it is\n");
        assert_eq!(shortened(&"a".repeat(LONGEST + 1)), "a".repeat(LONGEST) + " ...");
        assert_eq!(shortened(&"é".repeat(LONGEST)), "é".repeat(LONGEST / 6) + " ...");
    }
}
