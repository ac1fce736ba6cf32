//! A Kafka inside this process, so that everything runs with nothing installed.
//!
//! It is librdkafka's mock cluster: good enough to see a pipeline at work, and no more. It keeps the newest 5 MB
//! of a partition, as compressed (a reader that falls behind finds a gap, which is logged, and goes on), forgets
//! everything when the process ends, and shows aborted transactions. Real Kafka is one variable away.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaErrorCode;

use crate::connectors::ConnectorError;

/// How many partitions an embedded topic has.
pub const PARTITIONS: i32 = 3;

const WHAT: &str = "embedded Kafka";

/// The cluster belongs to a thread, which makes topics when told to and ends with the process.
struct Embedded {
    bootstrap_servers: String,
    topics: Sender<(String, Sender<Result<(), String>>)>,
}

static EMBEDDED: OnceLock<Result<Embedded, String>> = OnceLock::new();

/// The address of this process's cluster, which is started by the first call.
///
/// # Errors
/// When librdkafka cannot start it, for want of memory or of a port.
pub fn bootstrap_servers() -> Result<String, ConnectorError> {
    embedded().map(|embedded| embedded.bootstrap_servers.clone())
}

/// Makes sure that the topic is there, with [`PARTITIONS`] partitions.
///
/// # Errors
/// As for [`bootstrap_servers`].
pub fn ensure_topic(topic: &str) -> Result<(), ConnectorError> {
    let (reply, answer) = mpsc::channel();
    let asked = embedded()?.topics.send((topic.to_owned(), reply));
    match asked.map(|()| answer.recv()) {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(message))) => Err(failure(format!("could not make topic {topic}: {message}"))),
        _ => Err(failure("its thread has ended".into())),
    }
}

fn failure(message: String) -> ConnectorError {
    ConnectorError::Refused { what: WHAT.into(), message }
}

fn embedded() -> Result<&'static Embedded, ConnectorError> {
    EMBEDDED.get_or_init(start).as_ref().map_err(|message| failure(message.clone()))
}

fn start() -> Result<Embedded, String> {
    let (started, start) = mpsc::channel();
    let (topics, wanted) = mpsc::channel::<(String, Sender<Result<(), String>>)>();
    let run = move || {
        let cluster = match MockCluster::new(1) {
            Ok(cluster) => cluster,
            Err(error) => return drop(started.send(Err(error.to_string()))),
        };
        if started.send(Ok(cluster.bootstrap_servers())).is_err() {
            return;
        }
        let mut made = HashSet::new();
        // Ends with the process: the sender is a static.
        for (topic, reply) in wanted {
            let outcome = match made.contains(&topic) {
                true => Ok(()),
                false => match cluster.create_topic(&topic, PARTITIONS, 1) {
                    // A client that named the topic first has made the cluster create it.
                    Ok(()) | Err(KafkaError::MockCluster(RDKafkaErrorCode::TopicAlreadyExists)) => {
                        made.insert(topic);
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                },
            };
            let _ = reply.send(outcome);
        }
    };
    std::thread::Builder::new().name("embedded-kafka".into()).spawn(run).map_err(|error| error.to_string())?;
    let bootstrap_servers = start.recv().map_err(|_| "its thread has ended".to_owned())??;
    Ok(Embedded { bootstrap_servers, topics })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_cluster_a_process() {
        assert_eq!(bootstrap_servers().unwrap(), bootstrap_servers().unwrap());
        ensure_topic("made-twice").unwrap();
        ensure_topic("made-twice").unwrap();
    }
}
