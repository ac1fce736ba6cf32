//! Record batches of several operators or sinks in one file: Arrow IPC streams one after the other, and an index.
//!
//! ```text
//! "ACQSECT1" | stream | stream | … | index as JSON | bytes and crc32 of the index | bytes of all | crc32 of all before
//! ```
//! Batches with one schema, its metadata included, share a stream.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::faults::{Bug, planted};

const MAGIC: &[u8; 8] = b"ACQSECT1";
/// Bytes and checksum of the index, bytes of the file, checksum of what is before.
const TRAILER: usize = 4 + 4 + 8 + 4;
/// Room for what is around the rows: schemas, the index, the trailer.
const FRAME: usize = 16 << 10;

/// Batches with the instance that each belongs to.
pub type Batches = Vec<(usize, RecordBatch)>;

/// Batches of one schema.
#[derive(Serialize, Deserialize)]
struct Section {
    /// Whose they are.
    name: String,
    /// The instance of each batch.
    instances: Vec<usize>,
    rows: u64,
    offset: usize,
    bytes: usize,
    crc32: u32,
}

/// A file that has been found to be whole.
pub struct SectionFile {
    bytes: Bytes,
    sections: Vec<Section>,
}

/// A file that is being made.
pub struct SectionWriter {
    bytes: Vec<u8>,
    sections: Vec<Section>,
}

impl SectionWriter {
    /// An empty one, for about so many `bytes` of rows. Memory that nothing is written into costs nothing; a file that
    /// outgrows its memory is copied, and each new place for it is cleared by the kernel page by page.
    pub fn with_room(bytes: usize) -> SectionWriter {
        let mut room = Vec::with_capacity(bytes + bytes / 16 + FRAME);
        room.extend_from_slice(MAGIC);
        SectionWriter { bytes: room, sections: vec![] }
    }

    /// Adds the batches of `name`. Returns the bytes that they take.
    ///
    /// # Errors
    /// When a type cannot be written as Arrow IPC.
    pub fn add(&mut self, name: &str, batches: &[(usize, RecordBatch)]) -> Result<u64, ArrowError> {
        let before = self.bytes.len();
        let mut rest = batches;
        while let Some((_, first)) = rest.first() {
            let schema = first.schema();
            let same = rest.iter().take_while(|(_, batch)| is_same(&batch.schema(), &schema)).count();
            let (run, later) = rest.split_at(same);
            self.add_run(name, &schema, run)?;
            rest = later;
        }
        Ok((self.bytes.len() - before) as u64)
    }

    fn add_run(&mut self, name: &str, schema: &SchemaRef, run: &[(usize, RecordBatch)]) -> Result<(), ArrowError> {
        // A reader that maps the file finds its buffers aligned.
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let offset = self.bytes.len();
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut writer = StreamWriter::try_new_with_options(&mut self.bytes, schema, options)?;
        for (_, batch) in run {
            writer.write(batch)?;
        }
        writer.finish()?;
        drop(writer);
        self.sections.push(Section {
            name: name.to_owned(),
            instances: run.iter().map(|(instance, _)| *instance).collect(),
            rows: run.iter().map(|(_, batch)| batch.num_rows() as u64).sum(),
            offset,
            bytes: self.bytes.len() - offset,
            crc32: crc32fast::hash(&self.bytes[offset..]),
        });
        Ok(())
    }

    /// The file.
    ///
    /// # Errors
    /// When it is too large.
    pub fn finish(mut self) -> Result<Bytes, ArrowError> {
        let index = serde_json::to_vec(&self.sections).map_err(|error| ArrowError::ExternalError(error.into()))?;
        let length = u32::try_from(index.len()).map_err(|error| ArrowError::ExternalError(error.into()))?;
        self.bytes.extend_from_slice(&index);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&crc32fast::hash(&index).to_le_bytes());
        let all = (self.bytes.len() + 12) as u64;
        self.bytes.extend_from_slice(&all.to_le_bytes());
        let crc = crc32fast::hash(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(self.bytes.into())
    }
}

