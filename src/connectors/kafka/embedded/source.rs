//! The source: a thread that reads an instance's splits from the topics' files and is woken when they grow.
//!
//! It hands over events through a channel that holds a few. When that is full the thread waits, and reads nothing.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{select, select_all};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::broker::{self, Broker};
use super::cursor::{Cursor, Step};
use super::start;
use super::topic::{Extent, Topic};
use super::{PARTITIONS, folder, what};
use crate::connectors::disk::blocking;
use crate::connectors::kafka::client;
use crate::connectors::kafka::options::KafkaOptions;
use crate::connectors::kafka::origin::Origin;
use crate::connectors::kafka::records::Gatherer;
use crate::connectors::kafka::splits::{BEGINNING, Range, SplitId};
use crate::connectors::retry::until_available;
use crate::connectors::{
    self, Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceEvent, SourceFactory,
};
use crate::formats::{DecodeOptions, SplitIndex};

/// How many events lie between the thread and the pipeline.
const EVENTS_AHEAD: usize = 4;

/// Opens sources of embedded topics.
pub(in crate::connectors::kafka) struct EmbeddedSourceFactory {
    pub(in crate::connectors::kafka) options: KafkaOptions,
    pub(in crate::connectors::kafka) decode: DecodeOptions,
    /// Only what the table's own sink has written, as it is there now, without keeping its writer out.
    pub(in crate::connectors::kafka) read_back: bool,
}

#[async_trait]
impl SourceFactory for EmbeddedSourceFactory {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Format(self.decode.clone())
    }

    fn describe(&self) -> String {
        client::topics(&self.options)
    }

    fn consumer_group(&self, pipeline: &str, table: &str) -> Option<String> {
        Some(self.options.group(pipeline, table))
    }

    fn topics(&self) -> &[String] {
        &self.options.topics
    }

    async fn instances(&self, _context: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(parallelism.clamp(1, PARTITIONS))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let folder = folder(&context.data_dir);
        let (read_back, stop) = (self.read_back, context.stop.clone());
        let attempt = || {
            let (options, context, folder) = (self.options.clone(), context.clone(), folder.clone());
            let work = move || if read_back { found(&options, context) } else { open(&options, context) };
            async move { blocking(&folder, work).await }
        };
        let (mut reader, origin) = until_available(&what(&folder), &stop, attempt).await?;
        let (sender, receiver) = mpsc::channel(EVENTS_AHEAD);
        reader.stop = stop.child_token();
        let source = EmbeddedSource {
            what: what(&folder),
            stop,
            _reader: reader.stop.clone().drop_guard(),
            receiver,
            origin: origin.to_string(),
            progress: reader.progress(),
            ended: false,
        };
        let name = format!("kafka-{}-{}", reader.context.table, reader.context.instance);
        let started = std::thread::Builder::new().name(name).spawn(move || reader.run(&sender));
        started.map_err(|error| ConnectorError::Refused {
            what: what(&folder),
            message: format!("could not start the thread that reads: {error}"),
        })?;
        Ok(Box::new(source))
    }
}

/// A reader of the topics as they grow.
fn open(options: &KafkaOptions, context: SourceContext) -> Result<(Reader, Origin), ConnectorError> {
    let broker = Broker::open(&context.data_dir)?;
    let mut topics = vec![];
    for name in &options.topics {
        let topic = broker.topic(name)?;
        if let Some(bytes) = options.embedded_retention {
            topic.appender.lock().keep(bytes);
        }
        topics.push(Arc::clone(&topic.topic));
    }
    let (folder, id) = (broker.folder.clone(), Some(broker.id.clone()));
    Reader::new(folder, id, topics, options, context, Some(broker))
}

/// A reader of what this table's sink has written up to now.
fn found(options: &KafkaOptions, context: SourceContext) -> Result<(Reader, Origin), ConnectorError> {
    let folder = folder(&context.data_dir);
    let mut topics = vec![];
    for name in &options.topics {
        let topic = Topic::read_only(&folder, name)?.ok_or_else(|| ConnectorError::Refused {
            what: what(&folder),
            message: format!("there is no topic {name}; is --data-dir the one that the pipeline runs with?"),
        })?;
        let deleted: i64 = topic.extent().first().iter().sum();
        if deleted > 0 {
            let message = format!("its oldest {deleted} records were deleted by the topic's retention");
            return Err(ConnectorError::Mismatch { what: what(&folder), message });
        }
        topics.push(Arc::new(topic));
    }
    let id = broker::read_id(&folder)?;
    Reader::new(folder, id, topics, options, context, None)
}

/// The thread.
struct Reader {
    folder: PathBuf,
    context: SourceContext,
    topics: Vec<Watched>,
    splits: Vec<Split>,
    /// Whose turn it is to be read first.
    turn: usize,
    gatherer: Gatherer,
    stop: CancellationToken,
    /// Keeps the folder's lock.
    _broker: Option<Arc<Broker>>,
}

