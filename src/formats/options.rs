//! The options that describe a format (`format = 'json'` and those beside it), and the decoder or encoder they ask for.
//!
//! | option | formats | values |
//! |---|---|---|
//! | `format` | | `json` (default), `raw_string`, `raw_bytes`, `csv` |
//! | `timestamp_format` | json, csv | `detect` (default), `iso8601`, `epoch_seconds`, `epoch_millis`, `epoch_micros`, `epoch_nanos` |
//! | `json.nulls` | json, written | `include` (default), `omit` |
//! | `csv.delimiter` | csv | one ASCII character, or `\t`; `,` by default |
//! | `csv.quote` | csv | one ASCII character; `"` by default |
//! | `csv.null` | csv | the text of a null; empty by default |
//!
//! A table that is read and written takes its options twice, once for each direction.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use super::csv::{CsvDecoder, CsvEncoder};
use super::json::{JsonDecoder, JsonEncoder};
use super::raw::{RawDecoder, RawEncoder};
use super::trouble::type_name;
use super::{Decoder, Encoder, FormatError, column, csv, json, raw};
use crate::catalog::options::{OptionValue, Options};
use crate::catalog::{ColumnKind, TableDefinition};
use crate::sql::Location;

/// How records are read.
#[derive(Clone, PartialEq, Debug)]
pub enum DecodeOptions {
    /// One JSON object a record.
    Json(JsonDecodeOptions),
    /// The record is the value of one text column.
    RawString,
    /// The record is the value of one column of bytes.
    RawBytes,
    /// One line of comma-separated values a record.
    Csv(CsvOptions),
}

/// How rows are written.
#[derive(Clone, PartialEq, Debug)]
pub enum EncodeOptions {
    /// One JSON object a row.
    Json(JsonEncodeOptions),
    /// The value of one text column.
    RawString,
    /// The value of one column of bytes.
    RawBytes,
    /// One line of comma-separated values a row, without the line's end.
    Csv(CsvOptions),
}

/// How JSON is read.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct JsonDecodeOptions {
    /// `timestamp_format`.
    pub timestamps: TimestampFormat,
    /// Set for the rows of a database, whose values JSON does not hold all of: bytes are text, hexadecimal behind `\x`;
    /// NaN and the infinities are text; a struct or list may stand as JSON in a text.
    pub database_rows: bool,
}

/// How JSON is written.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct JsonEncodeOptions {
    /// `json.nulls`.
    pub nulls: JsonNulls,
}

/// `json.nulls`: what a null becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum JsonNulls {
    /// `'include'`: a key with `null`.
    #[default]
    Include,
    /// `'omit'`: nothing, not even its key. In an array it is `null` all the same.
    Omit,
}

/// `timestamp_format`: how a timestamp stands in a record.
///
/// ISO 8601 is a date, `T` or a space, and a time, with `Z`, an offset or (meaning UTC) neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampFormat {
    /// `'detect'`: text is ISO 8601; an integer counts from 1970 and its size tells the unit: below 10¹¹ seconds (until
    /// the year 5138), below 10¹⁴ milliseconds (from 1973 on), below 10¹⁷ microseconds, else nanoseconds.
    #[default]
    Detect,
    /// `'iso8601'`: text only.
    Iso8601,
    /// `'epoch_seconds'` and so on: an integer, also in quotes, that counts these from 1970.
    Epoch(TimeUnit),
}

/// How comma-separated values are read and written.
#[derive(Clone, PartialEq, Debug)]
pub struct CsvOptions {
    /// The table's physical columns: what a line holds, in order.
    pub columns: Vec<String>,
    /// `csv.delimiter`.
    pub delimiter: u8,
    /// `csv.quote`.
    pub quote: u8,
    /// `csv.null`: the unquoted text that is a null.
    pub null: String,
    /// `timestamp_format`, for reading.
    pub timestamps: TimestampFormat,
}

/// The value of `format`.
#[derive(Clone, Copy)]
enum Format {
    Json,
    RawString,
    RawBytes,
    Csv,
}

