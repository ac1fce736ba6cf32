//! What must stand in warehouse, Redis and topics when everything that was sent has arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::feed::{PATIENCE, Sent};
use crate::pipeline::Pipeline;
use crate::results::{canonical, cents, count, keyed_records, keys, millis, query, records, value};
use crate::wait_until;

/// Waits until everything that was sent, and the items made of it, are in the warehouse.
pub async fn arrive(pipeline: &mut Pipeline, warehouse: &str, sent: &Sent) {
    let expected = sent.rows();
    let what = format!("{expected} events in the warehouse");
    let all = async |_: &mut Pipeline| count(warehouse, "SELECT count(*) FROM realtime_events").await >= expected;
    wait_until(&what, pipeline, PATIENCE, all).await;
}

/// How often each is there, in the form in which [`Sent::events`] has them.
fn counted(events: impl IntoIterator<Item = Value>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    events.into_iter().for_each(|event| *found.entry(canonical(&event)).or_default() += 1);
    found
}

fn assert_same(place: &str, found: &BTreeMap<String, usize>, sent: &BTreeMap<String, usize>) {
    let all = |events: &BTreeMap<String, usize>| events.values().sum::<usize>();
    let but_not_in = |events: &BTreeMap<String, usize>, others: &BTreeMap<String, usize>| {
        let odd = events.iter().find(|(event, count)| others.get(*event) != Some(count));
        odd.map_or("nothing".to_owned(), |(event, count)| format!("{count} times {event}"))
    };
    assert!(
        found == sent,
        "{place} has {} events, {} were sent; only there: {}; only sent: {}",
        all(found),
        all(sent),
        but_not_in(found, sent),
        but_not_in(sent, found)
    );
}

pub async fn the_warehouse_holds_each_event_once(url: &str, sent: &Sent) {
    let rows = query(url, "SELECT raw_data::TEXT FROM realtime_events WHERE event_type <> 'transaction_item'").await;
    let found = counted(rows.iter().map(|row| serde_json::from_str(&row[0]).unwrap()));
    let expected: BTreeMap<String, usize> = sent.events.values().cloned().flatten().collect();
    assert_same("the warehouse", &found, &expected);

    let kinds = query(url, "SELECT event_type, count(*)::TEXT FROM realtime_events GROUP BY event_type").await;
    let kinds: BTreeMap<String, u64> = kinds.iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect();
    let mut expected: BTreeMap<String, u64> =
        sent.ledger.counts.iter().map(|((_, kind), count)| ((*kind).to_owned(), *count)).collect();
    expected.insert("transaction_item".into(), sent.ledger.items);
    assert_eq!(kinds, expected);
    let items = "SELECT count(DISTINCT (raw_data->'transaction_id', product_id)) FROM realtime_events \
                 WHERE event_type = 'transaction_item'";
    assert_eq!(count(url, items).await as u64, sent.ledger.items);
    let columns = "SELECT count(*) FROM realtime_events WHERE (customer_id, customer_name, timestamp, source) \
                   IS DISTINCT FROM ((raw_data->>'customer_id')::INT, raw_data->>'customer_name', \
                   (raw_data->>'timestamp')::TIMESTAMP, 'kafka_consumer') OR processed_at IS NULL";
    assert_eq!(count(url, columns).await, 0, "columns differ from raw_data");
    let amounts = "SELECT (sum(amount) * 100)::BIGINT FROM realtime_events WHERE event_type = ";
    let revenue: u64 = sent.ledger.windows.values().map(|window| window.revenue).sum();
    for kind in ["'transaction'", "'transaction_item'"] {
        assert_eq!(count(url, &format!("{amounts}{kind}")).await as u64, revenue, "{kind}");
    }
    let categories = "SELECT category, (sum(amount) * 100)::BIGINT::TEXT FROM realtime_events \
                      WHERE event_type = 'transaction_item' GROUP BY category";
    let found: BTreeMap<String, u64> =
        query(url, categories).await.iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for ((_, category), totals) in &sent.ledger.categories {
        *expected.entry((*category).to_owned()).or_default() += totals.revenue;
    }
    assert_eq!(found, expected);
}

fn fields(row: &Value) -> Vec<&str> {
    row.as_object().unwrap().keys().map(String::as_str).collect()
}

