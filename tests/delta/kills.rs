//! The process dies at every point of its work on a Delta table, and at any moment: the table is whole each time, for
//! those who do not know Acequia, and in the end every row is in it, once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use acequia::faults::POINTS;
use tokio::sync::Semaphore;

use crate::numbers::Numbered;
use crate::others::{Others, READERS};
use crate::pipeline::Pipeline;

/// Pipelines at the same time.
const AT_ONCE: usize = 3;
/// How long a run works, and how many commits it makes, without coming to its point before it is told to stop, where it
/// may still come there: once in a second old files are removed, and of ten files in each half one is made.
const CALM: (Duration, usize) = (Duration::from_millis(1500), 40);
/// For a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_leaves_the_table_whole_and_loses_nothing() {
    let others = Arc::new(Others::start());
    let only = std::env::var("ACEQUIA_POINT").ok();
    let points = POINTS.iter().filter(|point| point.starts_with("sink.delta."));
    let points = points.filter(|point| only.as_ref().is_none_or(|only| point.contains(only.as_str())));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let trials: Vec<_> = points
        .map(|point| {
            let (others, room) = (Arc::clone(&others), Arc::clone(&room));
            let trial = async move {
                let _permit = room.acquire().await.unwrap();
                tokio::task::spawn_blocking(move || crash_at(&others, point)).await.unwrap()
            };
            (*point, tokio::spawn(trial))
        })
        .collect();
    assert!(!trials.is_empty(), "there are no crash points");
    let mut failures = vec![];
    for (point, trial) in trials {
        match trial.await {
            Err(_) => failures.push(format!("{point}: see above")),
            Ok(0) => failures.push(format!("{point} was never reached")),
            Ok(_) => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Lets a pipeline die at a point as often as it comes there, up to three times; how often that was.
fn crash_at(others: &Others, point: &str) -> usize {
    let place = Numbered::new(50_000, 1000, "200 ms");
    let mut deaths = 0;
    // The first time, which is all there is of some; later on, or while recovering from that; and while recovering.
    for arming in [point.to_owned(), format!("{point}:2"), point.to_owned()] {
        let mut command = place.command();
        command.env("ACEQUIA_CRASH_AT", &arming);
        let mut pipeline = Pipeline::start(command);
        let died = died(&mut pipeline, &place);
        let word = format!("crash point {point}");
        if died && !pipeline.said().contains(&word) {
            pipeline.until(&word);
        }
        if let Err(wrong) = place.verdict(others, "deltalake") {
            panic!("{arming}: {wrong}\n{}", pipeline.said());
        }
        deaths += usize::from(died);
    }
    let said = place.finish();
    let rows = place.verdict(others, "duckdb");
    assert_eq!(rows, Ok(place.rows), "{point}, {deaths} deaths\n{said}");
    deaths
}

/// Whether a run dies by itself. One that has had its time is told to stop, and may still die then.
fn died(pipeline: &mut Pipeline, place: &Numbered) -> bool {
    let (began, commits) = (Instant::now(), place.commits());
    let mut running: Option<Instant> = None;
    let mut stopping = false;
    while !pipeline.has_ended() {
        assert!(began.elapsed() < PATIENCE, "still running:\n{}", pipeline.said());
        if pipeline.said().contains(" INFO running ") {
            // Before that it may not listen to signals yet.
            let since = *running.get_or_insert_with(Instant::now);
            if since.elapsed() > CALM.0 && !stopping && place.commits() > commits + CALM.1 {
                pipeline.signal("-TERM");
                stopping = true;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    match pipeline.exit_code() {
        None => true,
        Some(0) => false,
        Some(code) => panic!("it ended with {code}:\n{}", pipeline.said()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_at_any_moment_leave_the_table_whole_and_lose_nothing() {
    let others = Others::start();
    let place = Numbered::new(50_000, 1000, "200 ms");
    let mut reached = 0;
    for kill in 0..20_usize {
        let mut pipeline = Pipeline::start(place.command());
        pipeline.until(" INFO running ");
        tokio::time::sleep(Duration::from_millis(50 + kill as u64 * 137 % 500)).await;
        pipeline.kill();
        assert!(!pipeline.said().contains("ERROR"), "kill {kill}:\n{}", pipeline.said());
        match place.verdict(&others, READERS[kill % READERS.len()]) {
            Ok(rows) => {
                assert!(rows >= reached, "kill {kill}: there were {reached} rows, and now there are {rows}");
                reached = rows;
            }
            Err(wrong) => panic!("kill {kill}: {wrong}\n{}", pipeline.said()),
        }
    }
    assert!(reached > 0, "nothing was written before the last kill");
    let said = place.finish();
    for reader in READERS {
        assert_eq!(place.verdict(&others, reader), Ok(place.rows), "{reader}\n{said}");
    }
}
