//! The history over tables that deltalake-core has written, as another program would.

mod asking;
mod foreign;
mod living;
mod paths;
mod scanning;
mod travelling;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::common::collect;
use deltalake_core::DeltaTable;
use tempfile::TempDir;
use url::Url;

use super::{History, HistoryError, HistorySession, Limits, Paths};
use crate::connectors::registry;
use crate::program::Program;
use crate::sql::{SourceFiles, Variables};

/// A source, the table that records it, and one that is never written.
const FOLDER: &str = "\
CREATE TABLE events (
    kind TEXT, ts TIMESTAMP, amount BIGINT, doubled BIGINT GENERATED ALWAYS AS (amount * 2),
    \"offset\" BIGINT METADATA FROM 'offset', WATERMARK FOR ts AS ts - INTERVAL '1 second'
) WITH (connector = 'file', path = 'events.jsonl', format = 'json');
CREATE TABLE events_history (kind TEXT, ts TIMESTAMP, amount BIGINT, \"offset\" BIGINT, day DATE)
WITH (connector = 'delta', partition_by = 'day', history_of = 'events');
CREATE TABLE empty (kind TEXT, ts TIMESTAMP) WITH (connector = 'delta');
";

/// Days after 1970-01-01 of 2026-11-29.
const DAY: i32 = 20_786;

/// A folder with its data.
struct Place {
    folder: TempDir,
    program: Program,
}

/// One row of `events_history`: kind, microseconds after the day's midnight, amount, day.
type Row<'a> = (&'a str, i64, i64, i32);

impl Place {
    fn new() -> Place {
        Place::of(FOLDER)
    }

    fn of(sql: &str) -> Place {
        let mut files = SourceFiles::default();
        files.add("tables.sql".into(), sql.into());
        let program = Program::parse(files, &Variables::default(), &registry::connectors());
        let program = program.unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        Place { folder: tempfile::tempdir().unwrap(), program }
    }

    fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    fn table(&self, name: &str) -> PathBuf {
        self.data_dir().join("history").join(name)
    }

    fn history(&self) -> History {
        self.history_within(Limits { memory: 256 << 20, spill: None, parallelism: Some(2) })
    }

    fn history_within(&self, limits: Limits) -> History {
        History::of(&self.program, self.data_dir(), "test", limits).unwrap()
    }

    async fn session(&self) -> HistorySession {
        self.history().session(Paths::Allowed).await.unwrap()
    }

    /// Adds rows to `events_history`: one commit, one file for each day.
    async fn write(&self, rows: &[Row<'_>]) -> DeltaTable {
        let folder = self.table("events_history");
        write(&folder, events(rows), &["day"]).await
    }
}

fn events(rows: &[Row<'_>]) -> RecordBatch {
    let midnight = |day: i32| i64::from(day) * 86_400_000_000;
    RecordBatch::try_from_iter_with_nullable([
        ("kind", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()) as ArrayRef, true),
        (
            "ts",
            Arc::new(rows.iter().map(|row| Some(midnight(row.3) + row.1)).collect::<TimestampMicrosecondArray>()),
            true,
        ),
        ("amount", Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int64Array>()), true),
        ("offset", Arc::new((0..rows.len() as i64).map(Some).collect::<Int64Array>()), true),
        ("day", Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Date32Array>()), true),
    ])
    .unwrap()
}

async fn write(folder: &Path, batch: RecordBatch, partition_by: &[&str]) -> DeltaTable {
    std::fs::create_dir_all(folder).unwrap();
    let url = Url::from_directory_path(folder).unwrap();
    let table = DeltaTable::try_from_url(url).await.unwrap();
    let write = table.write(vec![batch]).with_partition_columns(partition_by.iter().copied());
    write.with_schema_mode(deltalake_core::operations::write::SchemaMode::Merge).await.unwrap()
}

/// The rows as a table for a person.
async fn shown(session: &HistorySession, sql: &str) -> String {
    match rows(session, sql).await {
        Ok(batches) => pretty_format_batches(&batches).unwrap().to_string(),
        Err(error) => panic!("{sql}: {error}"),
    }
}

async fn rows(session: &HistorySession, sql: &str) -> Result<Vec<RecordBatch>, HistoryError> {
    let plan = session.plan(sql).await?;
    let stream = session.run(plan).await?;
    Ok(collect(stream).await?)
}

/// The values of the first column as text, one a row, in order.
async fn values(session: &HistorySession, sql: &str) -> Vec<String> {
    let batches = rows(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut values = vec![];
    for batch in &batches {
        let options = arrow::util::display::FormatOptions::new().with_null("NULL");
        let shown = arrow::util::display::ArrayFormatter::try_new(batch.column(0), &options).unwrap();
        values.extend((0..batch.num_rows()).map(|row| shown.value(row).to_string()));
    }
    values
}

/// What is said of a mistake, without the lines that show it.
async fn mistake(session: &HistorySession, sql: &str) -> String {
    match rows(session, sql).await {
        Ok(_) => panic!("{sql} has rows"),
        Err(HistoryError::Sql(errors)) => {
            let error = &errors.errors[0];
            let place = error.location.map_or(String::new(), |location| format!("{} ", errors.files.place(location)));
            let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
            format!("{place}{}{help}", error.message)
        }
        Err(error) => error.to_string(),
    }
}
