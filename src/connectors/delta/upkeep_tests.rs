//! The upkeep of tables whose commits are written by hand, by a clock that the test sets.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use deltalake_core::DeltaTable;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::options::UpkeepOptions;
use super::place::DeltaPlace;
use super::upkeep::Upkeep;
use crate::connectors::ConnectorError;
use crate::connectors::delivery::Writer;
use crate::time::{Epoch, EventTime, Incarnation, LogId, WallClock};

const HOUR: Duration = Duration::from_secs(3600);

/// A table of numbers in two halves.
struct Table {
    folder: TempDir,
    /// The version that comes next.
    next: u64,
    /// Nanoseconds since 1970.
    clock: Arc<AtomicI64>,
}

impl Table {
    fn new() -> Table {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("_delta_log")).unwrap();
        // Files are as old as they are: the clock is ahead.
        let now = EventTime(WallClock::system().now().0 + 8 * 24 * HOUR.as_nanos() as i64);
        let mut table = Table { folder, next: 0, clock: Arc::new(AtomicI64::new(now.0)) };
        let field = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
        let schema = json!({"type": "struct", "fields": [field("n", "long"), field("half", "string")]});
        table.commit(&[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            json!({"metaData": {
                "id": "0", "format": {"provider": "parquet", "options": {}}, "schemaString": schema.to_string(),
                "partitionColumns": ["half"], "configuration": {"acequia.log/shop/numbers": "ours"}, "createdTime": 0
            }}),
        ]);
        table
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn commit(&mut self, actions: &[Value]) {
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        fs::write(self.path(&format!("_delta_log/{:020}.json", self.next)), lines.join("\n")).unwrap();
        self.next += 1;
    }

    /// Adds numbers to a half, as a file of their own.
    fn add(&mut self, half: Option<&str>, numbers: &[i64]) -> String {
        let name = format!("{}-{}.parquet", half.unwrap_or("none"), self.next);
        let bytes = parquet(numbers);
        fs::write(self.path(&name), &bytes).unwrap();
        self.commit(&[json!({"add": {
            "path": name, "partitionValues": {"half": half}, "size": bytes.len(), "modificationTime": self.next,
            "dataChange": true, "stats": json!({"numRecords": numbers.len()}).to_string()
        }})]);
        name
    }

    /// Adds a file a number to both halves by turns, a commit each.
    fn add_numbers(&mut self, numbers: std::ops::Range<i64>) {
        for n in numbers {
            self.add(Some(["even", "odd"][n as usize % 2]), &[n]);
        }
    }

    fn pass(&self, time: Duration) {
        self.clock.fetch_add(time.as_nanos() as i64, Ordering::Relaxed);
    }

    fn upkeep(&self, options: UpkeepOptions) -> Upkeep {
        let clock = Arc::clone(&self.clock);
        let clock = WallClock::new(move || EventTime(clock.load(Ordering::Relaxed)));
        let writer = Writer {
            pipeline: "shop".into(),
            log: LogId("ours".into()),
            incarnation: Incarnation(3),
            resumed: Epoch(0),
            fresh: false,
        };
        Upkeep::new(self.place(), options, ("shop", "numbers"), Some(writer), clock)
    }

    fn place(&self) -> DeltaPlace {
        DeltaPlace::folder(self.folder.path()).unwrap()
    }

    /// The newest version; what came into the log meanwhile counts.
    async fn open(&mut self) -> DeltaTable {
        let table = self.place().open().await.unwrap().unwrap();
        self.next = table.version().unwrap() + 1;
        table
    }

    /// The numbers of each file of the newest version, file by file in the order of their first.
    async fn files(&mut self) -> Vec<Vec<i64>> {
        let table = self.open().await;
        let paths =
            table.snapshot().unwrap().log_data().iter().map(|file| file.path().into_owned()).collect::<Vec<_>>();
        let mut files: Vec<Vec<i64>> = paths.iter().map(|path| numbers(&self.path(path))).collect();
        files.sort();
        files
    }

    /// Files in a folder with this ending.
    fn count(&self, folder: &str, ending: &str) -> usize {
        let names = fs::read_dir(self.path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(ending)).count()
    }
}

