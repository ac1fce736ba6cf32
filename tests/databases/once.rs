//! What PostgreSQL and SQLite promise alike: rows that are added come once, whatever happens between.

use std::sync::Arc;
use std::task::Poll;

use acequia::connectors::delivery::{Delivery, EpochSink, OpenSink, Writer};
use acequia::connectors::{ConnectorError, Sink, SinkFactory};
use acequia::faults::{Bug, plant};
use acequia::time::{Epoch, LogId};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

use super::postgres::{Database, database};
use super::{batch, factory, open_run, run};

/// A database of one's own.
enum Store {
    Postgres(Database),
    Sqlite(TempDir),
}

impl Store {
    async fn postgres() -> Store {
        Store::Postgres(database().await)
    }

    async fn sqlite() -> Store {
        Store::Sqlite(TempDir::new().unwrap())
    }

    fn factory(&self, name: &str, key: &[&str], more: &[(&str, &str)]) -> Arc<dyn SinkFactory> {
        let rows = rows(0..1);
        let place = match self {
            Store::Postgres(database) => ("url", database.url.clone()),
            Store::Sqlite(folder) => ("path", folder.path().join("t.sqlite").display().to_string()),
        };
        let connector = if matches!(self, Store::Postgres(_)) { "postgres" } else { "sqlite" };
        let mut options = vec![(place.0, place.1.as_str()), ("table", "t"), ("create", "true")];
        options.extend(more);
        factory(connector, name, &rows.schema(), key, &options)
    }

    /// How the table is called in messages.
    fn what(&self) -> String {
        match self {
            Store::Postgres(database) => format!("PostgreSQL table t at {}", database.address),
            Store::Sqlite(folder) => format!("SQLite table t in {}", folder.path().join("t.sqlite").display()),
        }
    }

    fn own(&self, name: &str) -> String {
        match self {
            Store::Postgres(_) => format!("_acequia.{name}"),
            Store::Sqlite(_) => format!("_acequia_{name}"),
        }
    }

    async fn run(&self, statement: &str) {
        match self {
            Store::Postgres(database) => {
                database.client().await.execute(AssertSqlSafe(statement)).await.unwrap();
            }
            Store::Sqlite(_) => {
                self.file().await.execute(AssertSqlSafe(statement)).await.unwrap();
            }
        }
    }

    async fn file(&self) -> SqliteConnection {
        let Store::Sqlite(folder) = self else { unreachable!() };
        let path = folder.path().join("t.sqlite").display().to_string();
        SqliteConnection::connect(&format!("sqlite://{path}?mode=rwc")).await.unwrap()
    }

    /// What a query of one column gives, as text.
    async fn texts(&self, query: &str) -> Vec<String> {
        let found: Vec<(String,)> = match self {
            Store::Postgres(database) => {
                let mut client: PgConnection = database.client().await;
                sqlx::query_as(AssertSqlSafe(query)).fetch_all(&mut client).await.unwrap()
            }
            Store::Sqlite(_) => sqlx::query_as(AssertSqlSafe(query)).fetch_all(&mut self.file().await).await.unwrap(),
        };
        found.into_iter().map(|(text,)| text).collect()
    }

    /// The ids in the table, in order: each once, or not.
    async fn ids(&self) -> Vec<i64> {
        let texts = self.texts("SELECT CAST(id AS TEXT) FROM t ORDER BY t.id").await;
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// `run epoch rows` of each marker.
    async fn markers(&self) -> Vec<String> {
        let table = self.own("epochs");
        let query = format!(
            "SELECT sink || ' run ' || incarnation || ' epoch ' || epoch || ' rows ' || rows FROM {table} ORDER BY sink"
        );
        self.texts(&query).await
    }
}

fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let names: Vec<String> = ids.clone().map(|id| format!("n{id}")).collect();
    batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(ids)) as ArrayRef),
        ("name", Arc::new(StringArray::from(names))),
    ])
}

