//! Delta Lake tables: rows that stay, for batch SQL over the past and for whoever reads Delta tables.
//!
//! Only ever appended to. A folder or a prefix in a bucket holds Parquet files, and in `_delta_log` the log of commits
//! that says which of them are the table. One commit holds the rows of one or more epochs together with the marker of
//! the last of them ([`commit`]); [`store`] makes a local folder keep what it has confirmed.

pub mod commit;
mod compaction;
mod events;
mod evolution;
mod history_of;
mod loading;
mod options;
mod partitions;
pub mod place;
mod reading;
pub mod recorded;
mod sink;
mod source;
mod stats;
mod store;
mod target;
#[cfg(test)]
mod tests;
pub(crate) mod types;
mod upkeep;
mod upkeep_task;
#[cfg(test)]
mod upkeep_tests;
mod vacuum;
mod writer;
#[cfg(test)]
mod written;

use std::path::Path;
use std::sync::Arc;

use super::{Connector, ConnectorTable, SinkFactory, SourceFactory};
use crate::catalog::options::Options;
use crate::catalog::{TableDefinition, TableName};

pub(crate) use history_of::mistakes_of_history;
use options::DeltaOptions;
pub use options::UpkeepOptions;
pub use place::DeltaPlace;

/// The folder of the tables whose `path` is not given, in the data folder.
pub const HISTORY_FOLDER: &str = "history";

/// The connector `delta`.
///
/// | option | values | default |
/// |---|---|---|
/// | `path` | a folder, or `s3://bucket/folder` | `history/TABLE` in the data folder |
/// | `s3.endpoint`, `s3.region`, ... | the access to a bucket, by object_store's names | `AWS_ENDPOINT`, `AWS_REGION`, ... |
/// | `partition_by` | columns, with commas between them: a folder for each value | none |
/// | `history_of` | a table of the folder that is read: every row of it is recorded here, by name of column | none |
/// | `commit_interval`, `commit_rows`, `commit_bytes` | when what is gathered is committed: whichever comes first | `10 seconds`, 1000000, `128MB` |
/// | `target_file_size` | how large a file becomes, about | `128MB` |
/// | `compaction` | `true`, `false`: whether small files are put together | `true` |
/// | `compaction_interval` | how often they are looked for | `10 minutes` |
/// | `retention` | how long a file stays that the newest version does not need: so far back reaches time travel | `7 days` |
/// | `checkpoint_every` | after so many commits the log is summed up in one file | 100 |
///
/// TIMESTAMP is kept in microseconds, without a time zone (`timestamp_ntz`).
pub struct DeltaConnector;

impl Connector for DeltaConnector {
    fn name(&self) -> &'static str {
        "delta"
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        let event_time = table.watermark.as_ref().map(|watermark| watermark.column.clone());
        Arc::new(DeltaTableOptions { options: DeltaOptions::take(table, options), event_time })
    }
}

/// What of a table's rows is kept, and where.
#[derive(Clone, Debug)]
pub struct DeltaHistory {
    /// Where it lies.
    pub place: DeltaPlace,
    /// The columns that make its folders.
    pub partition_by: Vec<String>,
    /// The table whose every row it holds.
    pub history_of: Option<String>,
}

/// A Delta table with its options understood.
struct DeltaTableOptions {
    options: DeltaOptions,
    /// The column that is the event time, if one is.
    event_time: Option<String>,
}

impl ConnectorTable for DeltaTableOptions {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        let (options, event_time) = (self.options.clone(), self.event_time.clone());
        Some(Arc::new(source::DeltaSourceFactory { options, event_time }))
    }

    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        Some(Arc::new(sink::DeltaSinkFactory { options: self.options.clone() }))
    }

    fn history(&self, data_dir: &Path) -> Option<DeltaHistory> {
        // A place that cannot be told has been refused when it was to be written.
        let place = self.options.place(data_dir).ok()?;
        let history_of = self.options.history_of.as_ref().map(|table| table.name.clone());
        Some(DeltaHistory { place, partition_by: self.options.partition_by.clone(), history_of })
    }

    fn history_of(&self) -> Option<&TableName> {
        self.options.history_of.as_ref()
    }
}
