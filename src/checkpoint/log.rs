//! The log itself: epochs go in at one end, and at a start the newest whole one comes out.

mod pruning;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::Bytes;
use chrono::SecondsFormat;
use parking_lot::Mutex;

use super::compaction::{self, Compaction};
use super::departure::Departure;
use super::files::{self, NewFiles};
use super::ledger::Tally;
use super::manifest::{self, FileEntry, Manifest, OperatorEntry, OutboxEntry, Part, SinkEntry, SourceEntry};
use super::mirror;
use super::opening::{self, KeptCheckpoint, LogFile, Opened};
use super::outbox::{self, Index};
use super::patience::{Failures, Patient};
use super::sealed;
use super::sections::{Batches, SectionWriter, bytes_of};
use super::state::{EpochState, OperatorState, SourceState};
use super::store::{Lock, Store, StoreError};
use super::takeover::{Fingerprint, Identities, Takeover};
use crate::connectors::delivery::Writer;
use crate::faults::crash_point;
use crate::faults::{Bug, planted};
use crate::time::{Epoch, WallClock};

pub use super::error::CheckpointError;
pub use super::outbox::{Confirmed, OutboxReader};

/// The folder of the operators' state.
pub(super) const STATE: &str = "state";
/// The folder of the rows that wait.
pub(super) const OUTBOX: &str = "outbox";
/// Epochs whose rows stay though they are settled, for each sink.
const SPARE_EPOCHS: usize = 16;
/// How many times as much as is due for compaction may have come before epochs wait for it.
const LAG: u64 = 2;

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The pipeline's name.
    pub pipeline: String,
    /// Begin anew: what is there is not loaded. Epochs are counted on.
    pub fresh: bool,
    /// Go on from this epoch and not from the newest.
    pub from: Option<Epoch>,
    /// How many checkpoints stay.
    pub keep: usize,
}

/// What an epoch adds.
#[derive(Clone, Debug, Default)]
pub struct EpochRecord {
    /// Where the sources stand, and what has changed in the operators.
    pub added: EpochState,
    /// Rows that the sinks have not delivered, by the sink's identity.
    pub outbox: BTreeMap<String, SinkRows>,
    /// The input has come to its end: `added` is all that a next run needs to know, and replaces what was before.
    pub finished: bool,
}

/// Rows of an epoch for a sink.
#[derive(Clone, Debug, Default)]
pub struct SinkRows {
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// These are all rows of the epoch (a sink that is delivered to by the epoch), so that the ledger counts them.
    pub whole: bool,
    /// Everything up to this epoch was in the destination when the rows were gathered. Rows that are not among them because
    /// they were there too may have replaced those of earlier epochs, which must not come again.
    pub confirmed: Option<Epoch>,
}

/// What became of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Bytes written for it.
    pub bytes: u64,
    /// Bytes of all state that the newest checkpoint refers to.
    pub state_bytes: u64,
    /// Bytes in the outbox that are not settled.
    pub outbox_bytes: u64,
}

/// What a run goes on from.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The state at the end of the epoch, under the names that its run had.
    pub state: EpochState,
    /// The fingerprints of its operators, by those names.
    pub operators: BTreeMap<String, Fingerprint>,
    /// Epochs with rows that were not known to be settled, rising, by the sink's identity.
    pub undelivered: BTreeMap<String, Vec<Epoch>>,
    /// The run had come to the end of its input.
    pub finished: bool,
}

/// Merges the state of an operator: the part of the dataflow in a log's compaction.
pub trait Compactor: Send + Sync {
    /// The same state, whole, without what later epochs have overwritten or closed. Called off the runtime's threads.
    ///
    /// # Errors
    /// When the state does not fit the operator.
    fn compact(&self, operator: &str, state: &OperatorState) -> datafusion::common::Result<Vec<(usize, RecordBatch)>>;
}

