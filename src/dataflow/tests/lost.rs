//! Destinations that have lost rows which they had confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::parts::{After, Builder, MemorySource, options};
use crate::checkpoint::log::LogOptions;
use crate::checkpoint::store::{self, Store};
use crate::connectors::delivery::{Delivery, EpochSink, OpenSink};
use crate::connectors::{ConnectorError, Sink, SinkContext, SinkFactory, SinkMode};
use crate::dataflow::recovery::Beginning;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunError, RunOptions, run_from};
use crate::operators::MAIN;
use crate::time::Epoch;

/// Says that it has rows up to `marker`, and notes what it gets.
#[derive(Clone)]
pub struct Destination {
    pub marker: Option<Epoch>,
    pub delivery: Delivery,
    /// Takes nothing.
    pub stuck: bool,
    /// Gathers so many epochs before it has any of them.
    pub gathers: usize,
    /// What it calls itself.
    pub name: &'static str,
    pub epochs: Arc<Mutex<Vec<Epoch>>>,
    pub rows: Arc<AtomicUsize>,
}

impl Destination {
    /// One that takes whole epochs.
    pub fn at(marker: Option<u64>) -> Destination {
        let (epochs, rows) = (Arc::default(), Arc::default());
        Destination {
            marker: marker.map(Epoch),
            delivery: Delivery::PerEpoch,
            stuck: false,
            gathers: 0,
            name: "a destination",
            epochs,
            rows,
        }
    }
}

#[async_trait]
impl SinkFactory for Destination {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        self.name.into()
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    async fn open(&self, _: SinkContext) -> Result<OpenSink, ConnectorError> {
        Ok(match self.delivery {
            Delivery::PerEpoch => OpenSink::PerEpoch { sink: Box::new(self.clone()), settled: self.marker },
            Delivery::AtOnce => OpenSink::AtOnce(Box::new(self.clone())),
        })
    }
}

#[async_trait]
impl EpochSink for Destination {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        if self.stuck {
            std::future::pending::<()>().await;
        }
        self.rows.fetch_add(rows.iter().map(RecordBatch::num_rows).sum(), Ordering::Relaxed);
        let mut epochs = self.epochs.lock();
        epochs.push(epoch);
        Ok(if epochs.len() > self.gathers { epoch } else { self.marker.unwrap_or_default() })
    }

    async fn settle(&mut self, now: bool) -> Result<Option<Epoch>, ConnectorError> {
        Ok(self.epochs.lock().last().copied().filter(|_| now))
    }
}

#[async_trait]
impl Sink for Destination {
    async fn write(&mut self, _: RecordBatch) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }
}

/// Runs for `time` with a row and an epoch a second; which epochs the destination got.
async fn run(
    store: &Arc<dyn Store>,
    marker: Option<u64>,
    delivery: Delivery,
    time: u64,
    accept: bool,
) -> Result<Vec<u64>, RunError> {
    run_into(store, Destination { delivery, ..Destination::at(marker) }, time, accept).await
}

async fn run_into(store: &Arc<dyn Store>, sink: Destination, time: u64, accept: bool) -> Result<Vec<u64>, RunError> {
    let records = (1..=1000).map(|value| (Some(1), Some(value), Some(value))).collect();
    let pace = Duration::from_secs(1);
    let source = Arc::new(MemorySource { after: After::Wait, pace, ..MemorySource::new(vec![records]) });
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    builder.sink("out", read, MAIN, &sink);
    let log = LogOptions { pipeline: "test".into(), fresh: false, from: None, keep: 3 };
    let (mut beginning, _) = Beginning::recover(&builder.graph, Arc::clone(store), log, false).await.unwrap();
    beginning.accept_lost_output = accept;
    let options = RunOptions { bounded: false, checkpoint_interval: Duration::from_secs(1), ..options(1, 1) };
    let drain = options.drain.clone();
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let running = tokio::spawn(run_from(builder.graph.clone(), options, statistics, beginning));
    tokio::time::sleep(Duration::from_secs(time)).await;
    drain.cancel();
    running.await.unwrap()?;
    let epochs = sink.epochs.lock().iter().map(|epoch| epoch.0).collect();
    Ok(epochs)
}

fn rising(epochs: &[u64]) -> bool {
    epochs.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_kept_are_delivered_again_and_what_is_not_is_told() {
    let store = store::open("memory:///").unwrap();
    let first = run(&store, None, Delivery::PerEpoch, 40, false).await.unwrap();
    let last = *first.last().unwrap();
    assert!(last >= 35 && rising(&first), "{first:?}");

    let told = run(&store, Some(3), Delivery::PerEpoch, 5, false).await.unwrap_err().to_string();
    assert!(
        told.starts_with("out: a destination: it has rows up to epoch 3 and had confirmed those up to epoch"),
        "{told}"
    );
    assert!(told.ends_with("with --accept-lost-output"), "{told}");
    let told = run(&store, None, Delivery::PerEpoch, 5, false).await.unwrap_err().to_string();
    assert!(told.starts_with("out: a destination: it says nothing of this pipeline"), "{told}");

    let again = run(&store, Some(last - 4), Delivery::PerEpoch, 5, false).await.unwrap();
    assert!(again[0] == last - 3 && rising(&again) && *again.last().unwrap() > last, "{again:?} after {last}");
    let last = *again.last().unwrap();
    let accepted = run(&store, Some(3), Delivery::PerEpoch, 5, true).await.unwrap();
    assert!(accepted[0] > 3 && accepted[0] + 10 < last && rising(&accepted), "all that is kept: {accepted:?}");
    let last = *accepted.last().unwrap();
    let elsewhere = run(&store, None, Delivery::PerEpoch, 5, true).await.unwrap();
    // The last epoch was delivered after the last checkpoint had said what is.
    assert!(elsewhere[0] >= last && rising(&elsewhere), "only what is new: {elsewhere:?} after {last}");
}

#[tokio::test(start_paused = true)]
async fn what_was_confirmed_at_once_does_not_come_again_by_the_epoch() {
    let store = store::open("memory:///").unwrap();
    run(&store, None, Delivery::AtOnce, 40, false).await.unwrap();
    let epochs = run(&store, None, Delivery::PerEpoch, 5, false).await.unwrap();
    assert!(epochs[0] >= 35 && rising(&epochs), "{epochs:?}");
}

#[tokio::test(start_paused = true)]
async fn another_destination_that_gathers_begins_with_what_is_not_delivered_yet() {
    let store = store::open("memory:///").unwrap();
    let first = run(&store, None, Delivery::PerEpoch, 40, false).await.unwrap();
    let last = *first.last().unwrap();
    let elsewhere = Destination { name: "elsewhere", gathers: 1000, ..Destination::at(None) };
    let epochs = run_into(&store, elsewhere, 5, false).await.map_err(|error| error.to_string());
    assert!(epochs.as_ref().is_ok_and(|epochs| epochs[0] >= last), "{epochs:?} after {last}");
}