impl Default for DecodeOptions {
    /// JSON.
    fn default() -> DecodeOptions {
        DecodeOptions::Json(JsonDecodeOptions::default())
    }
}

impl Default for EncodeOptions {
    /// JSON.
    fn default() -> EncodeOptions {
        EncodeOptions::Json(JsonEncodeOptions::default())
    }
}

impl DecodeOptions {
    /// The rows of a database, as JSON objects.
    pub fn database_rows() -> DecodeOptions {
        DecodeOptions::Json(JsonDecodeOptions { database_rows: true, ..JsonDecodeOptions::default() })
    }

    /// Takes the format's options of a table that is read. Without `format`, records are JSON. Notes the columns that
    /// the format cannot hold.
    pub fn take(table: &TableDefinition, options: &mut Options) -> DecodeOptions {
        let decode = match take_format(options) {
            Format::Json => {
                let timestamps = take_timestamps(options);
                DecodeOptions::Json(JsonDecodeOptions { timestamps, ..JsonDecodeOptions::default() })
            }
            Format::RawString => DecodeOptions::RawString,
            Format::RawBytes => DecodeOptions::RawBytes,
            Format::Csv => {
                let timestamps = take_timestamps(options);
                DecodeOptions::Csv(take_csv(table, timestamps, options))
            }
        };
        check_columns(table, options, decode.name(), |data_type| match decode {
            DecodeOptions::Json(_) => column::unsupported(data_type).is_none(),
            DecodeOptions::RawString => raw::is_text(data_type),
            DecodeOptions::RawBytes => raw::is_bytes(data_type),
            DecodeOptions::Csv(_) => csv::holds(data_type),
        });
        decode
    }

    /// The format's name in SQL.
    pub fn name(&self) -> &'static str {
        match self {
            DecodeOptions::Json(_) => "json",
            DecodeOptions::RawString => "raw_string",
            DecodeOptions::RawBytes => "raw_bytes",
            DecodeOptions::Csv(_) => "csv",
        }
    }

    /// A decoder for the columns of `schema`, a subset of the table's physical columns in its order.
    ///
    /// # Errors
    /// When a column's type has no place in the format.
    pub fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>, FormatError> {
        Ok(match self {
            DecodeOptions::Json(options) => Box::new(JsonDecoder::new(schema, options)?),
            DecodeOptions::RawString | DecodeOptions::RawBytes => Box::new(RawDecoder::new(self.name(), schema)?),
            DecodeOptions::Csv(options) => Box::new(CsvDecoder::new(options, schema)?),
        })
    }
}

impl EncodeOptions {
    /// Those of `format` as it is by default, for rows of any schema.
    pub fn of(format: &'static str) -> EncodeOptions {
        let table = TableDefinition {
            name: format.into(),
            location: Location::default(),
            columns: vec![],
            primary_key: vec![],
            watermark: None,
        };
        let options = vec![OptionValue::new("format", format)];
        EncodeOptions::take(&table, &mut Options::new(Location::default(), options))
    }

    /// Takes the format's options of a table that is written. Without `format`, rows are JSON. Notes the columns that
    /// the format cannot hold.
    pub fn take(table: &TableDefinition, options: &mut Options) -> EncodeOptions {
        let encode = match take_format(options) {
            Format::Json => {
                let nulls = [("include", JsonNulls::Include), ("omit", JsonNulls::Omit)];
                let nulls = options.choice(&["json.nulls"], &nulls).unwrap_or_default();
                EncodeOptions::Json(JsonEncodeOptions { nulls })
            }
            Format::RawString => EncodeOptions::RawString,
            Format::RawBytes => EncodeOptions::RawBytes,
            Format::Csv => EncodeOptions::Csv(take_csv(table, TimestampFormat::default(), options)),
        };
        check_columns(table, options, encode.name(), |data_type| match encode {
            EncodeOptions::Json(_) => json::holds(data_type),
            EncodeOptions::RawString => raw::is_text(data_type),
            EncodeOptions::RawBytes => raw::is_bytes(data_type),
            EncodeOptions::Csv(_) => csv::holds(data_type),
        });
        encode
    }

