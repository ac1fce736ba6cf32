//! The auction house: what an event says, field by field.
//!
//! Names, cities, ids and their ratios are those of the Nexmark specification, as Apache Beam and Flink have it.

mod auction;
mod bid;
mod person;

use super::dice::Roll;
use super::sequence::{Event, Kind, Sequence};
use super::text;

/// The settings that values depend on.
#[derive(Clone, Debug)]
pub(super) struct House {
    pub(super) sequence: Sequence,
    /// All but one in so many bids are for a hot auction.
    pub(super) hot_auction_ratio: u64,
    /// All but one in so many auctions are of a hot seller.
    pub(super) hot_seller_ratio: u64,
    /// All but one in so many bids are of a hot bidder.
    pub(super) hot_bidder_ratio: u64,
    /// The average size in bytes of a person, an auction and a bid.
    pub(super) sizes: [usize; 3],
    /// How many auctions are open at a time.
    pub(super) in_flight_auctions: u64,
    /// How many people take part at a time.
    pub(super) active_people: u64,
}

/// A field of an event.
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// How it is made.
    pub(super) value: Value,
}

/// How the value of a field is made.
#[derive(Clone, Copy)]
pub(super) enum Value {
    /// A whole number.
    Number(fn(&House, &Event) -> i64),
    /// A time in milliseconds.
    Time(fn(&House, &Event) -> i64),
    /// A text, appended to those before it.
    Text(fn(&House, &Event, &mut Vec<u8>)),
}

/// The fields of the events of one kind.
pub(super) fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Person => person::FIELDS,
        Kind::Auction => auction::FIELDS,
        Kind::Bid => bid::FIELDS,
    }
}

/// The event's own time.
pub(super) fn date_time(_: &House, event: &Event) -> i64 {
    event.time
}

impl House {
    /// Letters that bring an event of which `size` bytes are there to the average size of its kind.
    fn pad(&self, event: &Event, size: usize, out: &mut Vec<u8>) {
        let average = self.sizes[event.kind as usize];
        let length = text::padding(size, average, |end| event.dice.below(Roll::ExtraLength, end));
        text::letters(&mut event.dice.stream(Roll::Extra), length, out);
    }
}

/// How many bytes these fields take, which are written behind `out` for that and taken off again.
fn size(house: &House, event: &Event, fields: &[fn(&House, &Event, &mut Vec<u8>)], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    for write in fields {
        write(house, event, out);
    }
    let size = out.len() - start;
    out.truncate(start);
    size
}
