//! Whole epochs into Redis streams: entries and marker in one script.
//!
//! A large epoch takes several scripts; the marker counts the entries that are there, so that a broken-off epoch goes on
//! behind them. A server that has lost entries has lost their marker too: then they are delivered again.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::RedisOptions;
use super::commands::{Command, Commands};
use super::scripts::chunk;
use super::server::Server;
use super::session::{Fence, Progress, Session, Written};
use crate::connectors::delivery::{EpochSink, Writer};
use crate::connectors::refused_rows::RefusedRows;
use crate::connectors::retry::until_available;
use crate::connectors::{ConnectorError, SinkContext};
use crate::faults::crash_point;
use crate::time::Epoch;

/// Streams that get whole epochs.
pub(super) struct StreamSink {
    commands: Commands,
    refused: RefusedRows,
    streams: Streams,
}

/// A server, and how far its streams are.
struct Streams {
    session: Mutex<Session>,
    settled: Epoch,
    what: String,
    stop: CancellationToken,
}

impl StreamSink {
    /// Connects, fences, and reads the marker; waits for a server that is away.
    pub(super) async fn open(
        what: String,
        options: &RedisOptions,
        server: Server,
        writer: Writer,
        context: &SinkContext,
    ) -> Result<(StreamSink, Option<Epoch>), ConnectorError> {
        let commands = Commands::new(options, &context.schema)?;
        let fence = Fence::new(writer, &context.table, false);
        let session = Mutex::new(Session::new(server, Some(fence)));
        let server = options.what();
        let ready = || async { session.lock().await.ready().await };
        let found = until_available(&server, &context.stop, ready).await?.unwrap_or_default();
        let refused = RefusedRows::new(options.on_error, what);
        let streams = Streams { session, settled: found, what: server, stop: context.stop.clone() };
        Ok((StreamSink { commands, refused, streams }, (found > Epoch(0)).then_some(found)))
    }
}

impl Streams {
    /// Up to where the stream is written after this: `epoch`, or less when the server has lost some of it.
    async fn attempt(&self, epoch: Epoch, commands: &[Command]) -> Result<Epoch, ConnectorError> {
        let mut session = self.session.lock().await;
        if let Some(found) = session.ready().await?
            && found < self.settled
        {
            return Ok(found);
        }
        let mut first = 0;
        loop {
            let some = chunk(&commands[first..]);
            let ends = first + some.len() == commands.len();
            let progress = Progress { epoch, settled: self.settled, first, ends };
            match session.write(some, Some(progress)).await? {
                Written::Done if ends => return Ok(epoch),
                Written::Done => first += some.len(),
                Written::Before => return Ok(epoch),
                Written::Behind(found) => return Ok(found),
                Written::Partly(done) => first = done.min(commands.len()),
            }
            crash_point!("sink.redis.between_chunks");
        }
    }
}

#[async_trait]
impl EpochSink for StreamSink {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let mut commands = vec![];
        for batch in rows {
            commands.extend(self.commands.of(batch, &mut self.refused)?);
        }
        let streams = &mut self.streams;
        let delivered = until_available(&streams.what, &streams.stop, || streams.attempt(epoch, &commands)).await?;
        streams.settled = delivered;
        Ok(delivered)
    }

    async fn settle(&mut self, _now: bool) -> Result<Option<Epoch>, ConnectorError> {
        let streams = &mut self.streams;
        if streams.settled == Epoch(0) {
            return Ok(None);
        }
        // Asks whether the last epoch is there.
        match streams.attempt(streams.settled, &[]).await {
            Ok(found) => streams.settled = found,
            // Nothing waits to be written: there is time until the next look.
            Err(ConnectorError::Unavailable { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Some(streams.settled))
    }

    fn refused(&self) -> u64 {
        self.refused.skipped()
    }
}
