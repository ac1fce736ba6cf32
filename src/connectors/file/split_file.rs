//! A file that is read, as one split of its table.
//!
//! A followed file may be closed at its end and opened again when it has grown, so that a folder may hold more files than
//! a process may hold open. Nothing is lost by that: it is read on where it was read to.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::lines::{Input, LineError, LineReader};
use super::parquet_source::ParquetReader;
use super::{ConnectorError, Content, FileTable, STDIO, io_error, refused};
use crate::connectors::{SourceContext, SourceEvent};
use crate::formats::{SplitIndex, SplitRun};

/// A file that is being read.
pub(super) struct SplitFile {
    split: SplitIndex,
    path: PathBuf,
    records: Records,
    /// Which file the path led to.
    identity: Option<Identity>,
    /// It was read to its end, and nothing has come since.
    at_end: bool,
    /// That is told.
    caught_up: bool,
    /// When it last had something.
    grown: Instant,
    /// It is shorter than what was read of it, and that is told.
    shorter: bool,
}

enum Records {
    Lines(LineReader),
    Parquet(Box<ParquetReader>),
}

/// What tells a file from another one that takes its path.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Where the file system says it: numbers of inodes are given again.
    made: Option<SystemTime>,
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino(), made: metadata.created().ok() }
    }
}

impl SplitFile {
    /// Opens the file, and goes on where an earlier run stood. `ends` says whether its end is the end.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was read before.
    pub(super) fn open(
        table: &FileTable,
        context: &SourceContext,
        split: SplitIndex,
        path: PathBuf,
        ends: bool,
    ) -> Result<SplitFile, ConnectorError> {
        let position = context.positions.get(&path.display().to_string()).copied();
        let mut identity = None;
        let records = match &table.content {
            Content::Parquet => Records::Parquet(Box::new(ParquetReader::open(
                &path,
                context.schema.clone(),
                context.batch_size,
                position.unwrap_or(0),
            )?)),
            Content::Lines(lines) => {
                let input = if table.path == STDIO {
                    Input::Stream(Box::new(std::io::stdin()))
                } else {
                    let unreadable = |error| io_error(&path, "read", &error);
                    let file = File::open(&path).map_err(unreadable)?;
                    identity = Some(Identity::of(&file.metadata().map_err(unreadable)?));
                    Input::File(file)
                };
                let mut reader = LineReader::new(input, split, lines.csv.clone(), ends);
                // Stdin cannot be read again: what comes now is new.
                if let Some(line) = position.filter(|_| table.path != STDIO) {
                    reader.skip_to(line).map_err(|error| line_error(&path, error))?;
                }
                Records::Lines(reader)
            }
        };
        let (at_end, caught_up, shorter) = (false, false, false);
        Ok(SplitFile { split, path, records, identity, at_end, caught_up, grown: Instant::now(), shorter })
    }

    /// The split that it is.
    pub(super) fn split(&self) -> SplitIndex {
        self.split
    }

    /// Since when nothing has come from it, if it was read to its end.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        self.at_end.then_some(self.grown)
    }

    /// Whether its end is to be told: once, until something comes again.
    pub(super) fn catches_up(&mut self) -> bool {
        !std::mem::replace(&mut self.caught_up, true)
    }

    /// The next records, at most `limit`; `None` at the end of what is there.
    ///
    /// # Errors
    /// When it cannot be read, or does not hold what it should.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<SourceEvent>, ConnectorError> {
        let event = match &mut self.records {
            Records::Lines(reader) => {
                let records = reader.next(limit.max(1)).map_err(|error| line_error(&self.path, error))?;
                records.map(SourceEvent::Records)
            }
            Records::Parquet(reader) => reader.next()?.map(|(batch, offsets)| {
                let runs = vec![SplitRun { split: self.split, rows: batch.num_rows() }];
                SourceEvent::Rows(batch, runs, offsets)
            }),
        };
        self.at_end = event.is_none();
        if event.is_some() {
            (self.caught_up, self.grown) = (false, Instant::now());
        }
        Ok(event)
    }

    /// Gives the open file back to the system.
    ///
    /// # Errors
    /// When the system cannot say how far it was read.
    pub(super) fn close(&mut self) -> Result<(), ConnectorError> {
        match &mut self.records {
            Records::Lines(reader) => reader.close().map_err(|error| io_error(&self.path, "read", &error)),
            Records::Parquet(_) => Ok(()),
        }
    }

    /// Whether a closed file has more than was read of it, as far as its metadata say. One that is gone may come back.
    pub(super) fn has_grown(&mut self) -> bool {
        let Records::Lines(reader) = &self.records else { return false };
        let (Some(read), Ok(metadata)) = (reader.closed_at(), std::fs::metadata(&self.path)) else { return false };
        if metadata.len() < read {
            // It may be in the middle of being written anew; to read it now could take its lines for others.
            if !std::mem::replace(&mut self.shorter, true) {
                tracing::warn!(
                    "{} is shorter than what was read of it: was it replaced? A file may only grow. It is read on once \
                     it has more",
                    self.path.display()
                );
            }
            return false;
        }
        self.shorter = false;
        metadata.len() > read || self.identity != Some(Identity::of(&metadata))
    }

    /// Opens a closed file again, and goes on where it was read to. Another one that has taken its place, as when a copy is
    /// renamed over it, is read on at the same line. False if it is gone.
    ///
    /// # Errors
    /// As for [`SplitFile::open`].
    pub(super) fn reopen(&mut self) -> Result<bool, ConnectorError> {
        let Records::Lines(reader) = &mut self.records else { return Ok(true) };
        let unreadable = |error| io_error(&self.path, "read", &error);
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            file => file.map_err(unreadable)?,
        };
        let identity = Some(Identity::of(&file.metadata().map_err(unreadable)?));
        let goes_on = if identity == self.identity { reader.reopen(file) } else { reader.replace(file) };
        goes_on.map_err(|error| line_error(&self.path, error))?;
        (self.identity, self.at_end) = (identity, false);
        Ok(true)
    }
}

fn line_error(path: &Path, error: LineError) -> ConnectorError {
    match error {
        LineError::Io(error) => io_error(path, "read", &error),
        LineError::Content(message) => refused(path, message),
    }
}
