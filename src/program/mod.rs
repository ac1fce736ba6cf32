//! A folder of SQL, read: tables with their connectors, views and queries, with every name known.
//!
//! [`columns`] makes a table's definition of a `CREATE TABLE`, [`tables`] reads its options and finds its connector,
//! and [`resolution`] checks who names whom. All mistakes of a folder are found at once, each with its place. Where one
//! file is read alone, [`beside`] finds what it names in the others of its folder.

mod beside;
mod columns;
mod feedback;
#[cfg(test)]
mod history_tests;
mod resolution;
#[cfg(test)]
mod robustness;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast;

use crate::catalog::{TableDefinition, TableSettings};
use crate::connectors::{Connector, ConnectorTable, registry};
use crate::sql::names::Name;
use crate::sql::statement::{self, InsertInto, Statement, StatementKind};
use crate::sql::table::CreateTable;
use crate::sql::{Location, SourceFiles, SqlError, SqlErrors, Variables};
use resolution::{DeclaredView, Names, sorted, sound_views};
use tables::TableReader;

/// A folder of SQL files as one program.
pub struct Program {
    /// The texts, for messages.
    pub files: SourceFiles,
    /// Its tables, by name.
    pub tables: Vec<Table>,
    /// Its views, each after those that it uses.
    pub views: Vec<View>,
    /// What it does, in the order of files and statements.
    pub inserts: Vec<Insert>,
}

/// A table with its connector.
#[derive(Clone)]
pub struct Table {
    /// Columns, key and watermark.
    pub definition: TableDefinition,
    /// What becomes of its rows.
    pub settings: TableSettings,
    /// What it is connected to.
    pub connector: Arc<dyn ConnectorTable>,
    /// The connector's name in SQL.
    pub connector_name: &'static str,
    /// When an embedded part serves the table: the variable whose value would connect the real one.
    pub variable: Option<String>,
}

/// `CREATE VIEW name AS query`.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub location: Location,
    /// What it stands for.
    pub query: Box<ast::Query>,
}

/// `INSERT INTO target query`, or a bare query, which prints.
#[derive(Clone, Debug)]
pub struct Insert {
    /// A name for explain, logs and metrics: the target's, or `query`, with a number where several share it.
    pub name: String,
    /// The table to write, or `None` to print. With it, the columns that were listed, if any were.
    pub target: Option<InsertTarget>,
    /// What is written.
    pub query: Box<ast::Query>,
    /// Where the statement stands.
    pub location: Location,
}

/// Where an `INSERT` writes.
#[derive(Clone, Debug)]
pub struct InsertTarget {
    /// The table's name.
    pub table: String,
    /// The columns in parentheses after the name, or empty if none were listed.
    pub columns: Vec<String>,
    /// Where the table's name stands.
    pub location: Location,
}

impl Program {
    /// Reads every `*.sql` file below `folder`, in any order; or the one file that it names, with those tables and views
    /// of the files beside it that it uses.
    ///
    /// # Errors
    /// All mistakes at once, each with its place: unreadable files, syntax, unknown types, options, connectors and
    /// variables, duplicate names, views that use each other in a circle.
    pub fn read(folder: &Path, variables: &Variables) -> Result<Program, SqlErrors> {
        Program::read_with(folder, variables, &registry::connectors())
    }

    /// The same with other connectors than those of [`registry`].
    ///
    /// # Errors
    /// As for [`Program::read`].
    pub fn read_with(
        folder: &Path,
        variables: &Variables,
        connectors: &[Box<dyn Connector>],
    ) -> Result<Program, SqlErrors> {
        let (program, errors) = Program::sound_part(folder, variables, connectors);
        finished(program, errors)
    }

    /// Reads a folder with every mistake in it; the program is the part that the mistakes leave whole, so that it can
    /// be planned and tell of more.
    pub fn sound_part(
        folder: &Path,
        variables: &Variables,
        connectors: &[Box<dyn Connector>],
    ) -> (Program, Vec<SqlError>) {
        let (mut files, unreadable) = crate::sql::folder::read(folder);
        let is_empty = files.is_empty();
        let mut errors = vec![];
        let mut statements = Statements::parse(&files, &mut errors);
        if folder.is_file() {
            errors.extend(beside::borrow(&mut statements, &mut files, folder));
        }
        let program = assemble(files, statements, variables, connectors, &mut errors);
        if program.inserts.is_empty() && errors.is_empty() && !is_empty {
            let message = format!("there is nothing to run in {}", folder.display());
            errors.push(SqlError::nowhere(message).help("add an INSERT INTO ... SELECT, or a SELECT, which prints"));
        }
        errors.extend(unreadable);
        (program, errors)
    }

    /// The program of texts that are already in memory. One that has nothing to run is no error.
    ///
    /// # Errors
    /// As for [`Program::read`].
    pub fn parse(
        files: SourceFiles,
        variables: &Variables,
        connectors: &[Box<dyn Connector>],
    ) -> Result<Program, SqlErrors> {
        let mut errors = vec![];
        let statements = Statements::parse(&files, &mut errors);
        let program = assemble(files, statements, variables, connectors, &mut errors);
        finished(program, errors)
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.definition.name == name)
    }
}

