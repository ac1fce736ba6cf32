//! The writing end of a topic: frames appended and synced one after another, segments rolled, the oldest deleted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::batch::Batch;
use super::frame::{FrameHeader, SinkMarker};
use super::segment::{self, SegmentHeader};
use super::topic::{End, Extent, Found, Segment, Topic};
use super::{PARTITIONS, new_id};
use crate::connectors::ConnectorError;
use crate::connectors::disk::{io_error, sync_folder_of, waiting};
use crate::faults::crash_point;

/// A topic keeps so many bytes unless a table says otherwise.
pub(super) const RETENTION: u64 = 1 << 30;
/// No segment is begun that is larger, and so many of them make up what is kept if that is little.
const LARGEST_SEGMENT: u64 = 64 << 20;
const SEGMENTS: u64 = 16;
/// No segment is ended that is smaller: its header should not outweigh its records.
const SMALLEST_SEGMENT: u64 = 64 << 10;

/// Appends to a topic.
#[derive(Debug)]
pub(super) struct Appender {
    topic: Arc<Topic>,
    /// The newest segment.
    file: File,
    /// The number of the next frame.
    frame: u64,
    markers: BTreeMap<String, SinkMarker>,
    /// The most that a table wants to be kept; `None` if none has said.
    retention: Option<u64>,
    /// A write or a sync has failed: what the file holds behind its whole frames is nothing.
    unsure: bool,
}

