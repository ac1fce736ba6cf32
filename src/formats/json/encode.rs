//! Rows to JSON objects.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{ArrowNativeType, DataType, Fields, Schema};
use arrow::error::ArrowError;

use crate::formats::cells::{self, Cells};
use crate::formats::options::JsonNulls;
use crate::formats::trouble::type_name;
use crate::formats::{EncodedRows, Encoder, FormatError};

/// Writes one JSON object a row, its keys in the order of the columns.
///
/// - Decimals are JSON numbers with all their digits; NaN and the infinities are null.
/// - Timestamps are ISO 8601 in UTC, `2026-11-24T10:00:00.123Z`, with 0, 3, 6 or 9 digits of the second: the fewest that
///   lose nothing. A timestamp without a zone is UTC. Dates are `2026-11-24`, times `10:00:00`.
/// - Structs are objects, a `window` thus `{"start":…,"end":…}`; lists are arrays.
/// - Bytes are written as text and must be UTF-8.
pub(crate) struct JsonEncoder {
    /// `"name":` of each column.
    keys: Vec<Vec<u8>>,
    names: Vec<String>,
    nulls: JsonNulls,
}

impl JsonEncoder {
    /// # Errors
    /// When a column's type has no place in JSON.
    pub(crate) fn new(schema: &Schema, nulls: JsonNulls) -> Result<JsonEncoder, FormatError> {
        if let Some(field) = schema.fields().iter().find(|field| !holds(field.data_type())) {
            return Err(unsupported(field.name(), field.data_type()));
        }
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(JsonEncoder { keys: keys(schema.fields()), names, nulls })
    }

    fn rows(&self, batch: &RecordBatch, out: &mut EncodedRows) -> Result<(), FormatError> {
        let arrays = batch.columns().iter().map(cells::without_dictionary).collect::<Result<Vec<_>, _>>()?;
        let columns = arrays
            .iter()
            .zip(&self.names)
            .map(|(array, name)| Writer::new(array, self.nulls).ok_or_else(|| unsupported(name, array.data_type())));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let start = out.bytes.len();
            let column = write_object(&self.keys, &columns, self.nulls, row, &mut out.bytes);
            column.map_err(|column| not_utf8(&self.names[column], row))?;
            out.push_span(start)?;
        }
        Ok(())
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut EncodedRows) -> Result<(), FormatError> {
        out.all_or_nothing(|out| self.rows(batch, out))
    }
}

/// Whether a column of this type can be written.
pub(crate) fn holds(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => cells::holds(values),
        DataType::Struct(fields) => {
            fields.iter().all(|field| !is_dictionary(field.data_type()) && holds(field.data_type()))
        }
        DataType::List(element) | DataType::LargeList(element) => {
            !is_dictionary(element.data_type()) && holds(element.data_type())
        }
        _ => cells::holds(data_type),
    }
}

fn is_dictionary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(..))
}

fn unsupported(column: &str, data_type: &DataType) -> FormatError {
    FormatError::UnsupportedType {
        format: "json",
        column: column.into(),
        data_type: type_name(data_type),
        hint: ": convert it to TEXT in the query".into(),
    }
}

fn not_utf8(column: &str, row: usize) -> FormatError {
    let source =
        ArrowError::InvalidArgumentError("JSON holds text only; encode(column, 'base64') makes text of it".into());
    FormatError::Arrow { context: format!("column {column}: the bytes in row {row} are not UTF-8"), source }
}

/// `"name":` of each field.
fn keys(fields: &Fields) -> Vec<Vec<u8>> {
    let key = |name: &String| {
        let mut key = vec![];
        write_string(name.as_bytes(), &mut key);
        key.push(b':');
        key
    };
    fields.iter().map(|field| key(field.name())).collect()
}

/// What writes the values of one column.
enum Writer<'a> {
    Scalar(Cells<'a>),
    Struct(Option<&'a NullBuffer>, Vec<Vec<u8>>, Vec<Writer<'a>>, JsonNulls),
    List(Option<&'a NullBuffer>, Offsets<'a>, Box<Writer<'a>>),
}

enum Offsets<'a> {
    Small(&'a [i32]),
    Large(&'a [i64]),
}

/// A value is not UTF-8.
struct NotUtf8;

impl<'a> Writer<'a> {
    fn new(array: &'a ArrayRef, nulls: JsonNulls) -> Option<Writer<'a>> {
        match array.data_type() {
            DataType::Struct(fields) => {
                let columns: Option<_> = array.as_struct().columns().iter().map(|c| Writer::new(c, nulls)).collect();
                Some(Writer::Struct(array.nulls(), keys(fields), columns?, nulls))
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let child = Box::new(Writer::new(list.values(), nulls)?);
                Some(Writer::List(array.nulls(), Offsets::Small(list.value_offsets()), child))
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                let child = Box::new(Writer::new(list.values(), nulls)?);
                Some(Writer::List(array.nulls(), Offsets::Large(list.value_offsets()), child))
            }
            _ => Cells::of(array).map(Writer::Scalar),
        }
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        match self {
            Writer::Scalar(cells) => cells.is_null(row),
            Writer::Struct(nulls, ..) | Writer::List(nulls, ..) => nulls.is_some_and(|nulls| nulls.is_null(row)),
        }
    }

    /// Appends a value that is not null.
    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), NotUtf8> {
        match self {
            Writer::Scalar(cells) => write_scalar(cells, row, out),
            Writer::Struct(_, keys, columns, nulls) => {
                write_object(keys, columns, *nulls, row, out).map_err(|_| NotUtf8)
            }
            Writer::List(_, offsets, child) => {
                let range = match offsets {
                    Offsets::Small(offsets) => offsets[row].as_usize()..offsets[row + 1].as_usize(),
                    Offsets::Large(offsets) => offsets[row].as_usize()..offsets[row + 1].as_usize(),
                };
                out.push(b'[');
                for element in range.clone() {
                    if element > range.start {
                        out.push(b',');
                    }
                    child.write_or_null(element, out)?;
                }
                out.push(b']');
                Ok(())
            }
        }
    }

    #[inline]
    fn write_or_null(&self, row: usize, out: &mut Vec<u8>) -> Result<(), NotUtf8> {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        self.write(row, out)
    }
}

/// Appends an object; fails with the column whose bytes are not UTF-8.
fn write_object(
    keys: &[Vec<u8>],
    columns: &[Writer<'_>],
    nulls: JsonNulls,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), usize> {
    out.push(b'{');
    let mut first = true;
    for (at, (key, column)) in keys.iter().zip(columns).enumerate() {
        if nulls == JsonNulls::Omit && column.is_null(row) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(key);
        column.write_or_null(row, out).map_err(|NotUtf8| at)?;
    }
    out.push(b'}');
    Ok(())
}

#[inline]
fn write_scalar(cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), NotUtf8> {
    if let Some(text) = cells.text(row) {
        if cells.is_bytes() && std::str::from_utf8(text).is_err() {
            return Err(NotUtf8);
        }
        write_string(text, out);
    } else if cells.is_quoted() {
        out.push(b'"');
        cells.write(row, out);
        out.push(b'"');
    } else {
        cells.write(row, out);
    }
    Ok(())
}

/// Appends a text in quotes.
#[inline]
fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    out.push(b'"');
    // No early way out, so that the compiler makes vector instructions of it.
    if !text.iter().fold(false, |any, &byte| any | special(byte)) {
        out.extend_from_slice(text);
    } else {
        for &byte in text {
            if special(byte) { write_escape(byte, out) } else { out.push(byte) }
        }
    }
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x8 => b'b',
        0xc => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}
