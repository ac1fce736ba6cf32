//! The page's figures against real servers: they are those that stand there, and a part that is away is told as such.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::{registry, stdout};
use acequia::console::{Console, Phase};
use acequia::dataflow::statistics::Statistics;
use acequia::page::Page;
use acequia::page::access::Access;
use acequia::planner::{self, PlanOptions};
use acequia::program::Program;
use acequia::sql::{SourceFiles, Variables};
use acequia::time::EventTime;
use chrono::{DateTime, Utc};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::Server;
use super::postgres::database;

/// Only there to end a test that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

const POSTGRES: &str = include_str!("../../migrations/warehouse/postgres/0001_warehouse.sql");
const SQLITE: &str = include_str!("../../migrations/warehouse/sqlite/0001_warehouse.sql");

/// The shop's tables; `REDIS`, `WAREHOUSE` and `KAFKA` stand for where they are.
const PROGRAM: &str = r#"
CREATE TABLE transactions ("timestamp" TIMESTAMP, customer_id BIGINT, total_amount DECIMAL(12, 2),
    WATERMARK FOR "timestamp")
WITH (connector = 'kafka', bootstrap_servers = 'KAFKA', topic = 'transactions', 'properties.sasl.password' = 'hunter2');

CREATE TABLE metrics_transactions ("timestamp" TIMESTAMP, transaction_count BIGINT)
WITH (connector = 'redis', url = 'REDIS', key = 'metrics:transactions');

CREATE TABLE metrics_behavior ("timestamp" TIMESTAMP, event_type TEXT, event_count BIGINT)
WITH (connector = 'redis', url = 'REDIS', key = 'metrics:behavior:{event_type}');

CREATE TABLE metrics_products ("timestamp" TIMESTAMP, category TEXT, product_sales BIGINT)
WITH (connector = 'redis', url = 'REDIS', key = 'metrics:products:{category}');

CREATE TABLE realtime_events (event_type TEXT NOT NULL, "timestamp" TIMESTAMP NOT NULL)
WITH (connector = 'postgres', url = 'WAREHOUSE', migrate = 'warehouse');

CREATE TABLE customer_sessions (session_id TEXT, outcome TEXT, PRIMARY KEY (session_id))
WITH (connector = 'postgres', url = 'WAREHOUSE', migrate = 'warehouse');

INSERT INTO metrics_transactions
SELECT window['start'], n
FROM (SELECT tumble(INTERVAL '30 seconds') AS window, count(*) AS n FROM transactions GROUP BY window);
"#;

/// A page, and what its pipeline counts in.
struct Shown {
    address: SocketAddr,
    statistics: Arc<Statistics>,
    console: Arc<Console>,
}

impl Shown {
    async fn of(sql: &str, data_dir: &Path) -> Shown {
        let mut files = SourceFiles::default();
        files.add("shop/all.sql".into(), sql.to_owned());
        let program = Program::parse(files, &Variables::from_environment(), &registry::connectors())
            .unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let graph = planner::plan(&program, &PlanOptions { bounded: false, print: stdout::factory() }).await;
        let graph = graph.unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let statistics = Arc::new(Statistics::of(&graph));
        let console = Arc::new(Console::new("shop", &graph, Arc::clone(&statistics)));
        console.enter(Phase::Running);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let page = Page::new(&program, Path::new("shop"), &graph, Arc::clone(&console), data_dir);
        tokio::spawn(page.serve(listener, Access::new(address, None).unwrap()));
        Shown { address, statistics, console }
    }

    async fn ask(&self, path: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        BufReader::new(stream)
    }

