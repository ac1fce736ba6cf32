//! Everything that the warehouse has, by hour, without reading everything again and again.
//!
//! Rows are counted once, in the order of their ids and some at a time; what was counted stays in memory. A row whose
//! transaction commits late may appear behind newer ones, so that the newest ids are counted anew at each look until
//! they have been there for [`SETTLED_AFTER`], or [`CHUNK`] newer ones are. What is deleted or changed later is noticed
//! when the greatest id is less than before, and else by counting everything again, at leisure, every [`AGAIN_EVERY`].

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Warehouse, sql};
use crate::page::part::Part;

/// So many ids are counted by one query, at most.
const CHUNK: i64 = 200_000;
/// And at least, when larger ones take too long.
const SMALLEST_CHUNK: i64 = 2_000;
/// An id below one that was seen so long ago does not appear any more.
const SETTLED_AFTER: Duration = Duration::from_secs(30);
/// How often all is counted again.
const AGAIN_EVERY: Duration = Duration::from_secs(600);
/// So many queries of that a look.
const CHUNKS_A_LOOK: usize = 5;

/// One hour's events.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hour {
    /// All.
    pub events: i64,
    /// Transactions.
    pub transactions: i64,
    /// Neither transactions nor their items.
    pub behavior: i64,
    /// The time of the first, as text.
    pub first: String,
    /// The time of the last, as text.
    pub last: String,
}

/// Events by hour.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// By the hour's start in seconds since 1970; a time that is none, which only SQLite can hold, has no hour.
    pub hours: BTreeMap<Option<i64>, Hour>,
    /// The customers who have an event.
    pub customers: HashSet<i64>,
    /// All ids up to this one are counted.
    pub(crate) through: i64,
}

/// Totals over all hours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// All events.
    pub events: i64,
    /// Transactions.
    pub transactions: i64,
    /// Neither transactions nor their items.
    pub behavior: i64,
    /// Customers with an event.
    pub customers: usize,
    /// Days with an event.
    pub active_days: usize,
    /// The time of the first event, as text; `None` without events.
    pub first: Option<String>,
    /// The time of the last.
    pub last: Option<String>,
}

impl Tally {
    /// Nothing, before `id`.
    fn before(id: i64) -> Tally {
        Tally { through: id - 1, ..Tally::default() }
    }

    /// The totals.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { customers: self.customers.len(), ..Totals::default() };
        for hour in self.hours.values() {
            totals.events += hour.events;
            totals.transactions += hour.transactions;
            totals.behavior += hour.behavior;
        }
        let days: HashSet<i64> = self.hours.keys().flatten().map(|hour| hour.div_euclid(86_400)).collect();
        totals.active_days = days.len();
        totals.first = self.hours.values().map(|hour| &hour.first).min().cloned();
        totals.last = self.hours.values().map(|hour| &hour.last).max().cloned();
        totals
    }

    fn add(&mut self, rows: Vec<sql::HourRow>, customers: Vec<(i64,)>, through: i64) {
        for (start, events, transactions, behavior, first, last) in rows {
            let hour = self.hours.entry(start).or_default();
            if hour.events == 0 || first < hour.first {
                hour.first = first;
            }
            if last > hour.last {
                hour.last = last;
            }
            hour.events += events;
            hour.transactions += transactions;
            hour.behavior += behavior;
        }
        self.customers.extend(customers.into_iter().map(|(customer,)| customer));
        self.through = through;
    }
}

/// Counts.
pub struct TallyPart {
    warehouse: Warehouse,
    chunk: i64,
    /// The part that will not change.
    settled: Option<Tally>,
    /// When all is counted again.
    again_at: Instant,
    /// The count that will take the place of `settled`.
    again: Option<Tally>,
    /// The greatest id at earlier looks.
    greatest: VecDeque<(Instant, i64)>,
}

impl TallyPart {
    /// Of a table of events.
    pub fn new(warehouse: Warehouse) -> TallyPart {
        TallyPart {
            warehouse,
            chunk: CHUNK,
            settled: None,
            again_at: Instant::now() + AGAIN_EVERY,
            again: None,
            greatest: VecDeque::new(),
        }
    }

