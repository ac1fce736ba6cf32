//! Writing to Kafka: an idempotent producer that waits, says that it waits, and says what cannot be helped.
//!
//! A full queue is waited for and not an error, and so is a broker that is away: librdkafka tries again without end
//! (`message.timeout.ms` = 0). What a broker refuses, a record too large or a right that is missing, ends the write
//! with the setting that would help. The sink writes through this, and so does [`Feeder`]. With a `transactional.id` in
//! its settings it writes in transactions ([`super::transaction`]); then what leaves a transaction in doubt is
//! `Unavailable`: this producer is of no more use, and a new one may be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio_util::sync::CancellationToken;

use super::client;
use super::errors::{Outage, refusal};
use super::messages;
use super::options::Servers;
use crate::connectors::ConnectorError;

/// How long a wait may last before it counts as an outage.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a waiting flush looks at the stop signal.
pub(super) const STEP: Duration = Duration::from_millis(200);

/// What is to be sent.
pub(super) struct Record<'a> {
    pub(super) topic: &'a str,
    /// `None` leaves it to the key, or to chance.
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
    /// In milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
    pub(super) headers: Option<OwnedHeaders>,
}

/// Gives records to Kafka.
pub(super) struct Producer {
    pub(super) what: String,
    pub(super) producer: Arc<ThreadedProducer<Deliveries>>,
    pub(super) troubles: Arc<Mutex<Troubles>>,
    pub(super) outage: Outage,
    pub(super) stop: CancellationToken,
}

/// What went wrong, as librdkafka's thread told.
#[derive(Default)]
pub(super) struct Troubles {
    /// The first that waiting does not heal.
    refused: Option<String>,
    /// The first that a new producer may heal: only where there are transactions.
    broken: Option<String>,
    /// The newest that waiting may heal.
    pub(super) last: Option<String>,
    /// Something was wrong with a connection, so that a request may have been sent twice.
    pub(super) disturbed: bool,
}

/// Hears from librdkafka.
pub(super) struct Deliveries {
    troubles: Arc<Mutex<Troubles>>,
    transactional: bool,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut troubles = self.troubles.lock();
        troubles.disturbed = true;
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        match refusal(code, reason) {
            None if code == RDKafkaErrorCode::Fatal && self.transactional => {
                troubles.broken.get_or_insert_with(|| reason.to_owned());
            }
            Some(message) => drop(troubles.refused.get_or_insert(message)),
            // The state of a producer after this is lost, so that order and single delivery cannot be promised.
            None if code == RDKafkaErrorCode::Fatal => drop(troubles.refused.get_or_insert(format!(
                "the producer has failed for good: {reason}; run the pipeline again, it goes on from its checkpoint"
            ))),
            None => troubles.last = Some(reason.to_owned()),
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, record)) = result else { return };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        // Given up by ourselves, when the producer is dropped.
        if matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) {
            return;
        }
        let size = record.payload().map_or(0, <[u8]>::len) + record.key().map_or(0, <[u8]>::len);
        let mut troubles = self.troubles.lock();
        let trouble = match self.transactional && !is_lasting(code) {
            true => &mut troubles.broken,
            false => &mut troubles.refused,
        };
        trouble.get_or_insert_with(|| undelivered(record.topic(), size, code));
    }
}

/// Whether the record would be refused again.
fn is_lasting(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    let of_record = matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord);
    let of_topic = matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition);
    of_record || of_topic || refusal(code, "").is_some()
}

/// Why a record was not taken, and what would help.
fn undelivered(topic: &str, size: usize, code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => format!(
            "topic {topic} refuses a record of {size} bytes as too large; raise the topic's 'max.message.bytes' (and \
             'properties.message.max.bytes' if it is set), or write smaller rows"
        ),
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownPartition => format!(
            "topic {topic} does not exist, and the broker does not make topics by itself; create it, for example with \
             kafka-topics.sh --create --topic {topic}"
        ),
        RDKafkaErrorCode::MessageTimedOut => format!(
            "topic {topic} did not take a record within 'properties.message.timeout.ms'; without that setting the sink \
             waits"
        ),
        RDKafkaErrorCode::InvalidRecord => format!(
            "topic {topic} refuses a record of {size} bytes: {code}; a compacted topic needs a key, which a PRIMARY KEY \
             or 'key_field' gives"
        ),
        code => {
            let reason = format!("topic {topic} does not take a record of {size} bytes: {code}");
            refusal(code, &reason).unwrap_or(reason)
        }
    }
}

impl Producer {
    /// Makes the client. Connects when there is something to send. `stop` ends every wait.
    pub(super) fn new(
        servers: &Servers,
        config: &ClientConfig,
        stop: CancellationToken,
    ) -> Result<Producer, ConnectorError> {
        let what = client::server_name(servers);
        let troubles = Arc::new(Mutex::new(Troubles::default()));
        let producer: ThreadedProducer<Deliveries> = config
            .create_with_context(Deliveries {
                troubles: troubles.clone(),
                transactional: config.get("transactional.id").is_some(),
            })
            .map_err(|error| client::unusable(&what, &error))?;
        Ok(Producer { what, producer: Arc::new(producer), troubles, outage: Outage::default(), stop })
    }

