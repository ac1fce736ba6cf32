//! One run from its first task to its last: starts them, moves the epochs, stops them in order or at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::coordinator::Coordinator;
use super::gate::Gate;
use super::graph::{Graph, NodeId, NodeKind, SourceNode};
use super::layout::{Layout, Wiring};
use super::listener::EpochListener;
use super::reader::Reader;
use super::report::{Command, Report, Reporter, TaskId};
use super::sink_task::SinkTask;
use super::source_task::SourceTask;
use super::source_watermark::SourceWatermark;
use super::statistics::Statistics;
use super::{RunError, RunOptions, build, operator_task};
use crate::catalog::{BadRows, MetadataKey};
use crate::checkpoint::state::EpochState;
use crate::connectors::{ConnectorError, Decoding, SinkContext, SourceContext};
use crate::time::{Epoch, EventTime};

/// How long tasks may take to end when the run is stopped at once. A sink may be in the middle of a write.
const GRACE: Duration = Duration::from_secs(10);

/// See [`super::run_from`].
pub async fn run(
    graph: Graph,
    options: RunOptions,
    statistics: Arc<Statistics>,
    start: Option<EpochState>,
    listener: Option<Arc<dyn EpochListener>>,
) -> Result<(), RunError> {
    let abort = options.abort.child_token();
    let source_stop = abort.child_token();
    let sources = tokio::select! {
        biased;
        () = abort.cancelled() => return Err(RunError::Aborted),
        () = options.drain.cancelled() => return Ok(()),
        sources = source_instances(&graph, &options, &source_stop) => sources?,
    };
    let (reports_in, reports) = mpsc::unbounded_channel();
    let run = Run {
        layout: Layout::new(&graph, &sources, options.parallelism),
        graph,
        options,
        statistics,
        start,
        abort,
        source_stop,
        active: Arc::default(),
        reports: reports_in,
        commands: vec![],
        tasks: JoinSet::new(),
        spawned: 0,
    };
    run.supervise(reports, listener).await
}

/// Asks all sources at once how many instances each is worth.
async fn source_instances(
    graph: &Graph,
    options: &RunOptions,
    stop: &CancellationToken,
) -> Result<BTreeMap<NodeId, usize>, RunError> {
    let asked = graph.nodes.iter().enumerate().filter_map(|(index, node)| {
        let NodeKind::Source(source) = &node.kind else { return None };
        let context = source_context(source, &node.name, options, stop, (0, 1), None);
        Some(async move {
            let instances = source.factory.instances(&context, options.parallelism.max(1)).await;
            let instances = instances.map_err(|source| RunError::Connector { node: node.name.clone(), source })?;
            Ok((NodeId(index), instances.max(1)))
        })
    });
    Ok(try_join_all(asked).await?.into_iter().collect())
}

fn source_context(
    node: &SourceNode,
    name: &str,
    options: &RunOptions,
    stop: &CancellationToken,
    (instance, instances): (usize, usize),
    start: Option<&EpochState>,
) -> SourceContext {
    let letters = node.dead_letters.as_ref().filter(|_| matches!(node.settings.bad_rows, BadRows::Table(_)));
    let wants = |key: MetadataKey, name: &str| {
        node.metadata.iter().any(|(used, _)| *used == key)
            || letters.is_some_and(|letters| letters.column_with_name(name).is_some())
    };
    SourceContext {
        table: node.table.clone(),
        pipeline: options.pipeline.clone(),
        instance,
        instances,
        bounded: options.bounded,
        schema: Arc::clone(&node.physical),
        wants_keys: wants(MetadataKey::Key, "key"),
        wants_timestamps: wants(MetadataKey::Timestamp, "timestamp"),
        wants_headers: wants(MetadataKey::Headers, "headers"),
        batch_size: options.batch_size.max(1),
        positions: start
            .and_then(|start| start.sources.get(name))
            .map(|source| source.positions.clone())
            .unwrap_or_default(),
        origin: None,
        accept_lost_input: false,
        data_dir: options.data_dir.clone(),
        stop: stop.clone(),
    }
}

struct Run {
    graph: Graph,
    options: RunOptions,
    statistics: Arc<Statistics>,
    start: Option<EpochState>,
    layout: Layout,
    /// Stops everything at once; a child of the caller's.
    abort: CancellationToken,
    source_stop: CancellationToken,
    /// Whether anything happened that the next epoch must hold.
    active: Arc<AtomicBool>,
    reports: mpsc::UnboundedSender<Report>,
    commands: Vec<mpsc::UnboundedSender<Command>>,
    tasks: JoinSet<Result<(), RunError>>,
    spawned: TaskId,
}

