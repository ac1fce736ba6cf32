//! One run from its first task to its last: starts them, moves the epochs, stops them in order or at once.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::checkpointer::{self, Kept, Note};
use super::company::Company;
use super::coordinator::Coordinator;
use super::deliverer::Deliverer;
use super::gate::Gate;
use super::graph::{Graph, NodeId, NodeKind, SinkNode};
use super::keeper::Keeper;
use super::layout::{Layout, Wiring};
use super::live::board::{Desk, LOOKS_APART};
use super::outbox::Outbox;
use super::reader::Reader;
use super::recovery::Beginning;
use super::report::{Command, OpenEpoch, Report, Reporter};
use super::sink_task::SinkTask;
use super::source_context::{restored, source_context, source_instances};
use super::source_task::SourceTask;
use super::source_watermark::SourceWatermark;
use super::statistics::Statistics;
use super::{RunError, RunOptions, build, operator_task, watch};
use crate::checkpoint::log::{Appended, CheckpointLog, EpochRecord};
use crate::checkpoint::state::{EpochState, SourceState};
use crate::connectors::delivery::Delivery;
use crate::connectors::{ConnectorError, Decoding, SinkContext};
use crate::faults::{Bug, planted};
use crate::time::{Epoch, EventTime};

/// How long tasks may take to end when the run is stopped at once. A sink may be in the middle of a write.
const GRACE: Duration = Duration::from_secs(10);

/// How soon after its start a run ends its first epoch, if there is anything in it.
const FIRST_EPOCH: Duration = Duration::from_millis(100);

