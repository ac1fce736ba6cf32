//! What a run counts about its checkpoints, and each sink about the epochs that it is given.
//!
//! The runtime tells of events (a recovery, an epoch that is durable, an epoch that is settled) and the figures follow.
//! Moments are kept as time since the figures were made, by tokio's clock, so that a simulated run can tell them too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::time::{Epoch, Incarnation};

/// The figures of a run's checkpoints.
#[derive(Debug)]
pub struct CheckpointStatistics {
    began: Instant,
    /// Which run of the pipeline this is; 0 when it keeps no checkpoints.
    pub incarnation: AtomicU64,
    /// The epoch that it went on from; 0 at a start from nothing.
    pub recovered_epoch: AtomicU64,
    /// How long recovery took, in nanoseconds: from the lock to the first task.
    pub recovery_nanos: AtomicU64,
    /// The newest durable epoch.
    pub durable_epoch: AtomicU64,
    /// Epochs made durable by this run.
    pub completed: AtomicU64,
    /// Attempts that the store refused; each is tried again.
    pub failures: AtomicU64,
    /// How long the last one took, from its barrier to its manifest, in nanoseconds.
    pub last_nanos: AtomicU64,
    /// How long all took.
    pub total_nanos: AtomicU64,
    /// How long the slowest took.
    pub max_nanos: AtomicU64,
    /// Bytes written for the last one.
    pub last_bytes: AtomicU64,
    /// Bytes written for all.
    pub total_bytes: AtomicU64,
    /// Bytes of all state that the newest checkpoint refers to.
    pub state_bytes: AtomicU64,
    /// Bytes of rows that sinks have not settled.
    pub outbox_bytes: AtomicU64,
    /// Around each append to the log, which waits while the store is full or away.
    pub append: Underway,
    recovering: AtomicBool,
    /// When the last one was durable, in nanoseconds since `began`.
    last_at: AtomicU64,
}

/// The figures of a sink's epochs.
#[derive(Debug, Default)]
pub struct DeliveryStatistics {
    /// The last epoch that the destination has for good; 0 before the first.
    pub settled_epoch: AtomicU64,
    /// Durable epochs with rows that are not settled.
    pub undelivered_epochs: AtomicU64,
    /// Their rows.
    pub undelivered_rows: AtomicU64,
    /// Their bytes in memory.
    pub undelivered_bytes: AtomicU64,
    /// Rows of settled epochs, counted once however often they were sent.
    pub delivered_rows: AtomicU64,
    /// Rows that the destination refused and that were left out.
    pub refused_rows: AtomicU64,
    /// Around each call of the sink, which waits inside while its server is away.
    pub call: Underway,
}

/// A call that may wait: since when it is under way, if one is.
#[derive(Debug)]
pub struct Underway {
    began: Instant,
    /// Nanoseconds since `began` plus 1; 0 when no call is under way.
    since: AtomicU64,
}

impl Default for CheckpointStatistics {
    fn default() -> CheckpointStatistics {
        CheckpointStatistics {
            began: Instant::now(),
            incarnation: AtomicU64::default(),
            recovered_epoch: AtomicU64::default(),
            recovery_nanos: AtomicU64::default(),
            durable_epoch: AtomicU64::default(),
            completed: AtomicU64::default(),
            failures: AtomicU64::default(),
            last_nanos: AtomicU64::default(),
            total_nanos: AtomicU64::default(),
            max_nanos: AtomicU64::default(),
            last_bytes: AtomicU64::default(),
            total_bytes: AtomicU64::default(),
            state_bytes: AtomicU64::default(),
            outbox_bytes: AtomicU64::default(),
            append: Underway::default(),
            recovering: AtomicBool::new(false),
            last_at: AtomicU64::default(),
        }
    }
}

impl CheckpointStatistics {
    /// The log is being opened and the state loaded.
    pub fn recovering(&self) {
        self.recovering.store(true, Relaxed);
    }

    /// Recovery is over; the tasks start. `from` is 0 at a start from nothing.
    pub fn recovered(&self, incarnation: Incarnation, from: Epoch, took: Duration) {
        self.incarnation.store(incarnation.0, Relaxed);
        self.recovered_epoch.store(from.0, Relaxed);
        self.durable_epoch.store(from.0, Relaxed);
        self.recovery_nanos.store(nanos(took), Relaxed);
        self.recovering.store(false, Relaxed);
    }

