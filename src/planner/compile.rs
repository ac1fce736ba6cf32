//! An optimised streaming plan becomes nodes and edges of the dataflow graph.
//!
//! Stateless plan nodes gather as steps on a [`Stream`] and become one operator when something stateful, or a sink,
//! reads them. A union is no operator at all: it is several streams, and whoever reads them has several edges.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, Result, internal_err, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, cast};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::meaning::{fingerprint, first_phase};
use super::per_window_node::PerWindowNode;
use super::streaming::{LEFT_TIME, RIGHT_TIME, hidden_column, join_conditions, partition_by};
use super::tables::SourceColumns;
use super::window_node::WindowAggregateNode;
use crate::checkpoint::takeover::Fingerprint;
use crate::dataflow::graph::{Distribution, Edge, Graph, Node, NodeId, NodeKind, OperatorFactory, OperatorNode};
use crate::operators::aggregate::{FinalAggregate, PartialAggregate};
use crate::operators::map::{Map, Step};
use crate::operators::per_window::{Grouping, PerWindow, WindowInput};
use crate::operators::subplan::Subplan;
use crate::operators::window::{AggregateCall, EVENT_TIME, WindowAggregate, WindowKind};
use crate::operators::{LATE, MAIN, Operator, OutputIndex};

/// Rows on their way: where they come from and the stateless steps that they still have to go through.
#[derive(Clone)]
pub struct Stream {
    /// The node that sends them.
    pub node: NodeId,
    /// By which output.
    pub output: OutputIndex,
    steps: Vec<StepPlan>,
    /// What they are after the steps.
    pub schema: SchemaRef,
}

/// A step as a plan, from which each instance makes its own.
#[derive(Clone)]
enum StepPlan {
    Filter(Arc<dyn PhysicalExpr>),
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
    Unnest(Arc<LogicalPlan>, SchemaRef),
}

/// Rows that came too late for a window, and the table that they were read from.
pub struct LateStream {
    /// The rows, as the window saw them.
    pub stream: Stream,
    /// The columns that they have.
    pub schema: SchemaRef,
}

/// Builds the graph of one query after another.
pub struct Compiler<'a> {
    /// What has been built.
    pub graph: Graph,
    /// The session, for expressions and subplans.
    pub session: &'a SessionState,
    /// The source nodes by table index.
    pub sources: Vec<Option<NodeId>>,
    /// The late rows of the query being compiled.
    pub late: Vec<LateStream>,
    /// The query's name, with which node names begin.
    pub query: String,
}

