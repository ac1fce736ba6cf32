//! Rows that a destination has confirmed do not come again after rows that have replaced them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::parts::{After, Builder, MemorySink, MemorySource, options};
use crate::checkpoint::log::LogOptions;
use crate::checkpoint::store::{self, Lock, Store, StoreError};
use crate::dataflow::recovery::Beginning;
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{RunOptions, run_from};
use crate::operators::MAIN;

/// A store that takes five seconds for every write.
struct Slow(Arc<dyn Store>);

#[async_trait]
impl Store for Slow {
    fn describe(&self) -> String {
        self.0.describe()
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.0.put(path, bytes).await
    }

    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.0.put_if_absent(path, bytes).await
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.0.get(path).await
    }

    fn keeps_copies(&self) -> bool {
        self.0.keeps_copies()
    }

    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.0.list(folder).await
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.0.delete(path).await
    }

    async fn lock(&self) -> Result<Option<Lock>, StoreError> {
        self.0.lock().await
    }
}

/// The run is told to stop while the epoch with the first four rows is being written. The fifth, which may replace them,
/// is confirmed before the last epoch is gathered, and so are they.
#[tokio::test(start_paused = true)]
async fn an_epoch_without_a_confirmed_row_leaves_no_older_ones_to_be_written_again() {
    let store = store::open("memory:///").unwrap();
    let slow: Arc<dyn Store> = Arc::new(Slow(Arc::clone(&store)));
    let records = (1..=5).map(|value| (Some(1), Some(value), Some(value))).collect();
    let pace = Duration::from_millis(400);
    let source = Arc::new(MemorySource { after: After::Wait, pace, ..MemorySource::new(vec![records]) });
    let sink = MemorySink { slow: Duration::from_millis(250), ..MemorySink::default() };
    let mut builder = Builder::default();
    let read = builder.source("t", &source);
    builder.sink("out", read, MAIN, &sink);
    let log = || LogOptions { pipeline: "test".into(), fresh: false, from: None, keep: 3 };
    let (beginning, _) = Beginning::recover(&builder.graph, slow, log(), false).await.unwrap();
    let options = RunOptions { bounded: false, checkpoint_interval: Duration::from_secs(1), ..options(1, 1) };
    let drain = options.drain.clone();
    let statistics = Arc::new(Statistics::of(&builder.graph));
    let running = tokio::spawn(run_from(builder.graph.clone(), options, statistics, beginning));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(sink.log.lock().flushes.last(), Some(&5), "all rows are confirmed");
    drain.cancel();
    running.await.unwrap().unwrap();
    let (beginning, found) = Beginning::recover(&builder.graph, store, log(), false).await.unwrap();
    assert_eq!(found.epoch.unwrap().0, 2);
    assert!(beginning.undelivered.is_empty(), "{:?}", beginning.undelivered);
}
