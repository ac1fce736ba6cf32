//! The dataflow graph: what the planner hands to the runtime.
//!
//! Nodes are sources, operators and sinks; edges say how rows travel. The graph is logical: how many tasks run a
//! node follows from [`Distribution`] and the parallelism of the run, and nodes joined by [`Distribution::Forward`]
//! share a task. A node's inputs always stand before it, so one pass in order builds everything.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;

use crate::catalog::{MetadataKey, TableSettings};
use crate::checkpoint::takeover::Fingerprint;
use crate::connectors::{SinkFactory, SourceFactory};
use crate::operators::{Operator, OutputIndex};

/// A program as a graph.
#[derive(Clone, Default)]
pub struct Graph {
    /// The nodes; inputs stand before the nodes that read them.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// Adds a node; what it reads must be there.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// `base`, or `base` with a number if another node has that name.
    pub fn free_name(&self, base: String) -> String {
        let taken = |name: &str| self.nodes.iter().any(|node| node.name == name);
        if !taken(&base) {
            return base;
        }
        let numbered = (2..).map(|number| format!("{base}_{number}")).find(|name| !taken(name));
        numbered.unwrap_or(base)
    }
}

/// Index of a node in [`Graph::nodes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub usize);

/// One node.
#[derive(Clone)]
pub struct Node {
    /// Its name in explain, logs and metrics, unique in the graph: `transactions`, `product_metrics.window`.
    pub name: String,
    /// One line on what it does, for explain. Holds no secret.
    pub detail: String,
    /// What it is.
    pub kind: NodeKind,
    /// What it reads, by input index. One input may be fed by several edges (a union); their schemas are equal.
    pub inputs: Vec<Vec<Edge>>,
    /// The schema of each of its outputs, by output index; empty for sinks.
    pub outputs: Vec<SchemaRef>,
}

/// What stands behind the name of a sink whose table is read as well: the source has the name itself.
pub const SINK_SUFFIX: &str = ".sink";

impl Node {
    /// By what checkpoints know it. A sink goes by its table, so that it stays the same whether or not a query of the
    /// folder reads that table, too.
    pub fn identity(&self) -> &str {
        match &self.kind {
            NodeKind::Sink(sink) if self.name.strip_suffix(SINK_SUFFIX) == Some(&sink.table) => &sink.table,
            _ => &self.name,
        }
    }
}

/// A way for rows from one node's output to the node that holds the edge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// The node that sends.
    pub from: NodeId,
    /// Which of its outputs.
    pub output: OutputIndex,
    /// Which instance of the receiver gets a row.
    pub distribution: Distribution,
}

/// Which instance of the receiving node gets a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// The one in the same task: no channel. Only where the receiver has a single edge.
    Forward,
    /// Chosen by a hash of these columns of the sender's output; the receiver has as many instances as the run's
    /// parallelism. Equal values, nulls included, always meet in the same instance, whichever edge they come by.
    Hash(Vec<usize>),
    /// The only one: the receiver has a single instance.
    Gather,
}

/// What a node is.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "a graph has a few dozen nodes, which nobody moves about")]
pub enum NodeKind {
    /// Reads a table.
    Source(SourceNode),
    /// Changes rows.
    Operator(OperatorNode),
    /// Writes a table.
    Sink(SinkNode),
}

/// Output of a source with its bad records, beside [`crate::operators::MAIN`].
pub const DEAD_LETTERS: OutputIndex = 1;

/// Reads a table once for all queries.
///
/// Its main output holds `physical`, then `metadata`, then, if there is an event time, `__event_time` and
/// `__row_watermark`. Its second output, there if `dead_letters` is set, has that schema.
#[derive(Clone)]
pub struct SourceNode {
    /// The table's name.
    pub table: String,
    /// How to read it.
    pub factory: Arc<dyn SourceFactory>,
    /// The physical columns that any query needs, in the table's order.
    pub physical: SchemaRef,
    /// The metadata columns that any query needs.
    pub metadata: Vec<(MetadataKey, FieldRef)>,
    /// Event time and watermark, if any query needs them.
    pub event_time: Option<EventTimeSpec>,
    /// `bad_rows`, `idle_timeout` and the rest.
    pub settings: TableSettings,
    /// The columns of the dead-letter table, if there is one. Filled by name from: `table`, `reason`, `error`,
    /// `topic`, `partition`, `offset`, `timestamp` (the broker's), `key`, `value` (the record as it came; text types
    /// get lossy UTF-8); others are null.
    pub dead_letters: Option<SchemaRef>,
}

/// How rows get their event time. Both expressions are over the batch of `physical` and `metadata` columns and give
/// `Timestamp(Nanosecond)` (see [`crate::operators::window::TIME_TYPE`]).
#[derive(Clone, Debug)]
pub struct EventTimeSpec {
    /// A row's event time; null makes the row a bad one.
    pub event_time: Arc<dyn PhysicalExpr>,
    /// A row's watermark; the split's is the highest so far. Null moves nothing.
    pub watermark: Arc<dyn PhysicalExpr>,
    /// The column's name, for messages.
    pub column: String,
}

/// Changes rows by an [`Operator`].
#[derive(Clone)]
pub struct OperatorNode {
    /// Makes the instances.
    pub factory: Arc<dyn OperatorFactory>,
    /// How often [`Operator::on_tick`] is called, if at all.
    pub tick: Option<Duration>,
    /// What it computes, for an operator that knows something at a barrier, be it only its watermark: checkpoints find
    /// it by this.
    pub fingerprint: Option<Fingerprint>,
}

/// Makes the instances of an operator.
pub trait OperatorFactory: Send + Sync {
    /// Makes instance `instance` of `instances`.
    ///
    /// # Errors
    /// When the specification does not work out, such as an aggregate without an accumulator.
    fn create(&self, instance: usize, instances: usize) -> Result<Box<dyn Operator>>;
}

impl<F: Fn(usize, usize) -> Result<Box<dyn Operator>> + Send + Sync> OperatorFactory for F {
    fn create(&self, instance: usize, instances: usize) -> Result<Box<dyn Operator>> {
        self(instance, instances)
    }
}

/// Writes a table: one instance, with one input and no output.
#[derive(Clone)]
pub struct SinkNode {
    /// The table's name, or `stdout` for a bare `SELECT`.
    pub table: String,
    /// How to write it.
    pub factory: Arc<dyn SinkFactory>,
    /// The columns of every batch: the table's writable ones in its order.
    pub schema: SchemaRef,
}
