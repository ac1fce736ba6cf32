//! The SQLite sink, and the embedded warehouse.

use std::path::Path;
use std::sync::Arc;

use acequia::connectors::{Sink, SinkMode};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampNanosecondArray, UInt64Array,
};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{batch, context, factory, open, refusal};

async fn client(path: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap()
}

async fn sink(path: &Path, key: &[&str], more: &[(&str, &str)], rows: &RecordBatch) -> Box<dyn Sink> {
    let path = path.display().to_string();
    let mut options = vec![("path", path.as_str())];
    options.extend(more);
    open(&factory("sqlite", "t", &rows.schema(), key, &options), &rows.schema()).await.unwrap()
}

fn numbers(ids: Vec<i64>, names: Vec<Option<&str>>) -> RecordBatch {
    batch(vec![("id", Arc::new(Int64Array::from(ids)) as ArrayRef), ("name", Arc::new(StringArray::from(names)))])
}

#[tokio::test]
async fn values_come_back_as_they_went_in() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new folder").join("shop.sqlite");
    let decimals = |precision, scale, values: Vec<Option<i128>>| {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()) as ArrayRef
    };
    let rows = batch(vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None])) as ArrayRef),
        ("f", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN)]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("price", decimals(12, 2, vec![Some(1230), None])),
        ("exact", decimals(38, 10, vec![Some(12_345_678_901_234_567_890_123_456_789), None])),
        ("day", Arc::new(Date32Array::from(vec![Some(19_000), None]))),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![Some(1_700_000_000_500_000_000), None]))),
        (
            "zoned",
            Arc::new(
                TimestampNanosecondArray::from(vec![Some(1_700_000_000_000_000_000), None]).with_timezone("+05:00"),
            ),
        ),
        ("data", Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None]))),
        ("s", Arc::new(StringArray::from(vec![Some("é'\0"), None]))),
    ]);
    let mut sink = sink(&path, &[], &[("create", "true")], &rows).await;
    sink.write(rows).await.unwrap();
    sink.flush().await.unwrap();
    sink.close().await.unwrap();
    let mut client = client(&path).await;
    let row: (i64, f64, bool, f64, String, String, String, String, Vec<u8>, String) =
        sqlx::query_as("SELECT * FROM t WHERE i IS NOT NULL").fetch_one(&mut client).await.unwrap();
    let expected = (
        i64::MIN,
        0.1,
        true,
        12.3,
        "1234567890123456789.0123456789".to_string(),
        "2022-01-08".to_string(),
        "2023-11-14 22:13:20.500".to_string(),
        "2023-11-14 22:13:20".to_string(),
        vec![0, 255],
        "é'\0".to_string(),
    );
    assert_eq!(row, expected);
    let (nulls,): (i64,) = sqlx::query_as(
        "SELECT (i IS NULL) + (f IS NULL) + (b IS NULL) + (price IS NULL) + (exact IS NULL) + (day IS NULL) \
         + (at IS NULL) + (zoned IS NULL) + (data IS NULL) + (s IS NULL) FROM t WHERE i IS NULL",
    )
    .fetch_one(&mut client)
    .await
    .unwrap();
    assert_eq!(nulls, 10);
}

#[tokio::test]
async fn many_rows_are_added_and_keys_replaced() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.sqlite");
    let ids: Vec<i64> = (0..50_000).collect();
    let rows = numbers(ids, vec![Some("x"); 50_000]);
    let mut adding = sink(&path, &[], &[("create", "true"), ("table", "added")], &rows).await;
    let began = std::time::Instant::now();
    for at in (0..50_000).step_by(5_000) {
        adding.write(rows.slice(at, 5_000)).await.unwrap();
    }
    adding.flush().await.unwrap();
    eprintln!("SQLite: {:.0} rows/s", 50_000.0 / began.elapsed().as_secs_f64());
    let mut upserting = sink(&path, &["id"], &[("create", "true"), ("table", "kept")], &rows).await;
    upserting.write(numbers(vec![1, 2, 1], vec![Some("a"), Some("b"), Some("c")])).await.unwrap();
    upserting.flush().await.unwrap();
    upserting.write(numbers(vec![2, 3], vec![Some("B"), None])).await.unwrap();
    upserting.flush().await.unwrap();
    let mut client = client(&path).await;
    let (count, sum): (i64, i64) =
        sqlx::query_as("SELECT count(*), sum(id) FROM added").fetch_one(&mut client).await.unwrap();
    assert_eq!((count, sum), (50_000, 49_999 * 25_000));
    let kept: Vec<(i64, Option<String>)> =
        sqlx::query_as("SELECT id, name FROM kept ORDER BY id").fetch_all(&mut client).await.unwrap();
    assert_eq!(kept, [(1, Some("c".into())), (2, Some("B".into())), (3, None)]);
}

