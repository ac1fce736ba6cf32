//! PostgreSQL as a source: rows by their cursor, as JSON objects that the server makes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use sqlx::postgres::{PgColumn, PgConnectOptions, PgTypeInfo, PgTypeKind};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Error, Executor, PgConnection, SqlSafeStr, Statement, TypeInfo};

use super::address;
use super::errors::connector_error;
use super::open::{OPEN_TIMEOUT, migrate};
use super::session::{Session, connect};
use super::writers::Writers;
use crate::connectors::sql_table::cursor_options::{CursorOptions, Rows};
use crate::connectors::sql_table::cursor_reader::{CursorDatabase, CursorRow};
use crate::connectors::sql_table::cursor_source::CursorSource;
use crate::connectors::sql_table::origin::Origin;
use crate::connectors::sql_table::{Migrations, SqlName, missing_column, quoted};
use crate::connectors::{Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceFactory};
use crate::formats::DecodeOptions;

/// How values look as text, whatever the server's and the user's settings say.
const SETTINGS: &str = "SELECT set_config(name, value, false) FROM (VALUES ('TimeZone', 'UTC'), ('DateStyle', 'ISO'), \
    ('IntervalStyle', 'iso_8601'), ('bytea_output', 'hex'), ('extra_float_digits', '3'), ('statement_timeout', $1)) \
    AS ours (name, value)";

/// What tells the table from others: the number that the server was given when it was made, if it says, and those of
/// the database and the table.
const ORIGIN: &str = "SELECT \
    CASE WHEN has_function_privilege('pg_control_system()', 'execute') \
         THEN (SELECT system_identifier::text FROM pg_control_system()) END, \
    (SELECT oid::text FROM pg_database WHERE datname = current_database())";

/// Opens a table, view or query to be read by a cursor.
#[derive(Clone)]
pub(super) struct PostgresSourceFactory {
    pub(super) server: PgConnectOptions,
    pub(super) timeout: Duration,
    pub(super) migrate: Option<Migrations>,
    pub(super) options: Arc<CursorOptions>,
}

#[async_trait]
impl SourceFactory for PostgresSourceFactory {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Format(DecodeOptions::database_rows())
    }

    fn describe(&self) -> String {
        let CursorOptions { rows, cursor, .. } = &*self.options;
        format!("PostgreSQL {} by {cursor} at {}", rows.describe(), address(&self.server))
    }

    async fn instances(&self, _context: &SourceContext, _parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(1)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let what = self.describe();
        let database = PostgresCursor {
            what: what.clone(),
            session: Session::reading(&context),
            schema: context.schema.clone(),
            factory: self.clone(),
            is_migrated: AtomicBool::new(self.migrate.is_none()),
        };
        Ok(Box::new(CursorSource::open(database, what, &self.options, context)))
    }
}

struct PostgresCursor {
    what: String,
    session: Session,
    /// The columns that rows are to have.
    schema: SchemaRef,
    factory: PostgresSourceFactory,
    is_migrated: AtomicBool,
}

struct CursorSession {
    connection: PgConnection,
    writers: Writers,
    origin: Origin,
    page: String,
    newest: String,
    /// Finds a row without a cursor; `None` where there can be none.
    without_cursor: Option<String>,
}

impl PostgresCursor {
    fn refused(&self, message: String) -> ConnectorError {
        ConnectorError::Refused { what: self.what.clone(), message }
    }

    fn failed(&self, error: &Error) -> ConnectorError {
        connector_error(&self.what, error)
    }

    /// An answer, or that the server is away when it does not come in time. The server itself gives up somewhat sooner.
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, ConnectorError> {
        match tokio::time::timeout(self.factory.timeout + Duration::from_secs(5), asked).await {
            Ok(answer) => answer.map_err(|error| self.failed(&error)),
            Err(_) => Err(ConnectorError::Unavailable {
                what: self.what.clone(),
                message: format!("no answer within {} s ('timeout')", self.factory.timeout.as_secs()),
            }),
        }
    }

