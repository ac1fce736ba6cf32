//! InstaShop's events from a seed: for tests, benchmarks, `acequia generate` and the demo.
//!
//! [`ShopEvents`] is an endless stream of events in the shapes that the shop's systems exchange (topics
//! `transactions`, `user_behavior`, `searches`, `cart_events`), a pure function of its [`ShopOptions`]. [`Catalogue`]
//! holds the base data that the events refer to. [`Ledger`] adds up, apart from any pipeline, what a pipeline over
//! these events must find. Money is counted in cents; only the JSON has a decimal point.

mod catalogue;
mod events;
pub(crate) mod json;
mod ledger;
mod stream;
mod timetable;

pub use catalogue::{BUYERS, Buyer, CATEGORIES, CUSTOMERS, Catalogue, Category, Customer, PRODUCTS, Product};
pub use events::{Behaviour, Cart, Event, Interaction, Item, Items, Search, Transaction};
pub use ledger::{CategoryTotals, Ledger, WindowTotals};
pub use stream::{ShopEvents, ShopOptions};

/// One event as it goes to Kafka.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShopEvent {
    /// The topic.
    pub topic: &'static str,
    /// The key: the customer's id as text.
    pub key: String,
    /// The value: JSON.
    pub value: Vec<u8>,
    /// When it happened, in milliseconds since 1970.
    pub event_time: i64,
}

/// Numbers from a seed, the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(rand_chacha::ChaCha8Rng);

impl Dice {
    /// The stream of numbers that belongs to `seed`.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(rand_chacha::rand_core::SeedableRng::seed_from_u64(seed))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let random = rand_chacha::rand_core::RngCore::next_u64(&mut self.0);
        ((u128::from(random) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something with this chance, in thousandths, happens.
    pub(crate) fn chance(&mut self, thousandths: u64) -> bool {
        self.below(1000) < thousandths
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
