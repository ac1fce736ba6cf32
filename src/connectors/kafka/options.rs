//! What `WITH (connector = 'kafka', ...)` may say.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::client::{self, BadProperty};
use crate::catalog::options::{OptionValue, Options, closest};
use crate::catalog::{ColumnKind, MetadataKey, TableDefinition};
use crate::connectors::delivery::Promise;

/// The options of a Kafka table.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `bootstrap_servers` (`bootstrap.servers`, `properties.bootstrap.servers`): `host:port`, several with commas,
    /// or `embedded`.
    pub servers: Servers,
    /// `topic`: one, or several with commas for a source.
    pub topics: Vec<String>,
    /// `type`: `source` or `sink`, as Arroyo wants it; here it only narrows what the table can be used for.
    pub table_use: Option<TableUse>,
    /// `group_id` (`source.group_id`, `properties.group.id`): the group whose offsets are committed, for those who
    /// watch lag. Nothing is read from it. Default: `<pipeline>-<table>`.
    pub group_id: Option<String>,
    /// `source.offset` (`scan.startup.mode`): where to begin without a checkpoint.
    pub start: Start,
    /// `source.read_mode` (`properties.isolation.level`).
    pub read_mode: ReadMode,
    /// `partition_discovery`: how often to look for new partitions. Default: 30 seconds.
    pub partition_discovery: Duration,
    /// `key_field` (`sink.key_field`): the column whose value becomes the record's key, if no column is declared as
    /// `METADATA FROM 'key'`.
    pub key_field: Option<String>,
    /// `delivery` (`sink.commit_mode`): what is promised to readers of the topic.
    pub promise: Promise,
    /// `audit_headers`: whether records say in two headers which epoch they belong to and which number they have in it, for
    /// those who have to find one record's way. Only with exactly-once delivery. Default: false, since librdkafka takes
    /// more time for two headers than for the record, and `acequia audit` goes by the rows themselves.
    pub audit_headers: bool,
    /// `embedded_retention`: how many bytes of a topic the embedded Kafka keeps, about; the oldest records go first.
    /// No effect on a real one. Default: 1 GB.
    pub embedded_retention: Option<u64>,
    /// `properties.*`: settings of librdkafka by their own names. No effect on the embedded Kafka.
    pub properties: Properties,
}

/// Where Kafka is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Servers {
    /// In the data folder.
    Embedded,
    /// At these addresses.
    At(String),
}

/// What a table is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableUse {
    /// Only to be read.
    Source,
    /// Only to be written.
    Sink,
}

/// Where a partition is read from when no checkpoint says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// `earliest`: the first record there is. The default.
    Earliest,
    /// `latest`: records that come after the pipeline's start.
    Latest,
    /// `timestamp`, with `scan.startup.timestamp-millis`: the first record at or after this moment, in milliseconds
    /// since 1970.
    Timestamp(i64),
    /// `specific-offsets`, with `scan.startup.specific-offsets`: by partition; those not named from their first record.
    Offsets(BTreeMap<i32, i64>),
}

/// Which records of transactions are seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadMode {
    /// Those of committed ones. The default.
    Committed,
    /// All, also of open and aborted ones.
    Uncommitted,
}

/// Settings of librdkafka. May hold passwords, so that they print by name only.
#[derive(Clone, Default)]
pub struct Properties(pub Vec<(String, String)>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(key, _)| (key, "***"))).finish()
    }
}

impl KafkaOptions {
    /// Takes the connector's options out of `options`; mistakes are noted there.
    pub fn take(table: &TableDefinition, options: &mut Options) -> KafkaOptions {
        let servers = take_servers(options);
        let table_use = options.choice(&["type"], &[("source", TableUse::Source), ("sink", TableUse::Sink)]);
        let topics = take_topics(table, table_use, options);
        KafkaOptions {
            servers,
            table_use,
            group_id: options.string(&["group_id", "source.group_id", "properties.group.id"]),
            start: take_start(&topics, options),
            topics,
            read_mode: options
                .choice(
                    &["source.read_mode", "properties.isolation.level"],
                    &[("read_committed", ReadMode::Committed), ("read_uncommitted", ReadMode::Uncommitted)],
                )
                .unwrap_or(ReadMode::Committed),
            partition_discovery: options.duration(&["partition_discovery"]).unwrap_or(Duration::from_secs(30)),
            key_field: take_key_field(table, options),
            promise: Promise::take(options),
            audit_headers: options.boolean(&["audit_headers"]).unwrap_or(false),
            embedded_retention: options.size(&["embedded_retention"]),
            properties: take_properties(options),
        }
    }

