//! Golden cases: every feature of the SQL dialect through the real planner and runtime.
//!
//! Each folder beside this file is a program with its cases. What they expect was computed by hand or by a script
//! that knows nothing of Acequia, never by Acequia itself. The shipped queries and examples are tested here as well.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use acequia::cases::{Settings, discover};

/// Whether there is SQL in a folder: an example may be something else.
fn is_program(folder: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(folder) else { return false };
    files.flatten().any(|file| file.path().extension().is_some_and(|extension| extension == "sql"))
}

/// Runs all cases of the program folders below `folder`; the number of cases.
async fn run_all(folder: &Path) -> usize {
    let mut programs: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| is_program(path)).collect();
    programs.sort();
    let mut failures = String::new();
    let mut count = 0;
    for program in &programs {
        let (cases, program_failures) = run_program(program).await;
        count += cases;
        failures.push_str(&program_failures);
    }
    assert!(failures.is_empty(), "\n{failures}");
    count
}

async fn run_program(program: &Path) -> (usize, String) {
    let mut failures = String::new();
    let cases = discover(program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    for case in &cases {
        if let Err(error) = case.run(&Settings::thorough(), false).await {
            let _ = writeln!(failures, "{} / {}:\n{error}\n", program.display(), case.name);
        }
    }
    (cases.len(), failures)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_feature_gives_the_expected_rows() {
    let count = run_all(&repository().join("tests/golden")).await;
    assert!(count >= 30, "only {count} cases were found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_gives_the_expected_rows() {
    let count = run_all(&repository().join("examples")).await;
    assert!(count >= 6, "only {count} cases were found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_queries_give_the_expected_rows() {
    let (count, failures) = run_program(&repository().join("queries")).await;
    assert!(failures.is_empty(), "\n{failures}");
    assert!(count >= 3, "only {count} cases were found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_expectation_fails_with_both_rows_and_the_settings() {
    let place = tempfile::tempdir().unwrap();
    let files = [
        ("p.sql", "CREATE TABLE t (a BIGINT) WITH (connector = 'file', path = 'unused.jsonl');\nSELECT a FROM t;"),
        ("tests/one/input/t.jsonl", "{\"a\": 1}\n{\"a\": 2}\n"),
        ("tests/one/expected/stdout.jsonl", "{\"a\": 1}\n{\"a\": 3}\n"),
    ];
    for (path, text) in files {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let case = discover(place.path()).unwrap().remove(0);
    let error = case.run(&Settings::thorough(), false).await.unwrap_err().to_string();
    assert!(error.contains("stdout: 1 missing (-), 1 not expected (+)"), "{error}");
    assert!(error.contains("- {\"a\":3}") && error.contains("+ {\"a\":2}"), "{error}");
    assert!(error.contains("parallelism 1, batches of 1 rows"), "{error}");

    case.update().await.unwrap();
    let case = discover(place.path()).unwrap().remove(0);
    case.run(&Settings::thorough(), false).await.unwrap();
}
