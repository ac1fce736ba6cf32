//! Exactly once: an epoch's rows and its progress record in one transaction.
//!
//! Opening fences first (`init`), then reads the progress record, then *claims* the sink with a record of its own run:
//! an older run that wakes up finds it, whether or not the new one has delivered anything, and ends. Nothing is open
//! while there is nothing to deliver, since an open transaction holds up every reader of committed records.
//!
//! A producer whose transaction has an outcome that is not known is thrown away. The next one's `init` ends that
//! transaction one way or the other, and the progress record says which.
//!
//! A request to end a transaction that was sent twice, because a connection broke, may arrive so late that it ends the
//! *next* one, half done. Kafka's remedy (KIP-890) is missing in librdkafka; ours is the same, a higher producer epoch
//! that makes late requests void, which a new producer gets. It is made whenever a connection broke during a commit,
//! not after every epoch: without a break nothing was sent twice, and a new producer costs some 100 ms (the fence, and
//! the look at the progress record), several times what the epoch itself takes.

use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use tokio_util::sync::CancellationToken;

use super::client;
use super::errors::Outage;
use super::options::Servers;
use super::producer::{Producer, Record};
use super::progress::{self, Progress};
use super::rows::RowEncoder;
use crate::connectors::delivery::{EpochSink, Marker, OpenSink, Writer};
use crate::connectors::{ConnectorError, SinkContext};
use crate::faults::crash_point;
use crate::faults::{Bug, planted};
use crate::time::Epoch;

/// The pause after a setback: long enough not to run hot, short enough for a leader that moved.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct KafkaEpochSink {
    /// For messages: `Kafka at localhost:9092`.
    what: String,
    servers: Servers,
    config: ClientConfig,
    rows: RowEncoder,
    audit_headers: bool,
    writer: Writer,
    progress: Progress,
    /// `None` when the next one must find out first how things stand.
    producer: Option<Producer>,
    /// The last epoch that is in Kafka, as far as known.
    settled: Option<Epoch>,
    is_open: bool,
    outage: Outage,
    stop: CancellationToken,
}

impl KafkaEpochSink {
    pub(super) fn new(
        servers: &Servers,
        properties: &[(String, String)],
        rows: RowEncoder,
        audit_headers: bool,
        writer: Writer,
        context: &SinkContext,
    ) -> Result<KafkaEpochSink, ConnectorError> {
        let SinkContext { table, pipeline, stop, .. } = context;
        let id = format!("{}.{table}", writer.pipeline);
        let config = client::transactional_producer(servers, &format!("{pipeline}-{table}"), &id, properties)?;
        let progress = Progress::new(servers, properties, &writer.pipeline, table, stop.clone())?;
        Ok(KafkaEpochSink {
            what: client::server_name(servers),
            servers: servers.clone(),
            config,
            rows,
            audit_headers,
            writer,
            progress,
            producer: None,
            settled: None,
            is_open: false,
            outage: Outage::default(),
            stop: stop.clone(),
        })
    }

    /// Fences earlier runs, and finds out what is there.
    pub(super) async fn open(mut self) -> Result<OpenSink, ConnectorError> {
        loop {
            let established = self.establish().await;
            if self.bears(established).await?.is_some() {
                break;
            }
        }
        self.is_open = true;
        let settled = self.settled;
        Ok(OpenSink::PerEpoch { sink: Box::new(self), settled })
    }

