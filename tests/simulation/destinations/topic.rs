//! A Kafka-like topic: transactions of one producer id, a progress record in each, aborted data that nobody sees.
//!
//! As with brokers and clients before KIP-890, the end of a transaction that was given up can arrive late and then ends
//! whatever transaction is open, if the producer's epoch is still the same.

use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::delivery::{Delivery, EpochSink, Marker, OpenSink, Writer};
use acequia::connectors::{ConnectorError, SinkContext};
use acequia::faults::{Bug, planted};
use acequia::time::Epoch;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Destination, End, Fate, Ledger, Outage, writer};
use crate::rows;

pub struct Topic {
    state: Mutex<State>,
    outage: Outage,
}

struct State {
    ledger: Ledger,
    /// Raised by each initialisation; a producer with a lower one is refused.
    producer_epoch: u64,
    /// What the open transaction holds: not to be seen until it is committed.
    open: Option<(Vec<String>, Option<Marker>)>,
    /// The last progress record that is committed.
    progress: Option<Marker>,
}

impl State {
    fn end_transaction(&mut self, commit: bool) {
        let Some((rows, progress)) = self.open.take() else { return };
        if commit {
            self.ledger.appear(&rows);
            self.progress = progress.or(self.progress.take());
        }
    }
}

impl Topic {
    pub fn new(ledger: Ledger) -> Topic {
        let state = State { ledger, producer_epoch: 0, open: None, progress: None };
        Topic { state: Mutex::new(state), outage: Outage::default() }
    }
}

#[async_trait]
impl Destination for Topic {
    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(self: Arc<Self>, end: End, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let mut sink = Producer { topic: self, end, writer: writer(&context), producer_epoch: 0 };
        let settled = sink.initialise().await?;
        let settled = sink.claim(settled).await?;
        Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled })
    }

    fn lacking(&self) -> Vec<String> {
        self.state.lock().ledger.lacking()
    }
}

struct Producer {
    topic: Arc<Topic>,
    end: End,
    writer: Writer,
    producer_epoch: u64,
}

/// How a transaction ended, as far as its producer knows.
#[derive(PartialEq)]
enum Outcome {
    Committed,
    /// A new producer has to look.
    Unknown,
}

impl Producer {
    /// Fences all earlier producers, then reads the progress.
    async fn initialise(&mut self) -> Result<Option<Epoch>, ConnectorError> {
        loop {
            let too_early = if planted(Bug::MarkerBeforeFence) {
                let progress = self.topic.state.lock().progress.clone();
                self.end.answer().await;
                Some(progress)
            } else {
                None
            };
            if self.end.request(&self.topic.outage).await == Fate::NotDone {
                continue;
            }
            if !planted(Bug::FenceForgotten) {
                let mut state = self.topic.state.lock();
                state.producer_epoch += 1;
                state.end_transaction(false);
            }
            self.producer_epoch = self.topic.state.lock().producer_epoch;
            self.end.answer().await;
            let progress = too_early.unwrap_or_else(|| self.topic.state.lock().progress.clone());
            self.end.note(format_args!("producer epoch {}, progress {progress:?}", self.producer_epoch));
            return self.writer.resume(&self.end.name, progress.as_ref());
        }
    }

    /// Writes this run's number into the progress, so that an older run that comes back knows itself fenced. Returns
    /// what is settled by then: until the claim is made the older run may still deliver.
    async fn claim(&mut self, mut settled: Option<Epoch>) -> Result<Option<Epoch>, ConnectorError> {
        while self.transaction(&[], &self.writer.marker(settled.unwrap_or_default())).await == Outcome::Unknown {
            settled = self.initialise().await?;
        }
        Ok(settled)
    }

    async fn transaction(&mut self, rows: &[String], marker: &Marker) -> Outcome {
        let half = rows.len() / 2;
        let progress = if planted(Bug::MarkerBeforeData) {
            self.topic.state.lock().progress = Some(marker.clone());
            None
        } else {
            Some(marker.clone())
        };
        for (part, progress) in [(&rows[..half], None), (&rows[half..], progress)] {
            if self.end.request(&self.topic.outage).await == Fate::NotDone {
                return Outcome::Unknown;
            }
            let mut state = self.topic.state.lock();
            if state.producer_epoch != self.producer_epoch {
                return Outcome::Unknown;
            }
            let open = state.open.get_or_insert_default();
            open.0.extend_from_slice(part);
            open.1 = progress.or(open.1.take());
        }
        let fate = self.end.request(&self.topic.outage).await;
        match fate {
            Fate::NotDone => self.ends_late(),
            Fate::Done | Fate::AnswerLost => {
                let mut state = self.topic.state.lock();
                if state.producer_epoch != self.producer_epoch {
                    return Outcome::Unknown;
                }
                state.end_transaction(true);
            }
        }
        self.end.note(format_args!("{marker} with {rows:?}: {fate:?}"));
        self.end.answer().await;
        if fate == Fate::Done { Outcome::Committed } else { Outcome::Unknown }
    }

    fn is_fenced(&self) -> bool {
        self.topic.state.lock().producer_epoch != self.producer_epoch
    }

    /// The end of the transaction is on its way, and its producer has given it up.
    fn ends_late(&self) {
        let (topic, end, own) = (Arc::clone(&self.topic), self.end.clone(), self.producer_epoch);
        let late = Duration::from_millis(end.world.below(200));
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            let mut state = topic.state.lock();
            let counts = state.producer_epoch == own && state.open.is_some();
            end.note(format_args!("a late commit arrives{}", if counts { "" } else { " and is refused" }));
            if counts {
                state.end_transaction(true);
            }
        });
    }
}

#[async_trait]
impl EpochSink for Producer {
    fn takes_several(&self) -> bool {
        true
    }

    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let rows: Vec<String> = rows.iter().flat_map(rows::lines).collect();
        let marker = self.writer.marker(epoch);
        let is_there = |progress: Option<Marker>| {
            progress.is_some_and(|progress| progress.log == marker.log && progress.epoch >= epoch)
        };
        if is_there(self.topic.state.lock().progress.clone()) {
            return Ok(epoch);
        }
        while self.transaction(&rows, &marker).await == Outcome::Unknown {
            if planted(Bug::UnknownTakenForDone) {
                break;
            }
            if planted(Bug::ProducerNotRecycled) && !self.is_fenced() {
                // Aborts, looks, and goes on as it is.
                self.end.answer().await;
                self.topic.state.lock().end_transaction(false);
            } else {
                self.initialise().await?;
            }
            let progress = self.topic.state.lock().progress.clone();
            if is_there(progress) && !planted(Bug::UnknownTakenForFailed) {
                break;
            }
        }
        Ok(epoch)
    }
}
