//! The windowed aggregation as a node of DataFusion's logical plans.
//!
//! It stands where an `Aggregate` stood, so that DataFusion's optimizer sees through it: what it needs of its input is
//! in its expressions, so projections and filters reach the sources.

use std::cmp::Ordering;
use std::fmt;

use datafusion::common::{DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::functions::human;
use crate::operators::window::WindowKind;

/// `GROUP BY window, groups` over a stream.
///
/// Output: `window` (if the kind has that column), the groups, the aggregates, `__event_time`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WindowAggregateNode {
    /// How rows are put into windows.
    pub window: WindowKind,
    /// The group expressions without the window.
    pub groups: Vec<Expr>,
    /// The aggregate calls.
    pub aggregates: Vec<Expr>,
    /// The hidden columns of the input that are there.
    pub hidden: Vec<Expr>,
    /// What is aggregated.
    pub input: LogicalPlan,
    /// The output.
    pub schema: DFSchemaRef,
}

impl PartialOrd for WindowAggregateNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.window.partial_cmp(&other.window)
    }
}

impl UserDefinedLogicalNodeCore for WindowAggregateNode {
    fn name(&self) -> &str {
        "WindowAggregate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.groups.iter().chain(&self.aggregates).chain(&self.hidden).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowAggregate: {}", describe(self.window, &self.groups, &self.aggregates))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let hidden = exprs.split_off(self.groups.len() + self.aggregates.len());
        let aggregates = exprs.split_off(self.groups.len());
        let input = inputs.swap_remove(0);
        let schema = self.schema.clone();
        Ok(WindowAggregateNode { window: self.window, groups: exprs, aggregates, hidden, input, schema })
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // What the expressions use is added by the caller; nothing else is passed through.
        Some(vec![vec![]])
    }
}

/// `tumble(30s) by category: count(*), sum(amount)`.
pub fn describe(window: WindowKind, groups: &[Expr], aggregates: &[Expr]) -> String {
    let list = |exprs: &[Expr]| exprs.iter().map(|expr| expr.human_display().to_string()).collect::<Vec<_>>().join(", ");
    let mut text = match window {
        WindowKind::Tumble { width } => format!("tumble({})", human(width)),
        WindowKind::Hop { slide, width } => format!("hop({}, {})", human(slide), human(width)),
        WindowKind::Session { gap } => format!("session({})", human(gap)),
        WindowKind::Instant => "each window".into(),
        WindowKind::Global => "all rows".into(),
    };
    if !groups.is_empty() {
        text.push_str(&format!(" by {}", list(groups)));
    }
    if !aggregates.is_empty() {
        text.push_str(&format!(": {}", list(aggregates)));
    }
    text
}
