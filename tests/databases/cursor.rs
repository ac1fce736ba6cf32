//! The PostgreSQL source against a real server: every row once and in order, whenever its transaction commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acequia::connectors::{BEGINNING, ConnectorError, ConnectorTable, SourceContext};
use acequia::faults::{Bug, plant};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::postgres::{Database, database};
use super::reading::{Reading, Row, columns, context, table};

const SOON: (&str, &str) = ("poll_interval", "20 ms");

fn numbers() -> SchemaRef {
    columns(&[("id", DataType::Int64), ("name", DataType::Utf8)])
}

/// `orders` of `database`, read by `id` every 20 ms.
fn orders(database: &Database, more: &[(&str, &str)]) -> Arc<dyn ConnectorTable> {
    let mut options = vec![("url", database.url()), ("cursor", "id")];
    options.extend(more);
    if !more.iter().any(|(name, _)| *name == "poll_interval") {
        options.push(SOON);
    }
    if !more.iter().any(|(name, _)| matches!(*name, "query" | "table")) {
        options.push(("table", "orders"));
    }
    table("t", &numbers(), "postgres", &options)
}

async fn run(client: &mut PgConnection, statement: &str) {
    client.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

async fn with_orders() -> Database {
    let database = database().await;
    database.run("CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, name TEXT)").await;
    database
}

fn rows(rows: &[(i64, &str)]) -> Vec<Row> {
    rows.iter().map(|(id, name)| (*id, format!("{id}|{name}"))).collect()
}

/// What opening and reading fails with.
async fn refusal(table: &Arc<dyn ConnectorTable>, schema: &SchemaRef) -> String {
    Reading::open(table, context(schema)).await.failure().await.to_string()
}

#[tokio::test]
async fn a_row_that_commits_late_is_not_missed_and_one_that_never_does_is_not_waited_for() {
    let database = with_orders().await;
    let [mut early, mut late, mut other] = [database.client().await, database.client().await, database.client().await];
    let mut reading = Reading::open(&orders(&database, &[]), context(&numbers())).await;
    assert_eq!(reading.until_caught_up().await, []);

    run(&mut late, "BEGIN; INSERT INTO orders (name) VALUES ('late')").await;
    run(&mut early, "INSERT INTO orders (name) VALUES ('early')").await;
    reading.is_silent().await;
    run(&mut late, "COMMIT").await;
    assert_eq!(reading.rows(2).await, rows(&[(1, "late"), (2, "early")]));

    run(&mut late, "BEGIN; INSERT INTO orders (name) VALUES ('never')").await;
    run(&mut early, "INSERT INTO orders (name) VALUES ('fourth')").await;
    reading.is_silent().await;
    run(&mut late, "ROLLBACK").await;
    assert_eq!(reading.rows(1).await, rows(&[(4, "fourth")]));

    // Only the one who wrote when 6 was seen is waited for, not who comes later; the row of the latter has to wait.
    run(&mut late, "BEGIN; INSERT INTO orders (name) VALUES ('fifth')").await;
    run(&mut early, "INSERT INTO orders (name) VALUES ('sixth')").await;
    reading.is_silent().await;
    run(&mut other, "BEGIN; INSERT INTO orders (name) VALUES ('seventh')").await;
    run(&mut late, "COMMIT").await;
    assert_eq!(reading.rows(2).await, rows(&[(5, "fifth"), (6, "sixth")]));
    run(&mut other, "COMMIT").await;
    assert_eq!(reading.rows(1).await, rows(&[(7, "seventh")]));
    assert_eq!(reading.until_caught_up().await, []);
    assert_eq!(reading.lag(), [("t".to_owned(), 0)]);
}

/// What the wait is good for.
#[tokio::test]
async fn without_the_wait_the_late_row_would_be_missed() {
    let database = with_orders().await;
    let [mut early, mut late] = [database.client().await, database.client().await];
    plant(Some(Bug::WritersNotAwaited));
    let mut reading = Reading::open(&orders(&database, &[]), context(&numbers())).await;
    run(&mut late, "BEGIN; INSERT INTO orders (name) VALUES ('late')").await;
    run(&mut early, "INSERT INTO orders (name) VALUES ('early')").await;
    assert_eq!(reading.rows(1).await, rows(&[(2, "early")]));
    run(&mut late, "COMMIT").await;
    run(&mut early, "INSERT INTO orders (name) VALUES ('third')").await;
    assert_eq!(reading.rows(1).await, rows(&[(3, "third")]));
    plant(None);
}

#[tokio::test]
async fn who_only_reads_or_tidies_up_is_not_waited_for() {
    let database = with_orders().await;
    let [mut dump, mut locker, mut writer] =
        [database.client().await, database.client().await, database.client().await];
    run(&mut writer, "INSERT INTO orders (name) VALUES ('a')").await;
    run(&mut dump, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM orders").await;
    // As VACUUM holds it, and as SELECT FOR UPDATE does.
    run(&mut locker, "BEGIN; LOCK orders IN SHARE UPDATE EXCLUSIVE MODE; SELECT * FROM orders FOR UPDATE").await;
    run(&mut writer, "INSERT INTO orders (name) VALUES ('b')").await;
    let mut reading = Reading::open(&orders(&database, &[]), context(&numbers())).await;
    assert_eq!(reading.rows(2).await, rows(&[(1, "a"), (2, "b")]));
}

/// Transactions of all kinds, at once, that take their time: some are rolled back, wholly or in part.
async fn writer(mut client: PgConnection, seed: u64, transactions: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for number in 0..transactions {
        run(&mut client, "BEGIN").await;
        for _ in 0..random.random_range(1..4) {
            run(&mut client, &format!("INSERT INTO orders (name) VALUES ('{seed}.{number}')")).await;
            if random.random_ratio(1, 8) {
                run(&mut client, "SAVEPOINT s; INSERT INTO orders (name) VALUES ('not'); ROLLBACK TO s").await;
            }
            tokio::time::sleep(Duration::from_micros(random.random_range(0..2_000))).await;
        }
        let ending = if random.random_ratio(1, 8) { "ROLLBACK" } else { "COMMIT" };
        run(&mut client, ending).await;
        if random.random_ratio(1, 20) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_writers_lose_no_row_and_repeat_none_over_many_restarts() {
    let database = with_orders().await;
    let done = Arc::new(AtomicBool::new(false));
    let writing = {
        let mut writers = tokio::task::JoinSet::new();
        for seed in 0..8 {
            writers.spawn(writer(database.client().await, seed, 250));
        }
        let done = done.clone();
        tokio::spawn(async move {
            writers.join_all().await;
            done.store(true, Ordering::Relaxed);
        })
    };
    let table = orders(&database, &[("poll_interval", "1 ms")]);
    let mut random = ChaCha8Rng::seed_from_u64(99);
    let mut next = context(&numbers());
    let mut read: Vec<Row> = vec![];
    let mut runs = 0;
    while !done.load(Ordering::Relaxed) {
        next.batch_size = random.random_range(1..50);
        let mut reading = Reading::open(&table, next.clone()).await;
        read.extend(reading.rows_within(Duration::from_millis(random.random_range(1..300))).await);
        next = reading.resumed(next);
        runs += 1;
    }
    read.extend(Reading::open(&table, next).await.until_caught_up().await);
    writing.await.unwrap();
    let there: Vec<(i64, String)> = sqlx::query_as("SELECT id, id || '|' || name FROM orders ORDER BY id")
        .fetch_all(&mut database.client().await)
        .await
        .unwrap();
    eprintln!("{} rows in {runs} runs", there.len());
    assert!(there.len() > 2500 && runs > 5, "{} rows in {runs} runs", there.len());
    assert!(read.windows(2).all(|pair| pair[0].0 < pair[1].0), "out of order");
    assert_eq!(read, there);
}

#[tokio::test]
async fn parts_of_a_table_are_watched_with_the_whole() {
    let database = database().await;
    database
        .run(
            "CREATE TABLE orders (id BIGSERIAL, name TEXT NOT NULL) PARTITION BY LIST (name); \
             CREATE TABLE orders_a PARTITION OF orders FOR VALUES IN ('a'); \
             CREATE TABLE orders_b PARTITION OF orders FOR VALUES IN ('b')",
        )
        .await;
    let [mut late, mut early] = [database.client().await, database.client().await];
    let mut whole = Reading::open(&orders(&database, &[]), context(&numbers())).await;
    let mut part = Reading::open(&orders(&database, &[("table", "orders_a")]), context(&numbers())).await;
    run(&mut late, "BEGIN; INSERT INTO orders (name) VALUES ('a')").await;
    run(&mut early, "INSERT INTO orders_a (name) VALUES ('a')").await;
    whole.is_silent().await;
    part.is_silent().await;
    run(&mut late, "COMMIT").await;
    assert_eq!(whole.rows(2).await, rows(&[(1, "a"), (2, "a")]));
    assert_eq!(part.rows(2).await, rows(&[(1, "a"), (2, "a")]));
    // Straight into a part.
    run(&mut late, "BEGIN; INSERT INTO orders_b (name) VALUES ('b')").await;
    run(&mut early, "INSERT INTO orders (name) VALUES ('b')").await;
    whole.is_silent().await;
    run(&mut late, "COMMIT").await;
    assert_eq!(whole.rows(2).await, rows(&[(3, "b"), (4, "b")]));
}

#[tokio::test]
async fn a_query_says_whose_writers_to_wait_for() {
    let database = with_orders().await;
    let [mut late, mut early] = [database.client().await, database.client().await];
    let query =
        [("query", "SELECT id, upper(name) AS name FROM orders WHERE name <> 'x' -- all"), ("cursor_table", "orders")];
    let mut reading = Reading::open(&orders(&database, &query), context(&numbers())).await;
    run(&mut late, "BEGIN; INSERT INTO orders (name) VALUES ('a')").await;
    run(&mut early, "INSERT INTO orders (name) VALUES ('x'), ('b')").await;
    reading.is_silent().await;
    run(&mut late, "COMMIT").await;
    assert_eq!(reading.rows(2).await, rows(&[(1, "A"), (3, "B")]));
}

#[tokio::test]
async fn values_of_every_type_come_as_they_are_declared() {
    let database = database().await;
    database
        .run(
            "CREATE DOMAIN number AS BIGINT; CREATE TYPE color AS ENUM ('red', 'green'); \
             CREATE TABLE every (id number PRIMARY KEY, i2 SMALLINT, i4 INT, i8 BIGINT, u8 NUMERIC(20), f4 REAL, \
             f8 DOUBLE PRECISION, price NUMERIC(12, 2), exact NUMERIC(38, 10), b BOOLEAN, s VARCHAR(20), data BYTEA, \
             bytes TEXT, day DATE, clock TIME, at TIMESTAMP, zoned TIMESTAMPTZ, doc JSONB, json_text TEXT, list TEXT[], \
             items JSON, raw JSONB, key UUID, kind color); \
             INSERT INTO every VALUES (1, -32768, 7, 9223372036854775807, 18446744073709551615, 0.1, 0.1, 12.30, \
             1234567890123456789.0123456789, true, 'é\"\n', '\\x00ff5c', '\\x00', '1969-12-31', '23:59:59.5', \
             '2026-01-31 12:00:00.123456', '2026-01-31 12:00:00+05', '{\"a\": 1, \"b\": \"x\"}', '{\"a\": 2}', \
             ARRAY['p', NULL, 'q'], '[{\"price\": 19.99}]', '{\"k\":  [1]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'red'); \
             INSERT INTO every (id, f4, f8) VALUES (2, 'NaN', '-Infinity')",
        )
        .await;
    let price = DataType::Struct(vec![Field::new("price", DataType::Decimal128(12, 2), true)].into());
    let doc = |names: &[&str]| {
        let field = |name: &&str| {
            let data_type = if *name == "a" { DataType::Int64 } else { DataType::Utf8 };
            Field::new(*name, data_type, true)
        };
        DataType::Struct(names.iter().map(field).collect())
    };
    let schema = columns(&[
        ("id", DataType::Int64),
        ("i2", DataType::Int16),
        ("i4", DataType::Int32),
        ("i8", DataType::Int64),
        ("u8", DataType::UInt64),
        ("f4", DataType::Float32),
        ("f8", DataType::Float64),
        ("price", DataType::Decimal128(12, 2)),
        ("exact", DataType::Decimal128(38, 10)),
        ("b", DataType::Boolean),
        ("s", DataType::Utf8),
        ("data", DataType::Binary),
        ("bytes", DataType::Binary),
        ("day", DataType::Date32),
        ("clock", DataType::Time64(TimeUnit::Microsecond)),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("zoned", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("doc", doc(&["a", "b"])),
        ("json_text", doc(&["a"])),
        ("list", DataType::new_list(DataType::Utf8, true)),
        ("items", DataType::new_list(price, true)),
        ("raw", DataType::Utf8),
        ("key", DataType::Utf8),
        ("kind", DataType::Utf8),
    ]);
    let table = table("t", &schema, "postgres", &[("url", database.url()), ("cursor", "id"), ("table", "every")]);
    // What a user's settings say must not matter.
    let settings = "ALTER DATABASE %d SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE %d SET DateStyle = 'German'; \
                    ALTER DATABASE %d SET bytea_output = 'escape'; ALTER DATABASE %d SET extra_float_digits = -15";
    let name = database.url().rsplit('/').next().unwrap();
    run(&mut database.client().await, &settings.replace("%d", name)).await;
    let mut reading = Reading::open(&table, context(&schema)).await;
    let values = reading.values(2).await;
    assert_eq!(reading.bad, []);
    assert_eq!(
        values,
        [
            "1|-32768|7|9223372036854775807|18446744073709551615|0.1|0.1|12.30|1234567890123456789.0123456789|true|é\"\n|\
             00ff5c|5c783030|1969-12-31|23:59:59.500|2026-01-31T12:00:00.123456|2026-01-31T07:00:00|{a: 1, b: x}|{a: 2}|\
             [p, , q]|[{price: 19.99}]|{\"k\": [1]}|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|red",
            "2|||||NaN|-inf|||||||||||||||||",
        ]
    );
}

#[tokio::test]
async fn a_value_that_does_not_fit_makes_its_row_a_bad_one() {
    let database = database().await;
    database
        .run(
            "CREATE TABLE orders (id INT PRIMARY KEY, name TEXT, at TIMESTAMP); INSERT INTO orders VALUES \
             (1, '1', now()), (5, 'x', now()), (6, '6', 'infinity'), (7, '7', '0044-03-15 BC'), (8, '8', now())",
        )
        .await;
    let schema = columns(&[("name", DataType::Int64), ("at", DataType::Timestamp(TimeUnit::Nanosecond, None))]);
    let declared = columns(&[
        ("id", DataType::Int64),
        ("name", DataType::Int64),
        ("at", DataType::Timestamp(TimeUnit::Nanosecond, None)),
    ]);
    let table = table("t", &declared, "postgres", &[("url", database.url()), ("cursor", "id"), ("table", "orders")]);
    let mut reading = Reading::open(&table, context(&schema)).await;
    assert_eq!(reading.rows(2).await.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 8]);
    let bad: Vec<(i64, &str)> = reading.bad.iter().map(|(id, message)| (*id, message.as_str())).collect();
    assert_eq!(
        bad,
        [
            (5, "column name: \"x\" is not a bigint (byte 8)"),
            (6, "column at: \"infinity\" is not a timestamp (byte 17)"),
            (7, "column at: \"0044-03-15T00:00:00 BC\" is not a timestamp (byte 17)"),
        ]
    );
}

#[tokio::test]
async fn a_bounded_run_ends_where_the_table_ended_at_its_start() {
    let database = with_orders().await;
    let mut client = database.client().await;
    let bounded = |size| {
        let mut context = context(&numbers());
        (context.bounded, context.batch_size) = (true, size);
        context
    };
    let mut empty = Reading::open(&orders(&database, &[]), bounded(10)).await;
    assert_eq!(empty.all().await, []);
    run(&mut client, "INSERT INTO orders (name) SELECT 'n' FROM generate_series(1, 25)").await;
    let mut reading = Reading::open(&orders(&database, &[]), bounded(10)).await;
    let mut read = reading.rows(10).await;
    run(&mut client, "INSERT INTO orders (name) VALUES ('later')").await;
    read.extend(reading.all().await);
    assert_eq!(read.iter().map(|(id, _)| *id).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
    let mut rest = Reading::open(&orders(&database, &[]), reading.resumed(bounded(10))).await;
    assert_eq!(rest.all().await, rows(&[(26, "later")]));
    let mut latest = Reading::open(&orders(&database, &[("source.offset", "latest")]), bounded(10)).await;
    assert_eq!(latest.all().await, []);
}

#[tokio::test]
async fn the_latest_begins_behind_what_is_there() {
    let database = with_orders().await;
    database.run("INSERT INTO orders (name) VALUES ('old')").await;
    let mut reading = Reading::open(&orders(&database, &[("source.offset", "latest")]), context(&numbers())).await;
    assert_eq!(reading.until_caught_up().await, []);
    database.run("INSERT INTO orders (name) VALUES ('new')").await;
    assert_eq!(reading.rows(1).await, rows(&[(2, "new")]));
    // Where a checkpoint says to go on, the option says nothing.
    let resumed = reading.resumed(context(&numbers()));
    drop(reading);
    database.run("INSERT INTO orders (name) VALUES ('meanwhile')").await;
    let mut reading = Reading::open(&orders(&database, &[("source.offset", "latest")]), resumed).await;
    assert_eq!(reading.rows(1).await, rows(&[(3, "meanwhile")]));
}

#[tokio::test]
async fn a_run_that_read_nothing_of_the_latest_skips_no_row_that_comes_after_it() {
    let database = with_orders().await;
    let bounded = || SourceContext { bounded: true, ..context(&numbers()) };
    database.run("INSERT INTO orders (name) VALUES ('old')").await;
    let table = orders(&database, &[("source.offset", "latest")]);
    let mut reading = Reading::open(&table, context(&numbers())).await;
    assert_eq!(reading.until_caught_up().await, []);
    assert_eq!((reading.next, reading.lag()), (Some(2), vec![("t".to_owned(), 0)]));
    let resumed = reading.resumed(bounded());
    drop(reading);
    database.run("INSERT INTO orders (name) VALUES ('meanwhile')").await;
    assert_eq!(Reading::open(&table, resumed).await.all().await, rows(&[(2, "meanwhile")]));
    // An empty table: whatever comes is new.
    database.run("TRUNCATE orders").await;
    let mut reading = Reading::open(&table, context(&numbers())).await;
    assert_eq!(reading.until_caught_up().await, []);
    assert_eq!((reading.next, reading.lag()), (Some(BEGINNING), vec![]));
    let resumed = reading.resumed(bounded());
    drop(reading);
    database.run("INSERT INTO orders (name) VALUES ('first')").await;
    assert_eq!(Reading::open(&table, resumed.clone()).await.all().await, rows(&[(3, "first")]));
    // Of a table of which nothing was read there are no cursors that could mean something else in another one.
    database.run("DROP TABLE orders; CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, name TEXT)").await;
    database.run("INSERT INTO orders (name) VALUES ('of another')").await;
    assert_eq!(Reading::open(&table, resumed).await.all().await, rows(&[(1, "of another")]));
}

#[tokio::test]
async fn a_table_made_anew_is_told_from_the_one_of_the_checkpoint() {
    let database = with_orders().await;
    database.run("INSERT INTO orders (name) VALUES ('a'), ('b')").await;
    let mut reading = Reading::open(&orders(&database, &[]), context(&numbers())).await;
    reading.rows(2).await;
    assert!(reading.origin().contains("system ") && reading.origin().contains("table "), "{}", reading.origin());
    let mut resumed = reading.resumed(context(&numbers()));
    drop(reading);
    database
        .run(
            "DROP TABLE orders; CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, name TEXT); \
             INSERT INTO orders (name) VALUES ('c'), ('d'), ('e')",
        )
        .await;
    let mut reading = Reading::open(&orders(&database, &[]), resumed.clone()).await;
    let error = reading.failure().await;
    assert!(matches!(error, ConnectorError::Mismatch { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("the checkpoint was made with another table ("), "{words}");
    assert!(words.ends_with("go on at cursor 3 with --accept-lost-input"), "{words}");
    resumed.accept_lost_input = true;
    let mut reading = Reading::open(&orders(&database, &[]), resumed).await;
    assert_eq!(reading.rows(1).await, rows(&[(3, "e")]));
}

#[tokio::test]
async fn what_cannot_be_read_is_said_with_the_way_out() {
    let database = with_orders().await;
    database
        .run(
            "CREATE TABLE detail (order_id BIGINT); \
             CREATE VIEW joined AS SELECT o.id, o.name FROM orders o LEFT JOIN detail d ON d.order_id = o.id; \
             CREATE TABLE nulls (id BIGINT, name TEXT); INSERT INTO nulls VALUES (1, 'a'), (NULL, 'b'); \
             CREATE TABLE twice (id BIGINT, name TEXT); INSERT INTO twice VALUES (1, 'a'), (2, 'b'), (2, 'c'), (3, 'd'); \
             CREATE TABLE texts (id TEXT, name TEXT); \
             CREATE SEQUENCE blocks CACHE 20; \
             CREATE TABLE cached (id BIGINT DEFAULT nextval('blocks'), name TEXT); \
             CREATE TABLE identity (id BIGINT GENERATED ALWAYS AS IDENTITY (CACHE 5), name TEXT); \
             CREATE TABLE down (id BIGINT GENERATED ALWAYS AS IDENTITY (INCREMENT -1), name TEXT); \
             CREATE SEQUENCE first; CREATE SEQUENCE second; \
             CREATE TABLE whole (id BIGINT DEFAULT nextval('first'), name TEXT); \
             CREATE TABLE part () INHERITS (whole); ALTER TABLE part ALTER id SET DEFAULT nextval('second'); \
             CREATE TABLE copied (id BIGINT PRIMARY KEY, name TEXT); \
             INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) VALUES (1, 'copied'::regclass, 'r')",
        )
        .await;
    let what = format!("at {}: ", database.address);
    let cases: [(&[(&str, &str)], &str); 13] = [
        (&[("table", "odrers")], "there is no table or view odrers"),
        (&[("table", "detail")], "column id is not there; it has order_id"),
        (
            &[("table", "joined")],
            "joined is a view, into which nobody inserts: name the table whose INSERTs give id in 'cursor_table'; the view \
             reads detail, orders",
        ),
        (&[("cursor_table", "ordres")], "there is no table ordres, whose writers are to be waited for"),
        (
            &[("table", "nulls")],
            "cursor id is NULL in some row, which would never be read: fill it, or leave such rows out with 'query'",
        ),
        (
            &[("table", "twice")],
            "cursor id is 2 in more than one row, so that there is no telling where to go on: name a column whose values \
             are unique",
        ),
        (&[("table", "texts")], "cursor id is text there, which is no whole number"),
        (
            &[("table", "cached")],
            "sequence blocks, which gives id, has CACHE 20: a session keeps a block of numbers and can insert a lower one \
             long after a higher one is there, so that rows would be missed. Run ALTER SEQUENCE blocks CACHE 1 and let its \
             writers connect anew",
        ),
        (
            &[("table", "identity")],
            "sequence identity_id_seq, which gives id, has CACHE 5: a session keeps a block of numbers and can insert a \
             lower one long after a higher one is there, so that rows would be missed. Run ALTER SEQUENCE identity_id_seq \
             CACHE 1 and let its writers connect anew",
        ),
        (&[("table", "whole")], "id is given by several sequences (first, second), which know no common order"),
        (
            &[("table", "copied")],
            "copied is filled by a subscription, by the order of commits and not of id: read it where its rows are inserted",
        ),
        (&[("table", "down")], "sequence down_id_seq, which gives id, counts downwards"),
        (
            &[("query", "SELECT idd AS id FROM orders"), ("cursor_table", "orders")],
            "column \"idd\" does not exist; Perhaps you meant to reference the column \"orders.id\" (SQLSTATE 42703)",
        ),
    ];
    for (options, expected) in cases {
        let said = refusal(&orders(&database, options), &numbers()).await;
        let (_, message) = said.split_once(&what).unwrap_or_else(|| panic!("{said}"));
        assert_eq!(message, expected, "{options:?}");
    }
    // Over the edge of a page the same is seen.
    let mut small = context(&numbers());
    small.batch_size = 2;
    let error = Reading::open(&orders(&database, &[("table", "twice")]), small).await.failure().await;
    assert!(error.to_string().contains("cursor id is 2 in more than one row"), "{error}");
}

#[tokio::test]
async fn the_shops_transactions_come_with_their_items() {
    let database = database().await;
    let item = DataType::Struct(
        vec![
            Field::new("product_id", DataType::Int64, true),
            Field::new("unit_price", DataType::Decimal128(12, 2), true),
        ]
        .into(),
    );
    let schema = columns(&[
        ("transaction_id", DataType::Int64),
        ("transaction_date", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        ("customer_name", DataType::Utf8),
        ("total_amount", DataType::Decimal128(12, 2)),
        ("items", DataType::new_list(item, true)),
    ]);
    let options = [
        ("url", database.url()),
        ("migrate", "shop"),
        ("table", "transaction_events"),
        ("cursor", "transaction_id"),
        ("cursor_table", "transaction"),
        SOON,
    ];
    let table = table("t", &schema, "postgres", &options);
    assert_eq!(
        table.source().unwrap().describe(),
        format!("PostgreSQL table transaction_events by transaction_id at {}", database.address)
    );
    let mut reading = Reading::open(&table, context(&schema)).await;
    assert_eq!(reading.until_caught_up().await, []);
    database
        .run(
            "INSERT INTO customer (name) VALUES ('Ana'); INSERT INTO buyer (name) VALUES ('Bo'); \
             INSERT INTO product (customer_id, name, price) VALUES (1, 'Lamp', 20), (1, 'Pan', 5)",
        )
        .await;
    let mut client = database.client().await;
    run(&mut client, "BEGIN; INSERT INTO transaction (buyer_id, customer_id, transaction_date, total_amount) VALUES (1, 1, '2026-01-31 12:00', 25)").await;
    reading.is_silent().await;
    run(&mut client, "INSERT INTO transactiondetail (transaction_id, product_id, quantity, unit_price) VALUES (1, 2, 1, 5), (1, 1, 1, 20); COMMIT").await;
    assert_eq!(
        reading.values(1).await,
        ["1|2026-01-31T12:00:00|Ana|25.00|[{product_id: 2, unit_price: 5.00}, {product_id: 1, unit_price: 20.00}]"]
    );
}
