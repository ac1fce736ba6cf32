//! Events into Kafka's topics, each with its customer's id as its key.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::Flush;
use crate::connectors::ConnectorError;
use crate::connectors::kafka::embedded;
use crate::connectors::kafka::producer::Feeder;
use crate::shop::{Event, ShopEvents};

/// The name that brokers see.
const CLIENT: &str = "acequia-generate";

pub(super) struct Topics {
    broker: Broker,
    /// By customer: the key.
    keys: Vec<String>,
    buffer: Vec<u8>,
}

enum Broker {
    Servers(Feeder),
    Embedded(embedded::Feeder),
}

impl Topics {
    pub(super) fn of_servers(
        bootstrap_servers: &str,
        shop: &ShopEvents,
        stop: &CancellationToken,
    ) -> Result<Topics, ConnectorError> {
        Ok(Topics::of(Broker::Servers(Feeder::new(bootstrap_servers, CLIENT, stop.clone())?), shop))
    }

    pub(super) async fn embedded(
        data_dir: &Path,
        shop: &ShopEvents,
        stop: &CancellationToken,
    ) -> Result<Topics, ConnectorError> {
        Ok(Topics::of(Broker::Embedded(embedded::Feeder::open(data_dir, stop.clone()).await?), shop))
    }

    fn of(broker: Broker, shop: &ShopEvents) -> Topics {
        let keys = shop.catalogue().customers.iter().map(|customer| customer.id.to_string()).collect();
        Topics { broker, keys, buffer: vec![] }
    }

    pub(super) async fn write(
        &mut self,
        events: &[(Event, i64)],
        shop: &ShopEvents,
        flush: Flush,
    ) -> Result<(), ConnectorError> {
        for (event, at) in events {
            self.buffer.clear();
            shop.write_json(event, *at, &mut self.buffer);
            let key = self.keys[event.customer()].as_bytes();
            match &mut self.broker {
                Broker::Servers(feeder) => feeder.send(event.topic(), Some(key), &self.buffer).await?,
                Broker::Embedded(feeder) => feeder.send(event.topic(), Some(key), &self.buffer).await?,
            }
        }
        match (&mut self.broker, flush) {
            (Broker::Servers(feeder), Flush::Now) => feeder.flush().await,
            (Broker::Servers(feeder), Flush::Later) => feeder.check(),
            (Broker::Embedded(feeder), Flush::Now) => feeder.flush().await,
            // Full batches are written by themselves, and what is wrong is told at once.
            (Broker::Embedded(_), Flush::Later) => Ok(()),
        }
    }
}
