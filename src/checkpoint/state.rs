//! What a run knows at a barrier: enough to go on from there.
//!
//! Operators hand over what has changed since the barrier before, so the state at an epoch is the sum of what came
//! with it and with all epochs before it: [`EpochState::advance`] adds one on. Durable checkpoints are built on this.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use crate::connectors::Positions;
use crate::time::{Epoch, EventTime};

/// The state of a run at the end of an epoch, or what an epoch has added to it.
#[derive(Clone, Debug, Default)]
pub struct EpochState {
    /// The epoch.
    pub epoch: Epoch,
    /// The sources, by node name.
    pub sources: BTreeMap<String, SourceState>,
    /// The operators, by node name.
    pub operators: BTreeMap<String, OperatorState>,
}

/// Where a source stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceState {
    /// The offset of the next record of each split.
    pub positions: Positions,
    /// What tells the place that is read from another with the same names; see [`crate::connectors::Source::origin`].
    pub origin: Option<String>,
    /// The same of single splits; see [`crate::connectors::SourceEvent::Origin`].
    pub split_origins: BTreeMap<String, String>,
    /// The watermark of each split; lateness of the next rows is judged by it.
    pub watermarks: BTreeMap<String, EventTime>,
}

/// What an operator knows.
#[derive(Clone, Debug)]
pub struct OperatorState {
    /// The watermark that it had seen. What it sent because of it has been delivered.
    pub watermark: EventTime,
    /// What [`crate::operators::Operator::snapshot`] gave, oldest first, with the instance that gave it.
    pub batches: Vec<(usize, RecordBatch)>,
}

impl SourceState {
    /// Adds what is known later.
    pub fn advance(&mut self, later: SourceState) {
        self.positions.extend(later.positions);
        self.origin = later.origin.or(self.origin.take());
        self.split_origins.extend(later.split_origins);
        self.watermarks.extend(later.watermarks);
    }
}

impl OperatorState {
    /// Whether it says more than how far it is.
    pub fn has_rows(&self) -> bool {
        self.batches.iter().any(|(_, batch)| batch.num_rows() > 0)
    }
}

impl EpochState {
    /// This one, which has no rows, and a later one: what instances say anew replaces what they said here.
    pub fn overtaken_by(mut self, later: EpochState) -> EpochState {
        for (name, operator) in &later.operators {
            if let Some(known) = self.operators.get_mut(name) {
                known.batches.retain(|(instance, _)| operator.batches.iter().all(|(later, _)| later != instance));
            }
        }
        self.advance(later);
        self
    }

    /// Adds a later epoch on.
    pub fn advance(&mut self, later: EpochState) {
        self.epoch = later.epoch;
        for (name, source) in later.sources {
            self.sources.entry(name).or_default().advance(source);
        }
        for (name, operator) in later.operators {
            match self.operators.get_mut(&name) {
                Some(known) => {
                    known.watermark = known.watermark.max(operator.watermark);
                    known.batches.extend(operator.batches);
                }
                None => {
                    self.operators.insert(name, operator);
                }
            }
        }
    }
}
