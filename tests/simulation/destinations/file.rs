//! A file: lines appended and synced, then a marker that says how many of them count, put in place by a rename.
//!
//! It is on the machine that we run on, so a loss of power tears what was not synced.

use std::sync::Arc;

use acequia::connectors::delivery::{Delivery, EpochSink, Marker, OpenSink, Writer};
use acequia::connectors::{ConnectorError, SinkContext};
use acequia::faults::{Bug, planted};
use acequia::time::{Epoch, Incarnation};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Destination, End, Ledger, writer};
use crate::rows;
use crate::world::World;

pub struct File {
    world: World,
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    lines: Vec<String>,
    /// How many of them survive a loss of power.
    synced: usize,
    marker: Seal,
    /// The marker that survives a loss of power.
    synced_marker: Seal,
    fence: Incarnation,
}

/// What the marker says.
#[derive(Clone, Default)]
struct Seal {
    lines: usize,
    marker: Option<Marker>,
}

impl File {
    pub fn new(world: &World, ledger: Ledger) -> File {
        let state = State {
            ledger,
            lines: vec![],
            synced: 0,
            marker: Seal::default(),
            synced_marker: Seal::default(),
            fence: Incarnation(0),
        };
        File { world: world.clone(), state: Mutex::new(state) }
    }
}

#[async_trait]
impl Destination for File {
    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(self: Arc<Self>, end: End, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let sink = OpenFile { file: self, end, writer: writer(&context) };
        sink.end.process.step().await;
        sink.refuse_if_fenced()?;
        if !planted(Bug::FenceForgotten) {
            sink.file.state.lock().fence = sink.writer.incarnation;
        }
        sink.end.answer().await;
        let settled = {
            let mut state = sink.file.state.lock();
            let sealed = state.marker.lines;
            // What no marker covers was never there.
            state.lines.truncate(sealed);
            state.synced = state.synced.min(sealed);
            let marker = state.marker.marker.clone();
            sink.end.note(format_args!("fenced, marker {marker:?}"));
            sink.writer.resume(&sink.end.name, marker.as_ref())?
        };
        Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled })
    }

    fn lose_power(&self) {
        let mut state = self.state.lock();
        if self.world.chance(0.5) {
            let seen = state.lines[state.synced_marker.lines.min(state.marker.lines)..state.marker.lines].to_vec();
            state.ledger.vanish(&seen);
            state.marker = state.synced_marker.clone();
        }
        state.synced_marker = state.marker.clone();
        if state.synced < state.lines.len() {
            let kept = state.synced + self.world.below((state.lines.len() - state.synced) as u64 + 1) as usize;
            if kept < state.marker.lines {
                self.world.violate(format!("file: line {kept} is torn, and a reader has seen it"));
            }
            state.lines.truncate(kept);
        }
        state.synced = state.lines.len();
    }

    fn lacking(&self) -> Vec<String> {
        self.state.lock().ledger.lacking()
    }
}

struct OpenFile {
    file: Arc<File>,
    end: End,
    writer: Writer,
}

impl OpenFile {
    fn refuse_if_fenced(&self) -> Result<(), ConnectorError> {
        self.end.refuse_if_fenced(self.file.state.lock().fence, &self.writer)
    }
}

#[async_trait]
impl EpochSink for OpenFile {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let rows: Vec<String> = rows.iter().flat_map(rows::lines).collect();
        self.end.process.step().await;
        let marker = self.writer.marker(epoch);
        {
            let mut state = self.file.state.lock();
            let found = state.marker.marker.clone().filter(|found| found.log == marker.log);
            if found.is_some_and(|found| found.epoch >= epoch) {
                return Ok(epoch);
            }
            let sealed = state.marker.lines;
            state.lines.truncate(sealed);
            state.synced = state.synced.min(sealed);
        }
        self.refuse_if_fenced()?;
        let marker_first = planted(Bug::MarkerBeforeData);
        for row in &rows {
            if marker_first {
                break;
            }
            self.refuse_if_fenced()?;
            self.file.state.lock().lines.push(row.clone());
            self.end.process.step().await;
        }
        self.end.answer().await;
        if !planted(Bug::NoSync) {
            let mut state = self.file.state.lock();
            state.synced = state.lines.len();
        }
        self.end.process.step().await;
        // The rename, under a lock that an older run does not get.
        self.refuse_if_fenced()?;
        {
            let mut state = self.file.state.lock();
            let lines = if marker_first { state.lines.len() + rows.len() } else { state.lines.len() };
            state.marker = Seal { lines, marker: Some(marker) };
            state.ledger.appear(&rows);
        }
        self.end.note(format_args!("epoch {epoch} with {} rows", rows.len()));
        if marker_first {
            if self.end.world.chance(0.5) {
                // Readers look where nothing is yet.
                self.end.world.violate("file: the marker covers lines that are not there".into());
            }
            self.file.state.lock().lines.extend(rows);
        }
        self.end.answer().await;
        let mut state = self.file.state.lock();
        state.synced_marker = state.marker.clone();
        Ok(epoch)
    }
}
