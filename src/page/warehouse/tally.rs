//! Everything that the warehouse has, by hour, without reading everything again and again.
//!
//! Rows are counted once, in the order of their ids and some at a time; what was counted stays in memory. A row whose
//! transaction commits late may appear behind newer ones, so that the newest ids are counted anew at each look until
//! they have been there for [`SETTLED_AFTER`], or [`CHUNK`] newer ones are. What is deleted or changed later is noticed when fewer ids are there than
//! were counted, and else by counting everything again, at leisure, every [`AGAIN_EVERY`].

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
    began: Instant,
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
            began: Instant::now(),
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
                Ok(hours) => {
                    let customers = self.warehouse.rows(sql::customers(&table, after, through)).await?;
                    tally.add(hours, customers, through);
                    return Ok(());
                }
                // Perhaps too many at once for the server's patience.
                Err(_) if self.chunk > SMALLEST_CHUNK => self.chunk = SMALLEST_CHUNK.max(self.chunk / 8),
                Err(error) => return Err(error),
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
        self.began = Instant::now();
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
        if self.began.elapsed() < AGAIN_EVERY && self.again.is_none() {
            return Ok(());
        }
        let mut again = self.again.take().unwrap_or_else(|| Tally::before(least));
        for _ in 0..CHUNKS_A_LOOK {
            if again.through >= settled.through {
                *settled = again;
                self.began = Instant::now();
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
