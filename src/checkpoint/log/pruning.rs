//! Deleting what no checkpoint needs any more.

use std::collections::BTreeSet;

use super::{CheckpointLog, OUTBOX, STATE};
use crate::checkpoint::manifest;
use crate::checkpoint::opening::{self, KeptCheckpoint};
use crate::checkpoint::store::StoreError;
use crate::faults::crash_point;

/// Earlier runs whose numbers stay, so that a second one that starts at the same time finds them.
const KEPT_RUNS: u64 = 3;

impl CheckpointLog {
    /// Deletes old checkpoints, then the files that none needs any more. What cannot be deleted now is tried again.
    pub(super) async fn prune(&mut self) {
        if !self.swept {
            self.swept = self.sweep().await.is_ok();
        }
        // Right after a compaction the ones before need all that it has replaced: as much again as the state itself.
        let keep = if std::mem::take(&mut self.compacted) { 1 } else { self.keep };
        let old = self.kept.len().saturating_sub(keep);
        let gone: Vec<KeptCheckpoint> = self.kept.drain(..old).collect();
        let needed: BTreeSet<&String> = self.kept.iter().flat_map(|kept| &kept.files).collect();
        let unneeded = gone.iter().flat_map(|kept| &kept.files).filter(|file| !needed.contains(file)).cloned();
        self.doomed.extend(unneeded);
        self.doomed.extend(gone.iter().map(|kept| kept.path.clone()));
        self.doomed.extend(self.names.take_failed());
        crash_point!("log.before_prune");
        // "manifests" comes before "outbox" and "state": a manifest goes before its files.
        for path in std::mem::take(&mut self.doomed) {
            match self.prompt.delete(&path).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!("{path} is not deleted: {error}");
                    self.doomed.insert(path);
                }
            }
            crash_point!("log.pruning");
        }
    }

    /// Finds what earlier runs have left behind and no checkpoint needs. Only once a checkpoint of this run is there:
    /// until then the names of those files say which epochs have been.
    async fn sweep(&mut self) -> Result<(), StoreError> {
        let aside = opening::set_aside_files(&*self.prompt).await?;
        let kept: BTreeSet<String> = self.kept.iter().map(|kept| kept.path.clone()).collect();
        let needed: BTreeSet<&String> = self.kept.iter().flat_map(|kept| &kept.files).chain(&aside).collect();
        let earlier = |path: &str| manifest::incarnation(path).is_some_and(|run| run < self.writer.incarnation.0);
        let mut orphans = vec![];
        for folder in [STATE, OUTBOX] {
            let found = self.prompt.list(folder).await?.into_iter().map(|(path, _)| path);
            orphans.extend(found.filter(|path| earlier(path) && !needed.contains(path)));
        }
        let manifests = self.prompt.list(manifest::FOLDER).await?.into_iter().map(|(path, _)| path);
        orphans.extend(manifests.filter(|path| !kept.contains(path)));
        let runs = self.prompt.list(opening::INCARNATIONS).await?;
        let own = self.writer.incarnation.0;
        // A later run has its manifests there, too: this one sweeps nothing any more.
        if runs.iter().filter_map(|(path, _)| manifest::number(path)).any(|run| run > own) {
            return Ok(());
        }
        let runs = runs.into_iter().map(|(path, _)| path);
        orphans.extend(runs.filter(|path| manifest::number(path).is_some_and(|run| run + KEPT_RUNS < own)));
        self.doomed.extend(orphans);
        Ok(())
    }
}
