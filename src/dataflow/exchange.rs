//! Which instance of the receiver gets a row: the sending side of an edge that leaves a task.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::common::Result;
use datafusion::common::hash_utils::{RandomState, create_hashes};

use super::channel::{Closed, Message, Sender};
use super::graph::NodeId;

/// Not DataFusion's own seed: hash tables behind the exchange would otherwise see keys that agree in some bits.
const SEED: u64 = 0xACE9_0001;

/// Deals rows out by the hash of some columns. Equal values, nulls included, get equal targets in every run.
pub struct Partitioner {
    columns: Vec<usize>,
    targets: usize,
    hashes: Vec<u64>,
    rows: Vec<Vec<u32>>,
}

impl Partitioner {
    /// Deals out to `targets` instances by `columns`.
    pub fn new(columns: Vec<usize>, targets: usize) -> Partitioner {
        Partitioner { columns, targets, hashes: vec![], rows: vec![vec![]; targets] }
    }

    /// The rows of `batch` by target; those for a target keep their order. Targets without rows are left out.
    ///
    /// # Errors
    /// When a column's type cannot be hashed.
    pub fn partition(&mut self, batch: RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        if self.targets == 1 || batch.num_rows() == 0 {
            return Ok(vec![(0, batch)]);
        }
        self.hashes.clear();
        self.hashes.resize(batch.num_rows(), 0);
        create_hashes(
            self.columns.iter().map(|&column| batch.column(column)),
            &RandomState::with_seed(SEED),
            &mut self.hashes,
        )?;
        self.rows.iter_mut().for_each(Vec::clear);
        for (row, hash) in self.hashes.iter().enumerate() {
            // The high half: a table behind the exchange picks its slots by other bits.
            let target = ((hash >> 32) * self.targets as u64) >> 32;
            self.rows[target as usize].push(row as u32);
        }
        let mut parts = Vec::with_capacity(self.targets);
        for (target, rows) in self.rows.iter().enumerate() {
            if rows.len() == batch.num_rows() {
                return Ok(vec![(target, batch)]);
            }
            if !rows.is_empty() {
                parts.push((target, take_record_batch(&batch, &UInt32Array::from(rows.clone()))?));
            }
        }
        Ok(parts)
    }
}

/// One edge out of a task: the channels to all instances of the receiver.
pub struct Port {
    /// The node that reads it.
    pub reader: NodeId,
    senders: Vec<Sender>,
    partitioner: Partitioner,
}

/// Why a message could not be sent.
#[derive(Debug)]
pub enum SendError {
    /// The receiver is gone.
    Closed,
    /// The rows cannot be dealt out.
    Partition(datafusion::error::DataFusionError),
}

impl From<Closed> for SendError {
    fn from(_: Closed) -> SendError {
        SendError::Closed
    }
}

impl Port {
    /// Sends rows to `reader` by the hash of `columns`. With a single sender all rows go there, whatever the columns.
    pub fn new(reader: NodeId, senders: Vec<Sender>, columns: Vec<usize>) -> Port {
        let partitioner = Partitioner::new(columns, senders.len());
        Port { reader, senders, partitioner }
    }

    /// Sends rows to the instances that they belong to and everything else to all.
    ///
    /// # Errors
    /// When a receiver is gone or the columns cannot be hashed.
    pub async fn send(&mut self, message: Message) -> Result<(), SendError> {
        match message {
            Message::Batch(batch) => self.deal_out(batch, Message::Batch).await?,
            Message::Shown(batch) => self.deal_out(batch, Message::Shown).await?,
            message => {
                for sender in &self.senders {
                    sender.send(message.clone()).await?;
                }
            }
        }
        Ok(())
    }

    async fn deal_out(&mut self, batch: RecordBatch, message: fn(RecordBatch) -> Message) -> Result<(), SendError> {
        for (target, part) in self.partitioner.partition(batch).map_err(SendError::Partition)? {
            self.senders[target].send(message(part)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(keys: Vec<Option<&str>>, floats: Vec<f64>) -> RecordBatch {
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
        let keys: ArrayRef = Arc::new(StringArray::from(keys));
        let floats: ArrayRef = Arc::new(Float64Array::from(floats));
        RecordBatch::try_from_iter([("key", keys), ("float", floats), ("row", rows)]).unwrap()
    }

    #[test]
    fn equal_values_meet_and_no_row_is_lost() {
        let keys = vec![Some("a"), None, Some("b"), Some("a"), None, Some("b"), Some("c"), Some("d")];
        let floats = vec![0.0, 1.0, f64::NAN, -0.0, 1.0, f64::NAN, 3.0, 4.0];
        for targets in [1, 2, 3, 7] {
            let mut target_of_row = BTreeMap::new();
            for (target, part) in
                Partitioner::new(vec![0, 1], targets).partition(batch(keys.clone(), floats.clone())).unwrap()
            {
                for &row in part.column(2).as_primitive::<Int64Type>().values() {
                    assert!(target < targets);
                    assert_eq!(target_of_row.insert(row, target), None);
                }
            }
            assert_eq!(target_of_row.len(), keys.len());
            for (one, other) in [(0, 3), (1, 4), (2, 5)] {
                assert_eq!(target_of_row[&one], target_of_row[&other], "{targets} targets");
            }
        }
    }

    #[test]
    fn the_target_does_not_depend_on_the_batch() {
        let target = |keys: Vec<Option<&str>>| {
            let floats = vec![0.0; keys.len()];
            let parts = Partitioner::new(vec![0], 7).partition(batch(keys, floats)).unwrap();
            parts
                .into_iter()
                .find(|(_, part)| part.column(0).as_string::<i32>().iter().any(|k| k == Some("x")))
                .unwrap()
                .0
        };
        assert_eq!(target(vec![Some("x")]), target(vec![None, Some("y"), Some("x"), Some("z")]));
    }

    #[test]
    fn without_columns_all_rows_meet() {
        let parts = Partitioner::new(vec![], 3).partition(batch(vec![Some("a"), None], vec![1.0, 2.0])).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].1.num_rows(), 2);
    }

    #[test]
    fn many_keys_spread_over_all_targets() {
        let keys: Vec<String> = (0..7000).map(|i| format!("key {i}")).collect();
        let batch = batch(keys.iter().map(|key| Some(key.as_str())).collect(), vec![0.0; 7000]);
        let parts = Partitioner::new(vec![0], 7).partition(batch).unwrap();
        assert_eq!(parts.len(), 7);
        assert!(parts.iter().all(|(_, part)| (800..1200).contains(&part.num_rows())));
    }
}
