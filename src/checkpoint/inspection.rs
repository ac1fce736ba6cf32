//! A log as a person looks at it: which checkpoints there are, whether they are whole, and removing them.

use std::collections::{BTreeMap, BTreeSet};

use super::log::{CheckpointError, OUTBOX, STATE};
use super::manifest::{self, FileEntry, Manifest};
use super::opening::{self, INCARNATIONS, LOG, LogFile, SET_ASIDE, Unloadable};
use super::sealed::{self, FORMAT};
use super::sections::SectionFile;
use super::store::{Store, StoreError};
use crate::time::Epoch;

/// A checkpoint that was found.
pub struct Checkpoint {
    /// The epoch at whose end it was made.
    pub epoch: Epoch,
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
pub async fn list(store: &dyn Store) -> Result<Vec<Checkpoint>, StoreError> {
    let found = opening::manifests(store).await?;
    let checkpoint = |found: opening::Found| Checkpoint {
        epoch: found.epoch,
        manifest: found.manifest.map_err(|flaw| format!("{}: {flaw}", found.path)),
    };
    Ok(found.into_iter().map(checkpoint).collect())
}

/// Reads every file of a log and compares it with its checksums.
///
/// # Errors
/// What the store says; damage is no error but in the result.
pub async fn verify(store: &dyn Store) -> Result<Verified, StoreError> {
    let checkpoints = list(store).await?;
    let mut verified = Verified { checkpoints: checkpoints.len(), ..Verified::default() };
    let mut named: BTreeMap<String, (FileEntry, Vec<String>)> = BTreeMap::new();
    for checkpoint in checkpoints {
        verified.files += 1;
        match checkpoint.manifest {
            Ok(manifest) => {
                for (file, entry) in manifest.files {
                    let of = named.entry(file).or_insert_with(|| (entry, vec![]));
                    of.1.push(checkpoint.epoch.to_string());
                }
            }
            Err(flaw) => verified.flaws.push(flaw),
        }
    }
    for (file, (entry, epochs)) in &named {
        verified.files += 1;
        let files = [(file.clone(), entry.clone())].into();
        match opening::open_file(store, &Manifest { files, ..Manifest::default() }, file).await {
            Ok(open) => verified.flaws.extend(open.flaws().into_iter().map(|flaw| format!("{file}: {flaw}"))),
            Err(Unloadable::Damaged(flaw)) => {
                verified.flaws.push(format!("{flaw} (checkpoint {} needs it)", epochs.join(", ")));
            }
            Err(Unloadable::Store(error)) => return Err(error),
        }
    }
    verify_others(store, &named, &mut verified).await?;
    Ok(verified)
}

/// The files that no manifest names.
async fn verify_others(
    store: &dyn Store,
    named: &BTreeMap<String, (FileEntry, Vec<String>)>,
    verified: &mut Verified,
) -> Result<(), StoreError> {
    let mut sealed_files = vec![];
    for folder in [INCARNATIONS, SET_ASIDE] {
        sealed_files.extend(store.list(folder).await?.into_iter().map(|(path, _)| path));
    }
    if verified.checkpoints > 0 || !sealed_files.is_empty() {
        sealed_files.push(LOG.to_owned());
    }
    for path in sealed_files {
        verified.files += 1;
        match store.get(&path).await {
            Ok(bytes) => {
                if let Err(flaw) = sealed::unseal::<serde_json::Value>(&bytes) {
                    verified.flaws.push(format!("{path}: {flaw}"));
                }
            }
            Err(StoreError::Missing { .. }) => verified.flaws.push(format!("{path}: it is missing")),
            Err(error) => return Err(error),
        }
    }
    for folder in [STATE, OUTBOX] {
        for (path, _) in store.list(folder).await? {
            if named.contains_key(&path) {
                continue;
            }
            verified.files += 1;
            match store.get(&path).await.map(|bytes| SectionFile::open(bytes, false)) {
                Ok(Err(flaw)) => verified.flaws.push(format!("{path}: {flaw} (no checkpoint needs it)")),
                Ok(Ok(_)) | Err(StoreError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Removes checkpoints and what only they need. Returns their epochs, rising.
///
/// # Errors
/// [`CheckpointError::Held`] while a run uses them; [`CheckpointError::Damaged`] when the one to remove is not there.
pub async fn remove(store: &dyn Store, which: Remove) -> Result<Vec<Epoch>, CheckpointError> {
    let _lock = opening::lock(store).await?;
    let found = opening::manifests(store).await?;
    let all: Vec<Epoch> = found.iter().map(|found| found.epoch).collect();
    let gone: Vec<Epoch> = match which {
        Remove::All => all,
        Remove::One(epoch) if all.contains(&epoch) => vec![epoch],
        Remove::One(epoch) => return Err(opening::no_such_checkpoint(store, epoch, &all)),
        Remove::AllBut(keep) => all[..all.len().saturating_sub(keep)].to_vec(),
    };
    if which != Remove::All {
        remember_numbers(store, &found).await?;
    }
    for epoch in &gone {
        store.delete(&manifest::path(*epoch)).await?;
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

/// The numbers of epochs are not used again, though no file may tell of them any more.
async fn remember_numbers(store: &dyn Store, found: &[opening::Found]) -> Result<(), CheckpointError> {
    let numbers = opening::Numbers::read(store, found).await?;
    let Ok(mut file) = sealed::unseal::<LogFile>(&store.get(LOG).await?) else { return Ok(()) };
    file.highest = file.highest.max(numbers.epoch);
    file.format = FORMAT;
    let bytes = sealed::seal(&file).map_err(|error| opening::unwritable(LOG, &error))?;
    Ok(store.put(LOG, bytes).await?)
}
