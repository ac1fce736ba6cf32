//! A pipeline that writes the numbers from 0 on into a Delta table, in many small commits.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::others::Others;
use crate::pipeline::{Pipeline, acequia};

/// A folder with a pipeline and its table.
pub struct Numbered {
    folder: TempDir,
    /// How many numbers there are in all: more than are written before the last run, since one that comes to their end
    /// has another begin anew.
    pub rows: i64,
}

impl Numbered {
    /// Writes so many numbers, so many a second, and keeps files that it does not need for `retention`.
    pub fn new(rows: i64, per_second: u32, retention: &str) -> Numbered {
        let folder = tempfile::Builder::new().prefix("acequia-delta-").tempdir().unwrap();
        let queries = folder.path().join("queries");
        std::fs::create_dir(&queries).unwrap();
        let sql = format!(
            "CREATE TABLE numbers (n BIGINT) WITH (connector = 'datagen',
                 rows_per_second = '${{PER_SECOND:-{per_second}}}', 'fields.n.kind' = 'sequence', 'fields.n.end' = '{last}');
             CREATE TABLE kept (n BIGINT, half BIGINT, text TEXT) WITH (connector = 'delta', path = '{place}/kept',
                 partition_by = 'half', commit_interval = '1 ms', compaction_interval = '200 ms',
                 checkpoint_every = '10', retention = '${{RETENTION:-{retention}}}');
             INSERT INTO kept SELECT n, n % 2, 'number ' || n FROM numbers;",
            last = rows - 1,
            place = folder.path().display(),
        );
        std::fs::write(queries.join("all.sql"), sql).unwrap();
        Numbered { folder, rows }
    }

    /// Where the table lies.
    pub fn table(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// `acequia run`, ready to start.
    pub fn command(&self) -> Command {
        let mut command = acequia();
        command.arg("run").arg(self.folder.path().join("queries"));
        command.arg("--data-dir").arg(self.folder.path().join("data")).args(["--name", "numbered", "--no-http"]);
        command.args(["--checkpoint-interval", "20ms"]);
        command
    }

    /// Runs on to the last number.
    pub fn finish(&self) -> String {
        let mut command = self.command();
        command.env("PER_SECOND", "0");
        let mut last = Pipeline::start(command);
        let code = last.exit_code();
        assert_eq!(code, Some(0), "{}", last.said());
        last.said().to_owned()
    }

    /// What is wrong with the table, read by those who do not know Acequia: each file that the log names is there, and
    /// there are the numbers from 0 on, each once. How many, if nothing is wrong.
    pub fn verdict(&self, others: &Others, reader: &str) -> Result<i64, String> {
        let table = self.table();
        if !has_a_version(&table) {
            return Ok(0);
        }
        others.files(&table)?;
        let numbers = others.numbers(reader, &table)?;
        match numbers.rows == 0 || numbers.are_whole() {
            true => Ok(numbers.rows),
            false => Err(format!("{numbers:?} by {reader}")),
        }
    }

    /// How many commits are in the log.
    pub fn commits(&self) -> usize {
        let Ok(log) = std::fs::read_dir(self.table().join("_delta_log")) else { return 0 };
        log.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension() == Some("json".as_ref()))).count()
    }

    /// Files of the table with this ending, in whatever folder of it.
    pub fn files(&self, ending: &str) -> Vec<PathBuf> {
        let mut found = vec![];
        collect(&self.table(), ending, &mut found);
        found
    }
}

/// Before its first commit a table is none.
fn has_a_version(table: &Path) -> bool {
    table.join("_delta_log/00000000000000000000.json").exists() || table.join("_delta_log/_last_checkpoint").exists()
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}
