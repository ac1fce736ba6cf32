//! A batch plan becomes a streaming plan: event time travels with the rows, aggregates get their windows, and what
//! cannot run on an input without end is refused with the form that could.
//!
//! The rewrite runs after DataFusion's analyzer and before its optimizer. Every node keeps the columns that it had,
//! under the names that it had; hidden columns stand behind them ([`HIDDEN`]). Beside each plan goes what is known of
//! its rows in time ([`Streaming`]): whether they have an event time, which columns say to which window they belong,
//! and which of them may still change when they are published early.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion::common::{Column, DFSchema, JoinConstraint, JoinType, TableReference, plan_datafusion_err};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Extension, Filter, Join, Limit, LogicalPlan, Projection, Sort, SubqueryAlias, TableScan,
    TableScanBuilder, Union, Unnest, Window,
};
use datafusion::prelude::named_struct;
use datafusion::scalar::ScalarValue;

use super::early::EarlyResults;
use super::error::{PlanError, Result, aggregate_of_endless, aggregate_without_end, no_event_time};
use super::functions::window_kind;
use super::lateral;
use super::meaning;
use super::per_window_node::PerWindowNode;
use super::refusals::{check_expressions, contained_window_function, window_outside_group_by};
use super::scans::TableExpressions;
use super::tables::{DeclaredTable, SourceColumns};
use super::window_node::WindowAggregateNode;
use super::windows::Windows;
use crate::operators::per_window::Grouping;
use crate::operators::window::{EVENT_TIME, ROW_WATERMARK, TIME_TYPE, WindowKind, window_type};

/// The hidden column that carries the columns which a late row's table wants: a struct.
pub const ORIGIN: &str = "__origin";
/// The event time of a join's left side.
pub const LEFT_TIME: &str = "__left_time";
/// The event time of a join's right side.
pub const RIGHT_TIME: &str = "__right_time";
/// The hidden columns, in their order behind a plan's own.
pub const HIDDEN: [&str; 3] = [EVENT_TIME, ROW_WATERMARK, ORIGIN];

/// A streaming plan and what is known of its rows.
pub struct Streaming {
    /// The plan, hidden columns included.
    pub plan: LogicalPlan,
    /// The columns that tell a row's window. Where there is one, rows of one window have one event time and come
    /// together when the window closes.
    pub windows: Windows,
    /// Whether rows come out of windows, though no column may tell of which.
    pub windowed: bool,
    /// Which results may be published before they are final.
    pub early: EarlyResults,
    /// Whether every source below ends by itself.
    pub bounded: bool,
    /// Whether it aggregates an input without end without a window: it has results only while it runs.
    pub endless: bool,
}

/// What a query's sink can do, as far as it decides what the query may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SinkAbility {
    /// Rows are only added.
    Append,
    /// A row replaces the one before it, so a result may be given again.
    Upsert,
}

/// Rewrites the plans of one query.
pub struct Rewriter<'a> {
    /// The program's tables, with their declared expressions resolved.
    pub tables: &'a [TableExpressions],
    /// What the query's sink can do.
    pub sink: SinkAbility,
}

impl Streaming {
    /// The hidden columns that the plan has.
    pub fn hidden(&self) -> Vec<Expr> {
        HIDDEN.iter().filter_map(|name| hidden_column(self.plan.schema(), name)).map(Expr::Column).collect()
    }

    /// Whether rows have an event time.
    pub fn timed(&self) -> bool {
        hidden_column(self.plan.schema(), EVENT_TIME).is_some()
    }

    fn with(self, plan: LogicalPlan) -> Streaming {
        Streaming { plan, ..self }
    }

    /// The plan with the columns of `projection`, which is over this plan.
    fn projected(&self, exprs: &[Expr], projection: Projection) -> Streaming {
        let outputs = projection.schema.columns();
        Streaming {
            windows: self.windows.projected(exprs, outputs.clone()),
            early: self.early.projected(exprs, outputs),
            plan: LogicalPlan::Projection(projection),
            ..*self
        }
    }
}

