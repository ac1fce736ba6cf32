//! How many rows a destination must have, and a hash of all of them: what an audit holds it against.
//!
//! The hash is a sum of the rows' own hashes, so the order and the batches that rows come in do not matter, and epochs
//! can be added up. A row's hash is the same on every machine and in every version: 128 bits of xxh3 over arrow's row
//! format.
//!
//! What destinations rightly hold in another form hashes alike: moments and times finer than a microsecond are cut to
//! one (databases keep no more), -0.0 is 0.0, and NaN and the infinities are as null (JSON has none of them, SQLite no
//! NaN). So a change in just these respects does not show. Decimals hash by their digits at the column's scale. What is
//! within structs and lists hashes as it is.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Time64NanosecondType, TimeUnit, TimestampNanosecondType};
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
        let columns = batch.columns().iter().map(as_all_hold_it).collect::<Result<Vec<_>, _>>()?;
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
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

    /// What is left without some of the rows.
    pub fn without(self, other: Tally) -> Tally {
        Tally { rows: self.rows.saturating_sub(other.rows), hash: self.hash.wrapping_sub(other.hash) }
    }
}

/// What a destination must have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// All rows so far.
    pub all: Tally,
    /// What it may rightly have while the newest epochs are on their way to it: each is without one epoch more.
    pub earlier: Vec<Tally>,
}

impl From<Tally> for Due {
    fn from(all: Tally) -> Due {
        Due { all, earlier: vec![] }
    }
}

/// A column without what some destinations cannot hold.
fn as_all_hold_it(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Float64 => {
            let finite = |value: f64| value.is_finite().then_some(value + 0.0);
            Arc::new(column.as_primitive::<Float64Type>().unary_opt::<_, Float64Type>(finite))
        }
        DataType::Float32 => {
            let finite = |value: f32| value.is_finite().then_some(value + 0.0);
            Arc::new(column.as_primitive::<Float32Type>().unary_opt::<_, Float32Type>(finite))
        }
        DataType::Float16 => as_all_hold_it(&cast(column, &DataType::Float32)?)?,
        // Towards 1970, as arrow's casts cut when a sink writes microseconds.
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let cut = column.as_primitive::<TimestampNanosecondType>();
            let cut = cut.unary::<_, TimestampNanosecondType>(|nanos| nanos / 1000 * 1000);
            Arc::new(cut.with_timezone_opt(zone.clone()))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            let cut = column.as_primitive::<Time64NanosecondType>();
            Arc::new(cut.unary::<_, Time64NanosecondType>(|nanos| nanos / 1000 * 1000))
        }
        _ => Arc::clone(column),
    })
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

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Float32Array, Float64Array, Time64NanosecondArray, TimestampNanosecondArray};

    use super::*;

    fn tally(column: ArrayRef) -> Tally {
        let mut tally = Tally::default();
        tally.add(&RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap()).unwrap();
        tally
    }

    fn moments(nanos: Vec<i64>) -> Tally {
        let zoned = TimestampNanosecondArray::from(nanos.clone()).with_timezone("Europe/Madrid");
        assert_eq!(tally(Arc::new(zoned)), tally(Arc::new(TimestampNanosecondArray::from(nanos.clone()))));
        tally(Arc::new(TimestampNanosecondArray::from(nanos)))
    }

    #[test]
    fn what_destinations_cannot_hold_makes_no_difference() {
        assert_eq!(moments(vec![1_999, -1_999]), moments(vec![1_000, -1_000]));
        assert_ne!(moments(vec![1_999]), moments(vec![2_000]));
        let times = |nanos| tally(Arc::new(Time64NanosecondArray::from(vec![nanos])));
        assert_eq!(times(1_001), times(1_000));
        assert_ne!(times(1_000), times(2_000));
        let double = |value: Option<f64>| tally(Arc::new(Float64Array::from(vec![value])));
        let single = |value: Option<f32>| tally(Arc::new(Float32Array::from(vec![value])));
        assert_eq!(double(Some(-0.0)), double(Some(0.0)));
        assert_eq!(single(Some(-0.0)), single(Some(0.0)));
        for odd in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(double(Some(odd)), double(None));
            assert_eq!(single(Some(odd as f32)), single(None));
        }
        assert_ne!(double(Some(0.1)), double(Some(0.1 + f64::EPSILON)));
        assert_ne!(double(Some(0.0)), double(None));
    }

    #[test]
    fn decimals_hash_by_their_digits() {
        let decimal = |digits: i128| {
            tally(Arc::new(Decimal128Array::from(vec![digits]).with_precision_and_scale(30, 2).unwrap()))
        };
        assert_eq!(decimal(1250), decimal(1250));
        assert_ne!(decimal(1250), decimal(1251));
        assert_ne!(decimal(12_345_678_901_234_567_890), decimal(12_345_678_901_234_567_891));
    }
}
