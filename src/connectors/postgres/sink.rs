//! A table on a PostgreSQL server: the way to it, COPY into it, and what its errors mean for a transaction.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Error, Executor, PgConnection};

use super::copy::{END, Encoder, SIGNATURE};
use super::errors::{connector_error, failure, is_missing_right, words};
use super::session::{Session, connect, end_sessions};
use crate::connectors::ConnectorError;
use crate::connectors::delivery::Marker;
use crate::connectors::sql_table::create::Dialect;
use crate::connectors::sql_table::database::{Database, Failure, MarkerRow, Place, Refusals, Value, bound, marker_of};
use crate::connectors::sql_table::own_tables::{OwnTable, SCHEMA};
use crate::connectors::sql_table::{SqlTableOptions, conflict_clause, quoted, quoted_list};
use crate::faults::crash_point;

/// COPY sends so many bytes at a time: what an epoch of any size needs in memory.
const CHUNK: usize = 1 << 20;
/// Each answer may take as much longer as a slow disk needs for what was sent in the transaction.
const BYTES_A_SECOND: u64 = 1 << 20;

/// One table on a server.
pub(super) struct PostgresTable {
    pub(super) what: String,
    pub(super) server: PgConnectOptions,
    pub(super) session: Session,
    /// How long an answer may take before the connection counts as lost.
    pub(super) timeout: Duration,
    pub(super) statements: Statements,
    pub(super) encoder: Mutex<Encoder>,
    /// Bytes sent in the open transaction.
    pub(super) sent: AtomicU64,
}

/// A connection with what is made for it.
pub(super) struct PostgresConnection {
    pub(super) inner: PgConnection,
    /// Whether the staging table holds rows of the open transaction.
    pub(super) staged: bool,
}

/// The statements of one sink.
pub(super) struct Statements {
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

/// Where rows of an upsert wait; private to the connection.
const STAGE: &str = "pg_temp.acequia_stage";

impl Statements {
    pub(super) fn new(table: &SqlTableOptions, columns: &[String]) -> Statements {
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
}

impl PostgresTable {
    /// Makes a connection ready for rows.
    pub(super) async fn prepare(&self, mut inner: PgConnection) -> Result<PostgresConnection, ConnectorError> {
        if let Some(upsert) = &self.statements.upsert {
            run(&mut inner, &upsert.stage).await.map_err(|error| connector_error(&self.what, &error))?;
        }
        Ok(PostgresConnection { inner, staged: false })
    }

    /// Waits for an answer, but not for ever: a connection can be dead without a sign of it.
    async fn within<T>(&self, answer: impl Future<Output = T> + Send) -> Result<T, ConnectorError> {
        let limit = self.timeout + Duration::from_secs(self.sent.load(Ordering::Relaxed) / BYTES_A_SECOND);
        tokio::time::timeout(limit, answer).await.map_err(|_| ConnectorError::Unavailable {
            what: self.what.clone(),
            message: format!("no answer within {} s", limit.as_secs_f64()),
        })
    }

    /// The answer about the table.
    async fn answer<T>(&self, answer: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Failure> {
        self.within(answer).await?.map_err(|error| failure(&self.what, &error))
    }

    /// The answer about one of our own tables.
    async fn own<T>(&self, answer: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Failure> {
        self.within(answer).await?.map_err(|error| {
            if !is_missing_right(&error) {
                return failure(&self.what, &error);
            }
            let user = quoted(self.server.get_username());
            let database = quoted(self.server.get_database().unwrap_or(self.server.get_username()));
            Failure::Error(ConnectorError::Refused {
                what: self.what.clone(),
                message: format!(
                    "{}. Markers and refused rows are kept in schema {SCHEMA}: GRANT CREATE ON DATABASE {database} TO \
                     {user}, so that it is made; if it is there: GRANT USAGE ON SCHEMA {SCHEMA} TO {user}; GRANT SELECT, \
                     INSERT, UPDATE ON ALL TABLES IN SCHEMA {SCHEMA} TO {user}. Only 'delivery' = 'at_least_once' with \
                     'on_error' = 'fail' or 'skip' does without",
                    words(&error)
                ),
            })
        })
    }

    async fn copy(&self, connection: &mut PgConnection, rows: &[RecordBatch]) -> Result<Refusals, Failure> {
        let mut left_out = vec![];
        let mut first = 0;
        // sqlx 0.9.0 leaves Nagle's algorithm on (its issue 4335), so that the end of the stream waits for the
        // acknowledgement of the data, up to 40 ms on Linux: a reason to write many rows at once.
        let mut stream = self.answer(connection.copy_in_raw(&self.statements.copy)).await?;
        let mut chunk = SIGNATURE.to_vec();
        for piece in rows {
            let prepared = self.encoder.lock().prepare(piece)?;
            let mut bad = prepared.bad.iter().peekable();
            for row in 0..piece.num_rows() {
                if let Some(bad) = bad.next_if(|bad| bad.row == row) {
                    left_out.push((first + row, bad.message.clone()));
                    continue;
                }
                prepared.encode(row, &mut chunk);
                if chunk.len() >= CHUNK {
                    self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    self.answer(stream.send(std::mem::take(&mut chunk))).await?;
                }
            }
            first += piece.num_rows();
        }
        chunk.extend(END);
        self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        self.answer(stream.send(chunk)).await?;
        self.answer(stream.finish()).await?;
        Ok(left_out)
    }

    async fn make_one(&self, connection: &mut PgConnection, table: OwnTable) -> Result<(), Error> {
        let exists = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                      WHERE n.nspname = $1 AND c.relname = $2), \
                      EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
        let name = table.bare_name();
        let (exists, schema): (bool, bool) =
            sqlx::query_as(exists).bind(SCHEMA).bind(name).fetch_one(&mut *connection).await?;
        if exists {
            return Ok(());
        }
        // Several sinks open at once, and IF NOT EXISTS alone would let two of them collide.
        let schema = if schema { String::new() } else { format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA};") };
        let create = table.create(Dialect::Postgres);
        let script = format!("BEGIN; SELECT pg_advisory_xact_lock(8241607); {schema} {create}; COMMIT");
        if let Err(error) = run(connection, &script).await {
            connection.execute("ROLLBACK").await?;
            return Err(error);
        }
        Ok(())
    }
}

#[async_trait]
impl Database for PostgresTable {
    type Connection = PostgresConnection;

