//! The log itself: epochs go in at one end, and at a start the newest whole one comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use thiserror::Error;

use super::state::EpochState;
use super::store::{Store, StoreError};
use super::takeover::{Fingerprint, Identities, Takeover};
use crate::connectors::delivery::Writer;
use crate::time::Epoch;

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The pipeline's name.
    pub pipeline: String,
    /// Begin anew: what is there is not loaded. Epochs are counted on.
    pub fresh: bool,
    /// Go on from this epoch and not from the newest.
    pub from: Option<Epoch>,
    /// How many checkpoints stay.
    pub keep: usize,
}

/// What an epoch adds.
#[derive(Clone, Debug, Default)]
pub struct EpochRecord {
    /// Where the sources stand, and what has changed in the operators.
    pub added: EpochState,
    /// Rows that the sinks have not delivered, by the sink's node name.
    pub outbox: BTreeMap<String, SinkRows>,
    /// The input has come to its end: `added` is all that a next run needs to know, and replaces what was before.
    pub finished: bool,
}

/// Rows of an epoch for a sink.
#[derive(Clone, Debug, Default)]
pub struct SinkRows {
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// These are all rows of the epoch (a sink that is delivered to by the epoch), so that the ledger counts them.
    pub whole: bool,
}

/// What became of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Bytes written for it.
    pub bytes: u64,
    /// Bytes of all state that the newest checkpoint refers to.
    pub state_bytes: u64,
    /// Bytes in the outbox that are not settled.
    pub outbox_bytes: u64,
}

/// What a run goes on from.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The state at the end of the epoch, under the names that its run had.
    pub state: EpochState,
    /// The fingerprints of its operators, by those names.
    pub operators: BTreeMap<String, Fingerprint>,
    /// Epochs with rows that were not known to be settled, rising, by the sink's node name.
    pub undelivered: BTreeMap<String, Vec<Epoch>>,
    /// The run had come to the end of its input.
    pub finished: bool,
}

/// Merges the state of an operator: the part of the dataflow in a log's compaction.
pub trait Compactor: Send + Sync {
    /// The same state, whole, without what later epochs have overwritten or closed. Called off the runtime's threads.
    ///
    /// # Errors
    /// When the state does not fit the operator.
    fn compact(
        &self,
        operator: &str,
        state: &super::state::OperatorState,
    ) -> datafusion::common::Result<Vec<(usize, RecordBatch)>>;
}

/// The log of one pipeline, held by one run.
pub struct CheckpointLog {
    _store: Arc<dyn Store>,
}

/// Reads the outbox of a log while the log goes on.
#[derive(Clone)]
pub struct OutboxReader {
    _store: Arc<dyn Store>,
}

impl CheckpointLog {
    /// Takes the lock and the next incarnation's number, then loads the newest whole checkpoint, if there is one. One
    /// that is torn is passed over with a warning that says what is wrong with it.
    ///
    /// # Errors
    /// [`CheckpointError::Held`] when another run is alive; [`CheckpointError::Damaged`] when there are checkpoints but
    /// none is whole: never a silent start from nothing.
    pub async fn open(
        _store: Arc<dyn Store>,
        _options: LogOptions,
    ) -> Result<(CheckpointLog, Option<Recovered>), CheckpointError> {
        unimplemented!()
    }

    /// Who writes, for the markers of the sinks.
    pub fn writer(&self) -> Writer {
        unimplemented!()
    }

    /// The highest number that any epoch of this log has had; the next one is above it.
    pub fn last_epoch(&self) -> Epoch {
        unimplemented!()
    }

    /// What was recovered goes on under the names in `takeover`, beside what is new in `identities`.
    pub fn begin(&mut self, _takeover: &Takeover, _identities: Identities, _compactor: Arc<dyn Compactor>) {
        unimplemented!()
    }

    /// Makes an epoch durable, and returns when it is. A store that is full or away is waited for, with a log line.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] when a later run has taken over; what waiting cannot heal.
    pub async fn append(&mut self, _record: EpochRecord) -> Result<Appended, CheckpointError> {
        unimplemented!()
    }

    /// A sink has everything up to `epoch`: its outbox up to there is let go, but for the newest few epochs.
    pub fn settled(&mut self, _sink: &str, _epoch: Epoch) {
        unimplemented!()
    }

    /// A way to the rows that wait.
    pub fn outbox(&self) -> OutboxReader {
        unimplemented!()
    }
}

impl OutboxReader {
    /// The rows of an epoch for a sink; none if it had none.
    ///
    /// # Errors
    /// When the file is damaged or gone.
    pub async fn read(&self, _sink: &str, _epoch: Epoch) -> Result<Vec<RecordBatch>, CheckpointError> {
        unimplemented!()
    }

    /// The epochs after `after` that are kept for a sink, settled or not, rising.
    pub fn epochs(&self, _sink: &str, _after: Epoch) -> Vec<Epoch> {
        unimplemented!()
    }
}

/// Why checkpoints cannot be used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// Another run is alive.
    #[error("{0}")]
    Held(String),
    /// A later run has taken over.
    #[error("{0}")]
    Fenced(String),
    /// None is whole, or the one asked for is not there.
    #[error("{0}")]
    Damaged(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A state could not be written or read as Arrow.
    #[error("{what}: {source}")]
    Arrow {
        /// Which.
        what: String,
        /// Arrow's words.
        source: arrow::error::ArrowError,
    },
}
