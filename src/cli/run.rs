//! `acequia run`: a folder at work, until its input ends or it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::backfill::{self, BackfillArguments};
use super::exit::Exit;
use super::flight::{self, Asked, FlightArguments, Listening};
use super::folder::{self, Planned};
use super::page::PageArguments;
use super::recovery::RecoveryArguments;
use super::state_limit::StateLimit;
use super::{generated_rows, parse, progress, sample, signals, summary};
use crate::checkpoint::log::CheckpointError;
use crate::connectors::{ConnectorError, stdout};
use crate::console::live::LiveView;
use crate::console::{self, Console, FlightFigures, Phase};
use crate::dataflow::graph::{Graph, NodeKind};
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{self, RunError, RunOptions};
use crate::history::live::{RunFile, RunningLive};
use crate::history::{History, Limits};
use crate::page::Page;
use crate::program::Program;
use crate::time::WallClock;

/// How long rows may wait in a sink: short beside the second in which early results are due.
const LINGER: Duration = Duration::from_millis(200);

/// Run a folder of SQL files until stopped, or to the end of its input.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia run                                      the folder ./queries, until Ctrl-C
  acequia run examples/tumble                      an example; it ends by itself
  KAFKA_BROKERS=localhost:9092 acequia run queries --bounded
  acequia run queries --fresh                      begin anew, whatever checkpoints there are
  acequia run queries --bounded --from-history     compute the recorded past again, into acequia-data/backfill

Ctrl-C or SIGTERM stops in order: what was read is worked off, exit code 0. A second one stops at once. The next run goes
on where this one stood, however it ended: 'acequia checkpoints list' shows from where.")]
pub struct RunArguments {
    /// The folder, or one SQL file
    #[arg(default_value = "queries")]
    pub(super) folder: PathBuf,

    /// Stop at the end of what is there now
    #[arg(long)]
    pub(super) bounded: bool,

    /// Instances of each keyed operator [default: the number of cores]
    #[arg(long, value_name = "N", env = "ACEQUIA__RUN__PARALLELISM", value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallelism: Option<u16>,

    /// Most rows in a batch that a source sends
    #[arg(long, value_name = "ROWS", env = "ACEQUIA__RUN__BATCH_SIZE", default_value = "8192",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) batch_size: u32,

    /// Time between checkpoints
    #[arg(long, value_name = "TIME", env = "ACEQUIA__RUN__CHECKPOINT_INTERVAL", default_value = "1s",
          value_parser = parse::duration)]
    checkpoint_interval: Duration,

    /// Bytes of rows on their way to one sink that end an epoch before its time: fewer take less memory
    #[arg(long, value_name = "SIZE", env = "ACEQUIA__RUN__CHECKPOINT_BYTES", default_value = "64MB",
          value_parser = parse::size)]
    checkpoint_bytes: u64,

    /// Where checkpoints and embedded parts keep their files
    #[arg(long, value_name = "FOLDER", env = "ACEQUIA__RUN__DATA_DIR", default_value = "acequia-data")]
    pub(super) data_dir: PathBuf,

    #[command(flatten)]
    pub(super) backfill: BackfillArguments,

    #[command(flatten)]
    pub(super) recovery: RecoveryArguments,

    /// The pipeline's name: consumer groups and client ids begin with it [default: the folder's name]
    #[arg(long, env = "ACEQUIA__RUN__NAME")]
    pub(super) name: Option<String>,

    /// Where /metrics, /healthz, /readyz and the API are served [default: 127.0.0.1:9464, or a free port]
    #[arg(long, value_name = "ADDRESS", env = "ACEQUIA__RUN__HTTP", value_parser = parse::address)]
    http: Option<SocketAddr>,

    /// Serve nothing over HTTP
    #[arg(long, conflicts_with = "http")]
    no_http: bool,

    /// Allow an address that other machines can reach; the console asks for no password, and Flight SQL does not encrypt
    #[arg(long)]
    insecure_bind: bool,

    #[command(flatten)]
    pub(super) page: PageArguments,

    /// Serve the history and the live tables over Arrow Flight SQL, such as on 127.0.0.1:32010
    #[arg(long, value_name = "ADDRESS", env = "ACEQUIA__RUN__FLIGHT", value_parser = parse::address)]
    flight: Option<SocketAddr>,

    #[command(flatten)]
    flight_options: FlightArguments,

    /// How long a stop in order may take
    #[arg(long, value_name = "TIME", env = "ACEQUIA__RUN__SHUTDOWN_TIMEOUT", default_value = "25s",
          value_parser = parse::duration)]
    pub(super) shutdown_timeout: Duration,

    /// Stop in order, with exit code 3, when the state of all operators is larger, such as 2GB [default: no limit]
    #[arg(long, value_name = "SIZE", env = "ACEQUIA__RUN__STATE_LIMIT", value_parser = parse::size)]
    state_limit: Option<u64>,

    /// Generated events a second where Kafka is embedded and the folder reads an embedded shop, or the shop's topics
    #[arg(long, value_name = "EVENTS", env = "ACEQUIA__RUN__SAMPLE_RATE", default_value = "10",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    sample_rate: u64,

    /// Generate no events
    #[arg(long)]
    no_sample: bool,
}

