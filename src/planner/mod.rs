//! Statements to a dataflow graph, by way of DataFusion's logical plans.
//!
//! Each query goes the same way: DataFusion's planner gives names and types ([`session`]), the rewrite makes a
//! streaming plan of it ([`streaming`]), DataFusion's optimizer moves filters and projections towards the sources,
//! and what is left becomes nodes and edges ([`compile`]). Tables that several queries read get one source with the
//! columns that any of them needs ([`scans`]).

mod compile;
mod durations;
mod early;
mod error;
mod flink_functions;
mod functions;
mod lateral;
mod meaning;
mod per_window_node;
mod queries;
mod refusals;
mod round;
mod scans;
pub mod session;
mod sinks;
mod streaming;
mod tables;
mod window_node;
mod windows;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use crate::connectors::SinkFactory;
use crate::dataflow::graph::Graph;
use crate::program::Program;
use crate::sql::error::from_datafusion;
use crate::sql::{Location, SourceFiles, SqlError, SqlErrors};
use compile::Compiler;
use error::PlanError;
use queries::QueryPlan;
use scans::TableExpressions;
use tables::SourceColumns;

/// What decides about a plan beside the program.
#[derive(Clone)]
pub struct PlanOptions {
    /// Every source stops at the end of what is there, so that whatever needs a whole input may run.
    pub bounded: bool,
    /// Where the rows of a bare `SELECT` go.
    pub print: Arc<dyn SinkFactory>,
}

/// Plans a whole program: every query, with one source for each table that is read.
///
/// # Errors
/// All mistakes at once, each with its place: unknown columns, wrong types, queries that cannot run on an input
/// without end.
pub async fn plan(program: &Program, options: &PlanOptions) -> Result<Graph, SqlErrors> {
    let mut errors = vec![];
    match Planner::new(program, options, &mut errors).await {
        Some(planner) => {
            let graph = planner.graph(&mut errors).await;
            if errors.is_empty() { Ok(graph) } else { Err(in_order(program, errors)) }
        }
        None => Err(in_order(program, errors)),
    }
}

fn in_order(program: &Program, mut errors: Vec<SqlError>) -> SqlErrors {
    errors.dedup();
    SqlErrors::new(program.files.clone(), errors)
}

/// Plans one program.
struct Planner<'a> {
    program: &'a Program,
    options: &'a PlanOptions,
    session: datafusion::execution::SessionState,
    tables: Vec<TableExpressions>,
    /// The views with mistakes, and those that read them.
    broken: BTreeSet<String>,
}

impl<'a> Planner<'a> {
    /// Resolves tables and views; `None` if there is no point in going on.
    async fn new(program: &'a Program, options: &'a PlanOptions, errors: &mut Vec<SqlError>) -> Option<Planner<'a>> {
        let session = match session::session() {
            Ok(session) => session,
            Err(error) => {
                errors.push(SqlError::new(Location::default(), error.strip_backtrace()));
                return None;
            }
        };
        let mut tables = vec![];
        for table in &program.tables {
            match TableExpressions::new(table, options.bounded, &session) {
                Ok(resolved) => tables.push(resolved),
                Err(error) => {
                    let place = table.definition.location;
                    errors.extend(placed(error.into(), place, &program.files));
                }
            }
        }
        if !errors.is_empty() {
            return None;
        }
        let (broken, view_errors) = queries::declare(program, &session).await;
        errors.extend(view_errors);
        Some(Planner { program, options, session, tables, broken })
    }

    async fn graph(&self, errors: &mut Vec<SqlError>) -> Graph {
        let mut plans = vec![];
        for insert in &self.program.inserts {
            if queries::reads(&insert.query, insert.location, self.program, &self.broken) {
                continue;
            }
            match queries::query_plan(insert, self.program, &self.session, &self.tables, self.options).await {
                Ok(plan) => plans.push(plan),
                Err(error) => errors.extend(placed(error, insert.location, &self.program.files)),
            }
        }
        let mut compiler = Compiler {
            graph: Graph::default(),
            session: &self.session,
            sources: vec![None; self.tables.len()],
            late: vec![],
            query: String::new(),
        };
        self.add_sources(&plans, &mut compiler, errors);
        if !errors.is_empty() {
            return compiler.graph;
        }
        let mut sinks = sinks::Sinks::new(self.program, &self.tables);
        for plan in &plans {
            if let Err(error) = sinks.add_query(plan, &mut compiler) {
                errors.extend(placed(error, plan.location, &self.program.files));
            }
        }
        if let Err(error) = sinks.add_dead_letters(&mut compiler) {
            errors.extend(placed(error, Location::default(), &self.program.files));
        }
        sinks.finish(&mut compiler);
        compiler.graph
    }

    /// One source node for each table that any plan reads, with the columns that they all need.
    fn add_sources(&self, plans: &[QueryPlan], compiler: &mut Compiler<'_>, errors: &mut Vec<SqlError>) {
        let mut wanted: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for plan in plans {
            // The closure never fails.
            let _ = plan.plan.apply(|node| {
                if let LogicalPlan::TableScan(scan) = node
                    && let Some((table, columns)) = SourceColumns::of(scan)
                {
                    wanted.entry(table).or_default().extend(columns);
                }
                Ok(TreeNodeRecursion::Continue)
            });
        }
        for (table, columns) in wanted {
            match self.tables[table].source_node(&columns, &self.session) {
                Ok(node) => compiler.sources[table] = Some(compiler.graph.add(node)),
                Err(error) => {
                    let place = self.tables[table].table.definition.location;
                    errors.extend(placed(error.into(), place, &self.program.files));
                }
            }
        }
    }
}

/// An error at its place in the files.
fn placed(error: PlanError, place: Location, files: &SourceFiles) -> Vec<SqlError> {
    match error {
        PlanError::Refused { message, help } => vec![SqlError::new(place, message).help(help)],
        PlanError::DataFusion(error) => from_datafusion(error, place.file, place, files),
    }
}
