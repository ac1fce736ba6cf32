//! PostgreSQL as a sink and, by a cursor, as a source: `connector = 'postgres'`.
//!
//! ```sql
//! CREATE TABLE realtime_events (event_type TEXT NOT NULL, timestamp TIMESTAMP NOT NULL, amount DECIMAL(12, 2), raw_data TEXT)
//! WITH (connector = 'postgres', url = '${DWH_URL:-embedded}', migrate = 'warehouse');
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `url` | `postgres://user:password@host:5432/database` (`?sslmode=verify-full` and the like), `embedded`, `embedded://name`, or `sqlite://file`; `none` for a table that is read and has no rows |
//! | `table` | the table there, `name` or `schema.name`; this table's own name by default |
//! | `create` | `true` makes the table from its columns when it is missing |
//! | `migrate` | `warehouse`, `shop` or `crm` brings InstaShop's tables of that name up to date first |
//! | `on_error` | what becomes of rows that the database refuses: `dead_letters` (default), `fail` or `skip` |
//! | `delivery` | `exactly_once` (default) or `at_least_once` |
//! | `timeout` | how long an answer may take before the connection counts as lost; 30 seconds by default, and a second more for each MB of the transaction |
//!
//! A table with `cursor` can be read:
//!
//! | option | meaning |
//! |---|---|
//! | `cursor` | a column of whole numbers, one for each row, given in the order of insertion |
//! | `table`, or `query` | a table or view, or a SELECT, which can only be read |
//! | `cursor_table` | the table whose INSERTs give the cursor; `table` by default |
//! | `poll_interval` | how long to wait when there was nothing new; 2 seconds by default |
//! | `source.offset` | where to begin without a checkpoint: `earliest` (default) or `latest` |
//!
//! Rows come as JSON objects that the server makes, for the decoder of database rows. Why none is missed is in
//! [`writers`].
//!
//! Rows are added by COPY in its binary format; with a PRIMARY KEY they replace those with the same key. Columns of
//! the database's table that are not declared keep their defaults. What fits what is in [`copy::wire`].
//!
//! Added rows come by the epoch, in one transaction with the sink's row in `_acequia.epochs`: that marker says which
//! epochs are there, whatever became of a commit. Upserts come at once; each of their transactions makes sure by that row
//! that no later run has taken over. Refused rows are kept in `_acequia.dead_letters`, in the same transaction.
//! `embedded://shop` is a SQLite file, `shop.sqlite` in the data folder, and `embedded` short for `embedded://warehouse`.
//! `warehouse`, `shop` and `crm` migrate themselves; other tables are made as needed.

pub mod copy;
pub mod errors;
pub mod numeric;
mod open;
mod read_back;
pub(crate) mod session;
mod sink;
mod source;
pub mod target;
mod writers;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;

use super::looking::{Database, TableDatabase};
use super::sql_table::cursor_options::{CursorOptions, Rows, cursor_help};
use super::sql_table::{NoRows, SqlTableOptions, TableEpochs, TableSink};
use super::sqlite::{Place, SqliteSinkFactory, SqliteSourceFactory};
use super::{Connector, ConnectorError, ConnectorTable, SinkContext, SinkFactory, SinkMode, SourceFactory};
use crate::catalog::TableDefinition;
use crate::catalog::options::Options;
use crate::connectors::delivery::{Delivery, OpenSink};
use crate::connectors::refused_rows::OnError;
pub(crate) use open::migrate;
use read_back::PostgresRows;
use source::PostgresSourceFactory;

const TIMEOUT: Duration = Duration::from_secs(30);
/// The embedded database that `embedded` alone means.
const WAREHOUSE: &str = "warehouse";
/// How a server's `url` looks.
pub const URL_EXAMPLE: &str = "postgres://user:password@localhost:5432/database";

/// `connector = 'postgres'`, also called `'postgresql'`.
pub struct PostgresConnector {
    name: &'static str,
}

impl PostgresConnector {
    /// The connector under that name.
    pub fn named(name: &'static str) -> PostgresConnector {
        PostgresConnector { name }
    }
}

impl Connector for PostgresConnector {
    fn name(&self) -> &'static str {
        self.name
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        let sql_table = SqlTableOptions::take(self.name, table, options);
        let url = take_url(options);
        let timeout = options.duration(&["timeout"]).unwrap_or(TIMEOUT);
        let cursor = CursorOptions::take(self.name, table, &sql_table, true, options);
        let is_query = cursor.as_ref().is_some_and(|cursor| matches!(cursor.rows, Rows::Query(_)));
        let mut parts = match url {
            Some(Url::Server(server)) => server_parts(&server, sql_table, timeout, cursor),
            Some(Url::File(path)) => file_parts(Place::File(path), sql_table, cursor),
            Some(Url::Embedded(name)) => {
                PostgresTable { embedded: Some(name.clone()), ..file_parts(Place::Embedded(name), sql_table, cursor) }
            }
            None => PostgresTable {
                source: cursor.map(|_| Arc::new(NoRows) as Arc<dyn SourceFactory>),
                ..PostgresTable::default()
            },
        };
        parts.cursor_help = cursor_help(table);
        if is_query {
            parts.sink = None;
        }
        Arc::new(parts)
    }
}

