//! The task that keeps epochs: hands each to the log, in order, and says when it is durable.
//!
//! Writing takes its time beside the running pipeline: the next epoch is gathered while the last is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::statistics::Statistics;
use crate::checkpoint::log::{Appended, CheckpointLog, EpochRecord};
use crate::checkpoint::state::EpochState;
use crate::faults::crash_point;
use crate::time::Epoch;

/// The time between two looks at the failures of a store that is waited for.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// What the checkpointer is told.
pub enum Note {
    /// An epoch is complete.
    Keep(Box<EpochRecord>),
    /// A sink has everything up to an epoch.
    Settled(String, Epoch),
    /// No destination refuses the run: what it leaves behind is put aside, then the token cancelled.
    Depart(CancellationToken),
}

/// An epoch is durable.
pub struct Kept {
    /// What it added.
    pub added: EpochState,
    /// What became of it.
    pub appended: Appended,
}

/// Keeps what comes through `notes` until all senders are gone.
///
/// # Errors
/// What the log says.
pub async fn run(
    mut log: CheckpointLog,
    mut notes: mpsc::UnboundedReceiver<Note>,
    kept: mpsc::UnboundedSender<Kept>,
    statistics: Arc<Statistics>,
) -> Result<(), RunError> {
    let failures = log.failures();
    while let Some(note) = notes.recv().await {
        match note {
            Note::Keep(record) => {
                let added = record.added.clone();
                let call = statistics.checkpoints.append.begin();
                let appended = counted(log.append(*record), &failures, &statistics).await?;
                drop(call);
                crash_point!("checkpointer.durable");
                // Nobody listens any more only when the run is being stopped.
                let _ = kept.send(Kept { added, appended });
            }
            Note::Settled(sink, epoch) => log.settled(&sink, epoch),
            Note::Depart(go) => {
                log.depart().await?;
                go.cancel();
            }
        }
    }
    Ok(log.end().await?)
}

/// Waits for `append`, and shows meanwhile how often the store has failed.
async fn counted<T>(append: impl Future<Output = T>, failures: &AtomicU64, statistics: &Statistics) -> T {
    let mut append = std::pin::pin!(append);
    let show = || statistics.checkpoints.failures.store(failures.load(Ordering::Relaxed), Ordering::Relaxed);
    loop {
        let done = tokio::time::timeout(SHOW_EVERY, &mut append).await;
        show();
        if let Ok(done) = done {
            return done;
        }
    }
}
