//! The whole of it on real servers: three Kafka brokers, PostgreSQL and Redis from `scripts/`, the binary as a user
//! starts it, and the shop's events. What comes out is held against [`Ledger`], which counted the events while they
//! were made.

#[path = "../servers/kafka.rs"]
mod kafka;
#[path = "../servers/pipeline.rs"]
mod pipeline;
#[path = "../servers/server.rs"]
mod server;

mod databases;
mod feed;
mod outcome;
mod queries;
mod results;
mod totals;

use std::process::Command;
use std::time::{Duration, Instant};

use kafka::Cluster;
use pipeline::{Pipeline, acequia};
use server::Server;

/// The topics of the shop.
const TOPICS: [&str; 5] = ["transactions", "user_behavior", "searches", "cart_events", "transaction_items"];

/// The servers of a test.
struct Servers {
    kafka: Cluster,
    postgres: Server,
    redis: Server,
}

impl Servers {
    /// With a running Kafka; the others are still to be started.
    fn new(brokers: u16) -> Servers {
        let kafka = Cluster::of(brokers);
        Servers { kafka, postgres: Server::new("postgres.sh"), redis: Server::new("redis.sh") }
    }

    fn database_url(&self) -> String {
        self.database("postgres")
    }

    /// The URL of a database of that name.
    fn database(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.postgres.port)
    }

    fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.redis.port)
    }

    /// `acequia run` of a folder of the sources, in a place of its own.
    fn run(&self, folder: &str, place: &std::path::Path) -> Command {
        let mut command = acequia();
        command.current_dir(place).arg("run").arg(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR")));
        command.args(["--http", "127.0.0.1:0"]);
        command.env("KAFKA_BROKERS", &self.kafka.servers);
        command.env("DWH_URL", self.database_url()).env("REDIS_URL", self.redis_url());
        command
    }
}

/// Looks again and again until `done` says yes.
async fn wait_until(
    what: &str,
    pipeline: &mut Pipeline,
    patience: Duration,
    mut done: impl AsyncFnMut(&mut Pipeline) -> bool,
) {
    let deadline = Instant::now() + patience;
    while !done(pipeline).await {
        assert!(!pipeline.has_ended(), "the pipeline ended before {what}:\n{}", pipeline.said());
        assert!(Instant::now() < deadline, "still waiting for {what}:\n{}", pipeline.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
