//! The same rows whatever the parallelism; bad rows, ticks, idleness, figures.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::parts::{After, Builder, MemorySink, MemorySource, edge, options};
use super::{expected, input, window_sums};
use crate::catalog::{BadRows, FutureLimit, Percent, TableName, TableSettings};
use crate::dataflow::graph::{DEAD_LETTERS, Distribution};
use crate::dataflow::statistics::{Role, Statistics};
use crate::dataflow::{RunOptions, run};
use crate::operators::MAIN;
use crate::sql::Location;
use crate::time::{EventTime, WallClock};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallelism_and_batch_sizes_do_not_change_the_rows() {
    let splits = input(3, 400);
    let (rows, late) = expected(&splits);
    assert!(late > 0 && rows.len() > 100);
    for parallelism in [1, 2, 7] {
        for batch_size in [1, 3, 8192] {
            let sink = MemorySink::default();
            let graph = window_sums(&Arc::new(MemorySource::new(splits.clone())), &sink);
            let statistics = Arc::new(Statistics::of(&graph));
            run(graph, options(parallelism, batch_size), Arc::clone(&statistics)).await.unwrap();
            assert_eq!(sink.log.lock().sorted(), rows, "parallelism {parallelism}, batches of {batch_size}");
            assert!(sink.log.lock().closed);
            let window = &statistics.nodes()[2];
            assert_eq!(window.late_rows.load(Ordering::Relaxed), late);
            assert_eq!(window.rows_in.load(Ordering::Relaxed), 1200);
            assert_eq!(window.aggregated_rows.load(Ordering::Relaxed), 1200 - late);
            assert_eq!(window.state_bytes.load(Ordering::Relaxed), 0, "closed windows are given back");
            assert_eq!(window.watermark(), EventTime::MAX);
            assert_eq!(statistics.total(Role::Sink, |node| &node.rows_out), rows.len() as u64);
            assert_eq!(statistics.total(Role::Source, |node| &node.rows_in), 1200);
        }
    }
}

#[tokio::test]
async fn a_union_brings_equal_keys_of_several_sources_together() {
    let (one, other) = (input(2, 200), input(3, 100));
    for parallelism in [1, 3] {
        let sink = MemorySink::default();
        let mut builder = Builder::default();
        let first = builder.source("one", &Arc::new(MemorySource::new(one.clone())));
        let second = builder.source("other", &Arc::new(MemorySource::new(other.clone())));
        let step = builder.each("step", edge(second, Distribution::Forward), Ok);
        let edges = vec![edge(first, Distribution::Hash(vec![0])), edge(step, Distribution::Hash(vec![0]))];
        let sums = builder.window_sum("window", edges, None);
        builder.sink("out", sums, MAIN, &sink);
        let raw = MemorySink::default();
        builder.sink("raw", first, MAIN, &raw);
        let statistics = Arc::new(Statistics::of(&builder.graph));
        run(builder.graph, options(parallelism, 10), statistics).await.unwrap();
        let all: Vec<_> = one.iter().chain(&other).cloned().collect();
        assert_eq!(sink.log.lock().sorted(), expected(&all).0);
        assert_eq!(raw.log.lock().rows.len(), 400, "a source is read once for all");
    }
}

fn letters() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("offset", DataType::Int64),
        field("partition", DataType::Int32),
        field("topic", DataType::Utf8View),
        field("table", DataType::Utf8),
        field("reason", DataType::Utf8),
        field("error", DataType::Utf8),
        field("value", DataType::Utf8),
        field("note", DataType::Utf8),
    ]))
}

async fn with_bad_rows(
    bad_rows: BadRows,
) -> (Result<(), crate::dataflow::RunError>, MemorySink, MemorySink, Arc<Statistics>) {
    let good = |time| (Some(1), Some(1), Some(time));
    let records = vec![good(1), (Some(1), None, Some(2)), good(3), (Some(1), Some(1), None), good(60)];
    let (sink, dead) = (MemorySink::default(), MemorySink::default());
    let mut builder = Builder::default();
    let settings = TableSettings { bad_rows, ..TableSettings::default() };
    let read = builder.source_with("t", &Arc::new(MemorySource::new(vec![records])), settings, Some(letters()));
    let sums = builder.window_sum("window", vec![edge(read, Distribution::Hash(vec![0]))], None);
    builder.sink("out", sums, MAIN, &sink);
    builder.sink("dead", read, DEAD_LETTERS, &dead);
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let outcome = run(builder.graph, options(2, 100), Arc::clone(&statistics)).await;
    (outcome, sink, dead, statistics)
}

