//! The first phase: rows to partial states, in the task that the rows are in.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;

use super::super::window::{EVENT_TIME, ROW_WATERMARK, WindowAggregate, WindowKind};
use super::super::{InputIndex, LATE, Operator, Output};
use super::fragments::{fragments_of_rows, merge_fragments};
use super::groups::{EvaluatedRows, GroupTable};
use super::lateness::{Place, Places, RowTimes, needed_at};
use super::layout::{Layout, nanoseconds};
use crate::time::EventTime;

/// All state is sent on when there are more groups than this.
const MOST_GROUPS: usize = 64 * 1024;
/// All state is sent on when it takes more bytes than this.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The size of states is asked for after this many batches: some accumulators have to add it up.
const BATCHES_BETWEEN_MEASUREMENTS: usize = 16;
/// Fragments of sessions are merged when there are more of them than this and twice as many as after the last time.
const FRAGMENTS_WORTH_MERGING: usize = 8 * 1024;

/// Aggregates rows into the states of their panes, or into fragments of sessions, before the exchange.
///
/// Input: rows of [`WindowAggregate::input`]. Output [`super::super::MAIN`]: states in
/// [`WindowAggregate::partial_schema`]. Output [`LATE`]: rows that are late for all of their windows.
///
/// State leaves before the watermark that needs it is forwarded; at a barrier and on a tick everything leaves, so that
/// there is nothing to snapshot.
pub struct PartialAggregate {
    layout: Arc<Layout>,
    group_by: Vec<Arc<dyn PhysicalExpr>>,
    event_time: usize,
    row_watermark: Option<usize>,
    watermark: i64,
    held: Held,
    late_rows: u64,
    rows_aggregated: u64,
    batches_since_measurement: usize,
}

/// What has not been sent on yet.
enum Held {
    Panes(BTreeMap<Place, GroupTable>),
    Fragments(Fragments),
}

/// Fragments of sessions that have not been sent on yet.
struct Fragments {
    gap: i64,
    batches: Vec<RecordBatch>,
    rows: usize,
    /// Rows when they were last merged.
    merged_rows: usize,
    first_start: i64,
}

impl PartialAggregate {
    /// Makes the operator.
    ///
    /// # Errors
    /// As [`WindowAggregate::check`] says.
    pub fn new(spec: Arc<WindowAggregate>) -> Result<PartialAggregate> {
        let layout = Arc::new(Layout::new(&spec)?);
        let held = match spec.window {
            WindowKind::Session { gap } => Held::Fragments(Fragments::new(gap)),
            _ => Held::Panes(BTreeMap::new()),
        };
        Ok(PartialAggregate {
            layout,
            group_by: spec.group_by.iter().map(|(expression, _)| Arc::clone(expression)).collect(),
            event_time: spec.input.index_of(EVENT_TIME)?,
            row_watermark: spec.input.index_of(ROW_WATERMARK).ok(),
            watermark: EventTime::MIN.0,
            held,
            late_rows: 0,
            rows_aggregated: 0,
            batches_since_measurement: 0,
        })
    }

    /// Rows that have been aggregated: each once, whatever number of windows it is in.
    pub fn rows_aggregated(&self) -> u64 {
        self.rows_aggregated
    }

    fn send_late(&mut self, batch: &RecordBatch, late: Vec<u32>, out: &mut Output) -> Result<()> {
        if !late.is_empty() {
            self.late_rows += late.len() as u64;
            out.emit_to(LATE, take_record_batch(batch, &UInt32Array::from(late))?);
        }
        Ok(())
    }

    fn flush_if_large(&mut self, out: &mut Output) -> Result<()> {
        let groups = match &mut self.held {
            Held::Panes(panes) => panes.values().map(GroupTable::len).sum(),
            Held::Fragments(fragments) => {
                fragments.merge_if_worthwhile(&self.layout)?;
                fragments.rows
            }
        };
        self.batches_since_measurement += 1;
        let measure = self.batches_since_measurement >= BATCHES_BETWEEN_MEASUREMENTS;
        if measure {
            self.batches_since_measurement = 0;
        }
        if groups > MOST_GROUPS || (measure && self.state_bytes() > MOST_BYTES) {
            self.flush(i64::MAX, out)?;
        }
        Ok(())
    }

    /// Sends on all state that the final phase needs before it sees `watermark`.
    fn flush(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        match &mut self.held {
            Held::Fragments(fragments) => {
                // A fragment may bridge what would close otherwise, so all go as soon as one is needed.
                if fragments.rows > 0 && fragments.first_start <= watermark {
                    out.emit(fragments.take(&self.layout)?);
                }
            }
            Held::Panes(panes) => {
                let window = self.layout.window;
                let mut batches = vec![];
                for (place, table) in panes.extract_if(.., |place, _| needed_at(window, *place) <= watermark) {
                    batches.push(self.layout.batch_at(place, table.take_states()?)?);
                }
                match batches.len() {
                    0 => {}
                    1 => batches.into_iter().for_each(|batch| out.emit(batch)),
                    _ => out.emit(concat_batches(&self.layout.partial, &batches)?),
                }
            }
        }
        Ok(())
    }
}