/// A Parquet file of numbers.
fn parquet(numbers: &[i64]) -> Vec<u8> {
    let column = Arc::new(Int64Array::from(numbers.to_vec()));
    let batch = RecordBatch::try_from_iter_with_nullable([("n", column as _, true)]).unwrap();
    let mut writer = ArrowWriter::try_new(vec![], batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn numbers(path: &std::path::Path) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap().build().unwrap();
    let batches = reader.map(Result::unwrap);
    batches.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn options() -> UpkeepOptions {
    UpkeepOptions { retention: 6 * HOUR, compaction_interval: Duration::from_secs(60), ..UpkeepOptions::default() }
}

async fn look(upkeep: &mut Upkeep, table: &Table) -> Result<(), ConnectorError> {
    upkeep.look(table.next - 1, &CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_commits_leave_few_files_and_a_short_log() {
    let mut table = Table::new();
    let mut upkeep = table.upkeep(options());
    let mut most = [0; 3];
    for round in 0..20 {
        table.add_numbers(round * 100..(round + 1) * 100);
        table.pass(HOUR);
        look(&mut upkeep, &table).await.unwrap();
        let live = table.open().await.snapshot().unwrap().log_data().num_files();
        let found = [live, table.count("", ".parquet"), table.count("_delta_log", "")];
        most = std::array::from_fn(|index| most[index].max(found[index]));
    }
    let [live, kept, log] = most;
    assert!(live <= 2 * 16, "{live} files at a time");
    assert!(kept <= live + 8 * 110, "{kept} files in the folder");
    assert!(log <= 250, "{log} files in the log");
    println!("at most {live} files at a time, {kept} in the folder, {log} in the log");
    let files = table.files().await;
    assert!(files.iter().all(|file| file.is_sorted()), "rows are not in their order");
    let mut all = files.concat();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..2000));
}

/// Ten files of a half, each of one number, become one.
#[tokio::test(flavor = "multi_thread")]
async fn small_files_become_one_when_there_are_ten() {
    let mut table = Table::new();
    let mut upkeep = table.upkeep(options());
    for n in 0..9 {
        table.add(Some("even"), &[n]);
        table.add(None, &[100 - n]);
    }
    look(&mut upkeep, &table).await.unwrap();
    assert_eq!(table.files().await.len(), 18, "put together too early");
    table.add(Some("even"), &[9]);
    table.add(None, &[0]);
    // Not so soon after the last time.
    look(&mut upkeep, &table).await.unwrap();
    assert_eq!(table.files().await.len(), 20);
    table.pass(Duration::from_secs(60));
    look(&mut upkeep, &table).await.unwrap();
    // In the order in which they were written.
    let (none, even) = ([100, 99, 98, 97, 96, 95, 94, 93, 92, 0].to_vec(), Vec::from_iter(0..10));
    assert_eq!(table.files().await, [even, none]);
    let state = table.open().await;
    let state = state.snapshot().unwrap();
    for file in state.log_data().iter() {
        assert_eq!(file.num_records(), Some(10));
        assert!(["even", "none"].contains(&file.partition_values_map()["half"].as_deref().unwrap_or("none")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_stays_for_as_long_as_the_retention() {
    let mut table = Table::new();
    let mut upkeep = table.upkeep(options());
    table.add_numbers(0..40);
    let before = table.next - 1;
    look(&mut upkeep, &table).await.unwrap();
    assert_eq!(table.files().await.len(), 2);
    for hours in 1..=6 {
        assert_eq!(table.count("", ".parquet"), 42, "after {hours} hours");
        // The older version is still there to be read.
        let mut older = table.open().await;
        older.load_version(before).await.unwrap();
        assert_eq!(older.snapshot().unwrap().log_data().num_files(), 40);
        table.pass(HOUR);
        look(&mut upkeep, &table).await.unwrap();
    }
    table.pass(HOUR);
    look(&mut upkeep, &table).await.unwrap();
    assert_eq!(table.count("", ".parquet"), 2, "those that were replaced stay");
    assert_eq!(table.files().await.concat().len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_never_in_the_log_is_removed_when_it_is_old() {
    let mut table = Table::new();
    let live = table.add(Some("even"), &[1]);
    let old = SystemTime::now() - 24 * HOUR;
    let orphan = |name: &str, age: SystemTime| {
        fs::write(table.path(name), parquet(&[7])).unwrap();
        fs::File::options().write(true).open(table.path(name)).unwrap().set_modified(age).unwrap();
    };
    orphan("crashed.parquet", old);
    orphan(&live, old);
    // By the clock, which is ahead, it was written a minute ago.
    let just_now = UNIX_EPOCH + Duration::from_nanos(table.clock.load(Ordering::Relaxed) as u64) - HOUR / 60;
    orphan("about-to-be-committed.parquet", just_now);
    let mut upkeep = table.upkeep(UpkeepOptions { retention: Duration::ZERO, ..options() });
    look(&mut upkeep, &table).await.unwrap();
    assert!(!table.path("crashed.parquet").exists());
    assert!(table.path("about-to-be-committed.parquet").exists());
    assert!(table.path(&live).exists(), "the log names it");
    // What this run has written itself it may commit at any time.
    table.pass(48 * HOUR);
    look(&mut upkeep, &table).await.unwrap();
    assert!(!table.path("about-to-be-committed.parquet").exists(), "it is from before this run");
    orphan("of-this-run.parquet", just_now + 2 * HOUR);
    table.pass(48 * HOUR);
    look(&mut upkeep, &table).await.unwrap();
    assert!(table.path("of-this-run.parquet").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_taken_out_is_not_put_in_again() {
    let mut table = Table::new();
    table.add_numbers(0..20);
    let mut upkeep = table.upkeep(options());
    upkeep.catch_up().await.unwrap();
    let loaded = table.open().await;
    // Another has deleted the rows of a file, after the upkeep has read the log and before it commits.
    table.commit(&[json!({"remove": {"path": "even-1.parquet", "dataChange": true, "deletionTimestamp": 0}})]);
    upkeep.compact(&loaded, &CancellationToken::new()).await.unwrap();
    assert_eq!(table.files().await.concat().len(), 19);
    assert_eq!(table.count("", ".parquet"), 20, "what was written for nothing stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_out_before_the_log_was_read_on_is_not_put_in_again() {
    let mut table = Table::new();
    table.add_numbers(0..20);
    let mut upkeep = table.upkeep(options());
    let loaded = table.open().await;
    table.commit(&[json!({"remove": {"path": "even-1.parquet", "dataChange": true, "deletionTimestamp": 0}})]);
    // As an earlier commit of the same round does: the log is known further than what was planned.
    upkeep.catch_up().await.unwrap();
    upkeep.compact(&loaded, &CancellationToken::new()).await.unwrap();
    assert_eq!(table.files().await.concat().len(), 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_fenced_leaves_the_table_alone() {
    let mut table = Table::new();
    table.add_numbers(0..20);
    table.commit(&[json!({"txn": {"appId": "acequia/shop/numbers/run", "version": 4}})]);
    let mut upkeep = table.upkeep(options());
    let fenced = look(&mut upkeep, &table).await.unwrap_err().to_string();
    assert!(fenced.ends_with(": run 4 of pipeline shop has taken over from this one, run 3"), "{fenced}");
    assert_eq!(table.files().await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_ends_the_pipeline_and_one_that_cannot_be_read_does_not() {
    let mut table = Table::new();
    table.add_numbers(0..40);
    fs::write(table.path("even-1.parquet"), "no Parquet").unwrap();
    let mut upkeep = table.upkeep(options());
    look(&mut upkeep, &table).await.unwrap();
    // What the other half can do it does.
    assert_eq!(table.open().await.snapshot().unwrap().log_data().num_files(), 21);
    let failing = upkeep.failing();
    assert!(failing.len() == 1 && failing[0].contains("even-1.parquet"), "{failing:?}");
    // It does not work for as long as it was not tried again.
    look(&mut upkeep, &table).await.unwrap();
    assert_eq!(upkeep.failing(), failing);
    fs::remove_file(table.path("even-3.parquet")).unwrap();
    fs::write(table.path("even-1.parquet"), parquet(&[0])).unwrap();
    table.pass(HOUR);
    table.add_numbers(40..41);
    let lost = look(&mut upkeep, &table).await.unwrap_err();
    assert!(matches!(lost, ConnectorError::Mismatch { .. }), "{lost}");
    let message = "its log names even-3.parquet, which is not there: put the file back from a copy, or take it out of the \
                   log, as repair() of the deltalake package does";
    assert!(lost.to_string().ends_with(message), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_log_counts_otherwise_are_not_put_together() {
    let mut table = Table::new();
    table.add_numbers(0..20);
    fs::write(table.path("odd-2.parquet"), parquet(&[1, 1])).unwrap();
    let mut upkeep = table.upkeep(options());
    look(&mut upkeep, &table).await.unwrap();
    let message = "odd-2.parquet: it has 2 rows, but the log says 1";
    assert!(upkeep.failing().concat().contains(message), "{:?}", upkeep.failing());
    fs::write(table.path("odd-2.parquet"), parquet(&[1])).unwrap();
    table.pass(HOUR);
    table.add_numbers(20..21);
    look(&mut upkeep, &table).await.unwrap();
    assert_eq!(upkeep.failing(), Vec::<String>::new());
    assert_eq!(table.files().await.len(), 2);
}
