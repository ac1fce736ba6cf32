//! Lines into a file, or any other output that takes bytes.
//!
//! Rows wait in memory until they are worth a write; a flush writes them out and, for a file, returns once they are
//! on the disk. Writing goes through the runtime's blocking threads, since a disk or a terminal may be slow.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{ConnectorError, io_error, refused};
use crate::connectors::delivery::OpenSink;
use crate::connectors::{Sink, SinkContext, SinkFactory, SinkMode};
use crate::formats::{EncodeOptions, EncodedRows, Encoder};

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
        task.await.map_err(|error| refused(Path::new("the writing thread"), error.to_string()))??;
        self.unsynced = !sync;
        Ok(())
    }
}

#[async_trait]
impl Sink for LineSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        self.encoded.bytes.clear();
        self.encoded.spans.clear();
        self.encoder.encode(&batch, &mut self.encoded)?;
        for row in self.encoded.iter() {
            self.pending.extend_from_slice(row);
            self.pending.push(b'\n');
        }
        if self.pending.len() >= WRITE_SIZE { self.write_out(false).await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        self.write_out(true).await
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.write_out(true).await
    }
}

/// A file that lines are added to.
pub(super) struct LineFile {
    file: File,
    path: PathBuf,
}

impl LineFile {
    /// Opens or makes the file and the folders above it; whether it is empty.
    pub(super) fn open(path: &Path, overwrite: bool) -> Result<(LineFile, bool), ConnectorError> {
        if path.is_dir() {
            return Err(refused(path, "is a folder; name a file in it, such as 'out.jsonl'"));
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| io_error(folder, "make", &error))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| io_error(path, "write", &error))?;
        if overwrite {
            file.set_len(0).map_err(|error| io_error(path, "write", &error))?;
        }
        let end = file.seek(SeekFrom::End(0)).map_err(|error| io_error(path, "read", &error))?;
        if end > 0 && !ends_with_newline(&mut file).map_err(|error| io_error(path, "read", &error))? {
            // A crash in the middle of a line, or an editor: the next row must not become part of it.
            file.write_all(b"\n").map_err(|error| io_error(path, "write", &error))?;
        }
        Ok((LineFile { file, path: path.to_owned() }, end == 0))
    }
}

fn ends_with_newline(file: &mut File) -> std::io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

impl Output for LineFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectorError> {
        self.file.write_all(bytes).map_err(|error| io_error(&self.path, "write", &error))
    }

    fn sync(&mut self) -> Result<(), ConnectorError> {
        match self.file.sync_data() {
            // Devices and pipes, such as /dev/null, have nothing to sync.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
            outcome => outcome.map_err(|error| io_error(&self.path, "write", &error)),
        }
    }
}

/// Opens a file that rows are added to as lines.
pub(super) struct LineSinkFactory {
    pub(super) path: PathBuf,
    pub(super) overwrite: bool,
    pub(super) encode: EncodeOptions,
    pub(super) header: Option<CsvHeader>,
}

#[async_trait]
impl SinkFactory for LineSinkFactory {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        format!("file {}", self.path.display())
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let encoder = self.encode.encoder(context.schema.clone())?;
        let (file, empty) = LineFile::open(&self.path, self.overwrite)?;
        let header = match self.header {
            Some(header) if empty => header.line(context.schema.fields().iter().map(|field| field.name())),
            _ => vec![],
        };
        Ok(OpenSink::AtOnce(Box::new(LineSink::new(Arc::new(Mutex::new(file)), encoder, header))))
    }
}
