//! Where the results of a backfill go: a folder with a Parquet file for each table.
//!
//! Files appear when the run has ended well, all of them at once or nearly; those of an earlier backfill are replaced.
//! A hidden file tells a folder of backfills from others, and is locked while one writes.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::file::reader::{FileReader, SerializedFileReader};
use thiserror::Error;

use super::recomputed::ReplacedTable;
use crate::catalog::options::{OptionValue, Options};
use crate::cli::checkpoint_place::folder_name;
use crate::connectors::file::FileConnector;
use crate::connectors::{Connector, ConnectorTable};
use crate::program::Table;

/// In a folder that backfills may write into.
const MARK: &str = ".acequia-backfill";
/// Where the results are until the run has ended.
const UNFINISHED: &str = ".unfinished";

/// Why results cannot be kept.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The operating system refuses.
    #[error("cannot write the results into {}: {source}; name another folder with --output", .folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It holds a file that no backfill has made.
    #[error(
        "{} is there already, and no backfill has made it: name another folder with --output", .0.display()
    )]
    Taken(PathBuf),
    /// Another backfill is at work.
    #[error("another backfill writes into {}: wait for it, or name another folder with --output", .0.display())]
    Busy(PathBuf),
    /// What was written is no Parquet file.
    #[error("{}: {source}", .file.display())]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: parquet::errors::ParquetError,
    },
}

/// A folder that takes results.
pub struct Output {
    folder: PathBuf,
    /// Held for the lock on it.
    _mark: File,
}

impl Output {
    /// Makes the folder ready for results.
    ///
    /// # Errors
    /// When it cannot be written, another backfill writes into it, or it holds Parquet files that are not ours.
    pub fn prepare(folder: &Path) -> Result<Output, OutputError> {
        let failed = |source| OutputError::Io { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mark = folder.join(MARK);
        if !mark.exists() {
            for entry in std::fs::read_dir(folder).map_err(failed)? {
                let file = entry.map_err(failed)?.path();
                if file.extension().is_some_and(|extension| extension == "parquet") {
                    return Err(OutputError::Taken(file));
                }
            }
        }
        let mark = File::options().create(true).append(true).open(mark).map_err(failed)?;
        match mark.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OutputError::Busy(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let output = Output { folder: folder.to_owned(), _mark: mark };
        output.clear().map_err(failed)?;
        Ok(output)
    }

    /// What takes the place of a table's connector: it is read as before, and written into the folder.
    pub fn replace(&self, table: &Table) -> Arc<dyn ConnectorTable> {
        let source = table.connector.source();
        let sink = table.connector.sink().and_then(|_| {
            let path = self.part_folder(&table.definition.name).display().to_string();
            // One part, however long and large.
            let most = i64::MAX.to_string();
            let options = [
                ("path", path.as_str()),
                ("format", "parquet"),
                ("roll_rows", &most),
                ("roll_bytes", &most),
                ("roll_interval", "100 years"),
            ];
            let values = options.map(|(key, text)| OptionValue::new(key, text)).to_vec();
            let mut options = Options::new(table.definition.location, values);
            // A file keeps every row: the key says only what a destination would show.
            let definition = crate::catalog::TableDefinition { primary_key: vec![], ..table.definition.clone() };
            FileConnector::named("file").table(&definition, &mut options).sink()
        });
        Arc::new(ReplacedTable { source, sink })
    }

    /// Puts the results in their places. Gives each file with the number of its rows.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn finish(self, tables: &[(String, SchemaRef)]) -> Result<Vec<(PathBuf, i64)>, OutputError> {
        let failed = |source| OutputError::Io { folder: self.folder.clone(), source };
        let mut files = vec![];
        for (table, schema) in tables {
            let part = self.part_folder(table).join("part-1.parquet");
            if !part.exists() {
                std::fs::create_dir_all(self.part_folder(table)).map_err(failed)?;
                write_empty(&part, schema)?;
            }
            let opened = File::open(&part).map_err(failed)?;
            let parquet = SerializedFileReader::new(opened);
            let parquet = parquet.map_err(|source| OutputError::Parquet { file: part.clone(), source })?;
            files.push((part, file_of(&self.folder, table), parquet.metadata().file_metadata().num_rows()));
        }
        for (part, file, _) in &files {
            std::fs::rename(part, file).map_err(failed)?;
        }
        self.clear().map_err(failed)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(files.into_iter().map(|(_, file, rows)| (file, rows)).collect())
    }

    fn part_folder(&self, table: &str) -> PathBuf {
        self.folder.join(UNFINISHED).join(folder_name(table))
    }

    /// Removes what a backfill has left that was broken off.
    fn clear(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.folder.join(UNFINISHED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

fn file_of(folder: &Path, table: &str) -> PathBuf {
    folder.join(format!("{}.parquet", folder_name(table)))
}

fn write_empty(file: &Path, schema: &SchemaRef) -> Result<(), OutputError> {
    let failed = |source| OutputError::Parquet { file: file.to_owned(), source };
    let created = File::create(file).map_err(|error| failed(error.into()))?;
    let writer = ArrowWriter::try_new(created, Arc::clone(schema), None).map_err(failed)?;
    let written = writer.into_inner().map_err(failed)?;
    written.sync_all().map_err(|error| failed(error.into()))
}
