//! A source read again from its history: the rows that a Delta table has recorded of it, split by split, each split in
//! the order of its offsets.
//!
//! What a stream computes depends on the order of rows within each split and on nothing else that a run could choose:
//! watermarks are each split's own. So the same rows in that order give the same results, in whatever files they lie
//! and however often these were rewritten. [`index`] finds where the rows of each split are, [`merge`] puts them in
//! order, and [`shelf`] lets splits that lie side by side in a file share the work of reading it. The splits go on
//! together by event time, so that no window stays open longer than it has to.

mod index;
mod merge;
mod shelf;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, max};
use arrow::datatypes::{Schema, SchemaRef, TimestampNanosecondType};
use async_trait::async_trait;
use tokio::sync::Mutex;

use self::index::{Index, SplitKey};
use self::merge::SplitRows;
use self::shelf::Shelf;
use super::events::{Halt, Outlet, Reading, read_ahead};
use super::place::DeltaPlace;
use super::reading::{Pinned, refused};
use crate::connectors::{Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceEvent, SourceFactory};
use crate::formats::{SplitIndex, SplitRun};
use crate::operators::window::TIME_TYPE;

/// How much is held at a time.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// Rows that are read, kept and filtered at a time.
    chunk_rows: usize,
    /// Bytes of chunks that are kept for other splits.
    kept_bytes: usize,
}

impl Default for Reach {
    fn default() -> Reach {
        Reach { chunk_rows: 8192, kept_bytes: 256 << 20 }
    }
}

/// The columns of a history that say where a row stood in its source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlaceColumns {
    /// The topic, or the file's path, if that is recorded.
    pub topic: Option<String>,
    /// The number of the partition, if that is recorded.
    pub partition: Option<String>,
    /// The place in the partition.
    pub offset: String,
}

/// A source with its history.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The table that is recorded.
    pub table: String,
    /// The table that records it.
    pub history: String,
    /// Where that lies.
    pub place: DeltaPlace,
    /// Where each row stood.
    pub columns: PlaceColumns,
    /// What the splits are named by if the topic is not recorded: the only topic, or the table.
    pub topic: String,
    /// The column that is the event time, if one is.
    pub event_time: Option<String>,
}

/// Reads a source's history in its place.
pub fn recorded(recording: Recording) -> Arc<dyn SourceFactory> {
    Arc::new(RecordedFactory { recording, reach: Reach::default(), opened: Mutex::default() })
}

struct RecordedFactory {
    recording: Recording,
    reach: Reach,
    /// What all instances of a run read.
    opened: Mutex<Option<Arc<Opened>>>,
}

/// A history at one version, looked through.
struct Opened {
    table: Arc<Pinned>,
    index: Index,
    /// For all instances; made with the first, which knows the columns.
    shelf: std::sync::OnceLock<Arc<Shelf>>,
}

#[async_trait]
impl SourceFactory for RecordedFactory {
    /// As a topic, it goes on growing.
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Rows
    }

    fn describe(&self) -> String {
        format!("history {} of {}, {}", self.recording.history, self.recording.table, self.recording.place.describe())
    }

    async fn instances(&self, _: &SourceContext, parallelism: usize) -> Result<usize, ConnectorError> {
        let opened = self.recording.open(self.reach).await?;
        let splits = opened.index.splits.len();
        *self.opened.lock().await = Some(Arc::new(opened));
        Ok(splits.clamp(1, parallelism.max(1)))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let opened = match &mut *self.opened.lock().await {
            Some(opened) => Arc::clone(opened),
            none => Arc::clone(none.insert(Arc::new(self.recording.open(self.reach).await?))),
        };
        opened.table.must_have(&context.schema)?;
        let shelf = opened.shelf.get_or_init(|| {
            let mut fields = context.schema.fields().to_vec();
            fields.extend(self.recording.columns.schema().fields().iter().cloned());
            let chunks = opened.index.chunks.clone();
            Arc::new(Shelf::new(Arc::clone(&opened.table), Arc::new(Schema::new(fields)), chunks, self.reach))
        });
        let mine = opened.index.splits.iter().skip(context.instance).step_by(context.instances.max(1));
        let mut splits = vec![];
        for (key, runs) in mine {
            let name = self.recording.split_name(key);
            let position = context.positions.get(&name).copied().unwrap_or(i64::MIN);
            let (what, shelf) = (opened.table.what.clone(), Arc::clone(shelf));
            let rows = SplitRows::new(name, what, key.clone(), runs, shelf, context.schema.fields().len(), position);
            splits.push(Split { index: SplitIndex(splits.len() as u32), rows, reached: None });
        }
        let replay = Replay {
            splits,
            table: self.recording.table.clone(),
            event_time: self.recording.time_column(&context.schema),
            batch_size: context.batch_size.max(1),
        };
        Ok(read_ahead(opened.table.what.clone(), None, context.stop.clone(), replay))
    }
}

