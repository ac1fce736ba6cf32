//! One sink's row among the markers: fenced when the sink opens, locked by every transaction, moved on with the rows.
//!
//! Who holds the row's lock knows that no other run can commit. So a run that was stopped and wakes up meets its
//! successor's incarnation under the lock, and writes nothing.

use super::create::Dialect;
use super::database::{Database, Failure, Value};
use super::own_tables::OwnTable;
use crate::connectors::ConnectorError;
use crate::connectors::delivery::{Marker, Writer};
use crate::faults::{Bug, planted};
use crate::time::Epoch;

/// The marker of one sink.
pub struct Markers {
    what: String,
    writer: Writer,
    sink: String,
    read: String,
    lock: String,
    share: String,
    claim: String,
    fence: String,
    advance: String,
}

impl Markers {
    /// The marker of the table `sink` of the writer's pipeline; `what` names the destination in messages.
    pub fn new(dialect: Dialect, what: &str, writer: Writer, sink: &str) -> Markers {
        let table = OwnTable::Epochs.name(dialect);
        let ours = "WHERE pipeline = $1 AND sink = $2";
        let read = format!("SELECT log, incarnation, epoch FROM {table} {ours}");
        let locked = |how: &str| match dialect {
            Dialect::Postgres => format!("{read} FOR {how}"),
            // Its transactions that write come one at a time.
            Dialect::Sqlite => read.clone(),
        };
        Markers {
            what: what.into(),
            writer,
            sink: sink.into(),
            lock: locked("UPDATE"),
            share: locked("SHARE"),
            read,
            claim: format!(
                "INSERT INTO {table} (pipeline, sink, log, incarnation, epoch, rows) VALUES ($1, $2, $3, 0, 0, 0) \
                 ON CONFLICT (pipeline, sink) DO NOTHING"
            ),
            fence: format!("UPDATE {table} SET log = $3, incarnation = $4, epoch = $5 {ours}"),
            advance: format!(
                "UPDATE {table} SET incarnation = $3, epoch = $4, rows = $5, delivered_at = CURRENT_TIMESTAMP {ours}"
            ),
        }
    }

    /// Fences earlier runs within the open transaction, and gives the last epoch that the table has.
    ///
    /// # Errors
    /// When a later run has been there, or the rows there belong to other checkpoints.
    pub async fn fence<D: Database>(
        &self,
        database: &D,
        connection: &mut D::Connection,
    ) -> Result<Option<Epoch>, Failure> {
        let [pipeline, sink] = self.ours();
        let early = match planted(Bug::MarkerBeforeFence) {
            true => Some(database.marker(connection, &self.read, &[pipeline, sink]).await?),
            false => None,
        };
        let log = Value::Text(&self.writer.log.0);
        database.run(connection, &self.claim, &[pipeline, sink, log]).await?;
        let found = database.marker(connection, &self.lock, &[pipeline, sink]).await?;
        let found = early.unwrap_or(found);
        // Epoch 0: the row was made, but nothing was ever delivered.
        let delivered = found.filter(|found| found.epoch > Epoch(0) || found.log == self.writer.log);
        let settled = self.writer.resume(&self.what, delivered.as_ref())?.filter(|epoch| *epoch > Epoch(0));
        let epoch = Value::Integer(settled.unwrap_or_default().0 as i64);
        database.run(connection, &self.fence, &[pipeline, sink, log, self.incarnation(), epoch]).await?;
        Ok(settled)
    }

    /// Locks the marker until the end of the transaction and gives the last epoch that the table has.
    ///
    /// # Errors
    /// [`ConnectorError::Fenced`] when a later run has taken over.
    pub async fn lock<D: Database>(&self, database: &D, connection: &mut D::Connection) -> Result<Epoch, Failure> {
        self.judge(database.marker(connection, &self.lock, &self.ours()).await?)
    }

    /// Makes sure that no later run takes over until the end of the transaction.
    ///
    /// # Errors
    /// As for [`Markers::lock`].
    pub async fn share<D: Database>(&self, database: &D, connection: &mut D::Connection) -> Result<(), Failure> {
        self.judge(database.marker(connection, &self.share, &self.ours()).await?).map(|_| ())
    }

    /// Moves the marker on, with the number of rows that were written.
    ///
    /// # Errors
    /// The database's.
    pub async fn advance<D: Database>(
        &self,
        database: &D,
        connection: &mut D::Connection,
        epoch: Epoch,
        rows: usize,
    ) -> Result<(), Failure> {
        let [pipeline, sink] = self.ours();
        let values = [pipeline, sink, self.incarnation(), Value::Integer(epoch.0 as i64), Value::Integer(rows as i64)];
        database.run(connection, &self.advance, &values).await
    }

    fn judge(&self, found: Option<Marker>) -> Result<Epoch, Failure> {
        let Some(found) = found else {
            return Err(Failure::Error(ConnectorError::Mismatch {
                what: self.what.clone(),
                message: format!(
                    "its marker (pipeline {}, sink {}) is gone from the table of epochs, so that nobody knows which \
                     rows it has: restore both from one backup, or begin anew with --fresh",
                    self.writer.pipeline, self.sink
                ),
            }));
        };
        if found.log != self.writer.log || found.incarnation > self.writer.incarnation {
            return Err(Failure::Error(self.writer.fenced(&self.what, &found)));
        }
        Ok(found.epoch)
    }

    fn ours(&self) -> [Value<'_>; 2] {
        [Value::Text(&self.writer.pipeline), Value::Text(&self.sink)]
    }

    fn incarnation(&self) -> Value<'_> {
        Value::Integer(self.writer.incarnation.0 as i64)
    }
}
