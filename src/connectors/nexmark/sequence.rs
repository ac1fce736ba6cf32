//! Which events there are, in which order and when: all that follows from an event's number alone.
//!
//! Events come in cycles, 50 by default: first the people, then the auctions, then the bids. Ids count up from 1000, so
//! an event's number tells how many people and auctions there are by then.

use super::dice::Dice;

/// The ids of people and auctions begin here.
pub(super) const FIRST_ID: u64 = 1000;

/// What kind of event it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Person,
    Auction,
    Bid,
}

impl Kind {
    /// Each with its name in SQL, in the order of a cycle and of `event_type`.
    pub(super) const ALL: [(&'static str, Kind); 3] =
        [("person", Kind::Person), ("auction", Kind::Auction), ("bid", Kind::Bid)];

    /// What `event_type` says.
    pub(super) fn number(self) -> i64 {
        self as i64
    }
}

/// How many events of each kind a cycle has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Proportions {
    pub(super) people: u64,
    pub(super) auctions: u64,
    pub(super) bids: u64,
}

impl Proportions {
    /// The length of a cycle.
    pub(super) fn cycle(&self) -> u64 {
        self.people + self.auctions + self.bids
    }

    /// The part of a cycle that a table reads: the events of one kind, or all.
    pub(super) fn part(&self, kind: Option<Kind>) -> Part {
        let (first, width) = match kind {
            None => (0, self.cycle()),
            Some(Kind::Person) => (0, self.people),
            Some(Kind::Auction) => (self.people, self.auctions),
            Some(Kind::Bid) => (self.people + self.auctions, self.bids),
        };
        Part { first, width, cycle: self.cycle() }
    }
}

/// The events at the places `first..first + width` of each cycle, numbered by themselves as rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    first: u64,
    /// How many rows a cycle has.
    pub(super) width: u64,
    /// How many events a cycle has.
    pub(super) cycle: u64,
}

impl Part {
    /// The number of the event that is this row.
    pub(super) fn event(&self, row: u64) -> u64 {
        row / self.width * self.cycle + self.first + row % self.width
    }

    /// The first row whose event is not before `event`; also, how many rows come before it.
    pub(super) fn row(&self, event: u64) -> u64 {
        let place = event % self.cycle;
        event / self.cycle * self.width + place.saturating_sub(self.first).min(self.width)
    }
}

/// The order of events and their times.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) seed: u64,
    pub(super) proportions: Proportions,
    /// The time of event 0, in milliseconds.
    pub(super) first_time: i64,
    /// Nanoseconds from an event to the next.
    pub(super) delay: u64,
    /// So many events that follow one another have their times shuffled.
    pub(super) out_of_order: u64,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// The number of the event in whose turn, by event time, it comes.
    pub(super) turn: u64,
    /// Its time, in milliseconds.
    pub(super) time: i64,
    /// How many people came before the newest, itself among them if it is one.
    pub(super) newest_person: u64,
    /// The same of auctions.
    pub(super) newest_auction: u64,
    /// Its randomness.
    pub(super) dice: Dice,
}

impl Sequence {
    /// The event of that number.
    pub(super) fn event(&self, number: u64) -> Event {
        let Proportions { people, auctions, .. } = self.proportions;
        let (cycle, place) = (number / self.proportions.cycle(), number % self.proportions.cycle());
        let (kind, newest_auction) = if place < people {
            // None of this cycle's auctions is there yet.
            (Kind::Person, (cycle * auctions).saturating_sub(1))
        } else if place < people + auctions {
            (Kind::Auction, cycle * auctions + place - people)
        } else {
            (Kind::Bid, (cycle + 1) * auctions - 1)
        };
        let turn = self.turn(number);
        Event {
            kind,
            turn,
            time: self.time(turn),
            newest_person: cycle * people + place.min(people - 1),
            newest_auction,
            dice: Dice::of(self.seed, number),
        }
    }

    /// The time of the event whose turn it is, in milliseconds.
    pub(super) fn time(&self, turn: u64) -> i64 {
        let since = turn.saturating_mul(self.delay) / 1_000_000;
        self.first_time.saturating_add_unsigned(since)
    }

    /// The place of an event among its group. 953 is a prime: stepping by it reaches each place of a smaller group once.
    fn turn(&self, number: u64) -> u64 {
        match self.out_of_order {
            1 => number,
            group => number / group * group + number.wrapping_mul(953) % group,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence() -> Sequence {
        let proportions = Proportions { people: 1, auctions: 3, bids: 46 };
        Sequence { seed: 1, proportions, first_time: 1000, delay: 100_000, out_of_order: 1 }
    }

    #[test]
    fn a_cycle_has_a_person_three_auctions_and_bids() {
        let events: Vec<Event> = (0..100).map(|number| sequence().event(number)).collect();
        let kinds = |kind| events.iter().filter(|event| event.kind == kind).count();
        assert_eq!((kinds(Kind::Person), kinds(Kind::Auction), kinds(Kind::Bid)), (2, 6, 92));
        assert_eq!([0, 1, 3, 4, 49, 50].map(|n: usize| events[n].newest_person), [0, 0, 0, 0, 0, 1]);
        assert_eq!([1, 2, 3, 4, 49, 50, 51, 54].map(|n: usize| events[n].newest_auction), [0, 1, 2, 2, 2, 2, 3, 5]);
        assert_eq!([0, 9, 10, 25].map(|n: usize| events[n].time), [1000, 1000, 1001, 1002]);
    }

    #[test]
    fn a_groups_times_are_shuffled_within_it() {
        let shuffled = Sequence { out_of_order: 10, ..sequence() };
        let mut turns: Vec<u64> = (20..30).map(|number| shuffled.event(number).turn).collect();
        assert_eq!(turns[..4], [20, 23, 26, 29]);
        turns.sort_unstable();
        assert_eq!(turns, (20..30).collect::<Vec<u64>>());
    }

    #[test]
    fn rows_of_a_kind_and_their_events_tell_each_other() {
        let proportions = sequence().proportions;
        for kind in [None, Some(Kind::Person), Some(Kind::Auction), Some(Kind::Bid)] {
            let part = proportions.part(kind);
            for row in 0..200 {
                let event = part.event(row);
                assert!(kind.is_none_or(|kind| sequence().event(event).kind == kind), "row {row} of {kind:?}");
                assert_eq!((part.row(event), part.row(event + 1)), (row, row + 1), "row {row} of {kind:?}");
            }
        }
        let auctions = proportions.part(Some(Kind::Auction));
        assert_eq!([0, 1, 2, 4, 50, 51, 100].map(|event| auctions.row(event)), [0, 0, 1, 3, 3, 3, 6]);
    }
}
