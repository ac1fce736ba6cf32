//! Connectors in memory: a source that goes on where it is told, and a sink that knows what it had at each flush.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::delivery::OpenSink;
use acequia::connectors::{
    Boundedness, ConnectorError, Decoding, Sink, SinkContext, SinkFactory, SinkMode, Source, SourceContext,
    SourceEvent, SourceFactory, stdout,
};
use acequia::dataflow::graph::{Graph, NodeKind};
use acequia::formats::{DecodeOptions, EncodeOptions, EncodedRows, RawRecords, SplitIndex};
use acequia::planner::{PlanOptions, plan};
use acequia::program::Program;
use acequia::sql::Variables;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::OnceCell;

/// Lines of JSON by split.
#[derive(Clone)]
pub struct Lines {
    pub table: &'static str,
    pub splits: Arc<Vec<Vec<String>>>,
    /// Time between a few events and the next few.
    pub pace: Duration,
}

#[async_trait]
impl SourceFactory for Lines {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Format(DecodeOptions::default())
    }

    fn describe(&self) -> String {
        "lines in memory".into()
    }

    async fn instances(&self, _: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(parallelism.min(self.splits.len()))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let own = (0..self.splits.len()).filter(|index| index % context.instances == context.instance);
        let splits = own.map(|index| {
            let name = format!("{}[{index}]", self.table);
            let next = context.positions.get(&name).copied().unwrap_or(0) as usize;
            OpenSplit { index, name, next, state: State::Hidden }
        });
        let splits = splits.collect();
        Ok(Box::new(OpenLines {
            lines: self.clone(),
            splits,
            batch_size: context.batch_size,
            events: 0,
            awake_at: None,
        }))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Hidden,
    Open,
    Ended,
}

struct OpenSplit {
    index: usize,
    name: String,
    next: usize,
    state: State,
}

struct OpenLines {
    lines: Lines,
    splits: Vec<OpenSplit>,
    batch_size: usize,
    events: usize,
    awake_at: Option<tokio::time::Instant>,
}

#[async_trait]
impl Source for OpenLines {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        if let Some(own) = self.splits.iter().position(|split| split.state == State::Hidden) {
            self.splits[own].state = State::Open;
            return Ok(SourceEvent::Split(SplitIndex(own as u32), self.splits[own].name.clone(), None));
        }
        // In bursts, so that rows and barriers are under way at the same time.
        if self.events.is_multiple_of(4) {
            let pause = tokio::time::Instant::now() + self.lines.pace;
            tokio::time::sleep_until(*self.awake_at.get_or_insert(pause)).await;
            self.awake_at = None;
        } else {
            tokio::task::yield_now().await;
        }
        for _ in 0..self.splits.len() {
            self.events += 1;
            let own = self.events % self.splits.len();
            let (split, index) = (&mut self.splits[own], SplitIndex(own as u32));
            let lines = &self.lines.splits[split.index];
            if split.next < lines.len() {
                let end = lines.len().min(split.next + self.batch_size);
                let mut records = RawRecords::default();
                for (offset, line) in (split.next as i64..).zip(&lines[split.next..end]) {
                    records.push(index, offset, line.as_bytes());
                }
                split.next = end;
                return Ok(SourceEvent::Records(records));
            }
            if split.state == State::Open {
                split.state = State::Ended;
                return Ok(SourceEvent::SplitEnd(index));
            }
        }
        Ok(SourceEvent::End)
    }
}

/// What a sink was given, as JSON.
#[derive(Default)]
pub struct Log {
    rows: Vec<String>,
    /// How many rows there were at each flush, which is once an epoch.
    flushes: Vec<usize>,
}

impl Log {
    /// The rows of the first `epochs` epochs, or all of them. A sink that has come to its end is flushed no more.
    pub fn rows(&self, epochs: Option<usize>) -> &[String] {
        let flushed = epochs.and_then(|epochs| self.flushes.get(epochs - 1).copied());
        &self.rows[..flushed.unwrap_or(self.rows.len())]
    }
}

/// Writes into a log, in another sink's mode.
pub struct Logging {
    pub mode: SinkMode,
    pub log: Arc<Mutex<Log>>,
}