    /// The format's name in SQL.
    pub fn name(&self) -> &'static str {
        match self {
            EncodeOptions::Json(_) => "json",
            EncodeOptions::RawString => "raw_string",
            EncodeOptions::RawBytes => "raw_bytes",
            EncodeOptions::Csv(_) => "csv",
        }
    }

    /// An encoder for batches of `schema`.
    ///
    /// # Errors
    /// When a column's type has no place in the format.
    pub fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>, FormatError> {
        Ok(match self {
            EncodeOptions::Json(options) => Box::new(JsonEncoder::new(&schema, options.nulls)?),
            EncodeOptions::RawString | EncodeOptions::RawBytes => Box::new(RawEncoder::new(self.name(), &schema)?),
            EncodeOptions::Csv(options) => Box::new(CsvEncoder::new(options, &schema)?),
        })
    }
}

fn take_format(options: &mut Options) -> Format {
    let formats = [
        ("json", Format::Json),
        ("raw_string", Format::RawString),
        ("raw_bytes", Format::RawBytes),
        ("csv", Format::Csv),
    ];
    options.choice(&["format"], &formats).unwrap_or(Format::Json)
}

fn take_timestamps(options: &mut Options) -> TimestampFormat {
    let formats = [
        ("detect", TimestampFormat::Detect),
        ("iso8601", TimestampFormat::Iso8601),
        ("epoch_seconds", TimestampFormat::Epoch(TimeUnit::Second)),
        ("epoch_millis", TimestampFormat::Epoch(TimeUnit::Millisecond)),
        ("epoch_micros", TimestampFormat::Epoch(TimeUnit::Microsecond)),
        ("epoch_nanos", TimestampFormat::Epoch(TimeUnit::Nanosecond)),
    ];
    options.choice(&["timestamp_format"], &formats).unwrap_or_default()
}

fn take_csv(table: &TableDefinition, timestamps: TimestampFormat, options: &mut Options) -> CsvOptions {
    let columns = table.physical_schema().fields().iter().map(|field| field.name().clone()).collect();
    let delimiter = take_character(options, "csv.delimiter").unwrap_or(b',');
    let quote = take_character(options, "csv.quote").unwrap_or(b'"');
    if delimiter == quote {
        let message = "'csv.delimiter' and 'csv.quote' are the same character".into();
        options.error(options.table(), message, Some("leave 'csv.quote' out: it is '\"' then".into()));
    }
    CsvOptions { columns, delimiter, quote, null: options.string(&["csv.null"]).unwrap_or_default(), timestamps }
}

