//! The folder that ships, unchanged, on real servers.

use std::collections::BTreeMap;
use std::time::Duration;

use acequia::shop::ShopOptions;
use serde_json::Value;

use crate::feed::{Feed, PATIENCE};
use crate::pipeline::Pipeline;
use crate::results::{cents, count, keys, millis, query, records, value};
use crate::{Servers, wait_until};

const EVENTS: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_shops_queries_fill_warehouse_redis_and_topic() {
    let servers = Servers::new(1);
    for topic in ["transactions", "user_behavior", "searches", "cart_events", "transaction_items"] {
        servers.kafka.create_topic(topic, 3).await;
    }
    let place = tempfile::tempdir().unwrap();
    let mut pipeline = Pipeline::start(servers.run("queries", place.path()));
    let redis = format!("Redis at 127.0.0.1:{}", servers.redis.port);
    let warehouse = format!("PostgreSQL table realtime_events at 127.0.0.1:{}/postgres", servers.postgres.port);
    waits_then_goes_on(&mut pipeline, &redis, || servers.redis.start(&[]));
    waits_then_goes_on(&mut pipeline, &warehouse, || servers.postgres.start(&[]));

    let options = ShopOptions { events_per_second: 100.0, disorder: 2000, ..ShopOptions::default() };
    let mut feed = Feed::new(&servers.kafka.servers, options);
    let mut events: BTreeMap<String, usize> = BTreeMap::new();
    let mut look = |json: &[u8]| *events.entry(canonical(json)).or_default() += 1;
    feed.send(EVENTS / 2, |_, json| look(json)).await;
    arrive(&mut pipeline, &servers, &feed).await;
    servers.redis.stop();
    feed.send(EVENTS / 2, |_, json| look(json)).await;
    waits_then_goes_on(&mut pipeline, &redis, || servers.redis.start(&[]));
    arrive(&mut pipeline, &servers, &feed).await;

    the_warehouse_holds_each_event_once(&servers.database_url(), &feed, &events).await;
    redis_holds_the_newest_windows(&mut pipeline, &servers.redis_url(), &feed).await;
    the_items_are_complete(&servers.kafka.servers, &feed);
    pipeline.signal("-TERM");
    pipeline.until("stopping");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
    let said = pipeline.said();
    assert!(said.contains(" 0 late, 0 bad,") && !said.contains("embedded"), "{said}");
}

/// The pipeline says that it waits for a server that is down at the start, and later that it is there.
fn waits_then_goes_on(pipeline: &mut Pipeline, what: &str, start: impl FnOnce() -> String) {
    pipeline.until(&format!("waiting for {what}: "));
    start();
    pipeline.until(&format!("{what} is back after "));
}

/// Waits until everything that was sent, and the items made of it, are in the warehouse.
async fn arrive(pipeline: &mut Pipeline, servers: &Servers, feed: &Feed) {
    let expected = feed.sent as i64 + feed.ledger.items as i64;
    let url = servers.database_url();
    let what = format!("{expected} events in the warehouse");
    let all = async |_: &mut Pipeline| count(&url, "SELECT count(*) FROM realtime_events").await >= expected;
    wait_until(&what, pipeline, PATIENCE, all).await;
}

/// JSON whose objects are in the order of their keys.
fn canonical(json: &[u8]) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields: BTreeMap<String, Value> =
                    fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
                fields.into_iter().collect()
            }
            Value::Array(values) => values.into_iter().map(sorted).collect(),
            other => other,
        }
    }
    sorted(serde_json::from_slice(json).unwrap()).to_string()
}

async fn the_warehouse_holds_each_event_once(url: &str, feed: &Feed, events: &BTreeMap<String, usize>) {
    let rows = query(url, "SELECT raw_data::TEXT FROM realtime_events WHERE event_type <> 'transaction_item'").await;
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows {
        *found.entry(canonical(row[0].as_bytes())).or_default() += 1;
    }
    assert!(found == *events, "{} events, {} of them different; {} were sent", rows.len(), found.len(), feed.sent);

    let kinds = query(url, "SELECT event_type, count(*)::TEXT FROM realtime_events GROUP BY event_type").await;
    let kinds: BTreeMap<String, u64> = kinds.iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect();
    let mut expected: BTreeMap<String, u64> =
        feed.ledger.counts.iter().map(|((_, kind), count)| ((*kind).to_owned(), *count)).collect();
    expected.insert("transaction_item".into(), feed.ledger.items);
    assert_eq!(kinds, expected);
    let items = "SELECT count(DISTINCT (raw_data->'transaction_id', product_id)) FROM realtime_events \
                 WHERE event_type = 'transaction_item'";
    assert_eq!(count(url, items).await as u64, feed.ledger.items);
    let columns = "SELECT count(*) FROM realtime_events WHERE (customer_id, customer_name, timestamp, source) \
                   IS DISTINCT FROM ((raw_data->>'customer_id')::INT, raw_data->>'customer_name', \
                   (raw_data->>'timestamp')::TIMESTAMP, 'kafka_consumer') OR processed_at IS NULL";
    assert_eq!(count(url, columns).await, 0, "columns differ from raw_data");
    let amounts = "SELECT (sum(amount) * 100)::BIGINT FROM realtime_events WHERE event_type = ";
    let revenue: u64 = feed.ledger.windows.values().map(|window| window.revenue).sum();
    for kind in ["'transaction'", "'transaction_item'"] {
        assert_eq!(count(url, &format!("{amounts}{kind}")).await as u64, revenue, "{kind}");
    }
}

fn fields(row: &Value) -> Vec<&str> {
    row.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn redis_holds_the_newest_windows(pipeline: &mut Pipeline, url: &str, feed: &Feed) {
    let (start, window) = feed.ledger.windows.last_key_value().unwrap();
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
    for ((start, kind), count) in feed.ledger.window_counts.iter().filter(|((_, kind), _)| *kind != "transaction") {
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
    for ((start, category), totals) in &feed.ledger.categories {
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

fn the_items_are_complete(servers: &str, feed: &Feed) {
    let items = records(servers, "transaction_items");
    assert_eq!(items.len() as u64, feed.ledger.items);
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
    let expected: BTreeMap<(i64, String), (u64, u64)> = feed
        .ledger
        .categories
        .iter()
        .map(|((start, category), totals)| ((*start, (*category).to_owned()), (totals.sales, totals.revenue)))
        .collect();
    assert_eq!(categories, expected);
}
