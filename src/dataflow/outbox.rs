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
        Waiting { epoch: None, sealed: false, durable: false, rows, bytes: 0, count: 0, delivered: false }
    }

    fn in_log(epoch: Epoch) -> Waiting {
        Waiting {
            epoch: Some(epoch),
            sealed: true,
            durable: true,
            rows: Rows::Log,
            bytes: 0,
            count: 0,
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

    /// What was sealed at the end of the input belongs to `epoch`.
    pub fn assign(&self, epoch: Epoch) {
        let mut queue = self.queue.lock();
        // A sink has one share in an epoch. If that came with the barrier, the end belongs to the next one.
        if queue.epochs.iter().any(|waiting| waiting.epoch == Some(epoch)) {
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

    /// The rows of an epoch, read from the log.
    pub fn reload(&self, epoch: Epoch, rows: Vec<RecordBatch>) {
        let mut queue = self.queue.lock();
        if let Some(waiting) = queue.epochs.iter_mut().find(|waiting| waiting.epoch == Some(epoch)) {
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

    /// The destination has everything up to `settled`. When that is less than it had before, `kept_epochs` are
    /// delivered again. Returns how many rows are settled that were not.
    pub fn settle(&self, settled: Epoch, kept_epochs: impl FnOnce(Epoch) -> Vec<Epoch>) -> u64 {
        let mut queue = self.queue.lock();
        if queue.settled.is_some_and(|before| settled < before) {
            tracing::warn!("a destination has lost what came after epoch {settled}: it is delivered again");
            queue.epochs.retain(|waiting| !waiting.durable);
            for epoch in kept_epochs(settled).into_iter().rev() {
                queue.epochs.push_front(Waiting::in_log(epoch));
            }
        }
        let before: u64 = queue.epochs.iter().map(|waiting| waiting.count).sum();
        queue.epochs.retain(|waiting| !waiting.durable || waiting.epoch > Some(settled));
        let after: u64 = queue.epochs.iter().map(|waiting| waiting.count).sum();
        queue.settled = Some(settled);
        drop(queue);
        self.progress.notify_waiters();
        before - after
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
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use futures::FutureExt;

    use super::*;

    fn batch(value: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        RecordBatch::try_from_iter([("value", column)]).unwrap()
    }

    fn values(batches: &[RecordBatch]) -> Vec<i64> {
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    /// What is to be done, in a short form.
    fn next(outbox: &Outbox) -> String {
        match outbox.next() {
            None => "nothing".into(),
            Some(Work::Deliver(epoch, Some(rows))) => format!("deliver {epoch}: {:?}", values(&rows)),
            Some(Work::Deliver(epoch, None)) => format!("deliver {epoch} from the log"),
            Some(Work::Write(batch)) => format!("write {:?}", values(&[batch])),
            Some(Work::Load(epoch)) => format!("load {epoch}"),
            Some(Work::Flush) => "flush".into(),
            Some(Work::Settled(epoch)) => format!("settled {epoch}"),
            Some(Work::Close) => "close".into(),
        }
    }

    fn no_epochs(_: Epoch) -> Vec<Epoch> {
        panic!("nothing was lost")
    }

    #[test]
    fn a_whole_epoch_is_delivered_when_it_is_durable_and_not_before() {
        let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
        outbox.push(batch(1));
        assert_eq!(next(&outbox), "nothing");
        assert_eq!(values(&outbox.seal(Some(Epoch(4)))), [1]);
        outbox.push(batch(2));
        assert_eq!(next(&outbox), "nothing");
        outbox.durable(Epoch(4));
        assert_eq!(next(&outbox), "deliver 4: [1]");
        assert_eq!(next(&outbox), "nothing");
        outbox.settle(Epoch(4), no_epochs);
        // The end of the input, whose epoch the coordinator numbers.
        assert_eq!(values(&outbox.seal(None)), [2]);
        outbox.durable(Epoch(5));
        assert_eq!(next(&outbox), "nothing", "which epoch it is in is not known");
        outbox.assign(Epoch(6));
        outbox.durable(Epoch(6));
        outbox.close();
        assert_eq!(next(&outbox), "deliver 6: [2]");
        assert!(!outbox.is_closed_and_empty());
        outbox.settle(Epoch(6), no_epochs);
        assert_eq!(next(&outbox), "close");
        assert!(outbox.is_closed_and_empty());
    }

    #[test]
    fn who_looks_sees_what_is_not_settled_up_to_the_epoch() {
        let outbox = Outbox::new(Delivery::PerEpoch, true, &[Epoch(3)]);
        let seen = |epoch| {
            let Unsettled { settled, waiting } = outbox.unsettled(Epoch(epoch));
            let rows = waiting.into_iter().map(|(epoch, rows)| (epoch.0, rows.map(|rows| values(&rows))));
            (settled.map(|epoch| epoch.0), rows.collect::<Vec<_>>())
        };
        assert!(!outbox.knows_destination(), "nobody has asked it");
        outbox.lacks(vec![Epoch(3)]);
        assert!(outbox.knows_destination());
        outbox.push(batch(4));
        outbox.seal(Some(Epoch(4)));
        outbox.push(batch(5));
        assert_eq!(seen(4), (None, vec![(3, None), (4, Some(vec![4]))]));
        outbox.seal(Some(Epoch(5)));
        outbox.push(batch(6));
        outbox.seal(None);
        assert_eq!(seen(4).1.len(), 2, "not what came later");
        outbox.durable(Epoch(5));
        assert_eq!([next(&outbox), next(&outbox)], ["deliver 3 from the log", "deliver 4: [4]"]);
        assert_eq!(seen(5), (None, vec![(3, None), (4, None), (5, Some(vec![5]))]));
        outbox.settle(Epoch(4), no_epochs);
        assert_eq!(seen(5), (Some(4), vec![(5, Some(vec![5]))]));
        assert_eq!(seen(9), (Some(4), vec![(5, Some(vec![5]))]), "whose epoch is not known yet");
    }

    #[test]
    fn the_end_of_the_input_behind_a_barrier_belongs_to_the_next_epoch() {
        let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
        outbox.push(batch(1));
        outbox.seal(Some(Epoch(4)));
        // The end comes while others still wait for the barrier.
        outbox.push(batch(2));
        outbox.seal(None);
        outbox.assign(Epoch(4));
        outbox.durable(Epoch(4));
        assert_eq!(next(&outbox), "deliver 4: [1]");
        outbox.settle(Epoch(4), no_epochs);
        assert_eq!(next(&outbox), "nothing");
        outbox.assign(Epoch(5));
        outbox.durable(Epoch(5));
        assert_eq!(next(&outbox), "deliver 5: [2]");
    }

    #[test]
    fn what_a_destination_has_lost_since_an_earlier_run_waits_again() {
        let outbox = Outbox::new(Delivery::PerEpoch, true, &[Epoch(5), Epoch(6)]);
        outbox.lacks(vec![Epoch(3), Epoch(4), Epoch(5), Epoch(6)]);
        for epoch in [3, 4, 5, 6] {
            assert_eq!(next(&outbox), format!("deliver {epoch} from the log"));
        }
        assert_eq!(next(&outbox), "nothing");
    }

    #[test]
    fn an_epoch_without_rows_is_not_delivered() {
        let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
        assert!(outbox.seal(Some(Epoch(1))).is_empty());
        outbox.durable(Epoch(1));
        assert_eq!(next(&outbox), "nothing");
    }

    #[test]
    fn undelivered_epochs_of_an_earlier_run_come_first_and_the_marker_takes_them_out() {
        let outbox = Outbox::new(Delivery::PerEpoch, true, &[Epoch(3), Epoch(5)]);
        outbox.push(batch(1));
        outbox.seal(Some(Epoch(6)));
        outbox.durable(Epoch(6));
        outbox.settle(Epoch(3), no_epochs);
        assert_eq!(next(&outbox), "deliver 5 from the log");
        assert_eq!(next(&outbox), "deliver 6: [1]");
    }

    #[test]
    fn a_destination_that_gathers_epochs_settles_them_later() {
        let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
        for epoch in [1, 2] {
            outbox.push(batch(epoch));
            outbox.seal(Some(Epoch(epoch as u64)));
            outbox.durable(Epoch(epoch as u64));
            next(&outbox);
        }
        outbox.close();
        assert_eq!(next(&outbox), "close");
        assert!(!outbox.is_closed_and_empty());
        outbox.settle(Epoch(2), no_epochs);
        assert!(outbox.is_closed_and_empty());
    }

    #[test]
    fn what_a_destination_has_lost_is_delivered_again() {
        let outbox = Outbox::new(Delivery::PerEpoch, true, &[]);
        for epoch in [1, 2, 3, 4] {
            outbox.push(batch(epoch));
            outbox.seal(Some(Epoch(epoch as u64)));
            outbox.durable(Epoch(epoch as u64));
        }
        for epoch in [1, 2, 3] {
            next(&outbox);
            outbox.settle(Epoch(epoch), no_epochs);
        }
        outbox.push(batch(5));
        outbox.settle(Epoch(1), |after| {
            assert_eq!(after, Epoch(1));
            vec![Epoch(2), Epoch(3), Epoch(4)]
        });
        for epoch in [2, 3, 4] {
            assert_eq!(next(&outbox), format!("deliver {epoch} from the log"));
        }
        outbox.seal(Some(Epoch(5)));
        outbox.durable(Epoch(5));
        assert_eq!(next(&outbox), "deliver 5: [5]");
    }

    #[tokio::test]
    async fn rows_at_once_are_kept_at_a_barrier_only_if_they_are_not_confirmed() {
        let outbox = Outbox::new(Delivery::AtOnce, true, &[]);
        outbox.push(batch(1));
        outbox.push(batch(2));
        assert_eq!(next(&outbox), "write [1]");
        let number = outbox.ask_flush();
        assert!(outbox.flushed(number).now_or_never().is_none());
        assert_eq!(next(&outbox), "write [2]");
        assert_eq!(next(&outbox), "flush");
        outbox.confirm();
        assert!(outbox.flushed(number).now_or_never().is_some());
        outbox.push(batch(3));
        assert_eq!(next(&outbox), "write [3]");
        outbox.push(batch(4));
        assert_eq!(values(&outbox.seal(Some(Epoch(1)))), [3, 4]);
        assert_eq!(next(&outbox), "write [4]");
        outbox.confirm();
        assert_eq!(next(&outbox), "nothing", "not durable yet");
        outbox.durable(Epoch(1));
        assert_eq!(next(&outbox), "settled 1");
        outbox.close();
        assert_eq!(next(&outbox), "close");
    }

    #[test]
    fn too_much_that_waits_leaves_the_memory_and_is_read_back() {
        let large = |value: i64| {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![value; (MEMORY / 8) * 2 / 3]));
            RecordBatch::try_from_iter([("value", column)]).unwrap()
        };
        for delivery in [Delivery::AtOnce, Delivery::PerEpoch] {
            let outbox = Outbox::new(delivery, true, &[]);
            for epoch in [1, 2] {
                outbox.push(large(epoch));
                outbox.seal(Some(Epoch(epoch as u64)));
                outbox.durable(Epoch(epoch as u64));
            }
            assert!(outbox.backlog().bytes <= MEMORY as u64);
            let Some(Work::Write(_) | Work::Deliver(Epoch(1), Some(_))) = outbox.next() else { panic!("{delivery:?}") };
            match delivery {
                Delivery::AtOnce => {
                    assert_eq!(next(&outbox), "load 2");
                    outbox.reload(Epoch(2), vec![batch(2)]);
                    assert_eq!(next(&outbox), "write [2]");
                }
                Delivery::PerEpoch => assert_eq!(next(&outbox), "deliver 2 from the log"),
            }
        }
    }

    #[test]
    fn an_epoch_that_lacks_what_is_confirmed_says_up_to_where_everything_is() {
        let outbox = Outbox::new(Delivery::AtOnce, true, &[]);
        outbox.push(batch(1));
        assert_eq!(values(&outbox.seal(Some(Epoch(7)))), [1]);
        assert_eq!(outbox.confirmed(), None);
        outbox.push(batch(2));
        for expected in ["write [1]", "write [2]"] {
            assert_eq!(next(&outbox), expected);
        }
        outbox.confirm();
        // The newer row is nowhere in the log. Were the older one given to the destination again, it would stay there.
        assert!(outbox.seal(Some(Epoch(8))).is_empty());
        assert_eq!(outbox.confirmed(), Some(Epoch(7)));
        outbox.durable(Epoch(8));
        assert_eq!(next(&outbox), "settled 7");
        assert_eq!(outbox.confirmed(), Some(Epoch(7)));
        // The marker of a sink that takes whole epochs says so itself.
        assert_eq!(Outbox::new(Delivery::PerEpoch, true, &[Epoch(3)]).confirmed(), None);
    }
}
