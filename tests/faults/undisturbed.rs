//! Without a fault everything is right, and a judge that is given something wrong says so.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::ledger::Ledger;
use crate::trial::{Servers, Trial, assert_clean};

const RECORDS: u64 = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_finds_what_is_lost_twice_or_wrong_and_nothing_else() {
    let servers = Servers::shared();
    let trial = Trial::new(&servers, Ledger { seed: 1, partitions: 3 }).await;
    let feed = trial.feed(0..RECORDS, 100_000);
    feed.all().await;
    assert_clean("undisturbed", &trial.finish(RECORDS).await);

    let name = &trial.name;
    let mut warehouse = PgConnection::connect(&servers.postgres_url()).await.unwrap();
    let spoil = format!(
        "DELETE FROM {name}.events WHERE id IN (SELECT id FROM {name}.events ORDER BY id LIMIT 2);
         INSERT INTO {name}.late_events SELECT * FROM {name}.late_events LIMIT 3;
         UPDATE {name}.windows SET total = total + 1 WHERE kind = 'cart';
         UPDATE {name}.dead_letters SET value = value || '.' WHERE value LIKE 'record % is no JSON';"
    );
    warehouse.execute(AssertSqlSafe(spoil)).await.unwrap();
    std::fs::remove_file(trial.place().join("lines.jsonl")).unwrap();
    std::fs::write(trial.place().join("lines.jsonl"), "").unwrap();
    let totals = format!("sqlite://{}", trial.place().join("totals.sqlite").display());
    let mut totals = SqliteConnection::connect(&totals).await.unwrap();
    totals.execute("INSERT INTO totals SELECT * FROM totals").await.unwrap();

    let found: Vec<(&str, [i64; 3])> =
        trial.verdicts(RECORDS).await.iter().map(|v| (v.destination, [v.lost, v.twice, v.wrong])).collect();
    let count = |destination: &str| {
        let (_, counts) = found.iter().find(|(name, _)| *name == destination).unwrap();
        *counts
    };
    assert_eq!(count("Kafka topic"), [0, 0, 0]);
    assert_eq!(count("Redis"), [0, 0, 0]);
    assert_eq!(count("Parquet"), [0, 0, 0]);
    assert_eq!(count("Delta table"), [0, 0, 0]);
    assert_eq!(count("PostgreSQL rows"), [2, 0, 0]);
    assert_eq!(count("PostgreSQL late rows"), [0, 3, 0]);
    let [lost, twice, wrong] = count("PostgreSQL windows");
    assert!((lost, twice) == (0, 0) && wrong > 1, "{found:?}");
    let [lost, twice, wrong] = count("PostgreSQL bad records");
    assert!(lost == wrong && twice == 0 && wrong > 1, "{found:?}");
    let [lost, twice, wrong] = count("JSON lines");
    assert!(lost > 1000 && (twice, wrong) == (0, 0), "{found:?}");
    let [lost, twice, wrong] = count("SQLite");
    assert!(twice > 50 && (lost, wrong) == (0, 0), "{found:?}");
}
