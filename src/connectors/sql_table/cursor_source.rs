//! A database table as a source: starts its reader and passes on what it has read.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, Receiver};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cursor_options::CursorOptions;
use super::cursor_reader::{CursorDatabase, Place, Read, Reader, Settings, Shared};
use crate::connectors::{BEGINNING, ConnectorError, Source, SourceContext, SourceEvent};
use crate::formats::SplitIndex;

/// Pages that are read before they are asked for.
const READ_AHEAD: usize = 1;
const SPLIT: SplitIndex = SplitIndex(0);

/// The open source; its only split has the table's name in SQL, and offsets are cursors.
pub struct CursorSource {
    what: String,
    /// The split's name.
    table: String,
    stop: CancellationToken,
    /// Ends the reader with the source, also while it waits.
    _reader: DropGuard,
    events: Receiver<Result<Read, ConnectorError>>,
    shared: Arc<Shared>,
    /// The next cursor wanted, or [`BEGINNING`]; `None` until `source.offset` is resolved.
    next: Option<i64>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Hidden,
    Announced,
    SplitEnded,
}

impl CursorSource {
    /// Reads from `database`, which `what` names in messages, as the options say.
    pub fn open<D: CursorDatabase>(
        database: D,
        what: String,
        options: &CursorOptions,
        mut context: SourceContext,
    ) -> CursorSource {
        let (sender, events) = mpsc::channel(READ_AHEAD);
        let stop = context.stop.clone();
        context.stop = stop.child_token();
        let shared = Arc::new(Shared { newest: AtomicI64::new(i64::MIN), origin: Mutex::new(None) });
        let CursorOptions { cursor, poll_interval, start, .. } = options.clone();
        let place = Place::new(&context, start);
        let source = CursorSource {
            what: what.clone(),
            table: context.table.clone(),
            stop,
            _reader: context.stop.clone().drop_guard(),
            events,
            shared: shared.clone(),
            next: place.next(),
            stage: Stage::Hidden,
        };
        let settings = Settings { what, cursor, poll_interval };
        let place = tokio::sync::Mutex::new(place);
        tokio::spawn(Reader { database, settings, context, shared, sender, place }.run());
        source
    }
}

#[async_trait]
impl Source for CursorSource {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        match self.stage {
            Stage::Hidden => {
                self.stage = Stage::Announced;
                return Ok(SourceEvent::Split(SPLIT, self.table.clone(), self.next));
            }
            Stage::SplitEnded => return Ok(SourceEvent::End),
            Stage::Announced => {}
        }
        let read = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ConnectorError::Stopped { what: self.what.clone() }),
            read = self.events.recv() => read,
        };
        Ok(match read {
            Some(read) => match read? {
                Read::Begins(next) => {
                    self.next = Some(next);
                    SourceEvent::Split(SPLIT, self.table.clone(), self.next)
                }
                Read::Records(records) => {
                    self.next = records.offsets.last().map(|last| last + 1).or(self.next);
                    SourceEvent::Records(records)
                }
                Read::CaughtUp => SourceEvent::CaughtUp(SPLIT),
                Read::End => {
                    self.stage = Stage::SplitEnded;
                    SourceEvent::SplitEnd(SPLIT)
                }
            },
            None => {
                let message = "the task that reads it has ended before its input: a defect of Acequia".into();
                return Err(ConnectorError::Refused { what: self.what.clone(), message });
            }
        })
    }

    fn origin(&self) -> Option<String> {
        self.shared.origin.lock().as_ref().map(ToString::to_string)
    }

    /// As many as there are if no cursor was left out.
    fn lag(&self) -> Vec<(String, i64)> {
        let newest = self.shared.newest.load(Ordering::Relaxed);
        let next = self.next.filter(|next| *next != BEGINNING && newest != i64::MIN);
        let behind = next.map(|next| newest.saturating_add(1).saturating_sub(next));
        behind.map(|behind| (self.table.clone(), behind.max(0))).into_iter().collect()
    }
}
