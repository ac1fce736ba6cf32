//! Parquet-like: epochs are gathered until a file is worth it; the manifest that names the file is the marker.

use std::sync::Arc;

use acequia::connectors::delivery::{Delivery, EpochSink, Marker, OpenSink, Writer};
use acequia::connectors::{ConnectorError, SinkContext};
use acequia::faults::{Bug, planted};
use acequia::time::{Epoch, Incarnation};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Destination, End, Fate, Ledger, Outage, writer};
use crate::rows;

/// A part is worth it when it has so many epochs, or is so old.
const EPOCHS: usize = 3;
const AGE: std::time::Duration = std::time::Duration::from_secs(2);

pub struct Parts {
    state: Mutex<State>,
    outage: Outage,
}

struct State {
    ledger: Ledger,
    fence: Incarnation,
    /// The newest manifest.
    marker: Option<Marker>,
}

impl Parts {
    pub fn new(ledger: Ledger) -> Parts {
        let state = State { ledger, fence: Incarnation(0), marker: None };
        Parts { state: Mutex::new(state), outage: Outage::default() }
    }
}

#[async_trait]
impl Destination for Parts {
    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(self: Arc<Self>, end: End, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let mut sink = OpenPart {
            parts: self,
            end,
            writer: writer(&context),
            rows: vec![],
            epochs: 0,
            last: Epoch(0),
            settled: None,
            since: Instant::now(),
        };
        while sink.end.request(&sink.parts.outage).await == Fate::NotDone {}
        sink.refuse_if_fenced()?;
        let marker = {
            let mut state = sink.parts.state.lock();
            state.fence = state.fence.max(sink.writer.incarnation);
            state.marker.clone()
        };
        sink.end.answer().await;
        sink.settled = sink.writer.resume(&sink.end.name, marker.as_ref())?;
        sink.last = sink.settled.unwrap_or_default();
        let settled = sink.settled;
        sink.end.note(format_args!("fenced, manifest {marker:?}"));
        Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled })
    }

    fn lacking(&self) -> Vec<String> {
        self.state.lock().ledger.lacking()
    }
}

struct OpenPart {
    parts: Arc<Parts>,
    end: End,
    writer: Writer,
    /// What is gathered: gone when the process is.
    rows: Vec<String>,
    epochs: usize,
    last: Epoch,
    settled: Option<Epoch>,
    since: Instant,
}

impl OpenPart {
    fn refuse_if_fenced(&self) -> Result<(), ConnectorError> {
        self.end.refuse_if_fenced(self.parts.state.lock().fence, &self.writer)
    }

    async fn publish(&mut self) -> Result<(), ConnectorError> {
        loop {
            let fate = self.end.request(&self.parts.outage).await;
            if fate == Fate::NotDone {
                continue;
            }
            self.refuse_if_fenced()?;
            {
                let mut state = self.parts.state.lock();
                // The manifest's name is the epoch's: one that is there is the same one.
                let is_there = state.marker.as_ref().is_some_and(|marker| marker.epoch >= self.last);
                if !is_there || planted(Bug::UnknownTakenForFailed) {
                    state.ledger.appear(&self.rows);
                    state.marker = Some(self.writer.marker(self.last));
                }
            }
            self.end.note(format_args!("part up to epoch {} with {} rows: {fate:?}", self.last, self.rows.len()));
            self.end.answer().await;
            if fate == Fate::Done {
                self.rows.clear();
                self.epochs = 0;
                self.settled = Some(self.last);
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl EpochSink for OpenPart {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        self.end.process.step().await;
        if epoch <= self.last {
            return Ok(self.settled.unwrap_or_default());
        }
        if self.epochs == 0 {
            self.since = Instant::now();
        }
        self.rows.extend(rows.iter().flat_map(rows::lines));
        self.epochs += 1;
        self.last = epoch;
        if self.epochs >= EPOCHS {
            self.publish().await?;
        }
        Ok(self.settled.unwrap_or_default())
    }

    async fn settle(&mut self, now: bool) -> Result<Option<Epoch>, ConnectorError> {
        self.end.process.step().await;
        if self.epochs > 0 && (now || self.since.elapsed() >= AGE) {
            self.publish().await?;
        }
        Ok(self.settled)
    }
}
