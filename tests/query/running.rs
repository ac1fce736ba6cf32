//! Queries that take long, that nobody reads, and that are asked while a pipeline writes.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use super::*;
use pipeline::Pipeline;

/// More rows than anybody waits for.
const ENDLESS: &str =
    "SELECT sum(a.value * b.value) AS s FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b";

/// The same, with rows from the beginning on.
const ENDLESS_ROWS: &str = "SELECT value FROM generate_series(1, 100000000000)";

#[test]
fn a_query_ends_when_its_time_is_up() {
    let began = Instant::now();
    let output = Shop::new().run(&["query", ENDLESS, "--timeout", "300ms"]);
    assert_eq!(
        stderr(&output),
        "error: there was no answer in 300ms, and --timeout allows no more: the query was stopped\n"
    );
    assert_eq!(output.status.code(), Some(3));
    assert!(began.elapsed() < Duration::from_secs(30), "it would have gone on for years");
}

#[test]
fn ctrl_c_stops_a_query() {
    let shop = Shop::new();
    let mut command = shop.command(&["query", ENDLESS_ROWS, "--format", "csv"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.nth(1).unwrap().unwrap(), "1");
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    // The reader goes on, or else it would wait for room in the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "error: the query was stopped\n");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let shop = Shop::new();
    let mut command = shop.command(&["query", ENDLESS_ROWS, "--format", "csv"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.nth(2).unwrap().unwrap(), "2");
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!((stderr(&output).as_str(), output.status.code()), ("", Some(0)));
}

#[test]
fn a_table_for_a_person_does_not_wait_for_the_last_row() {
    let shown = Shop::new().asked(&["query", ENDLESS_ROWS, "--max-rows", "2"]);
    assert_eq!(
        shown,
        "+-------+\n| value |\n+-------+\n| 1     |\n| 2     |\n+-------+\n\
         (first 2 rows, there are more: --max-rows shows more, --format csv or json all)\n"
    );
}

#[test]
fn what_is_spilled_leaves_nothing_behind() {
    let shop = Shop::new();
    let sql = "SELECT count(*) AS n FROM (SELECT v, row_number() OVER (ORDER BY v) AS n FROM (SELECT value * 7919 % 3000017 \
               AS v FROM generate_series(1, 3000000))) WHERE n > 100000";
    let output = shop.run(&["query", sql, "--format", "csv", "--memory-limit", "32MB"]);
    assert_eq!(stdout(&output), "n\n2900000\n", "{}", stderr(&output));
    assert!(!shop.path("data/tmp").exists());
    let output = shop.run(&["query", sql, "--format", "csv", "--memory-limit", "100KB"]);
    let said = stderr(&output);
    assert!(said.starts_with("error: the query needs more memory than its limit: raise the limit"), "{said}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_folder_is_asked_while_its_pipeline_writes() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("queries")).unwrap();
    let folder = "\
        CREATE TABLE numbers (n BIGINT, ts TIMESTAMP) WITH (connector = 'datagen', rows_per_second = '2000',
            'fields.n.kind' = 'sequence');
        CREATE TABLE kept (n BIGINT, ts TIMESTAMP) WITH (connector = 'delta', commit_interval = '200ms');
        INSERT INTO kept SELECT n, ts FROM numbers;";
    std::fs::write(place.path().join("queries/numbers.sql"), folder).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = acequia();
        let data = place.path().join("data");
        command.current_dir(place.path()).env("ACEQUIA__RUN__DATA_DIR", data).args(arguments);
        command
    };
    let run = ["run", "queries", "--no-http", "--checkpoint-interval", "100ms"];
    let mut pipeline = Pipeline::start(command(&run));
    let count = || {
        let sql = "SELECT count(*) AS n, count(DISTINCT n) AS d FROM kept";
        let output = command(&["query", sql, "--format", "csv"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let counts = stdout(&output).lines().nth(1).unwrap().to_owned();
        let (rows, distinct) = counts.split_once(',').unwrap();
        (rows.parse::<u64>().unwrap(), distinct.parse::<u64>().unwrap())
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let first = loop {
        let (rows, _) = count();
        if rows > 0 {
            break rows;
        }
        assert!(Instant::now() < deadline, "nothing is kept: {}", pipeline.said());
    };
    let more = loop {
        let (rows, distinct) = count();
        assert!(rows >= first);
        assert_eq!(distinct, rows, "each number once");
        if rows > first {
            break rows;
        }
        assert!(Instant::now() < deadline, "no more is kept: {}", pipeline.said());
    };
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
    assert!(count().0 >= more);
}
