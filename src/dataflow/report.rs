//! What tasks and the coordinator tell each other: barriers and the end of an epoch one way, acknowledgements the
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use tokio::sync::{Notify, mpsc};

use super::live::look::Look;
use crate::checkpoint::log::SinkRows;
use crate::checkpoint::state::SourceState;
use crate::time::{Epoch, EventTime};

/// Index of a task in a run.
pub type TaskId = usize;

/// What the coordinator tells the source tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// The epoch ends here. After the last one, the source ends.
    Barrier {
        /// The epoch.
        epoch: Epoch,
        /// Whether the run is to stop after it.
        last: bool,
        /// Set when somebody wants to know what open windows hold at it.
        look: Option<Arc<Look>>,
    },
    /// The epoch is durable.
    Committed(Epoch),
}

/// What a task tells the coordinator.
pub enum Report {
    /// The barrier has passed.
    Passed(TaskId, Epoch, TaskSnapshot),
    /// The task has sent its last message.
    Ended(TaskId, TaskSnapshot),
}

/// What a task knows at a barrier.
#[derive(Default)]
pub struct TaskSnapshot {
    /// The source that it reads.
    pub source: Option<(String, SourceState)>,
    /// Its operators.
    pub operators: Vec<OperatorSnapshot>,
    /// The sink that it collects for, with the rows that are not delivered.
    pub outbox: Option<(String, SinkRows)>,
}

/// What one instance of a node hands over at a barrier.
pub struct OperatorSnapshot {
    /// The node's name.
    pub name: String,
    /// The instance.
    pub instance: usize,
    /// The watermark that it has seen.
    pub watermark: EventTime,
    /// What has changed in it.
    pub batches: Vec<RecordBatch>,
}

/// A task's line to the coordinator.
#[derive(Clone)]
pub struct Reporter {
    task: TaskId,
    reports: mpsc::UnboundedSender<Report>,
    epoch: Arc<OpenEpoch>,
}

/// What the tasks of a run know about the epoch that is open.
#[derive(Default)]
pub struct OpenEpoch {
    /// Something happened in it that must be held.
    active: AtomicBool,
    /// Enough waits for its end.
    full: Notify,
}

impl OpenEpoch {
    /// Whether anything happened since this was last asked.
    pub fn take_active(&self) -> bool {
        self.active.swap(false, Ordering::Relaxed)
    }

    /// Whether anything happened.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Returns when enough waits for the epoch to end.
    pub async fn filled(&self) {
        self.full.notified().await;
    }
}

impl Reporter {
    /// A line for `task`; `epoch` is shared by all.
    pub fn new(task: TaskId, reports: mpsc::UnboundedSender<Report>, epoch: Arc<OpenEpoch>) -> Reporter {
        Reporter { task, reports, epoch }
    }

    /// Something was read or sent that the next epoch must hold.
    pub fn active(&self) {
        self.epoch.active.store(true, Ordering::Relaxed);
    }

    /// So many rows wait that the epoch should end, whatever the time.
    pub fn full(&self) {
        self.epoch.full.notify_one();
    }

    /// The barrier has passed.
    pub fn passed(&self, epoch: Epoch, snapshot: TaskSnapshot) {
        // Nobody listens any more only when the run is being stopped.
        let _ = self.reports.send(Report::Passed(self.task, epoch, snapshot));
    }

    /// The task has sent its last message.
    pub fn ended(&self, snapshot: TaskSnapshot) {
        let _ = self.reports.send(Report::Ended(self.task, snapshot));
    }
}