    async fn migrate(&self, connection: &mut PgConnection) -> Result<(), ConnectorError> {
        let Some(set) = self.factory.migrate.filter(|_| !self.is_migrated.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let migrated = tokio::time::timeout(OPEN_TIMEOUT, migrate(connection, set, &self.what)).await;
        migrated.map_err(|_| ConnectorError::Unavailable {
            what: self.what.clone(),
            message: format!("its migrations took longer than {} s", OPEN_TIMEOUT.as_secs()),
        })??;
        self.is_migrated.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The table whose writers are waited for, and so the one whose sequence gives the cursor.
    fn cursor_table(&self) -> Result<SqlName, ConnectorError> {
        let CursorOptions { rows, cursor_table, .. } = &*self.factory.options;
        match (cursor_table, rows) {
            (Some(table), _) | (None, Rows::Table(table)) => Ok(table.clone()),
            (None, Rows::Query(_)) => Err(self.refused("option 'cursor_table' is missing".into())),
        }
    }

    async fn check_server(&self, connection: &mut PgConnection) -> Result<(), ConnectorError> {
        let timeout = self.factory.timeout.as_millis().to_string();
        self.answer(sqlx::query(SETTINGS).bind(timeout).execute(&mut *connection)).await?;
        let standby = sqlx::query_as("SELECT pg_is_in_recovery()").fetch_one(&mut *connection);
        let (is_standby,): (bool,) = self.answer(standby).await?;
        if is_standby {
            let message = "it is a standby, which does not see who writes at its primary, so that rows that commit late \
                           would be missed: connect to the primary";
            return Err(self.refused(message.into()));
        }
        Ok(())
    }

    /// The columns that there are.
    async fn columns(&self, connection: &mut PgConnection) -> Result<Vec<PgColumn>, ConnectorError> {
        let rows = &self.factory.options.rows;
        if let Rows::Table(name) = rows {
            let found = sqlx::query_as("SELECT to_regclass($1) IS NOT NULL").bind(name.quoted());
            let (found,): (bool,) = self.answer(found.fetch_one(&mut *connection)).await?;
            if !found {
                return Err(self.refused(format!("there is no table or view {name}")));
            }
        }
        let select = format!("SELECT * FROM {} p", rows.from_clause());
        let prepared = self.answer(connection.prepare(AssertSqlSafe(select).into_sql_str())).await?;
        Ok(prepared.columns().to_vec())
    }

    /// The statement for the rows from `$1` to `$2`, at most `$3`.
    fn page(&self, columns: &[PgColumn]) -> Result<String, ConnectorError> {
        let names = || columns.iter().map(Column::name);
        let find = |name: &str| {
            let found = columns.iter().find(|column| column.name() == name);
            found.ok_or_else(|| self.refused(missing_column(name, names())))
        };
        let CursorOptions { rows, cursor, .. } = &*self.factory.options;
        let cursor_type = plain_type(find(cursor)?.type_info());
        if !matches!(cursor_type.name(), "INT2" | "INT4" | "INT8") {
            let there = cursor_type.name().to_lowercase();
            return Err(self.refused(format!("cursor {cursor} is {there} there, which is no whole number")));
        }
        let mut selected = vec![];
        for field in self.schema.fields() {
            let there = plain_type(find(field.name())?.type_info());
            let column = format!("p.{}", quoted(field.name()));
            selected.push(match field.data_type() {
                DataType::Binary | DataType::LargeBinary | DataType::BinaryView if there.name() != "BYTEA" => {
                    format!("convert_to({column}::text, 'UTF8') AS {}", quoted(field.name()))
                }
                _ => column,
            });
        }
        let (from, cursor) = (rows.from_clause(), quoted(cursor));
        Ok(format!(
            "SELECT p.{cursor}::bigint, (SELECT row_to_json(r)::text FROM (SELECT {}) r) FROM {from} p \
             WHERE p.{cursor} >= $1 AND p.{cursor} <= $2 ORDER BY p.{cursor} LIMIT $3",
            selected.join(", ")
        ))
    }

    /// Whether the database itself sees to it that every row has a cursor.
    async fn is_required(&self, connection: &mut PgConnection) -> Result<bool, ConnectorError> {
        let Rows::Table(name) = &self.factory.options.rows else { return Ok(false) };
        let required = sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE \
             a.attrelid = to_regclass($1) AND a.attname = $2 AND a.attnotnull AND c.relkind IN ('r', 'p'))",
        )
        .bind(name.quoted())
        .bind(&self.factory.options.cursor);
        let (is_required,): (bool,) = self.answer(required.fetch_one(connection)).await?;
        Ok(is_required)
    }

