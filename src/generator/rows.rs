//! Events as rows of the shop's and the CRM's tables.

use crate::shop::{Behaviour, Cart, Event, Interaction, Search, ShopEvents, Transaction, json};

/// A group of events as rows, in the order in which they happened. Ids are those of the base data; money is in cents,
/// times are milliseconds since 1970.
#[derive(Default, Debug)]
pub(super) struct Rows {
    pub(super) transactions: Vec<TransactionRow>,
    pub(super) details: Vec<DetailRow>,
    pub(super) behaviours: Vec<BehaviourRow>,
    pub(super) interactions: Vec<InteractionRow>,
}

/// Whose tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Shop,
    Crm,
}

/// A row of `transaction`; the database gives its id.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct TransactionRow {
    pub(super) buyer_id: i64,
    pub(super) customer_id: i64,
    pub(super) at: i64,
    pub(super) total: i64,
    pub(super) payment_method: &'static str,
    pub(super) status: &'static str,
}

/// A row of `transactiondetail`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct DetailRow {
    /// The place of its transaction in [`Rows::transactions`].
    pub(super) transaction: usize,
    pub(super) product_id: i64,
    pub(super) quantity: i64,
    pub(super) unit_price: i64,
}

/// A row of `userbehavior`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct BehaviourRow {
    pub(super) customer_id: i64,
    pub(super) event_type: &'static str,
    pub(super) product_id: Option<i64>,
    pub(super) session_id: String,
    pub(super) at: i64,
    /// JSON.
    pub(super) metadata: String,
}

/// A row of `interaction`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct InteractionRow {
    pub(super) customer_id: i64,
    pub(super) interaction_type: &'static str,
    pub(super) channel: &'static str,
    pub(super) at: i64,
    pub(super) status: &'static str,
}

impl Rows {
    /// The rows of events that happened at these times.
    pub(super) fn of(events: &[(Event, i64)], shop: &ShopEvents) -> Rows {
        let mut rows = Rows::default();
        for (event, at) in events {
            let customer_id = shop.catalogue().customers[event.customer()].id as i64;
            match event {
                Event::Transaction(transaction) => rows.add_transaction(transaction, customer_id, *at, shop),
                Event::Interaction(Interaction { interaction_type, channel, status, .. }) => {
                    rows.interactions.push(InteractionRow { customer_id, interaction_type, channel, at: *at, status });
                }
                Event::Behaviour(behaviour) => {
                    let product_id = behaviour.product.map(|place| shop.catalogue().products[place].id as i64);
                    let step = (behaviour.interaction_type, product_id, look(behaviour));
                    rows.add_behaviour(customer_id, behaviour.session, step, *at, shop);
                }
                Event::Search(search) => {
                    rows.add_behaviour(customer_id, search.session, ("search", None, found(search, shop)), *at, shop);
                }
                Event::Cart(cart) => {
                    rows.add_behaviour(customer_id, cart.session, (cart.kind(), None, worth(cart)), *at, shop);
                }
            }
        }
        rows
    }

    /// Whether there is nothing to write for the part.
    pub(super) fn is_empty(&self, part: Part) -> bool {
        match part {
            Part::Shop => self.transactions.is_empty() && self.behaviours.is_empty(),
            Part::Crm => self.interactions.is_empty(),
        }
    }

    fn add_transaction(&mut self, transaction: &Transaction, customer_id: i64, at: i64, shop: &ShopEvents) {
        let catalogue = shop.catalogue();
        let place = self.transactions.len();
        self.details.extend(transaction.items.iter().map(|item| DetailRow {
            transaction: place,
            product_id: catalogue.products[item.product].id as i64,
            quantity: item.quantity as i64,
            unit_price: item.unit_price as i64,
        }));
        self.transactions.push(TransactionRow {
            buyer_id: catalogue.buyers[transaction.buyer].id as i64,
            customer_id,
            at,
            total: transaction.total() as i64,
            payment_method: transaction.payment_method,
            status: transaction.status,
        });
    }

    fn add_behaviour(
        &mut self,
        customer_id: i64,
        session: u64,
        (event_type, product_id, metadata): (&'static str, Option<i64>, Vec<u8>),
        at: i64,
        shop: &ShopEvents,
    ) {
        let session_id = format!("{}{session}", shop.session_prefix());
        // The JSON writer copies text and adds ASCII.
        let metadata = String::from_utf8_lossy(&metadata).into_owned();
        self.behaviours.push(BehaviourRow { customer_id, event_type, product_id, session_id, at, metadata });
    }
}

fn look(behaviour: &Behaviour) -> Vec<u8> {
    let mut out = vec![];
    json::text("{\"channel\":", behaviour.channel, &mut out);
    json::text(",\"status\":", behaviour.status, &mut out);
    out.push(b'}');
    out
}

fn found(search: &Search, shop: &ShopEvents) -> Vec<u8> {
    let mut out = vec![];
    json::text("{\"search_query\":", search.query(shop.catalogue()), &mut out);
    json::number(",\"results_count\":", search.results, &mut out);
    out.push(b'}');
    out
}

fn worth(cart: &Cart) -> Vec<u8> {
    let mut out = vec![];
    json::money("{\"cart_total\":", cart.total, &mut out);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::{Ledger, ShopOptions};

    #[test]
    fn each_event_is_a_row_and_a_transaction_the_sum_of_its_details() {
        let mut shop = ShopEvents::new(ShopOptions::default());
        let mut ledger = Ledger::new(30_000);
        let events: Vec<(Event, i64)> = (0..5000).map(|_| shop.advance()).collect();
        for (event, at) in &events {
            ledger.add(shop.catalogue(), event, *at);
        }
        let rows = Rows::of(&events, &shop);
        let all = rows.transactions.len() + rows.behaviours.len() + rows.interactions.len();
        assert_eq!((all, rows.details.len() as u64), (5000, ledger.items));
        let mut sums = vec![0; rows.transactions.len()];
        for detail in &rows.details {
            sums[detail.transaction] += detail.quantity * detail.unit_price;
        }
        assert!(rows.transactions.iter().map(|row| row.total).eq(sums));
        let count = |kind: &str| rows.behaviours.iter().filter(|row| row.event_type == kind).count() as u64;
        assert_eq!(count("search"), ledger.counts[&("searches", "search")]);
        assert_eq!(count("cart_abandonment"), ledger.counts[&("cart_events", "cart_abandonment")]);
        let looks: u64 = ["page_view", "product_view", "wishlist", "review", "purchase"].map(count).iter().sum();
        let interactions = rows.interactions.len() as u64;
        assert_eq!(looks + interactions, ledger.counts[&("user_behavior", "user_behavior")]);
    }

    #[test]
    fn metadata_holds_what_the_kind_has() {
        let mut shop = ShopEvents::new(ShopOptions { transaction_share: 0.0, ..ShopOptions::default() });
        let events: Vec<(Event, i64)> = (0..2000).map(|_| shop.advance()).collect();
        for row in Rows::of(&events, &shop).behaviours {
            let metadata: serde_json::Value = serde_json::from_str(&row.metadata).unwrap();
            let keys: Vec<&str> = metadata.as_object().unwrap().keys().map(String::as_str).collect();
            let expected: &[&str] = match row.event_type {
                "search" => &["search_query", "results_count"],
                "cart_event" | "cart_abandonment" => &["cart_total"],
                _ => &["channel", "status"],
            };
            assert_eq!(keys, expected, "{row:?}");
            assert!(row.session_id.starts_with(shop.session_prefix()));
        }
    }
}
