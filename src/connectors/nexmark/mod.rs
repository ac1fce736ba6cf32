//! The stream of an auction house by the specification of Nexmark, made up from a seed: for benchmarks, and for trying
//! queries on events that belong together.
//!
//! [`sequence`] says which event comes when, [`house`] what it says, [`rows`] makes columns of it and only of what is asked
//! for. Everything follows from the seed and the event's number, which is also its offset, so that neither batch size,
//! parallelism nor restarts change an event ([`super::made_up`]).

mod columns;
mod dice;
mod house;
mod rows;
mod sequence;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use chrono::Utc;

use super::made_up::{MadeUp, MadeUpFactory, Numbers, Pace};
use super::{Connector, ConnectorTable, SourceFactory};
use crate::catalog::TableDefinition;
use crate::catalog::options::Options;
use columns::Column;
use house::House;
use rows::Rows;
use sequence::{Kind, Part, Proportions, Sequence};

/// The connector `nexmark`. In parentheses what Flink's connector of that name calls the same.
///
/// | option | values | default |
/// |---|---|---|
/// | `events_of` | `person`, `auction` or `bid`: the table has the events of this kind, and its columns; without it all | |
/// | `events` (`events.num`) | how many events of all kinds there are, or `endless` | `endless` |
/// | `event_rate` (`first-event.rate`) | events of all kinds a second, or `max` for as fast as possible | `10000` |
/// | `event_delay` | event time from one event to the next | by the rate; `100 us` with `max` |
/// | `first_event_time` | the time of the first event | `2015-07-15T00:00:00Z` |
/// | `out_of_order_group_size` | so many events that follow one another have their times shuffled | `1` |
/// | `seed` | a number | `1` |
/// | `splits` | how many instances may make events at once | `1` |
/// | `person_proportion`, `auction_proportion`, `bid_proportion` (`person.proportion` ...) | how many of each kind a cycle has | `1`, `3`, `46` |
/// | `hot_auction_ratio` (`bid.hot-ratio.auctions`) | all but one in so many bids are for the hot auction | `2` |
/// | `hot_bidder_ratio` (`bid.hot-ratio.bidders`) | all but one in so many bids are of the hot bidder | `4` |
/// | `hot_seller_ratio` (`auction.hot-ratio.sellers`) | all but one in so many auctions are of the hot seller | `4` |
/// | `person_size`, `auction_size`, `bid_size` (`person.avg-size` ...) | average bytes of an event, to which `extra` fills it up | `200`, `500`, `100` |
/// | `in_flight_auctions`, `active_people` | how many there are to choose from | `100`, `1000` |
pub struct NexmarkConnector;

/// A nexmark table with its options understood.
struct Nexmark {
    house: House,
    kind: Option<Kind>,
    /// Which events are rows.
    part: Part,
    /// How many events of all kinds there are.
    events: Option<u64>,
    /// How many of all kinds come in a second; `None` for as fast as possible.
    rate: Option<u64>,
    splits: u64,
    columns: Vec<(String, Column)>,
}

struct NexmarkTable(Arc<Nexmark>);

impl ConnectorTable for NexmarkTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        Some(Arc::new(MadeUpFactory(self.0.clone())))
    }
}

/// 2015-07-15T00:00:00Z, as in Apache Beam.
const FIRST_TIME: i64 = 1_436_918_400_000;

/// The largest average size: a batch of a million such texts fits Arrow's offsets of 32 bits.
const LARGEST: i64 = 1_500;

