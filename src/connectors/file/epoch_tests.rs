//! Whole epochs into files and folders: crashes, other runs, other hands, and full disks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;

use super::line_epochs::PIECE;
use super::marker::MarkerFile;
use super::tests::{open_table, sink_context, table};
use super::*;
use crate::connectors::SinkContext;
use crate::connectors::delivery::{Delivery, EpochSink, OpenSink};
use crate::faults::{Bug, plant};
use crate::time::{Incarnation, LogId};

/// A run: its number, and the epoch from which it goes on.
fn run(incarnation: u64, resumed: u64) -> Writer {
    let (log, incarnation) = (LogId("3f9a2c11-77".into()), Incarnation(incarnation));
    Writer { pipeline: "shop".into(), log, incarnation, resumed: Epoch(resumed), fresh: false }
}

fn rows(numbers: &[i32]) -> Vec<RecordBatch> {
    let words: Vec<String> = numbers.iter().map(|number| format!("word {number}")).collect();
    let columns: [(&str, ArrayRef); 2] =
        [("v", Arc::new(StringArray::from(words))), ("n", Arc::new(Int32Array::from(numbers.to_vec())))];
    vec![RecordBatch::try_from_iter(columns).unwrap()]
}

fn sink_table(path: &Path, more: &[(&str, &str)]) -> Arc<dyn SinkFactory> {
    let definition = table(&[("v", DataType::Utf8), ("n", DataType::Int32)]);
    let mut pairs = vec![("path", path.to_str().unwrap())];
    pairs.extend(more);
    open_table(&definition, &pairs).sink().unwrap()
}

fn context(writer: Writer) -> SinkContext {
    SinkContext { writer: Some(writer), ..sink_context(rows(&[])[0].schema()) }
}

type Opened = (Box<dyn EpochSink>, Option<Epoch>);

async fn try_open(factory: &Arc<dyn SinkFactory>, writer: Writer) -> Result<Opened, ConnectorError> {
    assert_eq!(factory.delivery(), Delivery::PerEpoch);
    match factory.open(context(writer)).await? {
        OpenSink::PerEpoch { sink, settled } => Ok((sink, settled)),
        OpenSink::AtOnce(_) => panic!("it should take whole epochs"),
    }
}

async fn open(factory: &Arc<dyn SinkFactory>, writer: Writer) -> Opened {
    try_open(factory, writer).await.unwrap()
}

async fn refusal(factory: &Arc<dyn SinkFactory>, writer: Writer) -> ConnectorError {
    try_open(factory, writer).await.err().unwrap()
}

/// The numbers in a file of lines, which must be whole lines.
fn numbers(path: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line: {text}");
    let number = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["v"], format!("word {}", row["n"]));
        row["n"].as_i64().unwrap() as i32
    };
    text.lines().map(number).collect()
}

fn marker_of(path: &Path) -> PathBuf {
    MarkerFile::beside(path).path().to_owned()
}

fn append(path: &Path, text: &str) {
    use std::io::Write;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn an_epoch_whose_marker_was_not_written_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/out.jsonl");
    let factory = sink_table(&path, &[]);
    let (mut sink, settled) = open(&factory, run(1, 0)).await;
    assert_eq!(settled, None);
    assert_eq!(sink.deliver(Epoch(1), &rows(&[1, 2])).await.unwrap(), Epoch(1));
    let marker = std::fs::read(marker_of(&path)).unwrap();
    assert_eq!(sink.deliver(Epoch(4), &rows(&[3, 4])).await.unwrap(), Epoch(4));
    // Again, within the same run.
    assert_eq!(sink.deliver(Epoch(4), &rows(&[3, 4])).await.unwrap(), Epoch(4));
    drop(sink);
    let whole = std::fs::read(&path).unwrap();
    let first = numbers(&path).len() / 2;
    assert_eq!(first, 2);
    let kept = whole.len() / 2;
    // The crash came before the marker, after any number of bytes of the second epoch.
    for bytes in kept..=whole.len() {
        std::fs::write(&path, &whole[..bytes]).unwrap();
        std::fs::write(marker_of(&path), &marker).unwrap();
        let (mut sink, settled) = open(&factory, run(2, 4)).await;
        assert_eq!(settled, Some(Epoch(1)));
        assert!(whole[..bytes] == std::fs::read(&path).unwrap(), "opening changes nothing that a reader has seen");
        assert_eq!(sink.deliver(Epoch(4), &rows(&[3, 4])).await.unwrap(), Epoch(4));
        assert_eq!(sink.deliver(Epoch(5), &rows(&[5])).await.unwrap(), Epoch(5));
        assert_eq!(numbers(&path), [1, 2, 3, 4, 5], "cut after {bytes} bytes");
    }
    let (_, settled) = open(&factory, run(3, 5)).await;
    assert_eq!(settled, Some(Epoch(5)));
}

