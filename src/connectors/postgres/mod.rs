//! PostgreSQL as a sink: `connector = 'postgres'`.
//!
//! ```sql
//! CREATE TABLE realtime_events (event_type TEXT NOT NULL, timestamp TIMESTAMP NOT NULL, amount DECIMAL(12, 2), raw_data TEXT)
//! WITH (connector = 'postgres', url = '${DWH_URL:-embedded}', migrate = 'warehouse');
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `url` | `postgres://user:password@host:5432/database` (`?sslmode=verify-full` and the like), `embedded`, or `sqlite://file` |
//! | `table` | the table there, `name` or `schema.name`; this table's own name by default |
//! | `create` | `true` makes the table from its columns when it is missing |
//! | `migrate` | `warehouse` brings `realtime_events` and `customer_sessions` up to date first |
//! | `on_error` | what becomes of rows that the database refuses: `dead_letters` (default), `fail` or `skip` |
//! | `delivery` | `exactly_once` (default) or `at_least_once` |
//! | `timeout` | how long an answer may take before the connection counts as lost; 30 seconds by default, and a second more for each MB of the transaction |
//!
//! Rows are added by COPY in its binary format; with a PRIMARY KEY they replace those with the same key. Columns of
//! the database's table that are not declared keep their defaults. What fits what is in [`copy::wire`].
//!
//! Added rows come by the epoch, in one transaction with the sink's row in `_acequia.epochs`: that marker says which
//! epochs are there, whatever became of a commit. Upserts come at once; each of their transactions makes sure by that row
//! that no later run has taken over. Refused rows are kept in `_acequia.dead_letters`, in the same transaction.
//! `embedded` is a SQLite file, `warehouse.sqlite`, with the warehouse's tables; other tables are made as needed.

pub mod copy;
pub mod errors;
pub mod numeric;
mod open;
mod read_back;
mod session;
mod sink;
pub mod target;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;

use super::looking::{Database, TableDatabase};
use super::sql_table::{SqlTableOptions, TableEpochs, TableSink};
use super::sqlite::{Place, SqliteSinkFactory};
use super::{Connector, ConnectorError, ConnectorTable, SinkContext, SinkFactory, SinkMode, SourceFactory};
use crate::catalog::TableDefinition;
use crate::catalog::options::Options;
use crate::connectors::delivery::{Delivery, OpenSink};
use crate::connectors::refused_rows::OnError;
use read_back::PostgresRows;

const TIMEOUT: Duration = Duration::from_secs(30);
const URL_EXAMPLE: &str = "postgres://user:password@localhost:5432/database";

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
        let place = match options.take(&["url", "address"]) {
            None => {
                let example = format!("add 'url' = '{URL_EXAMPLE}' or 'url' = 'embedded'");
                options.error(options.table(), "option 'url' is missing".into(), Some(example));
                None
            }
            // The value may hold a password, so the message does not show it.
            Some(option) => Url::parse(&option.text).map_or_else(
                |problem| {
                    let help = format!("it takes '{URL_EXAMPLE}', 'embedded' or 'sqlite://file'");
                    options.error(option.location, format!("option 'url' {problem}"), Some(help));
                    None
                },
                Some,
            ),
        };
        let timeout = options.duration(&["timeout"]).unwrap_or(TIMEOUT);
        let embedded = matches!(place, None | Some(Url::Embedded));
        let in_file = |place: Place, table: SqlTableOptions| -> PostgresTable {
            let sink = Arc::new(SqliteSinkFactory::new(place, table));
            let (rows, looked) = (sink.rows(), sink.clone());
            let database = Box::new(move |data_dir: &Path| looked.database(data_dir));
            PostgresTable { sink, read_back: Arc::new(rows), database, embedded }
        };
        Arc::new(match place {
            Some(Url::Server(server)) => {
                let rows = PostgresRows { server: (*server).clone(), table: sql_table.clone() };
                let looked = TableDatabase {
                    place: format!("PostgreSQL at {}", address(&server)),
                    table: sql_table.quoted_name(),
                    database: Database::Postgres(server.clone()),
                };
                let sink = Arc::new(PostgresSinkFactory { server: *server, table: sql_table, timeout });
                let database = Box::new(move |_: &Path| looked.clone());
                PostgresTable { sink, read_back: Arc::new(rows), database, embedded }
            }
            Some(Url::File(path)) => in_file(Place::File(path), sql_table),
            None | Some(Url::Embedded) => in_file(Place::Embedded, sql_table),
        })
    }
}

struct PostgresTable {
    sink: Arc<dyn SinkFactory>,
    /// For audits.
    read_back: Arc<dyn SourceFactory>,
    /// By the data folder.
    database: Box<dyn Fn(&Path) -> TableDatabase + Send + Sync>,
    embedded: bool,
}

impl ConnectorTable for PostgresTable {
    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        Some(self.sink.clone())
    }

    fn read_back(&self) -> Option<Arc<dyn SourceFactory>> {
        Some(self.read_back.clone())
    }

    fn database(&self, data_dir: &Path) -> Option<TableDatabase> {
        Some((self.database)(data_dir))
    }

    fn embedded(&self) -> Option<&'static str> {
        self.embedded.then_some("PostgreSQL")
    }
}

enum Url {
    Server(Box<PgConnectOptions>),
    File(PathBuf),
    Embedded,
}

impl Url {
    /// What is wrong follows "option 'url' " in a message.
    fn parse(text: &str) -> Result<Url, &'static str> {
        if text == "embedded" {
            return Ok(Url::Embedded);
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
fn address(server: &PgConnectOptions) -> String {
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
