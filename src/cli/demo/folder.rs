//! Where a demo keeps its files: in a folder that is given and stays, or in one of its own that goes at the end.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often removing is tried, should a task that is still ending make a file meanwhile, and the time in between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// A demo's data folder.
pub enum DataFolder {
    /// The user's own.
    Given(PathBuf),
    /// Removed at the end.
    Temporary(PathBuf),
}

impl DataFolder {
    /// The folder that was asked for, or a new one below the system's folder for temporary files that nobody else may
    /// enter.
    ///
    /// # Errors
    /// When none can be made.
    pub fn open(asked: Option<&Path>) -> io::Result<DataFolder> {
        match asked {
            Some(path) => {
                std::fs::create_dir_all(path)?;
                Ok(DataFolder::Given(path.to_owned()))
            }
            None => temporary(&std::env::temp_dir()).map(DataFolder::Temporary),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            DataFolder::Given(path) | DataFolder::Temporary(path) => path,
        }
    }

    /// Removes a temporary folder with all that is in it, and leaves another alone.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn close(self) -> io::Result<()> {
        let DataFolder::Temporary(path) = self else { return Ok(()) };
        for _ in 1..ATTEMPTS {
            match std::fs::remove_dir_all(&path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        std::fs::remove_dir_all(&path)
    }
}

/// Makes a folder with a name that nobody has. Making it fails where another stands, links included.
fn temporary(parent: &Path) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let path = parent.join(format!("acequia-demo-{}-{number}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            made => return made.map(|()| path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_temporary_folder_goes_with_what_is_in_it() {
        let folder = DataFolder::open(None).unwrap();
        let path = folder.path().to_owned();
        std::fs::create_dir(path.join("kafka")).unwrap();
        std::fs::write(path.join("kafka/log"), "1").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        folder.close().await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_folder_that_was_given_is_made_and_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let folder = DataFolder::open(Some(&path)).unwrap();
        assert_eq!(folder.path(), path);
        folder.close().await.unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let first = temporary(place.path()).unwrap();
        let second = temporary(place.path()).unwrap();
        assert!(first != second && first.is_dir() && second.is_dir());
        let nowhere = temporary(&place.path().join("missing")).unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
    }
}
