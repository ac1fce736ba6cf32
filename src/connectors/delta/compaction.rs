//! Few large files out of many small ones: a table that gets a file every few seconds would drown those who read it.
//!
//! Small files of one partition that follow each other are written anew as one, row after row in the order in which they
//! came, so that times stay sorted and statistics narrow. One commit takes the small ones out of the log and puts the
//! large one in, and says that no row has changed. Nothing is deleted here: who reads an older version still finds its
//! files, until [`super::vacuum`] takes them.
//!
//! A file is written again only when it comes into one at least twice its size, so that each row is rewritten a few
//! times in all, however long the table grows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::datafile::DataFileReader;
use deltalake_core::datafile::reader::ParquetFileReader;
use deltalake_core::kernel::{Action, Add, Remove, cast_record_batch};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use tokio_util::sync::CancellationToken;

use super::stats::stats;
use super::writer::properties;
use crate::faults::{Bug, crash_point, planted};

/// So many small files of a partition are put together, and not fewer.
const FEWEST: usize = 10;
/// No more files than this go into one, so that a commit stays small.
const MOST: usize = 1000;
/// Once a commit replaces so many times the size of a file, it is made, and the rest waits for the next.
const COMMIT_FILES: u64 = 8;

/// The values of the partition columns, as the log has them.
type Partition = BTreeMap<String, Option<String>>;

/// A file that the log names.
#[derive(Clone, Debug)]
struct DataFile {
    path: Path,
    size: u64,
    rows: Option<usize>,
    /// Milliseconds since 1970, when its rows were written first.
    written: i64,
    remove: Remove,
}

/// Files of one partition that become one, in the order of their rows.
#[derive(Clone, Debug)]
pub(super) struct Merge {
    partition: Partition,
    files: Vec<DataFile>,
}

impl Merge {
    /// Where the files are that become one.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| &file.path)
    }
}

/// Why files could not be put together.
pub(super) struct Failure {
    /// The file that cannot be read, if it is one.
    pub(super) file: Option<Path>,
    pub(super) error: DeltaTableError,
}

impl From<DeltaTableError> for Failure {
    fn from(error: DeltaTableError) -> Failure {
        Failure { file: None, error }
    }
}

/// What one commit changes.
#[derive(Default, Debug)]
pub(super) struct Compacted {
    /// For the log.
    pub(super) actions: Vec<Action>,
    /// What it takes out, as the log names it. All must still be there when the commit is made.
    pub(super) replaced: BTreeSet<String>,
    /// What it puts in.
    written: Vec<Path>,
    bytes: u64,
}

/// What is worth putting together in this version of a table.
pub(super) fn plan(table: &DeltaTable, target: u64) -> Result<VecDeque<Merge>, DeltaTableError> {
    let mut partitions: BTreeMap<Partition, Vec<DataFile>> = BTreeMap::new();
    for file in table.snapshot()?.log_data().iter() {
        let partition = file.partition_values_map().into_iter().collect();
        let mut data = DataFile {
            path: file.object_store_path(),
            size: u64::try_from(file.size()).unwrap_or(0),
            rows: file.num_records(),
            written: file.modification_time(),
            remove: file.remove_action(false),
        };
        if file.deletion_vector_descriptor().is_some() {
            // Somebody has deleted rows of it: it is left as it is, in its place among the others.
            data.size = u64::MAX;
        }
        partitions.entry(partition).or_default().push(data);
    }
    let mut merges = VecDeque::new();
    for (partition, mut files) in partitions {
        files.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
        let sizes: Vec<u64> = files.iter().map(|file| file.size).collect();
        for range in ranges(&sizes, target) {
            merges.push_back(Merge { partition: partition.clone(), files: files[range].to_vec() });
        }
    }
    Ok(merges)
}

/// Which neighbours are put together, given the sizes of a partition's files in their order.
fn ranges(sizes: &[u64], target: u64) -> Vec<Range<usize>> {
    let is_small = |index: usize| sizes[index] < target / 2;
    let mut found = vec![];
    let mut from = 0;
    while from < sizes.len() {
        let to = (from..sizes.len()).find(|index| !is_small(*index)).unwrap_or(sizes.len());
        worthwhile(sizes, from..to, &mut found);
        from = to + 1;
    }
    found.into_iter().flat_map(|range| filled(sizes, range, target)).collect()
}

