//! A source over the events of a seed: it goes on where it is told, in bursts and pauses, and notes what it is told
//! of epochs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::{
    Boundedness, ConnectorError, Decoding, Positions, Source, SourceContext, SourceEvent, SourceFactory,
};
use acequia::formats::{SplitIndex, SplitRun};
use acequia::time::Epoch;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::input::{Input, Record};
use crate::process::Process;
use crate::world::World;

/// What all runs share: the events, and how far epochs have been acknowledged.
pub struct Topics {
    pub world: World,
    pub input: Input,
    splits: Mutex<BTreeMap<String, Runs>>,
}

/// Where the runs of a pipeline were in a split, by their numbers.
#[derive(Default)]
struct Runs {
    /// Where each began.
    begun: BTreeMap<u64, i64>,
    /// The highest position that each has called durable.
    acknowledged: BTreeMap<u64, i64>,
}

impl Topics {
    pub fn new(world: &World, input: Input) -> Arc<Topics> {
        Arc::new(Topics { world: world.clone(), input, splits: Mutex::default() })
    }

    fn begins(&self, split: &str, run: u64, position: i64) {
        let mut splits = self.splits.lock();
        let runs = splits.entry(split.to_owned()).or_default();
        runs.begun.insert(run, position);
        self.must_hold(split, runs);
    }

    fn acknowledges(&self, split: &str, run: u64, position: i64) {
        let mut splits = self.splits.lock();
        let runs = splits.entry(split.to_owned()).or_default();
        let known = runs.acknowledged.entry(run).or_default();
        *known = (*known).max(position);
        self.must_hold(split, runs);
    }

    /// What a run has called durable, all later ones begin behind.
    fn must_hold(&self, split: &str, runs: &Runs) {
        if self.world.is_rotten() {
            return;
        }
        for (run, acknowledged) in &runs.acknowledged {
            if let Some((later, begun)) = runs.begun.range(run + 1..).find(|(_, begun)| *begun < acknowledged) {
                self.world.violate(format!(
                    "run {run} was told that {split} is durable up to {acknowledged}, but run {later} goes on from {begun}"
                ));
            }
        }
    }
}

/// A table for one process.
pub struct SimSource {
    pub table: String,
    pub topics: Arc<Topics>,
    pub process: Arc<Process>,
}

#[async_trait]
impl SourceFactory for SimSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Rows
    }

    fn describe(&self) -> String {
        "simulated".into()
    }

    async fn instances(&self, _: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        self.process.step().await;
        Ok(parallelism.min(self.topics.input.table(&self.table).len()))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        self.process.step().await;
        self.topics.world.latency().await;
        let splits = self.topics.input.table(&self.table).len();
        let own = (0..splits).filter(|index| index % context.instances == context.instance);
        let mut open = vec![];
        for index in own {
            let name = format!("{}[{index}]", self.table);
            let position = context.positions.get(&name).copied().unwrap_or(0);
            self.topics.begins(&name, self.process.incarnation(), position);
            open.push(Split { index, name, next: position as usize, state: State::Hidden });
        }
        self.topics
            .world
            .note(format_args!("{} source {} opens at {:?}", self.process.id, self.table, context.positions));
        Ok(Box::new(OpenSource {
            table: self.table.clone(),
            topics: Arc::clone(&self.topics),
            process: Arc::clone(&self.process),
            schema: context.schema,
            batch_size: context.batch_size,
            splits: open,
            events: 0,
            awake_at: None,
            stop: context.stop,
        }))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Hidden,
    Open,
    /// It has said that nothing is left.
    Done,
}

struct Split {
    index: usize,
    name: String,
    next: usize,
    state: State,
}

struct OpenSource {
    table: String,
    topics: Arc<Topics>,
    process: Arc<Process>,
    schema: SchemaRef,
    batch_size: usize,
    splits: Vec<Split>,
    events: usize,
    awake_at: Option<Instant>,
    stop: tokio_util::sync::CancellationToken,
}

#[async_trait]
impl Source for OpenSource {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        if let Some(own) = self.splits.iter().position(|split| split.state == State::Hidden) {
            self.splits[own].state = State::Open;
            return Ok(SourceEvent::Split(SplitIndex(own as u32), self.splits[own].name.clone(), None));
        }
        let world = self.topics.world.clone();
        if self.awake_at.is_none() {
            let pause = if world.chance(0.4) { 0 } else { world.below(world.knobs().pace) };
            self.awake_at = Some(Instant::now() + Duration::from_millis(pause));
        }
        tokio::time::sleep_until(self.awake_at.unwrap_or_else(Instant::now)).await;
        self.process.step().await;
        self.awake_at = None;
        for _ in 0..self.splits.len() {
            self.events += 1;
            let own = self.events % self.splits.len();
            let (split, index) = (&mut self.splits[own], SplitIndex(own as u32));
            let records = &self.topics.input.table(&self.table)[split.index];
            if split.next < records.len() {
                let most = 1 + world.below(self.batch_size as u64) as usize;
                let (first, end) = (split.next, records.len().min(split.next + most));
                split.next = end;
                let batch = batch(&records[first..end], &self.schema);
                let runs = vec![SplitRun { split: index, rows: end - first }];
                return Ok(SourceEvent::Rows(batch, runs, (first as i64..end as i64).collect()));
            }
            if split.state == State::Open {
                split.state = State::Done;
                let ends = world.knobs().ends;
                return Ok(if ends { SourceEvent::SplitEnd(index) } else { SourceEvent::CaughtUp(index) });
            }
        }
        if world.knobs().ends {
            return Ok(SourceEvent::End);
        }
        self.stop.cancelled().await;
        Err(ConnectorError::Stopped { what: "events".into() })
    }

    async fn committed(&mut self, epoch: Epoch, positions: &Positions) -> Result<(), ConnectorError> {
        // It takes its time, and the next barrier waits behind it, in this instance.
        let world = &self.topics.world;
        tokio::time::sleep(Duration::from_millis(world.below(2 * world.knobs().pace))).await;
        self.process.step().await;
        self.topics.world.note(format_args!("{} source {} epoch {epoch} {positions:?}", self.process.id, self.table));
        for (split, position) in positions {
            self.topics.acknowledges(split, self.process.incarnation(), *position);
        }
        Ok(())
    }
}

/// The columns that are asked for, as nullable ones: a record without a time is for the engine to refuse.
fn batch(records: &[Record], schema: &SchemaRef) -> RecordBatch {
    let column = |field: &Field| -> ArrayRef {
        let values: ArrayRef = match field.name().as_str() {
            "n" => Arc::new(records.iter().map(|record| Some(record.n)).collect::<Int64Array>()),
            "k" => Arc::new(records.iter().map(|record| record.k).collect::<StringArray>()),
            "g" => Arc::new(records.iter().map(|record| Some(record.g)).collect::<Int64Array>()),
            "v" => Arc::new(records.iter().map(|record| Some(record.v)).collect::<Int64Array>()),
            "ts" => Arc::new(
                records.iter().map(|record| record.ts.map(|ts| ts * 1_000_000)).collect::<TimestampNanosecondArray>(),
            ),
            other => panic!("no column {other}"),
        };
        if values.data_type() == field.data_type() {
            values
        } else {
            cast(&values, field.data_type()).expect("it casts")
        }
    };
    let columns = schema.fields().iter().map(|field| column(field)).collect();
    let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).expect("columns fit")
}
