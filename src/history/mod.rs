//! What a folder keeps, read as a batch: SQL over the recorded rows of its `delta` tables.
//!
//! [`History`] knows the tables of a folder; [`session`] plans and runs one query after another on versions that stay
//! the same while it lives. [`catalog`] gives the tables their names, [`kept`] opens one of them at a version,
//! [`scan`] reads it, [`paths`] finds files by their paths, [`travel`] finds the version that `AS OF` asks for, and [`overview`] tells what there is. The
//! commands `acequia query` and `acequia history`, and the Flight SQL server, are users of this.

pub(crate) mod catalog;
pub mod error;
mod files;
pub mod kept;
pub mod live;
pub mod overview;
mod paths;
mod scan;
mod selective;
pub mod session;
mod sources;
mod spill;
#[cfg(test)]
mod tests;
mod travel;
pub mod versions;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use parking_lot::Mutex;

use crate::connectors::delta::DeltaHistory;
use crate::program::{Program, Table};
pub use error::HistoryError;
use kept::Kept;
use live::LiveTables;
pub use overview::{TableOverview, VersionOverview};
pub use session::HistorySession;
use sources::RecordedSource;
use spill::SpillFolder;

/// So many bytes of Parquet footers are kept: those of some ten thousand files.
const FOOTER_CACHE: usize = 128 << 20;
/// When memory runs out, so many of those that hold it are named.
const TOLD_CONSUMERS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

/// What a folder keeps, by the names of its tables. Cheap to ask again and again: what is known of a table's log and
/// of its files stays known from one session to the next.
pub struct History {
    tables: Vec<Arc<Kept>>,
    sources: Vec<Arc<RecordedSource>>,
    pipeline: String,
    parallelism: usize,
    memory: u64,
    runtime: Arc<RuntimeEnv>,
    live: Option<Arc<dyn LiveTables>>,
    /// The Delta tables that were named by their paths.
    by_path: Arc<Mutex<HashMap<PathBuf, Arc<Kept>>>>,
}

/// A table that can be asked.
#[derive(Clone, Debug)]
pub struct HistoryTable {
    /// Its name in SQL.
    pub name: String,
    /// What its rows are.
    pub kind: HistoryKind,
    /// Where it lies, for a person; no secret.
    pub place: String,
    /// The columns as they are declared, in the types in which they are read.
    pub columns: SchemaRef,
    /// The columns by whose values its files are divided.
    pub partition_by: Vec<String>,
    /// The column that is the event time, if one is known.
    pub event_time: Option<String>,
}

/// What the rows of a table are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HistoryKind {
    /// Those that were written to it.
    Table,
    /// Those of a source that have been recorded, under the source's own name and columns.
    Source {
        /// The table that holds them.
        recorded_in: String,
    },
}

/// What queries may use.
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
    /// When the query engine cannot be set up.
    pub fn of(program: &Program, data_dir: &Path, pipeline: &str, limits: Limits) -> Result<History, HistoryError> {
        let mut tables = vec![];
        let mut sources = vec![];
        for table in &program.tables {
            let Some(history) = table.connector.history(data_dir) else { continue };
            let source = history.history_of.as_ref().and_then(|name| program.table(name));
            let described = described(table, source, &history);
            let kept = Arc::new(Kept::new(described, history, tables.len())?);
            if let Some(source) = source {
                sources.push(Arc::new(RecordedSource::new(source.definition.clone(), Arc::clone(&kept))));
            }
            tables.push(kept);
        }
        // A source that is kept under its own name needs no other; of several that record it the first counts.
        let mut names: HashSet<String> = tables.iter().map(|kept| kept.table.name.clone()).collect();
        sources.retain(|source| names.insert(source.table.name.clone()));
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(History {
            tables,
            sources,
            pipeline: pipeline.to_owned(),
            parallelism: limits.parallelism.unwrap_or_else(cores),
            memory: limits.memory,
            runtime: runtime(limits)?,
            live: None,
            by_path: Arc::default(),
        })
    }

    /// The same with what a running pipeline has not written yet, in the schema `live`.
    pub fn with_live(self, live: Arc<dyn LiveTables>) -> History {
        History { live: Some(live), ..self }
    }

    /// The tables in the order of their declarations, and after them the sources whose rows are recorded.
    pub fn tables(&self) -> Vec<HistoryTable> {
        let tables = self.tables.iter().map(|kept| kept.table.clone());
        tables.chain(self.sources.iter().map(|source| source.table.clone())).collect()
    }

    /// A session in which every table stays as it is at its first mention.
    ///
    /// # Errors
    /// When the query engine cannot be set up.
    pub async fn session(&self, paths: Paths) -> Result<HistorySession, HistoryError> {
        HistorySession::open(self, paths)
    }

    /// What there is of each table, as `acequia history` shows it.
    ///
    /// # Errors
    /// When a table cannot be reached or read.
    pub async fn overview(&self) -> Result<Vec<TableOverview>, HistoryError> {
        let mut overviews = vec![];
        for kept in &self.tables {
            overviews.push(overview::of_table(kept, &self.runtime).await?);
        }
        Ok(overviews)
    }

    /// The newest `most` versions of a table, newest first; `None` if there is no such table.
    ///
    /// # Errors
    /// As for [`History::overview`].
    pub async fn versions(&self, name: &str, most: usize) -> Result<Option<Vec<VersionOverview>>, HistoryError> {
        let recorded = self.sources.iter().find(|source| source.table.name == name).map(|source| source.kept());
        match self.tables.iter().find(|kept| kept.table.name == name).or(recorded) {
            Some(kept) => Ok(Some(overview::of_versions(kept, &self.pipeline, most, &self.runtime).await?)),
            None => Ok(None),
        }
    }
}

fn described(table: &Table, source: Option<&Table>, history: &DeltaHistory) -> HistoryTable {
    let watermark = |table: &Table| table.definition.watermark.as_ref().map(|watermark| watermark.column.clone());
    HistoryTable {
        name: table.definition.name.clone(),
        kind: HistoryKind::Table,
        place: history.place.describe(),
        columns: kept::declared_columns(&table.definition),
        partition_by: history.partition_by.clone(),
        event_time: watermark(table).or_else(|| source.and_then(watermark)),
    }
}

/// Memory, spilled files and known footers, shared by all sessions.
fn runtime(limits: Limits) -> Result<Arc<RuntimeEnv>, HistoryError> {
    let memory = usize::try_from(limits.memory).unwrap_or(usize::MAX);
    // Fair: no sort or aggregate of a query starves the others. The tracking names the greediest in a message.
    let pool = TrackConsumersPool::new(FairSpillPool::new(memory), TOLD_CONSUMERS);
    let disk = DiskManagerBuilder::default().with_mode(match limits.spill {
        Some(folder) => DiskManagerMode::Custom(Arc::new(SpillFolder::new(folder))),
        None => DiskManagerMode::Disabled,
    });
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .with_metadata_cache_limit(FOOTER_CACHE)
        // A folder may have other files by the next statement of a prompt.
        .with_object_list_cache_limit(0)
        .build_arc()
        .map_err(HistoryError::Engine)
}
