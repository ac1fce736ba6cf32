//! Reads a table in the order of its cursor, each row once: asks how far it goes, waits until nothing can come in
//! between any more, and takes the rows up to there page by page. Then it asks again, after a pause if there was nothing.
//!
//! It is a task of its own, one page ahead of the pipeline, so that no query is cut off when the source is not asked for
//! a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};

use super::cursor_options::Start;
use super::origin::Origin;
use crate::connectors::retry::until_available;
use crate::connectors::{BEGINNING, ConnectorError, SourceContext};
use crate::formats::{RawRecords, SplitIndex};

/// The only split there is.
const SPLIT: SplitIndex = SplitIndex(0);

/// A database whose rows are read in the order of a cursor.
#[async_trait]
pub trait CursorDatabase: Send + Sync + 'static {
    /// An open connection.
    type Session: Send;

    /// Connects, and checks that what is read is there and as it should be. `None` when it is not there yet.
    ///
    /// # Errors
    /// When it cannot be read: no such table or column, no rights.
    async fn connect(&self) -> Result<Option<Self::Session>, ConnectorError>;

    /// What tells the place from another one with the same names.
    fn origin(&self, session: &Self::Session) -> Origin;

    /// The highest cursor from `from` on that is visible.
    ///
    /// # Errors
    /// When the database does not answer, or a row has no cursor.
    async fn newest(&self, session: &mut Self::Session, from: i64) -> Result<Option<i64>, ConnectorError>;

    /// Returns when every row with a lower cursor than what [`CursorDatabase::newest`] gave before is visible or never
    /// will be.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn complete(&self, session: &mut Self::Session) -> Result<(), ConnectorError>;

    /// The first rows with a cursor from `from` to `to`, at most `limit`, in its order.
    ///
    /// # Errors
    /// As for [`CursorDatabase::newest`].
    async fn page(
        &self,
        session: &mut Self::Session,
        from: i64,
        to: i64,
        limit: i64,
    ) -> Result<Vec<CursorRow>, ConnectorError>;
}

/// A row, for the decoder of database rows.
pub struct CursorRow {
    /// Its cursor.
    pub cursor: i64,
    /// Its columns as a JSON object.
    pub json: String,
}

/// What the reader has to tell.
pub(super) enum Read {
    /// `source.offset` is resolved: this cursor is wanted first.
    Begins(i64),
    Records(RawRecords),
    CaughtUp,
    End,
}

/// What the reader and its source both know.
#[derive(Debug)]
pub(super) struct Shared {
    /// The highest cursor that is known to be there; `i64::MIN` before the first.
    pub(super) newest: AtomicI64,
    /// Where rows are read; known when connected.
    pub(super) origin: parking_lot::Mutex<Option<Origin>>,
}

/// How it reads.
pub(super) struct Settings {
    pub(super) what: String,
    pub(super) cursor: String,
    pub(super) poll_interval: Duration,
}

pub(super) struct Reader<D: CursorDatabase> {
    pub(super) database: D,
    pub(super) settings: Settings,
    pub(super) context: SourceContext,
    pub(super) shared: Arc<Shared>,
    pub(super) sender: mpsc::Sender<Result<Read, ConnectorError>>,
    /// Locked by the step under way; a step that is broken off leaves it as it was before.
    pub(super) place: Mutex<Place<D::Session>>,
}

/// How far the reader is.
pub(super) struct Place<S> {
    session: Option<S>,
    /// The next cursor wanted, from [`BEGINNING`] on any; `None` until `source.offset` is resolved.
    next: Option<i64>,
    /// All rows up to here are there to be read.
    complete: Option<i64>,
    /// Where a bounded read ends.
    end: Option<i64>,
}

impl<S> Place<S> {
    /// The next cursor wanted, or [`BEGINNING`]; `None` until `source.offset` is resolved.
    pub(super) fn next(&self) -> Option<i64> {
        self.next
    }

    pub(super) fn new(context: &SourceContext, start: Start) -> Place<S> {
        let restored = context.positions.get(&context.table).copied();
        let next = restored.or((start == Start::Earliest).then_some(BEGINNING));
        Place { session: None, next, complete: None, end: None }
    }
}

/// What a step has found.
enum Step {
    /// It is decided where to begin.
    Begins(i64),
    Rows(Vec<CursorRow>),
    /// Nothing new for now.
    Nothing,
    /// A bounded read has come to its end.
    Done,
}

impl<D: CursorDatabase> Reader<D> {
    /// The task's body: ends with the source, with the input, or with an error that it sends.
    pub(super) async fn run(self) {
        if let Err(error) = self.read().await {
            let _ = self.sender.send(Err(error)).await;
        }
    }

