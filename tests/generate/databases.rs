//! Rows of PostgreSQL and SQLite.

use std::time::Duration;

use acequia::generator::Destinations;
use acequia::shop::{Event, Ledger, ShopEvents};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use crate::server::Server;
use crate::{START, database, feed, past, place, shop_options};

async fn postgres(url: &str, query: &str) -> Vec<Vec<String>> {
    let mut client = PgConnection::connect(url).await.unwrap();
    let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut client).await.unwrap();
    rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
}

async fn sqlite(url: &str, query: &str) -> Vec<Vec<String>> {
    let mut client = SqliteConnection::connect(url).await.unwrap();
    let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut client).await.unwrap();
    rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
}

/// One number of PostgreSQL.
async fn number(url: &str, query: &str) -> i64 {
    let mut client = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut client).await.unwrap()
}

async fn counts<const N: usize>(url: &str, tables: [&str; N]) -> [i64; N] {
    let mut counts = [0; N];
    for (place, table) in tables.iter().enumerate() {
        counts[place] = number(url, &format!("SELECT count(*) FROM {table}")).await;
    }
    counts
}

const EVENTS: &str = "(SELECT count(*) FROM transaction) + (SELECT count(*) FROM userbehavior) + \
                      (SELECT count(*) FROM interaction)";

/// Transactions whose amount is not the sum of their details, or that have none.
const WRONG_SUMS: &str = "SELECT count(*) FROM transaction t WHERE total_amount IS DISTINCT FROM \
                          (SELECT sum(quantity * unit_price) FROM transactiondetail d \
                           WHERE d.transaction_id = t.transaction_id)";

/// Details of products that another shop sells.
const FOREIGN_PRODUCTS: &str = "SELECT count(*) FROM transactiondetail JOIN transaction USING (transaction_id) \
                                JOIN product USING (product_id) WHERE product.customer_id <> transaction.customer_id";

#[tokio::test(flavor = "multi_thread")]
async fn two_generators_at_once_make_the_base_data_once_and_a_third_goes_on_behind() {
    let server = Server::new("postgres.sh");
    let url = server.start(&[]);
    let (first, second) =
        tokio::join!(feed(database(&url), past(1, START, 5000)), feed(database(&url), past(2, START, 3000)));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.events, second.events), (5000, 3000));
    let base = ["customer", "buyer", "product", "segment", "customersegment"];
    assert_eq!(counts(&url, base).await, [50, 100, 200, 4, 50]);
    let of_events = ["transaction", "transactiondetail", "interaction", "userbehavior"];
    let expected = [
        first.transactions + second.transactions,
        first.items + second.items,
        first.interactions + second.interactions,
        first.behaviour() + second.behaviour(),
    ];
    assert_eq!(counts(&url, of_events).await, expected.map(|count| count as i64));
    let revenue = number(&url, "SELECT (sum(total_amount) * 100)::BIGINT FROM transaction").await;
    assert_eq!(revenue as u64, first.cents + second.cents);
    assert_eq!((number(&url, WRONG_SUMS).await, number(&url, FOREIGN_PRODUCTS).await), (0, 0));
    let gaps = "SELECT max(transaction_id) - count(*) FROM transaction";
    assert_eq!(number(&url, gaps).await, 0, "ids without rows");

    let before = number(&url, "SELECT max(transaction_id) FROM transaction").await;
    let third = feed(database(&url), past(1, START + 86_400_000, 1000)).await.unwrap();
    assert_eq!(counts(&url, base).await, [50, 100, 200, 4, 50]);
    let new = format!("SELECT count(*) FROM transaction WHERE transaction_id > {before}");
    assert_eq!(number(&url, &new).await as u64, third.transactions);
    let sessions = "SELECT count(*) FROM (SELECT session_id FROM userbehavior GROUP BY session_id \
                    HAVING max(timestamp) - min(timestamp) > INTERVAL '1 hour') AS long";
    assert_eq!(number(&url, sessions).await, 0, "sessions of two runs share their ids");
}