#[tokio::test]
async fn what_does_not_fit_is_said_with_the_way_out() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.sqlite");
    let rows = numbers(vec![1], vec![None]);
    let schema = rows.schema();
    let at = path.display().to_string();
    let missing = refusal(&factory("sqlite", "t", &schema, &[], &[("path", &at)]), &schema).await;
    assert_eq!(
        missing,
        format!(
            "SQLite table t in {at}: there is no such table; add 'create' = 'true', or run\n\
             CREATE TABLE IF NOT EXISTS \"t\" (\n    \"id\" INTEGER,\n    \"name\" TEXT\n);"
        )
    );
    let mut connection = client(&path).await;
    sqlx::query("CREATE TABLE t (id INTEGER, nmae TEXT, day TEXT NOT NULL)").execute(&mut connection).await.unwrap();
    let wrong = refusal(&factory("sqlite", "t", &schema, &["id"], &[("path", &at)]), &schema).await;
    assert_eq!(
        wrong,
        format!(
            "SQLite table t in {at}: the table does not fit:\n  column name is not there; did you mean nmae?\n  \
             column day is NOT NULL without a default, but is not written; add it to CREATE TABLE as TEXT\n  \
             PRIMARY KEY (id) needs a unique index there: CREATE UNIQUE INDEX \"t_key\" ON \"t\" (\"id\")"
        )
    );
}

#[tokio::test]
async fn a_refused_row_is_named_or_skipped() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.sqlite");
    let mut connection = client_with_file(&path).await;
    sqlx::query("CREATE TABLE t (id INTEGER, name TEXT CHECK (length(name) < 5))")
        .execute(&mut connection)
        .await
        .unwrap();
    let names: Vec<Option<&str>> = (0..1000).map(|id| Some(if id == 617 { "too long" } else { "ok" })).collect();
    let rows = numbers((0..1000).collect(), names);
    let mut failing = sink(&path, &[], &[("on_error", "fail")], &rows).await;
    failing.write(rows.clone()).await.unwrap();
    let error = failing.flush().await.unwrap_err().to_string();
    assert!(error.contains("CHECK constraint failed"), "{error}");
    assert!(error.contains("the row is {\"id\":617,\"name\":\"too long\"}"), "{error}");
    let count = async |connection: &mut SqliteConnection| {
        sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM t").fetch_one(connection).await.unwrap().0
    };
    assert_eq!(count(&mut connection).await, 0);
    let mut skipping = sink(&path, &[], &[("on_error", "skip")], &rows).await;
    skipping.write(rows).await.unwrap();
    skipping.flush().await.unwrap();
    assert_eq!(count(&mut connection).await, 999);

    let too_large = batch(vec![("id", Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef)]);
    let mut failing = sink(&path, &[], &[("on_error", "fail")], &too_large).await;
    failing.write(too_large).await.unwrap();
    let error = failing.flush().await.unwrap_err().to_string();
    assert!(error.contains("column id holds a value outside the range of SQLite"), "{error}");
}

async fn client_with_file(path: &Path) -> SqliteConnection {
    std::fs::File::create(path).unwrap();
    client(path).await
}

#[tokio::test]
async fn the_embedded_warehouse_makes_its_tables_from_two_sides_at_once() {
    let folder = TempDir::new().unwrap();
    let rows = batch(vec![
        ("event_type", Arc::new(StringArray::from(vec!["search"])) as ArrayRef),
        ("timestamp", Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_000_000_000]))),
        ("customer_id", Arc::new(Int64Array::from(vec![7]))),
        ("raw_data", Arc::new(StringArray::from(vec!["{\"a\":1}"]))),
    ]);
    let schema = rows.schema();
    let mut opening = vec![];
    for _ in 0..4 {
        let factory = factory("postgres", "realtime_events", &schema, &[], &[("url", "embedded")]);
        assert_eq!(factory.mode(), SinkMode::Append);
        let mut context = context(&schema, &CancellationToken::new());
        context.data_dir = folder.path().to_path_buf();
        opening.push(tokio::spawn(async move { factory.open(context).await }));
    }
    for sink in opening {
        let mut sink = sink.await.unwrap().unwrap().at_once().unwrap();
        sink.write(rows.clone()).await.unwrap();
        sink.flush().await.unwrap();
    }
    let mut client = client(&folder.path().join("warehouse.sqlite")).await;
    let row: (String, String, i64, String, String, bool) = sqlx::query_as(
        "SELECT event_type, timestamp, customer_id, raw_data, source, processed_at >= '2024' FROM realtime_events \
         ORDER BY processed_at DESC LIMIT 1",
    )
    .fetch_one(&mut client)
    .await
    .unwrap();
    let (kind, at, data) = ("search".to_string(), "2023-11-14 22:13:20".to_string(), "{\"a\":1}".to_string());
    assert_eq!(row, (kind, at, 7, data, "kafka_consumer".into(), true));
    let (events, sessions): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM realtime_events), (SELECT count(*) FROM customer_sessions)")
            .fetch_one(&mut client)
            .await
            .unwrap();
    assert_eq!((events, sessions), (4, 0));
}
