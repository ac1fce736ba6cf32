//! Columns under construction: values come in one at a time from whatever format, a bad record is taken back out of
//! all of them, and each becomes an Arrow array in the end.
//!
//! Values are written straight into the vectors that become the array's buffers. Nothing is allocated per value.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, GenericByteArray, GenericByteViewArray, ListArray, NullBufferBuilder,
    PrimitiveArray, StructArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    BinaryType, BinaryViewType, ByteArrayType, ByteViewType, DataType, Date32Type, Decimal128Type, Decimal256Type,
    Field, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, LargeBinaryType,
    LargeUtf8Type, StringViewType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, Utf8Type, i256,
};
use arrow::error::ArrowError;

use super::iso8601::{self, TimestampReader};
use super::json::Keys;
use super::number::{Misfit, Number};
use super::options::TimestampFormat;
use super::trouble::{Trouble, cut, type_name};
use super::{BadReason, FormatError};

/// One value as a format sees it. Text is UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token<'a> {
    /// A text, without quotes and escapes.
    Text(&'a [u8]),
    /// A number.
    Number(Number<'a>),
    /// A truth value.
    Boolean(bool),
    /// A JSON object or array as it stands in the record.
    Nested(&'a [u8]),
}

/// So many values say how long others will be.
const TELLING: usize = 64;

/// More room than this, in bytes or elements, is not made before it is needed.
const MOST_ROOM: usize = 64 << 20;

/// A column under construction.
#[derive(Debug)]
pub(crate) struct Column {
    /// Its name for messages, with those of the structs and lists around it: `items[].price`.
    pub(crate) path: String,
    pub(crate) nullable: bool,
    data_type: DataType,
    timestamps: TimestampFormat,
    pub(crate) nulls: NullBufferBuilder,
    pub(crate) values: Values,
    /// How many bytes of text a value had in the batch before, or how many elements: what room is made for.
    per_value: usize,
}

/// The values of a column, by type.
#[derive(Debug)]
pub(crate) enum Values {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal128(Vec<i128>, u8, i8),
    Decimal256(Vec<i256>, u8, i8),
    Date32(Vec<i32>),
    Time32(Vec<i32>, TimeUnit),
    Time64(Vec<i64>, TimeUnit),
    Timestamp(Vec<i64>, TimeUnit, TimestampReader),
    /// Text or bytes with 32-bit offsets.
    Bytes(Vec<i32>, Vec<u8>),
    /// Text or bytes with 64-bit offsets.
    LargeBytes(Vec<i64>, Vec<u8>),
    /// Text or bytes as views: up to 12 bytes within the view, longer ones in the buffer.
    Views(Vec<u128>, Vec<u8>),
    Struct(Fields, Vec<Column>, Keys),
    List(FieldRef, Vec<i32>, Box<Column>),
}

/// Why a value was not taken; `None` if the type says it all.
pub(crate) type Unfit = Option<&'static str>;

impl Column {
    /// A column for `field`, or `None` if its type cannot be decoded. `parent` goes in front of its name.
    pub(crate) fn new(field: &Field, parent: &str, timestamps: TimestampFormat) -> Option<Column> {
        let path = format!("{parent}{}", field.name());
        Column::at(path, field, timestamps)
    }

    fn at(path: String, field: &Field, timestamps: TimestampFormat) -> Option<Column> {
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::Int8(vec![]),
            DataType::Int16 => Values::Int16(vec![]),
            DataType::Int32 => Values::Int32(vec![]),
            DataType::Int64 => Values::Int64(vec![]),
            DataType::UInt8 => Values::UInt8(vec![]),
            DataType::UInt16 => Values::UInt16(vec![]),
            DataType::UInt32 => Values::UInt32(vec![]),
            DataType::UInt64 => Values::UInt64(vec![]),
            DataType::Float32 => Values::Float32(vec![]),
            DataType::Float64 => Values::Float64(vec![]),
            DataType::Decimal128(precision, scale) => Values::Decimal128(vec![], *precision, *scale),
            DataType::Decimal256(precision, scale) => Values::Decimal256(vec![], *precision, *scale),
            DataType::Date32 => Values::Date32(vec![]),
            DataType::Time32(unit) => Values::Time32(vec![], *unit),
            DataType::Time64(unit) => Values::Time64(vec![], *unit),
            DataType::Timestamp(unit, _) => Values::Timestamp(vec![], *unit, TimestampReader::default()),
            DataType::Utf8 | DataType::Binary => Values::Bytes(vec![0], vec![]),
            DataType::LargeUtf8 | DataType::LargeBinary => Values::LargeBytes(vec![0], vec![]),
            DataType::Utf8View | DataType::BinaryView => Values::Views(vec![], vec![]),
            DataType::Struct(fields) => {
                let parent = format!("{path}.");
                let columns: Option<_> = fields.iter().map(|field| Column::new(field, &parent, timestamps)).collect();
                Values::Struct(fields.clone(), columns?, Keys::new(fields.iter().map(|field| field.name().as_str())))
            }
            DataType::List(element) => {
                let child = Column::at(format!("{path}[]"), element, timestamps)?;
                Values::List(Arc::clone(element), vec![0], Box::new(child))
            }
            _ => return None,
        };
        Some(Column {
            path,
            nullable: field.is_nullable(),
            data_type: field.data_type().clone(),
            timestamps,
            nulls: NullBufferBuilder::new(0),
            values,
            per_value: 0,
        })
    }

    /// How many values it has.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Whether its values are text or bytes.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.values, Values::Bytes(..) | Values::LargeBytes(..) | Values::Views(..))
    }

    /// Whether its values are bytes, and not text.
    pub(crate) fn is_binary(&self) -> bool {
        matches!(self.data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
    }

    /// Whether its values are structs or lists.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self.values, Values::Struct(..) | Values::List(..))
    }

    /// Whether its values are truth values.
    pub(crate) fn is_boolean(&self) -> bool {
        matches!(self.values, Values::Boolean(_))
    }

    /// Whether its values are dates or times.
    pub(crate) fn is_temporal(&self) -> bool {
        matches!(self.values, Values::Date32(_) | Values::Time32(..) | Values::Time64(..) | Values::Timestamp(..))
    }

    /// Empties it, whatever a batch that failed has left, and makes room for `rows` values.
    pub(crate) fn begin(&mut self, rows: usize) {
        self.truncate(0);
        self.reserve(rows);
    }

    /// Makes room for `rows` more values; for texts and elements of lists as it was needed before.
    fn reserve(&mut self, rows: usize) {
        let within = rows.saturating_mul(self.per_value).min(MOST_ROOM);
        match &mut self.values {
            Values::Boolean(values) => values.reserve(rows),
            Values::Int8(values) => values.reserve(rows),
            Values::Int16(values) => values.reserve(rows),
            Values::Int32(values) => values.reserve(rows),
            Values::Int64(values) => values.reserve(rows),
            Values::UInt8(values) => values.reserve(rows),
            Values::UInt16(values) => values.reserve(rows),
            Values::UInt32(values) => values.reserve(rows),
            Values::UInt64(values) => values.reserve(rows),
            Values::Float32(values) => values.reserve(rows),
            Values::Float64(values) => values.reserve(rows),
            Values::Decimal128(values, ..) => values.reserve(rows),
            Values::Decimal256(values, ..) => values.reserve(rows),
            Values::Date32(values) | Values::Time32(values, _) => values.reserve(rows),
            Values::Time64(values, _) | Values::Timestamp(values, ..) => values.reserve(rows),
            Values::Bytes(offsets, bytes) => {
                offsets.reserve(rows);
                bytes.reserve(within);
            }
            Values::LargeBytes(offsets, bytes) => {
                offsets.reserve(rows);
                bytes.reserve(within);
            }
            Values::Views(views, bytes) => {
                views.reserve(rows);
                bytes.reserve(within);
            }
            Values::Struct(_, columns, _) => columns.iter_mut().for_each(|column| column.reserve(rows)),
            Values::List(_, offsets, element) => {
                offsets.reserve(rows);
                element.reserve(within);
            }
        }
    }

    /// Notes how much room its values have taken, for the next batch; few of them tell little.
    fn learn(&mut self) {
        let within = match &self.values {
            Values::Bytes(_, bytes) | Values::LargeBytes(_, bytes) | Values::Views(_, bytes) => bytes.len(),
            Values::List(_, _, element) => element.len(),
            _ => return,
        };
        if self.len() >= TELLING {
            // An eighth more, so that a batch a little longer needs no second place.
            self.per_value = (within + within / 8).div_ceil(self.len());
        }
    }

    /// Appends a value that is no null and not nested, or says why it does not fit.
    #[inline]
    pub(crate) fn append(&mut self, token: Token<'_>) -> Result<(), Unfit> {
        self.values.append(token, self.timestamps)?;
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a float that no format has digits for; gives `false` if the column holds no floats.
    pub(crate) fn append_float(&mut self, value: f64) -> bool {
        match &mut self.values {
            Values::Float64(values) => values.push(value),
            Values::Float32(values) => values.push(value as f32),
            _ => return false,
        }
        self.nulls.append_non_null();
        true
    }

    /// Appends a null. In a `NOT NULL` column it stands for nothing and must lie in a null struct.
    pub(crate) fn append_null(&mut self) {
        self.values.append_default();
        self.nulls.append_null();
    }

    /// Takes back all values from `len` on, and whatever a value that broke off has left behind.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.nulls.truncate(len);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::Int8(values) => values.truncate(len),
            Values::Int16(values) => values.truncate(len),
            Values::Int32(values) => values.truncate(len),
            Values::Int64(values) => values.truncate(len),
            Values::UInt8(values) => values.truncate(len),
            Values::UInt16(values) => values.truncate(len),
            Values::UInt32(values) => values.truncate(len),
            Values::UInt64(values) => values.truncate(len),
            Values::Float32(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal128(values, ..) => values.truncate(len),
            Values::Decimal256(values, ..) => values.truncate(len),
            Values::Date32(values) | Values::Time32(values, _) => values.truncate(len),
            Values::Time64(values, _) | Values::Timestamp(values, ..) => values.truncate(len),
            Values::Bytes(offsets, bytes) => {
                offsets.truncate(len + 1);
                bytes.truncate(offsets[offsets.len() - 1] as usize);
            }
            Values::LargeBytes(offsets, bytes) => {
                offsets.truncate(len + 1);
                bytes.truncate(offsets[offsets.len() - 1] as usize);
            }
            Values::Views(views, bytes) => {
                if let Some(view) = views.iter().skip(len).find(|view| **view as u32 > 12) {
                    bytes.truncate((*view >> 96) as usize);
                }
                views.truncate(len);
            }
            Values::Struct(_, columns, _) => columns.iter_mut().for_each(|column| column.truncate(len)),
            Values::List(_, offsets, child) => {
                offsets.truncate(len + 1);
                child.truncate(offsets[offsets.len() - 1] as usize);
            }
        }
    }

    /// What is wrong with a value of this column; `shown` is the value as it stands in the record.
    #[cold]
    #[inline(never)]
    pub(crate) fn wrong_type(&self, shown: &[u8], unfit: Unfit, byte: usize) -> Box<Trouble> {
        let (name, reason) =
            (type_name(&self.data_type), unfit.map(|reason| format!(": {reason}")).unwrap_or_default());
        let article = if matches!(name.as_bytes()[0], b'a' | b'i') { "an" } else { "a" };
        let message = format!("column {}: {} is not {article} {name}{reason} (byte {byte})", self.path, cut(shown));
        Trouble::new(BadReason::WrongType, message)
    }

    /// What is wrong when a `NOT NULL` column has no value.
    #[cold]
    #[inline(never)]
    pub(crate) fn missing(&self, how: &str) -> Box<Trouble> {
        Trouble::new(BadReason::MissingValue, format!("column {} is NOT NULL, but {how}", self.path))
    }

    /// The array of all values so far; the column is empty then.
    ///
    /// # Errors
    /// When the batch has outgrown 32-bit offsets.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, FormatError> {
        self.learn();
        let (rows, nulls) = (self.len(), self.nulls.finish());
        let data_type = &self.data_type;
        macro_rules! primitive {
            ($type:ty, $values:expr) => {{
                let values = ScalarBuffer::from(std::mem::take($values));
                Arc::new(PrimitiveArray::<$type>::new(values, nulls).with_data_type(data_type.clone())) as ArrayRef
            }};
        }
        Ok(match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int8(values) => primitive!(Int8Type, values),
            Values::Int16(values) => primitive!(Int16Type, values),
            Values::Int32(values) => primitive!(Int32Type, values),
            Values::Int64(values) => primitive!(Int64Type, values),
            Values::UInt8(values) => primitive!(UInt8Type, values),
            Values::UInt16(values) => primitive!(UInt16Type, values),
            Values::UInt32(values) => primitive!(UInt32Type, values),
            Values::UInt64(values) => primitive!(UInt64Type, values),
            Values::Float32(values) => primitive!(Float32Type, values),
            Values::Float64(values) => primitive!(Float64Type, values),
            Values::Decimal128(values, ..) => primitive!(Decimal128Type, values),
            Values::Decimal256(values, ..) => primitive!(Decimal256Type, values),
            Values::Date32(values) => primitive!(Date32Type, values),
            Values::Time32(values, TimeUnit::Second) => primitive!(Time32SecondType, values),
            Values::Time32(values, _) => primitive!(Time32MillisecondType, values),
            Values::Time64(values, TimeUnit::Microsecond) => primitive!(Time64MicrosecondType, values),
            Values::Time64(values, _) => primitive!(Time64NanosecondType, values),
            Values::Timestamp(values, TimeUnit::Second, _) => primitive!(TimestampSecondType, values),
            Values::Timestamp(values, TimeUnit::Millisecond, _) => primitive!(TimestampMillisecondType, values),
            Values::Timestamp(values, TimeUnit::Microsecond, _) => primitive!(TimestampMicrosecondType, values),
            Values::Timestamp(values, TimeUnit::Nanosecond, _) => primitive!(TimestampNanosecondType, values),
            Values::Bytes(offsets, bytes) => {
                fits_in_32_bits(bytes.len(), &self.path)?;
                let (offsets, bytes) = (std::mem::replace(offsets, vec![0]), std::mem::take(bytes));
                match data_type {
                    // SAFETY: see `byte_array`; a text column's values are UTF-8.
                    DataType::Utf8 => Arc::new(unsafe { byte_array::<Utf8Type>(offsets, bytes, nulls) }),
                    // SAFETY: as above; bytes are any bytes.
                    _ => Arc::new(unsafe { byte_array::<BinaryType>(offsets, bytes, nulls) }),
                }
            }
            Values::LargeBytes(offsets, bytes) => {
                let (offsets, bytes) = (std::mem::replace(offsets, vec![0]), std::mem::take(bytes));
                match data_type {
                    // SAFETY: see `byte_array`; a text column's values are UTF-8.
                    DataType::LargeUtf8 => Arc::new(unsafe { byte_array::<LargeUtf8Type>(offsets, bytes, nulls) }),
                    // SAFETY: as above; bytes are any bytes.
                    _ => Arc::new(unsafe { byte_array::<LargeBinaryType>(offsets, bytes, nulls) }),
                }
            }
            Values::Views(views, bytes) => {
                fits_in_32_bits(bytes.len(), &self.path)?;
                let (views, bytes) = (std::mem::take(views), std::mem::take(bytes));
                match data_type {
                    // SAFETY: see `view_array`; a text column's values are UTF-8.
                    DataType::Utf8View => Arc::new(unsafe { view_array::<StringViewType>(views, bytes, nulls) }),
                    // SAFETY: as above; bytes are any bytes.
                    _ => Arc::new(unsafe { view_array::<BinaryViewType>(views, bytes, nulls) }),
                }
            }
            Values::Struct(fields, columns, _) => {
                let arrays = columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
                let array = StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows);
                Arc::new(array.map_err(|source| refused(&self.path, source))?)
            }
            Values::List(element, offsets, child) => {
                fits_in_32_bits(child.len(), &self.path)?;
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let array = ListArray::try_new(Arc::clone(element), offsets, child.finish()?, nulls);
                Arc::new(array.map_err(|source| refused(&self.path, source))?)
            }
        })
    }
}

