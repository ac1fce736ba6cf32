//! Merges the state of a graph's operators, for the log's compaction.

use arrow::array::RecordBatch;
use datafusion::common::{Result, exec_err};

use super::graph::Graph;
use crate::checkpoint::log::Compactor;
use crate::checkpoint::state::OperatorState;

/// Over the operators of a graph.
pub struct GraphCompactor {
    _graph: Graph,
}

impl GraphCompactor {
    /// Over these operators.
    pub fn new(graph: Graph) -> GraphCompactor {
        GraphCompactor { _graph: graph }
    }
}

impl Compactor for GraphCompactor {
    fn compact(&self, _operator: &str, _state: &OperatorState) -> Result<Vec<(usize, RecordBatch)>> {
        exec_err!("not yet")
    }
}
