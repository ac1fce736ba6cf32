//! The thread that reads: it waits for the topics, takes messages by the batch, and hands over whole events.
//!
//! The channel to the source holds a few events. When it is full the thread waits, librdkafka's queue fills up to
//! `queued.max.messages.kbytes` and fetching pauses: that is the source's back-pressure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::mpsc::Sender;

use super::client;
use super::errors::{Outage, refusal};
use super::messages::{ClientEvent, Consumer, Message, Messages, TopicHandle, offset_list};
use super::options::KafkaOptions;
use super::origin::{self, Origin, SharedOrigin, WAY_OUT};
use super::records::Gatherer;
use super::splits::{self, BEGINNING, Range, SplitId};
use crate::connectors::retry::until_available;
use crate::connectors::{ConnectorError, SourceContext};
use crate::formats::{RawRecords, SplitIndex};

/// How long to wait for a message before looking at everything else.
const IDLE: Duration = Duration::from_millis(100);
/// How often to look for a topic that does not exist yet, and for servers that are away.
const SOON: Duration = Duration::from_secs(1);
/// How long to wait for the ids of cluster and topic.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the thread has to tell.
pub(super) enum Read {
    /// With the position where it begins, as the options or the checkpoint say.
    Split(SplitIndex, SplitId, i64),
    /// It is read on elsewhere: from this offset.
    Moved(SplitIndex, i64),
    Records(RawRecords),
    /// Everything before this offset has been sent.
    CaughtUp(SplitIndex, i64),
    SplitEnd(SplitIndex),
    End,
}

/// The source is gone, so that there is nobody to read for; or the source must fail.
enum Stop {
    Unheard,
    Failed(ConnectorError),
}

impl From<ConnectorError> for Stop {
    fn from(error: ConnectorError) -> Stop {
        Stop::Failed(error)
    }
}

pub(super) struct Reader {
    what: String,
    options: KafkaOptions,
    context: SourceContext,
    consumer: Arc<Consumer>,
    sender: Sender<Result<Read, ConnectorError>>,
    splits: Vec<Split>,
    gatherer: Gatherer,
    outage: Outage,
    next_look: Instant,
    /// Topics that did not exist when last looked for.
    missing: Vec<String>,
    /// When a partition that a checkpoint knows was first not to be found.
    gone_since: Option<Instant>,
    origin: SharedOrigin,
    /// What the checkpoint says.
    before: Origin,
}

struct Split {
    id: SplitId,
    /// The offset expected next, or [`BEGINNING`].
    next: i64,
    /// Where a bounded read ends.
    end: i64,
    done: bool,
}

impl Reader {
    pub(super) fn new(
        options: KafkaOptions,
        context: SourceContext,
        consumer: Arc<Consumer>,
        sender: Sender<Result<Read, ConnectorError>>,
        origin: SharedOrigin,
    ) -> Reader {
        Reader {
            what: client::server_name(&options.servers),
            before: Origin::parse(context.origin.as_deref().unwrap_or_default()),
            gatherer: Gatherer::new(context.wants_keys, context.wants_timestamps, context.wants_headers),
            options,
            context,
            consumer,
            sender,
            splits: vec![],
            outage: Outage::default(),
            next_look: Instant::now(),
            missing: vec![],
            gone_since: None,
            origin,
        }
    }

    /// The thread's body: ends with the source, with the input, or with an error that it sends.
    pub(super) fn run(mut self) {
        if let Err(Stop::Failed(error)) = self.read() {
            let _ = self.sender.blocking_send(Err(error));
        }
    }

    fn read(&mut self) -> Result<(), Stop> {
        self.begin()?;
        let mut batch = Messages::default();
        loop {
            if self.sender.is_closed() || self.context.stop.is_cancelled() {
                return Err(Stop::Unheard);
            }
            if self.context.bounded && self.splits.iter().all(|split| split.done) {
                return self.send(Read::End);
            }
            self.heed_events()?;
            self.look_around()?;
            self.consumer.consume(&mut batch, self.context.batch_size.max(1), IDLE);
            if batch.len() > 0 {
                self.outage.up(&self.what);
                self.forward(&batch)?;
            }
        }
    }

