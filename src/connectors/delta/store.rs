//! The local file system as an object store that keeps what it is given through a loss of power.
//!
//! `object_store`'s own writes, renames and links, but syncs nothing. Here a file is written under another name in the
//! folder `_staging` of the table, synced, and linked (put if absent) or renamed into its place; then its folder is
//! synced, and the parents of folders that are new. What a process leaves in `_staging` when it dies is cleared away by
//! the next run. Reading, listing and deleting are `object_store`'s.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::connectors::durable;
use crate::faults::{Bug, planted};

/// Where files are written before they have their names. Readers of Delta tables pass over folders that begin so.
const STAGING: &str = "_staging";

/// A file that has no name after so long will never have one.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The whole file system, with a folder in it for files without names.
#[derive(Clone, Debug)]
pub(super) struct DurableFolder {
    files: Arc<LocalFileSystem>,
    staging: Arc<Path>,
}

impl fmt::Display for DurableFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableFolder({})", self.staging.display())
    }
}

impl DurableFolder {
    /// For the table in `folder`.
    pub(super) fn new(folder: &Path) -> DurableFolder {
        DurableFolder { files: Arc::new(LocalFileSystem::new()), staging: folder.join(STAGING).into() }
    }

    /// Removes what processes have left that died while they wrote: files that are so old that nobody writes them.
    pub(super) fn clear_staging(folder: &Path) {
        let Ok(entries) = fs::read_dir(folder.join(STAGING)) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > ABANDONED) {
                // What stays only takes room.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn put(&self, place: &Path, payload: &PutPayload, mode: &PutMode) -> io::Result<()> {
        let mut staged = Staged::create(&self.staging)?;
        for part in payload {
            staged.file.write_all(part)?;
        }
        staged.publish(place, matches!(mode, PutMode::Create))
    }
}

/// A file without a name of its own: gone when this is dropped, unless it was given one.
struct Staged {
    file: File,
    path: PathBuf,
}

