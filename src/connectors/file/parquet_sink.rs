//! Rows into a folder of Parquet files: with checkpoints by [`PartEpochs`], without them at once, as `part-1.parquet`
//! and on.
//!
//! A part that is written at once grows under a hidden name, and appears whole: synced, renamed, the folder synced. It is
//! finished once it is large, long or old enough (looked at when rows come and at flushes), and when the sink closes.
//! Until then its rows are not in the destination, which is why a crash loses the rows of an unfinished part.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use parquet::arrow::ArrowWriter;
use parquet::basic::ZstdLevel;
use parquet::file::properties::WriterProperties;
use tokio::time::Instant;

use super::part_epochs::PartEpochs;
use super::{ConnectorError, ROLL_INTERVAL, begins_anew, io_error, refused};
use crate::connectors::delivery::{Delivery, OpenSink};
use crate::connectors::{Sink, SinkContext, SinkFactory, SinkMode};

/// When a part is finished.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rolling {
    /// Once it has so many rows.
    pub(super) rows: u64,
    /// Once it has so many bytes, about.
    pub(super) bytes: u64,
    /// Once its first row is so old.
    pub(super) interval: Duration,
}

impl Default for Rolling {
    fn default() -> Rolling {
        Rolling { rows: 1_000_000, bytes: 128 << 20, interval: ROLL_INTERVAL }
    }
}

/// How pages are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Compression {
    #[default]
    Zstd,
    Snappy,
    None,
}

/// Opens a folder of parts.
pub(super) struct ParquetSinkFactory {
    pub(super) folder: PathBuf,
    pub(super) overwrite: bool,
    pub(super) rolling: Rolling,
    pub(super) compression: Compression,
}

#[async_trait]
impl SinkFactory for ParquetSinkFactory {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        format!("parquet files in {}", self.folder.display())
    }

    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let folder = &self.folder;
        if folder.is_file() {
            return Err(refused(folder, "is a file; Parquet is written as part files into a folder: name a folder"));
        }
        std::fs::create_dir_all(folder).map_err(|error| io_error(folder, "make", &error))?;
        if let Some(writer) = context.writer.clone() {
            let (sink, settled) = PartEpochs::open(self, writer, &context).await?;
            return Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled });
        }
        let mut last = 0;
        for name in names_in(folder)? {
            let unfinished = part_number(&name, ".part-", ".parquet.tmp").is_some();
            let finished = part_number(&name, "part-", ".parquet");
            if unfinished || (self.overwrite && is_part(&name)) {
                let path = folder.join(&name);
                std::fs::remove_file(&path).map_err(|error| io_error(&path, "remove", &error))?;
            } else {
                last = last.max(finished.unwrap_or(0));
            }
        }
        let sink = ParquetSink {
            folder: folder.clone(),
            schema: context.schema,
            properties: self.properties(),
            rolling: self.rolling.clone(),
            next: last + 1,
            part: None,
        };
        // A schema that Parquet cannot hold, or a folder without rights, is better known now than at the first row.
        let part = sink.begin()?;
        std::fs::remove_file(&part.hidden).map_err(|error| io_error(&part.hidden, "remove", &error))?;
        Ok(OpenSink::AtOnce(Box::new(sink)))
    }
}

impl ParquetSinkFactory {
    /// How parts are written.
    pub(super) fn properties(&self) -> WriterProperties {
        let compression = match self.compression {
            Compression::Zstd => parquet::basic::Compression::ZSTD(ZstdLevel::default()),
            Compression::Snappy => parquet::basic::Compression::SNAPPY,
            Compression::None => parquet::basic::Compression::UNCOMPRESSED,
        };
        WriterProperties::builder().set_compression(compression).build()
    }

    /// Whether `mode = 'overwrite'` empties the folder.
    pub(super) fn empties(&self, writer: &crate::connectors::delivery::Writer) -> bool {
        self.overwrite && begins_anew(writer)
    }
}

