//! Holds destinations against the epochs: reads each back and compares what is found with the log's tally.
//!
//! A tally is a count and a sum of row hashes ([`Tally`]), so a single row that is lost, there twice or changed shows.
//! What cannot be proved is said: where rows replace one another, where they are delivered at least once, where nothing
//! can be read back. Rows that others have written into the same place count as surplus.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::DataFusionError;
use tokio_util::sync::CancellationToken;

use super::graph::{Graph, NodeKind, SinkNode, SourceNode};
use super::reader::{Reader, Split};
use crate::catalog::{ColumnKind, MetadataKey, TableSettings};
use crate::checkpoint::ledger::Tally;
use crate::connectors::delivery::Delivery;
use crate::connectors::{ConnectorError, Decoding, SinkMode, SourceContext, SourceEvent, SourceFactory};
use crate::program::{Program, Table};
use crate::time::EventTime;

/// How many records are read at a time.
const BATCH_SIZE: usize = 8192;

/// What an audit needs beside the program.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The pipeline's name.
    pub pipeline: String,
    /// Where embedded parts keep their files.
    pub data_dir: PathBuf,
    /// Cancelled to give up.
    pub stop: CancellationToken,
}

/// What was found about a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The sink's node.
    pub sink: String,
    /// Rows that the epochs say it must have, if they say.
    pub expected: Option<u64>,
    /// Rows that are there, if they were counted.
    pub found: Option<u64>,
    /// What follows.
    pub verdict: Verdict,
}

/// What follows from the rows of a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All rows are there, each once, as they were written.
    Whole,
    /// So many too few. Others may be changed besides.
    Missing(u64),
    /// So many too many: there twice, or somebody else's.
    Surplus(u64),
    /// As many as there must be, but not the same ones.
    Changed,
    /// So many cannot be read as rows of the table; with the first one's trouble.
    Unreadable(u64, String),
    /// Nothing can be proved, and why.
    Unprovable(String),
    /// It could not be read, and why.
    Failed(String),
}

