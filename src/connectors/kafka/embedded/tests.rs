//! The log itself: what is appended is read, whatever breaks off in between.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::appender::Appender;
use super::batch::Batch;
use super::block::NewRecord;
use super::broker::Broker;
use super::cursor::{Cursor, Step};
use super::frame::SinkMarker;
use super::topic::Topic;
use super::{PARTITIONS, segment};
use crate::connectors::ConnectorError;
use crate::connectors::kafka::records::Fetched;

const SINK: &str = "pipeline/table";

fn marker(epoch: u64) -> SinkMarker {
    SinkMarker { sink: SINK.into(), log: "log".into(), run: 1, epoch }
}

/// Records `numbers` as text, a second apart and each in the partition that its number says.
fn batch(numbers: std::ops::Range<i64>) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        let value = number.to_string();
        let record = NewRecord { timestamp: number * 1000, key: None, value: value.as_bytes(), headers: &[] };
        batch.push(number as usize % PARTITIONS, &record);
    }
    batch
}

fn open(folder: &Path) -> Appender {
    Appender::open(folder, "t").unwrap()
}

/// All records of a partition from `next` on.
fn read_from(topic: &Arc<Topic>, partition: usize, next: i64) -> Vec<String> {
    let mut cursor = Cursor::new(Arc::clone(topic), partition, next);
    let (extent, mut found) = (topic.extent(), vec![]);
    while cursor.step(&extent).unwrap() == Step::Record {
        let record = cursor.record().unwrap();
        assert_eq!(record.offset, next + found.len() as i64);
        found.push(String::from_utf8(record.value().to_vec()).unwrap());
    }
    assert_eq!(cursor.next(), extent.next[partition]);
    found
}

/// All records, as numbers in their order.
fn read(topic: &Arc<Topic>) -> Vec<i64> {
    let first = topic.extent().first();
    let all = (0..PARTITIONS).flat_map(|partition| read_from(topic, partition, first[partition]));
    let mut all: Vec<i64> = all.map(|value| value.parse().unwrap()).collect();
    all.sort_unstable();
    all
}

fn numbers(end: i64) -> Vec<i64> {
    (0..end).collect()
}

/// A topic of three frames, each an epoch of ten records; where each frame begins, and the end.
fn three_frames() -> (TempDir, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let mut appender = open(folder.path());
    let mut places = vec![appender.topic().extent().length];
    for epoch in 1..=3 {
        appender.append(&batch(epoch * 10 - 10..epoch * 10), Some(&marker(epoch as u64))).unwrap();
        places.push(appender.topic().extent().length);
    }
    (folder, places)
}

#[test]
fn what_is_appended_is_there_after_another_opening() {
    let (folder, _) = three_frames();
    for _ in 0..2 {
        let appender = open(folder.path());
        assert_eq!(read(appender.topic()), numbers(30));
        assert_eq!(appender.marker(SINK), Some(&marker(3)));
        assert_eq!(appender.topic().extent().next, [10, 10, 10]);
        assert_eq!(appender.topic().extent().records(), 30);
    }
    let appender = open(folder.path());
    assert_eq!(read_from(appender.topic(), 1, 8), ["25", "28"], "from within a frame");
    assert_eq!(read_from(appender.topic(), 1, 10), Vec::<String>::new());
}

#[test]
fn a_write_that_broke_off_at_any_byte_is_cut_off() {
    let (folder, places) = three_frames();
    let path = segment::path(&folder.path().join("t"), 0);
    let whole = std::fs::read(&path).unwrap();
    let [.., start, end] = places[..] else { panic!("three frames") };
    for length in start..end {
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        let mut appender = open(folder.path());
        assert_eq!(read(appender.topic()), numbers(20), "cut at {length}");
        assert_eq!(appender.marker(SINK), Some(&marker(2)));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), start);
        // Delivered again, it is there once.
        appender.append(&batch(20..30), Some(&marker(3))).unwrap();
        assert_eq!(read(appender.topic()), numbers(30));
    }
}

