//! Rows into Redis or its stand-in, as they come.

use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::RedisOptions;
use super::commands::{Command, Commands};
use super::current::CurrentState;
use super::embedded::{self, Store};
use super::scripts::chunk;
use super::session::{Fence, Session};
use crate::connectors::delivery::Promise;
use crate::connectors::refused_rows::RefusedRows;
use crate::connectors::retry::until_available;
use crate::connectors::{ConnectorError, Sink, SinkContext};
use crate::faults::crash_point;

/// A server that gets no rows is asked so often whether it still has those that it got.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Writes batches as they come: what is read from Redis should be as fresh as can be.
pub(super) struct RedisSink {
    commands: Commands,
    refused: RefusedRows,
    destination: Destination,
}

enum Destination {
    Server(Box<Channel>),
    Embedded(&'static Store),
}

/// A server, and what it should hold.
struct Channel {
    session: Mutex<Session>,
    current: CurrentState,
    what: String,
    looked: Instant,
    stop: CancellationToken,
}

impl RedisSink {
    /// Connects; waits for a server that is away.
    pub(super) async fn open(
        what: String,
        options: &RedisOptions,
        context: SinkContext,
    ) -> Result<RedisSink, ConnectorError> {
        let commands = Commands::new(options, &context.schema)?;
        let destination = match options.connect_to()? {
            Some(server) => {
                let writer = context.writer.filter(|_| options.promise == Promise::ExactlyOnce);
                let fence = writer.map(|writer| Fence::new(writer, &context.table, true));
                let channel = Channel {
                    session: Mutex::new(Session::new(server, fence)),
                    current: CurrentState::new(what.clone(), options.republish_limit),
                    what: options.what(),
                    looked: Instant::now(),
                    stop: context.stop,
                };
                channel.bring(&[]).await?;
                Destination::Server(Box::new(channel))
            }
            None => Destination::Embedded(embedded::store()),
        };
        Ok(RedisSink { commands, refused: RefusedRows::new(options.on_error, what), destination })
    }
}

impl Channel {
    /// Has the server carry out the commands, and all that it should hold if it may have lost that.
    async fn bring(&self, commands: &[Command]) -> Result<(), ConnectorError> {
        until_available(&self.what, &self.stop, || self.attempt(commands)).await
    }

    async fn attempt(&self, commands: &[Command]) -> Result<(), ConnectorError> {
        let mut session = self.session.lock().await;
        session.ready().await?;
        if session.lost {
            let current = self.current.commands();
            let keys = current.len();
            in_chunks(&mut session, &current).await?;
            session.lost = false;
            tracing::info!("{}: it may have lost data, so that {keys} keys were published again", self.what);
        }
        if commands.is_empty() {
            session.write(commands, None).await?;
        }
        in_chunks(&mut session, commands).await
    }
}

async fn in_chunks(session: &mut Session, mut commands: &[Command]) -> Result<(), ConnectorError> {
    while !commands.is_empty() {
        let some = chunk(commands);
        session.write(some, None).await?;
        crash_point!("sink.redis.between_chunks");
        commands = &commands[some.len()..];
    }
    Ok(())
}

#[async_trait]
impl Sink for RedisSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        let commands = self.commands.of(&batch, &mut self.refused)?;
        if commands.is_empty() {
            return Ok(());
        }
        match &mut self.destination {
            Destination::Server(channel) => {
                channel.bring(&commands).await?;
                channel.looked = Instant::now();
                channel.current.keep(commands);
            }
            Destination::Embedded(store) => store.apply(commands),
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        let Destination::Server(channel) = &mut self.destination else { return Ok(()) };
        if channel.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        channel.looked = Instant::now();
        match channel.attempt(&[]).await {
            // Nothing waits to be written: there is time until the next look.
            Err(ConnectorError::Unavailable { .. }) => Ok(()),
            looked => looked,
        }
    }

    fn refused(&self) -> u64 {
        self.refused.skipped()
    }
}
