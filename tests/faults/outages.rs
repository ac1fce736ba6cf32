//! A server that is away holds up its own rows and no others.

use std::time::{Duration, Instant};

use crate::destinations;
use crate::ledger::Ledger;
use crate::pipeline::Pipeline;
use crate::trial::{PATIENCE, Servers, Trial, assert_clean, exit_code};

const PER_SECOND: u64 = 300;
/// How long Redis is away.
const AWAY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_holds_up_nobody_else_nor_a_stop() {
    let servers = Servers::with_own_redis();
    let trial = Trial::new(&servers, Ledger { seed: 11, partitions: 2 }).await;
    let feed = trial.feed(0..u64::MAX, PER_SECOND);
    let mut pipeline = trial.start();
    trial.until_rows(&mut pipeline, "events", 100).await;

    servers.redis.stop();
    let waiting = format!("waiting for Redis at 127.0.0.1:{}", servers.redis.port);
    until_said(&mut pipeline, &waiting).await;
    let topic = || destinations::topic(&servers.kafka.servers, &format!("{}-out", trial.name)).len() as i64;
    // The clock runs only while both counts do: those of before are taken first, those of after last.
    let (rows, records, began) = (trial.rows_in("events").await, topic(), Instant::now());
    tokio::time::sleep(AWAY).await;
    let away = began.elapsed().as_secs() as i64;
    let (rows, records) = (trial.rows_in("events").await - rows, topic() - records);
    // All but what comes in a few seconds, on a machine that others use as well.
    let least = (away - 5) * PER_SECOND as i64;
    assert!(rows > least * 9 / 10, "{rows} rows in PostgreSQL in {away} s");
    assert!(records > least * 7 / 10, "{records} records in Kafka in {away} s");

    servers.redis.start(&[]);
    until_said(&mut pipeline, &format!("Redis at 127.0.0.1:{} is back after", servers.redis.port)).await;
    servers.redis.stop();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stops_in_time(&trial, pipeline).await;

    servers.redis.start(&[]);
    let count = feed.stop().await;
    assert_clean("Redis away", &trial.finish(count).await);
}

/// Told to stop while rows wait for Redis, it stops when its time is over, and says so.
async fn stops_in_time(trial: &Trial, mut pipeline: Pipeline) {
    pipeline.kill();
    let mut command = trial.command();
    command.args(["--no-http", "--shutdown-timeout", "4s"]);
    let mut pipeline = Pipeline::start(command);
    until_said(&mut pipeline, &format!("waiting for Redis at 127.0.0.1:{}", trial.servers.redis.port)).await;
    let told = Instant::now();
    pipeline.signal("-TERM");
    let code = exit_code(&mut pipeline).await;
    let took = told.elapsed();
    assert_eq!(code, Some(4), "{}", pipeline.said());
    assert!(took < Duration::from_secs(7), "{took:?}\n{}", pipeline.said());
}

/// Waits for words on stderr.
pub async fn until_said(pipeline: &mut Pipeline, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !pipeline.said().contains(words) {
        assert!(!pipeline.has_ended(), "it ended before it said '{words}':\n{}", pipeline.said());
        assert!(Instant::now() < deadline, "it does not say '{words}':\n{}", pipeline.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
