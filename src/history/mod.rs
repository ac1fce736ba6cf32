//! What a folder keeps, read as a batch: SQL over the recorded rows of its `delta` tables.
//!
//! [`History`] knows the tables of a folder; [`session`] plans and runs one query after another on versions that stay
//! the same while it lives. [`catalog`] gives the tables their names, [`kept`] opens one of them at a version,
//! [`scan`] reads it, [`travel`] finds the version that `AS OF` asks for, and [`overview`] tells what there is. The
//! commands `acequia query` and `acequia history`, and the Flight SQL server, are users of this.

pub mod catalog;
pub mod error;
mod files;
pub mod kept;
pub mod live;
pub mod overview;
mod scan;
pub mod session;
mod spill;
pub mod travel;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::program::Program;
pub use error::HistoryError;
use kept::Kept;
use live::LiveTables;
pub use session::HistorySession;

/// What a folder keeps, by the names of its tables. Cheap to ask again and again: what is known of a table's log and
/// of its files stays known from one session to the next.
pub struct History {
    tables: Vec<Arc<Kept>>,
    pipeline: String,
    limits: Limits,
    runtime: Arc<RuntimeEnv>,
    live: Option<Arc<dyn LiveTables>>,
}

/// A table that can be asked.
#[derive(Clone, Debug)]
pub struct HistoryTable {
    /// Its name in SQL.
    pub name: String,
    /// The table under whose name its rows can be read too, if it records a source.
    pub history_of: Option<String>,
    /// Where it lies, for a person; no secret.
    pub place: String,
    /// The columns as they are declared, in the types in which they are read.
    pub columns: SchemaRef,
    /// The columns by whose values its files are divided.
    pub partition_by: Vec<String>,
    /// The column that is the event time, if one is known.
    pub event_time: Option<String>,
}

/// What a query may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of memory for all queries of a [`History`] together: what sorts, joins and aggregates hold. What does
    /// not fit is spilled.
    pub memory: u64,
    /// The folder for what is spilled; it is made when it is needed. Without, nothing is spilled and a query that
    /// needs more memory fails.
    pub spill: Option<PathBuf>,
    /// How many threads work on a query; `None`: one a core.
    pub parallelism: Option<usize>,
}

/// Whether a query may read files by their paths, `FROM 'x.parquet'`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paths {
    /// The command line: it has the rights of the user who typed it.
    Allowed,
    /// Servers: the files are the server's and not the client's.
    Refused,
}

impl History {
    /// What the folder `program` keeps, as the pipeline `pipeline` has written it. Reads nothing yet.
    ///
    /// # Errors
    /// When the limits make no sense.
    pub fn of(
        program: &Program,
        data_dir: &Path,
        pipeline: &str,
        limits: Limits,
    ) -> Result<History, HistoryError> {
        let runtime = runtime(&limits)?;
        let tables = program.tables.iter().filter_map(|table| Kept::of(table, program, data_dir)).map(Arc::new);
        Ok(History { tables: tables.collect(), pipeline: pipeline.to_owned(), limits, runtime, live: None })
    }

    /// The same with what a running pipeline has not written yet, in the schema `live`.
    pub fn with_live(self, live: Arc<dyn LiveTables>) -> History {
        History { live: Some(live), ..self }
    }

    /// The tables, in the order of their declarations.
    pub fn tables(&self) -> Vec<HistoryTable> {
        self.tables.iter().map(|kept| kept.table.clone()).collect()
    }

    /// A session in which every table stays as it is at its first mention.
    ///
    /// # Errors
    /// When DataFusion cannot be set up.
    pub async fn session(&self, paths: Paths) -> Result<HistorySession, HistoryError> {
        HistorySession::open(self, paths)
    }
}
