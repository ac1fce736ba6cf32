//! From the logical graph to tasks: which nodes share one, how many instances there are, which channels join them.

use std::collections::BTreeMap;

use super::channel::{Receiver, channel};
use super::exchange::Port;
use super::graph::{Distribution, Edge, Graph, NodeId, NodeKind};
use crate::operators::{InputIndex, OutputIndex};

/// Nodes that run together in one task, `instances` times.
#[derive(Debug, PartialEq, Eq)]
pub struct Stage {
    /// The head and those that follow it by [`Distribution::Forward`]; inputs stand before their readers.
    pub nodes: Vec<NodeId>,
    /// How many tasks run it.
    pub instances: usize,
}

/// How a graph is cut into stages.
pub struct Layout {
    /// The stages.
    pub stages: Vec<Stage>,
    stage_of: Vec<usize>,
}

/// The channels of one instance of a stage.
#[derive(Default)]
pub struct Wiring {
    /// The ways in, with the head's input that each feeds.
    pub receivers: Vec<(InputIndex, Receiver)>,
    /// The ways out, with the node and output that each belongs to.
    pub ports: Vec<(NodeId, OutputIndex, Port)>,
}

impl Layout {
    /// Cuts a graph whose sources have so many instances, by node.
    pub fn new(graph: &Graph, sources: &BTreeMap<NodeId, usize>, parallelism: usize) -> Layout {
        let mut layout = Layout { stages: vec![], stage_of: vec![] };
        for (index, node) in graph.nodes.iter().enumerate() {
            let id = NodeId(index);
            let stage = match (&node.kind, forwarded(graph, id)) {
                (_, Some(edge)) => layout.stage_of[edge.from.0],
                (kind, None) => {
                    let hashed = |edge: &Edge| matches!(edge.distribution, Distribution::Hash(_));
                    let instances = match kind {
                        NodeKind::Source(_) => sources.get(&id).copied().unwrap_or(1).max(1),
                        NodeKind::Sink(_) => 1,
                        NodeKind::Operator(_) => {
                            let mut edges = node.inputs.iter().flatten().peekable();
                            let keyed = edges.peek().is_some() && edges.all(hashed);
                            if keyed { parallelism.max(1) } else { 1 }
                        }
                    };
                    layout.stages.push(Stage { nodes: vec![], instances });
                    layout.stages.len() - 1
                }
            };
            layout.stage_of.push(stage);
            layout.stages[stage].nodes.push(id);
        }
        layout
    }

    /// Makes all channels: by stage and instance.
    pub fn wire(&self, graph: &Graph) -> Vec<Vec<Wiring>> {
        let mut wiring: Vec<Vec<Wiring>> =
            self.stages.iter().map(|stage| (0..stage.instances).map(|_| Wiring::default()).collect()).collect();
        for (to, stage) in self.stages.iter().enumerate() {
            let head = stage.nodes[0];
            for (input, edges) in graph.nodes[head.0].inputs.iter().enumerate() {
                for edge in edges {
                    let from = self.stage_of[edge.from.0];
                    for sender in 0..self.stages[from].instances {
                        let (senders, receivers): (Vec<_>, Vec<_>) = (0..stage.instances).map(|_| channel()).unzip();
                        for (instance, receiver) in receivers.into_iter().enumerate() {
                            wiring[to][instance].receivers.push((input, receiver));
                        }
                        let columns = match &edge.distribution {
                            Distribution::Hash(columns) => columns.clone(),
                            Distribution::Forward | Distribution::Gather => vec![],
                        };
                        let port = Port::new(head, senders, columns);
                        wiring[from][sender].ports.push((edge.from, edge.output, port));
                    }
                }
            }
        }
        wiring
    }
}

/// The edge by which an operator shares its input's task. A sink has a task of its own, whatever its edge says.
pub fn forwarded(graph: &Graph, id: NodeId) -> Option<&Edge> {
    let node = &graph.nodes[id.0];
    let NodeKind::Operator(_) = node.kind else { return None };
    let mut edges = node.inputs.iter().flatten();
    match (edges.next(), edges.next()) {
        (Some(edge), None) if edge.distribution == Distribution::Forward => Some(edge),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dataflow::tests::parts::{Builder, MemorySink, MemorySource, edge};

    #[test]
    fn forward_edges_share_a_task_and_the_others_do_not() {
        let mut builder = Builder::default();
        let read = builder.source("t", &Arc::new(MemorySource::new(vec![])));
        let one = builder.each("one", edge(read, Distribution::Forward), Ok);
        let other = builder.each("other", edge(read, Distribution::Forward), Ok);
        let keyed = builder.each("keyed", edge(one, Distribution::Hash(vec![0])), Ok);
        let after = builder.each("after", edge(keyed, Distribution::Forward), Ok);
        let single = builder.each("single", edge(other, Distribution::Gather), Ok);
        builder.sink("out", after, 0, &MemorySink::default());
        builder.sink("raw", single, 0, &MemorySink::default());
        // Whatever its edge says, a sink has one task of its own.
        for node in &mut builder.graph.nodes[6..] {
            node.inputs[0][0].distribution = Distribution::Forward;
        }
        let layout = Layout::new(&builder.graph, &BTreeMap::from([(read, 3)]), 4);
        let stage = |nodes: &[NodeId], instances| Stage { nodes: nodes.to_vec(), instances };
        assert_eq!(
            layout.stages,
            [
                stage(&[read, one, other], 3),
                stage(&[keyed, after], 4),
                stage(&[single], 1),
                stage(&[NodeId(6)], 1),
                stage(&[NodeId(7)], 1),
            ]
        );
        let wiring = layout.wire(&builder.graph);
        assert_eq!(wiring[1].iter().map(|instance| instance.receivers.len()).collect::<Vec<_>>(), [3; 4]);
        assert_eq!(wiring[0].iter().map(|instance| instance.ports.len()).collect::<Vec<_>>(), [2; 3]);
        assert_eq!(wiring[3][0].receivers.len(), 4);
    }
}
