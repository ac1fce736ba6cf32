//! The files of one version of a Delta table, with what its log says of the rows in them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::error::DataFusionError;
use datafusion::scalar::ScalarValue;
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTableError, ObjectMeta, Path};
use thiserror::Error;

use super::scan::Columns;

/// Decimals stand as numbers in the log: beyond so many digits they are not what is in the file.
const EXACT_DIGITS: u8 = 15;

/// One file of a table.
#[derive(Clone, Debug)]
pub(super) struct KeptFile {
    /// Where it is, below the table.
    pub meta: ObjectMeta,
    /// The values of the partition columns.
    pub partition: Vec<ScalarValue>,
    /// Of every column, in the order of [`Columns::read`].
    pub statistics: Arc<Statistics>,
}

/// Why a version cannot be read.
#[derive(Debug, Error)]
pub enum UnreadableTable {
    /// Rows are deleted by a list beside the files.
    #[error(
        "it has deletion vectors, which another program has written and which are not read here: with them left out, \
         rows that are deleted would come back. Rewrite the table without them (REORG TABLE ... APPLY (PURGE) in Spark)"
    )]
    DeletionVectors,
    /// The columns have other names in the files.
    #[error("it maps the names of its columns, delta.columnMapping.mode = '{0}', which is not read here")]
    ColumnMapping(String),
    /// Files of another table.
    #[error("its file {0} lies outside the table, as in a shallow clone, which is not read here")]
    Outside(String),
    /// The log is not what it should be.
    #[error("its log cannot be read: {0}")]
    Log(#[from] DeltaTableError),
    /// The log's statistics are not what they should be.
    #[error("its log cannot be read: {0}")]
    Statistics(#[from] DataFusionError),
}

/// The files of the version that is loaded.
///
/// # Errors
/// What is not supported; a log that is damaged.
pub(super) fn files(state: &DeltaTableState, columns: &Columns) -> Result<Vec<KeptFile>, UnreadableTable> {
    let mut files = vec![];
    for batch in state.add_actions_batches(false)? {
        let added = Added::of(&batch)?;
        for row in 0..batch.num_rows() {
            files.push(added.file(row, columns)?);
        }
    }
    Ok(files)
}

/// What the log says of several files, one a row.
struct Added<'a> {
    paths: ArrayRef,
    sizes: &'a [i64],
    modified: &'a [i64],
    rows: Option<&'a ArrayRef>,
    nulls: Option<&'a StructArray>,
    least: Option<&'a StructArray>,
    greatest: Option<&'a StructArray>,
    partition: Option<&'a StructArray>,
    deletions: Option<&'a StructArray>,
}

