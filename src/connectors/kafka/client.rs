//! Settings of librdkafka: those that Acequia chooses, those that the user gives, and its log lines in ours.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::messages;
use super::options::{KafkaOptions, ReadMode, Servers};
use crate::catalog::options::closest;
use crate::connectors::ConnectorError;

/// Settings that would break what Acequia does, with the reason.
const RESERVED: [(&str, &str); 11] = [
    (
        "auto.offset.reset",
        "'source.offset' says where to begin, and records that are gone are an error, or left out with a warning by \
         --accept-lost-input",
    ),
    ("enable.auto.commit", "offsets are committed when an epoch is complete"),
    ("auto.commit.interval.ms", "offsets are committed when an epoch is complete"),
    ("enable.auto.offset.store", "offsets are committed when an epoch is complete"),
    ("enable.partition.eof", "the end of a partition is always watched"),
    ("delivery.report.only.error", "every delivery is waited for"),
    ("transactional.id", "'delivery' says what is promised"),
    ("log.queue", "log lines go to Acequia's log"),
    ("test.mock.num.brokers", "'bootstrap_servers' = 'embedded' gives a Kafka in the data folder"),
    ("plugin.library.paths", "Acequia loads no foreign code"),
    ("statistics.interval.ms", "Acequia has its own metrics"),
];

/// What is wrong with a setting.
#[derive(Debug)]
pub(super) enum BadProperty {
    /// Its name.
    Unknown {
        /// What is wrong.
        message: String,
        /// What would be right.
        help: String,
    },
    /// Its value.
    Value {
        /// What is wrong.
        message: String,
        /// What would be right.
        help: String,
    },
}

/// Lets librdkafka check one of its settings.
pub(super) fn check_property(key: &str, value: &str) -> Result<(), BadProperty> {
    if let Some((_, reason)) = RESERVED.iter().find(|(reserved, _)| *reserved == key) {
        return Err(BadProperty::Unknown {
            message: format!("setting '{key}' is Acequia's own"),
            help: format!("take it out: {reason}"),
        });
    }
    match ClientConfig::new().set(key, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            let known = messages::setting_names();
            let help = match closest(key, known.iter().map(String::as_str)) {
                Some(known) => format!("did you mean 'properties.{known}'?"),
                None => {
                    "its settings are listed in CONFIGURATION.md of librdkafka; those of the Java client do not all \
                         exist there"
                        .into()
                }
            };
            Err(BadProperty::Unknown { message: format!("librdkafka has no setting '{key}'"), help })
        }
        Err(_) if is_secret(key) => Err(BadProperty::Value {
            message: format!("option 'properties.{key}' does not take this value"),
            help: "librdkafka refuses it; the value is not shown, because it may be a secret".into(),
        }),
        Err(KafkaError::ClientConfig(_, help, ..)) => {
            Err(BadProperty::Value { message: format!("option 'properties.{key}' does not take '{value}'"), help })
        }
        Err(_) => Err(BadProperty::Value {
            message: format!("option 'properties.{key}' holds a NUL byte"),
            help: "take it out".into(),
        }),
    }
}

fn is_secret(key: &str) -> bool {
    ["password", "secret", "pem", "token", "sasl.oauthbearer", "ssl.key"].iter().any(|part| key.contains(part))
}

/// The part as messages name it: `Kafka at localhost:9092`.
pub(super) fn server_name(servers: &Servers) -> String {
    match servers {
        Servers::Embedded => "embedded Kafka".into(),
        Servers::At(addresses) => format!("Kafka at {addresses}"),
    }
}

/// Where a table's records are, for `describe`: `at localhost:9092`.
pub(super) fn place(servers: &Servers) -> String {
    match servers {
        Servers::Embedded => "(embedded)".into(),
        Servers::At(addresses) => format!("at {addresses}"),
    }
}

/// What a source reads, for `describe`: `kafka topics clicks, searches at localhost:9092`.
pub(super) fn topics(options: &KafkaOptions) -> String {
    let noun = if options.topics.len() == 1 { "topic" } else { "topics" };
    format!("kafka {noun} {} {}", options.topics.join(", "), place(&options.servers))
}

fn base(servers: &Servers, client_id: &str) -> Result<ClientConfig, ConnectorError> {
    let addresses = match servers {
        // Its tables have sources and sinks of their own.
        Servers::Embedded => {
            let message = "it has no address that a client could connect to".into();
            return Err(ConnectorError::Refused { what: server_name(servers), message });
        }
        Servers::At(addresses) => addresses.clone(),
    };
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", addresses)
        .set("client.id", client_id)
        // A broker that comes back is found within two seconds, not ten.
        .set("reconnect.backoff.max.ms", "2000")
        .set("log.connection.close", "false")
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true");
    Ok(config)
}

