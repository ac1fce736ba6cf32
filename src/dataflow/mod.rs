//! A graph at work: tasks, channels, watermarks and barriers.

pub mod graph;
pub mod statistics;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::connectors::ConnectorError;
use graph::Graph;
use statistics::Statistics;

/// How to run a graph.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The pipeline's name: client ids and consumer groups begin with it.
    pub pipeline: String,
    /// Instances of each keyed operator; at least 1.
    pub parallelism: usize,
    /// At most this many rows in a batch that a source sends; at least 1.
    pub batch_size: usize,
    /// Stop at the end of what is there now.
    pub bounded: bool,
    /// Time between barriers.
    pub checkpoint_interval: Duration,
    /// How long rows may wait in a sink before they are flushed.
    pub linger: Duration,
    /// Where embedded parts keep their files.
    pub data_dir: PathBuf,
    /// Cancelled to stop in order: sources stop, what they sent is worked off, sinks flush and close. Windows that
    /// are still open are not closed by it.
    pub drain: CancellationToken,
    /// Cancelled to stop at once.
    pub abort: CancellationToken,
}

/// Why a run ended early.
#[derive(Debug, Error)]
pub enum RunError {
    /// A connector gave up.
    #[error("{node}: {source}")]
    Connector {
        /// The node's name.
        node: String,
        /// What it said.
        source: ConnectorError,
    },
    /// An operator failed on some rows.
    #[error("{node}: {source}")]
    Operator {
        /// The node's name.
        node: String,
        /// What it said.
        source: datafusion::error::DataFusionError,
    },
    /// A record was bad and its table says `bad_rows = 'fail'`.
    #[error("{table}: record {place} is bad: {message}")]
    BadRow {
        /// The table.
        table: String,
        /// Split and offset, such as `transactions[0] offset 17`.
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// A task panicked: a defect of Acequia.
    #[error("{node}: internal error: {message}")]
    Panic {
        /// The node's name.
        node: String,
        /// The panic's message.
        message: String,
    },
    /// Told to stop at once.
    #[error("stopped before the end")]
    Aborted,
}

/// Runs a graph until its sources end, it is told to stop, or something fails.
///
/// # Errors
/// The first failure; the other tasks are stopped before this returns.
pub async fn run(graph: Graph, options: RunOptions, statistics: Arc<Statistics>) -> Result<(), RunError> {
    let _ = (graph, options, statistics);
    unreachable!()
}