    /// Counts some more ids, up to `limit`.
    async fn advance(&mut self, tally: &mut Tally, limit: i64) -> Result<(), String> {
        loop {
            let (after, through) = (tally.through, limit.min(tally.through + self.chunk));
            let (dialect, table) = (self.warehouse.dialect(), self.warehouse.table().to_owned());
            match self.warehouse.rows(sql::hours(dialect, &table, after, through)).await {
                Ok(hours) if hours.is_empty() => {
                    // A gap in the ids, however wide, is one step.
                    let (next,): (Option<i64>,) = self.warehouse.row(sql::next_id(&table, through)).await?;
                    tally.through = next.map_or(limit, |next| limit.min(next - 1));
                    return Ok(());
                }
                Ok(hours) => {
                    let customers = self.warehouse.rows(sql::customers(&table, after, through)).await?;
                    tally.add(hours, customers, through);
                    self.chunk = CHUNK.min(self.chunk * 2);
                    return Ok(());
                }
                // Too many at once for the server's patience.
                Err(failure) if failure.is_slow && self.chunk > SMALLEST_CHUNK => {
                    self.chunk = SMALLEST_CHUNK.max(self.chunk / 8);
                }
                Err(failure) => return Err(failure.message),
            }
        }
    }

    async fn advance_to(&mut self, tally: &mut Tally, limit: i64) -> Result<(), String> {
        while tally.through < limit {
            self.advance(tally, limit).await?;
        }
        Ok(())
    }

    async fn count_settled(&mut self, settled: &mut Tally, least: i64, greatest: i64) -> Result<(), String> {
        let limit = self.settled_id(greatest).max(greatest - CHUNK);
        self.advance_to(settled, limit).await?;
        self.count_again(settled, least).await
    }

    fn forget(&mut self) {
        self.settled = None;
        self.again = None;
        self.again_at = Instant::now() + AGAIN_EVERY;
        self.greatest.clear();
    }

    /// The greatest id that has been there for long enough.
    fn settled_id(&mut self, greatest: i64) -> i64 {
        self.greatest.push_back((Instant::now(), greatest));
        while self.greatest.get(1).is_some_and(|(at, _)| at.elapsed() >= SETTLED_AFTER) {
            self.greatest.pop_front();
        }
        let oldest = self.greatest.front().filter(|(at, _)| at.elapsed() >= SETTLED_AFTER);
        match self.warehouse.dialect() {
            // One writer: ids come in the order of their transactions.
            sql::Dialect::Sqlite => greatest,
            sql::Dialect::Postgres => oldest.map_or(i64::MIN, |(_, id)| *id),
        }
    }

    /// A part of the count that replaces the one that is shown.
    async fn count_again(&mut self, settled: &mut Tally, least: i64) -> Result<(), String> {
        if Instant::now() < self.again_at && self.again.is_none() {
            return Ok(());
        }
        let mut again = self.again.take().unwrap_or_else(|| Tally::before(least));
        for _ in 0..CHUNKS_A_LOOK {
            if again.through >= settled.through {
                *settled = again;
                self.again_at = Instant::now() + AGAIN_EVERY;
                return Ok(());
            }
            self.advance(&mut again, settled.through).await?;
        }
        self.again = Some(again);
        Ok(())
    }
}

#[async_trait]
impl Part for TallyPart {
    type Figures = Tally;
    const INTERVAL: Duration = Duration::from_secs(5);

    async fn look(&mut self) -> Result<Tally, String> {
        let ids = sql::ids(self.warehouse.table());
        let (least, greatest): (Option<i64>, Option<i64>) = self.warehouse.row(ids).await?;
        let (Some(least), Some(greatest)) = (least, greatest) else {
            self.forget();
            return Ok(Tally::default());
        };
        let mut settled = match self.settled.take() {
            Some(settled) if settled.through <= greatest => settled,
            // The first look, or another table than before.
            _ => {
                self.forget();
                Tally::before(least)
            }
        };
        let counted = self.count_settled(&mut settled, least, greatest).await;
        let mut all = settled.clone();
        // Kept also when something went wrong on the way.
        self.settled = Some(settled);
        counted?;
        self.advance_to(&mut all, greatest).await?;
        Ok(all)
    }

