//! A graph at work: tasks, channels, watermarks and barriers.
//!
//! The order of reading: [`layout`] cuts the graph into tasks and makes the [`channel`]s between them; [`build`] makes
//! their operators. A [`source_task`] turns what a source sends into rows ([`reader`]) and knows how far event time
//! has come ([`source_watermark`]); its [`chain`] runs them through the operators that need no exchange. An
//! [`exchange`] deals rows out by key to an [`operator_task`], which reads them through a [`gate`]; a [`sink_task`]
//! collects them in its [`outbox`], from where its [`deliverer`] brings them to the destination. The [`coordinator`]
//! moves the whole from epoch to epoch, the [`checkpointer`] keeps each, and [`recovery`] goes on from what was kept.
//! Who wants to know what is not in a destination yet asks [`live`].

pub mod audit;
mod bad_row_log;
mod breaker;
mod build;
mod chain;
mod channel;
mod checkpointer;
mod compactor;
mod company;
mod coordinator;
mod deliverer;
mod exchange;
mod failing;
mod gate;
pub mod graph;
mod keeper;
mod layout;
pub mod listener;
pub mod live;
mod lost_output;
mod operator_task;
mod outbox;
pub mod read_back;
mod reader;
pub mod recovery;
mod report;
mod run;
mod sink_task;
mod source_context;
mod source_task;
mod source_watermark;
pub mod statistics;
mod surroundings;
#[cfg(test)]
mod tests;
mod watch;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::catalog::Percent;
use crate::checkpoint::log::CheckpointError;
use crate::connectors::ConnectorError;
use crate::time::WallClock;
pub use compactor::{GraphCompactor, identities};
use graph::Graph;
use recovery::Beginning;
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
    /// Bytes of rows waiting in a sink that end an epoch before its time.
    pub checkpoint_bytes: u64,
    /// How long rows may wait in a sink before they are flushed.
    pub linger: Duration,
    /// Where embedded parts keep their files.
    pub data_dir: PathBuf,
    /// The time of day, by which event times that lie far in the future are told. `None` in a replay, which must not
    /// depend on the day; in bounded runs only limits that are written out hold.
    pub wall_clock: Option<WallClock>,
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
    #[error("{node}: {}", failing::explained(source))]
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
    /// Too large a share of a source's records was bad: its table's `bad_rows_limit`.
    #[error(
        "{table}: {bad} of the {read} records read in the last minute were bad, more than {limit}; most often \
         {reason}, as at {place}: {message}. The run has stopped before it went on without them; what came after the \
         last checkpoint is read again at the next start. Mend the table or what is sent, or let such records pass \
         with 'bad_rows_limit' = 'none' or a larger share"
    )]
    TooManyBadRows {
        /// The table.
        table: String,
        /// Bad records.
        bad: u64,
        /// All records.
        read: u64,
        /// What is allowed.
        limit: Percent,
        /// The most frequent reason.
        reason: &'static str,
        /// Split and offset of a record that is bad for it.
        place: String,
        /// What is wrong with that one.
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
    /// Checkpoints cannot be written or read.
    #[error("checkpoints: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Told to stop at once.
    #[error("stopped before the end")]
    Aborted,
}

impl RunError {
    fn panic(node: &str, panic: &(dyn Any + Send)) -> RunError {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        RunError::Panic { node: node.to_owned(), message: text.unwrap_or_else(|| "a panic without a message".into()) }
    }
}

/// Runs a graph until its sources end, it is told to stop, or something fails. `statistics` are those of this graph:
/// [`Statistics::of`].
///
/// # Errors
/// The first failure; the other tasks are stopped before this returns.
pub async fn run(graph: Graph, options: RunOptions, statistics: Arc<Statistics>) -> Result<(), RunError> {
    run_from(graph, options, statistics, Beginning::default()).await
}

/// As [`run()`], going on from the state at the end of an epoch if there is one, and keeping epochs if there is a log.
/// The parallelism may be another one than before.
///
/// # Errors
/// As for [`run()`].
pub async fn run_from(
    graph: Graph,
    options: RunOptions,
    statistics: Arc<Statistics>,
    beginning: Beginning,
) -> Result<(), RunError> {
    // The state machine of a whole run is large: it stays out of its caller's future.
    Box::pin(run::run(graph, options, statistics, beginning)).await
}
