//! One version of a Delta table, read file by file: the columns that are wanted, in the types that are declared.
//!
//! The version is pinned when it is opened, so that commits, compaction and other writers change nothing for a reader
//! that is under way. Within a file rows come in their order; in which order files are read is for the caller to say.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, SchemaRef};
use bytes::Bytes;
use chrono::NaiveDateTime;
use deltalake_core::DeltaTable;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use serde_json::Value;

use super::place::DeltaPlace;
use crate::catalog::options::closest;
use crate::connectors::ConnectorError;

/// Rows on their way out of a file.
pub(super) type Batches = BoxStream<'static, Result<RecordBatch, ConnectorError>>;

/// A table as it was at one version.
pub(super) struct Pinned {
    /// The table, for messages.
    pub(super) what: String,
    /// What tells it from another table at the same place.
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) files: Vec<DataFile>,
    store: Arc<dyn ObjectStore>,
    /// Every column of this version.
    columns: BTreeSet<String>,
}

/// A file of a table.
#[derive(Clone, Debug)]
pub(super) struct DataFile {
    pub(super) path: Path,
    /// When it was written, in milliseconds since 1970.
    pub(super) modified: i64,
    /// How many rows it has, where the log says so.
    pub(super) rows: Option<i64>,
    size: u64,
    /// The columns that are in its folder's name and not in the file.
    constants: HashMap<String, Option<String>>,
    /// The lowest value of each column, as the log says, where it does.
    least: Value,
}

impl DataFile {
    /// The earliest moment in a column, where the log says it.
    pub(super) fn least_time(&self, column: &str) -> Option<NaiveDateTime> {
        // With a T and a Z, or, where there is no time zone, without.
        let text = self.least.get(column)?.as_str()?.trim_end_matches('Z').replace('T', " ");
        NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").ok()
    }
}

impl Pinned {
    /// The newest version, or the one that is given; `None` if there is no table yet.
    ///
    /// # Errors
    /// When it cannot be read, does not have that version any more, or uses what is not understood.
    pub(super) async fn open(place: &DeltaPlace, version: Option<u64>) -> Result<Option<Pinned>, ConnectorError> {
        let Some(mut table) = place.open().await? else { return Ok(None) };
        let what = place.describe();
        if let Some(version) = version {
            table.load_version(version).await.map_err(|error| {
                refused(
                    &what,
                    format!(
                        "version {version}, which was being read, cannot be had any more: {error}. Begin anew with \
                             --fresh"
                    ),
                )
            })?;
        }
        Pinned::of(&table, what).map(Some)
    }

    fn of(table: &DeltaTable, what: String) -> Result<Pinned, ConnectorError> {
        let state = table.snapshot().map_err(|error| refused(&what, error.to_string()))?;
        let mapped = state.metadata().configuration().get("delta.columnMapping.mode");
        if mapped.is_some_and(|mode| mode != "none") {
            let message = "its columns have other names in its files (column mapping), which is not understood here";
            return Err(refused(&what, message));
        }
        let mut files = vec![];
        for file in state.log_data().iter() {
            let path = file.object_store_path();
            if file.deletion_vector_descriptor().is_some() {
                let message = format!(
                    "rows of its file {path} are marked as deleted (deletion vectors), which is not understood here: \
                     rewrite the table without them"
                );
                return Err(refused(&what, message));
            }
            let statistics = file.stats().and_then(|text| serde_json::from_str::<Value>(&text).ok());
            files.push(DataFile {
                modified: file.modification_time(),
                rows: file.num_records().and_then(|rows| rows.try_into().ok()),
                size: file.size().try_into().unwrap_or(0),
                constants: file.partition_values_map(),
                least: statistics.map_or(Value::Null, |mut statistics| statistics["minValues"].take()),
                path,
            });
        }
        let columns = state.snapshot().arrow_schema().fields().iter().map(|field| field.name().clone()).collect();
        Ok(Pinned {
            id: state.metadata().id().to_owned(),
            version: state.version(),
            files,
            store: table.object_store(),
            columns,
            what,
        })
    }