/// Memory for the queries by Flight SQL of a run, all together; what does not fit is spilled.
const FLIGHT_MEMORY: u64 = 1 << 30;

/// What a command adds to a run that is its own.
#[derive(Default)]
pub(super) struct Beside {
    /// Is told where things are served, as soon as they are and before anything is read.
    pub greet: Option<Greet>,
    /// Makes what the sources read: from when the checkpoints are this run's own until the token is cancelled.
    pub feed: Option<Feed>,
}

/// Is told where a run is served.
pub(super) type Greet = Box<dyn FnOnce(&Served) + Send>;

/// Makes events until the token is cancelled.
pub(super) type Feed = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// Where a run is served.
#[derive(Clone, Default, Debug)]
pub(super) struct Served {
    /// The console, unless there is none.
    pub console: Option<SocketAddr>,
    /// The page's address as a browser takes it, unless there is none.
    pub page: Option<String>,
}

impl RunArguments {
    /// Serves no console, unless an address for one was given.
    pub(super) fn leave_out_console(&mut self) {
        self.no_http |= self.http.is_none();
    }
}

/// Runs a folder.
pub async fn run(arguments: RunArguments) -> Exit {
    let planned = match folder::plan(&arguments.folder, arguments.bounded).await {
        Ok(planned) => planned,
        Err(exit) => return exit,
    };
    if arguments.backfill.from_history {
        return backfill::run(arguments, planned.program).await;
    }
    let program = &planned.program;
    tracing::info!("{}: {}", pipeline(&arguments), summary::counted(program.tables.len(), program.inserts.len()));
    for part in summary::embedded_parts(program) {
        tracing::info!("{part}");
    }
    let feed = sample_for(&arguments, program);
    run_planned(&arguments, planned, Beside { feed, ..Beside::default() }).await
}

/// The shop's events, where the program reads them from embedded parts.
fn sample_for(arguments: &RunArguments, program: &Program) -> Option<Feed> {
    if arguments.no_sample || arguments.bounded {
        return None;
    }
    let destinations = sample::destinations(program, &arguments.data_dir)?;
    let rate = arguments.sample_rate;
    Some(Box::new(move |stop| {
        let place = destinations.describe();
        tracing::info!("{rate} generated events/s of the shop go into {place} (--no-sample: none)");
        Box::pin(sample::feed(destinations, rate, stop))
    }))
}

/// Runs what has been planned until it ends or is told to stop by a signal.
pub(super) async fn run_planned(arguments: &RunArguments, planned: Planned, beside: Beside) -> Exit {
    let options = options(arguments);
    let watch = match signals::watch(options.drain.clone(), options.abort.clone(), arguments.shutdown_timeout) {
        Ok(watch) => tokio::spawn(watch),
        Err(error) => {
            tracing::error!("cannot watch for signals: {error}");
            return Exit::Runtime;
        }
    };
    let exit = run_watched(arguments, planned, options, beside).await;
    watch.abort();
    exit
}

