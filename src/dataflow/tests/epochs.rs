//! Epochs: what a run knows at a barrier is enough to go on from there.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::parts::{After, MemorySink, MemorySource, options};
use super::{expected, input, window_sums};
use crate::checkpoint::state::EpochState;
use crate::connectors::{BEGINNING, Positions};
use crate::dataflow::listener::EpochListener;
use crate::dataflow::recovery::Beginning;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunError, run_from};
use crate::time::Epoch;

/// Adds epochs up and stops the run after one of them.
pub struct Keeper {
    pub state: Mutex<EpochState>,
    pub until: Epoch,
    pub stop: CancellationToken,
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

pub fn from(state: EpochState) -> Beginning {
    Beginning { state: Some(state), ..Beginning::default() }
}

pub fn heard_by(listener: Arc<dyn EpochListener>) -> Beginning {
    Beginning { listener: Some(listener), ..Beginning::default() }
}

fn paced(splits: &[Vec<super::parts::Record>]) -> Arc<MemorySource> {
    Arc::new(MemorySource { pace: Duration::from_millis(1), ..MemorySource::new(splits.to_vec()) })
}

/// Runs from `start` up to the end of epoch `until`. Returns the rows delivered by then and the state.
async fn run_until(
    splits: &[Vec<super::parts::Record>],
    parallelism: usize,
    start: Option<EpochState>,
    until: Epoch,
) -> (Vec<Vec<String>>, EpochState) {
    let sink = MemorySink::default();
    let options = options(parallelism, 3);
    let begun = start.clone().unwrap_or_default();
    let flushes = (until.0 - begun.epoch.0) as usize;
    let keeper = Arc::new(Keeper { state: Mutex::new(begun), until, stop: options.abort.clone() });
    let graph = window_sums(&paced(splits), &sink);
    let statistics = Arc::new(Statistics::of(&graph));
    let listener = Arc::clone(&keeper) as Arc<dyn EpochListener>;
    let outcome = {
        let beginning = Beginning { state: start, listener: Some(listener), ..Beginning::default() };
        run_from(graph, options, statistics, beginning).await
    };
    assert!(matches!(outcome, Err(RunError::Aborted)), "{outcome:?}");
    // The sink flushes once an epoch.
    let log = sink.log.lock();
    let state = keeper.state.lock().clone();
    (log.rows[..log.flushes[flushes - 1]].to_vec(), state)
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_from_an_epoch_at_another_parallelism() {
    let splits = input(3, 300);
    let whole = expected(&splits);
    for (first, second, third) in [(1, 1, 1), (2, 3, 1), (3, 7, 2), (7, 1, 3)] {
        let (mut rows, state) = run_until(&splits, first, None, Epoch(4)).await;
        let read: i64 = state.sources["t"].positions.values().sum();
        assert!(read > 0 && read < 900 && !rows.is_empty());
        let (more, state) = run_until(&splits, second, Some(state), Epoch(9)).await;
        rows.extend(more);
        let sink = MemorySink::default();
        let graph = window_sums(&paced(&splits), &sink);
        let statistics = Arc::new(Statistics::of(&graph));
        run_from(graph, options(third, 10), Arc::clone(&statistics), from(state)).await.unwrap();
        rows.extend(sink.log.lock().rows.clone());
        rows.sort();
        assert_eq!(rows, whole.0, "parallelism {first}, {second}, {third}");
        assert!(statistics.epoch.load(std::sync::atomic::Ordering::Relaxed) > 9);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_run_goes_on_as_if_it_had_not_stopped() {
    let splits = input(3, 300);
    let sink = MemorySink::default();
    let options_of_first = options(2, 3);
    let never = CancellationToken::new();
    let keeper = Arc::new(Keeper { state: Mutex::default(), until: Epoch(u64::MAX), stop: never });
    let graph = window_sums(&paced(&splits), &sink);
    let statistics = Arc::new(Statistics::of(&graph));
    let listener = Arc::clone(&keeper) as Arc<dyn EpochListener>;
    let drain = options_of_first.drain.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(13)).await;
        drain.cancel();
    });
    run_from(graph, options_of_first, statistics, heard_by(listener)).await.unwrap();
    let state = keeper.state.lock().clone();
    let graph = window_sums(&paced(&splits), &sink);
    let statistics = Arc::new(Statistics::of(&graph));
    run_from(graph, options(3, 3), statistics, from(state)).await.unwrap();
    assert_eq!(sink.log.lock().sorted(), expected(&splits).0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_came_to_its_end_has_nothing_left_to_send() {
    let splits = input(2, 60);
    let keeper = Arc::new(Keeper { state: Mutex::default(), until: Epoch(u64::MAX), stop: CancellationToken::new() });
    let sink = MemorySink::default();
    let graph = window_sums(&paced(&splits), &sink);
    let statistics = Arc::new(Statistics::of(&graph));
    let listener = Arc::clone(&keeper) as Arc<dyn EpochListener>;
    run_from(graph, options(2, 3), statistics, heard_by(listener)).await.unwrap();
    let rows = sink.log.lock().rows.len();
    let state = keeper.state.lock().clone();
    assert_eq!(state.sources["t"].positions.values().sum::<i64>(), 120);
    let graph = window_sums(&paced(&splits), &sink);
    let statistics = Arc::new(Statistics::of(&graph));
    run_from(graph, options(1, 3), statistics, from(state)).await.unwrap();
    assert_eq!(sink.log.lock().rows.len(), rows);
}

#[tokio::test(start_paused = true)]
async fn where_a_split_begins_is_in_the_first_checkpoint_and_changes_when_it_is_said_again() {
    let begins = |named: &[(&str, Option<i64>)]| named.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
    let at_once = |began: tokio::time::Instant| began.elapsed() < Duration::from_secs(2);
    let run = async |told: Vec<(String, Option<i64>)>, start: Option<EpochState>| {
        let source = MemorySource { after: After::Wait, ..MemorySource::new(vec![vec![], vec![]]) };
        let source = Arc::new(MemorySource { begins: told, ..source });
        let options = options(1, 3);
        let until = Epoch(start.as_ref().map_or(0, |start| start.epoch.0) + 1);
        let keeper =
            Keeper { state: Mutex::new(start.clone().unwrap_or_default()), until, stop: options.abort.clone() };
        let keeper = Arc::new(keeper);
        let graph = window_sums(&source, &MemorySink::default());
        let statistics = Arc::new(Statistics::of(&graph));
        let listener = Some(Arc::clone(&keeper) as Arc<dyn EpochListener>);
        let beginning = Beginning { state: start, listener, ..Beginning::default() };
        // A run without rows has one epoch, for what is new.
        let drain = options.drain.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drain.cancel();
        });
        let _ = run_from(graph, options, statistics, beginning).await;
        keeper.state.lock().clone()
    };
    let began = tokio::time::Instant::now();
    let state = run(begins(&[("t[0]", Some(1000))]), None).await;
    assert_eq!(state.sources["t"].positions, begins_at(&[("t[0]", 1000)]));
    // What the source says goes before what the checkpoint has; where it says nothing that stays.
    let state = run(begins(&[("t[0]", None), ("t[1]", Some(BEGINNING))]), Some(state)).await;
    assert_eq!(state.sources["t"].positions, begins_at(&[("t[0]", 1000), ("t[1]", BEGINNING)]));
    let state = run(begins(&[("t[0]", Some(900)), ("t[0]", Some(3))]), Some(state)).await;
    assert_eq!(state.sources["t"].positions, begins_at(&[("t[0]", 3), ("t[1]", BEGINNING)]));
    assert_eq!((state.epoch, at_once(began)), (Epoch(3), true));
    // Nothing is new: the only epoch is that of the end.
    let state = run(begins(&[("t[0]", Some(3)), ("t[1]", Some(BEGINNING))]), Some(state)).await;
    assert_eq!((state.epoch, at_once(began)), (Epoch(4), false));
}

fn begins_at(positions: &[(&str, i64)]) -> Positions {
    positions.iter().map(|(split, position)| ((*split).to_owned(), *position)).collect()
}