/// A topic, and what was there at the last look.
struct Watched {
    extent: watch::Receiver<Extent>,
    seen: Extent,
}

struct Split {
    id: SplitId,
    /// The index of its topic.
    topic: usize,
    /// The position where it begins.
    begins: i64,
    cursor: Cursor,
    /// Where a bounded read ends.
    end: Option<i64>,
    caught_up: bool,
    done: bool,
}

/// What the thread has to tell: an event, and the offset up to which its split is then read.
type Read = (SourceEvent, Option<i64>);

/// Why the thread ends early.
enum Halt {
    /// Nobody listens any more.
    Unheard,
    Failed(ConnectorError),
}

impl From<ConnectorError> for Halt {
    fn from(error: ConnectorError) -> Halt {
        Halt::Failed(error)
    }
}

impl Reader {
    fn new(
        folder: PathBuf,
        id: Option<String>,
        found: Vec<Arc<Topic>>,
        options: &KafkaOptions,
        context: SourceContext,
        broker: Option<Arc<Broker>>,
    ) -> Result<(Reader, Origin), ConnectorError> {
        let of_sink = broker.is_none().then(|| super::sink::name(&context.pipeline, &context.table));
        let ids = found.iter().map(|topic| (topic.name.clone(), topic.id.clone()));
        let mut origin = Origin { cluster: id, topics: ids.collect(), ..Origin::default() };
        let before = Origin::parse(context.origin.as_deref().unwrap_or_default());
        found.iter().for_each(|topic| origin.count(&topic.name, PARTITIONS as i32, &before));
        let (mut topics, mut splits) = (vec![], vec![]);
        for topic in found {
            for range in start::ranges(&topic, &folder, &options.start, &origin, &context)? {
                let begins = range.position();
                let Range { split, start, end } = range;
                let first = || topic.extent().first()[split.partition as usize];
                let start = if start == BEGINNING { first() } else { start };
                let cursor = Cursor::new(Arc::clone(&topic), split.partition as usize, start);
                let (topic, cursor) = (topics.len(), cursor.of_sink(of_sink.clone()));
                splits.push(Split { id: split, topic, begins, cursor, end, caught_up: false, done: false });
            }
            topics.push(Watched { extent: topic.extent.subscribe(), seen: topic.extent() });
        }
        let gatherer = Gatherer::new(context.wants_keys, context.wants_timestamps, context.wants_headers);
        let stop = context.stop.clone();
        Ok((Reader { folder, context, topics, splits, turn: 0, gatherer, stop, _broker: broker }, origin))
    }

    /// Where the splits stand, for the source.
    fn progress(&self) -> Vec<Progress> {
        let of = |split: &Split| Progress {
            name: split.id.to_string(),
            partition: split.id.partition as usize,
            extent: self.topics[split.topic].extent.clone(),
            next: split.cursor.next(),
        };
        self.splits.iter().map(of).collect()
    }

    /// The thread's body: ends with the source, with the input, or with an error that it sends.
    fn run(mut self, sender: &Sender<Result<Read, ConnectorError>>) {
        if let Err(Halt::Failed(error)) = self.read(sender) {
            let _ = sender.blocking_send(Err(error));
        }
    }

    fn read(&mut self, sender: &Sender<Result<Read, ConnectorError>>) -> Result<(), Halt> {
        for (at, split) in self.splits.iter().enumerate() {
            send(sender, SourceEvent::Split(SplitIndex(at as u32), split.id.to_string(), Some(split.begins)), None)?;
        }
        loop {
            if sender.is_closed() || self.stop.is_cancelled() {
                return Err(Halt::Unheard);
            }
            for topic in &mut self.topics {
                topic.seen = topic.extent.borrow_and_update().clone();
            }
            let more = self.gather(sender)?;
            self.tell_ends(sender)?;
            if self.context.bounded && self.splits.iter().all(|split| split.done) {
                return send(sender, SourceEvent::End, None);
            }
            if !more {
                self.wait();
            }
        }
    }

    /// Sends up to a batch, from each split in turn; whether there may be more.
    fn gather(&mut self, sender: &Sender<Result<Read, ConnectorError>>) -> Result<bool, Halt> {
        let limit = self.context.batch_size.max(1);
        let count = self.splits.len();
        for offset in 0..count {
            let at = (self.turn + offset) % count;
            while self.gatherer.len() < limit {
                if !self.take(at, sender)? {
                    break;
                }
            }
            if self.gatherer.len() >= limit {
                // A split with much to read must not hold up the others.
                self.turn = at + 1;
                break;
            }
        }
        let full = self.gatherer.len() >= limit;
        self.flush(sender)?;
        Ok(full)
    }

