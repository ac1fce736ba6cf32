//! Where the rows of each split lie: found by reading nothing but the columns that say where each row stood.
//!
//! A file is cut into [`Run`]s: stretches in which the offsets of a split rise. A file that the sink has written is one
//! run for each split; one that compaction has put together may be several, in any order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::super::reading::{Pinned, refused};
use super::PlaceColumns;
use crate::connectors::ConnectorError;

/// Files that are looked through at a time.
const AT_ONCE: usize = 4;

/// More runs than a history in any reasonable order has. Each takes some fifty bytes.
const MOST_RUNS: usize = 2_000_000;

/// What tells the rows of a split from others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SplitKey {
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i32>,
}

/// Rows of a split in one file, in rising order of offset; rows of other splits may lie between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// The file's number.
    pub(super) file: u32,
    /// The number of its first row in the file.
    pub(super) first: u64,
    /// One past that of its last row.
    pub(super) end: u64,
    /// The offset of its first row.
    pub(super) least: i64,
    /// The offset of its last row.
    pub(super) most: i64,
    /// How many rows it has.
    pub(super) rows: u64,
}

/// Where everything lies.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The runs of each split, by their least offsets.
    pub(super) splits: BTreeMap<SplitKey, Vec<Run>>,
    /// Of each file, the number of the first row of each chunk that it is read in; after these that of all its rows.
    pub(super) chunks: Vec<Vec<u64>>,
}

impl Index {
    /// Looks through all files.
    ///
    /// # Errors
    /// When a file cannot be read, a row does not say where it stood, or rows lie in no order.
    pub(super) async fn of(
        table: &Arc<Pinned>,
        columns: &PlaceColumns,
        chunk_rows: usize,
    ) -> Result<Index, ConnectorError> {
        let schema = columns.schema();
        table.must_have(&schema)?;
        let index_file = |file| index_file(Arc::clone(table), file, schema.clone(), chunk_rows);
        let files = stream::iter(0..table.files.len()).map(index_file);
        let files: Vec<FileIndex> = files.buffered(AT_ONCE).try_collect().await?;
        let mut index = Index::default();
        let mut runs = 0;
        for file in files {
            for (key, found) in file.splits {
                runs += found.len();
                index.splits.entry(key).or_default().extend(found);
            }
            index.chunks.push(file.chunks);
        }
        if runs > MOST_RUNS {
            let message = format!(
                "its rows are in no order of offset ({runs} stretches that rise): a tool that sorts by other columns has \
                 rewritten it. Let it sort by {}",
                columns.names().join(", ")
            );
            return Err(refused(&table.what, message));
        }
        index.splits.values_mut().for_each(|runs| runs.sort_by_key(|run| (run.least, run.most)));
        Ok(index)
    }
}

/// One file's part of the index.
#[derive(Default)]
struct FileIndex {
    splits: Vec<(SplitKey, Vec<Run>)>,
    chunks: Vec<u64>,
}

async fn index_file(
    table: Arc<Pinned>,
    file: usize,
    schema: SchemaRef,
    chunk_rows: usize,
) -> Result<FileIndex, ConnectorError> {
    let mut batches = table.read(file, &schema, chunk_rows, 0);
    let mut index = FileIndex { chunks: vec![0], ..FileIndex::default() };
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        index.add(file as u32, rows, &batch?).map_err(|row| {
            let path = &table.files[file].path;
            refused(&table.what, format!("row {row} of its file {path} does not say at which offset it stood"))
        })?;
        rows = index.chunks.last().copied().unwrap_or_default();
    }
    Ok(index)
}

