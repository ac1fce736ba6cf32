//! Going on from elsewhere than the newest checkpoint, which a destination may refuse.

use std::sync::Arc;
use std::time::Duration;

use super::input;
use super::parts::{Builder, MemorySink, MemorySource, edge, options};
use crate::checkpoint::log::LogOptions;
use crate::checkpoint::store::{self, Store};
use crate::dataflow::graph::{Distribution, Graph};
use crate::dataflow::recovery::Beginning;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunError, RunOptions, run_from};
use crate::operators::MAIN;
use crate::time::Epoch;

/// Sums, published early, into one sink, and what was read into another.
fn graph(sums: &MemorySink, raw: &MemorySink) -> Graph {
    let source = MemorySource { pace: Duration::from_millis(20), ..MemorySource::new(input(2, 2000)) };
    let mut builder = Builder::default();
    let read = builder.source("t", &Arc::new(source));
    let every = Some(Duration::from_millis(5));
    let window = builder.window_sum("window", vec![edge(read, Distribution::Hash(vec![0]))], every);
    builder.sink("sums", window, MAIN, sums);
    builder.sink("raw", read, MAIN, raw);
    builder.graph
}

fn log(from: Option<u64>, fresh: bool) -> LogOptions {
    LogOptions { pipeline: "test".into(), fresh, from: from.map(Epoch), keep: 3 }
}

/// Which epoch a run with these options goes on from, and what comes of it. It is told to stop after a second.
async fn run(store: &Arc<dyn Store>, graph: Graph, log: LogOptions) -> (Option<Epoch>, Result<(), RunError>) {
    let (beginning, found) = Beginning::recover(&graph, Arc::clone(store), log, false).await.unwrap();
    let options = RunOptions { bounded: false, checkpoint_interval: Duration::from_millis(100), ..options(2, 3) };
    let drain = options.drain.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drain.cancel();
    });
    let statistics = Arc::new(Statistics::of(&graph));
    (found.epoch, run_from(graph, options, statistics, beginning).await)
}

fn sinks() -> (MemorySink, MemorySink) {
    (MemorySink::default(), MemorySink::default())
}

/// A log with several checkpoints, and the newest of them.
async fn interrupted() -> (Arc<dyn Store>, Epoch) {
    let store = store::open("memory:///").unwrap();
    let (sums, raw) = sinks();
    let (begun, outcome) = run(&store, graph(&sums, &raw), log(None, false)).await;
    outcome.unwrap();
    assert!(begun.is_none() && !raw.log.lock().rows.is_empty());
    let found = crate::checkpoint::inspection::list(&store).await.unwrap();
    (store, found.last().unwrap().epoch)
}

#[tokio::test(start_paused = true)]
async fn a_run_from_an_older_checkpoint_that_a_sink_refuses_changes_nothing() {
    let (store, newest) = interrupted().await;
    let (sums, raw) = sinks();
    let refuses = MemorySink { refuses_after: Some(Duration::from_millis(700)), ..raw.clone() };
    let (begun, outcome) = run(&store, graph(&sums, &refuses), log(Some(newest.0 - 1), false)).await;
    assert_eq!(begun, Some(Epoch(newest.0 - 1)));
    assert_eq!(outcome.unwrap_err().to_string(), "raw: a sink: it has later rows");
    assert!(sums.log.lock().rows.is_empty(), "the other sink has got rows");
    // Also when it is told to stop while one is away.
    let away = MemorySink { away: true, ..raw.clone() };
    let (_, outcome) = run(&store, graph(&sums, &away), log(Some(newest.0 - 1), false)).await;
    outcome.unwrap();
    assert!(sums.log.lock().rows.is_empty());
    let (begun, outcome) = run(&store, graph(&sums, &raw), log(None, false)).await;
    outcome.unwrap();
    assert_eq!(begun, Some(newest));
    assert!(!sums.log.lock().rows.is_empty() && !raw.log.lock().rows.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_from_an_older_checkpoint_that_all_sinks_accept_leaves_the_newer_ones_behind() {
    let (store, newest) = interrupted().await;
    let (sums, raw) = sinks();
    let (_, outcome) = run(&store, graph(&sums, &raw), log(Some(newest.0 - 1), false)).await;
    outcome.unwrap();
    let (begun, outcome) = run(&store, graph(&sums, &raw), log(None, false)).await;
    outcome.unwrap();
    assert!(begun > Some(newest), "{begun:?}, {newest}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_begins_anew_writes_nothing_before_all_sinks_accept_it() {
    let (store, newest) = interrupted().await;
    let (sums, raw) = sinks();
    let refuses = MemorySink { refuses_after: Some(Duration::from_millis(700)), ..raw.clone() };
    let (begun, outcome) = run(&store, graph(&sums, &refuses), log(None, true)).await;
    assert!(begun.is_none() && outcome.is_err() && sums.log.lock().rows.is_empty());
    let (begun, outcome) = run(&store, graph(&sums, &raw), log(None, false)).await;
    outcome.unwrap();
    assert!(begun.is_none(), "{begun:?} after {newest} was put aside");
    assert!(!sums.log.lock().rows.is_empty());
}
