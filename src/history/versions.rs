//! The versions of a Delta table that its log still holds, found by the names of the log's files.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use deltalake_core::{DeltaTable, ObjectStoreError};
use futures::TryStreamExt;

use super::kept::shown_time;

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Versions {
    /// Each commit with the time at which it was written.
    commits: BTreeMap<u64, DateTime<Utc>>,
    /// Versions whose state is written down as a whole, and when.
    checkpoints: BTreeMap<u64, DateTime<Utc>>,
}

impl Versions {
    /// Lists the log of a table.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(delta: &DeltaTable) -> Result<Versions, ObjectStoreError> {
        let log_store = delta.log_store();
        let store = log_store.object_store(None);
        let mut found = store.list(Some(log_store.log_path()));
        let mut versions = Versions::default();
        while let Some(file) = found.try_next().await? {
            versions.note(file.location.filename().unwrap_or_default(), file.last_modified);
        }
        Ok(versions)
    }

    /// Notes a file: `00000000000000000007.json` or `00000000000000000007.checkpoint....`.
    fn note(&mut self, name: &str, written: DateTime<Utc>) {
        let Some((number, rest)) = name.split_once('.') else { return };
        let Some(number) = Some(number).filter(|text| text.len() == 20).and_then(|text| text.parse().ok()) else {
            return;
        };
        if rest == "json" {
            self.commits.insert(number, written);
        } else if rest.starts_with("checkpoint.") {
            self.checkpoints.insert(number, written);
        }
    }

    /// Whether the version's state can be put together: from the beginning, or from one that is written down, on.
    pub fn can_be_loaded(&self, version: u64) -> bool {
        self.loadable().binary_search(&version).is_ok()
    }

    /// The versions that can be loaded, oldest first.
    pub fn loadable(&self) -> Vec<u64> {
        let mut loadable = vec![];
        let mut is_linked = false;
        let all: BTreeSet<u64> = self.commits.keys().chain(self.checkpoints.keys()).copied().collect();
        let mut before = None;
        for version in all {
            is_linked = self.checkpoints.contains_key(&version)
                || version == 0
                || (is_linked && before == version.checked_sub(1));
            if is_linked {
                loadable.push(version);
            }
            before = Some(version);
        }
        loadable
    }

    /// The versions whose commits are there, oldest first.
    pub fn commits(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.commits.keys().copied()
    }

    /// The newest version at `time`; `None` when there was none, or none that can be loaded any more.
    pub fn at(&self, time: DateTime<Utc>) -> Option<u64> {
        self.loadable().into_iter().rev().find(|version| self.written(*version).is_some_and(|written| written <= time))
    }

    /// When a version was written.
    pub fn written(&self, version: u64) -> Option<DateTime<Utc>> {
        self.commits.get(&version).or_else(|| self.checkpoints.get(&version)).copied()
    }

    /// "there are versions 3 (2026-11-29 12:00:00 UTC) to 7 (...)", from `oldest` on.
    pub fn described_from(&self, oldest: u64) -> String {
        let shown = |version: u64| match self.written(version) {
            Some(written) => format!("{version} ({})", shown_time(written)),
            None => version.to_string(),
        };
        let newest = self.loadable().last().copied().unwrap_or(oldest);
        match oldest == newest {
            true => format!("there is version {}", shown(newest)),
            false => format!("there are versions {} to {}", shown(oldest), shown(newest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_796_000_000 + seconds, 0).unwrap()
    }

    fn versions(names: &[&str]) -> Versions {
        let mut versions = Versions::default();
        for (at, name) in names.iter().enumerate() {
            versions.note(name, time(at as i64));
        }
        versions
    }

    #[test]
    fn a_whole_log_holds_every_version() {
        let log = versions(&["00000000000000000000.json", "00000000000000000001.json", "_last_checkpoint", "x.json"]);
        assert_eq!(log.loadable(), [0, 1]);
        assert!(log.can_be_loaded(1) && !log.can_be_loaded(2));
        assert_eq!(
            log.described_from(0),
            "there are versions 0 (2026-11-30 00:53:20.000 UTC) to 1 (2026-11-30 00:53:21.000 UTC)"
        );
        assert_eq!(log.described_from(1), "there is version 1 (2026-11-30 00:53:21.000 UTC)");
    }

    #[test]
    fn commits_before_what_was_written_down_cannot_be_loaded_without_the_first() {
        let log = versions(&[
            "00000000000000000003.json",
            "00000000000000000004.json",
            "00000000000000000004.checkpoint.parquet",
            "00000000000000000005.json",
            "00000000000000000007.json",
        ]);
        assert_eq!(log.loadable(), [4, 5]);
        assert!(log.can_be_loaded(4) && log.can_be_loaded(5));
        assert!(!log.can_be_loaded(3) && !log.can_be_loaded(7));
    }

    #[test]
    fn a_time_means_the_newest_version_before_it() {
        let log = versions(&["00000000000000000000.json", "00000000000000000001.json"]);
        assert_eq!(log.at(time(-1)), None);
        assert_eq!(log.at(time(0)), Some(0));
        assert_eq!(log.at(time(900)), Some(1));
    }
}
