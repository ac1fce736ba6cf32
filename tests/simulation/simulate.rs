//! One seed: a pipeline, its destinations and its store, with trouble until the seed's trouble is used up; then all
//! that was read must be where it belongs, within a bounded time.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use acequia::checkpoint::log::{CheckpointError, LogOptions};
use acequia::checkpoint::store::StoreError;
use acequia::connectors::{ConnectorError, SinkMode};
use acequia::dataflow::graph::{Graph, NodeKind};
use acequia::dataflow::recovery::{Beginning, RecoveryError};
use acequia::dataflow::statistics::Statistics;
use acequia::dataflow::{RunError, RunOptions, run_from};
use acequia::faults::{self, Bug};
use acequia::time::{EventTime, WallClock};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::destinations::database::Database;
use crate::destinations::file::File;
use crate::destinations::gathering::Parts;
use crate::destinations::keyed::Keyed;
use crate::destinations::plain::Plain;
use crate::destinations::topic::Topic;
use crate::destinations::{Destination, End, Ledger, SimSink};
use crate::expected::expected;
use crate::input::Input;
use crate::knobs::Knobs;
use crate::process::Process;
use crate::source::{SimSource, Topics};
use crate::store::Disk;
use crate::world::{Trace, World};

/// How long the end may take, once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a seed.
pub struct Outcome {
    pub trace: Trace,
    /// What was wrong.
    pub violation: Option<String>,
}

/// Runs a seed, with a mistake planted.
pub fn run(seed: u64, bug: Option<Bug>) -> Outcome {
    let knobs = Knobs::of(seed);
    let graph = knobs.program.graph();
    faults::plant(bug);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let outcome = runtime.expect("a runtime").block_on(async {
        // In here, where the clock stands still.
        Box::pin(Simulation::new(seed, knobs, graph).run()).await
    });
    faults::plant(None);
    outcome
}

struct Simulation {
    world: World,
    graph: &'static Graph,
    topics: Arc<Topics>,
    disk: Arc<Disk>,
    /// By table, with how rows are taken.
    destinations: BTreeMap<String, (SinkMode, Arc<dyn Destination>)>,
    processes: u64,
    troubles: u64,
}

/// A run of the pipeline that goes on.
struct Running {
    process: Arc<Process>,
    run: Pin<Box<dyn Future<Output = Result<(), Failure>>>>,
    drain: CancellationToken,
    abort: CancellationToken,
    asked_to_stop: bool,
    /// An older process was there, too.
    had_company: bool,
}

/// Why a run has ended.
#[derive(Debug)]
enum Failure {
    Recovery(RecoveryError),
    Run(RunError),
}

impl Failure {
    fn is_fenced(&self) -> bool {
        matches!(
            self,
            Failure::Recovery(RecoveryError::Log(CheckpointError::Fenced(_)))
                | Failure::Run(
                    RunError::Checkpoint(CheckpointError::Fenced(_))
                        | RunError::Connector { source: ConnectorError::Fenced { .. }, .. }
                )
        )
    }

    /// What is there is damaged, or lacks what a destination has.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Failure::Recovery(RecoveryError::Log(CheckpointError::Damaged(_)))
                | Failure::Run(
                    RunError::Checkpoint(CheckpointError::Damaged(_))
                        | RunError::Connector { source: ConnectorError::Mismatch { .. }, .. }
                )
        )
    }

    fn is_held(&self) -> bool {
        matches!(self, Failure::Recovery(RecoveryError::Log(CheckpointError::Held(_))))
    }

    /// Whoever has started the run starts it again.
    fn is_passing(&self) -> bool {
        let unavailable =
            |error: &CheckpointError| matches!(error, CheckpointError::Store(StoreError::Unavailable { .. }));
        matches!(self, Failure::Recovery(RecoveryError::Log(error)) if unavailable(error))
    }

    fn text(&self) -> String {
        match self {
            Failure::Recovery(error) => error.to_string(),
            Failure::Run(error) => error.to_string(),
        }
    }
}