#[test]
fn a_last_write_of_which_any_byte_did_not_reach_the_disk_is_cut_off() {
    let (folder, places) = three_frames();
    let path = segment::path(&folder.path().join("t"), 0);
    let whole = std::fs::read(&path).unwrap();
    let [.., start, end] = places[..] else { panic!("three frames") };
    for at in start..end {
        let mut torn = whole.clone();
        torn[at as usize] ^= 1;
        std::fs::write(&path, torn).unwrap();
        let appender = open(folder.path());
        assert_eq!((read(appender.topic()), appender.marker(SINK)), (numbers(20), Some(&marker(2))), "byte {at}");
    }
}

#[test]
fn damage_before_the_last_frame_is_no_write_that_broke_off() {
    let (folder, places) = three_frames();
    let path = segment::path(&folder.path().join("t"), 0);
    let whole = std::fs::read(&path).unwrap();
    for at in [places[1], places[1] + 50, places[2] - 1] {
        let mut damaged = whole.clone();
        damaged[at as usize] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = Appender::open(folder.path(), "t").unwrap_err();
        assert!(matches!(error, ConnectorError::Mismatch { .. }));
        assert_eq!(
            error.to_string(),
            format!(
                "{}: this segment of the embedded Kafka is damaged at byte {}: put it back from a backup, or move the \
                 topic's folder away and go on without its records (--accept-lost-input)",
                path.display(),
                places[1]
            )
        );
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing was cut off");
    }
    let mut damaged = whole.clone();
    damaged[12] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = Appender::open(folder.path(), "t").unwrap_err().to_string();
    assert!(error.contains("has a header with a wrong checksum"), "{error}");
}

#[test]
fn a_look_from_outside_changes_nothing_and_leaves_out_what_is_half_written() {
    let (folder, places) = three_frames();
    assert!(Topic::read_only(folder.path(), "another").unwrap().is_none());
    let path = segment::path(&folder.path().join("t"), 0);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(places[3] - 1).unwrap();
    let topic = Arc::new(Topic::read_only(folder.path(), "t").unwrap().unwrap());
    assert_eq!(read(&topic), numbers(20));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), places[3] - 1);
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let (folder, places) = three_frames();
    let mut appender = open(folder.path());
    // As a disk that was full in the midst of a frame leaves the file.
    let path = segment::path(&folder.path().join("t"), 0);
    appender.spoil(b"half a frame");
    appender.append(&batch(30..40), None).unwrap();
    assert_eq!(read(appender.topic()), numbers(40));
    drop(appender);
    assert!(std::fs::metadata(&path).unwrap().len() > places[3]);
    assert_eq!(read(open(folder.path()).topic()), numbers(40));
}

/// Frames of 100 records of 200 bytes each, until there are `segments` segments.
fn fill(appender: &mut Appender, segments: u64) {
    let value = [b'v'; 200];
    while appender.topic().extent().newest() + 1 < segments {
        let mut batch = Batch::default();
        for number in 0..100 {
            batch.push(number % PARTITIONS, &NewRecord { timestamp: 0, key: None, value: &value, headers: &[] });
        }
        appender.append(&batch, None).unwrap();
    }
}