    /// The consumer group of a table.
    pub(super) fn group(&self, pipeline: &str, table: &str) -> String {
        self.group_id.clone().unwrap_or_else(|| format!("{pipeline}-{table}"))
    }
}

fn take_servers(options: &mut Options) -> Servers {
    const NAMES: [&str; 3] = ["bootstrap_servers", "bootstrap.servers", "properties.bootstrap.servers"];
    let Some(option) = options.take(&NAMES) else {
        options.required(&NAMES, "localhost:9092");
        return Servers::Embedded;
    };
    if option.text.trim() == "embedded" {
        return Servers::Embedded;
    }
    let servers: Vec<&str> = option.text.split(',').map(str::trim).collect();
    for server in &servers {
        let port = server.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
        if !matches!(port, Some(Ok(1..))) {
            options.error(
                option.location,
                format!("option '{}' does not take '{server}' as an address", option.key),
                Some("it takes 'host:port', several of them with commas, or 'embedded'".into()),
            );
        }
    }
    Servers::At(servers.join(","))
}

fn take_topics(table: &TableDefinition, table_use: Option<TableUse>, options: &mut Options) -> Vec<String> {
    let Some(option) = options.take(&["topic"]) else {
        options.required(&["topic"], &table.name);
        return vec![];
    };
    let mut topics: Vec<String> = option.text.split(',').map(|topic| topic.trim().to_owned()).collect();
    for topic in &topics {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=249).contains(&topic.len()) || !topic.chars().all(legal) || topic == "." || topic == ".." {
            options.error(
                option.location,
                format!("'{topic}' cannot be the name of a Kafka topic"),
                Some(
                    "a name has 1 to 249 letters, digits, '.', '_' or '-'; several names are separated by commas"
                        .into(),
                ),
            );
        }
    }
    if topics.len() > 1 && table_use == Some(TableUse::Sink) {
        options.error(
            option.location,
            format!("a sink writes one topic, and 'topic' names {}", topics.len()),
            Some("declare a table for each topic and write an INSERT for each".into()),
        );
    }
    topics.sort_unstable();
    topics.dedup();
    topics
}

fn take_start(topics: &[String], options: &mut Options) -> Start {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Earliest,
        Latest,
        Timestamp,
        Offsets,
    }
    const MODES: [(&str, Mode); 6] = [
        ("earliest", Mode::Earliest),
        ("latest", Mode::Latest),
        ("timestamp", Mode::Timestamp),
        ("specific-offsets", Mode::Offsets),
        // Flink's words.
        ("earliest-offset", Mode::Earliest),
        ("latest-offset", Mode::Latest),
    ];
    let mode = options.choice(&["source.offset", "scan.startup.mode"], &MODES).unwrap_or(Mode::Earliest);
    let millis = options.take(&["scan.startup.timestamp-millis"]);
    let offsets = options.take(&["scan.startup.specific-offsets"]);
    for (option, needs, word) in
        [(&millis, Mode::Timestamp, "timestamp"), (&offsets, Mode::Offsets, "specific-offsets")]
    {
        if let Some(option) = option
            && mode != needs
        {
            options.error(
                option.key_location,
                format!("option '{}' has no effect without 'source.offset' = '{word}'", option.key),
                Some(format!("add 'source.offset' = '{word}', or take '{}' out", option.key)),
            );
        }
    }
    match mode {
        Mode::Earliest => Start::Earliest,
        Mode::Latest => Start::Latest,
        Mode::Timestamp => Start::Timestamp(timestamp(millis, options)),
        Mode::Offsets => Start::Offsets(specific_offsets(offsets, topics, options)),
    }
}

fn timestamp(option: Option<OptionValue>, options: &mut Options) -> i64 {
    let Some(option) = option else {
        options.required(&["scan.startup.timestamp-millis"], "1700000000000");
        return 0;
    };
    match option.text.trim().parse::<i64>() {
        Ok(millis) if millis >= 0 => millis,
        _ => {
            options.error(
                option.location,
                format!("option '{}' does not take '{}'", option.key, option.text),
                Some("it takes milliseconds since 1970-01-01 UTC, such as '1700000000000'".into()),
            );
            0
        }
    }
}

