//! PostgreSQL behind a bad network, killed, deaf, and without rights: each row once all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use acequia::connectors::delivery::{EpochSink, OpenSink};
use acequia::connectors::{ConnectorError, SinkFactory};
use acequia::faults::{Bug, plant};
use acequia::time::Epoch;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::postgres::{Database, database};
use super::proxy::{Proxy, Way};
use super::{Server, batch, factory, open_run, run};

fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("name", Arc::new(StringArray::from_iter_values(ids.map(|id| format!("n{id}"))))),
    ])
}

fn table(url: &str, more: &[(&str, &str)]) -> Arc<dyn SinkFactory> {
    let mut options = vec![("url", url), ("create", "true")];
    options.extend(more);
    factory("postgres", "t", &rows(0..1).schema(), &[], &options)
}

async fn epochs(
    factory: &Arc<dyn SinkFactory>,
    number: u64,
    resumed: u64,
) -> Result<(Box<dyn EpochSink>, Option<Epoch>), ConnectorError> {
    match open_run(factory, &rows(0..1).schema(), run(number, resumed)).await? {
        OpenSink::PerEpoch { sink, settled } => Ok((sink, settled)),
        OpenSink::AtOnce(_) => panic!("a table without a key takes whole epochs"),
    }
}

async fn deliver(sink: &mut Box<dyn EpochSink>, number: i64) -> Epoch {
    let within = Duration::from_secs(60);
    let rows = [rows(10 * number..10 * number + 10)];
    let delivered = tokio::time::timeout(within, sink.deliver(Epoch(number as u64), &rows)).await;
    delivered.expect("it hangs").unwrap()
}

async fn ids(client: &mut PgConnection) -> Vec<i64> {
    let found: Vec<(i64,)> = sqlx::query_as("SELECT id FROM t ORDER BY id").fetch_all(client).await.unwrap();
    found.into_iter().map(|(id,)| id).collect()
}

/// A database behind a proxy, and the URL that leads through it.
async fn behind_proxy() -> (Database, Proxy, String) {
    let database = database().await;
    let (server, name) = database.address.split_once('/').unwrap();
    let proxy = Proxy::to(server);
    let url = format!("postgres://postgres@{}/{name}", proxy.address());
    (database, proxy, url)
}

