//! The stream of events: sessions that browse, search, fill carts, and buy or abandon them.

use super::catalogue::{Catalogue, skewed};
use super::events::{Behaviour, CART_ITEMS, Cart, Event, Interaction, Item, Items, Search, Transaction};
use super::timetable::Timetable;
use super::{Dice, ShopEvent, json};

/// How long a visitor takes from one step to the next on average, in seconds: so many sessions go on at the same time
/// as the steps' rate needs.
const STEP: f64 = 13.0;
/// Most sessions that go on at the same time: at high rates visitors are fast instead.
const SESSIONS: f64 = 1000.0;
/// Carts that may wait to be paid; more are abandoned.
const WAITING_CARTS: usize = 64;
/// Buyers that a shop knows.
const REGULARS: usize = 12;

/// What the events look like.
#[derive(Clone, PartialEq, Debug)]
pub struct ShopOptions {
    /// The same seed gives the same events, byte for byte.
    pub seed: u64,
    /// When the first event happens, in milliseconds since 1970.
    pub start: i64,
    /// How many events happen in a second of event time.
    pub events_per_second: f64,
    /// How many of the events are transactions, from 0 to 1.
    pub transaction_share: f64,
    /// How many of the others are interactions of the CRM, from 0 to 1.
    pub interaction_share: f64,
    /// Whether nights are quiet and evenings busy; the rate is the day's average then.
    pub rhythm: bool,
    /// By how much an event may stand behind its place in time, in milliseconds; 0 keeps them in order.
    pub disorder: u64,
}

impl Default for ShopOptions {
    /// Ten events a second from 2024-01-01, 70 % transactions, evenly, in order.
    fn default() -> ShopOptions {
        ShopOptions {
            seed: 1,
            start: 1_704_067_200_000,
            events_per_second: 10.0,
            transaction_share: 0.7,
            interaction_share: 0.06,
            rhythm: false,
            disorder: 0,
        }
    }
}

/// A visitor on the way.
#[derive(Clone, Debug)]
struct Session {
    number: u64,
    customer: usize,
    buyer: usize,
    channel: &'static str,
    cart: Items,
    steps_left: u64,
}

/// A cart on its way to a transaction.
#[derive(Clone, Debug)]
struct Order {
    customer: usize,
    buyer: usize,
    items: Items,
}

/// An endless stream of events; see [`ShopEvents::next_into`] and, for typed events, [`ShopEvents::advance`].
#[derive(Clone, Debug)]
pub struct ShopEvents {
    options: ShopOptions,
    catalogue: Catalogue,
    sellers: Vec<usize>,
    dice: Dice,
    timetable: Timetable,
    transaction_thousandths: u64,
    interaction_thousandths: u64,
    sessions: Vec<Session>,
    session_prefix: String,
    waiting: Vec<Order>,
    /// By customer: buyers who came before.
    regulars: Vec<Vec<usize>>,
    transactions: u64,
    sessions_begun: u64,
}

const PAYMENTS: [&str; 5] = ["credit_card", "credit_card", "paypal", "bank_transfer", "cash_on_delivery"];
const CHANNELS: [&str; 4] = ["web", "mobile", "email", "social"];
const LOOKS: [&str; 7] =
    ["page_view", "page_view", "product_view", "product_view", "product_view", "wishlist", "review"];
const INTERACTIONS: [(&str, &str); 6] = [
    ("call", "phone"),
    ("email", "email"),
    ("email", "email"),
    ("chat", "web"),
    ("support_ticket", "web"),
    ("meeting", "in_person"),
];

impl ShopEvents {
    /// The events of these options over their seed's base data, from the first on.
    pub fn new(options: ShopOptions) -> ShopEvents {
        let catalogue = Catalogue::new(options.seed);
        ShopEvents::over(catalogue, options)
    }

    /// The events of these options over base data that is there already. It needs a buyer and a customer with a product.
    ///
    /// # Panics
    /// When one of these is missing.
    pub fn over(catalogue: Catalogue, options: ShopOptions) -> ShopEvents {
        let sellers = catalogue.sellers();
        assert!(!sellers.is_empty() && !catalogue.buyers.is_empty(), "nobody sells or nobody buys");
        let thousandths = |share: f64| (share.clamp(0.0, 1.0) * 1000.0).round() as u64;
        let mut events = ShopEvents {
            sellers,
            dice: Dice::new(options.seed),
            timetable: Timetable::new(options.start, options.events_per_second, options.rhythm),
            transaction_thousandths: thousandths(options.transaction_share),
            interaction_thousandths: thousandths(options.interaction_share),
            sessions: vec![],
            session_prefix: session_prefix(&options),
            waiting: vec![],
            regulars: vec![vec![]; catalogue.customers.len()],
            catalogue,
            options,
            transactions: 0,
            sessions_begun: 0,
        };
        events.fill_sessions();
        events
    }

