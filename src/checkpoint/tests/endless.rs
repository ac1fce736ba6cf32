//! A run without an end: what it keeps stays in proportion to what it knows.

use arrow::array::{Decimal128Array, TimestampNanosecondArray};

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
    // These do not compress, and each is there twice, with its changes beside it.
    assert!(most > live && most < 6 * live, "{most} bytes for {live} of live state");
}

const KEYS: i64 = 100_000;

/// Sums by key, as an aggregation keeps them, of `keys`.
fn sums(keys: impl Iterator<Item = i64> + Clone, epoch: i64) -> RecordBatch {
    let mixed = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    let sum = |key: i64| i128::from(mixed(key ^ epoch).unsigned_abs() % 10_000_000);
    let columns: [(&str, arrow::array::ArrayRef); 4] = [
        ("customer_id", Arc::new(Int64Array::from_iter_values(keys.clone().map(|key| mixed(key) >> 24)))),
        ("window_end", Arc::new(TimestampNanosecondArray::from_iter_values(keys.clone().map(|_| 1_760_000_000 << 30)))),
        ("count", Arc::new(Int64Array::from_iter_values(keys.clone().map(|key| 1 + (mixed(key) ^ epoch) % 100)))),
        ("total", Arc::new(Decimal128Array::from_iter_values(keys.map(sum)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Keeps the newest row of each key.
struct Newest;

impl Compactor for Newest {
    fn compact(&self, _: &str, state: &OperatorState) -> datafusion::common::Result<Vec<(usize, RecordBatch)>> {
        let batches: Vec<_> = state.batches.iter().map(|(_, batch)| batch.clone()).collect();
        let all = arrow::compute::concat_batches(&batches[0].schema(), &batches)?;
        let mut newest = BTreeMap::new();
        for (row, key) in all.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
            newest.insert(*key, row as u64);
        }
        let rows = arrow::array::UInt64Array::from_iter_values(newest.into_values());
        Ok(vec![(0, arrow::compute::take_record_batch(&all, &rows)?)])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steady_changes_leave_less_than_twice_the_live_state() {
    const CHANGED: i64 = 4_000;
    let store = memory();
    let (mut log, recovered) = CheckpointLog::open(Arc::clone(&store), options()).await.unwrap();
    assert!(recovered.is_none());
    log.begin(&Takeover::default(), identities(), Arc::new(Newest));
    let live = sums(0..KEYS, 0).get_array_memory_size() as f64;
    let (mut most, mut sum, mut settled, mut bases, mut compactions) = (0.0_f64, 0.0, 0.0_f64, vec![], 0);
    const EPOCHS: i64 = 200;
    for n in 1..=EPOCHS {
        let changed = match n {
            1 => sums(0..KEYS, n),
            _ => sums((0..CHANGED).map(|key| (n * CHANGED + key) % KEYS), n),
        };
        let mut record = record(Epoch(n as u64));
        record.outbox.clear();
        record.added.operators.get_mut("sums").unwrap().batches = vec![(0, changed)];
        log.append(record).await.unwrap();
        let files = store.list("state").await.unwrap();
        let size = files.iter().map(|(_, bytes)| *bytes as f64).sum::<f64>() / live;
        let now: Vec<String> = files.into_iter().map(|(path, _)| path).filter(|path| path.ends_with(".base")).collect();
        if now.len() == 1 && now != bases && n > 1 {
            (bases, compactions) = (now, compactions + 1);
            settled = settled.max(size);
        }
        (most, sum) = (most.max(size), sum + size);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mean = sum / EPOCHS as f64;
    println!(
        "live {live} bytes; after {compactions} compactions at most {settled:.2} times that, on average {mean:.2}, at the \
         peak {most:.2}"
    );
    assert!(settled < 2.0 && mean < 2.0, "{settled:.2}, {mean:.2}");
    assert!((4..=60).contains(&compactions), "{compactions} compactions");
    drop(log);
    let (_, recovered) = CheckpointLog::open(store, options()).await.unwrap();
    let state = &recovered.unwrap().state.operators["sums"];
    let found = Newest.compact("sums", state).unwrap().pop().unwrap().1;
    let expected =
        (0..KEYS).map(|key| (key, (1..=EPOCHS).rev().find(|n| (key - n * CHANGED).rem_euclid(KEYS) < CHANGED)));
    let of_key = expected.map(|(key, epoch)| (0, sums(key..key + 1, epoch.unwrap_or(1)))).collect();
    let expected = Newest.compact("sums", &OperatorState { watermark: EventTime(0), batches: of_key }).unwrap();
    assert!(found == expected[0].1);
}
