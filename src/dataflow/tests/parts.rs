//! Toy sources, operators and sinks in memory, and a small builder of graphs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Column;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::catalog::TableSettings;
use crate::checkpoint::takeover::Fingerprint;
use crate::connectors::delivery::OpenSink;
use crate::connectors::{
    Boundedness, ConnectorError, Decoding, Positions, Sink, SinkContext, SinkFactory, SinkMode, Source, SourceContext,
    SourceEvent, SourceFactory,
};
use crate::dataflow::RunOptions;
use crate::dataflow::graph::{
    Distribution, Edge, EventTimeSpec, Graph, Node, NodeId, NodeKind, OperatorNode, SinkNode, SourceNode,
};
use crate::formats::{SplitIndex, SplitRun};
use crate::operators::window::{EVENT_TIME, ROW_WATERMARK, TIME_TYPE};
use crate::operators::{InputIndex, MAIN, Operator, Output, OutputIndex};
use crate::time::{Epoch, EventTime};

/// A record: key, value (`None` is a bad one), event time. Its watermark is the event time less `DELAY`.
pub type Record = (Option<i64>, Option<i64>, Option<i64>);

/// How far behind the newest row a row may come.
pub const DELAY: i64 = 20;
/// The width of the toy windows.
pub const WIDTH: i64 = 50;

/// What a toy source does after its last record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum After {
    End,
    Wait,
}

/// Splits in memory.
pub struct MemorySource {
    pub splits: Vec<(String, Vec<Record>)>,
    pub after: After,
    /// Time between a few events and the next few.
    pub pace: Duration,
    /// Where splits say that they begin, by name, one announcement after the other.
    pub begins: Vec<(String, Option<i64>)>,
    /// Never opens, as when a server is away.
    pub away: bool,
    /// Panics after so many events.
    pub panics_at: Option<usize>,
    pub events: AtomicUsize,
    pub committed: Arc<Mutex<Vec<(Epoch, Positions)>>>,
}

impl MemorySource {
    pub fn new(splits: Vec<Vec<Record>>) -> MemorySource {
        let named = |(index, records)| (format!("t[{index}]"), records);
        MemorySource {
            splits: splits.into_iter().enumerate().map(named).collect(),
            after: After::End,
            pace: Duration::ZERO,
            begins: vec![],
            away: false,
            panics_at: None,
            events: AtomicUsize::new(0),
            committed: Arc::default(),
        }
    }
}

struct Shared(Arc<MemorySource>);

struct OpenSource {
    source: Arc<MemorySource>,
    context: SourceContext,
    /// Index in the source's splits, next record, whether its end was told.
    splits: Vec<(usize, usize, bool)>,
    announced: usize,
    /// How many of the source's `begins` were said.
    said: usize,
    turn: usize,
    resume_at: Option<tokio::time::Instant>,
}

pub fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Int64, false),
        Field::new("ts", TIME_TYPE, true),
        Field::new("wm", TIME_TYPE, true),
    ]))
}

#[async_trait]
impl SourceFactory for Shared {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Rows
    }

    fn describe(&self) -> String {
        "records in memory".into()
    }

    async fn instances(&self, _: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(parallelism.min(self.0.splits.len()))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        if self.0.away {
            context.stop.cancelled().await;
            return Err(ConnectorError::Stopped { what: "a server".into() });
        }
        let own = (0..self.0.splits.len()).filter(|index| index % context.instances == context.instance);
        let start = |index: usize| context.positions.get(&self.0.splits[index].0).copied().unwrap_or(0) as usize;
        let splits = own.map(|index| (index, start(index), false)).collect();
        Ok(Box::new(OpenSource {
            source: Arc::clone(&self.0),
            context,
            splits,
            announced: 0,
            said: 0,
            turn: 0,
            resume_at: None,
        }))
    }
}

