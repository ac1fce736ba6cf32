//! The operators of one task: a tree that rows run through without a channel.
//!
//! The head of the tree is a source or the operator behind the task's [`super::gate::Gate`]. What leaves the task
//! waits in an outbox until [`Chain::flush`], so that the operators stay synchronous. An operator's rows always go
//! before the watermark or barrier that made it send them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::time::Instant;

use super::RunError;
use super::channel::{Barrier, Message};
use super::exchange::{Port, SendError};
use super::failing::explained;
use super::graph::{NodeId, OperatorFactory};
use super::live::look::{Look, Trouble};
use super::live::shadow;
use super::report::OperatorSnapshot;
use super::statistics::NodeStatistics;
use crate::operators::{InputIndex, MAIN, Operator, Output, OutputIndex};
use crate::time::EventTime;

/// Where an output goes.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// To the operator of this index in the chain, by its only input.
    Member(usize),
    /// Out of the task, by the port of this index.
    Port(usize),
}

/// One node in a chain.
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Which of its instances this is.
    pub instance: usize,
    /// How many there are.
    pub instances: usize,
    /// Its operator; the head of a source's chain has none.
    pub operator: Option<Box<dyn Operator>>,
    /// Makes another such operator.
    pub factory: Option<Arc<dyn OperatorFactory>>,
    /// Who reads it, by output.
    pub targets: Vec<Vec<Target>>,
    /// The watermark that it has seen.
    pub watermark: EventTime,
    /// Its timer, if it publishes early results.
    pub ticker: Option<Ticker>,
    /// Its figures.
    pub statistics: Arc<NodeStatistics>,
    /// What this instance has added to the figures that it can only set.
    pub counted: Counted,
}

/// Figures as last added to the node's.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counted {
    late_rows: u64,
    aggregated_rows: u64,
    filtered_rows: u64,
    state_bytes: u64,
}

/// A timer that goes off at an interval.
#[derive(Clone, Copy, Debug)]
pub struct Ticker {
    period: Duration,
    next: Instant,
}

impl Ticker {
    /// Goes off every `period` from `now` on.
    pub fn new(period: Duration, now: Instant) -> Ticker {
        let period = period.max(Duration::from_millis(1));
        Ticker { period, next: now + period }
    }
}

/// Rows that are shown to a look, each with the input that they come by.
pub type Shown = Vec<(InputIndex, RecordBatch)>;

/// The operators of one task and the ways out of it.
pub struct Chain {
    members: Vec<Member>,
    ports: Vec<Port>,
    outbox: Vec<(usize, Message)>,
}

impl Chain {
    /// A chain whose head is the first member; a member stands after the one it reads.
    pub fn new(members: Vec<Member>, ports: Vec<Port>) -> Chain {
        Chain { members, ports, outbox: vec![] }
    }

    /// Rows for an input of the head.
    ///
    /// # Errors
    /// What an operator says, or that it panicked.
    pub fn batch(&mut self, input: InputIndex, batch: RecordBatch) -> Result<(), RunError> {
        self.batch_to(0, input, batch)
    }

    /// Rows that the head, a source, sends.
    ///
    /// # Errors
    /// As for [`Chain::batch`].
    pub fn send(&mut self, output: OutputIndex, batch: RecordBatch) -> Result<(), RunError> {
        let mut out = Output::default();
        out.emit_to(output, batch);
        self.route(0, out)
    }

    /// Event time has advanced: each operator works it off, and what it sends reaches the operators after it before
    /// they see the watermark themselves.
    ///
    /// # Errors
    /// As for [`Chain::batch`].
    pub fn watermark(&mut self, watermark: EventTime) -> Result<(), RunError> {
        for index in 0..self.members.len() {
            // A restored operator is ahead of its senders at first.
            if watermark > self.members[index].watermark {
                self.members[index].watermark = watermark;
                self.call(index, |operator, out| operator.on_watermark(watermark, out))?;
                self.members[index].refresh_statistics();
            }
            self.forward(index, &Message::Watermark(watermark));
        }
        Ok(())
    }