/// Aggregates all of `rows` into the pane at `place`.
fn update_pane(
    layout: &Arc<Layout>,
    panes: &mut BTreeMap<Place, GroupTable>,
    place: Place,
    rows: &EvaluatedRows,
) -> Result<()> {
    use std::collections::btree_map::Entry;
    match panes.entry(place) {
        Entry::Occupied(pane) => pane.into_mut().update(rows),
        Entry::Vacant(pane) => pane.insert(GroupTable::new(layout)?).update(rows),
    }
}

impl Operator for PartialAggregate {
    fn on_batch(&mut self, _input: InputIndex, batch: RecordBatch, out: &mut Output) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let window = self.layout.window;
        let times = RowTimes {
            times: nanoseconds(batch.column(self.event_time))?,
            watermarks: self.row_watermark.map(|column| nanoseconds(batch.column(column))).transpose()?,
            watermark: self.watermark,
        };
        let late = match &mut self.held {
            Held::Panes(panes) => {
                if let Some(place) = times.common_place(window) {
                    let rows = EvaluatedRows::new(&self.layout, &self.group_by, &batch)?;
                    update_pane(&self.layout, panes, place, &rows)?;
                    vec![]
                } else {
                    let places = Places::new(window, &times);
                    // Late rows are left out before anything is evaluated: they must not make an expression fail.
                    let (rows, in_order) = if places.late.is_empty() {
                        (EvaluatedRows::new(&self.layout, &self.group_by, &batch)?, places.in_order())
                    } else {
                        let kept = take_record_batch(&batch, &UInt32Array::from(places.order.clone()))?;
                        (EvaluatedRows::new(&self.layout, &self.group_by, &kept)?, true)
                    };
                    let rows = if in_order { rows } else { rows.take(&UInt32Array::from(places.order))? };
                    let mut offset = 0;
                    for (place, count) in places.runs {
                        update_pane(&self.layout, panes, place, &rows.slice(offset, count))?;
                        offset += count;
                    }
                    places.late
                }
            }
            Held::Fragments(fragments) => fragments.add_rows(&self.layout, &self.group_by, &batch, &times)?,
        };
        self.rows_aggregated += (batch.num_rows() - late.len()) as u64;
        self.send_late(&batch, late, out)?;
        self.flush_if_large(out)
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark.0);
        self.flush(self.watermark, out)
    }

    fn on_tick(&mut self, out: &mut Output) -> Result<()> {
        self.flush(i64::MAX, out)
    }

    fn snapshot(&mut self, out: &mut Output) -> Result<Vec<RecordBatch>> {
        self.flush(i64::MAX, out)?;
        Ok(vec![])
    }

    fn state_bytes(&self) -> usize {
        match &self.held {
            Held::Panes(panes) => panes.values().map(GroupTable::size).sum(),
            Held::Fragments(fragments) => fragments.batches.iter().map(RecordBatch::get_array_memory_size).sum(),
        }
    }

    fn late_rows(&self) -> u64 {
        self.late_rows
    }

    fn aggregated_rows(&self) -> u64 {
        self.rows_aggregated
    }
}

impl Fragments {
    fn new(gap: i64) -> Fragments {
        Fragments { gap, batches: vec![], rows: 0, merged_rows: 0, first_start: i64::MAX }
    }

    /// Adds the rows that are in time and returns the others.
    fn add_rows(
        &mut self,
        layout: &Layout,
        group_by: &[Arc<dyn PhysicalExpr>],
        batch: &RecordBatch,
        times: &RowTimes,
    ) -> Result<Vec<u32>> {
        let (mut starts, mut froms) = (vec![], vec![]);
        let (mut kept, mut late) = (vec![], vec![]);
        for (row, &time) in times.times.iter().enumerate() {
            match super::lateness::place(layout.window, time, times.watermark(row)) {
                Some(place) => {
                    starts.push(place.pane);
                    froms.push(place.from);
                    kept.push(row as u32);
                }
                None => late.push(row as u32),
            }
        }
        let Some(&first) = starts.iter().min() else { return Ok(late) };
        let rows = if late.is_empty() {
            EvaluatedRows::new(layout, group_by, batch)?
        } else {
            EvaluatedRows::new(layout, group_by, &take_record_batch(batch, &UInt32Array::from(kept))?)?
        };
        let fragments = fragments_of_rows(layout, &rows, self.gap, &starts, &froms)?;
        self.first_start = self.first_start.min(first);
        self.rows += fragments.num_rows();
        self.batches.push(fragments);
        Ok(late)
    }

    fn merge_if_worthwhile(&mut self, layout: &Layout) -> Result<()> {
        if self.rows > FRAGMENTS_WORTH_MERGING.max(2 * self.merged_rows) {
            self.merge(layout)?;
        }
        Ok(())
    }

    fn merge(&mut self, layout: &Layout) -> Result<()> {
        if self.batches.len() > 1 {
            self.batches = vec![merge_fragments(layout, &self.batches)?];
            self.rows = self.batches[0].num_rows();
        }
        self.merged_rows = self.rows;
        Ok(())
    }

    /// Takes all fragments, of which there is at least one.
    fn take(&mut self, layout: &Layout) -> Result<RecordBatch> {
        self.merge(layout)?;
        let mut taken = std::mem::replace(self, Fragments::new(self.gap));
        Ok(taken.batches.swap_remove(0))
    }
}
