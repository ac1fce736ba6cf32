//! A pipeline that runs until it is told to stop: what it shows meanwhile, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{acequia, folder, text};

/// A running pipeline; ended with the test.
pub struct Running {
    child: Child,
    said: std::sync::mpsc::Receiver<String>,
}

impl Running {
    pub fn start(pipeline: &Path, arguments: &[&str], directory: &Path) -> Running {
        let mut command = acequia();
        command.current_dir(directory).args(["run", text(pipeline)]).args(arguments).stdout(Stdio::null());
        Running::spawn(command)
    }

    /// Any command of the binary; what it prints on stdout goes where the caller has said.
    pub fn spawn(mut command: Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Running { child, said }
    }

    /// The first line that holds `word`, and all before it.
    pub fn until(&self, word: &str) -> Vec<String> {
        let mut lines = vec![];
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.said.recv_timeout(left) else { panic!("no '{word}' in\n{}", lines.join("\n")) };
            let found = line.contains(word);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    /// Where its console is, and what it says up to there.
    pub fn address(&self) -> (String, String) {
        let before = self.until("http://").join("\n");
        (before.rsplit("http://").next().unwrap().split('/').next().unwrap().to_owned(), before)
    }

    /// What it says until it ends.
    pub fn rest(&self) -> String {
        self.said.iter().collect::<Vec<_>>().join("\n")
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(40);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("still running")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What `path` answers as soon as it answers with `word`.
pub fn get_until(address: &str, path: &str, word: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = get(address, path);
        if answer.contains(word) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path} never says {word}:\n{answer}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_shops_queries_run_on_embedded_parts_and_stop_in_order() {
    let place = tempfile::tempdir().unwrap();
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries");
    let mut running = Running::start(&queries, &["--http", "127.0.0.1:0"], place.path());
    let (address, before) = running.address();
    for word in ["Kafka is embedded", "KAFKA_BROKERS", "REDIS_URL", "DWH_URL"] {
        assert!(before.contains(word), "no {word} in\n{before}");
    }
    get_until(&address, "/readyz", "200");
    assert!(get(&address, "/metrics").contains("acequia_rows_read_total"));
    get_until(&address, "/api/v1/kafka/messages?topic=transactions&count=2", "\"offset\":");
    get_until(&address, "/api/v1/kafka/topics", "\"name\":\"transactions\",\"partitions\":[{\"partition\":0,");
    get_until(&address, "/api/v1/redis/get?key=metrics:transactions", "total_revenue");
    running.signal("-TERM");
    running.until("stopping");
    assert_eq!(running.exit_code(), Some(0));
    let after = running.rest();
    assert!(!after.contains("stopping"), "said once is enough:\n{after}");
    assert!(after.contains("rows in"), "{after}");
}

#[test]
fn lag_is_shown_for_the_group_that_the_table_names() {
    let place = folder(&[(
        "p.sql",
        "CREATE TABLE t (customer_id BIGINT) WITH (connector = 'kafka', bootstrap_servers = 'embedded',\n\
         topic = 'transactions', group_id = 'watchers');\n\
         CREATE TABLE b (customer_id BIGINT) WITH (connector = 'blackhole');\n\
         INSERT INTO b SELECT customer_id FROM t;",
    )]);
    let running = Running::start(place.path(), &["--http", "127.0.0.1:0"], place.path());
    let (address, _) = running.address();
    get_until(&address, "/metrics", r#"kafka_consumergroup_lag{consumergroup="watchers",topic="transactions""#);
}

/// Rows for a Redis that is not there.
fn without_redis() -> tempfile::TempDir {
    folder(&[
        ("rows.jsonl", "{\"a\": 1}\n"),
        (
            "p.sql",
            "CREATE TABLE t (a BIGINT) WITH (connector = 'file', path = 'rows.jsonl');\n\
             CREATE TABLE r (a BIGINT) WITH (connector = 'redis', url = 'redis://127.0.0.1:1', key = 'a:{a}');\n\
             INSERT INTO r SELECT a FROM t;",
        ),
    ])
}

/// Its row has been read and Redis, which should take it, is waited for: in whichever order the two are told.
fn until_redis_is_missed(running: &Running) {
    let before = running.until("source t has come to its end");
    if !before.iter().any(|line| line.contains("waiting for Redis at 127.0.0.1:1")) {
        running.until("waiting for Redis at 127.0.0.1:1");
    }
}

#[test]
fn a_stop_that_waits_for_a_server_in_vain_ends_with_4_and_names_it() {
    let place = without_redis();
    let mut running = Running::start(place.path(), &["--no-http", "--shutdown-timeout", "500ms"], place.path());
    until_redis_is_missed(&running);
    running.signal("-INT");
    running.until("not done after 500ms: stopping at once");
    assert_eq!(running.exit_code(), Some(4));
    let said = running.rest();
    assert!(said.contains("stopped while waiting for Redis at 127.0.0.1:1"), "{said}");
}

#[test]
fn a_second_signal_stops_at_once() {
    let place = without_redis();
    let mut running = Running::start(place.path(), &["--no-http", "--shutdown-timeout", "1h"], place.path());
    until_redis_is_missed(&running);
    running.signal("-TERM");
    running.until("again to stop at once");
    running.signal("-TERM");
    running.until("stopping at once");
    assert_eq!(running.exit_code(), Some(4));
}

#[test]
fn a_source_that_waits_for_its_server_stops_in_order() {
    let place = folder(&[(
        "p.sql",
        "CREATE TABLE t (a BIGINT) WITH (connector = 'kafka', bootstrap_servers = '127.0.0.1:1', topic = 't');\n\
         SELECT a FROM t;",
    )]);
    let mut running = Running::start(place.path(), &["--no-http"], place.path());
    running.until("waiting for");
    running.signal("-TERM");
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn the_end_of_a_source_is_told_once_however_many_instances_it_has() {
    let lines = "{\"a\": 1}\n";
    let place = folder(&[
        ("rows/1.jsonl", lines),
        ("rows/2.jsonl", lines),
        ("rows/3.jsonl", lines),
        (
            "p.sql",
            "CREATE TABLE t (a BIGINT) WITH (connector = 'file', path = 'rows/*.jsonl');\n\
             CREATE TABLE b (a BIGINT) WITH (connector = 'blackhole');\n\
             INSERT INTO b SELECT a FROM t;",
        ),
    ]);
    let mut running = Running::start(place.path(), &["--no-http", "--parallelism", "3"], place.path());
    assert_eq!(running.exit_code(), Some(0));
    let said = running.rest();
    assert_eq!(said.matches("source t has come to its end").count(), 1, "{said}");
    assert!(!said.contains("of 3"), "{said}");
}

#[test]
fn on_a_terminal_the_live_line_leaves_the_closing_line_alone() {
    let place = folder(&[(
        "p.sql",
        "CREATE TABLE t (a BIGINT) WITH (connector = 'datagen', rows = '15', rows_per_second = '10');\n\
         CREATE TABLE b (a BIGINT) WITH (connector = 'blackhole');\n\
         INSERT INTO b SELECT a FROM t;",
    )]);
    let command = format!("{} run {} --no-http --no-checkpoints", env!("CARGO_BIN_EXE_acequia"), text(place.path()));
    let record = place.path().join("terminal");
    let status = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, text(&record)])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let shown = String::from_utf8_lossy(&std::fs::read(record).unwrap()).into_owned();
    assert!(shown.contains("events/s · "), "there was a live line:\n{shown}");
    let line = shown.lines().find(|line| line.contains("15 rows in")).unwrap_or_else(|| panic!("no end:\n{shown}"));
    let before = &line[..line.find("15 rows in").unwrap()];
    let since_cleared = before.rsplit("\u{1b}[2K").next().unwrap();
    assert!(!since_cleared.contains("events/s · "), "the live line was still there: {line:?}");
}
