//! A million transactions, and servers that go away while they are added up.

use std::collections::BTreeMap;

use acequia::shop::{Ledger, ShopOptions};
use serde_json::Value;

use crate::feed::{Feed, PATIENCE};
use crate::pipeline::Pipeline;
use crate::results::{cents, count, keys, millis, query, records, value};
use crate::{Servers, wait_until};

const TRANSACTIONS: usize = 1_000_000;
const PARTITIONS: i32 = 6;
/// Event time goes a thousand seconds: 34 windows.
const PER_SECOND: u64 = 1000;
/// Transactions of a later time, in every partition, so that the windows before it close.
const CLOSING: usize = 1000;

const READ: &str = r#"acequia_rows_read_total{table="transactions"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_million_transactions_add_up_though_each_server_goes_away_once() {
    let servers = Servers::new(3);
    servers.postgres.start(&[]);
    servers.redis.start(&[]);
    for (topic, partitions) in [("transactions", PARTITIONS), ("window_totals", 3)] {
        servers.kafka.create_topic(topic, partitions).await;
    }
    let place = tempfile::tempdir().unwrap();
    let mut pipeline = Pipeline::start(servers.run("tests/shop/totals", place.path()));
    pipeline.until("http://");

    let options = ShopOptions {
        transaction_share: 1.0,
        events_per_second: PER_SECOND as f64,
        disorder: 2000,
        ..ShopOptions::default()
    };
    let mut feed = Feed::new(&servers.kafka.servers, options.clone());
    let (shares, mut to_send) = tokio::sync::mpsc::unbounded_channel();
    let feeding = tokio::spawn(async move {
        while let Some(count) = to_send.recv().await {
            feed.send(count, |_, _, _, _| {}).await;
        }
        feed.ledger
    });

    shares.send(TRANSACTIONS / 2).unwrap();
    until_read(&mut pipeline, TRANSACTIONS / 4).await;
    servers.kafka.kill_broker(2);
    // Written and read while a broker is missing, and for a part of it the other servers as well.
    shares.send(TRANSACTIONS / 4).unwrap();
    until_read(&mut pipeline, TRANSACTIONS * 5 / 8).await;
    shares.send(TRANSACTIONS / 4).unwrap();
    drop(shares);
    // One after the other: a sink that waits holds back the stream, and the other would have nothing to miss.
    servers.redis.stop();
    until_said(&mut pipeline, "waiting for Redis at 127.0.0.1:").await;
    servers.redis.start(&[]);
    servers.postgres.stop();
    until_said(&mut pipeline, "waiting for PostgreSQL table window_totals at 127.0.0.1:").await;
    servers.postgres.start(&[]);
    servers.kafka.start_broker(2);
    let ledger = tokio::time::timeout(PATIENCE, feeding).await.unwrap().unwrap();
    let start = options.start + (TRANSACTIONS as u64 / PER_SECOND * 1000) as i64 + 60_000;
    Feed::new(&servers.kafka.servers, ShopOptions { start, ..options }).send(CLOSING, |_, _, _, _| {}).await;
    until_read(&mut pipeline, TRANSACTIONS + CLOSING).await;
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
    println!("{}", pipeline.said());
    let waited = format!("waiting for Kafka at {}", servers.kafka.servers);
    assert!(pipeline.said().contains(&waited) && pipeline.said().contains(" 0 late, 0 bad,"), "{}", pipeline.said());

    assert_eq!(ledger.windows.len(), 34 + 1, "disorder reaches into the window before the first");
    the_database_is_right(&servers.database_url(), &ledger).await;
    redis_is_right(&servers.redis_url(), &ledger).await;
    the_topic_is_right(&servers.kafka.servers, &ledger);
}

async fn until_said(pipeline: &mut Pipeline, words: &str) {
    wait_until(words, pipeline, PATIENCE, async |pipeline| pipeline.said().contains(words)).await;
}

async fn until_read(pipeline: &mut Pipeline, rows: usize) {
    let what = format!("{rows} rows");
    wait_until(&what, pipeline, PATIENCE, async |pipeline| pipeline.figure(READ) >= rows as u64).await;
}

/// Transactions, revenue, highest, lowest, customers.
type Totals = [u64; 5];

