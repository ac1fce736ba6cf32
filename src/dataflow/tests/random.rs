//! Random graphs over random rows: the parallelism, the batches and a restart in the middle change nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::epochs::{Keeper, from, heard_by};
use super::expected;
use super::parts::{Builder, MemorySink, MemorySource, Record, edge, options};
use crate::dataflow::graph::{Distribution, Graph};
use crate::dataflow::run_from;
use crate::dataflow::statistics::{Role, Statistics};
use crate::operators::MAIN;
use crate::time::Epoch;

/// One source: its splits, and how many steps there are before and after the exchange on its way.
#[derive(Clone, Debug)]
struct Input {
    splits: Vec<Vec<Record>>,
    steps: usize,
    exchanged: bool,
}

fn input() -> impl Strategy<Value = Input> {
    let key = prop_oneof![1 => Just(None), 8 => (0..5_i64).prop_map(Some)];
    let value = prop_oneof![1 => Just(None), 12 => (0..100_i64).prop_map(Some)];
    let record = (key, value, (0..40_i64, prop::bool::weighted(0.05)));
    let split = prop::collection::vec(record, 0..40).prop_map(|records| {
        let time = |(at, (key, value, (disorder, far))): (usize, (_, _, (i64, bool)))| {
            (key, value, Some(at as i64 * 9 - disorder - if far { 150 } else { 0 }))
        };
        records.into_iter().enumerate().map(time).collect()
    });
    (prop::collection::vec(split, 1..4), 0..3_usize, any::<bool>()).prop_map(|(splits, steps, exchanged)| Input {
        splits,
        steps,
        exchanged,
    })
}

fn graph(inputs: &[Input], after: usize, sink: &MemorySink) -> Graph {
    let mut builder = Builder::default();
    let mut edges = vec![];
    for (index, input) in inputs.iter().enumerate() {
        let source = MemorySource { pace: Duration::from_millis(1), ..MemorySource::new(input.splits.clone()) };
        let mut last = builder.source(&format!("t{index}"), &Arc::new(source));
        for step in 0..input.steps {
            // By another column than the window's, so that the rows of a key come together again from several tasks.
            let exchanged = input.exchanged && step == 0;
            let distribution = if exchanged { Distribution::Hash(vec![1]) } else { Distribution::Forward };
            last = builder.each(&format!("t{index}.{step}"), edge(last, distribution), Ok);
        }
        edges.push(edge(last, Distribution::Hash(vec![0])));
    }
    let mut last = builder.window_sum("window", edges, None);
    for step in 0..after {
        last = builder.each(&format!("after.{step}"), edge(last, Distribution::Forward), Ok);
    }
    builder.sink("out", last, MAIN, sink);
    builder.graph
}

/// No row is unaccounted for: read = passed + bad at each source, and what the sources have passed is what the window
/// has aggregated, or found late.
fn adds_up(statistics: &Statistics, inputs: &[Input]) {
    let of = |figure: &AtomicU64| figure.load(Relaxed);
    let sources = || statistics.nodes().iter().filter(|node| node.role == Role::Source);
    for (source, input) in sources().zip(inputs) {
        let bad: u64 = source.bad_rows().values().sum();
        assert_eq!(of(&source.rows_in), input.splits.iter().map(Vec::len).sum::<usize>() as u64);
        assert_eq!(of(&source.rows_in), of(&source.rows_out) + bad);
    }
    let window = statistics.nodes().iter().find(|node| node.name == "window").unwrap();
    assert_eq!(of(&window.rows_in), sources().map(|source| of(&source.rows_out)).sum::<u64>());
    assert_eq!(of(&window.rows_in), of(&window.aggregated_rows) + of(&window.late_rows));
}

/// The rows of a run that is interrupted after `epochs` epochs, if it lasts so long, and goes on differently.
async fn rows(
    inputs: &[Input],
    after: usize,
    epochs: u64,
    [first, second]: [usize; 2],
    batch_size: usize,
) -> Vec<Vec<String>> {
    let sink = MemorySink::default();
    let options_of_first = options(first, batch_size);
    let keeper =
        Arc::new(Keeper { state: Mutex::default(), until: Epoch(epochs), stop: options_of_first.abort.clone() });
    let start = graph(inputs, after, &sink);
    let statistics = Arc::new(Statistics::of(&start));
    let figures = Arc::clone(&statistics);
    let outcome = run_from(start, options_of_first, statistics, heard_by(keeper.clone())).await;
    let mut rows = sink.log.lock().rows.clone();
    if outcome.is_ok() {
        adds_up(&figures, inputs);
    } else {
        rows.truncate(sink.log.lock().flushes[epochs as usize - 1]);
        let sink = MemorySink::default();
        let rest = graph(inputs, after, &sink);
        let statistics = Arc::new(Statistics::of(&rest));
        let state = keeper.state.lock().clone();
        run_from(rest, options(second, batch_size + 1), statistics, from(state)).await.unwrap();
        rows.extend(sink.log.lock().rows.clone());
    }
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_run_gives_the_rows_of_a_plain_computation(
        inputs in prop::collection::vec(input(), 1..3),
        after in 0..3_usize,
        epochs in 1..6_u64,
        parallelism in [1..5_usize, 1..5_usize],
        batch_size in 1..6_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let rows = runtime.block_on(rows(&inputs, after, epochs, parallelism, batch_size));
        let all: Vec<Vec<Record>> = inputs.iter().flat_map(|input| input.splits.clone()).collect();
        prop_assert_eq!(rows, expected(&all).0);
    }
}
