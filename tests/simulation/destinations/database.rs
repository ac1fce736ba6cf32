//! A database: the marker is a row that changes in the transaction of the rows; a lock on it fences.
//!
//! The server may restart, and then has forgotten the newest commits, as with `synchronous_commit = off`.

use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::ConnectorError;
use acequia::connectors::SinkContext;
use acequia::connectors::delivery::{Delivery, EpochSink, Marker, OpenSink, Writer};
use acequia::faults::{Bug, planted};
use acequia::time::{Epoch, Incarnation};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Destination, End, Fate, Ledger, Outage, writer};
use crate::rows;

/// Commits of the last so many milliseconds can be forgotten.
const UNSYNCED: Duration = Duration::from_millis(1000);

pub struct Database {
    state: Mutex<State>,
    outage: Outage,
}

struct State {
    ledger: Ledger,
    fence: Incarnation,
    commits: Vec<Commit>,
}

struct Commit {
    rows: Vec<String>,
    /// The marker's row after it.
    marker: Option<Marker>,
    at: Instant,
}

impl State {
    fn marker(&self) -> Option<Marker> {
        self.commits.last().and_then(|commit| commit.marker.clone())
    }

    fn commit(&mut self, rows: Vec<String>, marker: Option<Marker>) {
        self.ledger.appear(&rows);
        self.commits.push(Commit { rows, marker, at: Instant::now() });
    }
}

impl Database {
    pub fn new(ledger: Ledger) -> Database {
        let state = State { ledger, fence: Incarnation(0), commits: vec![] };
        Database { state: Mutex::new(state), outage: Outage::default() }
    }

    fn restart(&self, end: &End) {
        let mut state = self.state.lock();
        let young = state.commits.iter().rev().take_while(|commit| commit.at.elapsed() < UNSYNCED).count();
        end.note(format_args!("restarts"));
        for _ in 0..(1 + end.world.below(young as u64)).min(young as u64) {
            if let Some(lost) = state.commits.pop() {
                state.ledger.vanish(&lost.rows);
                end.note(format_args!("forgets {:?}", lost.marker.map(|marker| marker.epoch)));
            }
        }
    }
}

#[async_trait]
impl Destination for Database {
    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(self: Arc<Self>, end: End, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let mut sink = Table { database: self, end, writer: writer(&context), settled: Epoch(0) };
        let settled = sink.fence().await?;
        sink.settled = settled.unwrap_or_default();
        Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled })
    }

    fn lacking(&self) -> Vec<String> {
        self.state.lock().ledger.lacking()
    }
}

struct Table {
    database: Arc<Database>,
    end: End,
    writer: Writer,
    settled: Epoch,
}

impl Table {
    async fn fence(&self) -> Result<Option<Epoch>, ConnectorError> {
        loop {
            let too_early = if planted(Bug::MarkerBeforeFence) {
                let marker = self.database.state.lock().marker();
                self.end.answer().await;
                Some(marker)
            } else {
                None
            };
            if self.end.request(&self.database.outage).await == Fate::NotDone {
                continue;
            }
            let mut state = self.database.state.lock();
            self.refuse_if_fenced(&state)?;
            if !planted(Bug::FenceForgotten) {
                state.fence = self.writer.incarnation;
            }
            let marker = too_early.unwrap_or_else(|| state.marker());
            self.end.note(format_args!("fenced, marker {marker:?}"));
            return self.writer.resume(&self.end.name, marker.as_ref());
        }
    }

    fn refuse_if_fenced(&self, state: &State) -> Result<(), ConnectorError> {
        self.end.refuse_if_fenced(state.fence, &self.writer)
    }

    fn found(&self) -> Epoch {
        let marker = self.database.state.lock().marker().filter(|marker| marker.log == self.writer.log);
        marker.map_or(Epoch(0), |marker| marker.epoch)
    }
}

#[async_trait]
impl EpochSink for Table {
    fn takes_several(&self) -> bool {
        true
    }

    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let rows: Vec<String> = rows.iter().flat_map(rows::lines).collect();
        let mut tried = false;
        loop {
            let fate = self.end.request(&self.database.outage).await;
            if self.end.world.strikes(self.end.world.knobs().sink_restarts) {
                self.database.restart(&self.end);
            }
            let found = self.found();
            if found >= epoch && !(tried && planted(Bug::UnknownTakenForFailed)) {
                self.end.note(format_args!("epoch {epoch} is there"));
                self.settled = found;
                return Ok(epoch);
            }
            if found < self.settled && !planted(Bug::RewindForgotten) {
                self.end.note(format_args!("has only epoch {found} and had {}", self.settled));
                self.settled = found;
                return Ok(found);
            }
            let marker = Some(self.writer.marker(epoch));
            if fate == Fate::NotDone {
                self.end.note(format_args!("epoch {epoch}: connection lost"));
                if !planted(Bug::UnknownTakenForDone) {
                    continue;
                }
            } else if planted(Bug::MarkerBeforeData) {
                self.database.state.lock().commit(vec![], marker.clone());
                self.end.answer().await;
                self.database.state.lock().commit(rows.clone(), marker);
            } else if planted(Bug::DataBeforeMarker) {
                let before = self.database.state.lock().marker();
                self.database.state.lock().commit(rows.clone(), before);
                self.end.answer().await;
                self.database.state.lock().commit(vec![], marker);
            } else {
                let mut state = self.database.state.lock();
                self.refuse_if_fenced(&state)?;
                state.commit(rows.clone(), marker);
            }
            tried = true;
            self.end.note(format_args!("epoch {epoch} with {} rows: {fate:?}", rows.len()));
            if fate == Fate::AnswerLost {
                self.end.answer().await;
                continue;
            }
            self.end.answer().await;
            self.settled = epoch;
            return Ok(epoch);
        }
    }

    async fn settle(&mut self, _: bool) -> Result<Option<Epoch>, ConnectorError> {
        self.end.process.step().await;
        let found = self.found();
        if planted(Bug::RewindForgotten) {
            return Ok(None);
        }
        self.settled = found;
        Ok(Some(found))
    }
}
