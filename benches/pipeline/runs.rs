//! What is measured: each run is a value that travels to its process as JSON.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use acequia::checkpoint::log::LogOptions;
use acequia::connectors::{Decoding, SourceContext, SourceEvent, stdout};
use acequia::dataflow::graph::{Graph, NodeKind, SourceNode};
use acequia::dataflow::recovery::Beginning;
use acequia::dataflow::statistics::{Role, Statistics};
use acequia::dataflow::{self, RunOptions};
use acequia::planner::{self, PlanOptions};
use acequia::program::Program;
use acequia::sql::Variables;
use anyhow::{Context, anyhow, bail, ensure};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::{JsonReadOptions, SessionConfig, SessionContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Result;
use super::events::Events;
use super::report::{Resources, Sample};

/// Where events come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// A file or a folder.
    File(PathBuf),
    /// A topic, from its beginning to what is its end when the run starts.
    Kafka {
        /// `bootstrap.servers`.
        servers: String,
        /// The topic.
        topic: String,
    },
    /// Events from a process beside, through a pipe: as many as are read.
    Endless(Events),
}

/// A window in SQL.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Window {
    /// The one that targets are about.
    Tumble30,
    Tumble60,
    Hop1In60,
    Hop10In60,
    Session1,
}

impl Window {
    fn sql(self) -> &'static str {
        match self {
            Window::Tumble30 => "tumble(INTERVAL '30 seconds')",
            Window::Tumble60 => "tumble(INTERVAL '60 seconds')",
            Window::Hop1In60 => "hop(INTERVAL '1 second', INTERVAL '60 seconds')",
            Window::Hop10In60 => "hop(INTERVAL '10 seconds', INTERVAL '60 seconds')",
            Window::Session1 => "session(INTERVAL '1 second')",
        }
    }
}

/// One measured run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Run {
    /// The source and the decoder that a program's plan begins with, and nothing behind them. `scripts/bench/flink` asks
    /// for it with programs of its own.
    Bare { sql: String, instances: usize },
    /// librdkafka's messages, one at a time, undecoded.
    Poll { input: Input },
    /// The whole pipeline; with `kept`, its checkpoints are kept, one a second.
    Pipeline { sql: String, input: Input, parallelism: usize, kept: bool },
    /// The same question to DataFusion as a batch.
    Batch { input: Input, partitions: usize },
    /// The same question to DuckDB as a batch.
    DuckDb { input: Input, threads: usize },
    /// Writes events to a pipe until nobody reads.
    Generate { events: Events, pipe: PathBuf },
}

const AGGREGATES: &str = "count(*) AS orders, sum(amount) AS total, avg(amount) AS mean, min(amount) AS lowest, \
                          max(amount) AS highest, approx_distinct(customer_id) AS customers";
const RESULT_COLUMNS: &str = "window_start TIMESTAMP, category TEXT, orders BIGINT, total DOUBLE, mean DOUBLE, lowest DOUBLE, \
                              highest DOUBLE, customers BIGINT UNSIGNED";

impl Run {
    /// Results into a file below `dir`.
    pub fn pipeline(input: &Input, window: Window, parallelism: usize, dir: &Path) -> Run {
        let sql = format!("{}{}", source(input), into_file(window, dir));
        Run::Pipeline { sql, input: input.clone(), parallelism, kept: false }
    }

    /// Reads and decodes what the pipeline with a window of 30 s would.
    pub fn bare(input: &Input, instances: usize) -> Run {
        Run::Bare { sql: format!("{}{}", source(input), into_file(Window::Tumble30, &std::env::temp_dir())), instances }
    }

    /// The same with a checkpoint every second.
    pub fn kept(self) -> Run {
        match self {
            Run::Pipeline { sql, input, parallelism, .. } => Run::Pipeline { sql, input, parallelism, kept: true },
            other => other,
        }
    }

    /// A sum for each customer, of which there are many, so that there is much state; results into a file below `dir`.
    pub fn many_keys(input: &Input, dir: &Path) -> Run {
        let sql = format!(
            "{}CREATE TABLE results (customer_id BIGINT, orders BIGINT, total DOUBLE)
WITH (connector = 'file', path = '{}', format = 'json', mode = 'overwrite');
INSERT INTO results SELECT customer_id, count(*), sum(amount) FROM events
GROUP BY tumble(INTERVAL '60 seconds'), customer_id;",
            source(input),
            dir.join("results.jsonl").display()
        );
        Run::Pipeline { sql, input: input.clone(), parallelism: 1, kept: false }
    }

    /// Every event on into a table of these options, as `delivery` says.
    pub fn pass_through(input: &Input, options: &str, delivery: &str) -> Run {
        let sql = source(input) + &copies("copies", &format!("{options}, delivery = '{delivery}'"));
        Run::Pipeline { sql, input: input.clone(), parallelism: 1, kept: true }
    }

