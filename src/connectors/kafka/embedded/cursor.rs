//! A place in a partition, from which records are read on.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::block::{Stored, take_record};
use super::frame::{BlockEntry, FrameHeader};
use super::segment;
use super::topic::{Extent, Segment, Topic};
use crate::connectors::ConnectorError;
use crate::connectors::disk::io_error;

/// Reads a partition.
#[derive(Debug)]
pub(super) struct Cursor {
    topic: Arc<Topic>,
    partition: usize,
    /// The offset wanted next.
    next: i64,
    /// Only records of this sink.
    sink: Option<String>,
    /// Only blocks with a record that is as new.
    since: Option<i64>,
    place: Option<Place>,
    block: OpenBlock,
}

/// Among the frames of a segment.
#[derive(Debug)]
struct Place {
    segment: u64,
    file: File,
    /// Where the next frame begins.
    at: u64,
    /// Blocks of this partition that are still to be read, with their places.
    blocks: VecDeque<(u64, BlockEntry)>,
}

/// A block that was read.
#[derive(Debug, Default)]
struct OpenBlock {
    bytes: Vec<u8>,
    /// How far its records are taken.
    taken: usize,
    /// The offset of the next.
    next: i64,
    left: u32,
}

/// What a cursor comes to.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// [`Cursor::record`] gives a record.
    Record,
    /// There is no more now.
    CaughtUp,
    /// The wanted record is not there any more, or not yet: the partition begins or ends here.
    Gone,
}

impl Cursor {
    /// Reads `partition` from `next` on.
    pub(super) fn new(topic: Arc<Topic>, partition: usize, next: i64) -> Cursor {
        Cursor { topic, partition, next, sink: None, since: None, place: None, block: OpenBlock::default() }
    }

    /// Leaves out what `sink` has not written.
    pub(super) fn of_sink(mut self, sink: Option<String>) -> Cursor {
        self.sink = sink;
        self
    }

    /// The offset wanted next.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Goes on elsewhere.
    pub(super) fn seek(&mut self, next: i64) {
        (self.next, self.place, self.block) = (next, None, OpenBlock::default());
    }

    /// Reads on until there is a record, or no more of what `extent` holds.
    ///
    /// # Errors
    /// When the disk fails, or a segment is damaged.
    pub(super) fn step(&mut self, extent: &Extent) -> Result<Step, ConnectorError> {
        while self.block.left == 0 {
            if let Some((at, entry)) = self.place.as_mut().and_then(|place| place.blocks.pop_front()) {
                if entry.end() > self.next {
                    self.read_block(at, &entry)?;
                    self.skip()?;
                }
                continue;
            }
            match self.next_frame(extent)? {
                Step::Record => {}
                Step::CaughtUp => {
                    // What lies between was left out.
                    self.next = self.next.max(extent.next[self.partition]);
                    return Ok(Step::CaughtUp);
                }
                Step::Gone => return Ok(Step::Gone),
            }
        }
        Ok(Step::Record)
    }