impl Run {
    async fn supervise(
        mut self,
        mut reports: mpsc::UnboundedReceiver<Report>,
        listener: Option<Arc<dyn EpochListener>>,
    ) -> Result<(), RunError> {
        let mut failure = self.start_tasks().err();
        if failure.is_some() {
            self.abort.cancel();
        }
        let first = self.start.as_ref().map_or(Epoch::default(), |start| start.epoch);
        let mut coordinator = Coordinator::new(0..self.spawned, first);
        let interval = self.options.checkpoint_interval.max(Duration::from_millis(1));
        let mut timer = interval_at(Instant::now() + interval, interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut give_up_at: Option<Instant> = failure.as_ref().map(|_| Instant::now() + GRACE);
        let mut draining = false;
        let mut finished = false;
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
                    let state = coordinator.report(report);
                    self.completed(state, &listener);
                    let command = coordinator.begin(false);
                    self.tell(command);
                }
                joined = self.tasks.join_next() => match joined {
                    None => break,
                    Some(Ok(outcome)) => error = outcome.err(),
                    // Panics are caught inside; only a runtime that shuts down ends a task otherwise.
                    Some(Err(_)) => error = Some(RunError::Aborted),
                },
                _ = timer.tick(), if !finished => {
                    let command = coordinator.begin(self.active.load(Ordering::Relaxed));
                    if command.is_some() {
                        self.active.store(false, Ordering::Relaxed);
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
            if coordinator.finished() && !finished && failure.is_none() {
                finished = true;
                let state = coordinator.finish();
                self.completed(state, &listener);
                // The sources' tasks end when nobody commands them any more.
                self.commands.clear();
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn completed(&self, state: Option<EpochState>, listener: &Option<Arc<dyn EpochListener>>) {
        let Some(state) = state.filter(|_| !self.abort.is_cancelled()) else { return };
        let epoch = state.epoch;
        self.statistics.epoch.store(epoch.0, Ordering::Relaxed);
        if let Some(listener) = listener {
            listener.completed(state);
        }
        self.tell(Some(Command::Committed(epoch)));
    }

    fn tell(&self, command: Option<Command>) {
        let Some(command) = command else { return };
        for source in &self.commands {
            // A source that is gone has failed, which its task reports.
            let _ = source.send(command);
        }
    }

    fn start_tasks(&mut self) -> Result<(), RunError> {
        let wiring = self.layout.wire(&self.graph);
        for (stage, instances) in wiring.into_iter().enumerate() {
            self.start_stage(stage, instances)?;
        }
        let (nodes, tasks) = (self.graph.nodes.len(), self.spawned);
        tracing::info!("running {nodes} nodes in {tasks} tasks, parallelism {}", self.options.parallelism);
        Ok(())
    }

    fn start_stage(&mut self, stage: usize, instances: Vec<Wiring>) -> Result<(), RunError> {
        let head = self.layout.stages[stage].nodes[0];
        let name = self.graph.nodes[head.0].name.clone();
        let watermark = match &self.graph.nodes[head.0].kind {
            NodeKind::Source(source) if source.event_time.is_some() => {
                let state = self.start.as_ref().and_then(|start| start.operators.get(&name));
                let restored = state.map_or(EventTime::MIN, |state| state.watermark);
                let timeout = source.settings.idle_timeout;
                Some(Arc::new(SourceWatermark::new(instances.len(), timeout, restored, Instant::now())))
            }
            _ => None,
        };
        let reading = Arc::new(AtomicUsize::new(instances.len()));
        let breaker = match &self.graph.nodes[head.0].kind {
            NodeKind::Source(source) => source.settings.bad_rows_limit.map(|limit| Arc::new(Breaker::new(limit))),
            _ => None,
        };
        for (instance, wiring) in instances.into_iter().enumerate() {
            let reporter = Reporter::new(self.spawned, self.reports.clone(), Arc::clone(&self.active));
            let gate = Gate::new(wiring.receivers);
            if let NodeKind::Sink(_) = &self.graph.nodes[head.0].kind {
                if let Some(task) = self.sink_task(head, reporter) {
                    self.spawn(&name, true, task.run(gate));
                }
                continue;
            }
            let stage = &self.layout.stages[stage];
            let chain =
                build::chain(&self.graph, stage, instance, wiring.ports, &self.statistics, self.start.as_ref())?;
            if let NodeKind::Source(source) = &self.graph.nodes[head.0].kind {
                let at = (instance, stage.instances);
                let context = source_context(source, &name, &self.options, &self.source_stop, at, self.start.as_ref());
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
                let restored = self.start.as_ref().and_then(|start| start.sources.get(&name)).cloned();
                let task = SourceTask {
                    name: name.clone(),
                    factory: Arc::clone(&source.factory),
                    context,
                    bad_rows: source.settings.bad_rows.clone(),
                    reader: Reader::new(source, decoder, self.options.present()),
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

    fn sink_task(&self, node: NodeId, reporter: Reporter) -> Option<SinkTask> {
        let NodeKind::Sink(sink) = &self.graph.nodes[node.0].kind else { return None };
        let context = SinkContext {
            table: sink.table.clone(),
            pipeline: self.options.pipeline.clone(),
            writer: None,
            schema: Arc::clone(&sink.schema),
            data_dir: self.options.data_dir.clone(),
            stop: self.abort.clone(),
        };
        Some(SinkTask {
            name: self.graph.nodes[node.0].name.clone(),
            factory: Arc::clone(&sink.factory),
            context,
            linger: self.options.linger,
            statistics: Arc::clone(&self.statistics.nodes()[node.0]),
            reporter,
            drain: self.options.drain.clone(),
        })
    }

    /// Starts a task. When the run is stopped at once, a sink may finish what it is at; others are dropped.
    fn spawn(&mut self, node: &str, is_sink: bool, task: impl Future<Output = Result<(), RunError>> + Send + 'static) {
        self.spawned += 1;
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
