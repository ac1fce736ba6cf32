//! Tables of a program with their connectors replaced.

use std::sync::Arc;

use super::sink::{Collected, collector};
use super::source::{LinesFactory, Partition};
use crate::connectors::{ConnectorTable, SinkFactory, SourceFactory};
use crate::program::Table;

/// Reads a case's input, keeps its output. The planner sees what it would see of the real connector: whether the
/// table can be read and written, whether it ends, and whether rows replace each other.
struct CaseTable {
    source: Option<Arc<dyn SourceFactory>>,
    sink: Option<Arc<dyn SinkFactory>>,
}

impl ConnectorTable for CaseTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        self.source.clone()
    }

    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        self.sink.clone()
    }
}

/// The table with its connector replaced, and what will be written to it, if it can be written.
pub fn replace(table: &Table, partitions: &[Partition], seed: u64) -> (Table, Option<Arc<Collected>>) {
    let source = table.connector.source().map(|real| -> Arc<dyn SourceFactory> {
        Arc::new(LinesFactory {
            table: table.definition.name.clone(),
            partitions: partitions.to_vec(),
            seed,
            boundedness: real.boundedness(),
        })
    });
    let (sink, collected) = table.connector.sink().map(|real| collector(real.mode())).unzip();
    let connector = Arc::new(CaseTable { source, sink });
    (Table { connector, ..table.clone() }, collected)
}
