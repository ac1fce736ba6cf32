//! Rows out of a Parquet file: only the columns asked for, cast to the types that the table declares.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{ConnectorError, io_error, refused};
use crate::catalog::options::closest;

/// Reads one Parquet file.
pub(super) struct ParquetReader {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    next_row: i64,
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, ConnectorError> {
    let file = File::open(path).map_err(|error| io_error(path, "read", &error))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| refused(path, format!("is not a Parquet file that can be read: {error}")))
}

impl ParquetReader {
    /// How many rows the file has.
    ///
    /// # Errors
    /// When it cannot be read, or is no Parquet file.
    pub(super) fn rows(path: &Path) -> Result<i64, ConnectorError> {
        Ok(builder(path)?.metadata().file_metadata().num_rows())
    }

    /// Opens the file and goes to row `first`, counted from 0.
    ///
    /// # Errors
    /// When it cannot be read, is no Parquet file, or has no column of a name that `schema` asks for.
    pub(super) fn open(
        path: &Path,
        schema: SchemaRef,
        batch_size: usize,
        first: i64,
    ) -> Result<ParquetReader, ConnectorError> {
        let builder = builder(path)?;
        let there = builder.schema().clone();
        let mut columns = vec![];
        for field in schema.fields() {
            let column = there.index_of(field.name()).map_err(|_| {
                let names: Vec<&str> = there.fields().iter().map(|field| field.name().as_str()).collect();
                let hint = match closest(field.name(), names.iter().copied()) {
                    Some(name) => format!("; did you mean '{name}'?"),
                    None => format!("; it has {}", names.join(", ")),
                };
                refused(path, format!("has no column '{}'{hint}", field.name()))
            })?;
            columns.push(column);
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        let reader = builder
            .with_projection(mask)
            .with_batch_size(batch_size)
            .with_offset(usize::try_from(first).unwrap_or(0))
            .build()
            .map_err(|error| refused(path, format!("cannot be read: {error}")))?;
        Ok(ParquetReader { path: path.to_owned(), reader, schema, next_row: first.max(0) })
    }

    /// The next rows, with the number of each; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(RecordBatch, Vec<i64>)>, ConnectorError> {
        let Some(batch) = self.reader.next() else { return Ok(None) };
        let batch = batch.map_err(|error| refused(&self.path, format!("cannot be read: {error}")))?;
        let rows = batch.num_rows() as i64;
        let offsets = (self.next_row..self.next_row + rows).collect();
        let batch = self.declared(&batch)?;
        self.next_row += rows;
        Ok(Some((batch, offsets)))
    }

    /// The columns in the order and the types that were asked for.
    fn declared(&self, batch: &RecordBatch) -> Result<RecordBatch, ConnectorError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns: Result<Vec<ArrayRef>, ConnectorError> = self
            .schema
            .fields()
            .iter()
            .map(|field| {
                let there = batch
                    .column_by_name(field.name())
                    .ok_or_else(|| refused(&self.path, format!("has lost column '{}'", field.name())))?;
                if there.null_count() > 0 && !field.is_nullable() {
                    return Err(refused(
                        &self.path,
                        format!("column '{}' holds nulls but is declared NOT NULL: remove NOT NULL", field.name()),
                    ));
                }
                cast_with_options(there, field.data_type(), &strict).map_err(|error| {
                    refused(
                        &self.path,
                        format!(
                            "column '{}' is of type {} and does not fit the declared {}: {error}",
                            field.name(),
                            there.data_type(),
                            field.data_type()
                        ),
                    )
                })
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns?, &options)
            .map_err(|error| refused(&self.path, format!("does not fit the table's columns: {error}")))
    }
}
