//! The second phase: partial states to windows, behind the exchange.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, exec_err};

use super::super::window::{WindowAggregate, WindowKind};
use super::super::{InputIndex, Operator, Output};
use super::accumulators::Accumulators;
use super::lateness::Place;
use super::layout::{Bounds, Layout, nanoseconds};
use super::panes::PaneStore;
use super::sessions::SessionStore;
use super::sliding::SlidingStore;
use crate::time::EventTime;

/// The key in a snapshot's schema metadata with the operator's watermark at the barrier, in nanoseconds.
pub const WATERMARK: &str = "acequia.watermark";

/// At most about this many rows are put into one batch of a snapshot.
const SNAPSHOT_ROWS: usize = 16 * 1024;

/// Merges partial states and turns each window into rows when the watermark closes it.
///
/// Input: states in [`WindowAggregate::partial_schema`]. Output [`super::super::MAIN`]: rows of
/// [`WindowAggregate::output`], windows by end. With `early`, a tick publishes the windows that are open, too.
///
/// A snapshot is what came since the barrier before, without what has closed. Its schema is the partial one, and its
/// metadata holds the watermark ([`WATERMARK`]): state of windows that it had closed is not brought back. Whoever
/// gives a snapshot's rows to other instances must give each of them the watermark too, by a batch without rows if
/// none of the rows is its own.
pub struct FinalAggregate {
    layout: Arc<Layout>,
    store: Store,
    early: bool,
    /// Whether this instance makes the row of an aggregate over nothing.
    answers_for_nothing: bool,
    watermark: i64,
    delta: Delta,
    snapshot_watermark: i64,
    /// The watermark of the newest snapshot taken back, until it has been applied.
    restored: Option<i64>,
}

enum Store {
    Panes(PaneStore),
    Sliding(SlidingStore),
    Sessions(SessionStore),
}

impl FinalAggregate {
    /// Makes instance `instance` of the operator.
    ///
    /// # Errors
    /// As [`WindowAggregate::check`] says.
    pub fn new(spec: Arc<WindowAggregate>, early: bool, instance: usize) -> Result<FinalAggregate> {
        let layout = Arc::new(Layout::new(&spec)?);
        let store = match spec.window {
            WindowKind::Hop { slide, width } => Store::Sliding(SlidingStore::new(Arc::clone(&layout), slide, width)),
            WindowKind::Session { .. } => Store::Sessions(SessionStore::new(Arc::clone(&layout), early)?),
            _ => Store::Panes(PaneStore::new(Arc::clone(&layout))),
        };
        let global = spec.window == WindowKind::Global && spec.group_by.is_empty();
        Ok(FinalAggregate {
            layout,
            store,
            early,
            answers_for_nothing: global && instance == 0,
            watermark: EventTime::MIN.0,
            delta: Delta::default(),
            snapshot_watermark: EventTime::MIN.0,
            restored: None,
        })
    }

    /// States that have been merged into others so far, rows of partial states included: the work that this does.
    pub fn states_merged(&self) -> u64 {
        self.layout.states_merged.load(Ordering::Relaxed)
    }

