//! Rows that wait in the log for a sink, read while the log goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use parking_lot::Mutex;

use super::files;
use super::log::CheckpointError;
use super::manifest::{FileEntry, Manifest, SinkEntry};
use super::store::Store;
use crate::time::Epoch;

/// What is kept for each sink.
pub(super) type Index = BTreeMap<String, Kept>;

/// What is kept for a sink, and what is not any more.
#[derive(Clone, Default)]
pub(super) struct Kept {
    places: BTreeMap<Epoch, Place>,
    confirmed: Confirmed,
}

/// What a sink has confirmed, as the newest checkpoint knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Confirmed {
    /// The last epoch.
    pub settled: Option<Epoch>,
    /// It was confirmed without a marker in the destination.
    pub at_once: bool,
    /// It was confirmed by another destination than the one of now.
    pub moved: bool,
    /// The last epoch whose rows went in with a marker and are kept no more.
    pub let_go: Option<Epoch>,
}

/// A file with rows.
#[derive(Clone)]
pub(super) struct Place {
    file: String,
    entry: FileEntry,
}

/// Reads the outbox of a log while the log goes on.
#[derive(Clone)]
pub struct OutboxReader {
    store: Arc<dyn Store>,
    index: Arc<Mutex<Index>>,
}

impl OutboxReader {
    pub(super) fn new(store: Arc<dyn Store>, index: Arc<Mutex<Index>>) -> OutboxReader {
        OutboxReader { store, index }
    }

    /// The rows of an epoch for a sink; none if it had none. A store that is away is waited for, with a log line.
    ///
    /// # Errors
    /// When the file is damaged or gone.
    pub async fn read(&self, sink: &str, epoch: Epoch) -> Result<Vec<RecordBatch>, CheckpointError> {
        let place = self.index.lock().get(sink).and_then(|kept| kept.places.get(&epoch)).cloned();
        let Some(Place { file, entry }) = place else { return Ok(vec![]) };
        let what = || format!("the rows of epoch {epoch} that wait for {sink}, in {file} at {}", self.store.describe());
        let read = files::load(&*self.store, &file, &entry).await.map_err(|flaw| flaw.into_error(what()))?;
        let name = sink.to_owned();
        let batches = files::offload(move || read.read(&name)).await;
        let batches = batches.map_err(|flaw| CheckpointError::Damaged(format!("{}: {flaw}", what())))?;
        Ok(batches.into_iter().map(|(_, batch)| batch).collect())
    }

    /// The epochs after `after` that are kept for a sink, settled or not, rising.
    pub fn epochs(&self, sink: &str, after: Epoch) -> Vec<Epoch> {
        let index = self.index.lock();
        let epochs = index.get(sink).into_iter().flat_map(|kept| kept.places.range(after.next()..));
        epochs.map(|(epoch, _)| *epoch).collect()
    }

    /// What a sink has confirmed.
    pub fn confirmed(&self, sink: &str) -> Confirmed {
        self.index.lock().get(sink).map(|kept| kept.confirmed).unwrap_or_default()
    }
}

/// What a manifest says is kept.
pub(super) fn index(manifest: &Manifest) -> Index {
    let of_sink = |sink: &SinkEntry| {
        let places = sink.outbox.iter().filter_map(|entry| {
            let file = manifest.files.get(&entry.file)?.clone();
            Some((Epoch(entry.epoch), Place { file: entry.file.clone(), entry: file }))
        });
        let (settled, let_go) = (sink.settled.map(Epoch), sink.let_go.map(Epoch));
        Kept {
            places: places.collect(),
            confirmed: Confirmed { settled, at_once: sink.at_once, moved: sink.moved, let_go },
        }
    };
    manifest.sinks.iter().map(|(name, sink)| (name.clone(), of_sink(sink))).collect()
}
