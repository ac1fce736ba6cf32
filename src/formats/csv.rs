//! Comma-separated values, one record a line (RFC 4180 with a choice of delimiter, quote and null).

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::cells::Cells;
use super::column::{self, Column, Token};
use super::json::{MAX_RECORD_BYTES, too_large};
use super::options::CsvOptions;
use super::trouble::{Trouble, type_name};
use super::{BadReason, BadRecord, Decoded, Decoder, EncodedRows, Encoder, FormatError, RawRecords};

/// Whether a column of this type has a place in a line.
pub(crate) fn holds(data_type: &DataType) -> bool {
    !data_type.is_nested() && !matches!(data_type, DataType::Dictionary(..)) && column::unsupported(data_type).is_none()
}

/// Decodes one line a record. Fields belong to the table's columns by their place.
///
/// A field is text up to the delimiter, or text between quotes in which a quote is written twice. An unquoted field
/// that is the null text is null; for columns that are not text so is an empty one. Values are read as from JSON
/// strings; numbers and timestamps are as there, and integers are taken as epochs where `timestamp_format` says so. Truth
/// values are those of PostgreSQL.
pub(crate) struct CsvDecoder {
    options: CsvOptions,
    schema: SchemaRef,
    columns: Vec<Column>,
    /// For each field of a line, its column here, if it is wanted.
    wanted: Vec<Option<usize>>,
    scratch: Vec<u8>,
}

