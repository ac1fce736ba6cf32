//! The rows of one split in order of offset, each once, out of runs that may overlap.
//!
//! Runs are opened when their offsets are due, so that as many are open at a time as overlap, and from an open one whole
//! stretches are taken, up to where another run goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{and, concat_batches, filter_record_batch};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;

use super::super::reading::refused;
use super::index::{Run, SplitKey};
use super::shelf::Shelf;
use crate::connectors::ConnectorError;

/// The rows of a split that are still to come.
pub(super) struct SplitRows {
    /// The split's name.
    pub(super) name: String,
    /// The table, for messages.
    what: String,
    key: SplitKey,
    shelf: Arc<Shelf>,
    /// How many columns of a chunk are wanted; behind them are those that say where a row stood.
    wanted: usize,
    /// The first offset that is wanted.
    position: i64,
    /// By their least offsets.
    waiting: VecDeque<Run>,
    open: Vec<Cursor>,
    /// The row that was given last, with its offset.
    last: Option<(i64, RecordBatch)>,
    /// How many rows were left out because they were there already, and the offset of the first.
    again: u64,
    first_again: Option<i64>,
    /// How many rows there are, those that are left out among them, and how many have been given.
    total: u64,
    given: u64,
}

/// A run that is open.
struct Cursor {
    run: Run,
    /// The chunk that `rows` are from.
    chunk: usize,
    /// What of it belongs to the run and is wanted.
    rows: RecordBatch,
    offsets: Int64Array,
    /// The next of `rows`.
    at: usize,
}

impl Cursor {
    fn head(&self) -> i64 {
        self.offsets.value(self.at)
    }
}

impl SplitRows {
    pub(super) fn new(
        name: String,
        what: String,
        key: SplitKey,
        runs: &[Run],
        shelf: Arc<Shelf>,
        wanted: usize,
        position: i64,
    ) -> SplitRows {
        let waiting: VecDeque<Run> = runs.iter().filter(|run| run.most >= position).cloned().collect();
        let total = waiting.iter().map(|run| run.rows).sum();
        SplitRows {
            name,
            what,
            key,
            shelf,
            wanted,
            position,
            waiting,
            open: vec![],
            last: None,
            again: 0,
            first_again: None,
            total,
            given: 0,
        }
    }

    /// How many rows were recorded more than once, and the offset of the first of them.
    pub(super) fn recorded_again(&self) -> Option<(u64, i64)> {
        self.first_again.map(|offset| (self.again, offset))
    }

