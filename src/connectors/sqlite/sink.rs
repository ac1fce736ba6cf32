//! Batches into a table by multi-row INSERTs, one transaction each.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Error, Executor, SqliteConnection};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::values::{Column, Values};
use crate::connectors::refused_rows::{OnError, RefusedRows};
use crate::connectors::retry::until_available;
use crate::connectors::sql_table::create::{Dialect, create_table};
use crate::connectors::sql_table::savepoints::{Attempt, Savepoints, write_accepted};
use crate::connectors::sql_table::{
    RowStore, SqlTableOptions, arrow_error, conflict_clause, missing_column, quoted_list, warehouse,
};
use crate::connectors::{ConnectorError, SinkContext};

/// Rows of one INSERT: enough that the statement's cost is spread, and few enough for 32,766 values.
const ROWS_A_STATEMENT: usize = 64;
/// How long a statement waits for another process's transaction before it is tried again.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes into one table of a SQLite database.
pub(super) struct SqliteStore {
    table: OpenTable,
    values: Values,
    refused: RefusedRows,
    stop: CancellationToken,
}

/// The table and the way to it.
struct OpenTable {
    what: String,
    options: SqliteConnectOptions,
    insert: Insert,
    on_error: OnError,
    /// `None` after an error: the next write opens the file again.
    connection: Mutex<Option<SqliteConnection>>,
}

/// The INSERT of one sink, for many rows and for one.
struct Insert {
    many: String,
    one: String,
    rows: usize,
}

impl SqliteStore {
    /// Opens the file, makes it, its folder and its tables as asked, and checks the columns.
    ///
    /// # Errors
    /// When the file cannot be had, or the table is missing or does not fit.
    pub(super) async fn open(
        what: String,
        path: &Path,
        table: SqlTableOptions,
        context: SinkContext,
    ) -> Result<SqliteStore, ConnectorError> {
        let refused = |message: String| ConnectorError::Refused { what: what.clone(), message };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| refused(format!("its folder cannot be made: {error}")))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let create = create_table(Dialect::Sqlite, &table, &context.schema);
        let attempt = || async {
            let mut connection = connect(&options, &what).await?;
            if table.migrate.is_some() {
                warehouse::migrate_sqlite(&mut connection).await.map_err(|error| migrate_error(&what, error))?;
            }
            if table.create == Some(true) {
                run(&mut connection, &create).await.map_err(|error| connector_error(&what, &error))?;
            }
            let target = Target::read(&mut connection, &table).await.map_err(|error| connector_error(&what, &error))?;
            Ok((connection, target))
        };
        let (connection, target) = until_available(&what, &context.stop, attempt).await?;
        if target.columns.is_empty() {
            return Err(refused(format!("there is no such table; add 'create' = 'true', or run\n{create};")));
        }
        let wrong = target.misfits(&table, &context.schema);
        if !wrong.is_empty() {
            return Err(refused(format!("the table does not fit:\n  {}", wrong.join("\n  "))));
        }
        Ok(SqliteStore {
            values: Values::new(context.schema.clone())?,
            refused: RefusedRows::new(table.on_error, what.clone()),
            stop: context.stop.clone(),
            table: OpenTable {
                what,
                options,
                insert: Insert::new(&table, &context.schema),
                on_error: table.on_error,
                connection: Mutex::new(Some(connection)),
            },
        })
    }
}

