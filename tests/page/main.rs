//! The page on :8501 in a real Chromium. What is checked is in the `.mjs` files beside this one; `scripts/page.sh`
//! installs the browser and what drives it. Screenshots are left in the target folder's `tmp/page`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use servers::pipeline::{Pipeline, acequia};
use servers::server::Server;

#[path = "../servers"]
mod servers {
    pub mod pipeline;
    pub mod server;
}

/// Where the browser's test is, and where it leaves its pictures.
fn place(script: &str) -> (PathBuf, PathBuf) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    (tests.join(script), Path::new(env!("CARGO_TARGET_TMPDIR")).join("page"))
}

fn installed() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/page.sh");
    let output = Command::new(script).arg("install").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs one of the browser's tests; `fulfil` does what it asks for. Its own waits end it if nothing happens.
fn browse(script: &str, url: &str, hostile: &str, mut fulfil: impl FnMut(&str)) {
    let (script, pictures) = place(script);
    let mut command = Command::new("node");
    command.arg(&script).env("ACEQUIA_PAGE", installed()).env("PAGE_URL", url).env("PAGE_SHOTS", pictures);
    command.env("PAGE_HOSTILE", hostile).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut answers = child.stdin.take().unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        if let Some(wish) = line.strip_prefix("! ") {
            fulfil(wish);
            writeln!(answers, "done").unwrap();
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{}:\n{said}", script.display());
}

/// The page of a pipeline that has just been started: its address is in the log.
fn page_of(pipeline: &mut Pipeline) -> String {
    let line = pipeline.until("page on ");
    let (_, url) = line.split_once("page on ").unwrap();
    url.trim().to_owned()
}

fn asks_for_nothing(wish: &str) {
    panic!("nobody can {wish}");
}

#[test]
fn the_shop_is_live_in_both_languages_and_in_any_light_and_size() {
    let mut command = acequia();
    command.args(["run", "queries", "--page", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let mut pipeline = Pipeline::start(command);
    let url = page_of(&mut pipeline);
    browse("shop.mjs", &url, "", asks_for_nothing);
}

#[test]
fn a_redis_that_stops_and_returns_is_shown_and_the_rest_goes_on() {
    let redis = Server::new("redis.sh");
    let address = redis.start(&[]);
    let mut command = acequia();
    command.env("REDIS_URL", address).args(["run", "queries", "--page", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let mut pipeline = Pipeline::start(command);
    let url = page_of(&mut pipeline);
    browse("redis.mjs", &url, "", |wish| match wish {
        "stop redis" => redis.stop(),
        "start redis" => drop(redis.start(&[])),
        other => asks_for_nothing(other),
    });
}

#[test]
fn a_hostile_record_is_text_and_another_folder_opens_on_its_pipeline() {
    let hostile = r#"{"a": <img src=x onerror="globalThis.hit=1"><script>globalThis.hit=1</script>"#;
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(place("in.jsonl"), format!("{{\"a\": 1}}\n{hostile}\n{{\"a\": 2}}\n")).unwrap();
    let program = format!(
        "CREATE TABLE readings (a BIGINT) WITH (connector = 'file', path = '{}', follow = 'true', bad_rows = 'letters');
         CREATE TABLE letters (\"table\" TEXT, reason TEXT, error TEXT, value TEXT)
             WITH (connector = 'file', path = '{}');
         CREATE TABLE kept (a BIGINT) WITH (connector = 'file', path = '{}');
         INSERT INTO kept SELECT a FROM readings;\n",
        place("in.jsonl"),
        place("letters.jsonl"),
        place("kept.jsonl"),
    );
    std::fs::write(place("program.sql"), program).unwrap();
    let mut command = acequia();
    command.arg("run").arg(folder.path()).args(["--page", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let mut pipeline = Pipeline::start(command);
    let url = page_of(&mut pipeline);
    browse("letters.mjs", &url, hostile, asks_for_nothing);
}

#[test]
fn states_that_a_pipeline_is_seldom_in_are_shown_as_well() {
    browse("states.mjs", "", "", asks_for_nothing);
}