impl CsvDecoder {
    /// # Errors
    /// When a column's type has no place in a line.
    pub(crate) fn new(options: &CsvOptions, schema: SchemaRef) -> Result<CsvDecoder, FormatError> {
        check(&schema)?;
        let fields = schema.fields().iter();
        let columns = fields.filter_map(|field| Column::new(field, "", options.timestamps)).collect();
        let wanted = options.columns.iter().map(|name| schema.index_of(name).ok()).collect();
        Ok(CsvDecoder { options: options.clone(), schema, columns, wanted, scratch: vec![] })
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Box<Trouble>> {
        // A line of Windows ends with a carriage return.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_RECORD_BYTES {
            return Err(too_large(line.len()));
        }
        let (mut at, mut fields) = (0, 0);
        loop {
            let (start, quoted) = (at, line.get(at) == Some(&self.options.quote));
            let value = if quoted {
                at = unquote(line, at, self.options.quote, &mut self.scratch)?;
                self.scratch.as_slice()
            } else {
                let length = memchr::memchr(self.options.delimiter, &line[at..]).unwrap_or(line.len() - at);
                at += length;
                &line[start..at]
            };
            if let Some(Some(column)) = self.wanted.get(fields) {
                let null = !quoted && value == self.options.null.as_bytes();
                append(&mut self.columns[*column], value, quoted, null, start)?;
            }
            fields += 1;
            match line.get(at) {
                None => break,
                Some(byte) if *byte == self.options.delimiter => at += 1,
                Some(_) => {
                    let message = format!("not well-formed CSV: text behind a closing quote (byte {at})");
                    return Err(Trouble::new(BadReason::Malformed, message));
                }
            }
        }
        if fields != self.wanted.len() {
            let message = format!("the line has {fields} fields, and the table has {} columns", self.wanted.len());
            return Err(Trouble::new(BadReason::Malformed, message));
        }
        Ok(())
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, records: &RawRecords) -> Result<Decoded, FormatError> {
        let (mut rows, mut bad) = (0, vec![]);
        self.columns.iter_mut().for_each(|column| column.begin(records.len()));
        for row in 0..records.len() {
            match self.line(records.value(row)) {
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
        let batch = batch.map_err(|source| FormatError::Arrow { context: "decoding CSV".into(), source })?;
        Ok(Decoded { batch, bad })
    }
}

/// Reads a quoted field that begins at `at` into `scratch`; gives the place behind its closing quote.
fn unquote(line: &[u8], at: usize, quote: u8, scratch: &mut Vec<u8>) -> Result<usize, Box<Trouble>> {
    scratch.clear();
    let mut from = at + 1;
    while let Some(length) = memchr::memchr(quote, &line[from..]) {
        scratch.extend_from_slice(&line[from..from + length]);
        from += length + 1;
        if line.get(from) != Some(&quote) {
            return Ok(from);
        }
        scratch.push(quote);
        from += 1;
    }
    let message = format!("not well-formed CSV: the line ends inside quotes (opened at byte {at})");
    Err(Trouble::new(BadReason::Malformed, message))
}

fn append(column: &mut Column, value: &[u8], quoted: bool, null: bool, byte: usize) -> Result<(), Box<Trouble>> {
    if null || (value.is_empty() && !quoted && !column.is_text()) {
        if !column.nullable {
            return Err(column.missing(&format!("its field is null (byte {byte})")));
        }
        column.append_null();
        return Ok(());
    }
    if let Err(error) = std::str::from_utf8(value) {
        let message = format!("column {}: not UTF-8 (byte {})", column.path, byte + error.valid_up_to());
        return Err(Trouble::new(BadReason::Malformed, message));
    }
    // An epoch in a line is a number although nothing but its digits says so.
    let token = match super::number::Number::whole(value) {
        Some(number) if !quoted && column.is_temporal() => Token::Number(number),
        _ => Token::Text(value),
    };
    let token = match token {
        Token::Text(text) if column.is_boolean() => {
            Token::Boolean(truth_value(text).ok_or_else(|| column.wrong_type(value, Some(TRUTH_VALUES), byte))?)
        }
        token => token,
    };
    column.append(token).map_err(|unfit| column.wrong_type(value, unfit, byte))
}

const TRUTH_VALUES: &str = "it takes true, t, yes, y, on or 1, and false, f, no, n, off or 0";

/// What a truth value is written as, in letters of any case: what PostgreSQL takes, since its `COPY` writes t and f and
/// other programs write True or 1.
fn truth_value(text: &[u8]) -> Option<bool> {
    let is = |word: &&str| text.eq_ignore_ascii_case(word.as_bytes());
    if ["true", "t", "yes", "y", "on", "1"].iter().any(is) {
        return Some(true);
    }
    ["false", "f", "no", "n", "off", "0"].iter().any(is).then_some(false)
}

/// Encodes one line a row, without the line's end. Text is quoted where it must be: when it holds the delimiter, a quote
/// or a line's end, or could be taken for a null.
pub(crate) struct CsvEncoder {
    options: CsvOptions,
}

impl CsvEncoder {
    /// # Errors
    /// When a column's type has no place in a line.
    pub(crate) fn new(options: &CsvOptions, schema: &Schema) -> Result<CsvEncoder, FormatError> {
        check(schema)?;
        Ok(CsvEncoder { options: options.clone() })
    }

    fn write(&self, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) {
        let CsvOptions { delimiter, quote, ref null, .. } = self.options;
        if cells.is_null(row) {
            out.extend_from_slice(null.as_bytes());
            return;
        }
        let start = out.len();
        cells.write(row, out);
        let value = &out[start..];
        let special = |byte: &u8| *byte == delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
        if !value.iter().any(special) && !value.is_empty() && value != null.as_bytes() {
            return;
        }
        let value = out.split_off(start);
        out.push(quote);
        for byte in value {
            if byte == quote {
                out.push(quote);
            }
            out.push(byte);
        }
        out.push(quote);
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut EncodedRows) -> Result<(), FormatError> {
        check(batch.schema_ref())?;
        let columns: Vec<Cells<'_>> = batch.columns().iter().filter_map(Cells::of).collect();
        out.all_or_nothing(|out| {
            for row in 0..batch.num_rows() {
                let start = out.bytes.len();
                for (at, cells) in columns.iter().enumerate() {
                    if at > 0 {
                        out.bytes.push(self.options.delimiter);
                    }
                    self.write(cells, row, &mut out.bytes);
                }
                out.push_span(start)?;
            }
            Ok(())
        })
    }
}

fn check(schema: &Schema) -> Result<(), FormatError> {
    match schema.fields().iter().find(|field| !holds(field.data_type())) {
        None => Ok(()),
        Some(field) => Err(FormatError::UnsupportedType {
            format: "csv",
            column: field.name().clone(),
            data_type: type_name(field.data_type()),
            hint: ": use format = 'json' for nested columns, or convert it to TEXT in the query".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Decimal128Type, Field, Int32Type, TimeUnit, TimestampMillisecondType};

    use super::*;
    use crate::formats::SplitIndex;
    use crate::formats::options::TimestampFormat;

    fn options(null: &str) -> CsvOptions {
        let columns = ["id", "name", "amount", "at"].map(String::from).to_vec();
        CsvOptions { columns, delimiter: b',', quote: b'"', null: null.into(), timestamps: TimestampFormat::Detect }
    }

    fn fields() -> Vec<Field> {
        vec![
            Field::new("id", DataType::Int32, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("amount", DataType::Decimal128(12, 2), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ]
    }

    fn decode(schema: SchemaRef, lines: &[&str]) -> Result<Decoded, FormatError> {
        let mut records = RawRecords::default();
        for (line, offset) in lines.iter().zip(1..) {
            records.push(SplitIndex(0), offset, line.as_bytes());
        }
        CsvDecoder::new(&options(""), schema)?.decode(&records)
    }

    #[test]
    fn lines_become_rows_and_bad_ones_spoil_no_other() -> Result<(), FormatError> {
        let lines = [
            "1,\"a, \"\"b\"\"\",1.50,2026-11-24T10:00:00Z",
            "x,b,1,",
            "2,\"\",,1700000000\r",
            "3,c",
            "4,\"c",
            "5,\"c\"d,1,",
            ",c,1,",
            "6,,1.505,",
        ];
        let decoded = decode(Arc::new(Schema::new(fields())), &lines)?;
        assert_eq!(decoded.batch.column(0).as_primitive::<Int32Type>().values(), &[1, 2]);
        let names: Vec<_> = decoded.batch.column(1).as_string::<i32>().iter().collect();
        assert_eq!(names, [Some("a, \"b\""), Some("")]);
        let amounts: Vec<_> = decoded.batch.column(2).as_primitive::<Decimal128Type>().iter().collect();
        assert_eq!(amounts, [Some(150), None]);
        let at = decoded.batch.column(3).as_primitive::<TimestampMillisecondType>();
        assert_eq!(at.value(1), 1_700_000_000_000);
        let messages: Vec<_> = decoded.bad.iter().map(|bad| bad.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "column id: x is not an int (byte 0)",
                "the line has 2 fields, and the table has 4 columns",
                "not well-formed CSV: the line ends inside quotes (opened at byte 2)",
                "not well-formed CSV: text behind a closing quote (byte 5)",
                "column id is NOT NULL, but its field is null (byte 0)",
                "column amount: 1.505 is not a decimal(12,2): it has too many digits behind the point (byte 3)",
            ]
        );
        Ok(())
    }

    #[test]
    fn truth_values_are_those_of_postgresql() -> Result<(), FormatError> {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Boolean, true)]));
        let lines =
            ["true", "True", "TRUE", "t", "1", "yes", "\"on\"", "false", "False", "f", "F", "0", "n", "off", ""];
        let lines: Vec<String> =
            lines.iter().chain(&["2", "wahr", "\"\""]).map(|value| format!("{value},,,")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let decoded = decode(schema, &lines)?;
        let values: Vec<_> = decoded.batch.column(0).as_boolean().iter().collect();
        assert_eq!(values, [[Some(true); 7].as_slice(), &[Some(false); 7], &[None]].concat());
        let takes = "it takes true, t, yes, y, on or 1, and false, f, no, n, off or 0";
        let messages: Vec<_> = decoded.bad.iter().map(|bad| bad.message.clone()).collect();
        let refused = |value: &str| format!("column id: {value} is not a boolean: {takes} (byte 0)");
        assert_eq!(messages, [refused("2"), refused("wahr"), refused("")]);
        Ok(())
    }

    #[test]
    fn only_wanted_columns_are_read() -> Result<(), FormatError> {
        let decoded = decode(Arc::new(Schema::new(vec![fields().remove(2)])), &["x,y,7,z"])?;
        assert_eq!(decoded.batch.column(0).as_primitive::<Decimal128Type>().values(), &[700]);
        assert_eq!(decoded.bad, []);
        Ok(())
    }

    #[test]
    fn rows_come_back_as_they_were_written() -> Result<(), FormatError> {
        let lines = ["1,\"a,b\",-0.05,2026-11-24T10:00:00.120Z", "2,NULL,,", "3,\"\",1.00,1969-12-31T23:59:59Z"];
        let decoded = decode(Arc::new(Schema::new(fields())), &lines)?;
        for null in ["", "NULL"] {
            let mut out = EncodedRows::default();
            CsvEncoder::new(&options(null), &Schema::new(fields()))?.encode(&decoded.batch, &mut out)?;
            let mut records = RawRecords::default();
            out.iter().for_each(|line| records.push(SplitIndex(0), 0, line));
            let again = CsvDecoder::new(&options(null), Arc::new(Schema::new(fields())))?.decode(&records)?;
            assert_eq!(again.batch, decoded.batch, "null is {null:?}");
        }
        Ok(())
    }

    #[test]
    fn nested_columns_are_refused() {
        let schema = Schema::new(vec![Field::new("tags", DataType::new_list(DataType::Utf8, true), true)]);
        let message = CsvEncoder::new(&options(""), &schema).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            message,
            "format 'csv' cannot hold column tags of type array: use format = 'json' for nested columns, or convert it \
             to TEXT in the query"
        );
    }
}
