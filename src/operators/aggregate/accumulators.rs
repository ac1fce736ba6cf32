//! The accumulators of all aggregates of a query, for many groups at once.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, concat, lexsort_to_indices, take, take_arrays};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};

use super::super::window::AggregateCall;
use super::layout::Layout;

/// One aggregate of a query, made ready to run.
pub(super) struct Call {
    function: Arc<AggregateFunctionExpr>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    /// What the function is given: its arguments, then what it is ordered by.
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    /// Set if the function must see rows in order: the options of the last columns of `arguments`.
    ordering: Option<Vec<SortOptions>>,
    /// Its states among all states.
    states: Range<usize>,
}

impl Call {
    pub(super) fn new(call: &AggregateCall, states: Range<usize>) -> Call {
        let function = Arc::clone(&call.function);
        let all = function.all_expressions();
        // Percentiles keep a digest or all values: for them ORDER BY names the argument, not an order of rows.
        let ordered = function.order_sensitivity().hard_requires() && !function.fun().supports_within_group_clause();
        let ordering = ordered.then(|| function.order_bys().iter().map(|sort| sort.options).collect());
        let arguments = all.args.into_iter().chain(all.order_by_exprs).collect();
        Call { function, filter: call.filter.clone(), arguments, ordering, states }
    }

    /// Evaluates arguments and filter.
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<Arguments> {
        let rows = batch.num_rows();
        let values = self
            .arguments
            .iter()
            .map(|expression| expression.evaluate(batch)?.into_array(rows))
            .collect::<Result<_>>()?;
        let filter = self.filter.as_ref().map(|filter| filter.evaluate(batch)?.into_array(rows)).transpose()?;
        Ok(Arguments { values, filter })
    }

    /// Updates `accumulator` with rows that it must see in order.
    ///
    /// Order holds neither across batches nor across tasks, so each batch is sorted, aggregated by itself, and merged
    /// as a state: such functions carry what they order by in their state and merge in order.
    fn update_in_order(
        &self,
        accumulator: &mut Box<dyn GroupsAccumulator>,
        options: &[SortOptions],
        arguments: &Arguments,
        indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        let first = arguments.values.len() - options.len();
        let columns: Vec<SortColumn> = arguments.values[first..]
            .iter()
            .zip(options)
            .map(|(values, options)| SortColumn { values: Arc::clone(values), options: Some(*options) })
            .collect();
        let order = lexsort_to_indices(&columns, None)?;
        let values = take_arrays(&arguments.values, &order, None)?;
        let filter = arguments.filter.as_ref().map(|filter| take(filter, &order, None)).transpose()?;
        // The states of this batch's groups only, so that the merge does not cost all groups there are.
        let mut present = indices.to_vec();
        present.sort_unstable();
        present.dedup();
        let local: Vec<usize> =
            order.values().iter().map(|&row| present.partition_point(|&g| g < indices[row as usize])).collect();
        let mut once = create(&self.function)?;
        once.update_batch(&values, &local, filter.as_deref().map(AsArray::as_boolean), present.len())?;
        accumulator.merge_batch(&once.state(EmitTo::All)?, &present, groups)
    }
}

/// What an aggregate is given: its evaluated arguments and filter.
pub(super) struct Arguments {
    values: Vec<ArrayRef>,
    filter: Option<ArrayRef>,
}

impl Arguments {
    fn filter(&self) -> Result<Option<&BooleanArray>> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let filter = filter.as_boolean_opt();
        Ok(Some(filter.ok_or_else(|| internal_datafusion_err!("a FILTER clause is not a Boolean"))?))
    }

    pub(super) fn slice(&self, offset: usize, rows: usize) -> Arguments {
        Arguments {
            values: self.values.iter().map(|values| values.slice(offset, rows)).collect(),
            filter: self.filter.as_ref().map(|filter| filter.slice(offset, rows)),
        }
    }

    pub(super) fn take(&self, order: &UInt32Array) -> Result<Arguments> {
        Ok(Arguments {
            values: take_arrays(&self.values, order, None)?,
            filter: self.filter.as_ref().map(|filter| take(filter, order, None)).transpose()?,
        })
    }
}

/// One accumulator for each aggregate, all with the same groups: numbers from 0.
pub(super) struct Accumulators(Vec<Box<dyn GroupsAccumulator>>);

impl Accumulators {
    pub(super) fn new(layout: &Layout) -> Result<Accumulators> {
        Ok(Accumulators(layout.calls.iter().map(|call| create(&call.function)).collect::<Result<_>>()?))
    }

    /// Whether accumulators of `function` can be made at all.
    pub(super) fn probe(function: &Arc<AggregateFunctionExpr>) -> Result<()> {
        if function.groups_accumulator_supported() {
            return function.create_groups_accumulator().map(drop);
        }
        function.create_accumulator().map(drop)
    }

    /// Aggregates rows; row *i* belongs to group `indices[i]`, of `groups` groups.
    pub(super) fn update(
        &mut self,
        layout: &Layout,
        arguments: &[Arguments],
        indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        for ((call, accumulator), arguments) in layout.calls.iter().zip(&mut self.0).zip(arguments) {
            match &call.ordering {
                Some(options) => call.update_in_order(accumulator, options, arguments, indices, groups)?,
                None => accumulator.update_batch(&arguments.values, indices, arguments.filter()?, groups)?,
            }
        }
        Ok(())
    }

    /// Merges states; `states` are the columns of all aggregates.
    pub(super) fn merge(
        &mut self,
        layout: &Layout,
        states: &[ArrayRef],
        indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        layout.count_merged(indices.len());
        for (call, accumulator) in layout.calls.iter().zip(&mut self.0) {
            accumulator.merge_batch(&states[call.states.clone()], indices, groups)?;
        }
        Ok(())
    }

    /// The states of all groups, of which there is at least one; the accumulators are empty afterwards.
    pub(super) fn take_states(&mut self) -> Result<Vec<ArrayRef>> {
        let mut states = vec![];
        for accumulator in &mut self.0 {
            states.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(states)
    }

    /// The results of all groups, of which there is at least one; the accumulators are empty afterwards.
    pub(super) fn take_results(&mut self) -> Result<Vec<ArrayRef>> {
        self.0.iter_mut().map(|accumulator| accumulator.evaluate(EmitTo::All)).collect()
    }

    /// The results of an aggregation over no row at all, one row. Group accumulators cannot be asked for it: to them a
    /// group is there because a row came.
    pub(super) fn results_of_nothing(layout: &Layout) -> Result<Vec<ArrayRef>> {
        layout.calls.iter().map(|call| call.function.create_accumulator()?.evaluate()?.to_array()).collect()
    }

    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|accumulator| accumulator.size()).sum()
    }
}

fn create(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

/// Concatenates column by column.
pub(super) fn concat_columns(parts: &[&[ArrayRef]]) -> Result<Vec<ArrayRef>> {
    let width = parts.first().map_or(0, |part| part.len());
    (0..width)
        .map(|column| {
            let arrays: Vec<&dyn Array> = parts.iter().map(|part| part[column].as_ref()).collect();
            Ok(concat(&arrays)?)
        })
        .collect()
}
