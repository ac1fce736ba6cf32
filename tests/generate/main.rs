//! `acequia generate` against real servers: what stands in the databases and in Kafka is counted apart from what wrote it.

mod command;
mod databases;
#[path = "../servers/kafka.rs"]
mod kafka;
#[path = "../servers/pipeline.rs"]
mod pipeline;
#[path = "../servers/server.rs"]
mod server;
mod topics;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::ConnectorError;
use acequia::generator::{self, DatabasePlace, Destinations, End, Figures, GeneratorOptions, Pace, Written};
use acequia::shop::ShopOptions;
use tokio_util::sync::CancellationToken;

/// 2024-01-01, well in the past: whatever happens from here on is written at once.
const START: i64 = 1_704_067_200_000;
const _: () = assert!(START % 86_400_000 == 0);

/// A generator that hangs ends its test.
const PATIENCE: Duration = Duration::from_secs(240);

fn place(url: &str) -> DatabasePlace {
    DatabasePlace::parse(url, Path::new("/nowhere")).unwrap()
}

/// Shop and CRM in one database.
fn database(url: &str) -> Destinations {
    Destinations::Databases { shop: place(url), crm: Some(place(url)) }
}

/// 100 events a second of the past, so many of them.
fn past(seed: u64, start: i64, events: u64) -> GeneratorOptions {
    GeneratorOptions {
        shop: ShopOptions { seed, events_per_second: 100.0, ..ShopOptions::default() },
        pace: Pace::From { start, past_events_per_second: None },
        end: End::Events(events),
        figures: Arc::new(Figures::default()),
    }
}

/// The events that [`past`] writes.
fn shop_options(seed: u64, start: i64) -> ShopOptions {
    ShopOptions { seed, start, events_per_second: 100.0, ..ShopOptions::default() }
}

/// Generates to the end and gives what is said to be written.
async fn feed(destinations: Destinations, options: GeneratorOptions) -> Result<Written, ConnectorError> {
    let figures = Arc::clone(&options.figures);
    let feeding = generator::feed(destinations, options, CancellationToken::new());
    tokio::time::timeout(PATIENCE, feeding).await.expect("it should have ended")?;
    Ok(figures.now())
}
