//! Record batches to PostgreSQL's binary COPY format, straight from Arrow's columns.
//!
//! [`Encoder::prepare`] brings each column to the one Arrow type whose values are the bytes on the wire (with Arrow's
//! kernels, a column at a time) and finds the values that PostgreSQL cannot hold; [`Prepared::encode`] then writes any
//! of its rows. The format: a signature, then for each row the number of fields and each field's length and
//! bytes, big-endian; -1 is null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, BooleanArray, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, IntervalUnit, SchemaRef, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use super::numeric::{put_decimal, put_text};
use crate::connectors::ConnectorError;
use crate::connectors::json_column::JsonColumn;
use crate::connectors::sql_table::create::is_nested;

/// From 1970-01-01, Arrow's first day, to 2000-01-01, PostgreSQL's.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 as i64 * 86_400_000_000;

/// How a column goes over the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `numeric`.
    Numeric,
    /// `boolean`.
    Bool,
    /// `text`, `varchar`, `char`, enums, `json`.
    Text,
    /// `jsonb`: text behind a version byte.
    Jsonb,
    /// `uuid`.
    Uuid,
    /// `bytea`.
    Bytes,
    /// `date`.
    Date,
    /// `time`.
    Time,
    /// `timestamp` and `timestamptz`, both in UTC.
    Timestamp,
    /// `interval`.
    Interval,
}

/// How a column of `ours` is written to one whose type has this name in the catalog, or `None` if it does not fit.
///
/// Whole numbers fit every number (a value that is too large is a bad row), floats and decimals every number that is
/// not whole, structs and lists JSON and text; nothing is parsed but `json`, `uuid` and enums from text.
pub fn wire(ours: &DataType, theirs: &str, is_enum: bool) -> Option<Wire> {
    let ours = match ours {
        DataType::Dictionary(_, values) => values,
        other => other,
    };
    let is_text = matches!(ours, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_bytes =
        matches!(ours, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_));
    let is_number = ours.is_numeric();
    let anything = matches!(ours, DataType::Null);
    let fits = |condition: bool, wire: Wire| (condition || anything).then_some(wire);
    if is_enum {
        return fits(is_text, Wire::Text);
    }
    match theirs {
        "int2" => fits(ours.is_integer(), Wire::Int2),
        "int4" => fits(ours.is_integer(), Wire::Int4),
        "int8" => fits(ours.is_integer(), Wire::Int8),
        "float4" => fits(is_number, Wire::Float4),
        "float8" => fits(is_number, Wire::Float8),
        "numeric" => fits(is_number, Wire::Numeric),
        "bool" => fits(matches!(ours, DataType::Boolean), Wire::Bool),
        "text" | "varchar" | "bpchar" | "name" | "json" => fits(is_text || is_nested(ours), Wire::Text),
        "jsonb" => fits(is_text || is_nested(ours), Wire::Jsonb),
        "uuid" => fits(is_text || matches!(ours, DataType::FixedSizeBinary(16)), Wire::Uuid),
        "bytea" => fits(is_bytes, Wire::Bytes),
        "date" => fits(matches!(ours, DataType::Date32 | DataType::Date64), Wire::Date),
        "time" => fits(matches!(ours, DataType::Time32(_) | DataType::Time64(_)), Wire::Time),
        "timestamp" | "timestamptz" => {
            fits(matches!(ours, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64), Wire::Timestamp)
        }
        "interval" => fits(matches!(ours, DataType::Interval(_) | DataType::Duration(_)), Wire::Interval),
        _ => None,
    }
}

/// A value that PostgreSQL cannot hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadValue {
    /// The row in its batch.
    pub row: usize,
    /// What is wrong, with the column's name.
    pub message: String,
}

/// Encodes batches of one schema for the columns of one table.
pub struct Encoder {
    schema: SchemaRef,
    wires: Vec<Wire>,
    json: Vec<Option<JsonColumn>>,
}

/// Batches ready to be written, row by row.
pub struct Prepared {
    columns: Vec<Column>,
    /// The values that cannot be written, ordered by row; one a row at most.
    pub bad: Vec<BadValue>,
}

enum Column {
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Numeric(Decimal128Array, i8),
    NumericFloat(Float64Array),
    NumericText(StringViewArray),
    Bool(BooleanArray),
    Text(StringViewArray),
    Jsonb(StringViewArray),
    Bytes(BinaryViewArray),
    Date(Date32Array),
    Micros(Int64Array),
    Interval(arrow::array::IntervalMonthDayNanoArray),
    IntervalMicros(Int64Array),
}

