//! Rows into a SQLite file: a group is one transaction, and the file has one writer at a time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;
use parking_lot::Mutex;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Executor, QueryBuilder, Row, Sqlite, SqliteConnection};
use tokio_util::sync::CancellationToken;

use super::base_data::{self, Tables};
use super::rows::{Part, Rows};
use crate::connectors::ConnectorError;
use crate::connectors::retry::until_available;
use crate::connectors::sql_table::Migrations;
use crate::connectors::sqlite::errors::connector_error;
use crate::connectors::sqlite::migrate;
use crate::shop::{Catalogue, Customer};

/// How long a statement waits for another process's transaction before it is tried again.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The write lock at once: who begins to read and then writes may find that another has written meanwhile.
const BEGIN: &str = "BEGIN IMMEDIATE";
/// Rows of a statement: seven values each stay below what SQLite takes.
const ROWS: usize = 1000;

/// A file with the shop's or the CRM's tables, or both.
pub(super) struct SqliteFile {
    what: String,
    path: PathBuf,
    connection: Mutex<Option<SqliteConnection>>,
    stop: CancellationToken,
}

impl SqliteFile {
    pub(super) fn new(path: PathBuf, stop: CancellationToken) -> SqliteFile {
        SqliteFile { what: format!("SQLite file {}", path.display()), path, connection: Mutex::new(None), stop }
    }

    /// Brings the shop's tables up to date and makes what base data is missing.
    pub(super) async fn open_shop(&self, seed: u64) -> Result<Catalogue, ConnectorError> {
        self.make_folder()?;
        until_available(&self.what, &self.stop, || async {
            let mut connection = self.take().await?;
            migrate(&mut connection, Migrations::Shop, &self.what).await?;
            let catalogue = prepare_shop(&mut connection, seed).await;
            let catalogue = catalogue.map_err(|error| connector_error(&self.what, &error))?;
            self.keep(connection);
            Ok(catalogue)
        })
        .await
    }

    /// Brings the CRM's tables up to date and makes what base data is missing.
    pub(super) async fn open_crm(&self, customers: &[Customer]) -> Result<(), ConnectorError> {
        self.make_folder()?;
        until_available(&self.what, &self.stop, || async {
            let mut connection = self.take().await?;
            migrate(&mut connection, Migrations::Crm, &self.what).await?;
            let prepared = prepare_crm(&mut connection, customers).await;
            prepared.map_err(|error| connector_error(&self.what, &error))?;
            self.keep(connection);
            Ok(())
        })
        .await
    }

    /// Writes the rows of the part's tables, all or none.
    pub(super) async fn write(&self, part: Part, rows: &Rows) -> Result<(), ConnectorError> {
        until_available(&self.what, &self.stop, || async {
            let mut connection = self.take().await?;
            let written = write_all(&mut connection, part, rows).await;
            written.map_err(|error| connector_error(&self.what, &error))?;
            self.keep(connection);
            Ok(())
        })
        .await
    }

    /// The connection that was kept, or a new one. One on which something goes wrong is not kept again.
    async fn take(&self) -> Result<SqliteConnection, ConnectorError> {
        let kept = self.connection.lock().take();
        match kept {
            Some(connection) => Ok(connection),
            None => self.connect().await,
        }
    }

    fn keep(&self, connection: SqliteConnection) {
        *self.connection.lock() = Some(connection);
    }

    async fn connect(&self) -> Result<SqliteConnection, ConnectorError> {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            // A row that a reader has seen must not be gone after a power failure, or its id would be given out again.
            .synchronous(SqliteSynchronous::Full);
        let connection = SqliteConnection::connect_with(&options).await;
        connection.map_err(|error| connector_error(&self.what, &error))
    }

    fn make_folder(&self) -> Result<(), ConnectorError> {
        let folder = self.path.parent().filter(|folder| *folder != Path::new(""));
        folder.map_or(Ok(()), std::fs::create_dir_all).map_err(|error| ConnectorError::Refused {
            what: self.what.clone(),
            message: format!("its folder cannot be made: {error}"),
        })
    }
}

async fn prepare_shop(connection: &mut SqliteConnection, seed: u64) -> Result<Catalogue, sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let catalogue = base_data::of_shop(&mut *transaction, seed).await?;
    transaction.commit().await?;
    Ok(catalogue)
}

async fn prepare_crm(connection: &mut SqliteConnection, customers: &[Customer]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    base_data::of_crm(&mut *transaction, customers).await?;
    transaction.commit().await
}

async fn write_all(connection: &mut SqliteConnection, part: Part, rows: &Rows) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    match part {
        Part::Shop => {
            write_transactions(&mut transaction, rows).await?;
            write_behaviours(&mut transaction, rows).await?;
        }
        Part::Crm => write_interactions(&mut transaction, rows).await?,
    }
    transaction.commit().await
}

impl Tables for SqliteConnection {
    async fn read(&mut self, query: &'static str) -> Result<Vec<Vec<String>>, sqlx::Error> {
        let rows = sqlx::query(query).fetch_all(self).await?;
        rows.iter().map(|row| (0..row.len()).map(|column| row.try_get(column)).collect()).collect()
    }

    async fn run(&mut self, statement: &str) -> Result<(), sqlx::Error> {
        self.execute(AssertSqlSafe(statement.to_owned())).await.map(|_| ())
    }
}

async fn write_transactions(connection: &mut SqliteConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    let mut ids = Vec::with_capacity(rows.transactions.len());
    for rows in rows.transactions.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO \"transaction\" (buyer_id, customer_id, transaction_date, total_amount, payment_method, status) ",
        );
        insert.push_values(rows, |mut values, row| {
            values.push_bind(row.buyer_id).push_bind(row.customer_id).push_bind(time(row.at));
            values.push_bind(amount(row.total)).push_bind(row.payment_method).push_bind(row.status);
        });
        let last = insert.build().execute(&mut *connection).await?.last_insert_rowid();
        // One statement of the only writer numbers its rows one after the other.
        ids.extend(last - rows.len() as i64 + 1..=last);
    }
    for rows in rows.details.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO transactiondetail (transaction_id, product_id, quantity, unit_price) ",
        );
        insert.push_values(rows, |mut values, row| {
            values.push_bind(ids[row.transaction]).push_bind(row.product_id);
            values.push_bind(row.quantity).push_bind(amount(row.unit_price));
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_behaviours(connection: &mut SqliteConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    for rows in rows.behaviours.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO userbehavior (customer_id, event_type, product_id, session_id, timestamp, metadata) ",
        );
        insert.push_values(rows, |mut values, row| {
            values.push_bind(row.customer_id).push_bind(row.event_type).push_bind(row.product_id);
            values.push_bind(&row.session_id).push_bind(time(row.at)).push_bind(&row.metadata);
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_interactions(connection: &mut SqliteConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    for rows in rows.interactions.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO interaction (customer_id, interaction_type, channel, interaction_date, status) ",
        );
        insert.push_values(rows, |mut values, row| {
            values.push_bind(row.customer_id).push_bind(row.interaction_type).push_bind(row.channel);
            values.push_bind(time(row.at)).push_bind(row.status);
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// `2026-01-31 12:00:00.500`, in UTC.
fn time(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).unwrap_or_default().format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// `19.90`; its column makes a number of it.
fn amount(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_amounts_are_as_sqlite_reads_them() {
        assert_eq!(time(1_769_860_800_500), "2026-01-31 12:00:00.500");
        assert_eq!((amount(5), amount(1990)), ("0.05".into(), "19.90".into()));
    }
}