/// The log of one pipeline, held by one run.
pub struct CheckpointLog {
    /// Waits until it can.
    store: Arc<dyn Store>,
    /// The same, and does not wait: for deletions, and for files that get another name at each try.
    prompt: Arc<dyn Store>,
    failures: Failures,
    /// `log.json`.
    file: LogFile,
    /// Dropped with the log.
    _lock: Lock,
    writer: Writer,
    clock: WallClock,
    keep: usize,
    highest: Epoch,
    departure: Option<Departure>,
    /// The newest checkpoint, with what has become known since: the next one begins with it.
    known: Manifest,
    /// The checkpoints that stay, rising.
    kept: Vec<KeptCheckpoint>,
    index: Arc<Mutex<Index>>,
    names: Arc<NewFiles>,
    identities: Identities,
    compactor: Option<Arc<dyn Compactor>>,
    compaction: Option<Compaction>,
    /// Files of changes that are not worth a compaction.
    most_files: u64,
    /// How many times as much as usual must have changed before it is compacted; more after a failure.
    compaction_patience: u64,
    /// A compaction is in `known` that no manifest names yet.
    compacted: bool,
    /// Watermarks that have moved since the last manifest, while nothing else has.
    held: EpochState,
    /// A destination has confirmed rows of which the newest manifest does not know it, and the next run must.
    confirmed_since: bool,
    /// What earlier runs have left behind is gone.
    swept: bool,
    /// Deletions that have not gone well yet.
    doomed: BTreeSet<String>,
}

impl CheckpointLog {
    /// Takes the lock and the next incarnation's number, then loads the newest whole checkpoint, if there is one. One
    /// that is torn is passed over with a warning that says what is wrong with it.
    ///
    /// # Errors
    /// [`CheckpointError::Held`] when another run is alive; [`CheckpointError::Damaged`] when there are checkpoints but
    /// none is whole: never a silent start from nothing.
    pub async fn open(
        store: Arc<dyn Store>,
        options: LogOptions,
    ) -> Result<(CheckpointLog, Option<Recovered>), CheckpointError> {
        let failures = Failures::default();
        let prompt = mirror::writing(store);
        let store = Patient::over(Arc::clone(&prompt), &failures);
        let Opened { lock, writer, highest, file, manifest, recovered, kept, departure } =
            opening::open(&store, &prompt, &options).await?;
        let log = CheckpointLog {
            _lock: lock,
            prompt,
            file,
            names: Arc::new(NewFiles::new(writer.incarnation, &failures)),
            failures,
            writer,
            clock: WallClock::system(),
            keep: options.keep.max(1),
            highest,
            departure,
            kept,
            index: Arc::new(Mutex::new(outbox::index(&manifest))),
            known: manifest,
            identities: Identities::default(),
            compactor: None,
            compaction: None,
            most_files: compaction::FILES,
            compaction_patience: 1,
            compacted: false,
            held: EpochState::default(),
            confirmed_since: false,
            swept: false,
            doomed: BTreeSet::new(),
            store,
        };
        Ok((log, recovered))
    }

    /// Sets the clock that says when checkpoints are written: the machine's, unless told otherwise.
    pub fn set_clock(&mut self, clock: WallClock) {
        self.clock = clock;
    }

    /// Compacts as soon as there are more files of changes than this; larger state bears more of them.
    pub fn compact_after(&mut self, files: u64) {
        self.most_files = files;
    }

