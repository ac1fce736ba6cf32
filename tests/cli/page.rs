//! The page of `run`: where it is, and for whom.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::running::Running;
use crate::{acequia, folder, stderr, text};

const WAITS: &str = "CREATE TABLE t (a BIGINT) WITH (connector = 'kafka', bootstrap_servers = '127.0.0.1:1', topic = 't');\n\
                     SELECT a FROM t;";

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Where the page is, and the path under which it lets one in.
fn page(running: &Running) -> (String, String) {
    let line = running.until("page on http://").pop().unwrap();
    let (address, path) = line.split_once("page on http://").unwrap().1.split_once('/').unwrap();
    (address.to_owned(), format!("/{path}"))
}

#[test]
fn the_page_is_there_while_the_pipeline_waits_for_its_servers() {
    let place = folder(&[("p.sql", WAITS)]);
    let running = Running::start(place.path(), &["--no-http", "--page", "127.0.0.1:0"], place.path());
    let (address, path) = page(&running);
    assert_eq!(path, "/");
    assert!(get(&address, "/").contains("<!DOCTYPE html>"));
    let pipeline = get(&address, "/api/page/pipeline");
    assert!(pipeline.contains(r#""describe":"kafka topic t at 127.0.0.1:1""#), "{pipeline}");
    assert!(get(&address, "/api/page/shop").ends_with("\r\n\r\nnull"), "this folder is not the shop's");
    assert!(get(&address, "/api/page/sql").contains(r#"[{"file":"p.sql","text":"CREATE TABLE t "#));
}

#[test]
fn beyond_this_machine_the_printed_token_lets_one_in() {
    let place = folder(&[("p.sql", WAITS)]);
    let running = Running::start(place.path(), &["--no-http", "--page", "0.0.0.0:0"], place.path());
    let (address, path) = page(&running);
    assert!(path.starts_with("/?token="), "{path}");
    assert!(get(&address, "/").starts_with("HTTP/1.0 401"));
    assert!(get(&address, &path).starts_with("HTTP/1.0 303"));
}

#[test]
fn an_address_or_a_token_that_cannot_be_had_is_wrong_usage() {
    let place = folder(&[("p.sql", WAITS)]);
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let run = |address: &str, token: &str| {
        let mut command = acequia();
        command.args(["run", text(place.path()), "--no-http", "--page", address]).env("ACEQUIA_PAGE_TOKEN", token);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output)
    };
    let said = run(&taken, "");
    assert!(said.contains("choose another with --page ADDRESS:PORT, or none with --no-page"), "{said}");
    let said = run("127.0.0.1:0", "short");
    assert!(said.contains("ACEQUIA_PAGE_TOKEN is no token: it takes at least 16 letters"), "{said}");
}

#[test]
fn the_shop_is_seen_on_embedded_parts() {
    let place = tempfile::tempdir().unwrap();
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries");
    let running = Running::start(&queries, &["--no-http", "--page", "127.0.0.1:0"], place.path());
    let (address, _) = page(&running);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let shop = get(&address, "/api/page/shop");
        let body: serde_json::Value = serde_json::from_str(shop.split_once("\r\n\r\n").unwrap().1).unwrap();
        let is_there = |part: &str| !body[part].is_null() && body[part] != serde_json::json!([]);
        let ok = body["lights"].as_array().unwrap().iter().filter(|light| light["state"] == "ok").count();
        let events = body["warehouse"]["events"].as_i64().unwrap_or_default();
        if ["tiles", "behavior", "products"].into_iter().all(is_there) && events > 0 && ok == 4 {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{body:#}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[test]
fn no_page_is_none() {
    let place = folder(&[
        ("rows.jsonl", "{\"a\": 1}\n"),
        ("p.sql", "CREATE TABLE t (a BIGINT) WITH (connector = 'file', path = 'rows.jsonl'); SELECT a FROM t;"),
    ]);
    let mut running = Running::start(place.path(), &["--no-http", "--no-page"], place.path());
    assert_eq!(running.exit_code(), Some(0));
    assert!(!running.rest().contains("http://"));
}
