//! From what a source sends to the rows of its node: decoding, metadata columns, event time, bad records.
//!
//! A [`Reader`] is synchronous and knows no channel. It leaves bad records out and keeps everything else in step:
//! metadata, offsets and splits of the rows that stay.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, TimestampNanosecondArray,
    UInt32Array, new_null_array,
};
use arrow::compute::{cast, concat, filter, take};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;

use super::graph::{EventTimeSpec, SourceNode};
use super::surroundings::Surroundings;
use crate::catalog::{BadRows, MetadataKey};
use crate::connectors::Boundedness;
use crate::formats::{BadReason, Decoder, RawRecords, SplitIndex, SplitRun};
use crate::operators::window::{EVENT_TIME, ROW_WATERMARK, TIME_TYPE};
use crate::time::{EventTime, WallClock};

/// A split as its source task knows it.
#[derive(Clone, Debug)]
pub struct Split {
    /// Its name, as in positions.
    pub name: Arc<str>,
    /// The highest watermark of its rows so far.
    pub watermark: EventTime,
    /// The offset of its next record; `None` before the first if its source does not say where it begins.
    pub position: Option<i64>,
    /// What tells it from another one of its name, if the source has said it.
    pub origin: Option<String>,
}

/// A record that was left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRow {
    /// Its index among the records of its event.
    pub record: usize,
    /// The kind of trouble.
    pub reason: BadReason,
    /// What is wrong.
    pub message: String,
}

/// What came of one event.
#[derive(Debug)]
pub struct ReadRows {
    /// The rows, in the schema of the node's main output.
    pub batch: RecordBatch,
    /// The records left out, in order.
    pub bad: Vec<BadRow>,
    /// The bad records in the schema of the dead letters, if they go there.
    pub dead_letters: Option<RecordBatch>,
}

/// How far ahead of which clock a row may be.
struct Future {
    clock: WallClock,
    limit: Duration,
}

/// Makes the rows of a source node.
pub struct Reader {
    table: String,
    decoder: Option<Box<dyn Decoder>>,
    metadata: Vec<(MetadataKey, Arc<Field>)>,
    /// The physical and metadata columns.
    columns: SchemaRef,
    event_time: Option<EventTimeSpec>,
    /// What must not lie further ahead than this.
    future: Option<Future>,
    /// The main output's.
    output: SchemaRef,
    dead_letters: Option<SchemaRef>,
}

impl Reader {
    /// A reader for a node; `decoder` reads its records if it sends any. Without a clock no time is too far ahead; in a
    /// `bounded` run, which may replay what was recorded, only a limit that is written out holds.
    pub fn new(
        node: &SourceNode,
        decoder: Option<Box<dyn Decoder>>,
        clock: Option<WallClock>,
        bounded: bool,
    ) -> Reader {
        let happens = node.factory.boundedness() == Boundedness::Unbounded && !node.factory.is_made_up();
        let arrives = happens && !bounded;
        let limit = node.settings.future_limit.of(arrives);
        let mut fields: Vec<Arc<Field>> = node.physical.fields().iter().cloned().collect();
        fields.extend(node.metadata.iter().map(|(_, field)| Arc::clone(field)));
        let columns = Arc::new(Schema::new(fields.clone()));
        if node.event_time.is_some() {
            fields.extend([EVENT_TIME, ROW_WATERMARK].map(|name| Arc::new(Field::new(name, TIME_TYPE, false))));
        }
        let to_table = matches!(node.settings.bad_rows, BadRows::Table(_));
        Reader {
            table: node.table.clone(),
            decoder,
            metadata: node.metadata.clone(),
            columns,
            event_time: node.event_time.clone(),
            future: clock.zip(limit).map(|(clock, limit)| Future { clock, limit }),
            output: Arc::new(Schema::new(fields)),
            dead_letters: node.dead_letters.clone().filter(|_| to_table),
        }
    }

    /// Decodes records. The watermarks of their splits rise with the rows.
    ///
    /// # Errors
    /// For trouble that is no record's fault.
    pub fn records(&mut self, records: &RawRecords, splits: &mut [Split]) -> Result<ReadRows> {
        let Some(decoder) = &mut self.decoder else {
            return Err(DataFusionError::Internal("records from a source that said it sends rows".into()));
        };
        let decoded = decoder.decode(records).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let bad: Vec<BadRow> = decoded
            .bad
            .into_iter()
            .map(|bad| BadRow { record: bad.row, reason: bad.reason, message: bad.message })
            .collect();
        let rows = Rows { columns: decoded.batch.columns().to_vec(), records: kept(records.len(), &bad), bad };
        self.finish(rows, &Surroundings::of_records(records, splits), &records.runs, splits)
    }