/// Parts of a row of small files that are long enough, and in which no file is larger than all others together.
fn worthwhile(sizes: &[u64], row: Range<usize>, found: &mut Vec<Range<usize>>) {
    if row.len() < FEWEST {
        return;
    }
    let total: u64 = sizes[row.clone()].iter().sum();
    // The last of several that are equally large: the newest files are put together with what comes after them.
    let largest = row.clone().max_by_key(|index| sizes[*index]).unwrap_or(row.start);
    if sizes[largest] <= total / 2 {
        found.push(row);
        return;
    }
    worthwhile(sizes, row.start..largest, found);
    worthwhile(sizes, largest + 1..row.end, found);
}

/// Cuts a row of files into parts that make one file each.
fn filled(sizes: &[u64], row: Range<usize>, target: u64) -> Vec<Range<usize>> {
    let mut parts = vec![];
    let (mut from, mut total) = (row.start, 0);
    for index in row.clone() {
        if index > from && (total + sizes[index] > target || index - from == MOST) {
            parts.push(from..index);
            (from, total) = (index, 0);
        }
        total += sizes[index];
    }
    parts.push(from..row.end);
    parts.retain(|part| part.len() > 1);
    parts
}

/// Writes small files anew.
pub(super) struct Compactor<'a> {
    pub(super) table: &'a DeltaTable,
    /// A file is not made larger than this, about.
    pub(super) target: u64,
    /// The time, in milliseconds since 1970.
    pub(super) now: i64,
    /// Cancelled when there is no time for more.
    pub(super) stop: &'a CancellationToken,
}

impl Compactor<'_> {
    /// Writes as many files as go into one commit, or as there is time for, and takes them out of `merges`. With that,
    /// what could not be put together, and why.
    pub(super) async fn rewrite(&self, merges: &mut VecDeque<Merge>) -> (Compacted, Option<(Merge, Failure)>) {
        let mut done = Compacted::default();
        while done.bytes < COMMIT_FILES * self.target
            && let Some(merge) = merges.pop_front()
        {
            match self.merge(&merge).await {
                Ok(Some(add)) => {
                    crash_point!("sink.delta.amid_compaction");
                    done.include(merge, add, self.now);
                }
                Ok(None) => break,
                Err(failure) => return (done, Some((merge, failure))),
            }
        }
        (done, None)
    }

    /// Removes what was written for a commit that is not made.
    pub(super) async fn discard(&self, done: &Compacted) {
        let store = self.table.object_store();
        for path in &done.written {
            if let Err(error) = store.delete(path).await {
                tracing::debug!("{path} stays until it is old enough to be vacuumed: {error}");
            }
        }
    }

    /// One file in place of several; `None` when there was no time.
    async fn merge(&self, merge: &Merge) -> Result<Option<Add>, Failure> {
        let folder = merge.files.first().and_then(|file| file.remove.path.rsplit_once('/'));
        let folder = folder.map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
        let name = format!("{folder}part-{:032x}.zstd.parquet", rand::random::<u128>());
        let place = BufWriter::new(self.table.object_store(), stored_at(&name));
        let options = ArrowWriterOptions::new().with_properties(properties()).with_skip_arrow_metadata(true);
        let schema = self.file_schema()?;
        let writer = AsyncArrowWriter::try_new_with_options(place, schema.clone(), options);
        let mut writer = writer.map_err(DeltaTableError::from)?;
        match self.copy(merge, &schema, &mut writer).await {
            Ok(true) => {}
            broken_off => {
                // What stays of it is nobody's.
                let _ = writer.into_inner().abort().await;
                return broken_off.map(|_| None);
            }
        }
        let metadata = writer.finish().await.map_err(DeltaTableError::from)?;
        Ok(Some(Add {
            path: name,
            partition_values: merge.partition.clone().into_iter().collect(),
            size: writer.bytes_written() as i64,
            // As old as its youngest rows, so that it keeps its place before those that came later.
            modification_time: merge.files.iter().map(|file| file.written).max().unwrap_or(self.now),
            data_change: false,
            stats: Some(stats(&metadata)),
            ..Add::default()
        }))
    }

    /// All rows of the files, in their order, or false when there was no time.
    async fn copy(
        &self,
        merge: &Merge,
        schema: &SchemaRef,
        writer: &mut AsyncArrowWriter<BufWriter>,
    ) -> Result<bool, Failure> {
        let reader = ParquetFileReader::new(self.table.object_store());
        for file in &merge.files {
            let unread = |error: DeltaTableError| Failure { file: Some(file.path.clone()), error };
            let mut rows = 0;
            let mut batches = reader.read_file(file.path.clone()).await.map_err(unread)?;
            while let Some(batch) = batches.try_next().await.map_err(unread)? {
                if self.stop.is_cancelled() {
                    return Ok(false);
                }
                rows += batch.num_rows();
                // Older files lack the columns that were added since.
                let batch = cast_record_batch(&batch, schema.clone(), false, true).map_err(unread)?;
                writer.write(&batch).await.map_err(DeltaTableError::from)?;
                // It takes all the time that there is otherwise.
                tokio::task::yield_now().await;
            }
            if let Some(expected) = file.rows
                && expected != rows
            {
                return Err(unread(DeltaTableError::generic(format!(
                    "it has {rows} rows, but the log says {expected}"
                ))));
            }
        }
        Ok(true)
    }

    /// The columns that are in files: those of the table but for what the folders are named by.
    fn file_schema(&self) -> Result<SchemaRef, DeltaTableError> {
        let state = self.table.snapshot()?;
        let folders = state.metadata().partition_columns();
        let whole = state.snapshot().arrow_schema();
        let fields = whole.fields().iter().filter(|field| !folders.contains(field.name()));
        Ok(Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>())))
    }
}

