//! A task that writes: one sink behind a gate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::gate::{Gate, GateEvent};
use super::report::{Reporter, TaskSnapshot};
use super::statistics::NodeStatistics;
use crate::connectors::delivery::OpenSink;
use crate::connectors::{ConnectorError, Sink, SinkContext, SinkFactory};

/// What a sink's task needs.
pub struct SinkTask {
    /// The node's name.
    pub name: String,
    /// Opens the sink.
    pub factory: Arc<dyn SinkFactory>,
    /// What it is told.
    pub context: SinkContext,
    /// How long rows may wait before they are flushed.
    pub linger: Duration,
    /// The node's figures.
    pub statistics: Arc<NodeStatistics>,
    /// The line to the coordinator.
    pub reporter: Reporter,
    /// Cancelled to stop in order.
    pub drain: CancellationToken,
}

impl SinkTask {
    /// Writes what comes through `gate` until all senders have ended; then flushes and closes.
    ///
    /// # Errors
    /// What the sink says, or that a row does not fit its columns.
    pub async fn run(self, mut gate: Gate) -> Result<(), RunError> {
        let failed = |source: ConnectorError| RunError::Connector { node: self.name.clone(), source };
        let Some((mut sink, first)) = self.open(&mut gate).await? else { return Ok(()) };
        // When the oldest row that is not flushed has waited long enough.
        let mut flush_at: Option<Instant> = None;
        if let Some(batch) = first {
            self.write(sink.as_mut(), batch).await?;
            flush_at = Some(Instant::now() + self.linger);
        }
        loop {
            let event = tokio::select! {
                biased;
                // First, so that a steady stream does not put it off.
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => None,
                // A call that waits for its server watches the same token, so none is cut off in the middle.
                () = self.context.stop.cancelled() => return Ok(()),
                event = gate.next() => Some(event),
            };
            match event {
                Some(GateEvent::Batch(_, batch)) => {
                    self.write(sink.as_mut(), batch).await?;
                    flush_at.get_or_insert_with(|| Instant::now() + self.linger);
                }
                Some(GateEvent::Watermark(watermark)) => self.statistics.set_watermark(watermark),
                Some(GateEvent::Barrier(epoch)) => {
                    sink.flush().await.map_err(failed)?;
                    flush_at = None;
                    self.reporter.passed(epoch, TaskSnapshot::default());
                }
                Some(GateEvent::End) => {
                    sink.flush().await.map_err(failed)?;
                    sink.close().await.map_err(failed)?;
                    self.reporter.ended(TaskSnapshot::default());
                    return Ok(());
                }
                None => {
                    sink.flush().await.map_err(failed)?;
                    flush_at = None;
                }
            }
        }
    }

    /// Opens the sink, and gives it with the first rows if they came meanwhile. Until rows come, a server that is
    /// away holds up neither epochs nor a stop in order: `None` if that came before there was anything to write.
    async fn open(&self, gate: &mut Gate) -> Result<Option<(Box<dyn Sink>, Option<RecordBatch>)>, RunError> {
        let failed = |source: ConnectorError| RunError::Connector { node: self.name.clone(), source };
        let mut opening = self.factory.open(self.context.clone());
        loop {
            let event = tokio::select! {
                biased;
                sink = &mut opening => return Ok(Some((self.at_once(sink)?, None))),
                event = gate.next() => event,
            };
            match event {
                GateEvent::Batch(_, batch) => return Ok(Some((self.at_once(opening.await)?, Some(batch)))),
                GateEvent::Watermark(watermark) => self.statistics.set_watermark(watermark),
                GateEvent::Barrier(epoch) => self.reporter.passed(epoch, TaskSnapshot::default()),
                GateEvent::End => {
                    // Without a stop the sink is opened all the same: a table that gets no rows is made, too.
                    tokio::select! {
                        biased;
                        () = self.drain.cancelled() => {}
                        sink = opening => {
                            let mut sink = self.at_once(sink)?;
                            sink.flush().await.map_err(failed)?;
                            sink.close().await.map_err(failed)?;
                        }
                    }
                    self.reporter.ended(TaskSnapshot::default());
                    return Ok(None);
                }
            }
        }
    }

    fn at_once(&self, opened: Result<OpenSink, ConnectorError>) -> Result<Box<dyn Sink>, RunError> {
        let sink = opened.map_err(|source| RunError::Connector { node: self.name.clone(), source })?;
        sink.at_once()
            .ok_or_else(|| RunError::Panic { node: self.name.clone(), message: "a sink of the wrong kind".into() })
    }

    async fn write(&self, sink: &mut dyn Sink, batch: RecordBatch) -> Result<(), RunError> {
        let rows = batch.num_rows() as u64;
        self.statistics.rows_in.fetch_add(rows, Ordering::Relaxed);
        let batch = fit(batch, &self.context.schema)
            .map_err(|source| RunError::Operator { node: self.name.clone(), source })?;
        sink.write(batch).await.map_err(|source| RunError::Connector { node: self.name.clone(), source })?;
        self.statistics.rows_out.fetch_add(rows, Ordering::Relaxed);
        Ok(())
    }
}

/// The batch under the table's own names and nullability.
fn fit(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataFusionError> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if !field.is_nullable() && column.logical_null_count() > 0 {
            return Err(DataFusionError::Execution(format!(
                "column {} is NOT NULL, but a row has no value for it; leave such rows out with WHERE, or declare the \
                 column without NOT NULL",
                field.name()
            )));
        }
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn a_null_in_a_not_null_column_is_an_error_that_names_it() {
        let schema = Arc::new(Schema::new(vec![Field::new("total", DataType::Int64, false)]));
        let batch = |values: Vec<Option<i64>>| {
            let column: ArrayRef = Arc::new(Int64Array::from(values));
            RecordBatch::try_from_iter_with_nullable([("sum(x)", column, true)]).unwrap()
        };
        assert_eq!(fit(batch(vec![Some(1)]), &schema).unwrap().schema(), schema);
        let message = fit(batch(vec![Some(1), None]), &schema).unwrap_err().strip_backtrace();
        assert!(message.contains("column total is NOT NULL, but a row has no value for it"), "{message}");
    }
}