impl Compiler<'_> {
    /// The streams that give the rows of `plan`. With `early`, windows straight below publish early results.
    ///
    /// # Errors
    /// When DataFusion has no physical form for an expression.
    pub fn compile(&mut self, plan: &LogicalPlan, early: Option<Duration>) -> Result<Vec<Stream>> {
        match plan {
            LogicalPlan::TableScan(_) => Ok(vec![self.read(plan)?]),
            LogicalPlan::Projection(projection) => {
                let streams = self.compile(&projection.input, early)?;
                let schema = Arc::clone(projection.schema.inner());
                let exprs = projection.expr.iter().zip(schema.fields());
                let exprs: Vec<_> = exprs
                    .map(|(e, field)| self.physical_expr_of(e, projection.input.schema(), field))
                    .collect::<Result<_>>()?;
                Ok(streams.into_iter().map(|s| s.then(StepPlan::Project(exprs.clone(), schema.clone()))).collect())
            }
            LogicalPlan::Filter(filter) => {
                let streams = self.compile(&filter.input, early)?;
                let predicate = self.physical_expr(&filter.predicate, filter.input.schema())?;
                Ok(streams.into_iter().map(|stream| stream.then(StepPlan::Filter(predicate.clone()))).collect())
            }
            LogicalPlan::SubqueryAlias(alias) => self.compile(&alias.input, early),
            LogicalPlan::Union(union) => {
                let mut streams = vec![];
                for input in &union.inputs {
                    streams.extend(self.compile(input, early)?);
                }
                let schema = Arc::clone(union.schema.inner());
                Ok(streams.into_iter().map(|stream| stream.renamed(&schema)).collect())
            }
            LogicalPlan::Unnest(unnest) => {
                let streams = self.compile(&unnest.input, early)?;
                let schema = Arc::clone(unnest.schema.inner());
                let node = Arc::new(plan.clone());
                Ok(streams.into_iter().map(|s| s.then(StepPlan::Unnest(node.clone(), schema.clone()))).collect())
            }
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(node) = node.downcast_ref::<WindowAggregateNode>() {
                    return Ok(vec![self.window_aggregate(node, early)?]);
                }
                if let Some(node) = node.downcast_ref::<PerWindowNode>() {
                    return self.per_window(node);
                }
                internal_err!("unknown plan node {}", extension.node.name())
            }
            LogicalPlan::EmptyRelation(_) => {
                plan_err!("the query can never give a row: its conditions contradict each other")
            }
            other => internal_err!("no dataflow for {}", other.display()),
        }
    }

    fn read(&mut self, plan: &LogicalPlan) -> Result<Stream> {
        let LogicalPlan::TableScan(scan) = plan else { return internal_err!("not a scan") };
        let Some((index, names)) = SourceColumns::of(scan) else { return internal_err!("not a source") };
        let Some(node) = self.sources[index] else { return internal_err!("the source is not there") };
        let source = &self.graph.nodes[node.0].outputs[MAIN];
        let columns = names.iter().map(|name| Ok(source.index_of(name)?)).collect::<Result<Vec<_>>>()?;
        let schema = Arc::clone(scan.projected_schema.inner());
        let stream = Stream { node, output: MAIN, steps: vec![], schema: Arc::clone(source) };
        if columns.iter().copied().eq(0..source.fields().len()) {
            return Ok(stream);
        }
        Ok(stream.then(StepPlan::Project(column_exprs(source, &columns), schema)))
    }

    fn window_aggregate(&mut self, node: &WindowAggregateNode, early: Option<Duration>) -> Result<Stream> {
        let inputs = self.compile(&node.input, None)?;
        let spec = Arc::new(self.window_spec(node)?);
        spec.check()?;
        let partial_schema = spec.partial_schema()?;
        let detail = node.describe();
        let distribution = match spec.partial_group_columns() {
            groups if groups.is_empty() => Distribution::Gather,
            groups => Distribution::Hash(groups),
        };
        let mut edges = vec![];
        for stream in inputs {
            let edge = self.settle(stream.renamed(&spec.input))?;
            let making = Arc::clone(&spec);
            let factory = move |_: usize, _: usize| -> Result<Box<dyn Operator>> {
                Ok(Box::new(PartialAggregate::new(Arc::clone(&making))?))
            };
            let outputs = vec![Arc::clone(&partial_schema), Arc::clone(&spec.input)];
            let partial =
                self.operator("partial", format!("partial {detail}"), factory, early, vec![vec![edge]], outputs);
            self.identify(partial, first_phase(&node.meaning));
            edges.push(Edge { from: partial, output: MAIN, distribution: distribution.clone() });
            if node.window != WindowKind::Instant && node.window != WindowKind::Global {
                let stream = Stream { node: partial, output: LATE, steps: vec![], schema: Arc::clone(&spec.input) };
                self.late.push(LateStream { stream, schema: Arc::clone(&spec.input) });
            }
        }
        let making = Arc::clone(&spec);
        let publishes = early.is_some();
        let factory = move |instance: usize, _: usize| -> Result<Box<dyn Operator>> {
            Ok(Box::new(FinalAggregate::new(Arc::clone(&making), publishes, instance)?))
        };
        let outputs = vec![Arc::clone(&spec.output)];
        let id = self.operator("window", detail, factory, early, vec![edges], outputs);
        self.identify(id, fingerprint(&node.meaning, &[&partial_schema]));
        let stream = Stream { node: id, output: MAIN, steps: vec![], schema: Arc::clone(&spec.output) };
        Ok(stream.renamed(node.schema.inner()))
    }

    fn window_spec(&self, node: &WindowAggregateNode) -> Result<WindowAggregate> {
        let schema = node.input.schema();
        let mut groups = vec![];
        let first_group = usize::from(node.window.has_window_column());
        for (index, expr) in node.groups.iter().enumerate() {
            let field = Arc::clone(&node.schema.fields()[first_group + index]);
            groups.push((self.physical_expr_of(expr, schema, &field)?, field));
        }
        let context = PhysicalPlanningContext::default();
        let properties = self.session.execution_props();
        let mut calls = vec![];
        for expr in &node.aggregates {
            let lowered =
                LoweredAggregateBuilder::new(expr, schema, schema.as_arrow(), properties, &context).build()?;
            calls.push(AggregateCall { function: lowered.aggregate, filter: lowered.filter });
        }
        Ok(WindowAggregate::new(node.window, Arc::clone(schema.inner()), groups, calls))
    }

    /// An operator that runs one plan node over the rows of each window.
    fn per_window(&mut self, per_window: &PerWindowNode) -> Result<Vec<Stream>> {
        let node = &per_window.node;
        let suffix = match node {
            LogicalPlan::Join(_) => "join",
            LogicalPlan::Window(_) => "over",
            LogicalPlan::Limit(_) => "limit",
            _ => "sort",
        };
        let mut edges = vec![];
        let mut inputs = vec![];
        for (input, distribution) in node.inputs().into_iter().zip(distributions(per_window)?) {
            let schema = Arc::clone(input.schema().inner());
            let mut input_edges = vec![];
            for stream in self.compile(input, None)? {
                let edge = self.settle(stream.renamed(&schema))?;
                input_edges.push(Edge { distribution: distribution.clone(), ..edge });
            }
            edges.push(input_edges);
            let event_time = match per_window.grouping {
                Grouping::EventTime => Some(event_time_index(input.schema())?),
                Grouping::Everything => None,
            };
            inputs.push(WindowInput { schema, event_time });
        }
        let kept: Vec<&Schema> = inputs.iter().map(|input| input.schema.as_ref()).collect();
        let identity = fingerprint(&per_window.meaning, &kept);
        let schema = Arc::clone(node.schema().inner());
        let session = self.session.clone();
        let (subplan, output) = (node.clone(), Arc::clone(&schema));
        let factory = move |_: usize, _: usize| -> Result<Box<dyn Operator>> {
            let plan = Subplan::new(&subplan, Arc::clone(&output), &session)?;
            Ok(Box::new(PerWindow::new(inputs.clone(), plan)))
        };
        // What cannot be made is said now, with the query's place, and not when the pipeline starts.
        factory(0, 1)?;
        let id = self.operator(suffix, node.display().to_string(), factory, None, edges, vec![Arc::clone(&schema)]);
        self.identify(id, identity);
        Ok(vec![Stream { node: id, output: MAIN, steps: vec![], schema }])
    }

    /// The edge by which a stream can be read, once its steps have become an operator.
    ///
    /// # Errors
    /// When a step cannot be made.
    pub fn settle(&mut self, stream: Stream) -> Result<Edge> {
        if stream.steps.is_empty() {
            return Ok(Edge { from: stream.node, output: stream.output, distribution: Distribution::Forward });
        }
        let steps = stream.steps;
        let detail = steps.iter().map(StepPlan::describe).collect::<Vec<_>>().join(" → ");
        let session = self.session.clone();
        let factory = move |_: usize, _: usize| -> Result<Box<dyn Operator>> {
            let steps = steps.iter().map(|step| step.make(&session)).collect::<Result<Vec<_>>>()?;
            Ok(Box::new(Map::new(steps)))
        };
        factory(0, 1)?;
        let input = Edge { from: stream.node, output: stream.output, distribution: Distribution::Forward };
        let id = self.operator("map", detail, factory, None, vec![vec![input]], vec![stream.schema]);
        Ok(Edge { from: id, output: MAIN, distribution: Distribution::Forward })
    }

    /// Adds an operator node.
    pub fn operator(
        &mut self,
        suffix: &str,
        detail: String,
        factory: impl OperatorFactory + 'static,
        tick: Option<Duration>,
        inputs: Vec<Vec<Edge>>,
        outputs: Vec<SchemaRef>,
    ) -> NodeId {
        let base = format!("{}.{suffix}", self.query);
        let name = self.graph.free_name(base);
        let kind = NodeKind::Operator(OperatorNode { factory: Arc::new(factory), tick, fingerprint: None });
        self.graph.add(Node { name, detail, kind, inputs, outputs })
    }

    /// Says what an operator with state computes.
    pub fn identify(&mut self, node: NodeId, fingerprint: Fingerprint) {
        if let NodeKind::Operator(operator) = &mut self.graph.nodes[node.0].kind {
            operator.fingerprint = Some(fingerprint);
        }
    }

    /// The table at the far end of a stream, if a single source feeds it.
    pub fn source_of(&self, stream: &Stream) -> Option<&str> {
        let mut node = stream.node;
        loop {
            let current = &self.graph.nodes[node.0];
            if let NodeKind::Source(source) = &current.kind {
                return Some(&source.table);
            }
            let [edge] = current.inputs.first()?.as_slice() else { return None };
            node = edge.from;
        }
    }

    fn physical_expr(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        create_physical_expr(expr, schema, self.session.execution_props(), &PhysicalPlanningContext::default())
    }

    /// An expression whose values have the type that the plan says they have, whatever its function makes of constants.
    fn physical_expr_of(&self, expr: &Expr, input: &DFSchema, field: &Field) -> Result<Arc<dyn PhysicalExpr>> {
        let expr = self.physical_expr(expr, input)?;
        match expr.data_type(input.as_arrow())? == *field.data_type() {
            true => Ok(expr),
            false => cast(expr, input.as_arrow(), field.data_type().clone()),
        }
    }
}

