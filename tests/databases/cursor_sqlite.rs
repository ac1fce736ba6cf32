//! The SQLite source: a file that others write meanwhile, that appears later, or that is replaced.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::{ConnectorError, ConnectorTable, SourceContext};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tempfile::TempDir;

use super::reading::{Reading, Row, columns, context, table};

const ORDERS: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)";

async fn client(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(Duration::from_secs(30))
        .journal_mode(SqliteJournalMode::Wal);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn run(client: &mut SqliteConnection, statement: &str) {
    client.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

fn numbers() -> SchemaRef {
    columns(&[("id", DataType::Int64), ("name", DataType::Utf8)])
}

fn read(path: &Path, schema: &SchemaRef, more: &[(&str, &str)]) -> Arc<dyn ConnectorTable> {
    let path = path.display().to_string();
    let mut options = vec![("path", path.as_str()), ("cursor", "id"), ("poll_interval", "10 ms")];
    options.extend(more);
    if !more.iter().any(|(name, _)| matches!(*name, "query" | "table")) {
        options.push(("table", "orders"));
    }
    table("t", schema, "sqlite", &options)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_many_writers_come_once_and_in_order_over_restarts() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.sqlite");
    run(&mut client(&path).await, ORDERS).await;
    let mut writers = tokio::task::JoinSet::new();
    for seed in 0..4 {
        let mut client = client(&path).await;
        writers.spawn(async move {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            for number in 0..60 {
                run(&mut client, "BEGIN IMMEDIATE").await;
                for _ in 0..random.random_range(1..5) {
                    run(&mut client, &format!("INSERT INTO orders (name) VALUES ('{seed}.{number}')")).await;
                }
                tokio::time::sleep(Duration::from_micros(random.random_range(0..1000))).await;
                run(&mut client, if random.random_ratio(1, 6) { "ROLLBACK" } else { "COMMIT" }).await;
            }
        });
    }
    let table = read(&path, &numbers(), &[]);
    let mut next = context(&numbers());
    next.batch_size = 7;
    let mut came: Vec<Row> = vec![];
    while !writers.is_empty() {
        let mut reading = Reading::open(&table, next.clone()).await;
        came.extend(reading.rows_within(Duration::from_millis(100)).await);
        next = reading.resumed(next);
        while writers.try_join_next().is_some() {}
    }
    came.extend(Reading::open(&table, next).await.until_caught_up().await);
    let there: Vec<Row> = sqlx::query_as("SELECT id, id || '|' || name FROM orders ORDER BY id")
        .fetch_all(&mut client(&path).await)
        .await
        .unwrap();
    assert!(there.len() > 300);
    assert_eq!(came, there);
}

#[tokio::test]
async fn an_embedded_file_is_read_when_it_appears() {
    let folder = TempDir::new().unwrap();
    let schema = columns(&[("behavior_id", DataType::Int64), ("metadata", DataType::Utf8)]);
    let options = [
        ("url", "embedded://shop"),
        ("table", "behavior_events"),
        ("cursor", "behavior_id"),
        ("cursor_table", "userbehavior"),
        ("poll_interval", "10 ms"),
    ];
    let table = table("t", &schema, "postgres", &options);
    let source = table.source().unwrap();
    assert_eq!(source.describe(), "SQLite table behavior_events by behavior_id in shop.sqlite");
    assert_eq!((table.embedded(), table.embedded_database()), (Some("PostgreSQL"), Some("shop")));
    let mut place = context(&schema);
    place.data_dir = folder.path().into();
    let mut bounded = place.clone();
    bounded.bounded = true;
    assert_eq!(Reading::open(&table, bounded).await.all().await, []);
    let mut reading = Reading::open(&table, place.clone()).await;
    assert_eq!(reading.until_caught_up().await, []);
    let path = folder.path().join("shop.sqlite");
    assert!(!path.exists());
    // Its tables are made by whoever comes first.
    let mut writer = client(&path).await;
    while sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = 'behavior_events'")
        .fetch_optional(&mut writer)
        .await
        .unwrap()
        .is_none()
    {
        assert_eq!(reading.rows_within(Duration::from_millis(10)).await, []);
    }
    let insert = "INSERT INTO userbehavior (customer_id, event_type, timestamp, metadata) \
                  VALUES (1, 'search', '2026-01-31 12:00:00', '{\"results_count\": 3}')";
    run(&mut writer, insert).await;
    assert_eq!(reading.rows(1).await, [(1, "1|{\"results_count\": 3}".to_owned())]);
    assert!(reading.origin().contains("database of 2"), "{}", reading.origin());
}

#[tokio::test]
async fn what_comes_to_a_file_that_was_not_there_is_new_also_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let schema = columns(&[("behavior_id", DataType::Int64)]);
    let options = [
        ("url", "embedded://shop"),
        ("table", "behavior_events"),
        ("cursor", "behavior_id"),
        ("cursor_table", "userbehavior"),
        ("source.offset", "latest"),
    ];
    let table = table("t", &schema, "postgres", &options);
    let place = || SourceContext { data_dir: folder.path().into(), ..context(&schema) };
    let mut reading = Reading::open(&table, place()).await;
    assert_eq!(reading.until_caught_up().await, []);
    let resumed = reading.resumed(SourceContext { bounded: true, ..place() });
    drop(reading);
    let path = folder.path().join("shop.sqlite");
    let mut writer = client(&path).await;
    // Its tables are made by whoever comes first.
    assert_eq!(Reading::open(&table, place()).await.until_caught_up().await, []);
    let insert =
        "INSERT INTO userbehavior (customer_id, event_type, timestamp) VALUES (1, 'search', '2026-01-31 12:00:00')";
    run(&mut writer, insert).await;
    assert_eq!(Reading::open(&table, resumed).await.all().await, [(1, "1".to_owned())]);
}

#[tokio::test]
async fn values_of_every_kind_come_as_they_are_declared() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.sqlite");
    let mut client = client(&path).await;
    run(
        &mut client,
        "CREATE TABLE every (id INTEGER PRIMARY KEY, b BOOLEAN, f REAL, price DECIMAL(12, 2), sum REAL, exact TEXT, \
         data BLOB, day TEXT, at TEXT, millis INTEGER, doc TEXT, items TEXT, s TEXT); \
         INSERT INTO every VALUES (1, 1, 0.1, 12.30, 0.1 + 0.2, '1234567890123456789.0123456789', x'00ff5c', '2026-01-31', \
         '2026-01-31 12:00:00.5', 1769860800000, '{\"a\": 1}', '[{\"a\": 2}]', 'é\"'); \
         INSERT INTO every (id, f, price, data) VALUES (2, 9e999, 3, 'text'); \
         INSERT INTO every (id, price) VALUES (5, 'dear'), (6, 1.234)",
    )
    .await;
    let doc = DataType::Struct(vec![Field::new("a", DataType::Int64, true)].into());
    let schema = columns(&[
        ("id", DataType::Int64),
        ("b", DataType::Boolean),
        ("f", DataType::Float64),
        ("price", DataType::Decimal128(12, 2)),
        ("sum", DataType::Decimal128(12, 2)),
        ("exact", DataType::Decimal128(38, 10)),
        ("data", DataType::Binary),
        ("day", DataType::Date32),
        ("at", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        ("millis", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("doc", doc.clone()),
        ("items", DataType::new_list(doc, true)),
        ("s", DataType::Utf8),
    ]);
    let table = read(&path, &schema, &[("table", "every")]);
    let mut reading = Reading::open(&table, context(&schema)).await;
    assert_eq!(
        reading.values(2).await,
        [
            "1|true|0.1|12.30|0.30|1234567890123456789.0123456789|00ff5c|2026-01-31|2026-01-31T12:00:00.500|\
             2026-01-31T12:00:00|{a: 1}|[{a: 2}]|é\"",
            "2||inf|3.00|||74657874||||||",
        ]
    );
    let bad: Vec<(i64, &str)> = reading.bad.iter().map(|(id, message)| (*id, message.as_str())).collect();
    assert_eq!(bad[0], (5, "column price: \"dear\" is not a decimal(12,2) (byte 34)"));
    assert_eq!((bad[1].0, bad[1].1.contains("too many digits behind the point")), (6, true), "{bad:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_with_the_way_out() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.sqlite");
    let mut bounded = context(&numbers());
    bounded.bounded = true;
    let missing = Reading::open(&read(&path, &numbers(), &[]), bounded).await.failure().await.to_string();
    assert!(missing.ends_with("there is no such file, and a bounded run does not wait for it"), "{missing}");
    run(
        &mut client(&path).await,
        "CREATE TABLE nulls (id INTEGER, name TEXT); INSERT INTO nulls VALUES (1, 'a'), (NULL, 'b'); \
         CREATE TABLE twice (id INTEGER, name TEXT); INSERT INTO twice VALUES (2, 'a'), (2, 'b'); \
         CREATE TABLE texts (id TEXT, name TEXT); INSERT INTO texts VALUES ('a', 'a'); \
         CREATE TABLE detail (order_id INTEGER)",
    )
    .await;
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[], "there is no table or view orders"),
        (&[("table", "detail")], "column id is not there; it has order_id"),
        (
            &[("table", "nulls")],
            "cursor id is NULL in some row, which would never be read: fill it, or leave such rows out with 'query'",
        ),
        (
            &[("table", "twice")],
            "cursor id is 2 in more than one row, so that there is no telling where to go on: name a column whose values \
             are unique",
        ),
        (&[("table", "texts")], "cursor id is no whole number in some row: name the column that counts the rows"),
        (&[("query", "SELECT idd FROM detail")], "no such column: idd"),
    ];
    for (options, expected) in cases {
        let failure = Reading::open(&read(&path, &numbers(), options), context(&numbers())).await.failure().await;
        let said = failure.to_string();
        let words = said.split_once("shop.sqlite: ").unwrap_or_else(|| panic!("{said}")).1;
        assert_eq!(words, expected, "{options:?}");
    }
}

