//! Makes the operators of a task, with the state that they go on from.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use tokio::time::Instant;

use super::RunError;
use super::chain::{Chain, Counted, Member, Target, Ticker};
use super::exchange::{Partitioner, Port};
use super::graph::{Distribution, Graph, NodeId, NodeKind};
use super::layout::{Stage, forwarded};
use super::statistics::Statistics;
use crate::checkpoint::state::{EpochState, OperatorState};
use crate::operators::{INPUT, Operator, Output, OutputIndex};
use crate::time::EventTime;

/// Makes instance `instance` of a stage's chain.
///
/// # Errors
/// When an operator cannot be made or does not take its state back.
pub fn chain(
    graph: &Graph,
    stage: &Stage,
    instance: usize,
    ports: Vec<(NodeId, OutputIndex, Port)>,
    statistics: &Statistics,
    start: Option<&EpochState>,
) -> Result<Chain, RunError> {
    let mut members: Vec<Member> = vec![];
    for &id in &stage.nodes {
        let node = &graph.nodes[id.0];
        let state = start.and_then(|start| start.operators.get(&node.name));
        let (mut operator, mut ticker, mut factory) = (None, None, None);
        if let NodeKind::Operator(spec) = &node.kind {
            let made = guarded(&node.name, || {
                let mut made = spec.factory.create(instance, stage.instances)?;
                if let Some(state) = state {
                    restore(made.as_mut(), graph, id, state, instance, stage.instances)?;
                }
                Ok(made)
            })?;
            operator = Some(made);
            factory = Some(Arc::clone(&spec.factory));
            ticker = spec.tick.map(|period| Ticker::new(period, Instant::now()));
        }
        if let Some(edge) = forwarded(graph, id)
            && let Some(reader_of) = members.iter().position(|member| member.node == edge.from)
        {
            let reader = Target::Member(members.len());
            members[reader_of].targets[edge.output].push(reader);
        }
        members.push(Member {
            node: id,
            name: node.name.clone(),
            instance,
            instances: stage.instances,
            operator,
            factory,
            targets: vec![vec![]; node.outputs.len()],
            watermark: state.map_or(EventTime::MIN, |state| state.watermark),
            ticker,
            statistics: Arc::clone(&statistics.nodes()[id.0]),
            counted: Counted::default(),
        });
    }
    let mut ways_out = vec![];
    for (index, (node, output, port)) in ports.into_iter().enumerate() {
        if let Some(member) = members.iter_mut().find(|member| member.node == node) {
            member.targets[output].push(Target::Port(index));
        }
        ways_out.push(port);
    }
    Ok(Chain::new(members, ways_out))
}

pub(super) fn guarded<T>(node: &str, work: impl FnOnce() -> Result<T>) -> Result<T, RunError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(made) => made.map_err(|source| RunError::Operator { node: node.to_owned(), source }),
        Err(panic) => Err(RunError::panic(node, panic.as_ref())),
    }
}

/// Gives an operator the part of its node's state that belongs to this instance, at whatever parallelism it was made.
///
/// State that is rows of a keyed input, or begins with its columns, is dealt out as the exchange deals its rows; what a
/// batch says beside its rows, in its schema, concerns every instance, so that one without rows gets it too. Other
/// state goes to the instance that made it, or to one that stands in for it: right for operators that hand everything
/// on at a barrier, such as a partial aggregate in a source's task.
pub(super) fn restore(
    operator: &mut dyn Operator,
    graph: &Graph,
    node: NodeId,
    state: &OperatorState,
    instance: usize,
    instances: usize,
) -> Result<()> {
    for (old_instance, batch) in &state.batches {
        match key_columns(graph, node, batch) {
            _ if instances == 1 => operator.restore(batch.clone())?,
            Some(columns) => {
                let parts = Partitioner::new(columns, instances).partition(batch.clone())?;
                let own = parts.into_iter().find(|(target, _)| *target == instance);
                operator.restore(own.map_or_else(|| batch.slice(0, 0), |(_, rows)| rows))?;
            }
            None if old_instance % instances == instance => operator.restore(batch.clone())?,
            None => {}
        }
    }
    if state.watermark > EventTime::MIN {
        // What this makes it send was delivered before the epoch ended.
        operator.on_watermark(state.watermark, &mut Output::default())?;
    }
    Ok(())
}