/// Settings of a client that reads.
pub(super) fn consumer(
    options: &KafkaOptions,
    client_id: &str,
    group_id: &str,
) -> Result<ClientConfig, ConnectorError> {
    let mut config = base(&options.servers, client_id)?;
    config
        .set("group.id", group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // An offset that is gone is an error, never a silent jump.
        .set("auto.offset.reset", "error")
        .set(
            "isolation.level",
            match options.read_mode {
                ReadMode::Committed => "read_committed",
                ReadMode::Uncommitted => "read_uncommitted",
            },
        )
        // Bounds the memory of an instance: more is no faster, and 32 MB cost a tenth of the CPU time, since what waits has
        // left the caches. When it is full, fetching goes on 5 ms after there is room, not 1000.
        .set("queued.max.messages.kbytes", "4096")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "200");
    config.extend(options.properties.0.iter().cloned());
    Ok(config)
}

/// Settings of a client that writes.
pub(super) fn producer(servers: &Servers, client_id: &str) -> Result<ClientConfig, ConnectorError> {
    let mut config = base(servers, client_id)?;
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // A record waits for its broker as long as it takes; the sink says that it waits.
        .set("message.timeout.ms", "0")
        // As the Java client and so every other tool: a key is in the same partition whoever wrote it.
        .set("partitioner", "murmur2_random")
        .set("compression.type", "lz4")
        .set("linger.ms", "10")
        // Up to the broker to refuse a large record: it knows its limit, and topics differ.
        .set("message.max.bytes", "67108864")
        .set("queue.buffering.max.kbytes", "65536")
        .set("queue.buffering.max.messages", "500000")
        // Only what failed is reported one by one; success is counted inside librdkafka.
        .set("delivery.report.only.error", "true")
        // Brokers close idle connections after ten minutes; closing first is no error.
        .set("connections.max.idle.ms", "540000");
    Ok(config)
}

/// Settings of a client that writes in transactions, whose records become visible together.
pub(super) fn transactional_producer(
    servers: &Servers,
    client_id: &str,
    transactional_id: &str,
    properties: &[(String, String)],
) -> Result<ClientConfig, ConnectorError> {
    let mut config = producer(servers, client_id)?;
    config
        .set("transaction.timeout.ms", "60000")
        // A connection that breaks during a commit must be noticed.
        .set("log.connection.close", "true")
        .remove("message.timeout.ms");
    config.extend(properties.iter().cloned());
    config.set("transactional.id", transactional_id);
    if config.get("message.timeout.ms").is_none() {
        // A record that waits longer than its transaction lives cannot become visible.
        let timeout = config.get("transaction.timeout.ms").unwrap_or("60000").to_owned();
        config.set("message.timeout.ms", timeout);
    }
    Ok(config)
}

/// Settings of a client that reads the progress of sinks.
pub(super) fn progress_reader(
    servers: &Servers,
    client_id: &str,
    isolation: &str,
    properties: &[(String, String)],
) -> Result<ClientConfig, ConnectorError> {
    let mut config = base(servers, client_id)?;
    config.extend(properties.iter().cloned());
    config
        // Needed to read, and nothing is ever committed in it.
        .set("group.id", client_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", isolation)
        .set("fetch.wait.max.ms", "10")
        .set("fetch.error.backoff.ms", "50");
    Ok(config)
}

/// A client could not be made: a matter of settings, which waiting does not change.
pub(super) fn unusable(what: &str, error: &KafkaError) -> ConnectorError {
    let message = match error {
        // Holds the value, which may be a secret.
        KafkaError::ClientConfig(_, description, key, _) => format!("setting '{key}': {description}"),
        KafkaError::ClientCreation(description) => format!("librdkafka refuses the settings: {description}"),
        other => other.to_string(),
    };
    ConnectorError::Refused { what: what.into(), message }
}

/// A log line of librdkafka. Connection failures come as events too and are told from there, once an outage.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // What is tried again by librdkafka itself: a new cluster is a while about its transaction log, for each producer.
        _ if matches!(facility, "FAIL" | "ERROR" | "CONFWARN")
            || facility == "GETPID" && message.ends_with("retrying") =>
        {
            tracing::debug!(target: "librdkafka", "{facility}: {message}");
        }
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", "{facility}: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", "{facility}: {message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", "{facility}: {message}"),
    }
}
