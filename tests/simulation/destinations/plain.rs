//! `delivery = 'at_least_once'`: rows are added at once, and after trouble added again.

use std::sync::Arc;

use acequia::connectors::delivery::{Delivery, OpenSink};
use acequia::connectors::{ConnectorError, Sink, SinkContext};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Destination, End, Fate, Ledger, Outage};
use crate::rows;

pub struct Plain {
    ledger: Mutex<Ledger>,
    outage: Outage,
}

impl Plain {
    pub fn new(ledger: Ledger) -> Plain {
        Plain { ledger: Mutex::new(ledger), outage: Outage::default() }
    }
}

#[async_trait]
impl Destination for Plain {
    fn delivery(&self) -> Delivery {
        Delivery::AtOnce
    }

    async fn open(self: Arc<Self>, end: End, _: SinkContext) -> Result<OpenSink, ConnectorError> {
        while end.request(&self.outage).await == Fate::NotDone {}
        Ok(OpenSink::AtOnce(Box::new(OpenPlain { plain: self, end, waiting: vec![] })))
    }

    fn lacking(&self) -> Vec<String> {
        self.ledger.lock().lacking()
    }
}

struct OpenPlain {
    plain: Arc<Plain>,
    end: End,
    waiting: Vec<String>,
}

#[async_trait]
impl Sink for OpenPlain {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        self.end.process.step().await;
        self.waiting.extend(rows::lines(&batch));
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        while !self.waiting.is_empty() {
            let fate = self.end.request(&self.plain.outage).await;
            if fate != Fate::NotDone {
                self.plain.ledger.lock().appear(&self.waiting);
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