impl Stream {
    fn then(mut self, step: StepPlan) -> Stream {
        self.schema = match &step {
            StepPlan::Filter(_) => self.schema,
            StepPlan::Project(_, schema) | StepPlan::Unnest(_, schema) => Arc::clone(schema),
        };
        let step = match (self.steps.pop(), step) {
            (Some(StepPlan::Project(computed, before)), StepPlan::Project(exprs, schema)) => {
                match chosen_columns(&exprs) {
                    // Only a choice among what was just computed: one step does both.
                    Some(columns) => {
                        let chosen = columns.into_iter().map(|column| Arc::clone(&computed[column])).collect();
                        StepPlan::Project(chosen, schema)
                    }
                    None => {
                        self.steps.push(StepPlan::Project(computed, before));
                        StepPlan::Project(exprs, schema)
                    }
                }
            }
            (last, step) => {
                self.steps.extend(last);
                step
            }
        };
        self.steps.push(step);
        self
    }

    /// The same rows under the names and nullability of `schema`.
    pub fn renamed(self, schema: &SchemaRef) -> Stream {
        if self.schema == *schema {
            return self;
        }
        let columns: Vec<usize> = (0..schema.fields().len()).collect();
        let exprs = column_exprs(&self.schema, &columns);
        self.then(StepPlan::Project(exprs, Arc::clone(schema)))
    }

