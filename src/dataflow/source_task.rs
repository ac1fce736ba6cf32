//! A task that reads: one instance of a source with the chain of operators behind it.
//!
//! Rows are decoded and run through the chain in the order in which the source sends them; barriers and watermarks go
//! between them. When the source has ended, the task stays to tell it of epochs that complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::error::DataFusionError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::bad_row_log::BadRowLog;
use super::breaker::Breaker;
use super::chain::Chain;
use super::channel::Barrier;
use super::graph::DEAD_LETTERS;
use super::operator_task::deliver;
use super::reader::{BadRow, ReadRows, Reader, Split, place_of};
use super::report::{Command, Reporter, TaskSnapshot};
use super::source_watermark::SourceWatermark;
use super::statistics::NodeStatistics;
use super::watch;
use crate::catalog::BadRows;
use crate::checkpoint::state::SourceState;
use crate::connectors::{ConnectorError, Positions, Source, SourceContext, SourceEvent, SourceFactory};
use crate::faults::{Bug, planted};
use crate::formats::{FormatError, SplitIndex, SplitRun};
use crate::operators::MAIN;
use crate::time::{Epoch, EventTime};

/// How often the source is asked for its lag.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// What a source's task needs.
pub struct SourceTask {
    /// The node's name.
    pub name: String,
    /// Opens the source.
    pub factory: Arc<dyn SourceFactory>,
    /// What it is told.
    pub context: SourceContext,
    /// `bad_rows`.
    pub bad_rows: BadRows,
    /// Stops the run when too many records are bad; of all instances.
    pub breaker: Option<Arc<Breaker>>,
    /// Makes its rows.
    pub reader: Reader,
    /// The operators behind it; the head stands for the source.
    pub chain: Chain,
    /// The watermark of all instances; `None` without an event time.
    pub watermark: Option<Arc<SourceWatermark>>,
    /// How many of its instances still read.
    pub reading: Arc<AtomicUsize>,
    /// Where an interrupted run stood.
    pub restored: SourceState,
    /// From the coordinator.
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// To the coordinator.
    pub reporter: Reporter,
    /// Cancelled when the run is told to stop in order.
    pub drain: CancellationToken,
    /// The node's figures.
    pub statistics: Arc<NodeStatistics>,
}

/// Why the task stopped waiting.
enum Wake {
    Event(Result<SourceEvent, ConnectorError>),
    Command(Option<Command>),
    /// Another instance has moved the watermark.
    Watermark,
    Timer,
    Drain,
}

/// How the reading ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Goes,
    /// By itself: event time is over.
    Ended,
    /// The run is told to stop: the end is sent after the last barrier.
    Stopped,
}

struct Running {
    task: SourceTask,
    source: Option<Box<dyn Source>>,
    splits: Vec<Split>,
    reading: Reading,
    end_sent: bool,
    sent_watermark: EventTime,
    changed: Option<watch::Receiver<EventTime>>,
    next_lag: Instant,
    /// What the source last said of where it reads; worth an epoch when it is new, as a position is.
    origin: Option<String>,
    /// Positions of epochs that are not complete yet.
    positions: BTreeMap<Epoch, Positions>,
    log: BadRowLog,
}

impl SourceTask {
    /// Reads until the source ends or the run is told to stop; then until the coordinator is done.
    ///
    /// # Errors
    /// What the source or an operator says, or the first bad record if the table wants that.
    pub async fn run(self) -> Result<(), RunError> {
        let running = Running {
            changed: self.watermark.as_ref().map(|watermark| watermark.subscribe()),
            origin: self.restored.origin.clone(),
            task: self,
            source: None,
            splits: vec![],
            reading: Reading::Goes,
            end_sent: false,
            sent_watermark: EventTime::MIN,
            next_lag: Instant::now() + LAG_INTERVAL,
            positions: BTreeMap::new(),
            log: BadRowLog::default(),
        };
        running.run().await
    }

    fn failed(&self, source: ConnectorError) -> RunError {
        RunError::Connector { node: self.name.clone(), source }
    }

    fn unreadable(&self, error: DataFusionError) -> RunError {
        match error {
            DataFusionError::External(error) if error.is::<FormatError>() => match error.downcast::<FormatError>() {
                Ok(error) => self.failed(ConnectorError::Format(*error)),
                Err(error) => RunError::Operator { node: self.name.clone(), source: DataFusionError::External(error) },
            },
            source => RunError::Operator { node: self.name.clone(), source },
        }
    }
}

