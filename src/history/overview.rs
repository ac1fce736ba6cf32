//! What there is of a table, told from its log alone: rows, files, sizes, times, partitions, versions.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use datafusion::common::stats::Precision;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::scalar::ScalarValue;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::Action;
use deltalake_core::logstore::get_actions;
use serde_json::Value;

use super::files::KeptFile;
use super::kept::Kept;
use super::{HistoryError, HistoryTable};
use crate::connectors::ConnectorError;
use crate::connectors::delta::commit::epoch_marker;

/// A table as it is now.
#[derive(Clone, Debug)]
pub struct TableOverview {
    /// What it is.
    pub table: HistoryTable,
    /// Its newest version; `None` while nothing has been written.
    pub version: Option<u64>,
    /// Its rows, if the log knows them of every file.
    pub rows: Option<u64>,
    /// How many files hold them.
    pub files: usize,
    /// The bytes in these files.
    pub bytes: u64,
    /// The least and the greatest event time, to the millisecond.
    pub times: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// How many partitions there are, if it is divided.
    pub partitions: Option<usize>,
}

/// A version of a table.
#[derive(Clone, Debug)]
pub struct VersionOverview {
    /// Its number.
    pub version: u64,
    /// When it was written.
    pub written: Option<DateTime<Utc>>,
    /// What was done, such as `WRITE` or `OPTIMIZE`.
    pub operation: String,
    /// The rows that it added, where rows were added and the log says how many.
    pub rows: Option<u64>,
    /// The last epoch of the pipeline in it, where the pipeline has written it.
    pub epoch: Option<u64>,
}

/// A table as it is now.
///
/// # Errors
/// When it cannot be reached or read.
pub(super) async fn of_table(kept: &Kept, runtime: &RuntimeEnv) -> Result<TableOverview, HistoryError> {
    let pinned = kept.newest(runtime).await?;
    let mut overview = TableOverview {
        table: kept.table.clone(),
        version: pinned.version(),
        rows: Some(0),
        files: 0,
        bytes: 0,
        times: None,
        partitions: (!kept.table.partition_by.is_empty()).then_some(0),
    };
    let Some(scan) = &pinned.scan else { return Ok(overview) };
    let files = scan.files();
    let rows = |file: &KeptFile| file.statistics.num_rows.get_value().map(|rows| *rows as u64);
    overview.rows = files.iter().map(rows).sum();
    overview.files = files.len();
    overview.bytes = files.iter().map(|file| file.meta.size).sum();
    let partition_columns = scan.columns().read.table_partition_cols();
    if !partition_columns.is_empty() {
        let distinct: HashSet<&Vec<ScalarValue>> = files.iter().map(|file| &file.partition).collect();
        overview.partitions = Some(distinct.len());
    }
    if let Some(column) = &kept.table.event_time
        && let Ok(at) = scan.columns().read.table_schema().index_of(column)
    {
        let bounds = files.iter().map(|file| &file.statistics.column_statistics[at]);
        let least = bounds.clone().filter_map(|column| time(&column.min_value)).min();
        let greatest = bounds.filter_map(|column| time(&column.max_value)).max();
        overview.times = least.zip(greatest);
    }
    Ok(overview)
}

fn time(bound: &Precision<ScalarValue>) -> Option<DateTime<Utc>> {
    match bound.get_value()? {
        ScalarValue::TimestampMicrosecond(Some(time), _) => {
            // The log has milliseconds; the greatest was put to the end of its own.
            DateTime::from_timestamp_millis(time.div_euclid(1000))
        }
        ScalarValue::Date32(Some(days)) => DateTime::from_timestamp(i64::from(*days) * 86_400, 0),
        _ => None,
    }
}

/// The newest `most` versions of a table, newest first, as far as the log still holds their commits.
///
/// # Errors
/// When it cannot be reached or read.
pub(super) async fn of_versions(
    kept: &Kept,
    pipeline: &str,
    most: usize,
    runtime: &RuntimeEnv,
) -> Result<Vec<VersionOverview>, HistoryError> {
    let pinned = kept.newest(runtime).await?;
    let Some(delta) = &pinned.delta else { return Ok(vec![]) };
    let versions = kept.versions(delta).await?;
    let log_store = delta.log_store();
    let unreadable = |version: u64, error: DeltaTableError| ConnectorError::Refused {
        what: kept.describe(),
        message: format!("version {version} cannot be read: {error}"),
    };
    let marker = epoch_marker(pipeline, &kept.table.name);
    let mut overviews = vec![];
    for version in versions.commits().rev().take(most) {
        let commit = log_store.read_commit_entry(version).await.map_err(|error| unreadable(version, error))?;
        // It may have been cleared away since the log was listed.
        let Some(commit) = commit else { continue };
        let actions = get_actions(version, &commit).map_err(|error| unreadable(version, error))?;
        overviews.push(of_commit(version, &actions, versions.written(version), &marker));
    }
    Ok(overviews)
}

fn of_commit(version: u64, actions: &[Action], written: Option<DateTime<Utc>>, marker: &str) -> VersionOverview {
    let mut overview = VersionOverview { version, written, operation: String::new(), rows: None, epoch: None };
    for action in actions {
        match action {
            Action::CommitInfo(info) => overview.operation = info.operation.clone().unwrap_or_default(),
            Action::Txn(txn) if txn.app_id == marker => overview.epoch = u64::try_from(txn.version).ok(),
            // What is only put together anew is not added.
            Action::Add(add) if add.data_change => {
                let stats = add.stats.as_deref().and_then(|stats| serde_json::from_str::<Value>(stats).ok());
                let rows = stats.and_then(|stats| stats.get("numRecords")?.as_u64());
                overview.rows = rows.map(|rows| overview.rows.unwrap_or(0) + rows).or(overview.rows);
            }
            _ => {}
        }
    }
    overview
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_tells_its_rows_and_its_epoch() {
        let commit = r#"{"commitInfo":{"timestamp":1,"operation":"WRITE"}}
{"txn":{"appId":"acequia/queries/t","version":17}}
{"txn":{"appId":"acequia/queries/t/run","version":2}}
{"add":{"path":"a","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":3}"}}
{"add":{"path":"b","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":4}"}}
{"add":{"path":"c","partitionValues":{},"size":1,"modificationTime":1,"dataChange":false,"stats":"{\"numRecords\":9}"}}"#;
        let actions = get_actions(5, &bytes::Bytes::from(commit)).unwrap();
        let overview = of_commit(5, &actions, None, "acequia/queries/t");
        assert_eq!((overview.version, overview.rows, overview.epoch), (5, Some(7), Some(17)));
        assert_eq!(overview.operation, "WRITE");
    }
}
