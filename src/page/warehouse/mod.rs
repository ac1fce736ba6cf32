//! The warehouse's figures, from PostgreSQL or SQLite: the last minutes by window ([`windows`]), everything by hour
//! ([`tally`]) and the sessions ([`sessions`]), each a part with its own connection. [`sql`] is what differs.

pub mod sessions;
pub mod sql;
pub mod tally;
pub mod windows;

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, FromRow};

use crate::connectors::looking::{Database, PATIENCE, TableDatabase};

/// How long a query may take. The server itself ends those of [`PATIENCE`].
const QUERY_PATIENCE: Duration = Duration::from_secs(4);

/// Nothing is written, and no query goes on for long.
const SETTINGS: &str = "SELECT set_config('statement_timeout', '2s', false), \
    set_config('default_transaction_read_only', 'on', false), set_config('lock_timeout', '1s', false)";

/// A table of the warehouse, with a connection while it is looked at.
pub struct Warehouse {
    table: TableDatabase,
    link: Option<Link>,
}

enum Link {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// Why a query gave no rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Where it is and what happened, for a person.
    pub message: String,
    /// Whether it would have taken too long: one for fewer rows may do.
    pub is_slow: bool,
}

impl From<Failure> for String {
    fn from(failure: Failure) -> String {
        failure.message
    }
}

/// Rows of one shape, whatever their database.
pub trait Rows: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

impl<T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin> Rows for T {}

impl Warehouse {
    /// Connects to nothing yet.
    pub fn new(table: TableDatabase) -> Warehouse {
        Warehouse { table, link: None }
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> sql::Dialect {
        match self.table.database {
            Database::Postgres(_) => sql::Dialect::Postgres,
            Database::Sqlite(_) => sql::Dialect::Sqlite,
        }
    }

    /// The table as it stands in a statement.
    pub fn table(&self) -> &str {
        &self.table.table
    }

    /// All rows of a query, which holds nothing from outside but numbers.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn rows<T: Rows>(&mut self, query: String) -> Result<Vec<T>, Failure> {
        // Whatever goes wrong, the next query connects again.
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connected().await.map_err(|message| Failure { message, is_slow: false })?,
        };
        let query = AssertSqlSafe(query);
        let asked = async {
            match &mut link {
                Link::Postgres(connection) => sqlx::query_as::<_, T>(query).fetch_all(connection).await,
                Link::Sqlite(connection) => sqlx::query_as::<_, T>(query).fetch_all(connection).await,
            }
        };
        match tokio::time::timeout(QUERY_PATIENCE, asked).await {
            Ok(Ok(rows)) => {
                self.link = Some(link);
                Ok(rows)
            }
            Ok(Err(error)) => Err(Failure { message: self.said(&error), is_slow: is_cancelled(&error) }),
            Err(_) => Err(Failure { message: self.silent(QUERY_PATIENCE), is_slow: true }),
        }
    }

    /// The one row of a query.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub async fn row<T: Rows>(&mut self, query: String) -> Result<T, String> {
        let rows = self.rows(query).await.map_err(String::from)?;
        rows.into_iter().next().ok_or_else(|| format!("{}: a query gave no row", self.table.place))
    }

    /// Closes the connection.
    pub fn rest(&mut self) {
        self.link = None;
    }

    async fn connected(&self) -> Result<Link, String> {
        let connecting = async {
            match &self.table.database {
                Database::Postgres(server) => {
                    let server = server.as_ref().clone().application_name("acequia page");
                    let mut connection = PgConnection::connect_with(&server).await?;
                    sqlx::query(SETTINGS).execute(&mut connection).await?;
                    Ok(Link::Postgres(connection))
                }
                Database::Sqlite(path) if !path.exists() => {
                    Err(sqlx::Error::Configuration("it is not there yet".into()))
                }
                Database::Sqlite(path) => {
                    let options =
                        SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE).pragma("query_only", "ON");
                    Ok(Link::Sqlite(SqliteConnection::connect_with(&options).await?))
                }
            }
        };
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(link) => link.map_err(|error: sqlx::Error| self.said(&error)),
            Err(_) => Err(self.silent(PATIENCE)),
        }
    }

    fn said(&self, error: &sqlx::Error) -> String {
        let place = &self.table.place;
        match error {
            sqlx::Error::Database(error) => format!("{place}: {}", error.message()),
            sqlx::Error::Configuration(error) => format!("{place}: {error}"),
            error => format!("{place}: {error}"),
        }
    }

    fn silent(&self, patience: Duration) -> String {
        format!("{}: no answer within {} s", self.table.place, patience.as_secs())
    }
}

/// Whether the server has ended the query after its own patience.
fn is_cancelled(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57014"))
}
