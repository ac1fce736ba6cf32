//! A file of lines that is read: from where an earlier run stood, and on when it grows.
//!
//! A followed file may be closed at its end and opened again when it has changed, so that a folder may hold more files than
//! a process may hold open. Nothing is lost by that: it is read on where it was read to.
//!
//! Another file may take its name meanwhile: a log is rotated, or copied and cut off, or a longer copy is put in its place.
//! The [`Trace`] of what was read tells which of it, and the inode does while the run goes on.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::lines::{Input, LineError, LineReader};
use super::packed::{self, Packing};
use super::rotation::moved_away;
use super::split_file::Reading;
use super::trace::Trace;
use super::{ConnectorError, io_error, paths, refused};
use crate::connectors::SourceEvent;
use crate::formats::SplitIndex;

/// A file that was moved away may get lines for so long after its last, from a writer that still holds it.
const ROTATION_PAUSE: Duration = Duration::from_secs(1);
/// A compressed file that was written to so lately may not be complete.
const PACKING_PAUSE: Duration = Duration::from_secs(2);
/// While a file is read, so often its trace is told.
const TRACE_PAUSE: Duration = Duration::from_secs(1);

/// A file of lines, or what stands for one.
pub(super) struct TextFile {
    reading: Arc<Reading>,
    path: PathBuf,
    reader: LineReader,
    /// It was opened: a followed one may not be there yet.
    begun: bool,
    /// The file that is read, as it was when it was last looked at; `None` for pipes.
    seen: Option<Seen>,
    /// What is read was moved away from the path: what came after it is to be read, too.
    elsewhere: bool,
    /// What was moved away later, before what is at the path.
    later: VecDeque<PathBuf>,
    /// To be told before anything else is read.
    ready: VecDeque<SourceEvent>,
    /// Another file is read than the one whose records were told last.
    replaced: bool,
    /// When the trace was told.
    traced: Option<Instant>,
    /// There is a newer one.
    untraced: bool,
    /// It was read to its end, and nothing has come since.
    at_end: bool,
    /// That is told.
    caught_up: bool,
    /// When it last had something.
    grown: Instant,
    /// What is odd about it is told.
    warned: bool,
}

/// What metadata say of a file.
#[derive(PartialEq, Eq)]
struct Seen {
    identity: Identity,
    length: u64,
    modified: Option<SystemTime>,
}

/// What tells a file from another one that takes its path.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Where the file system says it: numbers of inodes are given again.
    made: Option<SystemTime>,
}

