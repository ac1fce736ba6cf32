//! Whole epochs into a folder of Parquet files, named by the epochs that they hold: the folder itself is the marker.
//!
//! A part gathers epochs in memory until it is long, large or old enough. Then it is written under a hidden name, synced
//! and renamed. Epochs that are not visible yet stay in the checkpoints' outbox and come again after a crash.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::marker::{FileMarker, MarkerFile};
use super::parquet_sink::{ParquetSinkFactory, Rolling, cannot_hold, is_part, names_in, write_error};
use super::{ConnectorError, blocking, io_error, sync_folder_of, waiting};
use crate::connectors::SinkContext;
use crate::connectors::delivery::{EpochSink, Writer};
use crate::connectors::retry::until_available;
use crate::faults::crash_point;
use crate::faults::{Bug, planted};
use crate::time::{Epoch, LogId};

/// So much of the log's name stands in a part's name.
const LOG_LETTERS: usize = 8;

/// A folder that gets whole epochs.
pub(super) struct PartEpochs {
    folder: Arc<Mutex<MarkedFolder>>,
    path: PathBuf,
    schema: SchemaRef,
    properties: WriterProperties,
    rolling: Rolling,
    part: Option<Part>,
    /// The last epoch that is visible.
    settled: Option<Epoch>,
    stop: CancellationToken,
}

/// Epochs that are gathered. Unfinished files would be in the way of a retry on a full disk, so it is in memory.
struct Part {
    writer: ArrowWriter<Vec<u8>>,
    first: Epoch,
    last: Epoch,
    rows: u64,
    began: Instant,
}

/// The folder with its marker: work for a thread that may wait for a disk.
struct MarkedFolder {
    path: PathBuf,
    marker: MarkerFile,
    writer: Writer,
    known: FileMarker,
}

impl PartEpochs {
    /// Fences earlier runs, removes what they left unfinished, and finds the last epoch that is there.
    pub(super) async fn open(
        factory: &ParquetSinkFactory,
        writer: Writer,
        context: &SinkContext,
    ) -> Result<(PartEpochs, Option<Epoch>), ConnectorError> {
        let (path, empties) = (factory.folder.clone(), factory.empties(&writer));
        let attempt = || {
            let (folder, writer, table) = (path.clone(), writer.clone(), context.table.clone());
            let place = path.clone();
            async move { blocking(&place, move || MarkedFolder::open(folder, writer, &table, empties)).await }
        };
        let folder = until_available(&path.display().to_string(), &context.stop, attempt).await?;
        let settled = folder.known.settled();
        let sink = PartEpochs {
            folder: Arc::new(Mutex::new(folder)),
            path,
            schema: context.schema.clone(),
            properties: factory.properties(),
            rolling: factory.rolling.clone(),
            part: None,
            settled,
            stop: context.stop.clone(),
        };
        // A schema that Parquet cannot hold is better known now than at the first row.
        sink.begin(Epoch(0))?;
        Ok((sink, settled))
    }

    fn begin(&self, first: Epoch) -> Result<Part, ConnectorError> {
        let writer = ArrowWriter::try_new(vec![], self.schema.clone(), Some(self.properties.clone()))
            .map_err(|error| cannot_hold(&self.path, &error))?;
        Ok(Part { writer, first, last: first, rows: 0, began: Instant::now() })
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
        let (first, last, path) = (part.first, part.last, self.path.clone());
        let finished =
            blocking(&self.path, move || part.writer.into_inner().map_err(|error| write_error(&path, error)));
        let bytes = Bytes::from(finished.await?);
        let marker_first = planted(Bug::MarkerBeforeData);
        let attempt = || {
            let (folder, bytes, path) = (self.folder.clone(), bytes.clone(), self.path.clone());
            async move { blocking(&path, move || folder.lock().publish(first, last, &bytes, marker_first)).await }
        };
        until_available(&self.path.display().to_string(), &self.stop, attempt).await?;
        self.settled = Some(last);
        Ok(())
    }
}

#[async_trait]
impl EpochSink for PartEpochs {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let gathered = self.part.as_ref().map(|part| part.last).max(self.settled);
        if gathered.is_none_or(|gathered| gathered < epoch) {
            let mut part = match self.part.take() {
                Some(part) => part,
                None => self.begin(epoch)?,
            };
            let (path, rows) = (self.path.clone(), rows.to_vec());
            let gather = move || {
                for batch in &rows {
                    part.writer.write(batch).map_err(|error| write_error(&path, error))?;
                    part.rows += batch.num_rows() as u64;
                }
                part.last = epoch;
                Ok(part)
            };
            self.part = Some(blocking(&self.path, gather).await?);
        }
        self.roll(false).await?;
        Ok(self.settled.unwrap_or_default())
    }

    async fn settle(&mut self, now: bool) -> Result<Option<Epoch>, ConnectorError> {
        self.roll(now).await?;
        Ok(self.settled)
    }
}

