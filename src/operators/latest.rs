//! The newest window wins: what stands before a sink that keeps one row a key.
//!
//! Several windows of a key can be open at once, each published early and once more when it closes. An older window's
//! final row must not replace a newer window's early one, so rows older than what the key already shows are dropped.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err};

use super::subplan::with_schema;
use super::{InputIndex, Operator, Output};

/// Drops rows whose key has already shown a later event time.
///
/// Input: the sink's columns and, last, `__event_time`. Output: the sink's columns. State: one event time a key.
pub struct Latest {
    keys: Vec<usize>,
    converter: RowConverter,
    newest: HashMap<Box<[u8]>, i64, ahash::RandomState>,
    /// The keys that changed since the last barrier, as input rows.
    delta: Vec<RecordBatch>,
    output: SchemaRef,
    key_bytes: usize,
}

impl Latest {
    /// Over input of `input`, with the key in the columns `keys`; none means that there is one row in all.
    ///
    /// # Errors
    /// When a key column's type cannot be compared.
    pub fn new(keys: Vec<usize>, input: &SchemaRef, output: SchemaRef) -> Result<Latest> {
        let fields = keys.iter().map(|key| SortField::new(input.field(*key).data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let hashing = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let newest = HashMap::with_hasher(hashing);
        Ok(Latest { keys, converter, newest, delta: vec![], output, key_bytes: 0 })
    }

    /// Which rows are as new as what their key has shown; notes them as shown.
    fn newest_rows(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        let columns: Vec<ArrayRef> = self.keys.iter().map(|key| batch.column(*key).clone()).collect();
        let Some(times) = batch.columns().last().and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>()) else {
            return exec_err!("rows for a sink that keeps the newest have no event time");
        };
        let rows = if columns.is_empty() { None } else { Some(self.converter.convert_columns(&columns)?) };
        let mut keep = Vec::with_capacity(times.len());
        for (row, time) in times.values().iter().enumerate() {
            let key: &[u8] = rows.as_ref().map_or(&[], |rows| rows.row(row).data());
            match self.newest.get_mut(key) {
                Some(newest) => {
                    keep.push(time >= newest);
                    *newest = (*newest).max(*time);
                }
                None => {
                    self.key_bytes += key.len();
                    self.newest.insert(key.into(), *time);
                    keep.push(true);
                }
            }
        }
        Ok(BooleanArray::from(keep))
    }
}

impl Operator for Latest {
    fn on_batch(&mut self, _input: InputIndex, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let keep = self.newest_rows(&batch)?;
        let kept = if keep.true_count() == batch.num_rows() { batch } else { filter_record_batch(&batch, &keep)? };
        if kept.num_rows() == 0 {
            return Ok(());
        }
        let columns: Vec<usize> = (0..self.output.fields().len()).collect();
        let shown = with_schema(&kept.project(&columns)?, &self.output)?;
        self.delta.push(kept);
        out.emit(shown);
        Ok(())
    }

    fn snapshot(&mut self, _out: &mut Output) -> Result<Vec<RecordBatch>> {
        Ok(std::mem::take(&mut self.delta))
    }

    fn restore(&mut self, state: RecordBatch) -> Result<()> {
        self.newest_rows(&state).map(|_| ())
    }

    fn state_bytes(&self) -> usize {
        self.key_bytes + self.newest.capacity() * (size_of::<Box<[u8]>>() + size_of::<i64>())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::operators::window::{EVENT_TIME, TIME_TYPE};

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
}