impl FileIndex {
    /// Adds the rows of a chunk whose first one has number `first`. The error is the number of a row without a place.
    fn add(&mut self, file: u32, first: u64, batch: &RecordBatch) -> Result<(), u64> {
        let columns = batch.columns();
        let (offsets, keys) = (columns[columns.len() - 1].as_primitive::<Int64Type>(), &columns[..columns.len() - 1]);
        let topics = keys.iter().find_map(|column| column.as_string_opt::<i32>());
        let partitions = keys.iter().find_map(|column| column.as_primitive_opt::<Int32Type>());
        let without_place = |row: usize| {
            offsets.is_null(row)
                || topics.is_some_and(|topics| topics.is_null(row))
                || partitions.is_some_and(|partitions| partitions.is_null(row))
        };
        if let Some(row) = (0..batch.num_rows()).find(|row| without_place(*row)) {
            return Err(first + row as u64);
        }
        let mut at = 0;
        for row in 0..batch.num_rows() {
            let (topic, partition) = (topics.map(|topics| topics.value(row)), partitions.map(|p| p.value(row)));
            let is_it = |key: &SplitKey| key.topic.as_deref() == topic && key.partition == partition;
            // Rows of a split mostly follow one another.
            if !self.splits.get(at).is_some_and(|(key, _)| is_it(key)) {
                at = self.splits.iter().position(|(key, _)| is_it(key)).unwrap_or_else(|| {
                    self.splits.push((SplitKey { topic: topic.map(str::to_owned), partition }, vec![]));
                    self.splits.len() - 1
                });
            }
            let (number, offset) = (first + row as u64, offsets.value(row));
            let runs = &mut self.splits[at].1;
            match runs.last_mut().filter(|run| run.most < offset) {
                Some(run) => {
                    run.most = offset;
                    run.end = number + 1;
                    run.rows += 1;
                }
                None => runs.push(Run { file, first: number, end: number + 1, least: offset, most: offset, rows: 1 }),
            }
        }
        self.chunks.push(first + batch.num_rows() as u64);
        Ok(())
    }
}

impl PlaceColumns {
    /// The columns that say where a row stood: topic and partition, where they are recorded, and last the offset.
    pub(super) fn schema(&self) -> SchemaRef {
        let mut fields = vec![];
        fields.extend(self.topic.as_ref().map(|name| Field::new(name, DataType::Utf8, true)));
        fields.extend(self.partition.as_ref().map(|name| Field::new(name, DataType::Int32, true)));
        fields.push(Field::new(&self.offset, DataType::Int64, true));
        Arc::new(Schema::new(fields))
    }

    /// Their names.
    fn names(&self) -> Vec<&str> {
        let all = [self.topic.as_deref(), self.partition.as_deref(), Some(self.offset.as_str())];
        all.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array};

    use super::*;

    fn batch(places: &[(i32, i64)]) -> RecordBatch {
        let schema = PlaceColumns { topic: None, partition: Some("p".into()), offset: "o".into() }.schema();
        let partitions = Int32Array::from_iter_values(places.iter().map(|(partition, _)| *partition));
        let offsets = Int64Array::from_iter_values(places.iter().map(|(_, offset)| *offset));
        RecordBatch::try_new(schema, vec![Arc::new(partitions), Arc::new(offsets)]).unwrap()
    }

    #[test]
    fn a_run_goes_on_over_rows_of_other_splits_and_over_chunks_until_its_offsets_fall() {
        let mut index = FileIndex { chunks: vec![0], ..FileIndex::default() };
        index.add(7, 0, &batch(&[(0, 5), (1, 1), (0, 6), (1, 2)])).unwrap();
        index.add(7, 4, &batch(&[(0, 9), (1, 2), (0, 3)])).unwrap();
        let run = |first, end, least, most, rows| Run { file: 7, first, end, least, most, rows };
        let of = |partition| SplitKey { topic: None, partition: Some(partition) };
        assert_eq!(
            index.splits,
            [
                (of(0), vec![run(0, 5, 5, 9, 3), run(6, 7, 3, 3, 1)]),
                (of(1), vec![run(1, 4, 1, 2, 2), run(5, 6, 2, 2, 1)]),
            ]
        );
        assert_eq!(index.chunks, [0, 4, 7]);
    }

    #[test]
    fn a_row_without_a_place_is_told_by_its_number() {
        let schema = PlaceColumns { topic: None, partition: None, offset: "o".into() }.schema();
        let offsets = Int64Array::from(vec![Some(1), None]);
        let batch = RecordBatch::try_new(schema, vec![Arc::new(offsets)]).unwrap();
        assert_eq!(FileIndex::default().add(0, 10, &batch), Err(11));
    }
}
