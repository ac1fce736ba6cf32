//! Chunks of files, read once and kept for a while: the splits of a history lie side by side in its files, and each of
//! them asks for the same chunks at about the same time.
//!
//! Keeping is bounded by bytes. A chunk that is asked for again after it was let go is read again.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use parking_lot::Mutex;

use super::super::reading::{Batches, Pinned, refused};
use super::Reach;
use crate::connectors::ConnectorError;

/// Places in a file at which it is being read at a time: one for splits that go together, and some for those that lag.
const TAPES: usize = 4;
/// So many chunks are rather read over than the file opened anew.
const READ_OVER: usize = 16;

/// The chunks of all files of a table in some columns.
pub(super) struct Shelf {
    table: Arc<Pinned>,
    schema: SchemaRef,
    /// Of each file, the number of the first row of each chunk, and that of all its rows.
    chunks: Vec<Vec<u64>>,
    reach: Reach,
    kept: Mutex<Kept>,
    /// Where each file is being read.
    tapes: Vec<tokio::sync::Mutex<Vec<Tape>>>,
}

/// Chunks that are kept, by file and number.
#[derive(Default)]
struct Kept {
    chunks: HashMap<(usize, usize), (RecordBatch, u64)>,
    bytes: usize,
    /// Counts the uses: what was used longest ago is let go first.
    uses: u64,
}

/// A file that is being read.
struct Tape {
    /// The number of the chunk that comes next.
    next: usize,
    batches: Batches,
    used: u64,
}

impl Shelf {
    pub(super) fn new(table: Arc<Pinned>, schema: SchemaRef, chunks: Vec<Vec<u64>>, reach: Reach) -> Shelf {
        let tapes = chunks.iter().map(|_| tokio::sync::Mutex::default()).collect();
        Shelf { table, schema, chunks, reach, kept: Mutex::default(), tapes }
    }

    /// The chunk that holds a row.
    pub(super) fn chunk_of(&self, file: u32, row: u64) -> usize {
        self.chunks[file as usize].partition_point(|first| *first <= row).saturating_sub(1)
    }

    /// The number of a chunk's first row.
    pub(super) fn first_row(&self, file: u32, chunk: usize) -> u64 {
        self.chunks[file as usize][chunk]
    }

    /// A chunk's rows.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) async fn chunk(&self, file: u32, chunk: usize) -> Result<RecordBatch, ConnectorError> {
        let file = file as usize;
        if let Some(batch) = self.kept.lock().get((file, chunk)) {
            return Ok(batch);
        }
        let mut tapes = self.tapes[file].lock().await;
        // Another may have read it meanwhile.
        if let Some(batch) = self.kept.lock().get((file, chunk)) {
            return Ok(batch);
        }
        let reaches = |tape: &Tape| tape.next <= chunk && chunk - tape.next <= READ_OVER;
        let nearest = (0..tapes.len()).filter(|at| reaches(&tapes[*at])).max_by_key(|at| tapes[*at].next);
        let mut tape = match nearest {
            Some(at) => tapes.swap_remove(at),
            None => self.open(file, chunk, &mut tapes),
        };
        loop {
            let number = tape.next;
            let batch = match tape.batches.next().await {
                Some(batch) => batch?,
                None => return Err(self.changed(file)),
            };
            if batch.num_rows() as u64 != self.chunks[file][number + 1] - self.chunks[file][number] {
                return Err(self.changed(file));
            }
            tape.next += 1;
            tape.used = self.kept.lock().keep((file, number), batch.clone(), self.reach.kept_bytes);
            if number == chunk {
                if tape.next + 1 < self.chunks[file].len() {
                    tapes.push(tape);
                }
                return Ok(batch);
            }
        }
    }

    fn open(&self, file: usize, chunk: usize, tapes: &mut Vec<Tape>) -> Tape {
        if tapes.len() >= TAPES
            && let Some(at) = (0..tapes.len()).min_by_key(|at| tapes[*at].used)
        {
            tapes.swap_remove(at);
        }
        let batches = self.table.read(file, &self.schema, self.reach.chunk_rows, self.chunks[file][chunk]);
        Tape { next: chunk, batches, used: 0 }
    }

    /// Files of a Delta table are never changed.
    fn changed(&self, file: usize) -> ConnectorError {
        let path = &self.table.files[file].path;
        refused(&self.table.what, format!("its file {path} has other rows than when it was looked through"))
    }
}

impl Kept {
    fn get(&mut self, chunk: (usize, usize)) -> Option<RecordBatch> {
        self.uses += 1;
        let uses = self.uses;
        let (batch, used) = self.chunks.get_mut(&chunk)?;
        *used = uses;
        Some(batch.clone())
    }

    /// Keeps a chunk, and lets others go until no more than `most` bytes are kept. Returns the number of this use.
    fn keep(&mut self, chunk: (usize, usize), batch: RecordBatch, most: usize) -> u64 {
        self.uses += 1;
        self.bytes += batch.get_array_memory_size();
        if let Some((before, _)) = self.chunks.insert(chunk, (batch, self.uses)) {
            self.bytes -= before.get_array_memory_size();
        }
        while self.bytes > most
            && let Some(oldest) = self.chunks.iter().min_by_key(|(_, (_, used))| *used).map(|(chunk, _)| *chunk)
            && let Some((batch, _)) = self.chunks.remove(&oldest)
        {
            self.bytes -= batch.get_array_memory_size();
        }
        self.uses
    }
}
