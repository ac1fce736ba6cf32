//! A followed folder with more files than are held open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::source::OPEN_FILES;
use super::tests::{open_table, source_context, two_columns};
use crate::connectors::{Source, SourceEvent};

const FILES: usize = OPEN_FILES + 30;

/// The files of the folder that this process holds open.
fn open_in(folder: &Path) -> Vec<PathBuf> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.filter_map(|link| std::fs::read_link(link.path()).ok()).filter(|path| path.starts_with(folder)).collect()
}

struct Followed {
    folder: tempfile::TempDir,
    source: Box<dyn Source>,
    names: Vec<String>,
    /// By the file's name; a line's number tells its place.
    lines: BTreeMap<String, Vec<String>>,
    told: usize,
}

impl Followed {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add(&self, name: &str, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    /// Puts another file in its place.
    fn replace(&self, name: &str, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// Reads until so many lines have come in all, and all files are read to their ends.
    async fn read(&mut self, lines: usize) {
        while self.lines.values().map(Vec::len).sum::<usize>() < lines || self.told > 0 {
            let event = timeout(Duration::from_secs(20), self.source.next()).await.expect("more comes").unwrap();
            match event {
                SourceEvent::Split(_, name, _) => {
                    self.names.push(name.rsplit('/').next().unwrap().to_owned());
                    self.told += 1;
                }
                SourceEvent::Records(records) => {
                    let lines = self.lines.entry(self.names[records.runs[0].split.0 as usize].clone()).or_default();
                    for row in 0..records.len() {
                        lines.push(String::from_utf8_lossy(records.value(row)).into_owned());
                        assert_eq!(records.offsets[row], lines.len() as i64, "each once, in order");
                    }
                }
                SourceEvent::Origin(..) => {}
                SourceEvent::CaughtUp(_) => self.told = self.told.saturating_sub(1),
                _ => panic!("it ends"),
            }
            let open = open_in(self.folder.path()).len();
            assert!(open <= OPEN_FILES, "{open} files are open");
        }
    }

    async fn nothing_comes(&mut self) {
        while let Ok(event) = timeout(Duration::from_millis(1500), self.source.next()).await {
            assert!(matches!(event.unwrap(), SourceEvent::CaughtUp(_) | SourceEvent::Origin(..)));
        }
    }

    /// A file that is not held open.
    fn closed(&self) -> String {
        let open = open_in(self.folder.path());
        self.names.iter().find(|name| !open.contains(&self.path(name))).unwrap().clone()
    }
}

#[tokio::test]
async fn it_is_read_whole_and_whatever_grows_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let definition = two_columns();
    let table = open_table(&definition, &[("path", folder.path().to_str().unwrap()), ("follow", "true")]);
    for number in 0..FILES {
        std::fs::write(folder.path().join(format!("{number:03}.jsonl")), "one\n").unwrap();
    }
    let source = table.source().unwrap().open(source_context(definition.physical_schema())).await.unwrap();
    let mut followed = Followed { folder, source, names: vec![], lines: BTreeMap::new(), told: 0 };
    followed.read(FILES).await;

    // All grow, and one only by half a line.
    let half = followed.closed();
    for number in 0..FILES {
        let name = format!("{number:03}.jsonl");
        followed.add(&name, if name == half { "tw" } else { "two\n" });
    }
    followed.read(2 * FILES - 1).await;
    sleep(Duration::from_millis(1500)).await;
    followed.add(&half, "o\nthree\n");
    followed.read(2 * FILES + 1).await;
    assert_eq!(followed.lines[&half], ["one", "two", "three"]);

    followed.add("later.jsonl", "one\n");
    followed.read(2 * FILES + 2).await;

    // A copy with more in it is read on at the same line, as after a restart. A shorter file is waited for.
    let name = followed.closed();
    followed.replace(&name, "one\ntwo\nthree\n");
    followed.read(2 * FILES + 3).await;
    let name = followed.closed();
    followed.replace(&name, "one\n");
    followed.nothing_comes().await;
    followed.replace(&name, "one\ntwo\n");
    followed.nothing_comes().await;
    followed.add(&name, "three\nfo");
    followed.read(2 * FILES + 4).await;
    assert_eq!(followed.lines[&name], ["one", "two", "three"]);
}
