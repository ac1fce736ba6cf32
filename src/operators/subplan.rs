//! A piece of a DataFusion plan that runs over rows held in memory: joins, window functions and sorts inside one
//! window, UNNEST over one batch.
//!
//! The kernels are DataFusion's own; a [`Subplan`] gives them their input and runs them to the end at once, in
//! the thread that calls it, so that the operators that use it stay synchronous and deterministic.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::TryStreamExt;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

/// A plan over inputs that are given batch by batch.
pub struct Subplan {
    plan: Arc<dyn ExecutionPlan>,
    inputs: Vec<Arc<Input>>,
    context: Arc<TaskContext>,
    schema: SchemaRef,
}

/// The rows of one input, put there just before the plan runs.
#[derive(Debug)]
struct Input {
    schema: SchemaRef,
    rows: Mutex<Vec<RecordBatch>>,
}

/// Newtype, since the trait is another crate's and wants to be shared.
#[derive(Debug)]
struct InputStream(Arc<Input>);

impl PartitionStream for InputStream {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = std::mem::take(&mut *self.0.rows.lock());
        match MemoryStream::try_new(rows, Arc::clone(&self.0.schema), None) {
            Ok(stream) => Box::pin(stream),
            Err(error) => {
                let failed = futures::stream::once(async move { Err(error) });
                let schema = Arc::clone(&self.0.schema);
                Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(schema, failed))
            }
        }
    }
}

impl Subplan {
    /// Plans `node` anew, over inputs that hold what its own inputs would give.
    ///
    /// `schema` is what its batches come out with; it must have the node's column types in the node's order.
    ///
    /// # Errors
    /// When DataFusion cannot plan it.
    pub fn new(node: &LogicalPlan, schema: SchemaRef, session: &SessionState) -> Result<Subplan> {
        let mut inputs = vec![];
        let mut scans = vec![];
        for (number, input) in node.inputs().into_iter().enumerate() {
            let held = Arc::new(Input { schema: Arc::clone(input.schema().inner()), rows: Mutex::default() });
            inputs.push(Arc::clone(&held));
            scans.push(scan_of(input, held, &format!("held{number}"))?);
        }
        let over_scans = node.with_new_exprs(node.expressions(), scans)?;
        let optimised = session.optimizer().optimize(over_scans, session, |_, _| {})?;
        let planning = session.query_planner().create_physical_plan(&optimised, session);
        let plan = run_now(planning)?;
        if plan.output_partitioning().partition_count() != 1 {
            return internal_err!("a plan over one window has several partitions");
        }
        Ok(Subplan { plan, inputs, context: session.task_ctx(), schema })
    }

    /// Runs the plan over `inputs`, one list of batches an input.
    ///
    /// # Errors
    /// When an expression or a kernel fails on the rows.
    pub fn run(&mut self, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        for (input, rows) in self.inputs.iter().zip(inputs) {
            *input.rows.lock() = rows;
        }
        // Joins keep what they built; a fresh state lets the same plan run again.
        self.plan = reset_plan_states(Arc::clone(&self.plan))?;
        let stream = self.plan.execute(0, Arc::clone(&self.context))?;
        let batches: Vec<RecordBatch> = run_now(stream.try_collect())?;
        batches.into_iter().map(|batch| with_schema(&batch, &self.schema)).collect()
    }
}

/// The same columns under another schema's names, nullability and metadata.
///
/// # Errors
/// When a type differs or a column that is not nullable holds a null.
pub fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

/// A scan of the held rows, under a name of its own, whose columns have the qualified names of `input`'s.
fn scan_of(input: &LogicalPlan, held: Arc<Input>, name: &str) -> Result<LogicalPlan> {
    // Unqualified names may repeat (`a.id`, `b.id`), which a table's schema does not allow: number them.
    let numbered: Vec<_> = held
        .schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| field.as_ref().clone().with_name(format!("c{index}")))
        .collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(numbered));
    let held = Arc::new(Numbered { schema: Arc::clone(&schema), input: held });
    let table: Arc<dyn TableProvider> = Arc::new(StreamingTable::try_new(schema, vec![held])?);
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?;
    let names: Vec<_> = (0..input.schema().fields().len())
        .map(|index| {
            let (qualifier, field) = input.schema().qualified_field(index);
            datafusion::prelude::col(format!("{name}.c{index}")).alias_qualified(qualifier.cloned(), field.name())
        })
        .collect();
    scan.project(names)?.build()
}

/// The held rows under numbered names.
#[derive(Debug)]
struct Numbered {
    schema: SchemaRef,
    input: Arc<Input>,
}

impl PartitionStream for Numbered {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let rows = InputStream(Arc::clone(&self.input)).execute(context);
        let renamed = futures::TryStreamExt::and_then(rows, move |batch| {
            let renamed = with_schema(&batch, &schema);
            async move { renamed }
        });
        let schema = Arc::clone(&self.schema);
        Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(schema, renamed))
    }
}

/// Drives a future that never waits for anything outside itself.
fn run_now<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    // Nothing ever runs in it. Where the runtime has several threads DataFusion's sort gives parts of a long input to
    // tasks, and all threads may be in here, waiting for them; under a runtime of one thread it sorts where it stands.
    static ONE_THREAD: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| Builder::new_current_thread().build());
    let one_thread = ONE_THREAD.as_ref().map_err(|error| exec_datafusion_err!("no runtime: {error}"))?;
    let _under = one_thread.enter();
    // DataFusion's streams give way now and then by tokio's budget, which would never be refilled in here.
    futures::executor::block_on(tokio::task::unconstrained(future))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::execution::SessionStateBuilder;
    use datafusion::logical_expr::{LogicalPlanBuilder, table_scan};
    use datafusion::prelude::{SessionConfig, col};

    use super::*;

    fn sort() -> (Subplan, SchemaRef) {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
        let scan = table_scan(Some("input"), &schema, None).unwrap().build().unwrap();
        let node = LogicalPlanBuilder::from(scan).sort(vec![col("text").sort(true, false)]).unwrap().build().unwrap();
        let config = SessionConfig::new().with_target_partitions(1);
        let session = SessionStateBuilder::new().with_config(config).with_default_features().build();
        (Subplan::new(&node, Arc::clone(&schema), &session).unwrap(), schema)
    }

    /// Several batches, and more than DataFusion sorts in one piece.
    fn long_input(schema: &SchemaRef) -> Vec<RecordBatch> {
        let texts = |batch: usize| (0..1000).map(move |row| format!("{:0>1000}", (row * 7919 + batch) % 10_007));
        let column = |batch| Arc::new(StringArray::from_iter_values(texts(batch)));
        (0..8).map(|batch| RecordBatch::try_new(Arc::clone(schema), vec![column(batch)]).unwrap()).collect()
    }

    #[test]
    fn a_long_sort_waits_for_no_thread_of_the_runtime_that_it_is_called_in() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (done, finished) = mpsc::channel();
        runtime.spawn(async move {
            let (mut sort, schema) = sort();
            let _ = done.send(sort.run(vec![long_input(&schema)]));
        });
        let sorted = finished.recv_timeout(Duration::from_secs(60));
        // Would wait for its thread, which may wait for ever.
        runtime.shutdown_background();
        let sorted = sorted.expect("the sort has not ended").unwrap();
        let texts: Vec<&str> =
            sorted.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
        assert_eq!(texts.len(), 8000);
        assert!(texts.is_sorted());
    }
}
