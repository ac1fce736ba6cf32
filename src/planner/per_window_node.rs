//! A plan node that runs over the rows of one window at a time, or once over a whole input that ends: joins, window
//! functions, sorts and limits.

use std::cmp::Ordering;
use std::fmt;

use datafusion::common::{DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use std::sync::Arc;

use super::meaning;
use super::scans::TableExpressions;
use crate::operators::per_window::Grouping;

/// Wraps a plan node; its inputs are the wrapped node's.
///
/// The wrapping keeps DataFusion's optimizer from moving anything across the node and from dropping the event times
/// that say what belongs together. The wrapped node is optimised by itself when its subplan is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PerWindowNode {
    /// What runs.
    pub node: LogicalPlan,
    /// Over which rows at a time.
    pub grouping: Grouping,
    /// What it computes, as the query says and not as an optimizer has it: [`super::meaning`].
    pub meaning: String,
}

impl PerWindowNode {
    /// `node`, run over `grouping`, as a plan that reads `tables`.
    ///
    /// # Errors
    /// When a column of the plan is not there, which is a defect.
    pub fn plan(node: LogicalPlan, grouping: Grouping, tables: &[TableExpressions]) -> Result<LogicalPlan> {
        let meaning = meaning::of_per_window(&node, grouping, tables)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(PerWindowNode { node, grouping, meaning }) }))
    }
}

impl PartialOrd for PerWindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.node.partial_cmp(&other.node)
    }
}

impl UserDefinedLogicalNodeCore for PerWindowNode {
    fn name(&self) -> &str {
        "PerWindow"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.node.inputs()
    }

    fn schema(&self) -> &DFSchemaRef {
        self.node.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PerWindow: {}", self.node.display())
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let node = self.node.with_new_exprs(self.node.expressions(), inputs)?;
        Ok(PerWindowNode { node, grouping: self.grouping, meaning: self.meaning.clone() })
    }
}
