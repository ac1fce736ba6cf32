//! What a sink has been given and its destination has not: the queue between a sink's task and its deliverer.
//!
//! Rows wait by the epoch. A sink that takes whole epochs gets one when it is durable; a sink that takes rows at once
//! gets them as they come, and what it has not confirmed at a barrier is written into the checkpoint. Since durable
//! epochs can be read back from there, a destination that is away costs disk and not memory, and holds nobody up.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::connectors::delivery::Delivery;
use crate::time::Epoch;

/// Bytes of rows that may wait in memory before durable epochs are let go and read back later.
const MEMORY: usize = 64 << 20;

/// Batches that may wait where no log takes them: as many as in a channel.
const FEW: usize = 8;

/// The queue of one sink.
pub struct Outbox {
    delivery: Delivery,
    /// Durable epochs can be read back.
    kept: bool,
    queue: Mutex<Queue>,
    /// Something has come, or is wanted: for the deliverer.
    work: Notify,
    /// Something has been delivered: for the sink's task.
    progress: Notify,
}

#[derive(Default)]
struct Queue {
    /// Oldest first. The last one is open when it is not sealed.
    epochs: VecDeque<Waiting>,
    settled: Option<Epoch>,
    /// The last barrier that has passed.
    passed: Option<Epoch>,
    /// The sink has opened and said what its destination has.
    compared: bool,
    /// Flushes asked for, and done.
    flushes: (u64, u64),
    /// No more will come.
    closing: bool,
}

/// The rows of an epoch.
struct Waiting {
    /// `None` while it is open, and after the end of the input until the coordinator says which epoch that was.
    epoch: Option<Epoch>,
    /// Its barrier has passed.
    sealed: bool,
    durable: bool,
    rows: Rows,
    /// Bytes of the rows in memory, counted as they come and go.
    bytes: usize,
    /// How many rows that are not settled, as far as this run knows.
    count: u64,
    /// How many of the rows that the log has of it are confirmed: those that were confirmed after its barrier.
    passed: u64,
    /// Given to a sink that has not settled it yet.
    delivered: bool,
}

enum Rows {
    /// With how many of them the deliverer has taken and not confirmed.
    Memory { batches: VecDeque<RecordBatch>, taken: usize },
    /// In the log's outbox.
    Log,
}

/// What a deliverer is to do.
#[derive(Debug)]
pub enum Work {
    /// Bring a whole epoch in; `None` when its rows are to be read from the log.
    Deliver(Epoch, Option<Vec<RecordBatch>>),
    /// Write some rows.
    Write(RecordBatch),
    /// Read the rows of an epoch from the log and give them to [`Outbox::reload`].
    Load(Epoch),
    /// Flush, and confirm.
    Flush,
    /// The epoch is in the destination: nothing to do but to say so.
    Settled(Epoch),
    /// Settle what is left, and close.
    Close,
}

/// What waits at the end of an epoch, for those who look at it.
#[derive(Debug)]
pub struct Unsettled {
    /// The last epoch in the destination, as far as this run knows.
    pub settled: Option<Epoch>,
    /// The epochs that are not in it, rising, with their rows; `None` for rows that are in the log.
    pub waiting: Vec<(Epoch, Option<Vec<RecordBatch>>)>,
}

/// How much waits, for statistics.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Backlog {
    /// Epochs that have ended and are not settled.
    pub epochs: usize,
    /// Rows that are not settled, but for those of earlier runs.
    pub rows: u64,
    /// Bytes of those in memory.
    pub bytes: u64,
}

impl Waiting {
    fn open() -> Waiting {
        let rows = Rows::Memory { batches: VecDeque::new(), taken: 0 };
        Waiting { epoch: None, sealed: false, durable: false, rows, bytes: 0, count: 0, passed: 0, delivered: false }
    }

    fn in_log(epoch: Epoch) -> Waiting {
        Waiting {
            epoch: Some(epoch),
            sealed: true,
            durable: true,
            rows: Rows::Log,
            bytes: 0,
            count: 0,
            passed: 0,
            delivered: false,
        }
    }