impl Staged {
    fn create(staging: &Path) -> io::Result<Staged> {
        loop {
            durable::make_folder(staging)?;
            // By chance and not by the process: in containers several are number 1.
            let path = staging.join(format!("{:032x}", rand::random::<u128>()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Staged { file, path }),
                // The name is taken, or the folder has just been cleared away.
                Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives it its name, for good.
    fn publish(&mut self, place: &Path, if_absent: bool) -> io::Result<()> {
        if !planted(Bug::NoSync) {
            durable::sync(&self.file, &self.path)?;
        }
        let folder = durable::folder_of(place);
        durable::make_folder(folder)?;
        if if_absent {
            fs::hard_link(&self.path, place)?;
        } else {
            fs::rename(&self.path, place)?;
        }
        durable::sync_folder(folder)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What stays is cleared away at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

#[async_trait]
impl ObjectStore for DurableFolder {
    async fn put_opts(&self, location: &Location, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (store, place) = (self.clone(), self.files.path_to_filesystem(location)?);
        if let PutMode::Update(_) = options.mode {
            let operation = "a put that replaces a version of a file".into();
            return Err(Error::NotImplemented { operation, implementer: self.to_string() });
        }
        blocking(location, move || store.put(&place, &payload, &options.mode)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Location,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (staging, place) = (self.staging.clone(), self.files.path_to_filesystem(location)?);
        let staged = blocking(location, move || Staged::create(&staging)).await?;
        let upload = Upload { location: location.clone(), place, staged: Some(Arc::new(staged)), length: 0 };
        Ok(Box::new(upload))
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Location>>) -> BoxStream<'static, Result<Location>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Location>, offset: &Location) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Location, to: &Location, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await?;
        self.sync(to).await
    }
}

impl DurableFolder {
    /// Makes a file that has its name already outlive a loss of power.
    async fn sync(&self, location: &Location) -> Result<()> {
        let place = self.files.path_to_filesystem(location)?;
        let sync = move || {
            durable::sync(&File::open(&place)?, &place)?;
            durable::sync_folder(durable::folder_of(&place))
        };
        blocking(location, sync).await
    }
}

/// A file that comes in parts.
#[derive(Debug)]
struct Upload {
    location: Location,
    place: PathBuf,
    /// Until it is complete.
    staged: Option<Arc<Staged>>,
    length: u64,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (location, at, staged) = (self.location.clone(), self.length, self.staged.clone());
        self.length += data.content_length() as u64;
        Box::pin(async move {
            let write = move || {
                let staged = staged.ok_or_else(|| io::Error::other("the upload is over"))?;
                let mut at = at;
                for part in &data {
                    std::os::unix::fs::FileExt::write_all_at(&staged.file, part, at)?;
                    at += part.len() as u64;
                }
                Ok(())
            };
            blocking(&location, write).await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (place, staged) = (self.place.clone(), self.staged.take());
        let complete = move || {
            let staged = staged.and_then(Arc::into_inner);
            let mut staged = staged.ok_or_else(|| io::Error::other("parts of it are still being written"))?;
            staged.publish(&place, false)
        };
        blocking(&self.location, complete).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Staged({})", self.path.display())
    }
}

/// Does blocking work elsewhere, and says of which file its failure is.
async fn blocking<T: Send + 'static>(
    location: &Location,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let outcome = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    outcome.map_err(|source| {
        let path = location.to_string();
        match source.kind() {
            ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
            ErrorKind::NotFound => Error::NotFound { path, source: source.into() },
            ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: source.into() },
            _ => Error::Generic { store: "DurableFolder", source: source.into() },
        }
    })
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::connectors::durable::watched::{while_failing, while_watching};
    use crate::faults::plant;

    fn put(root: &Path, name: &str, text: &'static str, mode: PutMode) -> io::Result<()> {
        DurableFolder::new(root).put(&root.join(name), &PutPayload::from_static(text.as_bytes()), &mode)
    }

    /// Whether a file outlives a loss of power once it is put: its bytes were synced before it had its name, and its
    /// folder after, and new folders in theirs.
    fn survives(mode: PutMode) -> bool {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("new");
        let file = root.join("_delta_log/0.json");
        let synced = while_watching(&file, || put(&root, "_delta_log/0.json", "abc", mode).unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"abc");
        let has = |wanted: &dyn Fn(&Path) -> bool, named: bool| synced.iter().any(|(p, n)| wanted(p) && *n == named);
        let bytes = has(&|path| path.starts_with(root.join(STAGING)) && path != root.join(STAGING), false);
        let folder = has(&|path| path == root.join("_delta_log"), true);
        bytes && folder && has(&|path| path == root, false) && has(&|path| path == place.path(), false)
    }

    #[test]
    fn what_is_put_outlives_a_loss_of_power() {
        for mode in [PutMode::Create, PutMode::Overwrite] {
            assert!(survives(mode.clone()));
            for bug in [Bug::NoSync, Bug::NoFolderSync] {
                plant(Some(bug));
                let survived = survives(mode.clone());
                plant(None);
                assert!(!survived, "{bug:?} is not noticed");
            }
        }
    }

    #[test]
    fn a_failed_sync_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        put(place.path(), "x", "before", PutMode::Overwrite).unwrap();
        while_failing(|| {
            put(place.path(), "x", "after", PutMode::Overwrite).unwrap_err();
            put(place.path(), "y", "after", PutMode::Create).unwrap_err();
        });
        assert_eq!(fs::read(place.path().join("x")).unwrap(), b"before");
        assert!(!place.path().join("y").exists());
        assert_eq!(fs::read_dir(place.path().join(STAGING)).unwrap().count(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_those_who_put_a_file_that_is_absent_one_wins() {
        let place = tempfile::tempdir().unwrap();
        let store = DurableFolder::new(place.path());
        let location = Location::from_absolute_path(place.path().join("log/1 é%.json")).unwrap();
        let puts = (0..8_u8).map(|number| {
            let (store, location) = (store.clone(), location.clone());
            tokio::spawn(async move {
                match store.put_opts(&location, vec![number].into(), PutMode::Create.into()).await {
                    Ok(_) => Some(number),
                    Err(Error::AlreadyExists { .. }) => None,
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let won: Vec<u8> = futures::future::join_all(puts).await.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(won.len(), 1);
        assert_eq!(store.get(&location).await.unwrap().bytes().await.unwrap(), won);
        let found: Vec<_> = futures::TryStreamExt::try_collect(store.list(Some(&location))).await.unwrap();
        let found: Vec<ObjectMeta> = found;
        assert!(found.is_empty(), "a prefix is a folder");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_may_come_in_parts() {
        let place = tempfile::tempdir().unwrap();
        let store = DurableFolder::new(place.path());
        let file = place.path().join("part");
        let location = Location::from_absolute_path(&file).unwrap();
        let mut upload = store.put_multipart(&location).await.unwrap();
        let parts = ["one ", "two ", "three"].map(|part| upload.put_part(part.into()));
        for part in parts.into_iter().rev() {
            part.await.unwrap();
        }
        assert!(!file.exists(), "it is not complete");
        upload.complete().await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"one two three");
        let mut upload = store.put_multipart(&location).await.unwrap();
        upload.put_part("else".into()).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"one two three");
        assert_eq!(fs::read_dir(place.path().join(STAGING)).unwrap().count(), 0);
    }
}
