//! The reader with a small format of its own: a record is `value time`, or nothing that can be read.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};

use super::parts::MemorySource;
use crate::catalog::{BadRows, FutureLimit, MetadataKey, TableName, TableSettings};
use crate::dataflow::graph::{EventTimeSpec, SourceNode};
use crate::dataflow::reader::{BadRow, Reader, Split};
use crate::formats::{BadReason, BadRecord, Decoded, Decoder, FormatError, Keys, RawRecords, Span, SplitIndex};
use crate::operators::window::{EVENT_TIME, ROW_WATERMARK, TIME_TYPE};
use crate::sql::Location;
use crate::time::{EventTime, WallClock};

struct Words(SchemaRef);

impl Decoder for Words {
    fn decode(&mut self, records: &RawRecords) -> Result<Decoded, FormatError> {
        let (mut values, mut times, mut bad) = (vec![], vec![], vec![]);
        for row in 0..records.len() {
            let text = String::from_utf8_lossy(records.value(row)).into_owned();
            match text.split_once(' ').and_then(|(value, time)| Some((value.parse::<i64>().ok()?, time.to_owned()))) {
                Some((value, time)) => {
                    values.push(value);
                    times.push(Some(time).filter(|time| !time.is_empty()));
                }
                None => {
                    let message = format!("'{text}' is not a value and a time");
                    bad.push(BadRecord { row, reason: BadReason::Malformed, message });
                }
            }
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(values)), Arc::new(StringArray::from(times))];
        Ok(Decoded { batch: RecordBatch::try_new(Arc::clone(&self.0), columns).unwrap(), bad })
    }
}

fn reader(dead_letters: Option<SchemaRef>) -> Reader {
    reader_at(dead_letters, FutureLimit::Usual, None)
}

fn reader_at(dead_letters: Option<SchemaRef>, future_limit: FutureLimit, clock: Option<WallClock>) -> Reader {
    let physical = Arc::new(Schema::new(vec![
        Field::new("value", DataType::Int64, false),
        Field::new("time", DataType::Utf8, true),
    ]));
    let metadata = [
        (MetadataKey::Topic, Field::new("topic", DataType::Utf8View, true)),
        (MetadataKey::Partition, Field::new("partition", DataType::Int32, false)),
        (MetadataKey::Offset, Field::new("offset", DataType::Int64, false)),
        (MetadataKey::Timestamp, Field::new("broker", DataType::Timestamp(TimeUnit::Nanosecond, None), true)),
        (MetadataKey::Key, Field::new("key", DataType::Utf8, true)),
        (MetadataKey::Value, Field::new("raw", DataType::Binary, true)),
    ];
    // A text that is no time makes the cast fail for the whole batch.
    let time: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(Arc::new(Column::new("time", 1)), TIME_TYPE, None));
    let node = SourceNode {
        table: "events".into(),
        factory: super::parts::factory(MemorySource::new(vec![])),
        physical: Arc::clone(&physical),
        metadata: metadata.map(|(key, field)| (key, Arc::new(field))).into(),
        event_time: Some(EventTimeSpec { event_time: Arc::clone(&time), watermark: time, column: "time".into() }),
        settings: TableSettings {
            bad_rows: BadRows::Table(TableName { name: "dead".into(), location: Location::default() }),
            future_limit,
            ..TableSettings::default()
        },
        dead_letters,
    };
    Reader::new(&node, Some(Box::new(Words(physical))), clock, false)
}

fn splits() -> Vec<Split> {
    ["t[0]", "t[7]"]
        .map(|name| Split { name: name.into(), watermark: EventTime::MIN, position: None, origin: None })
        .into()
}

fn records() -> RawRecords {
    let mut records = RawRecords::default();
    let values = ["1 1970-01-01T00:00:05", "junk", "2 1970-01-01T00:00:03", "3 ", "4 1970-01-01T00:00:09"];
    for (row, value) in values.iter().enumerate() {
        records.push(SplitIndex(0), 10 + row as i64, value.as_bytes());
    }
    records.push(SplitIndex(1), 100, b"5 never");
    records.push(SplitIndex(1), 101, b"6 1970-01-01T00:00:01");
    records.timestamps = Some((0..7).map(|row| (row != 2).then_some(row * 1000)).collect());
    let spans = (0..7).map(|row| (row != 0).then_some(Span { start: row, end: row + 1 })).collect();
    records.keys = Some(Keys { bytes: b"abcdefg".to_vec(), spans });
    records
}

