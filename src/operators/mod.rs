//! What happens to rows between a source and a sink: synchronous, deterministic state machines.
//!
//! An [`Operator`] sees batches, watermarks, ticks and barriers in the order in which its task received them, and
//! answers into an [`Output`]. It reads no clock, draws no random number and does no I/O, so a unit test drives it
//! by hand and a seed replays a run. Tasks and channels are in [`crate::dataflow`]; which operators a query needs
//! is decided in [`crate::planner`].

pub mod aggregate;
pub mod latest;
pub mod map;
pub mod per_window;
pub mod subplan;
pub mod window;

use arrow::array::RecordBatch;
use datafusion::common::Result;

use crate::time::EventTime;

/// One of an operator's inputs, from 0; a join has two.
pub type InputIndex = usize;

/// One of an operator's outputs, from 0.
pub type OutputIndex = usize;

/// The main output of an operator.
pub const MAIN: OutputIndex = 0;
/// The output of a windowed operator's late rows, in the schema of its input.
pub const LATE: OutputIndex = 1;

/// Key of the schema metadata of a batch of state that is rows of an input as they came: the input's index. Such a
/// batch is dealt out by that input's keys, whatever its columns are called.
pub const INPUT: &str = "acequia.input";

/// A synchronous step of a dataflow.
///
/// Errors are DataFusion's: they come from evaluating expressions and end the query, with its name added by the task.
pub trait Operator: Send {
    /// Takes one batch from input `input`.
    ///
    /// # Errors
    /// When an expression or an aggregate fails on the rows.
    fn on_batch(&mut self, input: InputIndex, batch: RecordBatch, out: &mut Output) -> Result<()>;

    /// Event time has advanced to `watermark` on all inputs: no row at or before it that counts will come any more.
    /// Called with rising values only. The task forwards the watermark itself, after this returns.
    ///
    /// # Errors
    /// As for [`Operator::on_batch`].
    fn on_watermark(&mut self, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// The early-results interval has passed on the task's clock: publish what has changed since the last tick.
    ///
    /// # Errors
    /// As for [`Operator::on_batch`].
    fn on_tick(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// A barrier has arrived on all inputs: hand over all that has changed since the last one, as batches that
    /// [`Operator::restore`] takes. What is sent to `out` still belongs to the epoch before the barrier.
    ///
    /// # Errors
    /// As for [`Operator::on_batch`].
    fn snapshot(&mut self, _out: &mut Output) -> Result<Vec<RecordBatch>> {
        Ok(vec![])
    }

    /// Takes back what snapshots handed over, oldest first, before the first batch arrives. Called once for each
    /// batch; then [`Operator::on_watermark`] is called with the watermark of that epoch, and what it sends is
    /// dropped, because it was delivered before.
    ///
    /// At another parallelism, a batch that begins with the columns of a hashed input, or says that it is rows of it
    /// ([`INPUT`]), is dealt out by the hash of its keys, as rows are. Every instance gets its part, with the schema's metadata, even if that has no rows. Other
    /// state stays with one instance, so an operator in a source's task, which has no keyed
    /// input, hands everything on when it is asked for a snapshot and keeps nothing.
    ///
    /// # Errors
    /// When the state does not fit this operator.
    fn restore(&mut self, _state: RecordBatch) -> Result<()> {
        Ok(())
    }

    /// The whole state, as batches that [`Operator::restore`] takes: what all snapshots since the beginning add up to,
    /// without what is closed or overwritten. Changes nothing that shows. Called on an operator that has just been
    /// restored, when a log is compacted, and on one at work that has just been asked for a snapshot, when somebody looks
    /// at the windows that are open: another one is made from it and brought to the end of time. So an operator that
    /// keeps anything must be able to say it here, with at least one batch even while it knows nothing.
    ///
    /// # Errors
    /// As for [`Operator::on_batch`].
    fn state(&mut self) -> Result<Vec<RecordBatch>> {
        Ok(vec![])
    }

    /// Bytes held in state, for `acequia_state_bytes`; may be an estimate.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Late rows that this operator has seen since it was made, whether they were sent to [`LATE`] or dropped.
    fn late_rows(&self) -> u64 {
        0
    }

    /// Rows that it has aggregated since it was made, each once, whatever number of windows it is in: with the late
    /// ones these are all that have come to a window.
    fn aggregated_rows(&self) -> u64 {
        0
    }

    /// Rows that its conditions have left out since it was made.
    fn filtered_rows(&self) -> u64 {
        0
    }
}

/// Where an operator puts its rows: a list of batches, each with the output it leaves by.
#[derive(Default)]
pub struct Output {
    batches: Vec<(OutputIndex, RecordBatch)>,
}

impl Output {
    /// Sends a batch to the main output; empty ones are dropped.
    pub fn emit(&mut self, batch: RecordBatch) {
        self.emit_to(MAIN, batch);
    }

    /// Sends a batch to the given output; empty ones are dropped.
    pub fn emit_to(&mut self, output: OutputIndex, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.batches.push((output, batch));
        }
    }

    /// Takes all that was sent, in order.
    pub fn take(&mut self) -> Vec<(OutputIndex, RecordBatch)> {
        std::mem::take(&mut self.batches)
    }
}
