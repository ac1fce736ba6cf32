//! Files and folders of files: JSON lines, CSV, plain lines and Parquet, read and written; `-` is stdin and stdout.
//!
//! Each file is a split, named by its path; lines count from 1, rows of a Parquet file from 0. Relative paths start
//! at the working directory. The options stand at [`FileConnector`].

#[cfg(test)]
mod epoch_tests;
#[cfg(test)]
mod follow_tests;
mod line_epochs;
mod line_sink;
mod lines;
mod marker;
mod packed;
#[cfg(test)]
mod packed_tests;
mod parquet_sink;
mod parquet_source;
mod part_epochs;
mod paths;
mod rotation;
#[cfg(test)]
mod rotation_tests;
mod source;
mod split_file;
#[cfg(test)]
mod tests;
mod text_file;
mod trace;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{blocking, io_error, refused, sync_folder_of, waiting};
use super::{Connector, ConnectorError, ConnectorTable, SinkFactory, SourceFactory};
use crate::catalog::TableDefinition;
use crate::catalog::options::{Options, closest};
use crate::connectors::delivery::{Promise, Writer};
use crate::connectors::lines::CsvHeader;
use crate::formats::{DecodeOptions, EncodeOptions};
use crate::time::Epoch;

use parquet_sink::{Compression, Rolling};

/// The connector `file`, also named `filesystem`.
///
/// | option | values | default |
/// |---|---|---|
/// | `path` | a file, a folder, a pattern such as `data/*.jsonl`, or `-` for stdin and stdout; files named `.gz` and `.zst` are read unpacked | must be given |
/// | `format` | `json`, `csv`, `raw_string`, `parquet` | by the path's extension (before `.gz`), else `json` |
/// | `csv.header` | `true`, `false`: whether a file begins with a line of names | `true` |
/// | `follow` | `true`, `false`: whether to wait for new lines and new files. A file may be rotated, or copied and cut off | `false` |
/// | `mode` | `append`, `overwrite`: what a sink does to what is there when a run starts from nothing | `append` |
/// | `delivery` | `exactly_once`, `at_least_once`: lines at once, and some of them again after a crash | `exactly_once` |
/// | `roll_rows`, `roll_bytes`, `roll_interval` | when a Parquet sink begins a new part file | 1000000, `128MB`, `1 minute` |
/// | `compression` | `zstd`, `snappy`, `none`: of a Parquet sink | `zstd` |
///
/// CSV columns go by position; a header is there for people, but one that holds the table's columns in another order
/// is refused, since every value would land in the wrong column. Blank lines are skipped.
///
/// A followed file whose name another one takes (`mv app.log app.log.1`) is read to its end, and then the new one from its
/// first line; one that was cut off or replaced is read anew, with a warning. A restart finds what was rotated meanwhile by
/// what was read of it, in the same folder under a name that begins alike; when it is gone that is exit code 5, and
/// `--accept-lost-input` reads what is there. A pattern must leave rotated names out, or their lines come twice. Compressed
/// files are not rotated: with `follow` each is read once, as a whole, 2 seconds after it was last written.
///
/// Exactly once, the lines of an epoch are appended and synced, then a hidden file beside it (`.out.jsonl.acequia`) says
/// up to where they go. Nobody else may write into the file; it may be rotated. Parquet parts appear whole, with the
/// epochs in their names, whatever `delivery` says. Pipes and devices are written at once.
pub struct FileConnector {
    name: &'static str,
}

impl FileConnector {
    /// The connector under one of its names.
    pub fn named(name: &'static str) -> FileConnector {
        FileConnector { name }
    }
}

/// What lies in a file.
#[derive(Clone, PartialEq, Debug)]
enum Content {
    /// One record a line, or a CSV record that may span lines.
    Lines(LineContent),
    /// Rows and columns.
    Parquet,
}

/// How a file of lines is cut into records.
#[derive(Clone, PartialEq, Debug)]
struct LineContent {
    /// Set for CSV, whose quotes can hold newlines.
    csv: Option<CsvContent>,
    /// The word in `format`.
    format: String,
    decode: DecodeOptions,
    encode: EncodeOptions,
}

/// What cutting CSV needs to know.
#[derive(Clone, PartialEq, Debug)]
struct CsvContent {
    delimiter: u8,
    quote: u8,
    header: bool,
    /// The table's columns in order.
    columns: Vec<String>,
}

/// A file table with its options understood.
#[derive(Clone, Debug)]
struct FileTable {
    path: String,
    content: Content,
    follow: bool,
    overwrite: bool,
    promise: Promise,
    rolling: Rolling,
    compression: Compression,
}

/// The path that stands for stdin and stdout.
const STDIO: &str = "-";