impl OpenTable {
    /// One try at one transaction; gives the rows that were refused.
    async fn write(&self, columns: &[Column], rows: usize) -> Result<Vec<(usize, String)>, ConnectorError> {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => connect(&self.options, &self.what).await?,
        };
        let refusals = match self.write_at_once(&mut connection, columns, rows).await {
            Ok(()) => vec![],
            Err(error) if remedy(&error) == Remedy::FindRow => {
                self.write_by_halves(&mut connection, columns, rows).await?
            }
            Err(error) => return Err(connector_error(&self.what, &error)),
        };
        *slot = Some(connection);
        Ok(refusals)
    }

    async fn write_at_once(
        &self,
        connection: &mut SqliteConnection,
        columns: &[Column],
        rows: usize,
    ) -> Result<(), Error> {
        connection.execute("BEGIN IMMEDIATE").await?;
        match self.insert.run(connection, columns, 0..rows).await {
            Ok(()) => connection.execute("COMMIT").await.map(|_| ()),
            Err(error) => {
                if remedy(&error) == Remedy::FindRow {
                    connection.execute("ROLLBACK").await?;
                }
                Err(error)
            }
        }
    }

    /// All rows that the database takes, in one transaction; with `on_error = 'fail'`, none and the first bad one.
    async fn write_by_halves(
        &self,
        connection: &mut SqliteConnection,
        columns: &[Column],
        rows: usize,
    ) -> Result<Vec<(usize, String)>, ConnectorError> {
        let failed = |error: Error| connector_error(&self.what, &error);
        connection.execute("BEGIN IMMEDIATE").await.map_err(failed)?;
        let first = self.on_error == OnError::Fail;
        let mut halves = Halves { table: self, connection, columns };
        let refusals = write_accepted(&mut halves, rows, first).await?;
        let end = if first && !refusals.is_empty() { "ROLLBACK" } else { "COMMIT" };
        connection.execute(end).await.map_err(failed)?;
        Ok(refusals)
    }
}

#[async_trait]
impl RowStore for SqliteStore {
    async fn store(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        let mut rows = rows.clone();
        let mut bindable = self.values.bindable(&rows)?;
        if !bindable.bad.is_empty() {
            let mut good = vec![true; rows.num_rows()];
            for (row, message) in &bindable.bad {
                self.refused.refuse(&rows, *row, message)?;
                good[*row] = false;
            }
            rows = filter_record_batch(&rows, &BooleanArray::from(good))
                .map_err(|source| arrow_error("leaving rows out", source))?;
            bindable = self.values.bindable(&rows)?;
        }
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let table = &self.table;
        let attempt = || table.write(&bindable.columns, rows.num_rows());
        let refusals = until_available(&table.what, &self.stop, attempt).await?;
        for (row, message) in refusals {
            self.refused.refuse(&rows, row, &message)?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        if let Some(connection) = self.table.connection.get_mut().take() {
            connection.close().await.map_err(|error| connector_error(&self.table.what, &error))?;
        }
        Ok(())
    }
}

struct Halves<'a> {
    table: &'a OpenTable,
    connection: &'a mut SqliteConnection,
    columns: &'a [Column],
}

