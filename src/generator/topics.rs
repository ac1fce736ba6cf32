//! Events into Kafka's topics, each with its customer's id as its key.

use tokio_util::sync::CancellationToken;

use super::Flush;
use crate::connectors::ConnectorError;
use crate::connectors::kafka::producer::Feeder;
use crate::shop::{Event, ShopEvents};

/// The name that brokers see.
const CLIENT: &str = "acequia-generate";

pub(super) struct Topics {
    feeder: Feeder,
    /// By customer: the key.
    keys: Vec<String>,
    buffer: Vec<u8>,
}

impl Topics {
    pub(super) fn open(
        bootstrap_servers: &str,
        shop: &ShopEvents,
        stop: &CancellationToken,
    ) -> Result<Topics, ConnectorError> {
        let keys = shop.catalogue().customers.iter().map(|customer| customer.id.to_string()).collect();
        Ok(Topics { feeder: Feeder::new(bootstrap_servers, CLIENT, stop.clone())?, keys, buffer: vec![] })
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
            self.feeder.send(event.topic(), Some(key), &self.buffer).await?;
        }
        match flush {
            Flush::Now => self.feeder.flush().await,
            Flush::Later => self.feeder.check(),
        }
    }
}
