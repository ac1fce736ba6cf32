//! The pace of made-up rows: each row has a moment when it is due, and a batch holds those that are.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use tokio::time::Instant;

use super::Datagen;
use crate::connectors::{Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceEvent, SourceFactory};
use crate::formats::{SplitIndex, SplitRun};

/// Rows of a high rate are made in batches so far apart.
const PACE: Duration = Duration::from_millis(10);

/// Opens the instances of a datagen source.
pub(super) struct DatagenFactory(pub(super) Arc<Datagen>);

#[async_trait]
impl SourceFactory for DatagenFactory {
    fn boundedness(&self) -> Boundedness {
        if self.0.rows.is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn decoding(&self) -> Decoding {
        Decoding::Rows
    }

    fn describe(&self) -> String {
        let rows = self.0.rows.map_or("endless rows".into(), |rows| format!("{rows} rows"));
        match self.0.rows_per_second {
            Some(rate) => format!("datagen, {rows}, {rate} a second"),
            None => format!("datagen, {rows}"),
        }
    }

    fn is_made_up(&self) -> bool {
        true
    }

    async fn instances(&self, _context: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(parallelism.min(self.0.splits as usize).max(1))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        if context.bounded && self.0.rows.is_none() {
            return Err(refused(&context.table, "never ends, so a bounded run would not either: add 'rows' = '1000'"));
        }
        let instances = context.instances.max(1) as u64;
        let splits: Vec<Split> = (0..self.0.splits)
            .filter(|number| number % instances == context.instance as u64)
            .map(|number| {
                let name = format!("datagen[{number}]");
                // The position is one past the last row, and the split's next row comes at or after it.
                let position = context.positions.get(&name).map_or(0, |position| (*position).max(0) as u64);
                let next = number + position.saturating_sub(number).next_multiple_of(self.0.splits);
                Split { name, next, announced: false, ended: false }
            })
            .collect();
        let first = splits.iter().map(|split| split.next).min().unwrap_or(0);
        Ok(Box::new(DatagenSource { datagen: self.0.clone(), context, splits, turn: 0, first, began: None }))
    }
}

fn refused(table: &str, message: impl Into<String>) -> ConnectorError {
    ConnectorError::Refused { what: format!("datagen table {table}"), message: message.into() }
}

/// One instance.
struct DatagenSource {
    datagen: Arc<Datagen>,
    context: SourceContext,
    splits: Vec<Split>,
    turn: usize,
    /// The row that is due at the beginning.
    first: u64,
    began: Option<Instant>,
}

/// The rows whose number leaves the same remainder.
struct Split {
    name: String,
    /// The number of its next row. Offsets are row numbers.
    next: u64,
    announced: bool,
    ended: bool,
}

impl DatagenSource {
    /// How many rows of the split that has its turn may be made now; waits until there is one.
    async fn due(&self, began: Instant) -> Result<u64, ConnectorError> {
        let split = &self.splits[self.turn];
        let left = |end: u64| end.saturating_sub(split.next).div_ceil(self.datagen.splits);
        let left = left(self.datagen.rows.unwrap_or(u64::MAX / 2)).min(self.context.batch_size.max(1) as u64);
        let Some(rate) = self.datagen.rows_per_second.filter(|_| left > 0) else { return Ok(left) };
        let behind = u128::from(split.next - self.first);
        let at = began + Duration::from_nanos((behind * 1_000_000_000 / u128::from(rate)) as u64);
        if at > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(at.max(Instant::now() + PACE.min(at - began))) => {}
                () = self.context.stop.cancelled() => {
                    return Err(ConnectorError::Stopped { what: format!("datagen table {}", self.context.table) });
                }
            }
        }
        let until = (began.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64 + self.first + 1;
        Ok(until.saturating_sub(split.next).div_ceil(self.datagen.splits).clamp(1, left))
    }

    fn make(&self, first: u64, count: usize) -> Result<RecordBatch, ConnectorError> {
        let mut columns = vec![];
        for field in self.context.schema.fields() {
            let generator = self.datagen.columns.iter().find(|(name, _)| name == field.name());
            let (_, generator) =
                generator.ok_or_else(|| refused(&self.context.table, format!("has no column {}", field.name())))?;
            let column = generator.make(first, self.datagen.splits, count);
            columns.push(column.map_err(|error| {
                refused(&self.context.table, format!("column {} cannot be made: {error}", field.name()))
            })?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(self.context.schema.clone(), columns, &options)
            .map_err(|error| refused(&self.context.table, format!("rows cannot be made: {error}")))
    }
}

#[async_trait]
impl Source for DatagenSource {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if let Some(place) = self.splits.iter().position(|split| !split.announced) {
            self.splits[place].announced = true;
            return Ok(SourceEvent::Split(SplitIndex(place as u32), self.splits[place].name.clone()));
        }
        // The split that is furthest behind, so that rows come about in the order of their numbers.
        let waiting = self.splits.iter().enumerate().filter(|(_, split)| !split.ended);
        let Some((turn, _)) = waiting.min_by_key(|(_, split)| split.next) else { return Ok(SourceEvent::End) };
        self.turn = turn;
        let count = self.due(began).await?;
        let (split, first) = (SplitIndex(turn as u32), self.splits[turn].next);
        if count == 0 {
            self.splits[turn].ended = true;
            return Ok(SourceEvent::SplitEnd(split));
        }
        let batch = self.make(first, count as usize)?;
        self.splits[turn].next = first + count * self.datagen.splits;
        let offsets = (0..count).map(|place| (first + place * self.datagen.splits) as i64).collect();
        Ok(SourceEvent::Rows(batch, vec![SplitRun { split, rows: count as usize }], offsets))
    }
}
