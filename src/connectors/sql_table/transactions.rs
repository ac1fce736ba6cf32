//! Rows into a table, one transaction at a time, over a connection that is made again when it is lost.
//!
//! A transaction locks or shares the sink's marker, writes the rows, puts those that the database refuses among the dead
//! letters, moves the marker on and commits. Whether a commit that was not answered happened is told by the marker.

use std::ops::Range;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::SqlTableOptions;
use super::database::{Database, Failure, Place, Refusals, Value};
use super::markers::Markers;
use super::own_tables::OwnTable;
use super::savepoints::{Attempt, Savepoints, write_accepted};
use crate::connectors::delivery::Promise;
use crate::connectors::refused_rows::{OnError, RefusedRows, row_json};
use crate::connectors::retry::until_available;
use crate::connectors::{ConnectorError, SinkContext};
use crate::faults::{Bug, planted};
use crate::time::Epoch;

/// Rows are handed to the database in pieces of at most so many: what is converted at a time.
const PIECE: usize = 8192;

/// The transactions of one sink.
pub struct Transactions<D: Database> {
    what: String,
    database: D,
    markers: Option<Markers>,
    pipeline: String,
    sink: String,
    bury: String,
    policy: OnError,
    state: Mutex<State<D::Connection>>,
    refused: RefusedRows,
    stop: CancellationToken,
}

struct State<C> {
    /// `None` after an error: the next transaction connects again.
    connection: Option<C>,
    /// The refused rows of the last transaction that may have been committed.
    last_refused: Refusals,
}

/// What a transaction is about.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// Rows as they come.
    Rows,
    /// An epoch, where the table is known to have all epochs up to `settled`.
    Epoch { epoch: Epoch, settled: Epoch },
}

/// What came of a transaction.
enum Outcome {
    /// It is committed, or, when refused rows stop the pipeline, taken back.
    Written(Refusals),
    /// Nothing was written, because the table has this epoch as its last.
    Has(Epoch),
}

/// Whether every row is to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    AtOnce,
    ByHalves,
}

impl<D: Database> Transactions<D> {
    /// Goes on with an open `connection`: makes Acequia's own tables and, for a run with checkpoints that promises each
    /// row once, fences earlier runs. Also gives the last epoch that the table has.
    ///
    /// # Errors
    /// When the database refuses, or another run has taken over.
    pub async fn open(
        what: String,
        database: D,
        connection: D::Connection,
        table: &SqlTableOptions,
        context: SinkContext,
    ) -> Result<(Transactions<D>, Option<Epoch>), ConnectorError> {
        let writer = context.writer.filter(|_| table.promise == Promise::ExactlyOnce);
        let row = if D::DIALECT == super::create::Dialect::Postgres { "$5::json" } else { "$5" };
        let transactions = Transactions {
            markers: writer.map(|writer| Markers::new(D::DIALECT, &what, writer, &context.table)),
            refused: RefusedRows::new(table.on_error, what.clone()),
            bury: format!(
                "INSERT INTO {} (pipeline, sink, epoch, error, refused_row) VALUES ($1, $2, NULLIF($3, 0), $4, {row})",
                OwnTable::DeadLetters.name(D::DIALECT)
            ),
            what,
            database,
            pipeline: context.pipeline,
            sink: context.table,
            policy: table.on_error,
            state: Mutex::new(State { connection: Some(connection), last_refused: vec![] }),
            stop: context.stop,
        };
        let settled = until_available(&transactions.what, &transactions.stop, || transactions.take_over()).await?;
        transactions.database.passes(Place::Fenced);
        Ok((transactions, settled))
    }