    async fn read(&self) -> Result<(), ConnectorError> {
        let (what, stop) = (&self.settings.what, &self.context.stop);
        let mut caught_up = false;
        loop {
            let read = match until_available(what, stop, || self.step()).await? {
                Step::Begins(next) => Read::Begins(next),
                Step::Rows(rows) => Read::Records(records(&rows)),
                Step::Nothing if caught_up => {
                    self.pause().await;
                    continue;
                }
                Step::Nothing => Read::CaughtUp,
                Step::Done => Read::End,
            };
            caught_up = matches!(read, Read::CaughtUp);
            let ended = matches!(read, Read::End);
            if self.sender.send(Ok(read)).await.is_err() || ended {
                return Ok(());
            }
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(self.settings.poll_interval) => {}
            () = self.context.stop.cancelled() => {}
            () = self.sender.closed() => {}
        }
    }

    /// Goes on from where the last step ended. A connection that has failed is given up.
    async fn step(&self) -> Result<Step, ConnectorError> {
        let mut place = self.place.lock().await;
        let Some(mut session) = (match place.session.take() {
            Some(session) => Some(session),
            None => self.connect(place.next).await?,
        }) else {
            if place.next.is_none() {
                // What comes with it will be new.
                return Ok(Step::Begins(*place.next.insert(BEGINNING)));
            }
            return Ok(if self.context.bounded { Step::Done } else { Step::Nothing });
        };
        let step = self.advance(&mut place, &mut session).await?;
        place.session = Some(session);
        Ok(step)
    }

    async fn connect(&self, next: Option<i64>) -> Result<Option<D::Session>, ConnectorError> {
        let Some(session) = self.database.connect().await? else { return Ok(None) };
        let origin = self.database.origin(&session);
        let before = self.shared.origin.lock().clone();
        let restored = || self.context.origin.as_deref().map(Origin::parse);
        // Of a table of which nothing was read there is no cursor that could mean something else here.
        let has_read = self.context.positions.get(&self.context.table).is_some_and(|next| *next != BEGINNING);
        let before = before.or_else(|| restored().filter(|_| has_read));
        if let Some(mismatch) = before.and_then(|before| origin.mismatch(&before, next)) {
            if !self.context.accept_lost_input {
                return Err(ConnectorError::Mismatch { what: self.settings.what.clone(), message: mismatch });
            }
            tracing::warn!("{}: {mismatch}: accepted", self.settings.what);
        }
        *self.shared.origin.lock() = Some(origin);
        Ok(Some(session))
    }

    async fn advance(&self, place: &mut Place<D::Session>, session: &mut D::Session) -> Result<Step, ConnectorError> {
        let next = match place.next {
            Some(next) => next,
            None => {
                let newest = self.database.newest(session, BEGINNING).await?;
                let next = newest.map_or(BEGINNING, |newest| newest.saturating_add(1));
                self.shared.newest.fetch_max(newest.unwrap_or(i64::MIN), Ordering::Relaxed);
                return Ok(Step::Begins(*place.next.insert(next)));
            }
        };
        let to = match place.complete {
            Some(to) => to,
            None => {
                let newest = match place.end {
                    Some(end) => (end >= next).then_some(end),
                    None => self.database.newest(session, next).await?,
                };
                let Some(newest) = newest else {
                    return Ok(if self.context.bounded { Step::Done } else { Step::Nothing });
                };
                self.shared.newest.store(newest, Ordering::Relaxed);
                self.database.complete(session).await?;
                if self.context.bounded {
                    place.end = Some(newest);
                }
                *place.complete.insert(newest)
            }
        };
        let limit = self.context.batch_size.max(1);
        // One more, to see whether it has the cursor of the last.
        let mut rows = self.database.page(session, next, to, limit as i64 + 1).await?;
        self.check(&rows)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = if more { rows.last().map_or(to, |row| row.cursor) } else { to };
        place.next = Some(last.saturating_add(1));
        if !more {
            place.complete = None;
        }
        if rows.is_empty() {
            return Ok(if self.context.bounded { Step::Done } else { Step::Nothing });
        }
        Ok(Step::Rows(rows))
    }

    fn check(&self, rows: &[CursorRow]) -> Result<(), ConnectorError> {
        let refused = |message: String| {
            let Settings { what, cursor, .. } = &self.settings;
            Err(ConnectorError::Refused { what: what.clone(), message: format!("cursor {cursor} {message}") })
        };
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].cursor >= pair[1].cursor) {
            return refused(format!(
                "is {} in more than one row, so that there is no telling where to go on: name a column whose values are \
                 unique",
                pair[1].cursor
            ));
        }
        match rows.last() {
            Some(row) if row.cursor == i64::MAX => refused(format!("is {}, behind which nothing can come", i64::MAX)),
            _ => Ok(()),
        }
    }
}

fn records(rows: &[CursorRow]) -> RawRecords {
    let mut records = RawRecords::default();
    for row in rows {
        records.push(SPLIT, row.cursor, row.json.as_bytes());
    }
    records
}
