//! SQLite as a source: rows by their cursor, from a file that others write meanwhile.
//!
//! A file has one writer at a time, who takes his numbers while he holds the lock: what commits later has higher ones, and
//! nobody has to be waited for. That holds for an `INTEGER PRIMARY KEY`; with `AUTOINCREMENT` also when the newest rows are
//! deleted, whose numbers SQLite would give again otherwise.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Error, Executor, Row, SqlSafeStr, SqliteConnection, Statement};

use super::Place;
use super::errors::connector_error;
use super::open::{BUSY_TIMEOUT, migrate};
use super::read_back;
use super::row_json::row_json;
use crate::connectors::sql_table::cursor_options::{CursorOptions, Rows};
use crate::connectors::sql_table::cursor_reader::{CursorDatabase, CursorRow};
use crate::connectors::sql_table::cursor_source::CursorSource;
use crate::connectors::sql_table::origin::Origin;
use crate::connectors::sql_table::{Migrations, missing_column, quoted};
use crate::connectors::{Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceFactory};
use crate::formats::DecodeOptions;

/// Opens a table, view or query of a file to be read by a cursor.
pub struct SqliteSourceFactory {
    place: Place,
    migrate: Option<Migrations>,
    options: Arc<CursorOptions>,
}

impl SqliteSourceFactory {
    /// For the database at `place`; nobody but us looks after the embedded ones, which migrate themselves. SQLite has no
    /// schemas, so that a name's schema is left out.
    pub fn new(place: Place, migrate: Option<Migrations>, mut options: CursorOptions) -> SqliteSourceFactory {
        if let Rows::Table(name) = &mut options.rows {
            name.schema = None;
        }
        let own = if let Place::Embedded(name) = &place { Migrations::named(name) } else { None };
        SqliteSourceFactory { place, migrate: migrate.or(own), options: Arc::new(options) }
    }

    fn describe_at(&self, file: &Path) -> String {
        let CursorOptions { rows, cursor, .. } = &*self.options;
        format!("SQLite {} by {cursor} in {}", rows.describe(), file.display())
    }
}

#[async_trait]
impl SourceFactory for SqliteSourceFactory {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Format(DecodeOptions::database_rows())
    }

    fn describe(&self) -> String {
        self.describe_at(&self.place.path(Path::new("")))
    }

    async fn instances(&self, _context: &SourceContext, _parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(1)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let path = self.place.path(&context.data_dir);
        let what = self.describe_at(&path);
        let database = SqliteCursor {
            what: what.clone(),
            path,
            is_embedded: matches!(self.place, Place::Embedded(_)),
            migrate: self.migrate,
            options: self.options.clone(),
            schema: context.schema.clone(),
            bounded: context.bounded,
            is_migrated: AtomicBool::new(false),
            waits: AtomicBool::new(false),
        };
        Ok(Box::new(CursorSource::open(database, what, &self.options, context)))
    }
}

struct SqliteCursor {
    what: String,
    path: PathBuf,
    is_embedded: bool,
    migrate: Option<Migrations>,
    options: Arc<CursorOptions>,
    /// The columns that rows are to have.
    schema: SchemaRef,
    bounded: bool,
    is_migrated: AtomicBool,
    /// Whether it has been said that the file is waited for.
    waits: AtomicBool,
}

struct CursorSession {
    connection: SqliteConnection,
    /// The device and number of the open file.
    file: Option<(u64, u64)>,
    origin: Origin,
    page: String,
    newest: String,
    without_cursor: String,
}

impl SqliteCursor {
    fn refused(&self, message: String) -> ConnectorError {
        ConnectorError::Refused { what: self.what.clone(), message }
    }

    fn failed(&self, error: &Error) -> ConnectorError {
        connector_error(&self.what, error)
    }

