//! `acequia demo`: it shows the shop whatever the environment says, leaves nothing behind, and goes on where it stood.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::running::{Running, get_until};
use crate::{acequia, stderr, stdout, text};

/// A demo with its place.
struct Demo {
    running: Running,
    console: String,
    page: String,
}

impl Demo {
    /// Starts one in `place`, with addresses that are free and with servers in the environment that must not be asked.
    fn start(place: &Path, arguments: &[&str]) -> Demo {
        let mut command = acequia();
        let printed = std::fs::File::create(place.join("printed")).unwrap();
        command.current_dir(place).stdin(Stdio::null()).stdout(printed).env("TMPDIR", place.join("tmp"));
        for (variable, url) in [
            ("KAFKA_BROKERS", "127.0.0.1:1"),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("DWH_URL", "postgres://127.0.0.1:1/dwh_db"),
            ("SHOP_URL", "postgres://127.0.0.1:1/instashop"),
            ("CRM_URL", "postgres://127.0.0.1:1/crm_db"),
            ("ACEQUIA__RUN__CHECKPOINTS", "s3://nowhere"),
            ("ACEQUIA__RUN__NAME", "other"),
        ] {
            command.env(variable, url);
        }
        command.args(["demo", "--http", "127.0.0.1:0", "--page", "127.0.0.1:0"]).args(arguments);
        std::fs::create_dir_all(place.join("tmp")).unwrap();
        let running = Running::spawn(command);
        let address = |line: &str| line.rsplit("http://").next().unwrap().split('/').next().unwrap().to_owned();
        let console = address(running.until("metrics on http://").last().unwrap());
        let page = address(running.until("page on http://").last().unwrap());
        Demo { running, console, page }
    }