impl Simulation {
    fn new(seed: u64, knobs: Knobs, graph: &'static Graph) -> Simulation {
        let world = World::new(seed, knobs.clone());
        let input = Input::of(seed, &knobs);
        let expected = expected(knobs.program, &input);
        let mut destinations = BTreeMap::new();
        for node in &graph.nodes {
            let NodeKind::Sink(sink) = &node.kind else { continue };
            let rows = expected.get(sink.table.as_str()).unwrap_or_else(|| panic!("what is in {}?", sink.table));
            let name = sink.table.clone();
            let mode = sink.factory.mode();
            let ledger = |repeats| Ledger::new(&world, name.clone(), rows, repeats);
            let destination: Arc<dyn Destination> = match &mode {
                SinkMode::Upsert(key) => Arc::new(Keyed::new(name.clone(), key.clone(), rows)),
                SinkMode::Append => match world.below(9) {
                    0..3 => Arc::new(Database::new(ledger(false))),
                    3..5 => Arc::new(Topic::new(ledger(false))),
                    5..7 => Arc::new(File::new(&world, ledger(false))),
                    7 => Arc::new(Parts::new(ledger(false))),
                    _ => Arc::new(Plain::new(ledger(true))),
                },
            };
            destinations.insert(name, (mode, destination));
        }
        world.note(format_args!("seed {seed}: {knobs:?}"));
        let (topics, disk, troubles) = (Topics::new(&world, input), Disk::new(&world), knobs.troubles);
        Simulation { world, graph, topics, disk, destinations, processes: 0, troubles }
    }

    /// The graph with its connectors replaced by those of a process.
    fn graph(&self, process: &Arc<Process>) -> Graph {
        let mut graph = self.graph.clone();
        for node in &mut graph.nodes {
            match &mut node.kind {
                NodeKind::Source(source) => {
                    // Long enough for every pause of a source that has more to send.
                    source.settings.idle_timeout = Duration::from_secs(2);
                    let (topics, process) = (Arc::clone(&self.topics), Arc::clone(process));
                    source.factory = Arc::new(SimSource { table: source.table.clone(), topics, process });
                }
                NodeKind::Sink(sink) => {
                    let (mode, destination) = &self.destinations[&sink.table];
                    let end = End { world: self.world.clone(), process: Arc::clone(process), name: sink.table.clone() };
                    sink.factory = Arc::new(SimSink { mode: mode.clone(), destination: Arc::clone(destination), end });
                }
                NodeKind::Operator(_) => {}
            }
        }
        graph
    }

