//! Partitions as splits: their names, who reads them, and where reading begins and ends.

use std::fmt;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::errors::classify;
use super::messages::{Consumer, offset_list};
use super::options::Start;
use super::origin::Origin;
use crate::connectors::{self, ConnectorError, Positions};

/// How long a question to the servers may take before it counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(2);

/// librdkafka's name for "the first record that there is"; in positions it is [`connectors::BEGINNING`].
pub(super) const BEGINNING: i64 = -2;

/// A partition of a topic; prints as the split's name, `transactions[3]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SplitId {
    pub(super) topic: String,
    pub(super) partition: i32,
}

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

impl SplitId {
    /// The partition that a split's name stands for.
    pub(super) fn parse(name: &str) -> Option<SplitId> {
        let (topic, partition) = name.strip_suffix(']')?.rsplit_once('[')?;
        Some(SplitId { topic: topic.into(), partition: partition.parse().ok()? })
    }

    /// Whether instance `instance` of `instances` reads it: by its number only, so that a new partition moves no other.
    pub(super) fn belongs_to(&self, instance: usize, instances: usize) -> bool {
        self.partition as usize % instances.max(1) == instance
    }
}

/// Where a split is read from and to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) split: SplitId,
    /// The first offset, or [`BEGINNING`].
    pub(super) start: i64,
    /// The offset at which a bounded read ends.
    pub(super) end: Option<i64>,
}

impl Range {
    /// Where it begins, as a position.
    pub(super) fn position(&self) -> i64 {
        if self.start == BEGINNING { connectors::BEGINNING } else { self.start }
    }
}

/// Where a split goes on by its position, if it has one: an offset or [`BEGINNING`].
pub(super) fn restored(positions: &Positions, split: &SplitId) -> Option<i64> {
    let position = positions.get(&split.to_string()).copied()?;
    Some(if position == connectors::BEGINNING { BEGINNING } else { position })
}

/// The partitions of which something was read or skipped, with the offset wanted next: only those of such partitions can
/// be missing.
pub(super) fn offsets(positions: &Positions) -> impl Iterator<Item = (SplitId, i64)> {
    let numbers = positions.iter().filter(|(_, position)| **position != connectors::BEGINNING);
    numbers.filter_map(|(name, position)| Some((SplitId::parse(name)?, *position)))
}

/// How many partitions a topic has; `None` if there is no such topic. Asks the server.
///
/// # Errors
/// `Unavailable` when nobody answers, `Refused` without the right to see the topic.
pub(super) fn partitions(consumer: &Consumer, what: &str, topic: &str) -> Result<Option<i32>, ConnectorError> {
    let metadata = consumer.metadata(topic, PATIENCE).map_err(|error| unanswered(what, &error))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(found.partitions().len() as i32).filter(|count| *count > 0)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(classify(what, code, &format!("topic {topic}: {code}"))),
    }
}

/// The first offset of a partition and the one after its last readable record. Asks the server.
///
/// # Errors
/// `Unavailable` when nobody answers.
pub(super) fn watermarks(
    consumer: &Consumer,
    what: &str,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), ConnectorError> {
    consumer.watermarks(topic, partition, PATIENCE).map_err(|error| unanswered(what, &error))
}

fn unanswered(what: &str, error: &KafkaError) -> ConnectorError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) | None => {
            ConnectorError::Unavailable { what: what.into(), message: "no answer".into() }
        }
        Some(code) => classify(what, code, &code.to_string()),
    }
}

/// Where to begin with splits that the pipeline has at its start, and where to end if it is bounded. Asks the server
/// where it must.
///
/// A split goes on at its position. One without a position that is [new](Origin::is_new) by the checkpoint's origin begins
/// with its first record: it came while the pipeline was down. Otherwise the options say.
///
/// # Errors
/// `Unavailable` when nobody answers.
pub(super) fn ranges(
    consumer: &Consumer,
    what: &str,
    splits: &[SplitId],
    start: &Start,
    (positions, before): (&Positions, &Origin),
    bounded: bool,
) -> Result<Vec<Range>, ConnectorError> {
    let known: Vec<SplitId> = positions.keys().filter_map(|name| SplitId::parse(name)).collect();
    let mut ranges = vec![];
    for split in splits {
        let restored = restored(positions, split);
        let is_known = known.iter().any(|other| other.topic == split.topic);
        let is_new = restored.is_none() && before.is_new(split, is_known);
        let wants_end =
            bounded || (restored.is_none() && !is_new && !matches!(start, Start::Earliest | Start::Offsets(_)));
        let end = match wants_end {
            true => Some(watermarks(consumer, what, &split.topic, split.partition)?.1),
            false => None,
        };
        let first = match (restored, start) {
            (Some(offset), _) => offset,
            (None, _) if is_new => BEGINNING,
            (None, Start::Earliest) => BEGINNING,
            // As a number: the name "end" would be looked up later, and what comes meanwhile would be skipped.
            (None, Start::Latest) => end.unwrap_or(BEGINNING),
            (None, Start::Offsets(offsets)) => offsets.get(&split.partition).copied().unwrap_or(BEGINNING),
            (None, Start::Timestamp(millis)) => {
                let list = offset_list([(split.topic.as_str(), split.partition, *millis)]);
                let list = consumer
                    .offsets_for_times(list, PATIENCE)
                    .map_err(|code| classify(what, code, &code.to_string()))?;
                let found = list.elements().first().and_then(|found| found.offset().to_raw());
                // Negative: no record is that young.
                found.filter(|offset| *offset >= 0).or(end).unwrap_or(BEGINNING)
            }
        };
        ranges.push(Range { split: split.clone(), start: first, end: end.filter(|_| bounded) });
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_named_by_topic_and_partition() {
        let split = SplitId { topic: "a.b".into(), partition: 12 };
        assert_eq!(split.to_string(), "a.b[12]");
        assert_eq!(SplitId::parse("a.b[12]"), Some(split));
        assert_eq!(SplitId::parse("clicks.jsonl"), None);
    }

    #[test]
    fn splits_are_dealt_by_their_number() {
        let split = |partition| SplitId { topic: "t".into(), partition };
        let owners: Vec<usize> = (0..5)
            .map(|partition| (0..3).find(|instance| split(partition).belongs_to(*instance, 3)).unwrap())
            .collect();
        assert_eq!(owners, [0, 1, 2, 0, 1]);
    }
}