    fn stop(mut self) {
        self.running.signal("-INT");
        assert_eq!(self.running.exit_code(), Some(0), "{}", self.running.rest());
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// The one number that a query over a SQLite file gives, as soon as it is what is wanted.
fn number_until(file: &Path, sql: &str, wanted: impl Fn(i64) -> bool) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("sqlite:{}?mode=ro", file.display());
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let number = runtime.block_on(async {
            let pool = sqlx::SqlitePool::connect(&url).await?;
            let number = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&pool).await;
            pool.close().await;
            number
        });
        match number {
            Ok(number) if wanted(number) => return number,
            other => assert!(Instant::now() < deadline, "{sql}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn number(file: &Path, sql: &str) -> i64 {
    number_until(file, sql, |_| true)
}

#[test]
fn a_demo_shows_the_shop_and_leaves_nothing_behind() {
    let place = TempDir::new().unwrap();
    let demo = Demo::start(place.path(), &[]);
    assert!(get_until(&demo.page, "/", "<html").contains(" 200 OK"));
    get_until(&demo.console, "/api/v1/redis/get?key=metrics:transactions", "total_revenue");
    get_until(&demo.page, "/api/page/shop", "\"total_revenue\"");

    let folders = names_in(&place.path().join("tmp"));
    let [folder] = folders.as_slice() else { panic!("{folders:?}") };
    let data = place.path().join("tmp").join(folder);
    // A day's past is there at once, so that the chart of 24 hours is full.
    let hours = "SELECT COUNT(DISTINCT substr(timestamp, 1, 13)) FROM realtime_events";
    number_until(&data.join("warehouse.sqlite"), hours, |hours| hours >= 24);
    let printed = std::fs::read_to_string(place.path().join("printed")).unwrap();
    for word in [text(&data), &demo.page, &demo.console, "removed at the end", "curl 'http://", "sqlite3 ", "Ctrl-C"] {
        assert!(printed.contains(word), "no {word} in\n{printed}");
    }
    demo.stop();
    assert_eq!(names_in(&place.path().join("tmp")), [""; 0], "the temporary folder is gone");
    let mut left = names_in(place.path());
    left.sort_unstable();
    assert_eq!(left, ["printed", "tmp"], "nothing is written where it was started");
}

#[test]
fn a_demo_goes_on_where_it_stood() {
    let place = TempDir::new().unwrap();
    let data = place.path().join("shop");
    let warehouse = data.join("warehouse.sqlite");
    let arguments = ["--data-dir", text(&data), "--history", "1h", "--rate", "50"];
    let transactions = "SELECT COUNT(*) FROM realtime_events WHERE event_type = 'transaction'";

    let demo = Demo::start(place.path(), &arguments);
    number_until(&warehouse, transactions, |count| count > 100);
    demo.stop();
    let first = number(&data.join("shop.sqlite"), "SELECT COUNT(*) FROM \"transaction\"");

    let demo = Demo::start(place.path(), &arguments);
    number_until(&warehouse, transactions, |count| count > first + 100);
    demo.stop();
    assert!(data.join("shop.sqlite").exists(), "a folder that was given stays");

    let distinct = "SELECT COUNT(DISTINCT json_extract(raw_data, '$.transaction_id')) FROM realtime_events \
                    WHERE event_type = 'transaction'";
    assert_eq!(number(&warehouse, transactions), number(&warehouse, distinct), "no transaction is there twice");
    let mut audit = acequia();
    audit.args(["audit", "queries", "--data-dir", text(&data)]);
    let output = audit.env("DEAD_LETTERS", data.join("dead_letters.jsonl")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("complete, no row twice"), "{}", stdout(&output));
}

#[test]
fn a_data_folder_that_cannot_be_made_is_an_error_with_a_way_out() {
    let place = TempDir::new().unwrap();
    std::fs::write(place.path().join("file"), "").unwrap();
    let mut command = acequia();
    let output = command.args(["demo", "--data-dir", text(&place.path().join("file/below"))]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("choose another with --data-dir"), "{}", stderr(&output));
}

#[test]
fn pythons_figures_are_those_of_the_warehouse_and_of_the_metrics() {
    let place = TempDir::new().unwrap();
    let data = place.path().join("shop");
    let demo = Demo::start(place.path(), &["--data-dir", text(&data), "--history", "3h"]);
    let warehouse = data.join("warehouse.sqlite");
    get_until(&demo.console, "/api/v1/redis/get?key=metrics:transactions", "total_revenue");
    get_until(&demo.console, "/api/v1/redis/keys?pattern=metrics:products:*", "metrics:products:");
    let sessions = "SELECT COUNT(*) FROM customer_sessions";
    number_until(&warehouse, sessions, |count| count > 0);
    let before = number(&warehouse, "SELECT COUNT(*) FROM realtime_events");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/shop.py");
    let python = |more: &[&str]| {
        let mut python = std::process::Command::new("python3");
        python.arg(&script).args(["--warehouse", text(&warehouse), "--metrics", &format!("http://{}", demo.console)]);
        let output = python.args(more).output().expect("python3");
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let shop: serde_json::Value = serde_json::from_str(&python(&["--json"])).unwrap();
    let shown = python(&[]);
    let after = number(&warehouse, "SELECT COUNT(*) FROM realtime_events");
    let events = shop["warehouse"]["events"].as_i64().unwrap();
    assert!((before..=after).contains(&events), "{before} <= {events} <= {after}");
    let activity = shop["activity"].as_array().unwrap();
    assert_eq!(activity.len(), 24);
    let active: i64 = activity.iter().map(|hour| hour["events"].as_i64().unwrap()).sum();
    assert_eq!(active, events, "all events are of the last 24 hours");
    assert_eq!(shop["recent"].as_array().unwrap().len(), 20);
    assert_eq!(shop["tiles"]["revenue"]["value"], shop["transactions"]["total_revenue"]);
    let outcomes: i64 = shop["sessions"].as_object().unwrap().values().map(|count| count.as_i64().unwrap()).sum();
    assert!(outcomes > 0 && outcomes <= number(&warehouse, sessions));
    for word in ["The newest window", "revenue", "Categories", "The warehouse", "conversion"] {
        assert!(shown.contains(word), "no {word} in\n{shown}");
    }
    demo.stop();
}
