//! Mistakes in SQL, as a person reads them: file, line, column, the line itself with a caret, and what would be right.

mod planning;
mod render;
mod wording;

use super::{Location, SourceFiles};

pub use planning::from_datafusion;
pub(crate) use wording::clean;

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
        SqlError { location: Some(location), ..SqlError::nowhere(message) }
    }

    /// A mistake that has no place in a text, such as a folder that is not there.
    pub fn nowhere(message: impl Into<String>) -> SqlError {
        SqlError { message: message.into(), location: None, label: String::new(), related: vec![], help: None }
    }

    /// The same with what would be right.
    pub fn help(mut self, help: impl Into<String>) -> SqlError {
        self.help = Some(help.into());
        self
    }

    /// The same with what would be right, if that is known.
    pub fn maybe_help(mut self, help: Option<String>) -> SqlError {
        self.help = help.or(self.help);
        self
    }

    /// The same with a caption at the caret.
    pub fn label(mut self, label: impl Into<String>) -> SqlError {
        self.label = label.into();
        self
    }

    /// The same with another place that matters.
    pub fn related(mut self, location: Location, caption: impl Into<String>) -> SqlError {
        self.related.push((location, caption.into()));
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

impl SqlErrors {
    /// Mistakes in any order; puts them in the order of their places, those without a place first.
    pub fn new(files: SourceFiles, mut errors: Vec<SqlError>) -> SqlErrors {
        errors.sort_by_key(|error| error.location);
        errors.dedup();
        SqlErrors { files, errors }
    }
}

impl std::error::Error for SqlErrors {}
