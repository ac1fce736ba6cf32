//! The stream of events: sessions that browse, search, fill carts, and buy or abandon them.

use smallvec::SmallVec;

use super::catalogue::{BUYERS, CUSTOMERS, Catalogue, PRODUCTS, skewed};
use super::{Dice, ShopEvent, json};

/// Sessions that go on at the same time.
const SESSIONS: usize = 40;
/// Carts that may wait to be paid; more are abandoned.
const WAITING_CARTS: usize = 64;
/// Different products in a cart.
const CART_ITEMS: usize = 5;

/// What the events look like.
#[derive(Clone, PartialEq, Debug)]
pub struct ShopOptions {
    /// The same seed gives the same events, byte for byte.
    pub seed: u64,
    /// When the first event happens, in milliseconds since 1970.
    pub start: i64,
    /// How many events happen in a second of event time.
    pub events_per_second: u64,
    /// How many of the events are transactions, from 0 to 1.
    pub transaction_share: f64,
    /// By how much an event may stand behind its place in time, in milliseconds; 0 keeps them in order.
    pub disorder: u64,
}

impl Default for ShopOptions {
    /// Ten events a second from 2024-01-01, 70 % transactions, in order.
    fn default() -> ShopOptions {
        let start = 1_704_067_200_000;
        ShopOptions { seed: 1, start, events_per_second: 10, transaction_share: 0.7, disorder: 0 }
    }
}

/// Something that happened in the shop. Customers, buyers and products are indexes into the [`Catalogue`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Topic `transactions`.
    Transaction(Transaction),
    /// Topic `user_behavior`.
    Behaviour(Behaviour),
    /// Topic `searches`.
    Search(Search),
    /// Topic `cart_events`.
    Cart(Cart),
}

/// Something was bought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// From 1, each once.
    pub id: u64,
    /// The shop.
    pub customer: usize,
    /// Who bought.
    pub buyer: usize,
    /// What was bought; never empty, each product once.
    pub items: SmallVec<[Item; CART_ITEMS]>,
    /// How it is paid.
    pub payment_method: &'static str,
    /// How far it is.
    pub status: &'static str,
}

/// One line of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// The product.
    pub product: usize,
    /// How many.
    pub quantity: u64,
    /// What one costs here, in cents.
    pub unit_price: u64,
}

/// Somebody looked at something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behaviour {
    /// The shop.
    pub customer: usize,
    /// The session's number.
    pub session: u64,
    /// What was done.
    pub interaction_type: &'static str,
    /// From where.
    pub channel: &'static str,
    /// What came of it.
    pub status: &'static str,
    /// What was looked at, if it was a product.
    pub product: Option<usize>,
}

/// Somebody searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    /// The shop.
    pub customer: usize,
    /// The session's number.
    pub session: u64,
    /// What for.
    pub query: &'static str,
    /// How much was found.
    pub results: u64,
}

/// A cart was filled or left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cart {
    /// The shop.
    pub customer: usize,
    /// The session's number.
    pub session: u64,
    /// What is in it, in cents.
    pub total: u64,
    /// Whether it was left without buying.
    pub abandoned: bool,
}

impl Transaction {
    /// The sum of quantity × unit price, in cents.
    pub fn total(&self) -> u64 {
        self.items.iter().map(|item| item.quantity * item.unit_price).sum()
    }
}

impl Event {
    /// The topic it goes to.
    pub fn topic(&self) -> &'static str {
        match self {
            Event::Transaction(_) => "transactions",
            Event::Behaviour(_) => "user_behavior",
            Event::Search(_) => "searches",
            Event::Cart(_) => "cart_events",
        }
    }

    /// Its `event_type`.
    pub fn event_type(&self) -> &'static str {
        match self {
            Event::Transaction(_) => "transaction",
            Event::Behaviour(_) => "user_behavior",
            Event::Search(_) => "search",
            Event::Cart(cart) if cart.abandoned => "cart_abandonment",
            Event::Cart(_) => "cart_event",
        }
    }

    /// The shop's index in [`Catalogue::customers`].
    pub fn customer(&self) -> usize {
        match self {
            Event::Transaction(Transaction { customer, .. })
            | Event::Behaviour(Behaviour { customer, .. })
            | Event::Search(Search { customer, .. })
            | Event::Cart(Cart { customer, .. }) => *customer,
        }
    }
}