fn window_totals(ledger: &Ledger) -> BTreeMap<i64, Totals> {
    let totals = ledger.windows.iter().map(|(start, window)| {
        let totals =
            [window.transactions, window.revenue, window.max, window.min, u64::from(window.unique_customers())];
        (*start, totals)
    });
    totals.collect()
}

/// Sales, revenue, quantity, customers, products.
fn category_totals(ledger: &Ledger) -> BTreeMap<(i64, String), Totals> {
    let totals = ledger.categories.iter().map(|((start, category), totals)| {
        let (customers, products) = (totals.unique_customers().into(), totals.unique_products().into());
        ((*start, (*category).to_owned()), [totals.sales, totals.revenue, totals.quantity, customers, products])
    });
    totals.collect()
}

fn window_of(row: &Value) -> (i64, Totals) {
    let amounts = ["revenue", "highest", "lowest"].map(|column| cents(&row[column]));
    let [revenue, highest, lowest] = amounts;
    let transactions = row["transactions"].as_u64().unwrap();
    (millis(&row["timestamp"]), [transactions, revenue, highest, lowest, row["customers"].as_u64().unwrap()])
}

async fn the_database_is_right(url: &str, ledger: &Ledger) {
    let number = |text: &String| text.parse::<u64>().unwrap();
    let windows = query(
        url,
        "SELECT (EXTRACT(EPOCH FROM timestamp) * 1000)::BIGINT::TEXT, transactions::TEXT, \
         (revenue * 100)::BIGINT::TEXT, (highest * 100)::BIGINT::TEXT, (lowest * 100)::BIGINT::TEXT, customers::TEXT \
         FROM window_totals",
    )
    .await;
    let found: BTreeMap<i64, Totals> =
        windows.iter().map(|row| (row[0].parse().unwrap(), [1, 2, 3, 4, 5].map(|at| number(&row[at])))).collect();
    assert_eq!((windows.len(), found), (ledger.windows.len(), window_totals(ledger)));

    let categories = query(
        url,
        "SELECT (EXTRACT(EPOCH FROM timestamp) * 1000)::BIGINT::TEXT, category, sales::TEXT, \
         (revenue * 100)::BIGINT::TEXT, quantity::TEXT, customers::TEXT, products::TEXT FROM category_totals",
    )
    .await;
    let found: BTreeMap<(i64, String), Totals> = categories
        .iter()
        .map(|row| ((row[0].parse().unwrap(), row[1].clone()), [2, 3, 4, 5, 6].map(|at| number(&row[at]))))
        .collect();
    assert_eq!((categories.len(), found), (ledger.categories.len(), category_totals(ledger)));

    let items = count(url, "SELECT sum(items)::BIGINT FROM item_totals").await;
    assert_eq!(items as u64, ledger.items);
    let wrong = "SELECT count(*) FROM item_totals WHERE (items, quantity) IS DISTINCT FROM (SELECT \
                 (sum(sales)::BIGINT, sum(quantity)::BIGINT) FROM category_totals AS c \
                 WHERE c.timestamp = item_totals.timestamp)";
    assert_eq!(count(url, wrong).await, 0, "items and categories of a window");
}

async fn redis_is_right(url: &str, ledger: &Ledger) {
    let (newest, _) = value(url, "totals:window").await;
    assert_eq!(Some(window_of(&newest)), window_totals(ledger).pop_last());
    let mut expected: BTreeMap<String, (i64, Totals)> = BTreeMap::new();
    for ((start, category), totals) in category_totals(ledger) {
        expected.insert(category, (start, totals));
    }
    let mut found = BTreeMap::new();
    for key in keys(url, "totals:category:*").await {
        let (row, _) = value(url, &key).await;
        let number = |column: &str| row[column].as_u64().unwrap();
        let (customers, products) = (number("customers"), number("products"));
        let totals = [number("sales"), cents(&row["revenue"]), number("quantity"), customers, products];
        assert_eq!(key, format!("totals:category:{}", row["category"].as_str().unwrap()));
        found.insert(row["category"].as_str().unwrap().to_owned(), (millis(&row["timestamp"]), totals));
    }
    assert_eq!(found, expected);
}

fn the_topic_is_right(servers: &str, ledger: &Ledger) {
    let records = records(servers, "window_totals");
    let found: BTreeMap<i64, Totals> = records.iter().map(window_of).collect();
    assert_eq!((records.len(), found), (ledger.windows.len(), window_totals(ledger)));
}
