//! The log of a Delta table as its sink sees it: commits by put-if-absent, and the marker that they carry.
//!
//! Commit *n* is the file `_delta_log/n.json`, and whoever puts it there first has made it. So a commit is a
//! compare-and-swap: it succeeds only if the writer has seen all that came before. After a refusal, and after an outcome
//! that is not known, the commits that came meanwhile are read one by one: one of them may be our own, or the fence of a
//! later run.
//!
//! The marker of a pipeline's table is in `txn` actions, which Delta keeps for ever: `acequia/PIPELINE/TABLE` has the
//! last epoch as its version, `acequia/PIPELINE/TABLE/run` the run. The checkpoint log that counts them is a property of
//! the table, `acequia.log/PIPELINE/TABLE`.

use bytes::Bytes;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::{Action, CommitInfo, Metadata, Protocol, Transaction, Version};
use deltalake_core::logstore::{LogStoreRef, commit_uri_from_version};
use object_store::{Error, ObjectStore, PutMode, PutOptions};
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::place::DeltaPlace;
use crate::connectors::ConnectorError;
use crate::connectors::delivery::Marker;
use crate::faults::{Bug, planted};
use crate::time::{Epoch, Incarnation, LogId};

/// After so long without a commit the whole log is read anew: what came meanwhile may have been summed up and cleared
/// away, so that its place looks free.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// The epoch, run and log that a table's marker names; `None` if this pipeline never wrote it.
///
/// # Errors
/// When the log cannot be read.
pub async fn marker_of(table: &DeltaTable, pipeline: &str, name: &str) -> Result<Option<Marker>, ConnectorError> {
    let names = MarkerNames::new(pipeline, name);
    let what = format!("Delta table {}", table.table_url());
    let failed = |error: deltalake_core::DeltaTableError| ConnectorError::Unavailable {
        what: what.clone(),
        message: error.to_string(),
    };
    let state = table.snapshot().map_err(failed)?;
    let log_store = table.log_store();
    let Some(run) = state.transaction_version(&log_store, &names.run).await.map_err(failed)? else { return Ok(None) };
    let epoch = state.transaction_version(&log_store, &names.epoch).await.map_err(failed)?;
    let log = state.metadata().configuration().get(&names.log).cloned().unwrap_or_default();
    Ok(Some(names.marker(log, run, epoch.unwrap_or_default())))
}

/// The application whose transactions say which epoch of a pipeline is the last one in a table.
pub fn epoch_marker(pipeline: &str, table: &str) -> String {
    format!("acequia/{pipeline}/{table}")
}

/// What the parts of a marker are called.
#[derive(Clone, Debug)]
struct MarkerNames {
    epoch: String,
    run: String,
    log: String,
}

impl MarkerNames {
    fn new(pipeline: &str, table: &str) -> MarkerNames {
        MarkerNames {
            epoch: epoch_marker(pipeline, table),
            run: format!("acequia/{pipeline}/{table}/run"),
            log: format!("acequia.log/{pipeline}/{table}"),
        }
    }

    fn marker(&self, log: String, run: i64, epoch: i64) -> Marker {
        Marker { log: LogId(log), incarnation: Incarnation(run as u64), epoch: Epoch(epoch as u64) }
    }
}

/// What the log said up to a version.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) version: Version,
    pub(super) metadata: Metadata,
    pub(super) protocol: Protocol,
    pub(super) marker: Option<Marker>,
}

/// A table's log, and how far it is known.
pub(super) struct TableLog {
    place: DeltaPlace,
    store: LogStoreRef,
    names: MarkerNames,
    /// `None` while there is no table.
    known: Option<Known>,
    /// A commit whose outcome is not known.
    pending: Option<(Version, Bytes)>,
    /// When the log was last known to its end.
    seen: Instant,
    /// What has been read and not yet told.
    news: News,
}

/// What became of an attempt to commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attempt {
    /// It is there.
    Made,
    /// Another commit has its place.
    Overtaken,
}

/// What came into the log since it was last looked at.
#[derive(Clone, Default)]
pub(super) struct News {
    /// The commit whose outcome was not known is there.
    pub(super) ours_is_there: bool,
    /// The columns or the properties of the table are others.
    pub(super) metadata_changed: bool,
    /// What a reader or writer must be able to do is something else.
    pub(super) protocol_changed: bool,
}

