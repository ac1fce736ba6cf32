//! A run without an end: what it keeps stays in proportion to what it knows.

use super::super::state::OperatorState;
use super::*;

async fn bytes_in(store: &Arc<dyn Store>, folder: &str) -> u64 {
    store.list(folder).await.unwrap().into_iter().map(|(_, bytes)| bytes).sum()
}

#[tokio::test]
async fn ten_thousand_epochs_leave_as_much_behind_as_a_hundred() {
    let store = memory();
    let (mut log, _) = open(&store).await;
    let mut most_files = 0;
    for n in 1..=10_000_u64 {
        let mut record = record(Epoch(n));
        // Ten keys that are overwritten again and again.
        let changed = OperatorState { watermark: EventTime(n as i64), batches: vec![(0, batch([n as i64 % 10], 0))] };
        record.added.operators.insert("sums".into(), changed);
        log.append(record).await.unwrap();
        log.settled("sink", Epoch(n));
        if n % 100 == 0 {
            let files = all_files(&store).await.len();
            most_files = most_files.max(files);
            assert!(files < 500, "{files} files after {n} epochs");
        }
    }
    assert!(most_files > 20);
    assert!(log.outbox().epochs("sink", Epoch(0)).len() <= 17);
    drop(log);
    // Compaction has lost nothing.
    let (_, recovered) = open(&store).await;
    let mut found = state_of(&recovered.unwrap());
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_changes_are_compacted_beside_the_appends() {
    const LIVE: i64 = 200_000;
    let store = memory();
    let (mut log, _) = open(&store).await;
    // Values that do not compress, 1.6 MB, all written anew again and again.
    let value = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    let mut most = 0;
    for n in 1..=120_u64 {
        let mut record = record(Epoch(n));
        let keys = (0..LIVE / 10).map(|key| value((n as i64 % 10) * (LIVE / 10) + key));
        let changed = OperatorState { watermark: EventTime(n as i64), batches: vec![(0, batch(keys, 0))] };
        record.added.operators.insert("sums".into(), changed);
        log.append(record).await.unwrap();
        log.settled("sink", Epoch(n));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        most = most.max(bytes_in(&store, "state").await);
    }
    drop(log);
    let (_, recovered) = open(&store).await;
    let mut found = state_of(&recovered.unwrap());
    found.sort_unstable();
    found.dedup();
    let mut expected: Vec<i64> = (0..LIVE).map(value).collect();
    expected.sort_unstable();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected);
    let live = LIVE as u64 * 8;
    assert!(most > live && most < 4 * live, "{most} bytes for {live} of live state");
}
