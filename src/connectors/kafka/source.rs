//! The source: opens a reader thread and passes on what it has read.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc::{self, Receiver};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client;
use super::errors;
use super::messages::{ClientEvent, Consumer, offset_list};
use super::options::KafkaOptions;
use super::origin::SharedOrigin;
use super::reader::{Read, Reader};
use super::splits::{self, SplitId};
use crate::connectors::retry::until_available;
use crate::connectors::{
    Boundedness, ConnectorError, Decoding, Positions, Source, SourceContext, SourceEvent, SourceFactory,
};
use crate::formats::DecodeOptions;
use crate::time::Epoch;

/// How many events lie between the reader and the pipeline: one being decoded, one ready, two on their way.
const EVENTS_AHEAD: usize = 4;

pub(super) struct KafkaSourceFactory {
    pub(super) options: KafkaOptions,
    pub(super) decode: DecodeOptions,
}

impl KafkaSourceFactory {
    fn consumer(&self, context: &SourceContext, suffix: &str) -> Result<Consumer, ConnectorError> {
        let client_id = format!("{}-{}-{suffix}", context.pipeline, context.table);
        let config =
            client::consumer(&self.options, &client_id, &self.options.group(&context.pipeline, &context.table))?;
        Consumer::new(&config).map_err(|error| client::unusable(&client::server_name(&self.options.servers), &error))
    }
}

#[async_trait]
impl SourceFactory for KafkaSourceFactory {
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

    /// As many as the largest topic has partitions; one for topics that do not exist yet.
    async fn instances(&self, context: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        let what = client::server_name(&self.options.servers);
        let consumer = Arc::new(self.consumer(context, "planning")?);
        let partitions =
            until_available(&what, &context.stop, || {
                let (consumer, server, topics) = (consumer.clone(), what.clone(), self.options.topics.clone());
                let ask = move || {
                    let mut most = 0;
                    for topic in &topics {
                        let asked = splits::partitions(&consumer, &server, topic);
                        refused_by_event(&consumer, &server)?;
                        most = most.max(asked?.unwrap_or(0));
                    }
                    Ok(most)
                };
                let what = what.clone();
                async move {
                    tokio::task::spawn_blocking(ask).await.unwrap_or_else(|_| Err(ConnectorError::Stopped { what }))
                }
            })
            .await?;
        Ok(parallelism.min(partitions.max(1) as usize).max(1))
    }

    async fn open(&self, mut context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let consumer = Arc::new(self.consumer(&context, &context.instance.to_string())?);
        let (sender, receiver) = mpsc::channel(EVENTS_AHEAD);
        let what = client::server_name(&self.options.servers);
        let stop = context.stop.clone();
        context.stop = stop.child_token();
        let origin = SharedOrigin::default();
        let source = KafkaSource {
            what: what.clone(),
            stop,
            _reader: context.stop.clone().drop_guard(),
            consumer: consumer.clone(),
            receiver,
            origin: origin.clone(),
            progress: vec![],
            ended: false,
        };
        let name = format!("kafka-{}-{}", context.table, context.instance);
        let reader = Reader::new(self.options.clone(), context, consumer, sender, origin);
        std::thread::Builder::new().name(name).spawn(move || reader.run()).map_err(|error| {
            ConnectorError::Refused { what, message: format!("could not start the thread that reads: {error}") }
        })?;
        Ok(Box::new(source))
    }
}

/// Only the client's events know that an answer stays away because of a wrong password.
fn refused_by_event(consumer: &Consumer, what: &str) -> Result<(), ConnectorError> {
    let mut refused = None;
    consumer.events(|event| match event {
        ClientEvent::Log(level, facility, message) => client::log(level, &facility, &message),
        ClientEvent::Error(code, reason) => refused = errors::refusal(code, &reason).or(refused.take()),
        ClientEvent::CommitFailed(_) => {}
    });
    refused.map_or(Ok(()), |message| Err(ConnectorError::Refused { what: what.into(), message }))
}

struct KafkaSource {
    what: String,
    stop: CancellationToken,
    /// Ends the reader with the source, also while it waits for servers.
    _reader: DropGuard,
    consumer: Arc<Consumer>,
    receiver: Receiver<Result<Read, ConnectorError>>,
    /// Known when the first split is.
    origin: SharedOrigin,
    progress: Vec<Progress>,
    ended: bool,
}

/// How far a split has been handed over.
struct Progress {
    split: SplitId,
    next: i64,
}

impl KafkaSource {
    fn event(&mut self, read: Read) -> SourceEvent {
        match read {
            Read::Split(index, split, position) => {
                let name = split.to_string();
                self.progress.push(Progress { split, next: position.max(0) });
                SourceEvent::Split(index, name, Some(position))
            }
            Read::Moved(index, offset) => {
                let progress = &mut self.progress[index.0 as usize];
                progress.next = offset;
                SourceEvent::Split(index, progress.split.to_string(), Some(offset))
            }
            Read::Records(records) => {
                let mut rows = 0;
                for run in &records.runs {
                    rows += run.rows;
                    self.progress[run.split.0 as usize].next = records.offsets[rows - 1] + 1;
                }
                SourceEvent::Records(records)
            }
            Read::CaughtUp(index, offset) => {
                self.progress[index.0 as usize].next = offset;
                SourceEvent::CaughtUp(index)
            }
            Read::SplitEnd(index) => SourceEvent::SplitEnd(index),
            Read::End => {
                self.ended = true;
                SourceEvent::End
            }
        }
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        let read = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ConnectorError::Stopped { what: self.what.clone() }),
            read = self.receiver.recv() => read,
        };
        match read {
            Some(read) => Ok(self.event(read?)),
            None if self.ended => Ok(SourceEvent::End),
            None => Err(ConnectorError::Refused {
                what: self.what.clone(),
                message: "the thread that reads has ended before its input; the log says why".into(),
            }),
        }
    }

    async fn committed(&mut self, _epoch: Epoch, positions: &Positions) -> Result<(), ConnectorError> {
        // A group has no name for a beginning: of such a partition it hears with the first record.
        let splits: Vec<(SplitId, i64)> = splits::offsets(positions).collect();
        let mine = splits.iter().filter(|(split, _)| self.progress.iter().any(|known| known.split == *split));
        let list = offset_list(mine.map(|(split, offset)| (split.topic.as_str(), split.partition, *offset)));
        if list.count() == 0 {
            return Ok(());
        }
        self.consumer.commit(&list).map_err(|code| ConnectorError::Unavailable {
            what: self.what.clone(),
            message: format!("could not commit the group's offsets: {code}"),
        })
    }

    fn origin(&self) -> Option<String> {
        let origin = self.origin.lock();
        (!origin.is_empty()).then(|| origin.to_string())
    }

    fn lag(&self) -> Vec<(String, i64)> {
        self.progress
            .iter()
            .filter_map(|Progress { split, next }| {
                let end = self.consumer.cached_end(&split.topic, split.partition)?;
                Some((split.to_string(), (end - next).max(0)))
            })
            .collect()
    }
}
