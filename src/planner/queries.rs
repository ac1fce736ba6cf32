//! One query on its way from syntax to an optimised streaming plan in the columns of its sink.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::view::ViewTable;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::error::{PlanError, Result};
use super::scans::TableExpressions;
use super::streaming::{Rewriter, SinkAbility, Streaming, hidden_column, visible_columns};
use super::tables::DeclaredTable;
use super::window_node::WindowAggregateNode;
use super::{PlanOptions, placed};
use crate::connectors::{SinkFactory, SinkMode};
use crate::operators::window::{EVENT_TIME, WindowKind};
use crate::program::{Insert, InsertTarget, Program, Table};
use crate::sql::{Location, SqlError};

/// A planned query.
pub struct QueryPlan {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub location: Location,
    /// The table that it writes; `None` prints.
    pub target: Option<usize>,
    /// How that is written.
    pub sink: Arc<dyn SinkFactory>,
    /// The sink's columns.
    pub schema: SchemaRef,
    /// The streaming plan: the sink's columns and, if `keep_newest` says so, `__event_time` behind them.
    pub plan: LogicalPlan,
    /// The key columns, by index, of which the sink shows the row of the newest window.
    pub keep_newest: Option<Vec<usize>>,
    /// Whether it aggregates an input without end without a window: it has results only while it runs.
    pub updates_without_end: bool,
}

