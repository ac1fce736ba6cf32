//! Kafka tables as the planner would make them, and what is read from one.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use acequia::catalog::options::{OptionValue, Options};
use acequia::catalog::{ColumnDefinition, ColumnKind, MetadataKey, TableDefinition};
use acequia::connectors::{
    ConnectorError, ConnectorTable, Positions, SinkContext, Source, SourceContext, SourceEvent, registry,
};
use acequia::sql::Location;
use arrow::datatypes::{DataType, TimeUnit};
use tokio_util::sync::CancellationToken;

/// A table with columns `id` and `text`, key and timestamp.
pub fn definition(primary_key: &[&str]) -> TableDefinition {
    let column = |name: &str, data_type: DataType, kind: ColumnKind| ColumnDefinition {
        name: name.into(),
        data_type,
        nullable: true,
        kind,
        location: Location::default(),
    };
    let mut columns =
        vec![column("id", DataType::Int64, ColumnKind::Physical), column("text", DataType::Utf8, ColumnKind::Physical)];
    if primary_key.is_empty() {
        columns.push(column("key", DataType::Utf8, ColumnKind::Metadata(MetadataKey::Key)));
        let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
        columns.push(column("time", millis, ColumnKind::Metadata(MetadataKey::Timestamp)));
    }
    TableDefinition {
        name: "events".into(),
        location: Location::default(),
        columns,
        primary_key: primary_key.iter().map(|name| (*name).to_owned()).collect(),
        watermark: None,
    }
}

pub fn table(definition: &TableDefinition, servers: &str, pairs: &[(&str, &str)]) -> Arc<dyn ConnectorTable> {
    log();
    let values =
        [("bootstrap_servers", servers)].iter().chain(pairs).map(|(key, text)| OptionValue::new(*key, *text)).collect();
    let mut options = Options::new(Location::default(), values);
    let table = registry::connector("kafka").unwrap().table(definition, &mut options);
    assert_eq!(options.finish("kafka"), []);
    table
}

/// Where these tests have embedded topics.
fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{}", std::process::id()))
}

/// A context for the only instance of a source that goes on without end.
pub fn unbounded() -> SourceContext {
    SourceContext {
        table: "events".into(),
        pipeline: "tests".into(),
        instance: 0,
        instances: 1,
        bounded: false,
        schema: definition(&[]).physical_schema(),
        wants_keys: true,
        wants_timestamps: true,
        wants_headers: true,
        batch_size: 8192,
        positions: BTreeMap::new(),
        origin: None,
        split_origins: Default::default(),
        accept_lost_input: false,
        data_dir: data_dir(),
        stop: CancellationToken::new(),
    }
}

pub fn bounded() -> SourceContext {
    SourceContext { bounded: true, ..unbounded() }
}

pub fn sink_context(definition: &TableDefinition) -> SinkContext {
    SinkContext {
        table: "events".into(),
        pipeline: "tests".into(),
        writer: None,
        schema: definition.writable_schema(),
        data_dir: data_dir(),
        stop: CancellationToken::new(),
    }
}

/// What a source has sent so far.
pub struct Reading {
    source: Box<dyn Source>,
    pub splits: Vec<String>,
    /// Where they stand, as a checkpoint would hold it.
    pub positions: Positions,
    pub records: Vec<Record>,
    /// Splits that were read to their end since their last record.
    pub caught_up: Vec<String>,
    pub split_ends: Vec<String>,
    pub ended: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub split: String,
    pub offset: i64,
    pub value: String,
    pub key: Option<String>,
    pub timestamp: Option<i64>,
    pub headers: Vec<(String, Option<String>)>,
}

impl Reading {
    /// Opens a source of the topic; `pairs` are further options.
    pub async fn open(servers: &str, topic: &str, pairs: &[(&str, &str)], context: SourceContext) -> Reading {
        let pairs = [&[("topic", topic)], pairs].concat();
        let positions = context.positions.clone();
        let source = table(&definition(&[]), servers, &pairs).source().unwrap().open(context).await.unwrap();
        let (splits, records, caught_up, split_ends) = (vec![], vec![], vec![], vec![]);
        Reading { source, splits, positions, records, caught_up, split_ends, ended: false }
    }

