//! The PostgreSQL sink against a real server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use acequia::connectors::{ConnectorError, Sink, SinkMode};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

use super::{Server, batch, context, factory, open, refusal};

/// A server that the tests which do not stop it share, and a database of one's own on it.
pub struct Database {
    _server: Arc<Server>,
    pub url: String,
    pub address: String,
}

pub async fn database() -> Database {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let server = {
        let mut shared = SHARED.lock();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Server::new("postgres.sh"));
            server.start(&[]);
            *shared = Arc::downgrade(&server);
            server
        })
    };
    let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let address = format!("127.0.0.1:{}", server.port);
    let mut admin = PgConnection::connect(&format!("postgres://postgres@{address}/postgres")).await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}").as_str())).await.unwrap();
    let url = format!("postgres://postgres:s3cret@{address}/{name}");
    Database { _server: server, url, address: format!("{address}/{name}") }
}

impl Database {
    /// Where it is, with user and password.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn client(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    pub async fn run(&self, statement: &'static str) {
        self.client().await.execute(statement).await.unwrap();
    }

    async fn sink(&self, name: &str, key: &[&str], more: &[(&str, &str)], rows: &RecordBatch) -> Box<dyn Sink> {
        let mut options = vec![("url", self.url.as_str())];
        options.extend(more);
        open(&factory("postgres", name, &rows.schema(), key, &options), &rows.schema()).await.unwrap()
    }
}

fn numbers(ids: Vec<i64>, names: Vec<Option<&str>>) -> RecordBatch {
    batch(vec![("id", Arc::new(Int64Array::from(ids)) as ArrayRef), ("name", Arc::new(StringArray::from(names)))])
}

async fn write(sink: &mut Box<dyn Sink>, rows: RecordBatch) -> Result<(), ConnectorError> {
    sink.write(rows).await?;
    sink.flush().await
}

/// A number with so many digits after the point, as PostgreSQL prints it.
fn decimal(value: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
}

/// `12:00:00.5`: digits after the point only as far as needed.
fn trimmed(time: String) -> String {
    time.trim_end_matches('0').trim_end_matches('.').to_string()
}

const ROWS: usize = 100_000;

