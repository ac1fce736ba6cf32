//! Mistakes in SQL, as a person reads them: file, line, column, the line itself with a caret, and what would be right.

use super::{Location, SourceFiles};

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqlError {
    /// What is wrong.
    pub message: String,
    /// Where; `None` for trouble with the folder itself.
    pub location: Option<Location>,
    /// The caret's caption, such as "first declared here" or empty.
    pub label: String,
    /// Other places that matter, each with a caption.
    pub related: Vec<(Location, String)>,
    /// What would be right.
    pub help: Option<String>,
}

impl SqlError {
    /// A mistake at `location`.
    pub fn new(location: Location, message: impl Into<String>) -> SqlError {
        SqlError {
            message: message.into(),
            location: Some(location),
            label: String::new(),
            related: vec![],
            help: None,
        }
    }

    /// The same with what would be right.
    pub fn help(mut self, help: impl Into<String>) -> SqlError {
        self.help = Some(help.into());
        self
    }
}

/// All mistakes of a program, with the texts they stand in.
#[derive(Clone, Debug)]
pub struct SqlErrors {
    /// The texts.
    pub files: SourceFiles,
    /// The mistakes, in the order of their places; at least one.
    pub errors: Vec<SqlError>,
}