/// Makes the program's tables and views known to the session.
///
/// # Errors
/// What is wrong in views, with its place.
pub async fn declare(program: &Program, session: &SessionState) -> std::result::Result<(), Vec<SqlError>> {
    let files = &program.files;
    let schema =
        session.schema_for_ref("anything").map_err(|error| placed(error.into(), Location::default(), files))?;
    for (index, table) in program.tables.iter().enumerate() {
        let name = table.definition.name.clone();
        schema
            .register_table(name, Arc::new(DeclaredTable::new(index, table)))
            .map_err(|error| placed(error.into(), table.definition.location, files))?;
    }
    let mut errors = vec![];
    for view in &program.views {
        match logical_plan(&view.query, session).await {
            Ok(plan) => {
                let table = Arc::new(ViewTable::new(plan, None));
                if let Err(error) = schema.register_table(view.name.clone(), table) {
                    errors.extend(placed(error.into(), view.location, files));
                }
            }
            Err(error) => errors.extend(placed(error, view.location, files)),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

async fn logical_plan(query: &ast::Query, session: &SessionState) -> Result<LogicalPlan> {
    let statement = Statement::Statement(Box::new(ast::Statement::Query(Box::new(query.clone()))));
    Ok(session.statement_to_plan(statement).await?)
}

/// Plans one query.
///
/// # Errors
/// DataFusion's, and what cannot run as a stream.
pub async fn query_plan(
    insert: &Insert,
    program: &Program,
    session: &SessionState,
    tables: &[TableExpressions],
    options: &PlanOptions,
) -> Result<QueryPlan> {
    let target = insert.target.as_ref();
    let index = target.and_then(|t| program.tables.iter().position(|table| table.definition.name == t.table));
    let table = index.map(|index| &program.tables[index]);
    let sink = match table {
        Some(table) => table.connector.sink().ok_or_else(|| {
            PlanError::refused(
                format!("table {} is written, and its connector can only be read", table.definition.name),
                "write to a table whose connector has a sink",
            )
        })?,
        None => Arc::clone(&options.print),
    };
    let mode = sink.mode();
    let ability = match mode {
        SinkMode::Append => SinkAbility::Append,
        SinkMode::Upsert(_) => SinkAbility::Upsert,
    };
    let plan = logical_plan(&insert.query, session).await?;
    let analyzed = session.analyzer().execute_and_check(plan, session.config_options(), |_, _| {})?;
    let streaming = Rewriter { tables, sink: ability }.rewrite(&analyzed)?;
    let streaming_is_bounded = streaming.bounded;
    let columns = sink_columns(&streaming, table, target)?;
    let schema = match table {
        Some(table) => table.definition.writable_schema(),
        None => printed_schema(streaming.plan.schema(), &columns)?,
    };
    let keep_newest = newest_keys(&streaming, &columns, &schema, &mode);
    let mut exprs: Vec<Expr> =
        columns.into_iter().zip(schema.fields()).map(|(expr, field)| expr.alias(field.name())).collect();
    if keep_newest.is_some() {
        exprs.extend(hidden_column(streaming.plan.schema(), EVENT_TIME).map(Expr::Column));
    }
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(streaming.plan))?);
    let plan = session.optimizer().optimize(plan, session, |_, _| {})?;
    let updates_without_end = !streaming_is_bounded && aggregates_everything(&plan);
    Ok(QueryPlan {
        name: insert.name.clone(),
        location: insert.location,
        target: index,
        sink,
        schema,
        plan,
        keep_newest,
        updates_without_end,
    })
}

fn aggregates_everything(plan: &LogicalPlan) -> bool {
    let global = |node: &LogicalPlan| match node {
        LogicalPlan::Extension(extension) => extension
            .node
            .as_any()
            .downcast_ref::<WindowAggregateNode>()
            .is_some_and(|aggregate| aggregate.window == WindowKind::Global),
        _ => false,
    };
    plan.exists(|node| Ok(global(node))).unwrap_or(false)
}

/// One expression for each column of the sink, in its type; columns that the query does not give are null.
fn sink_columns(streaming: &Streaming, table: Option<&Table>, target: Option<&InsertTarget>) -> Result<Vec<Expr>> {
    let given = visible_columns(streaming.plan.schema());
    let (Some(table), Some(target)) = (table, target) else {
        return Ok(given.into_iter().map(Expr::Column).collect());
    };
    let schema = table.definition.writable_schema();
    let all: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let listed = if target.columns.is_empty() { &all } else { &target.columns };
    if listed.len() != given.len() {
        return Err(PlanError::refused(
            format!("the query gives {} and {} takes {}", count(given.len()), target.table, count(listed.len())),
            format!("{} takes, in this order: {}", target.table, listed.join(", ")),
        ));
    }
    if let Some(unknown) = listed.iter().find(|name| !all.contains(name)) {
        return Err(PlanError::refused(
            format!("table {} has no column {unknown} that can be written", target.table),
            format!("it has: {}", all.join(", ")),
        ));
    }
    let mut exprs = vec![];
    for field in schema.fields() {
        let expr = match listed.iter().position(|name| name == field.name()) {
            Some(at) => cast(&given[at], field.data_type(), streaming.plan.schema(), &target.table)?,
            None if field.is_nullable() => {
                Expr::Literal(datafusion::scalar::ScalarValue::try_from(field.data_type())?, None)
            }
            None => {
                return Err(PlanError::refused(
                    format!("column {} of {} is NOT NULL and the query does not give it", field.name(), target.table),
                    "add it to the list of columns and to SELECT",
                ));
            }
        };
        exprs.push(expr);
    }
    Ok(exprs)
}

fn cast(column: &Column, to: &arrow::datatypes::DataType, schema: &DFSchema, table: &str) -> Result<Expr> {
    let expr = Expr::Column(column.clone());
    let from = expr.get_type(schema)?;
    if &from == to {
        return Ok(expr);
    }
    expr.cast_to(to, schema).map_err(|_| {
        PlanError::refused(
            format!("column {} is {from}, and {table} takes {to} there", column.name),
            "convert it in SELECT, for instance with CAST(... AS ...), or change the table's type",
        )
    })
}

fn count(columns: usize) -> String {
    if columns == 1 { "1 column".into() } else { format!("{columns} columns") }
}

/// The key by which a sink shows the newest window, or `None` if it adds rows or the window is in the key.
fn newest_keys(streaming: &Streaming, columns: &[Expr], schema: &Schema, mode: &SinkMode) -> Option<Vec<usize>> {
    let SinkMode::Upsert(names) = mode else { return None };
    if streaming.windows.is_empty() || !streaming.timed() {
        return None;
    }
    let keys: Vec<usize> = names.iter().filter_map(|name| schema.index_of(name).ok()).collect();
    let by_window = keys.iter().any(|key| streaming.window_part(&columns[*key]).is_some());
    if by_window { None } else { Some(keys) }
}

/// The columns of a bare `SELECT`; anything may be null in them.
fn printed_schema(schema: &DFSchema, columns: &[Expr]) -> Result<SchemaRef> {
    let mut fields = vec![];
    for column in columns {
        let (_, field) = column.to_field(schema)?;
        fields.push(field.as_ref().clone().with_nullable(true));
    }
    Ok(Arc::new(Schema::new(fields)))
}
