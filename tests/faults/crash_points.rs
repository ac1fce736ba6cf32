//! The crash-point matrix: the process dies at every named point, in the middle of its work and again while it
//! recovers, and in the end every destination holds what it must.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use acequia::faults::POINTS;
use tokio::sync::Semaphore;

use crate::ledger::Ledger;
use crate::pipeline::Pipeline;
use crate::trial::{PATIENCE, Servers, Trial, assert_clean, exit_code};

/// Points that this pipeline does not come to, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("log.compacted", "state is compacted after more epochs with changes than a trial has: tests/simulation does so"),
    (
        "log.setting_aside",
        "checkpoints are set aside when a start asks for an older one: tests/faults/damage.rs does so",
    ),
];

/// Pipelines at the same time.
const AT_ONCE: usize = 3;
const RECORDS: u64 = 2000;
const PER_SECOND: u64 = 1500;
/// How long a run may work without coming to its point, after all records are written.
const CALM: Duration = Duration::from_millis(1200);

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_loses_nothing_and_brings_nothing_twice() {
    let servers = Servers::shared();
    let began = Instant::now();
    let only = std::env::var("ACEQUIA_POINT").ok();
    let points = POINTS.iter().filter(|point| only.as_ref().is_none_or(|only| point.contains(only.as_str())));
    // Those of the embedded Kafka, which has no part in this pipeline, are tried in `tests/faults/embedded.rs`.
    let points = points.filter(|point| !point.starts_with("sink.kafka.embedded."));
    // Those of a Delta table come up only now and then here: `tests/delta/kills.rs` dies at each.
    let points = points.filter(|point| !point.starts_with("sink.delta."));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut trials = vec![];
    for (number, point) in points.enumerate() {
        let (servers, room) = (Arc::clone(&servers), Arc::clone(&room));
        trials.push((
            *point,
            tokio::spawn(async move {
                let _permit = room.acquire().await.unwrap();
                crash_at(&servers, point, number as u64).await
            }),
        ));
    }
    let tried = trials.len();
    assert!(tried > 0, "there are no crash points");
    let mut failures = vec![];
    let mut deaths = 0;
    for (point, trial) in trials {
        let excuse = ELSEWHERE.iter().find(|(name, _)| *name == point);
        match (trial.await, excuse) {
            (Err(_), _) => failures.push(format!("{point}: see above")),
            (Ok(0), None) => failures.push(format!("{point} was never reached")),
            (Ok(1..), Some(_)) => {
                failures.push(format!("{point} was reached: take it from the list of those that are not"))
            }
            (Ok(died), _) => deaths += died,
        }
    }
    println!("{tried} crash points, {deaths} deaths, {:.0?}", began.elapsed());
    assert!(failures.is_empty(), "{} of {tried} points:\n{}", failures.len(), failures.join("\n"));
}

/// Lets a pipeline die at a point as often as it comes there, up to three times; how often that was.
async fn crash_at(servers: &Arc<Servers>, point: &str, number: u64) -> usize {
    let trial = Trial::new(servers, Ledger { seed: number, partitions: 3 }).await;
    // The log prunes after several epochs.
    let (records, interval) = if point.starts_with("log.") { (2 * RECORDS, "20ms") } else { (RECORDS, "200ms") };
    let feed = trial.feed(0..records, PER_SECOND);
    let mut deaths = 0;
    let mut log = String::new();
    // The first time, which is all there is of some; later on, or while recovering from that; and while recovering.
    for arming in [point.to_owned(), format!("{point}:2"), point.to_owned()] {
        let mut command = trial.command();
        command.args(["--no-http", "--checkpoint-interval", interval]).env("ACEQUIA_CRASH_AT", &arming);
        deaths += usize::from(died(Pipeline::start(command), point, || feed.is_over(), &mut log).await);
    }
    if deaths == 0 {
        let mut command = trial.command();
        command.args(["--bounded", "--no-http"]).env("ACEQUIA_CRASH_AT", point);
        deaths += usize::from(died(Pipeline::start(command), point, || false, &mut log).await);
    }
    feed.all().await;
    assert_clean(&format!("{point}, {deaths} deaths in {}\n{log}", trial.name), &trial.finish(records).await);
    deaths
}

/// Whether a run dies at its point. One that has had its time is told to stop, and may still come there.
async fn died(mut pipeline: Pipeline, point: &str, fed: impl Fn() -> bool, log: &mut String) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut calm: Option<Instant> = None;
    let mut stopping = false;
    while !pipeline.has_ended() {
        assert!(Instant::now() < deadline, "{point}: still running:\n{log}{}", pipeline.said());
        // Before that it may not listen to signals yet.
        if fed() && !stopping && pipeline.said().contains(" INFO running ") {
            let since = *calm.get_or_insert_with(Instant::now);
            if since.elapsed() > CALM {
                pipeline.signal("-TERM");
                stopping = true;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let code = exit_code(&mut pipeline).await;
    let said = pipeline.said().to_owned();
    log.push_str(&format!("-- ended with {code:?}\n{said}"));
    match code {
        None if said.contains(&format!("crash point {point}\n")) => true,
        Some(0) => false,
        _ => panic!("{point}: ended otherwise:\n{log}"),
    }
}

/// A point that is not in the list is a point that nobody dies at.
#[test]
fn every_crash_point_in_the_sources_is_in_the_list() {
    fn names(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let calls = text.split("crash_point!(\"").skip(1).filter_map(|rest| rest.split_once("\")"));
            found.extend(calls.filter(|_| !path.ends_with("faults.rs")).map(|(name, _)| name.to_owned()));
        }
    }
    let mut found = BTreeSet::new();
    names(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert_eq!(Vec::from_iter(found), POINTS);
}