    /// And every event into `table` of these options.
    pub fn and_every_event(self, table: &str, options: &str) -> Run {
        match self {
            Run::Pipeline { sql, input, parallelism, kept } => {
                let sql = sql + &copies(table, options);
                Run::Pipeline { sql, input, parallelism, kept }
            }
            other => other,
        }
    }

    /// Results into a file below `dir` and into Redis.
    pub fn pipeline_to_redis(input: &Input, parallelism: usize, dir: &Path, redis: &str) -> Run {
        let sql = format!(
            "{}{}
CREATE TABLE newest ({RESULT_COLUMNS}, PRIMARY KEY (category))
WITH (connector = 'redis', url = '{redis}', key = 'metrics:products:{{category}}');
INSERT INTO newest SELECT window_start, category, orders, total, mean, lowest, highest, customers FROM by_window;",
            source(input),
            into_file(Window::Tumble30, dir)
        );
        Run::Pipeline { sql, input: input.clone(), parallelism, kept: false }
    }

    /// The run that [`Run::text`] has written.
    pub fn parse(text: &str) -> Result<Run> {
        Ok(serde_json::from_str(text)?)
    }

    /// For the command line of its process.
    pub fn text(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Does it and prints a [`Sample`].
    pub fn measure(&self) -> Result<()> {
        if let Run::Generate { events, pipe } = self {
            use std::io::Write;
            let mut pipe = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(pipe)?);
            return events.each(|_, text| Ok(pipe.write_all(text).and_then(|()| pipe.write_all(b"\n"))?));
        }
        let workers = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build()?;
        let sample = workers.block_on(async {
            match self {
                Run::Bare { sql, instances } => bare(sql, *instances).await,
                Run::Poll { input } => poll(input),
                Run::Pipeline { sql, input, parallelism, kept } => pipeline(sql, input, *parallelism, *kept).await,
                Run::Batch { input, partitions } => batch(input, *partitions).await,
                Run::DuckDb { input, threads } => duckdb(input, *threads),
                Run::Generate { .. } => bail!("not a run that is measured"),
            }
        })?;
        println!("{}", serde_json::to_string(&sample)?);
        Ok(())
    }
}

fn source(input: &Input) -> String {
    let options = match input {
        Input::File(path) => format!("connector = 'file', path = '{}', format = 'json'", path.display()),
        Input::Kafka { servers, topic } => {
            format!(
                "connector = 'kafka', bootstrap_servers = '{servers}', topic = '{topic}', 'source.offset' = 'earliest'"
            )
        }
        Input::Endless(_) => format!("connector = 'file', path = '{}', format = 'json'", pipe_path().display()),
    };
    format!(
        "CREATE TABLE events (
    event_type TEXT, \"timestamp\" TIMESTAMP, customer_id BIGINT, category TEXT, quantity INT, amount DOUBLE, session_id TEXT,
    WATERMARK FOR \"timestamp\" AS \"timestamp\" - INTERVAL '10 seconds'
) WITH ({options});\n"
    )
}

fn copies(table: &str, options: &str) -> String {
    format!(
        "
CREATE TABLE {table} (event_type TEXT, \"timestamp\" TIMESTAMP, customer_id BIGINT, category TEXT, quantity INT, amount DOUBLE, \
         session_id TEXT, day DATE) WITH ({options});
INSERT INTO {table}
SELECT event_type, \"timestamp\", customer_id, category, quantity, amount, session_id, CAST(\"timestamp\" AS DATE) AS day
FROM events;"
    )
}

fn into_file(window: Window, dir: &Path) -> String {
    format!(
        "CREATE VIEW by_window AS
SELECT \"window\"['start'] AS window_start, category, orders, total, mean, lowest, highest, customers
FROM (SELECT {} AS \"window\", category, {AGGREGATES} FROM events GROUP BY \"window\", category);
CREATE TABLE results ({RESULT_COLUMNS})
WITH (connector = 'file', path = '{}', format = 'json', mode = 'overwrite');
INSERT INTO results SELECT window_start, category, orders, total, mean, lowest, highest, customers FROM by_window;",
        window.sql(),
        dir.join("results.jsonl").display()
    )
}

fn pipe_path() -> PathBuf {
    std::env::temp_dir().join("acequia-bench.pipe")
}

async fn plan(sql: &str) -> Result<Graph> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("queries.sql"), sql)?;
    let program = Program::read(folder.path(), &Variables::from_environment()).map_err(|e| anyhow!(e.render(false)))?;
    let options = PlanOptions { bounded: true, print: stdout::factory() };
    planner::plan(&program, &options).await.map_err(|errors| anyhow!(errors.render(false)))
}