    /// Puts states into the store; with `record`, also into the next snapshot.
    fn insert(&mut self, batch: RecordBatch, record: bool) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.num_columns() != self.layout.partial.fields().len() {
            return exec_err!("a partial state has {} columns, not those of this aggregation", batch.num_columns());
        }
        if let Store::Sessions(sessions) = &mut self.store {
            if record {
                self.delta.push(i64::MAX, batch.clone());
            }
            return sessions.insert(batch);
        }
        for (place, offset, rows) in runs(&self.layout, &batch)? {
            let last_use = last_use(self.layout.window, place);
            if last_use <= self.watermark {
                continue;
            }
            let run = batch.slice(offset, rows);
            let (groups, states) = (self.layout.groups_of(&run), self.layout.states_of(&run));
            match &mut self.store {
                Store::Panes(panes) => panes.insert(place.pane, groups, states, rows)?,
                Store::Sliding(sliding) => sliding.insert(place, groups, states, rows)?,
                Store::Sessions(_) => {}
            }
            if record {
                self.delta.push(last_use, run);
            }
        }
        Ok(())
    }

    fn close(&mut self, watermark: i64, wanted: bool) -> Result<Vec<RecordBatch>> {
        let results = match &mut self.store {
            Store::Panes(panes) => panes.close(watermark, wanted),
            Store::Sliding(sliding) => sliding.close(watermark, wanted),
            Store::Sessions(sessions) => sessions.close(watermark, wanted),
        }?;
        self.delta.prune(watermark);
        Ok(results)
    }

    /// Closes without a result what was closed when the newest snapshot was taken.
    fn apply_restored_watermark(&mut self) -> Result<()> {
        if let Some(watermark) = self.restored.take() {
            self.close(watermark, false)?;
            self.watermark = self.watermark.max(watermark);
            self.snapshot_watermark = self.watermark;
        }
        Ok(())
    }

    /// Whether this instance has to answer for an input without any row.
    fn nothing_came(&self) -> bool {
        self.answers_for_nothing && matches!(&self.store, Store::Panes(panes) if panes.is_empty())
    }

    /// The schema of a snapshot, with the watermark.
    fn snapshot_schema(&self) -> SchemaRef {
        let metadata = HashMap::from([(WATERMARK.to_owned(), self.watermark.to_string())]);
        Arc::new(Schema::new_with_metadata(self.layout.partial.fields().clone(), metadata))
    }

    fn emit(&self, results: Vec<RecordBatch>, out: &mut Output) -> Result<()> {
        match results.len() {
            0 | 1 => results.into_iter().for_each(|batch| out.emit(batch)),
            _ => out.emit(concat_batches(&self.layout.output, &results)?),
        }
        Ok(())
    }
}

/// The watermark that closes the last window which the state of `place` counts in.
fn last_use(window: WindowKind, place: Place) -> i64 {
    match window {
        WindowKind::Tumble { width } | WindowKind::Hop { width, .. } => place.pane.saturating_add(width - 1),
        WindowKind::Instant => place.pane,
        WindowKind::Global | WindowKind::Session { .. } => i64::MAX,
    }
}

/// Stretches of rows with the same key, with offset and length.
fn runs(layout: &Layout, batch: &RecordBatch) -> Result<Vec<(Place, usize, usize)>> {
    let panes = nanoseconds(batch.column(0))?;
    let froms = if layout.keys > 1 { Some(nanoseconds(batch.column(1))?) } else { None };
    let place = |row: usize| Place { pane: panes[row], from: froms.map_or(0, |froms| froms[row]) };
    let mut runs: Vec<(Place, usize, usize)> = vec![];
    for row in 0..batch.num_rows() {
        match runs.last_mut() {
            Some((last, _, rows)) if *last == place(row) => *rows += 1,
            _ => runs.push((place(row), row, 1)),
        }
    }
    Ok(runs)
}

impl Operator for FinalAggregate {
    fn on_batch(&mut self, _input: InputIndex, batch: RecordBatch, _out: &mut Output) -> Result<()> {
        self.apply_restored_watermark()?;
        self.insert(batch, true)
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.apply_restored_watermark()?;
        if watermark.0 <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark.0;
        if watermark == EventTime::MAX && self.nothing_came() {
            let nothing = Accumulators::results_of_nothing(&self.layout)?;
            out.emit(self.layout.output_batch(Bounds::constant(0, 0, 1), nothing)?);
        }
        let results = self.close(self.watermark, true)?;
        self.emit(results, out)
    }

    fn on_tick(&mut self, out: &mut Output) -> Result<()> {
        if !self.early {
            return Ok(());
        }
        self.apply_restored_watermark()?;
        let results = match &mut self.store {
            Store::Panes(panes) => panes.publish(),
            Store::Sliding(sliding) => sliding.publish(self.watermark),
            Store::Sessions(sessions) => sessions.publish(),
        }?;
        self.emit(results, out)
    }

