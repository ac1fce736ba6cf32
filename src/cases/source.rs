//! A source of given lines, in partitions that a seed interleaves.

use std::sync::Arc;

use async_trait::async_trait;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::connectors::{Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceEvent, SourceFactory};
use crate::formats::{DecodeOptions, Keys, RawRecords, SplitIndex};

/// The lines of one partition.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// Each line without its line end; the first has offset 1.
    pub lines: Arc<Vec<Vec<u8>>>,
}

impl Partition {
    /// The lines of `text` that are not blank.
    pub fn of(text: &[u8]) -> Partition {
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        Partition { lines: Arc::new(lines.map(<[u8]>::to_vec).collect()) }
    }
}

/// A source of these partitions, called `table[0]`, `table[1]`..., which sends them one after the other and ends.
pub fn lines(table: &str, partitions: Vec<Partition>) -> Arc<dyn SourceFactory> {
    Arc::new(LinesFactory { table: table.to_owned(), partitions, seed: 0, boundedness: Boundedness::Bounded })
}

/// Opens [`Lines`].
pub(super) struct LinesFactory {
    pub(super) table: String,
    pub(super) partitions: Vec<Partition>,
    /// How partitions interleave.
    pub(super) seed: u64,
    /// What the planner is told; a case's source ends in any case.
    pub(super) boundedness: Boundedness,
}

#[async_trait]
impl SourceFactory for LinesFactory {
    fn boundedness(&self) -> Boundedness {
        self.boundedness
    }

    fn decoding(&self) -> Decoding {
        Decoding::Format(DecodeOptions::default())
    }

    fn describe(&self) -> String {
        format!("the case's input for {}", self.table)
    }

