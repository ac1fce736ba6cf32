//! Rows into Redis or its stand-in.

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::RedisOptions;
use super::commands::Commands;
use super::embedded::{self, Store};
use super::server::Server;
use crate::connectors::refused_rows::RefusedRows;
use crate::connectors::{ConnectorError, Sink, SinkContext};

/// Writes batches as they come: what is read from Redis should be as fresh as can be.
pub(super) struct RedisSink {
    commands: Commands,
    refused: RefusedRows,
    destination: Destination,
}

enum Destination {
    Server(Box<Server>),
    Embedded(&'static Store),
}

impl RedisSink {
    /// Connects; waits for a server that is away.
    pub(super) async fn open(
        what: String,
        options: &RedisOptions,
        context: SinkContext,
    ) -> Result<RedisSink, ConnectorError> {
        let commands = Commands::new(options, &context.schema)?;
        let destination = match &options.server {
            Some(server) => {
                let authorities = options.ca_certificate.as_deref();
                let server = Server::open(options.what(), server, authorities, context.stop).await?;
                Destination::Server(Box::new(server))
            }
            None => Destination::Embedded(embedded::store()),
        };
        Ok(RedisSink { commands, refused: RefusedRows::new(options.on_error, what), destination })
    }
}

#[async_trait]
impl Sink for RedisSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        let commands = self.commands.of(&batch, &mut self.refused)?;
        if commands.is_empty() {
            return Ok(());
        }
        match &self.destination {
            Destination::Server(server) => server.send(&commands).await,
            Destination::Embedded(store) => {
                store.apply(commands);
                Ok(())
            }
        }
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }
}
