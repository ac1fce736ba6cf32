//! Lines into a file, an epoch at a time: appended and synced, then confirmed in the [`MarkerFile`] beside it.
//!
//! What stands behind the marked length is the beginning of an epoch whose delivery was broken off. It is delivered
//! again with the same bytes, so that what is there is kept and completed: who follows the file sees no line twice.
//!
//! An epoch may be large and its lines are larger: they are encoded and appended in pieces that a processor's caches hold.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::line_sink::{LineSinkFactory, ends_with_newline};
use super::marker::{FileMarker, Locked, MarkerFile};
use super::{ConnectorError, begins_anew, blocking, io_error, sync_folder_of, waiting};
use crate::connectors::SinkContext;
use crate::connectors::delivery::{EpochSink, Writer};
use crate::connectors::lines::append_lines;
use crate::connectors::retry::until_available;
use crate::faults::crash_point;
use crate::faults::{Bug, planted};
use crate::formats::{EncodedRows, Encoder};
use crate::time::Epoch;

/// The marker vouches for so many bytes before its length.
const TAIL: u64 = 4096;

/// So many bytes are worth a write.
pub(super) const PIECE: usize = 1 << 20;

/// A file that gets whole epochs.
pub(super) struct LineEpochs {
    file: Arc<Mutex<MarkedFile>>,
    path: PathBuf,
    stop: CancellationToken,
}

/// The file with its marker: work for a thread that may wait for a disk.
struct MarkedFile {
    path: PathBuf,
    marker: MarkerFile,
    writer: Writer,
    lines: Lines,
    /// What this run has written into the marker.
    known: FileMarker,
    /// A sync has failed: what the file seems to hold behind the marked length may not be on the disk.
    unsure: bool,
}

/// Rows as lines, and room to make them in.
struct Lines {
    encoder: Box<dyn Encoder>,
    header: Vec<u8>,
    encoded: EncodedRows,
    piece: Vec<u8>,
}

impl LineEpochs {
    /// Fences earlier runs, and reads the marker.
    pub(super) async fn open(
        factory: &LineSinkFactory,
        encoder: Box<dyn Encoder>,
        header: Vec<u8>,
        writer: Writer,
        context: &SinkContext,
    ) -> Result<(LineEpochs, Option<Epoch>), ConnectorError> {
        let (path, overwrite) = (factory.path.clone(), factory.overwrite && begins_anew(&writer));
        let attempt = || {
            let (path, writer, table) = (path.clone(), writer.clone(), context.table.clone());
            let place = path.clone();
            async move { blocking(&place, move || take_over(&path, &writer, &table, overwrite)).await }
        };
        let (marker, known) = until_available(&path.display().to_string(), &context.stop, attempt).await?;
        let settled = known.settled();
        let lines = Lines { encoder, header, encoded: EncodedRows::default(), piece: vec![] };
        let file = MarkedFile { path: path.clone(), marker, writer, lines, known, unsure: false };
        Ok((LineEpochs { file: Arc::new(Mutex::new(file)), path, stop: context.stop.clone() }, settled))
    }
}

#[async_trait]
impl EpochSink for LineEpochs {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let marker_first = planted(Bug::MarkerBeforeData);
        let attempt = || {
            let (file, rows, path) = (self.file.clone(), rows.to_vec(), self.path.clone());
            async move { blocking(&path, move || file.lock().deliver(epoch, &rows, marker_first)).await }
        };
        until_available(&self.path.display().to_string(), &self.stop, attempt).await
    }
}

