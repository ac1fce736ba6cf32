//! Statements to a dataflow graph, by way of DataFusion's logical plans.

use crate::catalog::Program;
use crate::dataflow::graph::Graph;
use crate::sql::SqlErrors;

/// Plans a whole program: every query, with one source for each table that is read.
///
/// # Errors
/// All mistakes at once, each with its place: unknown columns, wrong types, queries that cannot run on an input
/// without end.
pub async fn plan(program: &Program) -> Result<Graph, SqlErrors> {
    let _ = program;
    unreachable!()
}
