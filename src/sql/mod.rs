//! Text to statements: the files of a folder, their statements, and where each of them stands.
//!
//! [`folder`] finds the files, [`statement`] and [`table`] parse them (sqlparser's grammar, with a thin layer of our
//! own for `CREATE TABLE`), [`question`] parses what asks the history, [`variables`] fills option values in, [`names`]
//! knows how identifiers fold and which tables a query reads, and [`error`] shows what is wrong. What the names mean
//! is the business of [`crate::catalog`].

mod chains;
pub mod error;
pub mod folder;
pub mod names;
pub mod question;
mod source_files;
pub mod statement;
pub mod table;
pub mod variables;

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

impl Location {
    /// From the beginning of this one to the end of `last`, which stands in the same file.
    pub fn to(self, last: Location) -> Location {
        Location { end: last.end.max(self.start), ..self }
    }
}