    /// The epoch ends: what each operator has to keep. For a look, `shown` is what those before the head would send.
    ///
    /// After the last barrier of a run that is told to stop, no timer goes off any more: early results would be rows of
    /// an epoch that never comes. Those of a next run are made from the state that this one hands over.
    ///
    /// # Errors
    /// As for [`Chain::batch`].
    pub fn barrier(&mut self, barrier: &Barrier, shown: Shown) -> Result<Vec<OperatorSnapshot>, RunError> {
        let mut snapshots = vec![];
        let mut shown = BTreeMap::from([(0, shown)]);
        for index in 0..self.members.len() {
            let batches = self.call(index, |operator, out| operator.snapshot(out))?;
            let member = &mut self.members[index];
            member.refresh_statistics();
            snapshots.push(OperatorSnapshot {
                name: member.name.clone(),
                instance: member.instance,
                watermark: member.watermark,
                batches: batches.unwrap_or_default(),
            });
            if let Some(look) = &barrier.look {
                self.show(index, look, &mut shown)?;
            }
            self.forward(index, &Message::Barrier(barrier.clone()));
            if barrier.last {
                self.members[index].ticker = None;
            }
        }
        Ok(snapshots)
    }

    /// Shows on what an operator would send if its input ended now. Only what it itself says of its state can fail the
    /// run; what goes wrong behind that is the answer to who looks.
    fn show(&mut self, index: usize, look: &Look, shown: &mut BTreeMap<usize, Shown>) -> Result<(), RunError> {
        let given = shown.remove(&index).unwrap_or_default();
        if !look.concerns(self.members[index].node) {
            return Ok(());
        }
        let state = self.call(index, |operator, _| operator.state())?;
        let member = &self.members[index];
        let (Some(state), Some(factory)) = (state, &member.factory) else { return Ok(()) };
        if state.is_empty() && given.is_empty() {
            // No state is kept before it, nor here: operators with state say it even when it has no rows.
            return Ok(());
        }
        let made = factory.create(member.instance, member.instances);
        match made.and_then(|made| shadow::rows(made, state, member.watermark, given)) {
            Ok(rows) => self.route_shown(index, look, rows, shown),
            Err(error) => {
                let (node, message) = (member.name.clone(), explained(&error));
                look.fails(member.node, Trouble::Failed { node, message });
            }
        }
        Ok(())
    }

    fn route_shown(&mut self, index: usize, look: &Look, rows: Vec<RecordBatch>, shown: &mut BTreeMap<usize, Shown>) {
        for batch in rows {
            if !look.admits(self.members[index].node, batch.get_array_memory_size()) {
                return;
            }
            for target in self.members[index].targets.get(MAIN).into_iter().flatten() {
                match *target {
                    Target::Member(next) => shown.entry(next).or_default().push((0, batch.clone())),
                    Target::Port(port) if look.concerns(self.ports[port].reader) => {
                        self.outbox.push((port, Message::Shown(batch.clone())));
                    }
                    Target::Port(_) => {}
                }
            }
        }
    }

    /// No more will come. Returns how far the operators came.
    pub fn end(&mut self) -> Vec<OperatorSnapshot> {
        for index in 0..self.members.len() {
            self.forward(index, &Message::End);
        }
        let snapshot = |member: &Member| OperatorSnapshot {
            name: member.name.clone(),
            instance: member.instance,
            watermark: member.watermark,
            batches: vec![],
        };
        self.members.iter().map(snapshot).collect()
    }

