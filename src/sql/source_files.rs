//! The texts of a program's files, and the way from a place in them to a line and a column.

use std::path::{Path, PathBuf};

use datafusion::sql::sqlparser::tokenizer;

use super::Location;

/// The files of a program, in the order of their paths.
#[derive(Clone, Debug, Default)]
pub struct SourceFiles {
    files: Vec<SourceFile>,
}

/// One file.
#[derive(Clone)]
struct SourceFile {
    path: PathBuf,
    text: String,
    /// Stretches that are never shown, in the order of [`SourceFiles::hide`].
    hidden: Vec<(usize, usize)>,
}

// The text may hold a password.
impl std::fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SourceFile {
    /// `part`, which begins at byte `start`, with `*` for what is hidden.
    fn shown(&self, start: usize, part: &str) -> String {
        let is_hidden = |at: usize| self.hidden.iter().any(|(from, to)| (*from..*to).contains(&(start + at)));
        let mut shown = String::with_capacity(part.len());
        for (at, character) in part.char_indices() {
            match is_hidden(at) {
                true => shown.extend(std::iter::repeat_n('*', character.len_utf8())),
                false => shown.push(character),
            }
        }
        shown
    }
}

impl SourceFiles {
    /// Adds a file; its number is what [`Location::file`] says. A byte order mark is dropped.
    pub fn add(&mut self, path: PathBuf, text: String) -> u32 {
        let text = text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_string);
        self.files.push(SourceFile { path, text, hidden: vec![] });
        (self.files.len() - 1) as u32
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The text of a file.
    pub fn text(&self, file: u32) -> &str {
        &self.files[file as usize].text
    }

    /// The path of a file as the user named it.
    pub fn path(&self, file: u32) -> &Path {
        &self.files[file as usize].path
    }

    /// The text at `location`.
    pub fn slice(&self, location: Location) -> &str {
        &self.text(location.file)[location.start as usize..location.end as usize]
    }

    /// `path:line:column`, for log lines.
    pub fn place(&self, location: Location) -> String {
        let (line, column) = self.line_and_column(location);
        format!("{}:{line}:{column}", self.path(location.file).display())
    }

    /// Never shows the text at `location`: a secret.
    pub fn hide(&mut self, location: Location) {
        self.files[location.file as usize].hidden.push((location.start as usize, location.end as usize));
    }

    /// The first byte of the line in which `location` begins and the line itself, with `*` for what is hidden: one
    /// for each byte, so that places stay where they are.
    pub fn shown_line(&self, location: Location) -> (usize, String) {
        let file = &self.files[location.file as usize];
        let start = file.text[..location.start as usize].rfind('\n').map_or(0, |at| at + 1);
        let line = file.text[start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        (start, file.shown(start, line))
    }

    /// The text at `location`, with `*` for what is hidden.
    pub fn shown(&self, location: Location) -> String {
        self.files[location.file as usize].shown(location.start as usize, self.slice(location))
    }

    /// The whole text of a file, with `*` for what is hidden.
    pub fn shown_text(&self, file: u32) -> String {
        self.files[file as usize].shown(0, self.text(file))
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

    /// The place of a span, or `fallback` if the parser left it empty.
    pub fn location_or(&self, fallback: Location, span: tokenizer::Span) -> Location {
        if span.start.line == 0 { fallback } else { self.location(fallback.file, span) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_the_parser_and_bytes_agree_beyond_ascii() {
        let mut files = SourceFiles::default();
        let file = files.add("a.sql".into(), "-- é\r\nSELECT 'ñ', x\n".into());
        let span = tokenizer::Span::new(tokenizer::Location::new(2, 13), tokenizer::Location::new(2, 14));
        let location = files.location(file, span);
        assert_eq!(files.slice(location), "x");
        assert_eq!(files.place(location), "a.sql:2:13");
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let mut files = SourceFiles::default();
        assert_eq!(files.add("a.sql".into(), "\u{feff}SELECT 1".into()), 0);
        assert_eq!(files.text(0), "SELECT 1");
    }

    #[test]
    fn what_is_hidden_is_shown_nowhere() {
        let mut files = SourceFiles::default();
        let file = files.add("a.sql".into(), "SELECT 1;\n'password' = 'hunter2';\n".into());
        files.hide(Location { file, start: 23, end: 32 });
        assert_eq!(files.shown_text(file), "SELECT 1;\n'password' = *********;\n");
        let statement = Location { file, start: 10, end: 32 };
        assert_eq!(
            (files.shown(statement), files.shown_line(statement).1),
            ("'password' = *********".into(), "'password' = *********;".into())
        );
    }

    #[test]
    fn debug_output_holds_no_text() {
        let mut files = SourceFiles::default();
        files.add("a.sql".into(), "'password' = 'hunter2'".into());
        assert!(!format!("{files:?}").contains("hunter2"));
    }
}
