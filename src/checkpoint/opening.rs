//! Taking a log over: the lock, the next run's number, and the newest checkpoint that is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::departure::Departure;
use super::files::{self, FileFlaw};
use super::log::{CheckpointError, LogOptions, OUTBOX, Recovered, STATE};
use super::manifest::{self, Manifest};
use super::sealed::{self, FORMAT, Flaw};
use super::sections::SectionFile;
use super::state::{EpochState, OperatorState};
use super::store::{Lock, Store, StoreError};
use super::takeover::Fingerprint;
use crate::connectors::delivery::Writer;
use crate::faults::crash_point;
use crate::faults::{Bug, planted};
use crate::time::{Epoch, Incarnation, LogId};

/// The folder of the runs' numbers.
pub(super) const INCARNATIONS: &str = "incarnations";
/// The folder of manifests that a run was told not to go on from.
pub(super) const SET_ASIDE: &str = "set-aside";
/// What tells this log from others.
pub(super) const LOG: &str = "log.json";
/// Files that are read at the same time.
const READ_AHEAD: usize = 4;

/// A log that is taken over.
pub(super) struct Opened {
    pub lock: Lock,
    pub writer: Writer,
    /// The highest number that any epoch has had.
    pub highest: Epoch,
    /// `log.json`.
    pub file: LogFile,
    /// What to go on from; empty at a start from nothing.
    pub manifest: Manifest,
    pub recovered: Option<Recovered>,
    /// The checkpoints that stay, rising.
    pub kept: Vec<KeptCheckpoint>,
    /// Of a run that does not go on from the newest.
    pub departure: Option<Departure>,
}

/// A checkpoint that stays, and what it needs.
pub(super) struct KeptCheckpoint {
    pub epoch: Epoch,
    /// Its manifest.
    pub path: String,
    pub files: BTreeSet<String>,
}

/// `log.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct LogFile {
    pub format: u64,
    pub log: String,
    pub pipeline: String,
    /// Epochs up to here have been, though no file may say so any more.
    pub highest: u64,
    /// There has been a checkpoint, and nobody has removed all: to find none is a loss.
    #[serde(default)]
    pub checkpoints: bool,
}

impl LogFile {
    /// Reads it; `None` when it is not there.
    pub(super) async fn read(store: &dyn Store) -> Result<Option<Result<LogFile, Flaw>>, StoreError> {
        match store.get_whole(LOG, sealed::check()).await {
            Ok(bytes) => Ok(Some(sealed::unseal(&bytes))),
            Err(StoreError::Torn { flaw, .. }) => Ok(Some(Err(Flaw::Torn(flaw)))),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces it.
    pub(super) async fn write(&self, store: &dyn Store) -> Result<(), CheckpointError> {
        let bytes = sealed::seal(self).map_err(|error| unwritable(LOG, &error))?;
        Ok(store.put(LOG, bytes).await?)
    }
}

#[derive(Serialize)]
struct IncarnationFile<'a> {
    format: u64,
    incarnation: u64,
    pipeline: &'a str,
}

/// A manifest that was found.
pub(super) struct Found {
    pub path: String,
    pub epoch: Epoch,
    pub manifest: Result<Manifest, Flaw>,
}

impl Found {
    /// What is wrong with it.
    fn torn(&self) -> Option<String> {
        self.manifest.as_ref().err().map(|flaw| format!("{}: {flaw}", self.path))
    }