impl Values {
    #[inline]
    fn append(&mut self, token: Token<'_>, timestamps: TimestampFormat) -> Result<(), Unfit> {
        match self {
            Values::Int32(values) => values.push(integer(token)?),
            Values::Int64(values) => values.push(integer(token)?),
            Values::Float64(values) => values.push(number(token)?.float64().map_err(explain)?),
            Values::Timestamp(values, unit, reader) => values.push(timestamp(token, *unit, reader, timestamps)?),
            Values::Decimal128(values, precision, scale) => {
                values.push(number(token)?.decimal128(*precision, *scale).map_err(explain)?);
            }
            Values::Bytes(offsets, bytes) => {
                bytes.extend_from_slice(text(&token));
                offsets.push(bytes.len() as i32); // `finish` checks that the last one fits, and they only grow.
            }
            Values::LargeBytes(offsets, bytes) => {
                bytes.extend_from_slice(text(&token));
                offsets.push(bytes.len() as i64);
            }
            Values::Views(views, bytes) => views.push(view(text(&token), bytes)),
            Values::Boolean(values) => match token {
                Token::Boolean(value) => values.append(value),
                Token::Text(b"true") => values.append(true),
                Token::Text(b"false") => values.append(false),
                _ => return Err(None),
            },
            Values::Int8(values) => values.push(integer(token)?),
            Values::Int16(values) => values.push(integer(token)?),
            Values::UInt8(values) => values.push(integer(token)?),
            Values::UInt16(values) => values.push(integer(token)?),
            Values::UInt32(values) => values.push(integer(token)?),
            Values::UInt64(values) => values.push(integer(token)?),
            Values::Float32(values) => values.push(number(token)?.float32().map_err(explain)?),
            Values::Decimal256(values, precision, scale) => {
                values.push(number(token)?.decimal256(*precision, *scale).map_err(explain)?);
            }
            Values::Date32(values) => values.push(match token {
                Token::Text(text) => iso8601::date(text).and_then(|days| i32::try_from(days).ok()).ok_or(None)?,
                _ => integer(token)?,
            }),
            Values::Time32(values, unit) => {
                values.push(i32::try_from(time_of_day(token, *unit)?).map_err(|_| OUT_OF_RANGE)?);
            }
            Values::Time64(values, unit) => values.push(time_of_day(token, *unit)?),
            Values::Struct(..) | Values::List(..) => return Err(None),
        }
        Ok(())
    }