    fn start(&mut self) -> Running {
        let world = &self.world;
        self.processes += 1;
        let steps = (self.troubles > 0 && world.strikes(0.35)).then(|| 1 + world.below(150));
        let process = Process::new(self.processes, steps);
        let options = RunOptions {
            pipeline: "simulated".into(),
            parallelism: 1 + world.below(3) as usize,
            batch_size: 1 + world.below(6) as usize,
            bounded: false,
            checkpoint_interval: Duration::from_millis([5, 30, 120][world.below(3) as usize]),
            checkpoint_bytes: [200, 1 << 20][world.below(2) as usize],
            linger: Duration::from_millis(1 + world.below(50)),
            data_dir: PathBuf::new(),
            wall_clock: None,
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        world.note(format_args!(
            "{} starts: parallelism {}, batches of {}, epochs of {:?}, {steps:?} steps",
            self.processes, options.parallelism, options.batch_size, options.checkpoint_interval
        ));
        let (drain, abort) = (options.drain.clone(), options.abort.clone());
        let store = self.disk.handle(&process);
        let graph = self.graph(&process);
        let log = LogOptions { pipeline: "simulated".into(), fresh: false, from: None, keep: world.knobs().keep };
        let noting = self.world.clone();
        let (id, itself) = (self.processes, Arc::clone(&process));
        let run = async move {
            let recovered = Beginning::recover(&graph, store, log, false).await;
            let (mut beginning, found) = recovered.map_err(Failure::Recovery)?;
            if let Some(log) = &mut beginning.log {
                log.compact_after(noting.knobs().most_files);
                log.set_clock(WallClock::new(|| EventTime(0)));
            }
            noting.note(format_args!("{id} recovered: {found:?}"));
            itself.set_incarnation(found.incarnation.0);
            let statistics = Arc::new(Statistics::of(&graph));
            run_from(graph, options, statistics, beginning).await.map_err(Failure::Run)
        };
        Running { process, run: Box::pin(run), drain, abort, asked_to_stop: false, had_company: false }
    }

    async fn run(mut self) -> Outcome {
        let violation = self.live().await.err();
        let violation = self.world.violation().or(violation);
        Outcome { trace: self.world.take_trace(), violation }
    }

    /// Until all is done.
    async fn live(&mut self) -> Result<(), String> {
        let mut current = self.start();
        let mut zombie: Option<Running> = None;
        let mut trouble_at = self.next_trouble();
        let mut deadline: Option<Instant> = None;
        let mut look_at = Instant::now();
        let mut extra_run = self.world.chance(0.3);
        loop {
            let process = Arc::clone(&current.process);
            tokio::select! {
                biased;
                outcome = &mut current.run => {
                    self.note_end(&current, &outcome);
                    match outcome {
                        Ok(()) if !current.asked_to_stop || self.is_complete_by(&current) => {
                            self.must_be_complete("the run has ended")?;
                            if !extra_run {
                                return self.outlive(zombie).await;
                            }
                            extra_run = false;
                        }
                        Ok(()) => {}
                        Err(failure) if failure.is_held() => match zombie.take() {
                            Some(holder) => {
                                current = holder;
                                continue;
                            }
                            // Whoever held it when this one asked is gone by now.
                            None if current.had_company => {}
                            None => return Err(format!("nobody holds the lock: {}", failure.text())),
                        },
                        Err(failure) if failure.is_passing() => {}
                        // The older process, which stood still as it started, has become the newer run.
                        Err(failure) if failure.is_fenced() && current.had_company => {
                            if let Some(newer) = zombie.take() {
                                self.over(&current);
                                current = newer;
                                continue;
                            }
                        }
                        Err(Failure::Run(RunError::Aborted)) if current.asked_to_stop => {}
                        // It says what is damaged, and that it needs help.
                        Err(failure) if self.world.is_rotten() && failure.is_refusal() => return Ok(()),
                        Err(failure) => return Err(format!("the newest run has failed: {}", failure.text())),
                    }
                    self.over(&current);
                    sleep(Duration::from_millis(self.world.below(200))).await;
                    current = self.start();
                    current.had_company = zombie.is_some();
                }
                outcome = ended(&mut zombie) => self.judge_zombie(&mut zombie, &outcome)?,
                () = process.died() => {
                    self.crash(&mut current, &mut zombie, "dies").await;
                    current = self.start();
                    current.had_company = zombie.is_some();
                }
                () = sleep_until(trouble_at.unwrap_or_else(Instant::now)), if trouble_at.is_some() => {
                    self.troubles -= 1;
                    self.trouble(&mut current, &mut zombie).await;
                    trouble_at = self.next_trouble();
                }
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + Duration::from_millis(250);
                    if self.world.violation().is_some() {
                        return Ok(());
                    }
                    if trouble_at.is_none() && deadline.is_none() {
                        deadline = Some(Instant::now() + PATIENCE);
                        look_at = Instant::now() + Duration::from_millis(self.world.below(3000));
                    } else if let Some(deadline) = deadline {
                        if !self.world.is_calm() {
                            self.world.note(format_args!("calm"));
                            self.world.calm();
                        }
                        if deadline < Instant::now() {
                            return Err(format!("no end in sight; lacking: {:?}", self.lacking()));
                        }
                        if !self.world.knobs().ends && !current.asked_to_stop && self.is_complete_by(&current) {
                            self.world.note(format_args!("complete"));
                            current.asked_to_stop = true;
                            current.drain.cancel();
                        }
                    }
                }
            }
        }
    }

    fn next_trouble(&self) -> Option<Instant> {
        (self.troubles > 0).then(|| Instant::now() + Duration::from_millis(self.world.below(700)))
    }