#[tokio::test]
async fn a_hundred_thousand_rows_of_every_type_come_back_as_they_went_in() {
    let database = database().await;
    database
        .run(
            "CREATE TABLE every (id SERIAL PRIMARY KEY, number INT NOT NULL, i2 SMALLINT, i4 INT, i8 BIGINT, \
             u8 NUMERIC(20), f4 REAL, f8 DOUBLE PRECISION, price NUMERIC(12, 2), exact NUMERIC(38, 10), b BOOLEAN, \
             s VARCHAR(20), v TEXT, word TEXT, data BYTEA, day DATE, clock TIME, at TIMESTAMP, zoned TIMESTAMPTZ, \
             doc JSONB, list JSONB, key UUID, processed_at TIMESTAMP NOT NULL DEFAULT now())",
        )
        .await;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut expected: Vec<String> = vec![];
    let mut batches = vec![];
    for first in (0..ROWS).step_by(8192) {
        let count = 8192.min(ROWS - first);
        let mut lines: Vec<Vec<String>> = (0..count).map(|row| vec![(first + row).to_string()]).collect();
        // A column of values with a quarter of nulls, and what PostgreSQL prints for each of them.
        fn column<T>(
            lines: &mut [Vec<String>],
            random: &mut ChaCha8Rng,
            value: impl Fn(&mut ChaCha8Rng) -> (T, String),
        ) -> Vec<Option<T>> {
            lines
                .iter_mut()
                .map(|line| {
                    let (value, text) = value(random);
                    let null = random.random_ratio(1, 4);
                    line.push(if null { "\\N".into() } else { text });
                    (!null).then_some(value)
                })
                .collect()
        }
        macro_rules! values {
            ($value:expr) => {
                column(&mut lines, &mut random, $value)
            };
        }
        let with_text = |value: i64| (value, value.to_string());
        let moment = |micros: i64| {
            trimmed(
                chrono::DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            )
        };
        let decimals = |values: Vec<Option<i128>>, precision, scale| {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()) as ArrayRef
        };
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("number", Arc::new(Int64Array::from_iter_values((first as i64)..(first + count) as i64))),
            (
                "i2",
                Arc::new(Int16Array::from(values!(|r| {
                    let v: i16 = r.random();
                    (v, v.to_string())
                }))),
            ),
            ("i4", Arc::new(Int64Array::from(values!(|r| with_text(r.random::<i32>().into()))))),
            ("i8", Arc::new(Int64Array::from(values!(|r| with_text(r.random()))))),
            (
                "u8",
                Arc::new(UInt64Array::from(values!(|r| {
                    let v: u64 = r.random();
                    (v, v.to_string())
                }))),
            ),
            (
                "f4",
                Arc::new(Float32Array::from(values!(|r| {
                    let v = r.random_range(-9999..9999) as f32 / 8.0;
                    (v, v.to_string())
                }))),
            ),
            (
                "f8",
                Arc::new(Float64Array::from(values!(|r| {
                    let v = r.random_range(-1e9..1e9);
                    (v, format!("{v}"))
                }))),
            ),
            (
                "price",
                decimals(
                    values!(|r| {
                        let v = r.random_range(-999_999_999_999_i128..=999_999_999_999);
                        (v, decimal(v, 2))
                    }),
                    12,
                    2,
                ),
            ),
            (
                "exact",
                decimals(
                    values!(|r| {
                        let v = r.random_range(-(10_i128.pow(38)) + 1..10_i128.pow(38)) >> r.random_range(0..100);
                        (v, decimal(v, 10))
                    }),
                    38,
                    10,
                ),
            ),
            (
                "b",
                Arc::new(BooleanArray::from(values!(|r| {
                    let v: bool = r.random();
                    (v, if v { "t".into() } else { "f".into() })
                }))),
            ),
            (
                "s",
                Arc::new(StringArray::from(values!(|r| {
                    let v = format!("né {}", r.random::<u32>());
                    (v.clone(), v)
                }))),
            ),
            (
                "v",
                Arc::new(StringViewArray::from_iter(values!(|r| {
                    let v = "wörd ".repeat(r.random_range(0..9)) + ".";
                    (v.clone(), v)
                }))),
            ),
            ("word", {
                let words = StringArray::from(values!(|r| {
                    let v = ["a", "b", "c"][r.random_range(0..3)];
                    (v, v.to_string())
                }));
                let words: DictionaryArray<Int32Type> = words.iter().collect();
                Arc::new(words)
            }),
            ("data", {
                let bytes = values!(|r| {
                    let v: [u8; 3] = r.random();
                    (v, format!("\\\\x{:02x}{:02x}{:02x}", v[0], v[1], v[2]))
                });
                Arc::new(BinaryArray::from_iter(bytes))
            }),
            (
                "day",
                Arc::new(Date32Array::from(values!(|r| {
                    let v = r.random_range(-20_000..40_000);
                    (v, moment(i64::from(v) * 86_400_000_000)[..10].to_string())
                }))),
            ),
            (
                "clock",
                Arc::new(Time64MicrosecondArray::from(values!(|r| {
                    let v = r.random_range(0..86_400_000_000);
                    (v, moment(v)[11..].to_string())
                }))),
            ),
            (
                "at",
                Arc::new(TimestampNanosecondArray::from(values!(|r| {
                    let v = r.random_range(-1_000_000_000_000_000..4_000_000_000_000_000);
                    (v * 1000, moment(v))
                }))),
            ),
            ("zoned", {
                let moments = values!(|r| {
                    let v = r.random_range(0..4_000_000_000_000_000);
                    (v, moment(v) + "+00")
                });
                Arc::new(TimestampMicrosecondArray::from(moments).with_timezone("Europe/Madrid"))
            }),
            (
                "doc",
                Arc::new(StringArray::from(values!(|r| {
                    let v: i32 = r.random();
                    (format!("{{\"a\":{v}}}"), format!("{{\"a\": {v}}}"))
                }))),
            ),
            ("list", {
                let lists = values!(|r| {
                    let v = [r.random_range(0..9_i64), 5];
                    (v.map(Some), format!("[{}, 5]", v[0]))
                });
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))
            }),
            (
                "key",
                Arc::new(StringArray::from(values!(|r| {
                    let v = format!("{:08x}-1234-5678-9abc-{:012x}", r.random::<u32>(), r.random_range(0..1_u64 << 48));
                    (v.to_uppercase(), v)
                }))),
            ),
        ];
        batches.push(batch(columns));
        expected.extend(lines.into_iter().map(|line| line.join("\t")));
    }
    let mut sink = database.sink("every", &[], &[], &batches[0]).await;
    let began = Instant::now();
    for batch in batches {
        sink.write(batch).await.unwrap();
    }
    sink.flush().await.unwrap();
    eprintln!("COPY of 21 columns: {:.0} rows/s", ROWS as f64 / began.elapsed().as_secs_f64());
    sink.close().await.unwrap();

    let mut client = database.client().await;
    let columns =
        "number, i2, i4, i8, u8, f4, f8, price, exact, b, s, v, word, data, day, clock, at, zoned, doc, list, key";
    let copy = format!("COPY (SELECT {columns} FROM every ORDER BY number) TO STDOUT");
    let chunks: Vec<_> = futures::TryStreamExt::try_collect(client.copy_out_raw(&copy).await.unwrap()).await.unwrap();
    let text = String::from_utf8(chunks.concat()).unwrap();
    let mut actual = text.lines();
    for line in &expected {
        assert_eq!(actual.next(), Some(line.as_str()));
    }
    assert_eq!(actual.next(), None);
    let (defaults,): (i64,) = sqlx::query_as("SELECT count(DISTINCT id) FROM every WHERE processed_at IS NOT NULL")
        .fetch_one(&mut client)
        .await
        .unwrap();
    assert_eq!(defaults, ROWS as i64);
}

