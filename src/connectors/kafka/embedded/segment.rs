//! A segment: a file of frames. Its name is its number, `00000000000000000003.log`.
//!
//! It begins with a header in JSON, with a length and a checksum: whose segment it is, the offsets at which its
//! partitions begin, and the markers of all sinks so far, so that neither a search nor a marker needs the segments
//! before it. A segment is written under another name, synced and then named: one that is there has a whole header.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Offsets;
use super::frame::{FrameHeader, MAGIC, SinkMarker};
use crate::connectors::ConnectorError;
use crate::connectors::disk::{io_error, refused, sync_folder_of, waiting};

const BEGINNING: &[u8; 4] = b"AQS1";
/// The name of a segment that is being made.
const UNNAMED: &str = "new.tmp";
/// So much is looked through at a time.
const STRETCH: usize = 1 << 20;

/// What a segment says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SegmentHeader {
    pub(super) topic: String,
    /// The topic's id.
    pub(super) id: String,
    pub(super) segment: u64,
    /// The number of its first frame.
    pub(super) frame: u64,
    /// By partition, the offset of its first record.
    pub(super) first: Offsets,
    /// The newest marker of each sink, when the segment was begun.
    pub(super) markers: BTreeMap<String, SinkMarker>,
}

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.log"))
}

/// The numbers of the segments in a folder, rising. Takes away what a crash has left of one that was being made, if
/// `tidy`.
pub(super) fn list(folder: &Path, tidy: bool) -> Result<Vec<u64>, ConnectorError> {
    let read = |error: io::Error| io_error(folder, "read", &error);
    let mut numbers = vec![];
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == UNNAMED && tidy {
            std::fs::remove_file(folder.join(name)).map_err(|error| io_error(folder, "write", &error))?;
        }
        numbers.extend(name.strip_suffix(".log").and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        None => Ok(numbers),
        Some(pair) => {
            Err(damaged(&path(folder, pair[0] + 1), "is missing, and there are segments before and after it"))
        }
    }
}

impl SegmentHeader {
    /// Makes the segment's file, synced with its folder. Gives the file and its length.
    pub(super) fn create(&self, folder: &Path) -> Result<(File, u64), ConnectorError> {
        let (unnamed, named) = (folder.join(UNNAMED), path(folder, self.segment));
        let fails = |error: io::Error| waiting(&named, "write", &error);
        let json = serde_json::to_vec(self).map_err(|error| refused(&named, error.to_string()))?;
        let mut bytes = BEGINNING.to_vec();
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&unnamed).map_err(fails)?;
        file.write_all(&bytes).map_err(fails)?;
        file.sync_all().map_err(fails)?;
        std::fs::rename(&unnamed, &named).map_err(fails)?;
        sync_folder_of(&named)?;
        Ok((file, bytes.len() as u64))
    }

    /// Reads what the segment in `file` says of itself, and where its frames begin.
    pub(super) fn read(file: &File, path: &Path) -> Result<(SegmentHeader, u64), ConnectorError> {
        let mut start = [0; 8];
        let short = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(path, "ends in the middle of its header"),
            _ => io_error(path, "read", &error),
        };
        file.read_exact_at(&mut start, 0).map_err(short)?;
        let length = u32::from_le_bytes([start[4], start[5], start[6], start[7]]) as usize;
        let left = file.metadata().map_err(|error| io_error(path, "read", &error))?.len();
        if start[..4] != *BEGINNING || length as u64 > left {
            return Err(damaged(path, "does not begin as one"));
        }
        let mut bytes = vec![0; 8 + length + 4];
        file.read_exact_at(&mut bytes, 0).map_err(short)?;
        let (content, sum) = bytes.split_at(8 + length);
        let header =
            serde_json::from_slice(&content[8..]).ok().filter(|_| sum == crc32fast::hash(content).to_le_bytes());
        let header = header.ok_or_else(|| damaged(path, "has a header with a wrong checksum"))?;
        Ok((header, bytes.len() as u64))
    }
}

/// Reads the frames from `at` to `end`, blocks included, and shows each to `each`; gives the place where they stop being
/// whole, and the number of the next.
pub(super) fn scan(
    file: &File,
    id: &str,
    mut number: u64,
    mut at: u64,
    end: u64,
    mut each: impl FnMut(&FrameHeader),
) -> io::Result<(u64, u64)> {
    while at < end {
        let Some(header) = FrameHeader::read(file, id, at, end)?.filter(|header| header.number == number) else {
            break;
        };
        if !header.check(file, id, at)? {
            break;
        }
        each(&header);
        at += header.frame_length();
        number += 1;
    }
    Ok((at, number))
}

/// Whether a whole frame with a number from `number` on stands anywhere from `at` to `end`. Then what stands at `at` is
/// damage and no write that was broken off: nothing is written behind a frame that is not synced.
pub(super) fn has_frame_after(file: &File, id: &str, number: u64, mut at: u64, end: u64) -> io::Result<bool> {
    let mut bytes = vec![];
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(STRETCH);
        bytes.resize(length, 0);
        file.read_exact_at(&mut bytes, at)?;
        for found in bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| **window == MAGIC) {
            let place = at + found.0 as u64;
            if FrameHeader::read(file, id, place, end)?.is_some_and(|header| header.number > number) {
                return Ok(true);
            }
        }
        if length < STRETCH {
            break;
        }
        // The magic may lie across the border.
        at += (length - (MAGIC.len() - 1)) as u64;
    }
    Ok(false)
}

/// A file that is not as it was written.
pub(super) fn damaged(path: &Path, how: &str) -> ConnectorError {
    ConnectorError::Mismatch {
        what: path.display().to_string(),
        message: format!(
            "this segment of the embedded Kafka {how}: put it back from a backup, or move the topic's folder away and go \
             on without its records (--accept-lost-input)"
        ),
    }
}
