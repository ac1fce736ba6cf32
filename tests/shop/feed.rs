//! The shop's events on their way into Kafka, counted as they go.

use std::time::Duration;

use acequia::connectors::kafka::producer::Feeder;
use acequia::shop::{Event, Ledger, ShopEvents, ShopOptions};
use tokio_util::sync::CancellationToken;

/// Length of the windows that are counted, in milliseconds.
const WINDOW: i64 = 30_000;

/// Sends events to a real Kafka, keyed by customer, and counts them.
pub struct Feed {
    events: ShopEvents,
    feeder: Feeder,
    /// What has been sent.
    pub ledger: Ledger,
    /// How many events have been sent.
    pub sent: usize,
    buffer: Vec<u8>,
}

impl Feed {
    pub fn new(servers: &str, options: ShopOptions) -> Feed {
        Feed {
            events: ShopEvents::new(options),
            feeder: Feeder::new(servers, "shop", CancellationToken::new()).unwrap(),
            ledger: Ledger::new(WINDOW),
            sent: 0,
            buffer: vec![],
        }
    }

    /// Sends the next `count` events and waits until Kafka has them; `look` sees each with its JSON.
    pub async fn send(&mut self, count: usize, mut look: impl FnMut(&Event, &[u8])) {
        let catalogue = self.events.catalogue().clone();
        for _ in 0..count {
            self.buffer.clear();
            let (event, time) = self.events.next_into(&mut self.buffer);
            self.ledger.add(&catalogue, &event, time);
            look(&event, &self.buffer);
            let key = catalogue.customers[event.customer()].id.to_string();
            self.feeder.send(event.topic(), Some(key.as_bytes()), &self.buffer).await.unwrap();
        }
        self.feeder.flush().await.unwrap();
        self.sent += count;
    }
}

/// How long a feed may take that waits for brokers.
pub const PATIENCE: Duration = Duration::from_secs(240);
