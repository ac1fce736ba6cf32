//! One query on its way from syntax to an optimised streaming plan in the columns of its sink.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::{Column, DFSchema};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use super::error::{PlanError, Result};
use super::scans::TableExpressions;
use super::streaming::{Rewriter, SinkAbility, Streaming, hidden_column, visible_columns};
use super::tables::DeclaredTable;
use super::{PlanOptions, meaning, placed};
use crate::connectors::{SinkFactory, SinkMode};
use crate::operators::window::EVENT_TIME;
use crate::program::{Insert, InsertTarget, Program, Table};
use crate::sql::names::relations;
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
    /// What keeping the newest computes; empty without.
    pub newest_meaning: String,
    /// Whether windows may be published while they are open.
    pub early: bool,
    /// Whether it aggregates an input without end without a window: it has results only while it runs.
    pub endless: bool,
}

/// Makes the program's tables and views known to the session. Gives the names of the views that cannot be used, and
/// what is wrong in them.
pub async fn declare(program: &Program, session: &SessionState) -> (BTreeSet<String>, Vec<SqlError>) {
    let (mut broken, mut errors) = (BTreeSet::new(), vec![]);
    for (index, table) in program.tables.iter().enumerate() {
        let declared = Arc::new(DeclaredTable::new(index, table));
        if let Err(error) = register(&table.definition.name, declared, session) {
            errors.extend(placed(error, table.definition.location, &program.files));
        }
    }
    // Each view stands after those that it uses.
    for view in &program.views {
        let plan = match reads(&view.query, view.location, program, &broken) {
            true => None,
            false => Some(logical_plan(&view.query, session).await),
        };
        let registered =
            plan.map(|plan| plan.and_then(|plan| register(&view.name, Arc::new(ViewTable::new(plan, None)), session)));
        if !matches!(registered, Some(Ok(()))) {
            broken.insert(view.name.clone());
        }
        if let Some(Err(error)) = registered {
            errors.extend(placed(error, view.location, &program.files));
        }
    }
    (broken, errors)
}

fn register(name: &str, table: Arc<dyn TableProvider>, session: &SessionState) -> Result<()> {
    session.schema_for_ref("anything")?.register_table(name.to_string(), table)?;
    Ok(())
}

/// Whether a query that stands at `place` reads one of the views `names`.
pub fn reads(query: &ast::Query, place: Location, program: &Program, names: &BTreeSet<String>) -> bool {
    !names.is_empty() && relations(query, place, &program.files).iter().any(|name| names.contains(&name.text))
}

async fn logical_plan(query: &ast::Query, session: &SessionState) -> Result<LogicalPlan> {
    let mut query = query.clone();
    let _ = query.visit(&mut NameUnnested);
    let statement = Statement::Statement(Box::new(ast::Statement::Query(Box::new(query))));
    Ok(session.statement_to_plan(statement).await?)
}

/// The same query with a name of its own for each computed column: what is inserted goes by place, so that two of one name
/// are no mistake there.
fn with_own_names(query: &ast::Query) -> ast::Query {
    fn name(body: &mut ast::SetExpr) {
        match body {
            ast::SetExpr::Select(select) => {
                for (item, place) in select.projection.iter_mut().zip(1..) {
                    if let ast::SelectItem::UnnamedExpr(expr) = item
                        && !matches!(expr, ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_))
                    {
                        let alias = ast::Ident::with_quote('"', format!("column {place}"));
                        *item = ast::SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                    }
                }
            }
            ast::SetExpr::SetOperation { left, right, .. } => {
                name(left);
                name(right);
            }
            _ => {}
        }
    }
    let mut query = query.clone();
    name(&mut query.body);
    query
}

/// Forms of UNNEST in FROM that PostgreSQL has and DataFusion's planner has not: `UNNEST(tags) AS tag` names the column
/// too, and LATERAL goes without saying.
struct NameUnnested;

