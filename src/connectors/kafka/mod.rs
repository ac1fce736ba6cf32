//! Kafka as a source and a sink: by librdkafka, or as a log of our own in the data folder ([`embedded`]).
//!
//! The way of a record: [`reader`] is a thread that takes messages from librdkafka by the batch (through
//! [`messages`], the only unsafe code here) and hands whole events to [`source`]; the other way, [`sink`] has rows encoded
//! by [`rows`] and gives them to a [`producer`], which knows how to wait. An [`epoch_sink`] does so in one
//! [`transaction`] an epoch, with a marker in the topic that [`progress`] describes. [`options`] is what `WITH (...)` may say, [`errors`]
//! which troubles heal by waiting.

mod client;
pub mod embedded;
mod epoch_sink;
mod errors;
mod messages;
pub mod options;
mod origin;
pub mod producer;
mod progress;
mod reach;
mod reader;
mod records;
mod rows;
mod sink;
mod source;
mod splits;
mod transaction;

use std::sync::Arc;

use super::looking::Reach;
use super::{Connector, ConnectorTable, SinkFactory, SourceFactory};
use crate::catalog::options::Options;
use crate::catalog::{MetadataKey, TableDefinition};
use crate::formats::options::JsonDecodeOptions;
use crate::formats::{DecodeOptions, EncodeOptions};

use embedded::source::EmbeddedSourceFactory;
use options::{KafkaOptions, ReadMode, Servers, Start, TableUse};
use sink::KafkaSinkFactory;
use source::KafkaSourceFactory;

/// `connector = 'kafka'`.
pub struct Kafka;

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        let kafka = KafkaOptions::take(table, options);
        let (decode, encode) = match kafka.table_use {
            Some(TableUse::Source) => (Some(DecodeOptions::take(table, options)), None),
            Some(TableUse::Sink) => (None, Some(EncodeOptions::take(table, options))),
            None => (Some(DecodeOptions::take(table, options)), Some(EncodeOptions::take(table, options))),
        };
        Arc::new(KafkaTable { table: table.clone(), options: kafka, decode, encode })
    }
}

/// A topic, or several, as a table.
struct KafkaTable {
    table: TableDefinition,
    options: KafkaOptions,
    decode: Option<DecodeOptions>,
    encode: Option<EncodeOptions>,
}

impl ConnectorTable for KafkaTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        let (options, decode) = (self.options.clone(), self.decode.clone()?);
        Some(match options.servers {
            Servers::Embedded => Arc::new(EmbeddedSourceFactory { options, decode, read_back: false }),
            Servers::At(_) => Arc::new(KafkaSourceFactory { options, decode }),
        })
    }

    fn read_back(&self) -> Option<Arc<dyn SourceFactory>> {
        let decode = match (&self.decode, &self.encode) {
            (Some(decode), _) => decode.clone(),
            (None, Some(EncodeOptions::Json(_))) => DecodeOptions::Json(JsonDecodeOptions::default()),
            (None, Some(EncodeOptions::RawString)) => DecodeOptions::RawString,
            (None, Some(EncodeOptions::RawBytes)) => DecodeOptions::RawBytes,
            (None, _) => return None,
        };
        let options = KafkaOptions { start: Start::Earliest, read_mode: ReadMode::Committed, ..self.options.clone() };
        Some(match options.servers {
            Servers::Embedded => Arc::new(EmbeddedSourceFactory { options, decode, read_back: true }),
            Servers::At(_) => Arc::new(KafkaSourceFactory { options, decode }),
        })
    }

    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        // What is written to two topics would be two sinks.
        let [topic] = self.options.topics.as_slice() else { return None };
        Some(Arc::new(KafkaSinkFactory {
            topic: topic.clone(),
            options: self.options.clone(),
            encode: self.encode.clone()?,
            physical: self.table.physical_schema(),
            primary_key: self.table.primary_key.clone(),
            key_column: self.table.metadata_column(MetadataKey::Key).map(str::to_owned),
            timestamp_column: self.table.metadata_column(MetadataKey::Timestamp).map(str::to_owned),
            headers_column: self.table.metadata_column(MetadataKey::Headers).map(str::to_owned),
        }))
    }

    fn embedded(&self) -> Option<&'static str> {
        (self.options.servers == Servers::Embedded).then_some("Kafka")
    }

    fn reach(&self) -> Option<Box<dyn Reach>> {
        let client = || Box::new(reach::KafkaReach::new(self.options.clone())) as _;
        (self.options.servers != Servers::Embedded).then(client)
    }
}