impl<'a> Added<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Added<'a>, UnreadableTable> {
        let column = |name: &str| {
            let missing = || DeltaTableError::Generic(format!("there is no {name}"));
            batch.column_by_name(name).ok_or_else(missing)
        };
        let structure = |name: &str| batch.column_by_name(name).and_then(|column| column.as_struct_opt());
        let numbers = |name: &str| {
            let no_numbers = || DeltaTableError::Generic(format!("{name} is no number"));
            column(name)?.as_primitive_opt::<Int64Type>().map(|array| &array.values()[..]).ok_or_else(no_numbers)
        };
        Ok(Added {
            paths: arrow::compute::cast(column("path")?, &DataType::Utf8).map_err(DeltaTableError::from)?,
            sizes: numbers("size_bytes")?,
            modified: numbers("modification_time")?,
            rows: batch.column_by_name("num_records"),
            nulls: structure("null_count"),
            least: structure("min"),
            greatest: structure("max"),
            partition: structure("partition"),
            deletions: structure("deletion_vector"),
        })
    }

    fn file(&self, row: usize, columns: &Columns) -> Result<KeptFile, UnreadableTable> {
        let written = self.paths.as_string::<i32>().value(row);
        if self.deletions.is_some_and(|deletions| deletions.is_valid(row) && deletions.column(0).is_valid(row)) {
            return Err(UnreadableTable::DeletionVectors);
        }
        if written.contains("://") || written.starts_with('/') {
            return Err(UnreadableTable::Outside(written.to_owned()));
        }
        let location = Path::from_url_path(written)
            .map_err(|error| DeltaTableError::Generic(format!("'{written}' is no path: {error}")))?;
        let meta = ObjectMeta {
            location,
            last_modified: chrono::DateTime::from_timestamp_millis(self.modified[row]).unwrap_or_default(),
            size: u64::try_from(self.sizes[row]).unwrap_or(0),
            e_tag: None,
            version: None,
        };
        let partition = self.partition_values(row, columns)?;
        let rows = self.rows.and_then(|rows| count(rows, row));
        let of_column = |name: &str, data_type: &DataType| self.column_statistics(row, name, data_type);
        let fields = columns.read.file_schema().fields().iter();
        let mut statistics: Vec<ColumnStatistics> =
            fields.map(|field| of_column(field.name(), field.data_type())).collect::<Result<_, _>>()?;
        statistics.extend(partition.iter().map(|value| constant(value, rows)));
        let statistics = Statistics {
            num_rows: rows.map_or(Precision::Absent, Precision::Exact),
            total_byte_size: Precision::Inexact(meta.size as usize),
            column_statistics: statistics,
        };
        Ok(KeptFile { meta, partition, statistics: Arc::new(statistics) })
    }

    fn partition_values(&self, row: usize, columns: &Columns) -> Result<Vec<ScalarValue>, UnreadableTable> {
        let mut values = vec![];
        for field in columns.read.table_partition_cols() {
            let column = self.partition.and_then(|partition| partition.column_by_name(field.name()));
            let value = match column {
                Some(column) => ScalarValue::try_from_array(column, row)?.cast_to(field.data_type())?,
                None => {
                    let name = field.name();
                    return Err(DeltaTableError::Generic(format!("no value of partition column {name}")).into());
                }
            };
            values.push(value);
        }
        Ok(values)
    }

    fn column_statistics(
        &self,
        row: usize,
        name: &str,
        data_type: &DataType,
    ) -> Result<ColumnStatistics, UnreadableTable> {
        let mut statistics = ColumnStatistics::new_unknown();
        let nulls = self.nulls.and_then(|nulls| nulls.column_by_name(name)).and_then(|nulls| count(nulls, row));
        statistics.null_count = nulls.map_or(Precision::Absent, Precision::Exact);
        let Some(bounds) = Bounds::of(data_type) else { return Ok(statistics) };
        let bound = |values: Option<&StructArray>| match values.and_then(|values| values.column_by_name(name)) {
            Some(values) if values.is_valid(row) => {
                let value = ScalarValue::try_from_array(values, row)?;
                Ok::<_, DataFusionError>(Some(value.cast_to(data_type)?))
            }
            _ => Ok(None),
        };
        let at_most = |value: ScalarValue| match bounds {
            Bounds::Milliseconds => end_of_millisecond(value),
            Bounds::Exact | Bounds::Wide => value,
        };
        let known = |value: ScalarValue| match bounds {
            Bounds::Exact => Precision::Exact(value),
            Bounds::Wide | Bounds::Milliseconds => Precision::Inexact(value),
        };
        statistics.min_value = bound(self.least)?.map_or(Precision::Absent, known);
        statistics.max_value = bound(self.greatest)?.map(at_most).map_or(Precision::Absent, known);
        Ok(statistics)
    }
}

/// How far least and greatest values in the log can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bounds {
    /// They are values of rows.
    Exact,
    /// No row lies outside; long texts are cut.
    Wide,
    /// The same, cut to milliseconds: the greatest may be up to one millisecond greater.
    Milliseconds,
}

impl Bounds {
    fn of(data_type: &DataType) -> Option<Bounds> {
        match data_type {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32 => {
                Some(Bounds::Exact)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Float32 | DataType::Float64 => {
                Some(Bounds::Wide)
            }
            DataType::Decimal128(digits, _) if *digits <= EXACT_DIGITS => Some(Bounds::Wide),
            DataType::Timestamp(_, _) => Some(Bounds::Milliseconds),
            _ => None,
        }
    }
}

fn end_of_millisecond(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::TimestampMicrosecond(Some(time), zone) => {
            ScalarValue::TimestampMicrosecond(Some(time.saturating_add(999)), zone)
        }
        other => other,
    }
}

/// A number of rows in the log.
fn count(values: &ArrayRef, row: usize) -> Option<usize> {
    let values = values.as_primitive_opt::<Int64Type>()?;
    values.is_valid(row).then(|| usize::try_from(values.value(row)).ok()).flatten()
}

/// A partition column: the same value in each of the file's rows.
fn constant(value: &ScalarValue, rows: Option<usize>) -> ColumnStatistics {
    let mut statistics = ColumnStatistics::new_unknown();
    if value.is_null() {
        statistics.null_count = rows.map_or(Precision::Absent, Precision::Exact);
        return statistics;
    }
    statistics.null_count = Precision::Exact(0);
    statistics.min_value = Precision::Exact(value.clone());
    statistics.max_value = Precision::Exact(value.clone());
    statistics
}