    /// The columns that `exprs` compute.
    pub fn projected(self, exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> Stream {
        self.then(StepPlan::Project(exprs, schema))
    }
}

impl StepPlan {
    fn make(&self, session: &SessionState) -> Result<Step> {
        Ok(match self {
            StepPlan::Filter(predicate) => Step::Filter(Arc::clone(predicate)),
            StepPlan::Project(exprs, schema) => Step::Project(exprs.clone(), Arc::clone(schema)),
            StepPlan::Unnest(node, schema) => Step::Subplan(Box::new(Subplan::new(node, Arc::clone(schema), session)?)),
        })
    }

    fn describe(&self) -> String {
        match self {
            StepPlan::Filter(predicate) => format!("where {predicate}"),
            StepPlan::Project(_, schema) => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                format!("select {}", names.join(", "))
            }
            StepPlan::Unnest(..) => "unnest".into(),
        }
    }
}

/// The columns that `exprs` choose, if they do nothing else.
fn chosen_columns(exprs: &[Arc<dyn PhysicalExpr>]) -> Option<Vec<usize>> {
    exprs.iter().map(|expr| expr.downcast_ref::<PhysicalColumn>().map(PhysicalColumn::index)).collect()
}

fn column_exprs(schema: &SchemaRef, columns: &[usize]) -> Vec<Arc<dyn PhysicalExpr>> {
    let column = |index: &usize| {
        let name = schema.field(*index).name();
        Arc::new(PhysicalColumn::new(name, *index)) as Arc<dyn PhysicalExpr>
    };
    columns.iter().map(column).collect()
}

