//! Delta tables and what they do not hold yet, in one query: the state at the end of one epoch, whatever is committed,
//! crashed or compacted meanwhile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use acequia::history::live::RemoteLive;
use acequia::history::{History, Limits, Paths};
use acequia::program::Program;
use acequia::sql::Variables;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use crate::pipeline::{Pipeline, acequia};

/// What was made up: `n` from 0 on, without a gap.
const RAW: &str = "SELECT count(*) AS a, count(DISTINCT n) AS b, coalesce(max(n) + 1, 0) AS c
    FROM (SELECT n FROM kept UNION ALL SELECT n FROM live.kept)";

/// What is committed, and what is not.
const PARTS: &str = "SELECT coalesce(sum(kept), 0) AS a, coalesce(sum(live), 0) AS b, 0 AS c
    FROM (SELECT 1 AS kept, 0 AS live FROM kept UNION ALL SELECT 0 AS kept, 1 AS live FROM live.kept)";

/// Closed windows and open ones.
const SUMS: &str = "SELECT coalesce(sum(c), 0) AS a, coalesce(sum(s), 0) AS b, coalesce(sum(even), 0) AS c
    FROM (SELECT c, s, even FROM sums UNION ALL SELECT c, s, even FROM live.sums)";

fn sql(folder: &Path) -> String {
    let delta = "connector = 'delta', commit_interval = '400 ms'";
    let place = folder.display();
    format!(
        "CREATE TABLE numbers (n BIGINT, ts TIMESTAMP GENERATED ALWAYS AS (to_timestamp_millis(n)),
             WATERMARK FOR ts AS ts - INTERVAL '1 second')
         WITH (connector = 'datagen', rows_per_second = '4000', 'fields.n.kind' = 'sequence');
         CREATE TABLE kept (n BIGINT) WITH ({delta}, path = '{place}/kept');
         INSERT INTO kept SELECT n FROM numbers;
         CREATE TABLE sums (w TIMESTAMP, k BIGINT, c BIGINT, s BIGINT, even BIGINT) WITH ({delta}, path = '{place}/sums');
         INSERT INTO sums
         SELECT w['start'], k, c, s, even FROM (
             SELECT tumble(INTERVAL '700 ms') AS w, n % 7 AS k, count(*) AS c, sum(n) AS s,
                    count(*) FILTER (WHERE n % 2 = 0) AS even
             FROM numbers GROUP BY w, n % 7 HAVING count(*) > 0);"
    )
}

fn command(folder: &Path) -> Command {
    let mut command = acequia();
    command.arg("run").arg(folder.join("queries")).args(["--name", "history", "--no-page"]);
    command.arg("--data-dir").arg(folder.join("data")).args([
        "--http",
        "127.0.0.1:0",
        "--checkpoint-interval",
        "150ms",
    ]);
    command
}

fn history(folder: &Path) -> History {
    let (queries, data): (PathBuf, PathBuf) = (folder.join("queries"), folder.join("data"));
    let program =
        Program::read(&queries, &Variables::default()).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let limits = Limits { memory: 256 << 20, spill: None, parallelism: Some(1) };
    let live = Arc::new(RemoteLive::new("history", &data));
    History::of(&program, &data, "history", limits).unwrap().with_live(live)
}

/// The only row, three numbers.
async fn row(history: &History, sql: &str) -> [i64; 3] {
    let session = history.session(Paths::Refused).await.unwrap();
    let plan = session.plan(sql).await.unwrap();
    let rows: Vec<RecordBatch> = session.run(plan).await.unwrap().try_collect().await.unwrap();
    let batch = rows.iter().find(|batch| batch.num_rows() > 0).unwrap();
    std::array::from_fn(|column| batch.column(column).as_primitive::<Int64Type>().value(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_union_of_history_and_live_is_the_state_at_one_epoch() {
    let folder = tempfile::Builder::new().prefix("acequia-live-").tempdir().unwrap();
    std::fs::create_dir(folder.path().join("queries")).unwrap();
    std::fs::write(folder.path().join("queries/all.sql"), sql(folder.path())).unwrap();
    let (mut rows, mut counted) = (0, 0);
    for _ in 0..2 {
        let mut pipeline = Pipeline::start(command(folder.path()));
        pipeline.until("tasks, parallelism");
        let history = history(folder.path());
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut looks, mut committed, mut waiting) = (0, 0, 0);
        while looks < 6 || committed == 0 || waiting == 0 {
            assert!(Instant::now() < deadline, "{committed} committed and {waiting} waiting:\n{}", pipeline.said());
            looks += 1;
            let [count, distinct, numbers] = row(&history, RAW).await;
            assert_eq!((distinct, numbers), (count, count), "each number once, and none left out");
            assert!(count > rows, "{count} rows after {rows}");
            let [count_of_windows, sum, even] = row(&history, SUMS).await;
            assert_eq!(sum, count_of_windows * (count_of_windows - 1) / 2, "of {count_of_windows} numbers");
            assert_eq!(even, (count_of_windows + 1) / 2, "of {count_of_windows} numbers");
            assert!(count_of_windows > counted, "{count_of_windows} rows in windows after {counted}");
            (rows, counted) = (count, count_of_windows);
            // Both parts must have been looked at.
            let [kept, live, _] = row(&history, PARTS).await;
            assert!(kept + live > rows, "{kept} and {live} rows after {rows}");
            (committed, waiting) = (committed.max(kept), waiting.max(live));
            rows = kept + live;
        }
        pipeline.kill();
    }
}
