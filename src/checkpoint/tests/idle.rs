//! A pipeline that reads nothing: its clocks go on, and it writes nothing.

use super::super::state::OperatorState;
use super::*;

/// An epoch in which only watermarks have moved, to `watermark`, and instance `instance` says so.
fn moved(epoch: u64, instance: usize, watermark: i64) -> EpochRecord {
    let mut record = record(Epoch(epoch));
    record.outbox.clear();
    record.added.sources.clear();
    let batches = vec![(instance, batch([], watermark))];
    record.added.operators.insert("sums".into(), OperatorState { watermark: EventTime(watermark), batches });
    record
}

fn told(recovered: &Recovered) -> (i64, Vec<(usize, String)>) {
    let sums = &recovered.state.operators["sums"];
    let without_rows = sums.batches.iter().filter(|(_, batch)| batch.num_rows() == 0);
    let told = without_rows.map(|(n, batch)| (*n, batch.schema().metadata()["acequia.watermark"].clone()));
    (sums.watermark.0, told.collect())
}

#[tokio::test]
async fn watermarks_alone_are_written_with_the_next_epoch_that_has_something() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 1).await;
    let before = all_files(&store).await;
    for n in 2..500 {
        assert_eq!(log.append(moved(n, n as usize % 2, 100 + n as i64)).await.unwrap().bytes, 0);
    }
    assert_eq!(all_files(&store).await, before);
    let mut next = record(Epoch(500));
    next.added.operators.get_mut("sums").unwrap().batches.truncate(1);
    log.append(next).await.unwrap();
    drop(log);
    let (_, recovered) = open(&store).await;
    let recovered = recovered.unwrap();
    assert_eq!(state_of(&recovered), [1, 500]);
    // Instance 0 has said something newer with its row; of instance 1 the last word counts.
    assert_eq!(told(&recovered), (599, vec![(1, "1".into()), (1, "599".into())]));
}

#[tokio::test]
async fn at_an_orderly_end_they_are_written_and_after_a_crash_found_anew() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    append(&mut log, 1).await;
    log.append(moved(2, 0, 50)).await.unwrap();
    // A crash.
    drop(log);
    let (mut log, recovered) = open(&store).await;
    assert_eq!(told(&recovered.unwrap()), (1, vec![(1, "1".into())]));
    log.append(moved(2, 0, 70)).await.unwrap();
    log.end().await.unwrap();
    let (log, recovered) = open(&store).await;
    let recovered = recovered.unwrap();
    assert_eq!((recovered.state.epoch, told(&recovered)), (Epoch(2), (70, vec![(1, "1".into()), (0, "70".into())])));
    let before = all_files(&store).await;
    log.end().await.unwrap();
    assert_eq!(all_files(&store).await, before);
}