    /// All that a bounded source sends.
    pub async fn all(servers: &str, topic: &str, pairs: &[(&str, &str)]) -> Reading {
        let mut reading = Reading::open(servers, topic, pairs, bounded()).await;
        reading.until(|reading| reading.ended).await;
        reading
    }

    pub async fn until(&mut self, enough: impl Fn(&Reading) -> bool) {
        self.try_until(enough).await.unwrap();
    }

    /// The error that the source comes to.
    pub async fn error(&mut self) -> String {
        self.try_until(|_| false).await.unwrap_err().to_string()
    }

    async fn try_until(&mut self, enough: impl Fn(&Reading) -> bool) -> Result<(), ConnectorError> {
        while !enough(self) {
            assert!(!self.ended, "the source has ended with {} records: {:?}", self.records.len(), self.values());
            let next = tokio::time::timeout(Duration::from_secs(40), self.source.next()).await;
            match next.unwrap_or_else(|_| panic!("silent after {:?}", self.values()))? {
                SourceEvent::Split(index, name, position) => {
                    match self.splits.get(index.0 as usize) {
                        Some(known) => assert_eq!(*known, name),
                        None => {
                            assert_eq!(index.0 as usize, self.splits.len());
                            self.splits.push(name.clone());
                        }
                    }
                    self.positions.extend(position.map(|position| (name, position)));
                }
                SourceEvent::Records(records) => {
                    let runs = records.runs.iter().flat_map(|run| std::iter::repeat_n(run.split, run.rows));
                    for (row, split) in runs.enumerate() {
                        let split = self.splits[split.0 as usize].clone();
                        self.caught_up.retain(|other| *other != split);
                        assert!(!self.split_ends.contains(&split));
                        self.positions.insert(split.clone(), records.offsets[row] + 1);
                        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                        self.records.push(Record {
                            split,
                            offset: records.offsets[row],
                            value: text(records.value(row)),
                            key: records.key(row).map(text),
                            timestamp: records.timestamps.as_ref().unwrap()[row],
                            headers: records
                                .headers
                                .as_ref()
                                .unwrap()
                                .of(row)
                                .map(|(name, value)| (text(name), value.map(text)))
                                .collect(),
                        });
                    }
                }
                SourceEvent::CaughtUp(split) => self.caught_up.push(self.splits[split.0 as usize].clone()),
                SourceEvent::SplitEnd(split) => self.split_ends.push(self.splits[split.0 as usize].clone()),
                SourceEvent::End => self.ended = true,
                SourceEvent::Rows(..) | SourceEvent::Origin(..) | SourceEvent::Replaced(..) => {
                    panic!("Kafka sends undecoded records")
                }
            }
        }
        Ok(())
    }

    pub fn values(&self) -> Vec<&str> {
        let shown = self.records.len().min(20);
        self.records[..shown].iter().map(|record| &record.value[..record.value.len().min(40)]).collect()
    }

    /// The context of a run that goes on from here.
    pub fn resumed(&self, context: SourceContext) -> SourceContext {
        SourceContext { positions: self.positions.clone(), origin: self.source.origin(), ..context }
    }

    pub fn source(&mut self) -> &mut dyn Source {
        self.source.as_mut()
    }
}

/// Positions for one split.
pub fn at(split: &str, offset: i64) -> Positions {
    BTreeMap::from([(split.to_owned(), offset)])
}

/// All that was logged in this process.
pub fn log() -> String {
    static LOG: Mutex<Vec<u8>> = Mutex::new(vec![]);
    static INIT: Once = Once::new();
    struct Writer;
    impl Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            LOG.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    INIT.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Writer).init());
    String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned()
}
