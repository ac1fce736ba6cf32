//! Addresses at which nobody answers.

use std::time::{Duration, Instant};

use crate::pipeline::Pipeline;
use crate::{command, folder};

/// Runs a program whose servers are not there, until it says what it waits for, and stops it: at once, with exit 0.
fn waits_and_stops(program: &str, lines: &[&str]) {
    let place = folder(&[("queries/p.sql", program.as_bytes())]);
    let mut pipeline = Pipeline::start(command(place.path(), &["run", "queries", "--no-http"]));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !lines.iter().all(|line| pipeline.said().contains(line)) {
        assert!(Instant::now() < deadline && !pipeline.has_ended(), "{}", pipeline.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = Instant::now();
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}\n{}", told.elapsed(), pipeline.said());
    assert!(!pipeline.said().contains("s3cret") && !pipeline.said().contains("panicked"), "{}", pipeline.said());
}

#[test]
fn a_broker_that_does_not_answer_is_waited_for_until_told_to_stop() {
    waits_and_stops(
        "CREATE TABLE t (a BIGINT) WITH (connector = 'kafka', topic = 't', bootstrap_servers = '127.0.0.1:1');
         SELECT a FROM t;",
        &["WARN waiting for Kafka at 127.0.0.1:1: "],
    );
}

#[test]
fn sinks_without_their_servers_hold_up_nothing_that_has_no_rows() {
    waits_and_stops(
        "CREATE TABLE t (a BIGINT) WITH (connector = 'kafka', topic = 't', bootstrap_servers = 'embedded');
         CREATE TABLE r (a BIGINT) WITH (connector = 'redis', url = 'redis://:s3cret@127.0.0.1:1', key = 'k');
         CREATE TABLE p (a BIGINT) WITH (connector = 'postgres', url = 'postgres://u:s3cret@127.0.0.1:1/d');
         CREATE TABLE k (a BIGINT) WITH (connector = 'kafka', topic = 'k', bootstrap_servers = '127.0.0.1:1');
         INSERT INTO r SELECT a FROM t;
         INSERT INTO p SELECT a FROM t;
         INSERT INTO k SELECT a FROM t;",
        &["WARN waiting for Redis at 127.0.0.1:1: ", "WARN waiting for PostgreSQL table p at 127.0.0.1:1/d: "],
    );
}

#[test]
fn rows_that_cannot_be_delivered_end_a_stop_with_the_server_and_exit_4() {
    let program = "CREATE TABLE t (a BIGINT) WITH (connector = 'file', path = 'in.jsonl');
         CREATE TABLE r (a BIGINT) WITH (connector = 'redis', url = 'redis://:s3cret@127.0.0.1:1', key = 'k');
         INSERT INTO r SELECT a FROM t;";
    let place = folder(&[("queries/p.sql", program.as_bytes()), ("in.jsonl", b"{\"a\":1}\n")]);
    let arguments = ["run", "queries", "--no-http", "--shutdown-timeout", "1s"];
    let mut pipeline = Pipeline::start(command(place.path(), &arguments));
    pipeline.until("waiting for Redis at 127.0.0.1:1: ");
    // By then the row is on its way.
    std::thread::sleep(Duration::from_secs(1));
    pipeline.signal("-TERM");
    pipeline.until("not done after 1s: stopping at once");
    assert_eq!(pipeline.exit_code(), Some(4), "{}", pipeline.said());
    let said = pipeline.said();
    assert!(said.contains("ERROR r: stopped while waiting for Redis at 127.0.0.1:1\n"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}