    /// What names the table in messages.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How many rows were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.skipped()
    }

    /// Writes rows as they come. After a commit that was not answered they are written again.
    ///
    /// # Errors
    /// When waiting cannot help.
    pub async fn store(&mut self, rows: &[RecordBatch]) -> Result<(), ConnectorError> {
        self.transact(rows, Aim::Rows).await.map(|_| ())
    }

    /// Writes the rows of an epoch and moves the marker on, unless that is done already; gives the last epoch that the
    /// table has then. `settled` is the last one that it is known to have; if it has lost that, nothing is written.
    ///
    /// # Errors
    /// When waiting cannot help.
    pub async fn deliver(
        &mut self,
        epoch: Epoch,
        settled: Epoch,
        rows: &[RecordBatch],
    ) -> Result<Epoch, ConnectorError> {
        let has = self.transact(rows, Aim::Epoch { epoch, settled }).await?;
        Ok(has.unwrap_or(epoch))
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// The database's.
    pub async fn close(&mut self) -> Result<(), ConnectorError> {
        match self.state.get_mut().connection.take() {
            Some(connection) => self.database.close(connection).await,
            None => Ok(()),
        }
    }

    async fn transact(&mut self, batches: &[RecordBatch], aim: Aim) -> Result<Option<Epoch>, ConnectorError> {
        let rows = Rows::new(batches);
        self.state.get_mut().last_refused.clear();
        let outcome = until_available(&self.what, &self.stop, || self.attempt(&rows, aim)).await?;
        let (refusals, has) = match outcome {
            Outcome::Written(refusals) => (refusals, None),
            // They are there since a commit that was not answered.
            Outcome::Has(has) => (std::mem::take(&mut self.state.get_mut().last_refused), Some(has)),
        };
        for (row, message) in refusals {
            let (batch, row) = rows.at(row);
            self.refused.refuse(batch, row, &message)?;
        }
        Ok(has)
    }

    /// One try at making our tables and fencing earlier runs.
    async fn take_over(&self) -> Result<Option<Epoch>, ConnectorError> {
        let mut state = self.state.lock().await;
        let mut connection = self.connection(&mut state).await?;
        let outcome = async {
            let epochs = self.markers.is_some().then_some(OwnTable::Epochs);
            let letters = (self.policy == OnError::DeadLetters).then_some(OwnTable::DeadLetters);
            let tables: Vec<OwnTable> = epochs.into_iter().chain(letters).collect();
            self.database.make(&mut connection, &tables).await?;
            let Some(markers) = &self.markers else { return Ok(None) };
            self.database.begin(&mut connection).await?;
            let settled = markers.fence(&self.database, &mut connection).await?;
            self.database.run(&mut connection, "COMMIT", &[]).await?;
            Ok(settled)
        };
        let outcome = outcome.await;
        self.done(&mut state, connection, outcome, true).await
    }

    /// One try at one transaction.
    async fn attempt(&self, rows: &Rows<'_>, aim: Aim) -> Result<Outcome, ConnectorError> {
        let mut state = self.state.lock().await;
        let mut connection = self.connection(&mut state).await?;
        let mut outcome = self.transaction(&mut state, &mut connection, rows, aim, Pace::AtOnce).await;
        if let Err(Failure::Row(_)) = outcome {
            // A trigger may have rolled it back already.
            if self.database.run(&mut connection, "ROLLBACK", &[]).await.is_err() {
                connection = self.database.connect().await?;
            }
            outcome = self.transaction(&mut state, &mut connection, rows, aim, Pace::ByHalves).await;
        }
        self.done(&mut state, connection, outcome, false).await
    }

    async fn connection(&self, state: &mut State<D::Connection>) -> Result<D::Connection, ConnectorError> {
        match state.connection.take() {
            Some(connection) => Ok(connection),
            None => self.database.connect().await,
        }
    }

    /// Keeps the connection only when it is in a known state.
    async fn done<T>(
        &self,
        state: &mut State<D::Connection>,
        mut connection: D::Connection,
        outcome: Result<T, Failure>,
        opening: bool,
    ) -> Result<T, ConnectorError> {
        match outcome {
            Ok(outcome) => {
                state.connection = Some(connection);
                Ok(outcome)
            }
            Err(Failure::Locked(error)) => {
                self.database.end_sessions(&mut connection, opening).await;
                Err(error)
            }
            Err(Failure::Row(message)) => Err(ConnectorError::Refused { what: self.what.clone(), message }),
            Err(Failure::Error(error)) => Err(error),
        }
    }

    async fn transaction(
        &self,
        state: &mut State<D::Connection>,
        connection: &mut D::Connection,
        rows: &Rows<'_>,
        aim: Aim,
        pace: Pace,
    ) -> Result<Outcome, Failure> {
        let database = &self.database;
        database.begin(connection).await?;
        match (&self.markers, aim) {
            (Some(markers), Aim::Rows) => markers.share(database, connection).await?,
            (Some(markers), Aim::Epoch { epoch, settled }) => {
                let has = markers.lock(database, connection).await?;
                let lost = has < settled && !planted(Bug::RewindForgotten);
                if has >= epoch || lost {
                    database.run(connection, "ROLLBACK", &[]).await?;
                    return Ok(Outcome::Has(has));
                }
                if planted(Bug::MarkerBeforeData) {
                    markers.advance(database, connection, epoch, 0).await?;
                    database.run(connection, "COMMIT", &[]).await?;
                    database.begin(connection).await?;
                }
            }
            (None, _) => {}
        }
        database.passes(Place::BeforeData);
        let refusals = match pace {
            Pace::AtOnce => database.insert(connection, &rows.pieces(0..rows.count)).await?,
            Pace::ByHalves => {
                for statement in D::BEGIN_STRICT {
                    database.run(connection, statement, &[]).await?;
                }
                let mut halves = Halves { database, connection, rows };
                write_accepted(&mut halves, rows.count, self.policy == OnError::Fail).await?
            }
        };
        if self.policy == OnError::Fail && !refusals.is_empty() {
            database.run(connection, "ROLLBACK", &[]).await?;
            return Ok(Outcome::Written(refusals));
        }
        if self.policy == OnError::DeadLetters {
            self.bury(connection, rows, aim, &refusals).await?;
        }
        database.passes(Place::BeforeMarker);
        if let (Some(markers), Aim::Epoch { epoch, .. }) = (&self.markers, aim) {
            markers.advance(database, connection, epoch, rows.count - refusals.len()).await?;
        }
        database.passes(Place::BeforeCommit);
        state.last_refused.clone_from(&refusals);
        database.run(connection, "COMMIT", &[]).await?;
        database.passes(Place::AfterCommit);
        Ok(Outcome::Written(refusals))
    }

    /// Puts refused rows into the table of dead letters.
    async fn bury(
        &self,
        connection: &mut D::Connection,
        rows: &Rows<'_>,
        aim: Aim,
        refusals: &Refusals,
    ) -> Result<(), Failure> {
        let epoch = match aim {
            Aim::Rows => Epoch(0),
            Aim::Epoch { epoch, .. } => epoch,
        };
        for (number, message) in refusals {
            let (batch, row) = rows.at(*number);
            let json = row_json(batch, row).unwrap_or_else(|| "null".into());
            let (pipeline, sink) = (Value::Text(&self.pipeline), Value::Text(&self.sink));
            let values = [pipeline, sink, Value::Integer(epoch.0 as i64), Value::Text(message), Value::Text(&json)];
            self.database.run(connection, &self.bury, &values).await?;
        }
        Ok(())
    }
}

