//! A log on a disk and in memory: what was appended is found again, whatever went wrong.

mod damage;
mod endless;
mod failing;
mod idle;
mod planted;
mod recovering;
mod s3;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::log::{CheckpointLog, Compactor, EpochRecord, LogOptions, Recovered, SinkRows};
use super::object_store::ObjectStorage;
use super::state::{EpochState, OperatorState, SourceState};
use super::store::Store;
use super::takeover::{Fingerprint, Identities, Takeover};
use crate::time::{Epoch, EventTime};

fn options() -> LogOptions {
    LogOptions { pipeline: "shop".into(), fresh: false, from: None, keep: 3 }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(ObjectStorage::memory())
}

fn batch(values: impl IntoIterator<Item = i64>, watermark: i64) -> RecordBatch {
    let metadata = HashMap::from([("acequia.watermark".to_owned(), watermark.to_string())]);
    let schema = Schema::new_with_metadata(vec![Field::new("v", DataType::Int64, false)], metadata);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from_iter_values(values))]).unwrap()
}

fn values(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// An epoch that moves its source to its own number, adds that to the operator's state, and has it as a row for a sink.
fn record(epoch: Epoch) -> EpochRecord {
    let n = epoch.0 as i64;
    let source = SourceState {
        positions: [("t[0]".into(), n)].into(),
        origin: Some("cluster".into()),
        split_origins: [("t[0]".into(), format!("after {n}"))].into(),
        watermarks: [("t[0]".into(), EventTime(n)), ("t[1]".into(), EventTime::MIN)].into(),
    };
    let operator = OperatorState { watermark: EventTime(n), batches: vec![(0, batch([n], n)), (1, batch([], n))] };
    EpochRecord {
        added: EpochState {
            epoch,
            sources: [("source".into(), source)].into(),
            operators: [("sums".into(), operator)].into(),
        },
        outbox: [("sink".into(), SinkRows { batches: vec![batch([n], 0)], whole: true, confirmed: None })].into(),
        finished: false,
    }
}

/// Keeps every value once.
struct Merge;

impl Compactor for Merge {
    fn compact(&self, _: &str, state: &OperatorState) -> datafusion::common::Result<Vec<(usize, RecordBatch)>> {
        let batches: Vec<_> = state.batches.iter().map(|(_, batch)| batch.clone()).collect();
        let mut seen = std::collections::BTreeSet::new();
        let mut all = values(&batches);
        all.retain(|value| seen.insert(*value));
        Ok(vec![(0, batch(all, state.watermark.0))])
    }
}

fn identities() -> Identities {
    Identities {
        operators: [("sums".into(), Fingerprint("sum of v".into()))].into(),
        sources: ["source".into()].into(),
        sinks: [("sink".into(), "a destination".into())].into(),
    }
}

fn begin(log: &mut CheckpointLog, recovered: Option<&Recovered>) {
    let takeover = Takeover {
        state: recovered.map(|recovered| recovered.state.clone()).unwrap_or_default(),
        renamed: recovered.iter().flat_map(|r| r.state.operators.keys()).map(|n| (n.clone(), n.clone())).collect(),
        undelivered: recovered.map(|recovered| recovered.undelivered.clone()).unwrap_or_default(),
        notes: vec![],
    };
    log.begin(&takeover, identities(), Arc::new(Merge));
}

async fn open(store: &Arc<dyn Store>) -> (CheckpointLog, Option<Recovered>) {
    let (mut log, recovered) = CheckpointLog::open(Arc::clone(store), options()).await.unwrap();
    begin(&mut log, recovered.as_ref());
    (log, recovered)
}

async fn append(log: &mut CheckpointLog, epochs: u64) {
    for _ in 0..epochs {
        let epoch = log.last_epoch().next();
        log.append(record(epoch)).await.unwrap();
    }
}

/// The values in the operator's state.
fn state_of(recovered: &Recovered) -> Vec<i64> {
    let batches: Vec<_> = recovered.state.operators["sums"].batches.iter().map(|(_, batch)| batch.clone()).collect();
    values(&batches)
}

fn epochs(numbers: impl IntoIterator<Item = u64>) -> Vec<Epoch> {
    numbers.into_iter().map(Epoch).collect()
}

async fn all_files(store: &Arc<dyn Store>) -> BTreeMap<String, bytes::Bytes> {
    let mut files = BTreeMap::new();
    for folder in ["incarnations", "manifests", "outbox", "set-aside", "state"] {
        for (path, _) in store.list(folder).await.unwrap() {
            let bytes = store.get(&path).await.unwrap();
            files.insert(path, bytes);
        }
    }
    for path in ["log.json", "log.json.copy"] {
        if let Ok(bytes) = store.get(path).await {
            files.insert(path.into(), bytes);
        }
    }
    files
}
