//! The values of a batch's columns, one row at a time, as text: what every encoder begins with.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, GenericByteArray, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    BinaryType, DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, LargeBinaryType, LargeUtf8Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, Utf8Type, i256,
};

use super::FormatError;
use super::iso8601;

/// The values of one column that is not nested.
pub(crate) struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    UInt8(&'a [u8]),
    UInt16(&'a [u16]),
    UInt32(&'a [u32]),
    UInt64(&'a [u64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal128(&'a [i128], i8),
    Decimal256(&'a [i256], i8),
    Date32(&'a [i32]),
    Time32(&'a [i32], TimeUnit),
    Time64(&'a [i64], TimeUnit),
    Timestamp(&'a [i64], TimeUnit),
    Utf8(&'a GenericByteArray<Utf8Type>),
    LargeUtf8(&'a GenericByteArray<LargeUtf8Type>),
    Utf8View(&'a StringViewArray),
    Binary(&'a GenericByteArray<BinaryType>),
    LargeBinary(&'a GenericByteArray<LargeBinaryType>),
    BinaryView(&'a BinaryViewArray),
}

impl<'a> Cells<'a> {
    /// The values of `array`, or `None` if it is nested or of a type that has no text here.
    pub(crate) fn of(array: &'a ArrayRef) -> Option<Cells<'a>> {
        macro_rules! primitive {
            ($type:ty) => {
                array.as_primitive::<$type>().values()
            };
        }
        let values = match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(array.as_boolean()),
            DataType::Int8 => Values::Int8(primitive!(Int8Type)),
            DataType::Int16 => Values::Int16(primitive!(Int16Type)),
            DataType::Int32 => Values::Int32(primitive!(Int32Type)),
            DataType::Int64 => Values::Int64(primitive!(Int64Type)),
            DataType::UInt8 => Values::UInt8(primitive!(UInt8Type)),
            DataType::UInt16 => Values::UInt16(primitive!(UInt16Type)),
            DataType::UInt32 => Values::UInt32(primitive!(UInt32Type)),
            DataType::UInt64 => Values::UInt64(primitive!(UInt64Type)),
            DataType::Float32 => Values::Float32(primitive!(Float32Type)),
            DataType::Float64 => Values::Float64(primitive!(Float64Type)),
            DataType::Decimal128(_, scale) => Values::Decimal128(primitive!(Decimal128Type), *scale),
            DataType::Decimal256(_, scale) => Values::Decimal256(primitive!(Decimal256Type), *scale),
            DataType::Date32 => Values::Date32(primitive!(Date32Type)),
            DataType::Time32(TimeUnit::Second) => Values::Time32(primitive!(Time32SecondType), TimeUnit::Second),
            DataType::Time32(unit) => Values::Time32(primitive!(Time32MillisecondType), *unit),
            DataType::Time64(TimeUnit::Microsecond) => {
                Values::Time64(primitive!(Time64MicrosecondType), TimeUnit::Microsecond)
            }
            DataType::Time64(unit) => Values::Time64(primitive!(Time64NanosecondType), *unit),
            DataType::Timestamp(unit, _) => Values::Timestamp(
                match unit {
                    TimeUnit::Second => primitive!(TimestampSecondType),
                    TimeUnit::Millisecond => primitive!(TimestampMillisecondType),
                    TimeUnit::Microsecond => primitive!(TimestampMicrosecondType),
                    TimeUnit::Nanosecond => primitive!(TimestampNanosecondType),
                },
                *unit,
            ),
            DataType::Utf8 => Values::Utf8(array.as_string()),
            DataType::LargeUtf8 => Values::LargeUtf8(array.as_string()),
            DataType::Utf8View => Values::Utf8View(array.as_string_view()),
            DataType::Binary => Values::Binary(array.as_binary()),
            DataType::LargeBinary => Values::LargeBinary(array.as_binary()),
            DataType::BinaryView => Values::BinaryView(array.as_binary_view()),
            _ => return None,
        };
        Some(Cells { nulls: array.nulls(), values })
    }

    /// Whether there is no value, or none that text can hold: NaN and the infinities count as null.
    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return true;
        }
        match self.values {
            Values::Null => true,
            Values::Float32(values) => !values[row].is_finite(),
            Values::Float64(values) => !values[row].is_finite(),
            _ => false,
        }
    }

    /// The value if it is text or bytes.
    #[inline]
    pub(crate) fn text(&self, row: usize) -> Option<&'a [u8]> {
        Some(match self.values {
            Values::Utf8(array) => array.value(row).as_bytes(),
            Values::LargeUtf8(array) => array.value(row).as_bytes(),
            Values::Utf8View(array) => array.value(row).as_bytes(),
            Values::Binary(array) => array.value(row),
            Values::LargeBinary(array) => array.value(row),
            Values::BinaryView(array) => array.value(row),
            _ => return None,
        })
    }

    /// Whether [`Cells::text`] may give bytes that are not UTF-8.
    pub(crate) fn is_bytes(&self) -> bool {
        matches!(self.values, Values::Binary(_) | Values::LargeBinary(_) | Values::BinaryView(_))
    }

    /// Whether JSON has no literal for the value, so that it stands in quotes.
    #[inline]
    pub(crate) fn is_quoted(&self) -> bool {
        matches!(self.values, Values::Date32(_) | Values::Time32(..) | Values::Time64(..) | Values::Timestamp(..))
    }

    /// Appends a value that is not null, without quotes. Decimals lose nothing; floats are the shortest text that reads
    /// back as the same; timestamps are ISO 8601 in UTC.
    #[inline]
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self.values {
            Values::Null => {}
            Values::Boolean(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
            Values::Int8(values) => write_integer(values[row].into(), out),
            Values::Int16(values) => write_integer(values[row].into(), out),
            Values::Int32(values) => write_integer(values[row].into(), out),
            Values::Int64(values) => write_integer(values[row], out),
            Values::UInt8(values) => write_integer(values[row].into(), out),
            Values::UInt16(values) => write_integer(values[row].into(), out),
            Values::UInt32(values) => write_integer(values[row].into(), out),
            Values::UInt64(values) => out.extend_from_slice(Digits::of(values[row]).as_slice()),
            Values::Float32(values) => write_float(format_args!("{:?}", values[row]), out),
            Values::Float64(values) => write_float(format_args!("{:?}", values[row]), out),
            Values::Decimal128(values, scale) => {
                let value = values[row];
                match u64::try_from(value.unsigned_abs()) {
                    Ok(digits) => write_decimal(value < 0, Digits::of(digits).as_slice(), scale, out),
                    Err(_) => write_decimal(value < 0, value.unsigned_abs().to_string().as_bytes(), scale, out),
                }
            }
            Values::Decimal256(values, scale) => {
                let text = values[row].to_string();
                let digits = text.strip_prefix('-').unwrap_or(&text);
                write_decimal(text.starts_with('-'), digits.as_bytes(), scale, out);
            }
            Values::Date32(values) => iso8601::write_date(values[row].into(), out),
            Values::Time32(values, unit) => iso8601::write_time_of_day(values[row].into(), unit, out),
            Values::Time64(values, unit) => iso8601::write_time_of_day(values[row], unit, out),
            Values::Timestamp(values, unit) => iso8601::write_timestamp(values[row], unit, out),
            _ => out.extend_from_slice(self.text(row).unwrap_or_default()),
        }
    }
}

/// Whether [`Cells::of`] takes arrays of this type.
pub(crate) fn holds(data_type: &DataType) -> bool {
    Cells::of(&arrow::array::new_empty_array(data_type)).is_some()
}

/// The column with dictionaries resolved; others as they are.
///
/// # Errors
/// When Arrow cannot resolve the dictionary.
pub(crate) fn without_dictionary(array: &ArrayRef) -> Result<ArrayRef, FormatError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => arrow::compute::cast(array, values)
            .map_err(|source| FormatError::Arrow { context: "resolving a dictionary".into(), source }),
        _ => Ok(Arc::clone(array)),
    }
}

/// The decimal digits of a number, on the stack.
struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    #[inline]
    fn of(mut value: u64) -> Digits {
        let mut digits = Digits { bytes: [b'0'; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.bytes[digits.start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return digits;
            }
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[inline]
fn write_integer(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(Digits::of(value.unsigned_abs()).as_slice());
}

fn write_float(value: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    let _ = out.write_fmt(value);
}

fn write_decimal(negative: bool, digits: &[u8], scale: i8, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.resize(out.len() + places, b'0');
        }
        return;
    }
    let whole = digits.len().saturating_sub(places);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits[..whole] });
    out.push(b'.');
    out.resize(out.len() + places.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(&digits[whole..]);
}