#[tokio::test]
async fn a_header_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    let factory = sink_table(&path, &[]);
    for number in 1..=3 {
        let (mut sink, _) = open(&factory, run(number, number - 1)).await;
        sink.deliver(Epoch(number), &rows(&[number as i32])).await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "v,n\nword 1,1\nword 2,2\nword 3,3\n");
}

#[tokio::test]
async fn an_older_run_that_wakes_up_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (lines, parts) = (folder.path().join("out.jsonl"), folder.path().join("parts"));
    for (factory, place) in
        [(sink_table(&lines, &[]), &lines), (sink_table(&parts, &[("format", "parquet"), ("roll_rows", "1")]), &parts)]
    {
        let (mut old, _) = open(&factory, run(1, 0)).await;
        old.deliver(Epoch(1), &rows(&[1])).await.unwrap();
        let (mut new, settled) = open(&factory, run(2, 1)).await;
        assert_eq!(settled, Some(Epoch(1)));
        let fenced = format!("{}: run 2 of pipeline shop has taken over from this one, run 1", place.display());
        let error = old.deliver(Epoch(2), &rows(&[99])).await.unwrap_err();
        assert!(matches!(error, ConnectorError::Fenced { .. }));
        assert_eq!(error.to_string(), fenced);
        new.deliver(Epoch(2), &rows(&[2])).await.unwrap();
        assert!(matches!(refusal(&factory, run(1, 1)).await, ConnectorError::Fenced { .. }));
    }
    assert_eq!(numbers(&lines), [1, 2]);
    assert_eq!(
        names(&parts),
        ["part-3f9a2c11-000000001-000000001.parquet", "part-3f9a2c11-000000002-000000002.parquet"]
    );
}

#[tokio::test]
async fn rows_of_other_checkpoints_stop_the_start_unless_it_is_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let (lines, parts) = (folder.path().join("out.jsonl"), folder.path().join("parts"));
    for (factory, place) in
        [(sink_table(&lines, &[]), &lines), (sink_table(&parts, &[("format", "parquet"), ("roll_rows", "1")]), &parts)]
    {
        let (mut sink, _) = open(&factory, run(1, 0)).await;
        sink.deliver(Epoch(7), &rows(&[1])).await.unwrap();
        let other = Writer { log: LogId("other".into()), ..run(1, 0) };
        let error = refusal(&factory, other.clone()).await;
        assert!(matches!(error, ConnectorError::Mismatch { .. }));
        let begins =
            format!("{}: it was written by pipeline shop with other checkpoints (log 3f9a2c11-77", place.display());
        assert!(error.to_string().starts_with(&begins), "{error}");
        let behind = refusal(&factory, run(2, 3)).await.to_string();
        assert!(behind.contains("it has rows up to epoch 7, but this run goes on from epoch 3"), "{behind}");
        // Told to begin anew: what is there stays, and the epochs of the other log are not ours.
        let (mut sink, settled) = open(&factory, Writer { fresh: true, ..other }).await;
        assert_eq!(settled, None);
        sink.deliver(Epoch(2), &rows(&[2])).await.unwrap();
        sink.close().await.unwrap();
    }
    assert_eq!(numbers(&lines), [1, 2]);
    assert_eq!(names(&parts), ["part-3f9a2c11-000000007-000000007.parquet", "part-other-000000002-000000002.parquet"]);
}