    fn send(&self, read: Read) -> Result<(), Stop> {
        self.sender.blocking_send(Ok(read)).map_err(|_| Stop::Unheard)
    }

    /// Waits for the servers, then announces and takes on the splits that there are.
    fn begin(&mut self) -> Result<(), Stop> {
        // A clock of its own: the pipeline's runtime may end while this thread waits.
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let clock = clock.map_err(|error| self.refused(format!("could not start a clock: {error}")))?;
        let (what, stop) = (self.what.clone(), self.context.stop.clone());
        let ranges = clock.block_on(until_available(&what, &stop, || std::future::ready(self.first_ranges())))?;
        self.missing = self.options.topics.clone();
        self.missing.retain(|topic| !ranges.iter().any(|(found, _)| found == topic));
        if let Some(topic) = self.missing.first() {
            if self.context.bounded {
                return Err(self.refused(format!(
                    "topic {topic} does not exist, and a bounded run does not wait for it; create it, for example with \
                     kafka-topics.sh --create --topic {topic}"
                ))
                .into());
            }
            for topic in &self.missing {
                // All partitions that it will have are younger than the pipeline.
                self.origin.lock().partitions.insert(topic.clone(), 0);
                tracing::warn!("topic {topic} does not exist yet {}; waiting", client::place(&self.options.servers));
            }
        }
        self.next_look = Instant::now() + self.look_again_after();
        self.take_on(ranges.into_iter().flat_map(|(_, ranges)| ranges).collect())
    }

    fn look_again_after(&self) -> Duration {
        if self.missing.is_empty() { self.options.partition_discovery } else { SOON }
    }

    /// For each topic that exists, this instance's splits.
    fn first_ranges(&mut self) -> Result<Vec<(String, Vec<Range>)>, ConnectorError> {
        let mut found = vec![];
        for topic in self.options.topics.clone() {
            let asked = splits::partitions(&self.consumer, &self.what, &topic);
            // Only the events know why nobody answers.
            self.heed_events()?;
            let asked = asked?;
            self.check_count(&topic, asked)?;
            if let Some(count) = asked {
                self.note_origin(&topic, count);
                let mine = self.mine(&topic, 0..count);
                let SourceContext { positions, bounded, .. } = &self.context;
                let (start, known) = (&self.options.start, (positions, &self.before));
                let mut ranges = splits::ranges(&self.consumer, &self.what, &mine, start, known, *bounded)?;
                self.check_positions(&topic, &mut ranges)?;
                found.push((topic, ranges));
            }
        }
        Ok(found)
    }

    /// Asks for the ids of the cluster and the topic, which old brokers may not give.
    fn note_origin(&self, topic: &str, count: i32) {
        let cluster = self.consumer.cluster_id(PATIENCE);
        let id = self.consumer.topic_id(topic, PATIENCE);
        let mut origin = self.origin.lock();
        origin.cluster = cluster.or(origin.cluster.take());
        if let Some(id) = id {
            origin.topics.insert(topic.into(), id);
        }
        origin.count(topic, count, &self.before);
    }

    /// Partitions that the checkpoint knows, this instance reads, and the topic does not have.
    fn check_count(&mut self, topic: &str, count: Option<i32>) -> Result<(), ConnectorError> {
        let known = splits::offsets(&self.context.positions).map(|(split, _)| split);
        let is_mine = |split: &SplitId| split.belongs_to(self.context.instance, self.context.instances);
        let mut gone = known.filter(|split| split.topic == *topic && split.partition >= count.unwrap_or(0));
        let Some(split) = gone.find(is_mine) else { return Ok(()) };
        // A broker that has just started may not know its topics yet: not before a while does its answer prove
        // anything.
        if self.gone_since.get_or_insert_with(Instant::now).elapsed() < Duration::from_secs(5) {
            let message = format!("{split}, which the checkpoint has read, is not there");
            return Err(ConnectorError::Unavailable { what: self.what.clone(), message });
        }
        let message = match count {
            None => format!("topic {topic}, which the checkpoint has read, does not exist any more"),
            Some(count) => format!(
                "partition {split}, which the checkpoint has read, does not exist any more: the topic has {count} \
                 partitions"
            ),
        };
        self.lost(format!("{message}; records that were not read are lost"))
    }

