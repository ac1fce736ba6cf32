//! Sources whose rows are made up: a row's values follow from its number, so that it can be made anywhere and again.
//!
//! Row *i* belongs to split *i mod splits*, and the number of splits is the most instances that can make rows at the
//! same time. Each row has a moment when it is due, and a batch holds those that are.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use tokio::time::Instant;

use super::{Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceEvent, SourceFactory};
use crate::formats::{SplitIndex, SplitRun};

/// Rows of a high rate are made in batches so far apart.
const PACE: Duration = Duration::from_millis(10);

/// What makes rows.
pub(super) trait MadeUp: Send + Sync + 'static {
    /// The connector's name, with which those of the splits begin.
    fn connector(&self) -> &'static str;

    /// One line for `explain` and logs.
    fn describe(&self) -> String;

    /// How many rows there are; `None` if they never end.
    fn rows(&self) -> Option<u64>;

    /// The option that gives them an end, as in `'rows' = '1000'`.
    fn end_option(&self) -> &'static str;

    /// How fast rows come; `None` for as fast as possible.
    fn pace(&self) -> Option<Pace>;

    /// How many instances may make rows at the same time.
    fn splits(&self) -> u64;

    /// The offset of a row, which grows with the row's number.
    fn offset(&self, row: u64) -> u64 {
        row
    }

    /// The first row whose offset is not below `offset`.
    fn row_at(&self, offset: u64) -> u64 {
        offset
    }

    /// Makes rows, in columns of `schema`.
    ///
    /// # Errors
    /// When the columns are not those of the table.
    fn make(&self, rows: Numbers, schema: &SchemaRef) -> Result<RecordBatch, ArrowError>;
}

/// So many rows in each such time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pace {
    pub(super) rows: u64,
    pub(super) each: Duration,
}

impl Pace {
    /// How long after the beginning the row is due that comes so many rows behind the first.
    fn due(self, behind: u64) -> Duration {
        let nanoseconds = u128::from(behind) * self.each.as_nanos() / u128::from(self.rows);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// How many rows behind the first are due by then.
    fn by(self, elapsed: Duration) -> u64 {
        let rows = elapsed.as_nanos() * u128::from(self.rows) / self.each.as_nanos().max(1);
        u64::try_from(rows).unwrap_or(u64::MAX / 2)
    }
}

/// The numbers of rows: `first`, `first + step` and so on, `count` of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) first: u64,
    pub(super) step: u64,
    pub(super) count: usize,
}

impl Numbers {
    /// Each number.
    pub(super) fn iter(self) -> impl Iterator<Item = u64> {
        (0..self.count as u64).map(move |place| self.first + place * self.step)
    }
}

/// Opens the instances of a source.
pub(super) struct MadeUpFactory<M>(pub(super) Arc<M>);

#[async_trait]
impl<M: MadeUp> SourceFactory for MadeUpFactory<M> {
    fn boundedness(&self) -> Boundedness {
        if self.0.rows().is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn decoding(&self) -> Decoding {
        Decoding::Rows
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn is_made_up(&self) -> bool {
        true
    }

    async fn instances(&self, _context: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(parallelism.min(self.0.splits() as usize).max(1))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        if context.bounded && self.0.rows().is_none() {
            let end = self.0.end_option();
            let message = format!("never ends, so a bounded run would not either: add '{end}' = '1000'");
            return Err(refused(&*self.0, &context.table, message));
        }
        let instances = context.instances.max(1) as u64;
        let splits: Vec<Split> = (0..self.0.splits())
            .filter(|number| number % instances == context.instance as u64)
            .map(|number| {
                let name = format!("{}[{number}]", self.0.connector());
                // The position is one past the last row's, and the split's next row comes at or after it.
                let position = context.positions.get(&name).map_or(0, |position| (*position).max(0) as u64);
                let row = self.0.row_at(position);
                let next = number + row.saturating_sub(number).next_multiple_of(self.0.splits());
                Split { name, next, announced: false, ended: false }
            })
            .collect();
        let first = splits.iter().map(|split| split.next).min().unwrap_or(0);
        Ok(Box::new(MadeUpSource { rows: self.0.clone(), context, splits, first, began: None }))
    }
}

fn refused(rows: &impl MadeUp, table: &str, message: impl Into<String>) -> ConnectorError {
    ConnectorError::Refused { what: format!("{} table {table}", rows.connector()), message: message.into() }
}

/// One instance.
struct MadeUpSource<M> {
    rows: Arc<M>,
    context: SourceContext,
    splits: Vec<Split>,
    /// The row that is due at the beginning.
    first: u64,
    began: Option<Instant>,
}

/// The rows whose number leaves the same remainder.
struct Split {
    name: String,
    /// The number of its next row.
    next: u64,
    announced: bool,
    ended: bool,
}

impl<M: MadeUp> MadeUpSource<M> {
    /// How many rows of `split` may be made now; waits until there is one.
    async fn due(&self, split: &Split, began: Instant) -> Result<u64, ConnectorError> {
        let left = |end: u64| end.saturating_sub(split.next).div_ceil(self.rows.splits());
        let left = left(self.rows.rows().unwrap_or(u64::MAX / 2)).min(self.context.batch_size.max(1) as u64);
        let Some(pace) = self.rows.pace().filter(|_| left > 0) else { return Ok(left) };
        let at = began + pace.due(split.next - self.first);
        if at > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(at.max(Instant::now() + PACE.min(at - began))) => {}
                () = self.context.stop.cancelled() => {
                    let what = format!("{} table {}", self.rows.connector(), self.context.table);
                    return Err(ConnectorError::Stopped { what });
                }
            }
        }
        let until = pace.by(began.elapsed()) + self.first + 1;
        Ok(until.saturating_sub(split.next).div_ceil(self.rows.splits()).clamp(1, left))
    }
}

