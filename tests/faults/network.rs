//! A network that cuts, stalls and swallows answers, between the pipeline and one of its servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kafka::Cluster;
use crate::ledger::{Ledger, mixed};
use crate::pipeline::Pipeline;
use crate::proxy::{Proxy, Way};
use crate::trial::{PATIENCE, Servers, Trial, assert_clean, exit_code};

const PER_SECOND: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_way_to_postgresql_loses_nothing() {
    let servers = Servers::shared();
    let proxy = Proxy::to(&format!("127.0.0.1:{}", servers.postgres.port));
    let mut trial = Trial::new(&servers, Ledger { seed: 61, partitions: 2 }).await;
    trial.variables.insert("POSTGRES", format!("postgres://postgres@{}/postgres", proxy.address()));
    let work = Work::begin(trial).await;
    work.cuts(&proxy).await;
    for _ in 0..3 {
        work.until_sprung(&proxy, || proxy.cut_before("COPY ")).await;
        work.until_sprung(&proxy, || proxy.cut_before("COMMIT")).await;
        work.until_sprung(&proxy, || proxy.swallow_answer("COMMIT")).await;
    }
    // Longer than the table's timeout.
    work.until_sprung(&proxy, || proxy.stall_after("COMMIT")).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    proxy.resume();
    work.half_open(&proxy, Duration::from_secs(8)).await;
    work.end("a bad way to PostgreSQL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_way_to_redis_loses_nothing() {
    let servers = Servers::shared();
    let proxy = Proxy::to(&format!("127.0.0.1:{}", servers.redis.port));
    let mut trial = Trial::new(&servers, Ledger { seed: 62, partitions: 2 }).await;
    trial.variables.insert("REDIS", format!("redis://{}", proxy.address()));
    let name = trial.name.clone();
    let work = Work::begin(trial).await;
    work.cuts(&proxy).await;
    for _ in 0..3 {
        work.until_sprung(&proxy, || proxy.cut_before(&name)).await;
        work.until_sprung(&proxy, || proxy.swallow_answer(&name)).await;
    }
    work.until_sprung(&proxy, || proxy.stall_after(&name)).await;
    tokio::time::sleep(Duration::from_secs(33)).await;
    proxy.resume();
    work.half_open(&proxy, Duration::from_secs(5)).await;
    work.end("a bad way to Redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_way_to_kafka_loses_nothing() {
    let shared = Servers::shared();
    let mut proxy = None;
    let kafka = Cluster::behind(|server| proxy.insert(Proxy::to(server)).port);
    let proxy = proxy.unwrap();
    let servers = Arc::new(Servers { kafka: Arc::new(kafka), ..(*shared).clone() });
    let trial = Trial::new(&servers, Ledger { seed: 63, partitions: 2 }).await;
    let name = trial.name.clone();
    let work = Work::begin(trial).await;
    work.cuts(&proxy).await;
    for _ in 0..5 {
        work.until_sprung(&proxy, || proxy.cut_before(&name)).await;
        work.until_sprung(&proxy, || proxy.swallow_answer(&name)).await;
    }
    proxy.stall();
    tokio::time::sleep(Duration::from_secs(12)).await;
    proxy.resume();
    work.half_open(&proxy, Duration::from_secs(5)).await;
    work.end("a bad way to Kafka").await;
}

/// A pipeline at work, with records coming in.
struct Work {
    trial: Trial,
    feed: crate::trial::Feed,
    pipeline: parking_lot::Mutex<Pipeline>,
}

impl Work {
    async fn begin(trial: Trial) -> Work {
        let feed = trial.feed(0..u64::MAX, PER_SECOND);
        let mut pipeline = trial.start();
        trial.until_rows(&mut pipeline, "events", 100).await;
        Work { trial, feed, pipeline: parking_lot::Mutex::new(pipeline) }
    }

    /// Cuts all connections now and then.
    async fn cuts(&self, proxy: &Proxy) {
        for number in 0..20 {
            tokio::time::sleep(Duration::from_millis(10 + mixed(number) % 300)).await;
            proxy.cut();
        }
        self.is_alive();
    }

    /// Nothing comes back, though all that is sent arrives.
    async fn half_open(&self, proxy: &Proxy, long: Duration) {
        proxy.stall_one(Way::ToClient);
        tokio::time::sleep(long).await;
        proxy.cut();
        proxy.resume();
        self.is_alive();
    }

    /// Sets a trap and waits until it has done its work.
    async fn until_sprung(&self, proxy: &Proxy, set: impl FnOnce()) {
        let (before, deadline) = (proxy.sprung(), Instant::now() + PATIENCE);
        set();
        while proxy.sprung() == before {
            self.is_alive();
            assert!(Instant::now() < deadline, "nobody went into the trap:\n{}", self.pipeline.lock().said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn is_alive(&self) {
        let mut pipeline = self.pipeline.lock();
        assert!(!pipeline.has_ended(), "it ended:\n{}", pipeline.said());
    }

    async fn end(self, what: &str) {
        let mut pipeline = self.pipeline.into_inner();
        let rows = self.trial.rows_in("events").await;
        self.trial.until_rows(&mut pipeline, "events", rows + 100).await;
        let count = self.feed.stop().await;
        pipeline.signal("-TERM");
        assert_eq!(exit_code(&mut pipeline).await, Some(0), "{what}:\n{}", pipeline.said());
        let verdicts = self.trial.finish(count).await;
        assert_clean(&format!("{what}:\n{}", pipeline.said()), &verdicts);
    }
}