    /// What a later run has written comes after all that one before it has, whatever the numbers of their epochs.
    fn order(&self) -> (u64, Epoch) {
        (self.manifest.as_ref().map_or(0, |manifest| manifest.incarnation), self.epoch)
    }
}

/// Takes a log over.
pub(super) async fn open(
    store: &Arc<dyn Store>,
    prompt: &Arc<dyn Store>,
    options: &LogOptions,
) -> Result<Opened, CheckpointError> {
    let lock = lock(&**store, &**prompt).await?;
    crash_point!("log.locked");
    let found = manifests(&**store).await?;
    refuse_newer(&**store, &found)?;
    let numbers = Numbers::read(&**store, &found).await?;
    let mut file = log_file(&**store, options, &found, numbers.incarnation > 0).await?;
    let incarnation = take_incarnation(&**store, options, numbers.incarnation).await?;
    crash_point!("log.incarnation_taken");
    // Another run may have come and gone meanwhile. From now on none can write that has not seen our number.
    let found = manifests(&**store).await?;
    refuse_newer(&**store, &found)?;
    let numbers = Numbers::read(&**store, &found).await?;
    let chosen = match choose(&**store, options, &found).await {
        Err(CheckpointError::Damaged(flaw)) => {
            return Err(damaged_or_fenced(&**store, options, incarnation, flaw).await);
        }
        chosen => chosen?,
    };
    if let Some(chosen) = &chosen {
        match make_durable(&**store, &chosen.path).await {
            Ok(()) => {}
            Err(gone @ (StoreError::Missing { .. } | StoreError::Torn { .. })) => {
                return Err(damaged_or_fenced(&**store, options, incarnation, gone.to_string()).await);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let order = chosen.as_ref().map(|chosen| chosen.order);
    let mut departure = (options.fresh || options.from.is_some()).then(|| {
        let mut later: Vec<&Found> =
            found.iter().filter(|found| order.is_none_or(|order| found.order() > order)).collect();
        later.sort_by_key(|found| found.order());
        Departure { later: later.into_iter().map(|found| found.path.clone()).collect() }
    });
    if options.fresh {
        if file.checkpoints {
            file.checkpoints = false;
            file.write(&**store).await?;
        }
        if let Some(departure) = &mut departure {
            std::mem::take(departure).carry_out(&**store).await?;
        }
    }
    let is_kept = |found: &&Found| order.is_some_and(|order| found.order() <= order);
    let mut kept: Vec<&Found> = found.iter().filter(is_kept).collect();
    kept.sort_by_key(|kept| kept.order());
    let kept = kept.into_iter().filter_map(KeptCheckpoint::of).collect();
    let (manifest, recovered) = match chosen {
        Some(Chosen { manifest, recovered, .. }) => (manifest, Some(recovered)),
        None => (Manifest::default(), None),
    };
    let writer = Writer {
        pipeline: options.pipeline.clone(),
        log: LogId(file.log.clone()),
        incarnation,
        resumed: Epoch(manifest.epoch),
        fresh: options.fresh,
    };
    let highest = match planted(Bug::EpochReused) {
        true => Epoch(manifest.epoch),
        false => Epoch(numbers.epoch.max(file.highest)),
    };
    let named = Manifest { format: FORMAT, pipeline: options.pipeline.clone(), log: file.log.clone(), ..manifest };
    Ok(Opened { lock, writer, highest, file, manifest: named, recovered, kept, departure })
}

/// Takes the lock. Who holds it, if another does, is asked of `prompt` once: a message is not waited for.
pub(super) async fn lock(store: &dyn Store, prompt: &dyn Store) -> Result<Lock, CheckpointError> {
    if let Some(lock) = store.lock().await? {
        return Ok(lock);
    }
    let holder = prompt.get(super::store::LOCK).await.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    let holder = holder.ok().filter(|holder| !holder.is_empty()).unwrap_or_else(|| "another process".into());
    Err(CheckpointError::Held(format!(
        "the checkpoints at {} are in use by {holder}: a pipeline runs once at a time. Stop that run, or give this one \
         another --name",
        store.describe()
    )))
}

/// All manifests, in the order of their epochs.
pub(super) async fn manifests(store: &dyn Store) -> Result<Vec<Found>, StoreError> {
    let mut found = vec![];
    for (path, _) in store.list(manifest::FOLDER).await? {
        let Some(epoch) = manifest::number(&path).map(Epoch) else { continue };
        let manifest = match store.get_whole(&path, sealed::check()).await {
            Ok(bytes) => sealed::unseal(&bytes).and_then(|manifest: Manifest| {
                let run = manifest::incarnation(&path).unwrap_or(manifest.incarnation);
                match (manifest.epoch, manifest.incarnation) == (epoch.0, run) {
                    true => Ok(manifest),
                    false => {
                        let Manifest { epoch, incarnation, .. } = manifest;
                        Err(Flaw::Torn(format!("it is that of epoch {epoch} of run {incarnation}")))
                    }
                }
            }),
            Err(StoreError::Missing { .. }) => Err(Flaw::Torn("it is missing".into())),
            Err(StoreError::Torn { flaw, .. }) => Err(Flaw::Torn(flaw)),
            Err(error) => return Err(error),
        };
        found.push(Found { path, epoch, manifest });
    }
    found.sort_by_key(|found| (found.epoch, manifest::incarnation(&found.path)));
    Ok(found)
}

fn refuse_newer(store: &dyn Store, found: &[Found]) -> Result<(), CheckpointError> {
    for found in found {
        if let Err(newer @ Flaw::Newer(_)) = &found.manifest {
            let (path, place) = (&found.path, store.describe());
            return Err(CheckpointError::Damaged(format!("the checkpoint {path} at {place} cannot be read: {newer}")));
        }
    }
    Ok(())
}

/// The highest numbers there have been.
pub(super) struct Numbers {
    pub incarnation: u64,
    pub epoch: u64,
}

impl Numbers {
    pub(super) async fn read(store: &dyn Store, found: &[Found]) -> Result<Numbers, StoreError> {
        let mut numbers = Numbers { incarnation: 0, epoch: 0 };
        for (path, _) in store.list(INCARNATIONS).await? {
            numbers.incarnation = numbers.incarnation.max(manifest::number(&path).unwrap_or(0));
        }
        for found in found {
            numbers.epoch = numbers.epoch.max(found.epoch.0);
            let run = found.manifest.as_ref().map_or(0, |manifest| manifest.incarnation);
            numbers.incarnation = numbers.incarnation.max(run);
        }
        for folder in [STATE, OUTBOX, SET_ASIDE] {
            for (path, _) in store.list(folder).await? {
                numbers.epoch = numbers.epoch.max(manifest::number(&path).unwrap_or(0));
                numbers.incarnation = numbers.incarnation.max(manifest::incarnation(&path).unwrap_or(0));
            }
        }
        Ok(numbers)
    }
}

/// What tells this log from others: read, or drawn at the first start. `had_runs` says whether there was one before.
async fn log_file(
    store: &dyn Store,
    options: &LogOptions,
    found: &[Found],
    had_runs: bool,
) -> Result<LogFile, CheckpointError> {
    let place = store.describe();
    let known = found.iter().rev().find_map(|found| found.manifest.as_ref().ok()).map(|manifest| manifest.log.clone());
    // Without a manifest that is whole, nothing says what the log was called and whether there was anything in it.
    let is_lost = known.is_none() && had_runs && !options.fresh;
    loop {
        let flaw = match LogFile::read(store).await? {
            Some(Ok(file)) => {
                let is_empty = file.checkpoints && found.is_empty() && !options.fresh;
                // Another run may have written its first one meanwhile.
                if is_empty && store.list(manifest::FOLDER).await?.is_empty() {
                    return Err(lost(&place, &format!("{LOG} says that there were checkpoints, and none is left")));
                }
                if !file.checkpoints {
                    // As with manifests: its run may have been killed before it was durable.
                    file.write(store).await?;
                }
                return Ok(file);
            }
            Some(Err(flaw @ Flaw::Newer(_))) => {
                return Err(CheckpointError::Damaged(format!("{LOG} at {place}: {flaw}")));
            }
            Some(Err(flaw)) if is_lost => return Err(lost(&place, &format!("{LOG}: {flaw}"))),
            None if is_lost => return Err(lost(&place, &format!("{LOG}: it is missing"))),
            Some(Err(flaw)) => Some(flaw.to_string()),
            None => had_runs.then(|| "it is missing".to_owned()),
        };
        let log = known.clone().unwrap_or_else(|| store.new_log_id().0);
        let pipeline = options.pipeline.clone();
        let file = LogFile { format: FORMAT, log, pipeline, highest: 0, checkpoints: !found.is_empty() };
        match flaw {
            Some(flaw) => {
                tracing::warn!("{LOG} at {place}: {flaw}; it is written anew");
                file.write(store).await?;
                return Ok(file);
            }
            // Of two first runs the other one may have been faster.
            None => {
                let bytes = sealed::seal(&file).map_err(|error| unwritable(LOG, &error))?;
                if store.put_if_absent(LOG, bytes).await? {
                    return Ok(file);
                }
            }
        }
    }
}

fn lost(place: &str, what: &str) -> CheckpointError {
    CheckpointError::Damaged(format!(
        "the checkpoints at {place} are lost: {what}. Restore the folder from a copy, or begin anew with --fresh"
    ))
}

/// Takes a number above all others: of two runs that start at the same time each gets its own.
async fn take_incarnation(
    store: &dyn Store,
    options: &LogOptions,
    highest: u64,
) -> Result<Incarnation, CheckpointError> {
    let mut highest = highest;
    if planted(Bug::IncarnationNotTaken) {
        return Ok(Incarnation(highest.max(1)));
    }
    loop {
        let number = highest + 1;
        let file = IncarnationFile { format: FORMAT, incarnation: number, pipeline: &options.pipeline };
        let path = format!("{INCARNATIONS}/{number:012}.json");
        let bytes = sealed::seal(&file).map_err(|error| unwritable(&path, &error))?;
        let taken = store.put_if_absent(&path, bytes).await?;
        // The numbers of old runs are deleted, so that one alone proves nothing: it must be the highest, too.
        let runs = store.list(INCARNATIONS).await?;
        let seen = runs.iter().filter_map(|(path, _)| manifest::number(path)).max().unwrap_or(0);
        if taken && seen <= number {
            return Ok(Incarnation(number));
        }
        highest = seen.max(number);
    }
}

/// Writes the manifest that is gone on from once more. A run that was killed amid the write may have left it where a
/// loss of power still takes it away, and what this run delivers rests on it.
async fn make_durable(store: &dyn Store, path: &str) -> Result<(), StoreError> {
    // As it was chosen, and not a damaged one over its copy.
    let bytes = store.get_whole(path, sealed::check()).await?;
    store.put(path, bytes).await
}

/// A later run deletes what it needs no more. Then nothing is damaged, and this run only comes too late.
async fn damaged_or_fenced(
    store: &dyn Store,
    options: &LogOptions,
    incarnation: Incarnation,
    flaw: String,
) -> CheckpointError {
    match store.list(INCARNATIONS).await {
        Ok(runs) => match runs.iter().filter_map(|(path, _)| manifest::number(path)).max() {
            Some(by) if by > incarnation.0 => fenced(store, &options.pipeline, incarnation, by),
            _ => CheckpointError::Damaged(flaw),
        },
        Err(error) => error.into(),
    }
}

/// Run `by` has taken over from run `incarnation`.
pub(super) fn fenced(store: &dyn Store, pipeline: &str, incarnation: Incarnation, by: u64) -> CheckpointError {
    let place = store.describe();
    CheckpointError::Fenced(format!(
        "run {by} of pipeline {pipeline} has taken over the checkpoints at {place} from this one, run {incarnation}"
    ))
}

pub(super) fn unwritable(what: &str, error: &serde_json::Error) -> CheckpointError {
    CheckpointError::Damaged(format!("{what} cannot be written: {error}"))
}

/// A checkpoint to go on from.
struct Chosen {
    order: (u64, Epoch),
    path: String,
    manifest: Manifest,
    recovered: Recovered,
}

/// The newest whole checkpoint, or the one asked for. `None` when there is none, or none is wanted.
async fn choose(store: &dyn Store, options: &LogOptions, found: &[Found]) -> Result<Option<Chosen>, CheckpointError> {
    if options.fresh {
        return Ok(None);
    }
    let place = store.describe();
    if let Some(from) = options.from
        && !found.iter().any(|found| found.epoch == from)
    {
        let there: Vec<Epoch> = found.iter().map(|found| found.epoch).collect();
        return Err(no_such_checkpoint(store, from, &there));
    }
    let mut candidates: Vec<&Found> =
        found.iter().filter(|found| options.from.is_none_or(|from| found.epoch == from)).collect();
    candidates.sort_by_key(|found| std::cmp::Reverse(found.order()));
    // Of one that is torn nobody knows which run wrote it, so that it comes last above; yet it may be the newest.
    let torn_after = |epoch: Epoch| {
        let later = found.iter().filter(move |other| other.epoch > epoch && options.from.is_none());
        later.filter_map(|other| Some(damaged(other, &other.torn()?)))
    };
    let mut flaws = vec![];
    for found in candidates {
        let flaw = match &found.manifest {
            Ok(manifest) => match load(store, manifest).await {
                Ok(recovered) => {
                    flaws.extend(torn_after(found.epoch));
                    warn(&place, &flaws, found.epoch);
                    let (path, manifest) = (found.path.clone(), manifest.clone());
                    return Ok(Some(Chosen { order: found.order(), path, manifest, recovered }));
                }
                Err(Unloadable::Damaged(flaw)) => flaw,
                Err(Unloadable::Store(error)) => return Err(error.into()),
            },
            Err(_) => found.torn().unwrap_or_default(),
        };
        flaws.push(damaged(found, &flaw));
    }
    if flaws.is_empty() {
        return Ok(None);
    }
    let (which, other) = match options.from {
        Some(_) => ("the checkpoint cannot be used", "go on from another one (see `acequia checkpoints list`)"),
        None => ("no checkpoint is whole", "restore the folder from a copy"),
    };
    Err(CheckpointError::Damaged(format!(
        "{which} at {place}:\n  {}\nSee `acequia checkpoints verify`; {other}, or begin anew with --fresh",
        flaws.join("\n  ")
    )))
}

fn damaged(found: &Found, flaw: &str) -> String {
    format!("checkpoint {} is damaged: {flaw}", found.epoch)
}

pub(super) fn no_such_checkpoint(store: &dyn Store, epoch: Epoch, there: &[Epoch]) -> CheckpointError {
    let there: Vec<String> = there.iter().map(ToString::to_string).collect();
    let there = if there.is_empty() { "none".into() } else { there.join(", ") };
    let place = store.describe();
    CheckpointError::Damaged(format!("there is no checkpoint {epoch} at {place}; there are: {there}"))
}

fn warn(place: &str, flaws: &[String], instead: Epoch) {
    for flaw in flaws {
        tracing::warn!("{flaw} (at {place}); going on from checkpoint {instead}");
    }
}

/// Why a checkpoint cannot be loaded.
pub(super) enum Unloadable {
    Damaged(String),
    Store(StoreError),
}

/// Reads all that a checkpoint needs, and checks it.
async fn load(store: &dyn Store, manifest: &Manifest) -> Result<Recovered, Unloadable> {
    let state: BTreeSet<&str> = manifest.parts().map(|part| part.file.as_str()).collect();
    let files = open_all(store, manifest, state).await?;
    // Rows that are settled already are kept for a destination that loses them: no reason to lose a checkpoint.
    let waiting: BTreeSet<&str> =
        manifest.sinks.values().flat_map(|sink| sink.unsettled()).map(|entry| entry.file.as_str()).collect();
    for file in waiting {
        open_file(store, manifest, file).await?;
    }
    let mut recovered = Recovered { finished: manifest.finished, ..Recovered::default() };
    recovered.state = EpochState { epoch: Epoch(manifest.epoch), ..EpochState::default() };
    recovered.state.sources = manifest.sources.iter().map(|(name, source)| (name.clone(), source.into())).collect();
    for (name, operator) in &manifest.operators {
        let parts: Vec<_> =
            operator.parts.iter().map(|part| (files.get(part.file.as_str()).cloned(), part.clone())).collect();
        let batches = files::offload(move || {
            let mut batches = vec![];
            for (file, part) in parts {
                let read = file.ok_or("it is missing".to_owned()).and_then(|file| file.read(&part.name));
                batches.extend(read.map_err(|flaw| format!("{}: {flaw}", part.file))?);
            }
            Ok(batches)
        });
        let batches = batches.await.map_err(Unloadable::Damaged)?;
        let state = OperatorState { watermark: operator.watermark, batches };
        recovered.state.operators.insert(name.clone(), state);
        // Sources and steps without state have a watermark and no fingerprint.
        if !operator.fingerprint.is_empty() {
            recovered.operators.insert(name.clone(), Fingerprint(operator.fingerprint.clone()));
        }
    }
    for (name, sink) in &manifest.sinks {
        let epochs: Vec<Epoch> = sink.unsettled().map(|entry| Epoch(entry.epoch)).collect();
        if !epochs.is_empty() {
            recovered.undelivered.insert(name.clone(), epochs);
        }
    }
    Ok(recovered)
}

async fn open_all(
    store: &dyn Store,
    manifest: &Manifest,
    names: BTreeSet<&str>,
) -> Result<BTreeMap<String, Arc<SectionFile>>, Unloadable> {
    let open = |name: String| async move {
        let file = open_file(store, manifest, &name).await?;
        Ok((name, Arc::new(file)))
    };
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    stream::iter(names).map(open).buffered(READ_AHEAD).try_collect().await
}

/// Reads a file that a manifest names.
pub(super) async fn open_file(store: &dyn Store, manifest: &Manifest, file: &str) -> Result<SectionFile, Unloadable> {
    let Some(entry) = manifest.files.get(file) else {
        return Err(Unloadable::Damaged(format!("{file}: its checksum is not in the manifest")));
    };
    files::load(store, file, entry).await.map_err(|flaw| match flaw {
        FileFlaw::Damaged(flaw) => Unloadable::Damaged(format!("{file}: {flaw}")),
        FileFlaw::Store(error) => Unloadable::Store(error),
    })
}

/// The files that manifests need which were set aside.
pub(super) async fn set_aside_files(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    let mut files = BTreeSet::new();
    for (path, _) in store.list(SET_ASIDE).await? {
        match store.get_whole(&path, sealed::check()).await {
            Ok(bytes) => files.extend(sealed::unseal::<Manifest>(&bytes).into_iter().flat_map(|m| m.files.into_keys())),
            Err(StoreError::Missing { .. } | StoreError::Torn { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

impl KeptCheckpoint {
    fn of(found: &Found) -> Option<KeptCheckpoint> {
        let manifest = found.manifest.as_ref().ok()?;
        let files = manifest.files.keys().cloned().collect();
        Some(KeptCheckpoint { epoch: found.epoch, path: found.path.clone(), files })
    }
}
