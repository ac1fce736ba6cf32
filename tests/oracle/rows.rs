//! Random events, as JSON lines in partitions and as an Arrow batch.

use std::sync::Arc;

use arrow::array::{Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use proptest::prelude::*;
use serde_json::json;

/// How far back the watermark stays; no event is later than that behind another of its partition.
pub const WATERMARK_DELAY_MS: i64 = 10_000;
const START_MS: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    ts_ms: i64,
    /// By how much it arrives later than its time says.
    delay_ms: i64,
    k: Option<&'static str>,
    g: Option<i64>,
    v: Option<i64>,
    d_cents: Option<i128>,
    s: Option<String>,
    partition: usize,
}

/// Up to 150 events in up to 4 partitions.
pub fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 0..150)
}

fn event() -> impl Strategy<Value = Event> {
    // Many on whole seconds, so that window bounds and gaps are met exactly.
    let time = prop_oneof![(0..180_i64).prop_map(|seconds| seconds * 1000), 0..180_000_i64];
    let texts = (
        prop::option::weighted(0.85, prop::sample::select(vec!["red", "green", "blüe", ""])),
        prop::option::weighted(0.8, "[ab]{0,3}"),
    );
    let numbers = (
        prop::option::weighted(0.85, 0..3_i64),
        prop::option::weighted(0.9, -50..50_i64),
        prop::option::weighted(0.9, -100_000..100_000_i128),
    );
    (time, 0..WATERMARK_DELAY_MS, texts, numbers, 0..4_usize).prop_map(
        |(time, delay_ms, (k, s), (g, v, d_cents), partition)| Event {
            ts_ms: START_MS + time,
            delay_ms,
            k,
            g,
            v,
            d_cents,
            s,
            partition,
        },
    )
}

/// The lines of each partition, in the order of arrival.
pub fn partitions(events: &[Event]) -> Vec<String> {
    let mut partitions = vec![];
    for partition in 0..4 {
        let mut mine: Vec<(usize, &Event)> =
            events.iter().enumerate().filter(|(_, event)| event.partition == partition).collect();
        mine.sort_by_key(|(_, event)| event.ts_ms + event.delay_ms);
        let lines = mine.iter().map(|(n, event)| line(*n, event) + "\n").collect::<String>();
        if !lines.is_empty() {
            partitions.push(lines);
        }
    }
    partitions
}

fn line(n: usize, event: &Event) -> String {
    let ts = chrono::DateTime::from_timestamp_millis(event.ts_ms).unwrap_or_default();
    let decimal = event.d_cents.map(|cents| {
        let (sign, cents) = (if cents < 0 { "-" } else { "" }, cents.abs());
        format!("{sign}{}.{:02}", cents / 100, cents % 100)
    });
    json!({"n": n, "ts": ts.to_rfc3339(), "k": event.k, "g": event.g, "v": event.v, "d": decimal, "s": event.s})
        .to_string()
}

/// The same events as a table `events(n, ts, k, g, v, d, s)`.
pub fn batch(events: &[Event]) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
        Field::new("k", DataType::Utf8, true),
        Field::new("g", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("d", DataType::Decimal128(12, 2), true),
        Field::new("s", DataType::Utf8, true),
    ]);
    let decimals: Decimal128Array = events.iter().map(|event| event.d_cents).collect();
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new((0..events.len() as i64).map(Some).collect::<Int64Array>()),
            Arc::new(events.iter().map(|e| Some(e.ts_ms * 1_000_000)).collect::<TimestampNanosecondArray>()),
            Arc::new(events.iter().map(|e| e.k).collect::<StringArray>()),
            Arc::new(events.iter().map(|e| e.g).collect::<Int64Array>()),
            Arc::new(events.iter().map(|e| e.v).collect::<Int64Array>()),
            Arc::new(decimals.with_precision_and_scale(12, 2).expect("in range")),
            Arc::new(events.iter().map(|e| e.s.as_deref()).collect::<StringArray>()),
        ],
    )
    .expect("the columns fit the schema")
}
