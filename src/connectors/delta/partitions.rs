//! The partitions of a Delta table: rows of a batch by the values of the columns that make folders.
//!
//! A folder's name is for people and for tools that clear up; readers take the values from the log. A text that is empty
//! counts as null there, which is Delta's rule.

use std::collections::HashMap;
use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, partition, take_arrays, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

/// The name of a folder for null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longer values are cut in the name of a folder: file systems take 255 bytes.
const LONGEST: usize = 180;

/// The values of the columns that make folders; null and empty text are `None`.
pub(super) type Values = Vec<Option<String>>;

/// The columns of a table that make folders.
pub(super) struct Partitions {
    names: Vec<String>,
    /// Where they stand in the table.
    columns: Vec<usize>,
    /// Where the others stand: those in the files.
    kept: Vec<usize>,
    rows: Option<RowConverter>,
}

/// Rows of one partition, with the columns that are in its files.
pub(super) struct Part {
    pub(super) values: Values,
    pub(super) rows: RecordBatch,
}

impl Partitions {
    /// Of a table with these columns.
    ///
    /// # Errors
    /// When a column is not there, or its type makes no folders.
    pub(super) fn new(names: &[String], schema: &SchemaRef) -> Result<Partitions, ArrowError> {
        let columns: Vec<usize> = names.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
        let kept = (0..schema.fields().len()).filter(|column| !columns.contains(column)).collect();
        let fields: Vec<SortField> =
            columns.iter().map(|column| SortField::new(schema.field(*column).data_type().clone())).collect();
        let rows = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Partitions { names: names.to_vec(), columns, kept, rows })
    }

    /// The columns' names.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns that are in the files.
    pub(super) fn file_schema(&self, schema: &SchemaRef) -> Result<SchemaRef, ArrowError> {
        Ok(schema.project(&self.kept)?.into())
    }

    /// Divides a batch; rows of a partition keep their order.
    ///
    /// # Errors
    /// When a value cannot be told as text.
    pub(super) fn divide(&mut self, batch: &RecordBatch) -> Result<Vec<Part>, ArrowError> {
        let files = batch.project(&self.kept)?;
        let Some(converter) = &mut self.rows else {
            return Ok(vec![Part { values: vec![], rows: files }]);
        };
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| batch.column(*column).clone()).collect();
        // Days and the like come in stretches: their values are looked at once for each.
        let stretches = partition(&columns)?.ranges();
        let begins: UInt32Array = stretches.iter().map(|stretch| stretch.start as u32).collect();
        let columns = take_arrays(&columns, &begins, None)?;
        let keys = converter.convert_columns(&columns)?;
        let mut groups: Vec<(u32, Vec<u32>)> = vec![];
        let mut group_of = HashMap::new();
        for (number, (key, stretch)) in keys.iter().zip(stretches).enumerate() {
            let group = *group_of.entry(key).or_insert_with(|| {
                groups.push((number as u32, vec![]));
                groups.len() - 1
            });
            groups[group].1.extend(stretch.start as u32..stretch.end as u32);
        }
        let firsts: UInt32Array = groups.iter().map(|(first, _)| *first).collect();
        let texts: Vec<StringArray> =
            take_arrays(&columns, &firsts, None)?.iter().map(texts).collect::<Result<_, _>>()?;
        let whole = groups.len() == 1;
        groups
            .into_iter()
            .enumerate()
            .map(|(group, (_, indices))| {
                let values = texts.iter().map(|column| value(column, group)).collect();
                let rows = if whole { files.clone() } else { take_record_batch(&files, &UInt32Array::from(indices))? };
                Ok(Part { values, rows })
            })
            .collect()
    }

    /// The folder of a partition, with a slash at its end; empty where there are no partitions.
    pub(super) fn folder(&self, values: &Values) -> String {
        let mut folder = String::new();
        for (name, value) in self.names.iter().zip(values) {
            let value = value.as_deref().map_or_else(|| NULL.to_owned(), |value| shortened(&encoded(value)));
            let _ = write!(folder, "{}={value}/", encoded(name));
        }
        folder
    }
}

fn value(column: &StringArray, row: usize) -> Option<String> {
    (column.is_valid(row) && !column.value(row).is_empty()).then(|| column.value(row).to_owned())
}