impl Encoder {
    /// Encodes batches of `schema`, each column by its wire.
    ///
    /// # Errors
    /// When a nested column's type has no place in JSON.
    pub fn new(schema: SchemaRef, wires: Vec<Wire>) -> Result<Encoder, ConnectorError> {
        let json = schema
            .fields()
            .iter()
            .map(|field| is_nested(field.data_type()).then(|| JsonColumn::new(field)).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Encoder { schema, wires, json })
    }

    /// Brings the columns of `batch` to their wire types and finds values that do not fit.
    ///
    /// # Errors
    /// When Arrow or JSON refuse a whole column.
    pub fn prepare(&mut self, batch: &RecordBatch) -> Result<Prepared, ConnectorError> {
        let mut bad = vec![];
        let mut columns = Vec::with_capacity(self.wires.len());
        for (at, (array, wire)) in batch.columns().iter().zip(&self.wires).enumerate() {
            let array = match &mut self.json[at] {
                Some(json) => Arc::new(json.text(array)?),
                None => array.clone(),
            };
            let name = self.schema.field(at).name();
            let column = prepare_column(*wire, &array, name, &mut bad)
                .map_err(|source| crate::connectors::sql_table::arrow_error(&format!("column {name}"), source))?;
            columns.push(column);
        }
        bad.sort_by_key(|value| value.row);
        bad.dedup_by_key(|value| value.row);
        Ok(Prepared { columns, bad })
    }
}

/// What a COPY stream begins with.
pub const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub const END: [u8; 2] = (-1_i16).to_be_bytes();

impl Prepared {
    /// Appends a row to a COPY stream.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) {
        out.extend((self.columns.len() as i16).to_be_bytes());
        for column in &self.columns {
            column.put(row, out);
        }
    }
}

impl Column {
    fn array(&self) -> &dyn Array {
        match self {
            Column::Int2(array) => array,
            Column::Int4(array) => array,
            Column::Int8(array) | Column::Micros(array) | Column::IntervalMicros(array) => array,
            Column::Float4(array) => array,
            Column::Float8(array) | Column::NumericFloat(array) => array,
            Column::Numeric(array, _) => array,
            Column::NumericText(array) | Column::Text(array) | Column::Jsonb(array) => array,
            Column::Bool(array) => array,
            Column::Bytes(array) => array,
            Column::Date(array) => array,
            Column::Interval(array) => array,
        }
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) {
        if self.array().is_null(row) {
            out.extend((-1_i32).to_be_bytes());
            return;
        }
        match self {
            Column::Int2(array) => put_fixed(array.value(row).to_be_bytes(), out),
            Column::Int4(array) => put_fixed(array.value(row).to_be_bytes(), out),
            Column::Int8(array) | Column::Micros(array) => put_fixed(array.value(row).to_be_bytes(), out),
            Column::Float4(array) => put_fixed(array.value(row).to_be_bytes(), out),
            Column::Float8(array) => put_fixed(array.value(row).to_be_bytes(), out),
            Column::Numeric(array, scale) => put_decimal(array.value(row), *scale, out),
            Column::NumericFloat(array) => put_text(&array.value(row).to_string(), out),
            Column::NumericText(array) => put_text(array.value(row), out),
            Column::Bool(array) => put_fixed([u8::from(array.value(row))], out),
            Column::Text(array) => put_bytes(array.value(row).as_bytes(), out),
            Column::Jsonb(array) => {
                let text = array.value(row).as_bytes();
                out.extend((text.len() as i32 + 1).to_be_bytes());
                out.push(1);
                out.extend(text);
            }
            Column::Bytes(array) => put_bytes(array.value(row), out),
            Column::Date(array) => put_fixed(array.value(row).to_be_bytes(), out),
            Column::Interval(array) => {
                let value = array.value(row);
                put_interval(value.nanoseconds.div_euclid(1000), value.days, value.months, out);
            }
            Column::IntervalMicros(array) => put_interval(array.value(row), 0, 0, out),
        }
    }
}

fn put_fixed<const N: usize>(bytes: [u8; N], out: &mut Vec<u8>) {
    out.extend((N as i32).to_be_bytes());
    out.extend(bytes);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as i32).to_be_bytes());
    out.extend(bytes);
}

fn put_interval(micros: i64, days: i32, months: i32, out: &mut Vec<u8>) {
    out.extend(16_i32.to_be_bytes());
    out.extend(micros.to_be_bytes());
    out.extend(days.to_be_bytes());
    out.extend(months.to_be_bytes());
}

