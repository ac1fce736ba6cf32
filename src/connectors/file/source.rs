//! The file source: a thread of its own reads ahead of the decoder, so that no task of the runtime waits for a disk.
//!
//! An instance takes its files in turn, a batch each, so that files of the same time advance the watermark together.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::split_file::{Reading, SplitFile};
use super::text_file::TextFile;
use super::{ConnectorError, Content, FileTable, STDIO, paths, refused};
use crate::connectors::read_ahead::{ReadAhead, Sender};
use crate::connectors::{Boundedness, Decoding, Source, SourceContext, SourceEvent, SourceFactory};
use crate::formats::SplitIndex;

/// Files that an instance holds open at once. Those that it follows are closed at their end, and opened when they have
/// grown.
pub(super) const OPEN_FILES: usize = 64;
/// Pause before a followed file is looked at again.
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);
/// Pause before a followed folder or pattern, and what is closed in it, is looked at again.
const LIST_PAUSE: Duration = Duration::from_secs(1);
/// The name of the split that is stdin.
const STDIN_SPLIT: &str = "stdin";

/// Opens the instances of a file source.
pub(super) struct FileSourceFactory {
    table: FileTable,
    /// What all instances of a run agree on: a file that comes between two of them opening must not be lost.
    files: Mutex<Option<Arc<Vec<PathBuf>>>>,
}

impl FileSourceFactory {
    pub(super) fn new(table: FileTable) -> FileSourceFactory {
        FileSourceFactory { table, files: Mutex::new(None) }
    }

    fn list(&self, context: &SourceContext) -> Result<Vec<PathBuf>, ConnectorError> {
        if self.table.path == STDIO {
            return Ok(vec![PathBuf::from(STDIN_SPLIT)]);
        }
        let place = Path::new(&self.table.path);
        if self.table.follow && context.positions.contains_key(&self.table.path) && !place.exists() {
            // It was there: it is being rotated, or comes back.
            return Ok(vec![place.to_owned()]);
        }
        paths::list(&self.table.path, &self.table.content, self.table.follow)
    }
}

#[async_trait]
impl SourceFactory for FileSourceFactory {
    fn boundedness(&self) -> Boundedness {
        if self.table.follow { Boundedness::Unbounded } else { Boundedness::Bounded }
    }

    fn decoding(&self) -> Decoding {
        match &self.table.content {
            Content::Lines(lines) => Decoding::Format(lines.decode.clone()),
            Content::Parquet => Decoding::Rows,
        }
    }

    fn describe(&self) -> String {
        let follow = if self.table.follow { ", followed" } else { "" };
        match (&self.table.content, self.table.path.as_str()) {
            (Content::Lines(lines), STDIO) => format!("{} from stdin", lines.format),
            (Content::Lines(lines), path) => format!("{} file {path}{follow}", lines.format),
            (Content::Parquet, path) => format!("parquet file {path}"),
        }
    }

    async fn instances(&self, context: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        let files = self.list(context)?;
        // Files that come later are dealt to every instance of a followed folder.
        let may_grow = self.table.follow && !context.bounded && !Path::new(&self.table.path).is_file();
        let wanted = if may_grow { parallelism } else { files.len().min(parallelism) };
        *self.files.lock() = Some(Arc::new(files));
        Ok(wanted.max(1))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let listed = match &mut *self.files.lock() {
            Some(files) => files.clone(),
            none => none.insert(Arc::new(self.list(&context)?)).clone(),
        };
        let place = self.table.path.clone();
        let (sender, source) = ReadAhead::new(place.clone(), None, context.stop.clone());
        let follow = self.table.follow && !context.bounded && place != STDIO;
        let reading = Arc::new(Reading { table: self.table.clone(), context, follow });
        let thread = Reader { reading, sender, splits: 0, known: BTreeSet::new() };
        std::thread::Builder::new()
            .name("acequia-file".into())
            .spawn(move || thread.run(&listed))
            .map_err(|error| refused(Path::new(&place), format!("no thread can be had to read it: {error}")))?;
        Ok(Box::new(source))
    }
}

/// The reading thread of one instance.
struct Reader {
    reading: Arc<Reading>,
    sender: Sender,
    splits: u32,
    known: BTreeSet<PathBuf>,
}

/// Why the thread ends early.
enum Halt {
    /// Nobody listens any more.
    Dropped,
    /// Something is wrong.
    Failed(ConnectorError),
}

impl From<ConnectorError> for Halt {
    fn from(error: ConnectorError) -> Halt {
        Halt::Failed(error)
    }
}

/// A file that is to be opened.
enum Waiting {
    /// Nothing of it was read.
    New(SplitIndex, PathBuf),
    /// It was closed at its end, and has changed.
    Changed(Box<TextFile>),
}

