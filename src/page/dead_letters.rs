//! The newest records that could not be read, from the files that keep them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::catalog::BadRows;
use crate::program::Program;

/// So many are shown.
const SHOWN: usize = 50;
/// Looked for in so many bytes at the end of a file.
const TAIL: u64 = 256 << 10;
/// A text of more characters is cut: a record can be as large as a broker allows.
const LONGEST_TEXT: usize = 2_000;
/// What is shown of each.
const COLUMNS: [&str; 8] = ["table", "reason", "error", "topic", "partition", "offset", "timestamp", "value"];

/// The files, each with what was last seen of it.
pub struct DeadLetters(Vec<Letters>);

struct Letters {
    path: PathBuf,
    seen: Option<(u64, SystemTime)>,
    newest: Vec<Value>,
}

impl DeadLetters {
    /// Those of the tables that any table of the folder names for its bad rows, as far as they are files of JSON lines.
    pub fn of(program: &Program) -> DeadLetters {
        let mut paths: Vec<PathBuf> = vec![];
        for table in &program.tables {
            let BadRows::Table(target) = &table.settings.bad_rows else { continue };
            let lines = program.table(&target.name).and_then(|letters| letters.connector.json_lines());
            if let Some(path) = lines.filter(|path| !paths.iter().any(|known| known == path)) {
                paths.push(path.to_owned());
            }
        }
        DeadLetters(paths.into_iter().map(|path| Letters { path, seen: None, newest: vec![] }).collect())
    }

    /// The newest of each file, the newest first. A file that is not there, or cannot be read, has none.
    pub fn newest(&mut self) -> Vec<Value> {
        let mut all = vec![];
        for letters in &mut self.0 {
            // Most looks find what the last one found.
            let metadata = std::fs::metadata(&letters.path).ok();
            let state = metadata.and_then(|metadata| Some((metadata.len(), metadata.modified().ok()?)));
            if state.is_none() || state != letters.seen {
                letters.newest = tail(&letters.path).unwrap_or_default();
                letters.seen = state;
            }
            all.extend(letters.newest.iter().cloned());
        }
        all.truncate(SHOWN);
        all
    }
}

fn tail(path: &Path) -> std::io::Result<Vec<Value>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = vec![];
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // In the middle of a file, the first line is a part of one.
    let lines = text.lines().skip(usize::from(start > 0));
    let rows: Vec<Map<String, Value>> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(rows.into_iter().rev().take(SHOWN).map(shown).collect())
}

fn shown(mut row: Map<String, Value>) -> Value {
    let mut value = |column: &str| row.remove(column).unwrap_or_default();
    Value::Object(COLUMNS.map(|column| (column.to_owned(), value(column))).map(cut).into_iter().collect())
}

fn cut((column, value): (String, Value)) -> (String, Value) {
    match value {
        Value::String(text) if text.chars().count() > LONGEST_TEXT => {
            (column, text.chars().take(LONGEST_TEXT).chain(['…']).collect::<String>().into())
        }
        value => (column, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(path: &Path) -> DeadLetters {
        DeadLetters(vec![Letters { path: path.to_owned(), seen: None, newest: vec![] }])
    }

    #[test]
    fn the_newest_come_first_and_large_ones_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead_letters.jsonl");
        let mut letters = letters(&path);
        assert_eq!(letters.newest(), Vec::<Value>::new());
        let line =
            |at: usize| format!("{{\"table\":\"t\",\"offset\":{at},\"key\":null,\"value\":\"{}\"}}\n", "x".repeat(at));
        std::fs::write(&path, (0..3000).map(line).collect::<String>() + "{\"half a li").unwrap();
        let newest = letters.newest();
        assert_eq!((newest.len(), &newest[0]["offset"], &newest[49]["offset"]), (50, &2999.into(), &2950.into()));
        assert_eq!(newest[0]["value"].as_str().unwrap().chars().count(), LONGEST_TEXT + 1);
        assert_eq!(newest[0].as_object().unwrap().keys().collect::<Vec<_>>(), COLUMNS);
        assert_eq!(newest[0]["reason"], Value::Null);
        std::fs::write(&path, line(1)).unwrap();
        assert_eq!(letters.newest()[0]["offset"], 1);
    }
}