impl Running {
    async fn run(mut self) -> Result<(), RunError> {
        self.open().await?;
        while self.reading == Reading::Goes {
            let time_changes_at = self.listen().await?;
            let now = Instant::now();
            self.timers(now).await?;
            match self.wait(time_changes_at).await {
                Wake::Event(Ok(event)) => self.event(event).await?,
                Wake::Event(Err(ConnectorError::Stopped { .. })) => self.reading = Reading::Stopped,
                Wake::Event(Err(error)) => return Err(self.task.failed(error)),
                Wake::Command(Some(command)) => self.command(command).await?,
                Wake::Command(None) => return Ok(()),
                Wake::Drain => self.reading = Reading::Stopped,
                Wake::Watermark | Wake::Timer => {}
            }
        }
        if self.reading == Reading::Ended {
            self.chain_watermark(EventTime::MAX).await?;
            self.send_end().await?;
        }
        self.note_end();
        while let Some(command) = self.task.commands.recv().await {
            self.command(command).await?;
        }
        Ok(())
    }

    /// A line for the source, not for each of its instances.
    fn note_end(&self) {
        let is_last = self.task.reading.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_last && self.reading == Reading::Ended {
            tracing::info!("source {} has come to its end", self.task.name);
        }
    }

    /// Opens the source. Barriers pass meanwhile, so that a server that is away does not hold the others' epochs.
    async fn open(&mut self) -> Result<(), RunError> {
        let factory = Arc::clone(&self.task.factory);
        let mut opening = factory.open(self.task.context.clone());
        loop {
            let command = tokio::select! {
                biased;
                command = self.task.commands.recv() => command,
                () = self.task.drain.cancelled() => {
                    self.reading = Reading::Stopped;
                    return Ok(());
                }
                opened = &mut opening => {
                    match opened {
                        Ok(source) => self.source = Some(source),
                        Err(ConnectorError::Stopped { .. }) => self.reading = Reading::Stopped,
                        Err(error) => return Err(self.task.failed(error)),
                    }
                    if let Some(watermark) = &self.task.watermark {
                        watermark.opened(self.task.context.instance, Instant::now());
                    }
                    return Ok(());
                }
            };
            match command {
                Some(command) => self.command(command).await?,
                None => self.reading = Reading::Stopped,
            }
            if self.reading != Reading::Goes {
                return Ok(());
            }
        }
    }

    /// All that came has been worked off: forwards the source's watermark. Returns when time alone may move it.
    async fn listen(&mut self) -> Result<Option<Instant>, RunError> {
        let Some(shared) = &self.task.watermark else { return Ok(None) };
        let (watermark, next) = shared.listen(self.task.context.instance, Instant::now());
        if let Some(changed) = &mut self.changed {
            changed.mark_unchanged();
        }
        if watermark > self.sent_watermark {
            self.chain_watermark(watermark).await?;
        }
        Ok(next)
    }

    async fn chain_watermark(&mut self, watermark: EventTime) -> Result<(), RunError> {
        self.sent_watermark = watermark;
        self.task.chain.watermark(watermark)?;
        if self.task.chain.has_rows() {
            self.task.reporter.active();
        }
        deliver(&mut self.task.chain).await
    }

    async fn timers(&mut self, now: Instant) -> Result<(), RunError> {
        if now >= self.next_lag {
            self.next_lag = now + LAG_INTERVAL;
            if let Some(source) = &self.source {
                self.task.statistics.set_lag(source.lag());
                let origin = source.origin();
                if origin.is_some() && origin != self.origin {
                    self.origin = origin;
                    self.task.reporter.active();
                }
            }
        }
        if self.task.chain.next_tick().is_some_and(|at| at <= now) {
            self.task.chain.tick(now)?;
            if self.task.chain.has_rows() {
                self.task.reporter.active();
            }
            deliver(&mut self.task.chain).await?;
        }
        Ok(())
    }

    async fn wait(&mut self, time_changes_at: Option<Instant>) -> Wake {
        let Some(source) = &mut self.source else { return Wake::Drain };
        let timer =
            [time_changes_at, self.task.chain.next_tick()].into_iter().flatten().fold(self.next_lag, Instant::min);
        tokio::select! {
            biased;
            command = self.task.commands.recv() => Wake::Command(command),
            () = self.task.drain.cancelled() => Wake::Drain,
            event = source.next() => Wake::Event(event),
            () = moved(&mut self.changed) => Wake::Watermark,
            () = sleep_until(timer) => Wake::Timer,
        }
    }