impl TableLog {
    /// Reads the log to its end.
    ///
    /// # Errors
    /// As for [`DeltaPlace::open`].
    pub(super) async fn open(place: &DeltaPlace, pipeline: &str, table: &str) -> Result<TableLog, ConnectorError> {
        let (store, names) = (place.log_store()?, MarkerNames::new(pipeline, table));
        let (place, seen) = (place.clone(), Instant::now());
        let mut log = TableLog { place, store, names, known: None, pending: None, seen, news: News::default() };
        log.load(pipeline, table).await?;
        Ok(log)
    }

    async fn load(&mut self, pipeline: &str, name: &str) -> Result<(), ConnectorError> {
        self.seen = Instant::now();
        self.known = match self.place.open().await? {
            None => None,
            Some(table) => {
                let state = table.snapshot().map_err(|error| self.place.failure(&error))?;
                Some(Known {
                    version: state.version(),
                    metadata: state.metadata().clone(),
                    protocol: state.protocol().clone(),
                    marker: marker_of(&table, pipeline, name).await?,
                })
            }
        };
        Ok(())
    }

    /// What is known; `None` while there is no table.
    pub(super) fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// Where commits are put: for what looks after the table besides.
    pub(super) fn store(&self) -> &LogStoreRef {
        &self.store
    }