#[async_trait]
impl<M: MadeUp> Source for MadeUpSource<M> {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if let Some(place) = self.splits.iter().position(|split| !split.announced) {
            self.splits[place].announced = true;
            return Ok(SourceEvent::Split(SplitIndex(place as u32), self.splits[place].name.clone(), None));
        }
        // The split that is furthest behind, so that rows come about in the order of their numbers.
        let waiting = self.splits.iter().enumerate().filter(|(_, split)| !split.ended);
        let Some((turn, _)) = waiting.min_by_key(|(_, split)| split.next) else { return Ok(SourceEvent::End) };
        let count = self.due(&self.splits[turn], began).await?;
        let (split, first) = (SplitIndex(turn as u32), self.splits[turn].next);
        if count == 0 {
            self.splits[turn].ended = true;
            return Ok(SourceEvent::SplitEnd(split));
        }
        let numbers = Numbers { first, step: self.rows.splits(), count: count as usize };
        let batch = self
            .rows
            .make(numbers, &self.context.schema)
            .map_err(|error| refused(&*self.rows, &self.context.table, format!("rows cannot be made: {error}")))?;
        self.splits[turn].next = first + count * self.rows.splits();
        let offsets = numbers.iter().map(|row| self.rows.offset(row) as i64).collect();
        Ok(SourceEvent::Rows(batch, vec![SplitRun { split, rows: count as usize }], offsets))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): neighbouring numbers come out unrelated.
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 2⁶⁴ divided by the golden ratio: multiples of it lie apart.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What tests of such sources share.
#[cfg(test)]
pub(super) mod testing {

    use arrow::array::Int64Array;
    use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};

    use super::*;

    /// All rows of these instances with their offsets, in the order of offsets.
    pub(in crate::connectors) async fn rows(
        factory: &Arc<dyn SourceFactory>,
        contexts: Vec<SourceContext>,
    ) -> (Vec<i64>, RecordBatch) {
        let schema = contexts[0].schema.clone();
        let (mut batches, mut offsets) = (vec![], vec![]);
        for context in contexts {
            let most = context.batch_size;
            let mut source = factory.open(context).await.unwrap();
            loop {
                match source.next().await.unwrap() {
                    SourceEvent::Rows(batch, runs, places) => {
                        assert_eq!((runs[0].rows, places.len()), (batch.num_rows(), batch.num_rows()));
                        assert!(batch.num_rows() <= most);
                        batches.push(batch);
                        offsets.extend(places);
                    }
                    SourceEvent::End => break,
                    _ => {}
                }
            }
        }
        let all = concat_batches(&schema, &batches).unwrap();
        let order = sort_to_indices(&Int64Array::from(offsets.clone()), None, None).unwrap();
        offsets.sort_unstable();
        (offsets, take_record_batch(&all, &order).unwrap())
    }
}