#[tokio::test]
async fn bytes_of_somebody_else_are_neither_kept_nor_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let factory = sink_table(&path, &[]);
    let (mut sink, _) = open(&factory, run(1, 0)).await;
    sink.deliver(Epoch(1), &rows(&[1])).await.unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    append(&path, "hello\n");
    let error = sink.deliver(Epoch(2), &rows(&[2])).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Mismatch { .. }));
    let place = path.display();
    assert_eq!(
        error.to_string(),
        format!(
            "{place}: somebody else has written 6 bytes that are not of epoch 2, which goes there (byte {length}, after \
             epoch 1). Exactly once needs a file of its own: move this one away and start again, so that a new one is \
             begun, or set 'delivery' = 'at_least_once'"
        )
    );
    // What was there before is looked at, too.
    std::fs::write(&path, "x".repeat(length as usize)).unwrap();
    let error = sink.deliver(Epoch(2), &rows(&[2])).await.unwrap_err().to_string();
    assert!(error.contains("somebody else has changed what was there (byte"), "{error}");
    // The way out in the message works.
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    let (mut sink, _) = open(&factory, run(2, 1)).await;
    sink.deliver(Epoch(2), &rows(&[2])).await.unwrap();
    assert_eq!(numbers(&path), [2]);
}

#[tokio::test]
async fn an_epoch_of_several_pieces_is_completed_wherever_it_was_broken_off() {
    let folder = tempfile::tempdir().unwrap();
    let large: Vec<RecordBatch> =
        (0..18).flat_map(|batch| rows(&(batch * 8000..(batch + 1) * 8000).collect::<Vec<i32>>())).collect();
    let whole = folder.path().join("whole.csv");
    let (mut sink, _) = open(&sink_table(&whole, &[]), run(1, 0)).await;
    sink.deliver(Epoch(1), &large).await.unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    assert!(bytes.starts_with(b"v,n\nword 0,0\n") && bytes.len() > 2 * PIECE, "{}", bytes.len());
    for there in [3, PIECE - 1, PIECE, 2 * PIECE + 7, bytes.len()] {
        let path = folder.path().join(format!("{there}.csv"));
        let (mut sink, _) = open(&sink_table(&path, &[]), run(1, 0)).await;
        std::fs::write(&path, &bytes[..there]).unwrap();
        assert_eq!(sink.deliver(Epoch(1), &large).await.unwrap(), Epoch(1));
        assert!(std::fs::read(&path).unwrap() == bytes, "{there} bytes were there");
    }
    // Somebody else's, in a later piece and behind the last.
    let changed = [&bytes[..2 * PIECE], b"x"].concat();
    for foreign in [changed, [&bytes[..], b"x"].concat()] {
        let path = folder.path().join("foreign.csv");
        let (mut sink, _) = open(&sink_table(&path, &[]), run(1, 0)).await;
        std::fs::write(&path, &foreign).unwrap();
        let error = sink.deliver(Epoch(1), &large).await.unwrap_err().to_string();
        assert!(error.contains(&format!("written {} bytes that are not of epoch 1", foreign.len())), "{error}");
        assert!(std::fs::read(&path).unwrap() == foreign, "what is there stays as it is");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(marker_of(&path)).unwrap();
    }
}

