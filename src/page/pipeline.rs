//! `/api/page/pipeline`: the graph with its figures, the SQL beside it, and what could not be read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::dead_letters::DeadLetters;
use super::part::Part;
use super::statements::Statements;
use crate::console::{self, Console, Phase};
use crate::dataflow::graph::{Graph, Node, NodeKind};
use crate::dataflow::statistics::{NodeStatistics, Role};

/// Rates are over so long.
const RATE_OVER: Duration = Duration::from_secs(5);

/// The pipeline as the page shows it.
pub struct PipelinePart {
    console: Arc<Console>,
    /// What does not change of each node.
    nodes: Vec<Facts>,
    dead_letters: Arc<Mutex<DeadLetters>>,
    /// Rows of each node at earlier looks.
    samples: VecDeque<(Instant, Vec<u64>)>,
}

struct Facts {
    describe: String,
    inputs: Vec<usize>,
    sql: Value,
}

impl PipelinePart {
    /// Of a graph that runs and counts in the console's statistics.
    pub fn new(console: Arc<Console>, graph: &Graph, statements: &Statements, letters: DeadLetters) -> PipelinePart {
        let nodes = graph.nodes.iter().map(|node| Facts::of(node, statements)).collect();
        PipelinePart { console, nodes, dead_letters: Arc::new(Mutex::new(letters)), samples: VecDeque::new() }
    }

    /// Rows a second of each node since the oldest look that is remembered; zeros at the first.
    fn rates(&mut self) -> Vec<f64> {
        let rows: Vec<u64> = self.console.statistics().nodes().iter().map(|node| rows_of(node)).collect();
        while self.samples.len() > 1 && self.samples[0].0.elapsed() > RATE_OVER {
            self.samples.pop_front();
        }
        let rates = match self.samples.front() {
            None => vec![0.0; rows.len()],
            Some((at, before)) => {
                let seconds = at.elapsed().as_secs_f64().max(0.001);
                rows.iter().zip(before).map(|(now, before)| now.saturating_sub(*before) as f64 / seconds).collect()
            }
        };
        self.samples.push_back((Instant::now(), rows));
        rates
    }

    fn snapshot(&mut self, dead_letters: Vec<Value>) -> Value {
        let rates = self.rates();
        let status = self.console.status();
        let statistics = self.console.statistics();
        let read = statistics.nodes().iter().zip(&rates).filter(|(node, _)| node.role == Role::Source);
        let rows_per_second: f64 = read.map(|(_, rate)| rate).sum();
        let shown = status["nodes"].as_array().into_iter().flatten();
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .zip(statistics.nodes())
            .zip(shown)
            .zip(&rates)
            .enumerate()
            .map(|(id, (((facts, node), shown), rate))| facts.shown(id, node, shown, *rate))
            .collect();
        json!({
            "pipeline": status["pipeline"],
            "version": status["version"],
            "phase": phase(&self.console),
            "uptime_seconds": status["uptime_seconds"],
            "trouble": status["trouble"],
            "epoch": status["epoch"],
            "checkpoint_age_seconds": status["checkpoints"]["age_seconds"],
            "rows_in": status["rows_in"],
            "rows_out": status["rows_out"],
            "rows_per_second": rounded(rows_per_second),
            "late_rows": status["late_rows"],
            "bad_rows": status["bad_rows"],
            "lag": status["lag"],
            "state_bytes": status["state_bytes"],
            "nodes": nodes,
            "dead_letters": dead_letters,
        })
    }
}

/// The word for how far the pipeline is.
pub fn phase(console: &Console) -> &'static str {
    match console.phase() {
        Phase::Starting if console.statistics().checkpoints.is_recovering() => "recovering",
        phase => phase.as_str(),
    }
}

/// What counts as a node's rows: those that a sink has written, and those that came to others.
fn rows_of(node: &NodeStatistics) -> u64 {
    match node.role {
        Role::Source | Role::Operator => node.rows_in.load(Relaxed),
        Role::Sink => node.rows_out.load(Relaxed),
    }
}

fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

impl Facts {
    fn of(node: &Node, statements: &Statements) -> Facts {
        let mut inputs: Vec<usize> = node.inputs.iter().flatten().map(|edge| edge.from.0).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let describe = match &node.kind {
            NodeKind::Source(source) => source.factory.describe(),
            NodeKind::Sink(sink) => sink.factory.describe(),
            NodeKind::Operator(_) => node.detail.clone(),
        };
        Facts { describe, inputs, sql: statements.of_node(node) }
    }

    fn shown(&self, id: usize, node: &NodeStatistics, shown: &Value, rate: f64) -> Value {
        let watermark = console::moving(node.watermark());
        let behind = watermark.map(|watermark| console::age(watermark, SystemTime::now()).as_secs_f64());
        let lag = shown["lag"].as_object().into_iter().flat_map(|lag| lag.values());
        let delivery = &shown["delivery"];
        json!({
            "id": id,
            "name": shown["name"],
            "role": shown["role"],
            "table": shown["table"],
            "describe": self.describe,
            "inputs": self.inputs,
            "sql": self.sql,
            "rows_in": shown["rows_in"],
            "rows_out": shown["rows_out"],
            "rows_per_second": rounded(rate),
            "lag": lag.filter_map(Value::as_i64).map(|lag| lag.max(0)).sum::<i64>(),
            "watermark": shown["watermark"],
            "watermark_lag_seconds": behind,
            "state_bytes": shown["state_bytes"],
            "late_rows": shown["late_rows"],
            "bad_rows": shown["bad_rows"],
            "delivery": delivery.is_object().then(|| json!({
                "settled_epoch": delivery["settled_epoch"],
                "undelivered_rows": delivery["undelivered_rows"],
                "waiting_seconds": delivery["waiting_seconds"],
            })),
        })
    }
}

#[async_trait]
impl Part for PipelinePart {
    type Figures = Value;
    const INTERVAL: Duration = Duration::from_secs(1);

    async fn look(&mut self) -> Result<Value, String> {
        let letters = Arc::clone(&self.dead_letters);
        let newest = tokio::task::spawn_blocking(move || letters.lock().newest()).await;
        Ok(self.snapshot(newest.map_err(|error| error.to_string())?))
    }

    fn rest(&mut self) {
        self.samples.clear();
    }
}
