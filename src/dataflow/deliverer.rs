//! The task that talks to a destination: takes what waits in a sink's [`Outbox`] and brings it there.
//!
//! It opens the sink, which fences earlier runs, and starts from the marker that it finds. A destination that is away
//! holds up this task and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::checkpointer::Note;
use super::lost_output::goes_on_after;
use super::outbox::{Backlog, Outbox, Work};
use super::statistics::NodeStatistics;
use crate::checkpoint::log::{CheckpointError, OutboxReader};
use crate::connectors::delivery::{Delivery, EpochSink, OpenSink};
use crate::connectors::{ConnectorError, Sink, SinkContext, SinkFactory};
use crate::faults::crash_point;
use crate::time::Epoch;

/// How often a sink that gathers epochs is asked to settle what is due.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// So many bytes of rows that have fallen behind are delivered as one; and always a whole epoch.
const GATHERED: usize = 8 << 20;

/// What a deliverer needs.
pub struct Deliverer {
    /// The sink's identity.
    pub name: String,
    /// Opens the sink.
    pub factory: Arc<dyn SinkFactory>,
    /// What it is told.
    pub context: SinkContext,
    /// What waits.
    pub outbox: Arc<Outbox>,
    /// Reads durable epochs back; `None` when the run keeps no checkpoints.
    pub log: Option<OutboxReader>,
    /// Go on where the destination lacks rows that are kept no more.
    pub accept_lost_output: bool,
    /// To the checkpointer: what is settled.
    pub notes: Option<mpsc::UnboundedSender<Note>>,
    /// How long rows may wait before they are flushed.
    pub linger: Duration,
    /// The node's figures.
    pub statistics: Arc<NodeStatistics>,
    /// Cancelled when the sink has opened.
    pub opened: CancellationToken,
    /// Cancelled when no other sink refuses the run, and rows may be written.
    pub go: CancellationToken,
    /// Cancelled to stop in order.
    pub drain: CancellationToken,
}

impl Deliverer {
    /// Delivers until the outbox is closed and empty; then closes the sink.
    ///
    /// # Errors
    /// What the sink or the log says.
    pub async fn run(self) -> Result<(), RunError> {
        let opened = tokio::select! {
            biased;
            opened = self.open() => opened.map_err(|source| self.failed(source))?,
            // Without rows for it, a server that is away holds up no stop in order. Otherwise the sink is opened even
            // then: a table that gets no rows is made, too.
            () = self.nothing_to_come() => return Ok(()),
        };
        self.opened.cancel();
        tokio::select! {
            biased;
            () = self.go.cancelled() => {}
            () = self.context.stop.cancelled() => return Ok(()),
        }
        match (opened, self.outbox.delivery()) {
            (OpenSink::AtOnce(sink), Delivery::AtOnce) => self.at_once(sink).await,
            (OpenSink::PerEpoch { sink, settled }, Delivery::PerEpoch) => self.per_epoch(sink, settled).await,
            _ => {
                Err(RunError::Panic { node: self.name.clone(), message: "a sink of another kind than it said".into() })
            }
        }
    }

    async fn open(&self) -> Result<OpenSink, ConnectorError> {
        let _call = self.statistics.delivery.call.begin();
        self.factory.open(self.context.clone()).await
    }

    fn failed(&self, source: ConnectorError) -> RunError {
        RunError::Connector { node: self.name.clone(), source }
    }

    /// The run is told to stop, and nothing waits or will wait.
    async fn nothing_to_come(&self) {
        self.drain.cancelled().await;
        while !self.outbox.is_closed_and_empty() {
            self.outbox.wait().await;
        }
    }

    async fn at_once(&self, mut sink: Box<dyn Sink>) -> Result<(), RunError> {
        let failed = |source| self.failed(source);
        // When the oldest row that is not flushed has waited long enough.
        let mut flush_at: Option<Instant> = None;
        loop {
            // First, so that a steady stream does not put it off.
            if flush_at.is_some_and(|at| at <= Instant::now()) {
                self.flush(sink.as_mut()).await?;
                flush_at = self.again(sink.as_ref());
            }
            match self.outbox.next() {
                Some(Work::Write(batch)) => {
                    let rows = batch.num_rows() as u64;
                    let call = self.statistics.delivery.call.begin();
                    sink.write(batch).await.map_err(failed)?;
                    drop(call);
                    self.statistics.rows_out.fetch_add(rows, Ordering::Relaxed);
                    flush_at.get_or_insert_with(|| Instant::now() + self.linger);
                }
                Some(Work::Load(epoch)) => self.outbox.reload(epoch, self.read(epoch).await?),
                Some(Work::Flush) => {
                    self.flush(sink.as_mut()).await?;
                    flush_at = self.again(sink.as_ref());
                }
                // The next epoch says so: told to the log by itself, it might come after an epoch that rests on it.
                Some(Work::Settled(epoch)) => self.statistics.delivery.settled(epoch, 0),
                Some(Work::Close) => {
                    self.flush(sink.as_mut()).await?;
                    sink.close().await.map_err(failed)?;
                    // No epoch comes that could say so.
                    if let Some(confirmed) = self.outbox.confirmed() {
                        self.note(confirmed);
                    }
                    return Ok(());
                }
                Some(Work::Deliver(..)) | None => {
                    tokio::select! {
                        biased;
                        // A call that waits for its server watches the same token: none is cut off in the middle.
                        () = self.context.stop.cancelled() => return Ok(()),
                        () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {}
                        () = self.outbox.wait() => {}
                    }
                }
            }
        }
    }

