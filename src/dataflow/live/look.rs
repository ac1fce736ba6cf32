//! One look at the windows that are open: it travels with a barrier and gathers what they would give.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow::array::RecordBatch;
use parking_lot::Mutex;

use super::MOST_BYTES;
use crate::dataflow::graph::{Graph, NodeId};

/// What a look is for, and what it has found.
pub struct Look {
    /// The nodes on a way to a table that is looked at.
    nodes: BTreeSet<NodeId>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// By the sink.
    rows: BTreeMap<NodeId, Vec<RecordBatch>>,
    /// Of all rows shown so far, by any node.
    bytes: usize,
    troubles: Vec<(NodeId, Trouble)>,
}

/// Why open windows cannot be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// A node's second operator failed.
    Failed {
        /// The node's name.
        node: String,
        /// What it said.
        message: String,
    },
    /// They would give more than [`MOST_BYTES`].
    TooMuch,
}

impl Look {
    /// At these nodes.
    pub fn new(nodes: BTreeSet<NodeId>) -> Look {
        Look { nodes, found: Mutex::default() }
    }

    /// Whether `node` is on the way to a table that is looked at.
    pub fn concerns(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// Whether `node` may show rows of so many bytes; if not, its readers get no answer.
    pub fn admits(&self, node: NodeId, bytes: usize) -> bool {
        let mut found = self.found.lock();
        found.bytes = found.bytes.saturating_add(bytes);
        let fits = found.bytes <= MOST_BYTES;
        if !fits {
            found.troubles.push((node, Trouble::TooMuch));
        }
        fits
    }

    /// What a sink would get.
    pub fn show(&self, sink: NodeId, rows: Vec<RecordBatch>) {
        self.found.lock().rows.entry(sink).or_default().extend(rows);
    }

    /// What `node` has cannot be shown.
    pub fn fails(&self, node: NodeId, trouble: Trouble) {
        self.found.lock().troubles.push((node, trouble));
    }

    /// What was found for `sink`, which `nodes` lead to.
    ///
    /// # Errors
    /// The first trouble on the way to it.
    pub fn found(&self, sink: NodeId, nodes: &BTreeSet<NodeId>) -> Result<Vec<RecordBatch>, Trouble> {
        let found = self.found.lock();
        match found.troubles.iter().find(|(node, _)| nodes.contains(node)) {
            Some((_, trouble)) => Err(trouble.clone()),
            None => Ok(found.rows.get(&sink).cloned().unwrap_or_default()),
        }
    }
}

/// Two looks are two, whatever they find.
impl PartialEq for Look {
    fn eq(&self, other: &Look) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Look {}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Look").field(&self.nodes).finish()
    }
}

/// All nodes that lead to `sink`, with the sink itself.
pub fn leading_to(graph: &Graph, sink: NodeId) -> BTreeSet<NodeId> {
    let mut nodes = BTreeSet::new();
    let mut next = vec![sink];
    while let Some(node) = next.pop() {
        if nodes.insert(node) {
            next.extend(graph.nodes[node.0].inputs.iter().flatten().map(|edge| edge.from));
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn look() -> Look {
        Look::new([0, 1, 2, 3].map(NodeId).into())
    }

    #[test]
    fn a_sink_has_what_was_shown_to_it_unless_something_before_it_failed() {
        let look = look();
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        look.show(NodeId(3), vec![rows.clone()]);
        look.show(NodeId(3), vec![rows]);
        let failed = Trouble::Failed { node: "a".into(), message: "Divide by zero".into() };
        look.fails(NodeId(1), failed.clone());
        assert_eq!(look.found(NodeId(3), &[0, 3].map(NodeId).into()).unwrap().len(), 2);
        assert_eq!(look.found(NodeId(2), &[0, 2].map(NodeId).into()).unwrap().len(), 0);
        assert_eq!(look.found(NodeId(3), &[0, 1, 3].map(NodeId).into()), Err(failed));
    }

    #[test]
    fn it_shows_no_more_than_fits() {
        let look = look();
        assert!(look.admits(NodeId(0), MOST_BYTES));
        assert!(!look.admits(NodeId(1), 1));
        assert_eq!(look.found(NodeId(3), &[1, 3].map(NodeId).into()), Err(Trouble::TooMuch));
        assert!(look.found(NodeId(2), &[0, 2].map(NodeId).into()).is_ok());
    }
}
