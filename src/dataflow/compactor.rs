//! The dataflow's part in a log's compaction: operators say what their deltas add up to.

use arrow::array::RecordBatch;
use datafusion::common::{Result, exec_datafusion_err, exec_err};

use super::RunError;
use super::build::{guarded, restore};
use super::graph::{Graph, NodeId, NodeKind};
use crate::checkpoint::log::Compactor;
use crate::checkpoint::state::OperatorState;
use crate::checkpoint::takeover::Identities;

/// What checkpoints know of a graph: its operators with state, its sources and its sinks.
pub fn identities(graph: &Graph) -> Identities {
    let mut identities = Identities::default();
    for node in &graph.nodes {
        match &node.kind {
            NodeKind::Operator(operator) => {
                if let Some(fingerprint) = &operator.fingerprint {
                    identities.operators.insert(node.name.clone(), fingerprint.clone());
                }
            }
            NodeKind::Source(_) => drop(identities.sources.insert(node.name.clone())),
            NodeKind::Sink(sink) => {
                drop(identities.sinks.insert(node.identity().to_owned(), sink.factory.describe()));
            }
        }
    }
    identities
}

/// Merges the state of a graph's operators.
///
/// It makes an operator anew, restores it as a start would, and asks for its whole state: as many instances as the state
/// is of, one after the other, so that only one is in memory. Each gets its rows of every batch, because a log may hold
/// batches that were made at another parallelism, and what is closed can only be told where all of a key is together.
pub struct GraphCompactor {
    graph: Graph,
}

impl GraphCompactor {
    /// For the operators of this graph, by node name.
    pub fn new(graph: Graph) -> GraphCompactor {
        GraphCompactor { graph }
    }
}

impl Compactor for GraphCompactor {
    fn compact(&self, operator: &str, state: &OperatorState) -> Result<Vec<(usize, RecordBatch)>> {
        let Some(last) = state.batches.iter().map(|(instance, _)| *instance).max() else { return Ok(vec![]) };
        let nodes = self.graph.nodes.iter().enumerate();
        let found = nodes.filter(|(_, node)| node.name == operator).find_map(|(index, node)| match &node.kind {
            NodeKind::Operator(operator) => Some((NodeId(index), operator)),
            _ => None,
        });
        let Some((node, spec)) = found else {
            return exec_err!("there is state of {operator}, and the queries have no such operator");
        };
        let mut compacted = vec![];
        for instance in 0..=last {
            let whole = guarded(operator, || {
                let mut made = spec.factory.create(instance, last + 1)?;
                restore(made.as_mut(), &self.graph, node, state, instance, last + 1)?;
                made.state()
            });
            let whole = whole.map_err(|error| match error {
                RunError::Operator { source, .. } => source,
                other => exec_datafusion_err!("{other}"),
            })?;
            compacted.extend(whole.into_iter().map(|batch| (instance, batch)));
        }
        Ok(compacted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::super::graph::{Node, OperatorNode};
    use super::*;
    use crate::checkpoint::takeover::Fingerprint;
    use crate::operators::{InputIndex, Operator, Output};
    use crate::time::EventTime;

    /// Keeps a sum, and forgets it when the watermark is above it.
    struct Sum(i64);

    fn numbers(values: &[i64]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
    }

    impl Operator for Sum {
        fn on_batch(&mut self, _: InputIndex, _: RecordBatch, _: &mut Output) -> Result<()> {
            Ok(())
        }

        fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
            if watermark.0 > self.0 {
                out.emit(numbers(&[self.0]));
                self.0 = 0;
            }
            Ok(())
        }

        fn restore(&mut self, state: RecordBatch) -> Result<()> {
            for number in state.column(0).as_primitive::<Int64Type>().values() {
                assert!(*number >= 0, "{number} is below zero");
                self.0 += number;
            }
            Ok(())
        }

        fn state(&mut self) -> Result<Vec<RecordBatch>> {
            Ok(if self.0 == 0 { vec![] } else { vec![numbers(&[self.0])] })
        }
    }

    fn compacted(watermark: EventTime, batches: Vec<(usize, RecordBatch)>) -> Result<Vec<(usize, i64)>> {
        let mut graph = Graph::default();
        let factory = |instance: usize, instances: usize| -> Result<Box<dyn Operator>> {
            assert!(instance < instances);
            Ok(Box::new(Sum(0)))
        };
        let fingerprint = Some(Fingerprint::new("a sum"));
        let kind = NodeKind::Operator(OperatorNode { factory: Arc::new(factory), tick: None, fingerprint });
        graph.add(Node { name: "sum".into(), detail: String::new(), kind, inputs: vec![], outputs: vec![] });
        assert_eq!(identities(&graph).operators.keys().collect::<Vec<_>>(), ["sum"]);
        let state = GraphCompactor::new(graph).compact("sum", &OperatorState { watermark, batches })?;
        let numbers = |batch: RecordBatch| batch.column(0).as_primitive::<Int64Type>().value(0);
        Ok(state.into_iter().map(|(instance, batch)| (instance, numbers(batch))).collect())
    }

    #[test]
    fn instances_are_merged_one_by_one_and_what_is_closed_is_dropped() {
        let batches = || vec![(0, numbers(&[1, 2])), (3, numbers(&[50])), (0, numbers(&[4]))];
        assert_eq!(compacted(EventTime::MIN, batches()).unwrap(), [(0, 7), (3, 50)]);
        assert_eq!(compacted(EventTime(20), batches()).unwrap(), [(3, 50)]);
        assert_eq!(compacted(EventTime(20), vec![]).unwrap(), []);
    }

    #[test]
    fn a_panic_and_an_unknown_operator_are_errors() {
        let error = compacted(EventTime::MIN, vec![(0, numbers(&[-1]))]).unwrap_err();
        assert_eq!(error.strip_backtrace(), "Execution error: sum: internal error: -1 is below zero");
        let none = GraphCompactor::new(Graph::default());
        let state = OperatorState { watermark: EventTime::MIN, batches: vec![(0, numbers(&[1]))] };
        assert_eq!(
            none.compact("gone", &state).unwrap_err().strip_backtrace(),
            "Execution error: there is state of gone, and the queries have no such operator"
        );
    }
}