    /// When a timer goes off next.
    pub fn next_tick(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| Some(member.ticker?.next)).min()
    }

    /// Whether rows wait in the outbox.
    pub fn has_rows(&self) -> bool {
        self.outbox.iter().any(|(_, message)| matches!(message, Message::Batch(_)))
    }

    /// Lets the timers that are due go off.
    ///
    /// # Errors
    /// As for [`Chain::batch`].
    pub fn tick(&mut self, now: Instant) -> Result<(), RunError> {
        for index in 0..self.members.len() {
            let Some(ticker) = &mut self.members[index].ticker else { continue };
            if ticker.next > now {
                continue;
            }
            // From now on and not from when it was due: a task that was stuck does not catch up on ticks.
            ticker.next = now + ticker.period;
            self.call(index, |operator, out| operator.on_tick(out))?;
        }
        Ok(())
    }

    /// Sends what waits in the outbox. Returns false when a receiver is gone, so that the run is failing.
    ///
    /// # Errors
    /// When rows cannot be dealt out to instances.
    pub async fn flush(&mut self) -> Result<bool, RunError> {
        for (port, message) in self.outbox.drain(..) {
            match self.ports[port].send(message).await {
                Ok(()) => {}
                Err(SendError::Closed) => return Ok(false),
                Err(SendError::Partition(source)) => {
                    return Err(RunError::Operator { node: self.members[0].name.clone(), source });
                }
            }
        }
        Ok(true)
    }

    fn batch_to(&mut self, index: usize, input: InputIndex, batch: RecordBatch) -> Result<(), RunError> {
        self.members[index].statistics.rows_in.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.call(index, |operator, out| operator.on_batch(input, batch, out))?;
        Ok(())
    }

    /// Calls the operator, if there is one, and passes on what it sends.
    fn call<T>(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut dyn Operator, &mut Output) -> datafusion::common::Result<T>,
    ) -> Result<Option<T>, RunError> {
        let member = &mut self.members[index];
        let Some(operator) = &mut member.operator else { return Ok(None) };
        let mut out = Output::default();
        // The operator is not used again after a panic: the run ends.
        let value = match catch_unwind(AssertUnwindSafe(|| work(operator.as_mut(), &mut out))) {
            Ok(Ok(value)) => value,
            Ok(Err(source)) => return Err(RunError::Operator { node: member.name.clone(), source }),
            Err(panic) => return Err(RunError::panic(&member.name, panic.as_ref())),
        };
        self.route(index, out)?;
        Ok(Some(value))
    }

    fn route(&mut self, index: usize, mut out: Output) -> Result<(), RunError> {
        for (output, batch) in out.take() {
            if output == MAIN {
                self.members[index].statistics.rows_out.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            }
            let readers = self.members[index].targets.get(output).map_or(0, Vec::len);
            for reader in 0..readers {
                match self.members[index].targets[output][reader] {
                    Target::Member(next) => self.batch_to(next, 0, batch.clone())?,
                    Target::Port(port) => self.outbox.push((port, Message::Batch(batch.clone()))),
                }
            }
        }
        Ok(())
    }

    fn forward(&mut self, index: usize, message: &Message) {
        for target in self.members[index].targets.iter().flatten() {
            if let Target::Port(port) = target {
                self.outbox.push((*port, message.clone()));
            }
        }
    }
}

impl Member {
    fn refresh_statistics(&mut self) {
        if self.watermark > self.statistics.watermark() {
            self.statistics.set_watermark(self.watermark);
        }
        let Some(operator) = &self.operator else { return };
        let counted = Counted {
            late_rows: operator.late_rows(),
            aggregated_rows: operator.aggregated_rows(),
            filtered_rows: operator.filtered_rows(),
            state_bytes: operator.state_bytes() as u64,
        };
        // The node's figures are sums over instances, so each adds its difference; sums wrap as their parts do.
        let add =
            |figure: &AtomicU64, now: u64, before: u64| figure.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        let (figures, before) = (&self.statistics, self.counted);
        add(&figures.late_rows, counted.late_rows, before.late_rows);
        add(&figures.aggregated_rows, counted.aggregated_rows, before.aggregated_rows);
        add(&figures.filtered_rows, counted.filtered_rows, before.filtered_rows);
        add(&figures.state_bytes, counted.state_bytes, before.state_bytes);
        self.counted = counted;
    }
}