/// Bytes of the rows themselves, without the rest of the buffers that they may be a part of.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    // What cannot be told is a view of others' buffers; then the file grows as it must.
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

impl SectionFile {
    /// Reads the index of a file and checks all of it, unless the caller has compared it with the checksum in a
    /// manifest already.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(bytes: Bytes, checked: bool) -> Result<SectionFile, String> {
        if bytes.len() < MAGIC.len() + TRAILER || !bytes.starts_with(MAGIC) {
            return Err(format!("it does not begin as a file of checkpoints does ({} bytes)", bytes.len()));
        }
        let (rest, crc) = bytes.split_at(bytes.len() - 4);
        let checks = !planted(Bug::ChecksumIgnored);
        if checks && !checked && crc32fast::hash(rest).to_le_bytes() != crc {
            return Err("its checksum does not match what it holds".into());
        }
        let (rest, all) = rest.split_at(rest.len() - 8);
        if all != (bytes.len() as u64).to_le_bytes() {
            return Err(format!("its length is not what it says ({} bytes)", bytes.len()));
        }
        let (rest, index_crc) = rest.split_at(rest.len() - 4);
        let (rest, length) = rest.split_at(rest.len() - 4);
        let length = length.iter().rev().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        let start = rest.len().checked_sub(length).ok_or("its index is cut off")?;
        let index = &rest[start..];
        if checks && crc32fast::hash(index).to_le_bytes() != index_crc {
            return Err("the checksum of its index does not match".into());
        }
        let sections: Vec<Section> =
            serde_json::from_slice(index).map_err(|error| format!("its index cannot be read: {error}"))?;
        if let Some(lost) = sections.iter().find(|section| section.offset.saturating_add(section.bytes) > start) {
            return Err(format!("the part of {} lies outside of it", lost.name));
        }
        Ok(SectionFile { bytes, sections })
    }

    /// The batches of `name`, in the order in which they were added.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(&self, name: &str) -> Result<Batches, String> {
        let mut batches = vec![];
        for section in self.sections.iter().filter(|section| section.name == name) {
            // Of what is not as it was written and yet has the right checksum, Arrow may make anything, a panic too.
            let read = catch_unwind(AssertUnwindSafe(|| self.read_section(section, &mut batches)));
            let read = read.unwrap_or_else(|_| Err("it cannot be read".into()));
            read.map_err(|error| format!("the part of {name}: {error}"))?;
        }
        Ok(batches)
    }

    /// What is wrong with any of its parts.
    pub fn flaws(&self) -> Vec<String> {
        let names: std::collections::BTreeSet<&str> =
            self.sections.iter().map(|section| section.name.as_str()).collect();
        names.into_iter().filter_map(|name| self.read(name).err()).collect()
    }

    fn read_section(&self, section: &Section, batches: &mut Batches) -> Result<(), String> {
        let stream = self.bytes.slice(section.offset..section.offset + section.bytes);
        if crc32fast::hash(&stream) != section.crc32 && !planted(Bug::ChecksumIgnored) {
            return Err("its checksum does not match what it holds".into());
        }
        let mut buffer = Buffer::from(stream);
        let mut decoder = StreamDecoder::new();
        let before = batches.len();
        while let Some(batch) = decoder.decode(&mut buffer).map_err(|error| error.to_string())? {
            let Some(instance) = section.instances.get(batches.len() - before) else {
                return Err("it has more batches than its index says".into());
            };
            batches.push((*instance, batch));
        }
        if batches.len() - before != section.instances.len() {
            return Err("it has fewer batches than its index says".into());
        }
        Ok(())
    }
}

fn is_same(schema: &SchemaRef, other: &SchemaRef) -> bool {
    std::sync::Arc::ptr_eq(schema, other) || schema == other
}