#[tokio::test]
async fn the_ends_of_the_ranges_come_back_too() {
    let database = database().await;
    let rows = batch(vec![
        ("f", Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::MIN, f64::MIN_POSITIVE])) as ArrayRef),
        ("at", Arc::new(TimestampSecondArray::from(vec![-62_135_596_800, 253_402_300_799, -1, 0]))),
        ("s", Arc::new(StringArray::from(vec!["", "tab\tnew\nline\\N", "\u{10FFFF}", "'\";--"]))),
    ]);
    let mut sink = database.sink("ends", &[], &[("create", "true")], &rows).await;
    write(&mut sink, rows).await.unwrap();
    let found: Vec<(f64, String, String)> =
        sqlx::query_as("SELECT f, at::text, s FROM ends").fetch_all(&mut database.client().await).await.unwrap();
    assert!(found[0].0.is_nan());
    assert_eq!(found[1].0, f64::INFINITY);
    assert_eq!((found[2].0, found[3].0), (f64::MIN, f64::MIN_POSITIVE));
    let times: Vec<&str> = found.iter().map(|row| row.1.as_str()).collect();
    assert_eq!(times, ["0001-01-01 00:00:00", "9999-12-31 23:59:59", "1969-12-31 23:59:59", "1970-01-01 00:00:00"]);
    let texts: Vec<&str> = found.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(texts, ["", "tab\tnew\nline\\N", "\u{10FFFF}", "'\";--"]);
    // A float in a numeric column keeps the digits that it prints with.
    database.run("CREATE TABLE digits (f NUMERIC)").await;
    let rows = batch(vec![("f", Arc::new(Float64Array::from(vec![0.1, -1e20, 1.5e-7])) as ArrayRef)]);
    let mut sink = database.sink("digits", &[], &[], &rows).await;
    write(&mut sink, rows).await.unwrap();
    let found: Vec<(String,)> =
        sqlx::query_as("SELECT f::text FROM digits").fetch_all(&mut database.client().await).await.unwrap();
    assert_eq!(
        found.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(),
        ["0.1", "-100000000000000000000", "0.00000015"]
    );
}

