//! The texts of a program's files, and the way from a place in them to a line and a column.

use std::path::PathBuf;

use datafusion::sql::sqlparser::tokenizer;

use super::Location;

/// The files of a program, in the order of their paths.
#[derive(Clone, Debug, Default)]
pub struct SourceFiles {
    files: Vec<SourceFile>,
}

/// One file.
#[derive(Clone, Debug)]
struct SourceFile {
    path: PathBuf,
    text: String,
}

impl SourceFiles {
    /// Adds a file; its number is what [`Location::file`] says.
    pub fn add(&mut self, path: PathBuf, text: String) -> u32 {
        self.files.push(SourceFile { path, text });
        (self.files.len() - 1) as u32
    }

    /// The text of a file.
    pub fn text(&self, file: u32) -> &str {
        &self.files[file as usize].text
    }

    /// The path of a file as the user named it.
    pub fn path(&self, file: u32) -> &std::path::Path {
        &self.files[file as usize].path
    }

    /// The line and column, from 1, at which `location` begins; columns count characters.
    pub fn line_and_column(&self, location: Location) -> (usize, usize) {
        let before = &self.text(location.file)[..location.start as usize];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The place of a parser's span (lines and columns from 1) in `file`.
    pub fn location(&self, file: u32, span: tokenizer::Span) -> Location {
        let start = self.byte(file, span.start);
        Location { file, start, end: self.byte(file, span.end).max(start) }
    }

    fn byte(&self, file: u32, at: tokenizer::Location) -> u32 {
        let text = self.text(file);
        let line_start: usize =
            text.split_inclusive('\n').take((at.line as usize).saturating_sub(1)).map(str::len).sum();
        let line = text[line_start..].split('\n').next().unwrap_or_default();
        let column = (at.column as usize).saturating_sub(1);
        let in_line = line.char_indices().nth(column).map_or(line.len(), |(byte, _)| byte);
        (line_start + in_line) as u32
    }
}