    /// What stands in the place of a null.
    fn append_default(&mut self) {
        match self {
            Values::Boolean(values) => values.append(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::UInt8(values) => values.push(0),
            Values::UInt16(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::UInt64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal128(values, ..) => values.push(0),
            Values::Decimal256(values, ..) => values.push(i256::ZERO),
            Values::Date32(values) | Values::Time32(values, _) => values.push(0),
            Values::Time64(values, _) | Values::Timestamp(values, ..) => values.push(0),
            Values::Bytes(offsets, bytes) => offsets.push(bytes.len() as i32),
            Values::LargeBytes(offsets, bytes) => offsets.push(bytes.len() as i64),
            Values::Views(views, _) => views.push(0),
            Values::Struct(_, columns, _) => columns.iter_mut().for_each(Column::append_null),
            Values::List(_, offsets, child) => offsets.push(child.len() as i32),
        }
    }
}

const OUT_OF_RANGE: Unfit = Some("it is out of range");

fn explain(misfit: Misfit) -> Unfit {
    match misfit {
        Misfit::Fraction => Some("it has too many digits behind the point"),
        Misfit::Range => OUT_OF_RANGE,
    }
}

/// A number, or a text that is one: people send decimals as text to keep them from becoming floats.
#[inline]
fn number(token: Token<'_>) -> Result<Number<'_>, Unfit> {
    match token {
        Token::Number(number) => Ok(number),
        Token::Text(text) => Number::whole(text).ok_or(None),
        _ => Err(None),
    }
}

#[inline]
fn integer<T: TryFrom<i128>>(token: Token<'_>) -> Result<T, Unfit> {
    let value = number(token)?.integer().map_err(explain)?;
    T::try_from(value).map_err(|_| OUT_OF_RANGE)
}

#[inline]
fn text<'a>(token: &Token<'a>) -> &'a [u8] {
    match token {
        Token::Text(text) | Token::Nested(text) => text,
        Token::Number(number) => number.text,
        Token::Boolean(true) => b"true",
        Token::Boolean(false) => b"false",
    }
}

#[inline]
fn timestamp(
    token: Token<'_>,
    unit: TimeUnit,
    reader: &mut TimestampReader,
    format: TimestampFormat,
) -> Result<i64, Unfit> {
    let units = iso8601::per_second(unit);
    if let Token::Text(text) = token
        && matches!(format, TimestampFormat::Detect | TimestampFormat::Iso8601)
    {
        let (seconds, nanos) = reader.read(text).ok_or(None)?;
        let fraction = i64::from(nanos) / (1_000_000_000 / units);
        // The first in-range moment may lie in a second whose beginning is out of range.
        let value = i128::from(seconds) * i128::from(units) + i128::from(fraction);
        return i64::try_from(value).map_err(|_| OUT_OF_RANGE);
    }
    let value: i64 = integer(token)?;
    let given = match (format, value.unsigned_abs()) {
        (TimestampFormat::Iso8601, _) => return Err(Some("timestamp_format = 'iso8601' takes text")),
        (TimestampFormat::Epoch(unit), _) => unit,
        (TimestampFormat::Detect, 0..100_000_000_000) => TimeUnit::Second,
        (TimestampFormat::Detect, 0..100_000_000_000_000) => TimeUnit::Millisecond,
        (TimestampFormat::Detect, 0..100_000_000_000_000_000) => TimeUnit::Microsecond,
        (TimestampFormat::Detect, _) => TimeUnit::Nanosecond,
    };
    let given = iso8601::per_second(given);
    if given >= units {
        return Ok(value.div_euclid(given / units));
    }
    value.checked_mul(units / given).ok_or(OUT_OF_RANGE)
}

/// A time of day as text, or as a number in the column's own unit.
fn time_of_day(token: Token<'_>, unit: TimeUnit) -> Result<i64, Unfit> {
    let units = iso8601::per_second(unit);
    match token {
        Token::Text(text) => iso8601::time_of_day(text).map(|nanos| nanos / (1_000_000_000 / units)).ok_or(None),
        _ => match integer(token)? {
            value if (0..86_400 * units).contains(&value) => Ok(value),
            _ => Err(OUT_OF_RANGE),
        },
    }
}

/// The view of `text`, as Arrow's columnar format lays it out; a long text goes to the end of `bytes`.
#[inline]
fn view(text: &[u8], bytes: &mut Vec<u8>) -> u128 {
    let length = text.len();
    if length <= 12 {
        let mut view = [0u8; 16];
        view[0] = length as u8;
        view[4..4 + length].copy_from_slice(text);
        return u128::from_le_bytes(view);
    }
    let offset = bytes.len();
    bytes.extend_from_slice(text);
    let prefix = u32::from_le_bytes([text[0], text[1], text[2], text[3]]);
    // `finish` checks that all offsets fit.
    (length as u128) | (u128::from(prefix) << 32) | ((offset as u128) << 96)
}

/// # Safety
/// For a text type, each value lies on UTF-8 boundaries of UTF-8 `bytes`. The offsets begin with 0, never fall, and end
/// with the length of `bytes`, as [`Values::append`] and [`Column::truncate`] keep them.
unsafe fn byte_array<T: ByteArrayType>(
    offsets: Vec<T::Offset>,
    bytes: Vec<u8>,
    nulls: Option<arrow::buffer::NullBuffer>,
) -> GenericByteArray<T> {
    // SAFETY: the offsets are as the caller promises.
    let offsets = unsafe { OffsetBuffer::new_unchecked(ScalarBuffer::from(offsets)) };
    // SAFETY: as the caller promises; `nulls` has one bit a value, as every append adds one to both.
    unsafe { GenericByteArray::new_unchecked(offsets, Buffer::from_vec(bytes), nulls) }
}

/// # Safety
/// The views are those that [`view`] made for values in `bytes` (0 is an empty text); for a text type the values are
/// UTF-8.
unsafe fn view_array<T: ByteViewType + ?Sized>(
    views: Vec<u128>,
    bytes: Vec<u8>,
    nulls: Option<arrow::buffer::NullBuffer>,
) -> GenericByteViewArray<T> {
    // SAFETY: long views point into the one buffer, whose number is 0; `nulls` has one bit a view.
    unsafe { GenericByteViewArray::new_unchecked(ScalarBuffer::from(views), vec![Buffer::from_vec(bytes)], nulls) }
}

fn fits_in_32_bits(length: usize, path: &str) -> Result<(), FormatError> {
    if i32::try_from(length).is_ok() {
        return Ok(());
    }
    let source = ArrowError::OffsetOverflowError(length);
    Err(FormatError::Arrow {
        context: format!("column {path}: a batch has too many bytes; read fewer at once"),
        source,
    })
}

fn refused(path: &str, source: ArrowError) -> FormatError {
    FormatError::Arrow { context: format!("column {path}"), source }
}

/// Whether a column of this type can be under construction; with the part of it that cannot be, if not.
pub(crate) fn unsupported(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Struct(fields) => fields.iter().find_map(|field| unsupported(field.data_type())),
        DataType::List(element) => unsupported(element.data_type()),
        _ => match Column::new(&Field::new("", data_type.clone(), true), "", TimestampFormat::Detect) {
            Some(_) => None,
            None => Some(data_type),
        },
    }
}
