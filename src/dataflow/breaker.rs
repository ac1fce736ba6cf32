//! Stops a run when too large a share of a source's records is bad.
//!
//! When what is sent has changed its form, nearly every record becomes a bad one, and a run that went on would drain
//! the source into the dead letters. The records of the last minute are counted in steps of a second, over all
//! instances of the source.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::RunError;
use super::reader::BadRow;
use crate::catalog::Percent;

/// The time that is looked back on.
const SPAN: Duration = Duration::from_secs(60);
/// It is counted in steps of this.
const STEP: Duration = Duration::from_secs(1);
/// Fewer bad records stop nothing, whatever their share.
const FEWEST: u64 = 1000;

/// Shared by the instances of a source.
pub struct Breaker {
    limit: Percent,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    steps: VecDeque<Step>,
    /// The newest record of each reason: where it stands, and what is wrong with it.
    examples: BTreeMap<&'static str, (String, String)>,
}

struct Step {
    began: Instant,
    read: u64,
    bad: BTreeMap<&'static str, u64>,
}

/// Why the run must stop.
#[derive(Clone, PartialEq, Debug)]
pub struct Trouble {
    bad: u64,
    read: u64,
    limit: Percent,
    reason: &'static str,
    place: String,
    message: String,
}

impl Breaker {
    /// Allows `limit` of the records to be bad.
    pub fn new(limit: Percent) -> Breaker {
        Breaker { limit, counts: Mutex::default() }
    }

    /// Counts records none of which is bad.
    pub fn good(&self, read: u64, now: Instant) {
        self.counts.lock().step(now).read += read;
    }

    /// Counts records some of which are bad. `place` says where a record stands. Returns what is wrong when there were
    /// too many in the last minute.
    pub fn bad(&self, read: u64, bad: &[BadRow], place: impl Fn(&BadRow) -> String, now: Instant) -> Option<Trouble> {
        let mut counts = self.counts.lock();
        let step = counts.step(now);
        step.read += read;
        let mut newest: BTreeMap<&'static str, &BadRow> = BTreeMap::new();
        for row in bad {
            *step.bad.entry(row.reason.as_str()).or_default() += 1;
            newest.insert(row.reason.as_str(), row);
        }
        counts.examples.extend(newest.into_iter().map(|(reason, row)| (reason, (place(row), row.message.clone()))));
        counts.judged(self.limit)
    }
}

impl Counts {
    /// The step that `now` falls in; steps that are older than a minute are forgotten.
    fn step(&mut self, now: Instant) -> &mut Step {
        while self.steps.front().is_some_and(|step| now.duration_since(step.began) >= SPAN) {
            self.steps.pop_front();
        }
        if self.steps.back().is_none_or(|step| now.duration_since(step.began) >= STEP) {
            self.steps.push_back(Step { began: now, read: 0, bad: BTreeMap::new() });
        }
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    fn judged(&self, limit: Percent) -> Option<Trouble> {
        let read = self.steps.iter().map(|step| step.read).sum();
        let mut reasons: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (reason, rows) in self.steps.iter().flat_map(|step| &step.bad) {
            *reasons.entry(reason).or_default() += rows;
        }
        let bad = reasons.values().sum();
        if bad < FEWEST || !limit.is_exceeded(bad, read) {
            return None;
        }
        let (reason, _) = reasons.into_iter().max_by_key(|(_, rows)| *rows)?;
        let (place, message) = self.examples.get(reason).cloned()?;
        Some(Trouble { bad, read, limit, reason, place, message })
    }
}

impl Trouble {
    /// As the error that stops the run.
    pub fn stopping(self, table: &str) -> RunError {
        let Trouble { bad, read, limit, reason, place, message } = self;
        RunError::TooManyBadRows { table: table.to_owned(), bad, read, limit, reason, place, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::BadReason;

    fn bad(rows: usize, reason: BadReason) -> Vec<BadRow> {
        (0..rows).map(|record| BadRow { record, reason, message: format!("record {record} is broken") }).collect()
    }

    fn read(breaker: &Breaker, read: u64, rows: &[BadRow], now: Instant) -> Option<Trouble> {
        breaker.bad(read, rows, |row| format!("t[0] offset {}", row.record), now)
    }

    #[test]
    fn a_large_share_stops_the_run_with_the_most_frequent_reason() {
        let (breaker, now) = (Breaker::new(Percent(5.0)), Instant::now());
        breaker.good(10_000, now);
        assert_eq!(read(&breaker, 1000, &bad(400, BadReason::Malformed), now), None);
        let trouble = read(&breaker, 600, &bad(600, BadReason::WrongType), now).unwrap();
        assert_eq!(
            trouble.stopping("events").to_string(),
            "events: 1000 of the 11600 records read in the last minute were bad, more than 5 percent; most often \
             wrong_type, as at t[0] offset 599: record 599 is broken. The run has stopped before it went on without \
             them; what came after the last checkpoint is read again at the next start. Mend the table or what is \
             sent, or let such records pass with 'bad_rows_limit' = 'none' or a larger share"
        );
    }

    #[test]
    fn a_few_bad_records_or_a_small_share_stop_nothing() {
        let (breaker, now) = (Breaker::new(Percent(5.0)), Instant::now());
        assert_eq!(read(&breaker, 999, &bad(999, BadReason::Malformed), now), None);
        let breaker = Breaker::new(Percent(5.0));
        breaker.good(19_000, now);
        assert_eq!(read(&breaker, 1000, &bad(1000, BadReason::Malformed), now), None);
        assert!(read(&breaker, 1, &bad(1, BadReason::Malformed), now).is_some());
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let (breaker, mut now) = (Breaker::new(Percent(5.0)), Instant::now());
        for _ in 0..100 {
            // At any time at most 60 steps of 16: fewer than a thousand.
            assert_eq!(read(&breaker, 16, &bad(16, BadReason::Malformed), now), None);
            now += STEP;
        }
        assert!(read(&breaker, 60, &bad(60, BadReason::Malformed), now).is_some());
        assert!(breaker.counts.lock().steps.len() <= 60);
    }
}
