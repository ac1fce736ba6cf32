//! Who hears of a run's epochs.

use crate::checkpoint::state::EpochState;

/// Is told of epochs that are complete.
pub trait EpochListener: Send + Sync {
    /// Epoch `added.epoch` is durable; `added` is what has changed in it. Called once an epoch, in order, on one of the
    /// runtime's own tasks: it must be quick.
    fn completed(&self, added: EpochState);
}