    /// `None` after a setback that a new producer may heal, and a pause.
    async fn bears<T>(&mut self, outcome: Result<T, ConnectorError>) -> Result<Option<T>, ConnectorError> {
        match outcome {
            Ok(value) => {
                self.outage.up(&self.what);
                Ok(Some(value))
            }
            Err(ConnectorError::Unavailable { message, .. }) => {
                self.outage.down(&self.what, &message);
                self.retire().await;
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => Ok(None),
                    () = self.stop.cancelled() => Err(ConnectorError::Stopped { what: self.what.clone() }),
                }
            }
            Err(error) => {
                // Readers should not have to wait until the servers give the transaction up.
                if let Some(producer) = &mut self.producer {
                    producer.abort().await;
                }
                self.retire().await;
                Err(error)
            }
        }
    }

    async fn retire(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.close().await;
        }
    }

    /// Makes a producer, which fences all others, and finds out what is there.
    async fn establish(&mut self) -> Result<(), ConnectorError> {
        if !self.is_open {
            self.progress.ensure_topic().await?;
        } else if let Some(found) = self.progress.peek().await?.filter(|found| self.is_newer(found)) {
            // Before fencing: a run that has been taken over should not disturb the one that did.
            return Err(self.writer.fenced(&self.what, &found));
        }
        let early = match planted(Bug::MarkerBeforeFence) {
            true => Some(self.progress.read().await?),
            false => None,
        };
        crash_point!("sink.kafka.before_fence");
        let producer = Producer::new(&self.servers, &self.config, self.stop.clone())?;
        self.producer.insert(producer).init().await?;
        crash_point!("sink.kafka.after_fence");
        let found = match early {
            Some(found) => found,
            None => self.progress.read().await?,
        };
        self.settled = self.resume(found.as_ref())?;
        if found.is_none_or(|found| found.log != self.writer.log || found.incarnation != self.writer.incarnation) {
            self.claim().await?;
        }
        Ok(())
    }

    fn is_newer(&self, found: &Marker) -> bool {
        found.log == self.writer.log && found.incarnation > self.writer.incarnation
    }

    fn resume(&self, found: Option<&Marker>) -> Result<Option<Epoch>, ConnectorError> {
        // A claim of other checkpoints that have delivered nothing: there is nothing to write twice.
        let found = found.filter(|found| self.is_open || found.epoch > Epoch(0) || found.log == self.writer.log);
        let settled = self.writer.resume(&self.what, found)?.filter(|epoch| *epoch > Epoch(0));
        if self.is_open && settled < self.settled {
            return Err(ConnectorError::Mismatch {
                what: self.what.clone(),
                message: format!(
                    "topic {} has lost records of {}: it says epoch {}, and epoch {} was confirmed. Rows may be missing \
                     from the topic, too; compare them with `acequia audit`, then run the pipeline again",
                    progress::TOPIC,
                    self.progress.key(),
                    settled.unwrap_or_default(),
                    self.settled.unwrap_or_default()
                ),
            });
        }
        Ok(settled)
    }

    /// Writes the marker that is there once more, as of this run.
    async fn claim(&mut self) -> Result<(), ConnectorError> {
        let marker = self.writer.marker(self.settled.unwrap_or_default());
        let lifetime = self.lifetime();
        let Some(producer) = &mut self.producer else { return Ok(()) };
        producer.begin()?;
        mark(producer, &self.progress, &marker, 0).await?;
        crash_point!("sink.kafka.before_claim");
        producer.flush().await?;
        producer.commit(lifetime).await?;
        crash_point!("sink.kafka.after_claim");
        Ok(())
    }

    /// How long the servers keep an open transaction.
    fn lifetime(&self) -> Duration {
        let millis = self.config.get("transaction.timeout.ms").and_then(|millis| millis.parse().ok());
        Duration::from_millis(millis.unwrap_or(60_000))
    }

    async fn attempt(&mut self, epoch: Epoch, batches: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        if self.producer.is_none() {
            self.establish().await?;
        }
        if let Some(settled) = self.settled.filter(|settled| *settled >= epoch) {
            return Ok(settled);
        }
        let count = batches.iter().map(RecordBatch::num_rows).sum();
        let (marker, lifetime) = (self.writer.marker(epoch), self.lifetime());
        let Some(producer) = &mut self.producer else { return Ok(epoch) };
        producer.begin()?;
        if planted(Bug::MarkerBeforeData) {
            mark(producer, &self.progress, &marker, count).await?;
            producer.commit(lifetime).await?;
            producer.begin()?;
        }
        let mut number = 0;
        for batch in batches {
            for mut record in self.rows.encode(batch)?.records() {
                if self.audit_headers {
                    record.headers = Some(audit_headers(record.headers, epoch, number));
                }
                number += 1;
                producer.send(record).await?;
            }
        }
        crash_point!("sink.kafka.before_marker");
        mark(producer, &self.progress, &marker, count).await?;
        producer.flush().await?;
        crash_point!("sink.kafka.before_commit");
        producer.commit(lifetime).await?;
        crash_point!("sink.kafka.after_commit");
        self.settled = Some(epoch);
        if producer.was_disturbed() {
            tracing::debug!("{}: a connection broke during a commit, so that the producer is made anew", self.what);
            self.retire().await;
        }
        Ok(epoch)
    }
}

#[async_trait]
impl EpochSink for KafkaEpochSink {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        if rows.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(self.settled.unwrap_or_default().max(epoch));
        }
        loop {
            let outcome = self.attempt(epoch, rows).await;
            if let Some(settled) = self.bears(outcome).await? {
                return Ok(settled);
            }
        }
    }

    fn takes_several(&self) -> bool {
        true
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.retire().await;
        Ok(())
    }
}

/// Adds the progress record to the open transaction.
async fn mark(
    producer: &mut Producer,
    progress: &Progress,
    marker: &Marker,
    rows: usize,
) -> Result<(), ConnectorError> {
    let value = progress::value(marker, rows);
    let record = Record {
        topic: progress::TOPIC,
        partition: Some(progress.partition()),
        key: Some(progress.key().as_bytes()),
        value: &value,
        timestamp: None,
        headers: None,
    };
    producer.send(record).await
}

fn audit_headers(headers: Option<OwnedHeaders>, epoch: Epoch, number: u64) -> OwnedHeaders {
    let headers = headers.unwrap_or_else(|| OwnedHeaders::new_with_capacity(2));
    headers
        .insert(Header { key: "acequia-epoch", value: Some(&epoch.0.to_string()) })
        .insert(Header { key: "acequia-seq", value: Some(&number.to_string()) })
}
