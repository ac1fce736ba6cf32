//! Redis as a sink: `connector = 'redis'`.
//!
//! ```sql
//! CREATE TABLE products (category TEXT, product_sales BIGINT, PRIMARY KEY (category))
//! WITH (connector = 'redis', url = '${REDIS_URL:-embedded}', key = 'metrics:products:{category}', ttl = '1 hour');
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `url` | `redis://:password@host:6379/0`, `rediss://` for TLS, or `embedded`: a store inside this process |
//! | `ca_certificate` | a PEM file with the authorities to trust instead of the system's, for `rediss://` |
//! | `key` | the key of a row; `{column}` stands for that column's text, `{{` and `}}` for braces |
//! | `data_type` | `string` (default: the row as JSON), `hash` (a field a column), `stream` (XADD), `publish` (PUBLISH, the key is the channel) |
//! | `ttl` | how long a key lives after it was last written; for strings and hashes |
//! | `max_length` | about how many entries a stream keeps |
//! | `on_error` | `fail` (default) or `skip`: what becomes of rows whose key cannot be one |
//! | `delivery` | `exactly_once` (default) or `at_least_once`: without scripts and without a fence |
//! | `republish_limit` | how much of the newest keys is kept, to be published again when the server loses them (default `64MB`) |
//! | `timeout` | how long an answer is waited for before the connection counts as lost (default `30 seconds`) |
//!
//! Strings and hashes are upserts by the columns in the key: the newest row of a key is what is there, a replay changes
//! nothing. Entries of streams come exactly once, an epoch at a time. Messages (`publish`) come at least once: Redis
//! keeps none, so that nothing could be compared.
//!
//! With checkpoints and `exactly_once`, every write is a script that first compares the hash
//! `acequia:{pipeline}:{table}:writer`: an older run of the pipeline that wakes up writes nothing. When that key has gone,
//! or another server answers after a restart or a failover, the current values are published again, as many as
//! `republish_limit` holds and as this run has written; streams are delivered again from their marker on, as far as the
//! checkpoints still have the epochs. A Redis Cluster is not supported.
//!
//! A null in a key is the text `null`. Keys are text of 1 to 1,024 bytes without control characters, so that a value
//! from the outside cannot make a key that a person's terminal or a line protocol reads as something else.

pub mod commands;
mod current;
mod current_rows;
pub mod embedded;
pub mod key;
mod scripts;
mod server;
mod session;
mod sink;
mod stream_sink;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use async_trait::async_trait;

use self::current_rows::RedisRows;
use self::key::KeyTemplate;
use self::server::Server;
use self::sink::RedisSink;
use self::stream_sink::StreamSink;
use super::refused_rows::OnError;
use super::sql_table::create::is_nested;
use super::{Connector, ConnectorError, ConnectorTable, SinkContext, SinkFactory, SinkMode};
use crate::catalog::options::Options;
use crate::catalog::{ColumnKind, TableDefinition};
use crate::connectors::delivery::{Delivery, OpenSink, Promise};
use crate::connectors::looking::CurrentRows;
use crate::formats::EncodeOptions;

const URL_EXAMPLE: &str = "redis://localhost:6379";
/// A script with a whole batch on a busy server takes longer than one command.
const TIMEOUT: Duration = Duration::from_secs(30);
const REPUBLISH_LIMIT: u64 = 64 << 20;

/// `connector = 'redis'`.
pub struct RedisConnector;

/// What a row becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RedisType {
    /// A string: the row as JSON.
    #[default]
    String,
    /// A hash: a field for each column that is not null.
    Hash,
    /// An entry of a stream: a field for each column that is not null.
    Stream,
    /// A message in a channel: the row as JSON.
    Publish,
}

/// A table's options, understood.
#[derive(Clone)]
pub struct RedisOptions {
    /// `url`: the server, or `None` for the store in this process.
    pub server: Option<ConnectionInfo>,
    /// `ca_certificate`: the authorities to trust instead of the system's.
    pub ca_certificate: Option<PathBuf>,
    /// `key`.
    pub key: KeyTemplate,
    /// `data_type`.
    pub data_type: RedisType,
    /// `ttl`.
    pub ttl: Option<Duration>,
    /// `max_length`.
    pub max_length: Option<i64>,
    /// `on_error`.
    pub on_error: OnError,
    /// `delivery`.
    pub promise: Promise,
    /// `republish_limit`, in bytes.
    pub republish_limit: u64,
    /// `timeout`.
    pub timeout: Duration,
    /// How a row becomes JSON.
    pub format: EncodeOptions,
}

impl Connector for RedisConnector {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        Arc::new(RedisTable(Arc::new(RedisSinkFactory { options: RedisOptions::take(table, options) })))
    }
}

