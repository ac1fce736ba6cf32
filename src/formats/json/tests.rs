//! What JSON promises, from both sides: cases by hand, and random ones against serde_json.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMillisecondType, TimestampNanosecondType,
};
use proptest::prelude::*;
use serde_json::Value;

use super::{JsonDecoder, JsonEncoder};
use crate::formats::options::{JsonDecodeOptions, JsonNulls, TimestampFormat};
use crate::formats::{BadReason, Decoded, Decoder, EncodedRows, Encoder, FormatError, RawRecords, SplitIndex};

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields = fields.iter().map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn one(data_type: DataType) -> SchemaRef {
    schema(&[("x", data_type, true)])
}

fn decode_as<T: AsRef<[u8]>>(schema: SchemaRef, timestamps: TimestampFormat, records: &[T]) -> Decoded {
    let mut raw = RawRecords::default();
    for (record, offset) in records.iter().zip(0..) {
        raw.push(SplitIndex(0), offset, record.as_ref());
    }
    let options = JsonDecodeOptions { timestamps, ..JsonDecodeOptions::default() };
    let mut decoder = JsonDecoder::new(schema, &options).unwrap_or_else(|error| panic!("{error}"));
    let first = decoder.decode(&raw).unwrap_or_else(|error| panic!("{error}"));
    // The second time the order of keys is known; nothing else may differ.
    let second = decoder.decode(&raw).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((&first.batch, &first.bad), (&second.batch, &second.bad));
    assert_eq!(first.batch.num_rows() + first.bad.len(), records.len());
    first
}

fn decode<T: AsRef<[u8]>>(schema: SchemaRef, records: &[T]) -> Decoded {
    decode_as(schema, TimestampFormat::Detect, records)
}

/// The one message of the one record.
fn message(schema: SchemaRef, record: &str) -> (BadReason, String) {
    let decoded = decode(schema, &[record]);
    assert_eq!(decoded.bad.len(), 1, "{record}");
    (decoded.bad[0].reason, decoded.bad[0].message.clone())
}

fn encode(batch: &RecordBatch, nulls: JsonNulls) -> Result<Vec<String>, FormatError> {
    let mut out = EncodedRows::default();
    JsonEncoder::new(batch.schema_ref(), nulls)?.encode(batch, &mut out)?;
    Ok(out.iter().map(|row| String::from_utf8_lossy(row).into_owned()).collect())
}

fn timestamp(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, None)
}

#[test]
fn an_event_gives_the_columns_that_are_wanted() {
    let wanted = schema(&[
        ("timestamp", timestamp(TimeUnit::Nanosecond), false),
        ("category", DataType::Utf8, true),
        ("quantity", DataType::Int32, true),
        ("amount", DataType::Decimal128(12, 2), true),
    ]);
    let records = [
        r#"{"event_type":"transaction","timestamp":"2026-11-24T10:00:00.123Z","customer_id":17,"category":"electronics","quantity":3,"amount":149.97,"session_id":"3f2b8c1e"}"#,
        r#" { "amount" : "0.5" , "quantity" : "7" , "timestamp" : 1795514400123 , "other" : {"a":[1,{"b":"}"}]} } "#,
    ];
    let decoded = decode(wanted, &records);
    assert_eq!(decoded.bad, []);
    let times = decoded.batch.column(0).as_primitive::<TimestampNanosecondType>();
    assert_eq!(times.values(), &[1_795_514_400_123_000_000, 1_795_514_400_123_000_000]);
    let categories: Vec<_> = decoded.batch.column(1).as_string::<i32>().iter().collect();
    assert_eq!(categories, [Some("electronics"), None]);
    assert_eq!(decoded.batch.column(2).as_primitive::<Int32Type>().values(), &[3, 7]);
    assert_eq!(decoded.batch.column(3).as_primitive::<Decimal128Type>().values(), &[14_997, 50]);
}