#[tokio::test]
async fn upserts_keep_the_last_row_of_a_key() {
    let database = database().await;
    database.run("CREATE SCHEMA dwh; CREATE TABLE dwh.kept (extra INT DEFAULT 9, name TEXT, id INT UNIQUE)").await;
    let rows = numbers(vec![1, 2, 1], vec![Some("a"), Some("b"), Some("c")]);
    let mut sink = database.sink("t", &["id"], &[("table", "dwh.kept")], &rows).await;
    write(&mut sink, rows).await.unwrap();
    write(&mut sink, numbers(vec![2, 3], vec![Some("B"), None])).await.unwrap();
    let found: Vec<(i32, Option<String>, i32)> = sqlx::query_as("SELECT id, name, extra FROM dwh.kept ORDER BY id")
        .fetch_all(&mut database.client().await)
        .await
        .unwrap();
    assert_eq!(found, [(1, Some("c".into()), 9), (2, Some("B".into()), 9), (3, None, 9)]);
}

#[tokio::test]
async fn what_does_not_fit_is_said_with_the_way_out() {
    let database = database().await;
    let rows = numbers(vec![1], vec![None]);
    let schema = rows.schema();
    let options = [("url", database.url.as_str())];
    let missing = refusal(&factory("postgres", "t", &schema, &["id"], &options), &schema).await;
    assert_eq!(
        missing,
        format!(
            "PostgreSQL table t at {}: there is no such table; add 'create' = 'true', or run\n\
             CREATE TABLE IF NOT EXISTS \"t\" (\n    \"id\" bigint,\n    \"name\" text,\n    PRIMARY KEY (\"id\")\n);",
            database.address
        )
    );
    database.run("CREATE TABLE t (id TEXT, nmae TEXT, day DATE NOT NULL)").await;
    let wrong = refusal(&factory("postgres", "t", &schema, &["id"], &options), &schema).await;
    assert_eq!(
        wrong,
        format!(
            "PostgreSQL table t at {}: the table does not fit:\n  \
             column id is text there and bigint here; declare it as a type that fits, and CAST in the query\n  \
             column name is not there; did you mean nmae?\n  \
             column day is NOT NULL without a default, but is not written; add it to CREATE TABLE as date\n  \
             PRIMARY KEY (id) needs a unique index there: CREATE UNIQUE INDEX ON \"t\" (\"id\")",
            database.address
        )
    );
    let url = database.url.replace("/test", "/absent");
    let absent = refusal(&factory("postgres", "t", &schema, &[], &[("url", &url)]), &schema).await;
    assert!(absent.contains("does not exist (SQLSTATE 3D000)"), "{absent}");
    assert!(!absent.contains("s3cret"), "{absent}");
}