#[tokio::test]
async fn a_query_is_read_and_a_replaced_file_opened_anew() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.sqlite");
    run(&mut client(&path).await, ORDERS).await;
    run(&mut client(&path).await, "INSERT INTO orders (name) VALUES ('a'), ('x'), ('c')").await;
    let query = [("query", "SELECT id, upper(name) AS name FROM orders WHERE name <> 'x';")];
    let mut reading = Reading::open(&read(&path, &numbers(), &query), context(&numbers())).await;
    assert_eq!(reading.rows(2).await, [(1, "1|A".to_owned()), (3, "3|C".to_owned())]);
    let other = folder.path().join("other.sqlite");
    run(&mut client(&other).await, ORDERS).await;
    run(&mut client(&other).await, "INSERT INTO orders (id, name) VALUES (4, 'd'); PRAGMA wal_checkpoint(TRUNCATE)")
        .await;
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(reading.rows(1).await, [(4, "4|D".to_owned())]);
}

#[tokio::test]
async fn a_database_made_anew_is_told_from_the_one_of_the_checkpoint() {
    let folder = TempDir::new().unwrap();
    let schema = columns(&[("interaction_id", DataType::Int64)]);
    let options = [("url", "embedded://crm"), ("table", "interaction"), ("cursor", "interaction_id")];
    let table = table("t", &schema, "postgres", &options);
    let mut place = context(&schema);
    place.data_dir = folder.path().into();
    place.positions = [("t".to_owned(), 7)].into();
    place.origin = Some("cursor interaction_id; database of 2020-01-01 00:00:00".into());
    client(&folder.path().join("crm.sqlite")).await;
    let error = Reading::open(&table, place).await.failure().await;
    assert!(matches!(error, ConnectorError::Mismatch { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("another database (of 2020-01-01 00:00:00; here it is of 2"), "{words}");
}

#[tokio::test]
async fn without_a_database_there_are_no_rows() {
    let schema = columns(&[("id", DataType::Int64)]);
    let none = table("t", &schema, "postgres", &[("url", "none"), ("cursor", "id")]);
    assert!(none.sink().is_none());
    assert_eq!(none.source().unwrap().describe(), "no rows (url 'none')");
    let mut reading = Reading::open(&none, context(&schema)).await;
    assert_eq!(reading.until_caught_up().await, []);
    reading.is_silent().await;
    assert!(!reading.ended);
    let mut bounded = context(&schema);
    bounded.bounded = true;
    assert_eq!(Reading::open(&none, bounded).await.all().await, []);
}