#[tokio::test]
async fn a_file_may_be_rotated_truncated_or_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    std::fs::write(&path, "{\"v\":\"word 0\",\"n\":0}").unwrap();
    let factory = sink_table(&path, &[]);
    let (mut sink, _) = open(&factory, run(1, 0)).await;
    sink.deliver(Epoch(1), &rows(&[1])).await.unwrap();
    assert_eq!(numbers(&path), [0, 1]);
    let rotated = folder.path().join("out.jsonl.1");
    std::fs::rename(&path, &rotated).unwrap();
    sink.deliver(Epoch(2), &rows(&[2])).await.unwrap();
    assert_eq!((numbers(&rotated), numbers(&path)), (vec![0, 1], vec![2]));
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    sink.deliver(Epoch(3), &rows(&[3, 4, 5, 6])).await.unwrap();
    assert_eq!(numbers(&path), [3, 4, 5, 6]);
    // While no run was there.
    drop(sink);
    std::fs::remove_file(&path).unwrap();
    let (mut sink, settled) = open(&factory, run(2, 3)).await;
    assert_eq!(settled, Some(Epoch(3)));
    sink.deliver(Epoch(4), &rows(&[7])).await.unwrap();
    assert_eq!(numbers(&path), [7]);
}

#[tokio::test]
async fn overwriting_is_for_a_start_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (lines, parts) = (folder.path().join("out.jsonl"), folder.path().join("parts"));
    let of_lines = sink_table(&lines, &[("mode", "overwrite")]);
    let of_parts = sink_table(&parts, &[("format", "parquet"), ("roll_rows", "1"), ("mode", "overwrite")]);
    for factory in [&of_lines, &of_parts] {
        for (number, writer) in [
            (1, run(1, 0)),
            (2, run(2, 1)),
            (3, Writer { fresh: true, ..run(3, 0) }),
            (4, Writer { log: LogId("new".into()), ..run(1, 0) }),
        ] {
            let (mut sink, settled) = open(factory, writer).await;
            assert_eq!(settled, (number == 2).then_some(Epoch(1)));
            sink.deliver(Epoch(number), &rows(&[number as i32])).await.unwrap();
            let there = if std::ptr::eq(factory, &of_lines) { numbers(&lines).len() } else { names(&parts).len() };
            assert_eq!(there, if number == 2 { 2 } else { 1 }, "after run {number}");
        }
    }
}

#[tokio::test]
async fn pipes_devices_and_at_least_once_get_lines_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    assert_eq!(sink_table(Path::new("/dev/null"), &[("format", "json")]).delivery(), Delivery::AtOnce);
    let exactly = sink_table(&path, &[]);
    let (mut sink, _) = open(&exactly, run(1, 0)).await;
    sink.deliver(Epoch(1), &rows(&[1])).await.unwrap();
    let factory = sink_table(&path, &[("delivery", "at_least_once")]);
    assert_eq!(factory.delivery(), Delivery::AtOnce);
    let mut sink = factory.open(context(run(2, 1))).await.unwrap().at_once().unwrap();
    sink.write(rows(&[2]).remove(0)).await.unwrap();
    sink.flush().await.unwrap();
    assert_eq!(numbers(&path), [1, 2]);
    // Back again: the old marker has gone, so that these lines are not taken for somebody else's.
    let (mut sink, settled) = open(&exactly, run(3, 2)).await;
    assert_eq!(settled, None);
    sink.deliver(Epoch(3), &rows(&[3])).await.unwrap();
    assert_eq!(numbers(&path), [1, 2, 3]);
}

/// What people and readers see of a folder: the names that are not hidden.
fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

fn numbers_in(folder: &Path) -> Vec<i32> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;
    let mut numbers = vec![];
    for name in names(folder) {
        let file = std::fs::File::open(folder.join(name)).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100).unwrap();
        for batch in reader {
            numbers.extend(batch.unwrap().column(1).as_primitive::<Int32Type>().values().iter());
        }
    }
    numbers
}