    /// Takes rows that a source has decoded itself.
    ///
    /// # Errors
    /// For trouble that is no row's fault.
    pub fn rows(
        &mut self,
        batch: RecordBatch,
        runs: &[SplitRun],
        offsets: &[i64],
        splits: &mut [Split],
    ) -> Result<ReadRows> {
        let records = kept(batch.num_rows(), &[]);
        let rows = Rows { columns: batch.columns().to_vec(), records, bad: vec![] };
        self.finish(rows, &Surroundings::of_rows(runs, offsets, splits), runs, splits)
    }

    fn finish(
        &self,
        mut rows: Rows,
        surroundings: &Surroundings<'_>,
        runs: &[SplitRun],
        splits: &mut [Split],
    ) -> Result<ReadRows> {
        for (key, field) in &self.metadata {
            let all = cast(&surroundings.column(*key, field.data_type()), field.data_type())?;
            rows.columns.push(if rows.is_whole(all.len()) { all } else { take(&all, &rows.records, None)? });
        }
        for (index, field) in self.columns.fields().iter().enumerate() {
            if !field.is_nullable() {
                rows.leave_out_nulls(index, &format!("column {} is NOT NULL, but has no value here", field.name()))?;
            }
        }
        let mut output = self.columns.fields().len();
        if let Some(spec) = &self.event_time {
            let (event_time, watermark) = self.event_times(&mut rows, spec)?;
            let event_time_index = rows.columns.len();
            rows.columns.push(event_time);
            rows.columns.push(watermark);
            let message = format!("the event time, column {}, has no value here", spec.column);
            rows.leave_out_nulls(event_time_index, &message)?;
            if let Some(future) = &self.future {
                rows.leave_out_future(event_time_index, &spec.column, future)?;
            }
            let watermarks = row_watermarks(&rows.columns[event_time_index + 1], &rows.records, runs, splits);
            rows.columns[event_time_index + 1] = watermarks;
            output += 2;
        }
        debug_assert_eq!(output, self.output.fields().len());
        rows.bad.sort_by_key(|bad| bad.record);
        Ok(ReadRows {
            dead_letters: self.dead_letters(&rows.bad, surroundings)?,
            batch: batch(&self.output, rows.columns, rows.records.len())?,
            bad: rows.bad,
        })
    }

    /// Event times and row watermarks; a row for which an expression fails is left out.
    fn event_times(&self, rows: &mut Rows, spec: &EventTimeSpec) -> Result<(ArrayRef, ArrayRef)> {
        let input = batch(&self.columns, rows.columns.clone(), rows.records.len())?;
        let mut times = vec![];
        let mut failed = vec![];
        evaluate(&input, 0, spec, &mut times, &mut failed)?;
        if !failed.is_empty() {
            let mut keep = vec![true; input.num_rows()];
            for (row, message) in failed {
                keep[row] = false;
                let message = format!("the event time, column {}: {message}", spec.column);
                rows.leave_out(row, BadReason::WrongType, message);
            }
            rows.keep(&BooleanArray::from(keep))?;
        }
        let column = |which: fn(&(ArrayRef, ArrayRef)) -> &ArrayRef| -> Result<ArrayRef> {
            match times.as_slice() {
                [] => Ok(new_null_array(&TIME_TYPE, 0)),
                [one] => Ok(Arc::clone(which(one))),
                many => Ok(concat(&many.iter().map(|pair| which(pair).as_ref()).collect::<Vec<_>>())?),
            }
        };
        Ok((column(|pair| &pair.0)?, column(|pair| &pair.1)?))
    }

    fn dead_letters(&self, bad: &[BadRow], surroundings: &Surroundings<'_>) -> Result<Option<RecordBatch>> {
        let Some(schema) = self.dead_letters.as_ref().filter(|_| !bad.is_empty()) else { return Ok(None) };
        let records = UInt32Array::from_iter_values(bad.iter().map(|bad| bad.record as u32));
        let columns: Result<Vec<ArrayRef>> = schema
            .fields()
            .iter()
            .map(|field| {
                let key = MetadataKey::ALL.iter().find(|(name, _)| *name == field.name());
                let values = match (field.name().as_str(), key) {
                    ("table", _) => texts(bad.iter().map(|_| self.table.as_str())),
                    ("reason", _) => texts(bad.iter().map(|bad| bad.reason.as_str())),
                    ("error", _) => texts(bad.iter().map(|bad| bad.message.as_str())),
                    (_, Some((_, key))) => take(&surroundings.column(*key, field.data_type()), &records, None)?,
                    _ => new_null_array(field.data_type(), bad.len()),
                };
                Ok(cast(&values, field.data_type())?)
            })
            .collect();
        Ok(Some(batch(schema, columns?, bad.len())?))
    }
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Rows on their way, with the record that each came from.
struct Rows {
    columns: Vec<ArrayRef>,
    records: UInt32Array,
    bad: Vec<BadRow>,
}

impl Rows {
    fn is_whole(&self, records: usize) -> bool {
        self.records.len() == records
    }

