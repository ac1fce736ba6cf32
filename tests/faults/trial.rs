//! A pipeline with topics, tables and folders of its own, on servers that trials share.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::destinations;
use crate::kafka::Cluster;
use crate::ledger::Ledger;
use crate::pipeline::{Pipeline, acequia};
use crate::server::Server;
use crate::verdict::{Found, HEADING, Judge, Shape, Verdict};

/// How long anything may take that only waits for the pipeline, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Kafka, PostgreSQL and Redis, running.
#[derive(Clone)]
pub struct Servers {
    pub kafka: Arc<Cluster>,
    pub postgres: Arc<Server>,
    pub redis: Arc<Server>,
}

impl Servers {
    pub fn start(brokers: u16) -> Servers {
        let kafka = Cluster::of(brokers);
        let (postgres, redis) = (Server::new("postgres.sh"), Server::new("redis.sh"));
        postgres.start(&[]);
        redis.start(&[]);
        Servers { kafka: Arc::new(kafka), postgres: Arc::new(postgres), redis: Arc::new(redis) }
    }

    /// The shared ones, but for a Redis that nobody else uses.
    pub fn with_own_redis() -> Arc<Servers> {
        let redis = Server::new("redis.sh");
        redis.start(&[]);
        let shared = Servers::shared();
        Arc::new(Servers { redis: Arc::new(redis), ..(*shared).clone() })
    }

    /// Those of the tests that leave them running.
    pub fn shared() -> Arc<Servers> {
        static SHARED: Mutex<Weak<Servers>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        shared.upgrade().unwrap_or_else(|| {
            let servers = Arc::new(Servers::start(1));
            *shared = Arc::downgrade(&servers);
            servers
        })
    }

    pub fn postgres_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.postgres.port)
    }

    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.redis.port)
    }
}

/// One pipeline, its input and its destinations.
pub struct Trial {
    /// Also the name of its schema; topics and keys begin with it.
    pub name: String,
    pub servers: Arc<Servers>,
    pub ledger: Ledger,
    /// Told to the pipeline in place of what is said otherwise: addresses of proxies.
    pub variables: BTreeMap<&'static str, String>,
    place: TempDir,
}

impl Trial {
    pub async fn new(servers: &Arc<Servers>, ledger: Ledger) -> Trial {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("trial{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let servers = Arc::clone(servers);
        servers.kafka.create_topic(&format!("{name}-in"), ledger.partitions).await;
        servers.kafka.create_topic(&format!("{name}-out"), 2).await;
        let mut client = PgConnection::connect(&servers.postgres_url()).await.unwrap();
        client.execute(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).await.unwrap();
        let place = tempfile::Builder::new().prefix("acequia-faults-").tempdir().unwrap();
        Trial { name, servers, ledger, variables: BTreeMap::new(), place }
    }

    /// Its folder.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.place().join("checkpoints")
    }

    /// `acequia run`, ready to start.
    pub fn command(&self) -> Command {
        self.command_with(&self.checkpoints())
    }

    /// The same with its checkpoints elsewhere.
    pub fn command_with(&self, checkpoints: &Path) -> Command {
        let mut command = acequia();
        command.arg("run").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/pipeline"));
        command.arg("--checkpoints").arg(checkpoints);
        command.arg("--data-dir").arg(self.place().join("data"));
        command.args(["--parallelism", "2", "--name", &self.name]);
        command.env("ACEQUIA__RUN__CHECKPOINT_INTERVAL", "200ms");
        // What is tested is what arrives, and not how fast a busy machine brings it there; less than `PATIENCE`.
        command.env("ACEQUIA__RUN__SHUTDOWN_TIMEOUT", "100s");
        command.env("TRIAL", &self.name).env("PLACE", self.place());
        command.env("KAFKA", &self.servers.kafka.servers);
        command.env("POSTGRES", self.servers.postgres_url()).env("REDIS", self.servers.redis_url());
        command.envs(&self.variables);
        command
    }

