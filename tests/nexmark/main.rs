//! The queries of `examples/nexmark` by the real binary, on the real source, row by row against DuckDB (`oracle.py`),
//! which `scripts/python.sh` installs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[path = "../servers/pipeline.rs"]
mod pipeline;

use pipeline::acequia;

/// Events of the test, 10 ms apart: ten windows of ten seconds. All bids together are more than a megabyte and than one
/// batch, which queries without windows have to sort at once.
const EVENTS: &str = "10000";

/// Queries that have no streaming form yet, with what is said of them on a stream without end. `docs/nexmark.md` says it
/// too.
const ONLY_BOUNDED: [(&str, &str); 8] = [
    ("q3", "a join of streams needs equal windows on both sides"),
    ("q4", "a join of streams needs equal windows on both sides"),
    ("q6", "a join of streams needs equal windows on both sides"),
    ("q9", "a join of streams needs equal windows on both sides"),
    ("q13", "a join of streams needs equal windows on both sides"),
    ("q18", "a window function (OVER) would need all rows of an input without end"),
    ("q19", "a window function (OVER) would need all rows of an input without end"),
    ("q20", "a join of streams needs equal windows on both sides"),
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nexmark")
}

/// The names of the queries: `q0`, `q1` ...
fn queries() -> Vec<String> {
    let files = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name.starts_with('q'))
        .collect();
    names.sort();
    names
}

/// A command on a file or folder, its surroundings those of the test.
fn command(verb: &str, program: &Path) -> Command {
    let mut command = acequia();
    command.arg(verb).arg(program);
    for variable in ["NEXMARK_SINK", "NEXMARK_RATE"] {
        command.env_remove(variable);
    }
    command.env("NEXMARK_EVENTS", EVENTS).env("NEXMARK_DELAY", "10 ms");
    command
}

fn run(program: &Path) -> Command {
    let mut command = command("run", program);
    command.args(["--no-http", "--no-page"]);
    command
}

#[track_caller]
fn succeeded(output: Output, what: &str) -> Output {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn python() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/python.sh");
    let output = succeeded(Command::new(script).arg("install").output().unwrap(), "python.sh");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A folder with the tables of the examples and a program.
fn folder(program: &str) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::copy(examples().join("tables.sql"), place.path().join("tables.sql")).unwrap();
    std::fs::write(place.path().join("program.sql"), program).unwrap();
    place
}

/// The events as JSON lines, as the source makes them.
fn write_events(target: &Path) {
    let mut sql = String::from(
        "CREATE TABLE side_input (key BIGINT, value TEXT)
         WITH (connector = 'datagen', rows = '10000', rows_per_second = 'max', 'fields.key.kind' = 'sequence');\n",
    );
    for (table, columns) in [
        (
            "person",
            "id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP(3), \
             extra TEXT",
        ),
        (
            "auction",
            "id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP(3), \
             expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra TEXT",
        ),
        (
            "bid",
            "auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT",
        ),
        ("side_input", "key BIGINT, value TEXT"),
    ] {
        let path = target.join(format!("{table}.jsonl"));
        sql.push_str(&format!(
            "CREATE TABLE {table}_file ({columns}) WITH (connector = 'file', path = '{}');
             INSERT INTO {table}_file SELECT * FROM {table};\n",
            path.display()
        ));
    }
    let place = folder(&sql);
    succeeded(run(place.path()).output().unwrap(), "the events");
}

#[test]
fn every_query_gives_the_rows_of_its_specification() {
    let python = python();
    let place = tempfile::tempdir().unwrap();
    let (events, results) = (place.path().join("events"), place.path().join("results"));
    std::fs::create_dir_all(&results).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| write_events(&events));
        for query in queries() {
            let mut run = run(&examples().join(format!("{query}.sql")));
            run.env("NEXMARK_OUTPUT", results.join("q10"));
            let output = succeeded(run.output().unwrap(), &query);
            std::fs::write(results.join(format!("{query}.jsonl")), output.stdout).unwrap();
        }
    });
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nexmark/oracle.py");
    let output = Command::new(python).arg(oracle).arg("check").arg(&events).arg(&results).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), queries().len(), "one line for each query that is right:\n{said}");
}

#[test]
fn on_a_stream_without_end_queries_run_or_say_what_is_missing() {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/nexmark.md")).unwrap();
    for query in queries() {
        let mut check = command("check", &examples().join(format!("{query}.sql")));
        let output = check.env("NEXMARK_EVENTS", "endless").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        match ONLY_BOUNDED.iter().find(|(name, _)| *name == query) {
            None => assert!(output.status.success(), "{query}: {said}"),
            Some((_, reason)) => {
                assert_eq!(output.status.code(), Some(1), "{query} runs: the list of those that do not is too long");
                assert!(said.contains(reason), "{query}: {said}");
                assert!(docs.contains(reason), "docs/nexmark.md does not tell of '{reason}'");
            }
        }
    }
}

#[test]
fn a_killed_run_goes_on_where_it_was_and_the_result_is_the_same() {
    let place = tempfile::tempdir().unwrap();
    let target = |name: &str| place.path().join(format!("{name}.jsonl"));
    let program = |name: &str| {
        folder(&format!(
            "CREATE TABLE sessions (bidder BIGINT, bids BIGINT, begins TIMESTAMP(3))
             WITH (connector = 'file', path = '{}');
             INSERT INTO sessions SELECT bidder, bids, window['start']
             FROM (SELECT session(INTERVAL '500 ms') AS window, bidder, count(*) AS bids FROM bid GROUP BY window, bidder);",
            target(name).display()
        ))
    };
    let whole = program("whole");
    succeeded(run(whole.path()).output().unwrap(), "the run without a kill");

    let killed = program("killed");
    let data = place.path().join("data");
    let begin = |rate: &str| {
        let mut command = run(killed.path());
        command.args(["--checkpoint-interval", "100ms"]).arg("--data-dir").arg(&data).env("NEXMARK_RATE", rate);
        command
    };
    let mut child = begin("2000").stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let delivered = || std::fs::metadata(target("killed")).is_ok_and(|file| file.len() > 0);
    while !delivered() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "nothing was delivered");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = succeeded(begin("max").output().unwrap(), "the run after the kill");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("goes on from epoch"), "{said}");

    let sorted = |name: &str| {
        let mut lines: Vec<String> =
            std::fs::read_to_string(target(name)).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let expected = sorted("whole");
    assert!(expected.len() > 1000, "{} sessions", expected.len());
    assert_eq!(sorted("killed"), expected);
}
