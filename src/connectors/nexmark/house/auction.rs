//! Auctions: an item that somebody sells.

use super::super::dice::Roll;
use super::super::sequence::{Event, FIRST_ID};
use super::super::text;
use super::{Field, House, Value, date_time, person};

/// The ids of categories begin here.
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

/// Auctions that will open soon may be bid for already.
const LEAD: u64 = 10;

/// One in so many auctions is hot.
const HOT: u64 = 100;

pub(super) const FIELDS: &[Field] = &[
    Field { name: "id", value: Value::Number(|_, event| (FIRST_ID + event.newest_auction) as i64) },
    Field { name: "item_name", value: Value::Text(item_name) },
    Field { name: "description", value: Value::Text(description) },
    Field { name: "initial_bid", value: Value::Number(initial_bid) },
    Field { name: "reserve", value: Value::Number(reserve) },
    Field { name: "date_time", value: Value::Time(date_time) },
    Field { name: "expires", value: Value::Time(expires) },
    Field { name: "seller", value: Value::Number(seller) },
    Field { name: "category", value: Value::Number(category) },
    Field { name: "extra", value: Value::Text(extra) },
];

/// The id of one of the auctions that are open, or will be soon.
pub(super) fn any(house: &House, event: &Event, roll: Roll) -> u64 {
    let oldest = event.newest_auction.saturating_sub(house.in_flight_auctions);
    FIRST_ID + oldest + event.dice.below(roll, event.newest_auction - oldest + 1 + LEAD)
}

/// The id of the auction that is hot now.
pub(super) fn hot(event: &Event) -> u64 {
    FIRST_ID + event.newest_auction / HOT * HOT
}

fn item_name(_: &House, event: &Event, out: &mut Vec<u8>) {
    text::word(&mut event.dice.stream(Roll::ItemName), 20, b' ', out);
}

fn description(_: &House, event: &Event, out: &mut Vec<u8>) {
    text::word(&mut event.dice.stream(Roll::Description), 100, b' ', out);
}

fn initial_bid(_: &House, event: &Event) -> i64 {
    event.dice.price(Roll::InitialBid)
}

fn reserve(house: &House, event: &Event) -> i64 {
    initial_bid(house, event) + event.dice.price(Roll::Reserve)
}

/// An auction is open for as long, on average, as it takes until so many others have opened as are open at a time.
fn expires(house: &House, event: &Event) -> i64 {
    let sequence = &house.sequence;
    let events = house.in_flight_auctions * sequence.proportions.cycle() / sequence.proportions.auctions;
    let horizon = sequence.time(event.turn + events) - event.time;
    let length = 1 + event.dice.below(Roll::Expires, (2 * horizon).max(1) as u64);
    event.time + length as i64
}

fn seller(house: &House, event: &Event) -> i64 {
    let hot = event.dice.is_hot(Roll::IsHotSeller, house.hot_seller_ratio);
    let seller = if hot { person::hot(event, 0) } else { person::anybody(house, event, Roll::Seller) };
    seller as i64
}

fn category(_: &House, event: &Event) -> i64 {
    (FIRST_CATEGORY + event.dice.below(Roll::Category, CATEGORIES)) as i64
}

fn extra(house: &House, event: &Event, out: &mut Vec<u8>) {
    // Six numbers and times beside the texts.
    let size = 48 + super::size(house, event, &[item_name, description], out);
    house.pad(event, size, out);
}
