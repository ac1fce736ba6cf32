//! What keeps a table healthy that gets rows for ever: small files are put together ([`super::compaction`]), what nobody
//! needs any more is removed ([`super::vacuum`]), and the log is summed up now and then, so that it is short to read.
//!
//! All of it goes on beside the sink, in a task of its own, and commits as the sink does. What does not work is said
//! once and tried again later: rows are delivered meanwhile. Only a run that was fenced, and a table that has lost files
//! which its log names, end the pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deltalake_core::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake_core::kernel::{Action, transaction::PROTOCOL};
use deltalake_core::logstore::get_actions;
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::{DeltaTable, DeltaTableError};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio_util::sync::CancellationToken;

use super::commit::{Attempt, TableLog, commit_info};
use super::compaction::{self, Compacted, Compactor, Merge};
use super::options::UpkeepOptions;
use super::place::DeltaPlace;
use super::vacuum::{Vacuum, millis};
use crate::connectors::ConnectorError;
use crate::connectors::delivery::Writer;
use crate::faults::{Bug, crash_point, planted};
use crate::time::{EventTime, WallClock};

/// The table is vacuumed once in a retention, but not more and not less often than this.
const VACUUM_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// Files that the log never named are looked for so often: for that, all files must be listed.
const UNNAMED_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Commits stay in the log so long, however short the retention is: who has not looked for a while must find them, so
/// that no place in the log looks free to it which was taken ([`super::commit`]).
pub(super) const COMMITS_KEPT: Duration = Duration::from_secs(2 * 3600);

/// The upkeep of one table by one run.
pub(super) struct Upkeep {
    place: DeltaPlace,
    options: UpkeepOptions,
    /// Whose table it is.
    pipeline: String,
    table: String,
    /// Who writes, if it is to stop when another run takes over.
    writer: Option<Writer>,
    clock: WallClock,
    began: EventTime,
    log: Option<TableLog>,
    last: Last,
    /// What did not work when it was tried last, and why.
    failing: BTreeMap<Work, String>,
}

/// What has to be done, in this order: what is removed from the log first need not be summed up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Work {
    Compaction,
    Vacuum,
    Checkpoint,
}

/// When each was done last.
#[derive(Default)]
struct Last {
    compaction: Option<EventTime>,
    /// What the table's version was then.
    compacted: Option<u64>,
    vacuum: Option<EventTime>,
    unnamed: Option<EventTime>,
    /// The version up to which the log was summed up.
    checkpoint: Option<u64>,
}

impl Upkeep {
    /// For `table` of `pipeline`.
    pub(super) fn new(
        place: DeltaPlace,
        options: UpkeepOptions,
        (pipeline, table): (&str, &str),
        writer: Option<Writer>,
        clock: WallClock,
    ) -> Upkeep {
        let (began, pipeline, table) = (clock.now(), pipeline.to_owned(), table.to_owned());
        let (log, last, failing) = (None, Last::default(), BTreeMap::new());
        Upkeep { place, options, pipeline, table, writer, clock, began, log, last, failing }
    }

    /// Does what is due when the table has had this version. What does not work is logged.
    ///
    /// # Errors
    /// [`ConnectorError::Fenced`] when a later run has taken over, [`ConnectorError::Mismatch`] when files are gone that
    /// the log names.
    pub(super) async fn look(&mut self, version: u64, stop: &CancellationToken) -> Result<(), ConnectorError> {
        for work in [Work::Compaction, Work::Vacuum, Work::Checkpoint] {
            if stop.is_cancelled() || !self.is_due(work, version) {
                continue;
            }
            match self.attend_to(work, version, stop).await {
                Err(error @ (ConnectorError::Fenced { .. } | ConnectorError::Mismatch { .. })) => return Err(error),
                outcome => self.say(work, outcome.err()),
            }
        }
        Ok(())
    }

    /// What does not work at the moment.
    #[cfg(test)]
    pub(super) fn failing(&self) -> Vec<String> {
        self.failing.values().cloned().collect()
    }

    fn is_due(&self, work: Work, version: u64) -> bool {
        let now = self.clock.now();
        let is_past = |last: Option<EventTime>, every| last.is_none_or(|last| last <= now.saturating_sub(every));
        match work {
            Work::Compaction => {
                self.options.compaction
                    && self.last.compacted != Some(version)
                    && is_past(self.last.compaction, self.options.compaction_interval)
            }
            Work::Vacuum => is_past(self.last.vacuum, self.options.retention.clamp(VACUUM_EVERY.0, VACUUM_EVERY.1)),
            Work::Checkpoint => self.last.checkpoint.is_none_or(|last| version >= last + self.options.checkpoint_every),
        }
    }