impl Verdict {
    /// Whether the destination is known to be wrong.
    pub fn is_wrong(&self) -> bool {
        !matches!(self, Verdict::Whole | Verdict::Unprovable(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = |rows: u64| if rows == 1 { "1 row is".to_owned() } else { format!("{rows} rows are") };
        match self {
            Verdict::Whole => f.write_str("complete, no row twice"),
            Verdict::Missing(count) => write!(f, "{} missing", rows(*count)),
            Verdict::Surplus(count) => {
                write!(f, "{} too many: there twice, or not written by this pipeline", rows(*count))
            }
            Verdict::Changed => f.write_str(
                "as many rows as there must be, but not the same ones: some are changed, or \
                                            as many are missing as are too many",
            ),
            Verdict::Unreadable(count, why) => write!(f, "{} not readable as the table's: {why}", rows(*count)),
            Verdict::Unprovable(why) => write!(f, "cannot be proved: {why}"),
            Verdict::Failed(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

/// Audits every sink of a graph. `expected` are the tallies of the newest checkpoint, by the sink's node name.
pub async fn audit(
    program: &Program,
    graph: &Graph,
    expected: &BTreeMap<String, Tally>,
    options: &AuditOptions,
) -> Vec<Finding> {
    let mut findings = vec![];
    for node in &graph.nodes {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        let table = program.tables.iter().find(|table| table.definition.name == sink.table);
        let expected = expected.get(&node.name).copied();
        let (found, verdict) = examine(table, sink, expected, options).await;
        findings.push(Finding { sink: node.name.clone(), expected: expected.map(|tally| tally.rows), found, verdict });
    }
    findings
}

async fn examine(
    table: Option<&Table>,
    sink: &SinkNode,
    expected: Option<Tally>,
    options: &AuditOptions,
) -> (Option<u64>, Verdict) {
    let (table, source) = match provable(table, sink) {
        Ok(provable) => provable,
        Err(why) => return (None, Verdict::Unprovable(why.into())),
    };
    let Some(expected) = expected else {
        return (None, Verdict::Unprovable("no checkpoint has counted its rows".into()));
    };
    match read_back(table, sink, source, options).await {
        Ok(found) => (Some(found.tally.rows), judge(expected, found)),
        Err(ConnectorError::Mismatch { message, .. }) => (None, Verdict::Unprovable(message)),
        Err(error) => (None, Verdict::Failed(error.to_string())),
    }
}

/// How to read a sink back, or why nothing could be proved by that.
fn provable<'a>(
    table: Option<&'a Table>,
    sink: &SinkNode,
) -> Result<(&'a Table, Arc<dyn SourceFactory>), &'static str> {
    if let SinkMode::Upsert(_) = sink.factory.mode() {
        return Err("its rows replace one another, so the epochs do not say which ones are there");
    }
    if sink.factory.delivery() == Delivery::AtOnce {
        return Err("its rows are delivered at least once, so some may rightly be there twice");
    }
    let table = table.ok_or("what was printed cannot be read back")?;
    Ok((table, table.connector.read_back().ok_or("its connector cannot read it back")?))
}

fn judge(expected: Tally, found: Found) -> Verdict {
    let rows = found.tally.rows;
    if let Some(why) = found.unreadable_because {
        return Verdict::Unreadable(found.unreadable, why);
    }
    match rows.cmp(&expected.rows) {
        std::cmp::Ordering::Less => Verdict::Missing(expected.rows - rows),
        std::cmp::Ordering::Greater => Verdict::Surplus(rows - expected.rows),
        std::cmp::Ordering::Equal if found.tally == expected => Verdict::Whole,
        std::cmp::Ordering::Equal => Verdict::Changed,
    }
}

/// The findings as a table, a sink a line.
pub fn render(findings: &[Finding]) -> String {
    let number = |rows: Option<u64>| rows.map_or("-".to_owned(), |rows| rows.to_string());
    let mut lines = vec![["sink", "expected", "found", "verdict"].map(str::to_owned)];
    lines.extend(findings.iter().map(|finding| {
        [finding.sink.clone(), number(finding.expected), number(finding.found), finding.verdict.to_string()]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let show = |[sink, expected, found, verdict]: &[String; 4]| {
        format!("{sink:<a$}  {expected:>b$}  {found:>c$}  {verdict}\n", a = widths[0], b = widths[1], c = widths[2])
    };
    lines.iter().map(show).collect()
}

/// What a destination holds.
#[derive(Default)]
struct Found {
    tally: Tally,
    unreadable: u64,
    unreadable_because: Option<String>,
}

/// Reads all that is there now, in the sink's columns.
async fn read_back(
    table: &Table,
    sink: &SinkNode,
    factory: Arc<dyn SourceFactory>,
    options: &AuditOptions,
) -> Result<Found, ConnectorError> {
    let refused =
        |error: DataFusionError| ConnectorError::Refused { what: factory.describe(), message: error.strip_backtrace() };
    let node = source_node(table, Arc::clone(&factory));
    let mut source = factory.open(context(table, &node, options)).await?;
    let decoder = match factory.decoding() {
        Decoding::Rows => None,
        Decoding::Format(format) => Some(format.decoder(Arc::clone(&node.physical))?),
    };
    let mut reader = Reader::new(&node, decoder, None, true);
    let mut splits: Vec<Split> = vec![];
    let mut found = Found::default();
    loop {
        let read = match source.next().await? {
            SourceEvent::Split(index, name) => {
                let split = Split { name: name.into(), watermark: EventTime::MIN, position: None };
                splits.resize(splits.len().max(index.0 as usize + 1), split.clone());
                splits[index.0 as usize] = split;
                continue;
            }
            SourceEvent::Records(records) => reader.records(&records, &mut splits).map_err(refused)?,
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
        let rows = as_written(&read.batch, &sink.schema).map_err(refused)?;
        found.tally.add(&rows).map_err(|error| refused(error.into()))?;
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
        physical: table.definition.physical_schema(),
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

#[cfg(test)]
mod tests;
