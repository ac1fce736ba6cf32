//! The two clocks of a stream: event time, which the data carries, and epochs, which barriers count; and the runs that
//! count them.
//!
//! All are newtypes so that a wall-clock reading, an offset or a row count cannot be passed for one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A moment of event time: nanoseconds since 1970-01-01T00:00:00 UTC, as in Arrow's `Timestamp(Nanosecond)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before every event: the watermark of a split that has read nothing yet.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After every event: the watermark of a split that has ended.
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// This moment moved back by `by`; stops at [`EventTime::MIN`], and `MIN`/`MAX` stay where they are.
    pub fn saturating_sub(self, by: Duration) -> EventTime {
        if self == EventTime::MIN || self == EventTime::MAX {
            return self;
        }
        EventTime(self.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EventTime::MIN => f.write_str("before all time"),
            EventTime::MAX => f.write_str("after all time"),
            EventTime(nanos) => {
                let time = chrono::DateTime::from_timestamp_nanos(nanos);
                write!(f, "{}", time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
            }
        }
    }
}

impl fmt::Debug for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventTime({self})")
    }
}

/// The number of a barrier. Epoch *n* is everything between barrier *n − 1* and barrier *n*; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of a run of a pipeline over its checkpoints, from 1. A later run fences all earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The name of a checkpoint log, drawn at random when it is made: epochs are counted within one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LogId(pub String);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells the time of day. It is handed to whoever needs it, so that a test or a simulation can set it.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> EventTime + Send + Sync>);

impl WallClock {
    /// The machine's.
    pub fn system() -> WallClock {
        WallClock::new(|| EventTime(chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX)))
    }

    /// One that says what `now` returns.
    pub fn new(now: impl Fn() -> EventTime + Send + Sync + 'static) -> WallClock {
        WallClock(Arc::new(now))
    }

    /// The time of day.
    pub fn now(&self) -> EventTime {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_time_do_not_move() {
        let hour = Duration::from_secs(3600);
        assert_eq!(EventTime::MAX.saturating_sub(hour), EventTime::MAX);
        assert_eq!(EventTime::MIN.saturating_sub(hour), EventTime::MIN);
        assert_eq!(EventTime(10).saturating_sub(Duration::from_nanos(4)), EventTime(6));
    }

    #[test]
    fn prints_as_rfc_3339() {
        assert_eq!(EventTime(1_700_000_000_000_000_000).to_string(), "2023-11-14T22:13:20Z");
    }
}
