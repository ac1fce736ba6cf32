//! What is written into the topic: a pure function of a seed and a number, so that what must come out is known.
//!
//! Which rows are late is certain: a row lies less before the newest one than the watermark's delay, or a whole day.
//! So is which records are bad. Every record has the number in it, good or bad, and so is told from all others.

use chrono::{DateTime, TimeDelta, Utc};

/// Event time of record 0: 2024-01-01, where windows begin.
const START: i64 = 1_704_067_200_000;
/// From one record to the next, in milliseconds of event time.
const STEP: i64 = 20;
/// How far a row may lie back; the watermark's delay is two seconds.
const DISORDER: u64 = 1500;
/// No row is late before each partition has a watermark.
const FIRST_LATE: u64 = 100;
const KINDS: [&str; 5] = ["view", "search", "cart", "purchase", "refund"];

/// The records of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    /// Another seed, other records.
    pub seed: u64,
    /// Of the topic.
    pub partitions: i32,
}

/// One record, and what should become of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub partition: i32,
    pub value: String,
    pub fate: Fate,
}

/// What should become of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// A row in time.
    InTime(Row),
    /// A row that every window has been closed before.
    Late(Row),
    /// A dead letter, for this reason.
    Bad(&'static str),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    pub id: u64,
    pub kind: &'static str,
    pub amount: u64,
    pub ts: DateTime<Utc>,
}

impl Ledger {
    /// Record `number`, counted from 0.
    pub fn record(&self, number: u64) -> Record {
        let dice = mixed(self.seed ^ mixed(number));
        let millis = START + number as i64 * STEP - (mixed(dice) % DISORDER) as i64;
        let row = Row {
            id: number,
            kind: KINDS[(dice >> 8) as usize % KINDS.len()],
            amount: (dice >> 16) % 1000,
            ts: DateTime::from_timestamp_millis(millis).unwrap(),
        };
        let (value, fate) = match dice % 128 {
            0 => (format!("record {number} is no JSON"), Fate::Bad("malformed")),
            1 => (row.json().replace("\"amount\":", "\"amount\":\"much\",\"or\":"), Fate::Bad("wrong_type")),
            2 => (row.json().replace("\"kind\"", "\"sort\""), Fate::Bad("missing_value")),
            3..7 if number >= FIRST_LATE => {
                let late = Row { ts: row.ts - TimeDelta::days(1), ..row };
                (late.json(), Fate::Late(late))
            }
            _ => (row.json(), Fate::InTime(row)),
        };
        Record { partition: (number % self.partitions as u64) as i32, value, fate }
    }
}

impl Row {
    fn json(&self) -> String {
        let ts = self.ts.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        format!(r#"{{"id":{},"kind":"{}","amount":{},"ts":"{ts}"}}"#, self.id, self.kind, self.amount)
    }
}

/// SplitMix64: every bit of the result hangs on every bit of `x`.
pub fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[test]
fn every_fate_comes_up_and_nothing_is_late_by_chance() {
    let ledger = Ledger { seed: 7, partitions: 3 };
    let mut newest = [i64::MIN; 3];
    let mut counts = [0; 3];
    for number in 0..20_000 {
        let record = ledger.record(number);
        assert_eq!(record, ledger.record(number));
        let newest = &mut newest[record.partition as usize];
        match record.fate {
            Fate::InTime(row) => {
                counts[0] += 1;
                assert!(row.ts.timestamp_millis() > newest.saturating_sub(2000), "row {number} might be late");
                *newest = row.ts.timestamp_millis().max(*newest);
            }
            Fate::Late(row) => {
                counts[1] += 1;
                assert!(row.ts.timestamp_millis() < *newest - 3_600_000, "row {number} might not be late");
            }
            Fate::Bad(_) => counts[2] += 1,
        }
    }
    assert!(counts[0] > 17_000 && counts[1] > 400 && counts[2] > 400, "{counts:?}");
}