fn finished(program: Program, errors: Vec<SqlError>) -> Result<Program, SqlErrors> {
    if errors.is_empty() { Ok(program) } else { Err(SqlErrors::new(program.files, errors)) }
}

/// The statements of all files, sorted by kind.
#[derive(Default)]
struct Statements {
    tables: Vec<CreateTable>,
    views: Vec<DeclaredView>,
    inserts: Vec<(InsertInto, Location)>,
    broken: Vec<Name>,
    secrets: Vec<Location>,
}

impl Statements {
    fn parse(files: &SourceFiles, errors: &mut Vec<SqlError>) -> Statements {
        let mut all = Statements::default();
        for file in 0..files.len() as u32 {
            all.add(files, file, errors);
        }
        all
    }

    /// Adds those of one file.
    fn add(&mut self, files: &SourceFiles, file: u32, errors: &mut Vec<SqlError>) {
        let parsed = statement::parse(files, file);
        errors.extend(parsed.errors);
        self.broken.extend(parsed.broken);
        self.secrets.extend(parsed.secrets);
        for Statement { location, kind } in parsed.statements {
            match kind {
                StatementKind::CreateTable(table) => self.tables.push(table),
                StatementKind::CreateView(view) => self.views.push(DeclaredView { view, location }),
                StatementKind::Insert(insert) => self.inserts.push((insert, location)),
            }
        }
    }
}

/// What the files mean, as far as they mean something; every mistake in them is added to `errors`.
fn assemble(
    mut files: SourceFiles,
    mut statements: Statements,
    variables: &Variables,
    connectors: &[Box<dyn Connector>],
    errors: &mut Vec<SqlError>,
) -> Program {
    for secret in std::mem::take(&mut statements.secrets) {
        files.hide(secret);
    }
    let mut tables = vec![];
    let reader = TableReader { files: &files, variables, connectors };
    for create in &statements.tables {
        let (table, mistakes) = reader.read(create);
        // What a table with mistakes can do is not known: its uses are not judged.
        match table {
            Some(table) if mistakes.is_empty() => tables.push(table),
            _ => statements.broken.push(create.name.clone()),
        }
        errors.extend(mistakes);
    }
    let mut names = Names::new(&files, &tables, &statements.views, &statements.broken);
    for table in &tables {
        names.check_settings(table);
        names.check_history(table);
    }
    let mut uses = vec![];
    let mut sound = vec![];
    for DeclaredView { view, location } in &statements.views {
        let mistakes = names.errors.len();
        uses.push(names.check_query(&view.query, *location));
        sound.push(names.errors.len() == mistakes && names.is_sound(&view.query, *location));
    }
    let sound_views = sound_views(&sound, &uses);
    let mut sound_inserts = vec![];
    for (insert, location) in &statements.inserts {
        let mistakes = names.errors.len();
        names.check_insert(insert);
        let views = names.check_query(&insert.query, *location);
        let target =
            insert.target.as_ref().is_none_or(|target| tables.iter().any(|t| t.definition.name == target.text));
        let reads = views.iter().all(|(view, _)| sound_views[*view]) && names.is_sound(&insert.query, *location);
        sound_inserts.push(names.errors.len() == mistakes && target && reads);
    }
    errors.append(&mut names.errors);
    let sound_names: HashSet<String> = statements
        .views
        .iter()
        .zip(&sound_views)
        .filter(|(_, sound)| **sound)
        .map(|(view, _)| view.view.name.text.clone())
        .collect();
    let (mut views, circles) = sorted(statements.views, &uses);
    errors.extend(circles);
    views.retain(|view| sound_names.contains(&view.name));
    // Named before any is left out: a name does not depend on mistakes elsewhere.
    let inserts = named(statements.inserts).into_iter().zip(sound_inserts).filter(|(_, sound)| *sound);
    let inserts: Vec<Insert> = inserts.map(|(insert, _)| insert).collect();
    errors.extend(feedback::feedback(&files, &tables, &views, &inserts));
    Program { files, tables, views, inserts }
}

/// Gives each insert its name: the target's or `query`, with a number from the second on.
fn named(inserts: Vec<(InsertInto, Location)>) -> Vec<Insert> {
    let plain: Vec<String> = inserts
        .iter()
        .map(|(insert, _)| insert.target.as_ref().map_or("query".to_string(), |target| target.text.clone()))
        .collect();
    let mut taken: HashSet<String> = HashSet::new();
    let mut named = vec![];
    for ((insert, location), plain_name) in inserts.into_iter().zip(&plain) {
        let numbered = (2..).map(|n| format!("{plain_name}_{n}")).filter(|name| !plain.contains(name));
        let mut candidates = std::iter::once(plain_name.clone()).chain(numbered);
        let name = candidates.find(|name| !taken.contains(name)).unwrap_or_default();
        taken.insert(name.clone());
        let target = insert.target.map(|target| InsertTarget {
            table: target.text,
            columns: insert.columns.into_iter().map(|column| column.text).collect(),
            location: target.location,
        });
        named.push(Insert { name, target, query: insert.query, location });
    }
    named
}