fn specific_offsets(option: Option<OptionValue>, topics: &[String], options: &mut Options) -> BTreeMap<i32, i64> {
    const EXAMPLE: &str = "partition:0,offset:42;partition:1,offset:300";
    let Some(option) = option else {
        options.required(&["scan.startup.specific-offsets"], EXAMPLE);
        return BTreeMap::new();
    };
    if topics.len() > 1 {
        options.error(
            option.key_location,
            format!("option '{}' needs a single topic, and 'topic' names {}", option.key, topics.len()),
            Some("declare a table for each topic".into()),
        );
    }
    let parsed: Option<BTreeMap<i32, i64>> = option
        .text
        .split(';')
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let (partition, offset) = part.split_once(',')?;
            let partition = partition.trim().strip_prefix("partition:")?.trim().parse().ok()?;
            let offset = offset.trim().strip_prefix("offset:")?.trim().parse().ok()?;
            (partition >= 0 && offset >= 0).then_some((partition, offset))
        })
        .collect();
    parsed.unwrap_or_else(|| {
        options.error(
            option.location,
            format!("option '{}' does not take '{}'", option.key, option.text),
            Some(format!("it takes offsets by partition, such as '{EXAMPLE}'")),
        );
        BTreeMap::new()
    })
}

fn take_key_field(table: &TableDefinition, options: &mut Options) -> Option<String> {
    let option = options.take(&["key_field", "sink.key_field"])?;
    let physical: Vec<&str> = table
        .columns
        .iter()
        .filter(|column| column.kind == ColumnKind::Physical)
        .map(|column| column.name.as_str())
        .collect();
    let (message, help) = if !physical.contains(&option.text.as_str()) {
        let help = match closest(&option.text, physical.iter().copied()) {
            Some(column) => format!("did you mean '{column}'?"),
            None => "it takes the name of a column that is part of the record".into(),
        };
        (format!("table {} has no column '{}' for option '{}'", table.name, option.text, option.key), help)
    } else if let Some(column) = table.metadata_column(MetadataKey::Key) {
        (
            format!("option '{}' and column {column} METADATA FROM 'key' both give the record's key", option.key),
            format!("take '{}' out, or the column", option.key),
        )
    } else if !table.primary_key.is_empty() && table.primary_key != [option.text.as_str()] {
        (
            format!("option '{}' names another column than the primary key", option.key),
            "a table with a primary key is written with it as the record's key, so that compaction keeps the newest \
             row of each; take the option out"
                .into(),
        )
    } else {
        return Some(option.text);
    };
    options.error(option.location, message, Some(help));
    None
}

