//! The newest window wins: what stands before a sink that keeps one row a key.
//!
//! Several windows of a key can be open at once, each published early and once more when it closes. An older window's
//! final row must not replace a newer window's early one, so rows older than what the key already shows are dropped.
//! A key whose window the watermark has passed is forgotten: whatever comes now is newer. So what is kept are the keys of
//! open windows, not all that there ever were.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampNanosecondType};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err, internal_err};

use super::subplan::with_schema;
use super::window::{EVENT_TIME, TIME_TYPE};
use super::{InputIndex, Operator, Output};
use crate::time::EventTime;

/// Keys are forgotten when there are more of them than this and twice as many as after the last time.
const KEYS_WORTH_FORGETTING: usize = 1024;

/// Drops rows whose key has already shown a later event time.
///
/// Input: the sink's columns and, last, `__event_time`. Output: the sink's columns. State: one event time a key of
/// which a window is open, kept in the key's columns, named by position, and `__event_time`.
pub struct Latest {
    keys: Vec<usize>,
    converter: RowConverter,
    newest: HashMap<Box<[u8]>, i64, ahash::RandomState>,
    /// The keys that changed since the last barrier.
    delta: Vec<RecordBatch>,
    state: SchemaRef,
    output: SchemaRef,
    key_bytes: usize,
    watermark: i64,
    /// Keys when some were last forgotten.
    kept: usize,
}

/// What a batch is to the keys in it.
struct Seen {
    /// The rows as new as what their key has shown, or newer.
    current: BooleanArray,
    /// The rows that are newer.
    newer: BooleanArray,
}

