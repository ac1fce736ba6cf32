//! Generated records into the embedded log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Partitioner};
use super::block::NewRecord;
use super::broker::{Broker, OpenTopic};
use super::folder;
use crate::connectors::ConnectorError;
use crate::connectors::disk::blocking;
use crate::connectors::retry::until_available;

/// So many bytes of a topic wait for a flush.
const FULL: usize = 4 << 20;

/// Writes records to the topics of a data folder, as [`crate::connectors::kafka::producer::Feeder`] does to those of a
/// server.
pub struct Feeder {
    broker: Arc<Broker>,
    topics: BTreeMap<String, Feed>,
    stop: CancellationToken,
}

struct Feed {
    topic: Arc<OpenTopic>,
    partitioner: Partitioner,
    pending: Batch,
}

impl Feeder {
    /// A feeder for the topics under `data_dir`; `stop` ends every wait.
    ///
    /// # Errors
    /// When another process has them open, or the folder cannot be written.
    pub async fn open(data_dir: &Path, stop: CancellationToken) -> Result<Feeder, ConnectorError> {
        let (data_dir, folder) = (data_dir.to_owned(), folder(data_dir));
        let broker = blocking(&folder, move || Broker::open(&data_dir)).await?;
        Ok(Feeder { broker, topics: BTreeMap::new(), stop })
    }

    /// Takes a record, with the present as its time. It can be read after the next flush, or sooner. A topic that is not
    /// there is made.
    ///
    /// # Errors
    /// When the topic cannot be opened or written; a full disk is waited for.
    pub async fn send(&mut self, topic: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(), ConnectorError> {
        if !self.topics.contains_key(topic) {
            let (broker, name) = (Arc::clone(&self.broker), topic.to_owned());
            let opened = blocking(&self.broker.folder, move || broker.topic(&name)).await?;
            let feed = Feed { topic: opened, partitioner: Partitioner::default(), pending: Batch::default() };
            self.topics.insert(topic.to_owned(), feed);
        }
        let Some(feed) = self.topics.get_mut(topic) else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        feed.pending.push(feed.partitioner.partition(key), &NewRecord { timestamp, key, value, headers: &[] });
        if feed.pending.bytes() >= FULL { append(&self.broker, feed, &self.stop).await } else { Ok(()) }
    }

    /// Returns when all that was sent can be read, and is on the disk.
    ///
    /// # Errors
    /// As for [`Feeder::send`].
    pub async fn flush(&mut self) -> Result<(), ConnectorError> {
        for feed in self.topics.values_mut().filter(|feed| !feed.pending.is_empty()) {
            append(&self.broker, feed, &self.stop).await?;
        }
        Ok(())
    }
}

async fn append(broker: &Broker, feed: &mut Feed, stop: &CancellationToken) -> Result<(), ConnectorError> {
    let batch = Arc::new(std::mem::take(&mut feed.pending));
    let attempt = || {
        let (topic, batch, folder) = (Arc::clone(&feed.topic), Arc::clone(&batch), broker.folder.clone());
        async move { blocking(&folder, move || topic.appender.lock().append(&batch, None)).await }
    };
    until_available(&broker.what(), stop, attempt).await
}