/// Both databases hold the events of the seed, and their views give the same JSON, digit by digit.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_gives_the_same_rows_in_both_databases_and_they_are_its_events() {
    const COUNT: u64 = 4000;
    let server = Server::new("postgres.sh");
    let url = server.start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("new/shop.sqlite").display());
    for destination in [&url, &file] {
        assert_eq!(feed(database(destination), past(7, START, COUNT)).await.unwrap().events, COUNT);
    }
    let transactions = |time: &str, money: &str, items: &str| {
        format!(
            "SELECT CAST(transaction_id AS TEXT), {time}, CAST(customer_id AS TEXT), customer_name, subscription_plan, \
             CAST(buyer_id AS TEXT), buyer_name, buyer_email, {money}, payment_method, status, {items} \
             FROM transaction_events ORDER BY transaction_events.transaction_id"
        )
    };
    let iso = "to_char(transaction_date, 'YYYY-MM-DD HH24:MI:SS.MS')";
    let of_postgres = postgres(&url, &transactions(iso, "total_amount::TEXT", "items::TEXT")).await;
    let of_sqlite = sqlite(&file, &transactions("transaction_date", "printf('%.2f', total_amount)", "items")).await;
    let plain = |rows: Vec<Vec<String>>| -> Vec<Vec<String>> {
        let parsed = |text: String| serde_json::from_str(&text).map_or(text, |value: Value| value.to_string());
        rows.into_iter().map(|row| row.into_iter().map(parsed).collect()).collect()
    };
    let of_sqlite = plain(of_sqlite);
    assert!(plain(of_postgres) == of_sqlite, "the transactions differ");

    let behaviour = |time: &str, metadata: &str| {
        format!(
            "SELECT CAST(behavior_id AS TEXT), event_type, {time}, CAST(customer_id AS TEXT), customer_name, \
             coalesce(CAST(product_id AS TEXT), ''), session_id, {metadata} FROM behavior_events ORDER BY behavior_events.behavior_id"
        )
    };
    let iso = "to_char(timestamp, 'YYYY-MM-DD HH24:MI:SS.MS')";
    let steps = postgres(&url, &behaviour(iso, "metadata::TEXT")).await;
    let of_file = sqlite(&file, &behaviour("timestamp", "metadata")).await;
    assert_eq!(steps.len(), of_file.len());
    for (of_server, of_file) in steps.iter().zip(&of_file) {
        assert_eq!(of_server[..7], of_file[..7]);
        let [of_server, of_file] =
            [&of_server[7], &of_file[7]].map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(of_server, of_file);
    }

    let mut events = ShopEvents::new(shop_options(7, START));
    let mut rows = of_sqlite.iter();
    let mut sessions = steps.iter();
    let mut interactions = 0;
    for _ in 0..COUNT {
        let mut json = vec![];
        let (event, _) = events.next_into(&mut json);
        let json: Value = serde_json::from_slice(&json).unwrap();
        match event {
            Event::Transaction(_) => {
                let row = rows.next().unwrap();
                assert_eq!(json["transaction_id"].to_string(), row[0]);
                assert_eq!(json["timestamp"].as_str().unwrap().replace('T', " "), format!("{}Z", row[1]));
                assert_eq!(
                    (json["customer_name"].as_str(), json["buyer_email"].as_str()),
                    (Some(&*row[3]), Some(&*row[7]))
                );
                assert_eq!(
                    (json["total_amount"].to_string(), json["items"].to_string()),
                    (row[8].clone(), row[11].clone())
                );
            }
            Event::Interaction(_) => interactions += 1,
            _ => {
                let row = sessions.next().unwrap();
                assert_eq!(
                    (json["session_id"].as_str(), json["customer_id"].to_string()),
                    (Some(&*row[6]), row[3].clone())
                );
                let metadata: Value = serde_json::from_str(&row[7]).unwrap();
                for (key, value) in metadata.as_object().unwrap() {
                    assert_eq!(json[key], *value, "{key} of {json}");
                }
                let kind = json["interaction_type"].as_str().or(json["event_type"].as_str());
                assert_eq!(kind, Some(&*row[1]));
            }
        }
    }
    assert!(rows.next().is_none() && sessions.next().is_none());
    assert_eq!(number(&url, "SELECT count(*) FROM interaction").await, interactions);
    let from_interaction = "SELECT CAST(count(*) AS TEXT), min(interaction_date) FROM interaction";
    assert_eq!(sqlite(&file, from_interaction).await[0][0], interactions.to_string());
}