#[async_trait]
impl SinkFactory for Logging {
    fn mode(&self) -> SinkMode {
        self.mode.clone()
    }

    fn describe(&self) -> String {
        "rows in memory".into()
    }

    async fn open(&self, _: SinkContext) -> Result<OpenSink, ConnectorError> {
        Ok(OpenSink::AtOnce(Box::new(OpenLog(Arc::clone(&self.log)))))
    }
}

struct OpenLog(Arc<Mutex<Log>>);

#[async_trait]
impl Sink for OpenLog {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        let mut encoded = EncodedRows::default();
        let mut encoder = EncodeOptions::default().encoder(batch.schema()).map_err(ConnectorError::Format)?;
        encoder.encode(&batch, &mut encoded).map_err(ConnectorError::Format)?;
        self.0.lock().rows.extend(encoded.iter().map(|row| String::from_utf8_lossy(row).into_owned()));
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        let mut log = self.0.lock();
        let rows = log.rows.len();
        log.flushes.push(rows);
        Ok(())
    }
}

/// What readers of a sink see in the end: all rows in some order, or the last one of each key.
pub fn seen(mode: &SinkMode, rows: Vec<String>) -> Vec<String> {
    let mut seen = match mode {
        SinkMode::Append => rows,
        SinkMode::Upsert(key) => {
            let mut last: BTreeMap<String, String> = BTreeMap::new();
            for row in rows {
                let value: serde_json::Value = serde_json::from_str(&row).unwrap();
                let key: Vec<&serde_json::Value> = key.iter().map(|column| &value[column]).collect();
                last.insert(format!("{key:?}"), row);
            }
            last.into_values().collect()
        }
    };
    seen.sort_unstable();
    seen
}

/// So many events of each split of a table: disorder within and, now and then, beyond the watermark, pauses in which sessions end, keys
/// that are null.
pub fn lines(table: &'static str, seed: u64, splits: usize, events: usize) -> Lines {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut line = |n: usize, time: &mut i64| {
        *time +=
            if random.random_ratio(1, 15) { random.random_range(5_000..20_000) } else { random.random_range(0..1500) };
        let behind = if random.random_ratio(1, 25) { 30_000 } else { 10_000 };
        let at = *time - random.random_range(0..behind);
        let k = match random.random_range(0..6) {
            0 => "null".to_owned(),
            k => format!("\"k{k}\""),
        };
        let (g, v) = (random.random_range(0..5), random.random_range(-50..50));
        format!(r#"{{"n":{n},"k":{k},"g":{g},"v":{v},"ts":{}}}"#, 1_767_225_600_000 + at)
    };
    let splits = (0..splits).map(|split| {
        let mut time = 0;
        (0..events).map(|n| line(1000 * split + n, &mut time)).collect()
    });
    Lines { table, splits: Arc::new(splits.collect()), pace: Duration::from_millis(1) }
}

/// What each sink is given, by table.
pub type Logs = BTreeMap<String, (SinkMode, Arc<Mutex<Log>>)>;

/// The graph of `tests/restart/program.sql` with its connectors replaced.
pub async fn graph(inputs: &[Lines]) -> (Graph, Logs) {
    /// Planning takes longer than running.
    static PLANNED: OnceCell<Graph> = OnceCell::const_new();
    let mut graph = PLANNED.get_or_init(planned).await.clone();
    let mut logs = Logs::new();
    for node in &mut graph.nodes {
        match &mut node.kind {
            NodeKind::Source(source) => {
                let lines = inputs.iter().find(|lines| lines.table == source.table).unwrap();
                source.factory = Arc::new(lines.clone());
            }
            NodeKind::Sink(sink) => {
                let (mode, log) = (sink.factory.mode(), Arc::<Mutex<Log>>::default());
                sink.factory = Arc::new(Logging { mode: mode.clone(), log: Arc::clone(&log) });
                logs.insert(sink.table.clone(), (mode, log));
            }
            NodeKind::Operator(_) => {}
        }
    }
    (graph, logs)
}

async fn planned() -> Graph {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/restart/program.sql"));
    let program =
        Program::read(&path, &Variables::default()).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let options = PlanOptions { bounded: false, print: stdout::factory() };
    plan(&program, &options).await.unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}
