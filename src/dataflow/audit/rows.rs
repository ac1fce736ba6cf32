//! Reading a destination back, in the form in which its sink got the rows.

use std::sync::Arc;

use datafusion::common::DataFusionError;

use super::AuditOptions;
use crate::catalog::MetadataKey;
use crate::checkpoint::ledger::Tally;
use crate::connectors::{ConnectorError, SourceFactory};
use crate::dataflow::graph::{SinkNode, SourceNode};
use crate::dataflow::read_back::{ReadBack, as_written, nullable};
use crate::program::Table;

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
    let mut back = ReadBack::open(table, Arc::clone(&factory), options).await?;
    let schema = nullable(&sink.schema);
    let mut found =
        Rows { some_left_out: sink.factory.leaves_rows_out(), unlike: unlike(back.node()), ..Rows::default() };
    while let Some(piece) = back.next().await? {
        found.dead_letters += piece.dead_letters;
        found.unreadable += piece.read.bad.len() as u64;
        if let Some(first) = piece.read.bad.into_iter().next() {
            found.unreadable_because.get_or_insert(first.message);
        }
        let rows = as_written(&piece.read.batch, &schema).map_err(refused)?;
        found.tally.add(&rows).map_err(|error| refused(error.into()))?;
    }
    Ok(found)
}

fn unlike(node: &SourceNode) -> Option<String> {
    let (_, column) = node.metadata.iter().find(|(key, _)| *key == MetadataKey::Timestamp)?;
    Some(format!(
        "all rows are there, but not just as they were written: Kafka keeps milliseconds of {}, and sets it where it \
         is null",
        column.name()
    ))
}
