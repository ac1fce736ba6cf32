//! Generated events for an embedded Kafka, so that a shop's folder shows something with nothing installed.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::generator::{self, Destinations, End, Figures, GeneratorOptions, Pace};
use crate::program::Program;
use crate::shop::ShopOptions;

/// The topics that the shop's generator fills.
const TOPICS: [&str; 4] = ["transactions", "user_behavior", "searches", "cart_events"];

/// Whether the program reads a topic of the shop from the embedded Kafka.
pub fn is_wanted(program: &Program) -> bool {
    program.tables.iter().any(|table| {
        table.connector.embedded() == Some("Kafka")
            && table.connector.source().is_some_and(|source| is_shops(&source.describe()))
    })
}

/// `kafka topic transactions (embedded)` is; so is a list of topics with one of the shop's among them.
fn is_shops(description: &str) -> bool {
    description.split([' ', ',']).any(|word| TOPICS.contains(&word))
}

/// Sends `events_per_second` events of the shop to the embedded Kafka, as they happen from now on.
pub async fn feed(events_per_second: u64, stop: CancellationToken) {
    let destinations = Destinations::Topics { bootstrap_servers: "embedded".into() };
    let options = GeneratorOptions {
        shop: ShopOptions { events_per_second: events_per_second as f64, ..ShopOptions::default() },
        pace: Pace::Live,
        end: End::Never,
        figures: Arc::new(Figures::default()),
    };
    if let Err(error) = generator::feed(destinations, options, stop.clone()).await
        && !stop.is_cancelled()
    {
        tracing::error!("the generated events have stopped: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shops_topics_are_filled() {
        assert!(is_shops("kafka topic transactions (embedded)"));
        assert!(is_shops("kafka topics clicks, searches (embedded)"));
        assert!(!is_shops("kafka topic transaction_items (embedded)"));
    }
}
