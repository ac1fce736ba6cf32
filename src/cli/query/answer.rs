//! The rows of an answer, as a person or a program reads them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use clap::ValueEnum;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use thiserror::Error;

use crate::formats::{EncodeOptions, EncodedRows, Encoder, FormatError};

/// How the rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum AnswerFormat {
    /// For a person: aligned columns
    Table,
    /// A line of names, then a line a row
    Csv,
    /// A JSON object a row, each on a line of its own
    Json,
    /// A Parquet file
    Parquet,
}

/// What the ending of a file's name says about it. A table for a person has no ending: whoever writes a file without
/// saying so wants to read it again.
const ENDINGS: [(&str, AnswerFormat); 5] = [
    ("csv", AnswerFormat::Csv),
    ("json", AnswerFormat::Json),
    ("jsonl", AnswerFormat::Json),
    ("ndjson", AnswerFormat::Json),
    ("parquet", AnswerFormat::Parquet),
];

impl AnswerFormat {
    /// What a file's name says about it.
    pub fn of(path: &Path) -> Option<AnswerFormat> {
        let ending = path.extension()?.to_str()?;
        ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, format)| *format)
    }

    /// The endings that say it, for a message.
    pub fn known_endings() -> String {
        let endings: Vec<String> = ENDINGS.iter().map(|(ending, _)| format!(".{ending}")).collect();
        format!("{} or {}", endings[..endings.len() - 1].join(", "), endings[endings.len() - 1])
    }
}

/// Why rows were not written.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// Whoever reads stdout has seen enough.
    #[error("stdout was closed")]
    Closed,
    /// The file or stdout takes no more.
    #[error("{place} cannot be written: {source}")]
    Output {
        /// Where the rows go.
        place: String,
        /// The system's own words.
        source: io::Error,
    },
    /// The format cannot hold the rows.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Arrow or Parquet refuses.
    #[error("the rows cannot be written: {0}")]
    Rows(String),
}

/// Where the rows of answers go, one after another.
pub struct Destination {
    place: Place,
    format: AnswerFormat,
    /// A table for a person has at most so many rows; in a file it has all.
    most: usize,
}

enum Place {
    Stdout,
    /// Written under a hidden name, so that it is there as a whole or not at all.
    File {
        path: PathBuf,
        hidden: PathBuf,
        file: File,
    },
}

impl Destination {
    /// Stdout.
    pub fn stdout(format: AnswerFormat, most: usize) -> Destination {
        Destination { place: Place::Stdout, format, most }
    }

    /// A file, which appears at [`Destination::finish`].
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn file(path: PathBuf, format: AnswerFormat) -> Result<Destination, AnswerError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let hidden = path.with_file_name(format!(".{name}.tmp-{}", std::process::id()));
        let file = File::create(&hidden);
        let file = file.map_err(|source| AnswerError::Output { place: path.display().to_string(), source })?;
        Ok(Destination { place: Place::File { path, hidden, file }, format, most: usize::MAX })
    }

    /// Whether it has no room for a second answer behind the first.
    pub fn takes_one_answer(&self) -> bool {
        self.format == AnswerFormat::Parquet
    }

    /// Begins an answer with these columns.
    ///
    /// # Errors
    /// When the format cannot hold them.
    pub fn begin(&self, schema: &SchemaRef) -> Result<Answer, AnswerError> {
        let place = self.describe();
        let output: Box<dyn Write + Send> = match &self.place {
            Place::Stdout => Box::new(io::stdout()),
            Place::File { file, .. } => {
                Box::new(file.try_clone().map_err(|source| AnswerError::Output { place: place.clone(), source })?)
            }
        };
        let mut output = Output { place, writer: BufWriter::with_capacity(1 << 18, output) };
        let layout = match self.format {
            AnswerFormat::Table => Layout::Table { batches: vec![], rows: 0, more: false, most: self.most },
            AnswerFormat::Csv | AnswerFormat::Json => {
                let (encoder, texts) = encoder(self.format, schema)?;
                if self.format == AnswerFormat::Csv {
                    output.write(header(schema).as_bytes())?;
                }
                Layout::Lines { encoder, texts, encoded: EncodedRows::default() }
            }
            AnswerFormat::Parquet => {
                let texts = schema.fields().iter().map(|field| !in_parquet(field.data_type())).collect::<Vec<_>>();
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let writer = ArrowWriter::try_new(output, as_texts_schema(schema, &texts), Some(properties));
                let writer = Box::new(writer.map_err(|error| AnswerError::Rows(error.to_string()))?);
                return Ok(Answer(Layout::Parquet { writer, texts }, None));
            }
        };
        Ok(Answer(layout, Some(output)))
    }

    /// The file is there from now on.
    ///
    /// # Errors
    /// When it cannot be put there.
    pub fn finish(mut self) -> Result<(), AnswerError> {
        let finished = match &self.place {
            Place::Stdout => Ok(()),
            Place::File { path, hidden, file } => file.sync_all().and_then(|()| std::fs::rename(hidden, path)),
        };
        let place = self.describe();
        if finished.is_ok() {
            self.place = Place::Stdout;
        }
        finished.map_err(|source| AnswerError::Output { place, source })
    }

    fn describe(&self) -> String {
        match &self.place {
            Place::Stdout => "stdout".into(),
            Place::File { path, .. } => path.display().to_string(),
        }
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Place::File { hidden, .. } = &self.place {
            let _ = std::fs::remove_file(hidden);
        }
    }
}