fn prepare_column(wire: Wire, array: &ArrayRef, name: &str, bad: &mut Vec<BadValue>) -> Result<Column, ArrowError> {
    let mut to = |data_type: DataType, type_name: &str| cast_or_note(array, data_type, name, type_name, bad);
    Ok(match wire {
        Wire::Int2 => Column::Int2(to(DataType::Int16, "smallint")?.as_primitive::<Int16Type>().clone()),
        Wire::Int4 => Column::Int4(to(DataType::Int32, "integer")?.as_primitive::<Int32Type>().clone()),
        Wire::Int8 => Column::Int8(to(DataType::Int64, "bigint")?.as_primitive::<Int64Type>().clone()),
        Wire::Float4 => Column::Float4(to(DataType::Float32, "real")?.as_primitive::<Float32Type>().clone()),
        Wire::Float8 => {
            Column::Float8(to(DataType::Float64, "double precision")?.as_primitive::<Float64Type>().clone())
        }
        Wire::Numeric => match value_type(array.data_type()) {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Column::NumericFloat(to(DataType::Float64, "numeric")?.as_primitive::<Float64Type>().clone())
            }
            DataType::Decimal256(..) => {
                Column::NumericText(to(DataType::Utf8View, "numeric")?.as_string_view().clone())
            }
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
                let decimal = to(DataType::Decimal128(38, *scale), "numeric")?;
                Column::Numeric(decimal.as_primitive::<Decimal128Type>().clone(), *scale)
            }
            _ => {
                let decimal = to(DataType::Decimal128(20, 0), "numeric")?;
                Column::Numeric(decimal.as_primitive::<Decimal128Type>().clone(), 0)
            }
        },
        Wire::Bool => Column::Bool(to(DataType::Boolean, "boolean")?.as_boolean().clone()),
        Wire::Text | Wire::Jsonb => {
            let text = to(DataType::Utf8View, "text")?.as_string_view().clone();
            for row in 0..text.len() {
                if text.is_valid(row) && memchr::memchr(0, text.value(row).as_bytes()).is_some() {
                    let message = format!("column {name} holds the character U+0000, which PostgreSQL cannot store");
                    bad.push(BadValue { row, message });
                }
            }
            if wire == Wire::Jsonb { Column::Jsonb(text) } else { Column::Text(text) }
        }
        Wire::Uuid if matches!(value_type(array.data_type()), DataType::FixedSizeBinary(_)) => {
            Column::Bytes(to(DataType::BinaryView, "uuid")?.as_binary_view().clone())
        }
        Wire::Uuid => Column::Bytes(uuids(to(DataType::Utf8View, "uuid")?.as_string_view(), name, bad)),
        Wire::Bytes => Column::Bytes(to(DataType::BinaryView, "bytea")?.as_binary_view().clone()),
        Wire::Date => {
            let days = to(DataType::Date32, "date")?;
            let days = days.as_primitive::<Date32Type>();
            let moved: Date32Array = days.unary_opt(|day| day.checked_sub(DAYS_TO_2000));
            note_nulls(days, &moved, name, "date", bad);
            Column::Date(moved)
        }
        Wire::Time => {
            let time = to(DataType::Time64(TimeUnit::Microsecond), "time")?;
            Column::Micros(time.as_primitive::<Time64MicrosecondType>().reinterpret_cast())
        }
        Wire::Timestamp => {
            let moment = to(timestamp_type(array.data_type()), "timestamp")?;
            let moment = moment.as_primitive::<TimestampMicrosecondType>();
            // The lowest and the highest value stand for the infinities.
            let moved: Int64Array = moment
                .reinterpret_cast::<Int64Type>()
                .unary_opt(|micros| micros.checked_sub(MICROS_TO_2000).filter(|micros| *micros != i64::MIN));
            note_nulls(moment, &moved, name, "timestamp", bad);
            Column::Micros(moved)
        }
        Wire::Interval => match value_type(array.data_type()) {
            DataType::Duration(_) => {
                let duration = to(DataType::Duration(TimeUnit::Microsecond), "interval")?;
                Column::IntervalMicros(duration.as_primitive::<DurationMicrosecondType>().reinterpret_cast())
            }
            _ => {
                let interval = to(DataType::Interval(IntervalUnit::MonthDayNano), "interval")?;
                Column::Interval(interval.as_primitive::<IntervalMonthDayNanoType>().clone())
            }
        },
    })
}