/// The hidden column of that name, with its qualifier.
pub fn hidden_column(schema: &DFSchema, name: &str) -> Option<Column> {
    schema.iter().find(|(_, field)| field.name() == name).map(Column::from)
}

/// The columns of `schema` that are not hidden.
pub fn visible_columns(schema: &DFSchema) -> Vec<Column> {
    schema.iter().filter(|(_, field)| !HIDDEN.contains(&field.name().as_str())).map(Column::from).collect()
}

impl Rewriter<'_> {
    /// Rewrites a plan.
    ///
    /// # Errors
    /// When it cannot run on its input as a stream; the help says which form could.
    pub fn rewrite(&self, plan: &LogicalPlan) -> Result<Streaming> {
        check_expressions(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => {
                let input = self.rewrite(&filter.input)?;
                let plan = Filter::try_new(filter.predicate.clone(), Arc::new(input.plan.clone()))?;
                let early = input.early.clone().filtered(std::iter::once(&filter.predicate));
                Ok(Streaming { plan: LogicalPlan::Filter(plan), early, ..input })
            }
            LogicalPlan::SubqueryAlias(alias) => self.subquery_alias(alias),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Unnest(unnest) => {
                let input = self.rewrite(&unnest.input)?;
                let exec_columns = unnest.exec_columns.clone();
                let unnested: Vec<Expr> = exec_columns.iter().cloned().map(Expr::Column).collect();
                let plan = Unnest::try_new(Arc::new(input.plan.clone()), exec_columns, unnest.options.clone())?;
                let early = input.early.clone().filtered(unnested.iter());
                Ok(Streaming { plan: LogicalPlan::Unnest(plan), early, ..input })
            }
            LogicalPlan::Aggregate(aggregate) => {
                let input = self.rewrite(&aggregate.input)?;
                self.aggregate(input, aggregate)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let columns = visible_columns(input.schema()).into_iter().map(Expr::Column).collect();
                let aggregate = Aggregate::try_new(Arc::clone(input), columns, vec![])?;
                let input = self.rewrite(input)?;
                self.aggregate(input, &aggregate)
            }
            LogicalPlan::Distinct(Distinct::On(_)) => Err(PlanError::refused(
                "SELECT DISTINCT ON has no streaming form",
                "number the rows of each window, ROW_NUMBER() OVER (PARTITION BY window, key ORDER BY ...) AS n, and keep n = 1",
            )),
            LogicalPlan::Window(window) => self.window_functions(window),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Sort(sort) => self.sort(sort),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Values(_) => Err(PlanError::refused(
                "VALUES has no streaming form",
                "read the rows from a table, or write them as CASE column WHEN ... THEN ... END",
            )),
            LogicalPlan::EmptyRelation(_) => Err(PlanError::refused(
                "the query reads no table",
                "a query of a pipeline reads at least one table or view: SELECT ... FROM table",
            )),
            other => Err(PlanError::refused(
                format!("{} has no streaming form", kind_of(other)),
                "a streaming query is made of SELECT, WHERE, GROUP BY, UNION ALL, UNNEST, JOIN on equal windows and \
                 window functions inside a window",
            )),
        }
    }

    /// A declared table becomes a read of its source, with generated columns computed and hidden ones behind.
    fn scan(&self, scan: &TableScan) -> Result<Streaming> {
        let Some(index) = DeclaredTable::of(scan) else {
            return Err(PlanError::refused(
                format!("{} is not a table of this folder", scan.table_name),
                "declare it with CREATE TABLE",
            ));
        };
        let table = &self.tables[index];
        let qualifier = &scan.table_name;
        let columns = Arc::new(SourceColumns::new(index, &table.table));
        let source = TableScanBuilder::new(qualifier.clone(), columns).build()?;
        let source = LogicalPlan::TableScan(source);
        let mut exprs = vec![];
        for (_, field) in scan.projected_schema.iter() {
            exprs.push(table.column(field.name(), qualifier)?);
        }
        if hidden_column(source.schema(), EVENT_TIME).is_some() {
            for name in [EVENT_TIME, ROW_WATERMARK] {
                exprs.push(Expr::Column(Column::new(Some(qualifier.clone()), name)));
            }
            if let Some(origin) = self.origin(table, qualifier)? {
                exprs.push(origin);
            }
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(source))?);
        let early = EarlyResults::new(HashSet::new());
        let (windows, bounded) = (Windows::none(), table.bounded);
        Ok(Streaming { plan, windows, windowed: false, early, bounded, endless: false })
    }

    /// The columns that the table of late rows wants, as one struct.
    fn origin(&self, table: &TableExpressions, qualifier: &TableReference) -> Result<Option<Expr>> {
        let Some(late_rows) = &table.table.settings.late_rows else { return Ok(None) };
        let Some(target) = self.tables.iter().find(|other| other.table.definition.name == late_rows.name) else {
            return Ok(None);
        };
        let mut parts = vec![];
        for field in target.table.definition.writable_schema().fields() {
            if table.table.definition.column(field.name()).is_some() {
                parts.push(datafusion::prelude::lit(field.name().as_str()));
                parts.push(table.column(field.name(), qualifier)?.unalias());
            }
        }
        if parts.is_empty() {
            return Err(PlanError::refused(
                format!("table {} for late rows has no column of {}", late_rows.name, table.table.definition.name),
                "give it the columns that are to be kept, with the same names",
            ));
        }
        Ok(Some(named_struct(parts).alias_qualified(Some(qualifier.clone()), ORIGIN)))
    }

    fn projection(&self, projection: &Projection) -> Result<Streaming> {
        let input = self.rewrite(&projection.input)?;
        if let Some(refusal) = projection.expr.iter().find_map(|expr| window_outside_group_by(expr, &input)) {
            return Err(refusal);
        }
        let mut exprs = projection.expr.clone();
        exprs.extend(input.hidden());
        let plan = Projection::try_new(exprs, Arc::new(input.plan.clone()))?;
        Ok(input.projected(&projection.expr, plan))
    }

    fn subquery_alias(&self, alias: &SubqueryAlias) -> Result<Streaming> {
        let input = self.rewrite(&alias.input)?;
        let before: Vec<Expr> = input.plan.schema().columns().into_iter().map(Expr::Column).collect();
        let plan = SubqueryAlias::try_new(Arc::new(input.plan.clone()), alias.alias.clone())?;
        let after = plan.schema.columns();
        let (windows, early) = (input.windows.projected(&before, after.clone()), input.early.projected(&before, after));
        Ok(Streaming { plan: LogicalPlan::SubqueryAlias(plan), windows, early, ..input })
    }

    /// The inputs side by side; hidden columns only where all have them.
    fn union(&self, union: &Union) -> Result<Streaming> {
        let inputs = union.inputs.iter().map(|input| self.rewrite(input)).collect::<Result<Vec<Streaming>>>()?;
        let common: Vec<&str> = HIDDEN
            .into_iter()
            .filter(|name| inputs.iter().all(|input| hidden_column(input.plan.schema(), name).is_some()))
            // Late rows of different tables have different columns; they are kept only behind a single table.
            .filter(|name| *name != ORIGIN)
            .collect();
        let mut aligned = vec![];
        for (input, original) in inputs.iter().zip(&union.inputs) {
            let columns = original.schema().columns();
            let mut exprs: Vec<Expr> = columns.into_iter().map(Expr::Column).collect();
            for name in &common {
                let column = hidden_column(input.plan.schema(), name)
                    .ok_or_else(|| plan_datafusion_err!("the column {name} is lost"))?;
                exprs.push(Expr::Column(column).alias(*name));
            }
            let projection = Projection::try_new(exprs, Arc::new(input.plan.clone()))?;
            aligned.push(Arc::new(LogicalPlan::Projection(projection)));
        }
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            union.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        let names = union.schema.columns();
        fields.extend(common.iter().map(|name| (None, Arc::new(Field::new(*name, TIME_TYPE, false)))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        let columns: Vec<Vec<Column>> = union.inputs.iter().map(|input| input.schema().columns()).collect();
        let windows: Vec<_> = inputs.iter().map(|input| &input.windows).zip(columns.clone()).collect();
        let early: Vec<_> = inputs.iter().map(|input| &input.early).zip(columns).collect();
        Ok(Streaming {
            plan: LogicalPlan::Union(Union { inputs: aligned, schema }),
            windows: Windows::united(&windows, names.clone()),
            windowed: inputs.iter().all(|input| input.windowed),
            early: EarlyResults::united(&early, names),
            bounded: inputs.iter().all(|input| input.bounded),
            endless: inputs.iter().any(|input| input.endless),
        })
    }

    fn aggregate(&self, input: Streaming, aggregate: &Aggregate) -> Result<Streaming> {
        if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            return Err(PlanError::refused(
                "GROUPING SETS, ROLLUP and CUBE have no streaming form",
                "write one query for each set of groups and join them with UNION ALL",
            ));
        }
        let names = aggregate.schema.columns();
        let mut window = None;
        let mut groups = vec![];
        let mut fields = vec![];
        let mut windows = Windows::none();
        let mut settled = HashSet::new();
        for (index, expr) in aggregate.group_expr.iter().enumerate() {
            let (qualifier, field) = aggregate.schema.qualified_field(index);
            if let Some(kind) = window_kind(expr)? {
                if window.is_some() {
                    return Err(PlanError::refused("GROUP BY has two windows", "keep one of them"));
                }
                window = Some(kind);
                windows.insert_window(names[index].clone(), kind);
                // A session grows.
                if !matches!(kind, WindowKind::Session { .. }) {
                    settled.insert(names[index].clone());
                }
                fields.insert(0, (qualifier.cloned(), Arc::new(Field::new(field.name(), window_type(), false))));
                continue;
            }
            if let Some(name) = contained_window_function(expr) {
                return Err(PlanError::refused(
                    format!("{name}() stands inside another expression of GROUP BY"),
                    format!("GROUP BY {name}(...) itself and compute with window.start and window.end in SELECT"),
                ));
            }
            windows.insert_group(names[index].clone(), expr, &input.windows);
            settled.insert(names[index].clone());
            groups.push(expr.clone());
            fields.push((qualifier.cloned(), Arc::clone(field)));
        }
        let of_window_rows = !windows.is_empty();
        let kind = match window {
            Some(kind) if input.timed() => kind,
            Some(_) => return Err(no_event_time()),
            None if of_window_rows && input.timed() => WindowKind::Instant,
            None if input.endless => return Err(aggregate_of_endless()),
            None if input.bounded || self.sink == SinkAbility::Upsert => WindowKind::Global,
            None => return Err(aggregate_without_end()),
        };
        for (index, name) in names.iter().enumerate().skip(aggregate.group_expr.len()) {
            let (qualifier, field) = aggregate.schema.qualified_field(index);
            if contained_window_function(&aggregate.aggr_expr[index - aggregate.group_expr.len()]).is_some() {
                return Err(PlanError::refused(
                    format!("{} has a window function among its arguments", name.name),
                    "a window belongs in GROUP BY",
                ));
            }
            fields.push((qualifier.cloned(), Arc::clone(field)));
        }
        fields.push((None, Arc::new(Field::new(EVENT_TIME, TIME_TYPE, false))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        let input = if kind == WindowKind::Global { with_one_time(input)? } else { input };
        // Rows that come out of windows, or that are taken all together, have no lateness of their own.
        let hidden = match kind {
            WindowKind::Global | WindowKind::Instant => input.hidden().into_iter().take(1).collect(),
            _ => input.hidden(),
        };
        let mut node = WindowAggregateNode {
            window: kind,
            groups,
            aggregates: aggregate.aggr_expr.clone(),
            hidden,
            input: input.plan,
            schema,
            meaning: String::new(),
        };
        node.meaning = meaning::of_aggregate(&node, self.tables)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        let early = EarlyResults::new(settled);
        let endless = kind == WindowKind::Global && !input.bounded;
        let windowed = kind != WindowKind::Global;
        let result = Streaming { plan, windows, windowed, early, bounded: input.bounded, endless };
        if kind == WindowKind::Global { without_hidden(result) } else { Ok(result) }
    }

    /// Window functions run when a window closes, or, on a bounded input, when it ends.
    fn window_functions(&self, window: &Window) -> Result<Streaming> {
        let input = self.rewrite(&window.input)?;
        let inside = window
            .window_expr
            .iter()
            .all(|expr| partition_by(expr).is_some_and(|keys| keys.iter().any(|key| input.windows.tell(key))));
        let per_window = input.timed() && inside;
        if !per_window && !input.bounded {
            return Err(PlanError::refused(
                "a window function (OVER) would need all rows of an input without end",
                "aggregate by a window first (GROUP BY tumble(...) AS window) and write OVER (PARTITION BY window ORDER BY ...)",
            ));
        }
        let node = |input: Arc<LogicalPlan>| -> Result<LogicalPlan> {
            Ok(LogicalPlan::Window(Window::try_new(window.window_expr.clone(), input)?))
        };
        if per_window {
            let plan = PerWindowNode::plan(node(Arc::new(input.plan.clone()))?, Grouping::EventTime, self.tables)?;
            return Ok(input.with(plan));
        }
        self.whole_input(node(Arc::new(without_hidden(input)?.plan))?)
    }

    fn join(&self, join: &Join) -> Result<Streaming> {
        if let Some(plan) = lateral::inlined(join)? {
            return self.rewrite(&plan);
        }
        if lateral::is_lateral(&join.right) {
            return Err(PlanError::refused(
                "a join with a query over each row has no streaming form",
                "only CROSS JOIN UNNEST(list) AS u(item) has one; it gives no row for an empty list",
            ));
        }
        if join.join_constraint == JoinConstraint::Using && matches!(join.join_type, JoinType::Right | JoinType::Full) {
            // DataFusion takes such a column from the left side, where it is null in rows of the right side alone.
            return Err(PlanError::refused(
                format!("a {} JOIN has no USING or NATURAL", join.join_type.to_string().to_uppercase()),
                "write ON a.window = b.window AND ..., and coalesce(a.window, b.window) AS window in SELECT",
            ));
        }
        let left = self.rewrite(&join.left)?;
        let right = self.rewrite(&join.right)?;
        let bounded = left.bounded && right.bounded;
        let windows = left.windows.joined(&right.windows, join.join_type);
        let on_windows = join_conditions(join)
            .iter()
            .any(|(a, b)| left.windows.meet(a, &right.windows, b) || left.windows.meet(b, &right.windows, a));
        if on_windows && left.timed() && right.timed() {
            let (left, left_time) = with_named_time(left, LEFT_TIME)?;
            let (right, right_time) = with_named_time(right, RIGHT_TIME)?;
            let joined = PerWindowNode::plan(rejoin(join, left, right)?, Grouping::EventTime, self.tables)?;
            // Both sides of a pair have the same event time; of an outer join's lone row, one has it.
            let has = |column: &Column| joined.schema().has_column(column);
            let times: Vec<Expr> = [left_time, right_time].into_iter().filter(has).map(Expr::Column).collect();
            let time = match times.as_slice() {
                [one] => one.clone(),
                _ => datafusion::prelude::coalesce(times),
            };
            let mut exprs: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
            exprs.push(time.alias(EVENT_TIME));
            let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?);
            let early = EarlyResults::new(HashSet::new());
            return Ok(Streaming { plan, windows, windowed: true, early, bounded, endless: false });
        }
        if !bounded {
            return Err(PlanError::refused(
                "a join of streams needs equal windows on both sides",
                "GROUP BY the same tumble(...) AS window on both sides and join ON a.window = b.window AND ...",
            ));
        }
        self.whole_input(rejoin(join, without_hidden(left)?.plan, without_hidden(right)?.plan)?)
    }

    fn sort(&self, sort: &Sort) -> Result<Streaming> {
        let input = self.rewrite(&sort.input)?;
        let node = |input: LogicalPlan| {
            LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input: Arc::new(input), fetch: sort.fetch })
        };
        let first = sort.expr.first();
        let by_window = first.is_some_and(|key| key.asc && input.windows.tell(&key.expr));
        if by_window && input.timed() && sort.fetch.is_none() {
            let plan = PerWindowNode::plan(node(input.plan.clone()), Grouping::EventTime, self.tables)?;
            return Ok(input.with(plan));
        }
        if input.bounded {
            return self.whole_input(node(without_hidden(input)?.plan));
        }
        Err(PlanError::refused(
            "ORDER BY would need all rows of an input without end",
            "order inside each window: ORDER BY window, ..., or number rows with ROW_NUMBER() OVER (PARTITION BY window \
             ORDER BY ...)",
        ))
    }

    fn limit(&self, limit: &Limit) -> Result<Streaming> {
        let input = self.rewrite(&limit.input)?;
        if !input.bounded {
            return Err(PlanError::refused(
                "LIMIT has no meaning on an input without end",
                "take the first rows of each window: ROW_NUMBER() OVER (PARTITION BY window ORDER BY ...) AS n, then \
                 WHERE n <= 10",
            ));
        }
        let input = Arc::new(without_hidden(input)?.plan);
        let (skip, fetch) = (limit.skip.clone(), limit.fetch.clone());
        self.whole_input(LogicalPlan::Limit(Limit { skip, fetch, input }))
    }

    /// Marks a node that needs its whole input, which ends.
    fn whole_input(&self, node: LogicalPlan) -> Result<Streaming> {
        let plan = PerWindowNode::plan(node, Grouping::Everything, self.tables)?;
        let early = EarlyResults::new(HashSet::new());
        Ok(Streaming { plan, windows: Windows::none(), windowed: false, early, bounded: true, endless: false })
    }
}

