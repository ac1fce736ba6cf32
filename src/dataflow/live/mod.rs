//! Live tables: what a pipeline's tables would hold if its input ended now.
//!
//! A table's destination lags behind the input: rows wait for their epoch to be durable, for a sink to gather enough,
//! for a window to close. Whoever asks for a table at the [`board`] gets the rest, as of an epoch that ends for it: the
//! rows of epochs that the destination does not have, and the rows that all open windows would give. Together with
//! the destination's that is what a bounded run over the input before the barrier would have written, each input row
//! counted once.
//!
//! Nothing is done until somebody asks. Then the coordinator ends an epoch at once, and its barrier carries a
//! [`look`]. An operator that lets the barrier pass has just handed over its snapshot; now a second one is made from
//! its whole state, is given what the operators before it have shown, and is brought to the end of time: what it sends
//! is shown on ([`shadow`]). So joins of windows, rankings in a window and windows over windows are looked through as
//! well as plain ones, since it is their own code that answers. Shown rows travel as messages of their own kind, up to
//! the sink's task, which hands them to the look and to nothing else: they are not counted, kept or delivered.
//!
//! A failure in such a second operator (a division by what is still zero) is the answer of those who asked, and not
//! the end of the run.

mod answer;
pub mod board;
pub mod look;
pub mod newest;
pub mod shadow;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thiserror::Error;

pub use crate::connectors::delivery::Marker;
use crate::time::Epoch;

/// A table that can be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveTable {
    /// Its name in SQL.
    pub name: String,
    /// Its columns: those that the sink writes.
    pub columns: SchemaRef,
    /// What its rows are.
    pub kind: LiveKind,
}

/// What the rows of a live table are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LiveKind {
    /// Those that its destination does not have: together with the destination's they are all.
    Added,
    /// Those that its destination holds now, the newest of each key: they are all.
    Newest,
}

/// From where on rows are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Since {
    /// From what the run knows its destination to have.
    Destination,
    /// From a version of the destination that was read: the marker in it, if it has one.
    Version(Option<Marker>),
}

/// Rows of a live table.
#[derive(Clone, Debug)]
pub struct LiveRows {
    /// The epoch whose end they are as of; `None` where they are the destination's own.
    pub epoch: Option<Epoch>,
    /// Their columns.
    pub columns: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

/// Bytes of rows that one answer may hold, and that one look may show.
pub const MOST_BYTES: usize = 256 << 20;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum LiveError {
    /// Nothing is written under that name.
    #[error("there is no live table {table}: the running pipeline writes {}", list(.known))]
    Unknown {
        /// The name.
        table: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Rows after the given version have got to the destination meanwhile.
    #[error(
        "rows of {table} up to epoch {settled} have got to its destination since the version that was read: read it \
         again, and ask again"
    )]
    Settled {
        /// The table.
        table: String,
        /// The last epoch in the destination.
        settled: Epoch,
    },
    /// The run does not move.
    #[error("live.{table} got no answer in {seconds} s: the pipeline waits for {waits_for}")]
    Waits {
        /// The table.
        table: String,
        /// How long it was waited.
        seconds: u64,
        /// For what.
        waits_for: String,
    },
    /// No epochs are kept.
    #[error(
        "live.{table}: the pipeline runs with --no-checkpoints, so that nobody can tell which rows its destination \
         has; run it with checkpoints"
    )]
    NoCheckpoints {
        /// The table.
        table: String,
    },
    /// The open windows cannot be shown.
    #[error("live.{table}: what its open windows hold cannot be shown: {node}: {message}")]
    Failed {
        /// The table.
        table: String,
        /// The operator that failed.
        node: String,
        /// What it said.
        message: String,
    },
    /// More rows than fit into memory.
    #[error(
        "live.{table}: more than {} MB of rows are not in its destination; ask again when it has caught up, or sum up \
         in the pipeline what is asked for", MOST_BYTES >> 20
    )]
    TooMuch {
        /// The table.
        table: String,
    },
    /// The run is over, or about to be.
    #[error("live.{table}: the pipeline has ended or is about to; what it has delivered is in the table's destination")]
    Ended {
        /// The table.
        table: String,
    },
    /// The destination, or the checkpoints, could not be read.
    #[error("live.{table}: {message}")]
    Unreadable {
        /// The table.
        table: String,
        /// What they said.
        message: String,
    },
    /// There is no pipeline to ask, or what answers is none.
    #[error("{0}")]
    NotRunning(String),
    /// What the running pipeline itself says.
    #[error("{0}")]
    Told(String),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no table".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_told_what_to_do() {
        let table = || "t".to_owned();
        assert_eq!(
            LiveError::TooMuch { table: table() }.to_string(),
            "live.t: more than 256 MB of rows are not in its destination; ask again when it has caught up, or sum up in the \
             pipeline what is asked for"
        );
        assert_eq!(
            LiveError::Unreadable { table: table(), message: "Redis at localhost:6379: refused".into() }.to_string(),
            "live.t: Redis at localhost:6379: refused"
        );
        assert_eq!(
            LiveError::Unknown { table: table(), known: vec![] }.to_string(),
            "there is no live table t: the running pipeline writes no table"
        );
    }
}