    /// An epoch is durable. `took` is the time since its barrier, `bytes` what was written for it.
    pub fn durable(&self, epoch: Epoch, took: Duration, bytes: u64) {
        let took = nanos(took);
        self.durable_epoch.store(epoch.0, Relaxed);
        self.completed.fetch_add(1, Relaxed);
        self.last_nanos.store(took, Relaxed);
        self.total_nanos.fetch_add(took, Relaxed);
        self.max_nanos.fetch_max(took, Relaxed);
        self.last_bytes.store(bytes, Relaxed);
        self.total_bytes.fetch_add(bytes, Relaxed);
        self.last_at.store(nanos(self.began.elapsed()), Relaxed);
    }

    /// Whether the run keeps checkpoints.
    pub fn are_kept(&self) -> bool {
        self.is_recovering() || self.incarnation.load(Relaxed) > 0
    }

    /// Whether the run is still loading what it goes on from.
    pub fn is_recovering(&self) -> bool {
        self.recovering.load(Relaxed)
    }

    /// Time since the last epoch became durable; `None` before the first.
    pub fn age(&self) -> Option<Duration> {
        (self.completed.load(Relaxed) > 0)
            .then(|| self.began.elapsed().saturating_sub(Duration::from_nanos(self.last_at.load(Relaxed))))
    }
}

impl DeliveryStatistics {
    /// The destination has everything up to `epoch`, of which `rows` rows are new.
    pub fn settled(&self, epoch: Epoch, rows: u64) {
        self.settled_epoch.store(epoch.0, Relaxed);
        self.delivered_rows.fetch_add(rows, Relaxed);
    }

    /// What waits for the destination now.
    pub fn waits(&self, epochs: usize, rows: u64, bytes: u64) {
        self.undelivered_epochs.store(epochs as u64, Relaxed);
        self.undelivered_rows.store(rows, Relaxed);
        self.undelivered_bytes.store(bytes, Relaxed);
    }
}

impl Default for Underway {
    fn default() -> Underway {
        Underway { began: Instant::now(), since: AtomicU64::new(0) }
    }
}

impl Underway {
    /// A call begins. It is over when the result is dropped, however it ends.
    pub fn begin(&self) -> UnderwayCall<'_> {
        self.since.store(nanos(self.began.elapsed()).saturating_add(1), Relaxed);
        UnderwayCall(&self.since)
    }

    /// How long the call has been under way; `None` when there is none.
    pub fn time(&self) -> Option<Duration> {
        let since = Duration::from_nanos(self.since.load(Relaxed).checked_sub(1)?);
        Some(self.began.elapsed().saturating_sub(since))
    }
}

/// A call that is under way, until this is dropped.
pub struct UnderwayCall<'a>(&'a AtomicU64);

impl Drop for UnderwayCall<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_under_way_until_it_ends_however_it_ends() {
        let call = Underway::default();
        assert_eq!(call.time(), None);
        let under_way = call.begin();
        assert_eq!(call.time(), Some(Duration::ZERO));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(call.time(), Some(Duration::from_secs(11)));
        drop(under_way);
        assert_eq!(call.time(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn durable_epochs_add_up() {
        let checkpoints = CheckpointStatistics::default();
        assert!(!checkpoints.are_kept());
        checkpoints.recovering();
        assert!(checkpoints.are_kept() && checkpoints.is_recovering());
        checkpoints.recovered(Incarnation(3), Epoch(40), Duration::from_millis(120));
        assert!(checkpoints.are_kept() && !checkpoints.is_recovering());
        assert_eq!((checkpoints.durable_epoch.load(Relaxed), checkpoints.age()), (40, None));
        checkpoints.durable(Epoch(41), Duration::from_nanos(30), 1000);
        tokio::time::advance(Duration::from_secs(1)).await;
        checkpoints.durable(Epoch(42), Duration::from_nanos(20), 500);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(checkpoints.age(), Some(Duration::from_secs(2)));
        let figures = [&checkpoints.durable_epoch, &checkpoints.completed, &checkpoints.last_nanos]
            .map(|figure| figure.load(Relaxed));
        assert_eq!(figures, [42, 2, 20]);
        let sums =
            [&checkpoints.total_nanos, &checkpoints.max_nanos, &checkpoints.last_bytes, &checkpoints.total_bytes]
                .map(|figure| figure.load(Relaxed));
        assert_eq!(sums, [50, 30, 500, 1500]);
    }
}
