//! Queries that read what they write: a file that grows by its own lines never ends.

use std::collections::BTreeSet;

use super::{Insert, Table, View};
use crate::sql::names::relations;
use crate::sql::{SourceFiles, SqlError};

/// What an insert reads, by way of views too, and the table that it writes.
struct Flow<'a> {
    insert: &'a Insert,
    reads: Vec<&'a Table>,
    writes: Option<&'a Table>,
}

/// An error for each insert that writes a file from which it reads again, itself or through other inserts.
pub(super) fn feedback(files: &SourceFiles, tables: &[Table], views: &[View], inserts: &[Insert]) -> Vec<SqlError> {
    let flow = |insert| Flow {
        insert,
        reads: reads(files, tables, views, insert),
        writes: insert.target.as_ref().and_then(|target| named(tables, &target.table)),
    };
    let flows: Vec<Flow> = inserts.iter().map(flow).collect();
    let mut errors = vec![];
    for (at, flow) in flows.iter().enumerate() {
        let (Some(target), Some(writes)) = (&flow.insert.target, flow.writes) else { continue };
        let Some(reads) = returns(&flows, at) else { continue };
        let Some(path) = writes.connector.written_file() else { continue };
        let name = &reads.definition.name;
        let message = format!("this query reads what it writes: table '{name}' reads {}, too", path.display());
        let error = SqlError::new(target.location, message).related(reads.definition.location, "declared here");
        errors.push(error.help("name another path: a file that grows by what is read from it has no end"));
    }
    errors
}

/// The table by which what insert `at` writes comes back to it.
fn returns<'a>(flows: &[Flow<'a>], at: usize) -> Option<&'a Table> {
    let (mut reached, mut ahead) = (BTreeSet::new(), vec![at]);
    while let Some(next) = ahead.pop() {
        let file = flows[next].writes.and_then(|table| table.connector.written_file());
        let Some(file) = file else { continue };
        for (other, flow) in flows.iter().enumerate() {
            let Some(reads) = flow.reads.iter().find(|table| table.connector.reads_file(file)) else { continue };
            if other == at {
                return Some(reads);
            }
            if reached.insert(other) {
                ahead.push(other);
            }
        }
    }
    None
}

fn reads<'a>(files: &SourceFiles, tables: &'a [Table], views: &[View], insert: &Insert) -> Vec<&'a Table> {
    let mut seen = BTreeSet::new();
    let mut ahead = relations(&insert.query, insert.location, files);
    let mut reads = vec![];
    while let Some(name) = ahead.pop() {
        if !seen.insert(name.text.clone()) {
            continue;
        }
        reads.extend(named(tables, &name.text));
        let view = views.iter().find(|view| view.name == name.text);
        ahead.extend(view.map(|view| relations(&view.query, view.location, files)).unwrap_or_default());
    }
    reads
}

fn named<'a>(tables: &'a [Table], name: &str) -> Option<&'a Table> {
    tables.iter().find(|table| table.definition.name == name)
}

#[cfg(test)]
mod tests {
    use crate::connectors::file::FileConnector;
    use crate::program::Program;
    use crate::sql::SourceFiles;
    use crate::sql::variables::Variables;

    fn mistakes(sql: &str) -> Vec<String> {
        let mut files = SourceFiles::default();
        files.add("a.sql".into(), sql.into());
        let connectors: Vec<Box<dyn crate::connectors::Connector>> = vec![Box::new(FileConnector::named("file"))];
        let Err(errors) = Program::parse(files, &Variables::default(), &connectors) else { return vec![] };
        errors
            .errors
            .iter()
            .map(|error| format!("{} {}", error.message, error.help.clone().unwrap_or_default()))
            .collect()
    }

    fn tables(paths: &[(&str, &str)]) -> String {
        let table = |(name, path): &(&str, &str)| {
            format!("CREATE TABLE {name} (n BIGINT) WITH (connector = 'file', path = '{path}', format = 'json');\n")
        };
        paths.iter().map(table).collect()
    }

    #[test]
    fn a_file_that_feeds_itself_is_refused_under_whatever_names() {
        let names = tables(&[("a", "logs/x.jsonl"), ("b", "./logs/x.jsonl"), ("c", "y.jsonl"), ("d", "logs/*.jsonl")]);
        let said = |query: &str| mistakes(&format!("{names}{query}"));
        let refused = "reads what it writes: table 'a' reads ./logs/x.jsonl, too name another path: a file that grows by \
                       what is read from it has no end";
        assert_eq!(said("INSERT INTO b SELECT n FROM a;"), [format!("this query {refused}")]);
        assert_eq!(said("CREATE VIEW v AS SELECT n + 1 AS n FROM a; INSERT INTO b SELECT n FROM v;").len(), 1);
        assert_eq!(said("INSERT INTO a SELECT n FROM a;").len(), 1);
        assert_eq!(said("INSERT INTO b SELECT n FROM d;").len(), 1);
        assert_eq!(said("INSERT INTO b SELECT n FROM c; INSERT INTO c SELECT n FROM a;").len(), 2);
        // One after the other has an end.
        assert_eq!(said("INSERT INTO b SELECT n FROM c; SELECT n FROM a;"), [""; 0]);
        assert_eq!(said("INSERT INTO c SELECT n FROM d;"), [""; 0]);
    }
}