#[test]
fn messages_say_what_is_wrong_and_where() {
    let amount = || schema(&[("total_amount", DataType::Decimal128(12, 2), false)]);
    let wrong = |record: &str, expected: &str| {
        assert_eq!(message(amount(), record), (BadReason::WrongType, expected.to_string()));
    };
    wrong(r#"{"total_amount":"abc"}"#, r#"column total_amount: "abc" is not a decimal(12,2) (byte 16)"#);
    wrong(
        r#"{"total_amount":1.234}"#,
        "column total_amount: 1.234 is not a decimal(12,2): it has too many digits behind the point (byte 16)",
    );
    wrong(r#"{"total_amount":1e10}"#, "column total_amount: 1e10 is not a decimal(12,2): it is out of range (byte 16)");
    wrong(r#"{"total_amount":true}"#, "column total_amount: true is not a decimal(12,2) (byte 16)");
    let long = format!(r#"{{"total_amount":"{}"}}"#, "é".repeat(100));
    let (_, text) = message(amount(), &long);
    assert_eq!(text, format!("column total_amount: \"{}… is not a decimal(12,2) (byte 16)", "é".repeat(39)));

    let missing = |record: &str, expected: &str| {
        assert_eq!(message(amount(), record), (BadReason::MissingValue, expected.to_string()));
    };
    missing("{}", "column total_amount is NOT NULL, but the record has no such key");
    missing(r#"{"Total_Amount":1}"#, "column total_amount is NOT NULL, but the record has no such key");
    missing(r#"{"total_amount":null}"#, "column total_amount is NOT NULL, but its value is null (byte 16)");

    let malformed = |record: &str, expected: &str| {
        assert_eq!(message(one(DataType::Int64), record), (BadReason::Malformed, expected.to_string()));
    };
    malformed("", "the record is empty, not a JSON object");
    malformed(" \n", "the record is empty, not a JSON object");
    malformed("null", "the record is null, not a JSON object");
    malformed("[1]", "not well-formed JSON: expected a JSON object, found '[' (byte 0)");
    malformed(r#"{"a" 1}"#, "not well-formed JSON: expected ':' after a key, found '1' (byte 5)");
    malformed(r#"{"a":1 "b":2}"#, "not well-formed JSON: expected ',' or '}', found '\"' (byte 7)");
    malformed(r#"{"a":"b"#, "not well-formed JSON: the record ends inside a string (byte 7)");
    malformed(r#"{"a":1"#, "not well-formed JSON: the record ends where ',' or '}' should be (byte 6)");
    malformed(r#"{"a":"#, "not well-formed JSON: the record ends where a value should be (byte 5)");
    malformed(r#"{"a":1}}"#, "not well-formed JSON: expected nothing behind the object, found '}' (byte 7)");
    malformed(r#"{"a":nul}"#, "not well-formed JSON: expected a value, found 'n' (byte 5)");
    malformed(r#"{"a":01}"#, "not well-formed JSON: a number that JSON does not have (byte 5)");
    malformed("{\"a\":\"\t\"}", "not well-formed JSON: a control character inside a string (byte 6)");
    malformed(r#"{"a":"\x"}"#, "not well-formed JSON: an escape that JSON does not have (byte 6)");
}

#[test]
fn what_is_skipped_is_checked_too() {
    for broken in [
        r#"{"a":[1,2}"#,
        r#"{"a":{"b":1]}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":{"b"}}"#,
        r#"{"a":{1:2}}"#,
        r#"{"a":{"b":1,}}"#,
        r#"{"a":[}"#,
        r#"{"a":[[[]]}"#,
        r#"{"a":{"b":"c}}"#,
        r#"{,}"#,
        r#"{"a":1,}"#,
        r#"{"a"}"#,
        r#"{"a":-}"#,
        r#"{"a":1.}"#,
        r#"{"a":[truex]}"#,
        r#"{"a":"\u12"}"#,
        r#"{a:1}"#,
        r#"{"a":1}x"#,
        r#"{"a":[1,2"#,
        r#"{"a":tru"#,
        "{",
        "{\"",
        "}",
        r#"{"a":'b'}"#,
    ] {
        let decoded = decode(Arc::new(Schema::empty()), &["{}", broken, "{}"]);
        assert_eq!(decoded.batch.num_rows(), 2, "{broken}");
        assert_eq!((decoded.bad[0].row, decoded.bad[0].reason), (1, BadReason::Malformed), "{broken}");
    }
    let good = [r#"{"a":[[],{},[{"b":[]}], -1.5e+3,true,false,null,"\"\\\u00e9"]}"#, " {} ", r#"{"":{"":""}}"#];
    assert_eq!(decode(Arc::new(Schema::empty()), &good).bad, []);
}

#[test]
fn a_bad_record_is_taken_back_out_of_every_column() {
    let item = DataType::Struct(
        vec![Field::new("name", DataType::Utf8View, true), Field::new("price", DataType::Int32, true)].into(),
    );
    let wanted = schema(&[
        ("name", DataType::Utf8View, true),
        ("items", DataType::new_list(item, true), true),
        ("ok", DataType::Boolean, true),
        ("id", DataType::Int64, true),
    ]);
    let good = r#"{"name":"a name beyond twelve bytes","items":[{"name":"an item beyond twelve bytes","price":1}],"ok":true,"id":1}"#;
    let bad = [
        r#"{"name":"another name beyond twelve bytes","items":[{"name":"one","price":1},{"name":"two, much longer than one","price":"x"}],"ok":true,"id":1}"#,
        r#"{"name":"another name beyond twelve bytes","items":[{"name":"one","price":1}],"ok":false,"id":1"#,
        r#"{"items":null,"name":null,"ok":null,"id":1.5}"#,
    ];
    let mixed = [good, bad[0], good, bad[1], bad[2], good];
    let decoded = decode(Arc::clone(&wanted), &mixed);
    assert_eq!(decoded.bad.iter().map(|bad| bad.row).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(decoded.batch, decode(wanted, &[good, good, good]).batch);
}

#[test]
fn the_last_of_equal_keys_counts() {
    let wanted = schema(&[("x", DataType::Int32, true), ("s", DataType::Utf8, true)]);
    let decoded = decode(wanted, &[r#"{"x":1,"s":"a","x":2,"s":null}"#, r#"{"x":3,"x":null,"s":"b","s":"c"}"#]);
    let numbers: Vec<_> = decoded.batch.column(0).as_primitive::<Int32Type>().iter().collect();
    let texts: Vec<_> = decoded.batch.column(1).as_string::<i32>().iter().collect();
    assert_eq!((numbers, texts), (vec![Some(2), None], vec![None, Some("c")]));
}

#[test]
fn any_value_becomes_text() {
    let records = [
        r#"{"x":{"a": [1, "é"]}}"#,
        r#"{"x":[]}"#,
        r#"{"x":1.50}"#,
        r#"{"x":true}"#,
        r#"{"x":"\ud83d\ude00\u0000\n\/"}"#,
    ];
    for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
        let decoded = decode(one(data_type), &records);
        let column = arrow::compute::cast(decoded.batch.column(0), &DataType::Utf8).unwrap_or_else(|e| panic!("{e}"));
        let texts: Vec<_> = column.as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, [r#"{"a": [1, "é"]}"#, "[]", "1.50", "true", "\u{1f600}\0\n/"]);
    }
}

#[test]
fn epochs_are_told_apart_by_their_size_unless_the_option_says() {
    let records =
        [r#"{"x":1700000000}"#, r#"{"x":1700000000000}"#, r#"{"x":1700000000000000}"#, r#"{"x":1700000000000000000}"#];
    let decoded = decode(one(timestamp(TimeUnit::Millisecond)), &records);
    assert_eq!(decoded.batch.column(0).as_primitive::<TimestampMillisecondType>().values(), &[1_700_000_000_000; 4]);
    let millis = TimestampFormat::Epoch(TimeUnit::Millisecond);
    let decoded = decode_as(one(timestamp(TimeUnit::Nanosecond)), millis, &[r#"{"x":5}"#, r#"{"x":"-5"}"#]);
    assert_eq!(decoded.batch.column(0).as_primitive::<TimestampNanosecondType>().values(), &[5_000_000, -5_000_000]);
    let decoded = decode_as(one(timestamp(TimeUnit::Second)), TimestampFormat::Iso8601, &[r#"{"x":5}"#]);
    assert_eq!(
        decoded.bad[0].message,
        "column x: 5 is not a timestamp: timestamp_format = 'iso8601' takes text (byte 5)"
    );
    let decoded = decode(one(timestamp(TimeUnit::Nanosecond)), &[r#"{"x":"2500-01-01T00:00:00Z"}"#]);
    assert_eq!(
        decoded.bad[0].message,
        "column x: \"2500-01-01T00:00:00Z\" is not a timestamp: it is out of range (byte 5)"
    );
}

#[test]
fn hostile_records_are_refused_and_cost_little() {
    let wanted = || schema(&[("x", DataType::Int64, true), ("s", DataType::Utf8, true)]);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_text = format!("{{\"s\":{}{}}}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(17 * 1024 * 1024));
    for (record, expected) in [
        (&deep, "the record is nested more than 128 levels deep (byte 132)"),
        (&deep_text, "the record is nested more than 128 levels deep (byte 640)"),
        (&large, "the record has 17825800 bytes; at most 16777216 are read"),
    ] {
        assert_eq!(message(wanted(), record), (BadReason::TooLarge, expected.to_string()));
    }
    let just_deep_enough = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    let keys: Vec<String> = (0..10_000).map(|key| format!("\"key{key}\":{key}")).collect();
    let keys = format!("{{{},\"x\":5}}", keys.join(","));
    let long = format!("{{\"s\":\"{}\",\"x\":5}}", "y".repeat(1 << 20));
    let decoded = decode(wanted(), &[just_deep_enough.as_str(), &keys, &long]);
    assert_eq!(decoded.bad, []);
    let numbers: Vec<_> = decoded.batch.column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(numbers, [None, Some(5), Some(5)]);
    assert_eq!(decoded.batch.column(1).as_string::<i32>().value(2).len(), 1 << 20);

    for broken in [r#"{"s":"\ud800"}"#, r#"{"s":"\ud800\u0041"}"#, r#"{"s":"\udc00"}"#] {
        assert_eq!(
            message(wanted(), broken),
            (BadReason::Malformed, "not well-formed JSON: half of a surrogate pair in a string (byte 6)".into())
        );
    }
    let decoded = decode(wanted(), &[b"{\"s\":\"a\xff\"}".as_slice(), b"{\"s\":[\"\xff\"]}", b"{\"s\":\"\\u0000\"}"]);
    assert_eq!(decoded.bad[0].message, "not well-formed JSON: a string that is not UTF-8 (byte 7)");
    assert_eq!(decoded.bad[1].message, "not well-formed JSON: a string that is not UTF-8 (byte 7)");
    assert_eq!(decoded.batch.column(1).as_string::<i32>().value(0), "\0");
    assert_eq!(message(one(DataType::Float64), r#"{"x":1e400}"#).0, BadReason::WrongType);
    assert_eq!(message(one(DataType::Int8), r#"{"x":128}"#).0, BadReason::WrongType);
}

#[test]
fn rows_are_written_as_promised() -> Result<(), FormatError> {
    let window = DataType::Struct(
        ["start", "end"].map(|name| Field::new(name, timestamp(TimeUnit::Nanosecond), false)).to_vec().into(),
    );
    let wanted = schema(&[
        ("window", window, true),
        ("amount", DataType::Decimal128(12, 2), true),
        ("tags", DataType::new_list(DataType::Utf8, true), true),
        ("mean", DataType::Float64, true),
    ]);
    let written = [
        r#"{"window":{"start":"2026-11-24T10:00:00Z","end":"2026-11-24T10:00:30.500Z"},"amount":-0.05,"tags":["a\"\u0001",null],"mean":1.5}"#,
        r#"{"window":null,"amount":null,"tags":[],"mean":null}"#,
    ];
    let batch = decode(wanted, &written).batch;
    assert_eq!(encode(&batch, JsonNulls::Include)?, written);
    assert_eq!(encode(&batch, JsonNulls::Omit)?[1], r#"{"tags":[]}"#);
    let floats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![f64::NAN, f64::INFINITY, 1e300]));
    let floats = RecordBatch::try_from_iter([("f", floats)]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(encode(&floats, JsonNulls::Include)?, [r#"{"f":null}"#, r#"{"f":null}"#, r#"{"f":1e300}"#]);
    let bytes: ArrayRef = Arc::new(arrow::array::BinaryArray::from(vec![b"ok".as_slice(), b"\xff"]));
    let bytes = RecordBatch::try_from_iter([("b", bytes)]).unwrap_or_else(|error| panic!("{error}"));
    let refused = encode(&bytes, JsonNulls::Include).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.starts_with("column b: the bytes in row 1 are not UTF-8"), "{refused}");
    Ok(())
}

/// A type, and JSON values that it takes exactly.
fn typed() -> impl Strategy<Value = (DataType, BoxedStrategy<Value>)> {
    let number = |data_type: DataType, values: BoxedStrategy<i64>| (data_type, values.prop_map(Value::from).boxed());
    let times = (-9_000_000_000_000_000_000i64..9_000_000_000_000_000_000).prop_map(|nanos| {
        let time = chrono::DateTime::from_timestamp_nanos(nanos);
        Value::from(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    });
    let decimals = (any::<i64>(), 0usize..3).prop_map(|(value, digits)| {
        let text = format!("{}.{:0<digits$}", value / 100, 7, digits = digits);
        Value::from(text.trim_end_matches('.'))
    });
    let dates = (-700_000i64..2_900_000).prop_map(|days| {
        let mut text = vec![];
        crate::formats::iso8601::write_date(days, &mut text);
        Value::from(String::from_utf8_lossy(&text).into_owned())
    });
    let leaf = prop::sample::select(vec![
        number(DataType::Int8, any::<i8>().prop_map(i64::from).boxed()),
        number(DataType::Int32, any::<i32>().prop_map(i64::from).boxed()),
        number(DataType::Int64, any::<i64>().boxed()),
        number(DataType::UInt16, any::<u16>().prop_map(i64::from).boxed()),
        (DataType::UInt64, any::<u64>().prop_map(Value::from).boxed()),
        (DataType::Float64, any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from).boxed()),
        (DataType::Boolean, any::<bool>().prop_map(Value::from).boxed()),
        (DataType::Utf8, any::<String>().prop_map(Value::from).boxed()),
        (DataType::Utf8View, any::<String>().prop_map(Value::from).boxed()),
        (DataType::LargeUtf8, any::<String>().prop_map(Value::from).boxed()),
        (DataType::Binary, any::<String>().prop_map(Value::from).boxed()),
        (DataType::Decimal128(30, 4), decimals.clone().boxed()),
        (DataType::Decimal256(60, 4), decimals.boxed()),
        (DataType::Date32, dates.boxed()),
        (timestamp(TimeUnit::Nanosecond), times.clone().boxed()),
        (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), times.boxed()),
    ]);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = inner.clone().prop_map(|(data_type, values): (DataType, BoxedStrategy<Value>)| {
            let values = prop::collection::vec(prop_oneof![4 => values, 1 => Just(Value::Null)], 0..4);
            (DataType::new_list(data_type, true), values.prop_map(Value::from).boxed())
        });
        let object = prop::collection::vec(inner, 1..4).prop_map(|members| {
            let fields: Vec<Field> = members.iter().zip(0..).map(|((t, _), i)| field(i, t.clone())).collect();
            let values: Vec<_> = members.into_iter().map(|(_, values)| or_null(values)).collect();
            (DataType::Struct(fields.into()), values.prop_map(object).boxed())
        });
        prop_oneof![list, object]
    })
}

fn field(index: usize, data_type: DataType) -> Field {
    Field::new(format!("column \"{index}\""), data_type, true)
}

fn or_null(values: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    prop_oneof![6 => values.prop_map(Some), 1 => Just(Some(Value::Null)), 1 => Just(None)].boxed()
}

/// An object of the members that are there.
fn object(values: Vec<Option<Value>>) -> Value {
    let members = values
        .into_iter()
        .enumerate()
        .filter_map(|(index, value)| Some((field(index, DataType::Null).name().clone(), value?)));
    Value::Object(members.collect())
}

/// A schema and documents that fit it.
fn documents() -> impl Strategy<Value = (SchemaRef, Vec<Value>)> {
    prop::collection::vec(typed(), 1..6).prop_flat_map(|members| {
        let fields: Vec<Field> = members.iter().zip(0..).map(|((t, _), index)| field(index, t.clone())).collect();
        let values: Vec<_> = members.into_iter().map(|(_, values)| or_null(values)).collect();
        (Just(Arc::new(Schema::new(fields))), prop::collection::vec(values.prop_map(object), 1..12))
    })
}

/// Any JSON document, as text with random spaces.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-e\"\\\\]{0,40}".prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[abxs]{0,3}", inner), 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    prop::collection::vec(("[abxs]{1,2}", tree), 0..5).prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn text(value: &Value, spaced: bool) -> Vec<u8> {
    let text = if spaced { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    text.unwrap_or_else(|error| panic!("{error}"))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        (schema, documents) in documents(), spaced in any::<bool>(), omit in any::<bool>(),
    ) {
        let records: Vec<_> = documents.iter().map(|document| text(document, spaced)).collect();
        let decoded = decode(Arc::clone(&schema), &records);
        prop_assert_eq!(&decoded.bad, &[]);
        let nulls = if omit { JsonNulls::Omit } else { JsonNulls::Include };
        let rows = encode(&decoded.batch, nulls).unwrap_or_else(|error| panic!("{error}"));
        for row in &rows {
            prop_assert!(serde_json::from_str::<Value>(row).is_ok(), "{}", row);
        }
        let again = decode(schema, &rows);
        prop_assert_eq!(again.bad, vec![]);
        prop_assert_eq!(again.batch, decoded.batch);
    }

    #[test]
    fn documents_are_read_as_serde_json_reads_them(documents in prop::collection::vec(any_json(), 1..8), spaced in any::<bool>()) {
        let wanted = schema(&[
            ("a", DataType::Int64, true),
            ("x", DataType::Float64, true),
            ("s", DataType::Utf8, true),
            ("b", DataType::Boolean, true),
        ]);
        let records: Vec<_> = documents.iter().map(|document| text(document, spaced)).collect();
        let decoded = decode(wanted, &records);
        let mut row = 0;
        for (record, document) in documents.iter().enumerate() {
            let fits = |key: &str, fit: fn(&Value) -> bool| {
                document.get(key).is_none_or(|value| value.is_null() || fit(value))
            };
            let number = |value: &Value| match value {
                Value::String(text) => text.parse::<f64>().is_ok(),
                other => other.is_number(),
            };
            let integer = |value: &Value| value.as_f64().is_some_and(|f| value.is_i64() || f.fract() == 0.0);
            let boolean = |value: &Value| value.is_boolean();
            let good = decoded.bad.iter().all(|bad| bad.row != record);
            let expected = fits("a", integer) && fits("x", number) && fits("b", boolean);
            // Doubles beyond 64 bits are whole numbers and do not fit all the same.
            if !good {
                let huge = document.get("a").and_then(Value::as_f64).is_some_and(|f| f.abs() >= 9.2e18);
                prop_assert!(!expected || huge, "{} was refused: {:?}", document, decoded.bad);
                continue;
            }
            prop_assert!(expected, "{} was taken", document);
            let column = |index: usize| decoded.batch.column(index);
            let float = document.get("x").and_then(Value::as_f64);
            let x = column(1).as_primitive::<Float64Type>();
            prop_assert_eq!(x.is_valid(row).then(|| x.value(row).to_bits()), float.map(f64::to_bits));
            if let Some(integer) = document.get("a").and_then(Value::as_i64) {
                prop_assert_eq!(column(0).as_primitive::<Int64Type>().value(row), integer);
            }
            let s = column(2).as_string::<i32>();
            match document.get("s") {
                None | Some(Value::Null) => prop_assert!(s.is_null(row)),
                Some(Value::String(text)) => prop_assert_eq!(s.value(row), text),
                Some(other) => {
                    // serde_json does not read every float as the nearest one, but the same text always the same.
                    let same = serde_json::from_slice::<Value>(&text(other, spaced)).unwrap_or_default();
                    prop_assert_eq!(serde_json::from_str::<Value>(s.value(row)).unwrap_or_default(), same);
                }
            }
            row += 1;
        }
        prop_assert_eq!(row, decoded.batch.num_rows());
    }

    #[test]
    fn broken_records_are_refused_and_their_neighbours_stay(
        documents in prop::collection::vec(any_json(), 3..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let wanted = schema(&[("x", DataType::Utf8, true), ("s", DataType::new_list(DataType::Utf8, true), true)]);
        let mut records: Vec<_> = documents.iter().map(|document| text(document, false)).collect();
        let neighbours = decode(Arc::clone(&wanted), &[&records[0], &records[2]]);
        let broken = &mut records[1];
        if truncate {
            broken.truncate(cut.index(broken.len()));
        } else {
            for (at, byte) in flips {
                let at = at.index(broken.len());
                broken[at] = byte;
            }
        }
        // As `Value` it would refuse numbers beyond a double, which are JSON all the same.
        let valid = serde_json::from_slice::<serde::de::IgnoredAny>(broken).is_ok();
        let decoded = decode(Arc::clone(&wanted), &records);
        let taken = decoded.bad.iter().all(|bad| bad.row != 1);
        if taken && !valid {
            // The only breach that passes lies in what is skipped: bytes that are not UTF-8.
            prop_assert!(std::str::from_utf8(&records[1]).is_err(), "{}", String::from_utf8_lossy(&records[1]));
        }
        let own: Vec<_> = decoded.bad.iter().filter(|bad| bad.row != 1).map(|bad| (bad.reason, &bad.message)).collect();
        let expected: Vec<_> = neighbours.bad.iter().map(|bad| (bad.reason, &bad.message)).collect();
        prop_assert_eq!(own, expected);
        let first = neighbours.bad.iter().all(|bad| bad.row != 0) as usize;
        prop_assert_eq!(decoded.batch.slice(0, first), neighbours.batch.slice(0, first));
        let (from, last) = (first + usize::from(taken), neighbours.batch.num_rows() - first);
        prop_assert_eq!(decoded.batch.slice(from, last), neighbours.batch.slice(first, last));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\u0019-.eE tfn\xc3\xa9x".to_vec()), 0..60)) {
        let wanted = schema(&[
            ("x", DataType::Utf8View, true),
            ("", DataType::new_list(timestamp(TimeUnit::Second), true), true),
        ]);
        let open = [b"{\"x\":".as_slice(), &bytes].concat();
        let list = [b"{\"\":[".as_slice(), &bytes].concat();
        decode(wanted, &[bytes, open, list]);
    }
}
