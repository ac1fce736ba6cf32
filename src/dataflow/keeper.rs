//! What becomes of complete epochs: where they go, and how long they take there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::checkpointer::Note;
use super::listener::EpochListener;
use crate::checkpoint::log::{CheckpointLog, OutboxReader};
use crate::checkpoint::state::SourceState;
use crate::connectors::delivery::Writer;
use crate::time::Epoch;

/// A run's ways to its log, and to whoever else wants to know of its epochs.
pub struct Keeper {
    /// Who writes, for the markers of the sinks.
    pub writer: Option<Writer>,
    /// Reads back rows that wait.
    pub reader: Option<OutboxReader>,
    /// To the checkpointer, if there is one.
    pub notes: Option<mpsc::UnboundedSender<Note>>,
    /// Is told of each durable epoch.
    pub listener: Option<Arc<dyn EpochListener>>,
    /// Epochs that the checkpointer has not made durable yet.
    pub writing: usize,
    /// Where every source stands.
    pub sources: BTreeMap<String, SourceState>,
    /// When the barriers of epochs were sent that are not durable yet.
    begun: BTreeMap<Epoch, Instant>,
}

impl Keeper {
    /// Of a run that has this log, if any. The way to its checkpointer is set when that one starts.
    pub fn new(log: Option<&CheckpointLog>, listener: Option<Arc<dyn EpochListener>>) -> Keeper {
        Keeper {
            writer: log.map(CheckpointLog::writer),
            reader: log.map(CheckpointLog::outbox),
            notes: None,
            listener,
            writing: 0,
            sources: BTreeMap::new(),
            begun: BTreeMap::new(),
        }
    }

    /// The barrier of `epoch` is sent. Where nothing is kept nobody asks how long that takes.
    pub fn begins(&mut self, epoch: Epoch) {
        if self.notes.is_some() {
            self.begun.insert(epoch, Instant::now());
        }
    }

    /// `epoch` is durable. Returns how long that took from its barrier on.
    pub fn took(&mut self, epoch: Epoch) -> Duration {
        let later = self.begun.split_off(&epoch.next());
        let begun = std::mem::replace(&mut self.begun, later).remove(&epoch);
        begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_remembers_epochs_until_they_are_durable_and_none_if_none_will_be() {
        let mut keeper = Keeper::new(None, None);
        keeper.begins(Epoch(1));
        assert!(keeper.begun.is_empty(), "without checkpoints it would grow for ever");
        keeper.notes = Some(mpsc::unbounded_channel().0);
        for epoch in [2, 3, 4] {
            keeper.begins(Epoch(epoch));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(keeper.took(Epoch(3)), Duration::from_secs(2));
        assert_eq!(keeper.begun.keys().collect::<Vec<_>>(), [&Epoch(4)]);
    }
}
