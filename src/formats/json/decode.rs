//! JSON objects into columns.
//!
//! Each record is read once, from left to right. Values of columns that are wanted go straight into the vectors that
//! become Arrow buffers; all else is stepped over, but its brackets, quotes, commas, numbers and escapes are checked,
//! so that a broken record is never taken for a good one. `docs/decoders.md` has the measurements.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::cursor::{Cursor, Outcome};
use super::database::{self, Texts};
use super::keys::Keys;
use crate::formats::column::{Column, Token, Values};
use crate::formats::options::JsonDecodeOptions;
use crate::formats::trouble::{Trouble, type_name};
use crate::formats::{BadReason, BadRecord, Decoded, Decoder, FormatError, RawRecords};

/// The largest record that is read.
pub(crate) const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// Decodes one JSON object a record.
///
/// - Keys are case-sensitive; keys that no column has are skipped; of a key that comes twice the last value counts.
/// - A missing key and `null` are null, and an error in a `NOT NULL` column.
/// - Integers may be written `12.0` or `1.2e1`; integers, floats and decimals also as strings. Decimals never pass
///   through a float. A number that its column cannot hold without loss is an error (floats are rounded).
/// - Timestamps: see [`TimestampFormat`](crate::formats::options::TimestampFormat). Dates are `2026-11-24` or days since 1970, times `10:00:00.123` or units
///   since midnight. Digits of a fraction that the column's unit cannot hold are cut off.
/// - Text columns also take numbers and truth values, as they are written, and objects and arrays, as JSON text.
pub(crate) struct JsonDecoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    keys: Keys,
    scratch: Vec<u8>,
    /// Set for the rows of a database.
    texts: Option<Texts>,
}