#[async_trait]
impl Savepoints for Halves<'_> {
    async fn attempt(&mut self, range: Range<usize>) -> Result<Attempt, ConnectorError> {
        let table = self.table;
        let failed = |error: Error| connector_error(&table.what, &error);
        self.connection.execute("SAVEPOINT step").await.map_err(failed)?;
        match table.insert.run(self.connection, self.columns, range).await {
            Ok(()) => {
                self.connection.execute("RELEASE step").await.map_err(failed)?;
                Ok(Attempt::Written)
            }
            Err(error) if remedy(&error) == Remedy::FindRow => {
                self.connection.execute("ROLLBACK TO step").await.map_err(failed)?;
                self.connection.execute("RELEASE step").await.map_err(failed)?;
                Ok(Attempt::Refused(words(&error)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

impl Insert {
    fn new(table: &SqlTableOptions, schema: &Schema) -> Insert {
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
    async fn run(
        &self,
        connection: &mut SqliteConnection,
        columns: &[Column],
        range: Range<usize>,
    ) -> Result<(), Error> {
        let mut at = range.start;
        while at < range.end {
            let (statement, rows) = if range.end - at >= self.rows { (&self.many, self.rows) } else { (&self.one, 1) };
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

/// The table as the database has it. SQLite takes any value in any column, so that only names matter.
#[derive(Default, Debug)]
struct Target {
    columns: Vec<TargetColumn>,
    unique: Vec<Vec<String>>,
}

#[derive(Debug)]
struct TargetColumn {
    name: String,
    declared: String,
    must_be_written: bool,
}

impl Target {
    async fn read(connection: &mut SqliteConnection, table: &SqlTableOptions) -> Result<Target, Error> {
        let rows: Vec<(String, String, bool, bool, i64)> = sqlx::query_as(
            "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk FROM pragma_table_xinfo(?) WHERE hidden = 0",
        )
        .bind(&table.name)
        .fetch_all(&mut *connection)
        .await?;
        let primary: Vec<String> = rows.iter().filter(|row| row.4 > 0).map(|row| row.0.clone()).collect();
        let mut unique: Vec<Vec<String>> = vec![];
        let indexes: Vec<(String,)> =
            sqlx::query_as("SELECT name FROM pragma_index_list(?) WHERE \"unique\" AND NOT partial")
                .bind(&table.name)
                .fetch_all(&mut *connection)
                .await?;
        for (index,) in indexes {
            let columns: Vec<(Option<String>,)> =
                sqlx::query_as("SELECT name FROM pragma_index_info(?)").bind(index).fetch_all(&mut *connection).await?;
            unique.extend(columns.into_iter().map(|(name,)| name).collect::<Option<Vec<String>>>());
        }
        let columns = rows
            .into_iter()
            .map(|(name, declared, required, has_default, place)| TargetColumn {
                // An INTEGER PRIMARY KEY numbers itself.
                must_be_written: required && !has_default && !(place > 0 && declared.eq_ignore_ascii_case("integer")),
                name,
                declared,
            })
            .collect();
        if !primary.is_empty() {
            unique.push(primary);
        }
        Ok(Target { columns, unique })
    }

    fn misfits(&self, table: &SqlTableOptions, schema: &Schema) -> Vec<String> {
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let mut wrong: Vec<String> = schema
            .fields()
            .iter()
            .filter(|field| !names().any(|name| name == field.name()))
            .map(|field| missing_column(field.name(), names()))
            .collect();
        wrong.extend(
            self.columns.iter().filter(|column| column.must_be_written && schema.index_of(&column.name).is_err()).map(
                |column| {
                    format!(
                        "column {} is NOT NULL without a default, but is not written; add it to CREATE TABLE as {}",
                        column.name, column.declared
                    )
                },
            ),
        );
        let key_is_unique = self
            .unique
            .iter()
            .any(|index| index.len() == table.key.len() && table.key.iter().all(|column| index.contains(column)));
        if !table.key.is_empty() && !key_is_unique {
            let key = quoted_list(table.key.iter().map(String::as_str));
            wrong.push(format!(
                "PRIMARY KEY ({}) needs a unique index there: CREATE UNIQUE INDEX \"{}_key\" ON {} ({key})",
                table.key.join(", "),
                table.name.replace('"', "\"\""),
                table.quoted_name()
            ));
        }
        wrong
    }
}

async fn connect(options: &SqliteConnectOptions, what: &str) -> Result<SqliteConnection, ConnectorError> {
    SqliteConnection::connect_with(options).await.map_err(|error| connector_error(what, &error))
}

/// Runs a statement whose every name is quoted.
async fn run(connection: &mut SqliteConnection, statement: &str) -> Result<(), Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(|_| ())
}

/// What can be done about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Remedy {
    /// Another process has the file, or the disk is full.
    Wait,
    /// A value of some row is to blame.
    FindRow,
    /// Nothing but a person's help.
    GiveUp,
}

fn remedy(error: &Error) -> Remedy {
    let code = match error {
        Error::Database(database) => database.code().and_then(|code| code.parse::<i32>().ok()),
        Error::WorkerCrashed => return Remedy::Wait,
        _ => None,
    };
    // The low byte is the primary result code: https://www.sqlite.org/rescode.html
    match code.map(|code| code & 0xff) {
        // BUSY, LOCKED, IOERR, FULL
        Some(5 | 6 | 10 | 13) => Remedy::Wait,
        // TOOBIG, CONSTRAINT, MISMATCH
        Some(18..=20) => Remedy::FindRow,
        _ => Remedy::GiveUp,
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::Database(database) => database.message().to_string(),
        error => error.to_string(),
    }
}

fn connector_error(what: &str, error: &Error) -> ConnectorError {
    let (what, message) = (what.to_string(), words(error));
    match remedy(error) {
        Remedy::Wait => ConnectorError::Unavailable { what, message },
        Remedy::FindRow | Remedy::GiveUp => ConnectorError::Refused { what, message },
    }
}

fn migrate_error(what: &str, error: MigrateError) -> ConnectorError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => connector_error(what, &error),
        error => ConnectorError::Refused { what: what.into(), message: format!("the warehouse's migrations: {error}") },
    }
}