/// Somebody else's shop: ids that he chose, a category and prices of his own, no segments.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_used_and_gone_on_behind() {
    let server = Server::new("postgres.sh");
    let url = server.start(&[]);
    feed(database(&url), past(1, START, 1)).await.unwrap();
    let mut client = PgConnection::connect(&url).await.unwrap();
    let filled = "TRUNCATE customer, buyer, product, transaction, transactiondetail, userbehavior, customersegment; \
        INSERT INTO customer (customer_id, name) VALUES (1000, 'O''Neil \"Ltd\"'), (1001, 'Nothing to sell'); \
        INSERT INTO buyer (buyer_id, name) VALUES (2000, 'Zoë'); \
        INSERT INTO product (product_id, customer_id, name, category, price) VALUES (3000, 1000, 'Vase', 'antiques', 12.34), \
        (3001, 1001, 'A present', 'antiques', 0); \
        INSERT INTO transaction (transaction_id, buyer_id, customer_id, transaction_date, total_amount) \
        VALUES (4000, 2000, 1000, '2026-01-01', 1)";
    sqlx::raw_sql(filled).execute(&mut client).await.unwrap();
    let written = feed(database(&url), past(1, START, 500)).await.unwrap();
    assert_eq!(counts(&url, ["customer", "buyer", "product", "customersegment"]).await, [2, 1, 2, 0]);
    let (first, count): (i64, i64) =
        sqlx::query_as("SELECT min(transaction_id), count(*) FROM transaction WHERE transaction_id > 4000")
            .fetch_one(&mut client)
            .await
            .unwrap();
    assert_eq!((first, count), (4001, written.transactions as i64));
    let of_4001 = "SELECT customer_name, items->0->>'category', items->0->>'product_id' FROM transaction_events \
                   WHERE transaction_id = 4001";
    assert_eq!(postgres(&url, of_4001).await, [["O'Neil \"Ltd\"", "antiques", "3000"]]);

    sqlx::raw_sql("TRUNCATE product CASCADE; INSERT INTO product (customer_id, name, price) VALUES (1000, 'Air', 0)")
        .execute(&mut client)
        .await
        .unwrap();
    // Without anything to sell, products of the seed are made for the customers that are there.
    feed(database(&url), past(1, START, 1)).await.unwrap();
    assert_eq!(counts(&url, ["product"]).await, [201]);

    sqlx::raw_sql("DROP SEQUENCE userbehavior_behavior_id_seq CASCADE").execute(&mut client).await.unwrap();
    let error = feed(database(&url), past(1, START, 1)).await.unwrap_err();
    let remedy = "column behavior_id of table userbehavior gives no ids by itself; run CREATE SEQUENCE \
                  userbehavior_behavior_id_seq OWNED BY userbehavior.behavior_id; ALTER TABLE userbehavior ALTER \
                  behavior_id SET DEFAULT nextval('userbehavior_behavior_id_seq')";
    let message = error.to_string();
    assert!(message.starts_with("PostgreSQL at 127.0.0.1:") && message.ends_with(remedy), "{message}");
    let remedy = remedy.split_once("run ").unwrap().1.to_owned();
    sqlx::raw_sql(sqlx::AssertSqlSafe(remedy)).execute(&mut client).await.unwrap();
    feed(database(&url), past(1, START, 1)).await.unwrap();
}

/// The server is killed again and again while events are written: each stands there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_loses_no_event_and_doubles_none() {
    const COUNT: u64 = 60_000;
    let server = Server::new("postgres.sh");
    let url = server.start(&[]);
    let options = past(3, START, COUNT);
    let figures = options.figures.clone();
    let feeding = tokio::spawn(feed(database(&url), options));
    for crash in 1..=3 {
        let deadline = std::time::Instant::now() + Duration::from_secs(100);
        while figures.now().events < crash * COUNT / 5 {
            assert!(std::time::Instant::now() < deadline && !feeding.is_finished(), "{:?}", figures.now());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        server.start(&[]);
    }
    let written = feeding.await.unwrap().unwrap();
    assert_eq!(number(&url, &format!("SELECT {EVENTS}")).await as u64, COUNT);
    let expected = [written.transactions, written.items, written.interactions].map(|count| count as i64);
    assert_eq!(counts(&url, ["transaction", "transactiondetail", "interaction"]).await, expected);
    assert_eq!((number(&url, WRONG_SUMS).await, number(&url, FOREIGN_PRODUCTS).await), (0, 0));
    let mut ledger = Ledger::new(30_000);
    let mut events = ShopEvents::new(shop_options(3, START));
    for _ in 0..COUNT {
        let (event, at) = events.advance();
        ledger.add(events.catalogue(), &event, at);
    }
    let revenue: u64 = ledger.windows.values().map(|window| window.revenue).sum();
    assert_eq!((written.cents, written.items), (revenue, ledger.items));
    let sum = number(&url, "SELECT (sum(total_amount) * 100)::BIGINT FROM transaction").await;
    assert_eq!(sum as u64, revenue);
}

