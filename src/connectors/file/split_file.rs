//! A file that is read, as one split of its table.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::lines::{Input, LineReader};
use super::parquet_source::ParquetReader;
use super::text_file::TextFile;
use super::trace::Trace;
use super::{ConnectorError, Content, FileTable, STDIO};
use crate::connectors::{SourceContext, SourceEvent};
use crate::formats::{SplitIndex, SplitRun};

/// What all files of an instance have in common.
pub(super) struct Reading {
    pub(super) table: FileTable,
    pub(super) context: SourceContext,
    /// Whether more may come behind a file's end.
    pub(super) follow: bool,
}

/// A file that is being read.
pub(super) enum SplitFile {
    Lines(Box<TextFile>),
    Parquet(ParquetFile),
}

/// A file of rows and columns: it is whole when it is there.
pub(super) struct ParquetFile {
    split: SplitIndex,
    reader: ParquetReader,
    /// It is not the one whose rows were read before, and that is not told.
    replaced: bool,
}

impl Reading {
    /// Where an earlier run stood in a file.
    pub(super) fn position(&self, name: &str) -> Option<i64> {
        self.context.positions.get(name).copied()
    }

    /// Cuts `input` into the table's lines; `ends` says whether its end is the end.
    pub(super) fn lines(&self, split: SplitIndex, input: Input, ends: bool) -> LineReader {
        let csv = match &self.table.content {
            Content::Lines(lines) => lines.csv.clone(),
            Content::Parquet => None,
        };
        LineReader::new(input, split, csv, ends)
    }

    /// Records that were to be read from the file `name` are not there: refuses, unless the user has accepted that.
    pub(super) fn lose(&self, name: &str, message: &str) -> Result<(), ConnectorError> {
        if self.context.accept_lost_input {
            tracing::warn!("{name}: {message}: accepted; what is there now is read from its first record");
            return Ok(());
        }
        let message = format!(
            "{message}. To read what is there now from its first record, and go without what is gone, run with \
             --accept-lost-input"
        );
        Err(ConnectorError::Mismatch { what: name.to_owned(), message })
    }
}

impl SplitFile {
    /// Opens the file, and goes on where an earlier run stood.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was read before.
    pub(super) fn open(reading: Arc<Reading>, split: SplitIndex, path: PathBuf) -> Result<SplitFile, ConnectorError> {
        if reading.table.content != Content::Parquet {
            return Ok(SplitFile::Lines(Box::new(if reading.table.path == STDIO {
                // It cannot be read again: what comes now is new.
                TextFile::of_stream(reading, split, path, Box::new(std::io::stdin()))
            } else {
                TextFile::open(reading, split, path)?
            })));
        }
        let (schema, batch_size) = (&reading.context.schema, reading.context.batch_size);
        let name = path.display().to_string();
        let first = reading.position(&name).unwrap_or(0);
        let rows = ParquetReader::rows(&path)?;
        let replaced = first > rows;
        if replaced {
            reading.lose(&name, &format!("it has {rows} rows, but {first} were read before: it was replaced"))?;
        }
        let first = if replaced { 0 } else { first };
        let reader = ParquetReader::open(&path, schema.clone(), batch_size, first)?;
        Ok(SplitFile::Parquet(ParquetFile { split, reader, replaced }))
    }

    /// The split that it is.
    pub(super) fn split(&self) -> SplitIndex {
        match self {
            SplitFile::Lines(file) => file.split(),
            SplitFile::Parquet(file) => file.split,
        }
    }

    /// What comes next, at most `limit` records; `None` at the end of what is there.
    ///
    /// # Errors
    /// When it cannot be read, or does not hold what it should.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<SourceEvent>, ConnectorError> {
        match self {
            SplitFile::Lines(file) => file.next(limit),
            SplitFile::Parquet(file) => file.next(),
        }
    }

    /// After an end: whether nothing can come any more.
    pub(super) fn is_over(&self) -> bool {
        match self {
            SplitFile::Lines(file) => file.is_over(),
            SplitFile::Parquet(_) => true,
        }
    }

    /// Since when nothing has come from it, if it may be closed.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        match self {
            SplitFile::Lines(file) => file.quiet_since(),
            SplitFile::Parquet(_) => None,
        }
    }
}

impl ParquetFile {
    fn next(&mut self) -> Result<Option<SourceEvent>, ConnectorError> {
        if std::mem::take(&mut self.replaced) {
            return Ok(Some(SourceEvent::Replaced(self.split, 0, Trace::empty().to_string())));
        }
        Ok(self.reader.next()?.map(|(batch, offsets)| {
            let runs = vec![SplitRun { split: self.split, rows: batch.num_rows() }];
            SourceEvent::Rows(batch, runs, offsets)
        }))
    }
}
