//! `FROM t CROSS JOIN UNNEST(t.items) AS u(item)`: a join with a query over each row becomes steps over the rows.
//!
//! DataFusion plans the right side as a query over one empty row that refers to columns outside. Put on top of the
//! left side, whose columns every step then passes on, the same steps need no join.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result};
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, Projection, Unnest};

/// The qualifier of what the right side computes; no table can have this name and columns of its own beside it.
const RIGHT: &str = "__lateral";

/// The join without its lateral right side, if it has one whose steps can run over the left side's rows.
///
/// # Errors
/// DataFusion's, when a step does not fit its input.
pub fn inlined(join: &Join) -> Result<Option<LogicalPlan>> {
    if join.join_type != JoinType::Inner || !is_lateral(&join.right) {
        return Ok(None);
    }
    let Some(plan) = over(&join.right, &join.left)? else { return Ok(None) };
    let inner = right_columns(plan.schema(), &join.left);
    let mut exprs = columns_of(&join.left);
    for (column, (qualifier, field)) in inner.into_iter().zip(join.right.schema().iter()) {
        exprs.push(Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
    }
    let mut plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
    let equal = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    for condition in equal.chain(join.filter.clone()) {
        plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
    }
    Ok(Some(plan))
}

/// Whether a plan is a query over each row of what stands before it in FROM.
pub fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        LogicalPlan::Projection(projection) => is_lateral(&projection.input),
        _ => false,
    }
}

/// The steps of `plan` over `left`, whose columns come first; `None` if there is a step that does not go by row.
fn over(plan: &LogicalPlan, left: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let step = match plan {
        LogicalPlan::Subquery(subquery) => return over(&subquery.subquery, left),
        LogicalPlan::SubqueryAlias(alias) => return over(&alias.input, left),
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => return Ok(Some(left.clone())),
        LogicalPlan::Projection(projection) => {
            let Some(input) = over(&projection.input, left)? else { return Ok(None) };
            let mut exprs = columns_of(left);
            for expr in &projection.expr {
                let name = expr.schema_name().to_string();
                exprs.push(rebased(expr, &input, left)?.unalias().alias_qualified(Some(RIGHT), name));
            }
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
        }
        LogicalPlan::Unnest(unnest) => {
            let Some(input) = over(&unnest.input, left)? else { return Ok(None) };
            let columns = unnest.exec_columns.iter().map(|column| right_column(column, &input, left)).collect();
            let mut options = unnest.options.clone();
            for recursion in &mut options.recursions {
                recursion.input_column = right_column(&recursion.input_column, &input, left);
            }
            LogicalPlan::Unnest(Unnest::try_new(Arc::new(input), columns, options)?)
        }
        LogicalPlan::Filter(filter) => {
            let Some(input) = over(&filter.input, left)? else { return Ok(None) };
            let predicate = rebased(&filter.predicate, &input, left)?;
            LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?)
        }
        _ => return Ok(None),
    };
    Ok(Some(step))
}

/// An expression of the right side over `input`: what it took from outside is there now.
fn rebased(expr: &Expr, input: &LogicalPlan, left: &LogicalPlan) -> Result<Expr> {
    let rebased = expr.clone().transform_up(|part| {
        Ok::<_, DataFusionError>(match part {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            Expr::Column(column) => Transformed::yes(Expr::Column(right_column(&column, input, left))),
            other => Transformed::no(other),
        })
    })?;
    Ok(rebased.data)
}

fn right_column(column: &Column, input: &LogicalPlan, left: &LogicalPlan) -> Column {
    let columns = right_columns(input.schema(), left);
    columns.into_iter().find(|right| right.name == column.name).unwrap_or_else(|| column.clone())
}

fn right_columns(schema: &DFSchema, left: &LogicalPlan) -> Vec<Column> {
    schema.columns().split_off(left.schema().fields().len())
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}
