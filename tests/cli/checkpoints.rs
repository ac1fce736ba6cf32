//! The command `checkpoints` on what a real run has left behind.

use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

use crate::running::Running;
use crate::{acequia, folder, stderr, stdout, text};

/// Sums that stay open, of rows that come for ever.
const ENDLESS: &str = "\
CREATE TABLE orders (customer BIGINT, amount BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second')
WITH (connector = 'datagen', rows_per_second = '500');
CREATE TABLE totals (customer BIGINT, total BIGINT) WITH (connector = 'file', path = 'totals.jsonl');
INSERT INTO totals SELECT customer, sum(amount) FROM orders GROUP BY customer, tumble(INTERVAL '1 hour');
";

fn checkpoints(place: &Path, arguments: &[&str]) -> Output {
    let mut command = acequia();
    command.arg("checkpoints").args(arguments).args(["--name", "shop", "--data-dir"]).arg(place.join("data"));
    command.output().unwrap()
}

/// What was printed, with this exit code and nothing on the other stream.
fn printed(place: &Path, arguments: &[&str], code: i32) -> String {
    let output = checkpoints(place, arguments);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(code), ""),
        "{arguments:?}: {}",
        stdout(&output)
    );
    stdout(&output)
}

fn refused(place: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = checkpoints(place, arguments);
    assert_eq!(stdout(&output), "", "{arguments:?}");
    (output.status.code(), stderr(&output))
}

fn store(place: &Path) -> PathBuf {
    place.join("data/checkpoints/shop")
}

fn start(place: &Path) -> Running {
    let data = place.join("data");
    let arguments = ["--no-http", "--name", "shop", "--checkpoint-interval", "200ms", "--data-dir", text(&data)];
    Running::start(&place.join("p.sql"), &arguments, place)
}

fn epochs(place: &Path) -> Vec<u64> {
    let list: serde_json::Value = serde_json::from_str(&printed(place, &["list", "--format", "json"], 0)).unwrap();
    list.as_array().unwrap().iter().map(|checkpoint| checkpoint["epoch"].as_u64().unwrap()).collect()
}

