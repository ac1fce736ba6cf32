//! The end in order, at once, and by failure; backpressure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datafusion::error::DataFusionError;
use tokio::time::{Instant, sleep};

use super::parts::{After, Builder, MemorySink, MemorySource, edge, options};
use super::{input, window_sums};
use crate::dataflow::graph::Distribution;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunError, RunOptions, run};
use crate::operators::MAIN;

async fn stop_after(
    graph: crate::dataflow::graph::Graph,
    options: RunOptions,
    stop: impl FnOnce(&RunOptions),
) -> Result<(), RunError> {
    let statistics = Arc::new(Statistics::of(&graph));
    let running = tokio::spawn(run(graph, options.clone(), statistics));
    sleep(Duration::from_millis(500)).await;
    assert!(!running.is_finished());
    stop(&options);
    running.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_drain_works_off_what_was_read_and_leaves_open_windows_open() {
    let records = vec![(Some(1), Some(5), Some(10)), (Some(1), Some(6), Some(70)), (Some(1), Some(7), Some(80))];
    let source = Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(vec![records]) });
    let sink = MemorySink::default();
    let outcome = stop_after(window_sums(&source, &sink), options(2, 1), |options| options.drain.cancel()).await;
    outcome.unwrap();
    let log = sink.log.lock();
    assert_eq!(log.rows.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["5"]);
    assert!(log.closed);
    let committed = source.committed.lock();
    assert_eq!(committed.last().unwrap().1["t[0]"], 3);
    assert!(committed.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[tokio::test(start_paused = true)]
async fn sources_stop_in_the_middle_when_drained() {
    let source = MemorySource::new(input(2, 100_000));
    let source = Arc::new(MemorySource { pace: Duration::from_millis(10), ..source });
    let sink = MemorySink::default();
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    builder.sink("out", read, MAIN, &sink);
    stop_after(builder.graph, options(2, 10), |options| options.drain.cancel()).await.unwrap();
    let sent = source.events.load(Ordering::Relaxed) * 10;
    assert!(sent > 1000 && sent < 50_000);
    assert_eq!(sink.log.lock().rows.len(), sent, "all that was read is written");
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_run_whose_sink_waits_for_its_server_and_memory_is_bounded() {
    let source = Arc::new(MemorySource::new(input(2, 10_000)));
    let sink = MemorySink { stuck: true, ..MemorySink::default() };
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    let step = builder.each("step", edge(read, Distribution::Hash(vec![0])), Ok);
    builder.sink("out", step, MAIN, &sink);
    let began = Instant::now();
    let outcome = stop_after(builder.graph, options(2, 1), |options| options.abort.cancel()).await;
    assert_eq!(outcome.unwrap_err().to_string(), "out: stopped while waiting for a server");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(!sink.log.lock().closed);
    // Two channels of 8 into each of the tasks behind the exchange and into the sink, 8 in its outbox, and one message
    // in each hand.
    assert!(source.events.load(Ordering::Relaxed) <= 7 * 8 + 5, "{:?}", source.events);
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_loses_nothing() {
    let source = Arc::new(MemorySource::new(input(2, 100)));
    let sink = MemorySink { slow: Duration::from_secs(1), ..MemorySink::default() };
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    builder.sink("out", read, MAIN, &sink);
    let statistics = Arc::new(Statistics::of(&builder.graph));
    run(builder.graph, options(2, 3), statistics).await.unwrap();
    assert_eq!(sink.log.lock().rows.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waits_for_its_server_stops_when_told() {
    for drain in [true, false] {
        let away = Arc::new(MemorySource { away: true, ..MemorySource::new(vec![vec![]]) });
        let other = MemorySource::new(input(1, 100_000));
        let other = Arc::new(MemorySource { pace: Duration::from_millis(10), ..other });
        let sink = MemorySink::default();
        let mut builder = Builder::default();
        let first = builder.source("away", &away);
        let second = builder.source("t", &other);
        let edges = vec![edge(first, Distribution::Hash(vec![0])), edge(second, Distribution::Hash(vec![0]))];
        let sums = builder.window_sum("window", edges, None);
        builder.sink("out", sums, MAIN, &sink);
        let outcome = stop_after(builder.graph, options(2, 10), |options| {
            assert!(!other.committed.lock().is_empty(), "epochs go on meanwhile");
            if drain { options.drain.cancel() } else { options.abort.cancel() }
        });
        assert_eq!(outcome.await.is_ok(), drain);
        assert_eq!(sink.log.lock().closed, drain);
    }
}

#[tokio::test]
async fn a_failing_operator_ends_the_run_with_its_name() {
    let source = Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(input(2, 100)) });
    let sink = MemorySink::default();
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    let fails = builder.each("t.fails", edge(read, Distribution::Hash(vec![0])), |_| {
        Err(DataFusionError::Execution("division by zero".into()))
    });
    builder.sink("out", fails, MAIN, &sink);
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let error = run(builder.graph, options(2, 10), statistics).await.unwrap_err();
    assert_eq!(error.to_string(), "t.fails: Execution error: division by zero");
    assert!(!sink.log.lock().closed);
}

#[tokio::test]
async fn a_panic_ends_the_run_with_the_name_of_its_node() {
    let source = Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(input(2, 100)) });
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    let panics =
        builder.each("t.panics", edge(read, Distribution::Forward), |batch| Ok(batch.slice(batch.num_rows() + 1, 1)));
    builder.sink("out", panics, MAIN, &MemorySink::default());
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let error = run(builder.graph, options(1, 10), statistics).await.unwrap_err();
    assert!(matches!(&error, RunError::Panic { node, .. } if node == "t.panics"), "{error}");

    let source = Arc::new(MemorySource { panics_at: Some(3), ..MemorySource::new(input(1, 100)) });
    let graph = window_sums(&source, &MemorySink::default());
    let statistics = Arc::new(Statistics::of(&graph));
    let error = run(graph, options(1, 10), statistics).await.unwrap_err();
    assert_eq!(error.to_string(), "t: internal error: toy source");
}
