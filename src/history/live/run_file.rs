//! `DATA_DIR/run.json`: by what a running pipeline is found.
//!
//! A run writes it when it holds its checkpoints and removes it at its end. One that was killed leaves it behind, so
//! whoever reads it asks the address in it who answers there.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file's name.
const NAME: &str = "run.json";

/// What a running pipeline says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunFile {
    /// Its name.
    pub pipeline: String,
    /// Its process.
    pub pid: u32,
    /// Where its console listens, unless it has none.
    pub console: Option<SocketAddr>,
}

/// The file of the run in this process; removed when this is dropped.
#[derive(Debug)]
pub struct OwnRunFile {
    path: PathBuf,
    content: RunFile,
    /// The folder, if it is there for this file alone.
    made: Option<PathBuf>,
}

impl RunFile {
    /// Where it is in `data_dir`.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(NAME)
    }

    /// What is there; `None` when nothing is.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn read(data_dir: &Path) -> io::Result<Option<RunFile>> {
        match std::fs::read(RunFile::path(data_dir)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it for the run in this process, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written to, or another pipeline that is alive is found there.
    pub fn write(pipeline: &str, console: Option<SocketAddr>, data_dir: &Path) -> io::Result<OwnRunFile> {
        let content = RunFile { pipeline: pipeline.to_owned(), pid: std::process::id(), console };
        if let Ok(Some(other)) = RunFile::read(data_dir)
            && other.pipeline != pipeline
            && other.is_alive()
        {
            let RunFile { pipeline, pid, .. } = other;
            return Err(io::Error::other(format!(
                "pipeline {pipeline} (process {pid}) is found there; give one of the two another --data-dir"
            )));
        }
        let made = (!data_dir.exists()).then(|| data_dir.to_path_buf());
        std::fs::create_dir_all(data_dir)?;
        let path = RunFile::path(data_dir);
        let draft = data_dir.join(format!(".{NAME}.{}", content.pid));
        std::fs::write(&draft, serde_json::to_vec_pretty(&content)?)?;
        std::fs::rename(&draft, &path)?;
        Ok(OwnRunFile { path, content, made })
    }

    /// Whether its process is there, and not this one. Told where processes are files; elsewhere none is.
    fn is_alive(&self) -> bool {
        self.pid != std::process::id() && Path::new("/proc").join(self.pid.to_string()).exists()
    }
}

impl Drop for OwnRunFile {
    fn drop(&mut self) {
        // Another pipeline may have begun in the same folder since.
        let is_own = std::fs::read(&self.path)
            .is_ok_and(|bytes| serde_json::from_slice::<RunFile>(&bytes).is_ok_and(|content| content == self.content));
        if is_own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
        if let Some(made) = &self.made {
            // Not if anything else is in it.
            let _ = std::fs::remove_dir(made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_while_the_run_is() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("made/here");
        assert_eq!(RunFile::read(&data_dir).unwrap(), None);
        let console: SocketAddr = "127.0.0.1:9464".parse().unwrap();
        let own = RunFile::write("shop", Some(console), &data_dir).unwrap();
        let found = RunFile::read(&data_dir).unwrap().unwrap();
        assert_eq!((found.pipeline.as_str(), found.pid, found.console), ("shop", std::process::id(), Some(console)));
        assert_eq!(std::fs::read_dir(&data_dir).unwrap().count(), 1);
        let another = RunFile::write("other", None, &data_dir).unwrap();
        drop(own);
        assert_eq!(RunFile::read(&data_dir).unwrap().unwrap().pipeline, "other");
        drop(another);
        assert_eq!(RunFile::read(&data_dir).unwrap(), None);
    }

    #[test]
    fn another_pipeline_that_is_alive_stays_where_it_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |pid: u32| {
            let other = RunFile { pipeline: "other".into(), pid, console: None };
            std::fs::write(RunFile::path(folder.path()), serde_json::to_vec(&other).unwrap()).unwrap();
        };
        write(1);
        assert_eq!(
            RunFile::write("shop", None, folder.path()).unwrap_err().to_string(),
            "pipeline other (process 1) is found there; give one of the two another --data-dir"
        );
        // One that was killed.
        write(u32::MAX);
        let own = RunFile::write("shop", None, folder.path()).unwrap();
        assert_eq!(RunFile::read(folder.path()).unwrap().unwrap().pipeline, "shop");
        drop(own);
    }

    #[test]
    fn something_else_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(RunFile::path(folder.path()), "half a fi").unwrap();
        assert!(RunFile::read(folder.path()).is_err());
    }
}