fn take_character(options: &mut Options, name: &'static str) -> Option<u8> {
    let option = options.take(&[name])?;
    match option.text.as_bytes() {
        b"\\t" => Some(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Some(*byte),
        _ => {
            let message = format!("option '{name}' does not take '{}'", option.text);
            options.error(option.location, message, Some("it takes one ASCII character, or '\\t' for a tab".into()));
            None
        }
    }
}

/// Notes each physical column that the format cannot hold; for a raw format, also that there must be exactly one.
fn check_columns(
    table: &TableDefinition,
    options: &mut Options,
    format: &'static str,
    holds: impl Fn(&DataType) -> bool,
) {
    let physical = || table.columns.iter().filter(|column| column.kind == ColumnKind::Physical);
    for column in physical().filter(|column| !holds(&column.data_type)) {
        let data_type = type_name(&column.data_type);
        let message = format!("format '{format}' cannot hold column {} of type {data_type}", column.name);
        let help = match format {
            "raw_string" => "it takes one column of type TEXT",
            "raw_bytes" => "it takes one column of type BYTEA",
            "csv" => "it takes numbers, text, booleans, dates and timestamps; use format = 'json' for nested ones",
            _ => "declare it TEXT and convert it in the query",
        };
        options.error(column.location, message, Some(help.into()));
    }
    let count = physical().count();
    if matches!(format, "raw_string" | "raw_bytes") && count != 1 {
        let message = format!("format '{format}' takes exactly one column, and the table has {count}");
        let help = "leave one; what surrounds a record comes in METADATA columns".into();
        options.error(table.location, message, Some(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ColumnDefinition;
    use crate::catalog::options::{OptionError, OptionValue};
    use crate::sql::Location;

    fn table(columns: &[(&str, DataType)]) -> TableDefinition {
        let columns = columns.iter().zip(1..).map(|((name, data_type), start)| ColumnDefinition {
            name: (*name).into(),
            data_type: data_type.clone(),
            nullable: true,
            kind: ColumnKind::Physical,
            location: Location { file: 0, start, end: start + 1 },
        });
        TableDefinition {
            name: "t".into(),
            location: Location::default(),
            columns: columns.collect(),
            primary_key: vec![],
            watermark: None,
        }
    }

    fn take(columns: &[(&str, DataType)], pairs: &[(&str, &str)]) -> (DecodeOptions, EncodeOptions, Vec<OptionError>) {
        let values = pairs.iter().map(|(key, text)| OptionValue::new(*key, *text));
        let mut options = Options::new(Location::default(), values.collect());
        let table = table(columns);
        let decode = DecodeOptions::take(&table, &mut options);
        let encode = EncodeOptions::take(&table, &mut options);
        (decode, encode, options.finish("kafka"))
    }

    #[test]
    fn json_is_the_default() {
        let (decode, encode, errors) = take(&[("a", DataType::Int32)], &[]);
        assert_eq!((decode, encode, errors), (DecodeOptions::default(), EncodeOptions::default(), vec![]));
    }

    #[test]
    fn both_directions_see_the_same_options() {
        let options = [("format", "csv"), ("csv.delimiter", "\\t"), ("csv.null", "NULL")];
        let (decode, encode, errors) = take(&[("a", DataType::Int32)], &options);
        assert_eq!(errors, vec![]);
        let (DecodeOptions::Csv(decode), EncodeOptions::Csv(encode)) = (decode, encode) else { panic!("both are csv") };
        assert_eq!(decode, encode);
        assert_eq!((decode.delimiter, decode.null.as_str(), decode.columns), (b'\t', "NULL", vec!["a".to_string()]));
    }

    #[test]
    fn a_wrong_format_is_said_once_and_the_closest_named() {
        let (_, _, errors) = take(&[("a", DataType::Int32)], &[("format", "jsno")]);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].message, "option 'format' does not take 'jsno'");
        assert!(errors[0].help.as_deref().unwrap_or_default().starts_with("did you mean 'json'?"));
        let (_, _, errors) = take(&[("a", DataType::Int32)], &[("timestamp_format", "epoch_milis")]);
        assert!(errors[0].help.as_deref().unwrap_or_default().starts_with("did you mean 'epoch_millis'?"));
        let (_, _, errors) = take(&[("a", DataType::Int32)], &[("format", "csv"), ("csv.quote", "''")]);
        assert_eq!(errors[0].help.as_deref(), Some("it takes one ASCII character, or '\\t' for a tab"));
    }

    #[test]
    fn a_column_that_the_format_cannot_hold_is_named_with_its_place() {
        let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        let (_, _, errors) = take(&[("a", DataType::Int32), ("b", interval)], &[]);
        assert_eq!(errors[0].location.start, 2);
        assert!(errors[0].message.starts_with("format 'json' cannot hold column b of type "), "{}", errors[0].message);
        let list = DataType::new_list(DataType::Int32, true);
        let (_, _, errors) = take(&[("items", list)], &[("format", "csv")]);
        assert_eq!(errors[0].message, "format 'csv' cannot hold column items of type array");
        let (_, _, errors) = take(&[("a", DataType::Utf8), ("b", DataType::Utf8)], &[("format", "raw_string")]);
        assert_eq!(errors[0].message, "format 'raw_string' takes exactly one column, and the table has 2");
        let (_, _, errors) = take(&[("a", DataType::Utf8)], &[("format", "raw_bytes")]);
        assert_eq!(errors[0].message, "format 'raw_bytes' cannot hold column a of type text");
    }
}
