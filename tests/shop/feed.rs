//! The shop's events on their way into Kafka or into its databases, counted as they go.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use acequia::connectors::kafka::producer::Feeder;
use acequia::generator::{self, DatabasePlace, Destinations, End, GeneratorOptions, Pace};
use acequia::shop::{Catalogue, Event, Ledger, ShopEvents, ShopOptions};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::results::canonical;

/// Length of the windows that are counted, in milliseconds.
const WINDOW: i64 = 30_000;

/// How long a feed may take that waits for brokers.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// What has been sent, and what must therefore come out.
pub struct Sent {
    pub ledger: Ledger,
    /// How many events.
    pub count: usize,
    /// By topic, the JSON of each event in the order of its keys, and how often it was sent.
    pub events: BTreeMap<&'static str, BTreeMap<String, usize>>,
}

impl Sent {
    pub fn nothing() -> Sent {
        Sent { ledger: Ledger::new(WINDOW), count: 0, events: BTreeMap::new() }
    }

    /// How many rows of the warehouse these make: the events and the items of transactions.
    pub fn rows(&self) -> i64 {
        self.count as i64 + self.ledger.items as i64
    }

    pub fn add(&mut self, catalogue: &Catalogue, event: &Event, event_time: i64, json: &Value) {
        self.ledger.add(catalogue, event, event_time);
        self.count += 1;
        *self.events.entry(event.topic()).or_default().entry(canonical(json)).or_default() += 1;
    }
}

/// Sends events to a real Kafka, keyed by customer, and counts them.
pub struct Feed {
    events: ShopEvents,
    feeder: Feeder,
    /// What has been sent.
    pub ledger: Ledger,
    buffer: Vec<u8>,
}

impl Feed {
    pub fn new(servers: &str, options: ShopOptions) -> Feed {
        Feed {
            events: ShopEvents::new(options),
            feeder: Feeder::new(servers, "shop", CancellationToken::new()).unwrap(),
            ledger: Ledger::new(WINDOW),
            buffer: vec![],
        }
    }

    /// Sends the next `count` events and waits until Kafka has them; `look` sees each with its time and JSON.
    pub async fn send(&mut self, count: usize, mut look: impl FnMut(&Catalogue, &Event, i64, &[u8])) {
        let catalogue = self.events.catalogue().clone();
        for _ in 0..count {
            self.buffer.clear();
            let (event, time) = self.events.next_into(&mut self.buffer);
            self.ledger.add(&catalogue, &event, time);
            look(&catalogue, &event, time, &self.buffer);
            let key = catalogue.customers[event.customer()].id.to_string();
            self.feeder.send(event.topic(), Some(key.as_bytes()), &self.buffer).await.unwrap();
        }
        self.feeder.flush().await.unwrap();
    }
}

/// Writes `count` events of a past into the shop's and the CRM's databases, as `acequia generate` does, at full speed.
/// `sent` gets them from a generator of its own: of that of the databases it only knows the options.
pub async fn write(shop: &str, crm: &str, options: &ShopOptions, count: usize, sent: &mut Sent) -> Vec<Value> {
    let place = |url| DatabasePlace::parse(url, Path::new("unused")).unwrap();
    let destinations = Destinations::Databases { shop: place(shop), crm: Some(place(crm)) };
    let pace = Pace::From { start: options.start, past_events_per_second: None };
    let end = End::Events(count as u64);
    let generator = GeneratorOptions { shop: options.clone(), pace, end, figures: Default::default() };
    generator::feed(destinations, generator, CancellationToken::new()).await.unwrap();

    let before: u64 = sent.ledger.windows.values().map(|window| window.transactions).sum();
    let mut events = ShopEvents::new(options.clone());
    let catalogue = events.catalogue().clone();
    let mut written = vec![];
    for _ in 0..count {
        let mut json = vec![];
        let (event, time) = events.next_into(&mut json);
        let mut json: Value = serde_json::from_slice(&json).unwrap();
        if let Event::Transaction(transaction) = &event {
            // The database goes on counting.
            json["transaction_id"] = (before + transaction.id).into();
        }
        // The generator writes milliseconds that are none; a sink does not.
        json["timestamp"] = json["timestamp"].as_str().unwrap().replace(".000Z", "Z").into();
        sent.add(&catalogue, &event, time, &json);
        written.push(json);
    }
    written
}
