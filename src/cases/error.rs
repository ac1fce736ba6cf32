//! Why a case did not pass.

use std::path::PathBuf;

use thiserror::Error;

/// Why a case did not pass.
#[derive(Debug, Error)]
pub enum CaseError {
    /// There is no case at all.
    #[error("there are no cases below {0}: a case is a folder with input/TABLE.jsonl and expected/TABLE.jsonl")]
    NoCases(PathBuf),
    /// There is nothing of which there could be cases.
    #[error("there is no folder {0}")]
    NoFolder(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file of a case is not called `TABLE.jsonl`.
    #[error("{0}: not a file of a case: rows are in TABLE.jsonl")]
    FileName(PathBuf),
    /// A case's file is named after a table that the program does not have, or does not read or write.
    #[error("{path}: {message}")]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A line of an expected file is not a JSON object.
    #[error("{path}:{line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The program has mistakes; here they are with their places.
    #[error("{0}")]
    Sql(String),
    /// The run failed.
    #[error("{message} ({settings})")]
    Run {
        /// What happened.
        message: String,
        /// How it was run.
        settings: String,
    },
    /// Other rows came out than were expected.
    #[error("{differences}  with {settings}")]
    Rows {
        /// The rows, table by table.
        differences: String,
        /// How it was run.
        settings: String,
    },
}
