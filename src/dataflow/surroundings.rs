//! What surrounds the records of one event: split, offset, broker time, key and the bytes themselves.
//!
//! Metadata columns and dead letters are both cut from it.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int64Array, ListArray, StringArray, StringBuilder,
    StructArray, TimestampMillisecondArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields};

use super::reader::Split;
use crate::catalog::MetadataKey;
use crate::formats::{Headers, RawRecords, SplitRun};

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
            MetadataKey::Headers => self.headers(target),
        }
    }

    fn by_run<'s, T: Copy + 's>(
        &'s self,
        value: impl Fn((&'s str, Option<i32>)) -> T + 's,
    ) -> impl Iterator<Item = T> + 's {
        self.runs.iter().flat_map(move |(split, rows)| std::iter::repeat_n(value(topic_and_partition(split)), *rows))
    }

    fn headers(&self, target: &DataType) -> ArrayRef {
        let headers = self.records.and_then(|records| records.headers.as_ref());
        match (headers, target, MetadataKey::header_fields(target)) {
            // A header's value may be null, and a NOT NULL part could not hold it.
            (Some(headers), DataType::List(item), Some(fields)) if fields[1].is_nullable() => {
                HeaderLists::of(headers, self.offsets.len()).into_array(item, fields)
            }
            _ => new_null_array(target, self.offsets.len()),
        }
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

/// Headers as a list of name and value.
struct HeaderLists {
    names: StringBuilder,
    values: BinaryBuilder,
    lengths: Vec<usize>,
}

impl HeaderLists {
    fn of(headers: &Headers, records: usize) -> HeaderLists {
        let mut lists = HeaderLists { names: StringBuilder::new(), values: BinaryBuilder::new(), lengths: vec![] };
        for row in 0..records {
            let before = lists.names.len();
            for (name, value) in headers.of(row) {
                lists.names.append_value(String::from_utf8_lossy(name));
                lists.values.append_option(value);
            }
            lists.lengths.push(lists.names.len() - before);
        }
        lists
    }

    /// In the type of the column, of which [`MetadataKey::header_fields`] are the parts.
    fn into_array(mut self, item: &FieldRef, fields: &Fields) -> ArrayRef {
        let values = self.values.finish();
        let values: ArrayRef = match fields[1].data_type() {
            DataType::Binary => Arc::new(values),
            _ => Arc::new(StringArray::from_iter(values.iter().map(|value| value.map(String::from_utf8_lossy)))),
        };
        let pairs = StructArray::new(fields.clone(), vec![Arc::new(self.names.finish()), values], None);
        let lengths = OffsetBuffer::from_lengths(self.lengths);
        Arc::new(ListArray::new(Arc::clone(item), lengths, Arc::new(pairs), None))
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
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Field;

    use super::*;
    use crate::formats::SplitIndex;
    use crate::time::EventTime;

    #[test]
    fn headers_become_a_list_of_names_and_values() {
        let mut records = RawRecords::default();
        let mut headers = Headers::default();
        for row in 0..3 {
            records.push(SplitIndex(0), row, b"{}");
            (0..row).for_each(|n| headers.push(b"n", (n > 0).then_some(b"\xffx".as_slice())));
            headers.end_record();
        }
        records.headers = Some(Box::new(headers));
        let splits = [Split { name: "t[0]".into(), watermark: EventTime::MIN, position: None, origin: None }];
        let surroundings = Surroundings::of_records(&records, &splits);
        for value in [DataType::Utf8, DataType::Binary] {
            let fields: Fields =
                vec![Field::new("name", DataType::Utf8, true), Field::new("value", value.clone(), true)].into();
            let target = DataType::List(Arc::new(Field::new("item", DataType::Struct(fields), true)));
            let column = surroundings.column(MetadataKey::Headers, &target);
            assert_eq!(*column.data_type(), target);
            let lists = column.as_list::<i32>();
            assert_eq!([0, 1, 2].map(|row| lists.value_length(row)), [0, 1, 2]);
            let pairs = lists.value(2);
            let values = pairs.as_struct().column(1);
            assert!(values.is_null(0) && values.is_valid(1));
            if value == DataType::Utf8 {
                assert_eq!(values.as_string::<i32>().value(1), "\u{fffd}x");
            }
        }
    }

    #[test]
    fn split_names_hold_topic_and_partition() {
        assert_eq!(topic_and_partition("transactions[3]"), ("transactions", Some(3)));
        assert_eq!(topic_and_partition("data/clicks.jsonl"), ("data/clicks.jsonl", None));
        assert_eq!(topic_and_partition("odd[name].jsonl"), ("odd[name].jsonl", None));
        assert_eq!(topic_and_partition("odd[x]"), ("odd[x]", None));
    }
}
