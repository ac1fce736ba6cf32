//! A real Kafka, partitions in disorder within and across, late rows, a run that is killed and goes on: the backfill of
//! what it has recorded gives the same rows, whatever its settings, and whatever has become of the history's files.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::Cluster;
use crate::pipeline::Pipeline;
use crate::{Place, commits, committed, said};

/// Records of each partition of the two topics.
const ORDERS: usize = 1500;
const CLICKS: usize = 500;
const PARTITIONS: i32 = 3;
/// The first half comes in so many parts, each of which makes a file of the history: enough to be put together.
const PARTS: u32 = 14;

/// The tables that are compared.
const RESULTS: [&str; 8] =
    ["per_customer", "hopping", "sessions", "joined", "kinds", "products", "late_orders", "large_orders"];

/// The queries: every kind of window, a join, distinct values, an array taken apart, late rows, and rows that pass.
fn sql(kafka: &str, place: &str) -> String {
    let source = |name: &str, columns: &str, options: &str| {
        format!(
            "CREATE TABLE {name} ({columns}, ts TIMESTAMP NOT NULL, \"partition\" INT METADATA FROM 'partition',
                 \"offset\" BIGINT METADATA FROM 'offset', WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
             WITH (connector = 'kafka', bootstrap_servers = '{kafka}', topic = '{name}', idle_timeout = '1 hour'{options});
             CREATE TABLE {name}_history ({columns}, ts TIMESTAMP NOT NULL, \"partition\" INT, \"offset\" BIGINT, day DATE)
             WITH (connector = 'delta', history_of = '{name}', partition_by = 'day', commit_interval = '50 ms',
                 compaction_interval = '100 ms');
             INSERT INTO {name}_history SELECT *, CAST(ts AS DATE) AS day FROM {name};\n"
        )
    };
    let sink = |name: &str, columns: &str| {
        format!(
            "CREATE TABLE {name} ({columns}) WITH (connector = 'file', format = 'parquet', path = '{place}/{name}');\n"
        )
    };
    let window = "since TIMESTAMP, until TIMESTAMP";
    let mut sql = source(
        "orders",
        "id BIGINT NOT NULL, customer BIGINT, amount DECIMAL(12, 2), items STRUCT<product TEXT, quantity INT>[]",
        ", late_rows = 'late_orders'",
    );
    sql += &source("clicks", "customer BIGINT, page TEXT", "");
    sql += &sink(
        "per_customer",
        &format!("{window}, customer BIGINT, n BIGINT, total DECIMAL(22, 2), least DECIMAL(12, 2)"),
    );
    sql += &sink("hopping", &format!("{window}, n BIGINT, total DECIMAL(22, 2)"));
    sql += &sink("sessions", &format!("{window}, customer BIGINT, n BIGINT"));
    sql += &sink("joined", &format!("{window}, customer BIGINT, orders BIGINT, clicks BIGINT"));
    sql += &sink("kinds", &format!("{window}, customers BIGINT, products BIGINT"));
    sql += &sink("products", &format!("{window}, product TEXT, sold BIGINT, customers BIGINT"));
    sql += &sink("late_orders", "id BIGINT, ts TIMESTAMP, \"offset\" BIGINT, query TEXT");
    sql += &sink("large_orders", "id BIGINT, amount DECIMAL(12, 2), ts TIMESTAMP");
    sql += "
        CREATE VIEW order_windows AS SELECT tumble(INTERVAL '5 seconds') AS w, customer, count(*) AS n
            FROM orders GROUP BY w, customer;
        CREATE VIEW click_windows AS SELECT tumble(INTERVAL '5 seconds') AS w, customer, count(*) AS n
            FROM clicks GROUP BY w, customer;
        CREATE VIEW lines AS SELECT o.customer, o.ts, i['product'] AS product, i['quantity'] AS quantity
            FROM orders AS o, UNNEST(o.items) AS u(i);
        INSERT INTO per_customer SELECT w['start'], w['end'], customer, n, total, least FROM (
            SELECT tumble(INTERVAL '3 seconds') AS w, customer, count(*) AS n, sum(amount) AS total, min(amount) AS least
            FROM orders GROUP BY w, customer);
        INSERT INTO hopping SELECT w['start'], w['end'], n, total FROM (
            SELECT hop(INTERVAL '2 seconds', INTERVAL '6 seconds') AS w, count(*) AS n, sum(amount) AS total
            FROM orders GROUP BY w);
        INSERT INTO sessions SELECT w['start'], w['end'], customer, n FROM (
            SELECT session(INTERVAL '500 milliseconds') AS w, customer, count(*) AS n FROM orders GROUP BY w, customer);
        INSERT INTO joined SELECT o.w['start'], o.w['end'], o.customer, o.n, c.n
            FROM order_windows AS o JOIN click_windows AS c ON o.w = c.w AND o.customer = c.customer;
        INSERT INTO kinds SELECT w['start'], w['end'], customers, products FROM (
            SELECT tumble(INTERVAL '4 seconds') AS w, count(DISTINCT customer) AS customers,
                count(DISTINCT product) AS products FROM lines GROUP BY w);
        INSERT INTO products SELECT w['start'], w['end'], product, sold, customers FROM (
            SELECT tumble(INTERVAL '5 seconds') AS w, product, sum(quantity) AS sold, count(DISTINCT customer) AS customers
            FROM lines GROUP BY w, product);
        INSERT INTO large_orders SELECT id, amount, ts FROM orders WHERE amount > 900;";
    sql
}

/// Moments about 20 ms after one another from a partition's own beginning, most within a second of that, some far behind.
fn moment(random: &mut ChaCha8Rng, partition: i32, number: usize) -> String {
    let behind = match random.random_range(0..100) {
        0..3 => random.random_range(3_000..20_000),
        _ => random.random_range(0..1_000),
    };
    let millis = 1_790_000_000_000 + i64::from(partition) * 4_000 + number as i64 * 20 - behind;
    chrono::DateTime::from_timestamp_millis(millis).unwrap().format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

fn orders(random: &mut ChaCha8Rng, partition: i32) -> Vec<String> {
    let order = |number: usize| {
        let items: Vec<String> = (0..random.random_range(0..4))
            .map(|_| {
                let (product, quantity) = (random.random_range(0..6), random.random_range(1..5));
                format!("{{\"product\": \"p{product}\", \"quantity\": {quantity}}}")
            })
            .collect();
        let (customer, cents) = (random.random_range(0..12), random.random_range(0..100_000));
        let ts = moment(random, partition, number);
        if random.random_range(0..200) == 0 {
            return "{\"id\": null}".into();
        }
        format!(
            "{{\"id\": {}, \"customer\": {customer}, \"amount\": {}.{:02}, \"items\": [{}], \"ts\": \"{ts}\"}}",
            partition as usize * ORDERS + number,
            cents / 100,
            cents % 100,
            items.join(", ")
        )
    };
    (0..ORDERS).map(order).collect()
}

fn clicks(random: &mut ChaCha8Rng, partition: i32) -> Vec<String> {
    let click = |number: usize| {
        let (customer, page) = (random.random_range(0..12), random.random_range(0..5));
        // Three times as far apart, so that both topics cover the same time.
        let ts = moment(random, partition, 3 * number);
        format!("{{\"customer\": {customer}, \"page\": \"/{page}\", \"ts\": \"{ts}\"}}")
    };
    (0..CLICKS).map(click).collect()
}

/// Sends the records from `from` to `to` of every partition, as shares of the whole.
fn send(kafka: &Cluster, topic: &str, partitions: &[Vec<String>], from: f64, to: f64) {
    for (partition, records) in (0..).zip(partitions) {
        let at = |share: f64| (records.len() as f64 * share) as usize;
        let records: Vec<&str> = records[at(from)..at(to)].iter().map(String::as_str).collect();
        kafka.produce(topic, partition, &records);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_past_gives_the_rows_that_a_killed_and_restarted_run_gave() {
    let kafka = Cluster::start();
    for topic in ["orders", "clicks"] {
        kafka.create_topic(topic, PARTITIONS).await;
    }
    let mut random = ChaCha8Rng::seed_from_u64(71);
    let all_orders: Vec<_> = (0..PARTITIONS).map(|partition| orders(&mut random, partition)).collect();
    let all_clicks: Vec<_> = (0..PARTITIONS).map(|partition| clicks(&mut random, partition)).collect();
    let place = Place::new(|place| sql(&kafka.servers, &place.display().to_string()));

    // A run to which more comes and more, and which is killed when half of it is recorded.
    let often = ["--no-page", "--checkpoint-interval", "100ms", "--parallelism", "2", "--batch-size", "100"];
    let mut live = Pipeline::start(place.run(&often));
    for part in 0..PARTS {
        let recorded = committed(&place, "orders_history");
        let (from, to) = (f64::from(part) / f64::from(2 * PARTS), f64::from(part + 1) / f64::from(2 * PARTS));
        send(&kafka, "orders", &all_orders, from, to);
        send(&kafka, "clicks", &all_clicks, from, to);
        let deadline = Instant::now() + Duration::from_secs(60);
        while committed(&place, "orders_history") <= recorded {
            assert!(Instant::now() < deadline, "{}", live.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    live.kill();
    send(&kafka, "orders", &all_orders, 0.5, 1.0);
    send(&kafka, "clicks", &all_clicks, 0.5, 1.0);
    place.run_bounded();

    let results: Vec<Vec<String>> = RESULTS.iter().map(|table| place.written(table)).collect();
    for (table, rows) in RESULTS.iter().zip(&results) {
        assert!(rows.len() >= 8, "{table} has only {} rows", rows.len());
    }
    for settings in [["--parallelism", "1", "--batch-size", "8192"], ["--parallelism", "3", "--batch-size", "7"]] {
        let said = place.backfilled(&settings);
        assert!(said.contains("recorded in orders_history up to version "), "{said}");
        for (table, rows) in RESULTS.iter().zip(&results) {
            assert_eq!(&place.result(table), rows, "{table} with {settings:?}");
        }
    }

    // Small files are put together when the pipeline runs on, and nothing else changes.
    let mut live = Pipeline::start(place.run(&["--no-http", "--no-page"]));
    let deadline = Instant::now() + Duration::from_secs(60);
    // It may be done already: before the run is under way a signal would just end it.
    while !(is_compacted(&place, "orders_history") && live.said().contains(" running ")) {
        assert!(Instant::now() < deadline, "{}", live.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    live.signal("-TERM");
    assert_eq!(live.exit_code(), Some(0), "{}", live.said());
    place.backfilled(&["--parallelism", "2"]);
    for (table, rows) in RESULTS.iter().zip(&results) {
        assert_eq!(&place.result(table), rows, "{table} after compaction");
    }

    // The history is complete, by what the checkpoints say.
    let audit = place.command("audit").output().unwrap();
    assert_eq!(audit.status.code(), Some(0), "{}{}", String::from_utf8_lossy(&audit.stdout), said(&audit));

    // A query that is thought of afterwards, by itself and with nothing else written.
    std::fs::remove_dir_all(place.path("data/backfill")).unwrap();
    place.add(
        "later.sql",
        "CREATE TABLE per_partition (\"partition\" INT, n BIGINT, last BIGINT) WITH (connector = 'blackhole');
         INSERT INTO per_partition SELECT \"partition\", count(*), max(\"offset\") FROM orders GROUP BY \"partition\";",
    );
    let output = place.backfill(&["--only", "per_partition"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let file = place.path("data/backfill/per_partition.parquet");
    assert_eq!(told, format!("{}: 3 rows\n", file.display()), "{}", said(&output));
    let good = |partition: usize| all_orders[partition].iter().filter(|order| !order.contains("null")).count();
    let counted: Vec<String> = place.result("per_partition");
    for partition in 0..3 {
        let row = format!("{partition} | {} | ", good(partition));
        assert!(counted[partition].starts_with(&row), "{row}: {counted:?}");
    }
    assert!(!place.path("data/backfill/per_customer.parquet").exists());
}

/// Whether files of a history have been replaced by others.
fn is_compacted(place: &Place, history: &str) -> bool {
    commits(place, history).iter().any(|commit| commit.lines().any(|action| action.starts_with("{\"remove\"")))
}