/// Microseconds with the zone it has: a zone is how a moment is shown, and a cast that drops it would move the moment.
fn timestamp_type(ours: &DataType) -> DataType {
    match value_type(ours) {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        _ => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

fn cast_or_note(
    array: &ArrayRef,
    data_type: DataType,
    name: &str,
    type_name: &str,
    bad: &mut Vec<BadValue>,
) -> Result<ArrayRef, ArrowError> {
    if *array.data_type() == data_type {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let converted = cast_with_options(array, &data_type, &options)?;
    note_nulls(array, &converted, name, type_name, bad);
    Ok(converted)
}

/// Values that became null do not fit.
fn note_nulls(before: &dyn Array, after: &dyn Array, name: &str, type_name: &str, bad: &mut Vec<BadValue>) {
    if before.null_count() == after.null_count() {
        return;
    }
    for row in 0..before.len() {
        if before.is_valid(row) && after.is_null(row) {
            bad.push(BadValue {
                row,
                message: format!("column {name} holds a value outside the range of {type_name}"),
            });
        }
    }
}

fn uuids(text: &StringViewArray, name: &str, bad: &mut Vec<BadValue>) -> BinaryViewArray {
    let mut builder = BinaryViewBuilder::with_capacity(text.len());
    for (row, value) in text.iter().enumerate() {
        match value.map(parse_uuid) {
            None => builder.append_null(),
            Some(Some(uuid)) => builder.append_value(uuid),
            Some(None) => {
                bad.push(BadValue { row, message: format!("column {name} holds text that is no uuid") });
                builder.append_null();
            }
        }
    }
    builder.finish()
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut digits = text.bytes().filter(|byte| *byte != b'-').map(|byte| char::from(byte).to_digit(16));
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        *byte = (digits.next()?? * 16 + digits.next()??) as u8;
    }
    digits.next().is_none().then_some(uuid)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn prepare(array: ArrayRef, theirs: &str) -> Prepared {
        let schema = Arc::new(Schema::new(vec![Field::new("c", array.data_type().clone(), true)]));
        let wire = wire(array.data_type(), theirs, false).unwrap();
        let batch = RecordBatch::try_new(schema.clone(), vec![array]).unwrap();
        Encoder::new(schema, vec![wire]).unwrap().prepare(&batch).unwrap()
    }

    fn encoded(array: ArrayRef, theirs: &str) -> Vec<u8> {
        let rows = array.len();
        let prepared = prepare(array, theirs);
        assert_eq!(prepared.bad, []);
        let mut out = SIGNATURE.to_vec();
        for row in 0..rows {
            prepared.encode(row, &mut out);
        }
        out.extend(END);
        out
    }

    #[test]
    fn a_stream_has_signature_rows_and_end() {
        let out = encoded(Arc::new(Int64Array::from(vec![Some(7), None])), "int4");
        let (signature, rows) = out.split_at(19);
        assert_eq!(signature, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        assert_eq!(rows, b"\0\x01\0\0\0\x04\0\0\0\x07\0\x01\xff\xff\xff\xff\xff\xff");
    }

    #[test]
    fn json_has_a_version_and_days_begin_in_2000() {
        let out = encoded(Arc::new(StringViewArray::from(vec!["{}"])), "jsonb");
        assert_eq!(&out[21..28], b"\0\0\0\x03\x01{}");
        let out = encoded(Arc::new(Date32Array::from(vec![DAYS_TO_2000 + 1])), "date");
        assert_eq!(&out[21..29], b"\0\0\0\x04\0\0\0\x01");
        let uuid = "00112233-4455-6677-8899-AABBCCDDEEFF";
        let out = encoded(Arc::new(StringViewArray::from(vec![uuid])), "uuid");
        assert_eq!(out[25], 0);
        assert_eq!(out[40], 0xff);
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let messages = |array: ArrayRef, theirs: &str| -> Vec<(usize, String)> {
            prepare(array, theirs).bad.into_iter().map(|bad| (bad.row, bad.message)).collect()
        };
        assert_eq!(
            messages(Arc::new(Int64Array::from(vec![Some(1), None, Some(1 << 40)])), "int4"),
            [(2, "column c holds a value outside the range of integer".to_string())]
        );
        assert_eq!(
            messages(Arc::new(StringViewArray::from(vec!["a", "b\0"])), "text"),
            [(1, "column c holds the character U+0000, which PostgreSQL cannot store".to_string())]
        );
        assert_eq!(
            messages(Arc::new(StringViewArray::from(vec!["no"])), "uuid"),
            [(0, "column c holds text that is no uuid".to_string())]
        );
        let far = arrow::array::TimestampSecondArray::from(vec![i64::MAX]);
        assert_eq!(
            messages(Arc::new(far), "timestamp"),
            [(0, "column c holds a value outside the range of timestamp".to_string())]
        );
    }

    #[test]
    fn nothing_is_parsed_or_rounded_in_secret() {
        assert_eq!(wire(&DataType::Utf8, "int4", false), None);
        assert_eq!(wire(&DataType::Utf8, "timestamp", false), None);
        assert_eq!(wire(&DataType::Decimal128(12, 2), "int8", false), None);
        assert_eq!(wire(&DataType::Float64, "int8", false), None);
        assert_eq!(wire(&DataType::Int64, "text", false), None);
        assert_eq!(wire(&DataType::Utf8, "mood", true), Some(Wire::Text));
        assert_eq!(wire(&DataType::Null, "date", false), Some(Wire::Date));
    }
}