async fn run_watched(arguments: &RunArguments, planned: Planned, options: RunOptions, beside: Beside) -> Exit {
    let Planned { program, graph } = planned;
    let began = Instant::now();
    if let Some(refusal) = generated_rows::into_real_kafka(&program, &graph, &options.data_dir) {
        tracing::error!("{refusal}");
        return Exit::Usage;
    }
    let statistics = Arc::new(Statistics::of(&graph));
    let live = Arc::new(LiveView::new(&options.pipeline, &program, &graph, &options.data_dir));
    let mut console = Console::new(&options.pipeline, &graph, Arc::clone(&statistics)).with_live(Arc::clone(&live));
    let flight_figures = Arc::new(FlightFigures::default());
    if arguments.flight.is_some() {
        console = console.with_flight(Arc::clone(&flight_figures));
    }
    let console = Arc::new(console);
    let mut tasks = Tasks::default();
    let page = || Page::new(&program, &arguments.folder, &graph, Arc::clone(&console), &arguments.data_dir);
    let served = match serve(arguments, page, &console, &mut tasks).await {
        Ok(served) => served,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Usage;
        }
    };
    let _flight = match serve_flight(arguments, &program, &options, live.clone(), flight_figures).await {
        Ok(flight) => flight,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Usage;
        }
    };
    if let Some(greet) = beside.greet {
        greet(&served);
    }
    tasks.spawn(note_draining(Arc::clone(&console), options.drain.clone()));
    tasks.spawn(progress::show(Arc::clone(&console), !prints_to_terminal(&graph)));

    let mut beginning = match arguments.recovery.begin(&graph, &options, began, &statistics).await {
        Ok(beginning) => beginning,
        Err(exit) => return exit,
    };
    beginning.accept_lost_input = arguments.recovery.accept_lost_input;
    beginning.accept_lost_output = arguments.recovery.accept_lost_output;
    beginning.live = Some(live.board());
    // Now that nobody else can hold the checkpoints: whoever asks for live tables finds this run. A computation of the past
    // may go on beside the run that is to be found.
    let _found_by = (!arguments.backfill.from_history).then(|| {
        let written = RunFile::write(&options.pipeline, served.console, &options.data_dir);
        written.inspect_err(|error| {
            let data_dir = options.data_dir.display();
            tracing::warn!("live tables cannot be asked for from other processes: {data_dir}: {error}");
        })
    });
    if let Some(feed) = beside.feed {
        tasks.spawn(feed(options.drain.clone()));
    }
    let state_limit = Arc::new(StateLimit::default());
    if let Some(limit) = arguments.state_limit {
        tasks.spawn(Arc::clone(&state_limit).watch(limit, Arc::clone(&statistics), options.drain.clone()));
    }

    let began = Instant::now();
    console.enter(Phase::Running);
    let outcome = dataflow::run_from(graph, options, statistics, beginning).await;
    drop(tasks);
    tracing::info!("{}", summary::closing(&console.figures(), began.elapsed()));
    match outcome {
        Ok(()) if state_limit.exceeded().is_some() => {
            tracing::error!("{}", state_limit.exceeded().unwrap_or_default());
            Exit::Runtime
        }
        Ok(()) => Exit::Success,
        // Whoever read the results, such as `head`, has seen enough.
        Err(RunError::Connector { source, .. }) if stdout::is_closed(&source) => Exit::Success,
        Err(error) => report(&error),
    }
}

/// The pipeline's name.
pub(super) fn pipeline(arguments: &RunArguments) -> String {
    arguments.name.clone().unwrap_or_else(|| folder::name(&arguments.folder))
}

fn options(arguments: &RunArguments) -> RunOptions {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    RunOptions {
        pipeline: pipeline(arguments),
        parallelism: arguments.parallelism.map_or_else(cores, usize::from),
        batch_size: arguments.batch_size as usize,
        bounded: arguments.bounded,
        checkpoint_interval: arguments.checkpoint_interval,
        checkpoint_bytes: arguments.checkpoint_bytes,
        linger: LINGER,
        data_dir: arguments.data_dir.clone(),
        wall_clock: Some(WallClock::system()),
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
    }
}

/// Begins to serve the console and the page, unless they are not wanted.
async fn serve(
    arguments: &RunArguments,
    page: impl FnOnce() -> Page,
    console: &Arc<Console>,
    tasks: &mut Tasks,
) -> Result<Served, String> {
    let mut served = Served::default();
    if !arguments.no_http {
        let listener =
            console::bind(arguments.http, arguments.insecure_bind).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        tracing::info!("metrics on http://{address}/metrics");
        served.console = Some(address);
        let console = Arc::clone(console);
        tasks.spawn(async move {
            if let Err(error) = console::serve(listener, console).await {
                tracing::error!("the console has stopped: {error}");
            }
        });
    }
    if let Some((url, page)) = arguments.page.begin(page).await? {
        served.page = Some(url);
        tasks.spawn(page);
    }
    Ok(served)
}

