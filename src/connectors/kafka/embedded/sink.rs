//! The sinks: rows in frames, at once or by the epoch.
//!
//! By the epoch, a frame holds the rows and the marker, so that either both are there or neither. Opening claims the
//! sink with a frame that holds a marker only, of this run: an earlier run of this process finds it. Other processes are
//! kept out by the folder's lock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use rdkafka::message::Headers as _;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Partitioner};
use super::block::NewRecord;
use super::broker::{Broker, OpenTopic};
use super::folder;
use super::frame::SinkMarker;
use crate::connectors::delivery::{EpochSink, OpenSink, Writer};
use crate::connectors::disk::blocking;
use crate::connectors::kafka::options::KafkaOptions;
use crate::connectors::kafka::rows::RowEncoder;
use crate::connectors::retry::until_available;
use crate::connectors::{ConnectorError, Sink, SinkContext};
use crate::faults::crash_point;
use crate::time::Epoch;

/// A sink that writes at once appends a frame when it has so many bytes, at the latest at a flush.
const FULL: usize = 4 << 20;

/// What a table's marker is called.
pub(super) fn name(pipeline: &str, table: &str) -> String {
    format!("{pipeline}/{table}")
}

/// Opens a sink of one topic; by the epoch for a `writer`.
///
/// # Errors
/// When another process has the data folder, or the marker says that rows would come twice.
pub(in crate::connectors::kafka) async fn open(
    topic: &str,
    options: &KafkaOptions,
    rows: RowEncoder,
    writer: Option<Writer>,
    context: &SinkContext,
) -> Result<OpenSink, ConnectorError> {
    let (data_dir, folder) = (context.data_dir.clone(), folder(&context.data_dir));
    let what = super::what(&folder);
    let attempt = || {
        let (data_dir, topic, retention) = (data_dir.clone(), topic.to_owned(), options.embedded_retention);
        let place = folder.clone();
        async move { blocking(&place, move || Destination::open(&data_dir, &topic, retention)).await }
    };
    let destination = until_available(&what, &context.stop, attempt).await?;
    let turn = destination.topic.topic.extent().next.iter().sum::<i64>();
    let records = Records { rows, partitioner: Partitioner::new(turn as usize % super::PARTITIONS) };
    let Some(writer) = writer else {
        let pending = Batch::default();
        return Ok(OpenSink::AtOnce(Box::new(RowSink { destination, records, pending, stop: context.stop.clone() })));
    };
    let mut sink = FrameSink {
        name: name(&writer.pipeline, &context.table),
        destination,
        records,
        audit_headers: options.audit_headers,
        writer,
        stop: context.stop.clone(),
    };
    let settled = sink.claim().await?;
    Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled })
}

/// A topic to write to.
#[derive(Clone)]
struct Destination {
    /// For messages.
    what: String,
    folder: PathBuf,
    topic: Arc<OpenTopic>,
    /// Keeps the folder's lock.
    _broker: Arc<Broker>,
}

impl Destination {
    fn open(data_dir: &std::path::Path, topic: &str, retention: Option<u64>) -> Result<Destination, ConnectorError> {
        let broker = Broker::open(data_dir)?;
        let topic = broker.topic(topic)?;
        if let Some(bytes) = retention {
            topic.appender.lock().keep(bytes);
        }
        Ok(Destination { what: broker.what(), folder: broker.folder.clone(), topic, _broker: broker })
    }

    /// Does work on the topic where a disk can be waited for, again and again while that is full.
    async fn append<T: Send + 'static>(
        &self,
        stop: &CancellationToken,
        work: impl Fn(&OpenTopic) -> Result<T, ConnectorError> + Send + Sync + 'static,
    ) -> Result<T, ConnectorError> {
        let work = Arc::new(work);
        let attempt = || {
            let (work, topic, folder) = (Arc::clone(&work), Arc::clone(&self.topic), self.folder.clone());
            async move { blocking(&folder, move || work(&topic)).await }
        };
        until_available(&self.what, stop, attempt).await
    }
}

