//! A log as a person looks at it: which checkpoints there are, whether they are whole, and removing them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::files;
use super::log::{CheckpointError, OUTBOX, STATE};
use super::manifest::{FileEntry, Manifest};
use super::mirror;
use super::opening::{self, INCARNATIONS, LOG, LogFile, SET_ASIDE};
use super::sealed::{self, FORMAT};
use super::sections::SectionFile;
use super::store::{Check, Store, StoreError};
use crate::time::Epoch;

/// A checkpoint that was found.
pub struct Checkpoint {
    /// The epoch at whose end it was made.
    pub epoch: Epoch,
    /// The file of its manifest.
    pub path: String,
    /// What it consists of, or what is wrong with its manifest.
    pub manifest: Result<Manifest, String>,
}

/// What a look at every byte has shown.
#[derive(Debug, Default)]
pub struct Verified {
    /// How many checkpoints there are.
    pub checkpoints: usize,
    /// How many files were read.
    pub files: usize,
    /// What is wrong, each with its file.
    pub flaws: Vec<String>,
    /// Whole files that are there only once, as a crash between the two leaves them.
    pub gaps: Vec<String>,
}

/// Which checkpoints to remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remove {
    /// All of them, and what tells this log from others.
    All,
    /// One.
    One(Epoch),
    /// All but the newest few.
    AllBut(usize),
}

/// All checkpoints, rising.
///
/// # Errors
/// What the store says.
pub async fn list(store: &Arc<dyn Store>) -> Result<Vec<Checkpoint>, StoreError> {
    let found = opening::manifests(&*mirror::reading(store)).await?;
    let checkpoint = |found: opening::Found| Checkpoint {
        epoch: found.epoch,
        manifest: found.manifest.map_err(|flaw| format!("{}: {flaw}", found.path)),
        path: found.path,
    };
    Ok(found.into_iter().map(checkpoint).collect())
}

/// Reads every file of a log, and its copy where there must be one, and compares it with its checksums.
///
/// # Errors
/// What the store says; damage is no error but in the result.
pub async fn verify(store: &Arc<dyn Store>) -> Result<Verified, StoreError> {
    let checkpoints = list(store).await?;
    let mut look = Look { store, seen: Verified { checkpoints: checkpoints.len(), ..Verified::default() } };
    let mut named: BTreeMap<String, (FileEntry, Vec<String>)> = BTreeMap::new();
    for checkpoint in checkpoints {
        look.at(&checkpoint.path, sealed::check(), "").await?;
        for (file, entry) in checkpoint.manifest.into_iter().flat_map(|manifest| manifest.files) {
            named.entry(file).or_insert_with(|| (entry, vec![])).1.push(checkpoint.epoch.to_string());
        }
    }
    for (file, (entry, epochs)) in &named {
        let use_of_it = format!(" (checkpoint {} needs it)", epochs.join(", "));
        look.at(file, whole(Some(entry.clone())), &use_of_it).await?;
    }
    let mirrored = mirror::reading(store);
    let mut runs = vec![];
    for folder in [INCARNATIONS, SET_ASIDE] {
        runs.extend(mirrored.list(folder).await?.into_iter().map(|(path, _)| path));
    }
    if look.seen.checkpoints > 0 || !runs.is_empty() {
        runs.push(LOG.to_owned());
    }
    for path in runs {
        look.at(&path, sealed::check(), "").await?;
    }
    for folder in [STATE, OUTBOX] {
        let found = mirrored.list(folder).await?.into_iter().map(|(path, _)| path);
        for path in found.filter(|path| !named.contains_key(path)) {
            look.at(&path, whole(None), " (no checkpoint needs it)").await?;
        }
    }
    Ok(look.seen)
}

/// What a file of rows or state must be: as its manifest says, and readable to the end.
fn whole(entry: Option<FileEntry>) -> Check {
    let as_named = entry.map(files::as_in);
    Arc::new(move |bytes| {
        if let Some(as_named) = &as_named {
            as_named(bytes)?;
        }
        let file = SectionFile::open(Bytes::copy_from_slice(bytes), as_named.is_some())?;
        file.flaws().into_iter().next().map_or(Ok(()), Err)
    })
}

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq)]
enum Flaw {
    Missing,
    Damaged(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Missing => f.write_str("it is missing"),
            Flaw::Damaged(how) => f.write_str(how),
        }
    }
}

