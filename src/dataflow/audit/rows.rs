//! Reading a destination back, in the form in which its sink got the rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;

use super::AuditOptions;
use crate::catalog::{ColumnKind, MetadataKey, TableSettings};
use crate::checkpoint::ledger::Tally;
use crate::connectors::{ConnectorError, DEAD_LETTERS, Decoding, SourceContext, SourceEvent, SourceFactory};
use crate::dataflow::graph::{SinkNode, SourceNode};
use crate::dataflow::reader::{Reader, Split};
use crate::program::Table;
use crate::time::EventTime;

/// How many records are read at a time.
const BATCH_SIZE: usize = 8192;

/// How long a server may be silent: a source would wait for it for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a destination holds.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Rows {
    /// Its rows, and those that it has refused and keeps apart.
    pub(super) tally: Tally,
    /// How many of them it has refused.
    pub(super) dead_letters: u64,
    /// How many more cannot be read.
    pub(super) unreadable: u64,
    /// The first one's trouble.
    pub(super) unreadable_because: Option<String>,
    /// It may have left some out, and nobody knows how many.
    pub(super) some_left_out: bool,
    /// Why the same rows may look changed, if they may.
    pub(super) unlike: Option<String>,
}

/// Reads all that is there now, in the sink's columns.
pub(super) async fn read(
    table: &Table,
    sink: &SinkNode,
    factory: Arc<dyn SourceFactory>,
    options: &AuditOptions,
) -> Result<Rows, ConnectorError> {
    let refused =
        |error: DataFusionError| ConnectorError::Refused { what: factory.describe(), message: error.strip_backtrace() };
    let node = source_node(table, Arc::clone(&factory));
    let mut source = factory.open(context(table, &node, options)).await?;
    let decoder = match factory.decoding() {
        Decoding::Rows => None,
        Decoding::Format(format) => Some(format.decoder(Arc::clone(&node.physical))?),
    };
    let mut reader = Reader::new(&node, decoder, None, true);
    let schema = nullable(&sink.schema);
    let mut splits: Vec<Split> = vec![];
    let mut found = Rows { some_left_out: sink.factory.leaves_rows_out(), unlike: unlike(&node), ..Rows::default() };
    loop {
        let Ok(event) = tokio::time::timeout(PATIENCE, source.next()).await else {
            let message = format!("nothing has come from it for {} s", PATIENCE.as_secs());
            return Err(ConnectorError::Unavailable { what: factory.describe(), message });
        };
        let read = match event? {
            SourceEvent::Split(index, name) => {
                let split = Split { name: name.into(), watermark: EventTime::MIN, position: None };
                splits.resize(splits.len().max(index.0 as usize + 1), split.clone());
                splits[index.0 as usize] = split;
                continue;
            }
            SourceEvent::Records(records) => {
                let dead = records.runs.iter().filter(|run| &*splits[run.split.0 as usize].name == DEAD_LETTERS);
                found.dead_letters += dead.map(|run| run.rows as u64).sum::<u64>();
                reader.records(&records, &mut splits).map_err(refused)?
            }
            SourceEvent::Rows(batch, runs, offsets) => {
                reader.rows(batch, &runs, &offsets, &mut splits).map_err(refused)?
            }
            SourceEvent::CaughtUp(_) | SourceEvent::SplitEnd(_) => continue,
            SourceEvent::End => return Ok(found),
        };
        found.unreadable += read.bad.len() as u64;
        if let Some(first) = read.bad.into_iter().next() {
            found.unreadable_because.get_or_insert(first.message);
        }
        let rows = as_written(&read.batch, &schema).map_err(refused)?;
        found.tally.add(&rows).map_err(|error| refused(error.into()))?;
    }
}

fn unlike(node: &SourceNode) -> Option<String> {
    let (_, column) = node.metadata.iter().find(|(key, _)| *key == MetadataKey::Timestamp)?;
    Some(format!(
        "all rows are there, but not just as they were written: Kafka keeps milliseconds of {}, and sets it where it \
         is null",
        column.name()
    ))
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

fn context(table: &Table, node: &SourceNode, options: &AuditOptions) -> SourceContext {
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
        accept_lost_input: true,
        data_dir: options.data_dir.clone(),
        stop: options.stop.clone(),
    }
}

/// A NaN in a column that is NOT NULL may come back as null; and a value that somebody has set to null is a changed one.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns in the sink's order, with the sink's types.
fn as_written(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataFusionError> {
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