impl Seen {
    fn of(metadata: &Metadata) -> Seen {
        let identity = Identity { device: metadata.dev(), inode: metadata.ino(), made: metadata.created().ok() };
        Seen { identity, length: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl TextFile {
    /// Opens the file, and goes on where an earlier run stood.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was read before.
    pub(super) fn open(reading: Arc<Reading>, split: SplitIndex, path: PathBuf) -> Result<TextFile, ConnectorError> {
        let reader = reading.lines(split, Input::Closed, false);
        let mut file = TextFile::new(reading, path, reader);
        file.at_end = !file.begin()?;
        Ok(file)
    }

    /// What comes through a pipe.
    pub(super) fn of_stream(
        reading: Arc<Reading>,
        split: SplitIndex,
        path: PathBuf,
        stream: Box<dyn Read + Send>,
    ) -> TextFile {
        let reader = reading.lines(split, Input::Stream(stream), true);
        TextFile { begun: true, ..TextFile::new(reading, path, reader) }
    }

    fn new(reading: Arc<Reading>, path: PathBuf, reader: LineReader) -> TextFile {
        TextFile {
            reading,
            path,
            reader,
            begun: false,
            seen: None,
            elsewhere: false,
            later: VecDeque::new(),
            ready: VecDeque::new(),
            replaced: false,
            traced: None,
            untraced: false,
            at_end: false,
            caught_up: false,
            grown: Instant::now(),
            warned: false,
        }
    }

    /// The split that it is.
    pub(super) fn split(&self) -> SplitIndex {
        self.reader.split()
    }

    /// Since when nothing has come from it, if it may be closed.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let may_be_closed = !self.elsewhere && (self.seen.is_some() || !self.begun);
        (self.at_end && may_be_closed).then_some(self.grown)
    }

    /// Whether its end is to be told: once, until something comes again.
    pub(super) fn catches_up(&mut self) -> bool {
        !std::mem::replace(&mut self.caught_up, true)
    }

    /// After an end: whether nothing can come any more.
    pub(super) fn is_over(&self) -> bool {
        self.begun && !self.may_grow() && !self.elsewhere
    }

    fn may_grow(&self) -> bool {
        self.reading.follow && self.packing().is_none()
    }

    fn packing(&self) -> Option<Packing> {
        Packing::of(&self.path)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// What comes next, at most `limit` records; `None` at the end of what is there.
    ///
    /// # Errors
    /// When it cannot be read, or does not hold what it should.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<SourceEvent>, ConnectorError> {
        let mut looked = false;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.at_end {
                if looked || !self.look()? {
                    return Ok(None);
                }
                (looked, self.at_end) = (true, false);
            }
            match self.reader.next(limit.max(1)).map_err(|error| self.line_error(error))? {
                Some(records) => {
                    self.came(SourceEvent::Records(records));
                    if self.traced.is_none_or(|at| at.elapsed() >= TRACE_PAUSE) {
                        self.tell_trace();
                    }
                }
                None => {
                    self.at_end = true;
                    self.tell_trace();
                }
            }
        }
    }

    /// Records were read.
    fn came(&mut self, records: SourceEvent) {
        (self.caught_up, self.grown) = (false, Instant::now());
        if std::mem::take(&mut self.replaced) {
            self.ready.push_back(SourceEvent::Replaced(self.split(), 1, Trace::empty().to_string()));
            self.traced = None;
        }
        self.ready.push_back(records);
        self.untraced = self.seen.is_some();
    }

    fn tell_trace(&mut self) {
        if std::mem::take(&mut self.untraced) {
            self.traced = Some(Instant::now());
            self.ready.push_back(SourceEvent::Origin(self.split(), self.reader.trace().to_string()));
        }
    }

    /// Gives the open file back to the system.
    pub(super) fn close(&mut self) {
        self.reader.close();
    }

    /// Whether a closed file is not what it was, as far as its metadata say. One that is gone may come back.
    pub(super) fn has_changed(&mut self) -> bool {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => !self.begun || self.seen != Some(Seen::of(&metadata)),
            Err(_) => {
                self.warn_of_absence();
                false
            }
        }
    }

    /// Opens a closed file again, and goes on where it was read to. False if there is nothing to be read for now.
    ///
    /// # Errors
    /// As for [`TextFile::open`].
    pub(super) fn reopen(&mut self) -> Result<bool, ConnectorError> {
        let goes_on = if self.begun {
            let Some((file, metadata)) = self.opened(&self.path)? else { return Ok(false) };
            self.go_on_at_path(file, &metadata)?
        } else {
            self.begin()?
        };
        self.at_end = !goes_on;
        if !goes_on {
            self.close();
        }
        Ok(goes_on)
    }

    /// What may be read at `path`; `None` if nothing is there yet.
    fn opened(&self, path: &Path) -> Result<Option<(File, Metadata)>, ConnectorError> {
        let unreadable = |error| io_error(path, "read", &error);
        let file = match File::open(path) {
            Err(error) if self.reading.follow && error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(unreadable)?,
        };
        let metadata = file.metadata().map_err(unreadable)?;
        let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
        let incomplete = self.reading.follow && self.packing().is_some() && age.is_some_and(|age| age < PACKING_PAUSE);
        Ok((!incomplete).then_some((file, metadata)))
    }

    /// Begins to read, behind what an earlier run has read. False if the file is not there yet.
    fn begin(&mut self) -> Result<bool, ConnectorError> {
        let opened = self.opened(&self.path)?;
        let Some(position) = self.reading.position(&self.name()) else {
            let Some((file, metadata)) = opened else { return Ok(false) };
            self.start(file, &metadata)?;
            return Ok(true);
        };
        let trace = self.reading.context.split_origins.get(&self.name()).and_then(|text| Trace::parse(text));
        let regular = opened.as_ref().is_none_or(|(_, metadata)| metadata.is_file());
        let message = match trace.filter(|_| regular) {
            None => {
                let Some((file, metadata)) = opened else { return Ok(self.is_waited_for()) };
                self.start(file, &metadata)?;
                match self.reader.skip_to(position) {
                    Err(LineError::Gone(message)) => message,
                    skipped => return skipped.map(|()| true).map_err(|error| self.line_error(error)),
                }
            }
            Some(trace) => {
                let is_there = opened.is_some();
                let mut found = match opened {
                    Some((file, metadata)) if self.fits(&file, &trace)? => Some((file, metadata)),
                    _ => None,
                };
                if found.is_none() {
                    found = self.moved_file(&trace)?;
                }
                match found {
                    None if !is_there => return Ok(self.is_waited_for()),
                    None => format!(
                        "another file is in the place of the one that was read up to line {}, and that one is not \
                         beside it: what came in it after that line is gone",
                        trace.next - 1
                    ),
                    Some((file, metadata)) => match self.resume(file, &metadata, &trace, position)? {
                        Err(LineError::Gone(message)) => message,
                        resumed => return resumed.map(|()| true).map_err(|error| self.line_error(error)),
                    },
                }
            }
        };
        self.reading.lose(&self.name(), &message)?;
        let Some((file, metadata)) = self.opened(&self.path)? else { return Ok(false) };
        self.start(file, &metadata)?;
        (self.elsewhere, self.replaced) = (false, true);
        self.later.clear();
        Ok(true)
    }

