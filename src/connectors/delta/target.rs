//! A Delta table as the place of one sink: taken over by a run, made fit for its columns, and given commits.
//!
//! Taking over is a commit of its own, the fence: it names the run. Since a commit is put only where nothing is, a run
//! that does not know the fence yet finds its next place taken, reads what came, and ends. The marker is read in the same
//! way: when the fence is in the log, all that stands before it is known.

use std::sync::Arc;

use bytes::Bytes;
use deltalake_core::kernel::{Action, Version};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};

use super::commit::{Attempt, Known, TableLog, commit_info};
use super::evolution::{Change, Wanted};
use super::place::DeltaPlace;
use super::writer::DataFile;
use crate::connectors::ConnectorError;
use crate::connectors::delivery::Writer;
use crate::faults::crash_point;
use crate::faults::{Bug, planted};
use crate::time::Epoch;

/// Larger files are put in parts, so that a slow store takes each in time.
const PART: usize = 16 << 20;

/// The table of one sink.
pub(super) struct Target {
    place: DeltaPlace,
    log: TableLog,
    pipeline: String,
    table: String,
    wanted: Wanted,
    /// Who writes; `None` when the run keeps no checkpoints.
    writer: Option<Writer>,
    /// The marker as it was before the table was taken over.
    found_first: Option<Known>,
}

impl Target {
    /// Reads the log. Nothing is written yet.
    ///
    /// # Errors
    /// As for [`DeltaPlace::open`].
    pub(super) async fn open(
        place: &DeltaPlace,
        (pipeline, table): (&str, &str),
        mut wanted: Wanted,
        writer: Option<Writer>,
    ) -> Result<Target, ConnectorError> {
        let log = TableLog::open(place, pipeline, table).await?;
        wanted.log = writer.as_ref().map(|writer| log.log_property(&writer.log));
        let (pipeline, table, found_first) = (pipeline.to_owned(), table.to_owned(), log.known().cloned());
        Ok(Target { place: place.clone(), log, pipeline, table, wanted, writer, found_first })
    }

    /// Makes the table, or gives it the columns that it lacks, and fences earlier runs. Returns the last epoch that it
    /// has.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] when the table cannot be made fit; as for [`Writer::resume`]; as for
    /// [`TableLog::attempt`].
    pub(super) async fn take_over(&mut self) -> Result<Option<Epoch>, ConnectorError> {
        loop {
            if self.log.must_catch_up() {
                self.log.catch_up(&self.pipeline, &self.table).await?;
            }
            let settled = self.resume()?;
            let change = self.change()?;
            if self.writer.is_none() && change.is_empty() {
                return Ok(None);
            }
            let mut actions = vec![commit_info("ACEQUIA FENCE", false)];
            actions.extend(change.actions());
            if let Some(writer) = &self.writer {
                actions.push(self.log.run_action(writer.incarnation));
                if settled.is_none() && self.marker_is_there() {
                    // What it counted is not what this run counts.
                    actions.push(self.log.epoch_action(Epoch::default()));
                }
            }
            crash_point!("sink.delta.before_fence");
            if self.log.attempt(&actions).await? == Attempt::Made {
                crash_point!("sink.delta.after_fence");
                return Ok(settled);
            }
        }
    }

    /// The last epoch that is there, if this run may go on from it.
    fn resume(&self) -> Result<Option<Epoch>, ConnectorError> {
        let Some(writer) = &self.writer else { return Ok(None) };
        let known = if planted(Bug::MarkerBeforeFence) { self.found_first.as_ref() } else { self.log.known() };
        writer.resume(&self.place.describe(), known.and_then(|known| known.marker.as_ref()))
    }

    fn marker_is_there(&self) -> bool {
        self.log.known().is_some_and(|known| known.marker.is_some())
    }

    /// What the table lacks.
    fn change(&self) -> Result<Change, ConnectorError> {
        let change = match self.log.known() {
            None => self.wanted.new_table(),
            Some(known) => self.wanted.change_of(&known.metadata, &known.protocol),
        };
        change.map_err(|message| ConnectorError::Refused { what: self.place.describe(), message })
    }

