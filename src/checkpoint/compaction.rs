//! Many changes of an operator become one whole state again, beside the running log.
//!
//! All operators that have changes are compacted together, each into a file of its own: files of changes hold several
//! operators, and one that still needs them would keep the others' on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::files::{self, FileFlaw, NewFiles};
use super::log::{CheckpointError, Compactor};
use super::manifest::{FileEntry, Manifest, OperatorEntry, Part};
use super::sections::{SectionFile, SectionWriter, bytes_of};
use super::state::OperatorState;
use super::store::Store;
use crate::faults::crash_point;
use crate::faults::{Bug, planted};
use crate::time::Epoch;

/// Fewer bytes of changes are not worth the work.
const LEAST_BYTES: u64 = 1 << 20;
/// More files than this slow a start down, plus one for each megabyte of state.
pub(super) const FILES: u64 = 64;

/// A compaction under way.
pub(super) struct Compaction {
    task: JoinHandle<Result<BTreeMap<String, Compacted>, CheckpointError>>,
}

/// The state of an operator in one file.
pub(super) struct Compacted {
    /// What it replaces.
    replaces: Vec<Part>,
    /// The new file; `None` when the state is empty.
    file: Option<(String, FileEntry)>,
}

/// Whether it is time, for a log that bears `most` files of changes, with `patience` times as many as usual.
pub(super) fn is_due(manifest: &Manifest, most: u64, patience: u64) -> bool {
    let (mut base, mut changed) = (BTreeMap::new(), BTreeMap::new());
    for part in manifest.parts() {
        let bytes = manifest.files.get(&part.file).map_or(0, |file| file.bytes);
        if part.base { &mut base } else { &mut changed }.insert(part.file.as_str(), bytes);
    }
    let files = changed.len() as u64;
    let (base, changed): (u64, u64) = (base.values().sum(), changed.values().sum());
    changed > LEAST_BYTES.max(base / 2) * patience || files > (most + base / LEAST_BYTES) * patience
}

impl Compaction {
    /// Begins with the state in `manifest`.
    pub(super) fn begin(
        store: Arc<dyn Store>,
        names: Arc<NewFiles>,
        manifest: &Manifest,
        compactor: Arc<dyn Compactor>,
    ) -> Compaction {
        let operators: BTreeMap<String, OperatorEntry> = manifest
            .operators
            .iter()
            .filter(|(_, operator)| operator.parts.iter().any(|part| !part.base))
            .map(|(name, operator)| (name.clone(), operator.clone()))
            .collect();
        let files = manifest.files.clone();
        let epoch = Epoch(manifest.epoch);
        let work = Work { store, names, epoch, compactor, files, open: BTreeMap::new() };
        Compaction { task: tokio::spawn(work.all(operators)) }
    }

    /// Whether [`Compaction::end`] would not wait.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// What came of it.
    pub(super) async fn end(mut self) -> Result<BTreeMap<String, Compacted>, CheckpointError> {
        match (&mut self.task).await {
            Ok(done) => done,
            Err(error) => Err(CheckpointError::Damaged(format!("a compaction has failed: {error}"))),
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Puts what was compacted in its place. Returns the files that did not find theirs.
pub(super) fn apply(manifest: &mut Manifest, compacted: BTreeMap<String, Compacted>) -> Vec<String> {
    let mut unused = vec![];
    for (name, Compacted { replaces, file }) in compacted {
        let operator = manifest.operators.get_mut(&name).filter(|operator| operator.parts.starts_with(&replaces));
        let Some(operator) = operator else {
            unused.extend(file.map(|(file, _)| file));
            continue;
        };
        let base = file.iter().map(|(file, _)| Part { file: file.clone(), name: name.clone(), base: true });
        operator.parts.splice(..replaces.len(), base.collect::<Vec<_>>());
        manifest.files.extend(file);
    }
    manifest.drop_unnamed_files();
    unused
}

struct Work {
    store: Arc<dyn Store>,
    names: Arc<NewFiles>,
    epoch: Epoch,
    compactor: Arc<dyn Compactor>,
    files: BTreeMap<String, FileEntry>,
    open: BTreeMap<String, Arc<SectionFile>>,
}

impl Work {
    async fn all(
        mut self,
        operators: BTreeMap<String, OperatorEntry>,
    ) -> Result<BTreeMap<String, Compacted>, CheckpointError> {
        let mut done = BTreeMap::new();
        for (name, operator) in operators {
            match self.one(name.clone(), operator).await {
                Ok(compacted) => drop(done.insert(name, compacted)),
                Err(error) => {
                    let written = done.into_values().filter_map(|compacted: Compacted| compacted.file);
                    self.names.abandon(written.map(|(path, _)| path));
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    async fn one(&mut self, name: String, operator: OperatorEntry) -> Result<Compacted, CheckpointError> {
        let mut read = vec![];
        let lost = usize::from(planted(Bug::CompactionDropsDelta) && operator.parts.len() > 1);
        for part in &operator.parts[..operator.parts.len() - lost] {
            read.push((self.open(&part.file).await?, part.name.clone()));
        }
        let compactor = Arc::clone(&self.compactor);
        let (watermark, described) = (operator.watermark, format!("the state of {name}"));
        let what = described.clone();
        let operator_name = name.clone();
        let bytes = files::offload(move || {
            let mut batches = vec![];
            for (file, name) in read {
                let part = file.read(&name);
                batches.extend(part.map_err(|flaw| CheckpointError::Damaged(format!("{what}: {flaw}")))?);
            }
            let compacted = compactor.compact(&operator_name, &OperatorState { watermark, batches });
            let compacted =
                compacted.map_err(|error| CheckpointError::Damaged(format!("{what} cannot be compacted: {error}")))?;
            if compacted.is_empty() {
                return Ok(None);
            }
            let mut writer = SectionWriter::with_room(compacted.iter().map(|(_, batch)| bytes_of(batch)).sum());
            let written = writer.add(&operator_name, &compacted).and_then(|_| writer.finish());
            written.map(Some).map_err(|source| CheckpointError::Arrow { what, source })
        });
        let file = match bytes.await? {
            Some(bytes) => {
                let entry = FileEntry::of(&bytes);
                let path = self.names.write(&*self.store, super::log::STATE, self.epoch, "base", bytes).await?;
                crash_point!("log.compacted");
                Some((path, entry))
            }
            None => None,
        };
        Ok(Compacted { replaces: operator.parts, file })
    }

    async fn open(&mut self, file: &str) -> Result<Arc<SectionFile>, CheckpointError> {
        if let Some(open) = self.open.get(file) {
            return Ok(Arc::clone(open));
        }
        let what = || format!("{file} at {}", self.store.describe());
        let Some(entry) = self.files.get(file) else {
            return Err(FileFlaw::Damaged("no manifest names it".into()).into_error(what()));
        };
        let open = files::load(&*self.store, file, entry).await.map_err(|flaw| flaw.into_error(what()))?;
        let open = Arc::new(open);
        self.open.insert(file.to_owned(), Arc::clone(&open));
        Ok(open)
    }
}