impl Connector for NexmarkConnector {
    fn name(&self) -> &'static str {
        "nexmark"
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        let kind = options.choice(&["events_of"], &Kind::ALL);
        let events = match word(options, &["events", "events.num"], "endless") {
            true => None,
            false => options.integer(&["events", "events.num"], 0..=i64::MAX).map(|events| events as u64),
        };
        let rate = match word(options, &["event_rate", "first-event.rate"], "max") {
            true => None,
            false => Some(number(options, &["event_rate", "first-event.rate"], 1..=1_000_000_000, 10_000)),
        };
        let by_rate = rate.map_or(Duration::from_micros(100), |rate| Duration::from_nanos(1_000_000_000 / rate));
        let delay = options.duration(&["event_delay"]).unwrap_or(by_rate);
        let house = House {
            sequence: Sequence {
                seed: number(options, &["seed"], 0..=i64::MAX, 1),
                proportions: Proportions {
                    people: number(options, &["person_proportion", "person.proportion"], 1..=10_000, 1),
                    auctions: number(options, &["auction_proportion", "auction.proportion"], 1..=10_000, 3),
                    bids: number(options, &["bid_proportion", "bid.proportion"], 1..=10_000, 46),
                },
                first_time: first_time(options),
                delay: u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX),
                out_of_order: number(options, &["out_of_order_group_size"], 1..=952, 1),
            },
            hot_auction_ratio: number(options, &["hot_auction_ratio", "bid.hot-ratio.auctions"], 1..=1_000_000, 2),
            hot_seller_ratio: number(options, &["hot_seller_ratio", "auction.hot-ratio.sellers"], 1..=1_000_000, 4),
            hot_bidder_ratio: number(options, &["hot_bidder_ratio", "bid.hot-ratio.bidders"], 1..=1_000_000, 4),
            sizes: [
                number(options, &["person_size", "person.avg-size"], 0..=LARGEST, 200) as usize,
                number(options, &["auction_size", "auction.avg-size"], 0..=LARGEST, 500) as usize,
                number(options, &["bid_size", "bid.avg-size"], 0..=LARGEST, 100) as usize,
            ],
            in_flight_auctions: number(options, &["in_flight_auctions"], 0..=1_000_000, 100),
            active_people: number(options, &["active_people"], 1..=1_000_000, 1000),
        };
        let splits = number(options, &["splits"], 1..=1024, 1);
        let columns = columns::columns(table, kind, options);
        let part = house.sequence.proportions.part(kind);
        Arc::new(NexmarkTable(Arc::new(Nexmark { house, kind, part, events, rate, splits, columns })))
    }
}

/// Whether the option, under one of its names, is that word; then it is taken.
fn word(options: &mut Options, names: &[&'static str], word: &str) -> bool {
    let is_word = names.iter().any(|name| options.peek(name) == Some(word));
    if is_word {
        options.take(names);
    }
    is_word
}

fn number(options: &mut Options, names: &[&'static str], range: std::ops::RangeInclusive<i64>, default: u64) -> u64 {
    options.integer(names, range).map_or(default, |number| number as u64)
}

fn first_time(options: &mut Options) -> i64 {
    let Some(option) = options.take(&["first_event_time"]) else { return FIRST_TIME };
    let time = string_to_datetime(&Utc, &option.text).ok().filter(|time| time.timestamp_nanos_opt().is_some());
    time.map_or_else(
        || {
            let message = format!("option '{}' does not take {}", option.key, option.shown());
            let help = "it takes a time such as '2015-07-15T00:00:00Z'".into();
            options.error(option.location, message, Some(help));
            FIRST_TIME
        },
        |time| time.timestamp_millis(),
    )
}

impl MadeUp for Nexmark {
    fn connector(&self) -> &'static str {
        "nexmark"
    }

    fn describe(&self) -> String {
        let kind = match self.kind {
            None => "all",
            Some(Kind::Person) => "people",
            Some(Kind::Auction) => "auctions",
            Some(Kind::Bid) => "bids",
        };
        let events = self.events.map_or("endless events".into(), |events| format!("{events} events"));
        match self.rate {
            Some(rate) => format!("nexmark, {kind} of {events}, {rate} a second"),
            None => format!("nexmark, {kind} of {events}"),
        }
    }

    fn rows(&self) -> Option<u64> {
        self.events.map(|events| self.part.row(events))
    }

    fn end_option(&self) -> &'static str {
        "events"
    }

    fn pace(&self) -> Option<Pace> {
        let pace = |rate| Pace { rows: rate * self.part.width, each: Duration::from_secs(self.part.cycle) };
        self.rate.map(pace)
    }

    fn splits(&self) -> u64 {
        self.splits
    }

    fn offset(&self, row: u64) -> u64 {
        self.part.event(row)
    }

    fn row_at(&self, offset: u64) -> u64 {
        self.part.row(offset)
    }

    fn make(&self, rows: Numbers, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let events = rows.iter().map(|row| self.house.sequence.event(self.part.event(row))).collect();
        Rows { house: &self.house, events }.batch(schema, &self.columns)
    }
}
