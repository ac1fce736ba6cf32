//! Rows as lines into anything that takes bytes: files and stdout share it.
//!
//! Rows wait in memory until they are worth a write; a flush writes them out and, for a file, returns once they are
//! on the disk. Writing goes through the runtime's blocking threads, since a disk or a terminal may be slow.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{ConnectorError, Sink};
use crate::formats::{EncodedRows, Encoder};

/// So many bytes are worth a write.
const WRITE_SIZE: usize = 1 << 20;

/// The line of names at the head of a CSV file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CsvHeader {
    /// What stands between the names.
    pub delimiter: u8,
    /// Whether it is written at all.
    pub wanted: bool,
}

impl CsvHeader {
    /// The byte that an option's text means; the format itself complains about a wrong one.
    pub(crate) fn byte(text: Option<&str>, default: u8) -> u8 {
        match text {
            Some("\\t") => b'\t',
            text => text.and_then(|text| text.bytes().next()).unwrap_or(default),
        }
    }

    /// The line for these columns, with its newline; nothing if none is wanted.
    pub(crate) fn line<'a>(self, columns: impl Iterator<Item = &'a String>) -> Vec<u8> {
        if !self.wanted {
            return vec![];
        }
        let delimiter = char::from(self.delimiter);
        let quoted: Vec<String> = columns
            .map(|name| match name.contains([delimiter, '"', '\n', '\r']) {
                true => format!("\"{}\"", name.replace('"', "\"\"")),
                false => name.clone(),
            })
            .collect();
        format!("{}\n", quoted.join(&delimiter.to_string())).into_bytes()
    }
}

/// Where lines go. Errors name the place.
pub(crate) trait Output: Send {
    /// Writes all of it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectorError>;
    /// Returns once all of it is where it belongs.
    fn sync(&mut self) -> Result<(), ConnectorError>;
}

/// Writes each row as a line.
pub(crate) struct LineSink {
    output: Arc<Mutex<dyn Output>>,
    encoder: Box<dyn Encoder>,
    encoded: EncodedRows,
    pending: Vec<u8>,
    unsynced: bool,
}

impl LineSink {
    /// Writes `first` (a header, or nothing) and then rows.
    pub(crate) fn new(output: Arc<Mutex<dyn Output>>, encoder: Box<dyn Encoder>, first: Vec<u8>) -> LineSink {
        LineSink { output, encoder, encoded: EncodedRows::default(), pending: first, unsynced: false }
    }

    async fn write_out(&mut self, sync: bool) -> Result<(), ConnectorError> {
        let pending = std::mem::take(&mut self.pending);
        self.unsynced |= !pending.is_empty();
        if !self.unsynced {
            return Ok(());
        }
        let output = self.output.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut output = output.lock();
            output.write(&pending)?;
            if sync { output.sync() } else { Ok(()) }
        });
        let died = |error: tokio::task::JoinError| ConnectorError::Refused {
            what: "the writing thread".into(),
            message: error.to_string(),
        };
        task.await.map_err(died)??;
        self.unsynced = !sync;
        Ok(())
    }
}

#[async_trait]
impl Sink for LineSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        append_lines(&mut *self.encoder, &batch, &mut self.encoded, &mut self.pending)?;
        if self.pending.len() >= WRITE_SIZE { self.write_out(false).await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        self.write_out(true).await
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.write_out(true).await
    }
}

/// Adds the rows of a batch to `out`, a line each. `encoded` is room to work in.
pub(crate) fn append_lines(
    encoder: &mut dyn Encoder,
    batch: &RecordBatch,
    encoded: &mut EncodedRows,
    out: &mut Vec<u8>,
) -> Result<(), ConnectorError> {
    encoded.bytes.clear();
    encoded.spans.clear();
    encoder.encode(batch, encoded)?;
    for row in encoded.iter() {
        out.extend_from_slice(row);
        out.push(b'\n');
    }
    Ok(())
}