#[async_trait]
impl Source for OpenSource {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        if self.announced < self.splits.len() {
            self.announced += 1;
            let index = self.announced - 1;
            return Ok(SourceEvent::Split(
                SplitIndex(index as u32),
                self.source.splits[self.splits[index].0].0.clone(),
                None,
            ));
        }
        if let Some((name, begins)) = self.source.begins.get(self.said) {
            self.said += 1;
            let own = self.splits.iter().position(|(index, ..)| self.source.splits[*index].0 == *name);
            return Ok(SourceEvent::Split(SplitIndex(own.unwrap() as u32), name.clone(), *begins));
        }
        if !self.source.pace.is_zero() {
            // In bursts, so that rows and barriers are under way at the same time.
            match self.source.events.load(Ordering::Relaxed) % 4 {
                0 => {
                    let at = *self.resume_at.get_or_insert_with(|| tokio::time::Instant::now() + self.source.pace);
                    tokio::time::sleep_until(at).await;
                    self.resume_at = None;
                }
                _ => tokio::task::yield_now().await,
            }
        }
        for _ in 0..self.splits.len() {
            let own = self.turn % self.splits.len();
            self.turn += 1;
            let (index, next, told) = &mut self.splits[own];
            let split = SplitIndex(own as u32);
            let records = &self.source.splits[*index].1;
            if *next < records.len() {
                let end = records.len().min(*next + self.context.batch_size);
                let offsets: Vec<i64> = (*next as i64..end as i64).collect();
                let batch = batch_of(&records[*next..end]);
                *next = end;
                let events = self.source.events.fetch_add(1, Ordering::Relaxed) + 1;
                assert!(self.source.panics_at.is_none_or(|at| events < at), "toy source");
                let runs = vec![SplitRun { split, rows: batch.num_rows() }];
                return Ok(SourceEvent::Rows(batch, runs, offsets));
            }
            if !*told {
                *told = true;
                return Ok(match self.source.after {
                    After::End => SourceEvent::SplitEnd(split),
                    After::Wait => SourceEvent::CaughtUp(split),
                });
            }
        }
        if self.source.after == After::Wait {
            self.context.stop.cancelled().await;
        }
        Ok(SourceEvent::End)
    }

    async fn committed(&mut self, epoch: Epoch, positions: &Positions) -> Result<(), ConnectorError> {
        self.source.committed.lock().push((epoch, positions.clone()));
        Ok(())
    }

    fn lag(&self) -> Vec<(String, i64)> {
        vec![("t[0]".into(), 7)]
    }
}

fn batch_of(records: &[Record]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter(records.iter().map(|record| record.0)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter(records.iter().map(|record| record.1)));
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter(records.iter().map(|record| record.2)));
    let watermarks = records.iter().map(|record| Some(record.2? - DELAY));
    let watermarks: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter(watermarks));
    RecordBatch::try_from_iter_with_nullable([
        ("key", keys, true),
        ("value", values, true),
        ("ts", times, true),
        ("wm", watermarks, true),
    ])
    .unwrap()
}

/// What a toy sink has seen; rows as text.
#[derive(Default)]
pub struct SinkLog {
    pub rows: Vec<Vec<String>>,
    /// How many rows there were at each flush.
    pub flushes: Vec<usize>,
    pub closed: bool,
}

impl SinkLog {
    pub fn sorted(&self) -> Vec<Vec<String>> {
        let mut rows = self.rows.clone();
        rows.sort();
        rows
    }
}

/// A sink in memory.
#[derive(Clone, Default)]
pub struct MemorySink {
    pub log: Arc<Mutex<SinkLog>>,
    /// Waits in `write` until stopped, as when a server is away.
    pub stuck: bool,
    /// Takes so long for a write.
    pub slow: Duration,
    /// Refuses to be opened, after it has taken so long.
    pub refuses_after: Option<Duration>,
    /// Cannot be opened, as when a server is away.
    pub away: bool,
}

struct OpenMemory(MemorySink, CancellationToken);

#[async_trait]
impl SinkFactory for MemorySink {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        "rows in memory".into()
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        if self.away {
            context.stop.cancelled().await;
            return Err(ConnectorError::Stopped { what: "a server".into() });
        }
        if let Some(time) = self.refuses_after {
            tokio::time::sleep(time).await;
            return Err(ConnectorError::Mismatch { what: "a sink".into(), message: "it has later rows".into() });
        }
        Ok(OpenSink::AtOnce(Box::new(OpenMemory(self.clone(), context.stop))))
    }
}