    /// Queues a record. Waits while the queue is full.
    pub(super) async fn send(&mut self, record: Record<'_>) -> Result<(), ConnectorError> {
        let mut waiting_since = None;
        let Record { topic, partition, key, value, timestamp, headers } = record;
        // To librdkafka 0 means now, which would be wrong by decades and not by a millisecond.
        let timestamp = timestamp.map(|millis| if millis == 0 { 1 } else { millis });
        let mut record =
            BaseRecord { topic, partition, payload: Some(value), key, timestamp, headers, delivery_opaque: () };
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.check()?;
                    self.report(*waiting_since.get_or_insert_with(Instant::now));
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(2)) => {}
                        () = self.stop.cancelled() => return Err(self.stopped()),
                    }
                }
                Err((error, _)) => {
                    // The first trouble says more than what follows from it.
                    self.check()?;
                    let size = value.len() + key.map_or(0, <[u8]>::len);
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                    let message = undelivered(topic, size, code);
                    return Err(match self.is_transactional() && !is_lasting(code) {
                        true => self.unavailable(message),
                        false => self.refused(message),
                    });
                }
            }
        }
    }

    /// Returns when every record is acknowledged.
    pub(super) async fn flush(&mut self) -> Result<(), ConnectorError> {
        let since = Instant::now();
        loop {
            let producer = self.producer.clone();
            let done = tokio::task::spawn_blocking(move || messages::flush(&producer, STEP)).await;
            self.check()?;
            match done {
                Ok(true) => {
                    self.outage.up(&self.what);
                    self.troubles.lock().last = None;
                    return Ok(());
                }
                _ if self.stop.is_cancelled() => return Err(self.stopped()),
                _ => self.report(since),
            }
        }
    }

    /// What waiting does not heal, if there is such a thing.
    pub(super) fn check(&self) -> Result<(), ConnectorError> {
        let troubles = self.troubles.lock();
        match (&troubles.refused, &troubles.broken) {
            (Some(message), _) => Err(self.refused(message.clone())),
            (None, Some(message)) => Err(self.unavailable(message.clone())),
            (None, None) => Ok(()),
        }
    }

    fn is_transactional(&self) -> bool {
        self.producer.context().transactional
    }

    /// Ends the producer off the runtime's threads: it waits for threads of its own.
    pub(super) async fn close(self) {
        let producer = self.producer;
        let _ = tokio::task::spawn_blocking(move || drop(producer)).await;
    }

    pub(super) fn report(&mut self, since: Instant) {
        if since.elapsed() > PATIENCE {
            let unsent = self.producer.in_flight_count();
            let last = self.troubles.lock().last.clone().unwrap_or_else(|| "no answer".into());
            self.outage.down(&self.what, &format!("{last} ({unsent} records not acknowledged)"));
        }
    }

    pub(super) fn refused(&self, message: String) -> ConnectorError {
        ConnectorError::Refused { what: self.what.clone(), message }
    }

    pub(super) fn unavailable(&self, message: String) -> ConnectorError {
        ConnectorError::Unavailable { what: self.what.clone(), message }
    }

    pub(super) fn stopped(&self) -> ConnectorError {
        ConnectorError::Stopped { what: self.what.clone() }
    }
}

/// Sends generated records to a Kafka at an address; [`super::embedded::Feeder`] does so where there is none.
pub struct Feeder {
    producer: Producer,
}

impl Feeder {
    /// A feeder for the Kafka at `bootstrap_servers`. Connects when there is something to send; `stop` ends every wait.
    ///
    /// # Errors
    /// When librdkafka cannot start.
    pub fn new(bootstrap_servers: &str, client_id: &str, stop: CancellationToken) -> Result<Feeder, ConnectorError> {
        let servers = Servers::At(bootstrap_servers.into());
        let producer = Producer::new(&servers, &client::producer(&servers, client_id)?, stop)?;
        Ok(Feeder { producer })
    }

    /// Queues a record. Waits while the queue is full, and so for a server that is away, with log lines.
    ///
    /// # Errors
    /// When Kafka refuses a record, or `stop` is cancelled.
    pub async fn send(&mut self, topic: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(), ConnectorError> {
        self.producer.send(Record { topic, partition: None, key, value, timestamp: None, headers: None }).await
    }

    /// Whether Kafka has refused a record that was sent; without waiting for those on their way.
    ///
    /// # Errors
    /// When it has.
    pub fn check(&self) -> Result<(), ConnectorError> {
        self.producer.check()
    }

    /// Returns when all that was sent is in Kafka.
    ///
    /// # Errors
    /// As for [`Feeder::send`].
    pub async fn flush(&mut self) -> Result<(), ConnectorError> {
        self.producer.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_delivered_names_topic_size_and_setting() {
        assert_eq!(
            undelivered("orders", 2_000_000, RDKafkaErrorCode::MessageSizeTooLarge),
            "topic orders refuses a record of 2000000 bytes as too large; raise the topic's 'max.message.bytes' (and \
             'properties.message.max.bytes' if it is set), or write smaller rows"
        );
        assert_eq!(
            undelivered("orders", 10, RDKafkaErrorCode::UnknownTopic),
            "topic orders does not exist, and the broker does not make topics by itself; create it, for example with \
             kafka-topics.sh --create --topic orders"
        );
        assert!(undelivered("orders", 10, RDKafkaErrorCode::TopicAuthorizationFailed).contains("WRITE the topic"));
    }

    #[tokio::test]
    async fn a_wait_for_a_server_that_is_away_ends_with_the_stop() {
        let stop = CancellationToken::new();
        let mut feeder = Feeder::new("127.0.0.1:1", "feeder", stop.clone()).unwrap();
        feeder.send("t", None, b"{}").await.unwrap();
        let stopper = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.cancel();
        };
        let (outcome, ()) = tokio::join!(feeder.flush(), stopper);
        assert_eq!(outcome.unwrap_err().to_string(), "stopped while waiting for Kafka at 127.0.0.1:1");
    }
}