/// The rows of a transaction, numbered over all of its batches.
struct Rows<'a> {
    batches: &'a [RecordBatch],
    count: usize,
}

impl<'a> Rows<'a> {
    fn new(batches: &'a [RecordBatch]) -> Rows<'a> {
        Rows { batches, count: batches.iter().map(RecordBatch::num_rows).sum() }
    }

    /// The rows of `range`, in pieces that share their memory with the batches.
    fn pieces(&self, range: Range<usize>) -> Vec<RecordBatch> {
        let mut pieces = vec![];
        let mut first = 0;
        for batch in self.batches {
            let from = range.start.clamp(first, first + batch.num_rows()) - first;
            let to = range.end.clamp(first, first + batch.num_rows()) - first;
            pieces.extend((from..to).step_by(PIECE).map(|at| batch.slice(at, PIECE.min(to - at))));
            first += batch.num_rows();
        }
        pieces
    }

    /// The batch that holds a row, and the row's place in it.
    fn at(&self, mut number: usize) -> (&'a RecordBatch, usize) {
        for batch in self.batches {
            if number < batch.num_rows() {
                return (batch, number);
            }
            number -= batch.num_rows();
        }
        unreachable!("row {number} past the end")
    }
}

/// A transaction in which each step can be taken back.
struct Halves<'a, D: Database> {
    database: &'a D,
    connection: &'a mut D::Connection,
    rows: &'a Rows<'a>,
}

#[async_trait]
impl<D: Database> Savepoints for Halves<'_, D> {
    async fn attempt(&mut self, range: Range<usize>) -> Result<Attempt, Failure> {
        self.database.run(self.connection, "SAVEPOINT step", &[]).await?;
        let attempt = match self.database.insert(self.connection, &self.rows.pieces(range)).await {
            Ok(left_out) => Attempt::Written(left_out),
            Err(Failure::Row(message)) => {
                self.database.run(self.connection, "ROLLBACK TO SAVEPOINT step", &[]).await?;
                Attempt::Refused(message)
            }
            Err(failure) => return Err(failure),
        };
        self.database.run(self.connection, "RELEASE SAVEPOINT step", &[]).await?;
        Ok(attempt)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(values: Range<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)]).unwrap()
    }

    #[test]
    fn rows_are_numbered_over_all_batches() {
        let batches = [batch(0..3), batch(3..3), batch(3..20_000)];
        let rows = Rows::new(&batches);
        let values = |range| -> Vec<i64> {
            let pieces = rows.pieces(range);
            assert!(pieces.iter().all(|piece| (1..=PIECE).contains(&piece.num_rows())));
            pieces.iter().flat_map(|piece| piece.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
        };
        assert_eq!(values(0..20_000), (0..20_000).collect::<Vec<_>>());
        assert_eq!(values(2..5), [2, 3, 4]);
        assert_eq!(values(9000..9001), [9000]);
        assert!(values(7..7).is_empty());
        for number in [0, 2, 3, 19_999] {
            let (batch, row) = rows.at(number);
            assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(row), number as i64);
        }
    }
}