/// The plan without its hidden columns: its rows come when the input ends, which no event time tells.
fn without_hidden(input: Streaming) -> Result<Streaming> {
    if input.hidden().is_empty() {
        return Ok(input);
    }
    let exprs: Vec<Expr> = visible_columns(input.plan.schema()).into_iter().map(Expr::Column).collect();
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input.plan.clone()))?);
    Ok(Streaming { plan, windows: Windows::none(), ..input })
}

/// The plan with one event time for all rows and no other hidden column: they make one window.
fn with_one_time(input: Streaming) -> Result<Streaming> {
    let mut exprs: Vec<Expr> = visible_columns(input.plan.schema()).into_iter().map(Expr::Column).collect();
    exprs.push(Expr::Literal(ScalarValue::TimestampNanosecond(Some(0), None), None).alias(EVENT_TIME));
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input.plan.clone()))?);
    Ok(Streaming { plan, windows: Windows::none(), ..input })
}

/// The plan with its event time under a name that the other side of a join does not have, and no other hidden column.
fn with_named_time(input: Streaming, name: &str) -> Result<(LogicalPlan, Column)> {
    let mut exprs: Vec<Expr> = visible_columns(input.plan.schema()).into_iter().map(Expr::Column).collect();
    let time = hidden_column(input.plan.schema(), EVENT_TIME).ok_or_else(no_event_time)?;
    exprs.push(Expr::Column(time).alias(name));
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input.plan))?);
    Ok((plan, Column::from_name(name)))
}

fn rejoin(join: &Join, left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on.clone(),
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?))
}

/// The equalities of a join's condition.
pub fn join_conditions(join: &Join) -> Vec<(Expr, Expr)> {
    let mut pairs = join.on.clone();
    let conditions = join.filter.iter().flat_map(datafusion::logical_expr::utils::split_conjunction);
    pairs.extend(conditions.filter_map(|condition| match condition {
        Expr::BinaryExpr(binary) if binary.op == datafusion::logical_expr::Operator::Eq => {
            Some((binary.left.as_ref().clone(), binary.right.as_ref().clone()))
        }
        _ => None,
    }));
    pairs
}

/// What a window function partitions by; `None` if `expr` is no window function.
pub fn partition_by(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => partition_by(&alias.expr),
        Expr::WindowFunction(function) => {
            let WindowFunction { params, .. } = function.as_ref();
            Some(&params.partition_by)
        }
        _ => None,
    }
}

fn kind_of(plan: &LogicalPlan) -> String {
    plan.display().to_string().split([':', ' ']).next().unwrap_or("this statement").to_string()
}
