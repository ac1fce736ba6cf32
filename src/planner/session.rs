//! DataFusion's session: its functions and ours, and settings under which plans are the same everywhere.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast;
use std::sync::Arc;

use super::durations::with_durations;
use super::{flink_functions, functions, round};

/// A session with every function that SQL may call.
///
/// # Errors
/// When a function cannot be registered, which is a defect.
pub fn session() -> Result<SessionState> {
    let mut config = SessionConfig::new()
        // A subplan sees one window or one batch: splitting that over threads costs more than it gives.
        .with_target_partitions(1)
        .with_batch_size(8192);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    // As where tables are declared: TIMESTAMP WITH TIME ZONE is in UTC.
    options.execution.time_zone = Some("+00:00".into());
    options.optimizer.enable_dynamic_filter_pushdown = false;
    // It would compute parts of structs before a join or sort keeps the rows: more state, and state that changes with
    // what is selected from it.
    options.optimizer.enable_leaf_expression_pushdown = false;
    let mut state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    functions::register(&mut state)?;
    flink_functions::register(&mut state)?;
    round::register(&mut state)?;
    datafusion_functions_json::register_all(&mut state)?;
    Ok(state)
}

/// The meaning of an expression that stands in a table's declaration, over columns of `schema`, as `data_type`.
///
/// # Errors
/// Unknown columns and functions, types that do not fit.
pub fn declared_expression(
    expression: &ast::Expr,
    data_type: &DataType,
    schema: &DFSchema,
    session: &SessionState,
) -> Result<Expr> {
    let aliased = ast::ExprWithAlias { expr: expression.clone(), alias: None };
    let expr = session.create_logical_expr_from_sql_expr(aliased, schema)?;
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(session.config_options()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let expr = with_durations(simplifier.coerce(expr, schema)?, schema)?;
    expr.cast_to(data_type, schema)
}