pub async fn redis_holds_the_newest_windows(pipeline: &mut Pipeline, url: &str, sent: &Sent) {
    let (start, window) = sent.ledger.windows.last_key_value().unwrap();
    let newest = async |_: &mut Pipeline| {
        if keys(url, "metrics:transactions").await.is_empty() {
            return false;
        }
        let (row, _) = value(url, "metrics:transactions").await;
        millis(&row["timestamp"]) == *start && row["transaction_count"] == window.transactions
    };
    // A window that is open is published within a second.
    wait_until("the newest window", pipeline, Duration::from_secs(20), newest).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let (row, ttl) = value(url, "metrics:transactions").await;
    assert_eq!(
        fields(&row).join(" "),
        "timestamp transaction_count total_revenue avg_transaction_value unique_customers max_transaction \
         min_transaction"
    );
    assert!((3500..=3600).contains(&ttl), "{ttl}");
    assert_eq!(cents(&row["total_revenue"]), window.revenue);
    assert_eq!((cents(&row["max_transaction"]), cents(&row["min_transaction"])), (window.max, window.min));
    assert_eq!(row["unique_customers"], window.unique_customers());
    assert!(row["avg_transaction_value"].is_number() && row["total_revenue"].is_number(), "{row}");

    let mut expected = vec!["metrics:transactions".to_owned()];
    let mut kinds: BTreeMap<&str, (i64, u64)> = BTreeMap::new();
    for ((start, kind), count) in sent.ledger.window_counts.iter().filter(|((_, kind), _)| *kind != "transaction") {
        kinds.insert(kind, (*start, *count));
    }
    for (kind, (start, count)) in kinds {
        let key = format!("metrics:behavior:{kind}");
        let (row, ttl) = value(url, &key).await;
        assert_eq!(fields(&row), ["timestamp", "event_type", "event_count"]);
        assert_eq!((millis(&row["timestamp"]), row["event_count"].as_u64().unwrap()), (start, count), "{key}");
        assert!(row["event_type"] == kind && (3500..=3600).contains(&ttl), "{row} {ttl}");
        expected.push(key);
    }
    let mut categories = BTreeMap::new();
    for ((start, category), totals) in &sent.ledger.categories {
        categories.insert(*category, (*start, totals.clone()));
    }
    for (category, (start, totals)) in categories {
        let key = format!("metrics:products:{category}");
        let (row, ttl) = value(url, &key).await;
        assert_eq!(
            fields(&row).join(" "),
            "timestamp category product_sales category_revenue avg_category_value total_quantity unique_customers \
             unique_products"
        );
        assert!((3500..=3600).contains(&ttl), "{ttl}");
        assert_eq!((millis(&row["timestamp"]), row["category"].as_str().unwrap()), (start, category));
        let number = |column: &str| row[column].as_u64().unwrap();
        assert_eq!(
            (number("product_sales"), cents(&row["category_revenue"]), number("total_quantity")),
            (totals.sales, totals.revenue, totals.quantity),
            "{key}"
        );
        assert_eq!(
            (number("unique_customers"), number("unique_products")),
            (totals.unique_customers().into(), totals.unique_products().into()),
            "{key}"
        );
        expected.push(key);
    }
    expected.sort_unstable();
    // Beside them are the keys by which earlier runs are fenced.
    let found = keys(url, "*").await.into_iter().filter(|key| !key.starts_with("acequia:"));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

/// Each event once in the topic of its kind, under its customer.
pub fn the_topics_hold_each_event_once(servers: &str, sent: &Sent) {
    for (topic, expected) in &sent.events {
        let records = keyed_records(servers, topic);
        for (key, event) in &records {
            assert_eq!(*key, Some(event["customer_id"].to_string()), "the key of {event} in {topic}");
        }
        let found = counted(records.into_iter().map(|(_, event)| event));
        assert_same(topic, &found, expected);
    }
}

pub fn the_items_are_complete(servers: &str, sent: &Sent) {
    let items = records(servers, "transaction_items");
    assert_eq!(items.len() as u64, sent.ledger.items);
    let mut categories: BTreeMap<(i64, String), (u64, u64)> = BTreeMap::new();
    for item in &items {
        assert_eq!(
            fields(item).join(" "),
            "event_type timestamp transaction_id customer_id customer_name customer_subscription buyer_id buyer_name \
             buyer_email product_id product_name category amount quantity unit_price total_transaction_amount \
             payment_method transaction_status source"
        );
        let start = millis(&item["timestamp"]).div_euclid(30_000) * 30_000;
        let (sales, amount) = categories.entry((start, item["category"].as_str().unwrap().to_owned())).or_default();
        *sales += 1;
        *amount += cents(&item["amount"]);
    }
    let expected: BTreeMap<(i64, String), (u64, u64)> = sent
        .ledger
        .categories
        .iter()
        .map(|((start, category), totals)| ((*start, (*category).to_owned()), (totals.sales, totals.revenue)))
        .collect();
    assert_eq!(categories, expected);
}
