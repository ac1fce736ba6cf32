//! A table in a SQLite file: multi-row INSERTs into it, and what its errors mean for a transaction.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use parking_lot::Mutex;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{AssertSqlSafe, Connection, Error, Executor, SqliteConnection};

use super::errors::{connector_error, failure};
use super::values::{Column, Values};
use crate::connectors::ConnectorError;
use crate::connectors::delivery::Marker;
use crate::connectors::sql_table::create::Dialect;
use crate::connectors::sql_table::database::{Database, Failure, MarkerRow, Place, Refusals, Value, bound, marker_of};
use crate::connectors::sql_table::own_tables::OwnTable;
use crate::connectors::sql_table::{SqlTableOptions, arrow_error, conflict_clause, quoted_list};
use crate::faults::crash_point;

/// Rows of one INSERT: enough that the statement's cost is spread, and few enough for 32,766 values.
const ROWS_A_STATEMENT: usize = 64;

/// One table in a file.
pub(super) struct SqliteTable {
    pub(super) what: String,
    pub(super) options: SqliteConnectOptions,
    pub(super) insert: Insert,
    pub(super) values: Mutex<Values>,
}

/// The INSERT of one sink, for many rows and for one.
pub(super) struct Insert {
    many: String,
    one: String,
    rows: usize,
}

#[async_trait]
impl Database for SqliteTable {
    type Connection = SqliteConnection;

    const DIALECT: Dialect = Dialect::Sqlite;
    const BEGIN_STRICT: &'static [&'static str] = &[];

    async fn connect(&self) -> Result<SqliteConnection, ConnectorError> {
        connect(&self.options, &self.what).await
    }

    async fn make(&self, connection: &mut SqliteConnection, tables: &[OwnTable]) -> Result<(), Failure> {
        for table in tables {
            self.run(connection, &table.create(Dialect::Sqlite), &[]).await?;
        }
        Ok(())
    }

    async fn begin(&self, connection: &mut SqliteConnection) -> Result<(), Failure> {
        self.run(connection, "BEGIN IMMEDIATE", &[]).await
    }

    async fn run(
        &self,
        connection: &mut SqliteConnection,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<(), Failure> {
        let query = bound!(sqlx::query(AssertSqlSafe(statement)), values);
        query.execute(connection).await.map(|_| ()).map_err(|error| failure(&self.what, &error))
    }

    async fn marker(
        &self,
        connection: &mut SqliteConnection,
        query: &str,
        values: &[Value<'_>],
    ) -> Result<Option<Marker>, Failure> {
        let query = bound!(sqlx::query_as::<_, MarkerRow>(AssertSqlSafe(query)), values);
        let found = query.fetch_optional(connection).await.map_err(|error| failure(&self.what, &error))?;
        Ok(found.map(marker_of))
    }

    async fn insert(&self, connection: &mut SqliteConnection, rows: &[RecordBatch]) -> Result<Refusals, Failure> {
        let mut left_out = vec![];
        let mut first = 0;
        for piece in rows {
            let mut piece = piece.clone();
            let count = piece.num_rows();
            let mut bindable = self.values.lock().bindable(&piece)?;
            if !bindable.bad.is_empty() {
                let mut good = vec![true; count];
                for (row, message) in std::mem::take(&mut bindable.bad) {
                    good[row] = false;
                    left_out.push((first + row, message));
                }
                piece = filter_record_batch(&piece, &BooleanArray::from(good))
                    .map_err(|source| arrow_error("leaving rows out", source))?;
                bindable = self.values.lock().bindable(&piece)?;
            }
            let written = self.insert.run(connection, &bindable.columns, piece.num_rows()).await;
            written.map_err(|error| failure(&self.what, &error))?;
            first += count;
        }
        Ok(left_out)
    }

    async fn end_sessions(&self, _connection: &mut SqliteConnection, _opening: bool) {}

    async fn close(&self, connection: SqliteConnection) -> Result<(), ConnectorError> {
        connection.close().await.map_err(|error| connector_error(&self.what, &error))
    }

    fn passes(&self, place: Place) {
        match place {
            Place::Fenced => {
                crash_point!("sink.sqlite.after_fence");
            }
            Place::BeforeData => {
                crash_point!("sink.sqlite.before_data");
            }
            Place::BeforeMarker => {
                crash_point!("sink.sqlite.before_marker");
            }
            Place::BeforeCommit => {
                crash_point!("sink.sqlite.before_commit");
            }
            Place::AfterCommit => {
                crash_point!("sink.sqlite.after_commit");
            }
        }
    }
}

impl Insert {
    pub(super) fn new(table: &SqlTableOptions, schema: &Schema) -> Insert {
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let rows = ROWS_A_STATEMENT.min(32_766 / columns.len().max(1)).max(1);
        let conflict =
            if table.key.is_empty() { String::new() } else { format!(" {}", conflict_clause(&table.key, &columns)) };
        let tuple = format!("({})", vec!["?"; columns.len()].join(", "));
        let list = quoted_list(columns.iter().map(String::as_str));
        let statement = |rows: usize| {
            let tuples = vec![tuple.as_str(); rows].join(", ");
            format!("INSERT INTO {} ({list}) VALUES {tuples}{conflict}", table.quoted_name())
        };
        Insert { many: statement(rows), one: statement(1), rows }
    }

    /// Inserts these rows within the open transaction.
    async fn run(&self, connection: &mut SqliteConnection, columns: &[Column], count: usize) -> Result<(), Error> {
        let mut at = 0;
        while at < count {
            let (statement, rows) = if count - at >= self.rows { (&self.many, self.rows) } else { (&self.one, 1) };
            let mut arguments = SqliteArguments::default();
            for row in at..at + rows {
                for column in columns {
                    column.bind(row, &mut arguments).map_err(Error::Encode)?;
                }
            }
            sqlx::query_with(AssertSqlSafe(statement.as_str()), arguments).execute(&mut *connection).await?;
            at += rows;
        }
        Ok(())
    }
}

pub(super) async fn connect(options: &SqliteConnectOptions, what: &str) -> Result<SqliteConnection, ConnectorError> {
    SqliteConnection::connect_with(options).await.map_err(|error| connector_error(what, &error))
}

/// Runs a statement whose every name is quoted.
pub(super) async fn run(connection: &mut SqliteConnection, statement: &str) -> Result<(), Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(|_| ())
}
