//! A run that has read its input to the end, and was stopped before everything was delivered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::lost::Destination;
use super::parts::{Builder, MemorySource, options};
use crate::checkpoint::log::LogOptions;
use crate::checkpoint::store::{self, Store};
use crate::dataflow::recovery::Beginning;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunOptions, run_from};
use crate::operators::MAIN;
use crate::time::Epoch;

const ROWS: usize = 40;

/// A bounded run over the same rows, stopped at once after a while if it has not ended. How many rows were delivered, and
/// what a user is told at its start.
async fn run(store: &Arc<dyn Store>, marker: Option<u64>, stuck: bool) -> (usize, Option<Epoch>, Vec<String>) {
    let records = (1..=ROWS as i64).map(|value| (Some(1), Some(value), Some(value))).collect();
    let source = Arc::new(MemorySource::new(vec![records]));
    let sink = Destination { stuck, ..Destination::at(marker) };
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    builder.sink("out", read, MAIN, &sink);
    let log = LogOptions { pipeline: "test".into(), fresh: false, from: None, keep: 3 };
    let (beginning, found) = Beginning::recover(&builder.graph, Arc::clone(store), log, false).await.unwrap();
    let options = RunOptions { bounded: true, checkpoint_interval: Duration::from_secs(1), ..options(1, 1) };
    let abort = options.abort.clone();
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let running = tokio::spawn(run_from(builder.graph.clone(), options, statistics, beginning));
    tokio::time::sleep(Duration::from_secs(60)).await;
    abort.cancel();
    let ended = running.await.unwrap();
    assert_eq!(ended.is_err(), stuck, "{ended:?}");
    let last = sink.epochs.lock().last().copied();
    (sink.rows.load(Ordering::Relaxed), last, found.notes)
}

#[tokio::test(start_paused = true)]
async fn the_next_run_delivers_the_rest_and_reads_nothing_again() {
    let store = store::open("memory:///").unwrap();
    assert_eq!(run(&store, None, true).await.0, 0);
    let (rows, last, notes) = run(&store, None, false).await;
    assert_eq!(rows, ROWS, "each once");
    assert!(notes.iter().any(|note| note.starts_with("the run before had come to the end of its input")), "{notes:?}");
    // Now that all is delivered the input is read anew, as after any run to its end.
    let (rows, last, notes) = run(&store, last.map(|epoch| epoch.0), false).await;
    assert_eq!((rows, notes), (ROWS, vec![]));
    let (rows, ..) = run(&store, last.map(|epoch| epoch.0), false).await;
    assert_eq!(rows, ROWS);
}
