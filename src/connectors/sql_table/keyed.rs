//! The last row of each key: what an upsert needs of a batch, since one statement may touch a row only once.

use ahash::AHashSet;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

/// Finds the last row of each key.
pub struct LastPerKey {
    key: Vec<usize>,
    converter: RowConverter,
}

impl LastPerKey {
    /// Keys are the columns at `key` of rows of `schema`.
    ///
    /// # Errors
    /// When a column's type cannot be compared.
    pub fn new(schema: &Schema, key: Vec<usize>) -> Result<LastPerKey, ArrowError> {
        let fields = key.iter().map(|&at| SortField::new(schema.field(at).data_type().clone())).collect();
        Ok(LastPerKey { converter: RowConverter::new(fields)?, key })
    }

    /// The last row of each key, in the order in which they stand.
    ///
    /// # Errors
    /// When Arrow refuses.
    pub fn last(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<_> = self.key.iter().map(|&at| batch.column(at).clone()).collect();
        let keys = self.converter.convert_columns(&columns)?;
        let mut seen = AHashSet::with_capacity(batch.num_rows());
        let mut last: Vec<u32> =
            (0..batch.num_rows()).rev().filter(|&row| seen.insert(keys.row(row))).map(|row| row as u32).collect();
        if last.len() == batch.num_rows() {
            return Ok(batch.clone());
        }
        last.reverse();
        take_record_batch(batch, &UInt32Array::from(last))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn the_last_row_of_a_key_wins_and_null_is_a_key() {
        let batch = RecordBatch::try_from_iter([
            ("k", Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("a"), None, None])) as ArrayRef),
            ("v", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5])) as ArrayRef),
        ])
        .unwrap();
        let last = LastPerKey::new(&batch.schema(), vec![0]).unwrap().last(&batch).unwrap();
        assert_eq!(last.column(1).as_primitive::<Int64Type>().values(), &[2, 3, 5]);
    }
}