impl VisitorMut for NameUnnested {
    type Break = Infallible;

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Infallible> {
        if let ast::TableFactor::Function { lateral: true, name, args, with_ordinality, alias } = factor
            && name.to_string().eq_ignore_ascii_case("unnest")
        {
            let arrays = args.iter().map(|arg| match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(array)) => Some(array.clone()),
                _ => None,
            });
            if let Some(array_exprs) = arrays.collect() {
                *factor = ast::TableFactor::UNNEST {
                    alias: alias.take(),
                    array_exprs,
                    with_offset: false,
                    with_offset_alias: None,
                    with_ordinality: *with_ordinality,
                };
            }
        }
        if let ast::TableFactor::UNNEST { alias: Some(alias), array_exprs, .. } = factor
            && alias.columns.is_empty()
            && array_exprs.len() == 1
        {
            alias.columns.push(ast::TableAliasColumnDef { name: alias.name.clone(), data_type: None });
        }
        ControlFlow::Continue(())
    }
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
    let plan = match logical_plan(&insert.query, session).await {
        Err(error) if target.is_some() && error.to_string().contains("unique expression names") => {
            logical_plan(&with_own_names(&insert.query), session).await?
        }
        planned => planned?,
    };
    let analyzed = session.analyzer().execute_and_check(plan, session.config_options(), |_, _| {})?;
    let streaming = Rewriter { tables, sink: ability }.rewrite(&analyzed)?;
    let columns = sink_columns(&streaming, table, target)?;
    let schema = match table {
        Some(table) => table.definition.writable_schema(),
        None => printed_schema(streaming.plan.schema(), &columns)?,
    };
    let keep_newest = newest_keys(&streaming, &columns, &schema, &mode);
    let early = streaming.early.allowed(key_columns(&schema, &mode).into_iter().map(|key| columns[key].clone()));
    let endless = streaming.endless;
    if endless && !early {
        return Err(PlanError::refused(
            "rows of an aggregate without a window change for ever, and what HAVING, WHERE or a changed key leaves \
             behind would stay",
            "filter by and give as the key only what is in GROUP BY, or add a window, GROUP BY tumble(INTERVAL '1 minute')",
        ));
    }
    let mut exprs: Vec<Expr> =
        columns.into_iter().zip(schema.fields()).map(|(expr, field)| expr.alias(field.name())).collect();
    if keep_newest.is_some() {
        exprs.extend(hidden_column(streaming.plan.schema(), EVENT_TIME).map(Expr::Column));
    }
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(streaming.plan))?);
    let newest_meaning = match &keep_newest {
        Some(keys) => meaning::of_newest(&plan, keys, tables)?,
        None => String::new(),
    };
    let plan = session.optimizer().optimize(plan, session, |_, _| {})?;
    Ok(QueryPlan {
        name: insert.name.clone(),
        location: insert.location,
        target: index,
        sink,
        schema,
        plan,
        keep_newest,
        newest_meaning,
        early,
        endless,
    })
}

/// One expression for each column of the sink, in its type; columns that the query does not give are null.
fn sink_columns(streaming: &Streaming, table: Option<&Table>, target: Option<&InsertTarget>) -> Result<Vec<Expr>> {
    let given = visible_columns(streaming.plan.schema());
    let (Some(table), Some(target)) = (table, target) else {
        return given.into_iter().map(|column| printable(column, streaming.plan.schema())).collect();
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

fn cast(column: &Column, to: &DataType, schema: &DFSchema, table: &str) -> Result<Expr> {
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

/// A column as a bare `SELECT` prints it: lengths of time, which no format has, as text.
fn printable(column: Column, schema: &DFSchema) -> Result<Expr> {
    let expr = Expr::Column(column);
    match expr.get_type(schema)? {
        DataType::Duration(_) | DataType::Interval(_) => {
            let name = expr.schema_name().to_string();
            Ok(expr.cast_to(&DataType::Utf8, schema)?.alias(name))
        }
        DataType::Union(..) => Err(PlanError::refused(
            format!("column {} is a JSON value of any type, which cannot be printed", expr.schema_name()),
            "take it as a type: ->> and json_get_str() give text, json_get_int() and json_get_float() numbers",
        )),
        _ => Ok(expr),
    }
}

fn count(columns: usize) -> String {
    if columns == 1 { "1 column".into() } else { format!("{columns} columns") }
}

/// The key by which a sink shows the newest window, or `None` if it adds rows or the window is in the key.
fn newest_keys(streaming: &Streaming, columns: &[Expr], schema: &Schema, mode: &SinkMode) -> Option<Vec<usize>> {
    if *mode == SinkMode::Append || !streaming.windowed || !streaming.timed() {
        return None;
    }
    let keys = key_columns(schema, mode);
    let by_window = keys.iter().any(|key| streaming.windows.tell(&columns[*key]));
    if by_window { None } else { Some(keys) }
}

/// The columns by which a sink replaces rows.
fn key_columns(schema: &Schema, mode: &SinkMode) -> Vec<usize> {
    match mode {
        SinkMode::Append => vec![],
        SinkMode::Upsert(names) => names.iter().filter_map(|name| schema.index_of(name).ok()).collect(),
    }
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