impl Appender {
    /// Opens the topic in `folder`, or makes it. Cuts off what a crash has left of a frame that was being written.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or is damaged.
    pub(super) fn open(folder: &Path, name: &str) -> Result<Appender, ConnectorError> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).map_err(|error| waiting(&folder, "write", &error))?;
        sync_folder_of(&folder)?;
        let found = match Found::read(&folder, true)? {
            Some(found) => found,
            None => {
                let (topic, markers) = (name.to_owned(), BTreeMap::new());
                let first = [0; PARTITIONS];
                SegmentHeader { topic, id: new_id(), segment: 0, frame: 0, first, markers }.create(&folder)?;
                let made = Found::read(&folder, true)?;
                made.ok_or_else(|| segment::damaged(&segment::path(&folder, 0), "was made and is not there"))?
            }
        };
        let mut markers = found.header.markers.clone();
        let end = found.scan(|header| {
            if let Some(marker) = &header.marker {
                markers.insert(marker.sink.clone(), marker.clone());
            }
        })?;
        cut(&found, &end)?;
        // A frame that was written and not synced is whole, too; from now on it counts.
        found.file.sync_all().map_err(|error| waiting(&found.path, "write", &error))?;
        let topic = Arc::new(found.topic(name, &folder, &end));
        Ok(Appender { topic, file: found.file, frame: end.frame, markers, retention: None, unsure: false })
    }

    pub(super) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// The newest marker of a sink.
    pub(super) fn marker(&self, sink: &str) -> Option<&SinkMarker> {
        self.markers.get(sink)
    }

    /// A table wants so many bytes to be kept. The largest wish holds.
    pub(super) fn keep(&mut self, bytes: u64) {
        self.retention = self.retention.max(Some(bytes));
    }

    /// Appends one frame; it is synced and can be read when this returns. Nothing is left of it after an error.
    ///
    /// # Errors
    /// `Unavailable` while the disk is full.
    pub(super) fn append(&mut self, batch: &Batch, marker: Option<&SinkMarker>) -> Result<(), ConnectorError> {
        if batch.is_empty() && marker.is_none() {
            return Ok(());
        }
        let mut extent = self.topic.extent();
        if extent.length >= self.segment_size() {
            self.roll(&mut extent)?;
        }
        let path = segment::path(&self.topic.folder, extent.newest());
        let header = FrameHeader::encode(&self.topic.id, self.frame, &mut extent.next, batch, marker);
        self.write(&header, batch, extent.length).map_err(|error| waiting(&path, "write", &error))?;
        self.frame += 1;
        if let Some(marker) = marker {
            self.markers.insert(marker.sink.clone(), marker.clone());
        }
        extent.length += (header.len() + batch.bytes()) as u64;
        self.topic.extent.send_replace(extent);
        Ok(())
    }

    fn write(&mut self, header: &[u8], batch: &Batch, at: u64) -> io::Result<()> {
        if self.unsure {
            self.file.set_len(at)?;
        }
        self.unsure = true;
        crash_point!("sink.kafka.embedded.before_frame");
        self.file.write_all_at(header, at)?;
        let mut at = at + header.len() as u64;
        crash_point!("sink.kafka.embedded.amid_frame");
        for (_, block) in batch.blocks() {
            self.file.write_all_at(&block.bytes, at)?;
            at += block.bytes.len() as u64;
        }
        crash_point!("sink.kafka.embedded.before_sync");
        self.file.sync_data()?;
        crash_point!("sink.kafka.embedded.after_sync");
        self.unsure = false;
        Ok(())
    }

    /// Leaves the file as a write that failed does.
    #[cfg(test)]
    pub(super) fn spoil(&mut self, bytes: &[u8]) {
        self.unsure = true;
        self.file.write_all_at(bytes, self.topic.extent().length).expect("the disk has room");
    }

    fn kept(&self) -> u64 {
        self.retention.unwrap_or(RETENTION)
    }

    fn segment_size(&self) -> u64 {
        (self.kept() / SEGMENTS).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT)
    }

    /// Begins a segment, and deletes the oldest ones that are not to be kept any more.
    fn roll(&mut self, extent: &mut Extent) -> Result<(), ConnectorError> {
        if self.unsure {
            let path = segment::path(&self.topic.folder, extent.newest());
            let cut = self.file.set_len(extent.length).and_then(|()| self.file.sync_all());
            cut.map_err(|error| waiting(&path, "write", &error))?;
            self.unsure = false;
        }
        let header = SegmentHeader {
            topic: self.topic.name.clone(),
            id: self.topic.id.clone(),
            segment: extent.newest() + 1,
            frame: self.frame,
            first: extent.next,
            markers: self.markers.clone(),
        };
        crash_point!("sink.kafka.embedded.before_roll");
        let (file, length) = header.create(&self.topic.folder)?;
        self.file = file;
        let mut segments = extent.segments.to_vec();
        if let Some(last) = segments.last_mut() {
            last.length = extent.length;
        }
        segments.push(Segment { number: header.segment, first: header.first, frames: length, length });
        let excess = excess(&segments, self.kept());
        let gone: Vec<u64> = segments.drain(..excess).map(|segment| segment.number).collect();
        (extent.segments, extent.length) = (Arc::new(segments), length);
        // Before they go: who still wants them learns that they are gone.
        self.topic.extent.send_replace(extent.clone());
        for number in gone {
            let path = segment::path(&self.topic.folder, number);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!("{}", io_error(&path, "delete", &error));
            }
        }
        Ok(())
    }
}

/// How many of the oldest segments are more than is to be kept.
fn excess(segments: &[Segment], kept: u64) -> usize {
    let mut bytes: u64 = segments.iter().map(|segment| segment.length).sum();
    let mut excess = 0;
    while bytes > kept && excess + 1 < segments.len() {
        bytes -= segments[excess].length;
        excess += 1;
    }
    excess
}

/// Cuts off what is no whole frame, unless that is damage in the midst of frames.
fn cut(found: &Found, end: &End) -> Result<(), ConnectorError> {
    let beyond = end.file_length - end.length;
    if beyond == 0 {
        return Ok(());
    }
    let fails = |error: io::Error| io_error(&found.path, "read", &error);
    if segment::has_frame_after(&found.file, &found.header.id, end.frame, end.length, end.file_length).map_err(fails)? {
        return Err(segment::damaged(&found.path, &format!("is damaged at byte {}", end.length)));
    }
    found.file.set_len(end.length).map_err(|error| waiting(&found.path, "write", &error))?;
    tracing::warn!(
        "{}: its last {beyond} bytes were of a write that was broken off, and are cut off; what was confirmed is there",
        found.path.display()
    );
    Ok(())
}