    fn batches(&self) -> usize {
        match &self.rows {
            Rows::Memory { batches, .. } => batches.len(),
            Rows::Log => 0,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(&self.rows, Rows::Memory { batches, .. } if batches.is_empty())
    }
}

impl Outbox {
    /// A queue in which `undelivered` epochs wait from an earlier run, rising. `kept` says whether the run has a log.
    pub fn new(delivery: Delivery, kept: bool, undelivered: &[Epoch]) -> Outbox {
        let epochs = undelivered.iter().map(|&epoch| Waiting::in_log(epoch)).collect();
        Outbox {
            delivery,
            kept,
            queue: Mutex::new(Queue { epochs, ..Queue::default() }),
            work: Notify::new(),
            progress: Notify::new(),
        }
    }

    /// How the sink wants its rows.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Rows of the epoch that is open. Returns how many bytes of it wait.
    pub fn push(&self, batch: RecordBatch) -> usize {
        let mut queue = self.queue.lock();
        if queue.epochs.back().is_none_or(|last| last.sealed) {
            queue.epochs.push_back(Waiting::open());
        }
        let Some(open) = queue.epochs.back_mut() else { return 0 };
        open.count += batch.num_rows() as u64;
        open.bytes += batch.get_array_memory_size();
        if let Rows::Memory { batches, .. } = &mut open.rows {
            batches.push_back(batch);
        }
        let bytes = open.bytes;
        drop(queue);
        self.work.notify_one();
        bytes
    }

    /// The barrier of `epoch` has come, or the end of the input (`None`): what the checkpoint has to keep.
    pub fn seal(&self, epoch: Option<Epoch>) -> Vec<RecordBatch> {
        let mut queue = self.queue.lock();
        queue.passed = epoch.max(queue.passed);
        let Some(open) = queue.epochs.back_mut().filter(|last| !last.sealed) else { return vec![] };
        open.epoch = epoch;
        open.sealed = true;
        let rows = match &open.rows {
            Rows::Memory { batches, .. } => batches.iter().cloned().collect::<Vec<_>>(),
            Rows::Log => vec![],
        };
        if rows.is_empty() {
            queue.epochs.pop_back();
        }
        rows
    }

    /// The last epoch of which a sink that takes rows at once has confirmed everything. Asked after [`Outbox::seal`]: what
    /// the sealed epoch does not hold because it is confirmed came after all that.
    pub fn confirmed(&self) -> Option<Epoch> {
        let queue = self.queue.lock();
        if self.delivery == Delivery::PerEpoch {
            return None;
        }
        let confirmed = queue.epochs.iter().take_while(|waiting| waiting.sealed && waiting.is_empty());
        confirmed.filter_map(|waiting| waiting.epoch).last().max(queue.settled)
    }

    /// `epoch` is complete. What was sealed at the end of the input belongs to it, unless its barrier had passed before:
    /// then a sink's share in it, were it empty, came with that, and the end belongs to the next one.
    pub fn assign(&self, epoch: Epoch) {
        let mut queue = self.queue.lock();
        if queue.passed >= Some(epoch) {
            return;
        }
        for waiting in queue.epochs.iter_mut().filter(|waiting| waiting.sealed) {
            waiting.epoch.get_or_insert(epoch);
        }
    }

    /// `epoch` is durable. Lets rows go that can be read back, if too many wait.
    pub fn durable(&self, epoch: Epoch) {
        let mut queue = self.queue.lock();
        for waiting in queue.epochs.iter_mut().filter(|waiting| waiting.sealed) {
            waiting.durable |= waiting.epoch.is_some_and(|own| own <= epoch);
        }
        let mut bytes: usize = queue.epochs.iter().map(|waiting| waiting.bytes).sum();
        // The newest first: they are the last to be delivered.
        for waiting in queue.epochs.iter_mut().rev() {
            if !self.kept || bytes <= MEMORY {
                break;
            }
            if waiting.durable && matches!(waiting.rows, Rows::Memory { taken: 0, .. }) {
                bytes -= std::mem::take(&mut waiting.bytes);
                waiting.rows = Rows::Log;
            }
        }
        drop(queue);
        self.work.notify_one();
    }

    /// No more will come.
    pub fn close(&self) {
        self.queue.lock().closing = true;
        self.work.notify_one();
    }

    /// Asks for a flush; returns its number.
    pub fn ask_flush(&self) -> u64 {
        let mut queue = self.queue.lock();
        queue.flushes.0 += 1;
        let number = queue.flushes.0;
        drop(queue);
        self.work.notify_one();
        number
    }