impl RedisOptions {
    /// Takes a table's options and notes what is wrong with them.
    pub fn take(table: &TableDefinition, options: &mut Options) -> RedisOptions {
        for column in &table.columns {
            if let ColumnKind::Metadata(_) = column.kind {
                options.error(
                    column.location,
                    format!("connector 'redis' has no metadata for column {}", column.name),
                    Some("leave METADATA away; a column's value reaches the key by key = '...{column}...'".into()),
                );
            }
        }
        let server = take_server(options);
        let ca_certificate = options.string(&["ca_certificate"]).map(PathBuf::from);
        let speaks_tls = server.as_ref().is_some_and(|server| matches!(server.addr(), ConnectionAddr::TcpTls { .. }));
        if ca_certificate.is_some() && !speaks_tls {
            let message = "option 'ca_certificate' is for TLS".into();
            options.error(options.table(), message, Some("write 'url' = 'rediss://...', or leave it away".into()));
        }
        let key = take_key(table, options);
        let data_type = options
            .choice(
                &["data_type", "target"],
                &[
                    ("string", RedisType::String),
                    ("hash", RedisType::Hash),
                    ("stream", RedisType::Stream),
                    ("publish", RedisType::Publish),
                ],
            )
            .unwrap_or_default();
        let table_name = options.table();
        let ttl = options.duration(&["ttl"]);
        if ttl.is_some() && matches!(data_type, RedisType::Stream | RedisType::Publish) {
            let message = "option 'ttl' is for strings and hashes".into();
            options.error(table_name, message, Some("a stream is kept short by 'max_length'".into()));
        }
        let max_length = options.integer(&["max_length", "maxlen"], 1..=i64::MAX);
        if max_length.is_some() && data_type != RedisType::Stream {
            let message = "option 'max_length' is for streams".into();
            options.error(table_name, message, Some("add 'data_type' = 'stream', or leave it away".into()));
        }
        RedisOptions {
            server,
            ca_certificate,
            key,
            data_type,
            ttl,
            max_length,
            on_error: OnError::take(options),
            promise: Promise::take(options),
            republish_limit: options.size(&["republish_limit"]).unwrap_or(REPUBLISH_LIMIT),
            timeout: options.duration(&["timeout"]).unwrap_or(TIMEOUT),
            format: EncodeOptions::take(table, options),
        }
    }

    fn what(&self) -> String {
        match &self.server {
            Some(server) => format!("Redis at {}", server.addr()),
            None => "embedded Redis".to_string(),
        }
    }

    /// The server, if it is not the embedded one; connects to nothing.
    fn connect_to(&self) -> Result<Option<Server>, ConnectorError> {
        let authorities = self.ca_certificate.as_deref();
        self.server.as_ref().map(|server| Server::new(self.what(), server, authorities, self.timeout)).transpose()
    }
}

/// The value may hold a password, so no message shows it.
fn take_server(options: &mut Options) -> Option<ConnectionInfo> {
    let Some(option) = options.take(&["url", "address"]) else {
        let help = format!("add 'url' = '{URL_EXAMPLE}' or 'url' = 'embedded'");
        options.error(options.table(), "option 'url' is missing".into(), Some(help));
        return None;
    };
    if option.text == "embedded" {
        return None;
    }
    let problem = if !["redis://", "rediss://"].iter().any(|scheme| option.text.starts_with(scheme)) {
        "does not begin with redis:// or rediss://"
    } else {
        match option.text.as_str().into_connection_info() {
            Ok(server) => return Some(server),
            Err(_) => "cannot be read",
        }
    };
    let help = format!("it takes '{URL_EXAMPLE}', 'rediss://user:password@host:6379/0' or 'embedded'");
    options.error(option.location, format!("option 'url' {problem}"), Some(help));
    None
}

fn take_key(table: &TableDefinition, options: &mut Options) -> KeyTemplate {
    let Some(option) = options.take(&["key"]) else {
        let help = format!("add 'key' = '{}' or 'key' = '{}:{{column}}'", table.name, table.name);
        options.error(options.table(), "option 'key' is missing".into(), Some(help));
        return KeyTemplate::default();
    };
    let scalar = |name: &str| {
        let column = table.column(name)?;
        (column.kind == ColumnKind::Physical && !is_nested(&column.data_type)).then_some(())
    };
    let columns: Vec<&str> =
        table.columns.iter().map(|column| column.name.as_str()).filter(|name| scalar(name).is_some()).collect();
    match KeyTemplate::parse(&option.text, &columns) {
        Ok(key) => key,
        Err(mistake) => {
            options.error(option.location, format!("option 'key': {}", mistake.message), Some(mistake.help));
            KeyTemplate::default()
        }
    }
}

struct RedisTable(Arc<RedisSinkFactory>);

impl ConnectorTable for RedisTable {
    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        Some(self.0.clone())
    }

    fn embedded(&self) -> Option<&'static str> {
        self.0.options.server.is_none().then_some("Redis")
    }

    fn current(&self) -> Option<Box<dyn CurrentRows>> {
        let options = &self.0.options;
        (options.data_type == RedisType::String).then(|| Box::new(RedisRows::new(options.clone())) as _)
    }
}

struct RedisSinkFactory {
    options: RedisOptions,
}