    /// Positions of a checkpoint that do not fit what is there are an error, or moved if that is accepted.
    fn check_positions(&self, topic: &str, ranges: &mut [Range]) -> Result<(), ConnectorError> {
        let restored = |range: &Range| splits::restored(&self.context.positions, &range.split);
        let is_restored = |range: &Range| restored(range).is_some_and(|position| position != BEGINNING);
        if !ranges.iter().any(is_restored) {
            return Ok(());
        }
        let mismatch = self.origin.lock().mismatch(&self.before, topic);
        if let Some(message) = mismatch {
            if !self.context.accept_lost_input {
                return Err(self.mismatch(message));
            }
            tracing::warn!("{}: {message}: accepted", self.what);
            ranges.iter_mut().for_each(|range| range.start = BEGINNING);
            return Ok(());
        }
        for range in ranges.iter_mut().filter(|range| is_restored(range)) {
            let SplitId { topic, partition } = &range.split;
            let (low, high) = splits::watermarks(&self.consumer, &self.what, topic, *partition)?;
            if let Some(gap) = origin::gap(&range.split, range.start, low, high) {
                self.lost(gap.message)?;
                range.start = gap.nearest;
            }
        }
        Ok(())
    }

    /// Records are lost: an error, or a warning if that is accepted.
    fn lost(&self, message: String) -> Result<(), ConnectorError> {
        if !self.context.accept_lost_input {
            return Err(self.mismatch(format!("{message}. {WAY_OUT}")));
        }
        tracing::warn!("{}: {message}; going on without them, as --accept-lost-input says", self.what);
        Ok(())
    }

    fn mismatch(&self, message: String) -> ConnectorError {
        ConnectorError::Mismatch { what: self.what.clone(), message }
    }

    fn mine(&self, topic: &str, partitions: std::ops::Range<i32>) -> Vec<SplitId> {
        partitions
            .map(|partition| SplitId { topic: topic.into(), partition })
            .filter(|split| split.belongs_to(self.context.instance, self.context.instances))
            .collect()
    }

