//! The exit codes, as `--help` lists them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// All went well.
    Success = 0,
    /// A check or a test failed, or the SQL has errors.
    Failed = 1,
    /// The arguments make no sense together.
    Usage = 2,
    /// Failure while running.
    Runtime = 3,
    /// A server could not be reached: the run was told to stop while rows waited for it.
    Unreachable = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