#[tokio::test(start_paused = true)]
async fn parts_gather_epochs_and_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = [("format", "parquet"), ("roll_rows", "3"), ("roll_interval", "10 seconds")];
    let factory = sink_table(folder.path(), &pairs);
    let (mut sink, _) = open(&factory, run(1, 0)).await;
    assert_eq!(sink.settle(false).await.unwrap(), None);
    assert_eq!(sink.deliver(Epoch(1), &rows(&[1])).await.unwrap(), Epoch(0));
    assert_eq!(sink.deliver(Epoch(3), &rows(&[2])).await.unwrap(), Epoch(0));
    assert_eq!(names(folder.path()), [""; 0]);
    assert_eq!(sink.deliver(Epoch(4), &rows(&[3])).await.unwrap(), Epoch(4));
    assert_eq!(sink.deliver(Epoch(5), &rows(&[4])).await.unwrap(), Epoch(4));
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(sink.settle(false).await.unwrap(), Some(Epoch(4)));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(sink.settle(false).await.unwrap(), Some(Epoch(5)));
    assert_eq!(sink.deliver(Epoch(6), &rows(&[5])).await.unwrap(), Epoch(5));
    // A crash: what was gathered comes again, in whatever parts.
    drop(sink);
    std::fs::write(folder.path().join(".part-3f9a2c11-000000006-000000009.parquet.tmp"), "torn").unwrap();
    let (mut sink, settled) = open(&factory, run(2, 7)).await;
    assert_eq!(settled, Some(Epoch(5)));
    assert_eq!(sink.deliver(Epoch(6), &rows(&[5])).await.unwrap(), Epoch(5));
    assert_eq!(sink.deliver(Epoch(7), &rows(&[6])).await.unwrap(), Epoch(5));
    assert_eq!(sink.settle(true).await.unwrap(), Some(Epoch(7)));
    sink.close().await.unwrap();
    assert_eq!(
        names(folder.path()),
        [
            "part-3f9a2c11-000000001-000000004.parquet",
            "part-3f9a2c11-000000005-000000005.parquet",
            "part-3f9a2c11-000000006-000000007.parquet"
        ]
    );
    assert_eq!(numbers_in(folder.path()), [1, 2, 3, 4, 5, 6]);
    let hidden = std::fs::read_dir(folder.path()).unwrap().count() - 3;
    assert_eq!(hidden, 1, "only the marker");
}

#[tokio::test]
async fn the_folder_is_the_marker_and_parts_that_were_moved_away_do_not_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let factory = sink_table(folder.path(), &[("format", "parquet"), ("roll_rows", "1")]);
    let (mut sink, _) = open(&factory, run(1, 0)).await;
    sink.deliver(Epoch(1), &rows(&[1])).await.unwrap();
    let marker = std::fs::read(folder.path().join(".acequia")).unwrap();
    sink.deliver(Epoch(2), &rows(&[2])).await.unwrap();
    // The crash came between the rename and the marker; or the marker is lost as a whole.
    for lost in [false, true] {
        std::fs::write(folder.path().join(".acequia"), &marker).unwrap();
        if lost {
            std::fs::remove_file(folder.path().join(".acequia")).unwrap();
        }
        let (mut sink, settled) = open(&factory, run(2, 2)).await;
        assert_eq!(settled, Some(Epoch(2)));
        assert_eq!(sink.deliver(Epoch(2), &rows(&[2])).await.unwrap(), Epoch(2));
        assert_eq!(numbers_in(folder.path()), [1, 2]);
    }
    for name in names(folder.path()) {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    let (mut sink, settled) = open(&factory, run(3, 2)).await;
    assert_eq!(settled, Some(Epoch(2)));
    // A part of ours that we have not written.
    std::fs::write(folder.path().join("part-3f9a2c11-000000003-000000009.parquet"), "").unwrap();
    let error = sink.deliver(Epoch(3), &rows(&[3])).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Mismatch { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "{}: it holds a part up to epoch 9 that this run has not written, so that epoch 3 would be there twice. Move \
             the part away, or begin anew with --fresh",
            folder.path().display()
        )
    );
}

