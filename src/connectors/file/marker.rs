//! The hidden file beside a destination that says which epoch it has last, and which run may write.
//!
//! It holds two slots that are written in turn, each with a checksum: a write that is torn leaves the one before, and
//! needs no room on a full disk. It is locked while a run reads, writes and confirms, and only then, so that a stopped
//! run can wake up between another run's steps but never inside of them.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConnectorError, io_error, refused, sync_folder_of, waiting};
use crate::connectors::delivery::{Marker, Writer};
use crate::faults::{Bug, planted};
use crate::time::{Epoch, Incarnation, LogId};

/// More than any slot holds.
const SLOT: usize = 1024;
/// So much of the pipeline's and the table's name is kept.
const OWNER: usize = 200;

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct FileMarker {
    /// Counts the writes: the higher one of two slots is the newer.
    #[serde(default)]
    pub(super) written: u64,
    /// The pipeline and the table.
    pub(super) owner: String,
    /// The checkpoint log.
    pub(super) log: String,
    /// The run.
    pub(super) run: u64,
    /// The last epoch that is there; 0 for none.
    pub(super) epoch: u64,
    /// The bytes of the destination up to the end of that epoch.
    pub(super) length: u64,
    /// The checksum of the last of these bytes.
    pub(super) tail: u32,
}

impl FileMarker {
    /// Of a destination that has nothing of this log yet.
    pub(super) fn new(writer: &Writer, table: &str) -> FileMarker {
        FileMarker {
            written: 0,
            owner: owner(writer, table),
            log: writer.log.0.clone(),
            run: writer.incarnation.0,
            epoch: 0,
            length: 0,
            tail: 0,
        }
    }

    /// As the sinks' common rules know it.
    pub(super) fn marker(&self) -> Marker {
        Marker { log: LogId(self.log.clone()), incarnation: Incarnation(self.run), epoch: Epoch(self.epoch) }
    }

    /// The last epoch that is there.
    pub(super) fn settled(&self) -> Option<Epoch> {
        (self.epoch > 0).then_some(Epoch(self.epoch))
    }
}

fn owner(writer: &Writer, table: &str) -> String {
    format!("{} {table}", writer.pipeline).chars().take(OWNER).collect()
}

/// Where a marker is kept.
#[derive(Clone, Debug)]
pub(super) struct MarkerFile {
    path: PathBuf,
    /// The destination, for messages.
    place: PathBuf,
}

/// A marker that nobody else can change.
pub(super) struct Locked {
    file: File,
    marker: MarkerFile,
    /// What it says.
    pub(super) newest: Option<FileMarker>,
    /// It is not empty, but says nothing that can be read.
    pub(super) damaged: bool,
}

impl MarkerFile {
    /// Beside the file `place`: `.out.jsonl.acequia`.
    pub(super) fn beside(place: &Path) -> MarkerFile {
        let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        MarkerFile { path: place.with_file_name(format!(".{name}.acequia")), place: place.to_owned() }
    }

    /// In the folder `place`: `.acequia`.
    pub(super) fn inside(place: &Path) -> MarkerFile {
        MarkerFile { path: place.join(".acequia"), place: place.to_owned() }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes it away, if it is there.
    pub(super) fn remove(&self) -> Result<(), ConnectorError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound && self.path.exists() => {
                Err(io_error(&self.path, "remove", &error))
            }
            _ => Ok(()),
        }
    }

    /// Locks and reads it. Another process that has it right now is to be waited for.
    pub(super) fn lock(&self) -> Result<Locked, ConnectorError> {
        let is_new = !self.path.exists();
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path);
        let file = options.map_err(|error| waiting(&self.path, "write", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ConnectorError::Unavailable {
                    what: self.place.display().to_string(),
                    message: format!(
                        "another process is just writing it and holds {}; if it is stopped, end it",
                        self.path.display()
                    ),
                });
            }
            Err(TryLockError::Error(error)) => {
                let message = format!("cannot be locked ({error}); name a path on a file system that knows locks");
                return Err(refused(&self.path, message));
            }
        }
        if is_new {
            sync_folder_of(&self.path)?;
        }
        let mut bytes = vec![0; 2 * SLOT];
        let mut filled = 0;
        while filled < bytes.len() {
            let read = file.read_at(&mut bytes[filled..], filled as u64);
            match read.map_err(|error| io_error(&self.path, "read", &error))? {
                0 => break,
                more => filled += more,
            }
        }
        let newest = bytes.chunks(SLOT).filter_map(parse).max_by_key(|marker| marker.written);
        Ok(Locked { file, marker: self.clone(), damaged: filled > 0 && newest.is_none(), newest })
    }
}

impl Locked {
    /// Refuses to go on when a later run, or one with other checkpoints, has been here since `ours` was written.
    pub(super) fn check(&self, writer: &Writer) -> Result<(), ConnectorError> {
        let Some(found) = &self.newest else { return Ok(()) };
        if found.log != writer.log.0 || found.run > writer.incarnation.0 {
            return Err(writer.fenced(&self.marker.place.display().to_string(), &found.marker()));
        }
        Ok(())
    }

