//! Whether a Kafka answers, for the page: a client that asks for its brokers and nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;

use super::client;
use super::options::KafkaOptions;
use crate::connectors::ConnectorError;
use crate::connectors::looking::{PATIENCE, Reach};

/// Asks the brokers of a table.
pub(super) struct KafkaReach {
    options: KafkaOptions,
    client: Option<Arc<BaseConsumer<Quiet>>>,
}

impl KafkaReach {
    pub(super) fn new(options: KafkaOptions) -> KafkaReach {
        KafkaReach { options, client: None }
    }
}

/// Whoever asks is told: an outage is no line in the log.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", "{facility}: {message}");
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{reason}");
    }
}

impl ConsumerContext for Quiet {}

#[async_trait]
impl Reach for KafkaReach {
    fn place(&self) -> String {
        client::server_name(&self.options.servers)
    }

    async fn answers(&mut self) -> Result<(), ConnectorError> {
        let what = self.place();
        let client = match &self.client {
            Some(client) => Arc::clone(client),
            None => {
                let config = client::consumer(&self.options, "acequia-page", "acequia-page")?;
                let client = BaseConsumer::from_config_and_context(&config, Quiet)
                    .map_err(|error| client::unusable(&what, &error))?;
                Arc::clone(self.client.insert(Arc::new(client)))
            }
        };
        let asked = tokio::task::spawn_blocking(move || client.fetch_metadata(None, PATIENCE)).await;
        match asked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let message = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
                Err(ConnectorError::Unavailable { what, message })
            }
            Err(panic) => Err(ConnectorError::Unavailable { what, message: panic.to_string() }),
        }
    }

    fn rest(&mut self) {
        // Taking a client down waits for its threads.
        if let Some(client) = self.client.take() {
            drop(tokio::task::spawn_blocking(move || drop(client)));
        }
    }
}