impl Connector for FileConnector {
    fn name(&self) -> &'static str {
        self.name
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        if !table.primary_key.is_empty() {
            options.error(
                table.location,
                format!("a file cannot replace rows, but table {} has a PRIMARY KEY", table.name),
                Some("remove PRIMARY KEY, or write to a connector that can, such as 'postgres' or 'redis'".into()),
            );
        }
        let path = options.required(&["path"], "data/*.jsonl");
        let content = content(table, &path, options);
        let follow = options.boolean(&["follow"]).unwrap_or(false);
        if follow && content == Content::Parquet {
            options.error(
                options.table(),
                "a Parquet file cannot be followed: it is not readable before it is complete".into(),
                Some("remove 'follow', or use 'format' = 'json' or 'csv'".into()),
            );
        }
        let overwrite = options.choice(&["mode"], &[("append", false), ("overwrite", true)]).unwrap_or(false);
        let promise = Promise::take(options);
        let (mut rolling, mut compression) = (Rolling::default(), Compression::default());
        if content == Content::Parquet {
            rolling = take_rolling(options);
            let choices = [("zstd", Compression::Zstd), ("snappy", Compression::Snappy), ("none", Compression::None)];
            compression = options.choice(&["compression"], &choices).unwrap_or_default();
            if path == STDIO {
                options.error(
                    options.table(),
                    "Parquet cannot go through stdin or stdout".into(),
                    Some("name a file or a folder in 'path', or use 'format' = 'json'".into()),
                );
            }
        }
        Arc::new(FileTable { path, content, follow, overwrite, promise, rolling, compression })
    }
}

/// Takes what `format` and `csv.*` say; without `format`, the path's extension decides.
fn content(table: &TableDefinition, path: &str, options: &mut Options) -> Content {
    let by_extension = match packed::extension(Path::new(path)) {
        Some("csv") => Some("csv"),
        Some("parquet") => Some("parquet"),
        Some("json" | "jsonl" | "ndjson") => Some("json"),
        _ => None,
    };
    if let Some(format) = by_extension {
        options.set_default("format", format);
    }
    let format = options.peek("format").unwrap_or("json").to_owned();
    if format == "parquet" {
        options.take(&["format"]);
        return Content::Parquet;
    }
    if let Some(word) = closest(&format, ["parquet"])
        && let Some(option) = options.take(&["format"])
    {
        let message = format!("option 'format' does not take '{}'", option.text);
        options.error(option.location, message, Some(format!("did you mean '{word}'?")));
    }
    let csv = (format == "csv").then(|| CsvContent {
        delimiter: CsvHeader::byte(options.peek("csv.delimiter"), b','),
        quote: CsvHeader::byte(options.peek("csv.quote"), b'"'),
        header: options.boolean(&["csv.header"]).unwrap_or(true),
        columns: table.physical_schema().fields().iter().map(|field| field.name().clone()).collect(),
    });
    let (decode, encode) = (DecodeOptions::take(table, options), EncodeOptions::take(table, options));
    Content::Lines(LineContent { csv, format, decode, encode })
}

/// Takes the limits of a part file, under our names, Arroyo's and Flink's.
fn take_rolling(options: &mut Options) -> Rolling {
    let default = Rolling::default();
    let rows = options.integer(&["roll_rows"], 1..=i64::MAX).map_or(default.rows, |rows| rows as u64);
    let interval =
        options.duration(&["roll_interval", "rolling_policy.interval", "sink.rolling-policy.rollover-interval"]);
    let bytes = options.size(&["roll_bytes", "rolling_policy.file_size", "sink.rolling-policy.file-size"]);
    Rolling { rows, bytes: bytes.unwrap_or(default.bytes), interval: interval.unwrap_or(default.interval) }
}

impl ConnectorTable for FileTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        Some(Arc::new(source::FileSourceFactory::new(self.clone())))
    }

    fn json_lines(&self) -> Option<&Path> {
        match &self.content {
            Content::Lines(LineContent { encode: EncodeOptions::Json(_), .. }) if self.path != STDIO => {
                Some(Path::new(&self.path))
            }
            _ => None,
        }
    }

    fn written_file(&self) -> Option<&Path> {
        (self.path != STDIO && self.content != Content::Parquet).then_some(Path::new(&self.path))
    }

    fn reads_file(&self, file: &Path) -> bool {
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let path = whole(Path::new(&self.path));
        self.path != STDIO && paths::is_named(&path.to_string_lossy(), &self.content, &whole(file))
    }

    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        Some(match &self.content {
            Content::Parquet => Arc::new(parquet_sink::ParquetSinkFactory {
                folder: self.path.clone().into(),
                overwrite: self.overwrite,
                rolling: self.rolling.clone(),
                compression: self.compression,
            }),
            Content::Lines(lines) if self.path == STDIO => {
                super::stdout::lines(lines.encode.clone(), lines.csv.as_ref().map(CsvContent::header_rule), vec![])
            }
            Content::Lines(lines) => Arc::new(line_sink::LineSinkFactory {
                path: self.path.clone().into(),
                overwrite: self.overwrite,
                encode: lines.encode.clone(),
                header: lines.csv.as_ref().map(CsvContent::header_rule),
                promise: self.promise,
            }),
        })
    }
}

impl CsvContent {
    /// The delimiter of the header line to write, if one is.
    fn header_rule(&self) -> CsvHeader {
        CsvHeader { delimiter: self.delimiter, wanted: self.header }
    }
}

/// Whether `mode = 'overwrite'` holds: a recovery goes on with what is there.
fn begins_anew(writer: &Writer) -> bool {
    writer.fresh || writer.resumed == Epoch(0)
}

/// How long a part file may stay open at first.
const ROLL_INTERVAL: Duration = Duration::from_secs(60);
