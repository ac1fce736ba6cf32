//! The last epoch of a run: its rows are in their destinations, no later ones are left behind, and the log knows of it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use datafusion::common::Result;
use parking_lot::Mutex;

use super::parts::{After, Builder, MemorySink, MemorySource, WindowSum, edge, options};
use crate::checkpoint::log::LogOptions;
use crate::checkpoint::store::{self, Store};
use crate::connectors::delivery::{Delivery, EpochSink, OpenSink};
use crate::connectors::{ConnectorError, SinkContext, SinkFactory, SinkMode};
use crate::dataflow::graph::{Distribution, Graph};
use crate::dataflow::recovery::Beginning;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunOptions, run_from};
use crate::operators::{InputIndex, MAIN, Operator, Output};
use crate::time::{Epoch, EventTime};

/// What came: the epoch, and the sums in its rows.
type Deliveries = Vec<(Epoch, Vec<i64>)>;

/// Takes whole epochs, with their markers.
#[derive(Clone, Default)]
struct Whole(Arc<Mutex<Deliveries>>);

#[async_trait]
impl SinkFactory for Whole {
    fn mode(&self) -> SinkMode {
        SinkMode::Upsert(vec!["key".into()])
    }

    fn describe(&self) -> String {
        "rows in memory".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(&self, _: SinkContext) -> Result<OpenSink, ConnectorError> {
        let settled = self.0.lock().last().map(|(epoch, _)| *epoch);
        Ok(OpenSink::PerEpoch { sink: Box::new(self.clone()), settled })
    }
}

#[async_trait]
impl EpochSink for Whole {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let values = |batch: &RecordBatch| batch.column(1).as_primitive::<Int64Type>().values().to_vec();
        self.0.lock().push((epoch, rows.iter().flat_map(values).collect()));
        Ok(epoch)
    }
}

/// Sums whose snapshot takes so long that a tick is due behind every barrier.
#[derive(Default)]
struct SlowSum(WindowSum);

impl Operator for SlowSum {
    fn on_batch(&mut self, input: InputIndex, batch: RecordBatch, out: &mut Output) -> Result<()> {
        self.0.on_batch(input, batch, out)
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.0.on_watermark(watermark, out)
    }

    fn on_tick(&mut self, out: &mut Output) -> Result<()> {
        self.0.on_tick(out)
    }

    fn snapshot(&mut self, out: &mut Output) -> Result<Vec<RecordBatch>> {
        std::thread::sleep(Duration::from_millis(20));
        self.0.snapshot(out)
    }

    fn restore(&mut self, state: RecordBatch) -> Result<()> {
        self.0.restore(state)
    }
}

async fn recover(graph: &Graph, store: &Arc<dyn Store>) -> Beginning {
    let log = LogOptions { pipeline: "test".into(), fresh: false, from: None, keep: 3 };
    Beginning::recover(graph, Arc::clone(store), log, false).await.unwrap().0
}

/// Runs until the end of the input, or is told to stop after `stop_after`. In order, and soon.
async fn run_in_order(graph: &Graph, store: &Arc<dyn Store>, stop_after: Option<Duration>) {
    let beginning = recover(graph, store).await;
    let options = RunOptions { checkpoint_interval: Duration::from_millis(50), ..options(2, 10) };
    let drain = options.drain.clone();
    let running = run_from(graph.clone(), options, Arc::new(Statistics::of(graph)), beginning);
    let stop = async {
        if let Some(time) = stop_after {
            tokio::time::sleep(time).await;
            drain.cancel();
        }
    };
    let both = async { tokio::join!(running, stop).0 };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("it ends by itself").unwrap();
}

/// Early results every millisecond for a sink that takes whole epochs.
fn early_results(source: MemorySource, sink: &Whole) -> Graph {
    let mut builder = Builder::default();
    let read = builder.source("t", &Arc::new(source));
    let edges = vec![edge(read, Distribution::Hash(vec![0]))];
    let sums = builder.kept_sum::<SlowSum>("window", edges, Some(Duration::from_millis(1)));
    builder.sink("out", sums, MAIN, sink);
    builder.graph
}

#[tokio::test]
async fn early_results_behind_the_last_barrier_hold_up_no_stop_and_the_next_run_has_them() {
    let records = vec![(Some(1), Some(5), Some(10)), (Some(1), Some(6), Some(20))];
    let sink = Whole::default();
    let graph = early_results(MemorySource { after: After::Wait, ..MemorySource::new(vec![records]) }, &sink);
    let store = store::open("memory:///").unwrap();
    let mut delivered = 0;
    for run in 1..=2 {
        run_in_order(&graph, &store, Some(Duration::from_millis(300))).await;
        let deliveries = sink.0.lock();
        assert!(deliveries.len() > delivered, "run {run}: the state that the run before left is published");
        assert!(deliveries.iter().all(|(_, values)| values.iter().all(|value| *value == 11)), "{deliveries:?}");
        assert!(deliveries.is_sorted_by(|one, two| one.0 < two.0), "{deliveries:?}");
        delivered = deliveries.len();
    }
    assert!(
        recover(&graph, &store)
            .await
            .undelivered
            .values()
            .flatten()
            .all(|epoch| *epoch <= sink.0.lock().last().unwrap().0)
    );
}

#[tokio::test]
async fn early_results_before_the_end_of_the_input_are_in_its_epoch() {
    let records = (1..=40).map(|value| (Some(1), Some(value), Some(value))).collect();
    let sink = Whole::default();
    let source = MemorySource { pace: Duration::from_millis(20), ..MemorySource::new(vec![records]) };
    let graph = early_results(source, &sink);
    run_in_order(&graph, &store::open("memory:///").unwrap(), None).await;
    let deliveries = sink.0.lock();
    assert_eq!(deliveries.last().unwrap().1.last(), Some(&820), "{deliveries:?}");
}

/// Each write takes longer than a barrier waits, so that the rows of the last epoch are in the log before they are in
/// their destination.
#[tokio::test(start_paused = true)]
async fn rows_that_are_confirmed_after_the_last_epoch_do_not_come_again() {
    for (after, stop_after) in [(After::Wait, Some(Duration::from_millis(20))), (After::End, None)] {
        let records = (1..=3).map(|value| (Some(1), Some(value), Some(value))).collect();
        let source = Arc::new(MemorySource { after, ..MemorySource::new(vec![records]) });
        let sink = MemorySink { slow: Duration::from_millis(500), ..MemorySink::default() };
        let mut builder = Builder::default();
        let read = builder.source("t", &source);
        builder.sink("out", read, MAIN, &sink);
        let store = store::open("memory:///").unwrap();
        run_in_order(&builder.graph, &store, stop_after).await;
        assert_eq!(sink.log.lock().rows.len(), 3);
        assert_eq!(sink.log.lock().flushes.last(), Some(&3));
        let beginning = recover(&builder.graph, &store).await;
        assert!(beginning.undelivered.is_empty(), "stopped after {stop_after:?}: {:?}", beginning.undelivered);
        let read = beginning.state.unwrap().sources;
        assert_eq!(read.get("t").map(|source| source.positions["t[0]"]), stop_after.map(|_| 3));
    }
}
