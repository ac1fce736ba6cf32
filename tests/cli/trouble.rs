//! Records that are bad, late, filtered out or of the future: each is accounted for, and too many bad ones stop a run.

use crate::running::{Running, get_until};
use crate::{acequia, folder, stderr, text};

const PIPELINE: &str = "\
CREATE TABLE t (k BIGINT, amount BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second')
WITH (connector = 'file', path = 'rows.jsonl', follow = 'true', bad_rows = 'dead', late_rows = 'late');
CREATE TABLE dead (reason TEXT, error TEXT, value TEXT) WITH (connector = 'blackhole');
CREATE TABLE late (k BIGINT, ts TIMESTAMP) WITH (connector = 'blackhole');
CREATE TABLE sums (k BIGINT, total BIGINT) WITH (connector = 'blackhole');
INSERT INTO sums SELECT k, sum(amount) FROM t WHERE amount > 0 GROUP BY tumble(INTERVAL '10 seconds'), k;
";

/// The value of the series that begins with `name` and has all of `labels`, summed.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let of = metrics.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
    of.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn every_record_is_aggregated_filtered_late_or_bad() {
    let row = |amount: i64, time: &str| format!("{{\"k\": 1, \"amount\": {amount}, \"ts\": \"{time}\"}}\n");
    let mut rows = String::new();
    (0..5).for_each(|second| rows += &row(1, &format!("2020-01-01T00:00:0{second}")));
    (0..3).for_each(|second| rows += &row(-1, &format!("2020-01-01T00:00:0{second}")));
    rows += "{\"k\": 1\n";
    rows += "{\"k\": 1, \"amount\": 1, \"ts\": null}\n";
    rows += &row(1, "2099-01-01T00:00:00");
    rows += &row(1, "2020-01-01T00:00:30");
    (0..2).for_each(|second| rows += &row(1, &format!("2020-01-01T00:00:0{second}")));
    let place = folder(&[("rows.jsonl", &rows), ("p.sql", PIPELINE)]);
    let mut running = Running::start(place.path(), &["--http", "127.0.0.1:0"], place.path());
    let (address, _) = running.address();
    let metrics = get_until(&address, "/metrics", "what=\"aggregated\"} 6\n");
    let what = |what: &str| sum(&metrics, "acequia_rows_total{", &[&format!("what=\"{what}\"")]);
    assert_eq!(
        ["read", "bad", "passed", "filtered", "late", "aggregated"].map(what),
        [14, 3, 11, 3, 2, 6],
        "{metrics}"
    );
    assert_eq!(what("read"), what("bad") + what("filtered") + what("late") + what("aggregated"));
    let bad = |reason: &str| sum(&metrics, "acequia_dead_letter_rows_total{", &["table=\"t\"", reason]);
    assert_eq!(["malformed", "missing_value", "future_event_time"].map(bad), [1, 1, 1], "{metrics}");
    assert_eq!(sum(&metrics, "acequia_late_rows_total{", &["table=\"t\""]), 2, "{metrics}");
    // What is set apart arrives where it belongs: the first window and nothing else has been closed.
    let written = |table: &str| format!("acequia_rows_written_total{{table=\"{table}\"}} ");
    for (table, rows) in [("dead", 3), ("late", 2), ("sums", 1)] {
        get_until(&address, "/metrics", &format!("{}{rows}\n", written(table)));
    }
    running.signal("-TERM");
    assert_eq!(running.exit_code(), Some(0));
    let said = running.rest();
    assert!(said.contains("14 rows in, 6 rows out, 2 late, 3 bad"), "{said}");
}

#[test]
fn a_run_stops_when_too_many_records_are_bad() {
    let rows = "{\"a\": 1}\n".repeat(3000) + &"{\"a\": \"one\"}\n".repeat(1500);
    let sql = |limit: &str| {
        format!(
            "CREATE TABLE t (a BIGINT) WITH (connector = 'file', path = 'rows.jsonl', bad_rows_limit = '{limit}');\n\
             CREATE TABLE b (a BIGINT) WITH (connector = 'blackhole');\nINSERT INTO b SELECT a FROM t;"
        )
    };
    for (limit, code) in [("5 percent", 3), ("40%", 0), ("none", 0)] {
        let place = folder(&[("rows.jsonl", &rows), ("p.sql", &sql(limit))]);
        let mut command = acequia();
        command.current_dir(place.path()).args(["run", text(place.path()), "--no-http", "--bounded"]);
        let output = command.args(["--batch-size", "500"]).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{limit}: {said}");
        let stopped = "t: 1000 of the 4000 records read in the last minute were bad, more than 5 percent; most often \
                       wrong_type, as at rows.jsonl offset";
        assert_eq!(said.contains(stopped), code == 3, "{said}");
    }
}

#[test]
fn a_state_that_outgrows_its_limit_ends_the_run_with_3() {
    let sql = "CREATE TABLE t (k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)\n\
               WITH (connector = 'datagen', rows_per_second = 'max', 'fields.k.kind' = 'sequence');\n\
               CREATE TABLE b (k BIGINT, n BIGINT) WITH (connector = 'blackhole');\n\
               INSERT INTO b SELECT k, count(*) FROM t GROUP BY tumble(INTERVAL '1 day'), k;";
    let place = folder(&[("p.sql", sql)]);
    let mut command = acequia();
    command.current_dir(place.path()).args(["run", text(place.path()), "--no-http", "--state-limit", "16MB"]);
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("more than --state-limit 16.0 MB; ") && said.contains("of it are in b.window"), "{said}");
}