    fn rest(&mut self) {
        self.warehouse.rest();
        // What was counted is kept for the next visitor.
        self.greatest.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sqlx::{Executor, SqliteConnection};

    use super::*;
    use crate::connectors::looking::{Database, TableDatabase};

    const TABLE: &str =
        "CREATE TABLE events (id INTEGER PRIMARY KEY, event_type TEXT, timestamp TEXT, customer_id INTEGER)";

    async fn filled(path: &Path) -> SqliteConnection {
        use sqlx::Connection;
        let mut client = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
        client.execute(TABLE).await.unwrap();
        let rows = "WITH RECURSIVE n AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM n WHERE n < 19) INSERT INTO events \
            SELECT n + 1, CASE n % 2 WHEN 0 THEN 'transaction' ELSE 'search' END, \
                   '2026-01-3' || (n / 10) || ' 10:00:0' || (n % 10), n % 7 FROM n";
        client.execute(rows).await.unwrap();
        // Far away, and of one who has no number.
        let far = "INSERT INTO events VALUES (9000000000000000000, 'transaction_item', '2026-01-31 11:00:00.5', NULL)";
        client.execute(far).await.unwrap();
        client
    }

    fn part(path: &Path) -> TallyPart {
        let database = Database::Sqlite(path.to_owned());
        let table = TableDatabase { database, table: "\"events\"".into(), place: "SQLite file".into() };
        TallyPart { chunk: 3, ..TallyPart::new(Warehouse::new(table)) }
    }

    #[tokio::test]
    async fn it_counts_step_by_step_over_any_gap_and_each_row_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sqlite");
        let mut client = filled(&path).await;
        let mut part = part(&path);
        let expected = Totals {
            events: 21,
            transactions: 10,
            behavior: 10,
            customers: 7,
            active_days: 2,
            first: Some("2026-01-30 10:00:00".into()),
            last: Some("2026-01-31 11:00:00.5".into()),
        };
        let tally = part.look().await.unwrap();
        assert_eq!((tally.totals(), tally.hours.len()), (expected.clone(), 3));
        client
            .execute("INSERT INTO events VALUES (9000000000000000001, 'search', '2026-01-31 10:30:00', 99)")
            .await
            .unwrap();
        let totals = part.look().await.unwrap().totals();
        assert_eq!(totals, Totals { events: 22, behavior: 11, customers: 8, ..expected });
    }

    #[tokio::test]
    async fn what_was_changed_is_seen_when_all_is_counted_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sqlite");
        let mut client = filled(&path).await;
        let mut part = part(&path);
        assert_eq!(part.look().await.unwrap().totals().events, 21);
        client.execute("DELETE FROM events WHERE id <= 10").await.unwrap();
        assert_eq!(part.look().await.unwrap().totals().events, 21);
        part.again_at = Instant::now();
        part.chunk = 1;
        // A few steps at each look; the old count is shown until it is done.
        let mut counts = vec![];
        while counts.last() != Some(&11) {
            counts.push(part.look().await.unwrap().totals().events);
            assert!(counts.len() < 20, "{counts:?}");
        }
        assert!(counts[..counts.len() - 1].iter().all(|count| *count == 21), "{counts:?}");
        assert!(part.again.is_none() && part.again_at > Instant::now());
    }

    #[tokio::test]
    async fn a_table_that_was_emptied_is_counted_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sqlite");
        let mut client = filled(&path).await;
        let mut part = part(&path);
        part.look().await.unwrap();
        client.execute("DELETE FROM events WHERE id > 4").await.unwrap();
        assert_eq!(part.look().await.unwrap().totals().events, 4);
        client.execute("DELETE FROM events").await.unwrap();
        assert_eq!(part.look().await.unwrap(), Tally::default());
    }
}
