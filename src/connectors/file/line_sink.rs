//! Lines into a file: by the epoch with a marker, or at once.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::line_epochs::LineEpochs;
use super::marker::MarkerFile;
use super::packed::Packing;
use super::{ConnectorError, io_error, refused};
use crate::connectors::delivery::{Delivery, OpenSink, Promise};
use crate::connectors::lines::{CsvHeader, LineSink, Output};
use crate::connectors::{SinkContext, SinkFactory, SinkMode};
use crate::formats::EncodeOptions;

/// A file that lines are added to.
pub(super) struct LineFile {
    file: File,
    path: PathBuf,
}

impl LineFile {
    /// Opens or makes the file and the folders above it; whether it is empty.
    pub(super) fn open(path: &Path, overwrite: bool) -> Result<(LineFile, bool), ConnectorError> {
        make_folder_of(path)?;
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

/// Makes the folders above a file that is to be written.
pub(super) fn make_folder_of(path: &Path) -> Result<(), ConnectorError> {
    if path.is_dir() {
        return Err(refused(path, "is a folder; name a file in it, such as 'out.jsonl'"));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| io_error(folder, "make", &error))?;
    }
    Ok(())
}

/// Whether a file that is not empty ends a line.
pub(super) fn ends_with_newline(file: &mut File) -> std::io::Result<bool> {
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
    pub(super) promise: Promise,
}

#[async_trait]
impl SinkFactory for LineSinkFactory {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        format!("file {}", self.path.display())
    }

    fn delivery(&self) -> Delivery {
        // A pipe or a device keeps nothing that a marker could speak of.
        let stream = std::fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file());
        if self.promise == Promise::ExactlyOnce && !stream { Delivery::PerEpoch } else { Delivery::AtOnce }
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        if let Some(packing) = Packing::of(&self.path) {
            let message = format!("lines are written as they are, not compressed: leave .{} out", packing.extension());
            return Err(refused(&self.path, message));
        }
        let encoder = self.encode.encoder(context.schema.clone())?;
        let header = self.header.map(|header| header.line(context.schema.fields().iter().map(|field| field.name())));
        let header = header.unwrap_or_default();
        if let Some(writer) = context.writer.clone()
            && self.delivery() == Delivery::PerEpoch
        {
            make_folder_of(&self.path)?;
            let (sink, settled) = LineEpochs::open(self, encoder, header, writer, &context).await?;
            return Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled });
        }
        let overwrite = self.overwrite && context.writer.as_ref().is_none_or(super::begins_anew);
        let (file, empty) = LineFile::open(&self.path, overwrite)?;
        // What comes now is not counted, so that an old marker would not fit any more.
        MarkerFile::beside(&self.path).remove()?;
        let header = if empty { header } else { vec![] };
        Ok(OpenSink::AtOnce(Box::new(LineSink::new(Arc::new(Mutex::new(file)), encoder, header))))
    }
}
