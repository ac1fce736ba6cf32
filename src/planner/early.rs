//! Which results may be published before they are final.
//!
//! A sink that replaces rows by key takes early results only if the last one of each key is the final one. A filter on
//! a value that still changes, or a key made of one, would leave rows behind that nothing takes back.

use std::collections::HashSet;

use datafusion::common::Column;
use datafusion::logical_expr::Expr;

/// What is known of a plan's results while its topmost windows are open.
#[derive(Clone, Debug)]
pub struct EarlyResults {
    /// The columns that are the same in all results of one group.
    settled: HashSet<Column>,
    /// Whether a row that is there early is there at the end.
    stay: bool,
}

impl EarlyResults {
    /// Rows that do not change, or groups of which the columns `settled` do not.
    pub fn new(settled: HashSet<Column>) -> EarlyResults {
        EarlyResults { settled, stay: true }
    }

    /// Whether results may be published early to a sink with these expressions as its key.
    pub fn allowed(&self, mut key: impl Iterator<Item = Expr>) -> bool {
        self.stay && key.all(|expr| self.is_settled(&expr))
    }

    /// After a step that keeps or multiplies rows by the values of `exprs`.
    pub fn filtered<'a>(mut self, mut exprs: impl Iterator<Item = &'a Expr>) -> EarlyResults {
        self.stay &= exprs.all(|expr| self.is_settled(expr));
        self
    }

    /// With the columns `outputs`, which `exprs` compute.
    pub fn projected<'a>(&self, exprs: impl IntoIterator<Item = &'a Expr>, outputs: Vec<Column>) -> EarlyResults {
        let settled = exprs.into_iter().zip(outputs).filter(|(expr, _)| self.is_settled(expr));
        EarlyResults { settled: settled.map(|(_, output)| output).collect(), stay: self.stay }
    }

    /// The rows of a union whose inputs have the columns `inputs` and which has the columns `outputs`.
    pub fn united(inputs: &[(&EarlyResults, Vec<Column>)], outputs: Vec<Column>) -> EarlyResults {
        let settled = |index: usize| {
            let in_one = |(early, columns): &(&EarlyResults, Vec<Column>)| {
                columns.get(index).is_some_and(|column| early.settled.contains(column))
            };
            inputs.iter().all(in_one)
        };
        let settled = outputs.into_iter().enumerate().filter(|(index, _)| settled(*index)).map(|(_, output)| output);
        EarlyResults { settled: settled.collect(), stay: inputs.iter().all(|(early, _)| early.stay) }
    }

    fn is_settled(&self, expr: &Expr) -> bool {
        expr.column_refs().into_iter().all(|column| self.settled.contains(column))
    }
}