    /// How far it is, from 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        self.given as f64 / self.total.max(1) as f64
    }

    /// The next rows in the wanted columns, at most `most`, with their offsets; `None` at the end.
    ///
    /// # Errors
    /// When a file cannot be read, or two different rows have one place.
    pub(super) async fn next(&mut self, most: usize) -> Result<Option<(RecordBatch, Vec<i64>)>, ConnectorError> {
        let mut parts: Vec<RecordBatch> = vec![];
        let mut offsets: Vec<i64> = vec![];
        while offsets.len() < most {
            let Some((lowest, limit)) = self.lowest().await? else { break };
            let cursor = &self.open[lowest];
            let (from, head) = (cursor.at, cursor.head());
            if self.last.as_ref().is_some_and(|(last, _)| *last == head) {
                self.leave_out(lowest)?;
                self.advance(lowest, 1).await?;
                continue;
            }
            let ready = cursor.offsets.values()[from..].partition_point(|offset| *offset < limit).max(1);
            let rows = ready.min(most - offsets.len());
            let part = cursor.rows.slice(from, rows);
            offsets.extend_from_slice(&cursor.offsets.values()[from..from + rows]);
            self.last = Some((offsets[offsets.len() - 1], part.slice(rows - 1, 1)));
            parts.push(part);
            self.given += rows as u64;
            self.advance(lowest, rows).await?;
        }
        let batch = match parts.as_slice() {
            [] => return Ok(None),
            [one] => one.clone(),
            several => concat_batches(&several[0].schema(), several).map_err(|error| self.defect(&error))?,
        };
        Ok(Some((batch, offsets)))
    }

    /// The open run whose next row is the lowest of all, and the offset up to which no other run has any.
    async fn lowest(&mut self) -> Result<Option<(usize, i64)>, ConnectorError> {
        loop {
            let lowest = (0..self.open.len()).min_by_key(|at| self.open[*at].head());
            let due = match (lowest, self.waiting.front()) {
                (Some(lowest), Some(run)) => run.least <= self.open[lowest].head(),
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if due && let Some(run) = self.waiting.pop_front() {
                self.begin(run).await?;
                continue;
            }
            let Some(lowest) = lowest else { return Ok(None) };
            let others = (0..self.open.len()).filter(|at| *at != lowest).map(|at| self.open[at].head());
            let limit = others.chain(self.waiting.front().map(|run| run.least)).min().unwrap_or(i64::MAX);
            return Ok(Some((lowest, limit)));
        }
    }

    async fn begin(&mut self, run: Run) -> Result<(), ConnectorError> {
        let mut chunk = self.shelf.chunk_of(run.file, run.first);
        while let Some((rows, offsets)) = self.rows_of(&run, chunk).await? {
            let at = offsets.values().partition_point(|offset| *offset < self.position);
            if at < offsets.len() {
                self.open.push(Cursor { run, chunk, rows, offsets, at });
                return Ok(());
            }
            chunk += 1;
        }
        Ok(())
    }

    /// The run's rows in a chunk, in the wanted columns; `None` when the chunk lies behind the run.
    async fn rows_of(&self, run: &Run, chunk: usize) -> Result<Option<(RecordBatch, Int64Array)>, ConnectorError> {
        if chunk > self.shelf.chunk_of(run.file, run.end - 1) {
            return Ok(None);
        }
        let batch = self.shelf.chunk(run.file, chunk).await?;
        let begin = self.shelf.first_row(run.file, chunk);
        let from = run.first.saturating_sub(begin) as usize;
        let to = ((run.end - begin) as usize).min(batch.num_rows());
        self.of_split(&batch.slice(from, to - from)).map(Some).map_err(|error| self.defect(&error))
    }

    fn of_split(&self, batch: &RecordBatch) -> Result<(RecordBatch, Int64Array), ArrowError> {
        let mut mask: Option<BooleanArray> = None;
        let mut place = self.wanted;
        if let Some(topic) = &self.key.topic {
            mask = Some(eq(batch.column(place), &StringArray::new_scalar(topic))?);
            place += 1;
        }
        if let Some(partition) = self.key.partition {
            let is_partition = eq(batch.column(place), &Int32Array::new_scalar(partition))?;
            mask = Some(match mask {
                Some(mask) => and(&mask, &is_partition)?,
                None => is_partition,
            });
            place += 1;
        }
        let own = match mask {
            Some(mask) if mask.true_count() < mask.len() => filter_record_batch(batch, &mask)?,
            _ => batch.clone(),
        };
        let offsets = own.column(place).as_primitive::<Int64Type>().clone();
        let wanted: Vec<usize> = (0..self.wanted).collect();
        Ok((own.project(&wanted)?, offsets))
    }

    /// Goes `rows` on in an open run; one that is done is closed.
    async fn advance(&mut self, at: usize, rows: usize) -> Result<(), ConnectorError> {
        self.open[at].at += rows;
        while self.open[at].at >= self.open[at].offsets.len() {
            let next = self.open[at].chunk + 1;
            let run = self.open[at].run.clone();
            let Some((rows, offsets)) = self.rows_of(&run, next).await? else {
                self.open.swap_remove(at);
                return Ok(());
            };
            self.open[at] = Cursor { run, chunk: next, rows, offsets, at: 0 };
        }
        Ok(())
    }

    /// The row at the head of a run has the offset of the one that was given last: that is right if it is the same.
    fn leave_out(&mut self, at: usize) -> Result<(), ConnectorError> {
        let cursor = &self.open[at];
        let (offset, row) = (cursor.head(), cursor.rows.slice(cursor.at, 1));
        let same = self.last.as_ref().is_some_and(|(_, last)| {
            last.columns().iter().zip(row.columns()).all(|(last, row)| last.to_data() == row.to_data())
        });
        if !same {
            let place = match self.key.partition {
                Some(_) => {
                    "was the topic deleted and made anew? Then what came after has to be recorded in another table"
                }
                None => {
                    "does the source have several partitions or files? Then the history needs their column, \
                         METADATA FROM 'partition' or 'topic', too"
                }
            };
            let message = format!("two different rows are recorded for {} offset {offset}: {place}", self.name);
            return Err(refused(&self.what, message));
        }
        self.again += 1;
        self.first_again.get_or_insert(offset);
        Ok(())
    }

    /// What can only go wrong by a mistake of ours.
    fn defect(&self, error: &ArrowError) -> ConnectorError {
        refused(&self.what, format!("the rows of {} cannot be put in order: {error}", self.name))
    }
}
