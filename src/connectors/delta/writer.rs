//! Rows on their way into data files: encoded as Parquet in memory as they come, one open file for each partition.
//!
//! A file is finished when it is large enough, when too many are open or they take too much memory, and when a commit is
//! due. Finished files wait to be put into the store; only the commit makes them part of the table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use deltalake_core::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::partitions::{Partitions, Values};
use super::stats::stats;
use crate::connectors::ConnectorError;

/// More files than this are not open at a time: each has buffers for every column.
const MOST_OPEN: usize = 256;

/// Rows and bytes of a row group, at most.
const GROUP_ROWS: usize = 1 << 20;
const GROUP_BYTES: usize = 128 << 20;

/// Rows that are becoming files.
pub(super) struct Files {
    what: String,
    /// The table's columns as they are stored.
    schema: SchemaRef,
    /// Those in the files.
    file_schema: SchemaRef,
    partitions: Partitions,
    properties: WriterProperties,
    target: u64,
    /// Bytes of memory that open files may take.
    memory: u64,
    open: HashMap<Values, ArrowWriter<Vec<u8>>>,
    finished: Vec<DataFile>,
    /// Rows since the last [`Files::take`], and bytes in files that are finished.
    rows: u64,
    finished_bytes: u64,
}

/// A finished file: its bytes, and what the log says of it.
#[derive(Clone)]
pub(super) struct DataFile {
    pub(super) bytes: Bytes,
    pub(super) add: Add,
}

impl Files {
    /// For a table with these stored columns. `memory` is about what open files may take.
    ///
    /// # Errors
    /// What Parquet cannot hold.
    pub(super) fn new(
        what: String,
        schema: SchemaRef,
        partition_by: &[String],
        target: u64,
        memory: u64,
    ) -> Result<Files, ConnectorError> {
        let refused = |error: ArrowError| ConnectorError::Refused { what: what.clone(), message: error.to_string() };
        let partitions = Partitions::new(partition_by, &schema).map_err(refused)?;
        let file_schema = partitions.file_schema(&schema).map_err(refused)?;
        let files = Files {
            what,
            schema,
            file_schema,
            partitions,
            properties: properties(),
            target,
            memory,
            open: HashMap::new(),
            finished: vec![],
            rows: 0,
            finished_bytes: 0,
        };
        // A schema that Parquet cannot hold is better known now than at the first row.
        files.begin()?;
        Ok(files)
    }

    /// Rows that are in no commit yet.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// About how many bytes they are as Parquet.
    pub(super) fn bytes(&self) -> u64 {
        self.finished_bytes + self.open.values().map(size).sum::<u64>()
    }

    fn begin(&self) -> Result<ArrowWriter<Vec<u8>>, ConnectorError> {
        let options = ArrowWriterOptions::new().with_properties(self.properties.clone()).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(vec![], Arc::clone(&self.file_schema), options);
        writer.map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &dyn std::fmt::Display) -> ConnectorError {
        ConnectorError::Refused { what: self.what.clone(), message: error.to_string() }
    }

    /// Takes rows in.
    ///
    /// # Errors
    /// A value that the table cannot hold.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ConnectorError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let stored = self.stored(batch)?;
        let parts = self.partitions.divide(&stored).map_err(|error| self.refused(&error))?;
        for part in parts {
            let mut writer = match self.open.remove(&part.values) {
                Some(writer) => writer,
                None => self.begin()?,
            };
            writer.write(&part.rows).map_err(|error| self.refused(&error))?;
            if size(&writer) >= self.target {
                self.finish(part.values, writer)?;
            } else {
                self.open.insert(part.values, writer);
            }
        }
        self.rows += batch.num_rows() as u64;
        let memory: usize = self.open.values().map(|writer| writer.memory_size() + writer.bytes_written()).sum();
        if self.open.len() > MOST_OPEN || memory as u64 > self.memory {
            self.finish_all()?;
        }
        Ok(())
    }

    /// A batch with the types that are stored.
    fn stored(&self, batch: &RecordBatch) -> Result<RecordBatch, ConnectorError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = self.schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
            let cast = cast_with_options(column, field.data_type(), &strict);
            cast.map_err(|error| self.refused(&format!("column '{}' cannot hold a value: {error}", field.name())))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for (field, column) in self.schema.fields().iter().zip(&columns) {
            if !field.is_nullable() && column.null_count() > 0 {
                let message = format!(
                    "column '{}' is NOT NULL and a row has no value there: let it be null, or leave such rows out with \
                     WHERE {0} IS NOT NULL",
                    field.name()
                );
                return Err(self.refused(&message));
            }
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| self.refused(&error))
    }

    fn finish(&mut self, values: Values, mut writer: ArrowWriter<Vec<u8>>) -> Result<(), ConnectorError> {
        let failed = |error: ParquetError| ConnectorError::Refused {
            what: self.what.clone(),
            message: format!("a file cannot be finished: {error}"),
        };
        let metadata = writer.finish().map_err(failed)?;
        let bytes = Bytes::from(std::mem::take(writer.inner_mut()));
        let add = Add {
            path: format!("{}part-{:032x}.zstd.parquet", self.partitions.folder(&values), rand::random::<u128>()),
            partition_values: self.partitions.names().iter().cloned().zip(values).collect(),
            size: bytes.len() as i64,
            modification_time: chrono::Utc::now().timestamp_millis(),
            data_change: true,
            stats: Some(stats(&metadata)),
            ..Add::default()
        };
        self.finished_bytes += bytes.len() as u64;
        self.finished.push(DataFile { bytes, add });
        Ok(())
    }

    fn finish_all(&mut self) -> Result<(), ConnectorError> {
        for (values, writer) in std::mem::take(&mut self.open) {
            self.finish(values, writer)?;
        }
        Ok(())
    }

    /// The files that are finished and wait to be put into the store.
    pub(super) fn waiting(&mut self) -> Vec<DataFile> {
        std::mem::take(&mut self.finished)
    }

    /// Finishes all files and gives those that wait; what comes now belongs to the next commit.
    ///
    /// # Errors
    /// When a file cannot be finished.
    pub(super) fn take(&mut self) -> Result<Vec<DataFile>, ConnectorError> {
        self.finish_all()?;
        (self.rows, self.finished_bytes) = (0, 0);
        Ok(self.waiting())
    }
}

/// How data files are written.
pub(super) fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_max_row_group_bytes(Some(GROUP_BYTES))
        .build()
}

/// About how large a file will be.
fn size(writer: &ArrowWriter<Vec<u8>>) -> u64 {
    (writer.bytes_written() + writer.in_progress_size()) as u64
}
