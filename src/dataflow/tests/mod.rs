//! Whole runs over toy parts.

mod completing;
mod confirmed;
mod delivering;
mod departing;
mod epochs;
mod last_epoch;
mod looking;
mod lost;
pub mod parts;
mod random;
mod reading;
mod running;
mod stopping;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::{Distribution, Graph};
use parts::{Builder, DELAY, MemorySink, MemorySource, Record, WIDTH, edge};

/// `splits` splits of `records` records each, out of order by more than the delay now and then.
fn input(splits: usize, records: usize) -> Vec<Vec<Record>> {
    let mut seed = 42_u64;
    let mut draw = |below: i64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as i64 % below
    };
    let record = |split: usize, at: usize, draw: &mut dyn FnMut(i64) -> i64| -> Record {
        let disorder = if draw(40) == 0 { 120 } else { draw(DELAY) };
        let key = Some(draw(9)).filter(|key| *key > 0);
        (key, Some(draw(100)), Some(at as i64 * 3 + split as i64 * 10 - disorder))
    };
    (0..splits).map(|split| (0..records).map(|at| record(split, at, &mut draw)).collect()).collect()
}

/// What [`parts::WindowSum`] makes of it, and the number of late rows, computed without any runtime.
fn expected(splits: &[Vec<Record>]) -> (Vec<Vec<String>>, u64) {
    let mut sums: BTreeMap<(i64, Option<i64>), i64> = BTreeMap::new();
    let mut late = 0;
    for split in splits {
        let mut watermark = i64::MIN;
        for (key, value, time) in split {
            let (Some(value), Some(time)) = (value, time) else { continue };
            let end = (time.div_euclid(WIDTH) + 1) * WIDTH;
            if end - 1 <= watermark {
                late += 1;
            } else {
                *sums.entry((end, *key)).or_default() += value;
            }
            watermark = watermark.max(time - DELAY);
        }
    }
    let text = |((end, key), sum): (&(i64, Option<i64>), &i64)| {
        let time = chrono::DateTime::from_timestamp_nanos(end - 1).naive_utc();
        vec![key.map_or(String::new(), |key| key.to_string()), sum.to_string(), format!("{time:?}")]
    };
    let mut rows: Vec<Vec<String>> = sums.iter().map(text).collect();
    rows.sort();
    (rows, late)
}

/// A source, a step in its task, sums by key behind an exchange, a step behind them, a sink.
fn window_sums(source: &Arc<MemorySource>, sink: &MemorySink) -> Graph {
    let mut builder = Builder::default();
    let read = builder.source("t", source);
    let same = builder.each("t.step", edge(read, Distribution::Forward), Ok);
    let sums = builder.window_sum("t.window", vec![edge(same, Distribution::Hash(vec![0]))], None);
    let after = builder.each("t.after", edge(sums, Distribution::Forward), Ok);
    builder.sink("out", after, 0, sink);
    builder.graph
}