fn gap(missing: &str, whole: &str) -> String {
    format!(
        "{missing}: {}, as after a crash; {whole} is whole, and a run that reads it writes the other one again",
        Flaw::Missing
    )
}

/// Looks at files and their copies.
struct Look<'a> {
    store: &'a Arc<dyn Store>,
    seen: Verified,
}

impl Look<'_> {
    async fn at(&mut self, path: &str, check: Check, use_of_it: &str) -> Result<(), StoreError> {
        let first = self.flaw(path, &check).await?;
        if self.store.keeps_copies() {
            self.seen.flaws.extend(first.map(|flaw| format!("{path}: {flaw}{use_of_it}")));
            return Ok(());
        }
        let copy = mirror::copy_of(path);
        match (first, self.flaw(&copy, &check).await?) {
            (None, None) => {}
            (Some(Flaw::Missing), None) => self.seen.gaps.push(gap(path, &copy)),
            (None, Some(Flaw::Missing)) => self.seen.gaps.push(gap(&copy, path)),
            (Some(flaw), None) => self.seen.flaws.push(format!("{path}: {flaw} (its copy {copy} is whole)")),
            (None, Some(flaw)) => self.seen.flaws.push(format!("{copy}: {flaw} (it is the copy of a whole file)")),
            (Some(first), Some(_)) => self.seen.flaws.push(format!("{path}: {first}, and so is its copy{use_of_it}")),
        }
        Ok(())
    }

    async fn flaw(&mut self, path: &str, check: &Check) -> Result<Option<Flaw>, StoreError> {
        self.seen.files += 1;
        match self.store.get_whole(path, Arc::clone(check)).await {
            Ok(_) => Ok(None),
            Err(StoreError::Torn { flaw, .. }) => Ok(Some(Flaw::Damaged(flaw))),
            Err(StoreError::Missing { .. }) => Ok(Some(Flaw::Missing)),
            Err(error) => Err(error),
        }
    }
}

/// Removes checkpoints and what only they need. Returns their epochs, rising.
///
/// # Errors
/// [`CheckpointError::Held`] while a run uses them; [`CheckpointError::Damaged`] when the one to remove is not there.
pub async fn remove(store: &Arc<dyn Store>, which: Remove) -> Result<Vec<Epoch>, CheckpointError> {
    let store = &*mirror::writing(Arc::clone(store));
    let _lock = opening::lock(store, store).await?;
    let found = opening::manifests(store).await?;
    let all: Vec<Epoch> = found.iter().map(|found| found.epoch).collect();
    let gone: Vec<Epoch> = match which {
        Remove::All => all,
        Remove::One(epoch) if all.contains(&epoch) => vec![epoch],
        Remove::One(epoch) => return Err(opening::no_such_checkpoint(store, epoch, &all)),
        Remove::AllBut(keep) => all[..all.len().saturating_sub(keep)].to_vec(),
    };
    remember(store, &found, gone.len() < found.len()).await?;
    for found in found.iter().filter(|found| gone.contains(&found.epoch)) {
        store.delete(&found.path).await?;
    }
    let mut needed: BTreeSet<String> = BTreeSet::new();
    if which != Remove::All {
        let stay = found.iter().filter(|found| !gone.contains(&found.epoch));
        needed.extend(stay.flat_map(|found| found.manifest.iter().flat_map(|manifest| manifest.files.keys().cloned())));
        needed.extend(opening::set_aside_files(store).await?);
    }
    let folders: &[&str] = match which {
        Remove::All => &[OUTBOX, STATE, SET_ASIDE, INCARNATIONS],
        Remove::One(_) | Remove::AllBut(_) => &[OUTBOX, STATE],
    };
    for folder in folders {
        for (path, _) in store.list(folder).await? {
            if !needed.contains(&path) {
                store.delete(&path).await?;
            }
        }
    }
    if which == Remove::All {
        store.delete(LOG).await?;
    }
    Ok(gone)
}

/// The numbers of epochs are not used again, though no file may tell of them any more; and when none is left it is
/// because it was wanted so.
async fn remember(store: &dyn Store, found: &[opening::Found], some_stay: bool) -> Result<(), CheckpointError> {
    let numbers = opening::Numbers::read(store, found).await?;
    let Some(Ok(mut file)) = LogFile::read(store).await? else { return Ok(()) };
    file.highest = file.highest.max(numbers.epoch);
    file.format = FORMAT;
    file.checkpoints = some_stay;
    file.write(store).await
}
