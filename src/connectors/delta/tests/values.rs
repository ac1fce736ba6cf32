//! Values of every type, partitions with odd values, and what the log says of files.

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, ListArray, StructArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Fields, Int32Type, TimeUnit};
use serde_json::{Value, json};

use super::*;

/// A table with these columns that has got them.
async fn written(columns: Vec<(&str, ArrayRef)>, pairs: &[(&str, &str)]) -> Table {
    let types: Vec<(&str, DataType)> =
        columns.iter().map(|(name, column)| (*name, column.data_type().clone())).collect();
    let table = Table::of(table(&types), pairs);
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(table.definition.writable_schema(), columns).unwrap();
    let (mut sink, _) = table.open(run(1, 0)).await;
    sink.deliver(Epoch(1), &[batch]).await.unwrap();
    sink.settle(true).await.unwrap();
    table
}

async fn stats(table: &Table) -> Vec<Value> {
    let opened = table.place.open().await.unwrap().unwrap();
    let bytes = opened.log_store().read_commit_entry(1).await.unwrap().unwrap();
    let lines = std::str::from_utf8(&bytes).unwrap().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some(serde_json::from_str(line["add"]["stats"].as_str()?).unwrap())).collect()
}

#[tokio::test]
async fn every_type_comes_back() {
    let tags = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    let fields = Fields::from(vec![Field::new("x", DataType::Utf8, true), Field::new("n", DataType::Int32, true)]);
    let inner: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec![Some("in"), None])), Arc::new(Int32Array::from(vec![Some(5), None]))];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("i8", Arc::new(Int8Array::from(vec![Some(-8), None]))),
        ("i16", Arc::new(Int16Array::from(vec![Some(16), None]))),
        ("f", Arc::new(Float32Array::from(vec![Some(0.25), Some(f32::NAN)]))),
        ("d", Arc::new(Float64Array::from(vec![Some(f64::INFINITY), None]))),
        ("dec", Arc::new(Decimal128Array::from(vec![Some(-1234), None]).with_precision_and_scale(10, 2).unwrap())),
        ("wide", Arc::new(Decimal128Array::from(vec![Some(7), None]).with_precision_and_scale(30, 0).unwrap())),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\xff\x00"[..]), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(20_000), None]))),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![Some(1_500_000_999), None]))),
        ("utc", Arc::new(TimestampMillisecondArray::from(vec![Some(1500), None]).with_timezone("+00:00"))),
        ("tags", Arc::new(tags)),
        ("nested", Arc::new(StructArray::new(fields, inner, None))),
    ];
    let table = written(columns, &[]).await;
    assert_eq!(
        table.query("SELECT b, i8, i16, f, d, dec, wide, encode(bytes, 'hex') AS bytes FROM events ORDER BY b").await,
        "\
+------+----+-----+------+-----+--------+------+-------+
| b    | i8 | i16 | f    | d   | dec    | wide | bytes |
+------+----+-----+------+-----+--------+------+-------+
| true | -8 | 16  | 0.25 | inf | -12.34 | 7    | ff00  |
|      |    |     | NaN  |     |        |      |       |
+------+----+-----+------+-----+--------+------+-------+"
    );
    assert_eq!(
        table.query("SELECT day, at, utc, tags, nested FROM events WHERE b").await,
        "\
+------------+-------------------------+--------------------------+-------+---------------+
| day        | at                      | utc                      | tags  | nested        |
+------------+-------------------------+--------------------------+-------+---------------+
| 2024-10-04 | 1970-01-01T00:00:01.500 | 1970-01-01T00:00:01.500Z | [1, ] | {x: in, n: 5} |
+------------+-------------------------+--------------------------+-------+---------------+"
    );
    let types = table.query("SELECT arrow_typeof(at) AS at, arrow_typeof(utc) AS utc FROM events LIMIT 1").await;
    assert!(types.contains("Timestamp(µs)") && types.contains("Timestamp(µs, \"UTC\")"), "{types}");
}