    async fn trouble(&mut self, current: &mut Running, zombie: &mut Option<Running>) {
        let world = self.world.clone();
        if world.strikes(world.knobs().freezes) {
            let time = Duration::from_millis(50 + world.below(15_000));
            world.note(format_args!("{} stands still for {time:?}", current.process.id));
            current.process.stand_still(Instant::now() + time);
            if zombie.is_none() && world.chance(0.6) {
                *zombie = Some(std::mem::replace(current, self.start()));
                current.had_company = true;
            }
            return;
        }
        match world.below(6) {
            0 => {
                world.note(format_args!("{} is told to stop in order", current.process.id));
                current.asked_to_stop = true;
                current.drain.cancel();
            }
            1 => {
                world.note(format_args!("{} is told to stop at once", current.process.id));
                current.asked_to_stop = true;
                current.abort.cancel();
            }
            _ => {
                self.crash(current, zombie, "is killed").await;
                *current = self.start();
                current.had_company = zombie.is_some();
            }
        }
    }

    /// The process is gone; maybe the power of its machine, too.
    async fn crash(&mut self, current: &mut Running, zombie: &mut Option<Running>, how: &str) {
        self.world.note(format_args!("{} {how}", current.process.id));
        self.over(current);
        if self.world.strikes(self.world.knobs().power_loss) {
            self.world.note(format_args!("the power is lost"));
            if let Some(zombie) = zombie.take() {
                self.over(&zombie);
            }
            self.disk.lose_power();
            self.destinations.values().for_each(|(_, destination)| destination.lose_power());
        }
        if self.world.strikes(self.world.knobs().rot) && self.disk.rot() {
            self.world.rots();
        }
        // What it was made of goes, too.
        current.run = Box::pin(std::future::pending());
        sleep(Duration::from_millis(self.world.below(300))).await;
    }

    fn over(&self, running: &Running) {
        running.process.kill();
        self.disk.process_died(running.process.id);
    }

    fn note_end(&self, running: &Running, outcome: &Result<(), Failure>) {
        let outcome = outcome.as_ref().map_or_else(Failure::text, |()| "in order".into());
        self.world.note(format_args!("{} ends: {outcome}", running.process.id));
    }

    fn judge_zombie(&self, zombie: &mut Option<Running>, outcome: &Result<(), Failure>) -> Result<(), String> {
        let Some(over) = zombie.take() else { return Ok(()) };
        self.note_end(&over, outcome);
        self.over(&over);
        match outcome {
            Ok(()) | Err(Failure::Run(RunError::Aborted)) => Ok(()),
            Err(failure) if failure.is_fenced() || failure.is_passing() || failure.is_held() => Ok(()),
            // What it needs, the newer one has deleted.
            Err(Failure::Run(RunError::Checkpoint(CheckpointError::Damaged(_)))) => Ok(()),
            Err(failure) if self.world.is_rotten() && failure.is_refusal() => Ok(()),
            Err(failure) => Err(format!("an older run has failed: {}", failure.text())),
        }
    }

    /// An older run that stands still goes on after all is done, and must not change anything.
    async fn outlive(&mut self, mut zombie: Option<Running>) -> Result<(), String> {
        if zombie.is_some() {
            tokio::select! {
                biased;
                outcome = ended(&mut zombie) => self.judge_zombie(&mut zombie, &outcome)?,
                () = sleep(PATIENCE) => {}
            }
        }
        self.must_be_complete("an older run has ended")
    }

    fn lacking(&self) -> BTreeMap<&String, Vec<String>> {
        let lacking = self.destinations.iter().map(|(table, (_, destination))| (table, destination.lacking()));
        lacking.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    /// Whether all is there and stays: before the newest run has opened every destination, an older one that wakes up may
    /// still write older rows over newer ones, which the next run then puts right.
    fn is_complete_by(&self, newest: &Running) -> bool {
        newest.process.opened() == self.destinations.len()
            && self.destinations.values().all(|(_, destination)| destination.lacking().is_empty())
    }

    fn must_be_complete(&self, when: &str) -> Result<(), String> {
        let lacking = self.lacking();
        if lacking.is_empty() { Ok(()) } else { Err(format!("{when}, and rows are lost: {lacking:?}")) }
    }
}

async fn ended(running: &mut Option<Running>) -> Result<(), Failure> {
    match running {
        Some(running) => (&mut running.run).await,
        None => std::future::pending().await,
    }
}