    async fn instances(&self, _: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(self.partitions.len().clamp(1, parallelism.max(1)))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let mine = |at: &usize| at % context.instances == context.instance;
        let splits = (0..self.partitions.len()).filter(mine).zip(0..).map(|(at, index)| Split {
            index: SplitIndex(index),
            name: format!("{}[{at}]", self.table),
            lines: Arc::clone(&self.partitions[at].lines),
            next: 0,
            state: SplitState::Hidden,
        });
        let instance_seed = self.seed.wrapping_mul(1021).wrapping_add(context.instance as u64);
        Ok(Box::new(Lines {
            splits: splits.collect(),
            batch_size: context.batch_size.max(1),
            wants_keys: context.wants_keys,
            wants_timestamps: context.wants_timestamps,
            interleave: self.seed > 0,
            random: ChaCha8Rng::seed_from_u64(instance_seed),
        }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SplitState {
    Hidden,
    Announced,
    Ended,
}

struct Split {
    index: SplitIndex,
    name: String,
    lines: Arc<Vec<Vec<u8>>>,
    next: usize,
    state: SplitState,
}

impl Split {
    fn remaining(&self) -> usize {
        self.lines.len() - self.next
    }
}

struct Lines {
    splits: Vec<Split>,
    batch_size: usize,
    wants_keys: bool,
    wants_timestamps: bool,
    interleave: bool,
    random: ChaCha8Rng,
}

impl Lines {
    /// Stretches of randomly chosen partitions (or of the first, if they are not to interleave) up to a whole batch.
    fn records(&mut self) -> RawRecords {
        let mut records = RawRecords::default();
        while records.len() < self.batch_size {
            let waiting: Vec<usize> = (0..self.splits.len()).filter(|at| self.splits[*at].remaining() > 0).collect();
            if waiting.is_empty() {
                break;
            }
            let chosen = if self.interleave { self.random.random_range(0..waiting.len()) } else { 0 };
            let split = &mut self.splits[waiting[chosen]];
            let room = split.remaining().min(self.batch_size - records.len());
            let stretch = if self.interleave { self.random.random_range(1..=room) } else { room };
            for _ in 0..stretch {
                records.push(split.index, split.next as i64 + 1, &split.lines[split.next]);
                split.next += 1;
            }
        }
        let rows = records.len();
        records.keys = self.wants_keys.then(|| Keys { bytes: vec![], spans: vec![None; rows] });
        records.timestamps = self.wants_timestamps.then(|| vec![None; rows]);
        records
    }
}

#[async_trait]
impl Source for Lines {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        if let Some(split) = self.splits.iter_mut().find(|split| split.state == SplitState::Hidden) {
            split.state = SplitState::Announced;
            return Ok(SourceEvent::Split(split.index, split.name.clone(), None));
        }
        if self.interleave && self.random.random_bool(0.25) {
            // Lets other tasks go first, now and then: results may not depend on who does.
            tokio::task::yield_now().await;
        }
        let finished = |split: &&mut Split| split.state == SplitState::Announced && split.remaining() == 0;
        if let Some(split) = self.splits.iter_mut().find(finished) {
            split.state = SplitState::Ended;
            return Ok(SourceEvent::SplitEnd(split.index));
        }
        let records = self.records();
        Ok(if records.is_empty() { SourceEvent::End } else { SourceEvent::Records(records) })
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;

    fn context(instance: usize, instances: usize, batch_size: usize) -> SourceContext {
        let alone = SourceContext::alone(Arc::new(Schema::empty()), batch_size);
        SourceContext { instance, instances, bounded: true, wants_keys: true, ..alone }
    }

    fn factory(seed: u64) -> LinesFactory {
        let partitions = vec![Partition::of(b"a1\na2\n\na3\n"), Partition::of(b"b1\nb2"), Partition::of(b"")];
        LinesFactory { table: "t".into(), partitions, seed, boundedness: Boundedness::Unbounded }
    }

    /// Everything that an instance says, each record as `split:offset:value`.
    async fn all(factory: &LinesFactory, context: SourceContext) -> Vec<String> {
        let mut source = factory.open(context).await.unwrap();
        let mut said = vec![];
        loop {
            match source.next().await.unwrap() {
                SourceEvent::Split(index, name, _) => said.push(format!("+{}={name}", index.0)),
                SourceEvent::SplitEnd(index) => said.push(format!("-{}", index.0)),
                SourceEvent::End => return said,
                SourceEvent::Records(records) => {
                    let splits = records.runs.iter().flat_map(|run| std::iter::repeat_n(run.split.0, run.rows));
                    for (row, split) in splits.enumerate() {
                        let value = String::from_utf8_lossy(records.value(row)).into_owned();
                        said.push(format!("{split}:{}:{value}", records.offsets[row]));
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn splits_are_announced_then_sent_in_order_then_ended() {
        let said = all(&factory(0), context(0, 1, 2)).await;
        let expected =
            ["+0=t[0]", "+1=t[1]", "+2=t[2]", "-2", "0:1:a1", "0:2:a2", "0:3:a3", "1:1:b1", "-0", "1:2:b2", "-1"];
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn a_seed_changes_the_interleaving_and_nothing_else() {
        let mut orders = std::collections::BTreeSet::new();
        for seed in 1..20 {
            let said = all(&factory(seed), context(0, 1, 8192)).await;
            let of = |split: &str| -> Vec<String> {
                said.iter().filter(|word| word.starts_with(split)).map(|word| word[4..].into()).collect()
            };
            assert_eq!(of("0:"), ["a1", "a2", "a3"]);
            assert_eq!(of("1:"), ["b1", "b2"]);
            orders.insert(said);
        }
        assert!(orders.len() > 3, "{orders:?}");
    }

    #[tokio::test]
    async fn partitions_are_dealt_out_to_instances() {
        assert_eq!(all(&factory(0), context(1, 2, 5)).await, ["+0=t[1]", "0:1:b1", "0:2:b2", "-0"]);
        let first = all(&factory(0), context(0, 2, 5)).await;
        assert!(first.contains(&"+1=t[2]".to_owned()) && !first.iter().any(|word| word.contains("b1")), "{first:?}");
    }
}
