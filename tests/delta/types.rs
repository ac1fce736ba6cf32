//! Every type that a Delta table holds, nested ones and nulls, with partitions whose names need care: what is read by
//! others is what was written, also after small files were put together, a column was added and old files were taken away.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::others::{Others, READERS};
use crate::pipeline::{Pipeline, acequia};

const COLUMNS: &str =
    "n BIGINT NOT NULL, flag BOOLEAN, tiny TINYINT, small SMALLINT, whole INT, rough REAL, fine DOUBLE,
    text TEXT, raw BYTEA, price DECIMAL(20, 4), born DATE, seen TIMESTAMP, moment TIMESTAMP WITH TIME ZONE, tags TEXT[],
    who STRUCT<name TEXT, home STRUCT<city TEXT, zip INT>>,
    items STRUCT<sku TEXT, price DECIMAL(10, 2), counts BIGINT[]>[], kind TEXT, week INT";
const NAMES: &str =
    "n, flag, tiny, small, whole, rough, fine, text, raw, price, born, seen, moment, tags, who, items, kind, week";
const KINDS: [Option<&str>; 4] = [Some("plain"), Some("ü/50% = a b"), None, Some("it's \"quoted\"")];
const TEXTS: [&str; 4] = ["", "line\nbreak", "ünïcödé 🦀", "a \"quoted\" word"];

/// A row as JSON, of which every column but the first is null now and then, each in other rows.
fn row(n: i64) -> Value {
    let some = |every: i64, value: Value| if n % every == every - 1 { Value::Null } else { value };
    let date =
        |days: i64| (chrono::NaiveDate::from_ymd_opt(1965, 1, 1).unwrap() + chrono::TimeDelta::days(days)).to_string();
    // Before and after 1970, with microseconds.
    let time = |n: i64| chrono::DateTime::from_timestamp_micros(n * 987_654_321_123 - 100_000_000_000_000).unwrap();
    let item = |n: i64| {
        let counts = if n % 4 == 0 { Value::Null } else { json!([n, null, -n]) };
        json!({"sku": some(7, json!(format!("sku {n}"))), "price": format!("{}.{:02}", n, n % 100), "counts": counts})
    };
    let items: Vec<Value> = (0..n % 4).map(item).collect();
    json!({
        "n": n,
        "flag": some(3, json!(n % 2 == 0)),
        "tiny": some(4, json!(n % 256 - 128)),
        "small": some(5, json!(n * 217 % 64_000 - 32_000)),
        "whole": some(6, json!(n * 70_000_003 % 4_000_000_000 - 2_000_000_000)),
        "rough": some(7, json!(f64::from(n as f32 / 3.0))),
        "fine": some(8, json!(n as f64 / 7.0 - 10.0)),
        "text": some(9, json!(format!("{} {n}", TEXTS[n as usize % 4]).trim())),
        "raw": some(10, json!(format!("bytes {n}"))),
        "price": some(11, json!(format!("{}.{:04}", (n - 100) * 123_456_789, n % 10_000))),
        "born": some(12, json!(date(n * 50))),
        "seen": some(13, json!(time(n).format("%Y-%m-%dT%H:%M:%S%.6f").to_string())),
        "moment": some(14, json!(time(n + 1).format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string())),
        "tags": some(3, json!([format!("tag {n}"), null, ""])),
        "who": some(5, json!({"name": some(2, json!("somebody")), "home": some(3, json!({"city": "Málaga", "zip": n}))})),
        "items": some(6, json!(items)),
        "kind": KINDS[n as usize / 4 % 4],
        "week": some(2, json!(n / 150)),
    })
}

/// What a reader makes of a row.
fn read(n: i64) -> Value {
    let mut row = row(n);
    if let Some(text) = row["raw"].as_str() {
        row["raw"] = text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    }
    for name in ["rough", "fine"] {
        if let Some(number) = row[name].as_f64() {
            row[name] = format!("{number:?}").into();
        }
    }
    row
}

/// A pipeline from a file of JSON lines into a table.
struct Place {
    folder: TempDir,
    rows: i64,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("acequia-types-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("queries")).unwrap();
        let place = Place { folder, rows: 0 };
        std::fs::write(place.input(), "").unwrap();
        place
    }

    fn input(&self) -> PathBuf {
        self.folder.path().join("rows.jsonl")
    }