    /// Whether the file has what was read of it.
    fn fits(&self, file: &File, trace: &Trace) -> Result<bool, ConnectorError> {
        let unreadable = |error| io_error(&self.path, "read", &error);
        let Some(packing) = self.packing() else { return trace.fits(file).map_err(unreadable) };
        // A stream has only one beginning.
        let another = File::open(&self.path).map_err(unreadable)?;
        let stream = packing.unpack(another);
        let fits = stream.and_then(|mut stream| trace.fits_stream(&mut *stream));
        fits.map_err(|error| packing.damaged(&self.path, &error))
    }

    /// Reads `file` from its first line.
    fn start(&mut self, file: File, metadata: &Metadata) -> Result<(), ConnectorError> {
        let input = self.input(file, metadata)?;
        self.reader = self.reading.lines(self.split(), input, !self.may_grow());
        self.is_read(metadata);
        Ok(())
    }

    /// Reads `file`, which fits `trace`, from line `position`.
    fn resume(
        &mut self,
        file: File,
        metadata: &Metadata,
        trace: &Trace,
        position: i64,
    ) -> Result<Result<(), LineError>, ConnectorError> {
        let input = self.input(file, metadata)?;
        // A position before the trace, as of a run over the past, is looked for from the beginning.
        let resumed = if position < trace.next {
            self.reader = self.reading.lines(self.split(), input, !self.may_grow());
            Ok(())
        } else {
            self.reader = self.reading.lines(self.split(), Input::Closed, !self.may_grow());
            self.reader.resume(input, trace).map_err(LineError::Io)
        };
        self.is_read(metadata);
        Ok(resumed.and_then(|()| self.reader.skip_to(position)))
    }

    fn input(&self, file: File, metadata: &Metadata) -> Result<Input, ConnectorError> {
        match self.packing() {
            Some(packing) => {
                packing.unpack(file).map(Input::Unpacked).map_err(|error| packing.damaged(&self.path, &error))
            }
            None if metadata.is_file() => packed::refuse_unnamed(&self.path, &file).map(|()| Input::File(file)),
            None => Ok(Input::File(file)),
        }
    }

    fn is_read(&mut self, metadata: &Metadata) {
        self.seen = metadata.is_file().then(|| Seen::of(metadata));
        (self.begun, self.at_end, self.warned) = (true, false, false);
    }

    /// What was moved away from the path and fits `trace`, and what came after it.
    fn moved_file(&mut self, trace: &Trace) -> Result<Option<(File, Metadata)>, ConnectorError> {
        let table = &self.reading.table;
        let mut files =
            VecDeque::from(moved_away(&self.path, trace, |file| paths::is_named(&table.path, &table.content, file)));
        let Some(first) = files.pop_front() else { return Ok(None) };
        let Some(opened) = self.opened(&first)? else { return Ok(None) };
        tracing::info!(
            "{}: what was read of it is now {}, which is read to its end first",
            self.name(),
            first.display()
        );
        (self.elsewhere, self.later) = (true, files);
        Ok(Some(opened))
    }

    /// At the end of a file: whether there is more to be read, there or in another one that has taken its place.
    fn look(&mut self) -> Result<bool, ConnectorError> {
        if !self.begun {
            return self.begin();
        }
        if !self.reading.follow {
            return if self.elsewhere { self.turn() } else { Ok(false) };
        }
        let (Some(held), Some(seen)) = (self.reader.file(), &self.seen) else {
            // Pipes say nothing but what they give.
            return Ok(self.may_grow());
        };
        let unreadable = |error| io_error(&self.path, "read", &error);
        let (length, read_to) = (held.metadata().map_err(unreadable)?.len(), self.reader.read_to());
        let Some(there) = std::fs::metadata(&self.path).ok().filter(Metadata::is_file) else {
            self.warn_of_absence();
            return Ok(length > read_to);
        };
        let now = Seen::of(&there);
        if *seen == now {
            return Ok(false);
        }
        if seen.identity != now.identity {
            if length > read_to {
                return Ok(true);
            }
            if self.elsewhere && !self.later.is_empty() {
                return if self.grown.elapsed() < ROTATION_PAUSE { Ok(false) } else { self.turn() };
            }
        }
        let Some((file, metadata)) = self.opened(&self.path)? else { return Ok(false) };
        self.go_on_at_path(file, &metadata)
    }