    /// Takes the record that [`Cursor::step`] has found.
    ///
    /// # Errors
    /// When the block is damaged.
    pub(super) fn record(&mut self) -> Result<Stored<'_>, ConnectorError> {
        let OpenBlock { bytes, taken, next, left } = &mut self.block;
        let mut rest = &bytes[*taken..];
        let Some(record) = take_record(&mut rest, *next).filter(|_| *left > 0) else {
            return Err(damaged(&self.topic, self.place.as_ref(), self.partition, *next));
        };
        *taken = bytes.len() - rest.len();
        *next += 1;
        *left -= 1;
        self.next = *next;
        Ok(record)
    }

    /// The offset of the first record that is as new as `millis`, in milliseconds since 1970; `None` if there is none.
    ///
    /// # Errors
    /// As for [`Cursor::step`].
    pub(super) fn find_time(mut self, extent: &Extent, millis: i64) -> Result<Option<i64>, ConnectorError> {
        self.since = Some(millis);
        while self.step(extent)? == Step::Record {
            let record = self.record()?;
            if record.timestamp >= millis {
                return Ok(Some(record.offset));
            }
        }
        Ok(None)
    }

    /// Goes to the next frame and its blocks of this partition; [`Step::Record`] if there is a frame.
    fn next_frame(&mut self, extent: &Extent) -> Result<Step, ConnectorError> {
        loop {
            let Some(place) = &mut self.place else {
                match self.find(extent)? {
                    Step::Record => continue,
                    other => return Ok(other),
                }
            };
            let known = extent.segment(place.segment);
            let end = match known {
                Some(segment) => extent.end_of(segment),
                // Deleted, and still open.
                None => place.file.metadata().map_err(|error| io_error(&self.topic.folder, "read", &error))?.len(),
            };
            if place.at < end {
                self.read_header(end)?;
                return Ok(Step::Record);
            }
            if place.segment >= extent.newest() {
                return Ok(Step::CaughtUp);
            }
            let number = place.segment + 1;
            let Some(next) = extent.segment(number) else { return Ok(Step::Gone) };
            match self.enter(next)? {
                true => {}
                false => return Ok(Step::Gone),
            }
        }
    }

    /// Finds the segment of the wanted record.
    fn find(&mut self, extent: &Extent) -> Result<Step, ConnectorError> {
        let (first, next) = (extent.first()[self.partition], extent.next[self.partition]);
        if self.next < first || self.next > next {
            return Ok(Step::Gone);
        }
        let partition = self.partition;
        let after = extent.segments.partition_point(|segment| segment.first[partition] <= self.next);
        // The newest of those that begin with it: those before have none of it.
        let Some(segment) = after.checked_sub(1).and_then(|at| extent.segments.get(at)) else { return Ok(Step::Gone) };
        match self.enter(segment)? {
            true => Ok(Step::Record),
            false => Ok(Step::Gone),
        }
    }

    /// Opens a segment; whether it is still there. One that is gone though nobody has deleted it is damage.
    fn enter(&mut self, segment: &Segment) -> Result<bool, ConnectorError> {
        let path = segment::path(&self.topic.folder, segment.number);
        match File::open(&path) {
            Ok(file) => {
                let (segment, at) = (segment.number, segment.frames);
                self.place = Some(Place { segment, file, at, blocks: VecDeque::new() });
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match self.topic.extent.borrow().segment(segment.number) {
                    None => Ok(false),
                    Some(_) => Err(segment::damaged(&path, "is missing")),
                }
            }
            Err(error) => Err(io_error(&path, "read", &error)),
        }
    }

    fn read_header(&mut self, end: u64) -> Result<(), ConnectorError> {
        let Some(place) = &mut self.place else { return Ok(()) };
        let path = segment::path(&self.topic.folder, place.segment);
        let header = FrameHeader::read(&place.file, &self.topic.id, place.at, end);
        let Some(header) = header.map_err(|error| io_error(&path, "read", &error))? else {
            return Err(segment::damaged(&path, &format!("is damaged at byte {}", place.at)));
        };
        let wanted = match (&self.sink, &header.marker) {
            (None, _) => true,
            (Some(sink), Some(marker)) => marker.sink == *sink,
            (Some(_), None) => false,
        };
        let mut at = place.at + header.length;
        place.at += header.frame_length();
        for entry in header.blocks {
            let block = at;
            at += u64::from(entry.length);
            let is_new = self.since.is_none_or(|millis| entry.newest >= millis);
            if wanted && is_new && entry.partition == self.partition {
                place.blocks.push_back((block, entry));
            }
        }
        Ok(())
    }

    fn read_block(&mut self, at: u64, entry: &BlockEntry) -> Result<(), ConnectorError> {
        let Some(place) = &self.place else { return Ok(()) };
        let block = &mut self.block;
        block.bytes.resize(entry.length as usize, 0);
        let read = place.file.read_exact_at(&mut block.bytes, at);
        let path = || segment::path(&self.topic.folder, place.segment);
        read.map_err(|error| io_error(&path(), "read", &error))?;
        if !entry.is_whole(&self.topic.id, &block.bytes) {
            return Err(segment::damaged(&path(), &format!("is damaged at byte {at}")));
        }
        (block.taken, block.next, block.left) = (0, entry.first, entry.records);
        Ok(())
    }

    /// Passes over what comes before the wanted record.
    fn skip(&mut self) -> Result<(), ConnectorError> {
        let wanted = self.next;
        while self.block.left > 0 && self.block.next < wanted {
            self.record()?;
        }
        self.next = wanted;
        Ok(())
    }
}

fn damaged(topic: &Topic, place: Option<&Place>, partition: usize, offset: i64) -> ConnectorError {
    let path = segment::path(&topic.folder, place.map_or(0, |place| place.segment));
    segment::damaged(&path, &format!("has no record {offset} of partition {partition}, which its frame promises"))
}