impl Recording {
    async fn open(&self, reach: Reach) -> Result<Opened, ConnectorError> {
        let Some(table) = Pinned::open(&self.place, None).await? else {
            let message = format!(
                "nothing of {} has been recorded there yet: 'acequia run' makes the table and commits to it every few \
                 seconds",
                self.table
            );
            return Err(refused(&self.place.describe(), message));
        };
        let table = Arc::new(table);
        let index = Index::of(&table, &self.columns, reach.chunk_rows).await?;
        let rows: u64 = index.splits.values().flatten().map(|run| run.rows).sum();
        tracing::info!(
            "{}: {rows} rows in {} splits, recorded in {} up to version {}",
            self.table,
            index.splits.len(),
            self.history,
            table.version
        );
        Ok(Opened { table, index, shelf: std::sync::OnceLock::new() })
    }

    /// The name that the split had in the source.
    fn split_name(&self, key: &SplitKey) -> String {
        let topic = key.topic.as_ref().unwrap_or(&self.topic);
        match key.partition {
            Some(partition) => format!("{topic}[{partition}]"),
            None => topic.clone(),
        }
    }

    /// Which column that is read is the event time.
    fn time_column(&self, schema: &SchemaRef) -> Option<usize> {
        schema.index_of(self.event_time.as_ref()?).ok()
    }
}

/// A split at work.
struct Split {
    index: SplitIndex,
    rows: SplitRows,
    /// The latest event time so far.
    reached: Option<i64>,
}

/// Sends the rows of some splits.
struct Replay {
    splits: Vec<Split>,
    /// The table that is recorded.
    table: String,
    /// The column that is the event time, if it is read as it is.
    event_time: Option<usize>,
    batch_size: usize,
}

#[async_trait]
impl Reading for Replay {
    async fn read(mut self, outlet: &Outlet) -> Result<(), Halt> {
        for split in &self.splits {
            outlet.send(SourceEvent::Split(split.index, split.rows.name.clone(), None)).await?;
        }
        while let Some(at) = self.hindmost() {
            let split = &mut self.splits[at];
            let Some((batch, offsets)) = split.rows.next(self.batch_size).await? else {
                let split = self.splits.swap_remove(at);
                if let Some((rows, first)) = split.rows.recorded_again() {
                    tracing::warn!(
                        "{}: {rows} rows of {} are recorded more than once, first offset {first}; each counts once",
                        self.table,
                        split.rows.name
                    );
                }
                outlet.send(SourceEvent::SplitEnd(split.index)).await?;
                continue;
            };
            if let Some(column) = self.event_time {
                split.reached = split.reached.max(latest(&batch, column));
            }
            let runs = vec![SplitRun { split: split.index, rows: batch.num_rows() }];
            outlet.send(SourceEvent::Rows(batch, runs, offsets)).await?;
        }
        Ok(())
    }
}

impl Replay {
    /// The split that is furthest behind in event time; or in rows, where event times are not read as they are.
    fn hindmost(&self) -> Option<usize> {
        (0..self.splits.len()).min_by(|a, b| {
            let (a, b) = (&self.splits[*a], &self.splits[*b]);
            a.reached.cmp(&b.reached).then(a.rows.progress().total_cmp(&b.rows.progress()))
        })
    }
}

/// The latest moment in a column.
fn latest(batch: &RecordBatch, column: usize) -> Option<i64> {
    let times = cast(batch.column(column), &TIME_TYPE).ok()?;
    max(times.as_primitive_opt::<TimestampNanosecondType>()?)
}