/// A visitor on the way.
#[derive(Clone, Debug)]
struct Session {
    number: u64,
    customer: usize,
    channel: &'static str,
    cart: SmallVec<[Item; CART_ITEMS]>,
    steps_left: u64,
}

/// An endless stream of events; see [`ShopEvents::next_into`] and, for typed events, [`ShopEvents::advance`].
#[derive(Clone, Debug)]
pub struct ShopEvents {
    options: ShopOptions,
    catalogue: Catalogue,
    dice: Dice,
    transaction_thousandths: u64,
    sessions: Vec<Session>,
    /// Carts on their way to a transaction.
    waiting: Vec<(usize, SmallVec<[Item; CART_ITEMS]>)>,
    count: u64,
    transactions: u64,
    sessions_begun: u64,
}

const PAYMENTS: [&str; 5] = ["credit_card", "credit_card", "paypal", "bank_transfer", "cash_on_delivery"];
const CHANNELS: [&str; 4] = ["web", "mobile", "email", "social"];
const LOOKS: [&str; 7] =
    ["page_view", "page_view", "product_view", "product_view", "product_view", "wishlist", "review"];

impl ShopEvents {
    /// The events of these options, from the first on.
    pub fn new(options: ShopOptions) -> ShopEvents {
        let mut events = ShopEvents {
            catalogue: Catalogue::new(options.seed),
            dice: Dice::new(options.seed),
            transaction_thousandths: (options.transaction_share.clamp(0.0, 1.0) * 1000.0).round() as u64,
            options,
            sessions: vec![],
            waiting: vec![],
            count: 0,
            transactions: 0,
            sessions_begun: 0,
        };
        for _ in 0..SESSIONS {
            let session = events.new_session();
            events.sessions.push(session);
        }
        events
    }

    /// What the events refer to.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The next event and when it happened, in milliseconds since 1970.
    pub fn advance(&mut self) -> (Event, i64) {
        let elapsed = u128::from(self.count) * 1000 / u128::from(self.options.events_per_second.max(1));
        self.count += 1;
        let behind = if self.options.disorder > 0 { self.dice.below(self.options.disorder + 1) } else { 0 };
        let event_time = self.options.start + elapsed as i64 - behind as i64;
        let event = match self.dice.chance(self.transaction_thousandths) {
            true => Event::Transaction(self.transaction()),
            false => self.visit(),
        };
        (event, event_time)
    }