    /// What is there, for a run that takes over and then writes this marker; `None` when nothing of its log is.
    /// `found_epoch` is what the destination itself shows. With `anew`, other checkpoints' marker is no obstacle.
    pub(super) fn take_over(
        &mut self,
        writer: &Writer,
        table: &str,
        anew: bool,
        found_epoch: Epoch,
    ) -> Result<Option<FileMarker>, ConnectorError> {
        let what = self.marker.place.display().to_string();
        if self.damaged && !anew && !writer.fresh {
            return Err(ConnectorError::Mismatch {
                what,
                message: format!(
                    "its marker {} is damaged, so that it is not known which rows are there. Remove it and start again: \
                     rows of the last epochs may then come twice; or begin anew with --fresh",
                    self.marker.path.display()
                ),
            });
        }
        let nameless = (found_epoch > Epoch(0)).then(|| FileMarker { run: 0, ..FileMarker::new(writer, table) });
        let Some(found) = self.newest.clone().or(nameless) else { return Ok(None) };
        if found.log == writer.log.0 && found.run == writer.incarnation.0 && found.owner != owner(writer, table) {
            let other = found.owner.split_once(' ').map_or(found.owner.as_str(), |(_, table)| table);
            return Err(refused(
                &self.marker.place,
                format!("table {other} writes it already, and so does table {table}; give each a path of its own"),
            ));
        }
        let marker = Marker { epoch: Epoch(found.epoch).max(found_epoch), ..found.marker() };
        let writer = Writer { fresh: writer.fresh || anew, ..writer.clone() };
        match writer.resume(&what, Some(&marker))? {
            Some(epoch) if !anew => Ok(Some(FileMarker { run: writer.incarnation.0, epoch: epoch.0, ..found })),
            _ => Ok(None),
        }
    }

    /// Replaces what it says; durable when it returns.
    pub(super) fn write(&mut self, marker: &FileMarker) -> Result<(), ConnectorError> {
        let written = self.newest.as_ref().map_or(0, |newest| newest.written) + 1;
        let marker = FileMarker { written, ..marker.clone() };
        let slot = slot(&marker);
        let place = (written % 2) * SLOT as u64;
        let path = &self.marker.path;
        self.file.write_all_at(&slot, place).map_err(|error| waiting(path, "write", &error))?;
        if !planted(Bug::NoSync) {
            self.file.sync_data().map_err(|error| waiting(path, "write", &error))?;
        }
        self.newest = Some(marker);
        Ok(())
    }
}

/// A line of JSON, spaces, and the checksum at the end.
fn slot(marker: &FileMarker) -> Vec<u8> {
    let mut slot = serde_json::to_vec(marker).unwrap_or_default();
    slot.resize(SLOT - 10, b' ');
    let sum = crc32fast::hash(&slot);
    slot.extend_from_slice(format!(" {sum:08x}\n").as_bytes());
    slot
}

fn parse(slot: &[u8]) -> Option<FileMarker> {
    let (text, sum) = slot.split_at_checked(SLOT - 10)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.trim(), 16).ok()?;
    if sum != crc32fast::hash(text) {
        return None;
    }
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(incarnation: u64) -> Writer {
        let (log, incarnation) = (LogId("log".into()), Incarnation(incarnation));
        Writer { pipeline: "shop".into(), log, incarnation, resumed: Epoch(9), fresh: false }
    }

    #[test]
    fn a_torn_write_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = MarkerFile::inside(folder.path());
        for epoch in 1..=3 {
            let marker = FileMarker { epoch, ..FileMarker::new(&writer(1), "t") };
            file.lock().unwrap().write(&marker).unwrap();
            assert_eq!(file.lock().unwrap().newest.unwrap().epoch, epoch);
        }
        let whole = std::fs::read(file.path()).unwrap();
        for at in [0, 5, 900, SLOT - 2] {
            let mut torn = whole.clone();
            torn[SLOT + at] ^= 1;
            std::fs::write(file.path(), torn).unwrap();
            assert_eq!(file.lock().unwrap().newest.unwrap().epoch, 2, "byte {at}");
        }
    }

    #[test]
    fn only_one_process_has_it_at_a_time_and_damage_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out.jsonl");
        let file = MarkerFile::beside(&place);
        let held = file.lock().unwrap();
        let shown = place.display();
        assert_eq!(
            file.lock().err().unwrap().to_string(),
            format!(
                "{shown}: another process is just writing it and holds {}/.out.jsonl.acequia; if it is stopped, end it",
                folder.path().display()
            )
        );
        drop(held);
        std::fs::write(file.path(), "x").unwrap();
        let message = file.lock().unwrap().take_over(&writer(1), "t", false, Epoch(0)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{shown}: its marker ")), "{message}");
        assert!(
            message.contains("is damaged, so that it is not known which rows are there. Remove it and"),
            "{message}"
        );
        file.remove().unwrap();
        file.remove().unwrap();
        assert!(!file.path().exists());
    }

    #[test]
    fn two_tables_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = MarkerFile::inside(folder.path());
        file.lock().unwrap().write(&FileMarker::new(&writer(1), "orders")).unwrap();
        let message = file.lock().unwrap().take_over(&writer(1), "clicks", false, Epoch(0)).unwrap_err().to_string();
        assert_eq!(
            message,
            format!(
                "{}: table orders writes it already, and so does table clicks; give each a path of its own",
                folder.path().display()
            )
        );
    }
}
