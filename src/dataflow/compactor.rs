//! The dataflow's part in a log's compaction: operators say what their deltas add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{Result, exec_err};

use super::RunError;
use super::build::guarded;
use super::graph::{Graph, NodeKind, OperatorFactory};
use crate::checkpoint::log::Compactor;
use crate::checkpoint::state::OperatorState;
use crate::checkpoint::takeover::Identities;
use crate::operators::Output;
use crate::time::EventTime;

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
            NodeKind::Sink(_) => drop(identities.sinks.insert(node.name.clone())),
        }
    }
    identities
}

/// Merges the state of a graph's operators.
///
/// It makes an operator anew, gives it what its snapshots were, tells it how far event time had come, and asks for its
/// whole state. Instances are made one after the other, so that only one is in memory: what each of them has handed over
/// stays with its number, whatever the parallelism was at the time.
pub struct GraphCompactor {
    operators: BTreeMap<String, Arc<dyn OperatorFactory>>,
}

impl GraphCompactor {
    /// For the operators of this graph, by node name.
    pub fn new(graph: &Graph) -> GraphCompactor {
        let operators = graph.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Operator(operator) => Some((node.name.clone(), Arc::clone(&operator.factory))),
            _ => None,
        });
        GraphCompactor { operators: operators.collect() }
    }
}

impl Compactor for GraphCompactor {
    fn compact(&self, operator: &str, state: &OperatorState) -> Result<Vec<(usize, RecordBatch)>> {
        let Some(factory) = self.operators.get(operator) else {
            return exec_err!("there is state of {operator}, and the queries have no such operator");
        };
        let instances: BTreeSet<usize> = state.batches.iter().map(|(instance, _)| *instance).collect();
        let parallelism = instances.last().map_or(1, |last| last + 1);
        let mut compacted = vec![];
        for instance in instances {
            let own = state.batches.iter().filter(|(of, _)| *of == instance).map(|(_, batch)| batch.clone());
            let whole = guarded(operator, || whole(factory.as_ref(), instance, parallelism, own, state.watermark));
            let whole = whole.map_err(|error| match error {
                RunError::Operator { source, .. } => source,
                other => datafusion::common::exec_datafusion_err!("{other}"),
            })?;
            compacted.extend(whole.into_iter().map(|batch| (instance, batch)));
        }
        Ok(compacted)
    }
}

/// The whole state of one instance.
fn whole(
    factory: &dyn OperatorFactory,
    instance: usize,
    instances: usize,
    batches: impl Iterator<Item = RecordBatch>,
    watermark: EventTime,
) -> Result<Vec<RecordBatch>> {
    let mut operator = factory.create(instance, instances)?;
    for batch in batches {
        operator.restore(batch)?;
    }
    if watermark > EventTime::MIN {
        // What this makes it send was sent long ago.
        operator.on_watermark(watermark, &mut Output::default())?;
    }
    operator.state()
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::super::graph::{Node, OperatorNode};
    use super::*;
    use crate::checkpoint::takeover::Fingerprint;
    use crate::operators::{InputIndex, Operator};

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
        let state = GraphCompactor::new(&graph).compact("sum", &OperatorState { watermark, batches })?;
        let numbers = |batch: RecordBatch| batch.column(0).as_primitive::<Int64Type>().value(0);
        Ok(state.into_iter().map(|(instance, batch)| (instance, numbers(batch))).collect())
    }

    #[test]
    fn each_instance_is_merged_by_itself_and_what_is_closed_is_dropped() {
        let batches = || vec![(0, numbers(&[1, 2])), (3, numbers(&[50])), (0, numbers(&[4]))];
        assert_eq!(compacted(EventTime::MIN, batches()).unwrap(), [(0, 7), (3, 50)]);
        assert_eq!(compacted(EventTime(20), batches()).unwrap(), [(3, 50)]);
        assert_eq!(compacted(EventTime(20), vec![]).unwrap(), []);
    }

    #[test]
    fn a_panic_and_an_unknown_operator_are_errors() {
        let error = compacted(EventTime::MIN, vec![(0, numbers(&[-1]))]).unwrap_err();
        assert_eq!(error.strip_backtrace(), "Execution error: sum: internal error: -1 is below zero");
        let none = GraphCompactor::new(&Graph::default());
        let state = OperatorState { watermark: EventTime::MIN, batches: vec![] };
        assert_eq!(
            none.compact("gone", &state).unwrap_err().strip_backtrace(),
            "Execution error: there is state of gone, and the queries have no such operator"
        );
    }
}
