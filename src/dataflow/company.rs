//! What the sources of a run know of each other, so that a silent one holds nobody back.
//!
//! Where rows of several sources meet, in a union or a join, the lowest watermark counts. A source that is read to its
//! end and silent, or never had a row at all, therefore goes along with those whose rows its own meet. What it reads
//! later is judged by that watermark, as the rows of a silent split are by the one of its source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::graph::{Graph, NodeId, NodeKind};
use crate::time::EventTime;

/// How far a source has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has a watermark of its own: others wait for it.
    Reads(EventTime),
    /// All that it holds is read and nothing comes.
    Silent {
        /// The highest watermark of its rows; [`EventTime::MIN`] when it never had one.
        watermark: EventTime,
        /// From when on that goes on at the pace of the clock.
        since: Instant,
    },
}

impl Standing {
    /// The watermark, by the source's own rows and the clock.
    pub fn at(self, now: Instant) -> EventTime {
        match self {
            Standing::Reads(watermark) | Standing::Silent { watermark: watermark @ EventTime::MIN, .. } => watermark,
            Standing::Silent { watermark, since } => {
                let silence = i64::try_from(now.saturating_duration_since(since).as_nanos()).unwrap_or(i64::MAX);
                EventTime(watermark.0.saturating_add(silence).min(EventTime::MAX.0 - 1))
            }
        }
    }
}

/// A source's place among those whose rows meet its own.
pub struct Company {
    own: Arc<Mutex<Standing>>,
    others: Vec<Arc<Mutex<Standing>>>,
}

impl Company {
    /// For each source of `graph`, by its node. Rows that only meet in a sink do not wait for each other.
    pub fn of(graph: &Graph) -> BTreeMap<NodeId, Company> {
        let mut read: Vec<BTreeSet<NodeId>> = vec![];
        let mut met: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let sources: BTreeSet<NodeId> = match &node.kind {
                NodeKind::Source(_) => BTreeSet::from([NodeId(index)]),
                NodeKind::Operator(_) => {
                    node.inputs.iter().flatten().flat_map(|edge| read[edge.from.0].clone()).collect()
                }
                NodeKind::Sink(_) => BTreeSet::new(),
            };
            for source in &sources {
                met.entry(*source).or_default().extend(&sources);
            }
            read.push(sources);
        }
        let standings: BTreeMap<NodeId, Arc<Mutex<Standing>>> =
            met.keys().map(|source| (*source, standing())).collect();
        let company = |(source, met): (NodeId, BTreeSet<NodeId>)| {
            let others = met.iter().filter(|other| **other != source).map(|other| Arc::clone(&standings[other]));
            (source, Company { own: Arc::clone(&standings[&source]), others: others.collect() })
        };
        met.into_iter().map(company).collect()
    }

    /// A source that goes by itself.
    pub fn alone() -> Company {
        Company { own: standing(), others: vec![] }
    }

    /// Whether it goes by itself.
    pub fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    /// Tells the others.
    pub fn tell(&self, standing: Standing) {
        *self.own.lock() = standing;
    }

    /// How far the others let a silent source go: to the lowest of those that are not silent themselves, or along with
    /// the one that is ahead when all are.
    pub fn watermark(&self, now: Instant) -> EventTime {
        let others: Vec<Standing> = self.others.iter().map(|other| *other.lock()).collect();
        let reading = others.iter().filter(|other| matches!(other, Standing::Reads(_))).map(|other| other.at(now));
        let silent = || others.iter().map(|other| other.at(now)).max();
        reading.min().or_else(silent).unwrap_or(EventTime::MIN)
    }
}

/// Of a source that has not begun: nobody goes ahead of it.
fn standing() -> Arc<Mutex<Standing>> {
    Arc::new(Mutex::new(Standing::Reads(EventTime::MIN)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dataflow::graph::Distribution;
    use crate::dataflow::tests::parts::{Builder, MemorySink, MemorySource, edge};
    use crate::operators::MAIN;

    #[test]
    fn sources_meet_in_operators_and_not_in_sinks() {
        let mut builder = Builder::default();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| builder.source(name, &Arc::new(MemorySource::new(vec![]))));
        let hashed = |from| edge(from, Distribution::Hash(vec![0]));
        let one = builder.window_sum("one", vec![hashed(a), hashed(b)], None);
        let other = builder.window_sum("other", vec![hashed(b), hashed(c)], None);
        let alone = builder.window_sum("alone", vec![hashed(d)], None);
        for (name, from) in [("x", one), ("y", other), ("z", alone)] {
            builder.sink(name, from, MAIN, &MemorySink::default());
        }
        if let NodeKind::Sink(_) = &builder.graph.nodes[9].kind {
            builder.graph.nodes[9].inputs[0].push(edge(a, Distribution::Gather));
        }
        let companies = Company::of(&builder.graph);
        let meets = |one: NodeId, other: NodeId| {
            companies[&one].others.iter().any(|standing| Arc::ptr_eq(standing, &companies[&other].own))
        };
        assert!(meets(a, b) && meets(b, a) && meets(b, c) && meets(c, b));
        assert!(!meets(a, c) && !meets(c, a) && !meets(a, a));
        assert!(companies[&d].is_alone());
    }

    #[test]
    fn a_silent_source_goes_as_far_as_the_lowest_that_is_not() {
        let now = Instant::now();
        let of = |others: &[Standing]| {
            let others = others.iter().map(|other| Arc::new(Mutex::new(*other))).collect();
            Company { own: standing(), others }.watermark(now)
        };
        let reads = |watermark| Standing::Reads(EventTime(watermark));
        let silent = |watermark, seconds| Standing::Silent {
            watermark: EventTime(watermark),
            since: now - Duration::from_secs(seconds),
        };
        let never = Standing::Silent { watermark: EventTime::MIN, since: now - Duration::from_secs(9) };
        assert_eq!(of(&[]), EventTime::MIN);
        assert_eq!(of(&[reads(50), silent(900, 0), reads(30)]), EventTime(30));
        assert_eq!(of(&[never, silent(10, 2), silent(20, 1)]), EventTime(10 + 2_000_000_000));
        assert_eq!(of(&[never, never]), EventTime::MIN);
        assert_eq!(of(&[never, Standing::Reads(EventTime::MIN)]), EventTime::MIN);
    }
}
