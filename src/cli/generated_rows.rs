//! The guard between generated rows and a real Kafka: a shop that was tried out with embedded parts leaves a file, and
//! its rows must not reach a real topic because only Kafka's variable has been set since.

use std::path::Path;

use crate::connectors::sqlite::embedded_file;
use crate::dataflow::graph::{Graph, NodeKind};
use crate::program::{Program, Table};

/// The embedded databases that the generator fills.
const GENERATED: [&str; 2] = ["shop", "crm"];

/// What is wrong with running `graph`, and the ways out, if rows of a generated database that is there would get into a
/// Kafka that is not embedded.
pub fn into_real_kafka(program: &Program, graph: &Graph, data_dir: &Path) -> Option<String> {
    let table = |name: &str| program.tables.iter().find(|table| table.definition.name == *name);
    // What each node reads stands before it.
    let mut generated: Vec<Option<&Table>> = vec![];
    for node in &graph.nodes {
        let mut inputs = node.inputs.iter().flatten().map(|edge| edge.from.0);
        let from = match &node.kind {
            NodeKind::Source(source) => table(&source.table).filter(|table| is_generated(table, data_dir)),
            _ => inputs.find_map(|input| generated[input]),
        };
        if let (NodeKind::Sink(sink), Some(from)) = (&node.kind, from)
            && table(&sink.table).is_some_and(is_real_kafka)
        {
            return Some(refusal(from, &sink.table, &sink.factory.describe(), data_dir));
        }
        generated.push(from);
    }
    None
}

fn is_generated(table: &Table, data_dir: &Path) -> bool {
    let name = table.connector.embedded_database().filter(|name| GENERATED.contains(name));
    name.is_some_and(|name| data_dir.join(embedded_file(name)).exists())
}

fn is_real_kafka(table: &Table) -> bool {
    table.connector_name == "kafka" && table.connector.embedded().is_none()
}

fn refusal(from: &Table, to: &str, topic: &str, data_dir: &Path) -> String {
    let file = data_dir.join(embedded_file(from.connector.embedded_database().unwrap_or_default()));
    let variable = from.variable.as_deref().unwrap_or("its 'url'");
    format!(
        "{} holds generated rows, which table {} reads, and table {to} is a {topic}: they must not get there by accident.\n  \
         Set {variable} to the database whose rows are meant, or to 'none' to go without them, or choose another --data-dir",
        file.display(),
        from.definition.name,
    )
}