    fn leave_out(&mut self, row: usize, reason: BadReason, message: String) {
        self.bad.push(BadRow { record: self.records.value(row) as usize, reason, message });
    }

    /// Leaves out the rows in which column `index` is null.
    fn leave_out_nulls(&mut self, index: usize, message: &str) -> Result<()> {
        let column = Arc::clone(&self.columns[index]);
        if column.logical_null_count() == 0 {
            return Ok(());
        }
        let keep = arrow::compute::is_not_null(&column)?;
        for row in (0..column.len()).filter(|row| !keep.value(*row)) {
            self.leave_out(row, BadReason::MissingValue, message.to_owned());
        }
        self.keep(&keep)
    }

    /// Leaves out the rows whose event time (column `index`) or watermark (the next) lies too far ahead.
    fn leave_out_future(&mut self, index: usize, name: &str, future: &Future) -> Result<()> {
        let [times, watermarks] =
            [index, index + 1].map(|index| self.columns[index].as_primitive::<TimestampNanosecondType>().clone());
        // Once a batch. The highest time decides alone in nearly every one.
        let now = future.clock.now();
        let most = now.0.saturating_add(i64::try_from(future.limit.as_nanos()).unwrap_or(i64::MAX));
        let highest = [&times, &watermarks].into_iter().filter_map(arrow::compute::max).max();
        if highest.is_none_or(|highest| highest <= most) {
            return Ok(());
        }
        let limit = humantime::format_duration(future.limit);
        let mut keep = vec![true; times.len()];
        for (row, keep) in keep.iter_mut().enumerate() {
            let watermark = watermarks.is_valid(row).then(|| watermarks.value(row));
            let (what, time) = match (times.value(row), watermark) {
                (time, _) if time > most => ("the event time", time),
                (_, Some(time)) if time > most => ("the watermark of the event time", time),
                _ => continue,
            };
            *keep = false;
            let message = format!(
                "{what}, column {name}, is {}, more than {limit} (future_limit) ahead of the clock, {now}",
                EventTime(time)
            );
            self.leave_out(row, BadReason::FutureEventTime, message);
        }
        self.keep(&BooleanArray::from(keep))
    }

    fn keep(&mut self, keep: &BooleanArray) -> Result<()> {
        for column in &mut self.columns {
            *column = filter(column, keep)?;
        }
        self.records = UInt32Array::from(filter(&self.records, keep)?.to_data());
        Ok(())
    }
}

/// Indices of all records but the bad ones.
fn kept(records: usize, bad: &[BadRow]) -> UInt32Array {
    let mut bad = bad.iter().map(|bad| bad.record as u32).peekable();
    (0..records as u32).filter(|record| bad.next_if_eq(record).is_none()).collect::<Vec<_>>().into()
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// Evaluates both expressions. When one fails, halves the batch until the rows at fault stand alone.
fn evaluate(
    input: &RecordBatch,
    first_row: usize,
    spec: &EventTimeSpec,
    times: &mut Vec<(ArrayRef, ArrayRef)>,
    failed: &mut Vec<(usize, String)>,
) -> Result<()> {
    let rows = input.num_rows();
    let column = |expression: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> {
        let values = expression.evaluate(input)?.into_array(rows)?;
        Ok(if *values.data_type() == TIME_TYPE { values } else { cast(&values, &TIME_TYPE)? })
    };
    match column(&spec.event_time).and_then(|event_time| Ok((event_time, column(&spec.watermark)?))) {
        Ok(pair) => times.push(pair),
        Err(error) if rows <= 1 => failed.push((first_row, error.strip_backtrace())),
        Err(_) => {
            let half = rows / 2;
            evaluate(&input.slice(0, half), first_row, spec, times, failed)?;
            evaluate(&input.slice(half, rows - half), first_row + half, spec, times, failed)?;
        }
    }
    Ok(())
}

/// Each row's own split's watermark just before the row. `said` is what the rows say about it.
fn row_watermarks(said: &ArrayRef, records: &UInt32Array, runs: &[SplitRun], splits: &mut [Split]) -> ArrayRef {
    let said = said.as_primitive::<TimestampNanosecondType>();
    let mut before: Vec<i64> = Vec::with_capacity(records.len());
    let mut row = 0;
    let mut run_end = 0;
    for run in runs {
        run_end += run.rows;
        let watermark = &mut splits[run.split.0 as usize].watermark;
        while row < records.len() && (records.value(row) as usize) < run_end {
            before.push(watermark.0);
            if said.is_valid(row) {
                *watermark = (*watermark).max(EventTime(said.value(row)));
            }
            row += 1;
        }
    }
    Arc::new(TimestampNanosecondArray::from(before))
}

/// The split of a record.
pub fn place_of(record: usize, runs: &[SplitRun]) -> Option<SplitIndex> {
    let mut end = 0;
    runs.iter()
        .find(|run| {
            end += run.rows;
            record < end
        })
        .map(|run| run.split)
}