impl Reader {
    fn run(mut self, listed: &[PathBuf]) {
        match self.read(listed) {
            Ok(()) => {
                let _ = self.sender.blocking_send(Ok(SourceEvent::End));
            }
            Err(Halt::Failed(error)) => {
                let _ = self.sender.blocking_send(Err(error));
            }
            Err(Halt::Dropped) => {}
        }
    }

    fn read(&mut self, listed: &[PathBuf]) -> Result<(), Halt> {
        self.known.extend(listed.iter().cloned());
        let (context, follow) = (&self.reading.context, self.reading.follow);
        let (instance, batch_size) = (context.instance, context.batch_size);
        let mine = listed.iter().skip(instance).step_by(context.instances.max(1));
        let mut waiting = VecDeque::new();
        for path in mine {
            waiting.push_back(Waiting::New(self.announce(path)?, path.clone()));
        }
        let mut open: VecDeque<SplitFile> = VecDeque::new();
        let mut closed: Vec<TextFile> = vec![];
        let mut listed_at = Instant::now();
        loop {
            let mut progress = false;
            while !waiting.is_empty() && has_room(&mut open, &mut closed) {
                progress = true;
                match waiting.pop_front() {
                    None => {}
                    Some(Waiting::New(split, path)) => {
                        open.push_back(SplitFile::open(Arc::clone(&self.reading), split, path)?);
                    }
                    Some(Waiting::Changed(mut file)) => match file.reopen()? {
                        true => open.push_back(SplitFile::Lines(file)),
                        false => closed.push(*file),
                    },
                }
            }
            if open.is_empty() && !follow {
                return Ok(());
            }
            for _ in 0..open.len() {
                let Some(mut file) = open.pop_front() else { break };
                match file.next(batch_size)? {
                    Some(event) => {
                        progress = true;
                        self.send(event)?;
                    }
                    None if file.is_over() => {
                        progress = true;
                        self.send(SourceEvent::SplitEnd(file.split()))?;
                        continue;
                    }
                    None => {
                        if let SplitFile::Lines(lines) = &mut file
                            && lines.catches_up()
                        {
                            self.send(SourceEvent::CaughtUp(file.split()))?;
                        }
                    }
                }
                open.push_back(file);
            }
            if follow && listed_at.elapsed() >= LIST_PAUSE {
                waiting.extend(
                    closed.extract_if(.., |file| file.has_changed()).map(|file| Waiting::Changed(Box::new(file))),
                );
                waiting.extend(self.newcomers()?);
                listed_at = Instant::now();
            }
            if !progress {
                std::thread::sleep(FOLLOW_PAUSE);
                if self.sender.is_closed() {
                    return Err(Halt::Dropped);
                }
            }
        }
    }

    /// Files that were not there when the run began and belong to this instance.
    fn newcomers(&mut self) -> Result<Vec<Waiting>, Halt> {
        let Reading { table, context, .. } = &*Arc::clone(&self.reading);
        let mut mine = vec![];
        if self.known.contains(Path::new(&table.path)) {
            // A single file: it may be gone for a moment.
            return Ok(mine);
        }
        for path in paths::list(&table.path, &table.content, true)? {
            if self.known.insert(path.clone()) && self.owner(&path) == context.instance {
                mine.push(Waiting::New(self.announce(&path)?, path));
            }
        }
        Ok(mine)
    }

    /// The instance of a file that came later: by its name alone, since each instance finds it in its own time.
    fn owner(&self, path: &Path) -> usize {
        let name = path.as_os_str().as_encoded_bytes();
        let hash = name
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        (hash % self.reading.context.instances.max(1) as u64) as usize
    }

    fn announce(&mut self, path: &Path) -> Result<SplitIndex, Halt> {
        let split = SplitIndex(self.splits);
        self.splits += 1;
        self.send(SourceEvent::Split(split, path.display().to_string()))?;
        Ok(split)
    }

    fn send(&self, event: SourceEvent) -> Result<(), Halt> {
        self.sender.blocking_send(Ok(event)).map_err(|_| Halt::Dropped)
    }
}

/// Whether one more file may be opened. If need be, the one that has been at its end for the longest is closed.
fn has_room(open: &mut VecDeque<SplitFile>, closed: &mut Vec<TextFile>) -> bool {
    if open.len() < OPEN_FILES {
        return true;
    }
    let quiet = open.iter().enumerate().filter_map(|(place, file)| Some((file.quiet_since()?, place)));
    match quiet.min().and_then(|(_, place)| open.remove(place)) {
        Some(SplitFile::Lines(mut file)) => {
            file.close();
            closed.push(*file);
            true
        }
        _ => false,
    }
}
