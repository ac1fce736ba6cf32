//! The stateless steps between two exchanges in one operator: filter, project, unnest, a batch at a time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{Result, exec_err};
use datafusion::physical_expr::PhysicalExpr;

use super::subplan::Subplan;
use super::{InputIndex, Operator, Output};

/// One stateless step.
pub enum Step {
    /// Keeps the rows for which the expression is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// Computes new columns: one expression a field of the schema.
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
    /// Runs a plan over each batch by itself (UNNEST).
    Subplan(Box<Subplan>),
}

/// Steps in order. Input: what the first step's expressions are over; output: what the last one gives.
pub struct Map {
    steps: Vec<Step>,
    filtered_rows: u64,
}

impl Map {
    /// An operator of these steps.
    pub fn new(steps: Vec<Step>) -> Map {
        Map { steps, filtered_rows: 0 }
    }
}

impl Operator for Map {
    fn on_batch(&mut self, _input: InputIndex, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let mut batches = vec![batch];
        for step in &mut self.steps {
            let mut next = Vec::with_capacity(batches.len());
            for batch in batches {
                self.filtered_rows += step.apply(batch, &mut next)?;
            }
            batches = next;
        }
        batches.into_iter().for_each(|batch| out.emit(batch));
        Ok(())
    }

    fn filtered_rows(&self) -> u64 {
        self.filtered_rows
    }
}

impl Step {
    /// Applies the step to one batch; batches without rows are dropped. Returns how many rows a condition left out.
    fn apply(&mut self, batch: RecordBatch, next: &mut Vec<RecordBatch>) -> Result<u64> {
        match self {
            Step::Filter(predicate) => {
                let kept = filtered(&batch, predicate.as_ref())?;
                let left_out = (batch.num_rows() - kept.num_rows()) as u64;
                if kept.num_rows() > 0 {
                    next.push(kept);
                }
                return Ok(left_out);
            }
            Step::Project(exprs, schema) => next.push(projected(&batch, exprs, schema)?),
            Step::Subplan(plan) => {
                let rows = plan.run(vec![vec![batch]])?;
                next.extend(rows.into_iter().filter(|batch| batch.num_rows() > 0));
            }
        }
        Ok(0)
    }
}

fn filtered(batch: &RecordBatch, predicate: &dyn PhysicalExpr) -> Result<RecordBatch> {
    let mask = predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    let mask: &BooleanArray = as_boolean_array(&mask)?;
    // A null is not true.
    let keep = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
    match keep.true_count() {
        kept if kept == batch.num_rows() => Ok(batch.clone()),
        0 => Ok(batch.slice(0, 0)),
        _ => Ok(filter_record_batch(batch, &keep)?),
    }
}

fn projected(batch: &RecordBatch, exprs: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(exprs.len());
    for (expr, field) in exprs.iter().zip(schema.fields()) {
        let column = expr.evaluate(batch)?.into_array(rows)?;
        if !field.is_nullable() && column.null_count() > 0 {
            return exec_err!(
                "column {} is NOT NULL, and a row has no value for it: filter such rows out or give them one with \
                 COALESCE",
                field.name()
            );
        }
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::Operator as Binary;
    use datafusion::physical_expr::expressions::{BinaryExpr, col, lit};

    use super::*;

    fn batch(values: &[Option<i64>]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(values.iter().copied().collect::<Int64Array>())]).unwrap()
    }

    fn binary(schema: &Schema, op: Binary, right: i64) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(col("x", schema).unwrap(), op, lit(ScalarValue::Int64(Some(right)))))
    }

    fn run(map: &mut Map, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        let mut out = Output::default();
        map.on_batch(0, batch, &mut out)?;
        Ok(out.take().into_iter().map(|(_, batch)| batch).collect())
    }

    #[test]
    fn rows_that_are_not_true_fall_out() {
        let input = batch(&[Some(1), None, Some(3)]);
        let schema = input.schema();
        let doubled = Arc::new(Schema::new(vec![Field::new("y", DataType::Int64, true)]));
        let steps = vec![
            Step::Filter(binary(&schema, Binary::Gt, 1)),
            Step::Project(vec![binary(&schema, Binary::Multiply, 2)], doubled),
        ];
        let mut map = Map::new(steps);
        let out = run(&mut map, input).unwrap();
        assert_eq!(map.filtered_rows(), 2);
        assert_eq!(out[0].column(0).as_primitive::<Int64Type>().values(), &[6]);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn a_null_in_a_column_that_is_not_null_is_named() {
        let input = batch(&[None]);
        let target = Arc::new(Schema::new(vec![Field::new("amount", DataType::Int64, false)]));
        let steps = vec![Step::Project(vec![col("x", &input.schema()).unwrap()], target)];
        let error = run(&mut Map::new(steps), input).unwrap_err();
        assert_eq!(
            error.strip_backtrace(),
            "Execution error: column amount is NOT NULL, and a row has no value for it: filter such rows out or give \
             them one with COALESCE"
        );
    }
}