/// A file system of one MiB, taken away at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test mounts a tmpfs: run it as root");
        SmallDisk(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_nothing_is_torn_or_twice() {
    let disk = SmallDisk::mount();
    let ballast = disk.path("ballast");
    let thousands: Vec<i32> = (0..9000).collect();
    for (name, more) in [("out.jsonl", vec![]), ("parts", vec![("format", "parquet"), ("compression", "none")])] {
        let place = disk.path(name);
        let factory = sink_table(&place, &more);
        let (mut sink, _) = open(&factory, run(1, 0)).await;
        sink.deliver(Epoch(1), &rows(&[-1])).await.unwrap();
        sink.settle(true).await.unwrap();
        // Room for a part of it.
        let fill = std::fs::write(&ballast, vec![0; (1 << 20) - 150_000]);
        assert!(fill.is_ok(), "{fill:?}");
        let delivering = async {
            sink.deliver(Epoch(2), &rows(&thousands)).await?;
            sink.settle(true).await
        };
        let room = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let error = std::fs::write(disk.path("probe"), vec![0; 200_000]).unwrap_err();
            std::fs::remove_file(disk.path("probe")).unwrap();
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            std::fs::remove_file(&ballast).unwrap();
        };
        let (delivered, ()) = tokio::join!(delivering, room);
        delivered.unwrap();
        let there = if place.is_dir() { numbers_in(&place) } else { numbers(&place) };
        assert_eq!(there[0], -1);
        assert_eq!(&there[1..], thousands);
        if place.is_dir() { std::fs::remove_dir_all(&place).unwrap() } else { std::fs::remove_file(&place).unwrap() }
    }
    let full = waiting(Path::new("x"), "write", &std::io::ErrorKind::StorageFull.into());
    assert!(matches!(full, ConnectorError::Unavailable { .. }));
    assert_eq!(full.to_string(), "x: cannot write it: the disk is full; it goes on as soon as there is room");
}

/// What a run has delivered after a crash in the middle of a full disk, with `bug` planted in it.
async fn after_a_crash(more: &[(&str, &str)], bug: Option<Bug>) -> Vec<i32> {
    let disk = SmallDisk::mount();
    let ballast = disk.path("ballast");
    let place = disk.path("out");
    let factory = sink_table(&place, more);
    let (mut sink, _) = open(&factory, run(1, 0)).await;
    std::fs::write(&ballast, vec![0; (1 << 20) - 100_000]).unwrap();
    let numbers_wanted: Vec<i32> = (0..9000).collect();
    plant(bug);
    let delivering = async {
        sink.deliver(Epoch(1), &rows(&numbers_wanted)).await?;
        sink.settle(true).await
    };
    let crashed = tokio::time::timeout(Duration::from_millis(300), delivering).await;
    plant(None);
    assert!(bug.is_some() || crashed.is_err());
    drop(sink);
    std::fs::remove_file(&ballast).unwrap();
    let (mut sink, settled) = open(&factory, run(2, 1)).await;
    if settled.is_none() {
        sink.deliver(Epoch(1), &rows(&numbers_wanted)).await.unwrap();
        sink.settle(true).await.unwrap();
    }
    match (place.is_dir(), place.exists()) {
        (true, _) => numbers_in(&place),
        (false, true) => numbers_or_torn(&place),
        (false, false) => vec![],
    }
}

fn numbers_or_torn(path: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(path).unwrap();
    let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["n"].as_i64();
    text.lines().filter_map(number).map(|number| number as i32).collect()
}

#[tokio::test]
async fn a_marker_before_its_rows_is_noticed() {
    for more in [vec![("format", "json")], vec![("format", "parquet"), ("compression", "none")]] {
        assert_eq!(after_a_crash(&more, None).await.len(), 9000);
        assert_ne!(after_a_crash(&more, Some(Bug::MarkerBeforeData)).await.len(), 9000);
    }
}