    /// Takes a record of a split; whether there was one.
    fn take(&mut self, at: usize, sender: &Sender<Result<Read, ConnectorError>>) -> Result<bool, Halt> {
        let split = &mut self.splits[at];
        let extent = &self.topics[split.topic].seen;
        if split.done || split.end.is_some_and(|end| split.cursor.next() >= end) {
            return Ok(false);
        }
        match split.cursor.step(extent)? {
            Step::CaughtUp => return Ok(false),
            Step::Gone => {
                // Retention may have moved on since.
                let extent = self.topics[split.topic].extent.borrow().clone();
                let (next, accept) = (split.cursor.next(), self.context.accept_lost_input);
                let nearest = start::nearest(&split.id, next, &extent, &self.folder, accept)?;
                split.cursor.seek(nearest);
                self.topics[split.topic].seen = extent;
                let moved = SourceEvent::Split(SplitIndex(at as u32), split.id.to_string(), Some(nearest));
                // Behind the records that were read before.
                self.flush(sender)?;
                send(sender, moved, None)?;
                return Ok(true);
            }
            Step::Record => {}
        }
        let record = split.cursor.record()?;
        if split.end.is_some_and(|end| record.offset >= end) {
            return Ok(false);
        }
        split.caught_up = false;
        if self.gatherer.is_full_for(&record) {
            let records = self.gatherer.take();
            if let Some(records) = records {
                send(sender, SourceEvent::Records(records), None)?;
            }
        }
        self.gatherer.push(SplitIndex(at as u32), &record);
        Ok(true)
    }

    fn flush(&mut self, sender: &Sender<Result<Read, ConnectorError>>) -> Result<(), Halt> {
        match self.gatherer.take() {
            Some(records) => send(sender, SourceEvent::Records(records), None),
            None => Ok(()),
        }
    }

    /// Says which splits have come to their end, or to what is there now.
    fn tell_ends(&mut self, sender: &Sender<Result<Read, ConnectorError>>) -> Result<(), Halt> {
        for (at, split) in self.splits.iter_mut().enumerate() {
            let (index, next) = (SplitIndex(at as u32), split.cursor.next());
            if split.end.is_some_and(|end| next >= end) && !split.done {
                split.done = true;
                send(sender, SourceEvent::SplitEnd(index), None)?;
            }
            let there = self.topics[split.topic].seen.next[split.id.partition as usize];
            if !split.done && !split.caught_up && next >= there {
                split.caught_up = true;
                send(sender, SourceEvent::CaughtUp(index), Some(next))?;
            }
        }
        Ok(())
    }

    /// Until a topic has grown, or the source is gone.
    fn wait(&mut self) {
        let grown = self.topics.iter_mut().map(|topic| Box::pin(topic.extent.changed()));
        let stopped = Box::pin(self.stop.cancelled());
        futures::executor::block_on(select(select_all(grown), stopped));
    }
}

fn send(sender: &Sender<Result<Read, ConnectorError>>, event: SourceEvent, next: Option<i64>) -> Result<(), Halt> {
    sender.blocking_send(Ok((event, next))).map_err(|_| Halt::Unheard)
}

/// The receiving end.
struct EmbeddedSource {
    what: String,
    stop: CancellationToken,
    /// Ends the thread with the source.
    _reader: DropGuard,
    receiver: Receiver<Result<Read, ConnectorError>>,
    origin: String,
    progress: Vec<Progress>,
    ended: bool,
}

/// How far a split has been handed over.
struct Progress {
    name: String,
    partition: usize,
    extent: watch::Receiver<Extent>,
    next: i64,
}

impl EmbeddedSource {
    fn note(&mut self, event: &SourceEvent, next: Option<i64>) {
        match event {
            SourceEvent::Records(records) => {
                let mut rows = 0;
                for run in &records.runs {
                    rows += run.rows;
                    self.progress[run.split.0 as usize].next = records.offsets[rows - 1] + 1;
                }
            }
            SourceEvent::CaughtUp(index) => {
                let progress = &mut self.progress[index.0 as usize];
                progress.next = next.unwrap_or(progress.next);
            }
            SourceEvent::Split(index, _, Some(next)) if *next != connectors::BEGINNING => {
                self.progress[index.0 as usize].next = *next;
            }
            SourceEvent::End => self.ended = true,
            _ => {}
        }
    }
}

#[async_trait]
impl Source for EmbeddedSource {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        let read = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ConnectorError::Stopped { what: self.what.clone() }),
            read = self.receiver.recv() => read,
        };
        match read {
            Some(read) => {
                let (event, next) = read?;
                self.note(&event, next);
                Ok(event)
            }
            None if self.ended => Ok(SourceEvent::End),
            None => Err(ConnectorError::Refused {
                what: self.what.clone(),
                message: "the thread that reads has ended before its input; the log says why".into(),
            }),
        }
    }

    fn origin(&self) -> Option<String> {
        Some(self.origin.clone())
    }

    fn lag(&self) -> Vec<(String, i64)> {
        let of = |progress: &Progress| {
            let there = progress.extent.borrow().next[progress.partition];
            (progress.name.clone(), (there - progress.next).max(0))
        };
        self.progress.iter().map(of).collect()
    }
}
