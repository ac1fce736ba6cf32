//! Where a sink stands, as Kafka knows it: the newest record of its key in the compacted topic `__acequia_progress`.
//!
//! The record is part of the epoch's transaction, so that it is there exactly if the epoch's rows are. It is read after
//! [`super::producer::Producer`]'s `init`, up to the end that the partition has *then*: all that earlier producers had
//! begun is over by that time, and nothing of theirs can come any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use tokio_util::sync::CancellationToken;

use super::client;
use super::errors::classify;
use super::messages::{Consumer, Messages, offset_list};
use super::options::Servers;
use crate::connectors::ConnectorError;
use crate::connectors::delivery::Marker;
use crate::time::{Epoch, Incarnation, LogId};

/// The topic.
pub(super) const TOPIC: &str = "__acequia_progress";
/// How many partitions it has. Several, because the open transaction of one sink holds up readers of its partition.
const PARTITIONS: i32 = 16;
/// How long a question to the servers may take before it counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of a partition may stay out of reach before it is asked for anew.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// How many offsets from the end are looked at first. The newest record of a busy sink is among them, however long ago
/// the topic was compacted.
const FIRST_LOOK: i64 = 1000;

/// The progress of one sink.
#[derive(Clone)]
pub(super) struct Progress {
    what: String,
    /// `pipeline/table`.
    key: String,
    partition: i32,
    committed: ClientConfig,
    uncommitted: ClientConfig,
    stop: CancellationToken,
}

impl Progress {
    pub(super) fn new(
        servers: &Servers,
        properties: &[(String, String)],
        pipeline: &str,
        table: &str,
        stop: CancellationToken,
    ) -> Result<Progress, ConnectorError> {
        let key = format!("{pipeline}/{table}");
        let settings = |isolation| {
            client::progress_reader(servers, &format!("{pipeline}-{table}-progress"), isolation, properties)
        };
        Ok(Progress {
            what: client::server_name(servers),
            partition: (crc32fast::hash(key.as_bytes()) % PARTITIONS as u32) as i32,
            key,
            committed: settings("read_committed")?,
            uncommitted: settings("read_uncommitted")?,
            stop,
        })
    }

    /// The key of its records.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The partition that holds them.
    pub(super) fn partition(&self) -> i32 {
        self.partition
    }

    /// Makes the topic, unless it is there.
    pub(super) async fn ensure_topic(&self) -> Result<(), ConnectorError> {
        let unusable = |error| client::unusable(&self.what, &error);
        let admin: Arc<AdminClient<DefaultClientContext>> = Arc::new(self.uncommitted.create().map_err(unusable)?);
        let outcome = self.make_topic(&admin).await;
        // Off the runtime, and without waiting: its thread takes a tenth of a second to end.
        tokio::task::spawn_blocking(move || drop(admin));
        outcome
    }