#[test]
fn bad_records_are_left_out_and_all_else_stays_in_step() {
    let mut splits = splits();
    let read = reader(None).records(&records(), &mut splits).unwrap();
    let rows: Vec<Vec<String>> = (0..read.batch.num_rows())
        .map(|row| (0..8).map(|column| array_value_to_string(read.batch.column(column), row).unwrap()).collect())
        .collect();
    let times = ["1970-01-01T00:00:05", "1970-01-01T00:00:03", "1970-01-01T00:00:09", "1970-01-01T00:00:01"];
    let raw = |value: &str, time: &str| -> String {
        format!("{value} {time}").bytes().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(rows[0], ["1", times[0], "t", "0", "10", "1970-01-01T00:00:00", "", &raw("1", times[0])]);
    assert_eq!(rows[1], ["2", times[1], "t", "0", "12", "", "c", &raw("2", times[1])]);
    assert_eq!(rows[2], ["4", times[2], "t", "0", "14", "1970-01-01T00:00:04", "e", &raw("4", times[2])]);
    assert_eq!(rows[3], ["6", times[3], "t", "7", "101", "1970-01-01T00:00:06", "g", &raw("6", times[3])]);
    let bad: Vec<(usize, BadReason)> = read.bad.iter().map(|bad| (bad.record, bad.reason)).collect();
    assert_eq!(bad, [(1, BadReason::Malformed), (3, BadReason::MissingValue), (5, BadReason::WrongType)]);
    assert_eq!(read.bad[1].message, "the event time, column time, has no value here");
    assert!(read.bad[2].message.starts_with("the event time, column time: "), "{}", read.bad[2].message);
}

#[test]
fn a_row_has_the_watermark_of_its_own_split_just_before_it() {
    let mut splits = splits();
    let read = reader(None).records(&records(), &mut splits).unwrap();
    let seconds = |name: &str| -> Vec<i64> {
        let times = read.batch.column_by_name(name).unwrap().as_primitive::<TimestampNanosecondType>();
        times.values().iter().map(|time| time.div_euclid(1_000_000_000)).collect()
    };
    let never = i64::MIN.div_euclid(1_000_000_000);
    assert_eq!(seconds(EVENT_TIME), [5, 3, 9, 1]);
    assert_eq!(seconds(ROW_WATERMARK), [never, 5, 5, never]);
    assert_eq!(splits[0].watermark, EventTime(9_000_000_000));
    assert_eq!(splits[1].watermark, EventTime(1_000_000_000));
}

#[test]
fn dead_letters_hold_the_record_as_it_came() {
    let field = |name, data_type| Field::new(name, data_type, true);
    let schema = Arc::new(Schema::new(vec![
        field("value", DataType::Utf8),
        field("key", DataType::Binary),
        field("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None)),
        field("offset", DataType::Int64),
        field("reason", DataType::Utf8View),
    ]));
    let letters = reader(Some(schema)).records(&records(), &mut splits()).unwrap().dead_letters.unwrap();
    let row: Vec<String> = letters.columns().iter().map(|column| array_value_to_string(column, 0).unwrap()).collect();
    assert_eq!(row, ["junk", "62", "1970-01-01T00:00:01", "11", "malformed"]);
    assert_eq!(letters.column(3).as_primitive::<Int64Type>().values(), &[11, 13, 100]);
}

#[test]
fn nothing_but_bad_records_makes_an_empty_batch() {
    let mut records = RawRecords::default();
    records.push(SplitIndex(0), 1, b"junk");
    let read = reader(None).records(&records, &mut splits()).unwrap();
    assert_eq!(read.batch.num_rows(), 0);
    let message = "'junk' is not a value and a time".to_owned();
    assert_eq!(read.bad, [BadRow { record: 0, reason: BadReason::Malformed, message }]);
}

#[test]
fn a_null_in_the_watermark_moves_nothing() {
    let physical = super::parts::input_schema();
    let node = SourceNode {
        table: "events".into(),
        factory: super::parts::factory(MemorySource::new(vec![])),
        physical: Arc::clone(&physical),
        metadata: vec![],
        event_time: Some(EventTimeSpec {
            event_time: Arc::new(Column::new("ts", 2)),
            watermark: Arc::new(Column::new("wm", 3)),
            column: "ts".into(),
        }),
        settings: TableSettings::default(),
        dead_letters: None,
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![5, 6]));
    let watermarks: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(4), None]));
    let batch = RecordBatch::try_new(physical, vec![Arc::clone(&numbers), numbers, times, watermarks]).unwrap();
    let runs = [crate::formats::SplitRun { split: SplitIndex(0), rows: 2 }];
    let mut splits = splits();
    Reader::new(&node, None, None, false).rows(batch, &runs, &[0, 1], &mut splits).unwrap();
    assert_eq!(splits[0].watermark, EventTime(4));
}

#[test]
fn a_time_far_ahead_of_the_clock_makes_a_bad_row_and_moves_no_watermark() {
    let mut records = RawRecords::default();
    for (row, time) in ["05:05", "05:06", "00:09"].iter().enumerate() {
        records.push(SplitIndex(0), row as i64, format!("1 1970-01-01T00:{time}").as_bytes());
    }
    records.push(SplitIndex(1), 7, b"2 2099-01-01T00:00:00");
    // The clock is read once a batch.
    let readings = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&readings);
    let clock = WallClock::new(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        EventTime(5_000_000_000)
    });
    let limit = FutureLimit::Ahead(std::time::Duration::from_secs(300));
    let mut known = splits();
    let read = reader_at(None, limit, Some(clock.clone())).records(&records, &mut known).unwrap();
    let bad: Vec<(usize, BadReason)> = read.bad.iter().map(|bad| (bad.record, bad.reason)).collect();
    assert_eq!(bad, [(1, BadReason::FutureEventTime), (3, BadReason::FutureEventTime)]);
    assert_eq!(
        read.bad[1].message,
        "the event time, column time, is 2099-01-01T00:00:00Z, more than 5m (future_limit) ahead of the clock, \
         1970-01-01T00:00:05Z"
    );
    assert_eq!(known[0].watermark, EventTime(305_000_000_000));
    assert_eq!(known[1].watermark, EventTime::MIN);
    assert_eq!(readings.load(std::sync::atomic::Ordering::Relaxed), 1);

    // Without a clock, without a limit, and by default for what ends by itself, any time will do.
    for (limit, clock) in
        [(limit, None), (FutureLimit::None, Some(clock.clone())), (FutureLimit::Usual, Some(clock.clone()))]
    {
        assert!(reader_at(None, limit, clock).records(&records, &mut splits()).unwrap().bad.is_empty(), "{limit:?}");
    }
}