    /// Appends the next event's JSON to `out`; gives the event and when it happened.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> (Event, i64) {
        let (event, event_time) = self.advance();
        json::write(&self.catalogue, &event, event_time, out);
        (event, event_time)
    }

    fn new_session(&mut self) -> Session {
        self.sessions_begun += 1;
        Session {
            number: self.sessions_begun,
            // A few shops have most of the visitors.
            customer: skewed(CUSTOMERS, &mut self.dice) as usize,
            channel: self.dice.pick(&CHANNELS),
            cart: SmallVec::new(),
            steps_left: self.dice.between(3, 12),
        }
    }

    /// One of the carts that wait, or a purchase by somebody whose session nobody saw.
    fn transaction(&mut self) -> Transaction {
        self.transactions += 1;
        let (customer, items) = if self.waiting.is_empty() {
            let customer = skewed(CUSTOMERS, &mut self.dice) as usize;
            let mut items = SmallVec::new();
            for _ in 0..self.dice.between(1, CART_ITEMS as u64) {
                self.put(customer, &mut items);
            }
            (customer, items)
        } else {
            self.waiting.swap_remove(0)
        };
        let status = match self.dice.below(100) {
            0..92 => "completed",
            92..97 => "pending",
            _ => "cancelled",
        };
        Transaction {
            id: self.transactions,
            customer,
            buyer: self.dice.below(u64::from(BUYERS)) as usize,
            items,
            payment_method: self.dice.pick(&PAYMENTS),
            status,
        }
    }

    /// Puts one of the shop's products into a cart; one that is in it already gets more.
    fn put(&mut self, customer: usize, cart: &mut SmallVec<[Item; CART_ITEMS]>) {
        let product = self.dice.pick(&self.catalogue.customers[customer].products);
        let quantity = self.dice.between(1, 3);
        if let Some(item) = cart.iter_mut().find(|item| item.product == product) {
            item.quantity += quantity;
        } else if cart.len() < CART_ITEMS {
            let price = self.catalogue.products[product].price;
            let discount = if self.dice.chance(100) { self.dice.pick(&[5, 10, 20]) } else { 0 };
            cart.push(Item { product, quantity, unit_price: price - price * discount / 100 });
        }
    }

    /// The next step of one of the visitors.
    fn visit(&mut self) -> Event {
        let place = self.dice.below(SESSIONS as u64) as usize;
        let mut session = self.sessions[place].clone();
        let over = session.steps_left == 0;
        let event = match self.dice.below(100) {
            _ if over && !session.cart.is_empty() => self.leave_with_cart(&session),
            0..22 => self.search(&session),
            22..45 if !over => {
                self.put(session.customer, &mut session.cart);
                cart_event(&session, false)
            }
            _ => self.look(&session),
        };
        session.steps_left = session.steps_left.saturating_sub(1);
        self.sessions[place] = if over { self.new_session() } else { session };
        event
    }

    fn leave_with_cart(&mut self, session: &Session) -> Event {
        if self.dice.chance(400) || self.waiting.len() >= WAITING_CARTS {
            return cart_event(session, true);
        }
        self.waiting.push((session.customer, session.cart.clone()));
        Event::Behaviour(Behaviour {
            customer: session.customer,
            session: session.number,
            interaction_type: "checkout",
            channel: session.channel,
            status: "completed",
            product: None,
        })
    }

    fn search(&mut self, session: &Session) -> Event {
        let product = self.dice.below(u64::from(PRODUCTS)) as usize;
        let query = self.dice.pick(&self.catalogue.products[product].category().goods);
        let results = if self.dice.chance(80) { 0 } else { self.dice.between(1, 60) };
        Event::Search(Search { customer: session.customer, session: session.number, query, results })
    }

    fn look(&mut self, session: &Session) -> Event {
        let interaction_type = self.dice.pick(&LOOKS);
        let product = (interaction_type != "page_view")
            .then(|| self.dice.pick(&self.catalogue.customers[session.customer].products));
        let status = if self.dice.chance(30) { "failed" } else { "completed" };
        Event::Behaviour(Behaviour {
            customer: session.customer,
            session: session.number,
            interaction_type,
            channel: session.channel,
            status,
            product,
        })
    }
}

fn cart_event(session: &Session, abandoned: bool) -> Event {
    let total = session.cart.iter().map(|item| item.quantity * item.unit_price).sum();
    Event::Cart(Cart { customer: session.customer, session: session.number, total, abandoned })
}

impl Iterator for ShopEvents {
    type Item = ShopEvent;

    /// Never `None`.
    fn next(&mut self) -> Option<ShopEvent> {
        let mut value = Vec::with_capacity(512);
        let (event, event_time) = self.next_into(&mut value);
        let key = self.catalogue.customers[event.customer()].id.to_string();
        Some(ShopEvent { topic: event.topic(), key, value, event_time })
    }
}
