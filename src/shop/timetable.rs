//! When events happen: evenly, or with a day's rhythm, and never by a clock.

/// How busy each hour of a day (UTC) is, in thousandths of the average: quiet nights, a long evening.
const RHYTHM: [u64; 24] = [
    300, 220, 180, 160, 180, 280, 480, 720, 950, 1220, 1320, 1380, 1430, 1400, 1340, 1320, 1360, 1460, 1620, 1700,
    1750, 1540, 1090, 600,
];

const PER_SECOND: i128 = 1_000_000_000_000;
const PER_MILLISECOND: i128 = PER_SECOND / 1000;
const MILLIS_PER_HOUR: i64 = 3_600_000;

/// The times of events, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Timetable {
    /// Since 1970, in picoseconds: a million events a second do not add up to an error.
    next: i128,
    /// Between two events, in picoseconds.
    step: i128,
    rhythm: bool,
}

impl Timetable {
    /// The first event at `start`, in milliseconds since 1970.
    pub(super) fn new(start: i64, events_per_second: f64, rhythm: bool) -> Timetable {
        let mut timetable = Timetable { next: i128::from(start) * PER_MILLISECOND, step: 0, rhythm };
        timetable.set_pace(events_per_second);
        timetable
    }

    /// From the next event on.
    pub(super) fn set_pace(&mut self, events_per_second: f64) {
        let events_per_second = if events_per_second.is_finite() { events_per_second.max(1e-6) } else { 1e6 };
        // Rounded up: a second never holds an event more than asked for.
        self.step = ((PER_SECOND as f64 / events_per_second).ceil() as i128).max(1);
    }

    /// When the next event happens, in milliseconds since 1970.
    pub(super) fn next(&self) -> i64 {
        self.next.div_euclid(PER_MILLISECOND) as i64
    }

    /// That event has happened.
    pub(super) fn advance(&mut self) {
        let hour = (self.next().div_euclid(MILLIS_PER_HOUR)).rem_euclid(24) as usize;
        self.next += if self.rhythm { self.step * 1000 / i128::from(RHYTHM[hour]) } else { self.step };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * MILLIS_PER_HOUR;

    fn times(timetable: &mut Timetable, until: i64) -> Vec<i64> {
        let mut times = vec![];
        while timetable.next() < until {
            times.push(timetable.next());
            timetable.advance();
        }
        times
    }

    #[test]
    fn a_steady_pace_is_exact() {
        for rate in [0.5, 3.0, 10.0, 1000.0] {
            let times = times(&mut Timetable::new(-5000, rate, false), 995_000);
            assert_eq!(times.len(), (rate * 1000.0) as usize);
            assert_eq!((times[0], times[1]), (-5000, -5000 + (1000.0 / rate) as i64));
        }
    }

    #[test]
    fn a_day_with_rhythm_has_as_many_events_and_a_quiet_night() {
        assert_eq!(RHYTHM.iter().sum::<u64>(), 24_000);
        let times = times(&mut Timetable::new(0, 1.0, true), DAY);
        assert!((86_300..=86_500).contains(&times.len()), "{}", times.len());
        let of_hour = |hour: i64| times.iter().filter(|time| **time / MILLIS_PER_HOUR == hour).count();
        assert!((560..=600).contains(&of_hour(3)) && (6250..=6350).contains(&of_hour(20)));
    }

    #[test]
    fn another_pace_goes_on_where_the_first_was() {
        let mut timetable = Timetable::new(0, 1.0, false);
        assert_eq!(times(&mut timetable, 2000), [0, 1000]);
        timetable.set_pace(2.0);
        assert_eq!(times(&mut timetable, 3500), [2000, 2500, 3000]);
    }
}