/// Waits for the first rows: what a client does before is the same for all, and no part of a rate. In a thread of its own,
/// because busy workers look at timers seldom.
fn first_rows(statistics: &Arc<Statistics>) -> JoinHandle<Instant> {
    let statistics = Arc::clone(statistics);
    std::thread::spawn(move || {
        while statistics.total(Role::Source, |node| &node.rows_in) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Instant::now()
    })
}

fn since_first_rows(first: JoinHandle<Instant>) -> Result<Duration> {
    Ok(first.join().map_err(|_| anyhow!("the thread that waits for rows has panicked"))?.elapsed())
}

async fn pipeline(sql: &str, input: &Input, parallelism: usize, kept: bool) -> Result<Sample> {
    let _generator = if let Input::Endless(events) = input { Some(Generator::start(events)?) } else { None };
    let graph = plan(sql).await?;
    let statistics = Arc::new(Statistics::of(&graph));
    // Not in /tmp, which may be memory: what is synced is to cost what it costs.
    let data = tempfile::tempdir_in("/var/tmp")?;
    let options = RunOptions {
        pipeline: format!("bench-{}", std::process::id()),
        parallelism,
        batch_size: batch_size(),
        bounded: true,
        checkpoint_interval: Duration::from_secs(1),
        checkpoint_bytes: 64 << 20,
        linger: Duration::from_millis(200),
        data_dir: data.path().to_owned(),
        wall_clock: None,
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
    };
    let first = first_rows(&statistics);
    let resident = Resources::watch_memory();
    let before = Resources::now()?;
    let beginning = if kept { with_checkpoints(&graph, data.path()).await? } else { Beginning::default() };
    tokio::spawn(dataflow::run_from(graph, options, Arc::clone(&statistics), beginning)).await??;
    let wall = since_first_rows(first)?;
    let used = Resources::now()?.since(&before);
    let events = statistics.total(Role::Source, |node| &node.rows_in);
    let late = statistics.total(Role::Operator, |node| &node.late_rows);
    let written = statistics.nodes().iter().filter(|node| node.role == Role::Sink);
    let results = written.map(|node| node.rows_out.load(Ordering::Relaxed)).max().unwrap_or_default();
    ensure!(late == 0, "{late} events were late");
    Ok(Sample { events, results, wall: wall.as_secs_f64(), cpu: used.cpu, ..resident.sample()? })
}

/// Begins from nothing, on a real disk.
async fn with_checkpoints(graph: &Graph, data: &Path) -> Result<Beginning> {
    let place = data.join("checkpoints");
    let store = acequia::checkpoint::store::open(&place.to_string_lossy())?;
    let log = LogOptions { pipeline: "bench".into(), fresh: true, from: None, keep: 3 };
    Ok(Beginning::recover(graph, store, log, false).await?.0)
}

/// `ACEQUIA_BENCH_BATCH`, or the binary's default.
fn batch_size() -> usize {
    std::env::var("ACEQUIA_BENCH_BATCH").ok().and_then(|text| text.parse().ok()).unwrap_or(8192)
}

fn source_node(graph: &Graph) -> Result<&SourceNode> {
    let source = graph.nodes.iter().find_map(|node| match &node.kind {
        NodeKind::Source(source) => Some(source),
        _ => None,
    });
    source.context("the plan has no source")
}

/// Reads and decodes with what the pipeline's plan names, in as many tasks as the pipeline would have.
async fn bare(sql: &str, instances: usize) -> Result<Sample> {
    let graph = plan(sql).await?;
    let node = source_node(&graph)?;
    let statistics = Arc::new(Statistics::of(&graph));
    let first = first_rows(&statistics);
    let resident = Resources::watch_memory();
    let before = Resources::now()?;
    let mut tasks = tokio::task::JoinSet::new();
    for instance in 0..instances {
        let context = SourceContext {
            table: node.table.clone(),
            pipeline: format!("bench-{}", std::process::id()),
            instance,
            instances,
            bounded: true,
            schema: Arc::clone(&node.physical),
            wants_keys: false,
            wants_timestamps: false,
            wants_headers: false,
            batch_size: batch_size(),
            positions: Default::default(),
            origin: None,
            split_origins: Default::default(),
            accept_lost_input: false,
            data_dir: std::env::temp_dir(),
            stop: CancellationToken::new(),
        };
        let Decoding::Format(format) = node.factory.decoding() else { bail!("the source does not send records") };
        let mut decoder = format.decoder(Arc::clone(&node.physical))?;
        let factory = Arc::clone(&node.factory);
        let statistics = Arc::clone(&statistics);
        tasks.spawn(async move {
            let rows = &statistics.nodes()[0].rows_in;
            let mut source = factory.open(context).await?;
            loop {
                match source.next().await? {
                    SourceEvent::Records(records) => {
                        let decoded = decoder.decode(&records)?;
                        ensure!(decoded.bad.is_empty(), "a bad record: {}", decoded.bad[0].message);
                        rows.fetch_add(std::hint::black_box(decoded.batch).num_rows() as u64, Ordering::Relaxed);
                    }
                    SourceEvent::End => return Ok(()),
                    _ => {}
                }
            }
        });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }
    let wall = since_first_rows(first)?;
    let used = Resources::now()?.since(&before);
    let events = statistics.total(Role::Source, |node| &node.rows_in);
    Ok(Sample { events, results: 0, wall: wall.as_secs_f64(), cpu: used.cpu, ..resident.sample()? })
}