/// Rows to records in their partitions.
struct Records {
    rows: RowEncoder,
    partitioner: Partitioner,
}

impl Records {
    /// Adds the rows of `rows` to `batch`; with an epoch each says which one and, from `number` on, its place in it.
    fn add(
        &mut self,
        rows: &RecordBatch,
        batch: &mut Batch,
        epoch: Option<Epoch>,
        number: u64,
    ) -> Result<(), ConnectorError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let encoded = self.rows.encode(rows)?;
        for (row, record) in encoded.records().enumerate() {
            let told = epoch.map(|epoch| [epoch.0.to_string(), (number + row as u64).to_string()]);
            let mut headers: Vec<(&str, Option<&[u8]>)> = vec![];
            if let Some(given) = &record.headers {
                headers.extend(given.iter().map(|header| (header.key, header.value)));
            }
            if let Some([epoch, place]) = &told {
                headers.push(("acequia-epoch", Some(epoch.as_bytes())));
                headers.push(("acequia-seq", Some(place.as_bytes())));
            }
            let timestamp = record.timestamp.unwrap_or(now);
            let new = NewRecord { timestamp, key: record.key, value: record.value, headers: &headers };
            batch.push(self.partitioner.partition(record.key), &new);
        }
        Ok(())
    }
}

/// Writes rows as they come.
struct RowSink {
    destination: Destination,
    records: Records,
    pending: Batch,
    stop: CancellationToken,
}

#[async_trait]
impl Sink for RowSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        self.records.add(&batch, &mut self.pending, None, 0)?;
        if self.pending.bytes() >= FULL { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batch = Arc::new(std::mem::take(&mut self.pending));
        self.destination.append(&self.stop, move |topic| topic.appender.lock().append(&batch, None)).await
    }
}

/// Writes epochs, each as a frame.
struct FrameSink {
    /// The marker's name.
    name: String,
    destination: Destination,
    records: Records,
    audit_headers: bool,
    writer: Writer,
    stop: CancellationToken,
}

impl FrameSink {
    /// Reads the marker and writes it again as of this run.
    async fn claim(&mut self) -> Result<Option<Epoch>, ConnectorError> {
        let (name, writer) = (self.name.clone(), self.writer.clone());
        let what = format!("{}, topic {}", self.destination.what, self.destination.topic.topic.name);
        let claim = move |topic: &OpenTopic| {
            let mut appender = topic.appender.lock();
            let found = appender.marker(&name).map(SinkMarker::marker);
            let settled = writer.resume(&what, found.as_ref())?.filter(|epoch| *epoch > Epoch(0));
            let marker = SinkMarker::new(&name, &writer.marker(settled.unwrap_or_default()));
            crash_point!("sink.kafka.embedded.before_claim");
            appender.append(&Batch::default(), Some(&marker))?;
            crash_point!("sink.kafka.embedded.after_claim");
            Ok(settled)
        };
        self.destination.append(&self.stop, claim).await
    }
}

#[async_trait]
impl EpochSink for FrameSink {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let (mut batch, mut number) = (Batch::default(), 0);
        for rows in rows {
            self.records.add(rows, &mut batch, self.audit_headers.then_some(epoch), number)?;
            number += rows.num_rows() as u64;
        }
        let (name, writer, what) = (self.name.clone(), self.writer.clone(), self.destination.what.clone());
        let deliver = move |topic: &OpenTopic| {
            let mut appender = topic.appender.lock();
            let found = appender.marker(&name).map(SinkMarker::marker);
            if let Some(found) = found {
                if found.log != writer.log || found.incarnation > writer.incarnation {
                    return Err(writer.fenced(&what, &found));
                }
                if found.epoch >= epoch {
                    return Ok(found.epoch);
                }
            }
            // An epoch without rows needs no marker: delivered again, it has none either.
            if !batch.is_empty() {
                appender.append(&batch, Some(&SinkMarker::new(&name, &writer.marker(epoch))))?;
            }
            Ok(epoch)
        };
        self.destination.append(&self.stop, deliver).await
    }
}