    /// Whether this version has every column of `schema`.
    ///
    /// # Errors
    /// When it has not: the first one that is missing.
    pub(super) fn must_have(&self, schema: &SchemaRef) -> Result<(), ConnectorError> {
        let Some(missing) = schema.fields().iter().find(|field| !self.columns.contains(field.name())) else {
            return Ok(());
        };
        let names: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let hint = match closest(missing.name(), names.iter().copied()) {
            Some(name) => format!("did you mean '{name}'?"),
            None => format!("it has {}", names.join(", ")),
        };
        Err(refused(&self.what, format!("has no column '{}' at version {}: {hint}", missing.name(), self.version)))
    }

    /// The rows of file number `file` from row `first` on, at most `batch_size` at a time and never of two row groups.
    pub(super) fn read(self: &Arc<Pinned>, file: usize, schema: &SchemaRef, batch_size: usize, first: u64) -> Batches {
        let (table, schema) = (Arc::clone(self), Arc::clone(schema));
        stream::once(async move {
            let path = &table.files[file].path;
            let failed = |error: ParquetError| unreadable(&table.what, path, &error);
            let size = table.files[file].size;
            let reader = StoredFile { store: Arc::clone(&table.store), path: path.clone(), size };
            let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
            let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await.map_err(failed)?;
            let there = builder.schema().clone();
            let roots = schema.fields().iter().filter_map(|field| there.index_of(field.name()).ok());
            let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
            let builder = builder.with_projection(mask).with_batch_size(batch_size);
            let builder = builder.with_offset(usize::try_from(first).unwrap_or(usize::MAX));
            let batches = builder.build().map_err(failed)?;
            Ok::<_, ConnectorError>(batches.map(move |batch| {
                let file = &table.files[file];
                let batch = batch.map_err(|error| unreadable(&table.what, &file.path, &error))?;
                file.declared(&batch, &schema).map_err(|message| refused(&table.what, message))
            }))
        })
        .try_flatten()
        .boxed()
    }
}

impl DataFile {
    /// The columns in the order and the types that are wanted. A file that was written before a column was there has
    /// nulls in it.
    fn declared(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let column = |field: &Arc<Field>| -> Result<ArrayRef, String> {
            let name = field.name();
            let there = match (batch.column_by_name(name), self.constants.get(name)) {
                (Some(column), _) => Arc::clone(column),
                (None, Some(Some(value))) => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, batch.num_rows())))
                }
                (None, _) => new_null_array(field.data_type(), batch.num_rows()),
            };
            if there.null_count() > 0 && !field.is_nullable() {
                return Err(format!(
                    "column '{name}' holds nulls in {} but is declared NOT NULL: remove NOT NULL",
                    self.path
                ));
            }
            cast_with_options(&there, field.data_type(), &strict).map_err(|error| {
                format!(
                    "column '{name}' is of type {} in {} and does not fit the declared {}: {error}",
                    there.data_type(),
                    self.path,
                    field.data_type()
                )
            })
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(|error| format!("{} does not fit the table's columns: {error}", self.path))
    }
}

/// A Parquet file in a store, as the reader of such files asks for it.
struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { self.store.get_range(&self.path, range).await.map_err(from_store) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(from_store) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let size = self.size;
        let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
        async move { Ok(Arc::new(reader.load_and_finish(self, size).await?)) }.boxed()
    }
}

fn from_store(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// A file that the log names and that is not as it should be.
fn unreadable(what: &str, path: &Path, error: &ParquetError) -> ConnectorError {
    let missing = error.to_string().contains("not found");
    let advice = match missing {
        true => "; if it was vacuumed meanwhile, start again: the newest version has what it held",
        false => "",
    };
    refused(what, format!("its file {path} cannot be read: {error}{advice}"))
}

/// Refuses with the table in front.
pub(super) fn refused(what: &str, message: impl Into<String>) -> ConnectorError {
    ConnectorError::Refused { what: what.to_owned(), message: message.into() }
}
