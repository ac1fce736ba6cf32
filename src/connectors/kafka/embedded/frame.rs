//! A frame: what becomes visible together, an epoch's records of all partitions and the sink's marker.
//!
//! It begins with a header: a fixed part, an entry for each block, the marker as JSON, and a checksum of all that. The
//! blocks follow, each with its checksum in its entry. So one header vouches for the whole frame, and a reader of one
//! partition reads, and checks, only what it needs. Checksums begin with the topic's id: a frame of another topic is
//! none here. Numbers are little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::{Offsets, PARTITIONS};
use crate::connectors::delivery::Marker;
use crate::time::{Epoch, Incarnation, LogId};

/// What every frame begins with.
pub(super) const MAGIC: [u8; 4] = *b"AQF1";
/// Magic, length of the header, length of the blocks, number of the frame, count of blocks, length of the marker.
const FIXED: usize = 4 + 4 + 8 + 8 + 4 + 4;
/// Partition, records, first offset, newest time, length, checksum.
const ENTRY: usize = 4 + 4 + 8 + 8 + 4 + 4;
/// The header of most frames is not longer.
const FIRST_READ: usize = 1024;
/// No header is longer: an epoch of a terabyte has one of 32 MB.
const LONGEST: usize = 64 << 20;

/// A sink's marker: how far it is, and which run may write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SinkMarker {
    /// `pipeline/table`.
    pub(super) sink: String,
    pub(super) log: String,
    pub(super) run: u64,
    pub(super) epoch: u64,
}

impl SinkMarker {
    pub(super) fn new(sink: &str, marker: &Marker) -> SinkMarker {
        let Marker { log, incarnation, epoch } = marker;
        SinkMarker { sink: sink.into(), log: log.0.clone(), run: incarnation.0, epoch: epoch.0 }
    }

    /// As the sinks' common rules know it.
    pub(super) fn marker(&self) -> Marker {
        Marker { log: LogId(self.log.clone()), incarnation: Incarnation(self.run), epoch: Epoch(self.epoch) }
    }
}

/// Where a block's records belong, and what its bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct BlockEntry {
    pub(super) partition: usize,
    pub(super) records: u32,
    /// The first record's offset.
    pub(super) first: i64,
    /// The newest of its records' times, in milliseconds since 1970.
    pub(super) newest: i64,
    pub(super) length: u32,
    sum: u32,
}

impl BlockEntry {
    /// The offset after its last record.
    pub(super) fn end(&self) -> i64 {
        self.first + i64::from(self.records)
    }

    pub(super) fn is_whole(&self, id: &str, bytes: &[u8]) -> bool {
        self.sum == sum(id, bytes)
    }
}

/// What a frame says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FrameHeader {
    /// Frames are counted over all segments of a topic, from 0.
    pub(super) number: u64,
    pub(super) blocks: Vec<BlockEntry>,
    pub(super) marker: Option<SinkMarker>,
    /// Its own length in bytes.
    pub(super) length: u64,
}

