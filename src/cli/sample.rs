//! Generated events for an embedded Kafka, so that a shop's folder shows something with nothing installed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::connectors::ConnectorError;
use crate::connectors::kafka::embedded::Feeder;
use crate::program::Program;
use crate::shop::{ShopEvents, ShopOptions};

/// The topics that the shop's generator fills.
const TOPICS: [&str; 4] = ["transactions", "user_behavior", "searches", "cart_events"];

/// Events are sent in small groups: ten groups a second look steady and cost nothing.
const PAUSE: Duration = Duration::from_millis(100);

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

/// Sends `events_per_second` events of the shop to the embedded Kafka, as they would happen from now on.
pub async fn feed(events_per_second: u64, data_dir: PathBuf, stop: CancellationToken) {
    if let Err(error) = try_feed(events_per_second, &data_dir, &stop).await
        && !stop.is_cancelled()
    {
        tracing::error!("the generated events have stopped: {error}");
    }
}

async fn try_feed(events_per_second: u64, data_dir: &Path, stop: &CancellationToken) -> Result<(), ConnectorError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start = i64::try_from(now.as_millis()).unwrap_or_default();
    let mut events = ShopEvents::new(ShopOptions { start, events_per_second, ..ShopOptions::default() });
    let mut feeder = Feeder::open(data_dir, stop.clone()).await?;
    let mut ticks = tokio::time::interval(PAUSE);
    let mut due = Due::new(events_per_second);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        for event in events.by_ref().take(due.next(PAUSE)) {
            feeder.send(event.topic, Some(event.key.as_bytes()), &event.value).await?;
        }
        feeder.flush().await?;
    }
}

/// How many events are due, so that the rate holds however it divides by the pauses.
struct Due {
    per_second: u64,
    /// In thousandths of an event.
    owed: u64,
}

impl Due {
    fn new(per_second: u64) -> Due {
        Due { per_second, owed: 0 }
    }

    fn next(&mut self, passed: Duration) -> usize {
        self.owed += self.per_second * passed.as_millis() as u64;
        let due = self.owed / 1000;
        self.owed %= 1000;
        due as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_a_second() {
        for rate in [1, 3, 10, 25, 1001] {
            let mut due = Due::new(rate);
            let sent: usize = (0..20).map(|_| due.next(PAUSE)).sum();
            assert_eq!(sent as u64, 2 * rate, "{rate}");
        }
    }

    #[test]
    fn only_the_shops_topics_are_filled() {
        assert!(is_shops("kafka topic transactions (embedded)"));
        assert!(is_shops("kafka topics clicks, searches (embedded)"));
        assert!(!is_shops("kafka topic transaction_items (embedded)"));
    }
}