#[tokio::test]
async fn a_refused_row_is_named_or_skipped() {
    let database = database().await;
    database
        .run(
            "CREATE TABLE events (id INT, name VARCHAR(5), price NUMERIC(5, 2), \
             UNIQUE (id) DEFERRABLE INITIALLY DEFERRED, CHECK (price <> 13))",
        )
        .await;
    let names = |row: i64| match row {
        100 => "too long",
        200 => "nul\0",
        _ => "ok",
    };
    let rows = batch(vec![
        (
            "id",
            Arc::new(Int64Array::from_iter_values((0..1000).map(|row| {
                if row == 500 {
                    499
                } else if row == 600 {
                    1 << 40
                } else {
                    row
                }
            }))) as ArrayRef,
        ),
        ("name", Arc::new(StringArray::from_iter_values((0..1000).map(names)))),
        (
            "price",
            Arc::new(Int32Array::from_iter_values((0..1000).map(|row| match row {
                300 => 1000,
                400 => 13,
                _ => 1,
            }))),
        ),
    ]);
    let what = format!("PostgreSQL table events at {}: ", database.address);
    let way_out = "'on_error' = 'skip' would leave such rows out";
    assert_eq!(
        refused(&database, rows.slice(90, 50)).await,
        format!(
            "{what}value too long for type character varying(5) (SQLSTATE 22001); the row is \
             {{\"id\":100,\"name\":\"too long\",\"price\":1}}. {way_out}"
        )
    );
    assert_eq!(
        refused(&database, rows.slice(190, 50)).await,
        format!(
            "{what}column name holds the character U+0000, which PostgreSQL cannot store; the row is \
             {{\"id\":200,\"name\":\"nul\\u0000\",\"price\":1}}. {way_out}"
        )
    );
    for (first, words) in [
        (
            290,
            "numeric field overflow; A field with precision 5, scale 2 must round to an absolute value less than 10^3 (SQLSTATE 22003)",
        ),
        (390, "violates check constraint \"events_price_check\""),
        (
            490,
            "duplicate key value violates unique constraint \"events_id_key\"; Key (id)=(499) already exists (SQLSTATE 23505)",
        ),
        (590, "column id holds a value outside the range of integer"),
    ] {
        let message = refused(&database, rows.slice(first, 50)).await;
        assert!(message.contains(words), "{message}");
        assert!(message.contains("the row is {\"id\":"), "{message}");
    }
    let count = async || {
        let mut client = database.client().await;
        sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM events").fetch_one(&mut client).await.unwrap().0
    };
    assert_eq!(count().await, 0, "a batch that fails leaves nothing behind");
    let mut skipping = database.sink("events", &[], &[("on_error", "skip")], &rows).await;
    write(&mut skipping, rows).await.unwrap();
    assert_eq!(count().await, 994);
    assert_eq!(skipping.refused(), 6);
}

/// What the sink says of rows that are refused.
async fn refused(database: &Database, rows: RecordBatch) -> String {
    let mut sink = database.sink("events", &[], &[("on_error", "fail")], &rows).await;
    write(&mut sink, rows).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_refused_row_of_an_upsert_is_skipped_too() {
    let database = database().await;
    database.run("CREATE TABLE kept (id INT PRIMARY KEY, name VARCHAR(5), doc JSONB)").await;
    let docs: Vec<String> =
        (0..100).map(|id| if id == 50 { "{\"a\":\"\\u0000\"}".into() } else { "{}".into() }).collect();
    let rows = batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef),
        ("name", Arc::new(StringArray::from_iter_values((0..100).map(|id| if id == 7 { "too long" } else { "ok" })))),
        ("doc", Arc::new(StringArray::from(docs))),
    ]);
    let mut sink = database.sink("kept", &["id"], &[("on_error", "skip")], &rows).await;
    write(&mut sink, rows.clone()).await.unwrap();
    write(&mut sink, rows).await.unwrap();
    let found: Vec<(i64,)> =
        sqlx::query_as("SELECT count(*) FROM kept").fetch_all(&mut database.client().await).await.unwrap();
    assert_eq!(found[0].0, 98);
}

