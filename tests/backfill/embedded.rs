//! The Kafka in the data folder, and what a backfill leaves alone.

use std::time::{Duration, Instant};

use acequia::connectors::kafka::embedded::Feeder;
use tokio_util::sync::CancellationToken;

use crate::pipeline::Pipeline;
use crate::{Place, committed, said};

/// Clicks and views, of which only the clicks are recorded; a count of each, and a copy of the clicks.
fn sql(place: &str) -> String {
    format!(
        "CREATE TABLE clicks (k TEXT, n BIGINT, ts TIMESTAMP, \"partition\" INT METADATA FROM 'partition',
             \"offset\" BIGINT METADATA FROM 'offset', \"key\" TEXT METADATA FROM 'key',
             WATERMARK FOR ts AS ts - INTERVAL '1 second')
         WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'clicks', idle_timeout = '1 hour');
         CREATE TABLE clicks_history (k TEXT, n BIGINT, ts TIMESTAMP, \"partition\" INT, \"offset\" BIGINT, \"key\" TEXT)
         WITH (connector = 'delta', history_of = 'clicks', commit_interval = '200 ms', compaction = 'false');
         INSERT INTO clicks_history SELECT k, n, ts, \"partition\", \"offset\", \"key\" FROM clicks;
         CREATE TABLE views (k TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
         WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'views');
         CREATE TABLE per_minute (since TIMESTAMP, k TEXT, n BIGINT)
         WITH (connector = 'file', format = 'parquet', path = '{place}/per_minute');
         INSERT INTO per_minute SELECT w['start'], k, n FROM (
             SELECT tumble(INTERVAL '1 minute') AS w, k, count(*) AS n FROM clicks GROUP BY w, k);
         CREATE TABLE latest (k TEXT PRIMARY KEY, n BIGINT)
         WITH (connector = 'sqlite', path = '{place}/latest.sqlite', create = 'true');
         INSERT INTO latest SELECT \"key\", n FROM clicks;
         CREATE TABLE viewed (k TEXT, n BIGINT) WITH (connector = 'blackhole');
         INSERT INTO viewed SELECT k, count(*) FROM views GROUP BY tumble(INTERVAL '1 minute'), k;"
    )
}

async fn feed(place: &Place, records: impl IntoIterator<Item = (usize, String)>) {
    let mut feeder = Feeder::open(&place.path("data"), CancellationToken::new()).await.unwrap();
    for (number, record) in records {
        let key = format!("k{}", number % 8);
        feeder.send("clicks", Some(key.as_bytes()), record.as_bytes()).await.unwrap();
    }
    feeder.flush().await.unwrap();
}

/// Ten a minute, now and then one that is late.
fn click(number: usize) -> (usize, String) {
    let seconds = 6 * number as i64 - if number.is_multiple_of(17) { 200 } else { 0 };
    let ts = chrono::DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%S");
    (number, format!("{{\"k\": \"{}\", \"n\": {number}, \"ts\": \"{ts}\"}}", number % 3))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pipeline_is_left_alone_and_final_windows_are_the_same() {
    let place = Place::new(|place| sql(&place.display().to_string()));
    feed(&place, (0..800).map(click)).await;
    let mut live = Pipeline::start(place.run(&["--no-page", "--no-sample", "--checkpoint-interval", "100ms"]));
    live.until("metrics on ");
    let delivered = "acequia_rows_written_total{table=\"latest\"}";
    let deadline = Instant::now() + Duration::from_secs(60);
    while live.figure(delivered) < 800 || committed(&place, "clicks_history") < 800 {
        assert!(Instant::now() < deadline, "{}", live.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = place.backfilled(&[]);
    assert!(told.contains("left out: viewed reads views, which has no history"), "{told}");
    assert!(!live.has_ended(), "{}", live.said());
    live.signal("-TERM");
    assert_eq!(live.exit_code(), Some(0), "{}", live.said());

    // The live run's open windows are those that the end of the history has closed in the backfill, and no others.
    let (final_rows, all_rows) = (place.written("per_minute"), place.result("per_minute"));
    assert!(final_rows.len() > 100, "{final_rows:?}");
    let open: Vec<&String> = all_rows.iter().filter(|row| !final_rows.contains(row)).collect();
    assert_eq!(all_rows.len(), final_rows.len() + open.len());
    let last = final_rows.last().unwrap();
    assert!(open.iter().all(|row| *row > last) && open.len() <= 12, "{open:?}\n{last}");
    // A key is one row in a table that replaces rows, and a file has all rows that it was given.
    assert_eq!(place.result("latest").len(), 800);
    assert!(place.result("latest").contains(&"k1 | 1".to_owned()));
    assert!(!place.path("data/backfill/clicks_history.parquet").exists());
    assert!(!place.path("data/backfill/viewed.parquet").exists());
    let checkpoints: Vec<_> = std::fs::read_dir(place.path("data/checkpoints")).unwrap().flatten().collect();
    assert_eq!(checkpoints.len(), 1, "{checkpoints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_delivered_once_and_never_beside_the_same_rows() {
    let place = Place::new(|place| sql(&place.display().to_string()));
    feed(&place, (0..100).map(click)).await;
    place.run_bounded();
    // The pipeline has written it.
    let output = place.backfill(&["--deliver", "--only", "per_minute"]);
    let told = said(&output);
    let rows = place.written("per_minute").len();
    assert_eq!(output.status.code(), Some(5), "{told}");
    let words = format!("table per_minute has {rows} rows from live already (checkpoints in ");
    assert!(told.contains(&words) && told.contains("and the backfill would add to them"), "{told}");
    assert_eq!(place.written("per_minute").len(), rows);

    // A table that is new is filled, once.
    let later = format!(
        "CREATE TABLE copies (k TEXT, n BIGINT) WITH (connector = 'delta', path = '{}', compaction = 'false');
         INSERT INTO copies SELECT k, n FROM clicks;",
        place.path("copies").display()
    );
    place.add("later.sql", &later);
    place.backfilled(&["--deliver", "--only", "copies"]);
    let copies = place.written("copies");
    assert_eq!(copies.len(), 100);
    let output = place.backfill(&["--deliver", "--only", "copies"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("this backfill was delivered already, at "), "{}", said(&output));
    assert!(said(&output).contains("--fresh delivers it again"), "{}", said(&output));
    let output = place.backfill(&["--deliver", "--only", "copies", "--only", "per_minute"]);
    assert!(said(&output).contains(" already (checkpoints in "), "{}", said(&output));
    assert_eq!(place.written("copies"), copies);
    // The pipeline itself goes on where it stood, and the new query begins there.
    feed(&place, (100..120).map(click)).await;
    place.run_bounded();
    assert_eq!(place.written("data/history/clicks_history").len(), 120);
    assert_eq!(place.written("copies").len(), 120);
}