    async fn make_topic(&self, admin: &Arc<AdminClient<DefaultClientContext>>) -> Result<(), ConnectorError> {
        let brokers = self.brokers(admin.clone()).await?;
        let replicas = brokers.clamp(1, 3);
        let mut topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(replicas))
            .set("cleanup.policy", "compact")
            // Only what is not being written is compacted, so that the part being written is kept small.
            .set("segment.ms", "3600000")
            .set("segment.bytes", "16777216");
        if replicas == 3 {
            topic = topic.set("min.insync.replicas", "2");
        }
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let made = admin.create_topics([&topic], &options).await;
        let made = made.map_err(|error| self.trouble(error.rdkafka_error_code(), &error.to_string()))?;
        match made.into_iter().next() {
            Some(Ok(_)) => {
                tracing::info!("made topic {TOPIC} with {replicas} replicas: it holds what sinks have delivered");
                Ok(())
            }
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => self.check_policy(admin, &options).await,
            Some(Err((
                _,
                code @ (RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed),
            ))) => Err(self.refused(format!(
                "topic {TOPIC}, which exactly-once delivery needs, cannot be made: {code}; let someone make it who may \
                 (kafka-topics.sh --create --topic {TOPIC} --partitions {PARTITIONS} --config cleanup.policy=compact), \
                 or set 'delivery' = 'at_least_once'"
            ))),
            Some(Err((_, code))) => Err(self.trouble(Some(code), &format!("could not make topic {TOPIC}: {code}"))),
        }
    }

    /// A topic that forgets old records would forget what an idle sink has delivered.
    async fn check_policy(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        options: &AdminOptions,
    ) -> Result<(), ConnectorError> {
        let found = admin.describe_configs([&ResourceSpecifier::Topic(TOPIC)], options).await;
        let found = found.map_err(|error| self.trouble(error.rdkafka_error_code(), &error.to_string()))?;
        // Without the right to see settings, nothing is known against the topic.
        let Some(Ok(ConfigResource { specifier: OwnedResourceSpecifier::Topic(_), entries })) =
            found.into_iter().next()
        else {
            return Ok(());
        };
        let policy = entries.into_iter().find(|entry| entry.name == "cleanup.policy").and_then(|entry| entry.value);
        match policy.as_deref() {
            Some("compact") | None => Ok(()),
            Some(policy) => Err(self.refused(format!(
                "topic {TOPIC} has 'cleanup.policy' = '{policy}', so that it forgets what sinks have delivered; set it \
                 right with kafka-configs.sh --alter --topic {TOPIC} --add-config cleanup.policy=compact"
            ))),
        }
    }

    async fn brokers(&self, admin: Arc<AdminClient<DefaultClientContext>>) -> Result<i32, ConnectorError> {
        let asked = move || admin.inner().fetch_metadata(None, PATIENCE).map(|found| found.brokers().len() as i32);
        match tokio::task::spawn_blocking(asked).await {
            Ok(Ok(count)) => Ok(count),
            Ok(Err(error)) => Err(self.trouble(error.rdkafka_error_code(), "no answer")),
            Err(_) => Err(self.stopped()),
        }
    }

    /// The marker. Only after `init` is it sure not to move.
    pub(super) async fn read(&self) -> Result<Option<Marker>, ConnectorError> {
        // The true end: for a reader of committed records it would be where the oldest open transaction begins.
        self.read_to_end_of(&self.uncommitted).await
    }

    /// The marker as far as it can be read without waiting for the end of transactions, which may be our own.
    pub(super) async fn peek(&self) -> Result<Option<Marker>, ConnectorError> {
        self.read_to_end_of(&self.committed).await
    }

    async fn read_to_end_of(&self, seen_by: &ClientConfig) -> Result<Option<Marker>, ConnectorError> {
        let (progress, seen_by) = (self.clone(), seen_by.clone());
        let search = move || progress.search(&seen_by);
        tokio::task::spawn_blocking(search).await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// From the end backwards: the topic may hold many records of others, and of ours that are not compacted yet.
    fn search(&self, seen_by: &ClientConfig) -> Result<Option<Marker>, ConnectorError> {
        let unusable = |error| client::unusable(&self.what, &error);
        let ends = Consumer::new(seen_by).map_err(unusable)?;
        let (low, high) = ends.watermarks(TOPIC, self.partition, PATIENCE).map_err(|error| {
            let reason = format!("topic {TOPIC}: {error}");
            self.trouble(error.rdkafka_error_code(), &reason)
        })?;
        if low >= high {
            return Ok(None);
        }
        let reader = Consumer::new(&self.committed).map_err(unusable)?;
        let (mut end, mut length) = (high, FIRST_LOOK);
        while end > low {
            let start = low.max(end - length);
            if let Some(value) = self.newest(&reader, start, end)? {
                // An empty value takes a marker back, as someone may who clears up.
                return if value.is_empty() { Ok(None) } else { self.parse(&value).map(Some) };
            }
            end = start;
            length *= 8;
        }
        Ok(None)
    }

    /// The value of our newest record in this range.
    fn newest(&self, reader: &Consumer, start: i64, end: i64) -> Result<Option<Vec<u8>>, ConnectorError> {
        let range = offset_list([(TOPIC, self.partition, start)]);
        reader.assign(&range).map_err(|message| self.refused(message))?;
        let mut newest = None;
        let mut batch = Messages::default();
        let deadline = Instant::now() + END_PATIENCE;
        let mut next = start;
        // The end is reached by position: markers of transactions have offsets too, and the word that a partition is
        // at its end may be older than what is asked for.
        while next < end {
            if self.stop.is_cancelled() {
                return Err(self.stopped());
            }
            if Instant::now() > deadline {
                return Err(self.unavailable(format!(
                    "topic {TOPIC} cannot be read to its end: its leader is away, or the transaction of another \
                     pipeline that was killed is not over yet"
                )));
            }
            reader.consume(&mut batch, 1000, Duration::from_millis(100));
            for message in batch.iter() {
                match message.error() {
                    None if message.offset() < end => {
                        next = message.offset() + 1;
                        if message.key() == Some(self.key.as_bytes()) {
                            newest = Some(message.value().to_vec());
                        }
                    }
                    None => next = end,
                    Some((RDKafkaErrorCode::PartitionEOF, _)) => next = next.max(message.offset()),
                    Some((code, reason)) => match classify(&self.what, code, &reason) {
                        refused @ ConnectorError::Refused { .. } => return Err(refused),
                        _ => tracing::debug!("{}: {TOPIC}: {reason}", self.what),
                    },
                }
            }
        }
        reader.unassign(&range).map_err(|message| self.refused(message))?;
        Ok(newest)
    }

    fn parse(&self, value: &[u8]) -> Result<Marker, ConnectorError> {
        parse(value).ok_or_else(|| {
            self.refused(format!(
                "the record of {} in topic {TOPIC} is not one of Acequia's: {}; someone else writes there, or a later \
                 version did",
                self.key,
                String::from_utf8_lossy(&value[..value.len().min(200)])
            ))
        })
    }

    fn trouble(&self, code: Option<RDKafkaErrorCode>, reason: &str) -> ConnectorError {
        classify(&self.what, code.unwrap_or(RDKafkaErrorCode::Unknown), reason)
    }

    fn refused(&self, message: String) -> ConnectorError {
        ConnectorError::Refused { what: self.what.clone(), message }
    }

    fn unavailable(&self, message: String) -> ConnectorError {
        ConnectorError::Unavailable { what: self.what.clone(), message }
    }

    fn stopped(&self) -> ConnectorError {
        ConnectorError::Stopped { what: self.what.clone() }
    }
}

/// The value of a progress record.
pub(super) fn value(marker: &Marker, rows: usize) -> Vec<u8> {
    let Marker { log, incarnation, epoch } = marker;
    let value = serde_json::json!({"log": log.0, "incarnation": incarnation.0, "epoch": epoch.0, "rows": rows});
    value.to_string().into_bytes()
}

fn parse(value: &[u8]) -> Option<Marker> {
    let value: serde_json::Value = serde_json::from_slice(value).ok()?;
    Some(Marker {
        log: LogId(value.get("log")?.as_str()?.into()),
        incarnation: Incarnation(value.get("incarnation")?.as_u64()?),
        epoch: Epoch(value.get("epoch")?.as_u64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_json() {
        let marker = Marker { log: LogId("abc".into()), incarnation: Incarnation(3), epoch: Epoch(17) };
        let written = value(&marker, 5);
        assert_eq!(String::from_utf8_lossy(&written), r#"{"log":"abc","incarnation":3,"epoch":17,"rows":5}"#);
        assert_eq!(parse(&written), Some(marker));
        assert_eq!(parse(b"{}"), None);
    }
}
