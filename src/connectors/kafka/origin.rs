//! What tells a cluster and its topics from others of the same name, and whether positions noted earlier fit them.
//!
//! An offset means something only in the topic that it was noted for. The brokers give each cluster and each topic an
//! id; a topic made anew has another one, also when it has grown past the old position.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::splits::SplitId;

/// What a source and its reader share.
pub(super) type SharedOrigin = Arc<Mutex<Origin>>;

/// Ids, as far as the brokers tell, and which partitions were there at first. Prints as
/// `cluster C; topic-a A; topic-b B; partitions of topic-a 3; partitions of topic-b 1`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Origin {
    pub(super) cluster: Option<String>,
    pub(super) topics: BTreeMap<String, String>,
    /// How many partitions each topic had when the pipeline first saw it; none if it was not there then. It tells
    /// partitions that came later, which are read from their beginning, from those that no checkpoint has yet though
    /// they were there: a first checkpoint may be of a moment when only some instances have begun.
    pub(super) partitions: BTreeMap<String, i32>,
}

/// How the number of a topic's partitions is told from its id: no topic has such a name.
const PARTITIONS_OF: &str = "partitions of ";

impl Origin {
    pub(super) fn is_empty(&self) -> bool {
        self.cluster.is_none() && self.topics.is_empty() && self.partitions.is_empty()
    }

    /// What was printed.
    pub(super) fn parse(text: &str) -> Origin {
        let mut origin = Origin::default();
        for (name, id) in text.split("; ").filter_map(|part| part.rsplit_once(' ')) {
            match (name, name.strip_prefix(PARTITIONS_OF)) {
                ("cluster", _) if origin.cluster.is_none() => origin.cluster = Some(id.into()),
                (_, Some(topic)) => origin.partitions.extend(id.parse().ok().map(|count| (topic.to_owned(), count))),
                _ => drop(origin.topics.insert(name.into(), id.into())),
            }
        }
        origin
    }

    /// Notes that the topic has `count` partitions, unless `before`, a checkpoint's, says how many it had at first.
    pub(super) fn count(&mut self, topic: &str, count: i32, before: &Origin) {
        let is_another = self.mismatch(before, topic).is_some();
        let first = before.partitions.get(topic).copied().filter(|_| !is_another);
        self.partitions.entry(topic.into()).or_insert(first.unwrap_or(count));
    }

    /// Whether a partition without a position came after the pipeline had begun to read its topic, as far as this
    /// origin, a checkpoint's, tells. `is_known` says whether other partitions of the topic have positions.
    pub(super) fn is_new(&self, split: &SplitId, is_known: bool) -> bool {
        self.partitions.get(&split.topic).map_or(is_known, |first| split.partition >= *first)
    }

    /// Whether what was noted in `before` may be used here: `None` if nothing is known against it.
    pub(super) fn mismatch(&self, before: &Origin, topic: &str) -> Option<String> {
        match (&self.cluster, &before.cluster) {
            (Some(here), Some(there)) if here != there => Some(format!(
                "the checkpoint was made with another cluster ({there}; this one is {here}), whose offsets mean \
                 nothing here. Point 'bootstrap_servers' to that cluster, begin anew with --fresh, or go on with the \
                 first record of each partition here with --accept-lost-input"
            )),
            _ => match (self.topics.get(topic), before.topics.get(topic)) {
                (Some(here), Some(there)) if here != there => Some(format!(
                    "topic {topic} was deleted and made anew since the checkpoint (its id was {there} and is {here}): \
                     records that were not read are lost. To go on with the first record of the new topic, run with \
                     --accept-lost-input"
                )),
                _ => None,
            },
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = self.cluster.iter().map(|id| format!("cluster {id}"));
        let topics = self.topics.iter().map(|(topic, id)| format!("{topic} {id}"));
        let partitions = self.partitions.iter().map(|(topic, count)| format!("{PARTITIONS_OF}{topic} {count}"));
        f.write_str(&cluster.chain(topics).chain(partitions).collect::<Vec<_>>().join("; "))
    }
}

/// A position that the partition does not have.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Gap {
    /// The nearest offset that there is.
    pub(super) nearest: i64,
    /// What is wrong, without a way out.
    pub(super) message: String,
}

