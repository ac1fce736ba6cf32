//! How mistakes are shown, on a terminal and in logs.
//!
//! Written here and not left to a library because one mistake can have places in several files, each of which is
//! shown with its line, and because secrets in those lines are covered.

use std::fmt;

use super::{SqlError, SqlErrors};
use crate::sql::{Location, SourceFiles};

/// At most this many characters of a source line are shown.
const LINE_WIDTH: usize = 120;

impl SqlErrors {
    /// Every mistake with its file, line, column, the line itself, a caret and what would be right; at the end how
    /// many there are. With `color`, in ANSI colours.
    pub fn render(&self, color: bool) -> String {
        let paint = if color { &COLORED } else { &PLAIN };
        let mut out = String::new();
        for error in &self.errors {
            render_error(&mut out, error, &self.files, paint);
            out.push('\n');
        }
        let count = self.errors.len();
        out.push_str(&format!("{count} error{}\n", if count == 1 { "" } else { "s" }));
        out
    }
}

impl fmt::Display for SqlErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

/// The escape sequences before each part, and the one after it.
struct Paint {
    error: &'static str,
    message: &'static str,
    frame: &'static str,
    caret: &'static str,
    related: &'static str,
    help: &'static str,
    end: &'static str,
}

const PLAIN: Paint = Paint { error: "", message: "", frame: "", caret: "", related: "", help: "", end: "" };
const COLORED: Paint = Paint {
    error: "\x1b[1;31m",
    message: "\x1b[1m",
    frame: "\x1b[34m",
    caret: "\x1b[1;31m",
    related: "\x1b[36m",
    help: "\x1b[1;32m",
    end: "\x1b[0m",
};

fn render_error(out: &mut String, error: &SqlError, files: &SourceFiles, paint: &Paint) {
    let Paint { error: red, message: bold, frame, help: green, end, .. } = paint;
    out.push_str(&format!("{red}error{end}{bold}: {}{end}\n", error.message));
    let places = error.location.iter().chain(error.related.iter().map(|(location, _)| location));
    let gutter = places.map(|place| files.line_and_column(*place).0.to_string().len()).max().unwrap_or(0);
    if let Some(location) = error.location {
        render_place(out, files, location, &error.label, gutter, "-->", paint.caret, paint);
    }
    for (location, caption) in &error.related {
        render_place(out, files, *location, caption, gutter, ":::", paint.related, paint);
    }
    if let Some(text) = &error.help {
        let indent = " ".repeat(gutter + 1);
        let lines = text.replace('\n', &format!("\n{indent}        "));
        out.push_str(&format!("{indent}{frame}={end} {green}help{end}: {lines}\n"));
    }
}

#[allow(clippy::too_many_arguments, reason = "one call in two variants; a struct for it would say no more")]
fn render_place(
    out: &mut String,
    files: &SourceFiles,
    location: Location,
    caption: &str,
    gutter: usize,
    arrow: &str,
    caret: &str,
    paint: &Paint,
) {
    let Paint { frame, end, .. } = paint;
    let (line, column) = files.line_and_column(location);
    let path = files.path(location.file).display();
    let indent = " ".repeat(gutter);
    let excerpt = Excerpt::of(files, location);
    let carets = "^".repeat(excerpt.length);
    let caption = if caption.is_empty() { String::new() } else { format!(" {caption}") };
    out.push_str(&format!("{indent}{frame}{arrow}{end} {path}:{line}:{column}\n"));
    out.push_str(&format!("{indent} {frame}|{end}\n"));
    out.push_str(&format!("{frame}{line:>gutter$} |{end} {}\n", excerpt.text));
    out.push_str(&format!(
        "{indent} {frame}|{end} {}{caret}{carets}{caption}{end}\n",
        " ".repeat(excerpt.start),
        indent = indent
    ));
}

/// The part of a source line that is shown, and where in it the carets stand, in characters.
struct Excerpt {
    text: String,
    start: usize,
    length: usize,
}

impl Excerpt {
    /// The line in which `location` begins. Tabs become spaces and other control characters dots, so that one
    /// character takes one cell; a long line is cut around the place.
    fn of(files: &SourceFiles, location: Location) -> Excerpt {
        let (line_start, line) = files.shown_line(location);
        let before = location.start as usize - line_start;
        let start = line[..before.min(line.len())].chars().count();
        let until = (location.end as usize - line_start).min(line.len());
        let length = line.get(before..until).map_or(0, |marked| marked.chars().count()).max(1);
        let characters: Vec<char> = line.chars().map(printable).collect();
        let from = if start + length.min(LINE_WIDTH / 2) <= LINE_WIDTH { 0 } else { start - LINE_WIDTH / 4 };
        let to = (from + LINE_WIDTH).min(characters.len());
        let mut text: String = characters[from..to].iter().collect();
        if to < characters.len() {
            text.push('…');
        }
        if from == 0 {
            return Excerpt { text, start, length: length.min((to + 1).saturating_sub(start).max(1)) };
        }
        let start = start - from + 1;
        Excerpt { text: format!("…{text}"), start, length: length.min(LINE_WIDTH - start) }
    }
}

fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        control if control.is_control() => '.',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> SourceFiles {
        let mut files = SourceFiles::default();
        files.add("queries/a.sql".into(), "CREATE TABLE t (\n\ta INT\n);\n".into());
        files.add("queries/b.sql".into(), format!("{}CREATE TABLE t (b INT);\n", "-- lead\n".repeat(11)));
        files
    }

    fn at(file: u32, start: u32, end: u32) -> Location {
        Location { file, start, end }
    }

    #[test]
    fn shows_the_place_the_related_place_and_the_help() {
        let error = SqlError::new(at(1, 101, 102), "table 't' is declared twice")
            .label("again here")
            .related(at(0, 13, 14), "first declared here")
            .help("give one of them another name");
        let errors = SqlErrors::new(files(), vec![error]);
        assert_eq!(
            errors.render(false),
            "error: table 't' is declared twice
  --> queries/b.sql:12:14
   |
12 | CREATE TABLE t (b INT);
   |              ^ again here
  ::: queries/a.sql:1:14
   |
 1 | CREATE TABLE t (
   |              ^ first declared here
   = help: give one of them another name

1 error
"
        );
        assert_eq!(errors.to_string(), errors.render(false).trim_end());
    }

    #[test]
    fn counts_errors_puts_them_in_order_and_shows_tabs_as_one_cell() {
        let errors = vec![
            SqlError::new(at(0, 18, 19), "no such column"),
            SqlError::nowhere("there is nothing to run in queries").help("add an INSERT INTO or a SELECT"),
        ];
        assert_eq!(
            SqlErrors::new(files(), errors).render(false),
            "error: there is nothing to run in queries
 = help: add an INSERT INTO or a SELECT

error: no such column
 --> queries/a.sql:2:2
  |
2 |  a INT
  |  ^

2 errors
"
        );
    }

    #[test]
    fn colours_are_only_there_when_asked_for() {
        let errors = SqlErrors::new(files(), vec![SqlError::new(at(0, 13, 14), "wrong").help("right")]);
        let colored = errors.render(true);
        assert!(colored.starts_with("\x1b[1;31merror\x1b[0m\x1b[1m: wrong\x1b[0m\n"), "{colored:?}");
        let mut stripped = colored;
        for code in [COLORED.error, COLORED.message, COLORED.frame, COLORED.related, COLORED.help, COLORED.end] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, errors.render(false));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let mut files = SourceFiles::default();
        let line = format!("SELECT '{}', wrong, '{}'", "é".repeat(5000), "x".repeat(5000));
        let start = line.find("wrong").unwrap_or_default() as u32;
        files.add("q.sql".into(), line);
        let error = SqlError::new(at(0, start, start + 5), "no such column");
        let shown = SqlErrors::new(files, vec![error]).render(false);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[3].chars().count() < 130, "{shown}");
        let caret = lines[4].chars().position(|c| c == '^').unwrap_or_default();
        let under: String = lines[3].chars().skip(caret).take(5).collect();
        assert_eq!(under, "wrong", "{shown}");
        assert!(lines[4].ends_with(" ^^^^^"), "{shown}");
    }

    #[test]
    fn a_place_past_the_end_of_the_line_gets_one_caret() {
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), "SELECT".into());
        let shown = SqlErrors::new(files, vec![SqlError::new(at(0, 6, 6), "expected an expression")]).render(false);
        assert!(shown.contains("1 | SELECT\n  |       ^\n"), "{shown}");
    }

    #[test]
    fn secrets_in_the_line_are_covered() {
        let mut files = SourceFiles::default();
        let line = "WITH ('password' = 'hunter2', 'retries' = 'many')";
        files.add("q.sql".into(), line.into());
        files.hide(at(0, 19, 28));
        let shown = SqlErrors::new(files, vec![SqlError::new(at(0, 42, 48), "no")]).render(false);
        assert!(shown.contains("WITH ('password' = *********, 'retries' = 'many')"), "{shown}");
    }
}