/// Whoever takes ids holds the lock by which readers know that rows may still come.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_comes_to_light_below_those_whose_writers_are_gone() {
    let server = Server::new("postgres.sh");
    let url = server.start(&[]);
    feed(database(&url), past(1, START, 1)).await.unwrap();
    let writers: Vec<_> = (2..5).map(|seed| tokio::spawn(feed(database(&url), past(seed, START, 8000)))).collect();
    let mut client = PgConnection::connect(&url).await.unwrap();
    let mut claims = vec![];
    while writers.iter().any(|writer| !writer.is_finished()) {
        let (highest,): (i64,) = sqlx::query_as("SELECT coalesce(max(transaction_id), 0) FROM transaction")
            .fetch_one(&mut client)
            .await
            .unwrap();
        let holders = "SELECT virtualtransaction FROM pg_locks WHERE relation = 'transaction'::regclass \
                       AND mode = 'RowExclusiveLock'";
        let busy: Vec<(String,)> = sqlx::query_as(holders).fetch_all(&mut client).await.unwrap();
        loop {
            let now: Vec<(String,)> = sqlx::query_as(holders).fetch_all(&mut client).await.unwrap();
            if !now.iter().any(|holder| busy.contains(holder)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM transaction WHERE transaction_id <= $1")
            .bind(highest)
            .fetch_one(&mut client)
            .await
            .unwrap();
        claims.push((highest, count));
    }
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert!(claims.len() > 10, "{} looks", claims.len());
    for (highest, count) in claims {
        let now = format!("SELECT count(*) FROM transaction WHERE transaction_id <= {highest}");
        assert_eq!(number(&url, &now).await, count, "rows up to {highest} came later");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_without_a_crm_has_no_interactions_and_one_in_another_file_does() {
    let folder = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let alone = Destinations::Databases { shop: place(&url("alone.sqlite")), crm: None };
    let written = feed(alone, past(1, START, 1000)).await.unwrap();
    assert_eq!((written.events, written.interactions), (1000, 0));
    let apart = Destinations::Databases { shop: place(&url("shop.sqlite")), crm: Some(place(&url("crm.sqlite"))) };
    let written = feed(apart.clone(), past(1, START, 1000)).await.unwrap();
    let again = feed(apart, past(1, START + 86_400_000, 1000)).await.unwrap();
    let of_crm = "SELECT CAST(count(*) AS TEXT), CAST(max(interaction_id) AS TEXT), \
                  CAST((SELECT count(*) FROM segment) AS TEXT), CAST((SELECT count(*) FROM customersegment) AS TEXT) \
                  FROM interaction";
    let count = (written.interactions + again.interactions).to_string();
    assert_eq!(sqlite(&url("crm.sqlite"), of_crm).await, [[count.as_str(), &count, "4", "50"]]);
    let of_shop = "SELECT CAST(count(*) AS TEXT), CAST(count(DISTINCT transaction_id) AS TEXT), \
                   (SELECT CAST(count(*) AS TEXT) FROM product) FROM \"transaction\"";
    let rows = sqlite(&url("shop.sqlite"), of_shop).await;
    let count = (written.transactions + again.transactions).to_string();
    assert_eq!(rows, [[count.as_str(), &count, "200"]]);
    let wrong = "SELECT CAST(count(*) AS TEXT) FROM \"transaction\" t WHERE round(total_amount * 100) <> \
                 (SELECT round(sum(quantity * unit_price) * 100) FROM transactiondetail d \
                  WHERE d.transaction_id = t.transaction_id)";
    assert_eq!(sqlite(&url("shop.sqlite"), wrong).await, [["0"]]);
    assert!(sqlite(&url("shop.sqlite"), "SELECT \"table\" FROM pragma_foreign_key_check").await.is_empty());
}
