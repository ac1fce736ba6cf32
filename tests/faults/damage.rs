//! Checkpoints whose bits have been flipped, and runs that are told where to go on.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::{Fate, Ledger, mixed};
use crate::pipeline::{Pipeline, acequia};
use crate::trial::{PATIENCE, Servers, Trial, assert_clean, exit_code};

const RECORDS: u64 = 1500;

/// A trial that was killed after several epochs.
async fn killed(servers: &Arc<Servers>, seed: u64) -> Trial {
    const PARTS: u64 = 3;
    let trial = Trial::new(servers, Ledger { seed, partitions: 2 }).await;
    let mut pipeline = trial.start();
    for part in 0..PARTS {
        trial.feed(part * RECORDS / PARTS..(part + 1) * RECORDS / PARTS, 1000).all().await;
        trial.until_rows(&mut pipeline, "events", ((part + 1) * RECORDS / PARTS * 8 / 10) as i64).await;
    }
    pipeline.kill();
    trial
}

/// `acequia checkpoints` of a trial.
fn checkpoints(trial: &Trial, arguments: &[&str]) -> Output {
    let mut command = acequia();
    command.arg("checkpoints").arg("--checkpoints").arg(trial.checkpoints()).args(["--name", &trial.name]);
    command.args(arguments).output().unwrap()
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
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    let mut whole = files(&trial.checkpoints());
    // What was being written when the run was killed is part of no checkpoint.
    let manifests = whole.iter().filter(|path| path.parent().is_some_and(|folder| folder.ends_with("manifests")));
    let manifests: String = manifests.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    whole.retain(|path| {
        let folder = path.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match folder.to_str() {
            Some("tmp") => false,
            Some("state" | "outbox") => manifests.contains(name.trim_end_matches(".copy")),
            _ => true,
        }
    });
    println!("{} files: {whole:#?}", whole.len());
    assert!(whole.len() >= 12, "three checkpoints have more files");
    for (number, path) in whole.iter().enumerate() {
        let bytes = std::fs::read(path).unwrap();
        // The lock holds a name for messages, and nothing that a run goes on from.
        if bytes.is_empty() || path.ends_with("lock") {
            continue;
        }
        let mut damaged = bytes.clone();
        let at = mixed(number as u64) as usize % bytes.len();
        damaged[at] ^= 1 << (number % 8);
        std::fs::write(path, &damaged).unwrap();
        let verified = checkpoints(&trial, &["verify"]);
        let words = String::from_utf8_lossy(&verified.stdout) + String::from_utf8_lossy(&verified.stderr);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(verified.status.code() == Some(1) && words.contains(name), "{name}, byte {at}: {words}");
        std::fs::write(path, &bytes).unwrap();
    }
}

/// Damages one file after each kill. The next run uses its copy, says so, and goes on as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn damage_to_a_file_is_made_good_from_its_copy_with_a_warning() {
    const ROUNDS: u64 = 12;
    const MORE: u64 = 300;
    let servers = Servers::shared();
    let trial = Trial::new(&servers, Ledger { seed: 52, partitions: 2 }).await;
    let mut made_good = 0;
    let mut pipeline = trial.start();
    trial.feed(0..MORE, 1000).all().await;
    works(&trial, &mut pipeline, MORE).await.unwrap();
    for round in 0..ROUNDS {
        pipeline.kill();
        let all = files(&trial.checkpoints());
        let path = damage_one(&all, round);
        let fed = (round + 2) * MORE;
        trial.feed(fed - MORE..fed, 1000).all().await;
        pipeline = trial.start();
        works(&trial, &mut pipeline, fed).await.unwrap_or_else(|said| panic!("{}: {said}", path.display()));
        assert!(!pipeline.said().contains("begins from nothing"), "{}", pipeline.said());
        made_good += usize::from(pipeline.said().contains("written again"));
    }
    pipeline.signal("-TERM");
    assert_eq!(exit_code(&mut pipeline).await, Some(0), "{}", pipeline.said());
    assert_clean("damaged checkpoints", &trial.finish((ROUNDS + 1) * MORE).await);
    println!("{ROUNDS} damaged files: {made_good} made good with a warning");
    assert!(made_good > 0, "none of them mattered");
}

/// Flips a bit, cuts a file or deletes it.
fn damage_one(files: &[PathBuf], round: u64) -> PathBuf {
    // The newest matter most, and they come last within their folders.
    let dice = mixed(round ^ 0xda);
    let path = files[dice as usize % files.len()].clone();
    let whole = std::fs::read(&path).unwrap();
    let at = (dice >> 16) as usize % whole.len().max(1);
    match round % 4 {
        3 => std::fs::remove_file(&path).unwrap(),
        2 => std::fs::write(&path, &whole[..at]).unwrap(),
        _ => {
            let mut damaged = whole.clone();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 1 << ((dice >> 8) % 8);
            }
            std::fs::write(&path, damaged).unwrap();
        }
    }
    path
}

/// Whether a run brings the first `fed` records in; otherwise it must have stopped with exit code 5, and what
/// it said.
async fn works(trial: &Trial, pipeline: &mut Pipeline, fed: u64) -> Result<(), String> {
    let began = std::time::Instant::now();
    let rows = (0..fed).filter(|number| !matches!(trial.ledger.record(*number).fate, Fate::Bad(_))).count() as i64;
    while trial.rows_in("events").await < rows {
        if pipeline.has_ended() {
            let code = exit_code(pipeline).await;
            assert_eq!(code, Some(5), "{}", pipeline.said());
            return Err(pipeline.said().to_owned());
        }
        let said = pipeline.said();
        assert!(began.elapsed() < PATIENCE, "{}: it neither works nor ends:\n{said}", trial.name);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_run_brings_everything_again_and_an_older_checkpoint_is_refused() {
    let servers = Servers::shared();
    let trial = killed(&servers, 53).await;
    // What lies between an older checkpoint and the destinations' markers would come twice.
    let listed = checkpoints(&trial, &["list"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    let epochs: Vec<u64> = text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    let oldest = epochs.iter().min().expect("no epochs").to_string();
    assert!(epochs.len() > 1, "{text}");
    let mut command = trial.command();
    command.args(["--no-http", "--from-checkpoint", &oldest]);
    let mut older = Pipeline::start(command);
    assert_eq!(exit_code(&mut older).await, Some(5), "{}", older.said());
    assert!(older.said().contains("--fresh"), "{}", older.said());
    assert!(older.said().contains("Restore the checkpoints that are missing"), "{}", older.said());
    // That run has changed nothing: the next one goes on from the newest checkpoint.
    assert_clean("after an older checkpoint was refused", &trial.finish(RECORDS).await);

    let mut command = trial.command();
    command.args(["--bounded", "--no-http", "--fresh"]);
    let mut fresh = Pipeline::start(command);
    assert_eq!(exit_code(&mut fresh).await, Some(0), "{}", fresh.said());
    for verdict in trial.verdicts(RECORDS).await {
        let again = match verdict.destination {
            // What replaces is the same again.
            "Redis" | "PostgreSQL windows" => 0,
            _ => verdict.expected,
        };
        assert_eq!((verdict.lost, verdict.twice, verdict.wrong), (0, again, 0), "{verdict}");
    }
    trial.finish(RECORDS).await.iter().for_each(|verdict| assert_eq!(verdict.lost + verdict.wrong, 0, "{verdict}"));
}