#[async_trait]
impl Sink for OpenMemory {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        if self.0.stuck {
            self.1.cancelled().await;
            return Err(ConnectorError::Stopped { what: "a server".into() });
        }
        if !self.0.slow.is_zero() {
            tokio::time::sleep(self.0.slow).await;
        }
        let text = |row: usize| -> Vec<String> {
            batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect()
        };
        self.0.log.lock().rows.extend((0..batch.num_rows()).map(text));
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        let mut log = self.0.log.lock();
        let rows = log.rows.len();
        log.flushes.push(rows);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.0.log.lock().closed = true;
        Ok(())
    }
}

/// Sums values by key in tumbling windows; publishes open windows on ticks.
#[derive(Default)]
pub struct WindowSum {
    sums: BTreeMap<(i64, Option<i64>), i64>,
    changed: BTreeMap<(i64, Option<i64>), i64>,
    late: u64,
    aggregated: u64,
}

impl WindowSum {
    fn add(&mut self, end: i64, key: Option<i64>, value: i64) {
        *self.sums.entry((end, key)).or_default() += value;
    }
}

pub fn sum_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("sum", DataType::Int64, false),
        Field::new(EVENT_TIME, TIME_TYPE, false),
    ]))
}

fn sums<'a>(sums: impl Iterator<Item = (&'a (i64, Option<i64>), &'a i64)> + Clone) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter(sums.clone().map(|((_, key), _)| *key)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(sums.clone().map(|(_, value)| *value)));
    let times = TimestampNanosecondArray::from_iter_values(sums.map(|((end, _), _)| end - 1));
    RecordBatch::try_new(sum_schema(), vec![keys, values, Arc::new(times)]).unwrap()
}

