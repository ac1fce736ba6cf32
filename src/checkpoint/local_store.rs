//! Blobs as files in a folder, each whole or not there, and there for good once a call returns.
//!
//! A file is written under another name in `tmp`, synced, and then linked or renamed into its place; then the folder is
//! synced, and its parent when the folder is new. After a failed sync nothing is retried under the same name: the pages
//! may be gone though the next sync succeeds.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::store::{LOCK, Lock, Store, StoreError};
use crate::connectors::durable::{folder_of, make_folder, sync, sync_folder};
use crate::faults::crash_point;
use crate::faults::{Bug, planted};

/// Where files are written before they get their names.
const TEMPORARY: &str = "tmp";

/// Numbers temporary files, so that stores of one process do not share names.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A folder.
#[derive(Clone)]
pub struct LocalStore {
    root: Arc<Path>,
}

impl LocalStore {
    /// The folder need not exist yet.
    pub fn new(root: impl AsRef<Path>) -> LocalStore {
        LocalStore { root: root.as_ref().into() }
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Does blocking work elsewhere, and says of which blob its failure is.
    async fn blocking<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&LocalStore, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (store, owned) = (self.clone(), path.to_owned());
        let outcome = tokio::task::spawn_blocking(move || work(&store, &owned)).await;
        let outcome = outcome.unwrap_or_else(|error| Err(io::Error::other(error)));
        outcome.map_err(|error| failure(&self.place(path), &error))
    }

    /// Writes a synced file in the folder for files without a name.
    fn write_temporary(&self, bytes: &[u8]) -> io::Result<Temporary> {
        let folder = self.place(TEMPORARY);
        make_folder(&folder)?;
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let temporary = Temporary { path };
        let path = &temporary.path;
        file.write_all(bytes)?;
        crash_point!("store.written");
        if !planted(Bug::NoSync) {
            sync(&file, path)?;
        }
        crash_point!("store.synced");
        Ok(temporary)
    }

    fn put_blocking(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let place = self.place(path);
        let folder = folder_of(&place);
        make_folder(folder)?;
        let temporary = self.write_temporary(bytes)?;
        fs::rename(&temporary.path, &place)?;
        crash_point!("store.named");
        sync_folder(folder)
    }

    fn put_if_absent_blocking(&self, path: &str, bytes: &[u8]) -> io::Result<bool> {
        let place = self.place(path);
        let folder = folder_of(&place);
        make_folder(folder)?;
        if place.exists() {
            return Ok(false);
        }
        let temporary = self.write_temporary(bytes)?;
        match fs::hard_link(&temporary.path, &place) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            // A file system without links. The lock keeps other writers out.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                fs::rename(&temporary.path, &place)?;
            }
            Err(error) => return Err(error),
        }
        crash_point!("store.named");
        sync_folder(folder)?;
        Ok(true)
    }

    fn list_blocking(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let mut found = vec![];
        for entry in walkdir::WalkDir::new(self.place(folder)) {
            let entry = match entry {
                Ok(entry) => entry,
                // Deleted meanwhile, or never made.
                Err(error) if error.io_error().is_some_and(|error| error.kind() == ErrorKind::NotFound) => continue,
                Err(error) => return Err(error.into()),
            };
            if !entry.file_type().is_file() {
                continue;
            }
            let bytes = match entry.metadata() {
                Ok(metadata) => metadata.len(),
                Err(_) => continue,
            };
            if let Ok(path) = entry.path().strip_prefix(&*self.root) {
                let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
                found.push((parts.join("/"), bytes));
            }
        }
        found.sort();
        Ok(found)
    }

    fn lock_blocking(&self) -> io::Result<Option<Lock>> {
        make_folder(&self.root)?;
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(self.place(LOCK))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        writeln!(file, "process {} on {}", std::process::id(), host())?;
        // What crashed runs have left.
        match fs::remove_dir_all(self.place(TEMPORARY)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(Some(Box::new(file))),
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.blocking(path, move |store, path| store.put_blocking(path, &bytes)).await
    }

    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        self.blocking(path, move |store, path| store.put_if_absent_blocking(path, &bytes)).await
    }

    fn keeps_copies(&self) -> bool {
        false
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.blocking(path, |store, path| fs::read(store.place(path))).await.map(Bytes::from)
    }

    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.blocking(folder, LocalStore::list_blocking).await
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let delete = |store: &LocalStore, path: &str| match fs::remove_file(store.place(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        self.blocking(path, delete).await
    }

    async fn lock(&self) -> Result<Option<Lock>, StoreError> {
        self.blocking(LOCK, |store, _| store.lock_blocking()).await
    }
}

