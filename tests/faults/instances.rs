//! More than one instance of a pipeline, and instances that were thought to be dead.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::ledger::Ledger;
use crate::pipeline::Pipeline;
use crate::trial::{PATIENCE, Servers, Trial, assert_clean, exit_code};

const PER_SECOND: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_stops_at_once_also_while_the_first_stands_still() {
    let servers = Servers::shared();
    let trial = Trial::new(&servers, Ledger { seed: 31, partitions: 2 }).await;
    let feed = trial.feed(0..u64::MAX, PER_SECOND);
    let mut first = trial.start();
    trial.until_rows(&mut first, "events", 100).await;
    is_refused(&trial, &first).await;
    first.signal("-STOP");
    is_refused(&trial, &first).await;
    // Longer than any timeout of the servers' connections.
    tokio::time::sleep(Duration::from_secs(15)).await;
    is_refused(&trial, &first).await;
    first.signal("-CONT");
    let rows = trial.rows_in("events").await;
    trial.until_rows(&mut first, "events", rows + 200).await;
    first.signal("-TERM");
    assert_eq!(exit_code(&mut first).await, Some(0), "{}", first.said());
    let count = feed.stop().await;
    assert_clean("a second instance", &trial.finish(count).await);
}

async fn is_refused(trial: &Trial, first: &Pipeline) {
    let began = Instant::now();
    let mut second = trial.start();
    let code = exit_code(&mut second).await;
    assert_eq!(code, Some(6), "{}", second.said());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}\n{}", began.elapsed(), second.said());
    let said = second.said();
    assert!(said.contains(&format!("process {}", first.id())) && said.contains(&trial.name), "{said}");
}

/// A machine that hangs is taken for dead, its disk is attached to another one, and the pipeline goes on there. When the
/// first one wakes up, its lock is still its own, and only the destinations can tell it that it is over.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_wakes_up_after_it_was_replaced_writes_nothing_more() {
    let servers = Servers::shared();
    let mut hangs = vec![];
    // It may hang anywhere: between epochs, with a transaction open, while it writes a checkpoint.
    for number in 0..6 {
        let servers = servers.clone();
        hangs.push(tokio::spawn(async move {
            let trial = Trial::new(&servers, Ledger { seed: 40 + number, partitions: 2 }).await;
            hang_and_replace(&trial, Duration::from_millis(37 * number)).await;
        }));
        if hangs.len() == 2 {
            for hang in hangs.drain(..) {
                hang.await.unwrap();
            }
        }
    }
}

/// How long a broker lets a transaction be: longer than it takes to look at it on a busy machine.
const LIFETIME: Duration = Duration::from_secs(20);

/// It stands still amid a transaction, for so long that the broker takes that back.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_stands_still_for_longer_than_a_transaction_may_goes_on_by_itself() {
    let servers = Servers::shared();
    let mut trial = Trial::new(&servers, Ledger { seed: 47, partitions: 2 }).await;
    trial.variables.insert("TRANSACTION_TIMEOUT", LIFETIME.as_millis().to_string());
    let feed = trial.feed(0..u64::MAX, PER_SECOND);
    let mut command = trial.command();
    command.arg("--no-http").env("ACEQUIA_STOP_AT", "sink.kafka.before_commit:5");
    let mut pipeline = Pipeline::start(command);
    pipeline.until("stops at sink.kafka.before_commit");
    // Records of a transaction that is under way can be seen by those who do not ask for committed ones.
    let topic = format!("{}-out", trial.name);
    let (stopped, deadline) = (Instant::now(), Instant::now() + PATIENCE);
    let under_way = || (0..2).any(|partition| servers.kafka.is_in_transaction(&topic, partition));
    while !under_way() {
        let waited = stopped.elapsed();
        assert!(waited < LIFETIME, "after {waited:?} it still stands between transactions:\n{}", pipeline.said());
    }
    while under_way() {
        assert!(Instant::now() < deadline, "the broker does not take the transaction back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    pipeline.signal("-CONT");
    let rows = trial.rows_in("events").await;
    trial.until_rows(&mut pipeline, "events", rows + 300).await;
    pipeline.signal("-TERM");
    assert_eq!(exit_code(&mut pipeline).await, Some(0), "{}", pipeline.said());
    let count = feed.stop().await;
    assert_clean(pipeline.said(), &trial.finish(count).await);
}

async fn hang_and_replace(trial: &Trial, after: Duration) {
    let feed = trial.feed(0..u64::MAX, PER_SECOND);
    let mut first = trial.start();
    trial.until_rows(&mut first, "events", 100).await;
    tokio::time::sleep(after).await;
    first.signal("-STOP");
    let copy = trial.place().join("copy");
    copy_folder(&trial.checkpoints(), &copy);

    let mut command = trial.command_with(&copy);
    command.arg("--no-http");
    let mut second = Pipeline::start(command);
    let rows = trial.rows_in("events").await;
    trial.until_rows(&mut second, "events", rows + 300).await;
    first.signal("-CONT");
    let code = exit_code(&mut first).await;
    let said = first.said().to_owned();
    assert_eq!(code, Some(6), "{said}\n-- the second:\n{}", second.said());
    assert!(said.contains("has taken over from this one"), "{said}");

    let rows = trial.rows_in("events").await;
    trial.until_rows(&mut second, "events", rows + 300).await;
    second.signal("-TERM");
    assert_eq!(exit_code(&mut second).await, Some(0), "{}", second.said());
    let count = feed.stop().await;
    let mut command = trial.command_with(&copy);
    command.args(["--bounded", "--no-http"]);
    let mut last = Pipeline::start(command);
    assert_eq!(exit_code(&mut last).await, Some(0), "{}", last.said());
    let logs = format!("-- the first:\n{said}\n-- the second:\n{}", second.said());
    assert_clean(&logs, &trial.verdicts(count).await);
}

fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}
