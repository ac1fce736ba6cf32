//! The binary at work, asked from another process as `acequia query` asks: what a version of a table in SQLite holds and
//! what is not in it yet are together the state at one epoch, through crashes, for many who ask at once.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use acequia::history::live::{LiveError, LiveKind, LiveRows, LiveTables, Marker, RemoteLive, RunFile, Since};
use acequia::time::{Epoch, Incarnation, LogId};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};
use tempfile::TempDir;

use crate::pipeline::{Pipeline, acequia};

/// A pipeline over made-up numbers, and its files.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("acequia-live-").tempdir().unwrap();
        let sql = format!(
            "CREATE TABLE numbers (n BIGINT, ts TIMESTAMP GENERATED ALWAYS AS (to_timestamp_millis(n)),
                 WATERMARK FOR ts AS ts - INTERVAL '1 second')
             WITH (connector = 'datagen', rows_per_second = '1000', splits = '3', 'fields.n.kind' = 'sequence');
             CREATE TABLE kept (n BIGINT) WITH (connector = 'sqlite', path = '{place}/kept.sqlite', create = 'true');
             INSERT INTO kept SELECT n FROM numbers;
             CREATE TABLE sums (third BIGINT, c BIGINT, s BIGINT)
             WITH (connector = 'sqlite', path = '{place}/sums.sqlite', create = 'true');
             INSERT INTO sums SELECT third, c, s FROM (
                 SELECT tumble(INTERVAL '3 seconds'), n % 3 AS third, count(*) AS c, sum(n) AS s
                 FROM numbers GROUP BY tumble(INTERVAL '3 seconds'), n % 3) WHERE c > 0;
             CREATE TABLE totals (third BIGINT NOT NULL, c BIGINT, PRIMARY KEY (third))
             WITH (connector = 'sqlite', path = '{place}/totals.sqlite', create = 'true');
             INSERT INTO totals SELECT n % 3, count(*) FROM numbers GROUP BY n % 3;
             CREATE TABLE newest (third BIGINT, c BIGINT, PRIMARY KEY (third))
             WITH (connector = 'redis', url = 'embedded', key = 'newest:{{third}}', emit_early = '50 ms');
             INSERT INTO newest
             SELECT n % 3, count(*) FROM numbers GROUP BY tumble(INTERVAL '3 seconds'), n % 3;",
            place = folder.path().display(),
        );
        std::fs::create_dir(folder.path().join("queries")).unwrap();
        std::fs::write(folder.path().join("queries/all.sql"), sql).unwrap();
        Place { folder }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self) -> Command {
        let mut command = acequia();
        command.arg("run").arg(self.folder.path().join("queries")).args(["--name", "live", "--no-page"]);
        command.arg("--data-dir").arg(self.data_dir()).args([
            "--http",
            "127.0.0.1:0",
            "--checkpoint-interval",
            "500ms",
        ]);
        command
    }

    fn live(&self) -> RemoteLive {
        RemoteLive::new("live", &self.data_dir())
    }

    /// A version of a table: the rows, and the marker beside them.
    async fn version<const N: usize>(&self, table: &str, columns: [&str; N]) -> (Vec<[i64; N]>, Option<Marker>) {
        let path = self.folder.path().join(format!("{table}.sqlite"));
        if !path.exists() {
            return (vec![], None);
        }
        let options = SqliteConnectOptions::new().filename(&path).busy_timeout(Duration::from_secs(20)).read_only(true);
        let mut client: SqliteConnection = options.connect().await.unwrap();
        let mut transaction = client.begin().await.unwrap();
        let marker: Result<Option<(String, i64)>, _> =
            sqlx::query_as("SELECT log, epoch FROM _acequia_epochs WHERE sink = $1 AND epoch > 0")
                .bind(table)
                .fetch_optional(&mut *transaction)
                .await;
        // The tables may not be there yet.
        let Ok(marker) = marker else { return (vec![], None) };
        let select = format!("SELECT {} FROM {table}", columns.join(", "));
        let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(&mut *transaction).await.unwrap();
        let marker = marker.map(|(log, epoch)| Marker {
            log: LogId(log),
            incarnation: Incarnation::default(),
            epoch: Epoch(epoch as u64),
        });
        (rows.iter().map(|row| std::array::from_fn(|column| row.get(column))).collect(), marker)
    }

    /// The rows of a version and those that it lacks.
    async fn whole<const N: usize>(&self, table: &str, columns: [&str; N]) -> Vec<[i64; N]> {
        let mut pauses = (0..20).map(|attempt| Duration::from_millis(20 * attempt));
        loop {
            tokio::time::sleep(pauses.next().expect("it is settled again and again")).await;
            let (mut rows, marker) = self.version(table, columns).await;
            match self.live().rows(table, Since::Version(marker)).await {
                Ok(live) => {
                    rows.extend(numbers(&live, columns));
                    return rows;
                }
                // As one does who reads it at a version.
                Err(LiveError::Settled { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Each of three splits goes on at its own pace: of its numbers all are there up to some point, once in the one table
    /// and once in the sums of the other. Returns how many that are in the one.
    async fn is_consistent(&self) -> usize {
        let mut raw: Vec<i64> = self.whole("kept", ["n"]).await.into_iter().map(|[n]| n).collect();
        raw.sort_unstable();
        for third in 0..3 {
            let split = raw.iter().filter(|n| *n % 3 == third).copied();
            let wrong = split.zip((0..).map(|row| 3 * row + third)).find(|(found, expected)| found != expected);
            assert_eq!(wrong, None, "of the numbers with {third} over");
        }
        let mut thirds = [(0, 0); 3];
        for [third, count, sum] in self.whole("sums", ["third", "c", "s"]).await {
            let third = &mut thirds[third as usize];
            *third = (third.0 + count, third.1 + sum);
        }
        for (third, (count, sum)) in (0..).zip(thirds) {
            let expected: i64 = (0..count).map(|row| 3 * row + third).sum();
            assert_eq!(sum, expected, "{count} numbers with {third} over have another sum");
        }
        raw.len()
    }

    async fn refusal(&self, table: &str) -> String {
        self.live().rows(table, Since::Destination).await.unwrap_err().to_string()
    }
}

/// Columns of numbers.
fn numbers<const N: usize>(rows: &LiveRows, columns: [&str; N]) -> Vec<[i64; N]> {
    let of_batch = |batch: &RecordBatch| {
        let columns = columns.map(|name| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone());
        (0..batch.num_rows()).map(|row| columns.each_ref().map(|column| column.value(row))).collect::<Vec<_>>()
    };
    rows.batches.iter().flat_map(of_batch).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_live_are_the_state_at_one_epoch_through_crashes() {
    let place = Place::new();
    let file = RunFile::path(&place.data_dir());
    assert_eq!(
        place.refusal("kept").await,
        format!(
            "no pipeline is running: there is no {}. Live tables show what a running pipeline holds: start it with \
             'acequia run', or say with --data-dir where it keeps its files",
            file.display()
        )
    );
    let mut rows = 0;
    for crash in 0..3 {
        let mut pipeline = Pipeline::start(place.command());
        pipeline.until("tasks, parallelism");
        for _ in 0..4 {
            let now = place.is_consistent().await;
            assert!(now > rows, "{now} rows, {rows} before");
            rows = now;
        }
        if crash < 2 {
            let address = RunFile::read(&place.data_dir()).unwrap().unwrap().console.unwrap();
            pipeline.kill();
            assert_eq!(
                place.refusal("kept").await,
                format!(
                    "pipeline live is not running: {} says that it listens at {address}, and nobody does; it was \
                     killed. Start it with 'acequia run'",
                    file.display()
                )
            );
            continue;
        }
        many_at_once(&place).await;
        keyed_tables(&place).await;
        what_it_says(&place).await;
        pipeline.signal("-TERM");
        assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
        assert!(!file.exists(), "the run's file goes with the run");
    }
    let (kept, _) = place.version("kept", ["n"]).await;
    let distinct: std::collections::BTreeSet<[i64; 1]> = kept.iter().copied().collect();
    assert_eq!(kept.len(), distinct.len(), "looks have delivered nothing");
}

/// Those who ask at once get the same epochs.
async fn many_at_once(place: &Place) {
    let asked = (0..40).map(|_| async { place.live().rows("sums", Since::Destination).await.unwrap().epoch.unwrap() });
    let epochs: std::collections::BTreeSet<Epoch> = futures::future::join_all(asked).await.into_iter().collect();
    assert!(epochs.len() < 20, "{} epochs for 40 who ask at once", epochs.len());
}

/// Where a destination keeps the newest of each key, that is what is shown.
async fn keyed_tables(place: &Place) {
    let names = place.live().names().await.unwrap();
    let kinds: Vec<(&str, LiveKind)> = names.iter().map(|table| (table.name.as_str(), table.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("kept", LiveKind::Added),
            ("sums", LiveKind::Added),
            ("totals", LiveKind::Newest),
            ("newest", LiveKind::Newest)
        ]
    );
    for table in ["totals", "newest"] {
        let columns = &names.iter().find(|known| known.name == table).unwrap().columns;
        let deadline = Instant::now() + Duration::from_secs(20);
        let rows = loop {
            let rows = place.live().rows(table, Since::Destination).await.unwrap();
            assert_eq!((rows.epoch, &rows.columns), (None, columns));
            let mut rows = numbers(&rows, ["third", "c"]);
            if rows.len() == 3 {
                rows.sort_unstable();
                break rows;
            }
            assert!(Instant::now() < deadline, "{table}: {rows:?}");
        };
        assert!(rows.iter().zip(0..).all(|(row, third)| row[0] == third && row[1] > 0), "{table}: {rows:?}");
    }
}

/// What is told to who asks for something that is not there.
async fn what_it_says(place: &Place) {
    assert_eq!(
        place.refusal("sum").await,
        "there is no live table sum: the running pipeline writes kept, sums, totals, newest"
    );
    let told = place.live().rows("kept", Since::Version(None)).await.unwrap_err();
    assert!(matches!(&told, LiveError::Settled { table, settled } if table == "kept" && settled.0 > 0), "{told}");
    let other = RemoteLive::new("other", &place.data_dir()).names().await.unwrap_err().to_string();
    let file = RunFile::path(&place.data_dir());
    assert_eq!(other, format!("{} is of pipeline live, and this is other: --name says which", file.display()));
    // As if this pipeline had been killed, and another one had its port.
    let theirs = tempfile::tempdir().unwrap();
    let console = RunFile::read(&place.data_dir()).unwrap().unwrap().console;
    let _stale = RunFile::write("other", console, theirs.path()).unwrap();
    let told = RemoteLive::new("other", theirs.path()).names().await.unwrap_err().to_string();
    let address = console.unwrap();
    assert_eq!(
        told,
        format!(
            "pipeline other is not running: at {address}, where it listened, pipeline live answers now. Start it with \
             'acequia run'"
        )
    );
}

#[tokio::test]
async fn a_pipeline_without_a_console_cannot_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let _own = RunFile::write("quiet", None, folder.path()).unwrap();
    assert_eq!(
        RemoteLive::new("quiet", folder.path()).names().await.unwrap_err().to_string(),
        format!(
            "pipeline quiet (process {}) runs without a console, by which it would be asked: run it without --no-http",
            std::process::id()
        )
    );
    std::fs::write(RunFile::path(folder.path()), "half a").unwrap();
    let told = RemoteLive::new("quiet", folder.path()).names().await.unwrap_err().to_string();
    let expected =
        format!("{}, by which a running pipeline is found, cannot be read: ", RunFile::path(folder.path()).display());
    assert!(told.starts_with(&expected), "{told}");
}