#[test]
fn segments_are_rolled_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut appender = open(folder.path());
    appender.keep(1 << 10);
    appender.keep(300 << 10);
    appender.append(&batch(0..1), Some(&marker(7))).unwrap();
    fill(&mut appender, 3);
    let topic = Arc::clone(appender.topic());
    assert_eq!(topic.extent().first(), [0; PARTITIONS], "nothing is deleted yet");
    let mut reading = Cursor::new(Arc::clone(&topic), 0, 0);
    assert_eq!(reading.step(&topic.extent()).unwrap(), Step::Record);
    fill(&mut appender, 12);
    let extent = topic.extent();
    let on_disk: Vec<u64> = segment::list(&topic.folder, false).unwrap();
    assert_eq!(on_disk, extent.segments.iter().map(|segment| segment.number).collect::<Vec<_>>());
    assert!(extent.first().iter().all(|first| *first > 0) && extent.bytes() < 400 << 10, "{extent:?}");
    for partition in 0..PARTITIONS {
        let first = extent.first()[partition];
        assert_eq!(read_from(&topic, partition, first).len() as i64, extent.next[partition] - first);
        let mut early = Cursor::new(Arc::clone(&topic), partition, first - 1);
        assert_eq!(early.step(&extent).unwrap(), Step::Gone);
        let mut late = Cursor::new(Arc::clone(&topic), partition, extent.next[partition] + 1);
        assert_eq!(late.step(&extent).unwrap(), Step::Gone);
    }
    // The segment in which it reads is deleted and still open; the one after it is gone.
    let mut rest = 0;
    while reading.step(&extent).unwrap() == Step::Record {
        reading.record().unwrap();
        rest += 1;
    }
    assert!(rest > 0 && reading.next() == rest, "{rest}");
    assert_eq!(reading.step(&extent).unwrap(), Step::Gone);
    drop(appender);
    let appender = open(folder.path());
    assert_eq!(appender.topic().extent().first(), extent.first());
    assert_eq!(appender.topic().extent().next, extent.next);
    assert_eq!(appender.marker(SINK), Some(&marker(7)), "of a segment that is gone");
}

#[test]
fn a_segment_that_was_never_finished_is_taken_away_and_a_missing_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut appender = open(folder.path());
    appender.keep(1 << 20);
    fill(&mut appender, 4);
    let unfinished = appender.topic().folder.join("new.tmp");
    std::fs::write(&unfinished, "half").unwrap();
    drop(appender);
    let appender = open(folder.path());
    assert!(!unfinished.exists());
    std::fs::remove_file(segment::path(&appender.topic().folder, 2)).unwrap();
    let mut cursor = Cursor::new(Arc::clone(appender.topic()), 0, 0);
    let mut outcome = Ok(Step::Record);
    while matches!(outcome, Ok(Step::Record)) {
        outcome = cursor.step(&appender.topic().extent());
        if matches!(outcome, Ok(Step::Record)) {
            cursor.record().unwrap();
        }
    }
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("2.log: this segment of the embedded Kafka is missing: put it back"), "{error}");
    let error = Appender::open(folder.path(), "t").unwrap_err().to_string();
    assert!(error.contains("2.log: this segment of the embedded Kafka is missing, and there are segments"), "{error}");
}

#[test]
fn a_time_is_found() {
    let (folder, _) = three_frames();
    let appender = open(folder.path());
    let (topic, extent) = (appender.topic(), appender.topic().extent());
    let find = |partition, millis| Cursor::new(Arc::clone(topic), partition, 0).find_time(&extent, millis).unwrap();
    assert_eq!((find(0, -5), find(0, 0), find(0, 1)), (Some(0), Some(0), Some(1)));
    assert_eq!((find(2, 20_000), find(2, 20_001), find(2, 29_000), find(2, 29_001)), (Some(6), Some(7), Some(9), None));
}

#[test]
fn one_process_at_a_time_writes_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let broker = Broker::open(place.path()).unwrap();
    assert!(Arc::ptr_eq(&broker, &Broker::open(&place.path().join(".")).unwrap()), "within a process it is shared");
    let topic = broker.topic("t").unwrap();
    assert!(Arc::ptr_eq(&topic, &broker.topic("t").unwrap()));
    assert_eq!(broker.names().unwrap(), ["t"]);
    let shown = place.path().display();
    assert_eq!(
        broker.topic("../t").unwrap_err().to_string(),
        format!("{shown}/kafka: '../t' cannot be the name of a topic")
    );
    let id = broker.id.clone();
    drop((topic, broker));
    let lock = std::fs::File::open(place.path().join("kafka/@lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(
        Broker::open(place.path()).unwrap_err().to_string(),
        format!(
            "embedded Kafka in {shown}/kafka: process {} has it open, and one process at a time can: stop that one, give \
             this one a data folder of its own with --data-dir, or let both use a real Kafka",
            std::process::id()
        )
    );
    drop(lock);
    assert_eq!(Broker::open(place.path()).unwrap().id, id);
}
