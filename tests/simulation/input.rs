//! The events of a seed: disorder within the watermark, late ones, pauses, rows without a time, null keys.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::knobs::Knobs;

/// How far the watermark stays behind, in milliseconds, as the programs say.
pub const DELAY: i64 = 300;
const START: i64 = 1_767_225_600_000;

#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub n: i64,
    pub k: Option<&'static str>,
    pub g: i64,
    pub v: i64,
    /// Milliseconds; a record without is a bad one.
    pub ts: Option<i64>,
}

/// The records of each table, by split.
#[derive(Clone, Debug)]
pub struct Input {
    pub clicks: Vec<Vec<Record>>,
    pub orders: Vec<Vec<Record>>,
}

/// A record that is not bad, with the watermark of its split before it.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub record: Record,
    pub ts: i64,
    pub watermark: i64,
}

impl Input {
    pub fn of(seed: u64, knobs: &Knobs) -> Input {
        let table = |number: u64, splits: usize| {
            (0..splits)
                .map(|split| {
                    let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(64) + number * 8 + split as u64);
                    let records = random.random_range(1..=knobs.records);
                    let first = 1000 * (10 * number as i64 + split as i64);
                    split_of(&mut random, first, records, knobs.program.is_strict())
                })
                .collect()
        };
        let orders = if knobs.program.reads_orders() { knobs.splits.div_ceil(2) } else { 0 };
        Input { clicks: table(0, knobs.splits), orders: table(1, orders) }
    }

    pub fn table(&self, name: &str) -> &Vec<Vec<Record>> {
        if name == "orders" { &self.orders } else { &self.clicks }
    }
}

/// With `strict`, no late row is so little late that some window still waits for it.
fn split_of(random: &mut ChaCha8Rng, first: i64, records: usize, strict: bool) -> Vec<Record> {
    const KEYS: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];
    let mut time = START;
    let mut record = |n: i64| {
        time += if random.random_ratio(1, 12) { random.random_range(600..1500) } else { random.random_range(10..150) };
        // The first has a time, and is in time: a table that never had an event holds back what it is joined with.
        let behind = match (random.random_ratio(1, 12) && n > 0, strict) {
            (false, _) => random.random_range(0..DELAY),
            (true, true) => 100_000,
            (true, false) => random.random_range(DELAY..1500),
        };
        let is_bad = random.random_ratio(1, 20) && n > 0;
        Record {
            n: first + n,
            k: KEYS[random.random_range(0..4)],
            g: random.random_range(0..4),
            v: random.random_range(-50..50),
            ts: (!is_bad).then_some(time - behind),
        }
    };
    (0..records as i64).map(&mut record).collect()
}

/// The events of a table's splits.
pub fn events(splits: &[Vec<Record>]) -> Vec<Event> {
    let mut events = vec![];
    for split in splits {
        let mut watermark = i64::MIN;
        for record in split {
            if let Some(ts) = record.ts {
                events.push(Event { record: *record, ts, watermark });
                watermark = watermark.max(ts - DELAY);
            }
        }
    }
    events
}
