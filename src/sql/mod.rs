//! Text to statements: the files of a folder, their statements, and where each of them stands.

mod error;
mod source_files;
mod variables;

pub use error::{SqlError, SqlErrors};
pub use source_files::SourceFiles;
pub use variables::Variables;

/// A stretch of text in one of the program's files. Copied freely; [`SourceFiles`] turns it into a file name, a line
/// and a column.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Location {
    /// Which file, as numbered in [`SourceFiles`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}
