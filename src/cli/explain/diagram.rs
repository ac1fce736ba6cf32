//! A graph, or the part of it that leads to one node, as text, as a Mermaid flowchart and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::dataflow::graph::{Distribution, Edge, Graph, Node, NodeKind};

/// The nodes to show.
pub struct Selection<'a> {
    graph: &'a Graph,
    shown: Vec<bool>,
}

impl<'a> Selection<'a> {
    /// Every node.
    pub fn all(graph: &'a Graph) -> Selection<'a> {
        Selection { graph, shown: vec![true; graph.nodes.len()] }
    }

    /// The nodes called `name` (by their own name, its first part or their table's) and all that lead to them.
    pub fn of(graph: &'a Graph, name: &str) -> Option<Selection<'a>> {
        let mut shown: Vec<bool> = graph.nodes.iter().map(|node| is_called(node, name)).collect();
        if !shown.contains(&true) {
            return None;
        }
        // Inputs stand before the nodes that read them, so one pass backwards finds them all.
        for at in (0..graph.nodes.len()).rev().filter(|at| shown[*at]).collect::<Vec<_>>() {
            mark_inputs(graph, at, &mut shown);
        }
        Some(Selection { graph, shown })
    }

    /// What can be asked for.
    pub fn names(graph: &'a Graph) -> Vec<&'a str> {
        let mut names: Vec<&str> = graph.nodes.iter().map(|node| first_part(&node.name)).collect();
        names.extend(graph.nodes.iter().filter_map(table));
        names.sort_unstable();
        names.dedup();
        names
    }

    fn nodes(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.graph.nodes.iter().enumerate().filter(|(at, _)| self.shown[*at])
    }

    fn edges(&self, node: &'a Node) -> impl Iterator<Item = (usize, &'a Edge)> {
        let edges =
            node.inputs.iter().enumerate().flat_map(|(input, edges)| edges.iter().map(move |edge| (input, edge)));
        edges.filter(|(_, edge)| self.shown[edge.from.0])
    }

    /// For a person: each node with its inputs below it, in the order in which rows pass.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (_, node) in self.nodes() {
            let _ = writeln!(text, "{:<8} {}", role(node), node.name);
            for line in node.detail.lines() {
                let _ = writeln!(text, "         {line}");
            }
            for (input, edge) in self.edges(node) {
                let side = if node.inputs.len() > 1 { format!(" (input {input})") } else { String::new() };
                let _ = writeln!(text, "         ← {}{side}, {}", self.origin(edge), self.distribution(edge));
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    /// A flowchart from left to right.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (at, node) in self.nodes() {
            let detail = if node.detail.is_empty() { String::new() } else { format!("<br/>{}", escape(&node.detail)) };
            let label = format!("\"{}{detail}\"", escape(&node.name));
            let _ = match node.kind {
                NodeKind::Source(_) => writeln!(text, "  n{at}([{label}])"),
                NodeKind::Operator(_) => writeln!(text, "  n{at}[{label}]"),
                NodeKind::Sink(_) => writeln!(text, "  n{at}[({label})]"),
            };
        }
        for (at, node) in self.nodes() {
            for (_, edge) in self.edges(node) {
                let from = edge.from.0;
                let _ = match edge.distribution {
                    Distribution::Forward => writeln!(text, "  n{from} --> n{at}"),
                    _ => writeln!(text, "  n{from} -->|\"{}\"| n{at}", escape(&self.distribution(edge))),
                };
            }
        }
        text
    }

    /// For a program: `nodes`, each with `name`, `role`, `detail`, `inputs` and the columns of its `outputs`.
    pub fn json(&self) -> String {
        let nodes: Vec<Value> = self.nodes().map(|(_, node)| self.node_json(node)).collect();
        format!("{:#}\n", json!({ "nodes": nodes }))
    }

    fn node_json(&self, node: &'a Node) -> Value {
        let inputs: Vec<Value> = self
            .edges(node)
            .map(|(input, edge)| {
                json!({
                    "input": input,
                    "from": self.graph.nodes[edge.from.0].name,
                    "output": edge.output,
                    "distribution": self.distribution(edge),
                })
            })
            .collect();
        let columns = |schema: &arrow::datatypes::SchemaRef| -> Value {
            let column = |field: &arrow::datatypes::FieldRef| json!({ "name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable() });
            schema.fields().iter().map(column).collect()
        };
        let outputs: Vec<Value> = node.outputs.iter().map(columns).collect();
        json!({
            "name": node.name, "role": role(node), "table": table(node), "detail": node.detail,
            "inputs": inputs, "outputs": outputs,
        })
    }

    fn origin(&self, edge: &Edge) -> String {
        let from = &self.graph.nodes[edge.from.0];
        match (&from.kind, edge.output) {
            (_, crate::operators::MAIN) => from.name.clone(),
            (NodeKind::Source(_), _) => format!("{} (bad records)", from.name),
            (_, crate::operators::LATE) => format!("{} (late rows)", from.name),
            (_, output) => format!("{} (output {output})", from.name),
        }
    }

    fn distribution(&self, edge: &Edge) -> String {
        match &edge.distribution {
            Distribution::Forward => "in the same task".into(),
            Distribution::Gather => "gathered in one task".into(),
            Distribution::Hash(columns) => {
                let schema = self.graph.nodes[edge.from.0].outputs.get(edge.output);
                let name = |column: &usize| match schema {
                    Some(schema) if *column < schema.fields().len() => schema.field(*column).name().clone(),
                    _ => format!("column {column}"),
                };
                let names: Vec<String> = columns.iter().map(name).collect();
                format!("hash({})", names.join(", "))
            }
        }
    }
}

fn mark_inputs(graph: &Graph, at: usize, shown: &mut [bool]) {
    let mut waiting = vec![at];
    while let Some(at) = waiting.pop() {
        for edge in graph.nodes[at].inputs.iter().flatten() {
            if !shown[edge.from.0] {
                shown[edge.from.0] = true;
                waiting.push(edge.from.0);
            }
        }
    }
}

fn is_called(node: &Node, name: &str) -> bool {
    node.name == name || first_part(&node.name) == name || table(node) == Some(name)
}

fn first_part(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn table(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Source(source) => Some(&source.table),
        NodeKind::Sink(sink) => Some(&sink.table),
        NodeKind::Operator(_) => None,
    }
}

fn role(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::Source(_) => "source",
        NodeKind::Operator(_) => "operator",
        NodeKind::Sink(_) => "sink",
    }
}

/// Text that may stand between quotes in Mermaid.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("#quot;"),
            '#' => escaped.push_str("#35;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\n' => escaped.push_str("<br/>"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

    use super::*;
    use crate::cases::{collector, lines};
    use crate::dataflow::graph::{NodeId, OperatorNode, SinkNode, SourceNode};
    use crate::operators::Operator;

    struct Nothing;

    impl Operator for Nothing {
        fn on_batch(
            &mut self,
            _: usize,
            _: arrow::array::RecordBatch,
            _: &mut crate::operators::Output,
        ) -> datafusion::common::Result<()> {
            Ok(())
        }
    }

    fn edge(from: usize, distribution: Distribution) -> Vec<Vec<Edge>> {
        vec![vec![Edge { from: NodeId(from), output: 0, distribution }]]
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Utf8, true)]))
    }

    fn source(name: &str) -> Node {
        let kind = NodeKind::Source(SourceNode {
            table: name.into(),
            factory: lines(name, vec![]),
            physical: schema(),
            metadata: vec![],
            event_time: None,
            settings: crate::catalog::TableSettings::default(),
            dead_letters: None,
        });
        Node { name: name.into(), detail: "topic \"x\"".into(), kind, inputs: vec![], outputs: vec![schema()] }
    }

    fn operator(name: &str, inputs: Vec<Vec<Edge>>) -> Node {
        let make = |_: usize, _: usize| -> datafusion::common::Result<Box<dyn Operator>> { Ok(Box::new(Nothing)) };
        let kind = NodeKind::Operator(OperatorNode { factory: Arc::new(make), tick: None, fingerprint: None });
        Node { name: name.into(), detail: "sum(v)".into(), kind, inputs, outputs: vec![schema()] }
    }

    fn sink(name: &str, inputs: Vec<Vec<Edge>>) -> Node {
        let (factory, _) = collector(crate::connectors::SinkMode::Append);
        let kind = NodeKind::Sink(SinkNode { table: name.into(), factory, schema: schema() });
        Node { name: format!("{name}.sink"), detail: String::new(), kind, inputs, outputs: vec![] }
    }

    fn graph() -> Graph {
        Graph {
            nodes: vec![
                source("clicks"),
                source("orders"),
                operator("totals.window", edge(0, Distribution::Hash(vec![1]))),
                sink("totals", edge(2, Distribution::Forward)),
                sink("copies", edge(1, Distribution::Gather)),
            ],
        }
    }

    #[test]
    fn text_shows_each_node_with_its_inputs() {
        let graph = graph();
        let expected = "\
source   clicks
         topic \"x\"

operator totals.window
         sum(v)
         ← clicks, hash(v)

sink     totals.sink
         ← totals.window, in the same task
";
        assert_eq!(Selection::of(&graph, "totals").unwrap().text(), expected);
    }

    #[test]
    fn a_flowchart_has_every_node_and_edge() {
        let graph = graph();
        let expected = "\
flowchart LR
  n0([\"clicks<br/>topic #quot;x#quot;\"])
  n1([\"orders<br/>topic #quot;x#quot;\"])
  n2[\"totals.window<br/>sum(v)\"]
  n3[(\"totals.sink\")]
  n4[(\"copies.sink\")]
  n0 -->|\"hash(v)\"| n2
  n2 --> n3
  n1 -->|\"gathered in one task\"| n4
";
        assert_eq!(Selection::all(&graph).mermaid(), expected);
    }

    #[test]
    fn json_names_nodes_and_not_numbers() {
        let graph = graph();
        let json: Value = serde_json::from_str(&Selection::of(&graph, "copies").unwrap().json()).unwrap();
        assert_eq!(json["nodes"].as_array().unwrap().len(), 2);
        assert_eq!(json["nodes"][1]["inputs"][0]["from"], "orders");
        assert_eq!(json["nodes"][0]["outputs"][0][1]["type"], "Utf8");
    }

    #[test]
    fn an_unknown_name_selects_nothing() {
        let graph = graph();
        assert!(Selection::of(&graph, "total").is_none());
        assert_eq!(Selection::names(&graph), ["clicks", "copies", "orders", "totals"]);
    }
}