    async fn get(&self, path: &str) -> Value {
        let mut answer = String::new();
        timeout(PATIENCE, self.ask(path).await.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// The shop's figures as soon as they are as wanted.
    async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut shop = Value::Null;
        let asking = async {
            loop {
                shop = self.get("/api/page/shop").await;
                if wanted(&shop) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let outcome = timeout(PATIENCE, asking).await;
        assert!(outcome.is_ok(), "{shop:#}");
        shop
    }
}

fn light<'a>(shop: &'a Value, part: &str) -> (&'a str, &'a str) {
    let light = shop["lights"].as_array().unwrap().iter().find(|light| light["part"] == part).unwrap();
    (light["state"].as_str().unwrap(), light["detail"].as_str().unwrap())
}

/// A time as the page has it.
fn json_time(seconds: i64) -> String {
    DateTime::<Utc>::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// A time as a statement has it.
fn literal(millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(millis).unwrap().format("%Y-%m-%d %H:%M:%S%.f").to_string()
}

/// Rows of `realtime_events` around the window that starts at `start`, one statement each, and their times in seconds.
fn events(start: i64) -> Vec<(i64, String)> {
    let rows: [(i64, i64, &str, &str, &str); 9] = [
        // Milliseconds from the window's start, id, event_type, customer_id, amount.
        (-29_000, 10, "transaction", "1", "10.10"),
        (-27_500, 11, "transaction", "2", "20.20"),
        (-30_000, 12, "transaction", "1", "0.30"),
        (-30_001, 13, "transaction", "9", "4.00"),
        (0, 500_000, "transaction", "3", "7.77"),
        (-29_000, 500_001, "transaction_item", "1", "10.10"),
        (-28_000, 900_000, "user_behavior", "4", "NULL"),
        (-1_000, 900_001, "search", "NULL", "NULL"),
        (-25 * 3_600_000, 900_002, "cart_event", "5", "5.00"),
    ];
    rows.into_iter()
        .map(|(offset, id, kind, customer, amount)| {
            let millis = start * 1000 + offset;
            let row = format!("({id}, '{kind}', '{}', {customer}, {amount})", literal(millis));
            let columns = "id, event_type, timestamp, customer_id, amount";
            (millis.div_euclid(1000), format!("INSERT INTO realtime_events ({columns}) VALUES {row}"))
        })
        .collect()
}

const SESSIONS: &str = "INSERT INTO customer_sessions (session_id, outcome) VALUES \
    ('a', 'conversion'), ('b', 'conversion'), ('c', 'bounce'), ('d', 'cart_abandonment'), ('e', 'bounce')";

async fn client(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn set_metrics(url: &str, start: i64) {
    let mut client = client(url).await;
    let at = json_time(start);
    let rows = [
        (
            "metrics:transactions",
            json!({"timestamp": at, "transaction_count": 6, "total_revenue": 45.9, "unique_customers": 1}),
        ),
        ("metrics:behavior:search", json!({"timestamp": at, "event_type": "search", "event_count": 2})),
        ("metrics:behavior:cart_event", json!({"timestamp": at, "event_type": "cart_event", "event_count": 1})),
        ("metrics:products:Toys", json!({"timestamp": at, "category": "Toys", "product_sales": 3})),
        ("metrics:other", json!({"none": "of the page's business"})),
    ];
    for (key, row) in rows {
        client.set::<_, _, ()>(key, row.to_string()).await.unwrap();
    }
}

/// The warehouse of one test, through a client of its own.
enum Warehouse {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Warehouse {
    async fn run(&mut self, statement: &str) {
        match self {
            Warehouse::Postgres(client) => drop(client.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.unwrap()),
            Warehouse::Sqlite(client) => drop(client.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.unwrap()),
        }
    }

    async fn in_file(path: &Path) -> Warehouse {
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let mut warehouse = Warehouse::Sqlite(SqliteConnection::connect(&url).await.unwrap());
        warehouse.run("PRAGMA journal_mode = WAL").await;
        warehouse.run(SQLITE).await;
        warehouse
    }
}

async fn figures_are_those_that_stand_there(warehouse: &mut Warehouse, url: &str, folder: &Path) {
    let redis = Server::new("redis.sh");
    let redis_url = redis.start(&[]);
    let start = Utc::now().timestamp().div_euclid(30) * 30 - 60;
    set_metrics(&redis_url, start).await;
    let events = events(start);
    for (_, insert) in &events {
        warehouse.run(insert).await;
    }
    warehouse.run(SESSIONS).await;
    let sql = PROGRAM.replace("REDIS", &redis_url).replace("WAREHOUSE", url).replace("KAFKA", "embedded");
    let shown = Shown::of(&sql, folder).await;

    let shop = shown.get("/api/page/shop").await;
    assert_eq!((light(&shop, "redis").0, light(&shop, "warehouse").0), ("ok", "ok"), "{shop:#}");
    assert_eq!((light(&shop, "pipeline"), light(&shop, "kafka").0), (("ok", "running"), "ok"));
    let tiles = &shop["tiles"];
    assert_eq!(
        (&tiles["window_start"], &tiles["window_end"]),
        (&json!(json_time(start)), &json!(json_time(start + 30)))
    );
    assert_eq!(tiles["revenue"], json!({"value": 45.9, "previous": 30.6, "change": (45.9 - 30.6) / 30.6}));
    assert_eq!(tiles["transactions"], json!({"value": 6, "previous": 3, "change": 1.0}));
    assert_eq!(tiles["customers"], json!({"value": 1, "previous": 2, "change": -0.5}));
    assert_eq!(shop["transactions"]["transaction_count"], 6);
    let kinds = shop["behavior"].as_array().unwrap().iter().map(|row| (&row["event_type"], &row["event_count"]));
    assert_eq!(kinds.collect::<Vec<_>>(), [(&json!("cart_event"), &json!(1)), (&json!("search"), &json!(2))]);
    assert_eq!(shop["products"], json!([{"timestamp": json_time(start), "category": "Toys", "product_sales": 3}]));
    assert_eq!(shop["sessions"], json!({"conversion": 2, "cart_abandonment": 1, "bounce": 2}));

    let recent = shop["recent"].as_array().unwrap();
    let window = |at: i64| recent.iter().find(|window| window["timestamp"] == json_time(at)).unwrap();
    assert_eq!((recent.len(), &window(start - 90)["transactions"]), (20, &json!(0)));
    assert_eq!((&window(start - 60)["revenue"], &window(start - 60)["transactions"]), (&json!(4.0), &json!(1)));
    assert_eq!((&window(start - 30)["revenue"], &window(start - 30)["transactions"]), (&json!(30.6), &json!(3)));
    assert_eq!((&window(start)["revenue"], &window(start)["transactions"]), (&json!(7.77), &json!(1)));

    let days: std::collections::BTreeSet<i64> = events.iter().map(|(at, _)| at.div_euclid(86_400)).collect();
    let expected = json!({
        "events": 9, "transactions": 5, "behavior": 3, "customers": 6, "active_days": days.len(),
        "first_event": json_time(start - 25 * 3600), "last_event": json_time(start),
    });
    assert_eq!(shop["warehouse"], expected);
    let activity = shop["activity"].as_array().unwrap();
    let sum = |figure: &str| activity.iter().map(|hour| hour[figure].as_i64().unwrap()).sum::<i64>();
    assert_eq!((activity.len(), sum("events"), sum("transactions"), sum("behavior")), (24, 8, 5, 2));

    // The window is over when its sink's watermark says so.
    assert_eq!(tiles["final"], false);
    let sink = shown.statistics.nodes().iter().find(|node| node.name == "metrics_transactions").unwrap();
    sink.set_watermark(EventTime((start + 30) * 1_000_000_000));
    shown.until(|shop| shop["tiles"]["final"] == true).await;

    // A row whose transaction was slower than those of later ids.
    if matches!(warehouse, Warehouse::Postgres(_)) {
        let late = "INSERT INTO realtime_events (id, event_type, timestamp, customer_id) VALUES (850000, 'search', '2001-02-03 04:05:06.789', 6)";
        warehouse.run(late).await;
        let shop = shown.until(|shop| shop["warehouse"]["events"] == 10).await;
        assert_eq!((&shop["warehouse"]["customers"], &shop["warehouse"]["behavior"]), (&json!(7), &json!(4)));
        assert_eq!(shop["warehouse"]["first_event"], "2001-02-03T04:05:06.789Z");
    }
    // New rows, and then none at all.
    let count = shown.get("/api/page/shop").await["warehouse"]["events"].as_i64().unwrap();
    warehouse.run(&events[0].1.replace("(10,", "(900010,")).await;
    shown.until(|shop| shop["warehouse"]["events"] == count + 1).await;
    warehouse.run("DELETE FROM realtime_events").await;
    let empty = shown.until(|shop| shop["warehouse"]["events"] == 0).await;
    assert_eq!((&empty["warehouse"]["first_event"], &empty["warehouse"]["active_days"]), (&Value::Null, &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_from_postgresql_are_those_that_stand_there() {
    let database = database().await;
    let mut warehouse = Warehouse::Postgres(database.client().await);
    warehouse.run(POSTGRES).await;
    figures_are_those_that_stand_there(&mut warehouse, database.url(), Path::new(".")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_from_the_embedded_warehouse_are_those_that_stand_there() {
    let folder = TempDir::new().unwrap();
    let mut warehouse = Warehouse::in_file(&folder.path().join("warehouse.sqlite")).await;
    figures_are_those_that_stand_there(&mut warehouse, "embedded", folder.path()).await;
}

/// The next `shop` event of a stream that is as wanted.
async fn event(stream: &mut BufReader<TcpStream>, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let reading = async {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "the stream has ended");
            if let Some(found) = line.trim_end().strip_prefix("event: ") {
                found.clone_into(&mut name);
            } else if let Some(data) = line.trim_end().strip_prefix("data: ").filter(|_| name == "shop") {
                last = serde_json::from_str(data).unwrap();
                if wanted(&last) {
                    return;
                }
            }
        }
    };
    let outcome = timeout(PATIENCE, reading).await;
    assert!(outcome.is_ok(), "{last:#}");
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_away_is_told_as_such_and_the_others_go_on() {
    let folder = TempDir::new().unwrap();
    let redis = Server::new("redis.sh");
    let url = redis.start(&[]);
    set_metrics(&url, 1_700_000_010).await;
    // Nobody is at port 1.
    let sql = PROGRAM.replace("REDIS", &url).replace("WAREHOUSE", "embedded").replace("KAFKA", "127.0.0.1:1");
    let shown = Shown::of(&sql, folder.path()).await;
    let mut stream = shown.ask("/api/page/stream").await;
    let first = event(&mut stream, |shop| ["kafka", "warehouse"].iter().all(|part| light(shop, part).0 == "down"));
    let first = first.await;
    let (state, detail) = light(&first, "warehouse");
    assert_eq!((state, &first["warehouse"], &first["recent"]), ("down", &Value::Null, &Value::Null));
    assert!(detail.contains("warehouse.sqlite: it is not there yet (since "), "{detail}");
    assert!(light(&first, "kafka").1.starts_with("Kafka at 127.0.0.1:1: "), "{}", light(&first, "kafka").1);
    assert_eq!((light(&first, "redis").0, &first["transactions"]["transaction_count"]), ("ok", &json!(6)));

    let mut warehouse = Warehouse::in_file(&folder.path().join("warehouse.sqlite")).await;
    // Metrics of long ago, such as these, have a window before them too.
    warehouse
        .run("INSERT INTO realtime_events (event_type, timestamp, amount) VALUES ('transaction', '2023-11-14 22:13:00', 5)")
        .await;
    let second = event(&mut stream, |shop| {
        light(shop, "warehouse").0 == "ok" && shop["warehouse"]["events"] == 1 && shop["sessions"].is_object()
    });
    let second = second.await;
    assert_eq!(second["tiles"]["transactions"], json!({"value": 6, "previous": 1, "change": 5.0}), "{second:#}");

    redis.stop();
    let stopped = event(&mut stream, |shop| light(shop, "redis").0 == "down").await;
    assert!(light(&stopped, "redis").1.starts_with("Redis at 127.0.0.1:"), "{stopped:#}");
    assert_eq!((&stopped["tiles"], &stopped["transactions"]), (&Value::Null, &Value::Null));
    assert_eq!((&stopped["behavior"], &stopped["products"]), (&json!([]), &json!([])));
    assert_eq!((light(&stopped, "warehouse").0, &stopped["warehouse"]["events"]), ("ok", &json!(1)));

    redis.start(&[]);
    set_metrics(&url, 1_700_000_010).await;
    let back = event(&mut stream, |shop| light(shop, "redis").0 == "ok" && !shop["products"][0].is_null()).await;
    assert_eq!(back["tiles"]["transactions"]["value"], 6);

    shown.console.enter(Phase::Draining);
    let draining = event(&mut stream, |shop| light(shop, "pipeline").0 == "warn").await;
    assert_eq!(light(&draining, "pipeline").1, "stopping: what was read is worked off");
}

/// Commands that the server has carried out, this one not among them.
async fn commands(client: &mut MultiplexedConnection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("stats").query_async(client).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
    line.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_while_nobody_looks() {
    let folder = TempDir::new().unwrap();
    let redis = Server::new("redis.sh");
    let url = redis.start(&[]);
    let mut client = client(&url).await;
    let sql = PROGRAM.replace("REDIS", &url).replace("WAREHOUSE", "embedded").replace("KAFKA", "embedded");
    let shown = Shown::of(&sql, folder.path()).await;
    let before = commands(&mut client).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(commands(&mut client).await, before + 1, "only this test has asked");
    shown.get("/api/page/shop").await;
    assert!(commands(&mut client).await > before + 2);
    // It goes on for a while, should the page be reloaded, and ends then.
    let quiet = async {
        loop {
            let before = commands(&mut client).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            if commands(&mut client).await == before + 1 {
                return;
            }
        }
    };
    timeout(PATIENCE, quiet).await.expect("it still asks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipeline_has_its_graph_and_the_sql_beside_it() {
    let folder = TempDir::new().unwrap();
    let sql = PROGRAM.replace("REDIS", "embedded").replace("WAREHOUSE", "embedded").replace("KAFKA", "embedded");
    let shown = Shown::of(&sql, folder.path()).await;
    let source = &shown.statistics.nodes()[0];
    source.rows_in.store(5, std::sync::atomic::Ordering::Relaxed);
    source.add_bad_rows("malformed", 1);
    source.set_lag([("transactions[0]".to_owned(), 3), ("transactions[1]".to_owned(), 4)]);
    let pipeline = shown.get("/api/page/pipeline").await;
    assert_eq!((&pipeline["pipeline"], &pipeline["phase"]), (&json!("shop"), &json!("running")));
    assert_eq!((&pipeline["rows_in"], &pipeline["lag"], &pipeline["dead_letters"]), (&json!(5), &json!(7), &json!([])));
    let nodes = pipeline["nodes"].as_array().unwrap();
    let first = &nodes[0];
    assert_eq!((&first["name"], &first["role"], &first["lag"]), (&json!("transactions"), &json!("source"), &json!(7)));
    assert_eq!((&first["bad_rows"], &first["delivery"]), (&json!({"malformed": 1}), &Value::Null));
    assert_eq!((&first["sql"]["file"], &first["sql"]["line"]), (&json!("all.sql"), &json!(2)));
    let text = first["sql"]["text"].as_str().unwrap();
    assert!(text.starts_with("CREATE TABLE transactions (") && text.ends_with(')'), "{text}");
    let last = nodes.last().unwrap();
    assert_eq!((&last["role"], &last["table"]), (&json!("sink"), &json!("metrics_transactions")));
    assert_eq!(last["delivery"]["settled_epoch"], 0);
    for node in &nodes[1..] {
        let inputs = node["inputs"].as_array().unwrap();
        assert!(!inputs.is_empty() && inputs.iter().all(|input| input.as_i64() < node["id"].as_i64()), "{node}");
    }
    let window = nodes.iter().find(|node| node["name"] == "metrics_transactions.window").unwrap();
    assert!(
        window["sql"]["text"].as_str().unwrap().starts_with("INSERT INTO metrics_transactions\nSELECT"),
        "{window}"
    );
    // It moves by the time it is asked again.
    source.rows_in.fetch_add(1000, std::sync::atomic::Ordering::Relaxed);
    let moved = async {
        while shown.get("/api/page/pipeline").await["nodes"][0]["rows_per_second"] == json!(0.0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, moved).await.expect("no rate");

    let files = shown.get("/api/page/sql").await;
    let text = files[0]["text"].as_str().unwrap();
    assert_eq!((&files[0]["file"], text.len()), (&json!("all.sql"), sql.len()));
    assert!(!text.contains("hunter2") && text.contains("'properties.sasl.password' = *********"), "{text}");
}

#[tokio::test]
async fn a_folder_that_is_not_the_shop_s_has_no_shop() {
    let sql = "CREATE TABLE t (a TEXT) WITH (connector = 'file', path = 'none.jsonl'); SELECT a FROM t;";
    let shown = Shown::of(sql, Path::new(".")).await;
    assert_eq!(shown.get("/api/page/shop").await, Value::Null);
    let pipeline = shown.get("/api/page/pipeline").await;
    let printed = pipeline["nodes"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&printed["sql"]["text"], &printed["sql"]["line"]), (&json!("SELECT a FROM t"), &json!(1)));
}