    fn snapshot(&mut self, _out: &mut Output) -> Result<Vec<RecordBatch>> {
        self.apply_restored_watermark()?;
        self.delta.prune_now(self.watermark);
        let unchanged = self.snapshot_watermark == self.watermark;
        self.snapshot_watermark = self.watermark;
        let batches = self.delta.take();
        if batches.is_empty() && unchanged {
            return Ok(vec![]);
        }
        snapshot_batches(&self.snapshot_schema(), batches)
    }

    fn restore(&mut self, state: RecordBatch) -> Result<()> {
        let watermark = state.schema_ref().metadata().get(WATERMARK).and_then(|text| text.parse::<i64>().ok());
        let Some(watermark) = watermark else {
            return exec_err!("a snapshot of a windowed aggregation must carry its watermark ({WATERMARK})");
        };
        if state.schema_ref().fields() != self.layout.partial.fields() {
            return exec_err!(
                "the snapshot holds the state of another aggregation: its columns are {}, here they are {}",
                describe(state.schema_ref()),
                describe(&self.layout.partial)
            );
        }
        // A newer snapshot begins: all of the older ones is here, so what they had closed can go.
        if self.restored.is_some_and(|restored| restored < watermark) {
            self.apply_restored_watermark()?;
        }
        self.restored = Some(watermark);
        self.insert(state, false)
    }

    fn state(&mut self) -> Result<Vec<RecordBatch>> {
        self.apply_restored_watermark()?;
        let schema = self.snapshot_schema();
        let places = match &mut self.store {
            Store::Panes(panes) => panes.states()?,
            Store::Sliding(sliding) => sliding.states()?,
            Store::Sessions(sessions) => return snapshot_batches(&schema, sessions.states()?),
        };
        let filled = places.into_iter().filter(|(_, states)| states.rows > 0);
        let batches = filled.map(|(place, states)| self.layout.batch_at(place, states)).collect::<Result<_>>()?;
        snapshot_batches(&schema, batches)
    }

    fn state_bytes(&self) -> usize {
        match &self.store {
            Store::Panes(panes) => panes.size(),
            Store::Sliding(sliding) => sliding.size(),
            Store::Sessions(sessions) => sessions.size(),
        }
    }
}

fn describe(schema: &Schema) -> String {
    let fields: Vec<String> =
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    fields.join(", ")
}

/// Puts small batches together. One batch without rows if there are none.
fn snapshot_batches(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    if batches.is_empty() {
        return Ok(vec![RecordBatch::new_empty(Arc::clone(schema))]);
    }
    let mut snapshot = vec![];
    let mut rows = 0;
    let mut part: Vec<RecordBatch> = vec![];
    for batch in batches {
        if rows > 0 && rows + batch.num_rows() > SNAPSHOT_ROWS {
            snapshot.push(concat_batches(schema, &part)?);
            part.clear();
            rows = 0;
        }
        rows += batch.num_rows();
        part.push(batch);
    }
    snapshot.push(concat_batches(schema, &part)?);
    Ok(snapshot)
}

/// Partial states that came since the last barrier, each with the watermark after which nobody needs it.
#[derive(Default)]
struct Delta {
    batches: Vec<(i64, RecordBatch)>,
    /// How many there were after the last pruning.
    pruned: usize,
}

impl Delta {
    fn push(&mut self, last_use: i64, batch: RecordBatch) {
        self.batches.push((last_use, batch));
    }

    /// Forgets what `watermark` has made useless, when that is likely to be much.
    fn prune(&mut self, watermark: i64) {
        if self.batches.len() > 2 * self.pruned + 16 {
            self.prune_now(watermark);
        }
    }

    fn prune_now(&mut self, watermark: i64) {
        self.batches.retain(|(last_use, _)| *last_use > watermark);
        self.pruned = self.batches.len();
    }

    fn take(&mut self) -> Vec<RecordBatch> {
        self.pruned = 0;
        std::mem::take(&mut self.batches).into_iter().map(|(_, batch)| batch).collect()
    }
}
