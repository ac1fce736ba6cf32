//! The shop of a demo: its past, which is written at once, and from then on its present.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use tokio_util::sync::CancellationToken;

use crate::connectors::ConnectorError;
use crate::connectors::sqlite::embedded_file;
use crate::generator::{self, Destinations, End, Figures, GeneratorOptions, Pace};
use crate::shop::ShopOptions;

/// Events a second of the past, at most: enough to be seen in a chart beside the present.
const PAST_EVENTS_PER_SECOND: f64 = 0.25;

/// Events of the past, however far back it begins: a day's, which are written and pass in a few seconds.
const PAST_EVENTS: f64 = 24.0 * 3600.0 * PAST_EVENTS_PER_SECOND;

/// What a demo's shop does.
pub struct DemoShop {
    /// Where its events go.
    pub destinations: Destinations,
    /// Where its databases are, if they are embedded.
    pub data_dir: PathBuf,
    /// How far back its past begins, unless it has one already.
    pub history: Option<Duration>,
    /// Events a second of its present.
    pub events_per_second: u64,
}

impl DemoShop {
    /// Writes the past, and then the present until `stop` is cancelled.
    pub async fn open(self, stop: CancellationToken) {
        if let Err(error) = self.work(&stop).await
            && !stop.is_cancelled()
        {
            tracing::error!("the shop has closed: {error}");
        }
    }

    async fn work(&self, stop: &CancellationToken) -> Result<(), ConnectorError> {
        if let Some(history) = self.history {
            let now = milliseconds(SystemTime::now());
            let newest = newest_event(&self.data_dir.join(embedded_file("shop"))).await;
            let (start, past) = past(now, history, newest);
            let events_per_second = PAST_EVENTS_PER_SECOND.min(PAST_EVENTS / past.as_secs_f64());
            let pace = Pace::From { start, past_events_per_second: Some(events_per_second) };
            // Nights are quiet in the past. The present is looked at, at whatever hour.
            self.generate(pace, End::Duration(past), true, stop).await?;
        }
        self.generate(Pace::Live, End::Never, false, stop).await
    }

    async fn generate(
        &self,
        pace: Pace,
        end: End,
        rhythm: bool,
        stop: &CancellationToken,
    ) -> Result<(), ConnectorError> {
        let options = GeneratorOptions {
            shop: ShopOptions {
                // Another shop each time: one that is gone on with must not repeat its visitors.
                seed: milliseconds(SystemTime::now()).unsigned_abs(),
                events_per_second: self.events_per_second as f64,
                rhythm,
                ..ShopOptions::default()
            },
            pace,
            end,
            figures: Arc::new(Figures::default()),
        };
        generator::feed(self.destinations.clone(), options, stop.clone()).await
    }
}

/// When a past begins and how long it lasts: it goes back from `now` as far as it is wanted, but not behind the newest
/// event that is there already, or 1970. Times are in milliseconds since then.
fn past(now: i64, history: Duration, newest: Option<i64>) -> (i64, Duration) {
    let wanted = now.saturating_sub(i64::try_from(history.as_millis()).unwrap_or(i64::MAX));
    let start = wanted.max(newest.unwrap_or(0)).max(0);
    (start, Duration::from_millis(now.saturating_sub(start).max(0).unsigned_abs()))
}

/// When the newest event of a shop happened, in milliseconds since 1970; `None` for one without events or tables.
async fn newest_event(file: &Path) -> Option<i64> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.ok()?;
    let newest = "SELECT max(at) FROM (SELECT max(timestamp) AS at FROM userbehavior \
                  UNION ALL SELECT max(transaction_date) FROM \"transaction\")";
    let newest: Option<String> = sqlx::query_scalar(newest).fetch_one(&mut connection).await.ok()?;
    let _ = connection.close().await;
    let newest = NaiveDateTime::parse_from_str(newest?.trim_end_matches('Z'), "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(newest.and_utc().timestamp_millis())
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, SqlSafeStr};

    use super::*;
    use crate::generator::DatabasePlace;

    #[test]
    fn a_past_begins_behind_what_is_there() {
        let (now, hour) = (1_700_000_000_000, Duration::from_secs(3600));
        assert_eq!(past(now, hour, None), (now - 3_600_000, hour));
        assert_eq!(past(now, hour, Some(now - 7_200_000)), (now - 3_600_000, hour));
        assert_eq!(past(now, hour, Some(now - 1000)), (now - 1000, Duration::from_secs(1)));
        assert_eq!(past(now, hour, Some(now + 1000)), (now + 1000, Duration::ZERO));
        assert_eq!(past(now, Duration::MAX, None), (0, Duration::from_millis(now as u64)));
    }

    async fn rows(file: &Path, sql: impl SqlSafeStr) -> i64 {
        let options = SqliteConnectOptions::new().filename(file);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }

    /// Runs a shop with four hours of past until it has come to the present; gives its newest event.
    async fn open_until_now(data_dir: &Path) -> i64 {
        let file = |name| DatabasePlace::File(data_dir.join(embedded_file(name)));
        let shop = DemoShop {
            destinations: Destinations::Databases { shop: file("shop"), crm: Some(file("crm")) },
            data_dir: data_dir.into(),
            history: Some(Duration::from_secs(4 * 3600)),
            events_per_second: 10,
        };
        let began = milliseconds(SystemTime::now());
        let stop = CancellationToken::new();
        let work = tokio::spawn(shop.open(stop.clone()));
        let file = data_dir.join(embedded_file("shop"));
        while newest_event(&file).await.is_none_or(|newest| newest < began) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.cancel();
        work.await.unwrap();
        newest_event(&file).await.unwrap()
    }

    #[tokio::test]
    async fn the_past_is_written_once_and_gone_on_from() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join(embedded_file("shop"));
        assert_eq!(newest_event(&file).await, None, "there is no shop yet");
        let began = milliseconds(SystemTime::now());
        let newest = open_until_now(place.path()).await;
        let oldest = rows(&file, "SELECT unixepoch(min(timestamp)) * 1000 FROM userbehavior").await;
        assert!((began - 4 * 3_600_000 - 1000..began - 3 * 3_600_000).contains(&oldest), "{oldest} and {began}");
        let before = "SELECT count(*) FROM userbehavior WHERE unixepoch(timestamp, 'subsec') * 1000 <=";
        let before = || AssertSqlSafe(format!("{before} {newest}"));
        let first = rows(&file, before()).await;
        assert!(first > 100, "{first}");
        assert!(open_until_now(place.path()).await > newest);
        assert_eq!(rows(&file, before()).await, first, "a past that is there is not written again");
    }
}