/// One answer on its way out.
pub struct Answer(Layout, Option<Output>);

enum Layout {
    Table { batches: Vec<RecordBatch>, rows: usize, more: bool, most: usize },
    Lines { encoder: Box<dyn Encoder>, texts: Vec<bool>, encoded: EncodedRows },
    Parquet { writer: Box<ArrowWriter<Output>>, texts: Vec<bool> },
}

impl Answer {
    /// Writes rows; gives whether more are wanted.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<bool, AnswerError> {
        match (&mut self.0, &mut self.1) {
            (Layout::Table { batches, rows, more, most }, _) => {
                let room = (*most - *rows).min(batch.num_rows());
                *rows += room;
                *more |= room < batch.num_rows();
                batches.push(batch.slice(0, room));
                Ok(!*more)
            }
            (Layout::Lines { encoder, texts, encoded }, Some(output)) => {
                encoded.bytes.clear();
                encoded.spans.clear();
                encoder.encode(&as_texts(batch, texts)?, encoded)?;
                for row in encoded.iter() {
                    output.write(row)?;
                    output.write(b"\n")?;
                }
                output.flushed()?;
                Ok(true)
            }
            (Layout::Lines { .. }, None) => Ok(false),
            (Layout::Parquet { writer, texts }, _) => {
                writer.write(&as_texts(batch, texts)?).map_err(|error| rows_error(&error))?;
                Ok(true)
            }
        }
    }

    /// Writes what is left. `schema` is what it began with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(self, schema: &SchemaRef) -> Result<(), AnswerError> {
        match (self.0, self.1) {
            (Layout::Table { batches, rows, more, .. }, Some(mut output)) => {
                output.write(table(schema, &batches)?.as_bytes())?;
                let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
                let counted = match more {
                    true => {
                        format!("(first {rows}, there are more: --max-rows shows more, --format csv or json all)\n")
                    }
                    false => format!("({rows})\n"),
                };
                output.write(counted.as_bytes())?;
                output.flushed()
            }
            (Layout::Lines { .. }, Some(mut output)) => output.flushed(),
            (Layout::Parquet { writer, .. }, _) => writer.close().map(|_| ()).map_err(|error| rows_error(&error)),
            (_, None) => Ok(()),
        }
    }
}

fn rows_error(error: &parquet::errors::ParquetError) -> AnswerError {
    AnswerError::Rows(error.to_string())
}

/// Bytes on their way out.
struct Output {
    place: String,
    writer: BufWriter<Box<dyn Write + Send>>,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> Result<(), AnswerError> {
        self.writer.write_all(bytes).map_err(|error| self.error(error))
    }

