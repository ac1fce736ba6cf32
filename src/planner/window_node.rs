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
    /// What it computes, as the query says and not as an optimizer has it: [`super::meaning`].
    pub meaning: String,
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
        write!(f, "WindowAggregate: {}", self.describe())
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let hidden = exprs.split_off(self.groups.len() + self.aggregates.len());
        let aggregates = exprs.split_off(self.groups.len());
        let input = inputs.swap_remove(0);
        let (schema, meaning) = (self.schema.clone(), self.meaning.clone());
        Ok(WindowAggregateNode { window: self.window, groups: exprs, aggregates, hidden, input, schema, meaning })
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // What the expressions use is added by the caller; nothing else is passed through.
        Some(vec![vec![]])
    }
}

impl WindowAggregateNode {
    /// `tumble(30s) by category: count(*), sum(amount)`.
    pub fn describe(&self) -> String {
        let mut text = match self.window {
            WindowKind::Tumble { width } => format!("tumble({})", human(width)),
            WindowKind::Hop { slide, width } => format!("hop({}, {})", human(slide), human(width)),
            WindowKind::Session { gap } => format!("session({})", human(gap)),
            WindowKind::Instant => "each window".into(),
            WindowKind::Global => "all rows".into(),
        };
        // The schema's names are what the user wrote; the expressions have been rewritten since.
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let groups = usize::from(self.window.has_window_column());
        let aggregates = groups + self.groups.len();
        if aggregates > groups {
            text.push_str(&format!(" by {}", names[groups..aggregates].join(", ")));
        }
        if !self.aggregates.is_empty() {
            text.push_str(&format!(": {}", names[aggregates..names.len() - 1].join(", ")));
        }
        // DataFusion's word for it.
        text.replace("count(Int64(1))", "count(*)")
    }
}