/// Epoch n has the ids from 10 n to 10 n + 9, in two batches.
fn epoch(number: i64) -> [RecordBatch; 2] {
    [rows(10 * number..10 * number + 4), rows(10 * number + 4..10 * number + 10)]
}

async fn epochs(
    factory: &Arc<dyn SinkFactory>,
    run: Writer,
) -> Result<(Box<dyn EpochSink>, Option<Epoch>), ConnectorError> {
    assert_eq!(factory.delivery(), Delivery::PerEpoch);
    match open_run(factory, &rows(0..1).schema(), run).await? {
        OpenSink::PerEpoch { sink, settled } => Ok((sink, settled)),
        OpenSink::AtOnce(_) => panic!("a table without a key takes whole epochs"),
    }
}

async fn at_once(factory: &Arc<dyn SinkFactory>, run: Writer) -> Box<dyn Sink> {
    assert_eq!(factory.delivery(), Delivery::AtOnce);
    open_run(factory, &rows(0..1).schema(), run).await.unwrap().at_once().unwrap()
}

async fn deliver(sink: &mut Box<dyn EpochSink>, number: i64) -> Result<Epoch, ConnectorError> {
    sink.deliver(Epoch(number as u64), &epoch(number)).await
}

fn error<T>(outcome: Result<T, ConnectorError>) -> ConnectorError {
    match outcome {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error,
    }
}

macro_rules! on_both {
    ($($name:ident)*) => {
        mod in_postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Store::postgres().await).await })*
        }
        mod in_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Store::sqlite().await).await })*
        }
    };
}

on_both! {
    an_epoch_that_is_there_is_not_written_again
    a_delivery_broken_off_anywhere_leaves_all_or_nothing
    a_run_that_wakes_up_adds_nothing
    a_run_that_wakes_up_overwrites_nothing
    two_sinks_of_a_pipeline_have_markers_of_their_own
    rows_of_other_checkpoints_are_not_added_to
    refused_rows_become_dead_letters_once
    a_refused_row_can_stop_the_pipeline
    what_the_database_lost_is_asked_for_again
    a_marker_that_is_gone_is_said
    at_least_once_needs_no_marker
}

async fn an_epoch_that_is_there_is_not_written_again(store: Store) {
    let factory = store.factory("t", &[], &[]);
    let (mut sink, settled) = epochs(&factory, run(1, 0)).await.unwrap();
    assert_eq!(settled, None);
    assert_eq!(deliver(&mut sink, 1).await.unwrap(), Epoch(1));
    assert_eq!(deliver(&mut sink, 4).await.unwrap(), Epoch(4));
    assert_eq!(deliver(&mut sink, 4).await.unwrap(), Epoch(4));
    assert_eq!(store.markers().await, ["t run 1 epoch 4 rows 10"]);
    sink.close().await.unwrap();
    let (mut sink, settled) = epochs(&factory, run(2, 4)).await.unwrap();
    assert_eq!(settled, Some(Epoch(4)));
    assert_eq!(deliver(&mut sink, 4).await.unwrap(), Epoch(4));
    assert_eq!(deliver(&mut sink, 5).await.unwrap(), Epoch(5));
    let expected: Vec<i64> = (10..20).chain(40..60).collect();
    assert_eq!(store.ids().await, expected);
    assert_eq!(sink.refused(), 0);
}