/// A file without a name of its own: gone when this is dropped, unless it was renamed.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is cleared away at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    name.map_or_else(|_| "this machine".into(), |name| name.trim().to_owned())
}

fn failure(place: &Path, error: &io::Error) -> StoreError {
    let place = place.display().to_string();
    match error.kind() {
        ErrorKind::NotFound => StoreError::Missing { place },
        ErrorKind::PermissionDenied => StoreError::Refused {
            place,
            message: format!("{error}: this user needs the right to read and write there"),
        },
        ErrorKind::ReadOnlyFilesystem => {
            StoreError::Refused { place, message: format!("{error}: it must be possible to write there") }
        }
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            StoreError::Refused { place, message: format!("{error}: a folder is needed there") }
        }
        _ => StoreError::Unavailable { place, message: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::durable::watched::{while_failing, while_watching};
    use crate::faults::plant;

    /// Whether a blob outlives a loss of power once it is written: its bytes were synced before it had its name, and its
    /// folder after, and new folders in theirs.
    fn survives(put: impl Fn(&LocalStore, &str)) -> bool {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("new");
        let synced = while_watching(&root.join("state/x"), || put(&LocalStore::new(&root), "state/x"));
        assert_eq!(fs::read(root.join("state/x")).unwrap(), b"abc");
        let has = |wanted: &dyn Fn(&Path) -> bool, named: bool| synced.iter().any(|(p, n)| wanted(p) && *n == named);
        let bytes = has(&|path| path.starts_with(root.join(TEMPORARY)), false);
        let folder = has(&|path| path == root.join("state"), true);
        let parents = has(&|path| path == root, false) && has(&|path| path == place.path(), false);
        bytes && folder && parents
    }

    #[test]
    fn what_is_written_outlives_a_loss_of_power() {
        let puts: [fn(&LocalStore, &str); 2] = [
            |store, path| store.put_blocking(path, b"abc").unwrap(),
            |store, path| assert!(store.put_if_absent_blocking(path, b"abc").unwrap()),
        ];
        for put in puts {
            assert!(survives(put));
            for bug in [Bug::NoSync, Bug::NoFolderSync] {
                plant(Some(bug));
                let survived = survives(put);
                plant(None);
                assert!(!survived, "{bug:?} is not noticed");
            }
        }
    }

    #[test]
    fn a_failed_sync_leaves_nothing_behind_and_can_be_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let store = LocalStore::new(place.path());
        store.put_blocking("state/x", b"before").unwrap();
        let both = || (store.put_blocking("state/x", b"after"), store.put_if_absent_blocking("state/y", b"after"));
        let (put, absent) = while_failing(both);
        let error = failure(&store.place("state/x"), &put.unwrap_err());
        assert!(matches!(&error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().ends_with("state/x: Input/output error (os error 5)"), "{error}");
        absent.unwrap_err();
        assert_eq!(fs::read(store.place("state/x")).unwrap(), b"before");
        assert_eq!(store.list_blocking("state").unwrap(), [("state/x".to_owned(), 6)]);
        assert_eq!(fs::read_dir(store.place(TEMPORARY)).unwrap().count(), 0);
    }
}
