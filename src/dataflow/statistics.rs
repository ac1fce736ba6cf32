//! What a running graph counts about itself, for progress lines, `/metrics` and the console.
//!
//! The tasks write, everybody else reads; all of it is atomics, so reading never slows a pipeline down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::graph::{Graph, NodeKind};
use crate::time::EventTime;

mod checkpoints;

pub use checkpoints::{CheckpointStatistics, DeliveryStatistics, Underway, UnderwayCall};

/// The figures of all nodes, in the graph's order.
#[derive(Debug, Default)]
pub struct Statistics {
    nodes: Vec<Arc<NodeStatistics>>,
    /// The last epoch that is complete in every sink.
    pub epoch: AtomicU64,
    /// What is counted about checkpoints; zeros in a run that keeps none.
    pub checkpoints: CheckpointStatistics,
}

/// The figures of one node, summed over its instances.
#[derive(Debug)]
pub struct NodeStatistics {
    /// The node's name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Rows received; for a source, records read, bad ones included.
    pub rows_in: AtomicU64,
    /// Rows sent on; for a sink, rows written.
    pub rows_out: AtomicU64,
    /// Bytes read by a source, undecoded.
    pub bytes_in: AtomicU64,
    /// Rows dropped or diverted because they were late.
    pub late_rows: AtomicU64,
    /// Rows that a window has aggregated: with the late ones all that came to it.
    pub aggregated_rows: AtomicU64,
    /// Rows that conditions have left out.
    pub filtered_rows: AtomicU64,
    /// Bytes held in state.
    pub state_bytes: AtomicU64,
    /// What a sink counts about its epochs; zeros for other nodes, and in a run that keeps no checkpoints.
    pub delivery: DeliveryStatistics,
    /// The newest watermark, in nanoseconds; [`EventTime::MIN`] at first.
    watermark: AtomicI64,
    /// Bad records by reason.
    bad_rows: Mutex<BTreeMap<&'static str, u64>>,
    /// Whether its bad records are warned of, or only counted.
    warns: AtomicBool,
    /// Records not yet read by split, as far as the source knows.
    lag: Mutex<BTreeMap<String, i64>>,
}

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Reads a table.
    Source,
    /// Changes rows.
    Operator,
    /// Writes a table.
    Sink,
}

impl Statistics {
    /// Zeros for nodes of these names.
    pub fn new(nodes: impl IntoIterator<Item = (String, Role)>) -> Statistics {
        let nodes = nodes.into_iter().map(|(name, role)| Arc::new(NodeStatistics::new(name, role))).collect();
        Statistics { nodes, ..Statistics::default() }
    }

    /// Zeros for the nodes of a graph: what [`super::run()`] counts in.
    pub fn of(graph: &Graph) -> Statistics {
        Statistics::new(graph.nodes.iter().map(|node| {
            let role = match node.kind {
                NodeKind::Source(_) => Role::Source,
                NodeKind::Operator(_) => Role::Operator,
                NodeKind::Sink(_) => Role::Sink,
            };
            (node.name.clone(), role)
        }))
    }

    /// The same for a run whose bad records are only counted: another run on the same input has warned of them.
    pub fn without_warnings(self) -> Statistics {
        self.nodes.iter().for_each(|node| node.warns.store(false, Ordering::Relaxed));
        self
    }

    /// The figures of every node.
    pub fn nodes(&self) -> &[Arc<NodeStatistics>] {
        &self.nodes
    }

    /// The sum of one figure over the nodes of a role.
    pub fn total(&self, role: Role, figure: impl Fn(&NodeStatistics) -> &AtomicU64) -> u64 {
        self.nodes.iter().filter(|node| node.role == role).map(|node| figure(node).load(Ordering::Relaxed)).sum()
    }
}

impl NodeStatistics {
    fn new(name: String, role: Role) -> NodeStatistics {
        NodeStatistics {
            name,
            role,
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            aggregated_rows: AtomicU64::new(0),
            filtered_rows: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
            delivery: DeliveryStatistics::default(),
            watermark: AtomicI64::new(EventTime::MIN.0),
            bad_rows: Mutex::default(),
            warns: AtomicBool::new(true),
            lag: Mutex::default(),
        }
    }

    /// The newest watermark.
    pub fn watermark(&self) -> EventTime {
        EventTime(self.watermark.load(Ordering::Relaxed))
    }

    /// Notes a watermark.
    pub fn set_watermark(&self, watermark: EventTime) {
        self.watermark.store(watermark.0, Ordering::Relaxed);
    }

    /// Whether bad records are warned of.
    pub fn warns(&self) -> bool {
        self.warns.load(Ordering::Relaxed)
    }

    /// Counts bad records.
    pub fn add_bad_rows(&self, reason: &'static str, rows: u64) {
        *self.bad_rows.lock().entry(reason).or_default() += rows;
    }

    /// Bad records by reason.
    pub fn bad_rows(&self) -> BTreeMap<&'static str, u64> {
        self.bad_rows.lock().clone()
    }

    /// Notes the lag of some splits.
    pub fn set_lag(&self, lag: impl IntoIterator<Item = (String, i64)>) {
        self.lag.lock().extend(lag);
    }

    /// Records not yet read, by split.
    pub fn lag(&self) -> BTreeMap<String, i64> {
        self.lag.lock().clone()
    }
}
