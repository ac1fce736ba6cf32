//! Warnings about bad records, few enough to be read: the first of each reason with its message, then a count now
//! and then.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::reader::BadRow;

/// The time between two counts.
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps the warnings of one instance of a source apart in time.
#[derive(Default)]
pub struct BadRowLog {
    seen: BTreeMap<&'static str, u64>,
    counted: u64,
    last: Option<Instant>,
}

impl BadRowLog {
    /// Takes bad rows in and gives the lines to log. `place` says where a record stands.
    pub fn lines(
        &mut self,
        table: &str,
        bad: &[BadRow],
        place: impl Fn(&BadRow) -> String,
        now: Instant,
    ) -> Vec<String> {
        let mut lines = vec![];
        for row in bad {
            let seen = self.seen.entry(row.reason.as_str()).or_default();
            *seen += 1;
            self.counted += 1;
            if *seen == 1 {
                lines.push(format!("{table}: record {} is bad ({}): {}", place(row), row.reason.as_str(), row.message));
                self.counted -= 1;
                self.last.get_or_insert(now);
            }
        }
        if self.counted > 0 && self.last.is_none_or(|last| now.duration_since(last) >= INTERVAL) {
            let totals: Vec<String> = self.seen.iter().map(|(reason, rows)| format!("{reason} {rows}")).collect();
            lines.push(format!("{table}: {} more bad records; so far: {}", self.counted, totals.join(", ")));
            self.counted = 0;
            self.last = Some(now);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::BadReason;

    #[test]
    fn the_first_of_a_reason_is_told_and_the_others_are_counted() {
        let row = |reason| BadRow { record: 0, reason, message: "no number".into() };
        let mut log = BadRowLog::default();
        let now = Instant::now();
        let mut lines = |bad: &[BadRow], now| log.lines("t", bad, |_| "t[0] offset 3".into(), now);
        assert_eq!(
            lines(&[row(BadReason::WrongType), row(BadReason::WrongType)], now),
            ["t: record t[0] offset 3 is bad (wrong_type): no number"]
        );
        assert_eq!(lines(&[row(BadReason::Malformed)], now).len(), 1);
        assert!(lines(&[row(BadReason::Malformed)], now + INTERVAL / 2).is_empty());
        assert_eq!(
            lines(&[row(BadReason::WrongType)], now + INTERVAL),
            ["t: 3 more bad records; so far: malformed 2, wrong_type 3"]
        );
        assert!(lines(&[row(BadReason::WrongType)], now + INTERVAL).is_empty());
    }
}
