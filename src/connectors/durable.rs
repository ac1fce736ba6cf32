//! What makes a file outlive a loss of power: its bytes synced, then its name in its folder, then new folders in theirs.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::faults::{Bug, planted};

/// The folder in which a file lies.
pub(crate) fn folder_of(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder and those above it, and syncs the parents of what is new.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder_of(folder);
    if parent != folder {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(parent)
}

/// Makes the names in a folder outlive a loss of power.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if planted(Bug::NoFolderSync) {
        return Ok(());
    }
    sync(&File::open(folder)?, folder)
}

/// Makes the bytes of the file at `path` outlive a loss of power. Every sync comes by here, so that tests can watch.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    watched::synced(path)?;
    let _ = path;
    file.sync_all()
}

/// What was synced, for tests.
#[cfg(test)]
pub(crate) mod watched {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use super::*;

    thread_local! {
        /// What was synced, and whether the watched file was in its place by then.
        static SYNCED: RefCell<Vec<(PathBuf, bool)>> = const { RefCell::new(vec![]) };
        static WATCHED: RefCell<PathBuf> = RefCell::default();
        static FAILS: RefCell<bool> = const { RefCell::new(false) };
    }

    pub(super) fn synced(path: &Path) -> io::Result<()> {
        if FAILS.with_borrow(|fails| *fails) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let is_named = WATCHED.with_borrow(|watched| watched.exists());
        SYNCED.with_borrow_mut(|synced| synced.push((path.to_owned(), is_named)));
        Ok(())
    }

    /// Does `work` on this thread, and gives what it has synced, with whether `file` was in its place by then.
    pub(crate) fn while_watching(file: &Path, work: impl FnOnce()) -> Vec<(PathBuf, bool)> {
        SYNCED.take();
        WATCHED.replace(file.to_owned());
        work();
        SYNCED.take()
    }

    /// Does `work` on this thread while every sync fails.
    pub(crate) fn while_failing<T>(work: impl FnOnce() -> T) -> T {
        FAILS.replace(true);
        let outcome = work();
        FAILS.replace(false);
        outcome
    }
}
