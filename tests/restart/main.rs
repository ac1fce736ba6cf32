//! A run that is broken off and goes on from an epoch, at another parallelism, writes what an uninterrupted one does:
//! the planner's own graphs, each operator with state among them, its state compacted or not. And what edits of a folder
//! do to its state.

mod edits;
mod parts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acequia::checkpoint::log::Compactor;
use acequia::checkpoint::state::EpochState;
use acequia::connectors::SinkMode;
use acequia::dataflow::graph::Graph;
use acequia::dataflow::listener::EpochListener;
use acequia::dataflow::recovery::Beginning;
use acequia::dataflow::statistics::Statistics;
use acequia::dataflow::{GraphCompactor, RunError, RunOptions, identities, run_from};
use acequia::time::Epoch;
use parking_lot::Mutex;
use parts::{Lines, graph, lines, seen};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

/// Adds epochs up and stops the run after one of them.
struct Keeper {
    state: Mutex<EpochState>,
    until: Epoch,
    stop: CancellationToken,
}

impl EpochListener for Keeper {
    fn completed(&self, added: EpochState) {
        let mut state = self.state.lock();
        if state.epoch < self.until {
            assert_eq!(added.epoch, state.epoch.next());
            state.advance(added);
            if state.epoch == self.until {
                self.stop.cancel();
            }
        }
    }
}

/// Rows by table, in the order in which they were written.
type Rows = BTreeMap<String, Vec<String>>;

/// Runs from `start` to the end of epoch `until`, or to the end of the input. Adds what was written by then to `rows`.
async fn run(
    inputs: &[Lines],
    parallelism: usize,
    start: Option<EpochState>,
    until: Option<Epoch>,
    rows: &mut Rows,
) -> EpochState {
    let (graph, logs) = graph(inputs).await;
    let options = RunOptions {
        pipeline: "test".into(),
        parallelism,
        batch_size: 3,
        bounded: true,
        checkpoint_interval: Duration::from_millis(1),
        checkpoint_bytes: 64 << 20,
        linger: Duration::from_secs(3600),
        data_dir: PathBuf::new(),
        wall_clock: None,
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
    };
    let begun = start.clone().unwrap_or_default();
    let epochs = until.map(|until| (until.0 - begun.epoch.0) as usize);
    let until = until.unwrap_or(Epoch(u64::MAX));
    let keeper = Arc::new(Keeper { state: Mutex::new(begun), until, stop: options.abort.clone() });
    let listener = Arc::clone(&keeper) as Arc<dyn EpochListener>;
    let statistics = Arc::new(Statistics::of(&graph));
    let beginning = Beginning { state: start, listener: Some(listener), ..Beginning::default() };
    match run_from(graph, options, statistics, beginning).await {
        Ok(()) => assert!(epochs.is_none(), "the input ended before the epoch"),
        Err(RunError::Aborted) => assert!(epochs.is_some()),
        Err(error) => panic!("{error}"),
    }
    for (table, (_, log)) in logs {
        rows.entry(table).or_default().extend_from_slice(log.lock().rows(epochs));
    }
    keeper.state.lock().clone()
}

/// The state as it comes back from a disk, compacted here and there.
fn stored(mut state: EpochState, graph: &Graph, random: &mut ChaCha8Rng) -> EpochState {
    let (known, compactor) = (identities(graph).operators, GraphCompactor::new(graph.clone()));
    for (name, operator) in &mut state.operators {
        assert!(operator.batches.is_empty() || known.contains_key(name), "{name} keeps state without a fingerprint");
        if random.random_bool(0.6) {
            operator.batches = compactor.compact(name, operator).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    through_arrow(state)
}

/// Through Arrow's own format.
fn through_arrow(mut state: EpochState) -> EpochState {
    for (_, batch) in state.operators.values_mut().flat_map(|operator| &mut operator.batches) {
        let mut bytes = vec![];
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let mut reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
        *batch = reader.next().unwrap_or_else(|| panic!("a batch was written")).unwrap();
    }
    state
}

async fn modes(inputs: &[Lines]) -> BTreeMap<String, SinkMode> {
    graph(inputs).await.1.into_iter().map(|(table, (mode, _))| (table, mode)).collect()
}

fn compare(what: &str, modes: &BTreeMap<String, SinkMode>, rows: Rows, expected: &Rows) {
    let mut wrong = String::new();
    for (table, rows) in rows {
        let (found, expected) = (seen(&modes[&table], rows), seen(&modes[&table], expected[&table].clone()));
        let lacking: Vec<&String> = expected.iter().filter(|row| !found.contains(row)).take(3).collect();
        let too_many: Vec<&String> = found.iter().filter(|row| !expected.contains(row)).take(3).collect();
        if found != expected {
            let counts = format!("{} rows instead of {}", found.len(), expected.len());
            wrong += &format!("{table}: {counts}; lacks {lacking:?}, and has {too_many:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{wrong}");
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_from_an_epoch_at_another_parallelism() {
    for seed in [1, 2] {
        let inputs = [lines("clicks", seed, 3, 300), lines("orders", seed + 100, 2, 300)];
        let modes = modes(&inputs).await;
        let mut whole = Rows::new();
        let end = run(&inputs, 1, None, None, &mut whole).await;
        assert!(end.epoch.0 > 20, "{:?}", end.epoch);
        let graph = graph(&inputs).await.0;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for (table, rows) in &whole {
            assert!(rows.len() > 5, "{table} has {} rows, which shows nothing", rows.len());
        }
        for ((first, second, third), (one, two)) in [
            ((1, 1, 1), (7, 11)),
            ((1, 3, 2), (5, 12)),
            ((4, 1, 7), (6, 9)),
            ((3, 7, 1), (9, 14)),
            ((2, 5, 3), (4, 16)),
        ] {
            let mut rows = Rows::new();
            let state = run(&inputs, first, None, Some(Epoch(one)), &mut rows).await;
            let state =
                run(&inputs, second, Some(stored(state, &graph, &mut random)), Some(Epoch(two)), &mut rows).await;
            run(&inputs, third, Some(stored(state, &graph, &mut random)), None, &mut rows).await;
            let what = format!("seed {seed}, parallelism {first}, {second}, {third}, epochs {one}, {two}");
            compare(&what, &modes, rows, &whole);
        }
    }
}

/// A newer window has later events, so that what a key shows never goes back to earlier ones.
#[tokio::test(start_paused = true)]
async fn a_key_never_goes_back_to_an_older_window_though_no_column_tells_of_it() {
    for parallelism in [1, 3] {
        let inputs = [lines("clicks", 5, 3, 300), lines("orders", 6, 2, 300)];
        let mut rows = Rows::new();
        run(&inputs, parallelism, None, None, &mut rows).await;
        for table in ["last_tumble", "last_hop"] {
            let mut shown: BTreeMap<String, String> = BTreeMap::new();
            assert!(rows[table].len() > 100, "{table}: {} rows show nothing", rows[table].len());
            for row in &rows[table] {
                let row: serde_json::Value = serde_json::from_str(row).unwrap();
                // Times of one form, which are in order as texts.
                let (key, last) = (row["k"].to_string(), row["last"].as_str().unwrap().to_owned());
                let before = shown.insert(key, last.clone());
                assert!(before.as_ref().is_none_or(|before| *before <= last), "{table}: {row} after {before:?}");
            }
        }
    }
}
