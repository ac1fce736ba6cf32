//! Open windows that are looked at: what they show is right, and they go on as if nobody had looked.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::harness::{Pipeline, aggregates, lines, specification};
use super::model::Row;
use super::{KINDS, expected, split};
use crate::operators::window::WindowKind;

/// Runs two pipelines over the same rows with the same barriers, and looks into one of them at each.
fn run(seed: u64, window: WindowKind, grouped: bool) -> Result<(), TestCaseError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let spec = specification(window, grouped, aggregates());
    let tasks = random.random_range(1..4);
    let splits: Vec<Vec<Row>> = (0..tasks).map(|task| split(&mut random, task as i64 * 1000, 5)).collect();
    let instances = random.random_range(1..4);
    let mut looked_at = Pipeline::new(&spec, tasks, instances);
    let mut alone = Pipeline::new(&spec, tasks, instances);
    let mut next = vec![0; tasks];
    while (0..tasks).any(|task| next[task] < splits[task].len()) {
        let task = random.random_range(0..tasks);
        let rows = &splits[task][next[task]..];
        let rows = &rows[..rows.len().min(random.random_range(0..9))];
        next[task] += rows.len();
        let watermark = splits[task].get(next[task]).map_or(i64::MAX, |row| row.watermark);
        for pipeline in [&mut looked_at, &mut alone] {
            pipeline.batch(task, rows);
            pipeline.watermark(task, watermark);
        }
        if random.random_bool(0.3) {
            let shown = looked_at.look();
            alone.barrier();
            let mut found = lines(&spec, &[looked_at.results.clone(), shown].concat());
            found.sort();
            let so_far: Vec<Row> = splits.iter().zip(&next).flat_map(|(rows, next)| rows[..*next].to_vec()).collect();
            prop_assert_eq!(found, expected(window, grouped, &so_far).0, "after {:?} rows", next);
            prop_assert_eq!(looked_at.snapshots(), alone.snapshots());
        }
    }
    looked_at.end();
    alone.end();
    prop_assert_eq!(lines(&spec, &looked_at.results), lines(&spec, &alone.results));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_look_shows_the_windows_of_the_rows_so_far_and_changes_nothing(
        seed in any::<u64>(), kind in 0..KINDS.len(), grouped in any::<bool>()
    ) {
        run(seed, KINDS[kind], grouped)?;
    }
}