    fn flushed(&mut self) -> Result<(), AnswerError> {
        self.writer.flush().map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> AnswerError {
        match source.kind() {
            io::ErrorKind::BrokenPipe => AnswerError::Closed,
            _ => AnswerError::Output { place: self.place.clone(), source },
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Aligned columns. NULL is written out: an empty text is something else.
fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String, AnswerError> {
    let empty = RecordBatch::new_empty(Arc::clone(schema));
    let batches = if batches.is_empty() { std::slice::from_ref(&empty) } else { batches };
    let table = pretty_format_batches_with_options(batches, &shown_options());
    Ok(format!("{}\n", table.map_err(|error| AnswerError::Rows(error.to_string()))?))
}

fn shown_options() -> FormatOptions<'static> {
    FormatOptions::new()
        .with_display_error(true)
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"))
}

/// The encoder, and for each column whether it must be made a text before.
fn encoder(format: AnswerFormat, schema: &SchemaRef) -> Result<(Box<dyn Encoder>, Vec<bool>), AnswerError> {
    let name = if format == AnswerFormat::Csv { "csv" } else { "json" };
    let mut texts = vec![false; schema.fields().len()];
    loop {
        let schema = as_texts_schema(schema, &texts);
        match EncodeOptions::of(name).encoder(Arc::clone(&schema)) {
            Ok(encoder) => return Ok((encoder, texts)),
            Err(FormatError::UnsupportedType { column, .. })
                if schema.fields().iter().zip(&texts).any(|(field, text)| *field.name() == column && !text) =>
            {
                for (field, text) in schema.fields().iter().zip(&mut texts) {
                    *text |= *field.name() == column;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The line of names.
fn header(schema: &Schema) -> String {
    let quoted = |name: &String| match name.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.clone(),
    };
    let names: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
    format!("{}\n", names.join(","))
}

fn as_texts_schema(schema: &SchemaRef, texts: &[bool]) -> SchemaRef {
    let field = |(field, text): (&Arc<Field>, &bool)| match text {
        true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        false => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().zip(texts).map(field).collect::<Vec<_>>()))
}

/// The rows with the columns that a format has no place for as texts.
fn as_texts(batch: &RecordBatch, texts: &[bool]) -> Result<RecordBatch, AnswerError> {
    if !texts.contains(&true) {
        return Ok(batch.clone());
    }
    let wrong = |error: arrow::error::ArrowError| AnswerError::Rows(error.to_string());
    let mut columns: Vec<ArrayRef> = vec![];
    for (column, text) in batch.columns().iter().zip(texts) {
        if !text {
            columns.push(Arc::clone(column));
            continue;
        }
        let options = shown_options();
        let shown = ArrayFormatter::try_new(column.as_ref(), &options).map_err(wrong)?;
        // A column of NULLs without a type has no list of its nulls.
        let nulls = column.logical_nulls();
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let value = |row: usize| (!is_null(row)).then(|| shown.value(row).to_string());
        columns.push(Arc::new((0..column.len()).map(value).collect::<StringArray>()));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = as_texts_schema(batch.schema_ref(), texts);
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(wrong)
}

fn in_parquet(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Duration(_) | DataType::Interval(_) | DataType::Union(..) | DataType::Null)
}

#[cfg(test)]
mod tests {
    use arrow::array::{DurationSecondArray, Int64Array, ListArray, StringViewArray, TimestampMicrosecondArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn batch() -> RecordBatch {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), None]);
        RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef, true),
            ("a, b", Arc::new(StringViewArray::from(vec!["x", ""])) as ArrayRef, true),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000, 0])) as ArrayRef, true),
            ("took", Arc::new(DurationSecondArray::from(vec![90, 5])) as ArrayRef, true),
            ("items", Arc::new(lists) as ArrayRef, true),
        ])
        .unwrap()
    }

    fn written(format: AnswerFormat, most: usize, batches: &[RecordBatch]) -> Vec<u8> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("answer");
        let mut destination = Destination::file(path.clone(), format).unwrap();
        assert_eq!(destination.most, usize::MAX, "a file has all rows");
        // As on the screen, so that it can be read here.
        destination.most = most;
        let schema = batches.first().unwrap_or(&batch()).schema();
        let mut answer = destination.begin(&schema).unwrap();
        for batch in batches {
            if !answer.write(batch).unwrap() {
                break;
            }
        }
        answer.end(&schema).unwrap();
        assert!(!path.exists(), "it is there before it is whole");
        destination.finish().unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
        std::fs::read(path).unwrap()
    }

    fn text(format: AnswerFormat, most: usize, batches: &[RecordBatch]) -> String {
        String::from_utf8(written(format, most, batches)).unwrap()
    }

    #[test]
    fn a_table_tells_null_from_nothing_and_counts_its_rows() {
        let shown = text(AnswerFormat::Table, 10, &[batch()]);
        assert_eq!(
            shown,
            "+------+------+-------------------------+-------+--------+\n\
             | n    | a, b | at                      | took  | items  |\n\
             +------+------+-------------------------+-------+--------+\n\
             | 1    | x    | 1970-01-01 00:00:01.500 | PT90S | [1, 2] |\n\
             | NULL |      | 1970-01-01 00:00:00     | PT5S  | NULL   |\n\
             +------+------+-------------------------+-------+--------+\n\
             (2 rows)\n"
        );
        assert!(text(AnswerFormat::Table, 10, &[]).ends_with("+\n(0 rows)\n"));
    }

    #[test]
    fn a_table_for_a_person_ends_somewhere_and_says_so() {
        let shown = text(AnswerFormat::Table, 3, &[batch(), batch()]);
        assert!(
            shown.ends_with("(first 3 rows, there are more: --max-rows shows more, --format csv or json all)\n"),
            "{shown}"
        );
        assert!(text(AnswerFormat::Table, 4, &[batch(), batch()]).ends_with("(4 rows)\n"));
    }

    #[test]
    fn csv_has_every_row_and_no_type_without_a_place() {
        assert_eq!(
            text(AnswerFormat::Csv, 1, &[batch(), batch().slice(0, 1)]),
            "n,\"a, b\",at,took,items\n\
             1,x,1970-01-01T00:00:01.500Z,PT90S,\"[1, 2]\"\n\
             ,\"\",1970-01-01T00:00:00Z,PT5S,\n\
             1,x,1970-01-01T00:00:01.500Z,PT90S,\"[1, 2]\"\n"
        );
    }

    #[test]
    fn json_is_an_object_a_line() {
        assert_eq!(
            text(AnswerFormat::Json, 1, &[batch()]),
            "{\"n\":1,\"a, b\":\"x\",\"at\":\"1970-01-01T00:00:01.500Z\",\"took\":\"PT90S\",\"items\":[1,2]}\n\
             {\"n\":null,\"a, b\":\"\",\"at\":\"1970-01-01T00:00:00Z\",\"took\":\"PT5S\",\"items\":null}\n"
        );
    }

    #[test]
    fn a_null_without_a_type_is_a_null_as_any() {
        let nulls = Arc::new(arrow::array::NullArray::new(2)) as ArrayRef;
        let numbers = Arc::new(Int64Array::from(vec![None, Some(1)])) as ArrayRef;
        let batch = RecordBatch::try_from_iter_with_nullable([("a", nulls, true), ("b", numbers, true)]).unwrap();
        assert_eq!(text(AnswerFormat::Csv, 1, std::slice::from_ref(&batch)), "a,b\n,\n,1\n");
        assert_eq!(
            text(AnswerFormat::Json, 1, std::slice::from_ref(&batch)),
            "{\"a\":null,\"b\":null}\n{\"a\":null,\"b\":1}\n"
        );
    }

    #[test]
    fn parquet_is_read_back() {
        use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
        let bytes = bytes::Bytes::from(written(AnswerFormat::Parquet, 1, &[batch(), batch()]));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
        assert_eq!(batches[0].schema().field(3).data_type(), &DataType::Utf8);
    }

    #[test]
    fn a_file_that_is_not_finished_is_not_there() {
        let place = tempfile::tempdir().unwrap();
        let destination = Destination::file(place.path().join("x.csv"), AnswerFormat::Csv).unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
        drop(destination);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        let nowhere = Destination::file(place.path().join("no/x.csv"), AnswerFormat::Csv);
        let message = nowhere.err().unwrap().to_string();
        assert!(message.contains("no/x.csv cannot be written: No such file or directory"), "{message}");
    }

    #[test]
    fn the_name_of_a_file_says_its_format() {
        for (name, format) in [
            ("x.csv", Some(AnswerFormat::Csv)),
            ("x.jsonl", Some(AnswerFormat::Json)),
            ("a/x.parquet", Some(AnswerFormat::Parquet)),
            ("X.NDJSON", Some(AnswerFormat::Json)),
            ("x.txt", None),
            ("x.csv.gz", None),
            ("x", None),
        ] {
            assert_eq!(AnswerFormat::of(Path::new(name)), format, "{name}");
        }
    }
}