#[tokio::test]
async fn the_log_says_what_is_in_a_file() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from(vec![Some(3), None, Some(-1)]))),
        ("word", Arc::new(StringArray::from(vec!["b", "a", "c"]))),
        ("x", Arc::new(Float64Array::from(vec![0.5, f64::NEG_INFINITY, 1.0]))),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![1_000_000, 2_500_000, 2_600_000]))),
        ("day", Arc::new(Date32Array::from(vec![0, 1, i32::MAX]))),
        ("none", Arc::new(Int64Array::from(vec![None::<i64>, None, None]))),
        ("dec", Arc::new(Decimal128Array::from(vec![125, -5, 0]).with_precision_and_scale(10, 2).unwrap())),
    ];
    let table = written(columns, &[]).await;
    assert_eq!(
        stats(&table).await,
        [json!({
            "numRecords": 3,
            "minValues": {"n": -1, "word": "a", "at": "1970-01-01 00:00:00.001", "dec": -0.05},
            "maxValues": {"n": 3, "word": "c", "at": "1970-01-01 00:00:00.003", "dec": 1.25},
            "nullCount": {"n": 1, "word": 0, "x": 0, "at": 0, "day": 0, "none": 3, "dec": 0},
        })]
    );
    let found = table.query("SELECT count(*) AS n FROM events WHERE at > '1970-01-01 00:00:00.0025'").await;
    assert!(found.contains("| 1 |"), "{found}");
}

#[tokio::test]
async fn partitions_hold_odd_values() {
    let odd = ["a/b", "c=d", "with space", "é%20", "..", "?#&+:\"'", "", "x".repeat(300).leak()];
    let words: Vec<Option<&str>> = odd.iter().map(|word| Some(*word)).chain([None]).collect();
    let numbers = Int64Array::from_iter_values(0..words.len() as i64);
    let table = written(
        vec![("word", Arc::new(StringArray::from(words.clone()))), ("n", Arc::new(numbers))],
        &[("partition_by", "word")],
    )
    .await;
    for (number, word) in words.iter().enumerate() {
        let is = match word {
            None | Some("") => "word IS NULL".into(),
            Some(word) => format!("word = '{}'", word.replace('\'', "''")),
        };
        let found = table.query(&format!("SELECT n FROM events WHERE {is}")).await;
        assert!(found.contains(&format!("| {number} |")), "{word:?}: {found}");
    }
    assert_eq!(table.numbers().await, (0..words.len() as i64).collect::<Vec<_>>());
    assert_eq!(stats(&table).await.len(), 8, "null and empty text are one partition");
}

#[tokio::test]
async fn partitions_by_numbers_and_times() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("day", Arc::new(Date32Array::from(vec![Some(20_000), None, Some(20_000)]))),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000, 0, 1_500_000_000]))),
        ("dec", Arc::new(Decimal128Array::from(vec![125, -5, 125]).with_precision_and_scale(10, 2).unwrap())),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ];
    let table = written(columns, &[("partition_by", "day, at, dec")]).await;
    assert_eq!(
        table.query("SELECT * FROM events ORDER BY n").await,
        "\
+------------+-------------------------+-------+---+
| day        | at                      | dec   | n |
+------------+-------------------------+-------+---+
| 2024-10-04 | 1970-01-01T00:00:01.500 | 1.25  | 1 |
|            | 1970-01-01T00:00:00     | -0.05 | 2 |
| 2024-10-04 | 1970-01-01T00:00:01.500 | 1.25  | 3 |
+------------+-------------------------+-------+---+"
    );
    assert_eq!(stats(&table).await.len(), 2);
}

#[tokio::test]
async fn thousands_of_partitions_are_not_all_open_at_once() {
    let numbers: Vec<i64> = (0..700).collect();
    let table = written(
        vec![("part", Arc::new(Int64Array::from(numbers.clone()))), ("n", Arc::new(Int64Array::from(numbers.clone())))],
        &[("partition_by", "part")],
    )
    .await;
    assert_eq!(table.version().await, 1, "one commit");
    assert_eq!(table.numbers().await, numbers);
}

#[tokio::test]
async fn a_value_that_has_no_place_is_told() {
    let definition = table(&[("at", DataType::Timestamp(TimeUnit::Second, None))]);
    let table = Table::of(definition, &[]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    let far: ArrayRef = Arc::new(arrow::array::TimestampSecondArray::from(vec![i64::MAX / 1000]));
    let batch = RecordBatch::try_new(table.definition.writable_schema(), vec![far]).unwrap();
    let error = sink.deliver(Epoch(1), &[batch]).await.unwrap_err().to_string();
    assert!(error.starts_with("Delta table t: column 'at' cannot hold a value: "), "{error}");
}
