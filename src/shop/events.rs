//! What happens in a shop, as typed events.

use smallvec::SmallVec;

use super::catalogue::Catalogue;

/// Different products in a cart.
pub(super) const CART_ITEMS: usize = 5;

/// Something that happened in the shop. Customers, buyers and products are indexes into the [`Catalogue`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Topic `transactions`.
    Transaction(Transaction),
    /// Topic `user_behavior`.
    Behaviour(Behaviour),
    /// Topic `user_behavior` as well; in databases a table of the CRM's.
    Interaction(Interaction),
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
    pub items: Items,
    /// How it is paid.
    pub payment_method: &'static str,
    /// How far it is.
    pub status: &'static str,
}

/// Lines of a transaction or a cart.
pub type Items = SmallVec<[Item; CART_ITEMS]>;

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

/// Somebody looked at something, or bought what is in the cart: `purchase` ends the session.
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

/// The shop's people talked to a customer. It belongs to no session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interaction {
    /// Whom they talked to.
    pub customer: usize,
    /// What it was.
    pub interaction_type: &'static str,
    /// By what.
    pub channel: &'static str,
    /// What came of it.
    pub status: &'static str,
}

/// Somebody searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    /// The shop.
    pub customer: usize,
    /// The session's number.
    pub session: u64,
    /// Something of the kind that was searched for; see [`Search::query`].
    pub product: usize,
    /// How much was found.
    pub results: u64,
}

/// A cart was filled or left. Leaving one ends the session.
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

impl Search {
    /// What was searched for.
    pub fn query<'a>(&self, catalogue: &'a Catalogue) -> &'a str {
        catalogue.products[self.product].search_term()
    }
}

impl Cart {
    /// Its `event_type`, wherever it stands.
    pub fn kind(&self) -> &'static str {
        if self.abandoned { "cart_abandonment" } else { "cart_event" }
    }
}

impl Event {
    /// The topic it goes to.
    pub fn topic(&self) -> &'static str {
        match self {
            Event::Transaction(_) => "transactions",
            Event::Behaviour(_) | Event::Interaction(_) => "user_behavior",
            Event::Search(_) => "searches",
            Event::Cart(_) => "cart_events",
        }
    }

    /// Its `event_type` there.
    pub fn event_type(&self) -> &'static str {
        match self {
            Event::Transaction(_) => "transaction",
            Event::Behaviour(_) | Event::Interaction(_) => "user_behavior",
            Event::Search(_) => "search",
            Event::Cart(cart) => cart.kind(),
        }
    }

    /// The shop's index in [`Catalogue::customers`].
    pub fn customer(&self) -> usize {
        match self {
            Event::Transaction(Transaction { customer, .. })
            | Event::Behaviour(Behaviour { customer, .. })
            | Event::Interaction(Interaction { customer, .. })
            | Event::Search(Search { customer, .. })
            | Event::Cart(Cart { customer, .. }) => *customer,
        }
    }
}
