//! The SQL beside each node of the graph: where its table or its query stands, and what it says.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::dataflow::graph::{Node, NodeKind};
use crate::program::Program;
use crate::sql::statement::{self, StatementKind};
use crate::sql::{Location, SourceFiles};

/// The statements of a program.
#[derive(Default)]
pub struct Statements {
    /// `CREATE TABLE` by the table's name.
    tables: BTreeMap<String, Value>,
    /// Queries by the name that nodes begin with.
    queries: BTreeMap<String, Value>,
    files: Vec<Value>,
}

impl Statements {
    /// Of the program that was read from `folder`, or from the file of that name.
    pub fn of(program: &Program, folder: &Path) -> Statements {
        let files = &program.files;
        let shown = |location: Location| shown(files, folder, location);
        let names: BTreeMap<Location, &str> =
            program.inserts.iter().map(|insert| (insert.location, insert.name.as_str())).collect();
        let mut statements = Statements { tables: BTreeMap::new(), queries: BTreeMap::new(), files: vec![] };
        for file in 0..files.len() as u32 {
            statements.files.push(json!({ "file": file_name(files, folder, file), "text": files.shown_text(file) }));
            for statement in statement::parse(files, file).statements {
                match statement.kind {
                    StatementKind::CreateTable(table) => {
                        statements.tables.insert(table.name.text, shown(statement.location));
                    }
                    StatementKind::CreateView(_) => {}
                    StatementKind::Insert(_) => {
                        if let Some(name) = names.get(&statement.location) {
                            statements.queries.insert((*name).to_owned(), shown(statement.location));
                        }
                    }
                }
            }
        }
        statements
    }

    /// The whole files, as `/api/page/sql` gives them.
    pub fn files(&self) -> &[Value] {
        &self.files
    }

    /// The statement of a node: `{file, line, text}`, or null.
    pub fn of_node(&self, node: &Node) -> Value {
        let found = match &node.kind {
            NodeKind::Source(source) => self.tables.get(&source.table),
            NodeKind::Sink(sink) => self.tables.get(&sink.table).or_else(|| self.queries.get(&sink.table)),
            NodeKind::Operator(_) => self.query_of(&node.name),
        };
        found.cloned().unwrap_or_default()
    }

    /// Names of nodes are the query's, a point and what the node does: the longest name that fits is the query's.
    fn query_of(&self, node: &str) -> Option<&Value> {
        let mut name = node;
        loop {
            name = name.rsplit_once('.')?.0;
            if let Some(query) = self.queries.get(name) {
                return Some(query);
            }
        }
    }
}

fn shown(files: &SourceFiles, folder: &Path, location: Location) -> Value {
    json!({
        "file": file_name(files, folder, location.file),
        "line": files.line_and_column(location).0,
        "text": files.shown(location),
    })
}

fn file_name(files: &SourceFiles, folder: &Path, file: u32) -> String {
    let path = files.path(file);
    let inside = path.strip_prefix(folder).ok().filter(|inside| !inside.as_os_str().is_empty());
    let name = inside.or_else(|| path.file_name().map(Path::new)).unwrap_or(path);
    name.display().to_string()
}