/// The columns by which an input's rows are dealt out, if `state` says that it is rows of one, or holds the same columns
/// in the same places. The input that shares the most columns with the state is the one it came by.
fn key_columns(graph: &Graph, node: NodeId, state: &RecordBatch) -> Option<Vec<usize>> {
    let state = state.schema();
    let inputs = &graph.nodes[node.0].inputs;
    if let Some(input) = state.metadata().get(INPUT).and_then(|index| index.parse::<usize>().ok()) {
        return inputs.get(input)?.iter().find_map(|edge| match &edge.distribution {
            Distribution::Hash(columns) => Some(columns.clone()),
            _ => None,
        });
    }
    let mut best: Option<(usize, &Vec<usize>)> = None;
    for edge in inputs.iter().flatten() {
        let Distribution::Hash(columns) = &edge.distribution else { continue };
        let sent = &graph.nodes[edge.from.0].outputs[edge.output];
        let same = |index: usize| match (sent.fields().get(index), state.fields().get(index)) {
            (Some(one), Some(other)) => one.name() == other.name() && one.data_type() == other.data_type(),
            _ => false,
        };
        if columns.iter().all(|&column| same(column)) {
            let shared = (0..sent.fields().len()).take_while(|&index| same(index)).count();
            if best.is_none_or(|(most, _)| shared > most) {
                best = Some((shared, columns));
            }
        }
    }
    best.map(|(_, columns)| columns.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::graph::{Edge, Node, OperatorNode};
    use super::*;
    use crate::operators::{InputIndex, MAIN};

    /// Notes what it gets back: rows and the metadata of their schema.
    #[derive(Default)]
    struct Restored(Vec<(usize, String)>, Option<EventTime>);

    impl Operator for Restored {
        fn on_batch(&mut self, _: InputIndex, _: RecordBatch, _: &mut Output) -> Result<()> {
            Ok(())
        }

        fn on_watermark(&mut self, watermark: EventTime, _: &mut Output) -> Result<()> {
            self.1 = Some(watermark);
            Ok(())
        }

        fn restore(&mut self, state: RecordBatch) -> Result<()> {
            self.0.push((state.num_rows(), state.schema().metadata()["note"].clone()));
            Ok(())
        }
    }

    /// A node with an input dealt out by the hash of its only column.
    fn graph() -> Graph {
        let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true)]));
        let mut graph = Graph::default();
        for inputs in [vec![], vec![vec![(NodeId(0), vec![0])]]] {
            let edge = |(from, columns)| Edge { from, output: MAIN, distribution: Distribution::Hash(columns) };
            let inputs = inputs.into_iter().map(|edges: Vec<_>| edges.into_iter().map(edge).collect()).collect();
            let factory = |_: usize, _: usize| -> Result<Box<dyn Operator>> { Ok(Box::<Restored>::default()) };
            let kind = NodeKind::Operator(OperatorNode { factory: Arc::new(factory), tick: None, fingerprint: None });
            let (name, outputs) = (graph.free_name("node".into()), vec![Arc::clone(&schema)]);
            graph.add(Node { name, detail: String::new(), kind, inputs, outputs });
        }
        graph
    }

    #[test]
    fn each_instance_gets_its_rows_of_every_batch_and_what_the_batch_says_beside_them() {
        let batch = |keys: Vec<i64>, note: &str| {
            let metadata = HashMap::from([("note".to_owned(), note.to_owned())]);
            let field = Field::new("key", DataType::Int64, true);
            let schema = Arc::new(Schema::new_with_metadata(vec![field], metadata));
            RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(keys))]).unwrap()
        };
        let batches =
            vec![(0, batch((0..100).collect(), "many")), (1, batch(vec![7], "one")), (0, batch(vec![], "none"))];
        let state = OperatorState { watermark: EventTime(5), batches };
        let (mut many, mut one) = (0, 0);
        for instance in 0..3 {
            let mut restored = Restored::default();
            restore(&mut restored, &graph(), NodeId(1), &state, instance, 3).unwrap();
            let notes: Vec<&str> = restored.0.iter().map(|(_, note)| note.as_str()).collect();
            assert_eq!((notes, restored.1), (vec!["many", "one", "none"], Some(EventTime(5))));
            assert!(restored.0[0].0 > 10, "all of them: {:?}", restored.0);
            many += restored.0[0].0;
            one += restored.0[1].0;
        }
        assert_eq!((many, one), (100, 1));
    }
}
