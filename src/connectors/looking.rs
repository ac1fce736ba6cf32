//! How to look at a table's place from outside the pipeline: for the page, which shows what is there now and whether
//! the server answers.
//!
//! Whoever looks has connections of its own and waits for nothing: an answer that takes longer than [`PATIENCE`] is an
//! error, and the next look connects again.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use sqlx::postgres::PgConnectOptions;

use super::ConnectorError;

/// How long one answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The rows of a table of which the destination keeps the newest for each key.
#[async_trait]
pub trait CurrentRows: Send {
    /// Where they are, such as `Redis at localhost:6379`. Holds no secret.
    fn place(&self) -> String;

    /// All rows that are there now, in the order of their keys.
    ///
    /// # Errors
    /// When the destination does not answer in time, or refuses.
    async fn rows(&mut self) -> Result<Vec<Map<String, Value>>, ConnectorError>;

    /// Closes the connection; the next [`CurrentRows::rows`] opens another.
    fn rest(&mut self);
}

/// Whether a server answers.
#[async_trait]
pub trait Reach: Send {
    /// Where it is, such as `Kafka at localhost:9092`. Holds no secret.
    fn place(&self) -> String;

    /// Asks the server for something small.
    ///
    /// # Errors
    /// When it does not answer in time, or refuses.
    async fn answers(&mut self) -> Result<(), ConnectorError>;

    /// Closes the connection; the next [`Reach::answers`] opens another.
    fn rest(&mut self);
}

/// The database in which a table lies.
#[derive(Clone)]
pub struct TableDatabase {
    /// Which database.
    pub database: Database,
    /// The table's name as it stands in a statement there.
    pub table: String,
    /// Where it is, such as `PostgreSQL at localhost:5432/shop`. Holds no secret.
    pub place: String,
}

/// A database, of one of the two kinds.
#[derive(Clone)]
pub enum Database {
    /// A server.
    Postgres(Box<PgConnectOptions>),
    /// A file, which may not be there yet.
    Sqlite(PathBuf),
}
