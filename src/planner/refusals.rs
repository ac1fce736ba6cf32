//! Expressions that have no place in a stream, and what to write instead.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::error::{PlanError, Result};
use super::functions::window_function;
use super::streaming::{Streaming, visible_columns};

/// Refuses functions and forms that a stream cannot evaluate, anywhere in the node's expressions.
///
/// # Errors
/// The first refusal.
pub fn check_expressions(plan: &LogicalPlan) -> Result<()> {
    let mut refusal = None;
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            refusal = refusal_of(part);
            Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    refusal.map_or(Ok(()), Err)
}

fn refusal_of(expr: &Expr) -> Option<PlanError> {
    const CLOCKS: [&str; 6] = ["now", "current_date", "current_time", "current_timestamp", "today", "localtimestamp"];
    match expr {
        Expr::ScalarFunction(call) if CLOCKS.contains(&call.func.name()) => Some(PlanError::refused(
            format!("{}() would give another result at every run", call.func.name()),
            "use the event time, or a column METADATA FROM 'timestamp'",
        )),
        Expr::ScalarFunction(call) if ["random", "uuid"].contains(&call.func.name()) => Some(PlanError::refused(
            format!("{}() would give another result at every run", call.func.name()),
            "derive the value from columns, for instance with md5(...) over a key",
        )),
        Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
            Some(PlanError::refused(
                "a subquery inside an expression has no streaming form",
                "join with the other query on equal windows",
            ))
        }
        _ => None,
    }
}

/// The window function somewhere in `expr`.
pub fn contained_window_function(expr: &Expr) -> Option<&'static str> {
    let mut found = None;
    // The closure never fails.
    let _ = expr.apply(|part| {
        found = window_function(part);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// What to say of a call of a window function that SELECT does not share with GROUP BY.
pub fn window_outside_group_by(expr: &Expr, input: &Streaming) -> Option<PlanError> {
    let name = contained_window_function(expr)?;
    let taken = match expr {
        Expr::Alias(alias) => visible_columns(input.plan.schema()).into_iter().any(|column| column.name == alias.name),
        _ => false,
    };
    let alias = expr.schema_name();
    Some(if taken {
        PlanError::refused(
            format!("GROUP BY {alias} means the column {alias} that is read, not {name}()"),
            format!("give {name}(...) a name that no column has, and GROUP BY that name"),
        )
    } else {
        PlanError::refused(
            format!("{name}() stands outside GROUP BY"),
            format!("write {name}(...) AS window in SELECT and GROUP BY window"),
        )
    })
}
