//! Cases: a folder's own tests, given rows in and expected rows out (`acequia test`).
//!
//! A case runs the folder's program as it is, through the real planner and runtime; only the connectors are replaced,
//! by partitions of given lines and by sinks that collect. It runs once for each of many [`Settings`], because the
//! rows of a stream may depend neither on parallelism nor on batch sizes nor on how partitions interleave.
//!
//! ```text
//! queries/*.sql
//! queries/tests/CASE/input/TABLE.jsonl             one partition, or
//! queries/tests/CASE/input/TABLE/0.jsonl, 1.jsonl  several
//! queries/tests/CASE/expected/TABLE.jsonl          stdout.jsonl for a bare SELECT
//! ```
//! Input lines are JSON whatever the table's own format is; a line's number is its offset. A table without an input
//! file is empty, one without an expected file is not looked at. The last row per key counts where the real sink
//! replaces rows.

mod case;
mod compare;
mod connector;
mod error;
mod sink;
mod source;

pub use case::{Case, Outcome, Settings, discover};
pub use error::CaseError;
pub use sink::{Collected, collector};
pub use source::{Partition, lines};
