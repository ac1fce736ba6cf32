//! SQLite as a sink and, by a cursor, as a source: `connector = 'sqlite'`, and the stand-in for PostgreSQL when its `url`
//! is `'embedded'`.
//!
//! | option | meaning |
//! |---|---|
//! | `path` | the database's file, made when it is missing |
//! | `table`, `create`, `migrate`, `on_error`, `delivery` | as for `postgres`; the tables are `_acequia_epochs` and `_acequia_dead_letters` |
//! | `cursor`, `query`, `poll_interval`, `source.offset` | as for `postgres`, to read |
//!
//! Values are written so that SQLite's own functions read them, and nothing is lost: whole numbers and booleans (0, 1)
//! as INTEGER, floats as REAL (NaN, which SQLite does not have, becomes NULL), decimals as text that a column of type
//! DECIMAL turns into a number when up to 15 digits carry it and a TEXT column keeps digit by digit, dates and times as
//! `2026-01-31` and `2026-01-31 12:00:00.5` in UTC, structs and lists as JSON text, bytes as BLOB.
//!
//! The file is in WAL mode, so that others can read while rows are written.

pub(crate) mod errors;
mod open;
mod read_back;
mod row_json;
mod sink;
mod source;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::looking::{Database, TableDatabase};
use super::sql_table::cursor_options::{CursorOptions, Rows, cursor_help};
use super::sql_table::{Migrations, SqlTableOptions, TableEpochs, TableSink};
use super::{Connector, ConnectorError, ConnectorTable, SinkContext, SinkFactory, SinkMode, SourceFactory};
use crate::catalog::TableDefinition;
use crate::catalog::options::Options;
use crate::connectors::delivery::{Delivery, OpenSink};
use crate::connectors::refused_rows::OnError;
pub(crate) use open::migrate;
pub use read_back::SqliteRows;
pub use source::SqliteSourceFactory;

/// The file of an embedded database in the data folder: `shop.sqlite`.
pub fn embedded_file(name: &str) -> String {
    format!("{name}.sqlite")
}

/// `connector = 'sqlite'`.
pub struct SqliteConnector;

impl Connector for SqliteConnector {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        let sql_table = SqlTableOptions::take(self.name(), table, options);
        let place = Place::File(options.required(&["path"], "shop.sqlite").into());
        let cursor = CursorOptions::take(self.name(), table, &sql_table, false, options);
        let is_query = cursor.as_ref().is_some_and(|cursor| matches!(cursor.rows, Rows::Query(_)));
        let migrate = sql_table.migrate;
        let source = cursor.map(|cursor| Arc::new(SqliteSourceFactory::new(place.clone(), migrate, cursor)));
        let sink = (!is_query).then(|| Arc::new(SqliteSinkFactory::new(place, sql_table)));
        Arc::new(SqliteTable { source, sink, cursor_help: cursor_help(table) })
    }
}

struct SqliteTable {
    source: Option<Arc<SqliteSourceFactory>>,
    sink: Option<Arc<SqliteSinkFactory>>,
    /// What would let it be read.
    cursor_help: String,
}

impl ConnectorTable for SqliteTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        Some(self.source.clone()?)
    }

    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        Some(self.sink.clone()?)
    }

    fn read_back(&self) -> Option<Arc<dyn SourceFactory>> {
        Some(Arc::new(self.sink.as_ref()?.rows()))
    }

    fn to_be_read(&self) -> Option<String> {
        Some(self.cursor_help.clone())
    }

    fn to_be_written(&self) -> Option<String> {
        Some("it has a 'query': name a table".into())
    }

    fn database(&self, data_dir: &Path) -> Option<TableDatabase> {
        Some(self.sink.as_ref()?.database(data_dir))
    }
}

/// Where a database lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In the embedded database of this name, such as `warehouse`, whose tables are made when it opens.
    Embedded(String),
}

/// Opens sinks into one table of a SQLite database.
pub struct SqliteSinkFactory {
    place: Place,
    table: SqlTableOptions,
}

impl SqliteSinkFactory {
    /// For `table` in the database at `place`. SQLite has no schemas, so that a name's schema is left out; nobody but
    /// us looks after the embedded database, so that missing tables are made there unless the options say otherwise.
    pub fn new(place: Place, mut table: SqlTableOptions) -> SqliteSinkFactory {
        table.schema = None;
        if let Place::Embedded(name) = &place {
            table.create = table.create.or(Some(true));
            table.migrate = table.migrate.or(Migrations::named(name));
        }
        SqliteSinkFactory { place, table }
    }

    /// The file in which its table lies.
    pub fn database(&self, data_dir: &Path) -> TableDatabase {
        let path = self.place.path(data_dir);
        let place = format!("SQLite file {}", path.display());
        TableDatabase { database: Database::Sqlite(path), table: self.table.quoted_name(), place }
    }

    /// How to read back for an audit what it writes.
    pub fn rows(&self) -> SqliteRows {
        SqliteRows { place: self.place.clone(), table: self.table.clone() }
    }
}

impl Place {
    fn path(&self, data_dir: &Path) -> PathBuf {
        match self {
            Place::File(path) => path.clone(),
            Place::Embedded(name) => data_dir.join(embedded_file(name)),
        }
    }

    fn describe(&self, table: &SqlTableOptions) -> String {
        let file = match self {
            Place::File(path) => path.display().to_string(),
            Place::Embedded(name) => embedded_file(name),
        };
        format!("SQLite table {} in {file}", table.name)
    }
}

#[async_trait]
impl SinkFactory for SqliteSinkFactory {
    fn mode(&self) -> SinkMode {
        self.table.mode()
    }

    fn describe(&self) -> String {
        self.place.describe(&self.table)
    }

    fn delivery(&self) -> Delivery {
        self.table.delivery()
    }

    fn leaves_rows_out(&self) -> bool {
        self.table.on_error == OnError::Skip
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let path = self.place.path(&context.data_dir);
        let what = format!("SQLite table {} in {}", self.table.name, path.display());
        let keyed = self.table.keyed(&context.schema, &what)?;
        let delivery = context.delivery(self.delivery());
        let schema = context.schema.clone();
        let (transactions, settled) = open::open(what, &path, &self.table, context).await?;
        Ok(match delivery {
            Delivery::PerEpoch => {
                OpenSink::PerEpoch { sink: Box::new(TableEpochs::new(transactions, settled)), settled }
            }
            Delivery::AtOnce => OpenSink::AtOnce(Box::new(TableSink::new(Box::new(transactions), schema, keyed))),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::connectors::sql_table::tests::{options, table};

    #[test]
    fn a_path_is_needed() {
        let definition = table("events", &[("id", DataType::Int64)], &[]);
        let mut given = options(&[]);
        SqliteConnector.table(&definition, &mut given);
        let errors = given.finish("sqlite");
        assert_eq!(errors[0].message, "option 'path' is missing");
        assert_eq!(errors[0].help.as_deref(), Some("add 'path' = 'shop.sqlite'"));
    }

    #[test]
    fn a_schema_is_left_out() {
        let definition = table("events", &[("id", DataType::Int64)], &["id"]);
        let mut given = options(&[("path", "a.sqlite"), ("table", "public.events")]);
        let sink = SqliteConnector.table(&definition, &mut given).sink().unwrap();
        assert_eq!(sink.describe(), "SQLite table events in a.sqlite");
        assert_eq!(sink.mode(), SinkMode::Upsert(vec!["id".into()]));
        assert!(given.finish("sqlite").is_empty());
    }
}
