//! How fast whole pipelines are, beside the limits that nothing could be faster than. `docs/benchmarks.md` holds the
//! results; `scripts/bench/pipelines` runs this.
//!
//! Every measured run is a process of its own: this program starts itself again with `--run`, so that a run's CPU time
//! and peak memory are those of the process. A group of runs is repeated as a whole, so that a machine that is busy for
//! a while slows all of them down alike.

mod events;
mod report;
mod runs;
mod servers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use events::Events;
use runs::{Input, Run, Window};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, anyhow::Error>;

/// Measures pipelines and prints tables in Markdown.
#[derive(Parser)]
struct Arguments {
    /// What to measure [default: all]
    groups: Vec<Group>,
    /// Events in the file
    #[arg(long, env = "ACEQUIA_BENCH_EVENTS", default_value = "4000000")]
    events: usize,
    /// Events in each topic
    #[arg(long, env = "ACEQUIA_BENCH_KAFKA_EVENTS", default_value = "4000000")]
    kafka_events: usize,
    /// Events of the endless input, before it is asked how much memory was used
    #[arg(long, env = "ACEQUIA_BENCH_MEMORY_EVENTS", default_value = "20000000")]
    memory_events: usize,
    /// How often each group is repeated
    #[arg(long, env = "ACEQUIA_BENCH_REPEATS", default_value = "5")]
    repeats: usize,
    /// Where files and servers' data lie
    #[arg(long, env = "ACEQUIA_BENCH_DIR", default_value = "/var/tmp/acequia-bench")]
    dir: PathBuf,
    /// The first of six ports that servers may use
    #[arg(long, env = "ACEQUIA_BENCH_PORT", default_value = "29600")]
    port: u16,
    /// Be one measured run
    #[arg(long, hide = true)]
    run: Option<String>,
    /// Cargo says so to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// From a file: the pipeline, the decoder alone, DataFusion's batch
    File,
    /// Kinds of windows
    Windows,
    /// From a real Kafka into a real Redis
    Kafka,
    /// What checkpoints and exactly-once delivery cost
    Durable,
    /// What it costs to keep every event in a Delta table
    History,
    /// Memory of an endless input with 10,000 keys
    Memory,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.run {
        Some(run) => Run::parse(run).and_then(|run| run.measure()),
        None if arguments.bench => measure(&arguments),
        None => {
            println!("a benchmark: cargo bench --bench pipeline");
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.dir)?;
    let groups = if arguments.groups.is_empty() { Group::value_variants() } else { &arguments.groups };
    println!("{}", report::machine());
    for group in groups {
        match group {
            Group::File => file(arguments)?,
            Group::Windows => windows(arguments)?,
            Group::Kafka => kafka(arguments)?,
            Group::Durable => durable(arguments)?,
            Group::History => history(arguments)?,
            Group::Memory => memory(arguments)?,
        }
    }
    Ok(())
}

fn file(arguments: &Arguments) -> Result<()> {
    let events = Events { count: arguments.events, keys: 6, micros_between: 100 };
    let whole = Input::File(events.file(&arguments.dir)?);
    let halves = Input::File(events.halves(&arguments.dir)?);
    let tumble = Window::Tumble30;
    let mut runs = vec![
        ("read and decode, drop", Run::bare(&whole, 1)),
        ("pipeline, parallelism 1", Run::pipeline(&whole, tumble, 1, &arguments.dir)),
        ("pipeline, two files, parallelism 2", Run::pipeline(&halves, tumble, 2, &arguments.dir)),
        ("DataFusion batch, 1 partition", Run::Batch { input: whole.clone(), partitions: 1 }),
        ("DataFusion batch, 2 partitions", Run::Batch { input: whole.clone(), partitions: 2 }),
    ];
    if report::has_duckdb() {
        runs.push(("DuckDB batch, 1 thread", Run::DuckDb { input: whole, threads: 1 }));
    }
    report::table("From a file", &runs, arguments.repeats)
}

fn windows(arguments: &Arguments) -> Result<()> {
    let dense = Events { count: arguments.events, keys: 6, micros_between: 100 };
    let sparse = Events { count: arguments.events, keys: 6, micros_between: 3000 };
    let dense = Input::File(dense.file(&arguments.dir)?);
    let sparse = Input::File(sparse.file(&arguments.dir)?);
    let run = |input: &Input, window| Run::pipeline(input, window, 1, &arguments.dir);
    let runs = vec![
        ("tumble(30 s), 10,000 events/s", run(&dense, Window::Tumble30)),
        ("tumble(60 s), 10,000 events/s", run(&dense, Window::Tumble60)),
        ("hop(1 s, 60 s), 10,000 events/s", run(&dense, Window::Hop1In60)),
        ("session(1 s), 10,000 events/s", run(&dense, Window::Session1)),
        ("tumble(60 s), 333 events/s", run(&sparse, Window::Tumble60)),
        ("hop(1 s, 60 s), 333 events/s", run(&sparse, Window::Hop1In60)),
    ];
    report::table("Windows", &runs, arguments.repeats)
}

fn kafka(arguments: &Arguments) -> Result<()> {
    let events = Events { count: arguments.kafka_events, keys: 6, micros_between: 100 };
    let servers = servers::Servers::start(&arguments.dir, arguments.port)?;
    let one = servers.topic("one", 1, &events)?;
    let four = servers.topic("four", 4, &events)?;
    let run = |input: &Input, parallelism| Run::pipeline_to_redis(input, parallelism, &arguments.dir, &servers.redis);
    let runs = vec![
        ("1 partition: poll, drop", Run::Poll { input: one.clone() }),
        ("1 partition: poll and decode, drop", Run::bare(&one, 1)),
        ("1 partition: pipeline, parallelism 1", run(&one, 1)),
        ("1 partition: pipeline, parallelism 2", run(&one, 2)),
        ("4 partitions: poll and decode, drop, 1 task", Run::bare(&four, 1)),
        ("4 partitions: poll and decode, drop, 2 tasks", Run::bare(&four, 2)),
        ("4 partitions: pipeline, parallelism 1", run(&four, 1)),
        ("4 partitions: pipeline, parallelism 2", run(&four, 2)),
    ];
    report::table("From Kafka, to Redis and a file", &runs, arguments.repeats)
}

fn durable(arguments: &Arguments) -> Result<()> {
    let dir = &arguments.dir;
    let few = Input::File(Events { count: arguments.events, keys: 6, micros_between: 100 }.file(dir)?);
    let servers = servers::Servers::start(dir, arguments.port)?;
    let topic = servers.topic("one", 1, &Events { count: arguments.kafka_events, keys: 6, micros_between: 100 })?;
    let windows = |input| Run::pipeline(input, Window::Tumble30, 1, dir);
    let into_file = format!(
        "connector = 'file', path = '{}', format = 'json', mode = 'overwrite'",
        dir.join("copies.jsonl").display()
    );
    let (one, two) = (servers.empty_topic("copies-1")?, servers.empty_topic("copies-2")?);
    let file = |delivery| Run::pass_through(&few, &into_file, delivery);
    let kafka = |into: &str, delivery| Run::pass_through(&topic, into, delivery);
    let runs = vec![
        ("file, 30 s windows: no checkpoints", windows(&few)),
        ("file, 30 s windows: a checkpoint every second", windows(&few).kept()),
        ("file, 60 s windows of many customers: no checkpoints", Run::many_keys(&few, dir)),
        ("file, 60 s windows of many customers: a checkpoint every second", Run::many_keys(&few, dir).kept()),
        ("Kafka, 30 s windows: no checkpoints", windows(&topic)),
        ("Kafka, 30 s windows: a checkpoint every second", windows(&topic).kept()),
        ("every event into a file: at least once", file("at_least_once")),
        ("every event into a file: exactly once", file("exactly_once")),
        ("every event from Kafka to Kafka: at least once", kafka(&one, "at_least_once")),
        ("every event from Kafka to Kafka: exactly once", kafka(&two, "exactly_once")),
    ];
    report::table("Checkpoints and delivery", &runs, arguments.repeats)
}

fn history(arguments: &Arguments) -> Result<()> {
    let servers = servers::Servers::start(&arguments.dir, arguments.port)?;
    let warehouse = servers::Warehouse::start(&arguments.dir, arguments.port + 5)?;
    let events = Events { count: arguments.kafka_events, keys: 6, micros_between: 100 };
    let topic = servers.topic("one", 1, &events)?;
    let windows = || Run::pipeline_to_redis(&topic, 1, &arguments.dir, &servers.redis).kept();
    let loaded = || windows().and_every_event("warehouse", &postgres(&warehouse.url));
    let delta = "connector = 'delta', partition_by = 'day'";
    let runs = vec![
        ("windows into Redis and a file", windows()),
        ("the same, and every event into a Delta table", windows().and_every_event("history", delta)),
        ("windows into Redis and a file, every event into PostgreSQL", loaded()),
        ("the same, and every event into a Delta table", loaded().and_every_event("history", delta)),
    ];
    report::table("History beside the rest, from Kafka with a checkpoint every second", &runs, arguments.repeats)
}

fn postgres(url: &str) -> String {
    format!("connector = 'postgres', url = '{url}', table = 'events', create = 'true'")
}

fn memory(arguments: &Arguments) -> Result<()> {
    let events = Events { count: arguments.memory_events, keys: 10_000, micros_between: 100 };
    let input = Input::Endless(events);
    let runs = vec![
        ("tumble(30 s), parallelism 1", Run::pipeline(&input, Window::Tumble30, 1, &arguments.dir)),
        ("tumble(30 s), parallelism 2", Run::pipeline(&input, Window::Tumble30, 2, &arguments.dir)),
        ("hop(10 s, 60 s), parallelism 1", Run::pipeline(&input, Window::Hop10In60, 1, &arguments.dir)),
    ];
    report::table("Memory of an endless input with 10,000 keys", &runs, 1)
}
