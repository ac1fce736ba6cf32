//! One file of a folder as a program of its own: the tables and views that it names and does not declare come from the
//! files beside it, whose queries stay out.

use std::collections::BTreeSet;
use std::path::Path;

use super::Statements;
use crate::sql::names::{fold_text, relations};
use crate::sql::table::CreateTable;
use crate::sql::{SourceFiles, SqlError, folder};

/// The options whose value may name a table.
const NAMING: [&str; 3] = ["bad_rows", "late_rows", "history_of"];

/// Adds to the statements of `file` what they name, as far as it is declared beside it. Gives the mistakes of the files
/// in which it is declared but cannot be understood.
pub(super) fn borrow(statements: &mut Statements, files: &mut SourceFiles, file: &Path) -> Vec<SqlError> {
    if missing(statements, files).is_empty() {
        return vec![];
    }
    let mut all = files.clone();
    let mut beside = Statements::default();
    let mut mistakes: Vec<SqlError> = vec![];
    for (path, text) in folder::beside(file) {
        let number = all.add(path, text);
        beside.add(&all, number, &mut mistakes);
    }
    let mut shown = BTreeSet::new();
    loop {
        let wanted = missing(statements, &all);
        let (tables, views, broken) = (statements.tables.len(), statements.views.len(), statements.broken.len());
        statements.tables.extend(beside.tables.extract_if(.., |table| wanted.contains(&table.name.text)));
        statements.views.extend(beside.views.extract_if(.., |view| wanted.contains(&view.view.name.text)));
        statements.broken.extend(beside.broken.extract_if(.., |name| wanted.contains(&name.text)));
        shown.extend(statements.broken[broken..].iter().map(|name| name.location.file));
        if (tables, views, broken) == (statements.tables.len(), statements.views.len(), statements.broken.len()) {
            break;
        }
    }
    statements.secrets.append(&mut beside.secrets);
    *files = all;
    mistakes.retain(|mistake| mistake.location.is_some_and(|place| shown.contains(&place.file)));
    mistakes
}

/// The names that the statements use and do not declare.
fn missing(statements: &Statements, files: &SourceFiles) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = statements.tables.iter().flat_map(named_by_options).collect();
    for view in &statements.views {
        names.extend(relations(&view.view.query, view.location, files).into_iter().map(|name| name.text));
    }
    for (insert, location) in &statements.inserts {
        names.extend(relations(&insert.query, *location, files).into_iter().map(|name| name.text));
        names.extend(insert.target.iter().map(|target| target.text.clone()));
    }
    let tables = statements.tables.iter().map(|table| &table.name.text);
    let views = statements.views.iter().map(|view| &view.view.name.text);
    for declared in tables.chain(views).chain(statements.broken.iter().map(|name| &name.text)) {
        names.remove(declared);
    }
    names
}

fn named_by_options(table: &CreateTable) -> impl Iterator<Item = String> {
    let naming = table.options.iter().filter(|option| NAMING.contains(&option.key.text.as_str()));
    naming.map(|option| fold_text(&option.value))
}
