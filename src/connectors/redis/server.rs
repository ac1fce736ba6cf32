//! A Redis server: how to connect to it, who it is, and what its errors mean.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisError, TlsCertificates};

use crate::connectors::{ConnectorError, choose_cryptography};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A Redis server.
pub(super) struct Server {
    /// It and its address.
    pub(super) what: String,
    client: Client,
    timeout: Duration,
}

impl Server {
    /// What the options say; connects to nothing.
    pub(super) fn new(
        what: String,
        server: &ConnectionInfo,
        authorities: Option<&Path>,
        timeout: Duration,
    ) -> Result<Server, ConnectorError> {
        choose_cryptography();
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
        Ok(Server { what, client, timeout })
    }

    /// A connection whose answers are not waited for longer than they should take: the other side may be gone without
    /// a word.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, ConnectorError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT.min(self.timeout)))
            .set_response_timeout(Some(self.timeout));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        connection.map_err(|error| self.error(&error))
    }

    /// Which run of which server it is, and which history of writes it follows: after a failover a replica answers that
    /// may not have had the last ones. `None` when it does not say.
    pub(super) async fn identity(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<String>, ConnectorError> {
        let mut lines = vec![];
        for section in ["server", "replication"] {
            match redis::cmd("INFO").arg(section).query_async::<String>(connection).await {
                Ok(text) => {
                    let told =
                        text.lines().filter(|line| line.starts_with("run_id:") || line.starts_with("master_replid:"));
                    lines.extend(told.map(|line| line.trim().to_owned()));
                }
                Err(error) => match self.error(&error) {
                    error @ ConnectorError::Unavailable { .. } => return Err(error),
                    // The user may not ask.
                    _ => return Ok(None),
                },
            }
        }
        Ok((!lines.is_empty()).then(|| lines.join(" ")))
    }

    /// What an error means.
    pub(super) fn error(&self, error: &RedisError) -> ConnectorError {
        connector_error(&self.what, error)
    }
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
    code_error(&what, &message)
}

/// What a server's own words mean: a code and an explanation.
pub(super) fn code_error(what: &str, message: &str) -> ConnectorError {
    let (what, words) = (what.to_string(), message.to_string());
    match message.split(' ').next().unwrap_or_default() {
        "LOADING" | "BUSY" | "OOM" | "MISCONF" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN"
        | "NOREPLICAS" | "UNBLOCKED" => ConnectorError::Unavailable { what, message: words },
        "MOVED" | "ASK" | "CROSSSLOT" => ConnectorError::Refused {
            what,
            message: format!(
                "it is part of a Redis Cluster, which is not supported: name a server of its own, or a proxy in front of \
                 the cluster in 'url' ({words})"
            ),
        },
        "NOPERM" => ConnectorError::Refused {
            what,
            message: format!(
                "{words}. Exactly once needs the rights to EVALSHA, SCRIPT LOAD, HMGET, HSET, HDEL, DEL and TIME beside \
                 those of the writes; 'delivery' = 'at_least_once' does without"
            ),
        },
        _ => ConnectorError::Refused { what, message: words },
    }
}

/// Whether TLS refused what the server showed; it will show the same the next time.
fn is_untrusted(error: &RedisError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData)
}