/// Ticks every `period`, and after a late one a whole period later.
fn ticks(period: Duration) -> Interval {
    let mut timer = interval_at(Instant::now() + period, period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// See [`super::run_from`].
pub async fn run(
    graph: Graph,
    options: RunOptions,
    statistics: Arc<Statistics>,
    beginning: Beginning,
) -> Result<(), RunError> {
    let Beginning { state: start, log, undelivered, listener, live, accept_lost_input, accept_lost_output } = beginning;
    let counted_by = log.as_ref().map(|log| (log.writer().log, log.outbox()));
    // Made before anything is waited for: however the run ends, whoever asks is told.
    let desk = live.map(|board| Desk::new(board, counted_by));
    let abort = options.abort.child_token();
    let source_stop = abort.child_token();
    let sources = tokio::select! {
        biased;
        () = abort.cancelled() => return Err(RunError::Aborted),
        () = options.drain.cancelled() => return Ok(()),
        sources = source_instances(&graph, &options, &source_stop, start.as_ref()) => sources?,
    };
    let (reports_in, reports) = mpsc::unbounded_channel();
    let (kept_in, kept) = mpsc::unbounded_channel();
    let first = start.as_ref().map_or(Epoch::default(), |start| start.epoch);
    let first = log.as_ref().map_or(first, |log| first.max(log.last_epoch()));
    let mut run = Run {
        desk,
        layout: Layout::new(&graph, &sources, options.parallelism),
        graph,
        options,
        statistics,
        start,
        accept_lost_input,
        accept_lost_output,
        abort,
        source_stop,
        open_epoch: Arc::default(),
        reports: reports_in,
        commands: vec![],
        outboxes: BTreeMap::new(),
        undelivered,
        begun: watch::Sender::new(first),
        opened: vec![],
        go: CancellationToken::new(),
        keeper: Keeper::new(log.as_ref(), listener),
        tasks: JoinSet::new(),
        reported: vec![],
        rested_at: Instant::now(),
        look_waits: false,
    };
    if !log.as_ref().is_some_and(CheckpointLog::is_departing) {
        run.go.cancel();
    }
    if let Some(log) = log {
        let (notes, receiver) = mpsc::unbounded_channel();
        run.keeper.notes = Some(notes);
        run.spawn("checkpoints", false, checkpointer::run(log, receiver, kept_in, Arc::clone(&run.statistics)));
    }
    run.supervise(reports, kept).await
}

struct Run {
    graph: Graph,
    options: RunOptions,
    statistics: Arc<Statistics>,
    start: Option<EpochState>,
    accept_lost_input: bool,
    accept_lost_output: bool,
    layout: Layout,
    /// Stops everything at once; a child of the caller's.
    abort: CancellationToken,
    source_stop: CancellationToken,
    open_epoch: Arc<OpenEpoch>,
    reports: mpsc::UnboundedSender<Report>,
    commands: Vec<mpsc::UnboundedSender<Command>>,
    /// By the sink's identity.
    outboxes: BTreeMap<String, Arc<Outbox>>,
    undelivered: BTreeMap<String, Vec<Epoch>>,
    /// The last epoch that was begun to end; the highest number there is once no other will.
    begun: watch::Sender<Epoch>,
    /// Each cancelled when a sink has opened.
    opened: Vec<CancellationToken>,
    /// Cancelled when rows may be written.
    go: CancellationToken,
    keeper: Keeper,
    tasks: JoinSet<Result<(), RunError>>,
    /// The nodes of the tasks that report to the coordinator.
    reported: Vec<String>,
    /// Where questions for live tables come in, if anybody may ask.
    desk: Option<Desk>,
    /// When the next look may begin.
    rested_at: Instant,
    /// Somebody waits for that.
    look_waits: bool,
}

impl Run {
    async fn supervise(
        mut self,
        mut reports: mpsc::UnboundedReceiver<Report>,
        mut kept: mpsc::UnboundedReceiver<Kept>,
    ) -> Result<(), RunError> {
        let started = self.start_tasks().await;
        if let Ok(false) = started {
            return self.give_up().await;
        }
        let mut failure = started.err();
        if failure.is_some() {
            self.abort.cancel();
        }
        let first = self.begun.get();
        let mut coordinator = Coordinator::new(0..self.reported.len(), first);
        let interval = self.options.checkpoint_interval.max(Duration::from_millis(1));
        // The first epoch does not wait for the interval: after a start every row is late enough.
        let mut timer = ticks(interval.min(FIRST_EPOCH));
        let mut give_up_at: Option<Instant> = failure.as_ref().map(|_| Instant::now() + GRACE);
        let mut draining = false;
        let mut finished = false;
        let mut closed = false;
        let open_epoch = Arc::clone(&self.open_epoch);
        loop {
            let mut error = None;
            tokio::select! {
                biased;
                () = self.options.abort.cancelled(), if failure.is_none() => error = Some(RunError::Aborted),
                () = self.options.drain.cancelled(), if !draining => {
                    draining = true;
                    tracing::debug!("draining");
                    self.source_stop.cancel();
                    let command = coordinator.stop();
                    self.tell(command);
                }
                Some(report) = reports.recv() => {
                    let record = coordinator.report(report);
                    self.complete(record);
                    let command = coordinator.begin(false);
                    self.tell(command);
                }
                Some(kept) = kept.recv() => {
                    self.keeper.writing -= 1;
                    self.note_kept(kept.added.epoch, kept.appended);
                    self.durable(kept.added);
                    let command = coordinator.begin(false);
                    self.tell(command);
                }
                joined = self.tasks.join_next() => match joined {
                    None => break,
                    Some(Ok(outcome)) => error = outcome.err(),
                    // Panics are caught inside; only a runtime that shuts down ends a task otherwise.
                    Some(Err(_)) => error = Some(RunError::Aborted),
                },
                () = open_epoch.filled(), if self.keeper.writing == 0 && !coordinator.is_under_way() => {
                    let command = coordinator.begin(true);
                    self.tell(command);
                }
                () = Desk::asked(self.desk.as_ref()) => {}
                () = sleep_until(self.rested_at), if self.look_waits => self.look_waits = false,
                _ = timer.tick(), if !finished && self.keeper.writing == 0 => {
                    let command = coordinator.begin(self.open_epoch.is_active());
                    if command.is_some() {
                        self.open_epoch.take_active();
                        if timer.period() != interval {
                            timer = ticks(interval);
                        }
                    }
                    self.tell(command);
                }
                () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {
                    tracing::warn!("{} tasks did not end within {} s", self.tasks.len(), GRACE.as_secs());
                    break;
                }
            }
            match (&failure, error) {
                (None, Some(error)) => {
                    failure = Some(error);
                    self.abort.cancel();
                    give_up_at = Some(Instant::now() + GRACE);
                }
                // Of what is stopped at once, a sink that waited for its server has the most to say.
                (Some(RunError::Aborted), Some(error)) => failure = Some(error),
                _ => {}
            }
            if self.desk.as_ref().is_some_and(Desk::is_asked) {
                self.look(&mut coordinator, draining || finished, failure.is_some());
            }
            if coordinator.finished() && !finished && failure.is_none() {
                finished = true;
                let record = coordinator.finish();
                self.complete(record);
            }
            if finished && !closed && self.keeper.writing == 0 {
                closed = true;
                // What is left is delivered; then sinks, checkpointer and sources end, each when nobody tells it
                // anything any more.
                self.outboxes.values().for_each(|outbox| outbox.close());
                self.outboxes.clear();
                self.commands.clear();
                self.keeper.notes = None;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Somebody wants to know what is not in a destination yet: an epoch ends for it as soon as one can.
    fn look(&mut self, coordinator: &mut Coordinator, ends: bool, fails: bool) {
        let Some(desk) = &self.desk else { return };
        if fails {
            return desk.refuse();
        }
        if let Some((epoch, tasks)) = coordinator.waits_for() {
            let nodes: BTreeSet<&str> = tasks.iter().map(|task| self.reported[*task].as_str()).collect();
            let nodes: Vec<&str> = nodes.into_iter().collect();
            return desk.waits_for(format!("the barrier of epoch {epoch} to pass {}", nodes.join(", ")));
        }
        if ends {
            return desk.refuse();
        }
        if self.keeper.writing > 0 {
            return desk.waits_for("the last epoch to be written to the checkpoints".into());
        }
        let now = Instant::now();
        self.look_waits = now < self.rested_at;
        if self.look_waits {
            return;
        }
        self.rested_at = now + LOOKS_APART;
        let Some(look) = desk.begin(&self.outboxes) else {
            // A destination that is reached does not say so here.
            self.look_waits = true;
            return;
        };
        match coordinator.look(look) {
            Some(command) => {
                self.open_epoch.take_active();
                self.tell(Some(command));
            }
            None => desk.refuse(),
        }
    }

    /// An epoch is complete: it is kept, if anything is.
    fn complete(&mut self, record: Option<EpochRecord>) {
        let Some(mut record) = record.filter(|_| !self.abort.is_cancelled()) else { return };
        for sink in record.outbox.keys() {
            if let Some(outbox) = self.outboxes.get(sink) {
                outbox.assign(record.added.epoch);
            }
        }
        if let Some(desk) = &self.desk {
            desk.complete(record.added.epoch, &self.outboxes);
        }
        for (name, source) in &record.added.sources {
            self.keeper.sources.entry(name.clone()).or_default().advance(source.clone());
        }
        let Some(notes) = &self.keeper.notes else { return self.durable(record.added) };
        if record.finished {
            record.added = self.afterwards(record.added.epoch);
        }
        if planted(Bug::DeliveredBeforeDurable) {
            self.outboxes.values().for_each(|outbox| outbox.durable(record.added.epoch));
        }
        self.keeper.writing += 1;
        // A checkpointer that is gone has failed, which its task reports.
        let _ = notes.send(Note::Keep(Box::new(record)));
    }

    /// What a next run needs to know when this one has come to the end of its input: where that was.
    fn afterwards(&self, epoch: Epoch) -> EpochState {
        let position = |source: &SourceState| SourceState { watermarks: BTreeMap::new(), ..source.clone() };
        let sources = self.keeper.sources.iter().map(|(name, source)| (name.clone(), position(source))).collect();
        EpochState { epoch, sources, operators: BTreeMap::new() }
    }

    fn note_kept(&mut self, epoch: Epoch, appended: Appended) {
        let took = self.keeper.took(epoch);
        let figures = &self.statistics.checkpoints;
        figures.durable(epoch, took, appended.bytes);
        figures.state_bytes.store(appended.state_bytes, Ordering::Relaxed);
        figures.outbox_bytes.store(appended.outbox_bytes, Ordering::Relaxed);
    }

    /// An epoch is durable: it is delivered, and the sources may forget it.
    fn durable(&mut self, added: EpochState) {
        if self.abort.is_cancelled() {
            return;
        }
        let epoch = added.epoch;
        self.statistics.epoch.store(epoch.0, Ordering::Relaxed);
        if let Some(listener) = &self.keeper.listener {
            listener.completed(added);
        }
        self.outboxes.values().for_each(|outbox| outbox.durable(epoch));
        self.tell(Some(Command::Committed(epoch)));
    }

    fn tell(&mut self, command: Option<Command>) {
        let Some(command) = command else { return };
        if let Command::Barrier { epoch, last, .. } = command {
            // After the last one none comes that a sink's task could wait for.
            self.begun.set(if last { Epoch(u64::MAX) } else { epoch });
            self.keeper.begins(epoch);
        }
        for source in &self.commands {
            // A source that is gone has failed, which its task reports.
            let _ = source.send(command.clone());
        }
    }

    /// Whether the run goes on: it may be told to stop before all its tasks run.
    async fn start_tasks(&mut self) -> Result<bool, RunError> {
        let wiring = self.layout.wire(&self.graph).into_iter().enumerate();
        let (sinks, others): (Vec<_>, Vec<_>) = wiring.partition(|(stage, _)| self.is_sink(*stage));
        // In a bounded run all sources come to their ends, and what comes out does not depend on the clock.
        let mut companies = if self.options.bounded { BTreeMap::new() } else { Company::of(&self.graph) };
        for (stage, instances) in sinks {
            self.start_stage(stage, instances, &mut companies)?;
        }
        if !self.may_go().await? {
            return Ok(false);
        }
        for (stage, instances) in others {
            self.start_stage(stage, instances, &mut companies)?;
        }
        let (nodes, tasks) = (self.graph.nodes.len(), self.reported.len());
        tracing::info!("running {nodes} nodes in {tasks} tasks, parallelism {}", self.options.parallelism);
        Ok(true)
    }

    fn is_sink(&self, stage: usize) -> bool {
        matches!(self.graph.nodes[self.layout.stages[stage].nodes[0].0].kind, NodeKind::Sink(_))
    }

    /// A run that leaves newer checkpoints behind may be refused by a destination that has had their rows. It writes
    /// nothing before it has reached all of them, and only then are those checkpoints put aside. False when it is told
    /// to stop meanwhile.
    async fn may_go(&mut self) -> Result<bool, RunError> {
        let opened = std::mem::take(&mut self.opened);
        let mut all_open = pin!(async {
            for sink in &opened {
                sink.cancelled().await;
            }
        });
        let mut departing = false;
        while !self.go.is_cancelled() {
            tokio::select! {
                biased;
                () = self.options.abort.cancelled() => return Err(RunError::Aborted),
                () = self.options.drain.cancelled() => return Ok(false),
                () = self.go.cancelled() => {}
                () = &mut all_open, if !departing => {
                    departing = true;
                    if let Some(notes) = &self.keeper.notes {
                        // A checkpointer that is gone has failed, which its task reports.
                        let _ = notes.send(Note::Depart(self.go.clone()));
                    }
                }
                Some(joined) = self.tasks.join_next() => joined.unwrap_or(Err(RunError::Aborted))?,
            }
        }
        Ok(true)
    }

    /// Ends what has been started, before anything was done.
    async fn give_up(mut self) -> Result<(), RunError> {
        self.abort.cancel();
        self.keeper.notes = None;
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, all_ended).await;
        Ok(())
    }

    fn start_stage(
        &mut self,
        stage: usize,
        instances: Vec<Wiring>,
        companies: &mut BTreeMap<NodeId, Company>,
    ) -> Result<(), RunError> {
        let head = self.layout.stages[stage].nodes[0];
        let name = self.graph.nodes[head.0].name.clone();
        let watermark = match &self.graph.nodes[head.0].kind {
            NodeKind::Source(source) if source.event_time.is_some() => {
                let state = self.start.as_ref().and_then(|start| start.operators.get(&name));
                let restored = state.map_or(EventTime::MIN, |state| state.watermark);
                let timeout = source.settings.idle_timeout;
                let company = companies.remove(&head).unwrap_or_else(Company::alone);
                Some(Arc::new(SourceWatermark::new(instances.len(), timeout, restored, company)))
            }
            _ => None,
        };
        let reading = Arc::new(AtomicUsize::new(instances.len()));
        let breaker = match &self.graph.nodes[head.0].kind {
            NodeKind::Source(source) => source.settings.bad_rows_limit.map(|limit| Arc::new(Breaker::new(limit))),
            _ => None,
        };
        for (instance, wiring) in instances.into_iter().enumerate() {
            let reporter = Reporter::new(self.reported.len(), self.reports.clone(), Arc::clone(&self.open_epoch));
            self.reported.push(name.clone());
            let gate = Gate::new(wiring.receivers);
            if let NodeKind::Sink(sink) = &self.graph.nodes[head.0].kind {
                let (collector, deliverer) = self.sink_tasks(head, &sink.clone(), reporter);
                self.spawn(&name, false, collector.run(gate));
                self.spawn(&name, true, deliverer.run());
                continue;
            }
            let stage = &self.layout.stages[stage];
            let chain =
                build::chain(&self.graph, stage, instance, wiring.ports, &self.statistics, self.start.as_ref())?;
            if let NodeKind::Source(source) = &self.graph.nodes[head.0].kind {
                let at = (instance, stage.instances);
                let start = self.start.as_ref();
                let lost = self.accept_lost_input;
                let context = source_context(source, &name, &self.options, &self.source_stop, at, start, lost);
                let decoder = match source.factory.decoding() {
                    Decoding::Rows => None,
                    Decoding::Format(format) => {
                        Some(format.decoder(Arc::clone(&source.physical)).map_err(|error| RunError::Connector {
                            node: name.clone(),
                            source: ConnectorError::Format(error),
                        })?)
                    }
                };
                let (commands, receiver) = mpsc::unbounded_channel();
                self.commands.push(commands);
                let restored = restored(&name, self.start.as_ref()).cloned();
                let task = SourceTask {
                    name: name.clone(),
                    factory: Arc::clone(&source.factory),
                    context,
                    bad_rows: source.settings.bad_rows.clone(),
                    reader: Reader::new(source, decoder, self.options.wall_clock.clone(), self.options.bounded),
                    breaker: breaker.clone(),
                    chain,
                    watermark: watermark.clone(),
                    reading: Arc::clone(&reading),
                    restored: restored.unwrap_or_default(),
                    commands: receiver,
                    reporter,
                    drain: self.options.drain.clone(),
                    statistics: Arc::clone(&self.statistics.nodes()[head.0]),
                };
                self.spawn(&name, false, task.run());
            } else {
                self.spawn(&name, false, operator_task::run(gate, chain, reporter));
            }
        }
        Ok(())
    }

    /// The two tasks of a sink, with its outbox between them.
    fn sink_tasks(&mut self, node: NodeId, sink: &SinkNode, reporter: Reporter) -> (SinkTask, Deliverer) {
        let name = self.graph.nodes[node.0].identity().to_owned();
        let kept = self.keeper.writer.is_some();
        let delivery = if kept { sink.factory.delivery() } else { Delivery::AtOnce };
        let undelivered = self.undelivered.remove(&name).unwrap_or_default();
        let outbox = Arc::new(Outbox::new(delivery, kept, &undelivered));
        self.outboxes.insert(name.clone(), Arc::clone(&outbox));
        let opened = CancellationToken::new();
        self.opened.push(opened.clone());
        let statistics = Arc::clone(&self.statistics.nodes()[node.0]);
        let collector = SinkTask {
            node,
            name: name.clone(),
            schema: Arc::clone(&sink.schema),
            outbox: Arc::clone(&outbox),
            kept,
            epoch_bytes: self.options.checkpoint_bytes,
            first: self.begun.get(),
            begun: self.begun.subscribe(),
            opened: opened.clone(),
            statistics: Arc::clone(&statistics),
            reporter,
        };
        let context = SinkContext {
            table: sink.table.clone(),
            pipeline: self.options.pipeline.clone(),
            writer: self.keeper.writer.clone(),
            schema: Arc::clone(&sink.schema),
            data_dir: self.options.data_dir.clone(),
            stop: self.abort.clone(),
        };
        let deliverer = Deliverer {
            name,
            factory: Arc::clone(&sink.factory),
            context,
            outbox,
            log: self.keeper.reader.clone(),
            accept_lost_output: self.accept_lost_output,
            notes: self.keeper.notes.clone(),
            linger: self.options.linger,
            statistics,
            opened,
            go: self.go.clone(),
            drain: self.options.drain.clone(),
        };
        (collector, deliverer)
    }

    /// Starts a task. When the run is stopped at once, a sink may finish what it is at; others are dropped.
    fn spawn(&mut self, node: &str, is_sink: bool, task: impl Future<Output = Result<(), RunError>> + Send + 'static) {
        let node = node.to_owned();
        let abort = self.abort.clone();
        self.tasks.spawn(async move {
            // Nothing of the task is used again after a panic.
            let mut task = Box::pin(AssertUnwindSafe(task).catch_unwind());
            let outcome = tokio::select! {
                biased;
                outcome = &mut task => outcome,
                () = abort.cancelled(), if !is_sink => return Ok(()),
            };
            outcome.unwrap_or_else(|panic| Err(RunError::panic(&node, panic.as_ref())))
        });
    }
}
