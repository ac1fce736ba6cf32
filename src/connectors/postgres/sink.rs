//! Batches into a table, one transaction each, over a connection that is made again when it is lost.

use std::ops::Range;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use async_trait::async_trait;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::copy::{Encoder, Prepared};
use super::errors::{Remedy, connector_error, remedy, words};
use super::target::{self, Target};
use crate::connectors::refused_rows::{OnError, RefusedRows};
use crate::connectors::retry::until_available;
use crate::connectors::sql_table::create::{Dialect, create_table};
use crate::connectors::sql_table::savepoints::{Attempt, Savepoints, write_accepted};
use crate::connectors::sql_table::{RowStore, SqlTableOptions, arrow_error, conflict_clause, quoted_list, warehouse};
use crate::connectors::{ConnectorError, SinkContext};

/// A server that takes longer to answer a new connection counts as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes into one table of a PostgreSQL database.
pub struct PostgresStore {
    table: ConnectedTable,
    encoder: Encoder,
    refused: RefusedRows,
    stop: CancellationToken,
}

/// The table and the way to it.
struct ConnectedTable {
    what: String,
    server: PgConnectOptions,
    statements: Statements,
    on_error: OnError,
    /// `None` after an error: the next write connects again.
    connection: Mutex<Option<PgConnection>>,
}

/// The statements of one sink.
struct Statements {
    /// Takes the rows: straight into the table, or into the staging table.
    copy: String,
    /// For upserts.
    upsert: Option<Upsert>,
}

struct Upsert {
    /// Makes the staging table, once a connection.
    stage: String,
    /// Moves the staged rows into the table.
    merge: String,
}

/// Rows refused within one transaction, with the database's words.
type Refusals = Vec<(usize, String)>;

impl PostgresStore {
    /// Connects (waiting for a server that is away), migrates and creates as asked, and checks the columns.
    ///
    /// # Errors
    /// When the database refuses us, or the table is missing or does not fit.
    pub async fn open(
        what: String,
        server: PgConnectOptions,
        table: SqlTableOptions,
        context: SinkContext,
    ) -> Result<PostgresStore, ConnectorError> {
        let schema = &context.schema;
        let create = create_table(Dialect::Postgres, &table, schema);
        let attempt = || async {
            let mut connection = connect(&server, &what).await?;
            if table.migrate.is_some() {
                warehouse::migrate_postgres(&mut connection).await.map_err(|error| migrate_error(&what, error))?;
            }
            let target = find_or_create(&mut connection, &table, &create, &what).await?;
            Ok((connection, target))
        };
        let (mut connection, target) = until_available(&what, &context.stop, attempt).await?;
        let wires = target::fit(&target, &table, schema).map_err(|wrong| ConnectorError::Refused {
            what: what.clone(),
            message: format!("the table does not fit:\n  {}", wrong.join("\n  ")),
        })?;
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let statements = Statements::new(&table, &columns);
        statements.stage(&mut connection, &what).await?;
        Ok(PostgresStore {
            encoder: Encoder::new(schema.clone(), wires)?,
            refused: RefusedRows::new(table.on_error, what.clone()),
            stop: context.stop.clone(),
            table: ConnectedTable {
                what,
                server,
                statements,
                on_error: table.on_error,
                connection: Mutex::new(Some(connection)),
            },
        })
    }
}

impl ConnectedTable {
    /// One try at one transaction. The connection is kept only when it is in a known state.
    async fn write(&self, rows: &Prepared, range: Range<usize>) -> Result<Refusals, ConnectorError> {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => {
                let mut connection = connect(&self.server, &self.what).await?;
                self.statements.stage(&mut connection, &self.what).await?;
                connection
            }
        };
        let refusals = match self.write_at_once(&mut connection, rows, range.clone()).await {
            Err(error) if remedy(&error) == Remedy::FindRow => {
                self.write_by_halves(&mut connection, rows, range).await?
            }
            Err(error) => return Err(connector_error(&self.what, &error)),
            Ok(()) => vec![],
        };
        *slot = Some(connection);
        Ok(refusals)
    }

    async fn write_at_once(
        &self,
        connection: &mut PgConnection,
        rows: &Prepared,
        range: Range<usize>,
    ) -> Result<(), sqlx::Error> {
        let Some(upsert) = &self.statements.upsert else {
            // A lone COPY is a transaction of its own.
            return copy(connection, &self.statements.copy, rows, range).await;
        };
        connection.execute("BEGIN").await?;
        let outcome = async {
            copy(connection, &self.statements.copy, rows, range).await?;
            run(connection, &upsert.merge).await?;
            connection.execute("COMMIT").await
        };
        match outcome.await {
            Ok(_) => Ok(()),
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
        connection: &mut PgConnection,
        rows: &Prepared,
        range: Range<usize>,
    ) -> Result<Refusals, ConnectorError> {
        let failed = |error: sqlx::Error| connector_error(&self.what, &error);
        connection.execute("BEGIN").await.map_err(failed)?;
        // A deferred constraint would fail at COMMIT, when no row is to be blamed any more.
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(failed)?;
        let first = self.on_error == OnError::Fail;
        let mut halves = Halves { table: self, connection, rows };
        let refusals = write_accepted(&mut halves, range.len(), first).await?;
        let end = if first && !refusals.is_empty() { "ROLLBACK" } else { "COMMIT" };
        connection.execute(end).await.map_err(failed)?;
        Ok(refusals)
    }
}

