//! Reading back what a pipeline wrote, in the ledger's units: milliseconds since 1970 and cents.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use redis::AsyncCommands;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::kafka;

/// All rows of a query whose columns are text.
pub async fn query(url: &str, statement: &str) -> Vec<Vec<String>> {
    let mut client = PgConnection::connect(url).await.unwrap();
    let rows = sqlx::query(AssertSqlSafe(statement.to_owned())).fetch_all(&mut client).await.unwrap();
    rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
}

/// One number.
pub async fn count(url: &str, statement: &str) -> i64 {
    let mut client = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut client).await.unwrap()
}

/// The keys of a pattern, in order.
pub async fn keys(url: &str, pattern: &str) -> Vec<String> {
    let mut client = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut keys: Vec<String> = client.keys(pattern).await.unwrap();
    keys.sort_unstable();
    keys
}

/// A key's value and how many seconds it has left (-1: it stays).
pub async fn value(url: &str, key: &str) -> (Value, i64) {
    let mut client = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let text: String = client.get(key).await.unwrap();
    (serde_json::from_str(&text).unwrap(), client.ttl(key).await.unwrap())
}

/// All records of a topic, as JSON.
pub fn records(servers: &str, topic: &str) -> Vec<Value> {
    keyed_records(servers, topic).into_iter().map(|(_, value)| value).collect()
}

/// All records of a topic, as JSON with the key that they have.
pub fn keyed_records(servers: &str, topic: &str) -> Vec<(Option<String>, Value)> {
    kafka::until_over(servers, topic);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "reads-results")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let wait = Duration::from_secs(20);
    let metadata = consumer.fetch_metadata(Some(topic), wait).unwrap();
    let mut list = TopicPartitionList::new();
    let mut open = metadata.topics()[0].partitions().len();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut found, deadline) = (vec![], Instant::now() + wait);
    // Offsets say nothing about how many there are: transactions have some of their own.
    while open > 0 {
        assert!(Instant::now() < deadline, "{} records of {topic}, {open} partitions not at their end", found.len());
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(record) => {
                let record = record.unwrap();
                let key = record.key().map(|key| String::from_utf8_lossy(key).into_owned());
                found.push((key, serde_json::from_slice(record.payload().unwrap()).unwrap()));
            }
        }
    }
    found
}

/// JSON whose objects are in the order of their keys.
pub fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields: BTreeMap<&String, Value> = fields.iter().map(|(key, value)| (key, sorted(value))).collect();
                fields.into_iter().map(|(key, value)| (key.clone(), value)).collect()
            }
            Value::Array(values) => values.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

/// Cents of an amount: a number or text such as `12.30`.
pub fn cents(value: &Value) -> u64 {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    (number.unwrap_or_else(|| panic!("{value} is no amount")) * 100.0).round() as u64
}

/// Milliseconds since 1970 of an ISO 8601 time in UTC.
pub fn millis(value: &Value) -> i64 {
    let text = value.as_str().unwrap().trim_end_matches('Z');
    chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").unwrap().and_utc().timestamp_millis()
}
