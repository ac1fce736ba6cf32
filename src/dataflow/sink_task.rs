//! A task that collects a sink's rows: behind its gate, in front of its [`Outbox`].
//!
//! It never waits for the destination where the run keeps checkpoints: what is not delivered at a barrier goes into the
//! epoch's checkpoint. Without checkpoints a barrier passes when the destination has confirmed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::channel::Barrier;
use super::failing::explained;
use super::gate::{Gate, GateEvent};
use super::graph::NodeId;
use super::live::look::{Look, Trouble};
use super::outbox::{Backlog, Outbox};
use super::report::{Reporter, TaskSnapshot};
use super::statistics::NodeStatistics;
use super::watch;
use crate::checkpoint::log::SinkRows;
use crate::connectors::delivery::Delivery;
use crate::operators::InputIndex;
use crate::time::Epoch;

/// How long a barrier waits for a destination to confirm what was written at once, so that it need not be kept.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a sink's task needs.
pub struct SinkTask {
    /// The node.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// The columns of its rows.
    pub schema: SchemaRef,
    /// Where its rows wait.
    pub outbox: Arc<Outbox>,
    /// Whether the run keeps checkpoints.
    pub kept: bool,
    /// Bytes of an epoch that are enough to end it.
    pub epoch_bytes: u64,
    /// The epoch before its first.
    pub first: Epoch,
    /// The last epoch that has been begun to end; the highest number there is once no other will.
    pub begun: watch::Receiver<Epoch>,
    /// Cancelled when the sink has opened.
    pub opened: CancellationToken,
    /// The node's figures.
    pub statistics: Arc<NodeStatistics>,
    /// The line to the coordinator.
    pub reporter: Reporter,
}

impl SinkTask {
    /// Collects what comes through `gate` until all senders have ended.
    ///
    /// # Errors
    /// That a row does not fit its columns.
    pub async fn run(mut self, mut gate: Gate) -> Result<(), RunError> {
        let mut epoch = self.first;
        loop {
            match gate.next().await {
                GateEvent::Batch(_, batch) => self.take(batch, epoch).await?,
                GateEvent::Watermark(watermark) => self.statistics.set_watermark(watermark),
                GateEvent::Barrier(Barrier { epoch: passed, look, .. }) => {
                    let shown = gate.take_shown();
                    if let Some(look) = look.filter(|look| look.concerns(self.node)) {
                        self.show(&look, shown);
                    }
                    self.let_flush().await;
                    let rows = self.sealed(Some(passed));
                    self.reporter.passed(passed, rows);
                    epoch = passed;
                }
                GateEvent::End => {
                    self.let_flush().await;
                    let rows = self.sealed(None);
                    self.reporter.ended(rows);
                    return Ok(());
                }
            }
        }
    }

    /// What open windows would send is for the look and for nobody else.
    fn show(&self, look: &Look, shown: Vec<(InputIndex, RecordBatch)>) {
        match shown.into_iter().map(|(_, batch)| fit(batch, &self.schema)).collect() {
            Ok(rows) => look.show(self.node, rows),
            Err(error) => {
                look.fails(self.node, Trouble::Failed { node: self.name.clone(), message: explained(&error) });
            }
        }
    }

    async fn take(&mut self, batch: RecordBatch, epoch: Epoch) -> Result<(), RunError> {
        self.statistics.rows_in.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        let batch =
            fit(batch, &self.schema).map_err(|source| RunError::Operator { node: self.name.clone(), source })?;
        let bytes = self.outbox.push(batch) as u64;
        if !self.kept {
            self.outbox.room().await;
        } else if bytes >= self.epoch_bytes {
            self.reporter.full();
            if bytes >= 2 * self.epoch_bytes {
                // While the epoch before is being written, this one cannot end; more rows would only fill the memory.
                self.begun.wait_for(|begun| begun > epoch).await;
            }
        }
        Ok(())
    }

    /// Lets a destination that takes rows at once confirm them.
    async fn let_flush(&self) {
        if self.outbox.delivery() == Delivery::PerEpoch || (self.outbox.is_empty() && !self.opened.is_cancelled()) {
            return;
        }
        let number = self.outbox.ask_flush();
        if self.kept {
            let _ = tokio::time::timeout(PATIENCE, self.outbox.flushed(number)).await;
        } else {
            self.outbox.flushed(number).await;
        }
    }

    fn sealed(&self, epoch: Option<Epoch>) -> TaskSnapshot {
        let batches = self.outbox.seal(epoch);
        let Backlog { epochs, rows, bytes } = self.outbox.backlog();
        self.statistics.delivery.waits(epochs, rows, bytes);
        let (whole, confirmed) = (self.outbox.delivery() == Delivery::PerEpoch, self.outbox.confirmed());
        let outbox = (!batches.is_empty() || confirmed.is_some())
            .then(|| (self.name.clone(), SinkRows { batches, whole, confirmed }));
        TaskSnapshot { outbox, ..TaskSnapshot::default() }
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