    async fn event(&mut self, event: SourceEvent) -> Result<(), RunError> {
        let instance = self.task.context.instance;
        let shared = self.task.watermark.clone();
        match event {
            SourceEvent::Split(index, name, position) => self.split(index, name, position),
            SourceEvent::Records(records) => {
                self.task.statistics.bytes_in.fetch_add(records.bytes.len() as u64, Ordering::Relaxed);
                self.wake(&records.runs);
                let read = self.task.reader.records(&records, &mut self.splits);
                self.send(read, &records.runs, &records.offsets).await?;
            }
            SourceEvent::Rows(batch, runs, offsets) => {
                self.task.statistics.bytes_in.fetch_add(batch.get_array_memory_size() as u64, Ordering::Relaxed);
                self.wake(&runs);
                let read = self.task.reader.rows(batch, &runs, &offsets, &mut self.splits);
                self.send(read, &runs, &offsets).await?;
            }
            SourceEvent::Origin(split, origin) => self.splits[split.0 as usize].origin = Some(origin),
            SourceEvent::Replaced(split, next, origin) => {
                let split = &mut self.splits[split.0 as usize];
                (split.position, split.origin) = (Some(next), Some(origin));
            }
            SourceEvent::CaughtUp(split) => {
                if let Some(shared) = shared {
                    shared.caught_up(instance, split, Instant::now());
                }
            }
            SourceEvent::SplitEnd(split) => {
                if let Some(shared) = shared {
                    shared.split_ended(instance, split);
                }
            }
            // Some sources answer a stop with an end; that is not the end of event time.
            SourceEvent::End if self.task.drain.is_cancelled() => self.reading = Reading::Stopped,
            SourceEvent::End => {
                self.reading = Reading::Ended;
                if let Some(shared) = shared {
                    shared.ended(instance, Instant::now());
                }
            }
        }
        Ok(())
    }

    /// A split begins, or one that has begun says where it is read on. A position that no checkpoint has is worth an
    /// epoch also when no record comes: should the run be killed, the next one must not decide anew where to begin.
    fn split(&mut self, index: SplitIndex, name: String, position: Option<i64>) {
        let known = self.splits.get_mut(index.0 as usize).filter(|known| *known.name == *name);
        let restored = self.task.restored.positions.get(&name).copied();
        let before = known.as_ref().map_or(restored, |known| known.position);
        // What the source says comes first: it may not go on where the checkpoint says, because records are lost.
        let position = position.or(before);
        if position != before {
            self.task.reporter.active();
        }
        if let Some(known) = known {
            known.position = position;
            return;
        }
        let mut watermark = self.task.restored.watermarks.get(&name).copied().unwrap_or(EventTime::MIN);
        if let Some(shared) = &self.task.watermark {
            watermark = shared.split(self.task.context.instance, index, watermark, Instant::now());
        }
        let origin = self.task.restored.split_origins.get(&name).cloned();
        let split = Split { name: name.into(), watermark, position, origin };
        let index = index.0 as usize;
        if self.splits.len() <= index {
            self.splits.resize(index + 1, split.clone());
        }
        self.splits[index] = split;
    }

    fn wake(&mut self, runs: &[SplitRun]) {
        let Some(shared) = &self.task.watermark else { return };
        let now = Instant::now();
        for run in runs {
            if let Some(split) = self.splits.get_mut(run.split.0 as usize) {
                split.watermark = split.watermark.max(shared.wake(self.task.context.instance, run.split, now));
            }
        }
    }

    async fn send(
        &mut self,
        read: datafusion::common::Result<ReadRows>,
        runs: &[SplitRun],
        offsets: &[i64],
    ) -> Result<(), RunError> {
        let read = read.map_err(|error| self.task.unreadable(error))?;
        self.task.statistics.rows_in.fetch_add(offsets.len() as u64, Ordering::Relaxed);
        self.task.reporter.active();
        self.note_bad(&read.bad, runs, offsets)?;
        if read.batch.num_rows() > 0 {
            self.task.chain.send(MAIN, read.batch)?;
        }
        if let Some(dead_letters) = read.dead_letters {
            self.task.chain.send(DEAD_LETTERS, dead_letters)?;
        }
        let mut end = 0;
        for run in runs {
            end += run.rows;
            self.splits[run.split.0 as usize].position = Some(offsets[end - 1] + 1);
        }
        deliver(&mut self.task.chain).await?;
        if let Some(shared) = &self.task.watermark {
            for run in runs {
                let watermark = self.splits[run.split.0 as usize].watermark;
                shared.advance(self.task.context.instance, run.split, watermark);
            }
        }
        Ok(())
    }