    /// Says once what does not work, and once that it works again.
    fn say(&mut self, work: Work, failed: Option<ConnectorError>) {
        let Some(failed) = failed.map(|error| error.to_string()) else {
            if self.failing.remove(&work).is_some() {
                tracing::info!("{}: {} again", self.place.describe(), work.done());
            }
            return;
        };
        if self.failing.get(&work) != Some(&failed) {
            tracing::warn!("{failed} (rows are written all the same, but not all {}; it is tried again)", work.done());
        }
        self.failing.insert(work, failed);
    }

    async fn attend_to(&mut self, work: Work, version: u64, stop: &CancellationToken) -> Result<(), ConnectorError> {
        self.catch_up().await?;
        // Loaded each time and then let go: a table of many files takes memory.
        let Some(table) = self.place.open().await? else { return Ok(()) };
        let now = self.clock.now();
        match work {
            Work::Compaction => {
                (self.last.compaction, self.last.compacted) = (Some(now), Some(version));
                self.compact(&table, stop).await
            }
            Work::Vacuum => {
                self.last.vacuum = Some(now);
                self.vacuum(&table, now).await
            }
            Work::Checkpoint => self.checkpoint(table, now).await,
        }
    }

    /// Reads on in the log.
    pub(super) async fn catch_up(&mut self) -> Result<(), ConnectorError> {
        match &mut self.log {
            Some(log) => {
                log.catch_up(&self.pipeline, &self.table).await?;
            }
            None => self.log = Some(TableLog::open(&self.place, &self.pipeline, &self.table).await?),
        }
        self.check_fence()
    }

    fn check_fence(&self) -> Result<(), ConnectorError> {
        let known = self.log.as_ref().and_then(TableLog::known);
        let (Some(writer), Some(found)) = (&self.writer, known.and_then(|known| known.marker.as_ref())) else {
            return Ok(());
        };
        let fenced = found.log != writer.log || found.incarnation > writer.incarnation;
        if fenced && !planted(Bug::FenceForgotten) {
            return Err(writer.fenced(&self.place.describe(), found));
        }
        Ok(())
    }

