//! Moves a run from epoch to epoch: barriers out, acknowledgements in.
//!
//! A state machine without a task of its own: [`mod@super::run`] tells it what happened and sends what it answers. One
//! epoch is under way at a time. It is complete when every task has let its barrier pass or has ended before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::live::look::Look;
use super::report::{Command, Report, TaskId, TaskSnapshot};
use crate::checkpoint::log::EpochRecord;
use crate::checkpoint::state::OperatorState;
use crate::time::Epoch;

/// What becomes of a run's epochs.
pub struct Coordinator {
    /// Tasks that have not ended.
    running: BTreeSet<TaskId>,
    /// The epoch under way with the tasks that it waits for.
    waiting: Option<BTreeSet<TaskId>>,
    /// The last epoch that was begun.
    epoch: Epoch,
    /// What the tasks handed over for the epoch under way, or for the next one when none is.
    collected: EpochRecord,
    /// What ended tasks handed over after they had acknowledged the epoch under way.
    next: EpochRecord,
    stopping: bool,
    last_sent: bool,
}

impl Coordinator {
    /// For tasks that go on after `epoch`.
    pub fn new(tasks: impl IntoIterator<Item = TaskId>, epoch: Epoch) -> Coordinator {
        Coordinator {
            running: tasks.into_iter().collect(),
            waiting: None,
            epoch,
            collected: EpochRecord::default(),
            next: EpochRecord::default(),
            stopping: false,
            last_sent: false,
        }
    }

    /// A new epoch is due; `active` says whether it has anything to hold. Returns what to tell the sources.
    pub fn begin(&mut self, active: bool) -> Option<Command> {
        self.begin_with(active, None)
    }

    /// Somebody wants to know what open windows hold: an epoch begins to end whatever is in it.
    pub fn look(&mut self, look: Arc<Look>) -> Option<Command> {
        self.begin_with(true, Some(look))
    }

    fn begin_with(&mut self, active: bool, look: Option<Arc<Look>>) -> Option<Command> {
        let due = active || self.stopping;
        if self.waiting.is_some() || self.last_sent || !due || self.running.is_empty() {
            return None;
        }
        self.epoch = self.epoch.next();
        self.waiting = Some(self.running.clone());
        self.last_sent = self.stopping;
        Some(Command::Barrier { epoch: self.epoch, last: self.stopping, look })
    }

    /// Whether an epoch has begun to end and not all tasks have passed its barrier.
    pub fn is_under_way(&self) -> bool {
        self.waiting.is_some()
    }

    /// The epoch under way, with the tasks that have not let its barrier pass.
    pub fn waits_for(&self) -> Option<(Epoch, &BTreeSet<TaskId>)> {
        Some((self.epoch, self.waiting.as_ref()?))
    }

    /// The run is told to stop: the next epoch is the last.
    pub fn stop(&mut self) -> Option<Command> {
        self.stopping = true;
        self.begin(true)
    }

    /// Takes a report. Returns the epoch that it completes.
    pub fn report(&mut self, report: Report) -> Option<EpochRecord> {
        match report {
            Report::Passed(task, epoch, snapshot) => {
                if epoch == self.epoch {
                    collect(&mut self.collected, snapshot);
                    if let Some(waiting) = &mut self.waiting {
                        waiting.remove(&task);
                    }
                }
            }
            Report::Ended(task, snapshot) => {
                self.running.remove(&task);
                // One that has passed the barrier did the rest in the next epoch.
                let passed = self.waiting.as_mut().is_some_and(|waiting| !waiting.remove(&task));
                collect(if passed { &mut self.next } else { &mut self.collected }, snapshot);
            }
        }
        self.complete()
    }

    /// Whether all tasks have ended.
    pub fn finished(&self) -> bool {
        self.running.is_empty()
    }

    /// The epoch between the last barrier and the end; `None` if a last barrier went before the end.
    pub fn finish(&mut self) -> Option<EpochRecord> {
        if self.last_sent {
            return None;
        }
        self.epoch = self.epoch.next();
        self.waiting = Some(BTreeSet::new());
        let record = self.complete();
        record.map(|record| EpochRecord { finished: !self.stopping, ..record })
    }

    fn complete(&mut self) -> Option<EpochRecord> {
        if !self.waiting.as_ref()?.is_empty() {
            return None;
        }
        self.waiting = None;
        let mut record = std::mem::replace(&mut self.collected, std::mem::take(&mut self.next));
        record.added.epoch = self.epoch;
        Some(record)
    }
}