    async fn origin_of(&self, connection: &mut PgConnection, writers: &Writers) -> Result<Origin, ConnectorError> {
        let asked = sqlx::query_as(ORIGIN).fetch_one(connection);
        let (system, database): (Option<String>, Option<String>) = self.answer(asked).await?;
        let (table, cursor) = (Some(writers.oid().to_string()), Some(self.factory.options.cursor.clone()));
        Ok(Origin::new([("system", system), ("database", database), ("table", table), ("cursor", cursor)]))
    }
}

#[async_trait]
impl CursorDatabase for PostgresCursor {
    type Session = CursorSession;

    async fn connect(&self) -> Result<Option<CursorSession>, ConnectorError> {
        // A first page may take its time; what is too long, `timeout` says.
        let server = self.factory.server.clone().disable_statement_logging();
        let mut connection = connect(&server, &self.session, &self.what).await?;
        self.migrate(&mut connection).await?;
        self.check_server(&mut connection).await?;
        let columns = self.columns(&mut connection).await?;
        let page = self.page(&columns)?;
        let (table, options) = (self.cursor_table()?, &self.factory.options);
        let writers = self.answer(Writers::of(&mut connection, &table, &options.cursor)).await?;
        let writers = writers.map_err(|why| self.refused(why))?;
        let origin = self.origin_of(&mut connection, &writers).await?;
        let (from, cursor) = (options.rows.from_clause(), options.quoted_cursor());
        let without_cursor = match self.is_required(&mut connection).await? {
            true => None,
            false => Some(format!("SELECT EXISTS (SELECT 1 FROM {from} p WHERE p.{cursor} IS NULL)")),
        };
        // Not max(): over a join the planner would read all of it.
        let newest =
            format!("SELECT p.{cursor}::bigint FROM {from} p WHERE p.{cursor} >= $1 ORDER BY p.{cursor} DESC LIMIT 1");
        Ok(Some(CursorSession { connection, writers, origin, page, newest, without_cursor }))
    }

    fn origin(&self, session: &CursorSession) -> Origin {
        session.origin.clone()
    }

    async fn newest(&self, session: &mut CursorSession, from: i64) -> Result<Option<i64>, ConnectorError> {
        let connection = &mut session.connection;
        if let Some(statement) = &session.without_cursor {
            let found = sqlx::query_as(AssertSqlSafe(statement.as_str())).fetch_one(&mut *connection);
            let (found,): (bool,) = self.answer(found).await?;
            if found {
                let cursor = &self.factory.options.cursor;
                let message = format!(
                    "cursor {cursor} is NULL in some row, which would never be read: fill it, or leave \
                                       such rows out with 'query'"
                );
                return Err(self.refused(message));
            }
        }
        let newest = sqlx::query_as(AssertSqlSafe(session.newest.as_str())).bind(from).fetch_optional(connection);
        let newest: Option<(i64,)> = self.answer(newest).await?;
        Ok(newest.map(|(newest,)| newest))
    }

    async fn complete(&self, session: &mut CursorSession) -> Result<(), ConnectorError> {
        let same = sqlx::query_as("SELECT to_regclass($1)::oid::bigint").bind(self.cursor_table()?.quoted());
        let (oid,): (Option<i64>,) = self.answer(same.fetch_one(&mut session.connection)).await?;
        if oid != Some(session.writers.oid()) {
            let message = format!("{} is another table than before; connecting anew", self.cursor_table()?);
            return Err(ConnectorError::Unavailable { what: self.what.clone(), message });
        }
        let finished = session.writers.finish(&mut session.connection, self.factory.timeout, &self.what).await;
        finished.map_err(|error| self.failed(&error))
    }

    async fn page(
        &self,
        session: &mut CursorSession,
        from: i64,
        to: i64,
        limit: i64,
    ) -> Result<Vec<CursorRow>, ConnectorError> {
        let page = sqlx::query_as(AssertSqlSafe(session.page.as_str())).bind(from).bind(to).bind(limit);
        let rows: Vec<(i64, String)> = self.answer(page.fetch_all(&mut session.connection)).await?;
        Ok(rows.into_iter().map(|(cursor, json)| CursorRow { cursor, json }).collect())
    }
}

/// The type below a domain.
fn plain_type(type_info: &PgTypeInfo) -> &PgTypeInfo {
    match type_info.kind() {
        PgTypeKind::Domain(base) => plain_type(base),
        _ => type_info,
    }
}