#[tokio::test]
async fn bad_rows_are_counted_and_spoil_no_other() {
    let (outcome, sink, dead, statistics) = with_bad_rows(BadRows::Count).await;
    outcome.unwrap();
    let sums: Vec<String> = sink.log.lock().sorted().into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(sums, ["1", "2"]);
    assert!(dead.log.lock().rows.is_empty());
    assert_eq!(statistics.nodes()[0].bad_rows().into_iter().collect::<Vec<_>>(), [("missing_value", 2)]);
    assert_eq!(statistics.nodes()[0].rows_in.load(Ordering::Relaxed), 5);
    assert_eq!(statistics.nodes()[0].rows_out.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn bad_rows_go_to_their_table() {
    let table = TableName { name: "dead".into(), location: Location::default() };
    let (outcome, _, dead, _) = with_bad_rows(BadRows::Table(table)).await;
    outcome.unwrap();
    let no_value = "column value is NOT NULL, but has no value here";
    let no_time = "the event time, column ts, has no value here";
    assert_eq!(
        dead.log.lock().rows,
        [
            ["1", "0", "t", "t", "missing_value", no_value, "", ""],
            ["3", "0", "t", "t", "missing_value", no_time, "", ""],
        ]
    );
}

#[tokio::test]
async fn a_bad_row_can_end_the_run() {
    let (outcome, ..) = with_bad_rows(BadRows::Fail).await;
    let message = outcome.unwrap_err().to_string();
    assert_eq!(message, "t: record t[0] offset 1 is bad: column value is NOT NULL, but has no value here");
}

/// What comes out, and the figures, when a record of the year 2099 is among others.
async fn with_a_clock_that_is_wrong(future_limit: FutureLimit) -> (Vec<Vec<String>>, Arc<Statistics>) {
    let year_2099 = 4_070_908_800_000_000_000;
    let records = [1, 2, year_2099, 3].map(|time| (Some(1), Some(1), Some(time))).to_vec();
    let source = Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(vec![records]) });
    let sink = MemorySink::default();
    let mut builder = Builder::default();
    let settings = TableSettings { future_limit, ..TableSettings::default() };
    let read = builder.source_with("t", &source, settings, None);
    let sums = builder.window_sum("window", vec![edge(read, Distribution::Hash(vec![0]))], None);
    builder.sink("out", sums, MAIN, &sink);
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let present = Some(WallClock::new(|| EventTime(1_700_000_000_000_000_000)));
    let options = RunOptions { bounded: false, wall_clock: present, ..options(2, 100) };
    let drain = options.drain.clone();
    let running = tokio::spawn(run(builder.graph, options, Arc::clone(&statistics)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    drain.cancel();
    running.await.unwrap().unwrap();
    let rows = sink.log.lock().sorted();
    (rows, statistics)
}

#[tokio::test(start_paused = true)]
async fn one_record_of_the_year_2099_closes_no_window() {
    let (rows, statistics) = with_a_clock_that_is_wrong(FutureLimit::Ahead(Duration::from_secs(300))).await;
    assert!(rows.is_empty(), "{rows:?}");
    let [source, window, _] = statistics.nodes() else { panic!("three nodes") };
    assert_eq!(source.bad_rows().into_iter().collect::<Vec<_>>(), [("future_event_time", 1)]);
    assert_eq!(window.aggregated_rows.load(Ordering::Relaxed), 3);
    // Without the limit the two before it are published and the one after it is late.
    let (rows, statistics) = with_a_clock_that_is_wrong(FutureLimit::None).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(statistics.nodes()[1].late_rows.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn too_many_bad_records_stop_the_run_before_it_goes_on_without_them() {
    let run_with = async |limit: Option<Percent>| {
        let record = |time| (Some(1), (time % 2 == 0).then_some(1), Some(time));
        let source = Arc::new(MemorySource::new(vec![(0..3000).map(record).collect(), (0..50).map(record).collect()]));
        let dead = MemorySink::default();
        let mut builder = Builder::default();
        let table = BadRows::Table(TableName { name: "dead".into(), location: Location::default() });
        let settings = TableSettings { bad_rows: table, bad_rows_limit: limit, ..TableSettings::default() };
        let read = builder.source_with("t", &source, settings, Some(letters()));
        builder.sink("dead", read, DEAD_LETTERS, &dead);
        let statistics = Arc::new(Statistics::of(&builder.graph));
        let outcome = run(builder.graph, options(2, 100), statistics).await;
        (outcome, dead.log.lock().rows.len())
    };
    let (outcome, dead) = run_with(Some(Percent(5.0))).await;
    let message = outcome.unwrap_err().to_string();
    assert!(
        message.starts_with("t: 1025 of the 2050 records read in the last minute were bad, more than 5 percent; ")
            && message.contains("most often missing_value, as at t[0] offset 1999: column value is NOT NULL"),
        "{message}"
    );
    assert!(dead < 1000, "{dead} records went on");
    let (outcome, dead) = run_with(None).await;
    outcome.unwrap();
    assert_eq!(dead, 1525);
}

#[tokio::test(start_paused = true)]
async fn the_last_window_closes_when_all_is_silent_and_early_results_come_before() {
    let records = vec![(Some(1), Some(5), Some(10)), (Some(1), Some(6), Some(20))];
    let source = Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(vec![records, vec![]]) });
    let sink = MemorySink::default();
    let mut builder = Builder::default();
    let settings = TableSettings { idle_timeout: Duration::from_secs(10), ..TableSettings::default() };
    let read = builder.source_with("t", &source, settings, None);
    let sums =
        builder.window_sum("window", vec![edge(read, Distribution::Hash(vec![0]))], Some(Duration::from_secs(4)));
    builder.sink("out", sums, MAIN, &sink);
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let options = options(2, 100);
    let (log, drain) = (Arc::clone(&sink.log), options.drain.clone());
    let running = tokio::spawn(run(builder.graph, options, Arc::clone(&statistics)));
    tokio::time::sleep(Duration::from_millis(9500)).await;
    assert_eq!(log.lock().rows.len(), 2, "two ticks");
    assert_eq!(statistics.nodes()[0].lag()["t[0]"], 7);
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(log.lock().rows.len(), 3, "the window is closed");
    assert_eq!(log.lock().rows[2][1], "11");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let epoch = statistics.epoch.load(Ordering::Relaxed);
    assert_eq!(log.lock().flushes.last(), Some(&3));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(log.lock().rows.len(), 3, "once");
    assert_eq!(statistics.epoch.load(Ordering::Relaxed), epoch, "no epoch without rows");
    drain.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_had_a_row_holds_no_union_back() {
    let records = |times: &[i64]| times.iter().map(|time| (Some(1), Some(1), Some(*time))).collect::<Vec<_>>();
    let settings = || TableSettings { idle_timeout: Duration::from_secs(10), ..TableSettings::default() };
    let full = Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(vec![records(&[10, 20, 60, 120])]) });
    let empty = Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(vec![vec![], vec![]]) });
    let away = Arc::new(MemorySource { away: true, ..MemorySource::new(vec![vec![]]) });
    let (sink, held) = (MemorySink::default(), MemorySink::default());
    let mut builder = Builder::default();
    let [full, empty, away] = [("full", full), ("empty", empty), ("away", away)]
        .map(|(name, source)| builder.source_with(name, &source, settings(), None));
    let hashed = |from| edge(from, Distribution::Hash(vec![0]));
    let both = builder.window_sum("both", vec![hashed(full), hashed(empty)], None);
    builder.sink("out", both, MAIN, &sink);
    let beside_one_away = builder.window_sum("beside", vec![hashed(full), hashed(away)], None);
    builder.sink("held", beside_one_away, MAIN, &held);
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let options = RunOptions { bounded: false, ..options(2, 1) };
    let drain = options.drain.clone();
    let running = tokio::spawn(run(builder.graph, options, Arc::clone(&statistics)));
    tokio::time::sleep(Duration::from_millis(9900)).await;
    assert!(sink.log.lock().rows.is_empty(), "rows of the empty one may still be on their way");
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The window up to 50 closes at once; the last ones need the clock, which both sources now go by.
    let sums = |sink: &MemorySink| sink.log.lock().sorted().into_iter().map(|row| row[1].clone()).collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(sums(&sink), ["1", "1", "2"]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(held.log.lock().rows.is_empty(), "nobody knows what the one that is away holds");
    drain.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(statistics.nodes()[3].late_rows.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn rows_wait_in_a_sink_no_longer_than_the_linger_time() {
    let source = MemorySource::new(vec![vec![(None, Some(1), Some(1))]]);
    let source = Arc::new(MemorySource { after: After::Wait, ..source });
    let sink = MemorySink::default();
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    builder.sink("out", read, MAIN, &sink);
    let mut options = options(1, 100);
    options.linger = Duration::from_millis(50);
    options.checkpoint_interval = Duration::from_secs(60);
    let (log, drain) = (Arc::clone(&sink.log), options.drain.clone());
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let running = tokio::spawn(run(builder.graph, options, Arc::clone(&statistics)));
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert!(log.lock().flushes.is_empty());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(log.lock().flushes, [1]);
    // The first epoch comes soon after the start, the others as often as they are wanted.
    assert_eq!(statistics.epoch.load(Ordering::Relaxed), 0);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(statistics.epoch.load(Ordering::Relaxed), 1);
    drain.cancel();
    running.await.unwrap().unwrap();
}

/// Prints what a message costs; no assertion on time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_runtime_itself_costs() {
    let records: Vec<_> = (0..20_000).map(|at| (Some(at % 10), Some(1), Some(at))).collect();
    let sink = MemorySink::default();
    let mut builder = Builder::default();
    let read = builder.source("t", &Arc::new(MemorySource::new(vec![records])));
    let step = builder.each("step", edge(read, Distribution::Hash(vec![0])), |batch| Ok(batch.slice(0, 0)));
    builder.sink("out", step, MAIN, &sink);
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let began = Instant::now();
    run(builder.graph, options(2, 1), statistics).await.unwrap();
    // A row is a batch for one of two tasks, and a watermark for both and from both to the sink.
    let messages = 20_000 * 5;
    println!("{:.0} messages/s", f64::from(messages) / began.elapsed().as_secs_f64());
    assert!(sink.log.lock().closed);
}