impl JsonDecoder {
    /// # Errors
    /// When a column's type has no place in JSON.
    pub(crate) fn new(schema: SchemaRef, options: &JsonDecodeOptions) -> Result<JsonDecoder, FormatError> {
        let columns = schema.fields().iter().map(|field| {
            Column::new(field, "", options.timestamps).ok_or_else(|| FormatError::UnsupportedType {
                format: "json",
                column: field.name().clone(),
                data_type: type_name(field.data_type()),
                hint: ": declare it TEXT and convert it in the query".into(),
            })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let keys = Keys::new(schema.fields().iter().map(|field| field.name().as_str()));
        let texts = options.database_rows.then(Texts::default);
        Ok(JsonDecoder { schema, columns, keys, scratch: vec![], texts })
    }

    /// Reads one record into row `row`; what it leaves behind when it fails is the caller's to take back.
    #[inline]
    fn record(&mut self, cursor: &mut Cursor, row: usize) -> Outcome {
        cursor.skip_space();
        if cursor.peek() != b'{' {
            return Err(no_object(cursor));
        }
        let (columns, keys, scratch) = (&mut self.columns, &mut self.keys, &mut self.scratch);
        match &mut self.texts {
            None => object(columns, keys, row, cursor, scratch)?,
            Some(texts) => object_with(columns, keys, row, cursor, scratch, |column, cursor, scratch| {
                database::value(column, cursor, scratch, texts)
            })?,
        }
        cursor.skip_space();
        if !cursor.at_end() {
            return Err(cursor.expected("nothing behind the object"));
        }
        Ok(())
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, records: &RawRecords) -> Result<Decoded, FormatError> {
        self.columns.iter_mut().for_each(|column| column.begin(records.len()));
        let (mut rows, mut bad) = (0, vec![]);
        for (row, &span) in records.spans.iter().enumerate() {
            let outcome = if span.range().len() > MAX_RECORD_BYTES {
                Err(too_large(span.range().len()))
            } else {
                self.record(&mut Cursor::new(&records.bytes, span), rows)
            };
            match outcome {
                Ok(()) => rows += 1,
                Err(trouble) => {
                    self.columns.iter_mut().for_each(|column| column.truncate(rows));
                    bad.push(BadRecord { row, reason: trouble.reason, message: trouble.message });
                }
            }
        }
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options);
        let batch = batch.map_err(|source| FormatError::Arrow { context: "decoding JSON".into(), source })?;
        Ok(Decoded { batch, bad })
    }
}

/// What is wrong with a record that is too large.
pub(crate) fn too_large(bytes: usize) -> Box<Trouble> {
    let message = format!("the record has {bytes} bytes; at most {MAX_RECORD_BYTES} are read");
    Trouble::new(BadReason::TooLarge, message)
}

#[cold]
fn no_object(cursor: &mut Cursor) -> Box<Trouble> {
    if cursor.at_end() {
        return Trouble::new(BadReason::Malformed, "the record is empty, not a JSON object".into());
    }
    let start = cursor.at;
    if cursor.literal(b"null").is_ok() {
        cursor.skip_space();
        if cursor.at_end() {
            return Trouble::new(BadReason::Malformed, "the record is null, not a JSON object".into());
        }
        cursor.at = start;
    }
    cursor.expected("a JSON object")
}

/// Reads an object into value `row` of each column; the next byte is its opening bracket.
#[inline]
fn object(columns: &mut [Column], keys: &mut Keys, row: usize, cursor: &mut Cursor, scratch: &mut Vec<u8>) -> Outcome {
    object_with(columns, keys, row, cursor, scratch, value)
}

/// As [`object`], with `read` to read the values of columns.
#[inline]
fn object_with(
    columns: &mut [Column],
    keys: &mut Keys,
    row: usize,
    cursor: &mut Cursor,
    scratch: &mut Vec<u8>,
    mut read: impl FnMut(&mut Column, &mut Cursor, &mut Vec<u8>) -> Outcome,
) -> Outcome {
    let (mut filled, mut place) = (0, 0);
    let mut more = !cursor.open(b'}')?;
    while more {
        match keys.step(place, cursor, scratch)? {
            None => cursor.skip_value()?,
            Some(column) => {
                let column = &mut columns[column as usize];
                if column.len() > row {
                    column.truncate(row);
                } else {
                    filled += 1;
                }
                read(column, cursor, scratch)?;
            }
        }
        place += 1;
        more = cursor.another(b'}')?;
    }
    if filled < columns.len() {
        for column in columns.iter_mut().filter(|column| column.len() == row) {
            if !column.nullable {
                return Err(column.missing("the record has no such key"));
            }
            column.append_null();
        }
    }
    Ok(())
}

/// Reads a value into a column.
#[inline]
pub(super) fn value(column: &mut Column, cursor: &mut Cursor, scratch: &mut Vec<u8>) -> Outcome {
    let start = cursor.at;
    let token = match cursor.peek() {
        b'"' => {
            let text = cursor.string()?;
            Token::Text(cursor.text(text, scratch)?)
        }
        b'-' | b'0'..=b'9' => Token::Number(cursor.number()?),
        b'{' | b'[' => return nested(column, cursor, scratch),
        b't' => {
            cursor.literal(b"true")?;
            Token::Boolean(true)
        }
        b'f' => {
            cursor.literal(b"false")?;
            Token::Boolean(false)
        }
        b'n' => {
            cursor.literal(b"null")?;
            if !column.nullable {
                return Err(column.missing(&format!("its value is null (byte {})", cursor.byte(start))));
            }
            column.append_null();
            return Ok(());
        }
        _ => return Err(cursor.no_value()),
    };
    match column.append(token) {
        Ok(()) => Ok(()),
        Err(unfit) => Err(column.wrong_type(cursor.slice(start, cursor.at), unfit, cursor.byte(start))),
    }
}

/// Reads an object or array into a column.
#[inline(never)]
fn nested(column: &mut Column, cursor: &mut Cursor, scratch: &mut Vec<u8>) -> Outcome {
    let start = cursor.at;
    match (&mut column.values, cursor.peek()) {
        (Values::Struct(_, columns, keys), b'{') => {
            object(columns, keys, column.nulls.len(), cursor, scratch)?;
            column.nulls.append_non_null();
            return Ok(());
        }
        (Values::List(_, offsets, child), b'[') => {
            let mut more = !cursor.open(b']')?;
            while more {
                value(child, cursor, scratch)?;
                more = cursor.another(b']')?;
            }
            offsets.push(child.len() as i32); // `Column::finish` checks that the last one fits, and they only grow.
            column.nulls.append_non_null();
            return Ok(());
        }
        _ => cursor.skip_value()?,
    }
    let raw = cursor.slice(start, cursor.at);
    if let Err(error) = std::str::from_utf8(raw) {
        return Err(cursor.malformed(start + error.valid_up_to(), "a string that is not UTF-8"));
    }
    column.append(Token::Nested(raw)).map_err(|unfit| column.wrong_type(raw, unfit, cursor.byte(start)))
}
