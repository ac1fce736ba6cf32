//! A real Kafka for tests, and what a test does to it from outside.
#![allow(dead_code, reason = "no test target uses all of it")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

#[allow(clippy::duplicate_mod, reason = "a test target may use one kind of server without the other")]
#[path = "ports.rs"]
mod ports;
use ports::free_ports;

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A cluster. `scripts/kafka.sh` stops it and deletes its folder when this process ends, however it ends.
pub struct Cluster {
    pub servers: String,
    brokers: u16,
    dir: PathBuf,
}

impl Cluster {
    /// One broker.
    pub fn start() -> Cluster {
        Cluster::of(1)
    }

    /// One broker that clients reach by a port which `way` gives for the broker's own address.
    pub fn behind(way: impl FnOnce(&str) -> u16) -> Cluster {
        Cluster::with(1, Some(way))
    }

    /// So many brokers.
    pub fn of(brokers: u16) -> Cluster {
        Cluster::with(brokers, None::<fn(&str) -> u16>)
    }

    fn with(brokers: u16, way: Option<impl FnOnce(&str) -> u16>) -> Cluster {
        let dir = tempfile::Builder::new().prefix("acequia-kafka-").tempdir().unwrap().keep();
        // Each has a port for clients and one for its peers.
        let port = free_ports(2 * brokers);
        let owner = std::process::id().to_string();
        let (port_text, count) = (port.to_string(), brokers.to_string());
        let advertised = way.map(|way| way(&format!("127.0.0.1:{port}")));
        let advertised_text = advertised.map(|port| port.to_string());
        let mut cluster = vec!["--dir", dir.to_str().unwrap(), "--port", &port_text, "--brokers", &count];
        cluster.extend(["--owner", &owner]);
        if let Some(port) = &advertised_text {
            cluster.extend(["--advertised", port]);
        }
        script(&[&["start"], cluster.as_slice()].concat());
        let ports = advertised.map_or(port..port + brokers, |port| port..port + 1);
        let servers = ports.map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
        Cluster { servers, brokers, dir }
    }

    /// The cluster that tests share which leave it running.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Cluster::start)
    }

    pub fn stop_broker(&self) {
        script(&["stop-broker", "1", "--dir", self.dir.to_str().unwrap()]);
    }

    /// Ends a broker, counted from 1, as a crash would.
    pub fn kill_broker(&self, node: u16) {
        script(&["stop-broker", &node.to_string(), "--kill", "--dir", self.dir.to_str().unwrap()]);
    }

    pub fn start_broker(&self, node: u16) {
        script(&["start-broker", &node.to_string(), "--dir", self.dir.to_str().unwrap()]);
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.servers).create().unwrap()
    }

    pub async fn create_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(self.brokers.min(3).into()));
        let made = self.admin().create_topics([&topic], &options()).await.unwrap();
        assert_eq!(made, [Ok(name.to_owned())]);
    }

    pub async fn add_partitions(&self, topic: &str, count: usize) {
        let more = NewPartitions::new(topic, count);
        let made = self.admin().create_partitions([&more], &options()).await.unwrap();
        assert_eq!(made, [Ok(topic.to_owned())]);
    }

    pub async fn delete_topic(&self, topic: &str) {
        let deleted = self.admin().delete_topics(&[topic], &options()).await.unwrap();
        assert_eq!(deleted, [Ok(topic.to_owned())]);
    }

    /// Deletes the records of partition 0 before `offset`, as retention would.
    pub async fn delete_before(&self, topic: &str, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
        self.admin().delete_records(&list, &options()).await.unwrap();
    }

    /// Sends values to a partition; their timestamps are 1000, 2000, 3000...
    pub fn produce(&self, topic: &str, partition: i32, values: &[&str]) {
        let producer = self.producer(&[]);
        send(&producer, topic, partition, values);
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    /// Sends values to partition 0 in a transaction of their own.
    pub fn produce_in_transaction(&self, topic: &str, values: &[&str], commit: bool) {
        let id = format!("writer-of-{topic}");
        let producer = self.producer(&[("transactional.id", &id)]);
        let wait = Duration::from_secs(30);
        producer.init_transactions(wait).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, topic, 0, values);
        producer.flush(wait).unwrap();
        match commit {
            true => producer.commit_transaction(wait).unwrap(),
            false => producer.abort_transaction(wait).unwrap(),
        }
    }

    /// A transaction with values in partition 0 that stays open until what is returned is dropped or used to end it.
    pub fn open_transaction(&self, topic: &str, values: &[&str]) -> BaseProducer {
        let id = format!("open-on-{topic}");
        let producer = self.producer(&[("transactional.id", &id)]);
        producer.init_transactions(Duration::from_secs(30)).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, topic, 0, values);
        producer.flush(Duration::from_secs(20)).unwrap();
        producer
    }

    /// Whether a transaction on a partition is neither committed nor taken back.
    pub fn is_in_transaction(&self, topic: &str, partition: i32) -> bool {
        let end = |isolation| end_of(&reader(&self.servers, isolation), topic, partition);
        // In this order: what is written in between can only make it look as if there were one.
        let committed = end("read_committed");
        committed < end("read_uncommitted")
    }

    fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("linger.ms", "5").set("message.max.bytes", "2000000");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        script(&["stop", "--kill", "--dir", self.dir.to_str().unwrap()]);
    }
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, values: &[&str]) {
    for (number, value) in values.iter().enumerate() {
        let timestamp = 1000 * (number as i64 + 1);
        let record = || BaseRecord::<str, str>::to(topic).partition(partition).payload(*value).timestamp(timestamp);
        while producer.send(record()).is_err() {
            producer.poll(Duration::from_millis(10));
        }
    }
}

/// Waits until readers of what is committed can read all that is in a topic now: a coordinator confirms a commit before it
/// has written the markers that make the records readable, and until then a partition looks as if it ended before them.
pub fn until_over(servers: &str, topic: &str) {
    let (committed, all) = (reader(servers, "read_committed"), reader(servers, "read_uncommitted"));
    let metadata = all.fetch_metadata(Some(topic), ANSWER).unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    for partition in metadata.topics()[0].partitions() {
        let end = end_of(&all, topic, partition.id());
        while end_of(&committed, topic, partition.id()) < end {
            assert!(Instant::now() < deadline, "a transaction on {topic}[{}] is still open", partition.id());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A consumer that is asked for ends.
pub fn reader(servers: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", servers).set("isolation.level", isolation).create().unwrap()
}

/// Where a partition ends for this reader.
pub fn end_of(reader: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    reader.fetch_watermarks(topic, partition, ANSWER).unwrap().1
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))
}

fn script(arguments: &[&str]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka.sh");
    let status = Command::new(path).args(arguments).status().unwrap();
    assert!(status.success(), "kafka.sh {arguments:?} failed: its words are above");
}