    /// Where data files go.
    pub(super) fn files(&self) -> FileStore {
        FileStore { place: self.place.clone(), objects: self.log.store().object_store(None) }
    }

    /// Makes files part of the table, and `epoch` the last one that it has. `actions` are the same however often it is
    /// tried.
    ///
    /// # Errors
    /// [`ConnectorError::Fenced`] when a later run has taken over; [`ConnectorError::Unavailable`] when the outcome is
    /// not known: called again, it finds out.
    pub(super) async fn publish(&mut self, epoch: Option<Epoch>, actions: &[Action]) -> Result<(), ConnectorError> {
        loop {
            if self.log.must_catch_up() {
                let news = self.log.catch_up(&self.pipeline, &self.table).await?;
                if news.ours_is_there {
                    return Ok(());
                }
                let last = self.last_epoch()?;
                if epoch.is_some_and(|epoch| epoch <= last) {
                    return Ok(());
                }
                if news.metadata_changed || news.protocol_changed {
                    // What cannot be made fit at the next start must not be written now.
                    self.change()?;
                }
            }
            crash_point!("sink.delta.before_commit");
            if self.log.attempt(actions).await? == Attempt::Made {
                crash_point!("sink.delta.after_commit");
                return Ok(());
            }
        }
    }

    /// The actions of a commit that makes files part of the table.
    pub(super) fn actions(&self, epoch: Option<Epoch>, files: Vec<Action>) -> Vec<Action> {
        let mut actions = vec![commit_info("STREAMING UPDATE", true)];
        actions.extend(files);
        actions.extend(epoch.map(|epoch| self.log.epoch_action(epoch)));
        actions
    }

    /// The last epoch that the table has, as long as it is this run's.
    fn last_epoch(&self) -> Result<Epoch, ConnectorError> {
        let what = self.place.describe();
        let marker = self.log.known().and_then(|known| known.marker.as_ref());
        match (&self.writer, marker) {
            (None, _) => Ok(Epoch::default()),
            (Some(_), Some(found)) if planted(Bug::FenceForgotten) => Ok(found.epoch),
            (Some(writer), Some(found)) if found.log == writer.log && found.incarnation == writer.incarnation => {
                Ok(found.epoch)
            }
            (Some(writer), Some(found)) => Err(writer.fenced(&what, found)),
            (Some(_), None) => {
                let message = "it was removed or replaced while it was written: start the pipeline again".into();
                Err(ConnectorError::Mismatch { what, message })
            }
        }
    }

    /// The table's version.
    pub(super) fn version(&self) -> Option<Version> {
        self.log.known().map(|known| known.version)
    }
}

/// Takes the data files of a table, where nobody sees them until a commit names them.
#[derive(Clone)]
pub(super) struct FileStore {
    place: DeltaPlace,
    objects: Arc<dyn ObjectStore>,
}

impl FileStore {
    /// Puts a file into its place; to do so again changes nothing.
    ///
    /// # Errors
    /// [`ConnectorError::Unavailable`] when trying again may help.
    pub(super) async fn put(&self, file: &DataFile) -> Result<(), ConnectorError> {
        crash_point!("sink.delta.before_file");
        let refused = |error: object_store::path::Error| ConnectorError::Refused {
            what: self.place.describe(),
            message: format!("a file cannot have this name: {error}"),
        };
        let path = Path::parse(&file.add.path).map_err(refused)?;
        let put = self.put_bytes(&path, file.bytes.clone()).await;
        put.map_err(|error| self.place.store_failure(&error))?;
        crash_point!("sink.delta.after_file");
        Ok(())
    }

    async fn put_bytes(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        if bytes.len() <= PART {
            return self.objects.put(path, bytes.into()).await.map(drop);
        }
        let mut upload = WriteMultipart::new_with_chunk_size(self.objects.put_multipart(path).await?, PART);
        upload.put(bytes);
        upload.finish().await.map(drop)
    }
}
