//! What an uninterrupted computation gives: plain Rust over the list of events, apart from the engine.

use std::collections::{BTreeMap, BTreeSet};

use crate::input::{Event, Input, Record, events};
use crate::line;
use crate::programs::Kind;

/// Rows by sink table. For upserts: the last row of each key.
pub type Expected = BTreeMap<&'static str, Vec<String>>;

type Key = Option<&'static str>;

/// Windows by start and key, in the order of starts.
type Windows = BTreeMap<(i64, Key), Vec<Event>>;

/// Windows of `width` that begin every `slide`, and the events that no window takes any more. Milliseconds.
fn windows(events: &[Event], slide: i64, width: i64) -> (Windows, Vec<Event>) {
    let (mut windows, mut late) = (Windows::new(), vec![]);
    for event in events {
        let last = event.ts.div_euclid(slide) * slide;
        let mut open = false;
        let mut start = last;
        while start + width > event.ts {
            // A window is closed by a watermark at its last nanosecond.
            if event.watermark < start + width {
                open = true;
                windows.entry((start, event.record.k)).or_default().push(*event);
            }
            start -= slide;
        }
        if !open {
            late.push(*event);
        }
    }
    (windows, late)
}

fn count(events: &[Event]) -> i64 {
    events.len() as i64
}

fn sum(events: &[Event]) -> i64 {
    events.iter().map(|event| event.record.v).sum()
}

fn low(events: &[Event]) -> Option<i64> {
    events.iter().map(|event| event.record.v).min()
}

fn distinct(events: &[Event]) -> usize {
    events.iter().map(|event| event.record.g).collect::<BTreeSet<_>>().len()
}

fn late_rows(late: &[Event]) -> Vec<String> {
    late.iter().map(|event| line![event.record.n, event.record.k]).collect()
}

/// First event, end, key and events.
type Session = (i64, i64, Key, Vec<Event>);

/// The sessions of each key, and the events that are late for theirs.
fn sessions(events: &[Event], gap: i64) -> (Vec<Session>, Vec<Event>) {
    let (mut by_key, mut late) = (BTreeMap::<Key, Vec<Event>>::new(), vec![]);
    for event in events {
        // The input of sessions holds no row that is only a little late.
        if event.ts > event.watermark {
            by_key.entry(event.record.k).or_default().push(*event);
        } else {
            late.push(*event);
        }
    }
    let mut sessions: Vec<(i64, i64, Key, Vec<Event>)> = vec![];
    for (key, mut events) in by_key {
        events.sort_by_key(|event| event.ts);
        for event in events {
            match sessions.last_mut().filter(|last| last.2 == key && event.ts < last.1) {
                Some(last) => {
                    last.1 = event.ts + gap;
                    last.3.push(event);
                }
                None => sessions.push((event.ts, event.ts + gap, key, vec![event])),
            }
        }
    }
    (sessions, late)
}

/// The newest of some rows by key.
fn last_of_each<K: Ord>(rows: impl Iterator<Item = (K, String)>) -> Vec<String> {
    rows.collect::<BTreeMap<K, String>>().into_values().collect()
}

