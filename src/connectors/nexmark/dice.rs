//! The randomness of an event: a function of the seed, the event's number and what is rolled for, so that a value does not
//! depend on which others are made.

use std::sync::LazyLock;

use crate::connectors::made_up::{GOLDEN, mix};

/// The randomness of one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(u64);

/// What is rolled for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Roll {
    FirstName,
    LastName,
    Mailbox,
    MailHost,
    CreditCard,
    City,
    State,
    ItemName,
    Description,
    InitialBid,
    Reserve,
    Expires,
    IsHotSeller,
    Seller,
    Category,
    IsHotAuction,
    Auction,
    IsHotBidder,
    Bidder,
    Price,
    IsHotChannel,
    Channel,
    ExtraLength,
    Extra,
}

impl Dice {
    /// The randomness of the event of that number.
    pub(super) fn of(seed: u64, number: u64) -> Dice {
        Dice(mix(seed ^ mix(number)))
    }

    /// 64 bits.
    pub(super) fn roll(self, what: Roll) -> u64 {
        mix(self.0 ^ (what as u64 + 1).wrapping_mul(GOLDEN))
    }

    /// A number below `end`.
    pub(super) fn below(self, what: Roll, end: u64) -> u64 {
        scaled(self.roll(what), end)
    }

    /// Whether it is one of the many that come out hot: all but one in `ratio`.
    pub(super) fn is_hot(self, what: Roll, ratio: u64) -> bool {
        self.below(what, ratio) > 0
    }

    /// A price in cents: its logarithm is uniform from 1 to a million.
    pub(super) fn price(self, what: Roll) -> i64 {
        let roll = self.roll(what);
        let place = (roll >> 52) as usize;
        let (low, high) = (PRICES[place], PRICES[place + 1]);
        let share = (roll << 12 >> 11) as f64 / (1_u64 << 53) as f64;
        (low + (high - low) * share).round() as i64
    }

    /// As many bits as one likes.
    pub(super) fn stream(self, what: Roll) -> Stream {
        Stream(self.roll(what))
    }
}

/// `100 × 10^(6 × place / 4096)`, between which prices lie. With a logarithm of the system's library, the same events
/// could come out with other prices on another machine.
static PRICES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    const STEP: f64 = 1.003_378_622_102_704_8;
    std::iter::successors(Some(100.0), |price| Some(price * STEP)).take(4097).collect()
});

/// Random bits without an end.
pub(super) struct Stream(u64);

impl Stream {
    /// A stream of its own for everything that no event has.
    pub(super) fn of(number: u64) -> Stream {
        Stream(mix(number))
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        scaled(self.bits(), end)
    }
}

fn scaled(bits: u64, end: u64) -> u64 {
    ((u128::from(bits) * u128::from(end)) >> 64) as u64
}