    const DIALECT: Dialect = Dialect::Postgres;
    // A deferred constraint would fail at COMMIT, when no row is to be blamed any more.
    const BEGIN_STRICT: &'static [&'static str] = &["SET CONSTRAINTS ALL IMMEDIATE"];

    async fn connect(&self) -> Result<PostgresConnection, ConnectorError> {
        self.prepare(connect(&self.server, &self.session, &self.what).await?).await
    }

    async fn make(&self, connection: &mut PostgresConnection, tables: &[OwnTable]) -> Result<(), Failure> {
        for table in tables {
            self.own(self.make_one(&mut connection.inner, *table)).await?;
        }
        Ok(())
    }

    async fn begin(&self, connection: &mut PostgresConnection) -> Result<(), Failure> {
        connection.staged = false;
        self.sent.store(0, Ordering::Relaxed);
        self.answer(run(&mut connection.inner, "BEGIN")).await
    }

    async fn run(
        &self,
        connection: &mut PostgresConnection,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<(), Failure> {
        if values.is_empty() {
            return self.answer(run(&mut connection.inner, statement)).await;
        }
        let query = bound!(sqlx::query(AssertSqlSafe(statement)), values);
        self.own(async { query.execute(&mut connection.inner).await.map(|_| ()) }).await
    }

    async fn marker(
        &self,
        connection: &mut PostgresConnection,
        query: &str,
        values: &[Value<'_>],
    ) -> Result<Option<Marker>, Failure> {
        let query = bound!(sqlx::query_as::<_, MarkerRow>(AssertSqlSafe(query)), values);
        let found = self.own(async { query.fetch_optional(&mut connection.inner).await }).await?;
        Ok(found.map(marker_of))
    }

    async fn insert(&self, connection: &mut PostgresConnection, rows: &[RecordBatch]) -> Result<Refusals, Failure> {
        let Some(upsert) = &self.statements.upsert else {
            return self.copy(&mut connection.inner, rows).await;
        };
        if connection.staged {
            self.answer(run(&mut connection.inner, &format!("DELETE FROM {STAGE}"))).await?;
        }
        connection.staged = true;
        let left_out = self.copy(&mut connection.inner, rows).await?;
        self.answer(run(&mut connection.inner, &upsert.merge)).await?;
        Ok(left_out)
    }

    async fn end_sessions(&self, connection: &mut PostgresConnection, opening: bool) {
        let ending = async {
            run(&mut connection.inner, "ROLLBACK").await?;
            end_sessions(&mut connection.inner, &self.session, opening).await
        };
        match self.answer(ending).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!("{}: ended {count} lost sessions of this sink on the server", self.what),
            Err(failure) => tracing::debug!("{}: lost sessions cannot be ended: {failure:?}", self.what),
        }
    }

    async fn close(&self, connection: PostgresConnection) -> Result<(), ConnectorError> {
        // All is committed; a server that is gone by now takes nothing with it.
        let _ = tokio::time::timeout(self.timeout, connection.inner.close()).await;
        Ok(())
    }

    fn passes(&self, place: Place) {
        match place {
            Place::Fenced => {
                crash_point!("sink.postgres.after_fence");
            }
            Place::BeforeData => {
                crash_point!("sink.postgres.before_data");
            }
            Place::BeforeMarker => {
                crash_point!("sink.postgres.before_marker");
            }
            Place::BeforeCommit => {
                crash_point!("sink.postgres.before_commit");
            }
            Place::AfterCommit => {
                crash_point!("sink.postgres.after_commit");
            }
        }
    }
}

/// Runs a statement whose every name went through [`crate::connectors::sql_table::quoted`].
pub(super) async fn run(connection: &mut PgConnection, statement: &str) -> Result<(), Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(|_| ())
}