#[async_trait]
impl SinkFactory for RedisSinkFactory {
    fn mode(&self) -> SinkMode {
        match self.options.data_type {
            RedisType::String | RedisType::Hash => SinkMode::Upsert(self.options.key.columns().to_vec()),
            RedisType::Stream | RedisType::Publish => SinkMode::Append,
        }
    }

    fn describe(&self) -> String {
        let kind = match self.options.data_type {
            RedisType::String => "key",
            RedisType::Hash => "hash",
            RedisType::Stream => "stream",
            RedisType::Publish => "channel",
        };
        format!("{} {kind} {}", self.options.what(), self.options.key)
    }

    fn delivery(&self) -> Delivery {
        let stream = self.options.data_type == RedisType::Stream && self.options.server.is_some();
        if stream && self.options.promise == Promise::ExactlyOnce { Delivery::PerEpoch } else { Delivery::AtOnce }
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        if self.delivery() == Delivery::PerEpoch
            && let (Some(writer), Some(server)) = (context.writer.clone(), self.options.connect_to()?)
        {
            let (sink, settled) = StreamSink::open(self.describe(), &self.options, server, writer, &context).await?;
            return Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled });
        }
        Ok(OpenSink::AtOnce(Box::new(RedisSink::open(self.describe(), &self.options, context).await?)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::catalog::options::OptionError;
    use crate::connectors::sql_table::tests::{options, table};

    fn parse(pairs: &[(&str, &str)]) -> (Arc<dyn ConnectorTable>, Vec<OptionError>) {
        let columns = [
            ("category", DataType::Utf8),
            ("sales", DataType::Int64),
            ("tags", DataType::new_list(DataType::Utf8, true)),
        ];
        let mut options = options(pairs);
        let parsed = RedisConnector.table(&table("products", &columns, &["category"]), &mut options);
        (parsed, options.finish("redis"))
    }

    #[test]
    fn the_columns_of_the_key_are_the_keys_of_the_upsert() {
        let (table, errors) =
            parse(&[("url", "redis://:s3cret@cache:6380/2"), ("key", "m:{category}"), ("ttl", "1 hour")]);
        assert!(errors.is_empty(), "{errors:?}");
        let sink = table.sink().unwrap();
        assert_eq!(sink.mode(), SinkMode::Upsert(vec!["category".into()]));
        assert_eq!(sink.describe(), "Redis at cache:6380 key m:{category}");
        assert_eq!(table.embedded(), None);
        let (table, _) = parse(&[("url", "embedded"), ("key", "metrics:transactions")]);
        assert_eq!(table.sink().unwrap().mode(), SinkMode::Upsert(vec![]));
        assert_eq!(table.embedded(), Some("Redis"));
        let (table, _) = parse(&[("url", "embedded"), ("key", "sales"), ("data_type", "stream"), ("max_length", "9")]);
        assert_eq!(table.sink().unwrap().mode(), SinkMode::Append);
    }

    #[test]
    fn what_is_missing_comes_with_an_example() {
        let (_, errors) = parse(&[]);
        assert_eq!(errors[0].message, "option 'url' is missing");
        assert_eq!(errors[0].help.as_deref(), Some("add 'url' = 'redis://localhost:6379' or 'url' = 'embedded'"));
        assert_eq!(errors[1].message, "option 'key' is missing");
        assert_eq!(errors[1].help.as_deref(), Some("add 'key' = 'products' or 'key' = 'products:{column}'"));
    }

    #[test]
    fn an_unknown_column_names_the_closest_and_a_nested_one_is_unknown() {
        let (_, errors) = parse(&[("url", "embedded"), ("key", "m:{categry}")]);
        assert_eq!(errors[0].message, "option 'key': there is no column categry");
        assert_eq!(errors[0].help.as_deref(), Some("did you mean {category}?"));
        let (_, errors) = parse(&[("url", "embedded"), ("key", "m:{tags}")]);
        assert_eq!(errors[0].help.as_deref(), Some("a key can hold category, sales"));
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        let (_, errors) = parse(&[("url", "embedded"), ("key", "k"), ("data_type", "publish"), ("ttl", "1 hour")]);
        assert_eq!(errors[0].message, "option 'ttl' is for strings and hashes");
        let (_, errors) = parse(&[("url", "embedded"), ("key", "k"), ("max_length", "5")]);
        assert_eq!(errors[0].message, "option 'max_length' is for streams");
        let plain = [("url", "redis://localhost"), ("key", "k"), ("ca_certificate", "ca.pem")];
        assert_eq!(parse(&plain).1[0].message, "option 'ca_certificate' is for TLS");
    }

    #[test]
    fn a_wrong_url_is_explained_and_never_shown() {
        let (_, errors) = parse(&[("url", "s3cret@localhost:6379"), ("key", "k")]);
        assert_eq!(errors[0].message, "option 'url' does not begin with redis:// or rediss://");
        let (_, errors) = parse(&[("url", "redis://:s3cret@host:x/9"), ("key", "k")]);
        assert_eq!(errors[0].message, "option 'url' cannot be read");
        assert!(!format!("{errors:?}").contains("s3cret"));
    }
}