impl Latest {
    /// Over input of `input`, with the key in the columns `keys`; none means that there is one row in all.
    ///
    /// # Errors
    /// When a key column's type cannot be compared.
    pub fn new(keys: Vec<usize>, input: &SchemaRef, output: SchemaRef) -> Result<Latest> {
        let fields = keys.iter().map(|key| SortField::new(input.field(*key).data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let state = Latest::state_schema(&keys, input);
        let hashing = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let newest = HashMap::with_hasher(hashing);
        let watermark = EventTime::MIN.0;
        Ok(Latest { keys, converter, newest, delta: vec![], state, output, key_bytes: 0, watermark, kept: 0 })
    }

    /// The schema of the state.
    pub fn state_schema(keys: &[usize], input: &SchemaRef) -> SchemaRef {
        let key = |(position, key): (usize, &usize)| {
            Field::new(format!("__key_{position}"), input.field(*key).data_type().clone(), true)
        };
        let mut fields: Vec<Field> = keys.iter().enumerate().map(key).collect();
        fields.push(Field::new(EVENT_TIME, TIME_TYPE, false));
        Arc::new(Schema::new(fields))
    }

    /// Compares rows of the state's columns with what their keys have shown, and notes them as shown.
    fn show(&mut self, rows: &RecordBatch) -> Result<Seen> {
        let Some((times, keys)) = rows.columns().split_last() else {
            return internal_err!("state of a sink that keeps the newest without columns");
        };
        let times = times.as_primitive::<TimestampNanosecondType>().values();
        let keys = if keys.is_empty() { None } else { Some(self.converter.convert_columns(keys)?) };
        let (mut current, mut newer) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
        for (row, time) in times.iter().enumerate() {
            let key: &[u8] = keys.as_ref().map_or(&[], |keys| keys.row(row).data());
            match self.newest.get_mut(key) {
                Some(newest) => {
                    current.push(time >= newest);
                    newer.push(time > newest);
                    *newest = (*newest).max(*time);
                }
                None => {
                    self.key_bytes += key.len();
                    self.newest.insert(key.into(), *time);
                    current.push(true);
                    newer.push(true);
                }
            }
        }
        Ok(Seen { current: BooleanArray::from(current), newer: BooleanArray::from(newer) })
    }

    /// Forgets the keys of windows that the watermark has passed.
    fn forget(&mut self) {
        self.newest.retain(|key, time| {
            let open = *time > self.watermark;
            self.key_bytes -= if open { 0 } else { key.len() };
            open
        });
        self.newest.shrink_to(2 * self.newest.len());
        self.kept = self.newest.len();
    }
}

impl Operator for Latest {
    fn on_batch(&mut self, _input: InputIndex, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let columns: Vec<usize> = self.keys.iter().copied().chain([batch.num_columns() - 1]).collect();
        let rows = with_schema(&batch.project(&columns)?, &self.state)?;
        let Seen { current, newer } = self.show(&rows)?;
        if newer.has_true() {
            self.delta.push(filter_record_batch(&rows, &newer)?);
        }
        let kept = if current.has_false() { filter_record_batch(&batch, &current)? } else { batch };
        let columns: Vec<usize> = (0..self.output.fields().len()).collect();
        out.emit(with_schema(&kept.project(&columns)?, &self.output)?);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut Output) -> Result<()> {
        self.watermark = watermark.0;
        if self.newest.len() > KEYS_WORTH_FORGETTING.max(2 * self.kept) {
            self.forget();
        }
        Ok(())
    }

    fn snapshot(&mut self, _out: &mut Output) -> Result<Vec<RecordBatch>> {
        if self.delta.is_empty() {
            return Ok(vec![]);
        }
        let delta = concat_batches(&self.state, &std::mem::take(&mut self.delta))?;
        let times = delta.column(delta.num_columns() - 1).as_primitive::<TimestampNanosecondType>();
        // What is final when it is shown, as without early results all is, is nobody's after its watermark.
        let open: BooleanArray = times.values().iter().map(|time| Some(*time > self.watermark)).collect();
        Ok(if open.has_true() { vec![filter_record_batch(&delta, &open)?] } else { vec![] })
    }

    fn restore(&mut self, state: RecordBatch) -> Result<()> {
        // Metadata aside, which a store may add.
        if state.schema_ref().fields() != self.state.fields() {
            return exec_err!("the state is not that of a sink which keeps the newest row of the same key");
        }
        self.newest.reserve(state.num_rows());
        self.show(&state).map(|_| ())
    }

    fn state(&mut self) -> Result<Vec<RecordBatch>> {
        self.forget();
        if self.newest.is_empty() {
            return Ok(vec![]);
        }
        let times = TimestampNanosecondArray::from_iter_values(self.newest.values().copied());
        let parser = self.converter.parser();
        let mut columns = match self.keys.is_empty() {
            true => vec![],
            false => self.converter.convert_rows(self.newest.keys().map(|key| parser.parse(key)))?,
        };
        columns.push(Arc::new(times));
        Ok(vec![RecordBatch::try_new(Arc::clone(&self.state), columns)?])
    }

    fn state_bytes(&self) -> usize {
        self.key_bytes + self.newest.capacity() * (size_of::<Box<[u8]>>() + size_of::<i64>())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::DataType;
    use proptest::prelude::*;

    use super::*;

    fn schemas() -> (SchemaRef, SchemaRef) {
        let shown = vec![Field::new("category", DataType::Utf8, true), Field::new("sales", DataType::Int64, true)];
        let mut input = shown.clone();
        input.push(Field::new(EVENT_TIME, TIME_TYPE, false));
        (Arc::new(Schema::new(input)), Arc::new(Schema::new(shown)))
    }

    fn rows(rows: &[(Option<&str>, i64, i64)]) -> RecordBatch {
        let categories: StringArray = rows.iter().map(|row| row.0).collect();
        let sales: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
        let times: TimestampNanosecondArray = rows.iter().map(|row| Some(row.2)).collect();
        RecordBatch::try_new(schemas().0, vec![Arc::new(categories), Arc::new(sales), Arc::new(times)]).unwrap()
    }

    fn shown(operator: &mut Latest, batch: RecordBatch) -> Vec<i64> {
        let mut out = Output::default();
        operator.on_batch(0, batch, &mut out).unwrap();
        let batches = out.take();
        batches
            .iter()
            .flat_map(|(_, batch)| batch.column(1).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec())
            .collect()
    }

    #[test]
    fn an_older_window_does_not_replace_a_newer_one_of_its_key() {
        let (input, output) = schemas();
        let mut latest = Latest::new(vec![0], &input, output).unwrap();
        assert_eq!(shown(&mut latest, rows(&[(Some("toys"), 1, 60), (None, 2, 30)])), [1, 2]);
        assert_eq!(shown(&mut latest, rows(&[(Some("toys"), 3, 30), (None, 4, 30), (Some("food"), 5, 10)])), [4, 5]);
        assert_eq!(shown(&mut latest, rows(&[(Some("toys"), 6, 60)])), [6], "the same window is published again");
    }

    #[test]
    fn without_a_key_there_is_one_row_in_all() {
        let (input, output) = schemas();
        let mut latest = Latest::new(vec![], &input, output).unwrap();
        assert_eq!(shown(&mut latest, rows(&[(Some("toys"), 1, 60), (None, 2, 30)])), [1]);
    }

    #[test]
    fn what_was_shown_survives_a_restart() {
        let (input, output) = schemas();
        let mut before = Latest::new(vec![0], &input, Arc::clone(&output)).unwrap();
        shown(&mut before, rows(&[(Some("toys"), 1, 60)]));
        let mut after = Latest::new(vec![0], &input, output).unwrap();
        for state in before.snapshot(&mut Output::default()).unwrap() {
            after.restore(state).unwrap();
        }
        assert!(shown(&mut after, rows(&[(Some("toys"), 2, 30)])).is_empty());
    }

    #[test]
    fn what_is_published_again_is_not_kept_again() {
        let (input, output) = schemas();
        let mut latest = Latest::new(vec![0], &input, output).unwrap();
        shown(&mut latest, rows(&[(Some("toys"), 1, 60)]));
        assert_eq!(latest.snapshot(&mut Output::default()).unwrap()[0].num_rows(), 1);
        assert_eq!(shown(&mut latest, rows(&[(Some("toys"), 2, 60)])), [2]);
        assert!(latest.snapshot(&mut Output::default()).unwrap().is_empty());
    }

    #[test]
    fn keys_are_forgotten_when_the_watermark_has_passed_their_window() {
        let (input, output) = schemas();
        let mut latest = Latest::new(vec![0], &input, output).unwrap();
        let names: Vec<String> = (0..5000).map(|number| format!("key {number}")).collect();
        for (name, time) in names.iter().zip(0..) {
            assert_eq!(shown(&mut latest, rows(&[(Some(name), 1, time), (Some("open"), 2, 9000)])), [1, 2]);
            latest.on_watermark(EventTime(time), &mut Output::default()).unwrap();
            assert!(latest.newest.len() <= KEYS_WORTH_FORGETTING + 1, "{}", latest.newest.len());
        }
        let snapshot = latest.snapshot(&mut Output::default()).unwrap();
        assert_eq!(snapshot[0].num_rows(), 1, "what is final is not kept either");
        assert_eq!(latest.state().unwrap()[0].num_rows(), 1);
        assert_eq!(latest.key_bytes, latest.newest.keys().map(|key| key.len()).sum::<usize>());
        assert!(shown(&mut latest, rows(&[(Some("open"), 3, 8000)])).is_empty(), "its window is open");
        latest.on_watermark(EventTime(9000), &mut Output::default()).unwrap();
        assert!(latest.state().unwrap().is_empty());
    }

    #[test]
    fn the_state_of_another_key_is_refused() {
        let (input, output) = schemas();
        let mut by_category = Latest::new(vec![0], &input, Arc::clone(&output)).unwrap();
        shown(&mut by_category, rows(&[(Some("toys"), 1, 60)]));
        let state = by_category.snapshot(&mut Output::default()).unwrap().remove(0);
        let mut by_sales = Latest::new(vec![1], &input, output).unwrap();
        assert_eq!(
            by_sales.restore(state).unwrap_err().strip_backtrace(),
            "Execution error: the state is not that of a sink which keeps the newest row of the same key"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_whole_state_is_what_all_snapshots_add_up_to(
            batches in prop::collection::vec(prop::collection::vec((0..4_usize, 0..9_i64, 0..30_i64), 0..6), 0..12),
            compacted_at in 0..12_usize,
            keyed in any::<bool>(),
        ) {
            let (input, output) = schemas();
            let keys = if keyed { vec![0] } else { vec![] };
            let made = || Latest::new(keys.clone(), &input, Arc::clone(&output)).unwrap();
            let names = [None, Some("toys"), Some("food"), Some("books")];
            let batch = |batch: &[(usize, i64, i64)]| {
                rows(&batch.iter().map(|(key, sales, time)| (names[*key], *sales, *time)).collect::<Vec<_>>())
            };
            let (before, after) = batches.split_at(compacted_at.min(batches.len()));
            let mut running = made();
            let mut snapshots = vec![];
            for rows in before {
                shown(&mut running, batch(rows));
                snapshots.extend(running.snapshot(&mut Output::default()).unwrap());
            }
            let mut compacting = made();
            snapshots.into_iter().for_each(|state| compacting.restore(state).unwrap());
            let mut restored = made();
            compacting.state().unwrap().into_iter().for_each(|state| restored.restore(state).unwrap());
            for rows in after {
                let expected = shown(&mut running, batch(rows));
                prop_assert_eq!(shown(&mut compacting, batch(rows)), expected.clone());
                prop_assert_eq!(shown(&mut restored, batch(rows)), expected);
            }
        }
    }
}