    async fn per_epoch(&self, mut sink: Box<dyn EpochSink>, marker: Option<Epoch>) -> Result<(), RunError> {
        let failed = |source| self.failed(source);
        let found = marker;
        let marker = self.known_to_have(found)?;
        // Rows up to there are in no destination of this sink's, or in one without a marker: one that gathers says for a
        // while that it has nothing, which does not mean that these are lost.
        let floor = marker.filter(|marker| Some(*marker) > found).unwrap_or_default();
        if let Some(log) = &self.log {
            self.outbox.lacks(log.epochs(&self.name, marker.unwrap_or_default()));
        }
        if let Some(marker) = marker {
            self.settle(marker)?;
        }
        crash_point!("deliverer.after_fence");
        let mut settle_at = Instant::now() + SETTLE_EVERY;
        loop {
            if settle_at <= Instant::now() {
                settle_at = Instant::now() + SETTLE_EVERY;
                if let Some(settled) = sink.settle(false).await.map_err(failed)? {
                    self.settle(settled.max(floor))?;
                }
            }
            match self.outbox.next() {
                Some(Work::Deliver(epoch, rows)) => {
                    let most = if sink.takes_several() { GATHERED } else { 0 };
                    let (epoch, rows) = self.gather(epoch, rows, most).await?;
                    crash_point!("deliverer.before_deliver");
                    let call = self.statistics.delivery.call.begin();
                    let settled = sink.deliver(epoch, &rows).await.map_err(failed)?;
                    drop(call);
                    crash_point!("deliverer.after_deliver");
                    let delivered: usize = rows.iter().map(RecordBatch::num_rows).sum();
                    self.statistics.rows_out.fetch_add(delivered as u64, Ordering::Relaxed);
                    self.settle(settled.max(floor))?;
                }
                Some(Work::Close) => {
                    if let Some(settled) = sink.settle(true).await.map_err(failed)? {
                        self.settle(settled.max(floor))?;
                    }
                    if self.outbox.is_closed_and_empty() {
                        return sink.close().await.map_err(failed);
                    }
                    sleep_until(settle_at).await;
                }
                _ => {
                    tokio::select! {
                        biased;
                        () = self.context.stop.cancelled() => return Ok(()),
                        () = self.outbox.wait() => {}
                        () = sleep_until(settle_at) => {}
                    }
                }
            }
        }
    }

    /// An epoch with those that wait behind it, up to `most` bytes, as one: a destination whose transactions take longer
    /// than epochs do would otherwise fall behind without end, whatever it could take at once. Returns the last of them
    /// with the rows of all.
    async fn gather(
        &self,
        first: Epoch,
        rows: Option<Vec<RecordBatch>>,
        most: usize,
    ) -> Result<(Epoch, Vec<RecordBatch>), RunError> {
        let (mut last, mut gathered, mut bytes) = (first, vec![], 0);
        let mut next = Some((first, rows));
        while let Some((epoch, rows)) = next {
            let rows = match rows {
                Some(rows) => rows,
                None => self.read(epoch).await?,
            };
            last = epoch;
            bytes += rows.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
            gathered.extend(rows);
            next = if bytes < most { self.outbox.next_behind() } else { None };
        }
        Ok((last, gathered))
    }

    /// When to flush again what a flush has not brought in.
    fn again(&self, sink: &dyn Sink) -> Option<Instant> {
        sink.holds_back().then(|| Instant::now() + self.linger)
    }

    async fn flush(&self, sink: &mut dyn Sink) -> Result<(), RunError> {
        let call = self.statistics.delivery.call.begin();
        sink.flush().await.map_err(|source| self.failed(source))?;
        drop(call);
        let rows = self.outbox.confirm();
        self.statistics.delivery.delivered_rows.fetch_add(rows, Ordering::Relaxed);
        self.show_backlog();
        Ok(())
    }

    fn settle(&self, settled: Epoch) -> Result<(), RunError> {
        let kept = |after| {
            let after = self.known_to_have(Some(after))?.unwrap_or_default();
            Ok::<_, RunError>(self.log.as_ref().map(|log| log.epochs(&self.name, after)).unwrap_or_default())
        };
        let rows = self.outbox.settle(settled, kept)?;
        self.statistics.delivery.settled(settled, rows);
        self.show_backlog();
        self.note(settled);
        Ok(())
    }

    /// The epoch after which the destination gets rows, given its marker: an error if some are kept no more, unless that is
    /// accepted.
    fn known_to_have(&self, marker: Option<Epoch>) -> Result<Option<Epoch>, RunError> {
        let Some(log) = &self.log else { return Ok(marker) };
        match goes_on_after(marker, log.confirmed(&self.name)) {
            Ok(marker) => Ok(marker),
            Err(lost) if self.accept_lost_output => {
                tracing::warn!("{}: {lost}: accepted", self.factory.describe());
                Ok(Some(lost.accepted()))
            }
            Err(lost) => {
                Err(self.failed(ConnectorError::Mismatch { what: self.factory.describe(), message: lost.to_string() }))
            }
        }
    }

    fn show_backlog(&self) {
        let Backlog { epochs, rows, bytes } = self.outbox.backlog();
        self.statistics.delivery.waits(epochs, rows, bytes);
    }

    fn note(&self, settled: Epoch) {
        if let Some(notes) = &self.notes {
            // Nobody listens any more only when the run is being stopped.
            let _ = notes.send(Note::Settled(self.name.clone(), settled));
        }
    }

    async fn read(&self, epoch: Epoch) -> Result<Vec<RecordBatch>, RunError> {
        let Some(log) = &self.log else { return Ok(vec![]) };
        let rows = log.read(&self.name, epoch).await?;
        if rows.is_empty() {
            // Nothing waits that has no rows: to go on would lose some.
            let lost = format!("the rows of epoch {epoch} that wait for {} are not in the checkpoints", self.name);
            return Err(CheckpointError::Damaged(lost).into());
        }
        Ok(rows)
    }
}
