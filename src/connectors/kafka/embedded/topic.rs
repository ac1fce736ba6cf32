//! A topic as its readers see it: which segments there are, and how far they hold whole, synced frames.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::segment::{self, SegmentHeader};
use super::{Offsets, PARTITIONS};
use crate::connectors::ConnectorError;
use crate::connectors::disk::io_error;

/// A topic of the log.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    /// Made with the topic: another one of the same name has another.
    pub(super) id: String,
    pub(super) folder: PathBuf,
    /// Moved on by the appender, which so wakes all who wait for more.
    pub(super) extent: watch::Sender<Extent>,
}

/// What there is to read.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// The oldest first; never none.
    pub(super) segments: Arc<Vec<Segment>>,
    /// The bytes of the newest segment that hold header and whole frames.
    pub(super) length: u64,
    /// By partition, one past the newest record.
    pub(super) next: Offsets,
}

/// A segment that is there.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// By partition, the offset of its first record.
    pub(super) first: Offsets,
    /// Where its frames begin.
    pub(super) frames: u64,
    /// Its bytes, if it is not the newest.
    pub(super) length: u64,
}

impl Extent {
    /// By partition, the oldest record that is there, or will be.
    pub(super) fn first(&self) -> Offsets {
        self.segments.first().map_or([0; PARTITIONS], |segment| segment.first)
    }

    pub(super) fn newest(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.number)
    }

    pub(super) fn segment(&self, number: u64) -> Option<&Segment> {
        let oldest = self.segments.first()?.number;
        self.segments.get(usize::try_from(number.checked_sub(oldest)?).ok()?)
    }

    /// Up to where the frames of a segment can be read.
    pub(super) fn end_of(&self, segment: &Segment) -> u64 {
        if segment.number == self.newest() { self.length } else { segment.length }
    }

    /// The bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| self.end_of(segment)).sum()
    }

    /// How many records there are.
    pub(super) fn records(&self) -> i64 {
        self.next.iter().zip(self.first()).map(|(next, first)| next - first).sum()
    }
}

impl Topic {
    /// What there is now.
    pub(super) fn extent(&self) -> Extent {
        self.extent.borrow().clone()
    }

    /// Opens a topic whose frames another process may be writing, to read what is there now. `None` if there is no such
    /// topic.
    ///
    /// # Errors
    /// When the folder cannot be read, or is damaged.
    pub(super) fn read_only(folder: &Path, name: &str) -> Result<Option<Topic>, ConnectorError> {
        let folder = folder.join(name);
        if !folder.is_dir() {
            return Ok(None);
        }
        let Some(found) = Found::read(&folder, false)? else { return Ok(None) };
        let end = found.scan(|_| {})?;
        Ok(Some(found.topic(name, &folder, &end)))
    }
}

/// A topic's folder as it was found.
pub(super) struct Found {
    segments: Vec<Segment>,
    /// The newest segment.
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
}

/// Where the whole frames of the newest segment end.
pub(super) struct End {
    pub(super) length: u64,
    /// The number of the next frame.
    pub(super) frame: u64,
    pub(super) next: Offsets,
    /// The file's length.
    pub(super) file_length: u64,
}

impl Found {
    /// Reads the headers of all segments; `None` when there is no segment.
    pub(super) fn read(folder: &Path, writable: bool) -> Result<Option<Found>, ConnectorError> {
        let mut found: Option<Found> = None;
        for number in segment::list(folder, writable)? {
            let path = segment::path(folder, number);
            let opened = File::options().read(true).write(writable).open(&path);
            let file = match opened {
                // The topic's writer has just deleted it, the oldest one.
                Err(error) if !writable && error.kind() == std::io::ErrorKind::NotFound && found.is_none() => continue,
                opened => opened.map_err(|error| io_error(&path, "read", &error))?,
            };
            let (header, frames) = SegmentHeader::read(&file, &path)?;
            if header.segment != number || found.as_ref().is_some_and(|before| before.header.id != header.id) {
                return Err(segment::damaged(&path, "is of another topic"));
            }
            let length = file.metadata().map_err(|error| io_error(&path, "read", &error))?.len();
            let mut segments = found.map_or(vec![], |found| found.segments);
            segments.push(Segment { number, first: header.first, frames, length });
            found = Some(Found { segments, file, path, header });
        }
        Ok(found)
    }

    /// Reads the newest segment's frames.
    pub(super) fn scan(&self, mut each: impl FnMut(&super::frame::FrameHeader)) -> Result<End, ConnectorError> {
        let SegmentHeader { id, frame, first, .. } = &self.header;
        let mut next = *first;
        let read = |error: std::io::Error| io_error(&self.path, "read", &error);
        let file_length = self.file.metadata().map_err(read)?.len();
        let frames = self.segments.last().map_or(0, |segment| segment.frames);
        let (length, frame) = segment::scan(&self.file, id, *frame, frames, file_length, |header| {
            for block in &header.blocks {
                next[block.partition] = block.end();
            }
            each(header);
        })
        .map_err(read)?;
        Ok(End { length, frame, next, file_length })
    }

    /// The topic, whose frames end there.
    pub(super) fn topic(&self, name: &str, folder: &Path, end: &End) -> Topic {
        let extent = Extent { segments: Arc::new(self.segments.clone()), length: end.length, next: end.next };
        Topic {
            name: name.into(),
            id: self.header.id.clone(),
            folder: folder.into(),
            extent: watch::Sender::new(extent),
        }
    }
}
