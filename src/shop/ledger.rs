//! What a pipeline over the events must find, added up while they are made and by other code than the pipeline's.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::Catalogue;
use super::events::Event;

/// Totals over tumbling windows of event time. Windows are known by their start, in milliseconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    window: i64,
    /// Transactions by window.
    pub windows: BTreeMap<i64, WindowTotals>,
    /// Items by window and category.
    pub categories: BTreeMap<(i64, &'static str), CategoryTotals>,
    /// Events by topic and `event_type`.
    pub counts: BTreeMap<(&'static str, &'static str), u64>,
    /// Events by window and `event_type`.
    pub window_counts: BTreeMap<(i64, &'static str), u64>,
    /// Items of all transactions.
    pub items: u64,
}

/// The transactions of a window. Money is in cents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WindowTotals {
    /// How many.
    pub transactions: u64,
    /// Their sum.
    pub revenue: u64,
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
    customers: BTreeSet<usize>,
}

/// The items of a category in a window. Money is in cents.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CategoryTotals {
    /// How many items (lines of transactions).
    pub sales: u64,
    /// The sum of quantity × unit price.
    pub revenue: u64,
    /// The sum of quantities.
    pub quantity: u64,
    customers: BTreeSet<usize>,
    products: BTreeSet<usize>,
}

impl WindowTotals {
    /// How many customers had transactions.
    pub fn unique_customers(&self) -> u32 {
        self.customers.len() as u32
    }
}

impl CategoryTotals {
    /// How many customers sold.
    pub fn unique_customers(&self) -> u32 {
        self.customers.len() as u32
    }

    /// How many products were sold.
    pub fn unique_products(&self) -> u32 {
        self.products.len() as u32
    }
}

impl Ledger {
    /// An empty ledger over windows of `window` milliseconds (the shop's are 30,000).
    pub fn new(window: i64) -> Ledger {
        Ledger {
            window: window.max(1),
            windows: BTreeMap::new(),
            categories: BTreeMap::new(),
            counts: BTreeMap::new(),
            window_counts: BTreeMap::new(),
            items: 0,
        }
    }

