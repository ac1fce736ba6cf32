//! Destinations that are slower than epochs come.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::parts::{After, Builder, MemorySource, options};
use crate::checkpoint::log::LogOptions;
use crate::checkpoint::store;
use crate::connectors::delivery::{Delivery, EpochSink, OpenSink};
use crate::connectors::{ConnectorError, Sink, SinkContext, SinkFactory, SinkMode};
use crate::dataflow::recovery::Beginning;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunOptions, run_from};
use crate::operators::MAIN;
use crate::time::Epoch;

/// What came: the epoch, and the values of its rows.
type Deliveries = Vec<(Epoch, Vec<i64>)>;

/// Takes five seconds for a delivery, however much is in it.
#[derive(Clone, Default)]
struct Slow {
    takes_several: bool,
    deliveries: Arc<Mutex<Deliveries>>,
}

#[async_trait]
impl SinkFactory for Slow {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        "rows in memory".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(&self, _: SinkContext) -> Result<OpenSink, ConnectorError> {
        Ok(OpenSink::PerEpoch { sink: Box::new(self.clone()), settled: None })
    }
}

#[async_trait]
impl EpochSink for Slow {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let values = |batch: &RecordBatch| batch.column(1).as_primitive::<Int64Type>().values().to_vec();
        self.deliveries.lock().push((epoch, rows.iter().flat_map(values).collect()));
        Ok(epoch)
    }

    fn takes_several(&self) -> bool {
        self.takes_several
    }
}

/// Four rows and an epoch a second, for ten seconds. Returns what was delivered, and when all was.
async fn deliveries(takes_several: bool) -> (Deliveries, Duration) {
    let records = (1..=40).map(|value| (Some(1), Some(value), Some(value))).collect();
    let pace = Duration::from_secs(1);
    let source = Arc::new(MemorySource { after: After::Wait, pace, ..MemorySource::new(vec![records]) });
    let sink = Slow { takes_several, ..Slow::default() };
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    builder.sink("out", read, MAIN, &sink);
    let log = LogOptions { pipeline: "test".into(), fresh: false, from: None, keep: 3 };
    let store = store::open("memory:///").unwrap();
    let (beginning, _) = Beginning::recover(&builder.graph, store, log, false).await.unwrap();
    let options = RunOptions { bounded: false, checkpoint_interval: Duration::from_secs(1), ..options(1, 1) };
    let drain = options.drain.clone();
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let began = tokio::time::Instant::now();
    let running = tokio::spawn(run_from(builder.graph.clone(), options, statistics, beginning));
    tokio::time::sleep(Duration::from_secs(11)).await;
    drain.cancel();
    running.await.unwrap().unwrap();
    let deliveries = sink.deliveries.lock().clone();
    let values: Vec<i64> = deliveries.iter().flat_map(|(_, values)| values.clone()).collect();
    assert_eq!(values, (1..=40).collect::<Vec<_>>(), "each once, in order");
    assert!(deliveries.is_sorted_by(|one, two| one.0 < two.0), "{deliveries:?}");
    (deliveries, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_slow_delivery_goes_with_the_next_one() {
    let (deliveries, took) = deliveries(true).await;
    assert!(deliveries[0].1.len() <= 4, "nothing has fallen behind yet: {deliveries:?}");
    assert!(deliveries.len() <= 4, "five seconds, five epochs: {deliveries:?}");
    assert!(took < Duration::from_secs(25), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_each_epoch_by_itself_gets_it_so() {
    let (deliveries, took) = deliveries(false).await;
    assert!(deliveries.len() >= 10 && deliveries.iter().all(|(_, values)| values.len() <= 4), "{deliveries:?}");
    assert!(took >= Duration::from_secs(50), "{took:?}");
}

/// Gathers rows for ten seconds.
#[derive(Clone, Default)]
struct Gathering {
    began: Option<tokio::time::Instant>,
    gathered: usize,
    visible: Arc<Mutex<usize>>,
}

#[async_trait]
impl SinkFactory for Gathering {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        "numbers of rows".into()
    }

    async fn open(&self, _: SinkContext) -> Result<OpenSink, ConnectorError> {
        Ok(OpenSink::AtOnce(Box::new(self.clone())))
    }
}

#[async_trait]
impl Sink for Gathering {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        self.began.get_or_insert_with(tokio::time::Instant::now);
        self.gathered += batch.num_rows();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        if self.began.take_if(|began| began.elapsed() >= Duration::from_secs(10)).is_some() {
            *self.visible.lock() += std::mem::take(&mut self.gathered);
        }
        Ok(())
    }

    fn holds_back(&self) -> bool {
        self.began.is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_holds_back_becomes_visible_though_no_more_rows_come() {
    let records = (1..=3).map(|value| (Some(1), Some(value), Some(value))).collect();
    let source = Arc::new(MemorySource { after: After::Wait, ..MemorySource::new(vec![records]) });
    let sink = Gathering::default();
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    builder.sink("out", read, MAIN, &sink);
    let options = RunOptions { bounded: false, linger: Duration::from_millis(200), ..options(1, 1) };
    let abort = options.abort.clone();
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let running = tokio::spawn(run_from(builder.graph.clone(), options, statistics, Beginning::default()));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(*sink.visible.lock(), 0, "before its time");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*sink.visible.lock(), 3);
    abort.cancel();
    assert!(running.await.unwrap().is_err(), "it was stopped");
}