#[tokio::test]
async fn the_warehouse_is_migrated_once_from_many_sides_and_keeps_what_is_there() {
    let database = database().await;
    database.run("CREATE TABLE other (id INT); INSERT INTO other VALUES (1)").await;
    let rows = batch(vec![
        ("event_type", Arc::new(StringArray::from(vec!["search"])) as ArrayRef),
        ("timestamp", Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_000_000_000]))),
        ("customer_id", Arc::new(Int64Array::from(vec![7]))),
        ("amount", Arc::new(Decimal128Array::from(vec![1230]).with_precision_and_scale(12, 2).unwrap())),
        ("raw_data", Arc::new(StringArray::from(vec!["{\"a\":1}"]))),
    ]);
    let schema = rows.schema();
    let options = [("url", database.url.as_str()), ("migrate", "warehouse")];
    let mut opening = vec![];
    for _ in 0..4 {
        let factory = factory("postgresql", "realtime_events", &schema, &[], &options);
        assert_eq!(factory.mode(), SinkMode::Append);
        let context = context(&schema, &CancellationToken::new());
        opening.push(tokio::spawn(async move { factory.open(context).await }));
    }
    for sink in opening {
        write(&mut sink.await.unwrap().unwrap().at_once().unwrap(), rows.clone()).await.unwrap();
    }
    let mut client = database.client().await;
    let row: (i64, i32, String, i64) = sqlx::query_as(
        "SELECT count(*), max(customer_id), max(source), (SELECT count(*) FROM other) FROM realtime_events \
         WHERE processed_at > '2024-01-01' AND raw_data->>'a' = '1' AND amount = 12.30",
    )
    .fetch_one(&mut client)
    .await
    .unwrap();
    assert_eq!(row, (4, 7, "kafka_consumer".into(), 1));
    let (indexes, sessions): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM pg_indexes WHERE tablename = 'realtime_events'), (SELECT count(*) FROM customer_sessions)",
    )
    .fetch_one(&mut client)
    .await
    .unwrap();
    assert_eq!((indexes, sessions), (5, 0));
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_no_row() {
    let server = Server::new("postgres.sh");
    let url = server.start(&[]);
    let rows = numbers(vec![0], vec![None]);
    let options = [("url", url.as_str()), ("create", "true")];
    let added = factory("postgres", "added", &rows.schema(), &[], &options);
    let kept = factory("postgres", "kept", &rows.schema(), &["id"], &options);
    let (mut added, mut kept) =
        (open(&added, &rows.schema()).await.unwrap(), open(&kept, &rows.schema()).await.unwrap());
    let writer = tokio::spawn(async move {
        for number in 0..60_i64 {
            let ids: Vec<i64> = (number * 500..(number + 1) * 500).collect();
            let rows = numbers(ids, vec![Some("x"); 500]);
            write(&mut added, rows.clone()).await.unwrap();
            write(&mut kept, rows).await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!writer.is_finished());
    server.stop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.start(&[]);
    tokio::time::timeout(Duration::from_secs(60), writer).await.unwrap().unwrap();
    let mut client = PgConnection::connect(&url).await.unwrap();
    let (added, kept): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(DISTINCT id) FROM added), (SELECT count(*) FROM kept)")
            .fetch_one(&mut client)
            .await
            .unwrap();
    assert_eq!((added, kept), (30_000, 30_000));
}

#[tokio::test]
async fn a_server_that_is_down_at_start_is_waited_for_until_told_to_stop() {
    let server = Server::new("postgres.sh");
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let rows = numbers(vec![1], vec![Some("a")]);
    let factory = factory("postgres", "t", &rows.schema(), &[], &[("url", url.as_str()), ("create", "true")]);
    let stop = CancellationToken::new();
    let waiting = tokio::spawn({
        let (factory, context) = (factory.clone(), context(&rows.schema(), &stop));
        async move { factory.open(context).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    stop.cancel();
    let Err(error) = waiting.await.unwrap() else { panic!("it should have stopped") };
    let what = format!("PostgreSQL table t at 127.0.0.1:{}/postgres", server.port);
    assert_eq!(error.to_string(), format!("stopped while waiting for {what}"));

    let waiting = tokio::spawn({
        let (factory, context) = (factory.clone(), context(&rows.schema(), &CancellationToken::new()));
        async move { factory.open(context).await }
    });
    server.start(&[]);
    let mut sink =
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap().at_once().unwrap();
    write(&mut sink, rows).await.unwrap();
}