/// Whether `next` can be read from a partition that holds `low` up to, without it, `high`.
pub(super) fn gap(split: &SplitId, next: i64, low: i64, high: i64) -> Option<Gap> {
    if next > high {
        let message = format!(
            "partition {split} ends at offset {high}, before {next}, where reading was to go on: the topic was made \
             anew or has lost its last {} records",
            next - high
        );
        return Some(Gap { nearest: high, message });
    }
    if (0..low).contains(&next) {
        let message = format!(
            "partition {split} begins at offset {low}, after {next}, where reading was to go on: up to {} records were \
             deleted by the topic's retention before they were read",
            low - next
        );
        return Some(Gap { nearest: low, message });
    }
    None
}

/// How a refusal over lost records ends.
pub(super) const WAY_OUT: &str = "To go on without them, run with --accept-lost-input";

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(cluster: &str, topic: &str) -> Origin {
        let topics = BTreeMap::from([("clicks".into(), topic.into())]);
        Origin { cluster: Some(cluster.into()), topics, partitions: BTreeMap::new() }
    }

    #[test]
    fn an_origin_survives_being_written() {
        let mut origin = origin("c1", "t1");
        assert_eq!(origin.to_string(), "cluster c1; clicks t1");
        assert_eq!(Origin::parse("cluster c1; clicks t1"), origin);
        origin.count("clicks", 3, &Origin::default());
        assert_eq!(origin.to_string(), "cluster c1; clicks t1; partitions of clicks 3");
        assert_eq!(Origin::parse("cluster c1; clicks t1; partitions of clicks 3"), origin);
        assert!(Origin::parse("").is_empty());
    }

    #[test]
    fn a_partition_is_new_if_it_was_not_there_at_first() {
        let mut before = origin("c1", "t1");
        let split = |partition| SplitId { topic: "clicks".into(), partition };
        assert!(before.is_new(&split(0), true) && !before.is_new(&split(7), false), "an older version's checkpoint");
        before.count("clicks", 2, &Origin::default());
        for is_known in [true, false] {
            assert_eq!([0, 1, 2].map(|partition| before.is_new(&split(partition), is_known)), [false, false, true]);
        }
        let mut same = origin("c1", "t1");
        same.count("clicks", 4, &before);
        let mut another = origin("c1", "t2");
        another.count("clicks", 4, &before);
        assert_eq!((same.partitions["clicks"], another.partitions["clicks"]), (2, 4));
    }

    #[test]
    fn ids_that_differ_are_told() {
        assert_eq!(origin("c1", "t1").mismatch(&origin("c1", "t1"), "clicks"), None);
        assert_eq!(origin("c1", "t1").mismatch(&Origin::default(), "clicks"), None);
        assert_eq!(
            origin("c2", "t1").mismatch(&origin("c1", "t1"), "clicks").unwrap(),
            "the checkpoint was made with another cluster (c1; this one is c2), whose offsets mean nothing here. Point \
             'bootstrap_servers' to that cluster, begin anew with --fresh, or go on with the first record of each \
             partition here with --accept-lost-input"
        );
        assert_eq!(
            origin("c1", "t2").mismatch(&origin("c1", "t1"), "clicks").unwrap(),
            "topic clicks was deleted and made anew since the checkpoint (its id was t1 and is t2): records that were \
             not read are lost. To go on with the first record of the new topic, run with --accept-lost-input"
        );
    }

    #[test]
    fn a_position_lies_within_its_partition() {
        let split = SplitId { topic: "t".into(), partition: 0 };
        assert_eq!((gap(&split, 5, 5, 9), gap(&split, 9, 5, 9), gap(&split, -2, 5, 9)), (None, None, None));
        assert_eq!(gap(&split, 12, 5, 9).unwrap().nearest, 9);
        assert_eq!(gap(&split, 3, 5, 9).unwrap().nearest, 5);
    }
}