    /// Which file stands under the path.
    fn file(&self) -> Option<(u64, u64)> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }

    /// An embedded database begins with whoever writes it. Another file may be missing by mistake.
    fn missing(&self, what: &str) -> Result<(), ConnectorError> {
        if self.bounded && !self.is_embedded {
            return Err(self.refused(format!("there is no such {what}, and a bounded run does not wait for it")));
        }
        if !self.waits.swap(true, Ordering::Relaxed) {
            tracing::info!("{}: there is no such {what} yet; its rows are read when it appears", self.what);
        }
        Ok(())
    }

    async fn migrate(&self) -> Result<(), ConnectorError> {
        let Some(set) = self.migrate.filter(|_| !self.is_migrated.load(Ordering::Relaxed)) else { return Ok(()) };
        let mut options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(BUSY_TIMEOUT);
        if self.is_embedded {
            options = options.journal_mode(SqliteJournalMode::Wal);
        }
        let connected = SqliteConnection::connect_with(&options).await;
        let mut connection = connected.map_err(|error| self.failed(&error))?;
        migrate(&mut connection, set, &self.what).await?;
        connection.close().await.map_err(|error| self.failed(&error))?;
        self.is_migrated.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the table or view is there; a query says so itself.
    async fn is_there(&self, connection: &mut SqliteConnection) -> Result<bool, ConnectorError> {
        let Rows::Table(name) = &self.options.rows else { return Ok(true) };
        let found = sqlx::query("SELECT 1 FROM pragma_table_xinfo(?)").bind(&name.name);
        let found = found.fetch_optional(connection).await.map_err(|error| self.failed(&error))?;
        Ok(found.is_some())
    }

    /// The statement for the rows from `?1` to `?2`, at most `?3`.
    async fn page(&self, connection: &mut SqliteConnection) -> Result<String, ConnectorError> {
        let from = self.options.rows.from_clause();
        let select = AssertSqlSafe(format!("SELECT * FROM {from} AS p"));
        let prepared = connection.prepare(select.into_sql_str()).await.map_err(|error| self.failed(&error))?;
        let columns = prepared.columns();
        let names = || columns.iter().map(Column::name);
        let wanted = self.schema.fields().iter().map(|field| field.name().as_str());
        for name in wanted.clone().chain([self.options.cursor.as_str()]) {
            if !names().any(|there| there == name) {
                return Err(self.refused(missing_column(name, names())));
            }
        }
        let cursor = self.options.quoted_cursor();
        let selected: String = wanted.map(|name| format!(", p.{}", quoted(name))).collect();
        Ok(format!(
            "SELECT p.{cursor}{selected} FROM {from} AS p WHERE p.{cursor} >= ?1 AND p.{cursor} <= ?2 \
             ORDER BY p.{cursor} LIMIT ?3"
        ))
    }

    /// When its tables were made, if they are ours; a file has no number of its own.
    async fn origin_of(&self, connection: &mut SqliteConnection) -> Result<Origin, Error> {
        let cursor = ("cursor", Some(self.options.cursor.clone()));
        let ours = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_acequia_migrations'";
        if sqlx::query(ours).fetch_optional(&mut *connection).await?.is_none() {
            return Ok(Origin::new([cursor, ("database", None)]));
        }
        let made = sqlx::query_as("SELECT min(installed_on) FROM _acequia_migrations").fetch_one(connection).await?;
        let (made,): (Option<String>,) = made;
        Ok(Origin::new([cursor, ("database", made.map(|made| format!("of {made}")))]))
    }

    fn cursor_of(&self, row: &SqliteRow) -> Result<i64, ConnectorError> {
        row.try_get(0).map_err(|_| {
            let cursor = &self.options.cursor;
            self.refused(format!(
                "cursor {cursor} is no whole number in some row: name the column that counts the rows"
            ))
        })
    }
}

#[async_trait]
impl CursorDatabase for SqliteCursor {
    type Session = CursorSession;

    async fn connect(&self) -> Result<Option<CursorSession>, ConnectorError> {
        let failed = |error: Error| self.failed(&error);
        let file = self.file();
        if file.is_none() {
            self.missing("file")?;
            return Ok(None);
        }
        self.migrate().await?;
        let mut connection = read_back::connect(&self.path).await.map_err(failed)?;
        if !self.is_there(&mut connection).await? {
            let Rows::Table(name) = &self.options.rows else { return Ok(None) };
            if self.is_embedded {
                self.missing("table")?;
                return Ok(None);
            }
            return Err(self.refused(format!("there is no table or view {name}")));
        }
        let page = self.page(&mut connection).await?;
        let origin = self.origin_of(&mut connection).await.map_err(failed)?;
        let (from, cursor) = (self.options.rows.from_clause(), self.options.quoted_cursor());
        Ok(Some(CursorSession {
            connection,
            file,
            origin,
            page,
            newest: format!(
                "SELECT p.{cursor} FROM {from} AS p WHERE p.{cursor} >= ?1 ORDER BY p.{cursor} DESC LIMIT 1"
            ),
            without_cursor: format!("SELECT 1 FROM {from} AS p WHERE p.{cursor} IS NULL LIMIT 1"),
        }))
    }

    fn origin(&self, session: &CursorSession) -> Origin {
        session.origin.clone()
    }

    async fn newest(&self, session: &mut CursorSession, from: i64) -> Result<Option<i64>, ConnectorError> {
        // Whoever deletes the file goes on writing another one under its name.
        if self.file() != session.file {
            let message = "the file is another one than before; opening it anew".into();
            return Err(ConnectorError::Unavailable { what: self.what.clone(), message });
        }
        let connection = &mut session.connection;
        let without =
            sqlx::query(AssertSqlSafe(session.without_cursor.as_str())).fetch_optional(&mut *connection).await;
        if without.map_err(|error| self.failed(&error))?.is_some() {
            let cursor = &self.options.cursor;
            let message = format!(
                "cursor {cursor} is NULL in some row, which would never be read: fill it, or leave such \
                                   rows out with 'query'"
            );
            return Err(self.refused(message));
        }
        let newest = sqlx::query(AssertSqlSafe(session.newest.as_str())).bind(from).fetch_optional(connection).await;
        newest.map_err(|error| self.failed(&error))?.map(|row| self.cursor_of(&row)).transpose()
    }

    async fn complete(&self, _session: &mut CursorSession) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn page(
        &self,
        session: &mut CursorSession,
        from: i64,
        to: i64,
        limit: i64,
    ) -> Result<Vec<CursorRow>, ConnectorError> {
        let page = sqlx::query(AssertSqlSafe(session.page.as_str())).bind(from).bind(to).bind(limit);
        let rows = page.fetch_all(&mut session.connection).await.map_err(|error| self.failed(&error))?;
        let row = |row: &SqliteRow| {
            let json = row_json(row, &self.schema).map_err(|error| self.failed(&error))?;
            Ok(CursorRow { cursor: self.cursor_of(row)?, json })
        };
        rows.iter().map(row).collect()
    }
}