    /// How often the store was full or away; each time it was tried again.
    pub fn failures(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failures)
    }

    /// Who writes, for the markers of the sinks.
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// The highest number that any epoch of this log has had; the next one is above it.
    pub fn last_epoch(&self) -> Epoch {
        self.highest
    }

    /// What was recovered goes on under the names in `takeover`, beside what is new in `identities`.
    pub fn begin(&mut self, takeover: &Takeover, identities: Identities, compactor: Arc<dyn Compactor>) {
        let mut was = std::mem::take(&mut self.known.operators);
        for (old, new) in &takeover.renamed {
            if let Some(mut operator) = was.remove(old) {
                if let Some(fingerprint) = identities.operators.get(new) {
                    operator.fingerprint.clone_from(&fingerprint.0);
                }
                self.known.operators.insert(new.clone(), operator);
            }
        }
        self.known.sources =
            takeover.state.sources.iter().map(|(name, source)| (name.clone(), source.into())).collect();
        self.known.sinks.retain(|name, _| identities.sinks.contains_key(name));
        for (name, sink) in &mut self.known.sinks {
            sink.moved |= sink.destination.is_some() && sink.destination.as_ref() != identities.sinks.get(name);
        }
        self.known.drop_unnamed_files();
        *self.index.lock() = outbox::index(&self.known);
        self.identities = identities;
        self.compactor = Some(compactor);
    }

    /// Whether the run leaves newer checkpoints behind, so that nothing may be written before every destination has
    /// accepted it and [`CheckpointLog::depart`] is done: until then the next run goes on from the newest, but after one
    /// that begins anew.
    pub fn is_departing(&self) -> bool {
        self.departure.is_some()
    }

    /// Puts aside what the run leaves behind. Done with its first epoch at the latest.
    ///
    /// # Errors
    /// What waiting cannot heal.
    pub async fn depart(&mut self) -> Result<(), CheckpointError> {
        if let Some(departure) = &self.departure {
            departure.carry_out(&*self.store).await?;
        }
        self.departure = None;
        Ok(())
    }

    /// Makes an epoch durable, and returns when it is. A store that is full or away is waited for, with a log line.
    /// An epoch with no rows, no changes and no new positions writes nothing. Watermarks alone are no change, because a
    /// run that goes on without them comes to them again: they are written with the next epoch that is one, or at the
    /// [end](CheckpointLog::end).
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] when a later run has taken over; what waiting cannot heal.
    pub async fn append(&mut self, record: EpochRecord) -> Result<Appended, CheckpointError> {
        self.take_compaction().await;
        let mut record = record;
        let held = std::mem::take(&mut self.held);
        if !record.finished {
            record.added = held.overtaken_by(record.added);
        }
        if !self.is_news(&record) {
            self.held = record.added;
            return Ok(self.appended(0));
        }
        self.write(record).await
    }

    /// Writes what was held back, so that a run that goes on neither closes again what this one has closed, nor writes
    /// again what was confirmed at once after the last epoch. To be called when no epoch comes any more.
    ///
    /// # Errors
    /// As [`CheckpointLog::append`].
    pub async fn end(mut self) -> Result<(), CheckpointError> {
        let mut added = std::mem::take(&mut self.held);
        let moved = |(name, operator): (&String, &OperatorState)| {
            self.known.operators.get(name).is_none_or(|known| known.watermark < operator.watermark)
                || !operator.batches.is_empty()
        };
        if added.epoch <= Epoch(self.known.epoch) || !added.operators.iter().any(moved) {
            if !self.confirmed_since {
                return Ok(());
            }
            // A manifest is never written anew: an epoch in which nothing has happened but that.
            let sources = self.known.sources.iter().map(|(name, source)| (name.clone(), source.into())).collect();
            added = EpochState { epoch: self.highest.max(added.epoch).next(), sources, operators: BTreeMap::new() };
        }
        self.write(EpochRecord { added, finished: self.known.finished, ..EpochRecord::default() }).await?;
        Ok(())
    }

    async fn write(&mut self, record: EpochRecord) -> Result<Appended, CheckpointError> {
        self.depart().await?;
        let epoch = record.added.epoch;
        let mut next = self.known.clone();
        next.epoch = epoch.0;
        next.incarnation = self.writer.incarnation.0;
        let EpochRecord { added, outbox, finished } = record;
        self.add_places(&mut next, &added, finished);
        crash_point!("log.before_files");
        let early = planted(Bug::ManifestFirst);
        if early {
            self.publish(next.clone()).await?;
        }
        let mut bytes = self.write_state(&mut next, added).await?;
        crash_point!("log.state_written");
        bytes += self.write_outbox(&mut next, outbox).await?;
        crash_point!("log.outbox_written");
        for (name, sink) in &mut next.sinks {
            sink.destination = self.identities.sinks.get(name).cloned();
            let_go(sink);
        }
        next.drop_unnamed_files();
        if early {
            self.store.delete(&self.manifest_path(epoch)).await?;
        }
        bytes += self.publish(next).await?;
        crash_point!("log.published");
        self.prune().await;
        self.begin_compaction();
        Ok(self.appended(bytes))
    }

    /// A sink has everything up to `epoch`: its outbox up to there is let go, but for the newest few epochs.
    pub fn settled(&mut self, sink: &str, epoch: Epoch) {
        let finished = self.known.finished;
        let entry = self.known.sinks.entry(sink.to_owned()).or_default();
        // Those that take whole epochs have a marker that says so to the next run. But one after the end of the input has
        // to know whether all was delivered before it reads anything.
        let told = |rows: &OutboxEntry| rows.whole && !finished;
        self.confirmed_since |= entry.unsettled().any(|rows| !told(rows) && rows.epoch <= epoch.0);
        let news = entry.unsettled().find(|rows| rows.epoch == epoch.0).map(|rows| rows.whole);
        if let Some(whole) = news {
            (entry.at_once, entry.moved) = (!whole, false);
        }
        entry.settled = Some(epoch.0);
    }

    /// A way to the rows that wait.
    pub fn outbox(&self) -> OutboxReader {
        OutboxReader::new(Arc::clone(&self.store), Arc::clone(&self.index))
    }

    /// Whether an epoch says anything that the newest checkpoint does not.
    fn is_news(&self, record: &EpochRecord) -> bool {
        let moved = |(name, source): (&String, &SourceState)| {
            let known = self.known.sources.get(name);
            let same = |known: &SourceEntry| {
                let mut positions = source.positions.iter();
                let mut split_origins = source.split_origins.iter();
                positions.all(|(split, offset)| known.positions.get(split) == Some(offset))
                    && split_origins.all(|(split, origin)| known.split_origins.get(split) == Some(origin))
                    && (source.origin.is_none() || source.origin == known.origin)
            };
            !known.is_some_and(same)
        };
        record.finished != self.known.finished
            || record.outbox.values().any(|rows| rows.batches.iter().any(|batch| batch.num_rows() > 0))
            || record.added.operators.values().any(OperatorState::has_rows)
            || record.added.sources.iter().any(moved)
    }

    /// Sources and watermarks.
    fn add_places(&self, next: &mut Manifest, added: &EpochState, finished: bool) {
        if finished {
            next.sources.clear();
            next.operators.clear();
        }
        next.finished = finished;
        for (name, source) in &added.sources {
            let entry = next.sources.entry(name.clone()).or_default();
            let mut known = SourceState::from(&*entry);
            known.advance(source.clone());
            *entry = (&known).into();
        }
        for (name, operator) in &added.operators {
            let fingerprint = || self.identities.operators.get(name).map_or_else(String::new, |print| print.0.clone());
            let new = || OperatorEntry { fingerprint: fingerprint(), watermark: operator.watermark, parts: vec![] };
            let entry = next.operators.entry(name.clone()).or_insert_with(new);
            entry.watermark = entry.watermark.max(operator.watermark);
        }
    }

    /// One file for what has changed in all operators. Returns its size.
    async fn write_state(&self, next: &mut Manifest, added: EpochState) -> Result<u64, CheckpointError> {
        let epoch = added.epoch;
        let mut changed = added.operators;
        changed.retain(|_, operator| !operator.batches.is_empty());
        if changed.is_empty() || planted(Bug::StateDeltaLost) && epoch.0.is_multiple_of(3) {
            return Ok(0);
        }
        let names: Vec<String> = changed.keys().cloned().collect();
        let encoded = files::offload(move || {
            let batches = changed.values().flat_map(|operator| &operator.batches);
            let mut writer = SectionWriter::with_room(batches.map(|(_, batch)| bytes_of(batch)).sum());
            for (name, operator) in &changed {
                writer
                    .add(name, &operator.batches)
                    .map_err(|source| unwritable(&format!("the state of {name}"), source))?;
            }
            let bytes = writer.finish().map_err(|source| unwritable("the state of an epoch", source))?;
            let entry = FileEntry::of(&bytes);
            Ok::<_, CheckpointError>((bytes, entry))
        });
        let (bytes, entry) = encoded.await?;
        let size = entry.bytes;
        let file = self.names.write(&*self.prompt, STATE, epoch, "delta", bytes).await?;
        for name in names {
            if let Some(operator) = next.operators.get_mut(&name) {
                operator.parts.push(Part { file: file.clone(), name, base: false });
            }
        }
        next.files.insert(file, entry);
        Ok(size)
    }

    /// One file for the rows of all sinks. Returns its size.
    async fn write_outbox(
        &self,
        next: &mut Manifest,
        mut outbox: BTreeMap<String, SinkRows>,
    ) -> Result<u64, CheckpointError> {
        let epoch = Epoch(next.epoch);
        for (sink, rows) in outbox.iter().filter(|(_, rows)| rows.confirmed.is_some()) {
            let entry = next.sinks.entry(sink.clone()).or_default();
            entry.settled = entry.settled.max(rows.confirmed.map(|epoch| epoch.0));
            (entry.at_once, entry.moved) = (true, false);
        }
        outbox.values_mut().for_each(|rows| rows.batches.retain(|batch| batch.num_rows() > 0));
        outbox.retain(|_, rows| !rows.batches.is_empty());
        if outbox.is_empty() {
            return Ok(0);
        }
        let encoded = files::offload(move || {
            let batches = outbox.values().flat_map(|rows| &rows.batches);
            let mut writer = SectionWriter::with_room(batches.map(bytes_of).sum());
            let mut written = vec![];
            for (sink, SinkRows { batches, whole, .. }) in outbox {
                let what = || format!("the rows for {sink}");
                let mut tally = Tally::default();
                for batch in &batches {
                    tally.add(batch).map_err(|source| unwritable(&what(), source))?;
                }
                let batches: Batches = batches.into_iter().map(|batch| (0, batch)).collect();
                let bytes = writer.add(&sink, &batches).map_err(|source| unwritable(&what(), source))?;
                written.push((sink, tally, bytes, whole));
            }
            let bytes = writer.finish().map_err(|source| unwritable("the rows of an epoch", source))?;
            let entry = FileEntry::of(&bytes);
            Ok::<_, CheckpointError>((bytes, entry, written))
        });
        let (bytes, entry, written) = encoded.await?;
        let size = entry.bytes;
        let file = self.names.write(&*self.prompt, OUTBOX, epoch, "rows", bytes).await?;
        for (sink, tally, bytes, whole) in written {
            let sink = next.sinks.entry(sink).or_default();
            if whole {
                sink.ledger.merge(tally);
            }
            let file = file.clone();
            sink.outbox.push(OutboxEntry { epoch: epoch.0, file, tally, bytes, whole });
        }
        next.files.insert(file, entry);
        Ok(size)
    }

    /// Writes the manifest: from then on the epoch is durable. Returns its size.
    async fn publish(&mut self, mut next: Manifest) -> Result<u64, CheckpointError> {
        let epoch = Epoch(next.epoch);
        let written = self.clock.now();
        next.written = chrono::DateTime::from_timestamp_nanos(written.0).to_rfc3339_opts(SecondsFormat::Millis, true);
        let stays = self.kept.len().saturating_sub(self.keep - 1);
        next.earlier = self.kept[stays..].iter().map(|kept| kept.epoch.0).collect();
        let bytes =
            sealed::seal(&next).map_err(|error| unwritable("a manifest", ArrowError::ExternalError(error.into())))?;
        let size = bytes.len() as u64;
        self.refuse_if_fenced().await?;
        crash_point!("log.before_manifest");
        self.write_manifest(epoch, bytes).await?;
        // Between the look before and the write another run may have begun without this manifest.
        self.refuse_if_fenced().await?;
        *self.index.lock() = outbox::index(&next);
        self.highest = self.highest.max(epoch);
        let (path, files) = (self.manifest_path(epoch), next.files.keys().cloned().collect());
        self.kept.push(KeptCheckpoint { epoch, path, files });
        self.known = next;
        self.confirmed_since = false;
        if !self.file.checkpoints {
            // From now on, to find no manifest is a loss and no first start.
            self.file.checkpoints = true;
            self.file.write(&*self.store).await?;
        }
        Ok(size)
    }

    /// Whether a later run has taken a number. Where a lock keeps others out there is none.
    async fn refuse_if_fenced(&self) -> Result<(), CheckpointError> {
        let taken = self.store.list(opening::INCARNATIONS).await?;
        match taken.iter().filter_map(|(path, _)| manifest::number(path)).max() {
            Some(number) if number > self.writer.incarnation.0 => Err(self.fenced(number)),
            _ => Ok(()),
        }
    }

    async fn write_manifest(&self, epoch: Epoch, bytes: Bytes) -> Result<(), CheckpointError> {
        let path = self.manifest_path(epoch);
        while !self.store.put_if_absent(&path, bytes.clone()).await? {
            if self.may_replace(&path, &bytes).await? {
                return Ok(self.store.put(&path, bytes).await?);
            }
        }
        Ok(())
    }

    fn manifest_path(&self, epoch: Epoch) -> String {
        manifest::path(epoch, self.writer.incarnation)
    }

    /// Whether the manifest that is there may be replaced: it is ours, from an attempt whose outcome was not known and
    /// that a second write makes durable.
    async fn may_replace(&self, path: &str, ours: &Bytes) -> Result<bool, CheckpointError> {
        match self.store.get_whole(path, sealed::check()).await {
            Ok(found) if found == *ours => Ok(true),
            // Only where two runs have taken one number.
            Ok(_) => Err(self.fenced(self.writer.incarnation.0)),
            Err(StoreError::Missing { .. }) => Ok(false),
            Err(StoreError::Torn { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn fenced(&self, by: u64) -> CheckpointError {
        opening::fenced(&*self.store, &self.writer.pipeline, self.writer.incarnation, by)
    }

    /// Puts a compaction that has ended in place: the next manifest refers to it.
    async fn take_compaction(&mut self) {
        if self.compaction.is_none() {
            return;
        }
        // On a single thread it would never get a turn beside a store that never waits.
        tokio::task::yield_now().await;
        // Where changes come faster than they are compacted, the epochs wait, and not the disk fills up.
        let falls_behind = compaction::is_due(&self.known, self.most_files, LAG * self.compaction_patience);
        let taken = self.compaction.take_if(|compaction| falls_behind || compaction.has_ended());
        let Some(compaction) = taken else { return };
        match compaction.end().await {
            Ok(compacted) => {
                self.compaction_patience = 1;
                self.compacted = true;
                self.doomed.extend(compaction::apply(&mut self.known, compacted));
            }
            Err(error) => {
                // The state is as good as before, and only larger than it need be.
                self.compaction_patience *= 2;
                tracing::warn!("checkpoints at {} are not compacted: {error}", self.store.describe());
            }
        }
    }

    fn begin_compaction(&mut self) {
        let Some(compactor) = &self.compactor else { return };
        if self.compaction.is_none() && compaction::is_due(&self.known, self.most_files, self.compaction_patience) {
            let (store, names) = (Arc::clone(&self.prompt), Arc::clone(&self.names));
            self.compaction = Some(Compaction::begin(store, names, &self.known, Arc::clone(compactor)));
        }
    }

    fn appended(&self, bytes: u64) -> Appended {
        Appended { bytes, state_bytes: self.known.state_bytes(), outbox_bytes: self.known.outbox_bytes() }
    }
}

/// Rows that are settled, but for the newest: a destination may lose what it has confirmed.
fn let_go(sink: &mut SinkEntry) {
    if planted(Bug::OutboxDroppedEarly) {
        let newest = sink.outbox.len().saturating_sub(1);
        sink.outbox.drain(..newest);
    }
    sink.let_go(SPARE_EPOCHS);
}

fn unwritable(what: &str, source: ArrowError) -> CheckpointError {
    CheckpointError::Arrow { what: format!("{what} cannot be written"), source }
}
