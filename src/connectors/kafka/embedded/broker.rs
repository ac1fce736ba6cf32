//! The topics of a data folder, opened once a process, with a lock that keeps other processes from writing them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::appender::Appender;
use super::topic::Topic;
use super::{folder, new_id, what};
use crate::connectors::ConnectorError;
use crate::connectors::disk::{io_error, refused, sync_folder_of, waiting};

// No topic can have these names.
const LOCK: &str = "@lock";
const ID: &str = "@id";
const UNNAMED_ID: &str = "@id.tmp";
/// A process that ends gives the lock back within this time.
const PATIENCE: Duration = Duration::from_secs(3);

/// The data folders that this process has open.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Broker>>> = Mutex::new(BTreeMap::new());

/// A data folder's topics, open for reading and writing until the last user is gone.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) folder: PathBuf,
    /// Made with the folder.
    pub(super) id: String,
    topics: Mutex<BTreeMap<String, Arc<OpenTopic>>>,
    _lock: File,
}

/// A topic that can be read and written.
#[derive(Debug)]
pub(super) struct OpenTopic {
    pub(super) topic: Arc<Topic>,
    /// Taken for one frame at a time. Held while a disk is waited for.
    pub(super) appender: Mutex<Appender>,
}

impl Broker {
    /// The topics of `data_dir`, which this process may have open already. Waits for the disk, and a little for a
    /// process that is just ending.
    ///
    /// # Errors
    /// When another process has them open, or the folder cannot be written.
    pub(super) fn open(data_dir: &Path) -> Result<Arc<Broker>, ConnectorError> {
        let folder = folder(data_dir);
        std::fs::create_dir_all(&folder).map_err(|error| waiting(&folder, "write", &error))?;
        let key = folder.canonicalize().map_err(|error| io_error(&folder, "read", &error))?;
        let mut open = OPEN.lock();
        open.retain(|_, broker| broker.strong_count() > 0);
        if let Some(broker) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(broker);
        }
        let lock = lock(&folder)?;
        let id = id(&folder)?;
        for made in [folder.as_path(), data_dir] {
            sync_folder_of(made)?;
        }
        let broker = Arc::new(Broker { folder, id, topics: Mutex::default(), _lock: lock });
        open.insert(key, Arc::downgrade(&broker));
        Ok(broker)
    }

    /// Those that this process has open.
    pub(super) fn all_open() -> Vec<Arc<Broker>> {
        OPEN.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// For messages.
    pub(super) fn what(&self) -> String {
        what(&self.folder)
    }

    /// Opens a topic, or makes it.
    ///
    /// # Errors
    /// When it is damaged, or cannot be read or written.
    pub(super) fn topic(&self, name: &str) -> Result<Arc<OpenTopic>, ConnectorError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !name.chars().all(legal) || matches!(name, "" | "." | "..") {
            return Err(refused(&self.folder, format!("'{name}' cannot be the name of a topic")));
        }
        let mut topics = self.topics.lock();
        if let Some(topic) = topics.get(name) {
            return Ok(Arc::clone(topic));
        }
        let appender = Appender::open(&self.folder, name)?;
        let topic = Arc::new(OpenTopic { topic: Arc::clone(appender.topic()), appender: Mutex::new(appender) });
        topics.insert(name.into(), Arc::clone(&topic));
        Ok(topic)
    }

    /// The names of all topics that are there, whether or not they are open.
    pub(super) fn names(&self) -> Result<Vec<String>, ConnectorError> {
        let read = |error: std::io::Error| io_error(&self.folder, "read", &error);
        let mut names = vec![];
        for entry in std::fs::read_dir(&self.folder).map_err(read)? {
            let entry = entry.map_err(read)?;
            if entry.path().is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn lock(folder: &Path) -> Result<File, ConnectorError> {
    let path = folder.join(LOCK);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(|error| waiting(&path, "write", &error))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PATIENCE / 60),
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                let holder = if holder.trim().is_empty() { "another process".into() } else { holder };
                return Err(ConnectorError::Refused {
                    what: what(folder),
                    message: format!(
                        "{} has it open, and one process at a time can: stop that one, give this one a data folder of \
                         its own with --data-dir, or let both use a real Kafka",
                        holder.trim()
                    ),
                });
            }
            Err(TryLockError::Error(error)) => {
                let message =
                    format!("cannot be locked ({error}); name a --data-dir on a file system that knows locks");
                return Err(refused(&path, message));
            }
        }
    }
    let said = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
    said.map_err(|error| waiting(&path, "write", &error))?;
    Ok(file)
}

/// The folder's id, if it has one.
pub(super) fn read_id(folder: &Path) -> Result<Option<String>, ConnectorError> {
    let path = folder.join(ID);
    match std::fs::read_to_string(&path) {
        Ok(id) => Ok(Some(id.trim().to_owned()).filter(|id| !id.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(&path, "read", &error)),
    }
}

/// The folder's id, made when there is none.
fn id(folder: &Path) -> Result<String, ConnectorError> {
    if let Some(id) = read_id(folder)? {
        return Ok(id);
    }
    let (path, unnamed) = (folder.join(ID), folder.join(UNNAMED_ID));
    let id = format!("embedded-{}", new_id());
    let fails = |error: std::io::Error| waiting(&path, "write", &error);
    let mut file = File::create(&unnamed).map_err(fails)?;
    writeln!(file, "{id}").and_then(|()| file.sync_all()).map_err(fails)?;
    std::fs::rename(&unnamed, &path).map_err(fails)?;
    sync_folder_of(&path)?;
    Ok(id)
}
