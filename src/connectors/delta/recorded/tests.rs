//! Random histories, written in random commits and put together in random order, against what was recorded.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, Field, Int64Type};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::written::{Sent, Written};
use super::*;
use crate::time::EventTime;

impl Written {
    fn factory(&self, reach: Reach) -> RecordedFactory {
        let columns = PlaceColumns { topic: None, partition: Some("partition".into()), offset: "offset".into() };
        let recording = Recording {
            table: "events".into(),
            history: "events_history".into(),
            place: self.place.clone(),
            columns,
            topic: "topic".into(),
            event_time: Some("ts".into()),
        };
        RecordedFactory { recording, reach, opened: Mutex::default() }
    }
}

fn context(instance: usize, instances: usize, batch_size: usize, positions: &[(&str, i64)]) -> SourceContext {
    let fields = vec![
        Field::new("ts", TIME_TYPE, true),
        Field::new("value", DataType::Utf8, true),
        Field::new("day", DataType::Int64, true),
    ];
    let positions = positions.iter().map(|(split, next)| ((*split).to_owned(), *next)).collect();
    let alone = SourceContext::alone(Arc::new(Schema::new(fields)), batch_size);
    SourceContext { table: "events".into(), instance, instances, bounded: true, positions, ..alone }
}

/// What came of each split, by all instances.
#[derive(Default)]
struct Seen {
    rows: BTreeMap<String, Vec<Sent>>,
    ended: BTreeSet<String>,
    /// Every event time with its split's number, as they came, of the first instance.
    times: Vec<(u32, i64)>,
}

async fn read(factory: &RecordedFactory, contexts: Vec<SourceContext>) -> Result<Seen, ConnectorError> {
    let mut seen = Seen::default();
    factory.instances(&contexts[0], contexts.len()).await?;
    for context in contexts {
        let (instance, batch_size) = (context.instance, context.batch_size);
        let mut source = factory.open(context).await?;
        let mut names: Vec<String> = vec![];
        loop {
            match source.next().await? {
                SourceEvent::Split(index, name, _) => {
                    assert_eq!(index.0 as usize, names.len());
                    seen.rows.insert(name.clone(), vec![]);
                    names.push(name);
                }
                SourceEvent::Rows(batch, runs, offsets) => {
                    assert!((1..=batch_size).contains(&batch.num_rows()));
                    let [run] = runs.as_slice() else { panic!("{runs:?}") };
                    let name = &names[run.split.0 as usize];
                    let partition = name.trim_start_matches("topic[").trim_end_matches(']').parse().unwrap();
                    let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
                    let (values, days) = (batch.column(1).as_string::<i32>(), batch.column(2));
                    let days = days.as_primitive::<Int64Type>();
                    for (row, offset) in offsets.into_iter().enumerate() {
                        let (time, value) = (times.value(row) / 1000, values.value(row).to_owned());
                        assert_eq!(days.value(row), time / 1000, "also where it is in the folder's name");
                        seen.rows.get_mut(name).unwrap().push(Sent { partition, offset, time, value });
                        if instance == 0 {
                            seen.times.push((run.split.0, time));
                        }
                    }
                }
                SourceEvent::SplitEnd(split) => {
                    seen.ended.insert(names[split.0 as usize].clone());
                }
                SourceEvent::End => break,
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    Ok(seen)
}

/// Rows of some partitions in the order in which a sink got them: each partition's in order, with gaps, the partitions
/// interleaved in stretches; times about in order.
fn arrival(random: &mut ChaCha8Rng) -> Vec<Sent> {
    let partitions = random.random_range(1..=4);
    let mut next: Vec<i64> = (0..partitions).map(|_| random.random_range(0..50)).collect();
    let mut rows = vec![];
    let count = random.random_range(1..400);
    while rows.len() < count {
        let partition = random.random_range(0..partitions);
        for _ in 0..random.random_range(1..20) {
            let offset = next[partition];
            next[partition] += if random.random_bool(0.2) { random.random_range(2..5) } else { 1 };
            let time = rows.len() as i64 * 10 + random.random_range(0..300);
            let value = format!("{partition}/{offset}");
            rows.push(Sent { partition: partition as i32, offset, time, value });
        }
    }
    rows
}

/// The rows in pieces as commits would have them, then some neighbours put together in another order, as compaction
/// may.
fn files(rows: &[Sent], random: &mut ChaCha8Rng) -> Vec<Vec<Sent>> {
    let mut pieces: Vec<Vec<Sent>> = vec![];
    let mut rest = rows;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.random_range(1..=rest.len().min(60)));
        pieces.push(piece.to_vec());
        rest = after;
    }
    let mut files = vec![];
    while !pieces.is_empty() {
        let mut together: Vec<Vec<Sent>> = pieces.drain(..random.random_range(1..=pieces.len().min(4))).collect();
        together.shuffle(random);
        files.push(together.concat());
    }
    files.shuffle(random);
    files
}

fn by_split(rows: &[Sent]) -> BTreeMap<String, Vec<Sent>> {
    let mut splits: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
    for row in rows {
        splits.entry(format!("topic[{}]", row.partition)).or_default().push(row.clone());
    }
    splits
}

#[tokio::test]
async fn every_split_comes_back_in_order_however_its_rows_lie() {
    for seed in 0..24 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let rows = arrival(&mut random);
        let mut history = Written::new(random.random_bool(0.5)).await;
        let mut files = files(&rows, &mut random);
        if random.random_bool(0.3) {
            // Recorded again, as by a run with --fresh.
            files.push(rows[..rows.len() / 2].to_vec());
        }
        for file in files {
            history.commit(&file).await;
        }
        // Small, so that runs cross chunks and chunks are let go.
        let reach = Reach { chunk_rows: random.random_range(1..50), kept_bytes: random.random_range(0..20_000) };
        let instances = random.random_range(1..=3);
        let size = random.random_range(1..60);
        let contexts = (0..instances).map(|instance| context(instance, instances, size, &[])).collect();
        let seen = read(&history.factory(reach), contexts).await.unwrap();
        let expected = by_split(&rows);
        assert_eq!(seen.rows, expected, "seed {seed}");
        assert_eq!(seen.ended, expected.keys().cloned().collect(), "seed {seed}");

        // Anew, from somewhere in each split.
        let mut rest = expected.clone();
        let mut positions = vec![];
        for (split, rows) in &mut rest {
            let from = random.random_range(0..=rows.len());
            let next = rows.get(from).map_or(i64::MAX, |row| row.offset);
            positions.push((split.as_str().to_owned(), next));
            rows.drain(..from);
        }
        let positions: Vec<(&str, i64)> = positions.iter().map(|(split, next)| (split.as_str(), *next)).collect();
        let seen = read(&history.factory(reach), vec![context(0, 1, size, &positions)]).await.unwrap();
        assert_eq!(seen.rows, rest, "seed {seed}, going on");
    }
}

