//! What the strings of a table hold now, on the server or in its stand-in.

use std::collections::BTreeSet;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use serde_json::{Map, Value};

use super::RedisOptions;
use super::embedded;
use super::server::Server;
use crate::connectors::ConnectorError;
use crate::connectors::looking::{CurrentRows, PATIENCE};

/// The server is asked for so many keys at a time.
const KEYS_A_SCAN: usize = 1000;
/// How often it is asked at each look: a server with millions of other keys is searched over many looks.
const SCANS_A_LOOK: usize = 20;

/// Reads the rows of one table.
pub(super) struct RedisRows {
    options: RedisOptions,
    keys: Keys,
    link: Option<Link>,
}

struct Link {
    server: Server,
    connection: MultiplexedConnection,
}

/// Which keys are the table's.
enum Keys {
    /// One, which needs no search.
    One(String),
    /// Those that match a pattern.
    Matching {
        pattern: String,
        /// Found so far.
        known: BTreeSet<String>,
        /// Where the search goes on.
        cursor: u64,
    },
}

impl RedisRows {
    pub(super) fn new(options: RedisOptions) -> RedisRows {
        let keys = match options.key.constant() {
            Some(key) => Keys::One(key.to_owned()),
            None => Keys::Matching { pattern: options.key.pattern(), known: BTreeSet::new(), cursor: 0 },
        };
        RedisRows { options, keys, link: None }
    }

    /// The connection; `None` for the stand-in, which needs none.
    async fn connected(&mut self) -> Result<Option<Link>, ConnectorError> {
        if let Some(link) = self.link.take() {
            return Ok(Some(link));
        }
        let hasty = RedisOptions { timeout: PATIENCE, ..self.options.clone() };
        let Some(server) = hasty.connect_to()? else { return Ok(None) };
        let connection = server.connect().await?;
        Ok(Some(Link { server, connection }))
    }

    fn stored_values(&self) -> Vec<String> {
        let store = embedded::store();
        match &self.keys {
            Keys::One(key) => store.get(key).into_iter().collect(),
            Keys::Matching { pattern, .. } => store.keys(pattern).iter().filter_map(|key| store.get(key)).collect(),
        }
    }
}

impl Keys {
    async fn values(&mut self, link: &mut Link) -> Result<Vec<String>, ConnectorError> {
        let Link { server, connection } = link;
        let failed = |error: redis::RedisError| server.error(&error);
        let keys: Vec<String> = match self {
            Keys::One(key) => vec![key.clone()],
            Keys::Matching { pattern, known, cursor } => {
                for _ in 0..SCANS_A_LOOK {
                    let mut scan = redis::cmd("SCAN");
                    scan.arg(*cursor).arg("MATCH").arg(&*pattern).arg("COUNT").arg(KEYS_A_SCAN);
                    let (next, found): (u64, Vec<String>) = scan.query_async(connection).await.map_err(failed)?;
                    known.extend(found);
                    *cursor = next;
                    if next == 0 {
                        break;
                    }
                }
                known.iter().cloned().collect()
            }
        };
        if keys.is_empty() {
            // A server that is not asked anything else has to show that it is there.
            redis::cmd("PING").query_async::<String>(connection).await.map_err(failed)?;
            return Ok(vec![]);
        }
        let values: Vec<Option<String>> =
            redis::cmd("MGET").arg(&keys).query_async(connection).await.map_err(failed)?;
        if let Keys::Matching { known, .. } = self {
            // Gone, or something else than a string.
            keys.iter().zip(&values).filter(|(_, value)| value.is_none()).for_each(|(key, _)| {
                known.remove(key);
            });
        }
        Ok(values.into_iter().flatten().collect())
    }
}

#[async_trait]
impl CurrentRows for RedisRows {
    fn place(&self) -> String {
        self.options.what()
    }

    async fn rows(&mut self) -> Result<Vec<Map<String, Value>>, ConnectorError> {
        let values = match self.connected().await? {
            None => self.stored_values(),
            // Whatever goes wrong, the next look connects again.
            Some(mut link) => {
                let values = self.keys.values(&mut link).await?;
                self.link = Some(link);
                values
            }
        };
        // Another program's value under such a key is no row.
        Ok(values.iter().filter_map(|value| serde_json::from_str(value).ok()).collect())
    }

    fn rest(&mut self) {
        self.link = None;
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::super::commands::Command;
    use super::*;
    use crate::connectors::sql_table::tests::{options, table};

    fn rows(key: &str) -> RedisRows {
        let mut given = options(&[("url", "embedded"), ("key", key)]);
        RedisRows::new(RedisOptions::take(&table("t", &[("category", DataType::Utf8)], &[]), &mut given))
    }

    fn set(key: &str, value: &str) -> Command {
        Command::Set { key: key.into(), value: value.into(), ttl: None }
    }

    #[tokio::test]
    async fn the_rows_of_a_table_are_those_under_its_keys() {
        embedded::store().apply(vec![
            set("looked:at:{all}", r#"{"n":1}"#),
            set("looked:at:x:b", r#"{"category":"b"}"#),
            set("looked:at:x:a", r#"{"category":"a"}"#),
            set("looked:at:x:other", "no row"),
        ]);
        let mut of_one_key = rows("looked:at:{{all}}");
        assert_eq!(serde_json::to_value(of_one_key.rows().await.unwrap()).unwrap(), serde_json::json!([{"n": 1}]));
        let mut of_many = rows("looked:at:x:{category}");
        let found = serde_json::to_value(of_many.rows().await.unwrap()).unwrap();
        assert_eq!(found, serde_json::json!([{"category": "a"}, {"category": "b"}]));
        assert_eq!(of_many.place(), "embedded Redis");
    }
}
