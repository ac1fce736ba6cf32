//! The sink: rows to records, at least once.
//!
//! The value holds the physical columns. The key comes from the column declared as `METADATA FROM 'key'`, from
//! `key_field`, or, for a table with a primary key, from its columns as a JSON object: compaction then keeps the newest
//! row of each.

use arrow::array::{Array, AsArray, BinaryArray, PrimitiveArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};
use async_trait::async_trait;
use rdkafka::message::{Header, OwnedHeaders};

use super::client;
use super::embedded;
use super::options::{Delivery, KafkaOptions, Servers};
use super::producer::Producer;
use crate::connectors::delivery::OpenSink;
use crate::connectors::{ConnectorError, Sink, SinkContext, SinkFactory, SinkMode};
use crate::formats::{EncodeOptions, EncodedRows, Encoder, FormatError};

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

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let KafkaOptions { servers, properties, .. } = &self.options;
        if *servers == Servers::Embedded {
            embedded::ensure_topic(&self.topic)?;
        }
        let mut config = client::producer(servers, &format!("{}-{}", context.pipeline, context.table))?;
        config.extend(properties.0.iter().cloned());
        let index = |name: &String| {
            context.schema.index_of(name).map_err(|_| ConnectorError::Refused {
                what: self.describe(),
                message: format!("the rows to write have no column {name}"),
            })
        };
        let physical = self.physical.fields().iter().map(|field| index(field.name())).collect::<Result<Vec<_>, _>>()?;
        let key = match self.key_column.as_ref().or(self.options.key_field.as_ref()) {
            Some(column) => Key::Column(index(column)?),
            None if self.primary_key.is_empty() => Key::None,
            None => {
                let columns = self.primary_key.iter().map(index).collect::<Result<Vec<_>, _>>()?;
                let schema = context.schema.project(&columns).map_err(|e| arrow_error("the primary key", e))?;
                Key::Encoded {
                    columns,
                    encoder: EncodeOptions::default().encoder(schema.into())?,
                    rows: EncodedRows::default(),
                }
            }
        };
        let producer = match self.options.delivery {
            Delivery::AtLeastOnce => Producer::new(servers, &config, context.stop.clone())?,
        };
        Ok(OpenSink::AtOnce(Box::new(KafkaSink {
            topic: self.topic.clone(),
            encoder: self.encode.encoder(self.physical.clone())?,
            physical,
            key,
            timestamp: self.timestamp_column.as_ref().map(index).transpose()?,
            headers: self.headers_column.as_ref().map(index).transpose()?,
            rows: EncodedRows::default(),
            producer: Some(producer),
            what: client::server_name(servers),
        })))
    }
}

/// Where the keys of records come from.
enum Key {
    None,
    /// The value of a column.
    Column(usize),
    /// Several columns, encoded.
    Encoded {
        columns: Vec<usize>,
        encoder: Box<dyn Encoder>,
        rows: EncodedRows,
    },
}

struct KafkaSink {
    topic: String,
    encoder: Box<dyn Encoder>,
    physical: Vec<usize>,
    key: Key,
    timestamp: Option<usize>,
    headers: Option<usize>,
    rows: EncodedRows,
    /// `None` once it is closed.
    producer: Option<Producer>,
    what: String,
}

#[async_trait]
impl Sink for KafkaSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        encode(self.encoder.as_mut(), &batch, &self.physical, &mut self.rows)?;
        let mut column = None;
        match &mut self.key {
            Key::None => {}
            Key::Column(index) => column = Some(key_bytes(&batch, *index)?),
            Key::Encoded { columns, encoder, rows } => encode(encoder.as_mut(), &batch, columns, rows)?,
        }
        let timestamps = self.timestamp.map(|index| millis(&batch, index)).transpose()?;
        let closed = || ConnectorError::Refused { what: self.what.clone(), message: "the sink is closed".into() };
        let producer = self.producer.as_mut().ok_or_else(closed)?;
        producer.check()?;
        for (row, span) in self.rows.spans.iter().enumerate() {
            let key = match (&self.key, &column) {
                (Key::Encoded { rows, .. }, _) => Some(&rows.bytes[rows.spans[row].range()]),
                (_, Some(column)) => column.is_valid(row).then(|| column.value(row)),
                _ => None,
            };
            let timestamp = timestamps.as_ref().filter(|array| array.is_valid(row)).map(|array| array.value(row));
            let headers = self.headers.and_then(|index| headers_of(&batch, index, row));
            producer.send(&self.topic, key, &self.rows.bytes[span.range()], timestamp, headers).await?;
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

/// The rows of `batch` in these columns, in place of what `rows` held.
fn encode(
    encoder: &mut dyn Encoder,
    batch: &RecordBatch,
    columns: &[usize],
    rows: &mut EncodedRows,
) -> Result<(), ConnectorError> {
    rows.bytes.clear();
    rows.spans.clear();
    let batch = batch.project(columns).map_err(|error| arrow_error("the columns to write", error))?;
    Ok(encoder.encode(&batch, rows)?)
}

/// A column as bytes; what is neither text nor bytes becomes text.
fn key_bytes(batch: &RecordBatch, index: usize) -> Result<BinaryArray, ConnectorError> {
    let column = batch.column(index);
    let failed = |error| arrow_error("the record's key", error);
    let column = match column.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            column.clone()
        }
        _ => cast(column, &DataType::Utf8).map_err(failed)?,
    };
    Ok(cast(&column, &DataType::Binary).map_err(failed)?.as_binary::<i32>().clone())
}

fn millis(batch: &RecordBatch, index: usize) -> Result<PrimitiveArray<TimestampMillisecondType>, ConnectorError> {
    let column = cast(batch.column(index), &DataType::Timestamp(TimeUnit::Millisecond, None));
    let column = column.map_err(|error| arrow_error("the record's timestamp", error))?;
    Ok(column.as_primitive::<TimestampMillisecondType>().clone())
}

/// The headers of a row; the column's type was checked when it was declared. A header without a name is left out.
fn headers_of(batch: &RecordBatch, index: usize, row: usize) -> Option<OwnedHeaders> {
    let lists = batch.column(index).as_list_opt::<i32>().filter(|lists| lists.is_valid(row))?;
    let pairs = lists.value(row);
    let pairs = pairs.as_struct_opt()?;
    let names = pairs.column(0).as_string_opt::<i32>()?;
    let mut headers = OwnedHeaders::new_with_capacity(pairs.len());
    for at in (0..pairs.len()).filter(|at| pairs.is_valid(*at) && names.is_valid(*at)) {
        let values = pairs.column(1);
        let value: Option<&[u8]> = match (values.as_string_opt::<i32>(), values.as_binary_opt::<i32>()) {
            _ if values.is_null(at) => None,
            (Some(texts), _) => Some(texts.value(at).as_bytes()),
            (_, Some(bytes)) => Some(bytes.value(at)),
            _ => None,
        };
        headers = headers.insert(Header { key: names.value(at), value });
    }
    Some(headers)
}

fn arrow_error(context: &str, source: arrow::error::ArrowError) -> ConnectorError {
    FormatError::Arrow { context: context.into(), source }.into()
}
