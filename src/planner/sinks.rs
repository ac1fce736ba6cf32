//! The far end of the graph: one sink node for each table that is written, whoever writes it.
//!
//! Queries, late rows and dead letters of several sources may all go to one table; its sink node then has an edge
//! from each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::prelude::ident;
use datafusion::scalar::ScalarValue;

use super::compile::{Compiler, LateStream, Stream};
use super::error::{PlanError, Result};
use super::meaning::fingerprint;
use super::queries::QueryPlan;
use super::scans::TableExpressions;
use super::streaming::ORIGIN;
use crate::catalog::BadRows;
use crate::connectors::{SinkFactory, SinkMode};
use crate::dataflow::graph::{DEAD_LETTERS, Distribution, Edge, Node, NodeId, NodeKind, SINK_SUFFIX, SinkNode};
use crate::operators::latest::Latest;
use crate::operators::{MAIN, Operator};
use crate::program::Program;

/// How often windows are published early where a query must publish and its table does not say how often.
const DEFAULT_EARLY: Duration = Duration::from_secs(1);

/// The column of a table of late rows that says for which query they are late.
const QUERY: &str = "query";

/// The sink nodes to be.
pub struct Sinks<'a> {
    program: &'a Program,
    tables: &'a [TableExpressions],
    /// By table index.
    of_tables: BTreeMap<usize, Vec<Edge>>,
    /// Bare `SELECT`s: each has its own.
    printed: Vec<Printed>,
}

/// The sink of a bare `SELECT`.
struct Printed {
    query: String,
    factory: Arc<dyn SinkFactory>,
    schema: SchemaRef,
    edges: Vec<Edge>,
}

impl<'a> Sinks<'a> {
    /// No sinks yet.
    pub fn new(program: &'a Program, tables: &'a [TableExpressions]) -> Sinks<'a> {
        Sinks { program, tables, of_tables: BTreeMap::new(), printed: vec![] }
    }

    /// Compiles a query down to the edges that its sink reads.
    ///
    /// # Errors
    /// When an expression has no physical form.
    pub fn add_query(&mut self, query: &QueryPlan, compiler: &mut Compiler<'_>) -> Result<()> {
        compiler.query = query.name.clone();
        compiler.late.clear();
        let upsert = matches!(query.sink.mode(), SinkMode::Upsert(_));
        let wanted = query.target.and_then(|table| self.program.tables[table].settings.emit_early);
        let wanted = wanted.filter(|_| query.early);
        // A result without a window is complete only at the end of all time: early is the only time to publish it.
        let early = upsert.then(|| wanted.or(query.endless.then_some(DEFAULT_EARLY))).flatten();
        let streams = compiler.compile(&query.plan, early)?;
        let edges = match &query.keep_newest {
            Some(keys) => vec![keep_newest(query, keys, streams, compiler)?],
            None => streams
                .into_iter()
                .map(|stream| compiler.settle(stream.renamed(&query.schema)).map(gathered))
                .collect::<DataFusionResult<Vec<Edge>>>()?,
        };
        match query.target {
            Some(table) => self.of_tables.entry(table).or_default().extend(edges),
            None => {
                let (factory, schema) = (Arc::clone(&query.sink), Arc::clone(&query.schema));
                self.printed.push(Printed { query: query.name.clone(), factory, schema, edges });
            }
        }
        for late in std::mem::take(&mut compiler.late) {
            self.add_late_rows(late, compiler)?;
        }
        Ok(())
    }

    /// Late rows go to the table that their own table names; without one they are only counted. A row may be late for one
    /// query and in time for another: a text column `query` of that table, unless it is one of the rows' own, says for
    /// which it is there.
    fn add_late_rows(&mut self, late: LateStream, compiler: &mut Compiler<'_>) -> Result<()> {
        let Some((_, origin)) = late.schema.column_with_name(ORIGIN) else { return Ok(()) };
        let source = compiler.source_of(&late.stream);
        let name = source.and_then(|source| self.tables.iter().find(|t| t.table.definition.name == source));
        let Some(target) = name.and_then(|table| table.table.settings.late_rows.clone()) else { return Ok(()) };
        let Some(index) = self.program.tables.iter().position(|table| table.definition.name == target.name) else {
            return Ok(());
        };
        let schema = self.program.tables[index].definition.writable_schema();
        let input = DFSchema::try_from(late.schema.as_ref().clone())?;
        let mut exprs = vec![];
        for field in schema.fields() {
            let kept = match origin.data_type() {
                DataType::Struct(parts) => parts.iter().any(|part| part.name() == field.name()),
                _ => false,
            };
            let expr = if kept {
                get_field(ident(ORIGIN), field.name().as_str()).cast_to(field.data_type(), &input)?
            } else if field.name() == QUERY && is_text(field.data_type()) {
                datafusion::prelude::lit(compiler.query.as_str()).cast_to(field.data_type(), &input)?
            } else if field.is_nullable() {
                Expr::Literal(ScalarValue::try_from(field.data_type())?, None)
            } else {
                return Err(PlanError::refused(
                    format!("column {} of {} is NOT NULL and late rows do not have it", field.name(), target.name),
                    "let it be null, or give it the name of a column of the table that is read",
                ));
            };
            exprs.push(compiler.session.create_physical_expr(expr, &input)?);
        }
        let stream = late.stream.projected(exprs, schema);
        let edge = gathered(compiler.settle(stream)?);
        self.of_tables.entry(index).or_default().push(edge);
        Ok(())
    }

    /// Gives each source whose table names a table for dead letters that second output, and the sink its edge.
    ///
    /// # Errors
    /// When a column of that table cannot be left out.
    pub fn add_dead_letters(&mut self, compiler: &mut Compiler<'_>) -> Result<()> {
        for (table, node) in self.tables.iter().zip(compiler.sources.clone()) {
            let (Some(node), BadRows::Table(target)) = (node, &table.table.settings.bad_rows) else { continue };
            let position = self.program.tables.iter().position(|other| other.definition.name == target.name);
            let Some(index) = position else { continue };
            let schema = self.program.tables[index].definition.writable_schema();
            let source = &mut compiler.graph.nodes[node.0];
            source.outputs.push(Arc::clone(&schema));
            if let NodeKind::Source(source) = &mut source.kind {
                source.dead_letters = Some(schema);
            }
            let edge = Edge { from: node, output: DEAD_LETTERS, distribution: Distribution::Gather };
            self.of_tables.entry(index).or_default().push(edge);
        }
        Ok(())
    }

    /// Adds the nodes.
    pub fn finish(self, compiler: &mut Compiler<'_>) {
        for (index, edges) in self.of_tables {
            let table = &self.program.tables[index];
            let Some(factory) = table.connector.sink() else { continue };
            let name = compiler.graph.free_name(sink_name(&table.definition.name, compiler));
            let schema = table.definition.writable_schema();
            add_sink(name, table.definition.name.clone(), factory, schema, edges, compiler);
        }
        for Printed { query, factory, schema, edges } in self.printed {
            add_sink(format!("{query}.print"), query, factory, schema, edges, compiler);
        }
    }
}

