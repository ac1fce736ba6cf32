//! The exit codes, as `--help` lists them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// All went well.
    Success = 0,
    /// A check, a test or an audit failed, or the SQL has errors.
    Failed = 1,
    /// The arguments make no sense together.
    Usage = 2,
    /// Failure while running.
    Runtime = 3,
    /// A server could not be reached: the run was told to stop while rows waited for it.
    Unreachable = 4,
    /// Checkpoints do not fit the queries, the input or a destination, or none is whole.
    Mismatch = 5,
    /// Another run of the pipeline is alive, or has taken over.
    Replaced = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