/// The usual loop of a consumer in Rust, with the settings that rdkafka has by default.
fn poll(input: &Input) -> Result<Sample> {
    let Input::Kafka { servers, topic } = input else { bail!("only a topic can be polled") };
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "bench-poll").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let (_, end) = consumer.fetch_watermarks(topic, 0, Duration::from_secs(10))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)?;
    let resident = Resources::watch_memory();
    let before = Resources::now()?;
    consumer.assign(&list)?;
    let (mut first, mut events, mut bytes) = (None, 0, 0);
    while events < end {
        let Some(message) = consumer.poll(Duration::from_secs(10)) else { bail!("the topic is silent") };
        first.get_or_insert_with(Instant::now);
        bytes += message?.payload_len();
        events += 1;
    }
    std::hint::black_box(bytes);
    let wall = first.context("the topic is empty")?.elapsed();
    let used = Resources::now()?.since(&before);
    Ok(Sample { events: events as u64, results: 0, wall: wall.as_secs_f64(), cpu: used.cpu, ..resident.sample()? })
}

fn path(input: &Input) -> Result<String> {
    let Input::File(path) = input else { bail!("a batch reads a file") };
    Ok(path.display().to_string())
}

async fn batch(input: &Input, partitions: usize) -> Result<Sample> {
    let timestamp = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let fields = [
        ("timestamp", timestamp),
        ("customer_id", DataType::Int64),
        ("category", DataType::Utf8View),
        ("amount", DataType::Float64),
    ];
    let schema = Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
    let resident = Resources::watch_memory();
    let (began, before) = (Instant::now(), Resources::now()?);
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    let options = JsonReadOptions::default().schema(&schema).file_extension(".jsonl");
    session.register_json("events", path(input)?, options).await?;
    let query = format!(
        "SELECT date_bin(INTERVAL '30 seconds', \"timestamp\") AS window_start, category, {AGGREGATES}
         FROM events GROUP BY window_start, category"
    );
    let batches = tokio::spawn(session.sql(&query).await?.collect()).await??;
    let (wall, used) = (began.elapsed(), Resources::now()?.since(&before));
    let results = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let events = lines(input)?;
    Ok(Sample { events, results, wall: wall.as_secs_f64(), cpu: used.cpu, ..resident.sample()? })
}

/// Every event has the same length.
fn lines(input: &Input) -> Result<u64> {
    Ok(std::fs::metadata(path(input)?)?.len() / 175)
}

fn duckdb(input: &Input, threads: usize) -> Result<Sample> {
    let script = format!(
        "import duckdb, json, resource, time
duckdb.execute('SET threads = {threads}')
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
wall, cpu = time.time(), used()
rows = duckdb.execute('''SELECT time_bucket(INTERVAL '30 seconds', timestamp) AS window_start, category, count(*), sum(amount),
    avg(amount), min(amount), max(amount), approx_count_distinct(customer_id)
    FROM read_json('{}', format = 'newline_delimited', columns = {{timestamp: 'TIMESTAMP', customer_id: 'BIGINT',
    category: 'VARCHAR', amount: 'DOUBLE'}}) GROUP BY ALL''').fetchall()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(dict(events={}, results=len(rows), wall=time.time() - wall, cpu=used() - cpu, peak=peak, quarters=[0, 0])))",
        path(input)?,
        lines(input)?
    );
    let output = Command::new("python3").arg("-c").arg(script).output()?;
    ensure!(output.status.success(), "DuckDB: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The process at the other end of the pipe; ends with the run.
struct Generator(Child);

impl Generator {
    fn start(events: &Events) -> Result<Generator> {
        let pipe = pipe_path();
        let _ = std::fs::remove_file(&pipe);
        ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "mkfifo {} failed", pipe.display());
        let run = Run::Generate { events: events.clone(), pipe }.text()?;
        let child = Command::new(std::env::current_exe()?).arg("--run").arg(run).stdout(Stdio::null()).spawn()?;
        Ok(Generator(child))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = std::fs::remove_file(pipe_path());
    }
}
