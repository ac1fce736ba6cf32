//! What a run begins with: nothing, or the checkpoints of earlier runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::compactor::{GraphCompactor, identities};
use super::graph::{Graph, NodeKind};
use super::listener::EpochListener;
use super::live::board::Board;
use crate::checkpoint::log::{CheckpointError, CheckpointLog, LogOptions};
use crate::checkpoint::state::EpochState;
use crate::checkpoint::store::Store;
use crate::checkpoint::takeover::{TakeoverError, take_over};
use crate::connectors::Boundedness;
use crate::faults::crash_point;
use crate::time::{Epoch, Incarnation};

/// Said when a run of which not all was delivered has to be completed first.
const REST: &str = "the run before had come to the end of its input, and not all of its rows are known to be delivered: this one \
                    delivers them and reads only what has come since; the next one reads the input anew";

/// What a run goes on from, and where it keeps what it comes to know.
#[derive(Default)]
pub struct Beginning {
    /// The state at the end of an epoch; `None` to begin from nothing.
    pub state: Option<EpochState>,
    /// Where epochs are kept. Without, sinks get their rows at once and nothing outlives the process.
    pub log: Option<CheckpointLog>,
    /// Epochs that wait for a sink, by its node's name.
    pub undelivered: BTreeMap<String, Vec<Epoch>>,
    /// Hears of every epoch that is durable.
    pub listener: Option<Arc<dyn EpochListener>>,
    /// Where questions for live tables come from.
    pub live: Option<Arc<Board>>,
    /// Go on at the nearest records there are where the input that the state asks for is gone.
    pub accept_lost_input: bool,
    /// Go on where a destination lacks rows that are kept no more.
    pub accept_lost_output: bool,
}

/// What was found, for a log line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Which run this is.
    pub incarnation: Incarnation,
    /// The epoch that it goes on from; `None` at a start from nothing.
    pub epoch: Option<Epoch>,
    /// What a user should know. One line each.
    pub notes: Vec<String>,
}

/// Why checkpoints cannot be gone on from.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// The log.
    #[error(transparent)]
    Log(#[from] CheckpointError),
    /// The queries.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
}

impl Beginning {
    /// Opens the log in `store`, which fences earlier runs, and takes its newest state over for `graph`.
    ///
    /// # Errors
    /// When another run is alive, no checkpoint is whole, or the state does not fit the graph.
    pub async fn recover(
        graph: &Graph,
        store: Arc<dyn Store>,
        options: LogOptions,
        accept_lost_state: bool,
    ) -> Result<(Beginning, Found), RecoveryError> {
        let (mut log, recovered) = CheckpointLog::open(store, options).await?;
        crash_point!("recovery.loaded");
        let identities = identities(graph);
        let begins_anew = recovered.is_none();
        let mut recovered = recovered.unwrap_or_default();
        let rest = recovered.finished && !recovered.undelivered.is_empty() && all_end(graph);
        if recovered.finished && !rest {
            begin_inputs_anew(graph, &mut recovered.state);
        }
        let mut takeover = take_over(&recovered, &identities, accept_lost_state)?;
        if rest {
            takeover.notes.push(REST.into());
        }
        log.begin(&takeover, identities, Arc::new(GraphCompactor::new(graph.clone())));
        let found = Found {
            incarnation: log.writer().incarnation,
            epoch: (!begins_anew).then_some(takeover.state.epoch),
            notes: if begins_anew { vec![] } else { takeover.notes },
        };
        let beginning = Beginning {
            state: (!begins_anew).then_some(takeover.state),
            log: Some(log),
            undelivered: takeover.undelivered,
            ..Beginning::default()
        };
        Ok((beginning, found))
    }
}

/// Sources that end by themselves, such as files, are read anew by a run after one that had come to their ends and has
/// delivered everything. Others, such as topics, are gone on with.
fn begin_inputs_anew(graph: &Graph, state: &mut EpochState) {
    let bounded: Vec<&str> = sources(graph).filter(|(_, ends)| *ends).map(|(name, _)| name).collect();
    state.sources.retain(|name, _| !bounded.contains(&name.as_str()));
}

/// Whether all sources end by themselves. What comes new from one that does not may have to meet the rows of one that does,
/// so that this one has to be read again.
fn all_end(graph: &Graph) -> bool {
    sources(graph).all(|(_, ends)| ends)
}

/// The sources by name, and whether each ends by itself.
fn sources(graph: &Graph) -> impl Iterator<Item = (&str, bool)> {
    graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Source(source) => Some((node.name.as_str(), source.factory.boundedness() == Boundedness::Bounded)),
        _ => None,
    })
}
