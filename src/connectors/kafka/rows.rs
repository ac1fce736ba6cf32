//! Rows to records: what both ways of writing have in common.
//!
//! The value holds the physical columns. The key comes from the column declared as `METADATA FROM 'key'`, from
//! `key_field`, or, for a table with a primary key, from its columns as a JSON object: compaction then keeps the newest
//! row of each. A batch is encoded into one buffer, of which each record borrows its part.

use arrow::array::{Array, AsArray, BinaryArray, PrimitiveArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};
use rdkafka::message::{Header, OwnedHeaders};

use super::producer::Record;
use super::sink::KafkaSinkFactory;
use crate::connectors::ConnectorError;
use crate::formats::{EncodeOptions, EncodedRows, Encoder, FormatError};

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

/// Encodes batches.
pub(super) struct RowEncoder {
    topic: String,
    encoder: Box<dyn Encoder>,
    physical: Vec<usize>,
    key: Key,
    timestamp: Option<usize>,
    headers: Option<usize>,
    rows: EncodedRows,
}

/// An encoded batch.
pub(super) struct EncodedBatch<'a> {
    topic: &'a str,
    batch: &'a RecordBatch,
    values: &'a EncodedRows,
    keys: Keys<'a>,
    timestamps: Option<PrimitiveArray<TimestampMillisecondType>>,
    headers: Option<usize>,
}

enum Keys<'a> {
    None,
    Column(BinaryArray),
    Encoded(&'a EncodedRows),
}

impl RowEncoder {
    /// An encoder for rows of these columns.
    pub(super) fn new(
        factory: &KafkaSinkFactory,
        what: &str,
        schema: &SchemaRef,
    ) -> Result<RowEncoder, ConnectorError> {
        let index = |name: &String| {
            schema.index_of(name).map_err(|_| ConnectorError::Refused {
                what: what.into(),
                message: format!("the rows to write have no column {name}"),
            })
        };
        let fields = factory.physical.fields().iter();
        let key = match factory.key_column.as_ref().or(factory.options.key_field.as_ref()) {
            Some(column) => Key::Column(index(column)?),
            None if factory.primary_key.is_empty() => Key::None,
            None => {
                let columns = factory.primary_key.iter().map(index).collect::<Result<Vec<_>, _>>()?;
                let schema = schema.project(&columns).map_err(|e| arrow_error("the primary key", e))?;
                Key::Encoded {
                    columns,
                    encoder: EncodeOptions::default().encoder(schema.into())?,
                    rows: EncodedRows::default(),
                }
            }
        };
        Ok(RowEncoder {
            topic: factory.topic.clone(),
            encoder: factory.encode.encoder(factory.physical.clone())?,
            physical: fields.map(|field| index(field.name())).collect::<Result<Vec<_>, _>>()?,
            key,
            timestamp: factory.timestamp_column.as_ref().map(index).transpose()?,
            headers: factory.headers_column.as_ref().map(index).transpose()?,
            rows: EncodedRows::default(),
        })
    }

    /// Encodes a batch in place of the one before.
    pub(super) fn encode<'a>(&'a mut self, batch: &'a RecordBatch) -> Result<EncodedBatch<'a>, ConnectorError> {
        encode(self.encoder.as_mut(), batch, &self.physical, &mut self.rows)?;
        let keys = match &mut self.key {
            Key::None => Keys::None,
            Key::Column(index) => Keys::Column(key_bytes(batch, *index)?),
            Key::Encoded { columns, encoder, rows } => {
                encode(encoder.as_mut(), batch, columns, rows)?;
                Keys::Encoded(rows)
            }
        };
        let timestamps = self.timestamp.map(|index| millis(batch, index)).transpose()?;
        Ok(EncodedBatch { topic: &self.topic, batch, values: &self.rows, keys, timestamps, headers: self.headers })
    }
}

impl EncodedBatch<'_> {
    /// The record of each row.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.values.iter().enumerate().map(|(row, value)| Record {
            topic: self.topic,
            partition: None,
            key: match &self.keys {
                Keys::None => None,
                Keys::Column(column) => column.is_valid(row).then(|| column.value(row)),
                Keys::Encoded(rows) => Some(&rows.bytes[rows.spans[row].range()]),
            },
            value,
            timestamp: self.timestamps.as_ref().filter(|array| array.is_valid(row)).map(|array| array.value(row)),
            headers: self.headers.and_then(|index| headers_of(self.batch, index, row)),
        })
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
