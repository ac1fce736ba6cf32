//! Checkpoints whose bits have been flipped, and runs that are told where to go on.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use crate::ledger::{Ledger, mixed};
use crate::pipeline::{Pipeline, acequia};
use crate::trial::{Servers, Trial, assert_clean, exit_code};
use crate::verdict::Verdict;

const RECORDS: u64 = 1500;

/// A trial that has read all its input and was killed.
async fn killed(servers: &Arc<Servers>, seed: u64) -> Trial {
    let trial = Trial::new(servers, Ledger { seed, partitions: 2 }).await;
    let feed = trial.feed(0..RECORDS, 1000);
    let mut pipeline = trial.start();
    feed.all().await;
    trial.until_rows(&mut pipeline, "events", RECORDS as i64 * 8 / 10).await;
    pipeline.kill();
    trial
}

/// `acequia checkpoints` of a trial.
fn checkpoints(trial: &Trial, arguments: &[&str]) -> Output {
    let mut command = acequia();
    command.arg("checkpoints").args(arguments).arg("--checkpoints").arg(trial.checkpoints());
    command.args(["--name", &trial.name]).output().unwrap()
}

/// All files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_and_never_a_start_from_zero() {
    let servers = Servers::shared();
    let trial = killed(&servers, 51).await;
    let verified = checkpoints(&trial, &["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
    let whole = files(&trial.checkpoints());
    println!("{} files: {whole:#?}", whole.len());
    for (number, path) in whole.iter().enumerate() {
        let bytes = std::fs::read(path).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let mut damaged = bytes.clone();
        let at = mixed(number as u64) as usize % bytes.len();
        damaged[at] ^= 1 << (number % 8);
        std::fs::write(path, &damaged).unwrap();
        let verified = checkpoints(&trial, &["verify"]);
        let words = String::from_utf8_lossy(&verified.stdout) + String::from_utf8_lossy(&verified.stderr);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(verified.status.code() == Some(5) && words.contains(name), "{name}, byte {at}: {words}");
        std::fs::write(path, &bytes).unwrap();
    }
}