    /// Adds an event that happened at `event_time`, in milliseconds since 1970.
    pub fn add(&mut self, catalogue: &Catalogue, event: &Event, event_time: i64) {
        let start = event_time.div_euclid(self.window) * self.window;
        *self.counts.entry((event.topic(), event.event_type())).or_default() += 1;
        *self.window_counts.entry((start, event.event_type())).or_default() += 1;
        let Event::Transaction(transaction) = event else { return };
        let mut total = 0;
        for item in &transaction.items {
            let amount = item.quantity * item.unit_price;
            total += amount;
            let category = catalogue.products[item.product].category;
            let totals = self.categories.entry((start, category)).or_default();
            totals.sales += 1;
            totals.revenue += amount;
            totals.quantity += item.quantity;
            totals.customers.insert(transaction.customer);
            totals.products.insert(item.product);
            self.items += 1;
        }
        let empty = WindowTotals { transactions: 0, revenue: 0, min: u64::MAX, max: 0, customers: BTreeSet::new() };
        let totals = self.windows.entry(start).or_insert(empty);
        totals.transactions += 1;
        totals.revenue += total;
        totals.min = totals.min.min(total);
        totals.max = totals.max.max(total);
        totals.customers.insert(transaction.customer);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::{BUYERS, CUSTOMERS, PRODUCTS, ShopEvents, ShopOptions};
    use super::*;

    const EVENTS: usize = 10_000;

    fn options() -> ShopOptions {
        ShopOptions { disorder: 2000, ..ShopOptions::default() }
    }

    fn cents(value: &Value) -> u64 {
        (value.as_f64().unwrap() * 100.0).round() as u64
    }

    fn id(value: &Value, key: &str, highest: u32) -> u64 {
        let id = value[key].as_u64().unwrap_or_else(|| panic!("{key} of {value}"));
        assert!((1..=u64::from(highest)).contains(&id), "{key} of {value}");
        id
    }

    fn keys(value: &Value) -> String {
        value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_event_has_the_shape_of_its_topic() {
        for event in ShopEvents::new(options()).take(EVENTS) {
            let value: Value = serde_json::from_slice(&event.value).unwrap();
            let time = chrono::DateTime::parse_from_rfc3339(value["timestamp"].as_str().unwrap()).unwrap();
            assert_eq!(time.timestamp_millis(), event.event_time);
            assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
            assert_eq!(event.key, id(&value, "customer_id", CUSTOMERS).to_string());
            let (types, fields): (&[&str], &str) = match event.topic {
                "transactions" => (
                    &["transaction"],
                    "transaction_id customer_id customer_name subscription_plan buyer_id buyer_name buyer_email \
                     total_amount payment_method status items source",
                ),
                "user_behavior" => (
                    &["user_behavior"],
                    "customer_id customer_name interaction_type channel status session_id product_id source",
                ),
                "searches" => (&["search"], "customer_id customer_name session_id search_query results_count"),
                "cart_events" => {
                    (&["cart_event", "cart_abandonment"], "customer_id customer_name session_id cart_total")
                }
                other => panic!("topic {other}"),
            };
            assert!(types.contains(&value["event_type"].as_str().unwrap()));
            assert_eq!(keys(&value), format!("event_type timestamp {fields}"));
        }
    }

    #[test]
    fn totals_are_sums_and_ids_exist() {
        let catalogue = Catalogue::new(options().seed);
        let mut transaction_ids = BTreeSet::new();
        for event in ShopEvents::new(options()).filter(|event| event.topic == "transactions").take(EVENTS) {
            let value: Value = serde_json::from_slice(&event.value).unwrap();
            assert!(transaction_ids.insert(value["transaction_id"].as_u64().unwrap()));
            id(&value, "buyer_id", BUYERS);
            let items = value["items"].as_array().unwrap();
            assert!((1..=5).contains(&items.len()));
            let mut sum = 0;
            for item in items {
                assert_eq!(keys(item), "product_id product_name category quantity unit_price product_price");
                let product = &catalogue.products[id(item, "product_id", PRODUCTS) as usize - 1];
                assert_eq!(product.customer_id, value["customer_id"].as_u64().unwrap());
                assert_eq!(item["category"], product.category);
                assert_eq!(cents(&item["product_price"]), product.price);
                assert!((1..=product.price).contains(&cents(&item["unit_price"])));
                sum += item["quantity"].as_u64().unwrap() * cents(&item["unit_price"]);
            }
            assert_eq!(cents(&value["total_amount"]), sum);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
        let bytes = |seed| -> Vec<u8> {
            let events = ShopEvents::new(ShopOptions { seed, ..options() }).take(1000);
            events.flat_map(|event| event.value).collect()
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    #[test]
    fn shares_and_times_are_as_asked() {
        let mut events = ShopEvents::new(options());
        let mut ledger = Ledger::new(30_000);
        for place in 0..EVENTS {
            let (event, time) = events.advance();
            ledger.add(events.catalogue(), &event, time);
            let due = options().start + place as i64 * 100;
            assert!((due - 2000..=due).contains(&time));
        }
        let share = |topic| {
            let count: u64 = ledger.counts.iter().filter(|((of, _), _)| *of == topic).map(|(_, count)| count).sum();
            count as f64 / EVENTS as f64
        };
        assert!((0.68..0.72).contains(&share("transactions")));
        for topic in ["user_behavior", "searches", "cart_events"] {
            assert!(share(topic) > 0.03, "{topic}: {}", share(topic));
        }
        let abandoned = ledger.counts[&("cart_events", "cart_abandonment")];
        assert!(abandoned > 20 && abandoned < ledger.counts[&("cart_events", "cart_event")]);
    }

    /// The ledger against sums over the JSON alone.
    #[test]
    fn the_ledger_agrees_with_the_json() {
        let mut events = ShopEvents::new(options());
        let catalogue = events.catalogue().clone();
        let mut ledger = Ledger::new(30_000);
        let mut amounts: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        let mut customers: BTreeMap<i64, BTreeSet<u64>> = BTreeMap::new();
        let mut products: BTreeMap<(i64, String), (u64, BTreeSet<u64>)> = BTreeMap::new();
        let mut buffer = vec![];
        for _ in 0..EVENTS {
            buffer.clear();
            let (event, time) = events.next_into(&mut buffer);
            ledger.add(&catalogue, &event, time);
            let value: Value = serde_json::from_slice(&buffer).unwrap();
            if value["event_type"] != "transaction" {
                continue;
            }
            let start = time - time % 30_000;
            amounts.entry(start).or_default().push(cents(&value["total_amount"]));
            customers.entry(start).or_default().insert(value["customer_id"].as_u64().unwrap());
            for item in value["items"].as_array().unwrap() {
                let totals = products.entry((start, item["category"].as_str().unwrap().to_owned())).or_default();
                totals.0 += item["quantity"].as_u64().unwrap();
                totals.1.insert(item["product_id"].as_u64().unwrap());
            }
        }
        assert_eq!(ledger.windows.len(), amounts.len());
        for (start, totals) in &ledger.windows {
            let amounts = &amounts[start];
            assert_eq!((totals.transactions, totals.revenue), (amounts.len() as u64, amounts.iter().sum()));
            assert_eq!((Some(&totals.min), Some(&totals.max)), (amounts.iter().min(), amounts.iter().max()));
            assert_eq!(totals.unique_customers() as usize, customers[start].len());
        }
        assert_eq!(ledger.categories.len(), products.len());
        for ((start, category), totals) in &ledger.categories {
            let (quantity, ids) = &products[&(*start, (*category).to_owned())];
            assert_eq!((totals.quantity, totals.unique_products() as usize), (*quantity, ids.len()));
        }
        let by_category: u64 = ledger.categories.values().map(|totals| totals.revenue).sum();
        assert_eq!(by_category, ledger.windows.values().map(|totals| totals.revenue).sum::<u64>());
        assert_eq!(ledger.items, ledger.categories.values().map(|totals| totals.sales).sum::<u64>());
    }

    /// Prints the speed; in release it should be above 300,000 events a second.
    #[test]
    fn timing_of_the_generator() {
        let mut events = ShopEvents::new(options());
        let (mut buffer, mut bytes, began) = (vec![], 0, std::time::Instant::now());
        for _ in 0..100_000 {
            buffer.clear();
            events.next_into(&mut buffer);
            bytes += buffer.len();
        }
        let rate = 100_000.0 / began.elapsed().as_secs_f64();
        println!("{rate:.0} events a second, {} bytes each", bytes / 100_000);
        assert!(bytes > 0);
    }
}
