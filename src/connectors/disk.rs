//! What connectors that keep files have in common: what the disk refuses, in words, and work that may wait for it.

use std::path::Path;

use super::ConnectorError;

/// What the operating system refused, in words that say what would be right.
pub(super) fn io_error(path: &Path, doing: &str, error: &std::io::Error) -> ConnectorError {
    use std::io::ErrorKind;
    let message = match error.kind() {
        ErrorKind::NotFound => format!("cannot {doing} it: there is no such file or folder"),
        ErrorKind::PermissionDenied => {
            format!("cannot {doing} it: permission denied; give the user that runs acequia the right to {doing} it")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("cannot {doing} it: the disk is full; free some space and start again")
        }
        ErrorKind::ReadOnlyFilesystem => {
            format!("cannot {doing} it: the file system is read-only; name a path on another one")
        }
        ErrorKind::IsADirectory => format!("cannot {doing} it: it is a folder, not a file"),
        ErrorKind::NotADirectory => format!("cannot {doing} it: a part of the path is a file, not a folder"),
        _ => format!("cannot {doing} it: {error}"),
    };
    ConnectorError::Refused { what: path.display().to_string(), message }
}

/// As [`io_error`], but a full disk is waited for.
pub(super) fn waiting(path: &Path, doing: &str, error: &std::io::Error) -> ConnectorError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ConnectorError::Unavailable {
            what: path.display().to_string(),
            message: format!("cannot {doing} it: the disk is full; it goes on as soon as there is room"),
        },
        _ => io_error(path, doing, error),
    }
}

/// Makes what has changed in the folder of `path` survive a loss of power.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), ConnectorError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = std::fs::File::open(folder).map_err(|error| io_error(folder, "read", &error))?;
    opened.sync_all().map_err(|error| waiting(folder, "write", &error))
}

/// Disk work off the runtime's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, ConnectorError> + Send + 'static,
) -> Result<T, ConnectorError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| refused(path, error.to_string()))?
}

/// Refuses with the path in front.
pub(super) fn refused(path: &Path, message: impl Into<String>) -> ConnectorError {
    ConnectorError::Refused { what: path.display().to_string(), message: message.into() }
}
