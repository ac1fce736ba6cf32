//! The binary as a person meets it: help, exit codes, messages.

mod audit;
mod bench;
mod checkpoints;
mod demo;
mod monitoring;
mod page;
mod pages;
#[path = "../servers/pipeline.rs"]
mod pipeline;
mod running;
mod trouble;

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use pipeline::acequia;
use tempfile::TempDir;

fn run(arguments: &[&str]) -> Output {
    acequia().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    place
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_help_lists_commands_and_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    for word in [
        "demo",
        "run",
        "audit",
        "check",
        "checkpoints",
        "explain",
        "generate",
        "test",
        "Exit codes:",
        "  3  failure while running",
        "RUST_LOG",
        "NO_COLOR",
    ] {
        assert!(help.contains(word), "no {word} in\n{help}");
    }
}

#[test]
fn the_help_of_each_command_has_an_example() {
    for command in
        ["demo", "run", "audit", "check", "checkpoints", "explain", "generate", "history", "query", "serve", "test"]
    {
        let help = stdout(&run(&[command, "--help"]));
        assert!(help.contains("Examples:") && help.contains(&format!("acequia {command}")), "{help}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_would_be_right() {
    for (arguments, right) in [
        (vec!["rum"], "'run'"),
        (vec!["run", "--paralelism", "2"], "--parallelism"),
        (vec!["run", "--parallelism", "0"], "1..=1024"),
        (vec!["run", "--checkpoint-interval", "5"], "250ms, 1s or 2m"),
        (vec!["run", "--checkpoint-bytes", "64"], "512MB or 2GB"),
        (vec!["run", "--http", "nowhere"], "127.0.0.1:9464"),
        (vec!["run", "--http", "127.0.0.1:0", "--no-http"], "cannot be used with"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(right), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn a_sound_folder_passes_the_check() {
    let output = run(&["check", "queries"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("queries: ") && stdout(&output).contains("tables"), "{}", stdout(&output));
}

#[test]
fn mistakes_in_declarations_do_not_hide_those_in_queries_that_they_leave_alone() {
    let place = folder(&[
        ("a.sql", "CREATE TABLE broken (a BIGINT) WITH (connector = 'file', path = 'x.jsonl', folow = 'true');\n"),
        ("b.sql", "CREATE TABLE sound (a BIGINT) WITH (connector = 'file', path = 'x.jsonl');\n"),
        ("c.sql", "CREATE VIEW one AS SELECT a FROM two;\nCREATE VIEW two AS SELECT a FROM one;\n"),
        ("d.sql", "CREATE VIEW over_broken AS SELECT a FROM broken;\nCREATE VIEW over_sound AS SELECT a FROM sound;\n"),
        (
            "e.sql",
            "SELECT missing FROM sound;\nSELECT absent FROM over_sound;\nSELECT unjudged FROM broken;\n\
             SELECT unjudged FROM over_broken;\nSELECT unjudged FROM two;\n",
        ),
    ]);
    let output = run(&["check", text(place.path())]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for word in ["folow", "circle: one → two → one", "'missing'", "'absent'", "4 errors"] {
        assert!(said.contains(word), "no {word} in\n{said}");
    }
    assert!(!said.contains("'unjudged'"), "{said}");
}

#[test]
fn every_mistake_of_a_folder_is_shown_with_its_place() {
    let place = folder(&[
        (
            "a.sql",
            "CREATE TABLE t (a BIGINT) WITH (connector = 'kafka', topik = 't', bootstrap_servers = 'embedded');\n",
        ),
        ("b.sql", "SELECT a FROM t;\nCREATE TABLE u (a NOTATYPE) WITH (connector = 'stdout');\n"),
    ]);
    for command in ["check", "run"] {
        let output = run(&[command, text(place.path())]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let said = stderr(&output);
        for word in ["a.sql", "topik", "topic", "b.sql", "NOTATYPE", "errors"] {
            assert!(said.contains(word), "{command}: no {word} in\n{said}");
        }
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn folders_that_are_no_program_are_explained() {
    let empty = folder(&[]);
    for path in [text(empty.path()), "/no/such/folder"] {
        let output = run(&["check", path]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(path), "{}", stderr(&output));
    }
}

#[test]
fn views_that_use_each_other_are_a_mistake() {
    let place =
        folder(&[("v.sql", "CREATE VIEW a AS SELECT * FROM b;\nCREATE VIEW b AS SELECT * FROM a;\nSELECT * FROM a;")]);
    let output = run(&["check", text(place.path())]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("v.sql:1:") && said.contains("v.sql:2:"), "{said}");
}

#[test]
fn explain_has_three_forms() {
    let plain = stdout(&run(&["explain", "examples/tumble"]));
    assert!(plain.contains("source   readings") && plain.contains("sink "), "{plain}");
    let mermaid = stdout(&run(&["explain", "examples/tumble", "--format", "mermaid"]));
    assert!(mermaid.starts_with("flowchart LR\n") && mermaid.contains("-->"), "{mermaid}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&run(&["explain", "examples/tumble", "--format", "json"]))).unwrap();
    assert_eq!(json["nodes"][0]["role"], "source");
}

#[test]
fn explain_of_an_unknown_name_offers_the_closest() {
    let output = run(&["explain", "examples/tumble", "reading"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean 'readings'?"), "{}", stderr(&output));
}

#[test]
fn explain_shows_no_secret() {
    let mut command = acequia();
    command.env("REDIS_URL", "redis://:s3cret-canary@localhost:6379").args(["explain", "queries"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains("s3cret-canary") && !stderr(&output).contains("s3cret-canary"));
}

#[test]
fn each_example_prints_what_its_case_expects() {
    for example in ["tumble", "hop", "session", "top-n", "join", "dead-letters"] {
        let output = run(&["run", &format!("examples/{example}"), "--no-http"]);
        assert_eq!(output.status.code(), Some(0), "{example}: {}", stderr(&output));
        let readme = std::fs::read_to_string(format!("{}/examples/{example}/README.md", env!("CARGO_MANIFEST_DIR")));
        let readme = readme.unwrap();
        let mut shown: Vec<&str> = readme.lines().filter(|line| line.starts_with('{')).collect();
        let printed = stdout(&output);
        let mut printed: Vec<&str> = printed.lines().collect();
        shown.sort_unstable();
        printed.sort_unstable();
        assert_eq!(printed, shown, "{example}: its README shows something else");
        assert!(stderr(&output).contains("rows in"), "{example} ends with a summary: {}", stderr(&output));
    }
}

#[test]
fn the_cases_of_an_example_pass_by_the_command() {
    let output = run(&["test", "examples/tumble"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).ends_with("1 passed, 0 failed\n"), "{}", stdout(&output));
    assert_eq!(stderr(&output), "", "how each of the many runs went is nobody's news");
    let none = run(&["test", "examples/tumble", "--case", "nothing"]);
    assert_eq!(none.status.code(), Some(1));
}

#[test]
fn a_failing_case_ends_with_1_and_shows_the_difference() {
    let place = folder(&[
        ("p.sql", "CREATE TABLE t (a BIGINT) WITH (connector = 'file', path = 'unused.jsonl');\nSELECT a FROM t;"),
        ("tests/one/input/t.jsonl", "{\"a\": 1}\n"),
        ("tests/one/expected/stdout.jsonl", "{\"a\": 2}\n"),
    ]);
    let output = run(&["test", text(place.path())]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(
        said.contains("- {\"a\":2}") && said.contains("+ {\"a\":1}") && said.contains("0 passed, 1 failed"),
        "{said}"
    );
}

#[test]
fn a_case_without_rows_is_written_down_and_passes_and_what_is_bad_in_it_is_told_once() {
    let place = folder(&[
        (
            "p.sql",
            "CREATE TABLE t (k TEXT, a BIGINT) WITH (connector = 'file', path = 'unused.jsonl');\n\
             CREATE TABLE o (k TEXT, a BIGINT) WITH (connector = 'file', path = 'out.jsonl');\n\
             INSERT INTO o SELECT k, a FROM t WHERE k = 'never';\nSELECT a FROM t WHERE k = 'never';",
        ),
        ("tests/n/input/t.jsonl", "{\"k\": \"x\", \"a\": 1}\n{\"k\": \"x\", \"a\": \"one\"}\n"),
    ]);
    let updated = run(&["test", text(place.path()), "--update"]);
    assert_eq!(stdout(&updated), "updated n (o, stdout)\n1 passed, 0 failed\n");
    for file in ["o.jsonl", "stdout.jsonl"] {
        assert_eq!(std::fs::read(place.path().join("tests/n/expected").join(file)).unwrap(), b"", "{file}");
    }
    let passed = run(&["test", text(place.path())]);
    assert_eq!(stdout(&passed), "ok      n\n1 passed, 0 failed\n");
    let said = stderr(&passed);
    assert_eq!(said.matches("WARN").count(), 1, "{said}");
    assert!(said.contains("is bad (wrong_type)"), "{said}");
    let nope = run(&["test", "nope"]);
    assert_eq!((stderr(&nope).as_str(), nope.status.code()), ("error: there is no folder nope\n", Some(1)));
}

#[test]
fn logs_can_be_json() {
    let output = run(&["run", "examples/tumble", "--no-http", "--log", "json"]);
    for line in stderr(&output).lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["message"].is_string(), "{line}");
    }
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let output = run(&["run", "examples/tumble", "--http", &address]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains(&address) && stdout(&output).is_empty(), "{}", stderr(&output));
    let open = run(&["run", "examples/tumble", "--http", "0.0.0.0:0"]);
    assert_eq!(open.status.code(), Some(2));
    assert!(stderr(&open).contains("--insecure-bind"), "{}", stderr(&open));
}