pub fn expected(kind: Kind, input: &Input) -> Expected {
    let clicks = events(&input.clicks);
    let orders = events(&input.orders);
    let mut expected = Expected::new();
    let mut late = vec![];
    match kind {
        Kind::Tumbles => {
            let (tumbles, behind) = windows(&clicks, 1000, 1000);
            let row = |((w, k), events): (&(i64, Key), &Vec<Event>)| {
                line![*w, *k, count(events), sum(events), low(events), distinct(events)]
            };
            expected.insert("tumbles", tumbles.iter().map(row).collect());
            late = late_rows(&behind);
        }
        Kind::Hops => {
            let (hops, behind) = windows(&clicks, 500, 2000);
            let row =
                |((w, k), events): (&(i64, Key), &Vec<Event>)| line![*w, *k, count(events), sum(events), low(events)];
            expected.insert("hops", hops.iter().map(row).collect());
            late = late_rows(&behind);
        }
        Kind::Sessions => {
            let (sessions, behind) = sessions(&clicks, 400);
            let rows =
                sessions.iter().map(|(first, until, k, events)| line![*first, *until, *k, count(events), sum(events)]);
            expected.insert("sessions", rows.collect());
            expected.insert("raw", raw(clicks.iter().map(|event| event.record)));
            late = late_rows(&behind);
        }
        Kind::Ranking => {
            let (tumbles, behind) = windows(&clicks, 1000, 1000);
            let mut by_window = BTreeMap::<i64, Vec<(Key, i64, i64)>>::new();
            for ((w, k), events) in &tumbles {
                by_window.entry(*w).or_default().push((*k, count(events), sum(events)));
            }
            let most = |groups: &Vec<(Key, i64, i64)>| groups.iter().map(|group| group.1).max();
            let of_windows = by_window.iter().map(|(w, groups)| line![*w, most(groups), groups.len()]);
            expected.insert("of_windows", of_windows.collect());
            let mut best = vec![];
            for (w, groups) in &mut by_window {
                // Descending counts and sums; keys ascending with null last.
                groups.sort_by_key(|(k, c, s)| (-c, -s, k.is_none(), *k));
                for (place, (k, c, _)) in groups.iter().take(2).enumerate() {
                    best.push(line![*w, *k, *c, place + 1]);
                }
            }
            expected.insert("best", best);
            // Each of the two queries says which rows are late for it.
            late = late_rows(&[behind.clone(), behind].concat());
        }
        Kind::Joins => {
            let (clicking, behind) = windows(&clicks, 1000, 1000);
            let (ordering, _) = windows(&orders, 1000, 1000);
            let high = |events: &Vec<Event>| events.iter().map(|event| event.record.v).max();
            // Null keys equal nothing.
            let other = |key: &(i64, Key)| ordering.get(key).filter(|_| key.1.is_some());
            let both = clicking.iter().filter_map(|(key, events)| Some((key, events, other(key)?)));
            let joined = both.map(|((w, k), left, right)| line![*w, *k, count(left), high(right)]);
            expected.insert("joined", joined.collect());
            let none: Option<i64> = None;
            let mut full = vec![];
            for (key, left) in &clicking {
                let (w, k) = *key;
                full.push(match other(key) {
                    Some(right) => line![w, w, k, k, count(left), high(right)],
                    None => line![w, none, k, none, count(left), none],
                });
            }
            for (key, right) in &ordering {
                let (w, k) = *key;
                if k.is_none() || !clicking.contains_key(key) {
                    full.push(line![none, w, none, k, none, high(right)]);
                }
            }
            expected.insert("joined_full", full);
            // Each of the two queries says which rows are late for it.
            late = late_rows(&[behind.clone(), behind].concat());
        }
        Kind::Union => {
            let all = [clicks.clone(), orders].concat();
            let (both, _) = windows(&all, 500, 500);
            expected.insert("both", both.iter().map(|((w, k), events)| line![*w, *k, count(events)]).collect());
        }
        Kind::Upserts => {
            let (seconds, behind) = windows(&clicks, 1000, 1000);
            let newest = seconds.iter().map(|((w, k), events)| (*k, line![*k, *w, count(events)]));
            expected.insert("newest", last_of_each(newest));
            let last = seconds.iter().map(|((_, k), events)| (*k, line![*k, count(events)]));
            expected.insert("last_count", last_of_each(last));
            let every = seconds.iter().map(|((w, k), events)| line![*w, *k, count(events)]);
            expected.insert("every_window", every.collect());
            late = late_rows(&[behind.clone(), behind.clone(), behind].concat());
        }
        Kind::Totals => {
            // Nothing here asks for event times, so that a record without one is as good as others.
            let mut totals = BTreeMap::<Key, (i64, i64)>::new();
            for record in input.clicks.iter().flatten() {
                let total = totals.entry(record.k).or_default();
                *total = (total.0 + 1, total.1 + record.v);
            }
            let rows = totals.iter().map(|(k, (c, s))| line![*k, *c, *s]);
            expected.insert("totals", rows.collect());
            expected.insert("raw", raw(input.clicks.iter().flatten().copied()));
            expected.insert("late", vec![]);
            expected.insert("dead_letters", vec![]);
            return expected;
        }
    }
    expected.insert("late", late);
    expected.insert("dead_letters", dead_letters(input));
    expected
}

fn raw(records: impl Iterator<Item = Record>) -> Vec<String> {
    records.filter(|record| record.v > -30).map(|record| line![record.n, record.k, record.v * 2]).collect()
}

fn dead_letters(input: &Input) -> Vec<String> {
    let mut letters = vec![];
    for (split, records) in input.clicks.iter().enumerate() {
        for (offset, _) in records.iter().enumerate().filter(|(_, record)| record.ts.is_none()) {
            letters.push(line!["clicks", split, offset, "missing_value"]);
        }
    }
    letters
}
