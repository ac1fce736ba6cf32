//! A Redis server: a connection that is made again when it is lost, and what its errors mean.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, Pipeline, RedisError, TlsCertificates};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::commands::Command;
use crate::connectors::ConnectorError;
use crate::connectors::retry::until_available;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A pipeline of a whole batch on a busy server takes longer than one command.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A Redis server.
pub(super) struct Server {
    what: String,
    client: Client,
    /// `None` after an error: the next write connects again.
    connection: Mutex<Option<MultiplexedConnection>>,
    stop: CancellationToken,
}

impl Server {
    /// Connects; waits for a server that is away.
    pub(super) async fn open(
        what: String,
        server: &ConnectionInfo,
        authorities: Option<&Path>,
        stop: CancellationToken,
    ) -> Result<Server, ConnectorError> {
        let client = match authorities {
            None => Client::open(server.clone()),
            Some(path) => {
                let root_cert = std::fs::read(path).map_err(|error| ConnectorError::Refused {
                    what: what.clone(),
                    message: format!("'ca_certificate' {}: {error}", path.display()),
                })?;
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
                Client::build_with_tls(server.clone(), certificates)
            }
        };
        let client = client.map_err(|error| connector_error(&what, &error))?;
        let server = Server { what, client, connection: Mutex::new(None), stop };
        let attempt = || async {
            let mut slot = server.connection.lock().await;
            *slot = Some(server.connect().await?);
            Ok(())
        };
        until_available(&server.what, &server.stop, attempt).await?;
        Ok(server)
    }

    /// Sends the commands in one round trip, and again until the server has carried them out.
    pub(super) async fn send(&self, commands: &[Command]) -> Result<(), ConnectorError> {
        let pipeline = pipeline(commands);
        until_available(&self.what, &self.stop, || self.try_send(&pipeline)).await
    }

    async fn try_send(&self, pipeline: &Pipeline) -> Result<(), ConnectorError> {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        match pipeline.exec_async(&mut connection).await {
            Ok(()) => {
                *slot = Some(connection);
                Ok(())
            }
            Err(error) => Err(connector_error(&self.what, &error)),
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, ConnectorError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        connection.map_err(|error| connector_error(&self.what, &error))
    }
}

fn pipeline(commands: &[Command]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    let milliseconds = |ttl: &Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
    for command in commands {
        match command {
            Command::Set { key, value, ttl } => {
                pipeline.cmd("SET").arg(key).arg(value);
                if let Some(ttl) = ttl {
                    pipeline.arg("PX").arg(milliseconds(ttl));
                }
                pipeline.ignore();
            }
            Command::Hash { key, fields, absent, ttl } => {
                if !fields.is_empty() {
                    pipeline.cmd("HSET").arg(key);
                    for (name, value) in fields {
                        pipeline.arg(name).arg(value);
                    }
                    pipeline.ignore();
                }
                if !absent.is_empty() {
                    pipeline.cmd("HDEL").arg(key).arg(absent).ignore();
                }
                if let Some(ttl) = ttl {
                    pipeline.cmd("PEXPIRE").arg(key).arg(milliseconds(ttl)).ignore();
                }
            }
            Command::Add { key, fields, max_length } => {
                pipeline.cmd("XADD").arg(key);
                if let Some(most) = max_length {
                    pipeline.arg("MAXLEN").arg("~").arg(*most);
                }
                pipeline.arg("*");
                for (name, value) in fields {
                    pipeline.arg(name).arg(value);
                }
                pipeline.ignore();
            }
            Command::Publish { channel, message } => {
                pipeline.cmd("PUBLISH").arg(channel).arg(message).ignore();
            }
        }
    }
    pipeline
}

/// A server that is away, loading, full or a replica right now is waited for; all else needs a person.
fn connector_error(what: &str, error: &RedisError) -> ConnectorError {
    let what = what.to_string();
    let server = error.clone().into_server_errors().and_then(|errors| errors.first().cloned());
    let Some((_, server)) = server else {
        let message = error.to_string();
        return match error.kind() {
            ErrorKind::Io if is_untrusted(error) => ConnectorError::Refused { what, message },
            ErrorKind::Io | ErrorKind::Parse => ConnectorError::Unavailable { what, message },
            _ => ConnectorError::Refused { what, message },
        };
    };
    let message = match server.details() {
        Some(details) => format!("{} {details}", server.code()),
        None => server.code().to_string(),
    };
    match server.code() {
        "LOADING" | "BUSY" | "OOM" | "MISCONF" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN"
        | "NOREPLICAS" => ConnectorError::Unavailable { what, message },
        _ => ConnectorError::Refused { what, message },
    }
}

/// Whether TLS refused what the server showed; it will show the same the next time.
fn is_untrusted(error: &RedisError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData)
}
