//! What it costs to turn JSON events into Arrow columns: this crate's decoder beside the libraries that could have done
//! it. `docs/decoders.md` holds the results.
//!
//! Every contender starts from the same bytes of 8192 events of 174 bytes each and ends with one record batch of the
//! same columns.

#![allow(missing_docs, reason = "Criterion's macros make public functions without documentation")]

use std::hint::black_box;
use std::sync::Arc;

use acequia::formats::{DecodeOptions, RawRecords, SplitIndex};
use arrow::array::{
    ArrayRef, Float64Builder, Int32Builder, Int64Builder, RecordBatch, StringViewBuilder, TimestampNanosecondBuilder,
};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

const EVENTS: usize = 8192;

/// Events three milliseconds apart, out of order by up to a second.
fn events() -> RawRecords {
    let categories = ["electronics", "books", "clothing", "home", "sports", "toys"];
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let mut records = RawRecords::default();
    for event in 0..EVENTS {
        let millis = event * 3 + random.random_range(0..1000);
        let mut text = format!(
            r#"{{"event_type":"transaction","timestamp":"2026-11-24T10:{:02}:{:02}.{:03}Z","customer_id":{},"category":"{}","quantity":{},"amount":{}.{:02},"session_id":""#,
            millis / 60_000,
            millis / 1000 % 60,
            millis % 1000,
            random.random_range(1..10_000),
            categories[random.random_range(0..categories.len())],
            random.random_range(1..10),
            random.random_range(1..500),
            random.random_range(0..100),
        );
        while text.len() < 172 {
            text.push(char::from(b"0123456789abcdef"[random.random_range(0..16)]));
        }
        text.push_str("\"}");
        records.push(SplitIndex(0), event as i64, text.as_bytes());
        records.bytes.push(b'\n');
    }
    records
}

fn schema(all: bool) -> SchemaRef {
    let fields = [
        ("event_type", DataType::Utf8View),
        ("timestamp", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        ("customer_id", DataType::Int64),
        ("category", DataType::Utf8View),
        ("quantity", DataType::Int32),
        ("amount", DataType::Float64),
        ("session_id", DataType::Utf8View),
    ];
    let needed = ["timestamp", "category", "quantity", "amount"];
    let fields = fields.into_iter().filter(|(name, _)| all || needed.contains(name));
    Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).collect::<Vec<_>>()))
}

#[derive(Deserialize)]
struct Four<'a> {
    timestamp: &'a str,
    category: &'a str,
    quantity: i32,
    amount: f64,
}

#[derive(Deserialize)]
struct Seven<'a> {
    event_type: &'a str,
    timestamp: &'a str,
    customer_id: i64,
    category: &'a str,
    quantity: i32,
    amount: f64,
    session_id: &'a str,
}

#[derive(Default)]
struct Builders {
    event_type: StringViewBuilder,
    timestamp: TimestampNanosecondBuilder,
    customer_id: Int64Builder,
    category: StringViewBuilder,
    quantity: Int32Builder,
    amount: Float64Builder,
    session_id: StringViewBuilder,
}

impl Builders {
    fn four(&mut self, event: &Four<'_>) {
        self.timestamp.append_value(string_to_timestamp_nanos(event.timestamp).expect("a timestamp"));
        self.category.append_value(event.category);
        self.quantity.append_value(event.quantity);
        self.amount.append_value(event.amount);
    }

    fn seven(&mut self, event: &Seven<'_>) {
        let Seven { timestamp, category, quantity, amount, .. } = *event;
        self.four(&Four { timestamp, category, quantity, amount });
        self.event_type.append_value(event.event_type);
        self.customer_id.append_value(event.customer_id);
        self.session_id.append_value(event.session_id);
    }

    fn finish(&mut self, all: bool) -> RecordBatch {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.timestamp.finish()),
            Arc::new(self.category.finish()),
            Arc::new(self.quantity.finish()),
            Arc::new(self.amount.finish()),
        ];
        if all {
            columns.insert(0, Arc::new(self.event_type.finish()));
            columns.insert(2, Arc::new(self.customer_id.finish()));
            columns.push(Arc::new(self.session_id.finish()));
        }
        RecordBatch::try_new(schema(all), columns).expect("the columns of the schema")
    }
}

fn sonic(records: &RawRecords, all: bool) -> RecordBatch {
    let mut builders = Builders::default();
    for row in 0..records.len() {
        if all {
            builders.seven(&sonic_rs::from_slice(records.value(row)).expect("an event"));
        } else {
            builders.four(&sonic_rs::from_slice(records.value(row)).expect("an event"));
        }
    }
    builders.finish(all)
}

/// simd-json works within the buffer, so that it needs a copy of it; the copy is a small part of the cost.
fn simd(records: &RawRecords, all: bool) -> RecordBatch {
    let mut bytes = records.bytes.clone();
    let mut buffers = simd_json::Buffers::new(256);
    let mut builders = Builders::default();
    for span in &records.spans {
        let event = &mut bytes[span.range()];
        if all {
            builders.seven(&simd_json::serde::from_slice_with_buffers(event, &mut buffers).expect("an event"));
        } else {
            builders.four(&simd_json::serde::from_slice_with_buffers(event, &mut buffers).expect("an event"));
        }
    }
    builders.finish(all)
}

fn arrow_json(decoder: &mut arrow::json::reader::Decoder, records: &RawRecords) -> RecordBatch {
    decoder.decode(&records.bytes).expect("events");
    decoder.flush().expect("a batch").expect("rows")
}

fn decode(criterion: &mut Criterion) {
    let records = events();
    for (all, name) in [(false, "4 of 7 columns"), (true, "7 of 7 columns")] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(EVENTS as u64));
        let mut ours = DecodeOptions::default().decoder(schema(all)).expect("a decoder");
        let builder = arrow::json::ReaderBuilder::new(schema(all)).with_batch_size(EVENTS);
        let mut theirs = builder.build_decoder().expect("a decoder");
        // Nobody is measured who does not give the same rows.
        let expected = ours.decode(&records).expect("a batch").batch;
        assert_eq!(expected.num_rows(), EVENTS);
        for batch in [arrow_json(&mut theirs, &records), sonic(&records, all), simd(&records, all)] {
            assert_eq!(batch, expected);
        }
        group.bench_function("acequia", |bench| bench.iter(|| ours.decode(black_box(&records)).expect("a batch")));
        group.bench_function("arrow-json", |bench| bench.iter(|| arrow_json(&mut theirs, black_box(&records))));
        group.bench_function("sonic-rs", |bench| bench.iter(|| sonic(black_box(&records), all)));
        group.bench_function("simd-json", |bench| bench.iter(|| simd(black_box(&records), all)));
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
