//! `scripts/bench`: the queries of the comparison with Flink can be run, each has its counterpart, and what is reckoned
//! from samples is right. The comparison itself is too slow for a test: `scripts/bench/flink --quick` is its smoke test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pipeline::acequia;
use crate::{folder, stderr, stdout};

fn bench() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/bench")
}

fn queries(engine: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(bench().join("queries").join(engine)).unwrap();
    files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn check(sql: &str) {
    let program = folder(&[("query.sql", sql)]);
    let output = acequia()
        .arg("check")
        .arg(program.path())
        .envs([("BROKER", "127.0.0.1:9092"), ("RESULTS", "results"), ("TOPIC", "transactions"), ("EVENTS", "1000")])
        .env("REDIS_URL", "redis://127.0.0.1:6379")
        .output()
        .unwrap();
    assert!(output.status.success(), "{sql}\n{}{}", stdout(&output), stderr(&output));
}

#[test]
fn both_engines_are_asked_the_same_queries() {
    let ours = queries("acequia");
    assert!(ours.len() > 10, "{ours:?}");
    assert_eq!(ours, queries("flink"));
}

#[test]
fn every_program_of_a_benchmark_is_a_valid_one() {
    let read = |path: &str| std::fs::read_to_string(bench().join("queries").join(path)).unwrap();
    let tables = read("acequia/tables.sql");
    for query in queries("acequia").iter().filter(|name| *name != "tables") {
        check(&format!("{tables}\n{}", read(&format!("acequia/{query}.sql"))));
    }
    for name in ["bid", "auction", "person"] {
        check(&read(&format!("fill/{name}.sql")));
    }
    check(&read("latency.sql"));
}

#[test]
fn medians_differences_and_stages_are_reckoned_as_documented() {
    let mut python = Command::new("python3");
    python.args(["-B", "-m", "unittest", "comparison.tests"]).current_dir(bench());
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
}