/// Takes `url`, which is none when it says so; notes what is wrong with it, and goes on as if it were embedded.
fn take_url(options: &mut Options) -> Option<Url> {
    let problem = match options.take(&["url", "address"]) {
        None => {
            let example = format!("add 'url' = '{URL_EXAMPLE}' or 'url' = 'embedded'");
            (options.table(), "option 'url' is missing".to_owned(), example)
        }
        Some(option) if option.text == "none" => return None,
        Some(option) => match Url::parse(&option.text) {
            Ok(url) => return Some(url),
            // The value may hold a password, so the message does not show it.
            Err(problem) => {
                let help = format!(
                    "it takes '{URL_EXAMPLE}', 'embedded', 'embedded://name' or 'sqlite://file', and 'none' for a table \
                     that is read and has no rows"
                );
                (option.location, format!("option 'url' {problem}"), help)
            }
        },
    };
    options.error(problem.0, problem.1, Some(problem.2));
    Some(Url::Embedded(WAREHOUSE.into()))
}

fn server_parts(
    server: &PgConnectOptions,
    table: SqlTableOptions,
    timeout: Duration,
    cursor: Option<CursorOptions>,
) -> PostgresTable {
    let migrate = table.migrate;
    let source = |options: CursorOptions| -> Arc<dyn SourceFactory> {
        Arc::new(PostgresSourceFactory { server: server.clone(), timeout, migrate, options: Arc::new(options) })
    };
    let looked = TableDatabase {
        place: format!("PostgreSQL at {}", address(server)),
        table: table.quoted_name(),
        database: Database::Postgres(Box::new(server.clone())),
    };
    PostgresTable {
        source: cursor.map(source),
        database: Some(Box::new(move |_| looked.clone())),
        read_back: Some(Arc::new(PostgresRows { server: server.clone(), table: table.clone() })),
        sink: Some(Arc::new(PostgresSinkFactory { server: server.clone(), table, timeout })),
        ..PostgresTable::default()
    }
}

fn file_parts(place: Place, table: SqlTableOptions, cursor: Option<CursorOptions>) -> PostgresTable {
    let migrate = table.migrate;
    let source = |options: CursorOptions| -> Arc<dyn SourceFactory> {
        Arc::new(SqliteSourceFactory::new(place.clone(), migrate, options))
    };
    let source = cursor.map(source);
    let sink = Arc::new(SqliteSinkFactory::new(place, table));
    let looked = sink.clone();
    PostgresTable {
        source,
        database: Some(Box::new(move |data_dir| looked.database(data_dir))),
        read_back: Some(Arc::new(sink.rows())),
        sink: Some(sink),
        ..PostgresTable::default()
    }
}

/// A table's database, by the data folder.
type DatabaseOf = Box<dyn Fn(&Path) -> TableDatabase + Send + Sync>;

#[derive(Default)]
struct PostgresTable {
    source: Option<Arc<dyn SourceFactory>>,
    sink: Option<Arc<dyn SinkFactory>>,
    /// For audits.
    read_back: Option<Arc<dyn SourceFactory>>,
    /// For those who look, by the data folder.
    database: Option<DatabaseOf>,
    /// The embedded database's name.
    embedded: Option<String>,
    /// What would let it be read.
    cursor_help: String,
}

impl ConnectorTable for PostgresTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        self.source.clone()
    }

    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        self.sink.clone()
    }

    fn read_back(&self) -> Option<Arc<dyn SourceFactory>> {
        self.read_back.clone()
    }

    fn to_be_read(&self) -> Option<String> {
        Some(self.cursor_help.clone())
    }

    fn to_be_written(&self) -> Option<String> {
        Some("it has a 'query', or its 'url' is 'none': name a database and a table".into())
    }

    fn database(&self, data_dir: &Path) -> Option<TableDatabase> {
        self.database.as_ref().map(|database| database(data_dir))
    }

    fn embedded(&self) -> Option<&'static str> {
        self.embedded.is_some().then_some("PostgreSQL")
    }

    fn embedded_database(&self) -> Option<&str> {
        self.embedded.as_deref()
    }
}

/// What `url` says.
pub enum Url {
    /// A server.
    Server(Box<PgConnectOptions>),
    /// A SQLite file.
    File(PathBuf),
    /// The embedded database of this name, a SQLite file in the data folder.
    Embedded(String),
}

