//! Files for what does not fit into memory: without a name from the moment they are made, so that nothing is left of
//! them, however the process ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;

/// So much is read at once.
const CHUNK: usize = 1 << 20;

/// Makes such files in a folder, which it makes too when the first is needed and removes in the end.
#[derive(Debug)]
pub(super) struct SpillFolder {
    folder: PathBuf,
    made: AtomicU64,
}

impl SpillFolder {
    /// Makes nothing yet.
    pub fn new(folder: PathBuf) -> SpillFolder {
        SpillFolder { folder, made: AtomicU64::new(0) }
    }

    fn create(&self) -> io::Result<File> {
        fs::create_dir_all(&self.folder)?;
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("spill-{}-{number}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        // The open file keeps its place on disk; the name would outlive a process that is killed.
        fs::remove_file(&path)?;
        Ok(file)
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if self.made.load(Ordering::Relaxed) > 0 {
            // Another process may have files in it: then it stays.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

impl TempFileFactory for SpillFolder {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        let file = self.create().map_err(|error| {
            let place = self.folder.display();
            DataFusionError::ResourcesExhausted(format!("cannot spill ({description}) to {place}: {error}"))
        })?;
        Ok(Arc::new(Spilled(Arc::new(file))))
    }
}

/// One file.
struct Spilled(Arc<File>);

impl SpillFile for Spilled {
    fn size(&self) -> Option<u64> {
        self.0.metadata().ok().map(|metadata| metadata.len())
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let file = Arc::clone(&self.0);
        let chunks = futures::stream::try_unfold((file, 0_u64), |(file, at)| async move {
            let reading = Arc::clone(&file);
            let chunk = tokio::task::spawn_blocking(move || chunk_at(&reading, at)).await;
            let chunk = chunk.map_err(|error| DataFusionError::External(Box::new(error)))??;
            let next = at + chunk.len() as u64;
            Ok((!chunk.is_empty()).then_some((chunk, (file, next))))
        });
        Ok(Box::pin(chunks))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(Writer { file: Arc::clone(&self.0), at: self.size().unwrap_or(0) }))
    }
}

/// The bytes from `at` on, none at the end of the file.
fn chunk_at(file: &File, at: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; CHUNK];
    let mut filled = 0;
    while filled < CHUNK {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.into())
}

/// Writes at a position of its own, so that it may be read meanwhile.
struct Writer {
    file: Arc<File>,
    at: u64,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_read_and_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let folder = SpillFolder::new(place.path().join("data/tmp"));
        let file = folder.create_temp_file("sorting").unwrap();
        let bytes: Vec<u8> = (0..CHUNK * 2 + 7).map(|n| n as u8).collect();
        let mut writer = file.open_writer().unwrap();
        writer.write_all(&bytes).unwrap();
        writer.finish().unwrap();
        assert_eq!(file.size(), Some(bytes.len() as u64));
        assert_eq!(fs::read_dir(place.path().join("data/tmp")).unwrap().count(), 0);
        for _ in 0..2 {
            let chunks: Vec<Bytes> = file.read_stream().unwrap().try_collect().await.unwrap();
            assert!(chunks.concat() == bytes);
        }
        drop((file, writer, folder));
        assert!(!place.path().join("data/tmp").exists());
        assert!(place.path().join("data").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        let folder = SpillFolder::new(place.path().join("file/tmp"));
        let error = folder.create_temp_file("sorting").err().unwrap().to_string();
        assert!(error.contains("cannot spill (sorting) to") && error.contains("file/tmp"), "{error}");
    }
}
