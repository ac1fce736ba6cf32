//! From the state of yesterday's queries to the operators of today's.
//!
//! An operator with state has a fingerprint: what it computes, over what, kept in which columns. State goes to the
//! operator with the same fingerprint, whatever its name is now.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::log::Recovered;
use super::state::EpochState;
use crate::time::Epoch;

/// What an operator computes and how its state looks, in a form that stays the same from run to run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Fingerprint(pub String);

/// The parts of a graph that checkpoints know, by node name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identities {
    /// Operators with state.
    pub operators: BTreeMap<String, Fingerprint>,
    /// Sources.
    pub sources: BTreeSet<String>,
    /// Sinks.
    pub sinks: BTreeSet<String>,
}

/// What a run goes on from, under the names of its own graph.
#[derive(Clone, Debug, Default)]
pub struct Takeover {
    /// The state.
    pub state: EpochState,
    /// Its operators: from the name that they had to the name that they have.
    pub renamed: BTreeMap<String, String>,
    /// Epochs to deliver, rising, by sink.
    pub undelivered: BTreeMap<String, Vec<Epoch>>,
    /// What a user should know: operators that begin empty, state that nobody takes any more. One line each.
    pub notes: Vec<String>,
}

/// The folder has changed so that some state cannot be taken over.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct TakeoverError {
    /// Which state, why, and the flag that accepts its loss.
    pub message: String,
}

/// Matches what was recovered with today's graph. With `accept_lost_state`, state that cannot be taken over is left
/// behind, with a note.
///
/// # Errors
/// When an operator of the same name computes something else now, or rows wait for a sink that is gone.
pub fn take_over(
    _recovered: &Recovered,
    _identities: &Identities,
    _accept_lost_state: bool,
) -> Result<Takeover, TakeoverError> {
    unimplemented!()
}