/// The names in a folder, sorted.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, ConnectorError> {
    let mut names = vec![];
    for entry in std::fs::read_dir(folder).map_err(|error| io_error(folder, "read", &error))? {
        let name = entry.map_err(|error| io_error(folder, "read", &error))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Whether it is the name of a finished part, of whatever run.
pub(super) fn is_part(name: &str) -> bool {
    name.starts_with("part-") && name.ends_with(".parquet")
}

/// Parquet has no place for these columns.
pub(super) fn cannot_hold(folder: &Path, error: &parquet::errors::ParquetError) -> ConnectorError {
    refused(folder, format!("Parquet cannot hold these columns: {error}"))
}

fn part_number(name: &str, before: &str, after: &str) -> Option<u64> {
    name.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
}

struct ParquetSink {
    folder: PathBuf,
    schema: SchemaRef,
    properties: WriterProperties,
    rolling: Rolling,
    next: u64,
    part: Option<Part>,
}

/// A part that is being written.
struct Part {
    writer: ArrowWriter<File>,
    hidden: PathBuf,
    rows: u64,
    began: Instant,
}

impl ParquetSink {
    fn begin(&self) -> Result<Part, ConnectorError> {
        let hidden = self.folder.join(format!(".part-{}.parquet.tmp", self.next));
        let file = File::create(&hidden).map_err(|error| io_error(&self.folder, "write into", &error))?;
        let writer = ArrowWriter::try_new(file, self.schema.clone(), Some(self.properties.clone()))
            .map_err(|error| cannot_hold(&self.folder, &error))?;
        Ok(Part { writer, hidden, rows: 0, began: Instant::now() })
    }

    /// Makes the part visible if it is due, or `now`.
    async fn roll(&mut self, now: bool) -> Result<(), ConnectorError> {
        let due = |part: &mut Part| {
            let bytes = (part.writer.bytes_written() + part.writer.in_progress_size()) as u64;
            now || part.rows >= self.rolling.rows
                || bytes >= self.rolling.bytes
                || part.began.elapsed() >= self.rolling.interval
        };
        let Some(part) = self.part.take_if(due) else { return Ok(()) };
        let (folder, visible) = (self.folder.clone(), self.folder.join(format!("part-{}.parquet", self.next)));
        self.next += 1;
        let task = tokio::task::spawn_blocking(move || finish(part, &folder, &visible));
        task.await.map_err(|error| refused(&self.folder, error.to_string()))?
    }
}

fn finish(part: Part, folder: &Path, visible: &Path) -> Result<(), ConnectorError> {
    let file = part.writer.into_inner().map_err(|error| write_error(folder, error))?;
    file.sync_all().map_err(|error| io_error(&part.hidden, "write", &error))?;
    std::fs::rename(&part.hidden, visible).map_err(|error| io_error(visible, "write", &error))?;
    let folder_file = File::open(folder).map_err(|error| io_error(folder, "read", &error))?;
    folder_file.sync_all().map_err(|error| io_error(folder, "write", &error))
}

/// What went wrong while rows became Parquet.
pub(super) fn write_error(folder: &Path, error: parquet::errors::ParquetError) -> ConnectorError {
    if let parquet::errors::ParquetError::External(source) = &error
        && let Some(source) = source.downcast_ref::<std::io::Error>()
    {
        return io_error(folder, "write into", source);
    }
    refused(folder, format!("cannot be written into: {error}"))
}

#[async_trait]
impl Sink for ParquetSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut part = match self.part.take() {
            Some(part) => part,
            None => self.begin()?,
        };
        part.writer.write(&batch).map_err(|error| write_error(&self.folder, error))?;
        part.rows += batch.num_rows() as u64;
        self.part = Some(part);
        self.roll(false).await
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        self.roll(false).await
    }

    fn holds_back(&self) -> bool {
        self.part.is_some()
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.roll(true).await
    }
}