    /// Starts it.
    pub fn start(&self) -> Pipeline {
        let mut command = self.command();
        command.arg("--no-http");
        Pipeline::start(command)
    }

    /// Writes the records of a range into the topic from a thread of its own, each once, so many a second.
    pub fn feed(&self, numbers: Range<u64>, per_second: u64) -> Feed {
        let (topic, ledger) = (format!("{}-in", self.name), self.ledger);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers.kafka.servers)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        let enough = CancellationToken::new();
        let told = enough.clone();
        let thread = std::thread::spawn(move || {
            let (began, first) = (Instant::now(), numbers.start);
            let mut sent = first;
            while sent < numbers.end && !told.is_cancelled() {
                let due = began + Duration::from_micros((sent - first) * 1_000_000 / per_second);
                while let Some(early) = due.checked_duration_since(Instant::now()) {
                    producer.poll(early.min(Duration::from_millis(20)));
                }
                let record = ledger.record(sent);
                let record = || BaseRecord::<(), _>::to(&topic).partition(record.partition).payload(&record.value);
                while producer.send(record()).is_err() {
                    producer.poll(Duration::from_millis(10));
                }
                sent += 1;
            }
            producer.flush(PATIENCE).unwrap();
            sent
        });
        Feed { thread, enough }
    }

    /// Runs it to the end of its input, which is `count` records, and looks at every destination.
    pub async fn finish(&self, count: u64) -> Vec<Verdict> {
        let mut command = self.command();
        command.args(["--bounded", "--no-http"]);
        let mut pipeline = Pipeline::start(command);
        let code = exit_code(&mut pipeline).await;
        assert_eq!(code, Some(0), "{}: the last run failed:\n{}", self.name, pipeline.said());
        let verdicts = self.verdicts(count).await;
        if !verdicts.iter().all(Verdict::is_clean) {
            println!("-- the last run of {}:\n{}", self.name, pipeline.said());
        }
        verdicts
    }

    /// What is in each destination now, against what the first `count` records must come to at the end of the input.
    pub async fn verdicts(&self, count: u64) -> Vec<Verdict> {
        const LATE: &str = "SELECT id, kind, amount, ts FROM ledger, generate_series(1, 3) WHERE fate = 'late'";
        const BAD: &str = "SELECT reason, partition, value FROM ledger WHERE fate = 'bad'";
        let rows = |filter: &str| format!("SELECT id, kind, amount, ts FROM ledger WHERE fate <> 'bad' AND {filter}");
        let windows = |start: &str, series: &str| {
            format!(
                "SELECT {start} AS start, kind, count(*) AS n, sum(amount)::BIGINT AS total, min(amount) AS lowest, \
                 max(amount) AS highest FROM ledger {series} WHERE fate = 'in time' GROUP BY 1, 2"
            )
        };
        let bin = |width: &str| format!("date_bin('{width}', ts, '2024-01-01')");
        let table = |table: &str| Found::Table(format!("{}.{table}", self.name));
        let servers = &self.servers;
        assert_eq!(self.surplus(count), 0, "records of {}-in that were brought twice", self.name);

        let mut judge = Judge::new(&servers.postgres_url(), &self.name, self.ledger, count).await;
        let topic = Found::Documents(destinations::topic(&servers.kafka.servers, &format!("{}-out", self.name)));
        let redis = Found::Documents(destinations::redis(&servers.redis_url(), &format!("{}:", self.name)));
        let lines = Found::Documents(destinations::lines(&self.place().join("lines.jsonl")));
        let parquet = Found::Documents(destinations::parquet(&self.place().join("history")));
        let delta = Found::Documents(destinations::delta(&self.place().join("lake")).await);
        let totals = self.place().join("totals.sqlite");
        let sqlite = Found::Documents(destinations::sqlite(&totals, "totals", &Shape::Windows.names()).await);
        // The window in which a row falls, and the one that began five seconds before.
        let hop = windows(
            "date_bin('5 seconds', ts, '2024-01-01') - back",
            ", (VALUES (INTERVAL '0'), ('5 seconds')) AS b(back)",
        );
        let all = [
            ("Kafka topic", Shape::Events, rows("amount >= 200"), topic),
            ("PostgreSQL rows", Shape::Events, rows("true"), table("events")),
            ("PostgreSQL windows", Shape::Windows, windows(&bin("10 seconds"), ""), table("windows")),
            ("PostgreSQL late rows", Shape::Events, LATE.into(), table("late_events")),
            ("PostgreSQL bad records", Shape::DeadLetters, BAD.into(), table("dead_letters")),
            ("Redis", Shape::Windows, hop, redis),
            ("JSON lines", Shape::Events, rows("kind <> 'search'"), lines),
            ("Parquet", Shape::Events, rows("amount < 800"), parquet),
            ("Delta table", Shape::Events, rows("amount < 900"), delta),
            ("SQLite", Shape::Windows, windows(&bin("5 seconds"), ""), sqlite),
        ];
        let mut verdicts = vec![];
        for (destination, shape, expected, found) in all {
            verdicts.push(judge.judge(destination, shape, &expected, found).await);
        }
        verdicts
    }

    /// How many records the topic holds beside the first `count`. When a broker dies, the feed's own producer may bring some
    /// twice; what the test does wrong itself must not look like a mistake of Acequia.
    pub fn surplus(&self, count: u64) -> u64 {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.servers.kafka.servers).create().unwrap();
        let topic = format!("{}-in", self.name);
        let ends = (0..self.ledger.partitions)
            .map(|partition| consumer.fetch_watermarks(&topic, partition, Duration::from_secs(20)).unwrap().1 as u64);
        let there = ends.sum::<u64>();
        there.checked_sub(count).unwrap_or_else(|| panic!("{topic} holds {there} records of {count}"))
    }

    /// Rows of a PostgreSQL table of this trial.
    pub async fn rows_in(&self, table: &str) -> i64 {
        let mut client = PgConnection::connect(&self.servers.postgres_url()).await.unwrap();
        let statement = format!("SELECT count(*) FROM {}.{table}", self.name);
        sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut client).await.unwrap_or_default()
    }

    /// Returns when so many rows are in a PostgreSQL table of this trial.
    pub async fn until_rows(&self, pipeline: &mut Pipeline, table: &str, rows: i64) {
        let deadline = Instant::now() + PATIENCE;
        while self.rows_in(table).await < rows {
            assert!(!pipeline.has_ended(), "{} ended before {rows} rows:\n{}", self.name, pipeline.said());
            assert!(Instant::now() < deadline, "{}: still not {rows} rows:\n{}", self.name, pipeline.said());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Records on their way into a topic.
pub struct Feed {
    thread: JoinHandle<u64>,
    enough: CancellationToken,
}

impl Feed {
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until all are written; the number after the last one.
    pub async fn all(self) -> u64 {
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap()
    }

    /// Writes no more than what is written by now; the number after the last one.
    pub async fn stop(self) -> u64 {
        self.enough.cancel();
        self.all().await
    }
}

/// Waits for the end of a process without holding up others. `None` when a signal ended it.
pub async fn exit_code(pipeline: &mut Pipeline) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    while !pipeline.has_ended() {
        assert!(Instant::now() < deadline, "still running:\n{}", pipeline.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pipeline.exit_code()
}

/// Fails with the whole table if anything is lost, twice or wrong.
pub fn assert_clean(what: &str, verdicts: &[Verdict]) {
    let table: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
    assert!(verdicts.iter().all(Verdict::is_clean), "{what}\n{HEADING}\n{}", table.join("\n"));
    assert!(verdicts.iter().all(|verdict| verdict.expected > 0), "{what}: nothing expected\n{}", table.join("\n"));
}
