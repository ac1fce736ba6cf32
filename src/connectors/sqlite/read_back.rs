//! Reads a table back for an audit: its rows and the sink's dead letters as JSON, page by page in one snapshot.

use std::path::Path;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row, SqliteConnection};

use super::Place;
use super::errors::connector_error;
use super::open::{BUSY_TIMEOUT, Target};
use super::row_json::{is_binary, row_json};
use crate::connectors::sql_table::create::Dialect;
use crate::connectors::sql_table::own_tables::OwnTable;
use crate::connectors::sql_table::{SqlTableOptions, missing_column, quoted, quoted_list};
use crate::connectors::{
    Boundedness, ConnectorError, DEAD_LETTERS, Decoding, Source, SourceContext, SourceEvent, SourceFactory,
};
use crate::formats::{DecodeOptions, RawRecords, SplitIndex};

/// Opens a table to be read once.
pub struct SqliteRows {
    pub(super) place: Place,
    pub(super) table: SqlTableOptions,
}

struct OpenRows {
    what: String,
    connection: SqliteConnection,
    schema: SchemaRef,
    /// What is still to be read, the next one last.
    pages: Vec<Pages>,
    announced: u32,
    limit: i64,
}

/// A query that is read page by page, by the number that every row of SQLite has.
struct Pages {
    split: SplitIndex,
    query: String,
    values: Vec<String>,
    from: i64,
}

#[async_trait]
impl SourceFactory for SqliteRows {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Format(DecodeOptions::database_rows())
    }

    fn describe(&self) -> String {
        self.place.describe(&self.table)
    }

    async fn instances(&self, _context: &SourceContext, _parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(1)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let path = self.place.path(&context.data_dir);
        let what = format!("SQLite table {} in {}", self.table.name, path.display());
        let failed = |error: sqlx::Error| connector_error(&what, &error);
        let refused = |message: String| ConnectorError::Refused { what: what.clone(), message };
        for field in context.schema.fields() {
            if is_binary(field.data_type()) {
                let message = format!("column {} is BLOB, which comes back in another form", field.name());
                return Err(ConnectorError::Mismatch { what: what.clone(), message });
            }
        }
        if !path.exists() {
            return Err(refused("there is no such file".into()));
        }
        let mut connection = connect(&path).await.map_err(failed)?;
        let found = Target::read(&mut connection, &self.table).await.map_err(failed)?;
        let existing = || found.columns.iter().map(|column| column.name.as_str());
        if found.columns.is_empty() {
            return Err(refused("there is no such table".into()));
        }
        let names: Vec<&str> = context.schema.fields().iter().map(|field| field.name().as_str()).collect();
        if let Some(missing) = names.iter().find(|name| !existing().any(|column| column == **name)) {
            return Err(refused(missing_column(missing, existing())));
        }
        // The first read fixes the snapshot, for all of them.
        connection.execute("BEGIN").await.map_err(failed)?;
        let letters = OwnTable::DeadLetters.name(Dialect::Sqlite);
        let has_letters = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?")
            .bind(letters)
            .fetch_optional(&mut connection)
            .await
            .map_err(failed)?;
        let mut pages = vec![];
        if has_letters.is_some() {
            let ours = "pipeline = ?3 AND sink = ?4 AND epoch IS NOT NULL";
            pages.push(Pages {
                split: SplitIndex(1),
                query: page(letters, "refused_row", ours),
                values: vec![context.pipeline.clone(), context.table.clone()],
                from: i64::MIN,
            });
        }
        let query = page(&quoted(&self.table.name), &quoted_list(names), "true");
        pages.push(Pages { split: SplitIndex(0), query, values: vec![], from: i64::MIN });
        let limit = context.batch_size.max(1) as i64;
        Ok(Box::new(OpenRows { what, connection, schema: context.schema, pages, announced: 0, limit }))
    }
}

/// Opens a file that is there, to read it.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).pragma("query_only", "ON");
    SqliteConnection::connect_with(&options.disable_statement_logging()).await
}

fn page(table: &str, columns: &str, condition: &str) -> String {
    format!("SELECT _rowid_, {columns} FROM {table} WHERE _rowid_ >= ?1 AND {condition} ORDER BY _rowid_ LIMIT ?2")
}

#[async_trait]
impl Source for OpenRows {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        if let Some(split) = ["rows", DEAD_LETTERS].get(self.announced as usize) {
            self.announced += 1;
            return Ok(SourceEvent::Split(SplitIndex(self.announced - 1), (*split).into(), None));
        }
        while let Some(pages) = self.pages.last_mut() {
            let mut query = sqlx::query(AssertSqlSafe(pages.query.as_str())).bind(pages.from).bind(self.limit);
            for value in &pages.values {
                query = query.bind(value);
            }
            let rows = query.fetch_all(&mut self.connection).await;
            let rows = rows.map_err(|error| connector_error(&self.what, &error))?;
            let last = rows.last().map(|row| row.try_get::<i64, _>(0)).transpose();
            let last = last.map_err(|error| connector_error(&self.what, &error))?;
            let split = pages.split;
            match last.and_then(|last| last.checked_add(1)) {
                Some(next) => pages.from = next,
                None => drop(self.pages.pop()),
            }
            if rows.is_empty() {
                continue;
            }
            let mut records = RawRecords::default();
            for row in &rows {
                let json = match split {
                    SplitIndex(0) => row_json(row, &self.schema),
                    _ => row.try_get(1),
                };
                let read = json.and_then(|json| Ok((row.try_get(0)?, json)));
                let (number, json): (i64, String) = read.map_err(|error| connector_error(&self.what, &error))?;
                records.push(split, number, json.as_bytes());
            }
            return Ok(SourceEvent::Records(records));
        }
        Ok(SourceEvent::End)
    }
}
