//! What a running pipeline shows over HTTP: `/metrics`, `/healthz`, `/readyz` and `/api/v1/...`.
//!
//! Everything is read from [`Statistics`], which are atomics, at the time of the request; nothing here slows a
//! pipeline down. It listens on loopback unless told otherwise and answers only requests that name loopback as their
//! host, so that a page elsewhere cannot read it by rebinding a name. No answer carries a CORS header.

mod bind;
mod checkpoints;
mod figures;
mod flight;
mod host;
mod kafka;
pub mod live;
mod metrics;
mod redis;
mod secret;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use tokio::net::TcpListener;

use crate::dataflow::graph::{Graph, Node, NodeKind};
use crate::dataflow::statistics::Statistics;
use crate::operators::LATE;

pub use bind::{BindError, DEFAULT_ADDRESS, Listening, bind, listen, listen_or_free};
pub use figures::{Figures, age, moving};
pub use flight::FlightFigures;
pub use host::only_loopback;
use live::LiveView;
pub use secret::{equal, random_token};

/// How far a pipeline is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Not yet reading.
    Starting = 0,
    /// At work.
    Running = 1,
    /// Told to stop, working off what it has read.
    Draining = 2,
}

impl Phase {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Draining => "draining",
        }
    }
}

/// A node as the console names it.
#[derive(Debug)]
struct Label {
    /// The table that it reads or writes, or its own name.
    name: String,
    /// Whether it tells late rows from others: those that do have an output for them.
    tells_late: bool,
    /// The tables that it reads, directly or by others; empty for sources.
    reads: Vec<String>,
    /// The consumer group in which a source reads.
    group: Option<String>,
}

impl Label {
    fn named(name: &str) -> Label {
        Label { name: name.to_owned(), tells_late: false, reads: vec![], group: None }
    }
}

/// A pipeline as the console sees it.
#[derive(Debug)]
pub struct Console {
    pipeline: String,
    /// What is shown of each node beside its figures.
    labels: Vec<Label>,
    statistics: Arc<Statistics>,
    /// Whom to ask for live tables, if anybody may.
    live: Option<Arc<LiveView>>,
    /// What the Flight SQL server counts, if there is one.
    flight: Option<Arc<FlightFigures>>,
    phase: AtomicU8,
    began: Instant,
}

impl Console {
    /// The console of a pipeline that runs `graph` and counts in `statistics`, which are the graph's own.
    pub fn new(pipeline: &str, graph: &Graph, statistics: Arc<Statistics>) -> Console {
        let reads = tables_read(graph);
        let label = |(node, reads): (&Node, Vec<String>)| match &node.kind {
            NodeKind::Source(source) => {
                Label { group: source.factory.consumer_group(pipeline, &source.table), ..Label::named(&source.table) }
            }
            NodeKind::Sink(sink) => Label::named(&sink.table),
            NodeKind::Operator(_) => Label { tells_late: node.outputs.len() > LATE, reads, ..Label::named(&node.name) },
        };
        Console::with_labels(pipeline, graph.nodes.iter().zip(reads).map(label).collect(), statistics)
    }

    fn with_labels(pipeline: &str, labels: Vec<Label>, statistics: Arc<Statistics>) -> Console {
        let phase = AtomicU8::new(Phase::Starting as u8);
        let (pipeline, began) = (pipeline.to_owned(), Instant::now());
        Console { pipeline, labels, statistics, live: None, flight: None, phase, began }
    }

    /// The same with live tables.
    pub fn with_live(self, live: Arc<LiveView>) -> Console {
        Console { live: Some(live), ..self }
    }

    /// The same with what the run's Flight SQL server counts.
    pub fn with_flight(self, figures: Arc<FlightFigures>) -> Console {
        Console { flight: Some(figures), ..self }
    }

    /// Says how far the pipeline is.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// How far the pipeline is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Draining,
        }
    }

    /// The pipeline's totals.
    pub fn figures(&self) -> Figures {
        Figures::of(&self.statistics)
    }

    /// What keeps the pipeline from its work, if anything does: for those who ask whether it is ready, and for the
    /// progress line.
    pub fn trouble(&self) -> Option<String> {
        checkpoints::trouble(&self.statistics, self.labels.iter().map(|label| label.name.as_str()))
    }

    /// The table with the most rows that its destination lacks, and how many, if there are any.
    pub fn furthest_behind(&self) -> Option<(&str, u64)> {
        let lacks = self.statistics.nodes().iter().zip(&self.labels).map(|(node, label)| {
            (label.name.as_str(), node.delivery.undelivered_rows.load(std::sync::atomic::Ordering::Relaxed))
        });
        lacks.max_by_key(|(_, rows)| *rows).filter(|(_, rows)| *rows > 0)
    }

    /// Totals and every node's figures, as `/api/v1/status` gives them.
    pub fn status(&self) -> serde_json::Value {
        status::render(self)
    }

    /// What the pipeline counts in.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Time since this was made.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The tables that each node reads, directly or by others.
fn tables_read(graph: &Graph) -> Vec<Vec<String>> {
    let mut tables: Vec<BTreeSet<String>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        // What a node reads stands before it.
        let mut reads: BTreeSet<String> =
            node.inputs.iter().flatten().flat_map(|edge| tables[edge.from.0].iter().cloned()).collect();
        if let NodeKind::Source(source) = &node.kind {
            reads.insert(source.table.clone());
        }
        tables.push(reads);
    }
    tables.into_iter().map(|tables| tables.into_iter().collect()).collect()
}

