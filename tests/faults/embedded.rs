//! The Kafka in the data folder under kills: what a generator makes goes into a topic, and out of it into SQLite and
//! another topic. No server is needed.

use std::process::Command;
use std::time::{Duration, Instant};

use acequia::faults::POINTS;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::disk::SmallDisk;
use crate::pipeline::{Pipeline, acequia};

/// A folder and its data.
struct Place {
    folder: TempDir,
    rows: i64,
}

impl Place {
    /// A pipeline that makes so many rows.
    fn new(rows: i64, per_second: u32) -> Place {
        let folder = tempfile::Builder::new().prefix("acequia-embedded-").tempdir().unwrap();
        let queries = folder.path().join("queries");
        std::fs::create_dir(&queries).unwrap();
        // The smaller the retention, the smaller the segments: those of the second topic are rolled, and none is deleted.
        let sql = format!(
            "CREATE TABLE numbers (n BIGINT) WITH (connector = 'datagen', rows_per_second = '{per_second}',
                 'fields.n.kind' = 'sequence', 'fields.n.end' = '{last}');
             CREATE TABLE topic (n BIGINT) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'numbers');
             CREATE TABLE doubled (n BIGINT, twice TEXT) WITH (connector = 'kafka', bootstrap_servers = 'embedded',
                 topic = 'doubled', embedded_retention = '2MB');
             CREATE TABLE kept (n BIGINT) WITH (connector = 'sqlite', path = '{place}/kept.sqlite', create = 'true');
             INSERT INTO topic SELECT n FROM numbers;
             INSERT INTO doubled SELECT n, repeat(CAST(2 * n AS TEXT), 20) FROM topic;
             INSERT INTO kept SELECT n FROM topic;",
            last = rows - 1,
            place = folder.path().display(),
        );
        std::fs::write(queries.join("all.sql"), sql).unwrap();
        Place { folder, rows }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = acequia();
        command.arg(name).arg(self.folder.path().join("queries"));
        command.arg("--data-dir").arg(self.folder.path().join("data")).args(["--name", "embedded"]);
        command
    }

    fn run(&self) -> Command {
        let mut command = self.command("run");
        command.args(["--no-http", "--checkpoint-interval", "100ms"]);
        command
    }

    /// How many rows there are, how many different ones, and the largest.
    async fn kept(&self) -> (i64, i64, i64) {
        let path = self.folder.path().join("kept.sqlite");
        if !path.exists() {
            return (0, 0, -1);
        }
        let mut client = SqliteConnection::connect(&format!("sqlite://{}?mode=ro", path.display())).await.unwrap();
        let counted = sqlx::query_as("SELECT count(*), count(DISTINCT n), coalesce(max(n), -1) FROM kept");
        // The table may not be there yet.
        counted.fetch_one(&mut client).await.unwrap_or((0, 0, -1))
    }

    /// What the audit says, which finds nothing wrong.
    fn audit(&self) -> String {
        let audit = self.command("audit").output().unwrap();
        let said = String::from_utf8_lossy(&audit.stdout) + String::from_utf8_lossy(&audit.stderr);
        assert_eq!(audit.status.code(), Some(0), "{said}");
        said.into_owned()
    }

    /// Runs on until all rows are where they must be, and holds every destination against the checkpoints.
    async fn finish(&self) {
        let mut last = Pipeline::start(self.run());
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.kept().await.2 < self.rows - 1 {
            assert!(Instant::now() < deadline && !last.has_ended(), "{:?}\n{}", self.kept().await, last.said());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        last.signal("-TERM");
        assert_eq!(last.exit_code(), Some(0), "{}", last.said());
        assert_eq!(self.kept().await, (self.rows, self.rows, self.rows - 1), "{}", last.said());
        let said = self.audit();
        for sink in ["topic", "doubled", "kept"] {
            let line = said.lines().find(|line| line.split_whitespace().next() == Some(sink));
            let line = line.unwrap_or_else(|| panic!("no {sink} in\n{said}"));
            assert!(line.contains("complete, no row twice") && line.contains(&self.rows.to_string()), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_lose_nothing_of_a_topic_and_bring_nothing_twice() {
    let place = Place::new(8000, 600);
    let mut cut = 0;
    for kill in 0..20_u64 {
        let mut pipeline = Pipeline::start(place.run());
        pipeline.until(" INFO running ");
        tokio::time::sleep(Duration::from_millis(100 + kill * 37 % 600)).await;
        pipeline.kill();
        let said = pipeline.said();
        cut += usize::from(said.contains("of a write that was broken off"));
        assert!(!said.contains("ERROR"), "kill {kill}:\n{said}");
    }
    println!("{cut} torn tails, {:?} after 20 kills", place.kept().await);
    // From outside, while the topics are being written.
    let mut pipeline = Pipeline::start(place.run());
    pipeline.until(" INFO running ");
    place.audit();
    pipeline.kill();
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let place = Place::new(6000, 1000);
    let kafka = place.folder.path().join("data/kafka");
    let disk = SmallDisk::mount(&kafka, "size=16m");
    let mut pipeline = Pipeline::start(place.run());
    for _ in 0..2 {
        let kept = place.kept().await.0;
        let deadline = Instant::now() + Duration::from_secs(60);
        while place.kept().await.0 == kept {
            assert!(Instant::now() < deadline && !pipeline.has_ended(), "{}", pipeline.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        disk.fill();
        let line = pipeline.until(&format!("waiting for embedded Kafka in {}", kafka.display()));
        assert!(line.contains("the disk is full; it goes on as soon as there is room"), "{line}");
        disk.make_room();
        pipeline.until(&format!("embedded Kafka in {} is back", kafka.display()));
    }
    // Once more it is full, and then the process is gone, too.
    disk.fill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    pipeline.kill();
    disk.make_room();
    place.finish().await;
}

/// The points of `tests/faults/crash_points.rs` that only the embedded log comes to.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_of_the_log_loses_nothing() {
    let points = POINTS.iter().filter(|point| point.starts_with("sink.kafka.embedded."));
    for point in points {
        let place = Place::new(6000, 2000);
        for arming in [(*point).to_owned(), format!("{point}:2")] {
            let mut command = place.run();
            command.env("ACEQUIA_CRASH_AT", &arming);
            let mut pipeline = Pipeline::start(command);
            assert_eq!(pipeline.exit_code(), None, "{arming}:\n{}", pipeline.said());
            assert!(pipeline.said().contains(&format!("crash point {point}")), "{arming}:\n{}", pipeline.said());
        }
        place.finish().await;
    }
}