fn take_properties(options: &mut Options) -> Properties {
    let mut properties = vec![];
    for option in options.prefixed("properties.") {
        match client::check_property(&option.key, &option.text) {
            Ok(()) => properties.push((option.key, option.text)),
            Err(BadProperty::Unknown { message, help }) => options.error(option.key_location, message, Some(help)),
            Err(BadProperty::Value { message, help }) => options.error(option.location, message, Some(help)),
        }
    }
    Properties(properties)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::catalog::ColumnDefinition;
    use crate::catalog::options::OptionError;
    use crate::sql::Location;

    fn table(primary_key: &[&str]) -> TableDefinition {
        let column = |name: &str| ColumnDefinition {
            name: name.into(),
            data_type: DataType::Utf8,
            nullable: true,
            kind: ColumnKind::Physical,
            location: Location::default(),
        };
        TableDefinition {
            name: "orders".into(),
            location: Location::default(),
            columns: vec![column("customer"), column("amount")],
            primary_key: primary_key.iter().map(|name| (*name).to_owned()).collect(),
            watermark: None,
        }
    }

    fn take_from(table: &TableDefinition, pairs: &[(&str, &str)]) -> (KafkaOptions, Vec<OptionError>) {
        let values = pairs.iter().map(|(key, text)| OptionValue::new(*key, *text)).collect();
        let mut options = Options::new(Location::default(), values);
        let kafka = KafkaOptions::take(table, &mut options);
        (kafka, options.finish("kafka"))
    }

    fn take(pairs: &[(&str, &str)]) -> KafkaOptions {
        let (options, errors) = take_from(&table(&[]), pairs);
        assert_eq!(errors, []);
        options
    }

    /// Message and help of the only mistake in a table that is right but for `pairs`.
    fn mistake(pairs: &[(&str, &str)]) -> (String, String) {
        mistake_in(&table(&[]), pairs)
    }

    fn mistake_in(table: &TableDefinition, pairs: &[(&str, &str)]) -> (String, String) {
        let mut all = vec![];
        for right in [("bootstrap_servers", "localhost:9092"), ("topic", "orders")] {
            if !pairs.iter().any(|(key, _)| *key == right.0) {
                all.push(right);
            }
        }
        all.extend_from_slice(pairs);
        let (_, errors) = take_from(table, &all);
        assert_eq!(errors.len(), 1, "{errors:?}");
        (errors[0].message.clone(), errors[0].help.clone().unwrap_or_default())
    }

    #[test]
    fn every_option_has_a_default_but_server_and_topic() {
        let options = take(&[("bootstrap.servers", "a:9092, b:9092"), ("topic", "orders")]);
        assert_eq!(options.servers, Servers::At("a:9092,b:9092".into()));
        assert_eq!(options.topics, ["orders"]);
        assert_eq!((options.start, options.read_mode), (Start::Earliest, ReadMode::Committed));
        assert_eq!(options.partition_discovery, Duration::from_secs(30));
        assert_eq!((options.promise, options.audit_headers), (Promise::ExactlyOnce, false));
        assert_eq!(options.embedded_retention, None);

        let (_, errors) = take_from(&table(&[]), &[]);
        let errors: Vec<_> = errors.iter().map(|e| (e.message.as_str(), e.help.as_deref().unwrap_or(""))).collect();
        assert_eq!(
            errors,
            [
                ("option 'bootstrap_servers' is missing", "add 'bootstrap_servers' = 'localhost:9092'"),
                ("option 'topic' is missing", "add 'topic' = 'orders'"),
            ]
        );
    }

    #[test]
    fn the_names_of_arroyo_and_flink_are_understood() {
        let options = take(&[
            ("properties.bootstrap.servers", "embedded"),
            ("topic", "clicks, orders"),
            ("type", "source"),
            ("properties.group.id", "readers"),
            ("scan.startup.mode", "latest-offset"),
            ("properties.isolation.level", "read_uncommitted"),
            ("embedded_retention", "64MB"),
        ]);
        assert_eq!(options.servers, Servers::Embedded);
        assert_eq!(options.topics, ["clicks", "orders"]);
        assert_eq!(options.table_use, Some(TableUse::Source));
        assert_eq!(options.group_id.as_deref(), Some("readers"));
        assert_eq!((options.start, options.read_mode), (Start::Latest, ReadMode::Uncommitted));
        assert_eq!(options.embedded_retention, Some(64 << 20));
    }

    #[test]
    fn a_start_can_be_a_moment_or_offsets() {
        let base = [("bootstrap_servers", "embedded"), ("topic", "t")];
        let moment = [("source.offset", "timestamp"), ("scan.startup.timestamp-millis", "17")];
        assert_eq!(take(&[&base[..], &moment].concat()).start, Start::Timestamp(17));
        let offsets = [
            ("scan.startup.mode", "specific-offsets"),
            ("scan.startup.specific-offsets", "partition:0,offset:42;partition:1,offset:300"),
        ];
        assert_eq!(take(&[&base[..], &offsets].concat()).start, Start::Offsets(BTreeMap::from([(0, 42), (1, 300)])));
    }

    #[test]
    fn mistakes_in_a_start_say_what_is_right() {
        assert_eq!(
            mistake(&[("source.offset", "timestamp")]),
            (
                "option 'scan.startup.timestamp-millis' is missing".into(),
                "add 'scan.startup.timestamp-millis' = '1700000000000'".into()
            )
        );
        assert_eq!(
            mistake(&[("source.offset", "timestamp"), ("scan.startup.timestamp-millis", "yesterday")]),
            (
                "option 'scan.startup.timestamp-millis' does not take 'yesterday'".into(),
                "it takes milliseconds since 1970-01-01 UTC, such as '1700000000000'".into()
            )
        );
        assert_eq!(
            mistake(&[("scan.startup.timestamp-millis", "17")]),
            (
                "option 'scan.startup.timestamp-millis' has no effect without 'source.offset' = 'timestamp'".into(),
                "add 'source.offset' = 'timestamp', or take 'scan.startup.timestamp-millis' out".into()
            )
        );
        assert_eq!(
            mistake(&[("source.offset", "specific-offsets"), ("scan.startup.specific-offsets", "0:42")]),
            (
                "option 'scan.startup.specific-offsets' does not take '0:42'".into(),
                "it takes offsets by partition, such as 'partition:0,offset:42;partition:1,offset:300'".into()
            )
        );
    }

    #[test]
    fn addresses_and_topics_are_checked() {
        assert_eq!(
            mistake(&[("bootstrap_servers", "a:9092,b")]),
            (
                "option 'bootstrap_servers' does not take 'b' as an address".into(),
                "it takes 'host:port', several of them with commas, or 'embedded'".into()
            )
        );
        assert_eq!(
            mistake(&[("topic", "my topic")]),
            (
                "'my topic' cannot be the name of a Kafka topic".into(),
                "a name has 1 to 249 letters, digits, '.', '_' or '-'; several names are separated by commas".into()
            )
        );
        assert_eq!(
            mistake(&[("topic", "a,b"), ("type", "sink")]),
            (
                "a sink writes one topic, and 'topic' names 2".into(),
                "declare a table for each topic and write an INSERT for each".into()
            )
        );
    }

    #[test]
    fn librdkafka_itself_checks_its_settings() {
        let base = [("bootstrap_servers", "a:1"), ("topic", "t")];
        let right = [("properties.security.protocol", "SASL_SSL"), ("properties.sasl.mechanism", "PLAIN")];
        assert_eq!(take(&[&base[..], &right].concat()).properties.0.len(), 2);
        assert_eq!(
            mistake(&[("properties.security.protocl", "SSL")]),
            (
                "librdkafka has no setting 'security.protocl'".into(),
                "did you mean 'properties.security.protocol'?".into()
            )
        );
        assert_eq!(
            mistake(&[("properties.key.deserializer", "x")]),
            (
                "librdkafka has no setting 'key.deserializer'".into(),
                "its settings are listed in CONFIGURATION.md of librdkafka; those of the Java client do not all exist \
                 there"
                    .into()
            )
        );
        let (message, help) = mistake(&[("properties.security.protocol", "tls")]);
        assert_eq!(message, "option 'properties.security.protocol' does not take 'tls'");
        assert!(help.contains("security.protocol"), "{help}");
        let (message, help) = mistake(&[("properties.linger.ms", "99999999")]);
        assert_eq!(message, "option 'properties.linger.ms' does not take '99999999'");
        assert!(help.contains("outside allowed range"), "{help}");
        assert_eq!(
            mistake(&[("properties.enable.auto.commit", "true")]),
            (
                "setting 'enable.auto.commit' is Acequia's own".into(),
                "take it out: offsets are committed when an epoch is complete".into()
            )
        );
    }

    #[test]
    fn a_secret_never_prints() {
        let options = take(&[
            ("bootstrap_servers", "a:1"),
            ("topic", "t"),
            ("properties.sasl.password", "hunter2"),
            ("properties.ssl.key.password", "hunter2"),
        ]);
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn a_key_field_is_a_column_of_the_record() {
        assert_eq!(
            mistake(&[("key_field", "custmer")]),
            ("table orders has no column 'custmer' for option 'key_field'".into(), "did you mean 'customer'?".into())
        );
        let (message, _) = mistake_in(&table(&["customer"]), &[("key_field", "amount")]);
        assert_eq!(message, "option 'key_field' names another column than the primary key");
    }

    #[test]
    fn unknown_options_name_the_closest() {
        assert_eq!(
            mistake(&[("sorce.offset", "latest")]),
            ("connector 'kafka' has no option 'sorce.offset'".into(), "did you mean 'source.offset'?".into())
        );
        assert_eq!(mistake(&[("delivery", "exactly_twice")]).0, "option 'delivery' does not take 'exactly_twice'");
    }

    #[test]
    fn a_jump_to_another_offset_is_never_silent() {
        assert_eq!(
            mistake(&[("properties.auto.offset.reset", "earliest")]),
            (
                "setting 'auto.offset.reset' is Acequia's own".into(),
                "take it out: 'source.offset' says where to begin, and records that are gone are an error, or left out \
                 with a warning by --accept-lost-input"
                    .into()
            )
        );
        assert_eq!(
            mistake(&[("properties.transactional.id", "mine")]),
            (
                "setting 'transactional.id' is Acequia's own".into(),
                "take it out: 'delivery' says what is promised".into()
            )
        );
    }
}
