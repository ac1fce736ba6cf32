//! A real Kafka of one broker, a real Redis and, where asked for, a real PostgreSQL, for as long as the benchmark runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::Result;
use super::events::Events;
use super::runs::Input;

/// Both servers; they stop when this is dropped.
pub struct Servers {
    kafka: String,
    /// The URL.
    pub redis: String,
    kafka_dir: PathBuf,
    redis_dir: PathBuf,
}

/// A database; it stops when this is dropped.
pub struct Warehouse {
    /// The URL.
    pub url: String,
    dir: PathBuf,
}

impl Warehouse {
    /// Starts it with an empty folder.
    pub fn start(dir: &Path, port: u16) -> Result<Warehouse> {
        let dir = dir.join("postgres");
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        script("postgres.sh", &dir, &["start", "--port", &port.to_string()])?;
        Ok(Warehouse { url, dir })
    }
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        stop("postgres.sh", &self.dir);
    }
}

impl Servers {
    /// Starts both on ports from `port` on, with empty folders.
    pub fn start(dir: &Path, port: u16) -> Result<Servers> {
        let servers = Servers {
            kafka: format!("127.0.0.1:{port}"),
            redis: format!("redis://127.0.0.1:{}", port + 4),
            kafka_dir: dir.join("kafka"),
            redis_dir: dir.join("redis"),
        };
        for folder in [&servers.kafka_dir, &servers.redis_dir] {
            if folder.exists() {
                std::fs::remove_dir_all(folder)?;
            }
        }
        let owner = std::process::id().to_string();
        let (kafka_port, redis_port) = (port.to_string(), (port + 4).to_string());
        script("kafka.sh", &servers.kafka_dir, &["start", "--port", &kafka_port, "--owner", &owner])?;
        script("redis.sh", &servers.redis_dir, &["start", "--port", &redis_port])?;
        Ok(servers)
    }

    /// Makes an empty topic; the options of a table over it.
    pub fn empty_topic(&self, name: &str) -> Result<String> {
        self.make(name, 1)?;
        Ok(format!("connector = 'kafka', bootstrap_servers = '{}', topic = '{name}', format = 'json'", self.kafka))
    }

    fn make(&self, name: &str, partitions: i32) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let made = futures::executor::block_on(admin.create_topics([&topic], &AdminOptions::new()))?;
        ensure!(made == [Ok(name.to_owned())], "topic {name} could not be made: {made:?}");
        Ok(config)
    }

    /// Makes a topic and fills it, event by event in turn.
    pub fn topic(&self, name: &str, partitions: i32, events: &Events) -> Result<Input> {
        eprintln!("filling topic {name} with {} events", events.count);
        let mut config = self.make(name, partitions)?;
        config.set("linger.ms", "20").set("batch.size", "1000000").set("queue.buffering.max.messages", "500000");
        let producer: BaseProducer = config.create()?;
        events.each(|event, text| {
            loop {
                let record = BaseRecord::<(), [u8]>::to(name).partition(event as i32 % partitions).payload(text);
                match producer.send(record) {
                    Ok(()) => return Ok(()),
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        producer.poll(Duration::from_millis(10));
                    }
                    Err((error, _)) => return Err(error.into()),
                }
            }
        })?;
        producer.flush(Duration::from_secs(60))?;
        Ok(Input::Kafka { servers: self.kafka.clone(), topic: name.into() })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        stop("kafka.sh", &self.kafka_dir);
        stop("redis.sh", &self.redis_dir);
    }
}

fn stop(name: &str, dir: &Path) {
    if let Err(error) = script(name, dir, &["stop"]) {
        eprintln!("{error:#}");
    }
    let _ = std::fs::remove_dir_all(dir);
}

fn script(name: &str, dir: &Path, arguments: &[&str]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let (action, options) = arguments.split_at(1);
    let output = Command::new(&path).args(action).arg("--dir").arg(dir).args(options).output();
    let output = output.with_context(|| format!("{} does not start", path.display()))?;
    ensure!(output.status.success(), "{name} {action:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
