//! Redis-like: rows by key, written at once; a script refuses what an older run writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use acequia::connectors::delivery::{Delivery, OpenSink, Writer};
use acequia::connectors::{ConnectorError, Sink, SinkContext};
use acequia::faults::{Bug, planted};
use acequia::time::Incarnation;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Destination, End, Fate, Outage, writer};
use crate::rows;

pub struct Keyed {
    name: String,
    key: Vec<String>,
    expected: Vec<String>,
    state: Mutex<State>,
    outage: Outage,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<String, String>,
    fence: Incarnation,
}

impl Keyed {
    pub fn new(name: String, key: Vec<String>, expected: &[String]) -> Keyed {
        Keyed { name, key, expected: expected.to_vec(), state: Mutex::default(), outage: Outage::default() }
    }
}

#[async_trait]
impl Destination for Keyed {
    fn delivery(&self) -> Delivery {
        Delivery::AtOnce
    }

    async fn open(self: Arc<Self>, end: End, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let sink = OpenKeyed { keyed: self, end, writer: writer(&context), waiting: vec![] };
        while sink.end.request(&sink.keyed.outage).await == Fate::NotDone {}
        sink.refuse_if_fenced()?;
        if !planted(Bug::FenceForgotten) {
            sink.keyed.state.lock().fence = sink.writer.incarnation;
        }
        sink.end.answer().await;
        Ok(OpenSink::AtOnce(Box::new(sink)))
    }

    /// Rows that lack, and, since there is one a key, those that are there instead.
    fn lacking(&self) -> Vec<String> {
        let state = self.state.lock();
        let mut lacking: Vec<String> =
            self.expected.iter().filter(|row| !state.rows.values().any(|found| found == *row)).cloned().collect();
        if state.rows.len() > self.expected.len() {
            lacking.push(format!("{}: {} keys instead of {}", self.name, state.rows.len(), self.expected.len()));
        }
        lacking
    }
}

struct OpenKeyed {
    keyed: Arc<Keyed>,
    end: End,
    writer: Writer,
    waiting: Vec<(String, String)>,
}

impl OpenKeyed {
    fn refuse_if_fenced(&self) -> Result<(), ConnectorError> {
        self.end.refuse_if_fenced(self.keyed.state.lock().fence, &self.writer)
    }
}

#[async_trait]
impl Sink for OpenKeyed {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        self.end.process.step().await;
        let schema = batch.schema();
        let key: Vec<usize> = self.keyed.key.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        self.waiting.extend(rows::columns(&batch, &key).into_iter().zip(rows::lines(&batch)));
        if self.end.world.chance(0.3) {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        while !self.waiting.is_empty() {
            let fate = self.end.request(&self.keyed.outage).await;
            if fate != Fate::NotDone {
                self.refuse_if_fenced()?;
                self.keyed.state.lock().rows.extend(self.waiting.iter().cloned());
            }
            self.end.note(format_args!("{} rows: {fate:?}", self.waiting.len()));
            if fate == Fate::Done {
                self.waiting.clear();
            }
            self.end.answer().await;
        }
        Ok(())
    }
}