    /// What the events refer to.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What a session's number stands behind in its id. It differs from start to start, so that a generator that runs
    /// again begins no session that was there before.
    pub fn session_prefix(&self) -> &str {
        &self.session_prefix
    }

    /// When the next event is due, in milliseconds since 1970.
    pub fn next_due(&self) -> i64 {
        self.timetable.next()
    }

    /// From the next event on so many happen in a second of event time.
    pub fn set_pace(&mut self, events_per_second: f64) {
        self.options.events_per_second = events_per_second;
        self.timetable.set_pace(events_per_second);
        self.fill_sessions();
    }

    /// The next event and when it happened, in milliseconds since 1970.
    pub fn advance(&mut self) -> (Event, i64) {
        let due = self.timetable.next();
        self.timetable.advance();
        let behind = if self.options.disorder > 0 { self.dice.below(self.options.disorder + 1) } else { 0 };
        (self.happen(), due - behind as i64)
    }

    /// The next event, whatever its time in the timetable.
    pub fn happen(&mut self) -> Event {
        if self.dice.chance(self.transaction_thousandths) {
            Event::Transaction(self.transaction())
        } else if self.dice.chance(self.interaction_thousandths) {
            Event::Interaction(self.interaction())
        } else {
            self.visit()
        }
    }

    /// Appends the next event's JSON to `out`; gives the event and when it happened.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> (Event, i64) {
        let (event, event_time) = self.advance();
        self.write_json(&event, event_time, out);
        (event, event_time)
    }

    /// Appends an event's JSON, as its topic has it, to `out`.
    pub fn write_json(&self, event: &Event, event_time: i64, out: &mut Vec<u8>) {
        json::write(&self.catalogue, &self.session_prefix, event, event_time, out);
    }

    fn fill_sessions(&mut self) {
        let steps = self.options.events_per_second * (1.0 - self.options.transaction_share.clamp(0.0, 1.0));
        let wanted = (steps * STEP).clamp(1.0, SESSIONS) as usize;
        self.sessions.truncate(wanted);
        while self.sessions.len() < wanted {
            let session = self.new_session();
            self.sessions.push(session);
        }
    }

    fn new_session(&mut self) -> Session {
        self.sessions_begun += 1;
        let customer = self.seller();
        Session {
            number: self.sessions_begun,
            customer,
            buyer: self.buyer(customer),
            channel: self.dice.pick(&CHANNELS),
            cart: Items::new(),
            steps_left: self.dice.between(3, 12),
        }
    }

    /// A few shops have most of the visitors.
    fn seller(&mut self) -> usize {
        self.sellers[skewed(self.sellers.len(), &mut self.dice)]
    }

    /// Most buyers come back to a shop they know.
    fn buyer(&mut self, customer: usize) -> usize {
        let known = &self.regulars[customer];
        if !known.is_empty() && self.dice.chance(600) {
            return self.dice.pick(known);
        }
        self.dice.below(self.catalogue.buyers.len() as u64) as usize
    }

    fn remember(&mut self, customer: usize, buyer: usize) {
        let regulars = &mut self.regulars[customer];
        if regulars.contains(&buyer) {
            return;
        }
        if regulars.len() < REGULARS {
            regulars.push(buyer);
        } else {
            regulars[self.dice.below(REGULARS as u64) as usize] = buyer;
        }
    }

    /// One of the carts that wait, or a purchase by somebody whose session nobody saw.
    fn transaction(&mut self) -> Transaction {
        self.transactions += 1;
        let Order { customer, buyer, items } = if self.waiting.is_empty() {
            let customer = self.seller();
            let mut items = Items::new();
            for _ in 0..self.dice.between(1, CART_ITEMS as u64) {
                self.put(customer, &mut items);
            }
            Order { customer, buyer: self.buyer(customer), items }
        } else {
            self.waiting.swap_remove(0)
        };
        self.remember(customer, buyer);
        let status = match self.dice.below(100) {
            0..92 => "completed",
            92..97 => "pending",
            _ => "cancelled",
        };
        Transaction { id: self.transactions, customer, buyer, items, payment_method: self.dice.pick(&PAYMENTS), status }
    }

    fn interaction(&mut self) -> Interaction {
        let customer = self.dice.below(self.catalogue.customers.len() as u64) as usize;
        let (interaction_type, channel) = self.dice.pick(&INTERACTIONS);
        let status = match self.dice.below(10) {
            0..7 => "completed",
            7..9 => "pending",
            _ => "failed",
        };
        Interaction { customer, interaction_type, channel, status }
    }

    /// Puts one of the shop's products into a cart; one that is in it already gets more.
    fn put(&mut self, customer: usize, cart: &mut Items) {
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
        let place = self.dice.below(self.sessions.len() as u64) as usize;
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

    /// The end of a session with a cart: what is bought becomes a transaction soon.
    fn leave_with_cart(&mut self, session: &Session) -> Event {
        if self.dice.chance(400) || self.waiting.len() >= WAITING_CARTS {
            return cart_event(session, true);
        }
        self.waiting.push(Order { customer: session.customer, buyer: session.buyer, items: session.cart.clone() });
        Event::Behaviour(Behaviour {
            customer: session.customer,
            session: session.number,
            interaction_type: "purchase",
            channel: session.channel,
            status: "completed",
            product: None,
        })
    }

    fn search(&mut self, session: &Session) -> Event {
        let product = self.dice.below(self.catalogue.products.len() as u64) as usize;
        let results = if self.dice.chance(80) { 0 } else { self.dice.between(1, 60) };
        Event::Search(Search { customer: session.customer, session: session.number, product, results })
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

fn session_prefix(options: &ShopOptions) -> String {
    let mut of_start = Dice::new(options.seed ^ options.start as u64);
    format!("{:08x}-", of_start.below(1 << 32))
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

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::Value;

    use super::super::catalogue::{Buyer, Customer, Product};
    use super::*;

    const EVENTS: usize = 40_000;

    fn events(options: ShopOptions) -> Vec<Event> {
        let mut events = ShopEvents::new(options);
        (0..EVENTS).map(|_| events.advance().0).collect()
    }

    /// What happened in each session, in order.
    fn sessions(events: &[Event]) -> HashMap<u64, Vec<&'static str>> {
        let mut sessions: HashMap<u64, Vec<&'static str>> = HashMap::new();
        for event in events {
            let (session, kind) = match event {
                Event::Behaviour(behaviour) => (behaviour.session, behaviour.interaction_type),
                Event::Search(search) => (search.session, "search"),
                Event::Cart(cart) => (cart.session, cart.kind()),
                Event::Transaction(_) | Event::Interaction(_) => continue,
            };
            sessions.entry(session).or_default().push(kind);
        }
        sessions
    }

    #[test]
    fn a_purchase_or_an_abandoned_cart_ends_its_session_and_all_three_outcomes_are_common() {
        let events = events(ShopOptions::default());
        let sessions = sessions(&events);
        let mut outcomes = [0; 3];
        for steps in sessions.values() {
            let (last, before) = steps.split_last().unwrap();
            let ends = |step: &&str| ["purchase", "cart_abandonment"].contains(step);
            assert!(!before.iter().any(ends), "{steps:?}");
            if ends(last) {
                assert!(before.contains(&"cart_event"), "{steps:?}");
            }
            outcomes[match *last {
                "purchase" => 0,
                "cart_abandonment" => 1,
                _ => 2,
            }] += 1;
        }
        assert!(outcomes.iter().all(|count| count * 10 > sessions.len()), "{outcomes:?} of {}", sessions.len());
        let lengths: Vec<usize> = sessions.values().map(Vec::len).collect();
        assert!(*lengths.iter().max().unwrap() <= 13);
    }

    #[test]
    fn a_cart_that_was_bought_becomes_a_transaction_of_the_same_shop_and_sum() {
        let events = events(ShopOptions { transaction_share: 0.3, ..ShopOptions::default() });
        let mut bought: Vec<(usize, u64)> = vec![];
        let mut carts = HashMap::new();
        let mut paid = 0;
        for event in &events {
            match event {
                Event::Cart(cart) => drop(carts.insert(cart.session, cart.total)),
                Event::Behaviour(step) if step.interaction_type == "purchase" => {
                    bought.push((step.customer, carts[&step.session]));
                }
                Event::Transaction(transaction) => {
                    let order = (transaction.customer, transaction.total());
                    if let Some(place) = bought.iter().position(|waiting| *waiting == order) {
                        bought.remove(place);
                        paid += 1;
                    }
                }
                _ => {}
            }
        }
        assert!(paid > 500 && bought.len() <= WAITING_CARTS, "{paid} paid, {} not", bought.len());
    }

    #[test]
    fn most_buyers_come_back_to_a_shop_they_know() {
        let mut known: HashSet<(usize, usize)> = HashSet::new();
        let (mut back, mut all) = (0, 0);
        for event in events(ShopOptions { transaction_share: 1.0, ..ShopOptions::default() }).iter().take(2000) {
            let Event::Transaction(transaction) = event else { panic!("{event:?}") };
            all += 1;
            back += usize::from(!known.insert((transaction.customer, transaction.buyer)));
        }
        assert!(back * 10 > all * 6 && back < all, "{back} of {all}");
    }

    #[test]
    fn shares_are_as_asked() {
        let share = |options: ShopOptions, is: fn(&Event) -> bool| {
            events(options).iter().filter(|event| is(event)).count() as f64 / EVENTS as f64
        };
        let options = ShopOptions { transaction_share: 0.2, interaction_share: 0.5, ..ShopOptions::default() };
        let interactions = share(options.clone(), |event| matches!(event, Event::Interaction(_)));
        assert!((0.38..0.42).contains(&interactions), "{interactions}");
        let transactions = share(options.clone(), |event| matches!(event, Event::Transaction(_)));
        assert!((0.18..0.22).contains(&transactions), "{transactions}");
        let none = ShopOptions { interaction_share: 0.0, ..options };
        assert_eq!(share(none, |event| matches!(event, Event::Interaction(_))), 0.0);
    }

    #[test]
    fn another_pace_changes_the_times_and_keeps_on() {
        let mut events = ShopEvents::new(ShopOptions { start: 0, events_per_second: 0.2, ..ShopOptions::default() });
        assert_eq!([events.advance().1, events.advance().1, events.next_due()], [0, 5000, 10_000]);
        events.set_pace(10.0);
        assert_eq!([events.advance().1, events.advance().1], [10_000, 10_100]);
    }

    #[test]
    fn sessions_of_another_start_have_other_ids() {
        let prefix = |seed, start| {
            let events = ShopEvents::new(ShopOptions { seed, start, ..ShopOptions::default() });
            events.session_prefix().to_owned()
        };
        assert_eq!(prefix(1, 5), prefix(1, 5));
        assert_ne!(prefix(1, 5), prefix(1, 6));
        assert_ne!(prefix(1, 5), prefix(2, 5));
    }

    /// Base data of another hand: few entries, ids with gaps, a shop that sells nothing, names that JSON must escape.
    #[test]
    fn events_go_over_base_data_that_is_there_already() {
        let customer = |id, name: &str| Customer {
            id,
            name: name.into(),
            business_name: String::new(),
            email: String::new(),
            plan: "gold".into(),
            products: vec![],
        };
        let product = |id, customer_id, name: &str| Product {
            id,
            customer_id,
            name: name.into(),
            category: "antiques",
            price: 100,
        };
        let buyer = Buyer { id: 40, name: "Zoë\\".into(), email: "z\t@".into(), address: String::new() };
        let customers = vec![customer(7, "A \"B\""), customer(9, "empty")];
        let products = vec![product(70, 7, "Clock"), product(71, 8, "nobody's"), product(72, 7, "Old \"Chair\"")];
        let catalogue = Catalogue::of(customers, vec![buyer], products);
        assert_eq!((catalogue.sellers(), catalogue.products.len()), (vec![0], 2));
        let options = ShopOptions { transaction_share: 0.5, ..ShopOptions::default() };
        let mut searches = HashSet::new();
        for event in ShopEvents::over(catalogue, options).take(2000) {
            let value: Value = serde_json::from_slice(&event.value).unwrap();
            if event.topic == "transactions" {
                let item = &value["items"][0];
                assert!([70, 72].contains(&item["product_id"].as_i64().unwrap()) && item["category"] == "antiques");
                assert_eq!((&value["customer_name"], &value["buyer_name"]), (&"A \"B\"".into(), &"Zoë\\".into()));
                assert_eq!((&value["subscription_plan"], &value["buyer_email"]), (&"gold".into(), &"z\t@".into()));
            }
            if let Some(query) = value["search_query"].as_str() {
                searches.insert(query.to_owned());
            }
        }
        assert_eq!(searches, HashSet::from(["Clock".to_owned(), "\"Chair\"".to_owned()]));
    }
}
