//! A pipeline's totals, for progress lines, the summary and the API.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use crate::dataflow::statistics::{NodeStatistics, Role, Statistics};
use crate::time::EventTime;

/// Totals at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Records read by all sources, bad ones included.
    pub rows_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Rows written by all sinks.
    pub rows_out: u64,
    /// Rows that came too late.
    pub late_rows: u64,
    /// Records that could not be read.
    pub bad_rows: u64,
    /// Records not yet read, as far as the sources know.
    pub lag: u64,
    /// Bytes held in state.
    pub state_bytes: u64,
    /// The watermark of the source that is furthest behind; `None` before the first event and after the last.
    pub watermark: Option<EventTime>,
    /// Rows of durable epochs that sinks have not brought to their destination yet.
    pub undelivered_rows: u64,
    /// The last complete epoch.
    pub epoch: u64,
}

impl Figures {
    /// Adds up the figures of all nodes.
    pub fn of(statistics: &Statistics) -> Figures {
        let mut figures = Figures { epoch: statistics.epoch.load(Relaxed), ..Figures::default() };
        for node in statistics.nodes() {
            figures.late_rows += node.late_rows.load(Relaxed);
            figures.state_bytes += node.state_bytes.load(Relaxed);
            figures.bad_rows += node.bad_rows().values().sum::<u64>();
            match node.role {
                Role::Source => figures.add_source(node),
                Role::Operator => {}
                Role::Sink => {
                    figures.rows_out += node.rows_out.load(Relaxed);
                    figures.undelivered_rows += node.delivery.undelivered_rows.load(Relaxed);
                }
            }
        }
        figures
    }

    fn add_source(&mut self, node: &NodeStatistics) {
        self.rows_in += node.rows_in.load(Relaxed);
        self.bytes_in += node.bytes_in.load(Relaxed);
        self.lag += node.lag().values().map(|lag| (*lag).max(0) as u64).sum::<u64>();
        if let Some(watermark) = moving(node.watermark()) {
            self.watermark = Some(self.watermark.map_or(watermark, |lowest| lowest.min(watermark)));
        }
    }

    /// How far the watermark is behind `now`; zero if it is ahead.
    pub fn watermark_age(&self, now: SystemTime) -> Option<Duration> {
        self.watermark.map(|watermark| age(watermark, now))
    }
}

/// The watermark, unless it is one of the ends of time, which say that nothing has come yet or will come any more.
pub fn moving(watermark: EventTime) -> Option<EventTime> {
    (watermark != EventTime::MIN && watermark != EventTime::MAX).then_some(watermark)
}

/// How far `watermark` is behind `now`; zero if it is ahead.
pub fn age(watermark: EventTime, now: SystemTime) -> Duration {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let nanos = i128::try_from(now).unwrap_or(i128::MAX) - i128::from(watermark.0);
    Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_are_over_the_nodes_that_have_the_figure() {
        let figures = super::super::tests::console().figures();
        let expected = Figures {
            rows_in: 100,
            bytes_in: 17_000,
            rows_out: 9,
            late_rows: 2,
            bad_rows: 3,
            lag: 12,
            state_bytes: 4096,
            watermark: Some(EventTime(1_700_000_000_000_000_000)),
            undelivered_rows: 0,
            epoch: 12,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn a_source_that_has_ended_or_not_begun_has_no_say_in_the_watermark() {
        let statistics = Statistics::new(["a", "b", "c"].map(|name| (name.to_owned(), Role::Source)));
        assert_eq!(Figures::of(&statistics).watermark, None);
        statistics.nodes()[0].set_watermark(EventTime::MAX);
        statistics.nodes()[1].set_watermark(EventTime(2_000_000_000));
        assert_eq!(Figures::of(&statistics).watermark, Some(EventTime(2_000_000_000)));
    }

    #[test]
    fn the_age_of_a_watermark_is_not_negative() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(age(EventTime(10_000_000_000), at(12)), Duration::from_secs(2));
        assert_eq!(age(EventTime(10_000_000_000), at(3)), Duration::ZERO);
        assert_eq!(age(EventTime(-1_000_000_000), at(0)), Duration::from_secs(1));
    }
}
