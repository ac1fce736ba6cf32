//! Takes every row and keeps none: for measuring what stands before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::{Connector, ConnectorError, ConnectorTable, Sink, SinkContext, SinkFactory, SinkMode};
use crate::catalog::TableDefinition;
use crate::catalog::options::Options;
use crate::connectors::delivery::OpenSink;

/// The connector `blackhole`, which has no options.
pub struct BlackholeConnector;

/// A table that swallows rows, and how many it has swallowed.
#[derive(Clone, Default, Debug)]
pub struct Blackhole {
    key: Vec<String>,
    rows: Arc<AtomicU64>,
}

impl Blackhole {
    /// Rows swallowed so far by all sinks opened from this table.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

impl Connector for BlackholeConnector {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn table(&self, table: &TableDefinition, _options: &mut Options) -> Arc<dyn ConnectorTable> {
        Arc::new(Blackhole { key: table.primary_key.clone(), rows: Arc::default() })
    }
}

impl ConnectorTable for Blackhole {
    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl SinkFactory for Blackhole {
    fn mode(&self) -> SinkMode {
        if self.key.is_empty() { SinkMode::Append } else { SinkMode::Upsert(self.key.clone()) }
    }

    fn describe(&self) -> String {
        "blackhole".into()
    }

    async fn open(&self, _context: SinkContext) -> Result<OpenSink, ConnectorError> {
        Ok(OpenSink::AtOnce(Box::new(self.clone())))
    }
}

#[async_trait]
impl Sink for Blackhole {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        self.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }
}
