//! What surrounds the records of one event: split, offset, broker time, key and the bytes themselves.
//!
//! Metadata columns and dead letters are both cut from it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray, TimestampMillisecondArray, new_null_array,
};
use arrow::datatypes::DataType;

use super::reader::Split;
use crate::catalog::MetadataKey;
use crate::formats::{RawRecords, SplitRun};

/// The surroundings of every record of one event, bad ones included.
pub struct Surroundings<'a> {
    /// The names of their splits, each with its number of records, in order.
    runs: Vec<(Arc<str>, usize)>,
    offsets: &'a [i64],
    records: Option<&'a RawRecords>,
}

impl<'a> Surroundings<'a> {
    /// Of records that were not decoded by their source.
    pub fn of_records(records: &'a RawRecords, splits: &[Split]) -> Surroundings<'a> {
        Surroundings { records: Some(records), ..Surroundings::of_rows(&records.runs, &records.offsets, splits) }
    }

    /// Of rows: their keys, times and bytes are not known.
    pub fn of_rows(runs: &[SplitRun], offsets: &'a [i64], splits: &[Split]) -> Surroundings<'a> {
        let runs = runs.iter().map(|run| (Arc::clone(&splits[run.split.0 as usize].name), run.rows)).collect();
        Surroundings { runs, offsets, records: None }
    }

    /// One value a record, in a type that casts to `target`.
    pub fn column(&self, key: MetadataKey, target: &DataType) -> ArrayRef {
        match key {
            MetadataKey::Topic => Arc::new(StringArray::from_iter(self.by_run(|(topic, _)| Some(topic)))),
            MetadataKey::Partition => Arc::new(Int32Array::from_iter(self.by_run(|(_, partition)| partition))),
            MetadataKey::Offset => Arc::new(Int64Array::from_iter_values(self.offsets.iter().copied())),
            MetadataKey::Timestamp => match self.records.and_then(|records| records.timestamps.as_ref()) {
                Some(times) => Arc::new(TimestampMillisecondArray::from_iter(times.iter().copied())),
                None => new_null_array(target, self.offsets.len()),
            },
            MetadataKey::Key => self.bytes(target, RawRecords::key),
            MetadataKey::Value => self.bytes(target, |records, row| Some(records.value(row))),
        }
    }

    fn by_run<'s, T: Copy + 's>(
        &'s self,
        value: impl Fn((&'s str, Option<i32>)) -> T + 's,
    ) -> impl Iterator<Item = T> + 's {
        self.runs.iter().flat_map(move |(split, rows)| std::iter::repeat_n(value(topic_and_partition(split)), *rows))
    }

    fn bytes(&self, target: &DataType, value: for<'r> fn(&'r RawRecords, usize) -> Option<&'r [u8]>) -> ArrayRef {
        let Some(records) = self.records else { return new_null_array(target, self.offsets.len()) };
        let values = (0..records.len()).map(|row| value(records, row));
        if matches!(target, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Arc::new(StringArray::from_iter(values.map(|value| value.map(String::from_utf8_lossy))));
        }
        Arc::new(BinaryArray::from_iter(values))
    }
}

/// `transactions[3]` is partition 3 of `transactions`; a name without a number has no partition.
fn topic_and_partition(split: &str) -> (&str, Option<i32>) {
    let parts = split.strip_suffix(']').and_then(|name| name.rsplit_once('['));
    match parts.and_then(|(topic, number)| Some((topic, number.parse().ok()?))) {
        Some((topic, partition)) => (topic, Some(partition)),
        None => (split, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_names_hold_topic_and_partition() {
        assert_eq!(topic_and_partition("transactions[3]"), ("transactions", Some(3)));
        assert_eq!(topic_and_partition("data/clicks.jsonl"), ("data/clicks.jsonl", None));
        assert_eq!(topic_and_partition("odd[name].jsonl"), ("odd[name].jsonl", None));
        assert_eq!(topic_and_partition("odd[x]"), ("odd[x]", None));
    }
}