    /// Announces the splits, then begins to read them.
    fn take_on(&mut self, ranges: Vec<Range>) -> Result<(), Stop> {
        let mut wanted = vec![];
        for range in ranges {
            let index = SplitIndex(self.splits.len() as u32);
            self.send(Read::Split(index, range.split.clone(), range.position()))?;
            let done = range.end.is_some_and(|end| end <= range.start.max(0));
            if done {
                self.send(Read::SplitEnd(index))?;
            } else {
                wanted.push((range.split.clone(), range.start));
            }
            let end = range.end.unwrap_or(i64::MAX);
            self.splits.push(Split { id: range.split, next: range.start, end, done });
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let list = offset_list(wanted.iter().map(|(split, start)| (split.topic.as_str(), split.partition, *start)));
        self.consumer.assign(&list).map_err(|message| self.refused(message).into())
    }

    fn refused(&self, message: String) -> ConnectorError {
        ConnectorError::Refused { what: self.what.clone(), message }
    }

    /// Reads what the client has to say beside messages.
    fn heed_events(&mut self) -> Result<(), ConnectorError> {
        let mut refused = None;
        let (what, outage) = (&self.what, &mut self.outage);
        let is_reading = !self.splits.is_empty();
        self.consumer.events(|event| match event {
            ClientEvent::Log(level, facility, message) => client::log(level, &facility, &message),
            ClientEvent::CommitFailed(code) => {
                tracing::warn!("{what}: could not commit the group's offsets, lag monitors will lag: {code}");
            }
            ClientEvent::Error(code, reason) => match refusal(code, &reason) {
                Some(message) => refused = Some(message),
                // At the start the wait for the first answer speaks.
                None if code == RDKafkaErrorCode::AllBrokersDown && is_reading => outage.down(what, &reason),
                None => tracing::debug!("{what}: {code}: {reason}"),
            },
        });
        refused.map_or(Ok(()), |message| Err(self.refused(message)))
    }

    /// Looks for new partitions and topics when it is time, and for servers that are away.
    fn look_around(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if now < self.next_look && !(self.outage.is_down() && self.next_look > now + SOON) {
            return Ok(());
        }
        let answer = self.new_partitions();
        self.next_look = Instant::now() + if self.outage.is_down() { SOON } else { self.look_again_after() };
        match answer {
            Ok((ranges, vanished)) => {
                self.outage.up(&self.what);
                self.next_look = Instant::now() + self.look_again_after();
                if let Some(at) = vanished {
                    self.confirm_deleted(at)?;
                }
                self.take_on(ranges)
            }
            Err(ConnectorError::Unavailable { message, .. }) => {
                if self.outage.is_down() {
                    self.outage.down(&self.what, &message);
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Partitions that came, and a split whose topic is no longer there.
    fn new_partitions(&mut self) -> Result<(Vec<Range>, Option<usize>), ConnectorError> {
        let (mut new, mut vanished) = (vec![], None);
        for topic in self.options.topics.clone() {
            let Some(count) = splits::partitions(&self.consumer, &self.what, &topic)? else {
                vanished = vanished.or(self.splits.iter().position(|split| split.id.topic == topic));
                continue;
            };
            if self.missing.contains(&topic) {
                tracing::info!("topic {topic} is there, with {count} partitions");
                self.note_origin(&topic, count);
                self.missing.retain(|other| *other != topic);
            }
            // A bounded run ends where its partitions ended when it began.
            if !self.context.bounded {
                let mut mine = self.mine(&topic, 0..count);
                mine.retain(|split| !self.splits.iter().any(|known| known.id == *split));
                // From their first record, whatever the options say of the start: they are younger than the pipeline.
                // Unless a checkpoint knows them, which happens when the topic was not there at the start.
                let range = |split| {
                    let start = splits::restored(&self.context.positions, &split).unwrap_or(BEGINNING);
                    Range { split, start, end: None }
                };
                let mut ranges: Vec<Range> = mine.into_iter().map(range).collect();
                self.check_positions(&topic, &mut ranges)?;
                new.extend(ranges);
            }
        }
        Ok((new, vanished))
    }

    /// Sends the batch on: its records as few events, what stands between them as events of its own.
    fn forward(&mut self, batch: &Messages) -> Result<(), Stop> {
        let bytes = batch.iter().map(|message| message.value().len()).sum();
        self.gatherer.reserve(batch.len(), bytes);
        let mut current: Option<(TopicHandle, i32, usize)> = None;
        for message in batch.iter() {
            let at = match current {
                Some((topic, partition, at)) if topic == message.topic_handle() && partition == message.partition() => {
                    at
                }
                _ => {
                    let found =
                        |split: &Split| split.id.partition == message.partition() && split.id.topic == message.topic();
                    let Some(at) = self.splits.iter().position(found) else {
                        if let Some((code, reason)) = message.error() {
                            self.flush()?;
                            self.trouble(None, &message, code, &reason)?;
                        }
                        continue;
                    };
                    current = Some((message.topic_handle(), message.partition(), at));
                    at
                }
            };
            if let Some((code, reason)) = message.error() {
                self.flush()?;
                self.trouble(Some(at), &message, code, &reason)?;
                continue;
            }
            let split = &mut self.splits[at];
            if split.done {
                continue;
            }
            if message.offset() >= split.end {
                self.finish(at)?;
                continue;
            }
            split.next = message.offset() + 1;
            let is_last = split.next >= split.end;
            if self.gatherer.is_full_for(&message) {
                self.flush()?;
            }
            self.gatherer.push(SplitIndex(at as u32), &message);
            if is_last {
                self.finish(at)?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Stop> {
        match self.gatherer.take() {
            Some(records) => self.send(Read::Records(records)),
            None => Ok(()),
        }
    }

    /// The split's bounded read is over.
    fn finish(&mut self, at: usize) -> Result<(), Stop> {
        self.flush()?;
        let split = &mut self.splits[at];
        if split.done {
            return Ok(());
        }
        split.done = true;
        let list = offset_list([(split.id.topic.as_str(), split.id.partition, 0)]);
        if let Err(message) = self.consumer.unassign(&list) {
            tracing::debug!("{}: {message}", self.what);
        }
        self.send(Read::SplitEnd(SplitIndex(at as u32)))
    }

    /// What stands in the place of a record.
    fn trouble(
        &mut self,
        at: Option<usize>,
        message: &Message<'_>,
        code: RDKafkaErrorCode,
        reason: &str,
    ) -> Result<(), Stop> {
        match (code, at) {
            (RDKafkaErrorCode::PartitionEOF, Some(at)) => {
                let split = &mut self.splits[at];
                split.next = split.next.max(message.offset());
                // The end is known by position, not by the last record: markers of transactions and gaps of
                // compaction have offsets too.
                if message.offset() >= split.end {
                    return self.finish(at);
                }
                // Records of an open transaction lie between the last that can be read and the end: what they hold may
                // be as old as the transaction, so that the split is not idle.
                let id = &split.id;
                if self.consumer.cached_end(&id.topic, id.partition).is_some_and(|end| message.offset() < end) {
                    return Ok(());
                }
                self.send(Read::CaughtUp(SplitIndex(at as u32), message.offset()))
            }
            (RDKafkaErrorCode::AutoOffsetReset, Some(at)) => self.move_on(at),
            (
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
                Some(at),
            ) => self.confirm_deleted(at),
            _ => match refusal(code, reason) {
                Some(message) => Err(self.refused(message).into()),
                None => {
                    let split = at.map_or(message.topic().to_owned(), |at| self.splits[at].id.to_string());
                    tracing::warn!("{}: {split}: {reason}", self.what);
                    Ok(())
                }
            },
        }
    }

    /// The offset to be read next is gone: an error, or a jump to the nearest if that is accepted.
    fn move_on(&mut self, at: usize) -> Result<(), Stop> {
        let Split { id, next, .. } = &self.splits[at];
        let (id, next) = (id.clone(), *next);
        let (low, high) = match splits::watermarks(&self.consumer, &self.what, &id.topic, id.partition) {
            Ok(held) => held,
            // The next answer will be the same and come to this again.
            Err(ConnectorError::Unavailable { .. }) => (next, next),
            Err(error) => return Err(error.into()),
        };
        // Where the watermarks have no gap, they have moved since, or did not answer.
        let nearest = match origin::gap(&id, next, low, high) {
            Some(gap) => {
                self.lost(gap.message)?;
                self.send(Read::Moved(SplitIndex(at as u32), gap.nearest))?;
                gap.nearest
            }
            None => next,
        };
        let refused = |message| self.refused(message);
        let list = |offset| offset_list([(id.topic.as_str(), id.partition, offset)]);
        self.consumer.unassign(&list(nearest)).map_err(refused)?;
        self.consumer.assign(&list(nearest)).map_err(refused)?;
        self.splits[at].next = nearest;
        if self.splits[at].end <= nearest {
            return self.finish(at);
        }
        Ok(())
    }

    /// A broker that has just started may not know its topics yet, so that one such answer proves nothing.
    fn confirm_deleted(&mut self, at: usize) -> Result<(), Stop> {
        let id = self.splits[at].id.clone();
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match splits::partitions(&self.consumer, &self.what, &id.topic) {
                Ok(None) if Instant::now() >= deadline => {
                    return Err(self
                        .refused(format!(
                            "topic {} was deleted while it was read; create it again and start without the old checkpoint",
                            id.topic
                        ))
                        .into());
                }
                Ok(None) if !self.context.stop.is_cancelled() && !self.sender.is_closed() => {
                    std::thread::sleep(IDLE * 5)
                }
                Ok(_) | Err(ConnectorError::Unavailable { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