/// Drives a future and drops it when it has waited so many times; whether it was dropped.
async fn dropped_after<T>(waits: usize, future: impl Future<Output = T>) -> bool {
    let mut future = std::pin::pin!(future);
    let mut waited = 0;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(false),
        Poll::Pending if waited == waits => Poll::Ready(true),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

async fn a_delivery_broken_off_anywhere_leaves_all_or_nothing(store: Store) {
    let factory = store.factory("t", &[], &[]);
    let mut broken = 0;
    for number in 1..=30_i64 {
        let before = Epoch(number as u64 - 1);
        let (mut sink, settled) = epochs(&factory, run(number as u64, before.0)).await.unwrap();
        assert_eq!(settled.unwrap_or_default(), before);
        // A future that is dropped is a process that dies, as far as the database sees.
        broken += usize::from(dropped_after(number as usize - 1, deliver(&mut sink, number)).await);
        drop(sink);
        let (mut sink, settled) = epochs(&factory, run(number as u64, number as u64)).await.unwrap();
        assert!([before, before.next()].contains(&settled.unwrap_or_default()));
        assert_eq!(deliver(&mut sink, number).await.unwrap(), Epoch(number as u64));
    }
    assert!(broken > 0);
    assert_eq!(store.ids().await, (10..310).collect::<Vec<_>>());
}

async fn a_run_that_wakes_up_adds_nothing(store: Store) {
    let factory = store.factory("t", &[], &[]);
    let (mut old, _) = epochs(&factory, run(1, 0)).await.unwrap();
    deliver(&mut old, 1).await.unwrap();
    let (mut new, settled) = epochs(&factory, run(2, 1)).await.unwrap();
    assert_eq!(settled, Some(Epoch(1)));
    let fenced = error(deliver(&mut old, 2).await);
    assert!(matches!(fenced, ConnectorError::Fenced { .. }), "{fenced:?}");
    let expected = format!("{}: run 2 of pipeline test has taken over from this one, run 1", store.what());
    assert_eq!(fenced.to_string(), expected);
    deliver(&mut new, 2).await.unwrap();
    assert_eq!(error(deliver(&mut old, 2).await).to_string(), expected);
    assert_eq!(error(epochs(&factory, run(1, 1)).await).to_string(), expected);
    assert_eq!(store.ids().await, (10..30).collect::<Vec<_>>());
    // So does a run with other checkpoints that was told to begin anew.
    let other = Writer { log: LogId("theirs".into()), fresh: true, ..run(1, 0) };
    let (_other, settled) = epochs(&factory, other).await.unwrap();
    assert_eq!(settled, None);
    assert!(matches!(error(deliver(&mut new, 3).await), ConnectorError::Fenced { .. }));
}

async fn a_run_that_wakes_up_overwrites_nothing(store: Store) {
    let factory = store.factory("t", &["id"], &[]);
    let mut old = at_once(&factory, run(1, 0)).await;
    old.write(rows(0..10)).await.unwrap();
    old.flush().await.unwrap();
    let mut new = at_once(&factory, run(2, 0)).await;
    new.write(rows(0..10)).await.unwrap();
    new.flush().await.unwrap();
    store.run("UPDATE t SET name = 'newer'").await;
    old.write(rows(5..15)).await.unwrap();
    let fenced = old.flush().await.unwrap_err();
    assert!(matches!(fenced, ConnectorError::Fenced { .. }), "{fenced:?}");
    assert_eq!(store.texts("SELECT DISTINCT name FROM t").await, ["newer"]);
    new.write(rows(9..11)).await.unwrap();
    new.flush().await.unwrap();
    assert_eq!(store.ids().await, (0..11).collect::<Vec<_>>());
    // Nothing is twice here, so that other checkpoints are no reason to refuse.
    let other = Writer { log: LogId("theirs".into()), ..run(1, 0) };
    let mut other = at_once(&factory, other).await;
    other.write(rows(0..2)).await.unwrap();
    other.flush().await.unwrap();
    new.write(rows(0..2)).await.unwrap();
    assert!(matches!(new.flush().await.unwrap_err(), ConnectorError::Fenced { .. }));
}

async fn two_sinks_of_a_pipeline_have_markers_of_their_own(store: Store) {
    // The marker is named by the table in the folder, whatever it is called in the database.
    let schema = rows(0..1).schema();
    let factory = store.factory("t", &[], &[]);
    let open = async |table: &str| {
        let context = super::context(&schema, &tokio_util::sync::CancellationToken::new());
        let context = acequia::connectors::SinkContext { table: table.into(), writer: Some(run(1, 0)), ..context };
        match factory.open(context).await.unwrap() {
            OpenSink::PerEpoch { sink, .. } => sink,
            OpenSink::AtOnce(_) => panic!("it takes whole epochs"),
        }
    };
    let (mut one, mut two) = (open("one").await, open("two").await);
    deliver(&mut one, 2).await.unwrap();
    two.deliver(Epoch(1), &epoch(1)).await.unwrap();
    two.deliver(Epoch(2), &epoch(3)).await.unwrap();
    assert_eq!(store.markers().await, ["one run 1 epoch 2 rows 10", "two run 1 epoch 2 rows 10"]);
    assert_eq!(store.ids().await, (10..40).collect::<Vec<_>>());
}

async fn rows_of_other_checkpoints_are_not_added_to(store: Store) {
    let factory = store.factory("t", &[], &[]);
    let (mut sink, _) = epochs(&factory, run(1, 0)).await.unwrap();
    deliver(&mut sink, 1).await.unwrap();
    deliver(&mut sink, 2).await.unwrap();
    let what = store.what();
    let other = Writer { log: LogId("theirs".into()), ..run(1, 0) };
    let mismatch = error(epochs(&factory, other.clone()).await);
    assert!(matches!(mismatch, ConnectorError::Mismatch { .. }));
    assert_eq!(
        mismatch.to_string(),
        format!(
            "{what}: it was written by pipeline test with other checkpoints (log ours, epoch 2), which are not the ones \
             in use (log theirs): point --checkpoints to those, or begin anew with --fresh: rows already there stay"
        )
    );
    let older = error(epochs(&factory, run(2, 1)).await).to_string();
    assert!(older.contains("it has rows up to epoch 2, but this run goes on from epoch 1"), "{older}");
    // A refused start leaves those alone that are at work.
    deliver(&mut sink, 3).await.unwrap();
    let (mut fresh, settled) = epochs(&factory, Writer { fresh: true, ..other }).await.unwrap();
    assert_eq!(settled, None);
    fresh.deliver(Epoch(1), &epoch(4)).await.unwrap();
    let (mut again, settled) = epochs(&factory, Writer { fresh: true, ..run(9, 0) }).await.unwrap();
    assert_eq!(settled, None);
    again.deliver(Epoch(1), &epoch(5)).await.unwrap();
    assert_eq!(store.ids().await, (10..60).collect::<Vec<_>>());
}

/// A table that takes no id that ends in 3.
async fn choosy(store: &Store) {
    store.run("CREATE TABLE t (id BIGINT CHECK (id % 10 <> 3), name TEXT)").await;
}

async fn refused_rows_become_dead_letters_once(store: Store) {
    choosy(&store).await;
    let factory = store.factory("t", &[], &[]);
    let (mut sink, _) = epochs(&factory, run(1, 0)).await.unwrap();
    deliver(&mut sink, 1).await.unwrap();
    deliver(&mut sink, 1).await.unwrap();
    assert_eq!(sink.refused(), 1);
    let (mut sink, _) = epochs(&factory, run(2, 1)).await.unwrap();
    deliver(&mut sink, 1).await.unwrap();
    deliver(&mut sink, 2).await.unwrap();
    assert_eq!(store.ids().await, (10..30).filter(|id| id % 10 != 3).collect::<Vec<_>>());
    assert_eq!(store.markers().await, ["t run 2 epoch 2 rows 9"]);
    let table = store.own("dead_letters");
    let letters = store
        .texts(&format!(
            "SELECT pipeline || ' ' || sink || ' ' || epoch || ' ' || CAST(refused_row AS TEXT) FROM {table} \
             WHERE error LIKE '%constraint%' AND refused_at IS NOT NULL ORDER BY epoch"
        ))
        .await;
    assert_eq!(letters, ["test t 1 {\"id\":13,\"name\":\"n13\"}", "test t 2 {\"id\":23,\"name\":\"n23\"}"]);
    // Rows that come at once are put apart, too, with no epoch.
    let mut keyless = super::open(&factory, &rows(0..1).schema()).await.unwrap();
    keyless.write(rows(30..40)).await.unwrap();
    keyless.flush().await.unwrap();
    assert_eq!(keyless.refused(), 1);
    let letters = store.texts(&format!("SELECT error FROM {table} WHERE epoch IS NULL")).await;
    assert_eq!(letters.len(), 1);
}

async fn a_refused_row_can_stop_the_pipeline(store: Store) {
    choosy(&store).await;
    let factory = store.factory("t", &[], &[("on_error", "fail")]);
    let (mut sink, _) = epochs(&factory, run(1, 0)).await.unwrap();
    let refused = error(deliver(&mut sink, 1).await).to_string();
    assert!(refused.starts_with(&store.what()), "{refused}");
    let end = "the row is {\"id\":13,\"name\":\"n13\"}. 'on_error' = 'skip' would leave such rows out";
    assert!(refused.ends_with(end), "{refused}");
    assert!(store.ids().await.is_empty());
    let (mut sink, settled) = epochs(&store.factory("t", &[], &[("on_error", "skip")]), run(2, 1)).await.unwrap();
    assert_eq!(settled, None);
    deliver(&mut sink, 1).await.unwrap();
    assert_eq!((store.ids().await.len(), sink.refused()), (9, 1));
}

/// As a server that crashed with `synchronous_commit = off`: rows and marker of epochs 2 and 3 are gone. Gives the answer
/// to epoch 4.
async fn after_a_loss(store: &Store) -> (Box<dyn EpochSink>, Epoch) {
    let factory = store.factory("t", &[], &[]);
    let (mut sink, _) = epochs(&factory, run(1, 0)).await.unwrap();
    for number in 1..=3 {
        deliver(&mut sink, number).await.unwrap();
    }
    store.run("DELETE FROM t WHERE id >= 20").await;
    store.run(&format!("UPDATE {} SET epoch = 1", store.own("epochs"))).await;
    let answer = deliver(&mut sink, 4).await.unwrap();
    (sink, answer)
}

async fn what_the_database_lost_is_asked_for_again(store: Store) {
    let (mut sink, answer) = after_a_loss(&store).await;
    assert_eq!(answer, Epoch(1));
    for number in 2..=4 {
        assert_eq!(deliver(&mut sink, number).await.unwrap(), Epoch(number as u64));
    }
    assert_eq!(store.ids().await, (10..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_loss_that_is_not_asked_for_is_noticed() {
    plant(Some(Bug::RewindForgotten));
    let store = Store::sqlite().await;
    let (_sink, answer) = after_a_loss(&store).await;
    plant(None);
    assert_eq!(answer, Epoch(4));
    assert_ne!(store.ids().await, (10..50).collect::<Vec<_>>());
}

async fn a_marker_that_is_gone_is_said(store: Store) {
    let factory = store.factory("t", &[], &[]);
    let (mut sink, _) = epochs(&factory, run(1, 0)).await.unwrap();
    deliver(&mut sink, 1).await.unwrap();
    store.run(&format!("DELETE FROM {}", store.own("epochs"))).await;
    assert_eq!(
        error(deliver(&mut sink, 2).await).to_string(),
        format!(
            "{}: its marker (pipeline test, sink t) is gone from the table of epochs, so that nobody knows which rows it \
             has: restore both from one backup, or begin anew with --fresh",
            store.what()
        )
    );
}

async fn at_least_once_needs_no_marker(store: Store) {
    let factory = store.factory("t", &[], &[("delivery", "at_least_once"), ("on_error", "skip")]);
    let mut sink = at_once(&factory, run(1, 0)).await;
    sink.write(rows(0..10)).await.unwrap();
    sink.flush().await.unwrap();
    assert_eq!(store.ids().await.len(), 10);
    let catalog = match store {
        Store::Postgres(_) => "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE '%acequia%'",
        Store::Sqlite(_) => "SELECT name FROM sqlite_schema WHERE name LIKE '%acequia%'",
    };
    assert_eq!(store.texts(catalog).await, Vec::<String>::new());
}