    fn table(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// Writes the program: with a column more, or without.
    fn program(&self, more: bool) {
        let (column, name) = if more { (", later STRUCT<a INT, b TEXT[]>", ", later") } else { ("", "") };
        let sql = format!(
            "CREATE TABLE input ({COLUMNS}{column}) WITH (connector = 'file', path = '{input}', follow = '${{FOLLOW:-true}}');
             CREATE TABLE kept ({COLUMNS}{column}) WITH (connector = 'delta', path = '{table}', partition_by = 'kind, week',
                 commit_interval = '1 ms', compaction_interval = '100 ms', checkpoint_every = '7',
                 retention = '${{RETENTION:-7 days}}');
             INSERT INTO kept SELECT {NAMES}{name} FROM input;",
            input = self.input().display(),
            table = self.table().display(),
        );
        std::fs::write(self.folder.path().join("queries/all.sql"), sql).unwrap();
    }

    fn start(&self, variables: &[(&str, &str)]) -> Pipeline {
        let mut command = acequia();
        command.arg("run").arg(self.folder.path().join("queries"));
        command.arg("--data-dir").arg(self.folder.path().join("data")).args(["--name", "types", "--no-http"]);
        command.args(["--checkpoint-interval", "20ms"]).envs(variables.iter().copied());
        Pipeline::start(command)
    }

    /// Appends rows to the input.
    fn write(&mut self, count: i64, more: bool) {
        let mut file = OpenOptions::new().append(true).open(self.input()).unwrap();
        for n in self.rows..self.rows + count {
            let mut row = row(n);
            if more {
                row["later"] = later(n);
            }
            writeln!(file, "{row}").unwrap();
        }
        self.rows += count;
    }
}

fn later(n: i64) -> Value {
    json!({"a": n, "b": ["x", null]})
}

/// Every reader finds exactly these rows.
#[track_caller]
fn assert_read(others: &Others, table: &Path, expected: &[Value]) {
    for reader in READERS {
        let mut rows = others.rows(reader, table, None).unwrap();
        rows.sort_by_key(|row| row["n"].as_i64());
        for (row, expected) in rows.iter().zip(expected) {
            assert_eq!(row, expected, "by {reader}");
        }
        assert_eq!(rows.len(), expected.len(), "by {reader}");
    }
}

/// Waits until a condition holds, as long as the pipeline runs.
fn until(pipeline: &mut Pipeline, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline && !pipeline.has_ended(), "not {what}:\n{}", pipeline.said());
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn stop(mut pipeline: Pipeline) {
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
}

/// A run that is stopped works off what it has read, which need not be all that was written.
fn count(others: &Others, table: &Path) -> i64 {
    let counted = others.sql(&format!("SELECT count(*) FROM delta_scan('{}')", table.display()));
    counted[0][0].as_i64().unwrap()
}

#[test]
fn what_others_read_is_what_was_written() {
    let (others, mut place) = (Others::start(), Place::new());
    let table = place.table();
    place.program(false);
    place.write(300, false);
    let mut pipeline = place.start(&[]);
    until(&mut pipeline, "read", || others.files(&table).is_ok_and(|files| !files.is_empty()));
    until(&mut pipeline, "all there", || count(&others, &table) == place.rows);
    stop(pipeline);
    let mut expected: Vec<Value> = (0..300).map(read).collect();
    assert_read(&others, &table, &expected);
    let price = |n: i64| row(n)["price"].as_str().map(|price| price.replace('.', "").parse::<i128>().unwrap());
    let total: i128 = (0..300).filter_map(price).sum();
    let whole: i64 = (0..300).filter_map(|n| row(n)["whole"].as_i64()).sum();
    let items: usize = (0..300).filter_map(|n| row(n)["items"].as_array().map(Vec::len)).sum();
    let sums = format!(
        "SELECT count(*), sum(whole)::BIGINT, (sum(price) * 10000)::BIGINT::TEXT, sum(len(items))::BIGINT, count(kind)
         FROM delta_scan('{}')",
        table.display()
    );
    let kinds = (0..300).filter(|n| !row(*n)["kind"].is_null()).count();
    assert_eq!(others.sql(&sums), json!([[300, whole, total.to_string(), items, kinds]]));

    // In many commits, so that there is something to put together.
    let put_together = |others: &Others| others.operations(&table).iter().filter(|done| *done == "OPTIMIZE").count();
    let mut pipeline = place.start(&[]);
    let before = put_together(&others);
    until(&mut pipeline, "put together", || {
        place.write(16, false);
        put_together(&others) > before && table.join("_delta_log/_last_checkpoint").exists()
    });
    until(&mut pipeline, "all there", || count(&others, &table) == place.rows);
    stop(pipeline);
    expected.extend((300..place.rows).map(read));
    assert_read(&others, &table, &expected);

    // One column more, which older rows do not have.
    let old = place.rows;
    place.program(true);
    let mut pipeline = place.start(&[]);
    let before = put_together(&others);
    until(&mut pipeline, "put together", || {
        place.write(16, true);
        put_together(&others) > before
    });
    until(&mut pipeline, "all there", || count(&others, &table) == place.rows);
    stop(pipeline);
    for row in &mut expected {
        row["later"] = Value::Null;
    }
    let with_later = |n: i64| {
        let mut row = read(n);
        row["later"] = later(n);
        row
    };
    expected.extend((old..place.rows).map(with_later));
    assert_read(&others, &table, &expected);

    // Without what older versions alone need.
    let mut pipeline = place.start(&[("RETENTION", "1 ms")]);
    until(&mut pipeline, "vacuumed", || {
        place.write(1, true);
        others.rows("deltalake", &table, Some(1)).is_err()
    });
    // A version of a millisecond ago may be cleared away while it is read.
    let is_whole = || others.rows("deltalake", &table, None).is_ok_and(|rows| rows.len() as i64 == place.rows);
    until(&mut pipeline, "all there", is_whole);
    stop(pipeline);
    expected.extend((expected.len() as i64..place.rows).map(with_later));
    assert_read(&others, &table, &expected);
}