    /// Goes on in `file`, which is at the path, as far as it is known to be at its end. What it holds tells whether it is
    /// what was read, has grown, was cut off, or came after it.
    fn go_on_at_path(&mut self, file: File, metadata: &Metadata) -> Result<bool, ConnectorError> {
        let unreadable = |error| io_error(&self.path, "read", &error);
        let now = Seen::of(metadata);
        let (same, read_to) =
            (self.seen.as_ref().is_some_and(|seen| seen.identity == now.identity), self.reader.read_to());
        if self.reader.goes_on_in(&file).map_err(unreadable)? && (same || read_to > 0) {
            self.reader.go_on_in(file).map_err(unreadable)?;
            let has_more = metadata.len() > read_to;
            (self.seen, self.elsewhere, self.warned) = (Some(now), false, false);
            return Ok(has_more);
        }
        if metadata.len() < read_to && self.reader.begins_as(&file).map_err(unreadable)? {
            if !self.warned && metadata.len() > 0 {
                self.warned = true;
                tracing::warn!(
                    "{} is shorter than what was read of it, and begins as it did: if it is being written anew, it is \
                     read on once it has more",
                    self.path.display()
                );
            }
            if same {
                self.seen = Some(now);
            }
            return Ok(false);
        }
        let is_held = self.reader.file().is_some();
        if is_held && !same {
            // The one that is held has been moved away, and its writer may not know yet.
            if metadata.len() == 0 || self.grown.elapsed() < ROTATION_PAUSE {
                return Ok(false);
            }
            return self.turn();
        }
        let trace = self.reader.trace();
        if let Some((moved, metadata)) = self.moved_file(&trace)? {
            self.reader.go_on_in(moved).map_err(|error| io_error(&self.path, "read", &error))?;
            self.seen = Some(Seen::of(&metadata));
            return Ok(true);
        }
        tracing::warn!(
            "{}: what was read of it, up to line {}, is not there any more: it was cut off or replaced. It is read from \
             its first line; what was written behind that line is missing if it is not in there",
            self.path.display(),
            trace.next - 1
        );
        self.start(file, metadata)?;
        self.replaced = true;
        Ok(true)
    }

    /// From a file that was moved away to the one that came after it. False if that one is not there yet.
    fn turn(&mut self) -> Result<bool, ConnectorError> {
        // Names may have moved on since they were looked at, and other files have come between.
        let table = &self.reading.table;
        let is_own = |file: &Path| paths::is_named(&table.path, &table.content, file);
        let chain = moved_away(&self.path, &self.reader.trace(), is_own);
        if !chain.is_empty() {
            self.later = chain.into_iter().skip(1).collect();
        }
        let next = self.later.pop_front();
        let is_last = next.is_none();
        let next = next.unwrap_or_else(|| self.path.clone());
        let Some((file, metadata)) = self.opened(&next)? else { return Ok(false) };
        // Nobody will end it any more.
        if let Some(records) = self.reader.last_line().map_err(|error| self.line_error(error))? {
            self.came(SourceEvent::Records(records));
        }
        tracing::info!(
            "{}: another file has come after the one that was read, and is read from its first line",
            self.name()
        );
        self.start(file, &metadata)?;
        (self.elsewhere, self.replaced) = (!is_last, true);
        Ok(true)
    }

    fn is_waited_for(&mut self) -> bool {
        self.warn_of_absence();
        false
    }

    fn warn_of_absence(&mut self) {
        if !self.path.exists() && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!("{} is not there any more: a new one is waited for", self.path.display());
        }
    }

    fn line_error(&self, error: LineError) -> ConnectorError {
        match (error, self.packing()) {
            (LineError::Io(error), Some(packing)) => packing.damaged(&self.path, &error),
            (LineError::Io(error), None) => io_error(&self.path, "read", &error),
            (LineError::Content(message) | LineError::Gone(message), _) => refused(&self.path, message),
        }
    }
}
