//! How many rows a destination must have, and a hash of all of them: what an audit holds it against.
//!
//! The hash is a sum of the rows' own hashes, so the order and the batches that rows come in do not matter, and epochs
//! can be added up. A row's hash is the same on every machine and in every version: 128 bits of xxh3 over arrow's row
//! format.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use serde::{Deserialize, Serialize};

/// So many rows with this sum of hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The rows.
    pub rows: u64,
    /// The sum of the hashes of the rows.
    #[serde(with = "hexadecimal")]
    pub hash: u128,
}

impl Tally {
    /// Counts rows.
    ///
    /// # Errors
    /// When a column's type has no row format.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows() as u64;
        if batch.num_columns() == 0 {
            return Ok(());
        }
        let fields = batch.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(batch.columns())?;
        for row in &rows {
            self.hash = self.hash.wrapping_add(xxhash_rust::xxh3::xxh3_128(row.as_ref()));
        }
        Ok(())
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: Tally) {
        self.rows += other.rows;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// 32 hexadecimal digits: JSON's numbers are too small.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{hash:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)
    }
}
