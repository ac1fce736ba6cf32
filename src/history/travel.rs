//! `AS OF`: from what stands behind the name of a table to one of its versions.

use std::convert::Infallible;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::DateTime;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{ExprSchemable, LogicalPlanBuilder};
use datafusion::physical_plan::collect;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, ObjectNamePart, VisitMut, VisitorMut};

use super::kept::Wanted;
use crate::sql::error::from_datafusion;
use crate::sql::names::fold;
use crate::sql::question::{AS_OF_HELP, AsOf, Travel};
use crate::sql::{Location, SourceFiles, SqlError};

/// The version that is asked for.
///
/// # Errors
/// The mistakes in the expression, each with its place.
pub(super) async fn wanted(
    travel: &Travel,
    state: &SessionState,
    files: &SourceFiles,
) -> Result<Wanted, Vec<SqlError>> {
    let wrong = |message: String, help: &str| vec![SqlError::new(travel.location, message).help(help)];
    match &travel.as_of {
        AsOf::Version(expr) => match value(expr, &DataType::Int64, travel.location, state, files).await? {
            ScalarValue::Int64(Some(version)) if version >= 0 => Ok(Wanted::Version(version.unsigned_abs())),
            other => Err(wrong(
                format!("a version is a number from 0 on, not {other}"),
                "'acequia history TABLE' lists the versions of a table",
            )),
        },
        AsOf::Time(expr) => {
            let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let time = match value(expr, &data_type, travel.location, state, files).await? {
                ScalarValue::TimestampMicrosecond(Some(time), _) => DateTime::from_timestamp_micros(time),
                _ => None,
            };
            let help = "write it as in TIMESTAMP AS OF '2026-11-29 12:00:00', in UTC";
            time.map(Wanted::Time).ok_or_else(|| wrong("this is no time".into(), help))
        }
    }
}

/// The value of an expression without columns.
async fn value(
    expr: &ast::Expr,
    data_type: &DataType,
    place: Location,
    state: &SessionState,
    files: &SourceFiles,
) -> Result<ScalarValue, Vec<SqlError>> {
    let computed = async {
        let no_columns = DFSchema::empty();
        let aliased = ast::ExprWithAlias { expr: expr.clone(), alias: None };
        let expr = state.create_logical_expr_from_sql_expr(aliased, &no_columns)?.cast_to(data_type, &no_columns)?;
        let plan = LogicalPlanBuilder::empty(true).project(vec![expr.alias("value")])?.build()?;
        let plan = state.create_physical_plan(&plan).await?;
        let batches = collect(plan, state.task_ctx()).await?;
        match batches.first() {
            Some(batch) if batch.num_rows() > 0 => ScalarValue::try_from_array(batch.column(0), 0),
            _ => ScalarValue::try_from(data_type),
        }
    };
    computed.await.map_err(|error| {
        let errors = from_datafusion(error, place.file, place, files);
        errors.into_iter().map(|error| if error.help.is_none() { error.help(CONSTANT) } else { error }).collect()
    })
}

const CONSTANT: &str = "AS OF takes a value that is the same for all rows, such as 3, '2026-11-29 12:00:00' or now() - \
                        INTERVAL '1 hour'";

/// A table's name in a statement whose version is asked for.
pub(super) struct Mentioned {
    /// Its schema and catalog, if they were written.
    pub qualifiers: Vec<String>,
    /// The name.
    pub name: String,
}

/// The name that stands before `travel`, which must be a table's.
///
/// # Errors
/// When it is none.
pub(super) fn mentioned(
    travel: &Travel,
    statement: &mut Statement,
    files: &SourceFiles,
) -> Result<Mentioned, SqlError> {
    let mut found = None;
    at_name(travel, statement, files, |name, _| {
        let mut parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
        found = parts.pop().map(|name| Mentioned { qualifiers: parts, name });
    });
    found.ok_or_else(|| SqlError::new(travel.location, "AS OF stands behind the name of a table only").help(AS_OF_HELP))
}

/// Puts the name of a version in the place of the table's; the rest of the statement knows it as before.
pub(super) fn rename(travel: &Travel, statement: &mut Statement, files: &SourceFiles, version: &str) {
    at_name(travel, statement, files, |name, alias| {
        let Some(last) = name.0.last_mut() else { return };
        if alias.is_none()
            && let Some(ident) = last.as_ident()
        {
            *alias = Some(ast::TableAlias { explicit: true, name: ident.clone(), columns: vec![], at: None });
        }
        *last = ObjectNamePart::Identifier(Ident::with_quote('"', version));
    });
}

/// Calls `act` with the name before `travel` and its alias.
fn at_name(
    travel: &Travel,
    statement: &mut Statement,
    files: &SourceFiles,
    act: impl FnMut(&mut ObjectName, &mut Option<ast::TableAlias>),
) {
    struct AtName<'a, F> {
        place: Location,
        files: &'a SourceFiles,
        act: F,
    }
    impl<F: FnMut(&mut ObjectName, &mut Option<ast::TableAlias>)> VisitorMut for AtName<'_, F> {
        type Break = Infallible;

        fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Infallible> {
            if let ast::TableFactor::Table { name, alias, .. } = factor
                && let Some(last) = name.0.last().and_then(|part| part.as_ident())
                && self.files.location(self.place.file, last.span) == self.place
            {
                (self.act)(name, alias);
            }
            ControlFlow::Continue(())
        }
    }
    let mut visitor = AtName { place: travel.name, files, act };
    if let Some(statement) = inner(statement) {
        let _ = statement.visit(&mut visitor);
    }
}

/// The statement in sqlparser's own form, without what DataFusion has around it.
pub(super) fn inner(statement: &mut Statement) -> Option<&mut ast::Statement> {
    match statement {
        Statement::Statement(statement) => Some(statement),
        Statement::Explain(explain) => inner(&mut explain.statement),
        _ => None,
    }
}