#[tokio::test]
async fn a_connection_cut_anywhere_loses_nothing_and_doubles_nothing() {
    let (database, proxy, url) = behind_proxy().await;
    let (mut sink, _) = epochs(&table(&url, &[]), 1, 0).await.unwrap();
    let mut number = 0;
    for needle in ["FOR UPDATE", "COPY", "PGCOPY", "UPDATE _acequia.epochs", "COMMIT"] {
        for swallow in [false, true] {
            // Statements with values are sent in words only once a connection.
            proxy.cut();
            match swallow {
                true => proxy.swallow_answer(needle),
                false => proxy.cut_before(needle),
            }
            number += 1;
            assert_eq!(deliver(&mut sink, number).await, Epoch(number as u64));
            number += 1;
            assert_eq!(deliver(&mut sink, number).await, Epoch(number as u64));
        }
    }
    assert_eq!(proxy.sprung(), 10);
    assert_eq!(ids(&mut database.client().await).await, (10..10 * number + 10).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_answer_that_never_comes_is_not_waited_for_for_ever() {
    let (database, proxy, url) = behind_proxy().await;
    let (mut sink, _) = epochs(&table(&url, &[("timeout", "1 second")]), 1, 0).await.unwrap();
    deliver(&mut sink, 1).await;
    for (number, needle) in [(2, "COMMIT"), (3, "PGCOPY")] {
        proxy.stall_after(needle);
        let began = Instant::now();
        let resuming = async {
            while proxy.sprung() < number as u64 - 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(1500)).await;
            proxy.resume();
        };
        let (settled, ()) = tokio::join!(deliver(&mut sink, number), resuming);
        assert_eq!(settled, Epoch(number as u64));
        assert!(began.elapsed() >= Duration::from_secs(1));
    }
    // One direction is enough to be deaf.
    proxy.stall_one(Way::ToClient);
    let resuming = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        proxy.resume();
    };
    assert_eq!(tokio::join!(deliver(&mut sink, 4), resuming).0, Epoch(4));
    assert_eq!(ids(&mut database.client().await).await, (10..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_session_that_nobody_speaks_for_does_not_keep_the_marker() {
    let database = database().await;
    let factory = table(&database.url, &[]);
    let (mut sink, _) = epochs(&factory, 1, 0).await.unwrap();
    deliver(&mut sink, 1).await;
    let mut client = database.client().await;
    let (name,): (String,) =
        sqlx::query_as("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'acequia test run 1 %' AND datname = current_database()")
            .fetch_one(&mut client)
            .await
            .unwrap();
    // As the server sees a machine that vanished in the middle of an epoch.
    let lost = async || {
        let mut lost = database.client().await;
        lost.execute(AssertSqlSafe(format!("SET application_name = '{name}'").as_str())).await.unwrap();
        lost.execute("BEGIN; SELECT epoch FROM _acequia.epochs FOR UPDATE").await.unwrap();
        lost
    };
    let held = lost().await;
    assert_eq!(deliver(&mut sink, 2).await, Epoch(2));
    drop(held);
    let _held = lost().await;
    let opening = tokio::time::timeout(Duration::from_secs(30), epochs(&factory, 2, 2)).await;
    assert_eq!(opening.expect("it hangs").unwrap().1, Some(Epoch(2)));
}

#[tokio::test]
async fn a_server_killed_again_and_again_has_each_row_once() {
    let server = Server::new("postgres.sh");
    let url = server.start(&[]);
    let (mut sink, _) = epochs(&table(&url, &[]), 1, 0).await.unwrap();
    let writing = tokio::spawn(async move {
        let began = Instant::now();
        let mut number = 0;
        while began.elapsed() < Duration::from_secs(8) {
            number += 1;
            assert_eq!(deliver(&mut sink, number).await, Epoch(number as u64));
        }
        number
    });
    for pause in [300, 700, 500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        server.kill();
        server.start(&[]);
    }
    let last = tokio::time::timeout(Duration::from_secs(60), writing).await.unwrap().unwrap();
    assert!(last > 10, "{last}");
    let mut client = PgConnection::connect(&url).await.unwrap();
    assert_eq!(ids(&mut client).await, (10..10 * last + 10).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_epoch_of_200_megabytes_goes_through_in_pieces() {
    let database = database().await;
    let long = "x".repeat(10_000);
    let piece = batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..200)) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec![long.as_str(); 200]))),
    ]);
    let (mut sink, _) = epochs(&table(&database.url, &[]), 1, 0).await.unwrap();
    let memory = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let before = memory();
    let rows = vec![piece; 100];
    let began = Instant::now();
    let mut most = 0;
    let delivering = sink.deliver(Epoch(1), &rows);
    tokio::pin!(delivering);
    loop {
        tokio::select! {
            settled = &mut delivering => { assert_eq!(settled.unwrap(), Epoch(1)); break; }
            () = tokio::time::sleep(Duration::from_millis(20)) => most = most.max(memory()),
        }
    }
    eprintln!("200 MB in {:.1} s, {} MB of memory more", began.elapsed().as_secs_f64(), most.saturating_sub(before));
    // Other tests run in this process as well.
    assert!(most < before + 150, "{before} MB before, {most} MB");
    let (count, bytes): (i64, i64) = sqlx::query_as("SELECT count(*), sum(length(name)) FROM t")
        .fetch_one(&mut database.client().await)
        .await
        .unwrap();
    assert_eq!((count, bytes), (20_000, 200_000_000));
}

