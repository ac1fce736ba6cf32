//! A hash table from group values to accumulators, and its content at rest.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_arrays;
use datafusion::common::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use std::sync::Arc;

use super::accumulators::{Accumulators, Arguments};
use super::layout::Layout;

/// Rows made ready for aggregation: groups and arguments evaluated once, whatever pane each row belongs to.
pub(super) struct EvaluatedRows {
    pub(super) groups: Vec<ArrayRef>,
    pub(super) arguments: Vec<Arguments>,
    pub(super) rows: usize,
}

impl EvaluatedRows {
    pub(super) fn new(
        layout: &Layout,
        group_by: &[Arc<dyn PhysicalExpr>],
        batch: &RecordBatch,
    ) -> Result<EvaluatedRows> {
        let rows = batch.num_rows();
        let groups =
            group_by.iter().map(|expression| expression.evaluate(batch)?.into_array(rows)).collect::<Result<_>>()?;
        let arguments = layout.calls.iter().map(|call| call.evaluate(batch)).collect::<Result<_>>()?;
        Ok(EvaluatedRows { groups, arguments, rows })
    }

    pub(super) fn slice(&self, offset: usize, rows: usize) -> EvaluatedRows {
        EvaluatedRows {
            groups: self.groups.iter().map(|group| group.slice(offset, rows)).collect(),
            arguments: self.arguments.iter().map(|arguments| arguments.slice(offset, rows)).collect(),
            rows,
        }
    }

    pub(super) fn take(&self, order: &UInt32Array) -> Result<EvaluatedRows> {
        Ok(EvaluatedRows {
            groups: take_arrays(&self.groups, order, None)?,
            arguments: self.arguments.iter().map(|arguments| arguments.take(order)).collect::<Result<_>>()?,
            rows: order.len(),
        })
    }
}

/// Groups with their partial states, as columns: groups first, then states. Cheap to clone, never changed.
#[derive(Clone)]
pub(super) struct GroupStates {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) rows: usize,
}

impl GroupStates {
    pub(super) fn size(&self) -> usize {
        self.columns.iter().map(|column| column.get_array_memory_size()).sum()
    }
}

/// Numbers groups in the order in which they are first seen.
pub(super) struct GroupNumbers {
    /// `None` without groups: then all rows belong to group 0.
    values: Option<Box<dyn GroupValues>>,
    count: usize,
}

impl GroupNumbers {
    pub(super) fn new(layout: &Layout) -> Result<GroupNumbers> {
        let grouped = !layout.groups.fields().is_empty();
        let values = grouped.then(|| new_group_values(Arc::clone(&layout.groups), &GroupOrdering::None)).transpose()?;
        Ok(GroupNumbers { values, count: 0 })
    }

    /// Writes the number of each row's group to `indices`.
    pub(super) fn intern(&mut self, groups: &[ArrayRef], rows: usize, indices: &mut Vec<usize>) -> Result<()> {
        match &mut self.values {
            Some(values) => {
                values.intern(groups, indices)?;
                self.count = values.len();
            }
            None => {
                indices.clear();
                indices.resize(rows, 0);
                self.count = self.count.max(usize::from(rows > 0));
            }
        }
        Ok(())
    }
}

/// The groups of one pane or window with their accumulators.
pub(super) struct GroupTable {
    layout: Arc<Layout>,
    numbers: GroupNumbers,
    accumulators: Accumulators,
    indices: Vec<usize>,
    /// All states, while they have been read out and nothing has come since: the rest of the table is empty then.
    resting: Option<GroupStates>,
}

impl GroupTable {
    pub(super) fn new(layout: &Arc<Layout>) -> Result<GroupTable> {
        Ok(GroupTable {
            layout: Arc::clone(layout),
            numbers: GroupNumbers::new(layout)?,
            accumulators: Accumulators::new(layout)?,
            indices: vec![],
            resting: None,
        })
    }

    /// The merged states of `parts`, which stay as they are.
    pub(super) fn merged<'a>(
        layout: &Arc<Layout>,
        parts: impl IntoIterator<Item = &'a GroupStates>,
    ) -> Result<GroupTable> {
        let mut table = GroupTable::new(layout)?;
        for part in parts {
            table.merge_states(part)?;
        }
        Ok(table)
    }

    pub(super) fn len(&self) -> usize {
        self.resting.as_ref().map_or(self.numbers.count, |states| states.rows)
    }

    /// Puts back states that were read out.
    fn wake(&mut self) -> Result<()> {
        match self.resting.take() {
            Some(states) => self.merge_states(&states),
            None => Ok(()),
        }
    }

    pub(super) fn update(&mut self, rows: &EvaluatedRows) -> Result<()> {
        self.wake()?;
        self.numbers.intern(&rows.groups, rows.rows, &mut self.indices)?;
        self.accumulators.update(&self.layout, &rows.arguments, &self.indices, self.numbers.count)
    }

    pub(super) fn merge(&mut self, groups: &[ArrayRef], states: &[ArrayRef], rows: usize) -> Result<()> {
        self.wake()?;
        self.numbers.intern(groups, rows, &mut self.indices)?;
        self.accumulators.merge(&self.layout, states, &self.indices, self.numbers.count)
    }

    pub(super) fn merge_states(&mut self, states: &GroupStates) -> Result<()> {
        if states.rows == 0 {
            return Ok(());
        }
        let (groups, rest) = states.columns.split_at(self.layout.groups.fields().len());
        self.merge(groups, rest, states.rows)
    }

    /// Takes all states out.
    pub(super) fn take_states(mut self) -> Result<GroupStates> {
        if let Some(states) = self.resting {
            return Ok(states);
        }
        if self.len() == 0 {
            return Ok(GroupStates { columns: vec![], rows: 0 });
        }
        let rows = self.len();
        let mut columns = self.take_groups()?;
        columns.extend(self.accumulators.take_states()?);
        Ok(GroupStates { columns, rows })
    }

    /// Takes all results out: groups, then aggregates; and how many rows they have.
    pub(super) fn take_results(mut self) -> Result<(Vec<ArrayRef>, usize)> {
        self.wake()?;
        if self.len() == 0 {
            return Ok((vec![], 0));
        }
        let rows = self.len();
        let mut columns = self.take_groups()?;
        columns.extend(self.accumulators.take_results()?);
        Ok((columns, rows))
    }

    /// The states as they are now; the table stays. Costs a merge of all groups, but only once more of them come.
    pub(super) fn copy_states(&mut self) -> Result<GroupStates> {
        let table = std::mem::replace(self, GroupTable::new(&self.layout)?);
        let states = table.take_states()?;
        self.resting = (states.rows > 0).then(|| states.clone());
        Ok(states)
    }

    fn take_groups(&mut self) -> Result<Vec<ArrayRef>> {
        match &mut self.numbers.values {
            Some(values) => values.emit(EmitTo::All),
            None => Ok(vec![]),
        }
    }

    pub(super) fn size(&self) -> usize {
        self.numbers.values.as_ref().map_or(0, |values| values.size())
            + self.accumulators.size()
            + self.resting.as_ref().map_or(0, GroupStates::size)
            + self.indices.capacity() * size_of::<usize>()
    }
}