/// Values as Delta writes them in its log.
fn texts(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    if let DataType::Timestamp(TimeUnit::Microsecond, _) = column.data_type() {
        let told = |micros: Option<i64>| {
            let Some(micros) = micros else { return Ok(None) };
            match chrono::DateTime::from_timestamp_micros(micros) {
                Some(time) => Ok(Some(time.format("%Y-%m-%d %H:%M:%S%.6f").to_string())),
                None => Err(ArrowError::CastError(format!("there is no date for {micros} microseconds"))),
            }
        };
        return column.as_primitive::<TimestampMicrosecondType>().iter().map(told).collect();
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(column, &DataType::Utf8, &strict)?.as_string::<i32>().clone())
}

/// Percent-encodes all but what stands in a folder's name without harm.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A name that fits, and is another for another value.
fn shortened(encoded: &str) -> String {
    if encoded.len() <= LONGEST {
        return encoded.to_owned();
    }
    let hash = xxhash_rust::xxh3::xxh3_64(encoded.as_bytes());
    // Not in the middle of an encoded byte.
    let cut = encoded[..LONGEST].rfind('%').filter(|at| at + 3 > LONGEST).unwrap_or(LONGEST);
    format!("{}-{hash:016x}", &encoded[..cut])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Date32Array, Decimal128Array, Int32Array, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn divided(columns: Vec<(&str, ArrayRef)>, names: &[&str]) -> (Partitions, Vec<Part>) {
        let fields: Vec<Field> =
            columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut partitions = Partitions::new(&names, &schema).unwrap();
        let parts = partitions.divide(&batch).unwrap();
        (partitions, parts)
    }

    #[test]
    fn rows_of_a_partition_stay_in_their_order_and_lose_its_columns() {
        let day: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("b"), Some("a"), Some("")]));
        let n: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5]));
        let (_, parts) = divided(vec![("day", day), ("n", n)], &["day"]);
        let found: Vec<(Option<&str>, Vec<i32>)> = parts
            .iter()
            .map(|part| {
                assert_eq!(part.rows.num_columns(), 1);
                let numbers = part.rows.column(0).as_primitive::<arrow::datatypes::Int32Type>();
                (part.values[0].as_deref(), numbers.values().to_vec())
            })
            .collect();
        assert_eq!(found, [(Some("b"), vec![1, 3]), (None, vec![2]), (Some("a"), vec![4]), (None, vec![5])]);
    }

    #[test]
    fn folders_are_named_by_values_that_are_encoded() {
        let folder = |text: Option<&str>| {
            let (partitions, parts) = divided(
                vec![("a/b", Arc::new(StringArray::from(vec![text]))), ("n", Arc::new(Int32Array::from(vec![1])))],
                &["a/b"],
            );
            partitions.folder(&parts[0].values)
        };
        assert_eq!(folder(Some("2026-11-29")), "a%2Fb=2026-11-29/");
        assert_eq!(folder(None), "a%2Fb=__HIVE_DEFAULT_PARTITION__/");
        assert_eq!(folder(Some("a/b=c d%é")), "a%2Fb=a%2Fb%3Dc%20d%25%C3%A9/");
        let (long, longer) = ("é".repeat(100), "é".repeat(101));
        let (long, longer) = (folder(Some(&long)), folder(Some(&longer)));
        assert!(long.len() < 210 && long != longer, "{long}");
    }

    #[test]
    fn values_are_told_as_delta_writes_them() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("b", Arc::new(BooleanArray::from(vec![true]))),
            ("d", Arc::new(Date32Array::from(vec![-1]))),
            ("c", Arc::new(Decimal128Array::from(vec![-5]).with_precision_and_scale(10, 2).unwrap())),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![1_000_001]))),
            ("n", Arc::new(Int32Array::from(vec![-7]))),
            ("rest", Arc::new(Int32Array::from(vec![1]))),
        ];
        let (_, parts) = divided(columns, &["b", "d", "c", "t", "n"]);
        let values: Vec<&str> = parts[0].values.iter().flatten().map(String::as_str).collect();
        assert_eq!(values, ["true", "1969-12-31", "-0.05", "1970-01-01 00:00:01.000001", "-7"]);
    }
}
