//! `acequia run --bounded --from-history`: the same queries over what a run has recorded give the rows that the run gave.

#[path = "../servers/kafka.rs"]
mod cluster;
mod embedded;
mod equality;
mod mistakes;
#[path = "../servers/pipeline.rs"]
mod pipeline;
mod reading;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::TempDir;

use pipeline::acequia;

/// A folder of SQL, its data folder, and what its runs write.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(sql: impl FnOnce(&Path) -> String) -> Place {
        let folder = tempfile::Builder::new().prefix("acequia-backfill-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("queries")).unwrap();
        let place = Place { folder };
        place.add("all.sql", &sql(place.folder.path()));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a file of SQL.
    fn add(&self, file: &str, sql: &str) {
        std::fs::write(self.path("queries").join(file), sql).unwrap();
    }

    fn command(&self, name: &str) -> Command {
        let mut command = acequia();
        command.arg(name).arg(self.path("queries")).args(["--name", "live", "--data-dir"]).arg(self.path("data"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("run");
        command.args(arguments);
        command
    }

    /// A run to the end of the input.
    fn run_bounded(&self) {
        let output = self.run(&["--bounded", "--no-http", "--no-page"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }

    fn backfill(&self, arguments: &[&str]) -> Output {
        self.run(&["--bounded", "--from-history"]).args(arguments).output().unwrap()
    }

    /// A backfill that must end well. Gives what it says on stderr.
    fn backfilled(&self, arguments: &[&str]) -> String {
        let output = self.backfill(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        said(&output)
    }

    /// The rows in a result of the backfill.
    fn result(&self, table: &str) -> Vec<String> {
        rows_of(&[self.path(&format!("data/backfill/{table}.parquet"))])
    }

    /// The rows in the Parquet files of a folder.
    fn written(&self, folder: &str) -> Vec<String> {
        let files = walk(&self.path(folder));
        assert!(!files.is_empty(), "{folder} has no Parquet file");
        rows_of(&files)
    }
}

/// The commits of a history.
fn commits(place: &Place, history: &str) -> Vec<String> {
    let log = place.path(&format!("data/history/{history}/_delta_log"));
    let entries = std::fs::read_dir(log).into_iter().flatten().flatten();
    let commits = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"));
    commits.map(|commit| std::fs::read_to_string(commit.path()).unwrap()).collect()
}

/// How many rows have been committed to a history.
fn committed(place: &Place, history: &str) -> u64 {
    let rows = |action: &str| {
        let action: Value = serde_json::from_str(action).unwrap();
        let statistics: Value = serde_json::from_str(action["add"]["stats"].as_str()?).unwrap();
        statistics["numRecords"].as_u64()
    };
    commits(place, history).iter().flat_map(|commit| commit.lines().filter_map(rows)).sum()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every finished Parquet file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
        match path.is_dir() {
            true if !hidden => files.extend(walk(&path)),
            false if !hidden && path.extension().is_some_and(|extension| extension == "parquet") => files.push(path),
            _ => {}
        }
    }
    files
}

/// The rows of all these files as text, in order of text.
fn rows_of(files: &[PathBuf]) -> Vec<String> {
    let mut rows = vec![];
    for file in files {
        let opened = std::fs::File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let batches = ParquetRecordBatchReaderBuilder::try_new(opened).unwrap().build().unwrap();
        batches.for_each(|batch| rows.extend(texts(&batch.unwrap())));
    }
    rows.sort_unstable();
    rows
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let row = |row: usize| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ");
    (0..batch.num_rows()).map(row).collect()
}
