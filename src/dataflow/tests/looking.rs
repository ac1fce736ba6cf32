//! Questions for live tables: what their askers are told, and that the run does not mind.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::common::exec_err;

use super::parts::{After, Builder, MemorySink, MemorySource, edge, options};
use super::{expected, input, window_sums};
use crate::dataflow::graph::{Distribution, Graph};
use crate::dataflow::live::board::Board;
use crate::dataflow::live::{LiveError, LiveKind, Marker, Since};
use crate::dataflow::recovery::Beginning;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunError, RunOptions, run_from};
use crate::time::{Epoch, Incarnation, LogId};

/// Runs a graph beside somebody who asks.
async fn run_asked<T>(
    graph: Graph,
    options: RunOptions,
    ask: impl AsyncFnOnce(Arc<Board>) -> T,
) -> (Result<(), RunError>, T) {
    let board = Arc::new(Board::new(&graph));
    let beginning = Beginning { live: Some(Arc::clone(&board)), ..Beginning::default() };
    let statistics = Arc::new(Statistics::of(&graph));
    tokio::join!(run_from(graph, options, statistics, beginning), ask(board))
}

/// A source that has read its only rows and waits.
fn waiting(records: Vec<super::parts::Record>) -> Arc<MemorySource> {
    Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(vec![records]) })
}

async fn message(board: &Board, table: &str, since: Since) -> String {
    board.rows(table, &since).await.unwrap_err().to_string()
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_open_windows_are_shown_and_not_delivered() {
    let source =
        waiting(vec![(Some(1), Some(3), Some(10)), (Some(1), Some(4), Some(60)), (Some(2), Some(5), Some(61))]);
    let sink = MemorySink::default();
    let graph = window_sums(&source, &sink);
    let run_options = options(2, 1);
    let drain = run_options.drain.clone();
    let (outcome, shown) = run_asked(graph, run_options, async |board| {
        // Until the source has been read, whenever that is.
        let shown = loop {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let rows = board.rows("out", &Since::Destination).await.unwrap();
            if rows.batches.iter().map(|batch| batch.num_rows()).sum::<usize>() == 3 {
                break rows;
            }
        };
        let again = board.rows("out", &Since::Destination).await.unwrap();
        assert!(again.epoch > shown.epoch, "each look has an epoch of its own");
        drain.cancel();
        shown
    })
    .await;
    outcome.unwrap();
    let mut sums: Vec<(i64, i64)> = vec![];
    for batch in &shown.batches {
        let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
        sums.extend(column(0).into_iter().zip(column(1)));
    }
    sums.sort_unstable();
    assert_eq!(sums, [(1, 3), (1, 4), (2, 5)]);
    assert!(sink.log.lock().rows.is_empty(), "no window has closed: {:?}", sink.log.lock().rows);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_on_an_open_window_is_the_askers_trouble_alone() {
    let source = waiting(vec![(Some(1), Some(1), Some(10))]);
    let sink = MemorySink::default();
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    let sums = builder.window_sum("t.window", vec![edge(read, Distribution::Hash(vec![0]))], None);
    let picky = builder.each("t.ratio", edge(sums, Distribution::Forward), |batch| {
        if batch.column(1).as_primitive::<Int64Type>().values().contains(&1) {
            return exec_err!("Divide by zero error");
        }
        Ok(batch)
    });
    builder.sink("out", picky, 0, &sink);
    let raw = builder.sink("raw", read, 0, &MemorySink::default());
    assert_eq!(raw.0, 4);
    let run_options = options(2, 1);
    let drain = run_options.drain.clone();
    let (outcome, told) = run_asked(builder.graph, run_options, async |board| {
        let told = loop {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let both = tokio::join!(board.rows("out", &Since::Destination), board.rows("raw", &Since::Destination));
            assert!(both.1.is_ok(), "what leads elsewhere does not matter: {:?}", both.1);
            if let Err(error) = both.0 {
                break error.to_string();
            }
        };
        drain.cancel();
        told
    })
    .await;
    outcome.unwrap();
    assert_eq!(
        told,
        "live.out: what its open windows hold cannot be shown: t.ratio: Execution error: Divide by zero error: write \
         NULLIF(divisor, 0) where the divisor may be zero"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_for_what() {
    let sink = MemorySink { stuck: true, ..MemorySink::default() };
    let graph = window_sums(&Arc::new(MemorySource::new(input(1, 60))), &sink);
    let run_options = options(1, 3);
    let abort = run_options.abort.clone();
    let (outcome, told) = run_asked(graph, run_options, async |board| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let told = message(&board, "out", Since::Destination).await;
        abort.cancel();
        told
    })
    .await;
    assert!(matches!(outcome, Err(RunError::Connector { .. } | RunError::Aborted)), "{outcome:?}");
    assert!(
        told.starts_with("live.out got no answer in 10 s: the pipeline waits for the barrier of epoch ")
            && told.ends_with(" to pass out"),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn before_and_after_the_run_there_is_an_answer_too() {
    let sink = MemorySink::default();
    let graph = window_sums(&Arc::new(MemorySource::new(input(1, 60))), &sink);
    let board = Arc::new(Board::new(&graph));
    assert_eq!(
        board.tables().map(|table| (table.name.as_str(), table.kind)).collect::<Vec<_>>(),
        [("out", LiveKind::Added)]
    );
    assert_eq!(
        message(&board, "out", Since::Destination).await,
        "live.out got no answer in 10 s: the pipeline waits for its checkpoints to be read and its destinations to be \
         reached"
    );
    assert_eq!(
        message(&board, "outt", Since::Destination).await,
        "there is no live table outt: the running pipeline writes out"
    );
    let statistics = Arc::new(Statistics::of(&graph));
    let beginning = Beginning { live: Some(Arc::clone(&board)), ..Beginning::default() };
    run_from(graph, options(1, 3), statistics, beginning).await.unwrap();
    let told = message(&board, "out", Since::Destination).await;
    assert_eq!(
        told,
        "live.out: the pipeline has ended or is about to; what it has delivered is in the table's destination"
    );
}

#[tokio::test(start_paused = true)]
async fn without_checkpoints_nobody_knows_what_a_version_lacks() {
    let sink = MemorySink::default();
    let graph = window_sums(&waiting(vec![]), &sink);
    let run_options = options(1, 3);
    let drain = run_options.drain.clone();
    let (_, told) = run_asked(graph, run_options, async |board| {
        let marker = Marker { log: LogId("l".into()), incarnation: Incarnation(1), epoch: Epoch(3) };
        let told = message(&board, "out", Since::Version(Some(marker))).await;
        drain.cancel();
        told
    })
    .await;
    assert_eq!(
        told,
        "live.out: the pipeline runs with --no-checkpoints, so that nobody can tell which rows its destination has; run \
         it with checkpoints"
    );
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_all_the_time_change_nothing() {
    let splits = input(3, 300);
    let paced = MemorySource { pace: Duration::from_millis(20), ..MemorySource::new(splits.clone()) };
    let sink = MemorySink::default();
    let graph = window_sums(&Arc::new(paced), &sink);
    let (outcome, answers) = run_asked(graph, options(3, 3), async |board| {
        let mut answers = 0;
        loop {
            match board.rows("out", &Since::Destination).await {
                Ok(_) => answers += 1,
                Err(LiveError::Ended { .. }) => return answers,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    outcome.unwrap();
    assert!(answers > 10, "{answers} answers");
    assert_eq!(sink.log.lock().sorted(), expected(&splits).0);
}
