//! The command `audit` without a server: what it prints, and what it refuses.

use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::{acequia, folder, stderr, stdout, text};

const TABLES: &str = "\
CREATE TABLE numbers (n BIGINT) WITH (connector = 'file', path = 'PLACE/numbers.jsonl', format = 'json');
CREATE TABLE small (n BIGINT) WITH (connector = 'file', path = 'PLACE/small.jsonl', format = 'json');
CREATE TABLE large (n BIGINT) WITH (connector = 'file', path = 'PLACE/large.jsonl', format = 'json');
CREATE TABLE none (n BIGINT) WITH (connector = 'file', path = 'PLACE/none.jsonl', format = 'json');
";
const SMALL: &str = "INSERT INTO small SELECT n FROM numbers WHERE n < 4;\n";
const LARGE: &str = "INSERT INTO large SELECT n FROM numbers WHERE n >= 4;\n";
const NONE: &str = "INSERT INTO none SELECT n FROM numbers WHERE n > 100;\n";

/// A folder with these statements, and ten numbers to read.
fn place(statements: &str) -> TempDir {
    let place = folder(&[]);
    std::fs::create_dir(place.path().join("sql")).unwrap();
    write(place.path(), statements);
    std::fs::write(place.path().join("numbers.jsonl"), (0..10).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>())
        .unwrap();
    place
}

fn write(place: &Path, statements: &str) {
    let sql = TABLES.replace("PLACE", text(place)) + statements;
    std::fs::write(place.join("sql/all.sql"), sql).unwrap();
}

fn command(place: &Path, command: &str, more: &[&str]) -> Output {
    let mut acequia = acequia();
    acequia.arg(command).arg(place.join("sql")).arg("--data-dir").arg(place.join("data"));
    acequia.args(more).output().unwrap()
}

fn run(place: &Path) {
    let output = command(place, "run", &["--bounded", "--no-http"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn it_shows_each_destination_in_a_line() {
    let place = place(&[SMALL, LARGE, NONE, "SELECT n FROM numbers;\n"].concat());
    let place = place.path();
    run(place);
    let output = command(place, "audit", &[]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let mut lines: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "sink         expected  found  verdict");
    lines.sort();
    assert_eq!(
        lines,
        [
            "large               6      6  complete, no row twice",
            "none                -      -  cannot be proved: no rows have come for it, and it cannot be read",
            "query.print         -      -  cannot be proved: its rows are delivered at least once, so some may rightly be \
             there twice",
            "small               4      4  complete, no row twice",
        ]
    );
    std::fs::write(place.join("small.jsonl"), "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n").unwrap();
    let output = command(place, "audit", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("small               4      3  1 row is missing\n"), "{}", stdout(&output));
    let output = command(place, "audit", &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let small = found.as_array().unwrap().iter().find(|finding| finding["sink"] == "small").unwrap();
    assert_eq!(
        *small,
        serde_json::json!({"sink": "small", "expected": 4, "found": 3, "dead_letters": 0, "verdict": "missing",
                           "wrong": true, "message": "1 row is missing"})
    );
    std::fs::remove_file(place.join("small.jsonl")).unwrap();
    let output = command(place, "audit", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("small.jsonl: no such file"), "{}", stdout(&output));
}

#[test]
fn it_says_where_checkpoints_are_that_it_does_not_find() {
    let place = place(SMALL);
    let place = place.path();
    let output = command(place, "audit", &[]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""));
    let data = place.join("data/checkpoints/sql");
    let message = format!(
        "error: there are no checkpoints of pipeline sql in {}: 'acequia run' makes them. If they are elsewhere, give \
         --checkpoints or --data-dir, and --name if the run had one\n",
        data.display()
    );
    assert_eq!(stderr(&output), message);
    assert!(!data.exists(), "an audit makes nothing");
    assert_eq!(command(place, "audit", &["--format", "yaml"]).status.code(), Some(2));

    run(place);
    for manifest in std::fs::read_dir(data.join("manifests")).unwrap() {
        std::fs::write(manifest.unwrap().path(), "x").unwrap();
    }
    let output = command(place, "audit", &[]);
    assert_eq!(output.status.code(), Some(5));
    let said = stderr(&output);
    assert!(said.starts_with(&format!("error: no checkpoint in {} is whole: manifests/", data.display())), "{said}");
}

#[test]
fn checkpoints_of_another_folder_are_refused_and_queries_that_are_gone_are_said() {
    let place = place(&[SMALL, LARGE].concat());
    let place = place.path();
    run(place);
    write(place, SMALL);
    let output = command(place, "audit", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(
        said.contains("large         6      -  cannot be proved: the folder does not write it any more\n"),
        "{said}"
    );
    write(place, NONE);
    let output = command(place, "audit", &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    let end = format!(
        "are those of other queries: they write large, small, and those of {} write none. Name the folder that was run, \
         or give --name or --checkpoints\n",
        place.join("sql").display()
    );
    assert!(said.starts_with("error: the checkpoints in ") && said.ends_with(&end), "{said}");
}
