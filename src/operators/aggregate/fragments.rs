//! Pieces of sessions: rows or other pieces of a key whose spans touch, merged into one.
//!
//! A fragment is a row of a partial state: a span `[start, end)`, what it is too late for
//! ([`super::layout::FROM`]), its groups and its states. Fragments with the same groups and the same `from` that
//! overlap are always in the same session, so they are merged wherever they meet; across different `from` only the
//! final phase knows ([`super::sessions`]).

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::take_arrays;
use datafusion::common::Result;

use super::accumulators::{Accumulators, concat_columns};
use super::groups::{EvaluatedRows, GroupNumbers};
use super::layout::Layout;

/// The spans of some rows or fragments.
struct Spans<'a> {
    starts: &'a [i64],
    ends: &'a [i64],
    froms: &'a [i64],
}

/// Which fragment each row goes to, and the fragments' own spans.
struct Chains {
    indices: Vec<usize>,
    starts: Vec<i64>,
    ends: Vec<i64>,
    froms: Vec<i64>,
    /// A row of each fragment, for its groups.
    sample: Vec<u32>,
}

impl Chains {
    /// Chains spans of equal key and `from` that overlap. Spans that only touch stay apart: two rows exactly a gap
    /// apart are in two sessions.
    fn new(keys: &[usize], spans: &Spans) -> Chains {
        let rows = keys.len();
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_by_key(|&row| {
            let row = row as usize;
            (keys[row], spans.froms[row], spans.starts[row])
        });
        let mut chains = Chains { indices: vec![0; rows], starts: vec![], ends: vec![], froms: vec![], sample: vec![] };
        let mut previous = None;
        for row in order {
            let at = row as usize;
            let key = (keys[at], spans.froms[at]);
            match (previous == Some(key)).then(|| chains.ends.last_mut()).flatten() {
                Some(end) if spans.starts[at] < *end => *end = spans.ends[at].max(*end),
                _ => {
                    chains.starts.push(spans.starts[at]);
                    chains.ends.push(spans.ends[at]);
                    chains.froms.push(spans.froms[at]);
                    chains.sample.push(row);
                }
            }
            previous = Some(key);
            chains.indices[at] = chains.starts.len() - 1;
        }
        chains
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    fn into_batch(self, layout: &Layout, groups: &[ArrayRef], states: Vec<ArrayRef>) -> Result<RecordBatch> {
        let rows = self.len();
        let mut rest = take_arrays(groups, &UInt32Array::from(self.sample), None)?;
        rest.extend(states);
        let keys = [self.starts, self.ends, self.froms];
        let keys = keys.map(|key| Arc::new(TimestampNanosecondArray::from(key)) as ArrayRef);
        layout.partial_batch(keys.into(), rest, rows)
    }
}

/// Aggregates rows to fragments. Row *i* spans `[starts[i], starts[i] + gap)`.
pub(super) fn fragments_of_rows(
    layout: &Layout,
    rows: &EvaluatedRows,
    gap: i64,
    starts: &[i64],
    froms: &[i64],
) -> Result<RecordBatch> {
    let mut keys = vec![];
    GroupNumbers::new(layout)?.intern(&rows.groups, rows.rows, &mut keys)?;
    let ends: Vec<i64> = starts.iter().map(|start| start + gap).collect();
    let chains = Chains::new(&keys, &Spans { starts, ends: &ends, froms });
    let mut accumulators = Accumulators::new(layout)?;
    accumulators.update(layout, &rows.arguments, &chains.indices, chains.len())?;
    let states = accumulators.take_states()?;
    chains.into_batch(layout, &rows.groups, states)
}

/// Merges fragments as far as they are in the same session whatever else comes. `batches` is not empty.
pub(super) fn merge_fragments(layout: &Layout, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let columns: Vec<&[ArrayRef]> = batches.iter().map(RecordBatch::columns).collect();
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let all = layout.partial_batch(concat_columns(&columns)?, vec![], rows)?;
    let mut keys = vec![];
    GroupNumbers::new(layout)?.intern(layout.groups_of(&all), rows, &mut keys)?;
    let spans = Spans { starts: layout.key(&all, 0)?, ends: layout.key(&all, 1)?, froms: layout.key(&all, 2)? };
    let chains = Chains::new(&keys, &spans);
    if chains.len() == rows {
        return Ok(all);
    }
    let mut accumulators = Accumulators::new(layout)?;
    accumulators.merge(layout, layout.states_of(&all), &chains.indices, chains.len())?;
    let states = accumulators.take_states()?;
    chains.into_batch(layout, layout.groups_of(&all), states)
}
