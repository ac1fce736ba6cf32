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
    /// Where it is and what happened, for a person.
    pub async fn rows<T: Rows>(&mut self, query: String) -> Result<Vec<T>, String> {
        // Whatever goes wrong, the next query connects again.
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connected().await?,
        };
        let query = AssertSqlSafe(query);
        let asked = async {
            match &mut link {
                Link::Postgres(connection) => sqlx::query_as::<_, T>(query).fetch_all(connection).await,
                Link::Sqlite(connection) => sqlx::query_as::<_, T>(query).fetch_all(connection).await,
            }
        };
        let rows = self.in_time(QUERY_PATIENCE, asked).await?;
        self.link = Some(link);
        Ok(rows)
    }

    /// The one row of a query.
    ///
    /// # Errors
    /// As for [`Warehouse::rows`].
    pub async fn row<T: Rows>(&mut self, query: String) -> Result<T, String> {
        let rows = self.rows(query).await?;
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
        self.in_time(PATIENCE, connecting).await
    }

    async fn in_time<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, String> {
        let place = &self.table.place;
        match tokio::time::timeout(patience, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(sqlx::Error::Database(error))) => Err(format!("{place}: {}", error.message())),
            Ok(Err(sqlx::Error::Configuration(error))) => Err(format!("{place}: {error}")),
            Ok(Err(error)) => Err(format!("{place}: {error}")),
            Err(_) => Err(format!("{place}: no answer within {} s", patience.as_secs())),
        }
    }
}
