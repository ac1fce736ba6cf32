//! A folder of SQL, read: tables, views and queries with every name known.

use std::path::Path;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast;

use super::{TableDefinition, TableSettings};
use crate::connectors::ConnectorTable;
use crate::sql::{Location, SourceFiles, SqlErrors, Variables};

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
    /// Reads every `*.sql` file below `folder` (or the one file that it names), in any order.
    ///
    /// # Errors
    /// All mistakes at once, each with its place: unreadable files, syntax, unknown types, options, connectors and
    /// variables, duplicate names, views that use each other in a circle.
    pub fn read(folder: &Path, variables: &Variables) -> Result<Program, SqlErrors> {
        let _ = (folder, variables);
        unreachable!()
    }
}