impl Compacted {
    fn include(&mut self, merge: Merge, add: Add, now: i64) {
        self.bytes += merge.files.iter().map(|file| file.size).sum::<u64>();
        self.written.push(stored_at(&add.path));
        for file in merge.files {
            self.replaced.insert(file.remove.path.clone());
            if !planted(Bug::CompactedTwice) {
                self.actions.push(Action::Remove(Remove { deletion_timestamp: Some(now), ..file.remove }));
            }
        }
        self.actions.push(Action::Add(add));
    }
}

/// Where a file is that the log calls so.
fn stored_at(path: &str) -> Path {
    Path::parse(path).unwrap_or_else(|_| Path::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_again_a_few_times_in_all() {
        let (target, mut rewritten, mut most) = (1000, 0, 0);
        let mut sizes: Vec<u64> = vec![];
        for _ in 0..50_000 {
            sizes.push(1);
            for range in ranges(&sizes, target).into_iter().rev() {
                let together = sizes[range.clone()].iter().sum();
                rewritten += together;
                sizes.splice(range, [together]);
            }
            most = most.max(sizes.iter().filter(|size| **size < target / 2).count());
        }
        assert_eq!(sizes.iter().sum::<u64>(), 50_000);
        assert!(rewritten < 9 * 50_000, "each row {} times", rewritten as f64 / 50_000.0);
        assert!(most < 2 * FEWEST, "{most} small files at a time");
        assert!(sizes.iter().all(|size| *size <= target));
    }

    #[test]
    fn large_files_and_few_small_ones_stay_as_they_are() {
        let none: [Range<usize>; 0] = [];
        // clippy takes an array of one range for a mistake.
        let one = |range: Range<usize>| vec![range];
        assert_eq!(ranges(&[1; 9], 1000), none);
        assert_eq!(ranges(&[1; 10], 1000), one(0..10));
        // One that is half as large as it may be is as good as any.
        let (few, large) = ([1; 9], [500]);
        assert_eq!(ranges(&[&few[..], &large, &few].concat(), 1000), none);
        assert_eq!(ranges(&[&[1; 10][..], &large, &[1; 12]].concat(), 1000), [0..10, 11..23]);
        // One that is larger than all that came since waits until they are as large.
        assert_eq!(ranges(&[&[100][..], &[1; 10]].concat(), 1000), one(1..11));
        assert_eq!(ranges(&[&[100][..], &[10; 10]].concat(), 1000), one(0..11));
        assert_eq!(ranges(&[], 1000), none);
    }

    #[test]
    fn a_file_is_filled_and_no_more() {
        assert_eq!(ranges(&[300; 10], 1000), [0..3, 3..6, 6..9]);
        assert_eq!(ranges(&[1; 2500], 100_000), [0..1000, 1000..2000, 2000..2500]);
    }
}