    fn note_bad(&mut self, bad: &[BadRow], runs: &[SplitRun], offsets: &[i64]) -> Result<(), RunError> {
        let now = Instant::now();
        if bad.is_empty() {
            if let Some(breaker) = &self.task.breaker {
                breaker.good(offsets.len() as u64, now);
            }
            return Ok(());
        }
        for row in bad {
            self.task.statistics.add_bad_rows(row.reason.as_str(), 1);
        }
        let splits = &self.splits;
        let place = |row: &BadRow| {
            let split = place_of(row.record, runs).and_then(|split| splits.get(split.0 as usize));
            format!("{} offset {}", split.map_or("", |split| &*split.name), offsets[row.record])
        };
        if self.task.bad_rows == BadRows::Fail {
            let first = &bad[0];
            return Err(RunError::BadRow {
                table: self.task.context.table.clone(),
                place: place(first),
                message: first.message.clone(),
            });
        }
        if self.task.statistics.warns() {
            for line in self.log.lines(&self.task.context.table, bad, place, now) {
                tracing::warn!("{line}");
            }
        }
        let breaker = self.task.breaker.as_ref();
        match breaker.and_then(|breaker| breaker.bad(offsets.len() as u64, bad, place, now)) {
            Some(trouble) => Err(trouble.stopping(&self.task.context.table)),
            None => Ok(()),
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), RunError> {
        match command {
            Command::Barrier { epoch, last, look } => {
                let mut operators = vec![];
                if !self.end_sent {
                    operators = self.task.chain.barrier(&Barrier { epoch, last, look }, vec![])?;
                    deliver(&mut self.task.chain).await?;
                }
                let state = self.state();
                self.positions.insert(epoch, state.positions.clone());
                let source = Some((self.task.name.clone(), state));
                self.task.reporter.passed(epoch, TaskSnapshot { source, operators, ..TaskSnapshot::default() });
                if last && !self.end_sent {
                    self.reading = Reading::Stopped;
                    self.send_end().await?;
                }
            }
            Command::Committed(epoch) => self.committed(epoch).await,
        }
        Ok(())
    }

    /// Sends the end, once.
    async fn send_end(&mut self) -> Result<(), RunError> {
        if self.end_sent {
            return Ok(());
        }
        self.end_sent = true;
        let operators = self.task.chain.end();
        deliver(&mut self.task.chain).await?;
        let source = Some((self.task.name.clone(), self.state()));
        self.task.reporter.ended(TaskSnapshot { source, operators, ..TaskSnapshot::default() });
        Ok(())
    }

    async fn committed(&mut self, epoch: Epoch) {
        let later = self.positions.split_off(&epoch.next());
        let noted = std::mem::replace(&mut self.positions, later).remove(&epoch);
        let positions = noted.unwrap_or_else(|| self.state().positions);
        let Some(source) = &mut self.source else { return };
        if let Err(error) = source.committed(epoch, &positions).await {
            tracing::warn!("source {}: epoch {epoch} could not be acknowledged: {error}", self.task.name);
        }
    }

    fn state(&self) -> SourceState {
        let ahead = i64::from(planted(Bug::PositionAhead));
        let positions =
            self.splits.iter().filter_map(|split| Some((split.name.to_string(), split.position? + ahead))).collect();
        let watermarks = self.splits.iter().map(|split| (split.name.to_string(), split.watermark)).collect();
        let origin = self.source.as_ref().and_then(|source| source.origin());
        let split_origin = |split: &Split| Some((split.name.to_string(), split.origin.clone()?));
        let split_origins = self.splits.iter().filter_map(split_origin).collect();
        SourceState { positions, origin, split_origins, watermarks }
    }
}

/// Another instance has moved the watermark; never without an event time.
async fn moved(changed: &mut Option<watch::Receiver<EventTime>>) {
    match changed {
        Some(changed) => changed.changed().await,
        None => std::future::pending().await,
    }
}
