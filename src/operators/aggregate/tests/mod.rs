//! Both phases together, against a model and by example.

mod examples;
mod functions;
mod harness;
mod looked_at;
mod model;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::operators::Operator;
use crate::operators::window::WindowKind;
use harness::{Pipeline, aggregates, lines, specification};
use model::Row;

const KINDS: [WindowKind; 8] = [
    WindowKind::Tumble { width: 10 },
    WindowKind::Hop { slide: 5, width: 15 },
    WindowKind::Hop { slide: 3, width: 30 },
    WindowKind::Hop { slide: 10, width: 10 },
    WindowKind::Session { gap: 3 },
    WindowKind::Session { gap: 12 },
    WindowKind::Instant,
    WindowKind::Global,
];

/// A split: rows in disorder, each with the split's watermark before it.
fn split(random: &mut ChaCha8Rng, first_id: i64, speed: i64) -> Vec<Row> {
    let delay = random.random_range(0..15);
    let (mut now, mut watermark) = (-100, i64::MIN);
    let mut rows = vec![];
    for id in first_id..first_id + random.random_range(0..60) * i64::from(random.random_bool(0.9)) {
        now += random.random_range(0..=speed);
        let time = now - random.random_range(0..25) * i64::from(random.random_bool(0.5));
        let maybe = |random: &mut ChaCha8Rng| random.random_bool(0.8);
        rows.push(Row {
            id,
            key: maybe(random).then(|| format!("k{}", random.random_range(0..4))),
            value: maybe(random).then(|| random.random_range(-3..6)),
            weight: maybe(random).then(|| random.random_range(-20.0..20.0)),
            text: maybe(random).then(|| format!("t{}", random.random_range(0..9))),
            flag: maybe(random).then(|| random.random_bool(0.5)),
            time,
            watermark,
        });
        watermark = watermark.max(time - delay);
    }
    rows
}

/// What a run is compared by: the rows of all windows, and the late rows.
fn expected(window: WindowKind, grouped: bool, rows: &[Row]) -> (Vec<String>, Vec<i64>) {
    let (windows, mut late) = model::windows(window, grouped, rows);
    let mut lines: Vec<String> = windows
        .into_iter()
        .map(|((start, end, key), rows)| {
            let mut cells = vec![start.to_string(), end.to_string(), model::show(key)];
            cells.extend(model::results(&rows));
            cells.join(" | ")
        })
        .collect();
    if window == WindowKind::Global && !grouped && lines.is_empty() {
        lines.push([vec!["0".to_owned(), "0".to_owned(), "null".to_owned()], nothing()].concat().join(" | "));
    }
    lines.sort();
    late.sort_unstable();
    (lines, late)
}

/// The aggregates over no row at all.
fn nothing() -> Vec<String> {
    let mut cells = model::results(&[]);
    cells[12] = "null".to_owned();
    cells[13] = "null".to_owned();
    cells
}

fn late_ids(batches: &[RecordBatch]) -> Vec<i64> {
    let mut ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

/// Runs random splits through random numbers of instances, with batches, ticks, barriers and crashes in between.
fn run(seed: u64, window: WindowKind, grouped: bool, crashes: bool) -> Result<(), TestCaseError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let spec = specification(window, grouped, aggregates());
    let splits: Vec<Vec<Row>> =
        (0..random.random_range(1..4)).map(|i| split(&mut random, i * 1000, [2, 5, 30][seed as usize % 3])).collect();
    let tasks = random.random_range(1..=splits.len());
    let mut pipeline = Pipeline::new(&spec, tasks, random.random_range(1..4));
    let mut next = vec![0; splits.len()];
    let watermark_of = |split: usize, next: &[usize]| match splits[split].get(next[split]) {
        Some(row) => row.watermark,
        None => i64::MAX,
    };
    while (0..splits.len()).any(|split| next[split] < splits[split].len()) {
        let split = random.random_range(0..splits.len());
        let task = split % tasks;
        let rows = &splits[split][next[split]..];
        let rows = &rows[..rows.len().min(random.random_range(0..9))];
        next[split] += rows.len();
        pipeline.batch(task, rows);
        if random.random_bool(0.6) {
            let own = (0..splits.len()).filter(|split| split % tasks == task);
            pipeline.watermark(task, own.map(|split| watermark_of(split, &next)).min().unwrap_or(i64::MAX));
        }
        match random.random_range(0..12) {
            0 => drop(pipeline.tick()),
            1 => pipeline.barrier(),
            2 if crashes => pipeline.crash(random.random_range(1..4)),
            3 if crashes => pipeline.compact(None),
            4 if crashes => pipeline.compact(Some(random.random_range(1..4))),
            _ => {}
        }
    }
    pipeline.end();
    let mut found = lines(&spec, &pipeline.results);
    found.sort();
    let (wanted, late) = expected(window, grouped, &splits.concat());
    prop_assert_eq!(found, wanted);
    prop_assert_eq!(late_ids(&pipeline.late), late);
    if !crashes {
        let counted: u64 = pipeline.partials.iter().map(|partial| partial.late_rows()).sum();
        prop_assert_eq!(counted as usize, late_ids(&pipeline.late).len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_is_the_models_whatever_the_batches_tasks_and_timing(
        seed in any::<u64>(), kind in 0..KINDS.len(), grouped in any::<bool>()
    ) {
        run(seed, KINDS[kind], grouped, false)?;
    }

    #[test]
    fn a_crash_after_a_barrier_or_a_compaction_changes_nothing_at_any_parallelism(
        seed in any::<u64>(), kind in 0..KINDS.len(), grouped in any::<bool>()
    ) {
        run(seed, KINDS[kind], grouped, true)?;
    }
}