/// Fences earlier runs; the marker's file, and what this run has written into it.
fn take_over(
    path: &Path,
    writer: &Writer,
    table: &str,
    overwrite: bool,
) -> Result<(MarkerFile, FileMarker), ConnectorError> {
    let marker = MarkerFile::beside(path);
    let mut locked = marker.lock()?;
    let unknown = locked.newest.is_none();
    let known = match locked.take_over(writer, table, overwrite, Epoch(0))? {
        Some(found) if !writer.fresh => found,
        found => {
            let length = end_of(path, overwrite)?;
            if unknown && length > 0 && writer.resumed > Epoch(0) && !writer.fresh {
                tracing::warn!(
                    "{}: its marker {} is gone; if the file has rows of epochs that the checkpoints do not know to be \
                     there, it gets them again",
                    path.display(),
                    marker.path().display()
                );
            }
            let tail = tail_sum(path, length)?;
            let epoch = found.map_or(0, |found| found.epoch);
            FileMarker { length, tail, epoch, ..FileMarker::new(writer, table) }
        }
    };
    locked.write(&known)?;
    drop(locked);
    crash_point!("sink.file.after_fence");
    Ok((marker, known))
}

impl MarkedFile {
    fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch], marker_first: bool) -> Result<Epoch, ConnectorError> {
        let mut locked = self.marker.lock()?;
        locked.check(&self.writer)?;
        if self.known.epoch >= epoch.0 {
            return Ok(Epoch(self.known.epoch));
        }
        crash_point!("sink.file.before_rows");
        let (mut file, there) = self.ready(&mut locked)?;
        let begin = self.known.length;
        if marker_first {
            let mut end = begin;
            self.lines.pieces(rows, begin == 0, |piece| {
                end += piece.len() as u64;
                Ok(())
            })?;
            self.confirm(&mut locked, FileMarker { epoch: epoch.0, length: end, ..self.known.clone() })?;
        }
        let mut beyond = Beyond { path: &self.path, known: &self.known, epoch, file: &mut file, there, end: begin };
        self.lines.pieces(rows, begin == 0, |piece| beyond.put(piece))?;
        let end = beyond.finish()?;
        crash_point!("sink.file.before_sync");
        if let Err(error) = sync(&file) {
            self.unsure = true;
            return Err(waiting(&self.path, "write", &error));
        }
        self.unsure = false;
        crash_point!("sink.file.before_marker");
        let tail = sum_before(&file, end).map_err(|error| io_error(&self.path, "read", &error))?;
        self.confirm(&mut locked, FileMarker { epoch: epoch.0, length: end, tail, ..self.known.clone() })?;
        crash_point!("sink.file.after_marker");
        Ok(epoch)
    }

    fn confirm(&mut self, locked: &mut Locked, marker: FileMarker) -> Result<(), ConnectorError> {
        locked.write(&marker)?;
        self.known = marker;
        Ok(())
    }

    /// The file, and its length. One that was rotated away or truncated begins anew, and the marker says so first.
    fn ready(&mut self, locked: &mut Locked) -> Result<(File, u64), ConnectorError> {
        let missing = !self.path.exists();
        let opened = OpenOptions::new().read(true).create(true).append(true).open(&self.path);
        let file = opened.map_err(|error| waiting(&self.path, "write", &error))?;
        if missing {
            sync_folder_of(&self.path)?;
        }
        let read = |error: std::io::Error| io_error(&self.path, "read", &error);
        let length = file.metadata().map_err(read)?.len();
        if length < self.known.length {
            let (path, had) = (self.path.display(), self.known.length);
            if missing {
                tracing::warn!("{path} is gone, with {had} bytes that were there: rotated away? A new one is begun");
            } else {
                tracing::warn!("{path} has {length} bytes and had {had}: truncated? Rows go on at its end");
            }
            let length = end_of(&self.path, false)?;
            let tail = sum_before(&file, length).map_err(read)?;
            self.confirm(locked, FileMarker { length, tail, ..self.known.clone() })?;
            return Ok((file, length));
        }
        if sum_before(&file, self.known.length).map_err(read)? != self.known.tail {
            return Err(written_by_others(&self.path, &self.known, "changed what was there"));
        }
        if self.unsure {
            file.set_len(self.known.length).map_err(|error| waiting(&self.path, "write", &error))?;
            return Ok((file, self.known.length));
        }
        Ok((file, length))
    }
}