    /// Returns when flush `number` is done.
    pub async fn flushed(&self, number: u64) {
        loop {
            let progress = self.progress.notified();
            if self.queue.lock().flushes.1 >= number {
                return;
            }
            progress.await;
        }
    }

    /// Whether nothing waits that came since the last barrier or was not confirmed.
    pub fn is_empty(&self) -> bool {
        self.queue.lock().epochs.iter().all(Waiting::is_empty)
    }

    /// Whether it is closed and everything in it is settled.
    pub fn is_closed_and_empty(&self) -> bool {
        let queue = self.queue.lock();
        queue.closing && queue.epochs.is_empty()
    }

    /// Returns when few batches wait: where they cannot be read back, senders wait for this.
    pub async fn room(&self) {
        loop {
            let progress = self.progress.notified();
            if self.queue.lock().epochs.iter().map(Waiting::batches).sum::<usize>() < FEW {
                return;
            }
            progress.await;
        }
    }

    /// What is to be done next; `None` when there is nothing yet.
    pub fn next(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        self.progress.notify_waiters();
        match self.delivery {
            Delivery::PerEpoch => queue.next_epoch(),
            Delivery::AtOnce => queue.next_rows(self.kept),
        }
    }

    /// The next whole epoch, if it waits already behind one that [`Outbox::next`] gave: with `None` when its rows are
    /// to be read from the log.
    pub fn next_behind(&self) -> Option<(Epoch, Option<Vec<RecordBatch>>)> {
        match self.queue.lock().next_epoch() {
            Some(Work::Deliver(epoch, rows)) => Some((epoch, rows)),
            _ => None,
        }
    }

    /// Returns when [`Outbox::next`] may have something new.
    pub async fn wait(&self) {
        self.work.notified().await;
    }

    /// The rows of an epoch, read from the log. Those that were confirmed before it was let go are not written again.
    pub fn reload(&self, epoch: Epoch, rows: Vec<RecordBatch>) {
        let mut queue = self.queue.lock();
        if let Some(waiting) = queue.epochs.iter_mut().find(|waiting| waiting.epoch == Some(epoch)) {
            let rows = without_first(rows, waiting.passed);
            waiting.count = rows.iter().map(|batch| batch.num_rows() as u64).sum();
            waiting.bytes = rows.iter().map(RecordBatch::get_array_memory_size).sum();
            waiting.rows = Rows::Memory { batches: rows.into(), taken: 0 };
        }
    }

    /// All that was written is in the destination. Returns how many rows that were.
    pub fn confirm(&self) -> u64 {
        let mut queue = self.queue.lock();
        let mut confirmed = 0;
        for waiting in &mut queue.epochs {
            if let Rows::Memory { batches, taken } = &mut waiting.rows {
                for batch in batches.drain(..std::mem::take(taken)) {
                    let rows = batch.num_rows() as u64;
                    waiting.count = waiting.count.saturating_sub(rows);
                    waiting.bytes = waiting.bytes.saturating_sub(batch.get_array_memory_size());
                    waiting.passed += if waiting.sealed { rows } else { 0 };
                    confirmed += rows;
                }
            }
        }
        queue.flushes.1 = queue.flushes.0;
        drop(queue);
        self.progress.notify_waiters();
        confirmed
    }

    /// The sink has opened, and its destination lacks the epochs in `kept`, rising, which the log still has. Among them
    /// may be some that it had confirmed to an earlier run and has lost since.
    pub fn lacks(&self, kept: Vec<Epoch>) {
        let mut queue = self.queue.lock();
        queue.compared = true;
        for epoch in kept.into_iter().rev() {
            if !queue.epochs.iter().any(|waiting| waiting.epoch == Some(epoch)) {
                queue.epochs.push_front(Waiting::in_log(epoch));
            }
        }
    }