#[tokio::test]
async fn splits_go_on_together_by_event_time() {
    let mut history = Written::new(false).await;
    let row = |partition, offset, time| Sent { partition, offset, time, value: String::new() };
    // One partition has all its rows in the first commit, the other in the second.
    history.commit(&(0..1000).map(|n| row(0, n, 10 * n)).collect::<Vec<_>>()).await;
    history.commit(&(0..100).map(|n| row(1, n, 100 * n)).collect::<Vec<_>>()).await;
    let seen = read(&history.factory(Reach::default()), vec![context(0, 1, 8, &[])]).await.unwrap();
    assert_eq!(seen.times.len(), 1100);
    let mut reached = [EventTime::MIN.0; 2];
    for (split, time) in seen.times {
        reached[split as usize] = time;
        let apart = reached[0].abs_diff(reached[1]);
        assert!(reached.contains(&EventTime::MIN.0) || apart <= 1000, "{apart} apart at {time}");
    }
}

#[tokio::test]
async fn two_different_rows_at_one_place_are_refused() {
    let mut history = Written::new(false).await;
    let row = |value: &str| Sent { partition: 3, offset: 7, time: 1, value: value.into() };
    history.commit(&[row("a")]).await;
    history.commit(&[row("b")]).await;
    let read = read(&history.factory(Reach::default()), vec![context(0, 1, 8, &[])]).await;
    let error = read.err().unwrap().to_string();
    let words = "two different rows are recorded for topic[3] offset 7: was the topic deleted and made anew? Then what \
                 came after has to be recorded in another table";
    assert!(error.ends_with(words), "{error}");
}

#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = Written::new(false).await;
    let mut factory = history.factory(Reach::default());
    factory.recording.place = DeltaPlace::folder(folder.path().join("none")).unwrap();
    let error = factory.instances(&context(0, 1, 8, &[]), 1).await.unwrap_err().to_string();
    let none = format!(
        "Delta table {}/none: nothing of events has been recorded there yet: 'acequia run' makes the table and commits to \
         it every few seconds",
        folder.path().display()
    );
    assert_eq!(error, none);

    history.commit(&[Sent { partition: 0, offset: 1, time: 1, value: String::new() }]).await;
    let mut factory = history.factory(Reach::default());
    factory.recording.columns.offset = "ofset".into();
    let error = factory.instances(&context(0, 1, 8, &[]), 1).await.unwrap_err().to_string();
    assert!(error.ends_with("has no column 'ofset' at version 1: did you mean 'offset'?"), "{error}");

    let mut wanted = context(0, 1, 8, &[]);
    wanted.schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Utf8, true)]));
    let error = history.factory(Reach::default()).open(wanted).await.err().unwrap().to_string();
    let words = "has no column 'price' at version 1: it has day, offset, partition, ts, value";
    assert!(error.ends_with(words), "{error}");

    let mut wanted = context(0, 1, 8, &[]);
    wanted.schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]));
    let mut source = history.factory(Reach::default()).open(wanted).await.unwrap();
    let error = loop {
        if let Err(error) = source.next().await {
            break error.to_string();
        }
    };
    assert!(error.contains("column 'value' is of type Utf8 in ") && error.contains("declared Int64"), "{error}");
}