/// How the inputs of a node that runs by window are divided among its instances.
fn distributions(per_window: &PerWindowNode) -> Result<Vec<Distribution>> {
    let node = &per_window.node;
    Ok(match (per_window.grouping, node) {
        (Grouping::EventTime, LogicalPlan::Window(window)) => {
            let schema = window.input.schema();
            vec![by_event_time_and(&shared_partition_columns(&window.window_expr, schema), schema)?]
        }
        (Grouping::EventTime, LogicalPlan::Join(join)) => {
            let (left, right) = equal_columns(join);
            vec![by_event_time_and(&left, join.left.schema())?, by_event_time_and(&right, join.right.schema())?]
        }
        // A sort has one instance, so that windows leave in order.
        _ => vec![Distribution::Gather; node.inputs().len()],
    })
}

/// Rows of one window and one key meet; the event time stands for the window.
fn by_event_time_and(keys: &[usize], schema: &DFSchema) -> Result<Distribution> {
    let mut columns = vec![event_time_index(schema)?];
    columns.extend(keys);
    Ok(Distribution::Hash(columns))
}

fn event_time_index(schema: &DFSchema) -> Result<usize> {
    let names = [LEFT_TIME, RIGHT_TIME, EVENT_TIME];
    match names.iter().find_map(|name| hidden_column(schema, name)) {
        Some(column) => schema.index_of_column(&column),
        None => internal_err!("rows of windows without an event time"),
    }
}

/// The columns of both sides that a join's condition makes equal and that hash alike.
fn equal_columns(join: &Join) -> (Vec<usize>, Vec<usize>) {
    let (left, right) = (join.left.schema(), join.right.schema());
    let mut columns = (vec![], vec![]);
    for (a, b) in join_conditions(join) {
        let (Some(a), Some(b)) = (a.try_as_col(), b.try_as_col()) else { continue };
        let sides = match (left.maybe_index_of_column(a), right.maybe_index_of_column(b)) {
            (Some(a), Some(b)) => Some((a, b)),
            _ => left.maybe_index_of_column(b).zip(right.maybe_index_of_column(a)),
        };
        if let Some((a, b)) = sides {
            let data_type = left.field(a).data_type();
            if data_type == right.field(b).data_type() && !data_type.is_nested() {
                columns.0.push(a);
                columns.1.push(b);
            }
        }
    }
    columns
}

/// The columns by which every window function of the node partitions.
fn shared_partition_columns(exprs: &[Expr], schema: &DFSchema) -> Vec<usize> {
    let mut shared: Option<Vec<usize>> = None;
    for expr in exprs {
        let keys = partition_by(expr).unwrap_or_default();
        let columns: Vec<usize> = keys
            .iter()
            .filter_map(|key| key.try_as_col())
            .filter_map(|column| schema.maybe_index_of_column(column))
            .filter(|index| !schema.field(*index).data_type().is_nested())
            .collect();
        shared = Some(match shared {
            None => columns,
            Some(so_far) => so_far.into_iter().filter(|column| columns.contains(column)).collect(),
        });
    }
    shared.unwrap_or_default()
}
