//! A second operator that is brought to the end of time, so that the first need not be.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use datafusion::common::{Result, exec_err};

use crate::dataflow::RunError;
use crate::operators::{InputIndex, MAIN, Operator, Output};
use crate::time::EventTime;

/// What an operator would send if its input ended now, after `shown`.
///
/// `made` is a new one like it; `state` is all that it knows, and `watermark` what it has seen. `shown` are the rows that
/// the operators before it would send.
///
/// # Errors
/// What the operator says to that, a panic included.
pub fn rows(
    mut made: Box<dyn Operator>,
    state: Vec<RecordBatch>,
    watermark: EventTime,
    shown: Vec<(InputIndex, RecordBatch)>,
) -> Result<Vec<RecordBatch>> {
    if watermark == EventTime::MAX {
        // It has seen its end, and sent everything.
        return Ok(vec![]);
    }
    // The operator is not used again.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        state.into_iter().try_for_each(|batch| made.restore(batch))?;
        if watermark > EventTime::MIN {
            // What this makes it send was sent when the watermark came.
            made.on_watermark(watermark, &mut Output::default())?;
        }
        let mut out = Output::default();
        shown.into_iter().try_for_each(|(input, batch)| made.on_batch(input, batch, &mut out))?;
        made.on_watermark(EventTime::MAX, &mut out)?;
        Ok(out.take().into_iter().filter(|(output, _)| *output == MAIN).map(|(_, batch)| batch).collect())
    }));
    ended.unwrap_or_else(|panic| exec_err!("{}", RunError::panic("its copy", panic.as_ref())))
}