/// A table that is also read has a source node of its name already.
fn sink_name(table: &str, compiler: &Compiler<'_>) -> String {
    let taken = compiler.graph.nodes.iter().any(|node| node.name == table);
    if taken { format!("{table}{SINK_SUFFIX}") } else { table.to_string() }
}

fn add_sink(
    name: String,
    table: String,
    factory: Arc<dyn SinkFactory>,
    schema: SchemaRef,
    edges: Vec<Edge>,
    compiler: &mut Compiler<'_>,
) -> NodeId {
    let detail = factory.describe();
    let kind = NodeKind::Sink(SinkNode { table, factory, schema });
    compiler.graph.add(Node { name, detail, kind, inputs: vec![edges], outputs: vec![] })
}

/// An operator before the sink that drops rows of windows older than what a key already shows.
fn keep_newest(
    query: &QueryPlan,
    keys: &[usize],
    streams: Vec<Stream>,
    compiler: &mut Compiler<'_>,
) -> DataFusionResult<Edge> {
    let mut fields = query.schema.fields().to_vec();
    fields.extend(query.plan.schema().fields().last().cloned());
    let input = Arc::new(Schema::new(fields));
    let mut edges = vec![];
    for stream in streams {
        edges.push(gathered(compiler.settle(stream.renamed(&input))?));
    }
    let (keys, output) = (keys.to_vec(), Arc::clone(&query.schema));
    let identity = fingerprint(&query.newest_meaning, &[&Latest::state_schema(&keys, &input)]);
    let names: Vec<&str> = keys.iter().map(|key| query.schema.field(*key).name().as_str()).collect();
    let detail = match names.as_slice() {
        [] => "keep the newest window".to_string(),
        names => format!("keep the newest window of each {}", names.join(", ")),
    };
    let factory = move |_: usize, _: usize| -> DataFusionResult<Box<dyn Operator>> {
        Ok(Box::new(Latest::new(keys.clone(), &input, Arc::clone(&output))?))
    };
    let id = compiler.operator("newest", detail, factory, None, vec![edges], vec![Arc::clone(&query.schema)]);
    compiler.identify(id, identity);
    Ok(Edge { from: id, output: MAIN, distribution: Distribution::Gather })
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn gathered(edge: Edge) -> Edge {
    Edge { distribution: Distribution::Gather, ..edge }
}
