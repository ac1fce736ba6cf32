//! The final phase of windows that do not overlap: tumbling ones, instants and the global one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::Result;

use super::super::window::WindowKind;
use super::groups::{GroupStates, GroupTable};
use super::lateness::{Place, needed_at};
use super::layout::{Bounds, Layout};

/// The open windows, each with its groups.
pub(super) struct PaneStore {
    layout: Arc<Layout>,
    panes: BTreeMap<i64, Pane>,
}

struct Pane {
    table: GroupTable,
    /// Whether states came since it was last published.
    changed: bool,
}

impl PaneStore {
    pub(super) fn new(layout: Arc<Layout>) -> PaneStore {
        PaneStore { layout, panes: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, pane: i64, groups: &[ArrayRef], states: &[ArrayRef], rows: usize) -> Result<()> {
        if !self.panes.contains_key(&pane) {
            self.panes.insert(pane, Pane { table: GroupTable::new(&self.layout)?, changed: true });
        }
        if let Some(open) = self.panes.get_mut(&pane) {
            open.changed = true;
            open.table.merge(groups, states, rows)?;
        }
        Ok(())
    }

    /// Whether no window is open.
    pub(super) fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// Takes out the windows that `watermark` closes; their results, if wanted.
    pub(super) fn close(&mut self, watermark: i64, wanted: bool) -> Result<Vec<RecordBatch>> {
        let mut results = vec![];
        while let Some(first) = self.panes.first_entry() {
            let start = *first.key();
            if needed_at(self.layout.window, Place { pane: start, from: 0 }) > watermark {
                break;
            }
            let pane = first.remove();
            if wanted {
                results.push(self.results(start, pane.table)?);
            }
        }
        Ok(results)
    }

    /// The results so far of every open window that changed since this was last asked.
    pub(super) fn publish(&mut self) -> Result<Vec<RecordBatch>> {
        let mut results = vec![];
        let layout = Arc::clone(&self.layout);
        for (&start, pane) in self.panes.iter_mut().filter(|(_, pane)| pane.changed) {
            pane.changed = false;
            let copy = GroupTable::merged(&layout, [&pane.table.copy_states()?])?;
            results.push(results_of(&layout, start, copy)?);
        }
        Ok(results)
    }

    /// The states of every open window.
    pub(super) fn states(&mut self) -> Result<Vec<(Place, GroupStates)>> {
        let place = |pane| Place { pane, from: 0 };
        self.panes.iter_mut().map(|(&start, pane)| Ok((place(start), pane.table.copy_states()?))).collect()
    }

    fn results(&self, start: i64, table: GroupTable) -> Result<RecordBatch> {
        results_of(&self.layout, start, table)
    }

    pub(super) fn size(&self) -> usize {
        self.panes.values().map(|pane| pane.table.size()).sum()
    }
}

fn results_of(layout: &Layout, start: i64, table: GroupTable) -> Result<RecordBatch> {
    let end = match layout.window {
        WindowKind::Tumble { width } => start + width,
        _ => start,
    };
    let (columns, rows) = table.take_results()?;
    layout.output_batch(Bounds::constant(start, end, rows), columns)
}
