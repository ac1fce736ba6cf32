//! Reads what a destination holds, in the form in which its sink got the rows: for audits, and for those who ask what is
//! there now.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use tokio_util::sync::CancellationToken;

use super::graph::SourceNode;
use super::reader::{ReadRows, Reader, Split};
use crate::catalog::{ColumnKind, MetadataKey, TableSettings};
use crate::connectors::{ConnectorError, DEAD_LETTERS, Decoding, Source, SourceContext, SourceEvent, SourceFactory};
use crate::formats::RawRecords;
use crate::program::Table;
use crate::time::EventTime;

/// How many records are read at a time.
const BATCH_SIZE: usize = 8192;

/// How long a server may be silent: a source would wait for it for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// What reading needs beside the program.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The pipeline's name.
    pub pipeline: String,
    /// Where embedded parts keep their files.
    pub data_dir: PathBuf,
    /// Cancelled to give up.
    pub stop: CancellationToken,
}

/// A destination that is being read.
pub struct ReadBack {
    factory: Arc<dyn SourceFactory>,
    node: SourceNode,
    source: Box<dyn Source>,
    reader: Reader,
    splits: Vec<Split>,
    /// Leaves out what the destination has refused and keeps apart.
    only_rows: bool,
}

/// Some of what it holds.
pub struct Piece {
    /// Its rows, and what cannot be read as rows.
    pub read: ReadRows,
    /// How many of the records are those that the destination has refused.
    pub dead_letters: u64,
}

impl ReadBack {
    /// Begins to read what `factory` opens, in the columns of `table`.
    ///
    /// # Errors
    /// As for [`SourceFactory::open`].
    pub async fn open(
        table: &Table,
        factory: Arc<dyn SourceFactory>,
        options: &ReadOptions,
    ) -> Result<ReadBack, ConnectorError> {
        let node = source_node(table, Arc::clone(&factory));
        let source = factory.open(context(table, &node, options)).await?;
        let decoder = match factory.decoding() {
            Decoding::Rows => None,
            Decoding::Format(format) => Some(format.decoder(Arc::clone(&node.physical))?),
        };
        let reader = Reader::new(&node, decoder, None, true);
        Ok(ReadBack { factory, node, source, reader, splits: vec![], only_rows: false })
    }

    /// The same without the rows that the destination has refused.
    pub fn without_dead_letters(self) -> ReadBack {
        ReadBack { only_rows: true, ..self }
    }

    /// What is read.
    pub fn node(&self) -> &SourceNode {
        &self.node
    }

    /// The next rows; `None` when that was all that is there now.
    ///
    /// # Errors
    /// As for [`Source::next`], and when nothing comes for a while.
    pub async fn next(&mut self) -> Result<Option<Piece>, ConnectorError> {
        loop {
            let Ok(event) = tokio::time::timeout(PATIENCE, self.source.next()).await else {
                let message = format!("nothing has come from it for {} s", PATIENCE.as_secs());
                return Err(ConnectorError::Unavailable { what: self.factory.describe(), message });
            };
            return match event? {
                SourceEvent::Split(index, name, _) => {
                    let split = Split { name: name.into(), watermark: EventTime::MIN, position: None, origin: None };
                    self.splits.resize(self.splits.len().max(index.0 as usize + 1), split.clone());
                    self.splits[index.0 as usize] = split;
                    continue;
                }
                SourceEvent::Records(records) => self.records(records).map(Some),
                SourceEvent::Rows(batch, runs, offsets) => {
                    let read = self.reader.rows(batch, &runs, &offsets, &mut self.splits);
                    Ok(Some(Piece { read: read.map_err(|error| self.refused(error))?, dead_letters: 0 }))
                }
                SourceEvent::Origin(..)
                | SourceEvent::Replaced(..)
                | SourceEvent::CaughtUp(_)
                | SourceEvent::SplitEnd(_) => continue,
                SourceEvent::End => Ok(None),
            };
        }
    }

    fn records(&mut self, mut records: RawRecords) -> Result<Piece, ConnectorError> {
        let is_dead = |split: &Split| &*split.name == DEAD_LETTERS;
        let splits = &self.splits;
        let dead = records.runs.iter().filter(|run| is_dead(&splits[run.split.0 as usize]));
        let dead_letters = dead.map(|run| run.rows as u64).sum::<u64>();
        if self.only_rows && dead_letters > 0 {
            let mut kept = RawRecords::default();
            let of_rows = records.runs.iter().flat_map(|run| std::iter::repeat_n(run.split, run.rows));
            for (row, split) in of_rows.enumerate().filter(|(_, split)| !is_dead(&splits[split.0 as usize])) {
                kept.push(split, records.offsets[row], records.value(row));
            }
            records = kept;
        }
        let read = self.reader.records(&records, &mut self.splits).map_err(|error| self.refused(error))?;
        Ok(Piece { read, dead_letters })
    }

    fn refused(&self, error: DataFusionError) -> ConnectorError {
        ConnectorError::Refused { what: self.factory.describe(), message: error.strip_backtrace() }
    }
}

fn source_node(table: &Table, factory: Arc<dyn SourceFactory>) -> SourceNode {
    let metadata = table.definition.columns.iter().filter_map(|column| {
        let ColumnKind::Metadata(key) = column.kind else { return None };
        Some((key, Arc::new(Field::new(&column.name, column.data_type.clone(), column.nullable))))
    });
    SourceNode {
        table: table.definition.name.clone(),
        factory,
        physical: nullable(&table.definition.physical_schema()),
        metadata: metadata.collect(),
        event_time: None,
        settings: TableSettings::default(),
        dead_letters: None,
    }
}

fn context(table: &Table, node: &SourceNode, options: &ReadOptions) -> SourceContext {
    let wants = |key: MetadataKey| node.metadata.iter().any(|(used, _)| *used == key);
    SourceContext {
        table: table.definition.name.clone(),
        pipeline: options.pipeline.clone(),
        instance: 0,
        instances: 1,
        bounded: true,
        schema: Arc::clone(&node.physical),
        wants_keys: wants(MetadataKey::Key),
        wants_timestamps: wants(MetadataKey::Timestamp),
        wants_headers: wants(MetadataKey::Headers),
        batch_size: BATCH_SIZE,
        positions: BTreeMap::new(),
        origin: None,
        split_origins: BTreeMap::new(),
        accept_lost_input: true,
        data_dir: options.data_dir.clone(),
        stop: options.stop.clone(),
    }
}

/// The same columns, and anything may be null: a NaN in a column that is NOT NULL may come back so; and somebody may have
/// set a value to null.
pub fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns in the order and the types of `schema`.
///
/// # Errors
/// When one is not there, or of a type that cannot become the other.
pub fn as_written(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataFusionError> {
    let column = |field: &Arc<Field>| -> Result<ArrayRef, DataFusionError> {
        let found = batch.column_by_name(field.name());
        let found = found.ok_or_else(|| DataFusionError::Internal(format!("no column {}", field.name())))?;
        let same: &DataType = field.data_type();
        Ok(if found.data_type() == same { Arc::clone(found) } else { cast(found, same)? })
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
