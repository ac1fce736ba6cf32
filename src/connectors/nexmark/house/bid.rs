//! Bids: somebody's offer for an item, by a channel that has a page.

use std::io::Write;
use std::sync::LazyLock;

use super::super::dice::{Roll, Stream};
use super::super::sequence::Event;
use super::super::text::{self, Texts};
use super::{Field, House, Value, auction, date_time, person};

/// Half of the bids come by these.
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// All but one in so many bids come by a hot channel.
const HOT_CHANNELS_RATIO: u64 = 2;
/// The others.
const CHANNELS: u64 = 10_000;

pub(super) const FIELDS: &[Field] = &[
    Field { name: "auction", value: Value::Number(auction) },
    Field { name: "bidder", value: Value::Number(bidder) },
    Field { name: "price", value: Value::Number(|_, event| event.dice.price(Roll::Price)) },
    Field { name: "channel", value: Value::Text(|_, event, out| out.extend_from_slice(NAMES.get(channel(event)))) },
    Field { name: "url", value: Value::Text(|_, event, out| out.extend_from_slice(URLS.get(channel(event)))) },
    Field { name: "date_time", value: Value::Time(date_time) },
    // Auction, bidder, price and time are there; channel and page do not count.
    Field { name: "extra", value: Value::Text(|house, event, out| house.pad(event, 32, out)) },
];

fn auction(house: &House, event: &Event) -> i64 {
    let hot = event.dice.is_hot(Roll::IsHotAuction, house.hot_auction_ratio);
    let auction = if hot { auction::hot(event) } else { auction::any(house, event, Roll::Auction) };
    auction as i64
}

/// Hot bidders are the neighbours of hot sellers, so that they do not bid for what they sell.
fn bidder(house: &House, event: &Event) -> i64 {
    let hot = event.dice.is_hot(Roll::IsHotBidder, house.hot_bidder_ratio);
    let bidder = if hot { person::hot(event, 1) } else { person::anybody(house, event, Roll::Bidder) };
    bidder as i64
}

/// The place of the bid's channel in [`NAMES`] and [`URLS`].
fn channel(event: &Event) -> usize {
    let hot = event.dice.is_hot(Roll::IsHotChannel, HOT_CHANNELS_RATIO);
    let count = HOT_CHANNELS.len();
    if hot {
        event.dice.below(Roll::Channel, count as u64) as usize
    } else {
        count + event.dice.below(Roll::Channel, CHANNELS) as usize
    }
}

static NAMES: LazyLock<Texts> = LazyLock::new(|| {
    Texts::made(HOT_CHANNELS.len() + CHANNELS as usize, |place, out| match HOT_CHANNELS.get(place) {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        // Writing to a vector cannot fail.
        None => drop(write!(out, "channel-{}", place - HOT_CHANNELS.len())),
    })
});

/// The pages, the same whatever the seed. Nine in ten of those that are not hot name their channel.
static URLS: LazyLock<Texts> = LazyLock::new(|| {
    Texts::made(HOT_CHANNELS.len() + CHANNELS as usize, |place, out| {
        let mut stream = Stream::of(place as u64);
        out.extend_from_slice(b"https://www.nexmark.com/");
        for _ in 0..3 {
            text::word(&mut stream, 5, b'_', out);
            out.push(b'/');
        }
        out.extend_from_slice(b"item.htm?query=1");
        if let Some(number) = place.checked_sub(HOT_CHANNELS.len())
            && stream.below(10) > 0
        {
            let id = (number as i32).reverse_bits().unsigned_abs();
            let _ = write!(out, "&channel_id={id}");
        }
    })
});