impl Lines {
    /// Gives the lines of these rows to `put`, some at a time, after those at the head of a file that is `new`.
    fn pieces(
        &mut self,
        rows: &[RecordBatch],
        new: bool,
        mut put: impl FnMut(&[u8]) -> Result<(), ConnectorError>,
    ) -> Result<(), ConnectorError> {
        self.piece.clear();
        if new {
            self.piece.extend_from_slice(&self.header);
        }
        for batch in rows {
            append_lines(&mut *self.encoder, batch, &mut self.encoded, &mut self.piece)?;
            if self.piece.len() >= PIECE {
                put(&self.piece)?;
                self.piece.clear();
            }
        }
        put(&self.piece)
    }
}

/// What lies behind the marked length, while the lines of an epoch are put there.
struct Beyond<'a> {
    path: &'a Path,
    known: &'a FileMarker,
    epoch: Epoch,
    file: &'a mut File,
    /// Where the file ended before.
    there: u64,
    /// Up to where it has lines of this epoch.
    end: u64,
}

impl Beyond<'_> {
    /// Appends those of the bytes that are not there yet.
    fn put(&mut self, bytes: &[u8]) -> Result<(), ConnectorError> {
        let there = usize::try_from(self.there.saturating_sub(self.end)).unwrap_or(usize::MAX);
        let (old, new) = bytes.split_at(there.min(bytes.len()));
        let mut found = vec![0; old.len()];
        self.file.read_exact_at(&mut found, self.end).map_err(|error| io_error(self.path, "read", &error))?;
        if found != old {
            return Err(self.foreign());
        }
        append(self.file, new).map_err(|error| waiting(self.path, "write", &error))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Where the epoch ends, which must be the end of the file.
    fn finish(self) -> Result<u64, ConnectorError> {
        if self.there > self.end { Err(self.foreign()) } else { Ok(self.end) }
    }

    fn foreign(&self) -> ConnectorError {
        let (there, epoch) = (self.there - self.known.length, self.epoch);
        let what = format!("written {there} bytes that are not of epoch {epoch}, which goes there");
        written_by_others(self.path, self.known, &what)
    }
}

fn written_by_others(path: &Path, known: &FileMarker, what: &str) -> ConnectorError {
    ConnectorError::Mismatch {
        what: path.display().to_string(),
        message: format!(
            "somebody else has {what} (byte {}, after epoch {}). Exactly once needs a file of its own: move this one \
             away and start again, so that a new one is begun, or set 'delivery' = 'at_least_once'",
            known.length, known.epoch
        ),
    }
}

/// Where rows go on in a file that may not be there: behind its last line, which is ended if it is not.
fn end_of(path: &Path, overwrite: bool) -> Result<u64, ConnectorError> {
    let opened = OpenOptions::new().read(true).append(true).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        opened => opened.map_err(|error| io_error(path, "write", &error))?,
    };
    if overwrite {
        file.set_len(0).map_err(|error| io_error(path, "write", &error))?;
    }
    let length = file.metadata().map_err(|error| io_error(path, "read", &error))?.len();
    if length == 0 || ends_with_newline(&mut file).map_err(|error| io_error(path, "read", &error))? {
        return Ok(length);
    }
    file.write_all(b"\n").map_err(|error| waiting(path, "write", &error))?;
    Ok(length + 1)
}

fn append(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    // In two parts, so that a crash between them can be made to happen.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    crash_point!("sink.file.amid_rows");
    file.write_all(second)
}

fn sync(file: &File) -> std::io::Result<()> {
    if planted(Bug::NoSync) { Ok(()) } else { file.sync_data() }
}

fn tail_sum(path: &Path, length: u64) -> Result<u32, ConnectorError> {
    if length == 0 {
        return Ok(0);
    }
    let sum = File::open(path).and_then(|file| sum_before(&file, length));
    sum.map_err(|error| io_error(path, "read", &error))
}

/// The checksum of the last bytes before `end`.
fn sum_before(file: &File, end: u64) -> std::io::Result<u32> {
    let mut bytes = vec![0; end.min(TAIL) as usize];
    let begin = end - bytes.len() as u64;
    file.read_exact_at(&mut bytes, begin)?;
    Ok(crc32fast::hash(&bytes))
}
