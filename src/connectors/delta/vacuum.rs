//! What no version needs any more that can still be asked for: files that were taken out of the log longer ago than the
//! retention, and files that never came into it, because who wrote them crashed.
//!
//! Which these are deltalake-core works out. Here is added how old a file must be that the log has never named: it may be
//! one whose commit is about to be made.

use std::sync::Arc;

use deltalake_core::operations::vacuum::{Clock, VacuumMode};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::StreamExt;
use object_store::path::Path;

use crate::faults::{Bug, crash_point, planted};
use crate::time::EventTime;

/// A file that the log does not name is at least so old, in milliseconds: nobody takes an hour from writing a file to
/// the commit that names it, unless the store is away, and then it cannot be removed either.
const UNNAMED: i64 = 3_600_000;

/// Removes what nobody needs.
pub(super) struct Vacuum<'a> {
    pub(super) table: &'a DeltaTable,
    /// The time.
    pub(super) now: EventTime,
    /// In milliseconds.
    pub(super) retention: i64,
    /// When this run began. What it writes itself it may still commit, however long that takes.
    pub(super) began: EventTime,
}

/// A time that stands still.
#[derive(Debug)]
struct Still(i64);

impl Clock for Still {
    fn current_timestamp_millis(&self) -> i64 {
        self.0
    }
}

impl Vacuum<'_> {
    /// Removes files that were taken out of the log before the retention. How many there were.
    ///
    /// # Errors
    /// What the store says. What is left is for the next time.
    pub(super) async fn removed_files(&self) -> Result<usize, DeltaTableError> {
        self.delete(self.found(VacuumMode::Lite, self.retention).await?).await
    }

    /// Removes files that never came into the log. How many there were.
    ///
    /// # Errors
    /// As for [`Vacuum::removed_files`].
    pub(super) async fn unnamed_files(&self) -> Result<usize, DeltaTableError> {
        let run = millis(self.now) - millis(self.began);
        let age = self.retention.max(UNNAMED).max(run);
        self.delete(self.found(VacuumMode::Full, age).await?).await
    }

    async fn found(&self, mode: VacuumMode, age: i64) -> Result<Vec<Path>, DeltaTableError> {
        let vacuum = self.table.clone().vacuum().with_dry_run(true).with_enforce_retention_duration(false);
        let vacuum = vacuum.with_mode(mode).with_retention_period(chrono::Duration::milliseconds(age));
        let (_, found) = vacuum.with_clock(Arc::new(Still(millis(self.now)))).await?;
        let mut paths: Vec<Path> = found.files_deleted.iter().map(Path::parse).collect::<Result<_, _>>()?;
        if planted(Bug::VacuumTakesLive) {
            paths.extend(self.table.snapshot()?.log_data().iter().map(|file| file.object_store_path()).next());
        }
        Ok(paths)
    }

    async fn delete(&self, paths: Vec<Path>) -> Result<usize, DeltaTableError> {
        let found = paths.len();
        let paths = futures::stream::iter(paths).map(Ok).boxed();
        let mut deletions = self.table.object_store().delete_stream(paths);
        while let Some(deletion) = deletions.next().await {
            match deletion {
                // A crash may have come after some were gone.
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            crash_point!("sink.delta.amid_vacuum");
        }
        Ok(found)
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: EventTime) -> i64 {
    time.0.div_euclid(1_000_000)
}