    /// Puts small files together, commit by commit.
    pub(super) async fn compact(&mut self, table: &DeltaTable, stop: &CancellationToken) -> Result<(), ConnectorError> {
        let place = self.place.clone();
        let failure = |error: DeltaTableError| place.failure(&error);
        let target = self.options.target_file_size;
        let mut merges = compaction::plan(table, target).map_err(failure)?;
        let compactor = Compactor { table, target, now: millis(self.clock.now()), stop };
        let mut failed = None;
        while !merges.is_empty() && !stop.is_cancelled() {
            let (done, broken) = compactor.rewrite(&mut merges).await;
            if !done.actions.is_empty() {
                crash_point!("sink.delta.before_compaction_commit");
                if !self.commit(table, &done).await? {
                    compactor.discard(&done).await;
                }
                crash_point!("sink.delta.after_compaction_commit");
            }
            // What cannot be put together does not keep the rest from it.
            if let Some((merge, broken)) = broken {
                let error = match (broken.file, failure(broken.error)) {
                    (_, error @ ConnectorError::Unavailable { .. }) => return Err(error),
                    (Some(file), ConnectorError::Refused { what, message }) => {
                        ConnectorError::Refused { what, message: format!("{file}: {message}") }
                    }
                    (_, error) => error,
                };
                self.refuse_if_lost(&merge).await?;
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether the commit was made: not when somebody else has meanwhile taken out what it replaces.
    async fn commit(&mut self, table: &DeltaTable, done: &Compacted) -> Result<bool, ConnectorError> {
        let failure = |error: DeltaTableError| self.place.failure(&error);
        let operation = DeltaOperation::Optimize { predicate: None, target_size: 0 };
        let state = table.snapshot().map_err(failure)?;
        // Others may have given the table features that a commit must heed.
        PROTOCOL.can_commit(state, &done.actions, &operation).map_err(|error| failure(error.into()))?;
        let mut actions = vec![commit_info("OPTIMIZE", false)];
        actions.extend(done.actions.iter().cloned());
        // What was planned is as old as the table, not as the log: earlier commits of this round have read on in that.
        let mut checked = state.version();
        loop {
            if self.has_been_replaced(done, checked).await? {
                return Ok(false);
            }
            let Some(log) = &mut self.log else { return Ok(false) };
            checked = log.known().map_or(checked, |known| checked.max(known.version));
            if log.attempt(&actions).await? == Attempt::Made {
                return Ok(true);
            }
            if log.catch_up(&self.pipeline, &self.table).await?.ours_is_there {
                return Ok(true);
            }
            self.check_fence()?;
        }
    }

    /// Whether a commit after `before` takes out what `done` replaces, or may do so.
    async fn has_been_replaced(&self, done: &Compacted, before: u64) -> Result<bool, ConnectorError> {
        let failure = |error: DeltaTableError| self.place.failure(&error);
        let Some(log) = &self.log else { return Ok(true) };
        let Some(known) = log.known() else { return Ok(true) };
        for version in before + 1..=known.version {
            // Summed up and cleared away already: nobody can tell.
            let Some(bytes) = log.store().read_commit_entry(version).await.map_err(failure)? else { return Ok(true) };
            let takes_out = |action: &Action| match action {
                Action::Remove(remove) => done.replaced.contains(&remove.path),
                _ => false,
            };
            if get_actions(version, &bytes).map_err(failure)?.iter().any(takes_out) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells a file that cannot be read now from one that is gone.
    async fn refuse_if_lost(&self, merge: &Merge) -> Result<(), ConnectorError> {
        let Some(table) = self.place.open().await? else { return Ok(()) };
        let state = table.snapshot().map_err(|error| self.place.failure(&error))?;
        let named: BTreeSet<Path> = state.log_data().iter().map(|file| file.object_store_path()).collect();
        for path in merge.paths().filter(|path| named.contains(path)) {
            if let Err(object_store::Error::NotFound { .. }) = table.object_store().head(path).await {
                let message = format!(
                    "its log names {path}, which is not there: put the file back from a copy, or take it out of the log, \
                     as repair() of the deltalake package does"
                );
                return Err(ConnectorError::Mismatch { what: self.place.describe(), message });
            }
        }
        Ok(())
    }

    async fn vacuum(&mut self, table: &DeltaTable, now: EventTime) -> Result<(), ConnectorError> {
        let failure = |error: DeltaTableError| self.place.failure(&error);
        let vacuum = Vacuum { table, now, retention: as_millis(self.options.retention), began: self.began };
        let removed = vacuum.removed_files().await.map_err(failure)?;
        let mut unnamed = 0;
        if self.last.unnamed.is_none_or(|last| last <= now.saturating_sub(UNNAMED_EVERY)) {
            unnamed = vacuum.unnamed_files().await.map_err(failure)?;
            self.last.unnamed = Some(now);
        }
        crash_point!("sink.delta.after_vacuum");
        if removed + unnamed > 0 {
            let what = self.place.describe();
            tracing::debug!(
                "{what}: {removed} files removed that no version needs, and {unnamed} that never were in it"
            );
        }
        Ok(())
    }

    /// Sums up the log, and clears away what is older than the retention.
    async fn checkpoint(&mut self, table: DeltaTable, now: EventTime) -> Result<(), ConnectorError> {
        let place = self.place.clone();
        let failure = |error: DeltaTableError| place.failure(&error);
        let (version, store) = (table.snapshot().map_err(failure)?.version(), table.log_store());
        let last = match self.last.checkpoint {
            Some(last) => last,
            None => summed_up(table.object_store().as_ref()).await.map_err(|error| failure(error.into()))?,
        };
        self.last.checkpoint = Some(last);
        if version < last + self.options.checkpoint_every {
            return Ok(());
        }
        crash_point!("sink.delta.before_log_checkpoint");
        // It waits for the store, on whichever thread it is called.
        let runtime = tokio::runtime::Handle::current();
        let written = tokio::task::spawn_blocking(move || runtime.block_on(create_checkpoint(&table, None)));
        let failed = |message: String| ConnectorError::Unavailable { what: place.describe(), message };
        written.await.map_err(|error| failed(error.to_string()))?.map_err(failure)?;
        self.last.checkpoint = Some(version);
        crash_point!("sink.delta.after_log_checkpoint");
        let kept = as_millis(self.options.retention.max(COMMITS_KEPT));
        let cleared = cleanup_expired_logs_for(version, store.as_ref(), millis(now).saturating_sub(kept), None).await;
        let cleared = cleared.map_err(failure)?;
        tracing::debug!("{}: log summed up to version {version}, {cleared} files cleared away", place.describe());
        Ok(())
    }
}

impl Work {
    fn done(self) -> &'static str {
        match self {
            Work::Compaction => "small files are put together",
            Work::Vacuum => "old files are removed",
            Work::Checkpoint => "commits are summed up",
        }
    }
}

/// The version up to which a table's log was summed up; 0 if it never was.
async fn summed_up(store: &dyn ObjectStore) -> object_store::Result<u64> {
    let hint = match store.get(&Path::from("_delta_log/_last_checkpoint")).await {
        Ok(hint) => hint.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(0),
        Err(error) => return Err(error),
    };
    // One that cannot be read is as good as none: it only saves time.
    let hint: serde_json::Value = serde_json::from_slice(&hint).unwrap_or_default();
    Ok(hint["version"].as_u64().unwrap_or(0))
}

fn as_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