fn collect(record: &mut EpochRecord, snapshot: TaskSnapshot) {
    let state = &mut record.added;
    if let Some((name, source)) = snapshot.source {
        state.sources.entry(name).or_default().advance(source);
    }
    if let Some((sink, rows)) = snapshot.outbox {
        record.outbox.insert(sink, rows);
    }
    for operator in snapshot.operators {
        let known = state
            .operators
            .entry(operator.name)
            .or_insert_with(|| OperatorState { watermark: operator.watermark, batches: vec![] });
        known.watermark = known.watermark.min(operator.watermark);
        known.batches.extend(operator.batches.into_iter().map(|batch| (operator.instance, batch)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::state::SourceState;
    use crate::connectors::Positions;

    fn at(offset: i64) -> TaskSnapshot {
        let positions = Positions::from([("t[0]".to_owned(), offset)]);
        let source = Some(("t".to_owned(), SourceState { positions, ..SourceState::default() }));
        TaskSnapshot { source, ..TaskSnapshot::default() }
    }

    fn other(offset: i64) -> TaskSnapshot {
        let mut snapshot = at(offset);
        snapshot.source.as_mut().unwrap().0 = "u".into();
        snapshot
    }

    fn passed(task: TaskId, epoch: u64) -> Report {
        Report::Passed(task, Epoch(epoch), TaskSnapshot::default())
    }

    fn barrier(epoch: u64, last: bool) -> Option<Command> {
        Some(Command::Barrier { epoch: Epoch(epoch), last, look: None })
    }

    #[test]
    fn an_epoch_is_complete_when_all_tasks_have_passed_its_barrier() {
        let mut coordinator = Coordinator::new(0..2, Epoch(0));
        assert_eq!(coordinator.begin(true), barrier(1, false));
        assert_eq!(coordinator.begin(true), None, "one at a time");
        assert!(coordinator.report(Report::Passed(0, Epoch(1), at(7))).is_none());
        let state = coordinator.report(passed(1, 1)).unwrap();
        assert_eq!(state.added.epoch, Epoch(1));
        assert_eq!(state.added.sources["t"].positions["t[0]"], 7);
        assert_eq!(coordinator.begin(false), None, "nothing to hold");
        assert_eq!(coordinator.begin(true), barrier(2, false));
    }

    #[test]
    fn a_look_ends_an_epoch_though_nothing_is_in_it() {
        let mut coordinator = Coordinator::new(0..2, Epoch(0));
        let look = Arc::new(Look::new(BTreeSet::new()));
        let command = Command::Barrier { epoch: Epoch(1), last: false, look: Some(Arc::clone(&look)) };
        assert_eq!(coordinator.look(Arc::clone(&look)), Some(command));
        coordinator.report(passed(1, 1));
        assert_eq!(coordinator.waits_for(), Some((Epoch(1), &BTreeSet::from([0]))));
        assert_eq!(coordinator.look(Arc::clone(&look)), None, "one at a time");
        assert!(coordinator.report(passed(0, 1)).is_some());
        assert_eq!(coordinator.waits_for(), None);
        assert_eq!(coordinator.stop(), barrier(2, true));
        coordinator.report(passed(0, 2));
        coordinator.report(passed(1, 2));
        assert_eq!(coordinator.look(look), None, "the last one has gone");
    }

    #[test]
    fn a_task_that_ends_counts_as_passed() {
        let mut coordinator = Coordinator::new(0..2, Epoch(4));
        coordinator.begin(true);
        assert!(coordinator.report(passed(1, 5)).is_none());
        let state = coordinator.report(Report::Ended(0, at(9))).unwrap();
        assert_eq!(state.added.sources["t"].positions["t[0]"], 9);
        assert_eq!(coordinator.begin(true), barrier(6, false));
        assert!(coordinator.report(passed(1, 6)).is_some());
    }

    #[test]
    fn what_a_task_did_after_its_barrier_belongs_to_the_next_epoch() {
        let mut coordinator = Coordinator::new(0..2, Epoch(0));
        coordinator.begin(true);
        coordinator.report(Report::Passed(0, Epoch(1), at(3)));
        assert!(coordinator.report(Report::Ended(0, at(8))).is_none());
        let first = coordinator.report(passed(1, 1)).unwrap();
        assert_eq!(first.added.sources["t"].positions["t[0]"], 3);
        coordinator.report(Report::Ended(1, other(5)));
        assert!(coordinator.finished());
        let end = coordinator.finish().unwrap();
        assert_eq!((end.added.epoch, end.added.sources["t"].positions["t[0]"]), (Epoch(2), 8));
        assert_eq!(end.added.sources["u"].positions["t[0]"], 5);
        assert!(end.finished);
    }

    #[test]
    fn the_last_barrier_waits_for_the_epoch_under_way() {
        let mut coordinator = Coordinator::new(0..1, Epoch(0));
        coordinator.begin(true);
        assert_eq!(coordinator.stop(), None);
        assert!(coordinator.report(passed(0, 1)).is_some());
        assert_eq!(coordinator.begin(false), barrier(2, true));
        assert_eq!(coordinator.begin(true), None);
        assert!(coordinator.report(passed(0, 2)).is_some());
        assert!(coordinator.report(Report::Ended(0, TaskSnapshot::default())).is_none());
        assert!(coordinator.finished() && coordinator.finish().is_none());
    }
}
