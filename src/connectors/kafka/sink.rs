//! The sink: opens one of two. Rows go out at once and at least once, or by the epoch and exactly once
//! ([`super::epoch_sink`]). The embedded log has two of its own ([`embedded::sink`]).

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::client;
use super::embedded;
use super::epoch_sink::KafkaEpochSink;
use super::options::{KafkaOptions, Servers};
use super::producer::Producer;
use super::rows::RowEncoder;
use crate::connectors::delivery::{Delivery, OpenSink, Promise};
use crate::connectors::{ConnectorError, Sink, SinkContext, SinkFactory, SinkMode};
use crate::formats::EncodeOptions;

pub(super) struct KafkaSinkFactory {
    pub(super) topic: String,
    pub(super) options: KafkaOptions,
    pub(super) encode: EncodeOptions,
    /// The table's physical columns.
    pub(super) physical: SchemaRef,
    pub(super) primary_key: Vec<String>,
    /// The column that is the record's key, if one is declared.
    pub(super) key_column: Option<String>,
    /// The column that is the record's time, if one is declared.
    pub(super) timestamp_column: Option<String>,
    /// The column with the record's headers, if one is declared.
    pub(super) headers_column: Option<String>,
}

#[async_trait]
impl SinkFactory for KafkaSinkFactory {
    fn mode(&self) -> SinkMode {
        match self.primary_key.as_slice() {
            [] => SinkMode::Append,
            columns => SinkMode::Upsert(columns.to_vec()),
        }
    }

    fn describe(&self) -> String {
        format!("kafka topic {} {}", self.topic, client::place(&self.options.servers))
    }

    fn delivery(&self) -> Delivery {
        match self.options.promise {
            Promise::ExactlyOnce => Delivery::PerEpoch,
            Promise::AtLeastOnce => Delivery::AtOnce,
        }
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let KafkaOptions { servers, properties, audit_headers, .. } = &self.options;
        let what = self.describe();
        let rows = RowEncoder::new(self, &what, &context.schema)?;
        let writer = context.writer.clone().filter(|_| self.delivery() == Delivery::PerEpoch);
        if *servers == Servers::Embedded {
            return embedded::sink::open(&self.topic, &self.options, rows, writer, &context).await;
        }
        if let Some(writer) = writer {
            let sink = KafkaEpochSink::new(servers, &properties.0, rows, *audit_headers, writer, &context)?;
            return sink.open().await;
        }
        let mut config = client::producer(servers, &format!("{}-{}", context.pipeline, context.table))?;
        config.extend(properties.0.iter().cloned());
        let producer = Some(Producer::new(servers, &config, context.stop.clone())?);
        Ok(OpenSink::AtOnce(Box::new(KafkaSink { rows, producer, what: client::server_name(servers) })))
    }
}

struct KafkaSink {
    rows: RowEncoder,
    /// `None` once it is closed.
    producer: Option<Producer>,
    what: String,
}

#[async_trait]
impl Sink for KafkaSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        let closed = || ConnectorError::Refused { what: self.what.clone(), message: "the sink is closed".into() };
        let producer = self.producer.as_mut().ok_or_else(closed)?;
        producer.check()?;
        for record in self.rows.encode(&batch)?.records() {
            producer.send(record).await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        match &mut self.producer {
            Some(producer) => producer.flush().await,
            None => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        if let Some(mut producer) = self.producer.take() {
            let outcome = producer.flush().await;
            producer.close().await;
            outcome?;
        }
        Ok(())
    }
}
