//! Destinations in memory, one kind for each way in which real ones deliver, with the outcomes that real ones have.
//!
//! They follow the rules of the real connectors: fence, then read the marker ([`Writer::resume`]), rows and marker
//! together, and after an outcome that is not known the marker decides. What a reader would see goes into a
//! [`Ledger`], which knows what must be there and speaks up the moment that something is there too often.

pub mod database;
pub mod file;
pub mod gathering;
pub mod keyed;
pub mod plain;
pub mod topic;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::delivery::{Delivery, Marker, OpenSink, Writer};
use acequia::connectors::{ConnectorError, SinkContext, SinkFactory, SinkMode};
use acequia::time::{Epoch, Incarnation};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::process::Process;
use crate::world::World;

/// What a reader sees of a destination, against what it must see in the end.
pub struct Ledger {
    world: World,
    name: String,
    expected: BTreeMap<String, usize>,
    seen: BTreeMap<String, usize>,
    rows: usize,
    /// Rows may come again.
    repeats: bool,
}

impl Ledger {
    pub fn new(world: &World, name: String, expected: &[String], repeats: bool) -> Ledger {
        let mut counts = BTreeMap::new();
        expected.iter().for_each(|row| *counts.entry(row.clone()).or_default() += 1);
        Ledger { world: world.clone(), name, expected: counts, seen: BTreeMap::new(), rows: 0, repeats }
    }

    /// Rows become visible.
    pub fn appear(&mut self, rows: &[String]) {
        for row in rows {
            let seen = self.seen.entry(row.clone()).or_default();
            *seen += 1;
            self.rows += 1;
            let expected = self.expected.get(row).copied().unwrap_or(0);
            if expected == 0 {
                self.world.violate(format!("{}: row {row} is there and wrong", self.name));
            } else if *seen > expected && !self.repeats {
                self.world.violate(format!("{}: row {row} is there {seen} times instead of {expected}", self.name));
            }
        }
    }

    /// The destination has lost rows that were visible.
    pub fn vanish(&mut self, rows: &[String]) {
        for row in rows {
            if let Some(seen) = self.seen.get_mut(row) {
                *seen -= 1;
                self.rows -= 1;
            }
        }
    }

    /// What is not there yet.
    pub fn lacking(&self) -> Vec<String> {
        let seen = |row: &String| self.seen.get(row).copied().unwrap_or(0);
        self.expected.iter().filter(|(row, count)| seen(row) < **count).map(|(row, _)| row.clone()).collect()
    }
}

/// A destination as the world and its seed see it.
#[async_trait]
pub trait Destination: Send + Sync {
    /// When it wants its rows.
    fn delivery(&self) -> Delivery;

    /// Opens it for a process.
    async fn open(self: Arc<Self>, end: End, context: SinkContext) -> Result<OpenSink, ConnectorError>;

    /// The machine that we run on, and that this may be on too, loses its power.
    fn lose_power(&self) {}

    /// What a reader should see and does not.
    fn lacking(&self) -> Vec<String>;
}

/// One process' end of the line to a destination.
#[derive(Clone)]
pub struct End {
    pub world: World,
    pub process: Arc<Process>,
    pub name: String,
}

/// What becomes of a request to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Done,
    /// The connection broke before the server had it.
    NotDone,
    /// The server has done it, and the answer was lost.
    AnswerLost,
}

/// When a server is away.
#[derive(Default)]
pub struct Outage(Mutex<Option<Instant>>);

impl End {
    pub fn note(&self, line: std::fmt::Arguments<'_>) {
        self.world.note(format_args!("{} {}: {line}", self.process.id, self.name));
    }

    /// The run that a destination knows as the newest has taken over from this one, or has not.
    pub fn refuse_if_fenced(&self, fence: Incarnation, writer: &Writer) -> Result<(), ConnectorError> {
        if fence > writer.incarnation {
            let newer = Marker { incarnation: fence, ..writer.marker(Epoch(0)) };
            return Err(writer.fenced(&self.name, &newer));
        }
        Ok(())
    }

    /// A request is on its way to a server. Waits while the server is away; the caller then does what it asks for,
    /// unless it was not done.
    pub async fn request(&self, outage: &Outage) -> Fate {
        let knobs = self.world.knobs().clone();
        self.process.step().await;
        self.world.latency().await;
        if self.world.strikes(knobs.sink_outages) {
            let until = Instant::now() + Duration::from_millis(self.world.below(5000));
            self.note(format_args!("away"));
            *outage.0.lock() = Some(until);
        }
        while outage.0.lock().is_some_and(|until| until > Instant::now()) && !self.world.is_calm() {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        self.process.step().await;
        if self.world.strikes(knobs.sink_errors) {
            return Fate::NotDone;
        }
        if self.world.strikes(knobs.sink_lost_answers) { Fate::AnswerLost } else { Fate::Done }
    }

    /// The answer is on its way back.
    pub async fn answer(&self) {
        self.world.latency().await;
        self.process.step().await;
    }
}

/// A sink of the graph, for one process.
pub struct SimSink {
    pub mode: SinkMode,
    pub destination: Arc<dyn Destination>,
    pub end: End,
}

#[async_trait]
impl SinkFactory for SimSink {
    fn mode(&self) -> SinkMode {
        self.mode.clone()
    }

    fn describe(&self) -> String {
        "simulated".into()
    }

    fn delivery(&self) -> Delivery {
        self.destination.delivery()
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let opened = Arc::clone(&self.destination).open(self.end.clone(), context).await?;
        self.end.process.has_opened();
        Ok(opened)
    }
}

/// Who writes. Simulated runs always keep checkpoints.
pub fn writer(context: &SinkContext) -> Writer {
    context.writer.clone().expect("a run with checkpoints")
}