impl Operator for WindowSum {
    fn on_batch(&mut self, _: InputIndex, batch: RecordBatch, _: &mut Output) -> Result<()> {
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let values = batch.column(1).as_primitive::<Int64Type>();
        let time = |name| batch.column_by_name(name).unwrap().as_primitive::<TimestampNanosecondType>();
        for row in 0..batch.num_rows() {
            let end = (time(EVENT_TIME).value(row).div_euclid(WIDTH) + 1) * WIDTH;
            if end - 1 <= time(ROW_WATERMARK).value(row) {
                self.late += 1;
                continue;
            }
            self.aggregated += 1;
            let key = keys.iter().nth(row).unwrap();
            self.add(end, key, values.value(row));
            *self.changed.entry((end, key)).or_default() += values.value(row);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        let closed = |end: i64| end - 1 <= watermark.0;
        out.emit(sums(self.sums.iter().take_while(|((end, _), _)| closed(*end))));
        self.sums.retain(|(end, _), _| !closed(*end));
        Ok(())
    }

    fn on_tick(&mut self, out: &mut Output) -> Result<()> {
        out.emit(sums(self.sums.iter()));
        Ok(())
    }

    fn snapshot(&mut self, _: &mut Output) -> Result<Vec<RecordBatch>> {
        Ok(vec![sums(std::mem::take(&mut self.changed).iter())])
    }

    fn restore(&mut self, state: RecordBatch) -> Result<()> {
        let times = state.column(2).as_primitive::<TimestampNanosecondType>();
        let values = state.column(1).as_primitive::<Int64Type>();
        for (row, key) in state.column(0).as_primitive::<Int64Type>().iter().enumerate() {
            self.add(times.value(row) + 1, key, values.value(row));
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<RecordBatch>> {
        Ok(vec![sums(self.sums.iter())])
    }

    fn state_bytes(&self) -> usize {
        self.sums.len() * 24
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn aggregated_rows(&self) -> u64 {
        self.aggregated
    }
}

/// Changes each batch by a function.
pub struct Each<F>(pub F);

impl<F: FnMut(RecordBatch) -> Result<RecordBatch> + Send> Operator for Each<F> {
    fn on_batch(&mut self, _: InputIndex, batch: RecordBatch, out: &mut Output) -> Result<()> {
        out.emit((self.0)(batch)?);
        Ok(())
    }
}

/// Builds a graph node by node.
#[derive(Default)]
pub struct Builder {
    pub graph: Graph,
}

pub fn edge(from: NodeId, distribution: Distribution) -> Edge {
    Edge { from, output: MAIN, distribution }
}

impl Builder {
    fn node(&mut self, name: &str, kind: NodeKind, inputs: Vec<Vec<Edge>>, outputs: Vec<SchemaRef>) -> NodeId {
        self.graph.nodes.push(Node { name: name.into(), detail: String::new(), kind, inputs, outputs });
        NodeId(self.graph.nodes.len() - 1)
    }

    pub fn source(&mut self, name: &str, source: &Arc<MemorySource>) -> NodeId {
        self.source_with(name, source, TableSettings::default(), None)
    }

    pub fn source_with(
        &mut self,
        name: &str,
        source: &Arc<MemorySource>,
        settings: TableSettings,
        dead_letters: Option<SchemaRef>,
    ) -> NodeId {
        let mut fields: Vec<Field> = input_schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.extend([EVENT_TIME, ROW_WATERMARK].map(|name| Field::new(name, TIME_TYPE, false)));
        let mut outputs = vec![Arc::new(Schema::new(fields))];
        outputs.extend(dead_letters.clone());
        let node = SourceNode {
            table: name.into(),
            factory: Arc::new(Shared(Arc::clone(source))),
            physical: input_schema(),
            metadata: vec![],
            event_time: Some(EventTimeSpec {
                event_time: Arc::new(Column::new("ts", 2)),
                watermark: Arc::new(Column::new("wm", 3)),
                column: "ts".into(),
            }),
            settings,
            dead_letters,
        };
        self.node(name, NodeKind::Source(node), vec![], outputs)
    }

    pub fn each(
        &mut self,
        name: &str,
        edge: Edge,
        work: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + Clone + 'static,
    ) -> NodeId {
        let outputs = vec![Arc::clone(&self.graph.nodes[edge.from.0].outputs[edge.output])];
        let factory = move |_, _| -> Result<Box<dyn Operator>> { Ok(Box::new(Each(work.clone()))) };
        let node = OperatorNode { factory: Arc::new(factory), tick: None, fingerprint: None };
        self.node(name, NodeKind::Operator(node), vec![vec![edge]], outputs)
    }

    pub fn window_sum(&mut self, name: &str, edges: Vec<Edge>, tick: Option<Duration>) -> NodeId {
        let factory = |_, _| -> Result<Box<dyn Operator>> { Ok(Box::<WindowSum>::default()) };
        let node = OperatorNode { factory: Arc::new(factory), tick, fingerprint: None };
        self.node(name, NodeKind::Operator(node), vec![edges], vec![sum_schema()])
    }

    /// Sums by another operator, whose state a log keeps.
    pub fn kept_sum<O: Operator + Default + 'static>(
        &mut self,
        name: &str,
        edges: Vec<Edge>,
        tick: Option<Duration>,
    ) -> NodeId {
        let factory = |_, _| -> Result<Box<dyn Operator>> { Ok(Box::<O>::default()) };
        let node = OperatorNode { factory: Arc::new(factory), tick, fingerprint: Some(Fingerprint::new(name)) };
        self.node(name, NodeKind::Operator(node), vec![edges], vec![sum_schema()])
    }

    pub fn sink(
        &mut self,
        name: &str,
        from: NodeId,
        output: OutputIndex,
        sink: &(impl SinkFactory + Clone + 'static),
    ) -> NodeId {
        let schema = Arc::clone(&self.graph.nodes[from.0].outputs[output]);
        let node = SinkNode { table: name.into(), factory: Arc::new(sink.clone()), schema };
        let edge = Edge { from, output, distribution: Distribution::Gather };
        self.node(name, NodeKind::Sink(node), vec![vec![edge]], vec![])
    }
}

pub fn options(parallelism: usize, batch_size: usize) -> RunOptions {
    RunOptions {
        pipeline: "test".into(),
        parallelism,
        batch_size,
        bounded: true,
        checkpoint_interval: Duration::from_millis(1),
        checkpoint_bytes: 64 << 20,
        linger: Duration::from_secs(3600),
        data_dir: PathBuf::new(),
        wall_clock: None,
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
    }
}

/// The factory of a source in memory.
pub fn factory(source: MemorySource) -> Arc<dyn SourceFactory> {
    Arc::new(Shared(Arc::new(source)))
}
