//! Records on their way into a topic: of all partitions, to become visible together.

use super::PARTITIONS;
use super::block::{Block, NewRecord};

/// Records by partition. They have no offsets yet.
#[derive(Clone, Default, Debug)]
pub(super) struct Batch {
    partitions: [Vec<Block>; PARTITIONS],
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, partition: usize, record: &NewRecord<'_>) {
        let blocks = &mut self.partitions[partition];
        if blocks.last().is_none_or(Block::is_full) {
            blocks.push(Block::default());
        }
        if let Some(block) = blocks.last_mut() {
            let before = block.bytes.len();
            block.push(record);
            self.bytes += block.bytes.len() - before;
        }
    }

    /// How many bytes the records take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Every block with the number of its partition; those of a partition in their order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, &Block)> {
        self.partitions
            .iter()
            .enumerate()
            .flat_map(|(partition, blocks)| blocks.iter().map(move |block| (partition, block)))
    }
}

/// Chooses a record's partition, as Kafka's own clients do for three partitions.
#[derive(Clone, Debug, Default)]
pub(super) struct Partitioner {
    turn: usize,
}

impl Partitioner {
    /// A partitioner whose first record without a key goes to partition `turn`.
    pub(super) fn new(turn: usize) -> Partitioner {
        Partitioner { turn }
    }

    /// By the key's hash; without a key each partition in turn.
    pub(super) fn partition(&mut self, key: Option<&[u8]>) -> usize {
        match key {
            Some(key) => (murmur2(key) & 0x7fff_ffff) as usize % PARTITIONS,
            None => {
                self.turn = (self.turn + 1) % PARTITIONS;
                self.turn
            }
        }
    }
}

/// The hash by which Kafka's Java client, and so every other tool, deals keys to partitions.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |word: u32| {
        let word = word.wrapping_mul(M);
        (word ^ (word >> 24)).wrapping_mul(M)
    };
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M) ^ mix(word);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let rest = rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ rest).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that Kafka's own tests of its hash have.
    #[test]
    fn keys_are_dealt_as_by_kafkas_clients() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key) as i32, hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn without_a_key_all_partitions_get_the_same() {
        let mut partitioner = Partitioner::new(1);
        let dealt: Vec<usize> = (0..5).map(|_| partitioner.partition(None)).collect();
        assert_eq!(dealt, [2, 0, 1, 2, 0]);
        assert_eq!(partitioner.partition(Some(b"k")), partitioner.partition(Some(b"k")));
    }

    #[test]
    fn a_full_block_is_followed_by_another() {
        let mut batch = Batch::default();
        let value = vec![0; 400_000];
        for _ in 0..5 {
            batch.push(2, &NewRecord { timestamp: 0, key: None, value: &value, headers: &[] });
        }
        batch.push(0, &NewRecord { timestamp: 0, key: None, value: b"", headers: &[] });
        let blocks: Vec<(usize, u32)> = batch.blocks().map(|(partition, block)| (partition, block.records)).collect();
        assert_eq!(blocks, [(0, 1), (2, 3), (2, 2)]);
    }
}