    /// Tries once to make a commit of `actions` the next one.
    ///
    /// # Errors
    /// [`ConnectorError::Unavailable`] when the outcome is not known: [`TableLog::catch_up`] finds out.
    pub(super) async fn attempt(&mut self, actions: &[Action]) -> Result<Attempt, ConnectorError> {
        let version = self.known.as_ref().map_or(0, |known| known.version + 1);
        let bytes = self.bytes(actions)?;
        self.pending = Some((version, bytes.clone()));
        let options = PutOptions::from(PutMode::Create);
        let objects = self.store.object_store(None);
        match objects.put_opts(&commit_uri_from_version(Some(version)), bytes.into(), options).await {
            Ok(_) => {
                self.pending = None;
                self.seen = Instant::now();
                self.learn(version, actions);
                self.news = News::default();
                Ok(Attempt::Made)
            }
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Attempt::Overtaken),
            Err(error) => {
                if planted(Bug::UnknownTakenForDone) {
                    self.learn(version, actions);
                    return Ok(Attempt::Made);
                }
                Err(self.place.store_failure(&error))
            }
        }
    }

    /// Whether the log may hold what is not known: after an attempt that was not seen to succeed, or after a long time.
    pub(super) fn must_catch_up(&self) -> bool {
        self.pending.is_some() || self.seen.elapsed() > FORGOTTEN
    }

    /// Reads what has come since.
    ///
    /// # Errors
    /// [`ConnectorError::Unavailable`] when trying again may help, [`ConnectorError::Refused`] when it will not.
    pub(super) async fn catch_up(&mut self, pipeline: &str, table: &str) -> Result<News, ConnectorError> {
        if self.seen.elapsed() > FORGOTTEN && self.pending.is_none() {
            return self.read_anew(pipeline, table).await;
        }
        if self.known.is_none() {
            // Somebody else may have made the table.
            self.load(pipeline, table).await?;
            self.news.metadata_changed |= self.known.is_some();
        }
        while let Some(known) = &self.known {
            let version = known.version + 1;
            let read = self.store.read_commit_entry(version).await;
            let Some(bytes) = read.map_err(|error| self.place.failure(&error))? else { break };
            if self.pending.as_ref().is_some_and(|(at, ours)| *at == version && *ours == bytes) {
                // It stays pending until the log is read to its end: whoever is interrupted must come back here.
                self.news.ours_is_there = true;
            }
            let actions = self.actions(version, &bytes)?;
            self.learn(version, &actions);
        }
        // Put again, it goes to the same place or, if that is taken, to a later one: never to both.
        self.pending = None;
        self.seen = Instant::now();
        Ok(std::mem::take(&mut self.news))
    }

    async fn read_anew(&mut self, pipeline: &str, table: &str) -> Result<News, ConnectorError> {
        let before = self.known.clone();
        self.load(pipeline, table).await?;
        let mut news = News::default();
        if let (Some(before), Some(now)) = (before, &self.known) {
            news.metadata_changed = before.metadata != now.metadata;
            news.protocol_changed = before.protocol != now.protocol;
        }
        Ok(news)
    }

    /// What concerns a sink in a commit; others may have written actions that nobody here knows.
    fn actions(&self, version: Version, bytes: &[u8]) -> Result<Vec<Action>, ConnectorError> {
        let refused = |error: serde_json::Error| ConnectorError::Refused {
            what: self.place.describe(),
            message: format!("version {version} of its log cannot be read: {error}"),
        };
        let mut actions = vec![];
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let action: serde_json::Value = serde_json::from_slice(line).map_err(refused)?;
            if ["metaData", "protocol", "txn"].iter().any(|kind| action.get(kind).is_some()) {
                actions.push(serde_json::from_value(action).map_err(refused)?);
            }
        }
        Ok(actions)
    }

    /// Takes in what a commit says.
    fn learn(&mut self, version: Version, actions: &[Action]) {
        let (mut metadata, mut protocol) = (None, None);
        let (mut run, mut epoch) = (None, None);
        for action in actions {
            match action {
                Action::Metadata(found) => metadata = Some(found.clone()),
                Action::Protocol(found) => protocol = Some(found.clone()),
                Action::Txn(txn) if txn.app_id == self.names.run => run = Some(txn.version),
                Action::Txn(txn) if txn.app_id == self.names.epoch => epoch = Some(txn.version),
                _ => {}
            }
        }
        self.news.metadata_changed |= metadata.is_some();
        self.news.protocol_changed |= protocol.is_some();
        let known = match (self.known.take(), metadata, protocol) {
            (Some(known), metadata, protocol) => Known {
                version,
                metadata: metadata.unwrap_or(known.metadata),
                protocol: protocol.unwrap_or(known.protocol),
                marker: known.marker,
            },
            // Our own first commit.
            (None, Some(metadata), Some(protocol)) => Known { version, metadata, protocol, marker: None },
            (None, ..) => return,
        };
        let before = known.marker.as_ref();
        let run = run.or(before.map(|marker| marker.incarnation.0 as i64));
        let epoch = epoch.or(before.map(|marker| marker.epoch.0 as i64));
        let log = known.metadata.configuration().get(&self.names.log).cloned().unwrap_or_default();
        let marker = run.map(|run| self.names.marker(log, run, epoch.unwrap_or_default()));
        self.known = Some(Known { marker, ..known });
    }

    /// The properties that name the checkpoint log, as key and value.
    pub(super) fn log_property(&self, log: &LogId) -> (String, String) {
        (self.names.log.clone(), log.0.clone())
    }

    /// The action by which a run takes the table over.
    pub(super) fn run_action(&self, run: Incarnation) -> Action {
        Action::Txn(Transaction::new(&self.names.run, run.0 as i64))
    }

    /// The action that says which epoch is the last one.
    pub(super) fn epoch_action(&self, epoch: Epoch) -> Action {
        Action::Txn(Transaction::new(&self.names.epoch, epoch.0 as i64))
    }

    fn bytes(&self, actions: &[Action]) -> Result<Bytes, ConnectorError> {
        let mut lines = vec![];
        for action in actions {
            let refused = |error: serde_json::Error| ConnectorError::Refused {
                what: self.place.describe(),
                message: format!("a commit cannot be written: {error}"),
            };
            serde_json::to_writer(&mut lines, action).map_err(refused)?;
            lines.push(b'\n');
        }
        Ok(lines.into())
    }
}

/// What a commit says of itself. A number drawn at random makes it unlike any other, so that it is known again.
pub(super) fn commit_info(operation: &str, only_adds: bool) -> Action {
    let mut info = CommitInfo {
        timestamp: Some(chrono::Utc::now().timestamp_millis()),
        operation: Some(operation.into()),
        operation_parameters: Some([("outputMode".to_owned(), json!("Append"))].into()),
        is_blind_append: Some(only_adds),
        engine_info: Some(concat!("acequia/", env!("CARGO_PKG_VERSION")).into()),
        ..CommitInfo::default()
    };
    info.info.insert("txnId".into(), json!(format!("{:032x}", rand::random::<u128>())));
    Action::CommitInfo(info)
}