/// Begins to serve Flight SQL, if it is wanted, on half of the cores: queries must not hold up the run.
async fn serve_flight(
    arguments: &RunArguments,
    program: &Program,
    options: &RunOptions,
    view: Arc<LiveView>,
    figures: Arc<FlightFigures>,
) -> Result<Option<flight::Beside>, String> {
    let Some(address) = arguments.flight else { return Ok(None) };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
    let (data_dir, live) = (&options.data_dir, Arc::new(RunningLive::new(view)));
    let limits = Limits { memory: FLIGHT_MEMORY, spill: Some(data_dir.join("tmp")), parallelism: Some(threads) };
    let history = History::of(program, data_dir, &options.pipeline, limits).map_err(|error| error.to_string())?;
    let history = history.with_live(live.clone());
    let listening = Listening { address, option: "--flight", insecure: arguments.insecure_bind };
    let begun = arguments.flight_options.begin(listening, Asked { history, live, figures }).await?;
    let beside = begun.beside(threads, options.drain.clone());
    beside.map(Some).map_err(|error| format!("cannot start threads: {error}"))
}

async fn note_draining(console: Arc<Console>, drain: CancellationToken) {
    drain.cancelled().await;
    console.enter(Phase::Draining);
}

/// Whether results go to the terminal, where a live line would tear them apart.
fn prints_to_terminal(graph: &Graph) -> bool {
    use std::io::IsTerminal;
    let prints = |kind: &NodeKind| matches!(kind, NodeKind::Sink(sink) if sink.factory.describe().contains("stdout"));
    std::io::stdout().is_terminal() && graph.nodes.iter().any(|node| prints(&node.kind))
}

/// One line for the failure, and one for each of its causes that adds something.
fn report(error: &RunError) -> Exit {
    let mut said = error.to_string();
    let mut message = said.clone();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !said.contains(&words) {
            message.push_str("\n  caused by: ");
            message.push_str(&words);
            said = words;
        }
        cause = error.source();
    }
    tracing::error!("{message}");
    exit_of(error)
}

fn exit_of(error: &RunError) -> Exit {
    match error {
        RunError::Connector { source: ConnectorError::Unavailable { .. } | ConnectorError::Stopped { .. }, .. } => {
            Exit::Unreachable
        }
        RunError::Connector { source: ConnectorError::Mismatch { .. }, .. } => Exit::Mismatch,
        RunError::Connector { source: ConnectorError::Fenced { .. }, .. }
        | RunError::Checkpoint(CheckpointError::Fenced(_) | CheckpointError::Held(_)) => Exit::Replaced,
        _ => Exit::Runtime,
    }
}

/// Tasks that end with the run.
#[derive(Default)]
struct Tasks(Vec<tokio::task::JoinHandle<()>>);

impl Tasks {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_has_an_exit_code_of_its_own() {
        let failure = |source| RunError::Connector { node: "metrics".into(), source };
        let (what, message) = (String::from("Redis at localhost:6379"), String::from("refused"));
        let away = failure(ConnectorError::Unavailable { what: what.clone(), message: message.clone() });
        assert_eq!(exit_of(&away), Exit::Unreachable);
        assert_eq!(exit_of(&failure(ConnectorError::Stopped { what: what.clone() })), Exit::Unreachable);
        let refused = ConnectorError::Refused { what: what.clone(), message: message.clone() };
        assert_eq!(exit_of(&failure(refused)), Exit::Runtime);
        let fenced = ConnectorError::Fenced { what: what.clone(), message: message.clone() };
        assert_eq!(exit_of(&failure(fenced)), Exit::Replaced);
        assert_eq!(exit_of(&failure(ConnectorError::Mismatch { what, message })), Exit::Mismatch);
        assert_eq!(exit_of(&RunError::Checkpoint(CheckpointError::Fenced(String::new()))), Exit::Replaced);
        assert_eq!(exit_of(&RunError::Aborted), Exit::Runtime);
    }
}