impl Url {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, to follow "option 'url' " in a message; never the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Url, &'static str> {
        if text == "embedded" {
            return Ok(Url::Embedded(WAREHOUSE.into()));
        }
        if let Some(name) = text.strip_prefix("embedded://") {
            let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') && !name.is_empty();
            return if is_name { Ok(Url::Embedded(name.into())) } else { Err("names no embedded database") };
        }
        if let Some(path) = text.strip_prefix("sqlite://") {
            return if path.is_empty() { Err("names no file") } else { Ok(Url::File(path.into())) };
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err("does not begin with postgres://");
        }
        let server = PgConnectOptions::from_str(text).map_err(|_| "cannot be read")?;
        Ok(Url::Server(Box::new(server)))
    }
}

/// `localhost:5432/shop`, without user and password.
pub fn address(server: &PgConnectOptions) -> String {
    let database = server.get_database().unwrap_or(server.get_username());
    format!("{}:{}/{database}", server.get_host(), server.get_port())
}

struct PostgresSinkFactory {
    server: PgConnectOptions,
    table: SqlTableOptions,
    timeout: Duration,
}

#[async_trait]
impl SinkFactory for PostgresSinkFactory {
    fn mode(&self) -> SinkMode {
        self.table.mode()
    }

    fn describe(&self) -> String {
        format!("PostgreSQL table {} at {}", self.table.display_name(), address(&self.server))
    }

    fn delivery(&self) -> Delivery {
        self.table.delivery()
    }

    fn leaves_rows_out(&self) -> bool {
        self.table.on_error == OnError::Skip
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let what = self.describe();
        let keyed = self.table.keyed(&context.schema, &what)?;
        let delivery = context.delivery(self.delivery());
        let schema = context.schema.clone();
        let (transactions, settled) = open::open(what, &self.server, self.timeout, &self.table, context).await?;
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
    use crate::catalog::options::OptionError;
    use crate::connectors::sql_table::tests::{options, table};

    fn parse(pairs: &[(&str, &str)], key: &[&str]) -> (Arc<dyn ConnectorTable>, Vec<OptionError>) {
        let definition = table("events", &[("id", DataType::Int64), ("name", DataType::Utf8)], key);
        let mut options = options(pairs);
        let connector = PostgresConnector::named("postgres");
        let parsed = connector.table(&definition, &mut options);
        (parsed, options.finish(connector.name()))
    }

    #[test]
    fn a_server_is_described_without_its_password() {
        let (table, errors) = parse(&[("url", "postgres://shop:s3cret@db.example:5433/dwh_db"), ("table", "a.b")], &[]);
        assert!(errors.is_empty(), "{errors:?}");
        let sink = table.sink().unwrap();
        assert_eq!(sink.describe(), "PostgreSQL table a.b at db.example:5433/dwh_db");
        assert_eq!(sink.mode(), SinkMode::Append);
        assert_eq!(table.embedded(), None);
        assert!(table.source().is_none());
    }

    #[test]
    fn a_primary_key_makes_upserts() {
        let (table, _) = parse(&[("url", "postgresql://localhost/shop")], &["id"]);
        assert_eq!(table.sink().unwrap().mode(), SinkMode::Upsert(vec!["id".into()]));
    }

    #[test]
    fn the_embedded_part_says_so() {
        let (table, errors) = parse(&[("url", "embedded")], &[]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(table.embedded(), Some("PostgreSQL"));
        assert_eq!(table.sink().unwrap().describe(), "SQLite table events in warehouse.sqlite");
        let (table, errors) = parse(&[("url", "embedded://shop"), ("migrate", "shop")], &[]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(table.sink().unwrap().describe(), "SQLite table events in shop.sqlite");
        for wrong in ["embedded://", "embedded://../shop", "embedded://a.b"] {
            let (_, errors) = parse(&[("url", wrong)], &[]);
            assert_eq!(errors[0].message, "option 'url' names no embedded database", "{wrong}");
            assert_eq!(
                errors[0].help.as_deref(),
                Some(
                    "it takes 'postgres://user:password@localhost:5432/database', 'embedded', 'embedded://name' or \
                     'sqlite://file', and 'none' for a table that is read and has no rows"
                )
            );
        }
    }

    #[test]
    fn mistakes_are_explained_and_never_show_the_password() {
        let (_, errors) = parse(&[], &[]);
        assert_eq!(errors[0].message, "option 'url' is missing");
        assert_eq!(
            errors[0].help.as_deref(),
            Some("add 'url' = 'postgres://user:password@localhost:5432/database' or 'url' = 'embedded'")
        );
        let (_, errors) = parse(&[("url", "mysql://root:s3cret@localhost/shop"), ("creat", "true")], &[]);
        assert_eq!(errors[0].message, "option 'url' does not begin with postgres://");
        assert_eq!(errors[1].message, "connector 'postgres' has no option 'creat'");
        assert_eq!(errors[1].help.as_deref(), Some("did you mean 'create'?"));
        let (_, errors) = parse(&[("url", "postgres://shop:s3cret@local host/shop")], &[]);
        assert_eq!(errors[0].message, "option 'url' cannot be read");
        assert!(!format!("{errors:?}").contains("s3cret"));
    }
}