#[tokio::test]
async fn missing_rights_come_with_the_statements_that_give_them() {
    let database = database().await;
    let name = database.address.split_once('/').unwrap().1;
    database.client().await.execute(AssertSqlSafe(
        format!("CREATE ROLE writer_{name} LOGIN; CREATE TABLE t (id BIGINT, name TEXT); GRANT SELECT, INSERT ON t TO writer_{name}").as_str(),
    ))
    .await
    .unwrap();
    let url = format!("postgres://writer_{name}@{}", database.address);
    let refused = epochs(&table(&url, &[]), 1, 0).await.map(|_| ()).unwrap_err().to_string();
    let way_out = format!(
        "Markers and refused rows are kept in schema _acequia: GRANT CREATE ON DATABASE \"{name}\" TO \"writer_{name}\", so \
         that it is made; if it is there: GRANT USAGE ON SCHEMA _acequia TO \"writer_{name}\"; GRANT SELECT, INSERT, UPDATE \
         ON ALL TABLES IN SCHEMA _acequia TO \"writer_{name}\". Only 'delivery' = 'at_least_once' with 'on_error' = 'fail' \
         or 'skip' does without"
    );
    let words = format!("permission denied for database {name} (SQLSTATE 42501)");
    assert_eq!(refused, format!("PostgreSQL table t at {}: {words}. {way_out}", database.address));
    // The schema is there, made by somebody else.
    epochs(&table(&database.url, &[]), 1, 0).await.unwrap();
    let refused = epochs(&table(&url, &[]), 2, 0).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("permission denied for schema _acequia (SQLSTATE 42501). Markers"), "{refused}");
    let mut admin = database.client().await;
    admin.execute(AssertSqlSafe(
        format!("GRANT USAGE ON SCHEMA _acequia TO \"writer_{name}\"; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA _acequia TO \"writer_{name}\"").as_str(),
    ))
    .await
    .unwrap();
    let (mut sink, _) = epochs(&table(&url, &[]), 2, 0).await.unwrap();
    assert_eq!(deliver(&mut sink, 1).await, Epoch(1));
}

#[tokio::test]
async fn a_character_that_it_cannot_store_is_a_dead_letter() {
    let database = database().await;
    let (mut sink, _) = epochs(&table(&database.url, &[]), 1, 0).await.unwrap();
    let rows = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["a", "nul\0", "c"]))),
    ]);
    sink.deliver(Epoch(1), &[rows]).await.unwrap();
    let mut client = database.client().await;
    assert_eq!(ids(&mut client).await, [1, 3]);
    let letter: (String, String) = sqlx::query_as("SELECT error, refused_row::text FROM _acequia.dead_letters")
        .fetch_one(&mut client)
        .await
        .unwrap();
    assert_eq!(letter.0, "column name holds the character U+0000, which PostgreSQL cannot store");
    assert_eq!(letter.1, "{\"id\":2,\"name\":\"nul\\u0000\"}");
    assert_eq!(sink.refused(), 1);
}

/// The marker that a run finds which opens while its predecessor commits epoch 2.
async fn opened_during_a_commit() -> Option<Epoch> {
    let database = database().await;
    let factory = table(&database.url, &[]);
    let (mut sink, _) = epochs(&factory, 1, 0).await.unwrap();
    deliver(&mut sink, 1).await;
    let mut predecessor = database.client().await;
    predecessor.execute("BEGIN; UPDATE _acequia.epochs SET epoch = 2").await.unwrap();
    let committing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        predecessor.execute("COMMIT").await.unwrap();
    };
    tokio::join!(epochs(&factory, 2, 2), committing).0.unwrap().1
}

#[tokio::test]
async fn the_marker_is_read_after_the_fence() {
    assert_eq!(opened_during_a_commit().await, Some(Epoch(2)));
    plant(Some(Bug::MarkerBeforeFence));
    let found = opened_during_a_commit().await;
    plant(None);
    assert_eq!(found, Some(Epoch(1)), "the planted mistake goes unnoticed");
}

/// What the table has when the connection is cut as an epoch's rows are to be sent.
async fn cut_before_the_rows() -> usize {
    let (database, proxy, url) = behind_proxy().await;
    let (mut sink, _) = epochs(&table(&url, &[]), 1, 0).await.unwrap();
    proxy.cut_before("COPY");
    deliver(&mut sink, 1).await;
    assert_eq!(proxy.sprung(), 1);
    ids(&mut database.client().await).await.len()
}

#[tokio::test]
async fn the_marker_is_not_there_before_the_rows() {
    assert_eq!(cut_before_the_rows().await, 10);
    plant(Some(Bug::MarkerBeforeData));
    let found = cut_before_the_rows().await;
    plant(None);
    assert_eq!(found, 0, "the planted mistake goes unnoticed");
}
