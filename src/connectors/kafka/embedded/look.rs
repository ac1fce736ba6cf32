//! What is in the embedded topics of this process, for people who look.

use std::sync::Arc;

use serde::Serialize;

use super::PARTITIONS;
use super::broker::Broker;
use super::cursor::{Cursor, Step};
use super::topic::Topic;
use crate::connectors::ConnectorError;
use crate::connectors::kafka::records::Fetched;

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<PartitionView>,
    /// How many records it has.
    pub records: i64,
    /// How many bytes they take.
    pub bytes: u64,
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PartitionView {
    /// Its number.
    pub partition: usize,
    /// The offset of its oldest record.
    pub first_offset: i64,
    /// The offset that its next record will get.
    pub next_offset: i64,
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MessageView {
    /// Its partition.
    pub partition: usize,
    /// Its place in the partition.
    pub offset: i64,
    /// In milliseconds since 1970.
    pub timestamp: i64,
    /// Its key; bytes that are no text are shown as U+FFFD.
    pub key: Option<String>,
    /// Its value; bytes that are no text are shown as U+FFFD.
    pub value: String,
}

/// All topics, by name. Waits for the disk.
///
/// # Errors
/// When one of them cannot be read.
pub fn topics() -> Result<Vec<TopicView>, ConnectorError> {
    let mut views = vec![];
    for broker in Broker::all_open() {
        for name in broker.names()? {
            let topic = &broker.topic(&name)?.topic;
            let extent = topic.extent();
            let first = extent.first();
            let partition = |partition: usize| PartitionView {
                partition,
                first_offset: first[partition],
                next_offset: extent.next[partition],
            };
            let partitions = (0..PARTITIONS).map(partition).collect();
            views.push(TopicView { name, partitions, records: extent.records(), bytes: extent.bytes() });
        }
    }
    Ok(views)
}

/// The newest `count` records of a topic, the newest first; `None` if there is no such topic. Waits for the disk.
///
/// # Errors
/// When the topic cannot be read.
pub fn messages(topic: &str, count: usize) -> Result<Option<Vec<MessageView>>, ConnectorError> {
    for broker in Broker::all_open() {
        if broker.names()?.iter().any(|name| name == topic) {
            return newest(&broker.topic(topic)?.topic, count).map(Some);
        }
    }
    Ok(None)
}

fn newest(topic: &Arc<Topic>, count: usize) -> Result<Vec<MessageView>, ConnectorError> {
    let extent = topic.extent();
    let mut found = vec![];
    for partition in 0..PARTITIONS {
        let (first, next) = (extent.first()[partition], extent.next[partition]);
        let from = first.max(next.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)));
        let mut cursor = Cursor::new(Arc::clone(topic), partition, from);
        while cursor.step(&extent)? == Step::Record {
            let record = cursor.record()?;
            found.push(MessageView {
                partition,
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key().map(text),
                value: text(record.value()),
            });
        }
    }
    found.sort_by_key(|message| (-message.timestamp, message.partition, -message.offset));
    found.truncate(count);
    Ok(found)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