impl MarkedFolder {
    fn open(path: PathBuf, writer: Writer, table: &str, empties: bool) -> Result<MarkedFolder, ConnectorError> {
        let marker = MarkerFile::inside(&path);
        let mut locked = marker.lock()?;
        let visible = if empties { Epoch(0) } else { last_epoch(&path, &writer.log)? };
        let found = locked.take_over(&writer, table, empties, visible)?;
        for name in names_in(&path)? {
            if is_unfinished(&name) || (empties && is_part(&name)) {
                let path = path.join(&name);
                std::fs::remove_file(&path).map_err(|error| io_error(&path, "remove", &error))?;
            }
        }
        let known = found.unwrap_or_else(|| FileMarker::new(&writer, table));
        locked.write(&known)?;
        crash_point!("sink.parquet.after_fence");
        Ok(MarkedFolder { path, marker, writer, known })
    }

    fn publish(&mut self, first: Epoch, last: Epoch, bytes: &[u8], marker_first: bool) -> Result<(), ConnectorError> {
        let mut locked = self.marker.lock()?;
        locked.check(&self.writer)?;
        if self.known.epoch >= last.0 {
            return Ok(());
        }
        let marker = FileMarker { epoch: last.0, ..self.known.clone() };
        if marker_first {
            locked.write(&marker)?;
            self.known = marker.clone();
        }
        let visible = self.path.join(part_name(&self.writer.log, first, last));
        if !visible.exists() {
            self.refuse_overlap(first)?;
            let hidden = self.path.join(format!(".{}.tmp", part_name(&self.writer.log, first, last)));
            crash_point!("sink.parquet.before_part");
            if let Err(error) = write_whole(&hidden, bytes) {
                // What there is of it only takes room.
                let _ = std::fs::remove_file(&hidden);
                return Err(waiting(&self.path, "write into", &error));
            }
            crash_point!("sink.parquet.before_rename");
            std::fs::rename(&hidden, &visible).map_err(|error| waiting(&visible, "write", &error))?;
        }
        sync_folder_of(&visible)?;
        crash_point!("sink.parquet.before_marker");
        locked.write(&marker)?;
        self.known = marker;
        crash_point!("sink.parquet.after_marker");
        Ok(())
    }

    /// A part that holds epochs from `first` on is not ours: ours would be the last one that the marker names.
    fn refuse_overlap(&self, first: Epoch) -> Result<(), ConnectorError> {
        let last = last_epoch(&self.path, &self.writer.log)?;
        if last < first {
            return Ok(());
        }
        Err(ConnectorError::Mismatch {
            what: self.path.display().to_string(),
            message: format!(
                "it holds a part up to epoch {last} that this run has not written, so that epoch {first} would be there \
                 twice. Move the part away, or begin anew with --fresh"
            ),
        })
    }
}

/// The last epoch of a log that a folder shows.
fn last_epoch(folder: &Path, log: &LogId) -> Result<Epoch, ConnectorError> {
    let names = names_in(folder)?;
    let last = names.iter().filter_map(|name| last_of(name, log)).max();
    Ok(last.unwrap_or_default())
}

fn last_of(name: &str, log: &LogId) -> Option<Epoch> {
    let epochs =
        name.strip_prefix("part-")?.strip_suffix(".parquet")?.strip_prefix(&letters(log))?.strip_prefix('-')?;
    let (_, last) = epochs.split_once('-')?;
    last.parse().ok().map(Epoch)
}

fn letters(log: &LogId) -> String {
    log.0.chars().filter(char::is_ascii_alphanumeric).take(LOG_LETTERS).collect()
}

/// With leading zeros, so that the order of names is the order of epochs.
fn part_name(log: &LogId, first: Epoch, last: Epoch) -> String {
    format!("part-{}-{:09}-{:09}.parquet", letters(log), first.0, last.0)
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with(".part-") && name.ends_with(".parquet.tmp")
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    if planted(Bug::NoSync) { Ok(()) } else { file.sync_all() }
}