/// Answers requests until dropped.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, console: Arc<Console>) -> std::io::Result<()> {
    let loopback = listener.local_addr()?.ip().is_loopback();
    axum::serve(listener, router(console, loopback)).await
}

const NOT_FOUND: &str = "not found: there are /metrics, /healthz, /readyz, /api/v1/status, /api/v1/kafka/topics, \
    /api/v1/kafka/messages, /api/v1/redis/keys, /api/v1/redis/get, /api/v1/live and /api/v1/live/TABLE\n";

fn router(console: Arc<Console>, loopback: bool) -> Router {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/kafka/topics", get(kafka::topics))
        .route("/api/v1/kafka/messages", get(kafka::messages))
        .route("/api/v1/redis/keys", get(redis::keys))
        .route("/api/v1/redis/get", get(redis::get))
        .route("/api/v1/live", get(live::tables))
        .route("/api/v1/live/{table}", get(live::rows))
        .fallback(async || (StatusCode::NOT_FOUND, NOT_FOUND))
        .with_state(console);
    // Beyond loopback the names by which this machine is reached are not known.
    if loopback { router.layer(middleware::from_fn(host::only_loopback)) } else { router }
}

/// A parameter of a request, decoded.
fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn readyz(State(console): State<Arc<Console>>) -> Response {
    let unready = match console.phase() {
        Phase::Running => console.trouble(),
        phase => Some(phase.as_str().into()),
    };
    match unready {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(console): State<Arc<Console>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, metrics::render(&console, std::time::SystemTime::now())).into_response()
}

async fn status(State(console): State<Arc<Console>>) -> Response {
    Json(status::render(&console)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::dataflow::statistics::Role;

    /// A console of four nodes with made-up figures.
    pub(super) fn console() -> Arc<Console> {
        let statistics = Statistics::new([
            ("transactions".into(), Role::Source),
            ("metrics.window".into(), Role::Operator),
            ("metrics.map".into(), Role::Operator),
            ("metrics".into(), Role::Sink),
        ]);
        let [source, window, map, sink] = statistics.nodes() else { panic!("four nodes") };
        source.rows_in.store(100, Relaxed);
        source.bytes_in.store(17_000, Relaxed);
        source.add_bad_rows("malformed", 3);
        source.set_lag([("transactions[0]".into(), 7), ("transactions[1]".into(), 5)]);
        source.set_watermark(crate::time::EventTime(1_700_000_000_000_000_000));
        source.rows_out.store(97, Relaxed);
        map.rows_in.store(97, Relaxed);
        map.filtered_rows.store(7, Relaxed);
        window.rows_in.store(90, Relaxed);
        window.late_rows.store(2, Relaxed);
        window.aggregated_rows.store(88, Relaxed);
        window.state_bytes.store(4096, Relaxed);
        sink.rows_out.store(9, Relaxed);
        statistics.epoch.store(12, Relaxed);
        let labels = ["transactions", "metrics.window", "metrics.map", "metrics"];
        let mut labels = labels.map(Label::named);
        labels[0].group = Some("shop-transactions".into());
        labels[1].tells_late = true;
        labels[1].reads = vec!["transactions".into()];
        Arc::new(Console::with_labels("shop", labels.into(), Arc::new(statistics)))
    }

    async fn started(console: Arc<Console>) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, console));
        address
    }

    async fn request(address: std::net::SocketAddr, path: &str, host: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_is_ready_only_while_running() {
        let console = console();
        let address = started(Arc::clone(&console)).await;
        assert!(request(address, "/readyz", "localhost").await.starts_with("HTTP/1.1 503"));
        console.enter(Phase::Running);
        assert!(request(address, "/readyz", "localhost").await.starts_with("HTTP/1.1 200"));
        console.statistics.checkpoints.recovering();
        let recovering = request(address, "/readyz", "localhost").await;
        assert!(recovering.starts_with("HTTP/1.1 503") && recovering.ends_with("recovering\n"), "{recovering}");
        console.enter(Phase::Draining);
        let draining = request(address, "/readyz", "localhost").await;
        assert!(draining.starts_with("HTTP/1.1 503") && draining.ends_with("draining\n"), "{draining}");
        assert!(request(address, "/healthz", "localhost").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn another_host_name_is_turned_away() {
        let address = started(console()).await;
        for host in ["127.0.0.1:9464", "localhost", "[::1]:9464", "LOCALHOST:1"] {
            assert!(request(address, "/metrics", host).await.starts_with("HTTP/1.1 200"), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9464"] {
            let answer = request(address, "/metrics", host).await;
            assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("acequia_rows"), "{host}: {answer}");
        }
    }

    #[tokio::test]
    async fn no_answer_invites_other_origins() {
        let address = started(console()).await;
        let answer = request(address, "/api/v1/status", "localhost").await;
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        assert!(answer.contains(r#""pipeline":"shop""#), "{answer}");
    }

    #[tokio::test]
    async fn an_unknown_path_names_those_that_exist() {
        let answer = request(started(console()).await, "/metric", "localhost").await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("/metrics"), "{answer}");
    }
}