#[async_trait]
impl RowStore for PostgresStore {
    async fn store(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        let mut rows = rows.clone();
        let mut prepared = self.encoder.prepare(&rows)?;
        if !prepared.bad.is_empty() {
            let mut good = vec![true; rows.num_rows()];
            for bad in &prepared.bad {
                self.refused.refuse(&rows, bad.row, &bad.message)?;
                good[bad.row] = false;
            }
            rows = filter_record_batch(&rows, &BooleanArray::from(good))
                .map_err(|source| arrow_error("leaving rows out", source))?;
            prepared = self.encoder.prepare(&rows)?;
        }
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let table = &self.table;
        let attempt = || table.write(&prepared, 0..rows.num_rows());
        let refusals = until_available(&table.what, &self.stop, attempt).await?;
        for (row, message) in refusals {
            self.refused.refuse(&rows, row, &message)?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        if let Some(connection) = self.table.connection.get_mut().take() {
            // All is committed; a server that is gone by now takes nothing with it.
            let _ = connection.close().await;
        }
        Ok(())
    }
}

/// A transaction in which each step can be taken back.
struct Halves<'a> {
    table: &'a ConnectedTable,
    connection: &'a mut PgConnection,
    rows: &'a Prepared,
}

#[async_trait]
impl Savepoints for Halves<'_> {
    async fn attempt(&mut self, range: Range<usize>) -> Result<Attempt, ConnectorError> {
        let table = self.table;
        let failed = |error: sqlx::Error| connector_error(&table.what, &error);
        self.connection.execute("SAVEPOINT step").await.map_err(failed)?;
        let written = async {
            copy(self.connection, &table.statements.copy, self.rows, range).await?;
            if let Some(upsert) = &table.statements.upsert {
                run(self.connection, &upsert.merge).await?;
                run(self.connection, &format!("DELETE FROM {STAGE}")).await?;
            }
            Ok(())
        };
        match written.await {
            Ok(()) => {
                self.connection.execute("RELEASE SAVEPOINT step").await.map_err(failed)?;
                Ok(Attempt::Written)
            }
            Err(error) if remedy(&error) == Remedy::FindRow => {
                self.connection.execute("ROLLBACK TO SAVEPOINT step").await.map_err(failed)?;
                Ok(Attempt::Refused(words(&error)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Where rows of an upsert wait; private to the connection.
const STAGE: &str = "pg_temp.acequia_stage";

impl Statements {
    fn new(table: &SqlTableOptions, columns: &[String]) -> Statements {
        let name = table.quoted_name();
        let list = quoted_list(columns.iter().map(String::as_str));
        let copy = |into: &str| format!("COPY {into} ({list}) FROM STDIN (FORMAT binary)");
        if table.key.is_empty() {
            return Statements { copy: copy(&name), upsert: None };
        }
        let stage =
            format!("CREATE TEMP TABLE acequia_stage ON COMMIT DELETE ROWS AS SELECT {list} FROM {name} WITH NO DATA");
        let conflict = conflict_clause(&table.key, columns);
        let merge = format!("INSERT INTO {name} ({list}) SELECT {list} FROM {STAGE} {conflict}");
        Statements { copy: copy(STAGE), upsert: Some(Upsert { stage, merge }) }
    }

    async fn stage(&self, connection: &mut PgConnection, what: &str) -> Result<(), ConnectorError> {
        match &self.upsert {
            Some(upsert) => run(connection, &upsert.stage).await.map_err(|error| connector_error(what, &error)),
            None => Ok(()),
        }
    }
}

/// Runs a statement whose every name went through [`crate::connectors::sql_table::quoted`].
async fn run(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(|_| ())
}

/// One COPY. sqlx 0.9.0 leaves Nagle's algorithm on (its issue 4335), so that the end of the stream waits for the
/// acknowledgement of the data, up to 40 ms on Linux: a reason to write many rows at once.
async fn copy(
    connection: &mut PgConnection,
    statement: &str,
    rows: &Prepared,
    range: Range<usize>,
) -> Result<(), sqlx::Error> {
    let mut bytes = Vec::new();
    rows.encode(range, &mut bytes);
    let mut stream = connection.copy_in_raw(statement).await?;
    stream.send(bytes).await?;
    stream.finish().await.map(|_| ())
}

async fn connect(server: &PgConnectOptions, what: &str) -> Result<PgConnection, ConnectorError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(server)).await {
        Ok(outcome) => outcome.map_err(|error| connector_error(what, &error)),
        Err(_) => Err(ConnectorError::Unavailable {
            what: what.into(),
            message: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        }),
    }
}

fn migrate_error(what: &str, error: MigrateError) -> ConnectorError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => connector_error(what, &error),
        error => ConnectorError::Refused { what: what.into(), message: format!("the warehouse's migrations: {error}") },
    }
}

async fn find_or_create(
    connection: &mut PgConnection,
    table: &SqlTableOptions,
    create: &str,
    what: &str,
) -> Result<Target, ConnectorError> {
    let failed = |error: sqlx::Error| connector_error(what, &error);
    if let Some(target) = target::read(connection, table).await.map_err(failed)? {
        return Ok(target);
    }
    if table.create == Some(true) {
        match run(connection, create).await {
            Ok(()) => tracing::info!("{what}: created the table"),
            // Another process may have been faster; then the catalog's own unique index refuses.
            Err(error) if remedy(&error) == Remedy::FindRow => {}
            Err(error) => return Err(failed(error)),
        }
        if let Some(target) = target::read(connection, table).await.map_err(failed)? {
            return Ok(target);
        }
    }
    Err(ConnectorError::Refused {
        what: what.into(),
        message: format!("there is no such table; add 'create' = 'true', or run\n{create};"),
    })
}
