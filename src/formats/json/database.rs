//! The values of a database's rows that JSON has no literal for, and so stand in a text: bytes, NaN and the infinities,
//! and documents that the database keeps as text.

use super::cursor::{Cursor, Outcome};
use super::decode;
use crate::formats::column::{Column, Token};
use crate::formats::trouble::Trouble;
use crate::formats::{BadReason, Span};

/// Room for what a text means.
#[derive(Default)]
pub(super) struct Texts {
    meant: Vec<u8>,
}

/// Reads a value into a column of a row; values within structs and lists are plain JSON.
#[inline]
pub(super) fn value(column: &mut Column, cursor: &mut Cursor, scratch: &mut Vec<u8>, texts: &mut Texts) -> Outcome {
    if cursor.peek() != b'"' {
        return decode::value(column, cursor, scratch);
    }
    if column.is_binary() {
        return bytes(column, cursor, scratch, &mut texts.meant);
    }
    if column.is_nested() {
        return document(column, cursor, scratch, &mut texts.meant);
    }
    let float = match cursor.rest() {
        rest if rest.starts_with(b"\"NaN\"") => f64::NAN,
        rest if rest.starts_with(b"\"Infinity\"") => f64::INFINITY,
        rest if rest.starts_with(b"\"-Infinity\"") => f64::NEG_INFINITY,
        _ => return decode::value(column, cursor, scratch),
    };
    if !column.append_float(float) {
        return decode::value(column, cursor, scratch);
    }
    cursor.string().map(drop)
}

/// `\x00ff`, as PostgreSQL writes bytes.
fn bytes(column: &mut Column, cursor: &mut Cursor, scratch: &mut Vec<u8>, meant: &mut Vec<u8>) -> Outcome {
    let start = cursor.at;
    let text = cursor.string()?;
    let text = cursor.text(text, scratch)?;
    meant.clear();
    let digits = text.strip_prefix(b"\\x").filter(|digits| digits.len() % 2 == 0);
    let is_hexadecimal = digits.is_some_and(|digits| {
        digits.chunks_exact(2).all(|pair| match (nibble(pair[0]), nibble(pair[1])) {
            (Some(high), Some(low)) => {
                meant.push(high << 4 | low);
                true
            }
            _ => false,
        })
    });
    let appended = match is_hexadecimal {
        true => column.append(Token::Text(meant)),
        false => Err(Some("it is not hexadecimal behind \\x")),
    };
    appended.map_err(|unfit| column.wrong_type(cursor.slice(start, cursor.at), unfit, cursor.byte(start)))
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// A struct or list whose JSON stands in a text.
fn document(column: &mut Column, cursor: &mut Cursor, scratch: &mut Vec<u8>, meant: &mut Vec<u8>) -> Outcome {
    let text = cursor.string()?;
    meant.clear();
    meant.extend_from_slice(cursor.text(text, scratch)?);
    let Ok(end) = u32::try_from(meant.len()) else { return Err(decode::too_large(meant.len())) };
    let mut inner = Cursor::new(meant, Span { start: 0, end });
    inner.skip_space();
    let read = decode::value(column, &mut inner, scratch).and_then(|()| {
        inner.skip_space();
        if inner.at_end() { Ok(()) } else { Err(inner.expected("nothing behind the value")) }
    });
    read.map_err(|trouble| match trouble.reason {
        BadReason::Malformed => {
            Trouble::new(BadReason::Malformed, format!("column {}: its text is {}", column.path, trouble.message))
        }
        _ => trouble,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema};

    use crate::formats::{DecodeOptions, Decoded, RawRecords, SplitIndex};

    fn decode(columns: Vec<(&str, DataType)>, rows: &[&str]) -> Decoded {
        let fields: Vec<Field> = columns.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        let mut records = RawRecords::default();
        for (offset, row) in rows.iter().enumerate() {
            records.push(SplitIndex(0), offset as i64, row.as_bytes());
        }
        DecodeOptions::database_rows().decoder(Arc::new(Schema::new(fields))).unwrap().decode(&records).unwrap()
    }

    #[test]
    fn bytes_are_hexadecimal() {
        let rows = [r#"{"b": "\\x00fF"}"#, r#"{"b": "\\x"}"#, r#"{"b": null}"#];
        let Decoded { batch, bad } = decode(vec![("b", DataType::Binary)], &rows);
        let column = batch.column(0).as_binary::<i32>();
        assert_eq!((column.value(0), column.value(1), column.is_null(2), bad), (&[0, 255][..], &[][..], true, vec![]));
        let rows = [r#"{"b": "\\x0"}"#, r#"{"b": "\\x0g"}"#, r#"{"b": "ab"}"#];
        let bad = decode(vec![("b", DataType::Binary)], &rows).bad;
        assert_eq!(bad.len(), 3);
        assert_eq!(bad[2].message, "column b: \"ab\" is not a bytea: it is not hexadecimal behind \\x (byte 6)");
    }

    #[test]
    fn floats_without_digits_are_text_and_only_those() {
        let row = r#"{"d": "NaN", "r": "-Infinity", "s": "NaN"}"#;
        let columns = vec![("d", DataType::Float64), ("r", DataType::Float32), ("s", DataType::Utf8)];
        let Decoded { batch, bad } = decode(columns, &[row]);
        assert!(bad.is_empty() && batch.column(0).as_primitive::<Float64Type>().value(0).is_nan());
        assert_eq!(batch.column(1).as_primitive::<Float32Type>().value(0), f32::NEG_INFINITY);
        assert_eq!(batch.column(2).as_string::<i32>().value(0), "NaN");
        let bad = decode(vec![("n", DataType::Int64)], &[r#"{"n": "NaN"}"#]).bad;
        assert_eq!(bad[0].message, "column n: \"NaN\" is not a bigint (byte 6)");
    }

    #[test]
    fn a_document_may_stand_in_a_text() {
        let item = DataType::Struct(vec![Field::new("id", DataType::Int64, true)].into());
        let items = vec![("items", DataType::new_list(item, true))];
        let rows = [
            r#"{"items": " [{\"id\": 1}, {\"id\": 2}] "}"#,
            r#"{"items": [{"id": 3}]}"#,
            r#"{"items": "null"}"#,
            r#"{"items": "[{\"id\": 4}"}"#,
            r#"{"items": "hello"}"#,
            r#"{"items": "7"}"#,
            r#"{"items": "[] []"}"#,
        ];
        let Decoded { batch, bad } = decode(items, &rows);
        let lists = batch.column(0).as_list::<i32>();
        let ids = lists.values().as_struct().column(0).as_primitive::<Int64Type>();
        assert_eq!((ids.values().to_vec(), lists.is_null(2)), (vec![1, 2, 3], true));
        let messages: Vec<&str> = bad.iter().map(|bad| bad.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "column items: its text is not well-formed JSON: the record ends where ',' or ']' should be (byte 10)",
                "column items: its text is not well-formed JSON: expected a value, found 'h' (byte 0)",
                "column items: 7 is not an array (byte 0)",
                "column items: its text is not well-formed JSON: expected nothing behind the value, found '[' (byte 3)",
            ]
        );
    }
}
