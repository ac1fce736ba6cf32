//! The hot path of windowed aggregation: rows of one open window at a time, by one text key; and what a start and a
//! compaction do with the state of many keys.
//!
//! `cargo bench --bench window`. The throughput of `window` is in rows: its inverse is the time a row takes in both
//! phases. That of `state` is in keys.

#![allow(missing_docs, reason = "Criterion's macros make public functions without documentation")]

use std::hint::black_box;
use std::sync::Arc;

use acequia::operators::aggregate::{FinalAggregate, PartialAggregate};
use acequia::operators::window::{AggregateCall, EVENT_TIME, ROW_WATERMARK, TIME_TYPE, WindowAggregate, WindowKind};
use acequia::operators::{Operator, Output};
use acequia::time::EventTime;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::functions_aggregate::{
    approx_distinct::approx_distinct_udaf, average::avg_udaf, count::count_udaf, min_max::max_udaf, min_max::min_udaf,
    sum::sum_udaf,
};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::col;

const ROWS: i64 = 8192;
const BATCHES: i64 = 100;
const BETWEEN_ROWS: i64 = 100_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("amount", DataType::Float64, false),
        Field::new("user", DataType::Int64, false),
        Field::new(EVENT_TIME, TIME_TYPE, false),
        Field::new(ROW_WATERMARK, TIME_TYPE, false),
    ]))
}

fn specification(window: WindowKind) -> Arc<WindowAggregate> {
    let schema = schema();
    let calls = [
        (count_udaf(), "user"),
        (sum_udaf(), "amount"),
        (avg_udaf(), "amount"),
        (min_udaf(), "amount"),
        (max_udaf(), "amount"),
        (approx_distinct_udaf(), "user"),
    ];
    let aggregates = calls.into_iter().enumerate().map(|(index, (function, argument))| {
        let argument = col(argument, &schema).expect("a column of the schema");
        let builder = AggregateExprBuilder::new(function, vec![argument]);
        let function = builder.schema(Arc::clone(&schema)).alias(format!("a{index}")).build().expect("an aggregate");
        AggregateCall { function: Arc::new(function), filter: None }
    });
    let key = (col("key", &schema).expect("the key"), Arc::new(Field::new("key", DataType::Utf8, false)));
    Arc::new(WindowAggregate::new(window, Arc::clone(&schema), vec![key], aggregates.collect()))
}

fn batches(keys: i64) -> Vec<RecordBatch> {
    (0..BATCHES).map(|batch| batch_of(batch * ROWS..(batch + 1) * ROWS, keys)).collect()
}

fn batch_of(rows: std::ops::Range<i64>, keys: i64) -> RecordBatch {
    // A multiplicative hash spreads keys and users without a random number.
    let spread = |row: i64| (row.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> 20) & 0xFFFF_FFFF;
    let times: Vec<i64> = rows.clone().map(|row| row * BETWEEN_ROWS).collect();
    let watermarks = times.iter().map(|time| time - 10_000_000_000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.clone().map(|row| format!("product-{}", spread(row) % keys)))),
        Arc::new(Float64Array::from_iter_values(rows.clone().map(|row| (spread(row) % 10_000) as f64 / 100.0))),
        Arc::new(Int64Array::from_iter_values(rows.map(|row| spread(row) % 50_000))),
        Arc::new(TimestampNanosecondArray::from_iter_values(watermarks.clone().map(|time| time + 10_000_000_000))),
        Arc::new(TimestampNanosecondArray::from_iter_values(watermarks)),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns that fit")
}

/// Both phases over all batches, with a watermark after each and a barrier after every tenth; returns result rows.
fn run(spec: &Arc<WindowAggregate>, batches: &[RecordBatch]) -> usize {
    let mut partial = PartialAggregate::new(Arc::clone(spec)).expect("a first phase");
    let mut last = FinalAggregate::new(Arc::clone(spec), false, 0).expect("a second phase");
    let mut rows = 0;
    let mut exchange = |out: &mut Output, last: &mut FinalAggregate, watermark: Option<EventTime>| {
        let mut results = Output::default();
        for (_, batch) in out.take() {
            last.on_batch(0, batch, &mut results).expect("a merge");
        }
        if let Some(watermark) = watermark {
            last.on_watermark(watermark, &mut results).expect("results");
        }
        rows += results.take().iter().map(|(_, batch)| batch.num_rows()).sum::<usize>();
    };
    let mut out = Output::default();
    for (index, batch) in batches.iter().enumerate() {
        partial.on_batch(0, batch.clone(), &mut out).expect("an update");
        let watermark = EventTime((index as i64 + 1) * ROWS * BETWEEN_ROWS - 10_000_000_000);
        partial.on_watermark(watermark, &mut out).expect("a flush");
        exchange(&mut out, &mut last, Some(watermark));
        if index % 10 == 9 {
            partial.snapshot(&mut out).expect("a barrier");
            exchange(&mut out, &mut last, None);
            black_box(last.snapshot(&mut out).expect("a snapshot"));
        }
    }
    partial.on_watermark(EventTime::MAX, &mut out).expect("a flush");
    exchange(&mut out, &mut last, Some(EventTime::MAX));
    rows
}