/// A run that has left three checkpoints and is alive.
fn running() -> (TempDir, Running) {
    let place = folder(&[("p.sql", ENDLESS)]);
    let running = start(place.path());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !store(place.path()).join("manifests").exists() || epochs(place.path()).len() < 3 {
        assert!(std::time::Instant::now() < deadline, "no three checkpoints");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    (place, running)
}

#[test]
fn where_nothing_is_that_is_said() {
    let place = folder(&[]);
    let place = place.path();
    let there = store(place).display().to_string();
    assert_eq!(printed(place, &["list"], 0), format!("no checkpoints in {there}\n"));
    assert_eq!(printed(place, &["list", "--format", "json"], 0), "[]\n");
    assert_eq!(printed(place, &["verify"], 0), format!("0 checkpoints, 0 files in {there}: all whole\n"));
    let none = format!("error: there is no checkpoint in {there}: `acequia checkpoints list` shows what there is\n");
    assert_eq!(refused(place, &["show"]), (Some(1), none));
    assert_eq!(printed(place, &["remove", "--all"], 0), format!("nothing to remove in {there}\n"));
    assert_eq!(refused(place, &["remove"]).0, Some(2));
}

#[test]
fn what_a_run_has_left_is_listed_shown_verified_and_removed() {
    let (place, mut running) = running();
    let place = place.path();
    let there = store(place).display().to_string();

    // What the run uses is not removed beneath it.
    let (code, words) = refused(place, &["remove", "--all"]);
    assert_eq!(code, Some(6));
    assert!(words.starts_with(&format!("error: the checkpoints at {there} are in use by process ")), "{words}");
    running.signal("-TERM");
    assert_eq!(running.exit_code(), Some(0));

    let epochs = epochs(place);
    let listed = printed(place, &["list"], 0);
    let mut lines = listed.lines();
    assert_eq!(lines.next(), Some("     epoch    run  written                        state  rows waiting"));
    for (epoch, line) in epochs.iter().zip(lines) {
        assert!(line.starts_with(&format!("{epoch:>10}      1  20")) && line.ends_with("             0"), "{line}");
        assert!(line.contains(" kB "), "{line}");
    }
    let (newest, oldest) = (epochs.last().unwrap(), epochs.first().unwrap());

    let shown = printed(place, &["show"], 0);
    assert!(shown.starts_with(&format!("checkpoint {newest} of shop, written 20")), "{shown}");
    for words in
        [" by run 1, log ", "\nsources\n  orders\n    datagen[0] at ", "\noperators\n  totals.window: ", "\nsinks\n"]
    {
        assert!(shown.contains(words), "no {words:?} in\n{shown}");
    }
    let older = printed(place, &["show", &oldest.to_string(), "--format", "json"], 0);
    let older: serde_json::Value = serde_json::from_str(&older).unwrap();
    assert_eq!((older["epoch"].as_u64(), older["pipeline"].as_str()), (Some(*oldest), Some("shop")));
    let (code, words) = refused(place, &["show", "99999"]);
    assert_eq!(code, Some(1));
    assert!(words.contains(&format!("there is no checkpoint 99999 in {there}")), "{words}");

    let verified = printed(place, &["verify"], 0);
    assert!(
        verified.starts_with("3 checkpoints, ") && verified.ends_with(&format!(" in {there}: all whole\n")),
        "{verified}"
    );

    let (code, words) = refused(place, &["remove", "99999"]);
    assert_eq!(code, Some(1));
    assert!(
        words.starts_with(&format!("error: there is no checkpoint 99999 at {there}; there are: {oldest}, ")),
        "{words}"
    );
    assert_eq!(printed(place, &["remove", &oldest.to_string()], 0), format!("removed from {there}: {oldest}\n"));
    let removed = printed(place, &["remove", "--keep", "1", "--format", "json"], 0);
    assert_eq!(removed, format!("{{\n  \"removed\": [\n    {}\n  ]\n}}\n", epochs[1]));
    assert_eq!(printed(place, &["remove", "--all"], 0), format!("removed from {there}: {newest}\n"));
    assert_eq!(printed(place, &["list"], 0), format!("no checkpoints in {there}\n"));
}

#[test]
fn damage_is_named_and_what_a_run_makes_of_it() {
    let (place, mut alive) = running();
    let place = place.path();
    alive.signal("-KILL");
    alive.exit_code();
    let newest = *epochs(place).last().unwrap();
    let manifest = format!("manifests/{newest:012}-1.json");
    let copy = format!("{manifest}.copy");
    std::fs::write(store(place).join(&manifest), "{}").unwrap();

    let verified = printed(place, &["verify"], 1);
    let mut lines = verified.lines();
    let flaw = format!("damaged: {manifest}: cut off: 2 bytes without a checksum (its copy {copy} is whole)");
    assert_eq!(lines.next(), Some(flaw.as_str()));
    assert!(lines.next().unwrap().ends_with(": 1 damaged"), "{verified}");
    // The copy is as good.
    assert!(epochs(place).contains(&newest));

    std::fs::remove_file(store(place).join(&copy)).unwrap();
    let listed = printed(place, &["list"], 0);
    assert!(
        listed.ends_with(&format!("{newest:>10}  damaged: {manifest}: cut off: 2 bytes without a checksum\n")),
        "{listed}"
    );
    let (code, words) = refused(place, &["show"]);
    let expected = format!("error: {manifest}: cut off: 2 bytes without a checksum\n");
    assert_eq!((code, words), (Some(1), expected));

    let mut next = start(place);
    let said = next.until(" goes on from epoch ").join("\n");
    assert!(said.contains(&format!("checkpoint {newest} is damaged: {manifest}: cut off")), "{said}");
    next.signal("-TERM");
    assert_eq!(next.exit_code(), Some(0));

    for entry in std::fs::read_dir(store(place).join("manifests")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let mut lost = start(place);
    assert_eq!(lost.exit_code(), Some(5));
    assert!(lost.rest().contains("log.json says that there were checkpoints, and none is left"));
}
