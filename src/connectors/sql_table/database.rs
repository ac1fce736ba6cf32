//! What a transaction needs of a database: the little in which PostgreSQL and SQLite differ.

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::create::Dialect;
use super::own_tables::OwnTable;
use crate::connectors::ConnectorError;
use crate::connectors::delivery::Marker;
use crate::time::{Epoch, Incarnation, LogId};

/// Rows refused within one transaction, by their number in it, with the database's words.
pub type Refusals = Vec<(usize, String)>;

/// Why a step of a transaction failed.
#[derive(Debug)]
pub enum Failure {
    /// A value of some row is to blame, in the database's words.
    Row(String),
    /// Somebody else holds a lock for too long.
    Locked(ConnectorError),
    /// Anything else: the connection is of no use any more.
    Error(ConnectorError),
}

impl From<ConnectorError> for Failure {
    fn from(error: ConnectorError) -> Failure {
        Failure::Error(error)
    }
}

/// A value of one of Acequia's own tables.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
}

/// A query of sqlx with these values bound, whatever its database.
macro_rules! bound {
    ($query:expr, $values:expr) => {
        $values.iter().fold($query, |query, value| match *value {
            Value::Text(text) => query.bind(text.to_owned()),
            Value::Integer(number) => query.bind(number),
        })
    };
}
pub(crate) use bound;

/// A marker as a row: its log, incarnation and epoch.
pub type MarkerRow = (String, i64, i64);

/// The marker that a row holds.
pub fn marker_of((log, incarnation, epoch): MarkerRow) -> Marker {
    Marker { log: LogId(log), incarnation: Incarnation(incarnation as u64), epoch: Epoch(epoch as u64) }
}

/// Where a crash could matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Earlier runs are fenced.
    Fenced,
    /// The transaction is open and nothing is written.
    BeforeData,
    /// The rows are written.
    BeforeMarker,
    /// All is written.
    BeforeCommit,
    /// The transaction is committed, which nobody knows yet.
    AfterCommit,
}

/// One table of a database. Statements give their values as `$1`, `$2` and so on.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// A connection that is ready for [`Database::insert`].
    type Connection: Send;

    /// Whose SQL it is.
    const DIALECT: Dialect;
    /// Begins a transaction in which each row's constraints are checked as it is written, not at its end.
    const BEGIN_STRICT: &'static [&'static str];

    /// Connects, without waiting for a database that is away.
    ///
    /// # Errors
    /// The database's.
    async fn connect(&self) -> Result<Self::Connection, ConnectorError>;

    /// Makes those of Acequia's own tables that are missing.
    ///
    /// # Errors
    /// The database's; about missing rights with the statements that give them.
    async fn make(&self, connection: &mut Self::Connection, tables: &[OwnTable]) -> Result<(), Failure>;

    /// Begins a transaction that will write.
    ///
    /// # Errors
    /// The database's.
    async fn begin(&self, connection: &mut Self::Connection) -> Result<(), Failure>;

    /// Runs a statement.
    ///
    /// # Errors
    /// The database's.
    async fn run(
        &self,
        connection: &mut Self::Connection,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<(), Failure>;

    /// Runs a query for a marker's log, incarnation and epoch.
    ///
    /// # Errors
    /// The database's.
    async fn marker(
        &self,
        connection: &mut Self::Connection,
        query: &str,
        values: &[Value<'_>],
    ) -> Result<Option<Marker>, Failure>;

    /// Writes rows within the open transaction. Those with a value that cannot even be sent are left out and given
    /// back.
    ///
    /// # Errors
    /// [`Failure::Row`] when the database refuses some row, or another failure.
    async fn insert(&self, connection: &mut Self::Connection, rows: &[RecordBatch]) -> Result<Refusals, Failure>;

    /// Ends sessions on the server that nobody speaks for any more and that may still hold locks: ours before the
    /// connection was lost and, for one who is `opening`, those of earlier runs. `connection` has failed by a lock.
    async fn end_sessions(&self, connection: &mut Self::Connection, opening: bool);

    /// Closes the connection, on which no transaction is open.
    ///
    /// # Errors
    /// The database's.
    async fn close(&self, connection: Self::Connection) -> Result<(), ConnectorError>;

    /// The transaction has come to this place: see `crash_point!`.
    fn passes(&self, place: Place);
}