fn windows(criterion: &mut Criterion) {
    let minute = 60_000_000_000;
    let kinds = [
        ("tumble 1 min", WindowKind::Tumble { width: minute }),
        ("hop 1 s, 1 min", WindowKind::Hop { slide: minute / 60, width: minute }),
        ("session 5 s", WindowKind::Session { gap: minute / 12 }),
    ];
    let mut group = criterion.benchmark_group("window");
    group.throughput(Throughput::Elements((ROWS * BATCHES) as u64));
    group.sample_size(10);
    for keys in [8, 10_000] {
        let batches = batches(keys);
        for (name, window) in kinds {
            let spec = specification(window);
            group.bench_function(format!("{name}, {keys} keys"), |bencher| {
                bencher.iter(|| black_box(run(&spec, &batches)));
            });
        }
    }
    group.finish();
}

const KEYS: i64 = 1_000_000;

/// What a barrier hands over of one open window with [`KEYS`] keys.
fn snapshot_of_many_keys(spec: &Arc<WindowAggregate>) -> Vec<RecordBatch> {
    let mut partial = PartialAggregate::new(Arc::clone(spec)).expect("a first phase");
    let mut last = FinalAggregate::new(Arc::clone(spec), false, 0).expect("a second phase");
    let mut out = Output::default();
    for first in (0..KEYS).step_by(ROWS as usize) {
        partial.on_batch(0, many_keys(first..KEYS.min(first + ROWS)), &mut out).expect("an update");
    }
    partial.snapshot(&mut out).expect("a barrier");
    for (_, batch) in out.take() {
        last.on_batch(0, batch, &mut Output::default()).expect("a merge");
    }
    last.snapshot(&mut out).expect("a snapshot")
}

/// Rows of as many keys, all in the first window.
fn many_keys(keys: std::ops::Range<i64>) -> RecordBatch {
    let rows = (keys.end - keys.start) as usize;
    let times = || TimestampNanosecondArray::from_value(0, rows);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(keys.clone().map(|key| format!("product-{key}")))),
        Arc::new(Float64Array::from_iter_values(keys.clone().map(|key| key as f64))),
        Arc::new(Int64Array::from_iter_values(keys)),
        Arc::new(times()),
        Arc::new(TimestampNanosecondArray::from_value(-1, rows)),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns that fit")
}

fn restored(spec: &Arc<WindowAggregate>, state: &[RecordBatch]) -> FinalAggregate {
    let mut operator = FinalAggregate::new(Arc::clone(spec), false, 0).expect("a second phase");
    state.iter().for_each(|batch| operator.restore(batch.clone()).expect("a state"));
    operator.on_watermark(EventTime(0), &mut Output::default()).expect("a watermark");
    operator
}

fn states(criterion: &mut Criterion) {
    let minute = 60_000_000_000;
    let mut group = criterion.benchmark_group("state");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.sample_size(10);
    for (name, window) in [
        ("tumble", WindowKind::Tumble { width: minute }),
        ("hop", WindowKind::Hop { slide: minute / 60, width: minute }),
        ("session", WindowKind::Session { gap: minute }),
    ] {
        // Without a sketch of distinct users a key, which is a thousand times the size of all the rest.
        let mut spec = WindowAggregate::clone(&specification(window));
        spec.aggregates.pop();
        let spec = Arc::new(WindowAggregate::new(spec.window, spec.input, spec.group_by, spec.aggregates));
        let deltas = snapshot_of_many_keys(&spec);
        let whole = restored(&spec, &deltas).state().expect("the whole state");
        group.bench_function(format!("restore {name}"), |bencher| {
            bencher.iter(|| black_box(restored(&spec, &whole)));
        });
        group.bench_function(format!("compact {name}"), |bencher| {
            bencher.iter(|| black_box(restored(&spec, &deltas).state().expect("the whole state")));
        });
    }
    group.finish();
}

criterion_group!(benches, windows, states);
criterion_main!(benches);