    /// The destination has everything up to `settled`. When that is less than it had before, the epochs that are kept
    /// after it are delivered again. Returns how many rows are settled that were not.
    ///
    /// # Errors
    /// What `kept_after` says of them.
    pub fn settle<E>(&self, settled: Epoch, kept_after: impl FnOnce(Epoch) -> Result<Vec<Epoch>, E>) -> Result<u64, E> {
        let mut queue = self.queue.lock();
        if queue.settled.is_some_and(|before| settled < before) {
            let kept = kept_after(settled)?;
            tracing::warn!("a destination has lost what came after epoch {settled}: it is delivered again");
            queue.epochs.retain(|waiting| !waiting.durable);
            for epoch in kept.into_iter().rev() {
                queue.epochs.push_front(Waiting::in_log(epoch));
            }
        }
        let before: u64 = queue.epochs.iter().map(|waiting| waiting.count).sum();
        queue.epochs.retain(|waiting| !waiting.durable || waiting.epoch > Some(settled));
        let after: u64 = queue.epochs.iter().map(|waiting| waiting.count).sum();
        queue.settled = Some(settled);
        drop(queue);
        self.progress.notify_waiters();
        Ok(before - after)
    }

    /// Whether it is known what the destination has: its sink has opened, where that matters.
    pub fn knows_destination(&self) -> bool {
        self.delivery == Delivery::AtOnce || self.queue.lock().compared
    }

    /// What waits of the epochs up to `epoch`.
    pub fn unsettled(&self, epoch: Epoch) -> Unsettled {
        let queue = self.queue.lock();
        let waiting = queue.epochs.iter().filter(|waiting| waiting.sealed).filter_map(|waiting| {
            let rows = match &waiting.rows {
                Rows::Memory { batches, .. } => Some(batches.iter().cloned().collect()),
                Rows::Log => None,
            };
            Some((waiting.epoch.filter(|own| *own <= epoch)?, rows))
        });
        Unsettled { settled: queue.settled, waiting: waiting.collect() }
    }

    /// How much waits.
    pub fn backlog(&self) -> Backlog {
        let queue = self.queue.lock();
        Backlog {
            epochs: queue.epochs.iter().filter(|waiting| waiting.sealed).count(),
            rows: queue.epochs.iter().map(|waiting| waiting.count).sum(),
            bytes: queue.epochs.iter().map(|waiting| waiting.bytes as u64).sum(),
        }
    }
}

/// The rows after the first `count`.
fn without_first(batches: Vec<RecordBatch>, mut count: u64) -> Vec<RecordBatch> {
    let mut rest = vec![];
    for batch in batches {
        let gone = count.min(batch.num_rows() as u64) as usize;
        count -= gone as u64;
        if gone < batch.num_rows() {
            rest.push(batch.slice(gone, batch.num_rows() - gone));
        }
    }
    rest
}

impl Queue {
    fn next_epoch(&mut self) -> Option<Work> {
        let Some(next) = self.epochs.iter_mut().find(|waiting| !waiting.delivered) else {
            return self.closing.then_some(Work::Close);
        };
        let epoch = next.epoch.filter(|_| next.durable)?;
        next.delivered = true;
        next.bytes = 0;
        match std::mem::replace(&mut next.rows, Rows::Log) {
            Rows::Memory { batches, .. } => Some(Work::Deliver(epoch, Some(batches.into()))),
            Rows::Log => Some(Work::Deliver(epoch, None)),
        }
    }

    fn next_rows(&mut self, kept: bool) -> Option<Work> {
        if self.epochs.front().is_some_and(|first| first.durable && first.is_empty()) {
            self.settled = self.epochs.pop_front().and_then(|first| first.epoch);
            return self.settled.map(Work::Settled);
        }
        for waiting in &mut self.epochs {
            match &mut waiting.rows {
                Rows::Log => return waiting.epoch.map(Work::Load),
                // What no checkpoint will hold need not be held until it is confirmed.
                Rows::Memory { batches, .. } if !kept => {
                    if let Some(batch) = batches.pop_front() {
                        waiting.bytes = waiting.bytes.saturating_sub(batch.get_array_memory_size());
                        return Some(Work::Write(batch));
                    }
                }
                Rows::Memory { batches, taken } => {
                    if let Some(batch) = batches.get(*taken) {
                        *taken += 1;
                        return Some(Work::Write(batch.clone()));
                    }
                }
            }
        }
        if self.flushes.1 < self.flushes.0 {
            return Some(Work::Flush);
        }
        (self.closing && self.epochs.iter().all(Waiting::is_empty)).then_some(Work::Close)
    }
}

#[cfg(test)]
mod tests;