impl FrameHeader {
    /// The bytes of the header of frame `number`, whose first records get the offsets `next`, which move on.
    pub(super) fn encode(
        id: &str,
        number: u64,
        next: &mut Offsets,
        batch: &Batch,
        marker: Option<&SinkMarker>,
    ) -> Vec<u8> {
        let marker = marker.and_then(|marker| serde_json::to_vec(marker).ok()).unwrap_or_default();
        let count = batch.blocks().count();
        let length = FIXED + count * ENTRY + marker.len() + 4;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend_from_slice(&(batch.bytes() as u64).to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&(count as u32).to_le_bytes());
        bytes.extend_from_slice(&(marker.len() as u32).to_le_bytes());
        for (partition, block) in batch.blocks() {
            bytes.extend_from_slice(&(partition as u32).to_le_bytes());
            bytes.extend_from_slice(&block.records.to_le_bytes());
            bytes.extend_from_slice(&next[partition].to_le_bytes());
            bytes.extend_from_slice(&block.newest.to_le_bytes());
            bytes.extend_from_slice(&(block.bytes.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&sum(id, &block.bytes).to_le_bytes());
            next[partition] += i64::from(block.records);
        }
        bytes.extend_from_slice(&marker);
        let sum = sum(id, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header at `at` of a file whose frames end at `end`, if there is a whole one.
    pub(super) fn read(file: &File, id: &str, at: u64, end: u64) -> io::Result<Option<FrameHeader>> {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(FIRST_READ)];
        file.read_exact_at(&mut bytes, at)?;
        let Some(length) = header_length(&bytes).filter(|length| *length <= left) else { return Ok(None) };
        let first = bytes.len().min(length);
        bytes.resize(length, 0);
        file.read_exact_at(&mut bytes[first..], at + first as u64)?;
        Ok(FrameHeader::decode(id, &bytes).filter(|header| at + header.frame_length() <= end))
    }

    fn decode(id: &str, bytes: &[u8]) -> Option<FrameHeader> {
        let (content, rest) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if rest != sum(id, content).to_le_bytes() {
            return None;
        }
        let mut fields = Fields(content.get(8..)?);
        let (_, number) = (fields.long()?, fields.long()?);
        let (count, marker_length) = (fields.int()?, fields.int()? as usize);
        let mut blocks = Vec::with_capacity(count as usize);
        for _ in 0..count {
            blocks.push(BlockEntry {
                partition: Some(fields.int()? as usize).filter(|partition| *partition < PARTITIONS)?,
                records: fields.int()?,
                first: fields.long()? as i64,
                newest: fields.long()? as i64,
                length: fields.int()?,
                sum: fields.int()?,
            });
        }
        let marker = match marker_length {
            0 => None,
            length => Some(serde_json::from_slice(fields.0.get(..length)?).ok()?),
        };
        Some(FrameHeader { number, blocks, marker, length: bytes.len() as u64 })
    }

    /// The length of header and blocks.
    pub(super) fn frame_length(&self) -> u64 {
        self.length + self.blocks.iter().map(|block| u64::from(block.length)).sum::<u64>()
    }

    /// Whether every block of the frame at `at` is whole.
    pub(super) fn check(&self, file: &File, id: &str, at: u64) -> io::Result<bool> {
        let mut at = at + self.length;
        let mut bytes = vec![];
        for block in &self.blocks {
            bytes.resize(block.length as usize, 0);
            file.read_exact_at(&mut bytes, at)?;
            if !block.is_whole(id, &bytes) {
                return Ok(false);
            }
            at += u64::from(block.length);
        }
        Ok(true)
    }
}

/// What the fixed part says of the header's length, if it can be one.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let mut fields = Fields(bytes.strip_prefix(&MAGIC)?);
    let length = fields.int()? as usize;
    (FIXED + 4..=LONGEST).contains(&length).then_some(length)
}

/// A checksum that holds in one topic only.
pub(super) fn sum(id: &str, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id.as_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Numbers one after another.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn int(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn long(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::NewRecord;
    use super::*;

    #[test]
    fn a_header_says_what_its_frame_holds() {
        let mut batch = Batch::default();
        for (partition, value) in [(1, "a"), (2, "bc"), (1, "def")] {
            let record = NewRecord { timestamp: value.len() as i64, key: None, value: value.as_bytes(), headers: &[] };
            batch.push(partition, &record);
        }
        let marker = SinkMarker { sink: "shop/out".into(), log: "l".into(), run: 3, epoch: 9 };
        let mut next = [10, 20, 30];
        let bytes = FrameHeader::encode("id", 7, &mut next, &batch, Some(&marker));
        assert_eq!(next, [10, 22, 31]);
        let header = FrameHeader::decode("id", &bytes).unwrap();
        assert_eq!((header.number, header.marker.as_ref()), (7, Some(&marker)));
        let blocks = header.blocks.iter().map(|block| (block.partition, block.first, block.end(), block.newest));
        assert_eq!(Vec::from_iter(blocks), [(1, 20, 22, 3), (2, 30, 31, 2)]);
        assert_eq!(header.frame_length(), (bytes.len() + batch.bytes()) as u64);
        assert_eq!(FrameHeader::decode("another topic", &bytes), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(FrameHeader::decode("id", &damaged), None, "byte {at}");
        }
    }
}
