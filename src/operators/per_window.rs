//! Joins, window functions and sorts among the rows of one window.
//!
//! Rows that come out of windows carry the window's event time, and a watermark says when the last of them has come:
//! then all rows of that event time go through a [`Subplan`] together. The same operator, told to take its whole input
//! as one window, runs such a plan once at the end of a bounded input.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampNanosecondType};
use datafusion::common::{Result, exec_err, internal_err};

use super::subplan::{Subplan, with_schema};
use super::{INPUT, InputIndex, Operator, Output};
use crate::time::EventTime;

/// Key of a snapshot's schema metadata: the watermark at the barrier, in nanoseconds.
const WATERMARK: &str = "acequia.watermark";

/// What belongs together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Grouping {
    /// Rows of equal event time.
    EventTime,
    /// All rows, until the end of time.
    Everything,
}

/// One input of the plan.
#[derive(Clone, Debug)]
pub struct WindowInput {
    /// Its columns.
    pub schema: SchemaRef,
    /// The column with the event time, which stands for the window; `None` takes all rows together.
    pub event_time: Option<usize>,
}

/// Runs a plan over the rows of each window when it closes.
///
/// Inputs: the plan's. Output: the plan's. State: the rows that wait, each input's in its own columns, named by
/// position, with the input's index ([`INPUT`]) and the watermark in the schema's metadata.
pub struct PerWindow {
    inputs: Vec<Input>,
    plan: Subplan,
    watermark: EventTime,
    /// The watermark when a snapshot was last taken.
    snapshot_watermark: EventTime,
}

/// The rows of one input that wait for their window to close.
struct Input {
    schema: SchemaRef,
    event_time: Option<usize>,
    waiting: BTreeMap<i64, Vec<RecordBatch>>,
    bytes: usize,
    /// What has come since the last barrier.
    delta: Vec<RecordBatch>,
}

impl PerWindow {
    /// Runs `plan` over `inputs`.
    pub fn new(inputs: Vec<WindowInput>, plan: Subplan) -> PerWindow {
        let input = |WindowInput { schema, event_time }| Input {
            schema,
            event_time,
            waiting: BTreeMap::new(),
            bytes: 0,
            delta: vec![],
        };
        let (watermark, snapshot_watermark) = (EventTime::MIN, EventTime::MIN);
        PerWindow { inputs: inputs.into_iter().map(input).collect(), plan, watermark, snapshot_watermark }
    }

    /// Whether all rows are taken together.
    fn takes_everything(&self) -> bool {
        self.inputs.iter().all(|input| input.event_time.is_none())
    }

    fn keep(&mut self, input: InputIndex, batch: RecordBatch) -> Result<()> {
        let input = &mut self.inputs[input];
        input.bytes += batch.get_array_memory_size();
        match input.event_time {
            None => input.waiting.entry(0).or_default().push(batch),
            Some(column) => {
                for (time, rows) in by_event_time(&batch, column)? {
                    input.waiting.entry(time).or_default().push(rows);
                }
            }
        }
        Ok(())
    }

    /// Runs the plan over the rows of one window.
    fn close(&mut self, time: i64, out: &mut Output) -> Result<()> {
        let mut rows = vec![];
        for input in &mut self.inputs {
            let batches = input.waiting.remove(&time).unwrap_or_default();
            let held: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
            input.bytes = if input.waiting.is_empty() { 0 } else { input.bytes.saturating_sub(held) };
            rows.push(batches);
        }
        self.plan.run(rows)?.into_iter().for_each(|batch| out.emit(batch));
        Ok(())
    }
}

impl Input {
    /// The rows of `batch` whose window is open at `watermark`.
    fn open(&self, batch: &RecordBatch, watermark: EventTime) -> Result<RecordBatch> {
        let Some(column) = self.event_time else { return Ok(batch.clone()) };
        let times = batch.column(column).as_primitive::<TimestampNanosecondType>();
        let open: BooleanArray = times.values().iter().map(|time| Some(*time > watermark.0)).collect();
        Ok(if open.has_false() { filter_record_batch(batch, &open)? } else { batch.clone() })
    }

    /// Rows as a batch of state: one batch even without rows, since the watermark has to be known.
    fn state(&self, index: InputIndex, watermark: EventTime, rows: &[RecordBatch]) -> Result<RecordBatch> {
        let fields = self.schema.fields().iter().enumerate();
        let fields: Vec<Field> = fields
            .map(|(column, field)| Field::new(format!("c{column}"), field.data_type().clone(), field.is_nullable()))
            .collect();
        let metadata =
            HashMap::from([(INPUT.to_string(), index.to_string()), (WATERMARK.to_string(), watermark.0.to_string())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        with_schema(&concat_batches(&self.schema, rows)?, &schema)
    }
}

impl Operator for PerWindow {
    fn on_batch(&mut self, input: InputIndex, batch: RecordBatch, _out: &mut Output) -> Result<()> {
        self.inputs[input].delta.push(batch.clone());
        self.keep(input, batch)
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.watermark = watermark;
        if self.takes_everything() {
            // Also over no rows at all: a full aggregate of nothing is a row.
            return if watermark == EventTime::MAX { self.close(0, out) } else { Ok(()) };
        }
        loop {
            let next = self.inputs.iter().filter_map(|input| input.waiting.keys().next()).min().copied();
            match next {
                Some(time) if time <= watermark.0 => self.close(time, out)?,
                _ => return Ok(()),
            }
        }
    }

    fn snapshot(&mut self, _out: &mut Output) -> Result<Vec<RecordBatch>> {
        let unchanged = self.snapshot_watermark == self.watermark;
        self.snapshot_watermark = self.watermark;
        if unchanged && self.inputs.iter().all(|input| input.delta.is_empty()) {
            return Ok(vec![]);
        }
        let watermark = self.watermark;
        let mut batches = vec![];
        for (index, input) in self.inputs.iter_mut().enumerate() {
            let delta = std::mem::take(&mut input.delta);
            // What has come and been worked off since the last barrier is nobody's any more.
            let open = delta.iter().map(|batch| input.open(batch, watermark)).collect::<Result<Vec<_>>>()?;
            batches.push(input.state(index, watermark, &open)?);
        }
        Ok(batches)
    }

    fn state(&mut self) -> Result<Vec<RecordBatch>> {
        let inputs = self.inputs.iter().enumerate();
        inputs
            .map(|(index, input)| {
                let waiting: Vec<RecordBatch> = input.waiting.values().flatten().cloned().collect();
                input.state(index, self.watermark, &waiting)
            })
            .collect()
    }

    fn restore(&mut self, state: RecordBatch) -> Result<()> {
        let schema = state.schema();
        let number = |key: &str| schema.metadata().get(key).and_then(|text| text.parse::<i64>().ok());
        let (Some(index), Some(watermark)) = (number(INPUT), number(WATERMARK)) else {
            return exec_err!("the state of a join or window function lacks its place");
        };
        let Some(input) = usize::try_from(index).ok().filter(|index| *index < self.inputs.len()) else {
            return exec_err!("the state of a join or window function has an input that is not there");
        };
        let rows = with_schema(&state, &self.inputs[input].schema)?;
        self.keep(input, rows)?;
        self.watermark = self.watermark.max(EventTime(watermark));
        self.snapshot_watermark = self.watermark;
        let closed = self.watermark.0;
        if !self.takes_everything() && closed != i64::MIN {
            for input in &mut self.inputs {
                input.waiting = input.waiting.split_off(&closed.saturating_add(1));
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.inputs.iter().map(|input| input.bytes).sum()
    }
}

/// The rows of a batch by event time; usually they all have one.
fn by_event_time(batch: &RecordBatch, column: usize) -> Result<Vec<(i64, RecordBatch)>> {
    let Some(times) = batch.column(column).as_primitive_opt::<TimestampNanosecondType>() else {
        return internal_err!("rows without event time at an operator that runs by window");
    };
    let times = times.values();
    let Some(first) = times.first() else { return Ok(vec![]) };
    if times.iter().all(|time| time == first) {
        return Ok(vec![(*first, batch.clone())]);
    }
    let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, time) in times.iter().enumerate() {
        rows.entry(*time).or_default().push(row as u32);
    }
    rows.into_iter().map(|(time, rows)| Ok((time, take_record_batch(batch, &UInt32Array::from(rows))?))).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, TimestampNanosecondArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::common::DFSchema;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::logical_expr::{EmptyRelation, JoinType, LogicalPlan, LogicalPlanBuilder};
    use datafusion::prelude::col;
    use proptest::prelude::*;

    use super::*;
    use crate::operators::window::{EVENT_TIME, TIME_TYPE};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true), Field::new(EVENT_TIME, TIME_TYPE, false)]))
    }

    fn input(name: &str) -> LogicalPlanBuilder {
        let schema = Arc::new(DFSchema::try_from(schema()).unwrap());
        let empty = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema });
        LogicalPlanBuilder::from(empty).alias(name).unwrap()
    }

    /// Sorts each window by x.
    fn sorting(event_time: Option<usize>) -> PerWindow {
        operator(input("a").sort(vec![col("x").sort(true, false)]).unwrap().build().unwrap(), 1, event_time)
    }

    /// Pairs the sides' rows of equal x within a window.
    fn joining() -> PerWindow {
        let right = input("b").build().unwrap();
        let on = (vec!["a.x"], vec!["b.x"]);
        operator(input("a").join(right, JoinType::Left, on, None).unwrap().build().unwrap(), 2, Some(1))
    }

    fn operator(node: LogicalPlan, inputs: usize, event_time: Option<usize>) -> PerWindow {
        let session = SessionStateBuilder::new().with_default_features().build();
        let mut config = session.config().clone();
        config = config.with_target_partitions(1);
        let session = SessionStateBuilder::new_from_existing(session).with_config(config).build();
        let plan = Subplan::new(&node, Arc::clone(node.schema().inner()), &session).unwrap();
        PerWindow::new(vec![WindowInput { schema: schema(), event_time }; inputs], plan)
    }

    fn rows(rows: &[(i64, i64)]) -> RecordBatch {
        let xs: Int64Array = rows.iter().map(|row| Some(row.0)).collect();
        let times: TimestampNanosecondArray = rows.iter().map(|row| Some(row.1)).collect();
        RecordBatch::try_new(schema(), vec![Arc::new(xs), Arc::new(times)]).unwrap()
    }

    fn feed(operator: &mut PerWindow, input: InputIndex, batch: RecordBatch) {
        operator.on_batch(input, batch, &mut Output::default()).unwrap();
    }

    fn column(operator: &mut PerWindow, watermark: EventTime, index: usize) -> Vec<Option<i64>> {
        let mut out = Output::default();
        operator.on_watermark(watermark, &mut out).unwrap();
        out.take()
            .iter()
            .flat_map(|(_, batch)| batch.column(index).as_primitive::<Int64Type>().iter().collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn a_window_is_worked_off_when_the_watermark_reaches_it() {
        let mut sort = sorting(Some(1));
        feed(&mut sort, 0, rows(&[(3, 10), (9, 20), (1, 10)]));
        feed(&mut sort, 0, rows(&[(2, 10), (8, 20)]));
        assert!(column(&mut sort, EventTime(9), 0).is_empty());
        assert_eq!(column(&mut sort, EventTime(10), 0), [Some(1), Some(2), Some(3)]);
        assert_eq!(column(&mut sort, EventTime::MAX, 0), [Some(8), Some(9)]);
        assert_eq!(sort.state_bytes(), 0, "the memory of closed windows is given back");
    }

    #[test]
    fn a_join_meets_rows_of_the_same_window_only() {
        let mut join = joining();
        feed(&mut join, 0, rows(&[(1, 10), (2, 10), (1, 20)]));
        feed(&mut join, 1, rows(&[(1, 10), (2, 20)]));
        let mut pairs = column(&mut join, EventTime(10), 2);
        pairs.sort();
        assert_eq!(pairs, [None, Some(1)]);
        assert_eq!(column(&mut join, EventTime(20), 2), [None]);
    }

    #[test]
    fn a_whole_input_is_worked_off_at_its_end() {
        let mut sort = sorting(None);
        feed(&mut sort, 0, rows(&[(3, 10), (1, 20)]));
        feed(&mut sort, 0, rows(&[(2, 10)]));
        assert!(column(&mut sort, EventTime(100), 0).is_empty());
        assert_eq!(column(&mut sort, EventTime::MAX, 0), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_restart_between_barriers_loses_and_repeats_nothing() {
        let mut before = joining();
        feed(&mut before, 0, rows(&[(1, 10), (1, 20)]));
        let mut states = before.snapshot(&mut Output::default()).unwrap();
        feed(&mut before, 1, rows(&[(1, 10)]));
        assert_eq!(column(&mut before, EventTime(15), 2), [Some(1)]);
        states.extend(before.snapshot(&mut Output::default()).unwrap());

        let mut after = joining();
        states.into_iter().for_each(|state| after.restore(state).unwrap());
        feed(&mut after, 1, rows(&[(1, 20)]));
        assert_eq!(column(&mut after, EventTime::MAX, 2), [Some(1)], "the window of 10 was closed before");
    }

    #[test]
    fn a_snapshot_holds_what_is_new_and_still_open() {
        let mut join = joining();
        let snapshot = |join: &mut PerWindow| -> Vec<usize> {
            join.snapshot(&mut Output::default()).unwrap().iter().map(RecordBatch::num_rows).collect()
        };
        assert_eq!(snapshot(&mut join), [0; 0]);
        feed(&mut join, 0, rows(&[(1, 10), (2, 20)]));
        column(&mut join, EventTime(10), 0);
        assert_eq!(snapshot(&mut join), [1, 0]);
        assert_eq!(snapshot(&mut join), [0; 0], "nothing is new");
        column(&mut join, EventTime(11), 0);
        assert_eq!(snapshot(&mut join), [0, 0], "only the watermark is new");
    }

    /// A step of a random run.
    #[derive(Clone, Debug)]
    enum Does {
        Feed(usize, Vec<(i64, i64)>),
        Advance(i64),
        Barrier,
    }

    fn steps() -> impl Strategy<Value = Vec<Does>> {
        let fed = (0..2_usize, prop::collection::vec((0..4_i64, 1..6_i64), 0..6));
        let step = prop_oneof![
            4 => fed.prop_map(|(input, rows)| Does::Feed(input, rows)),
            2 => (0..4_i64).prop_map(Does::Advance),
            1 => Just(Does::Barrier),
        ];
        prop::collection::vec(step, 0..30)
    }

    /// Takes a step at each of `operators`, which answer alike; rows are never late.
    fn step(
        does: &Does,
        inputs: usize,
        time: &mut i64,
        operators: &mut [&mut PerWindow],
    ) -> Vec<Vec<Vec<Option<i64>>>> {
        let mut answers = vec![];
        if let Does::Advance(by) = does {
            *time += by;
        }
        for operator in operators {
            match does {
                Does::Feed(input, batch) => {
                    let ahead: Vec<(i64, i64)> = batch.iter().map(|(x, after)| (*x, *time + after)).collect();
                    feed(operator, input % inputs, rows(&ahead));
                }
                Does::Advance(_) => {
                    let mut out = Output::default();
                    operator.on_watermark(EventTime(*time), &mut out).unwrap();
                    let rows = out.take().into_iter().flat_map(|(_, batch)| {
                        let cells = |row| {
                            let cell = |column: &usize| {
                                let values = arrow::compute::cast(batch.column(*column), &DataType::Int64).unwrap();
                                values.as_primitive::<Int64Type>().iter().nth(row).unwrap()
                            };
                            (0..batch.num_columns()).map(|column| cell(&column)).collect::<Vec<_>>()
                        };
                        (0..batch.num_rows()).map(cells).collect::<Vec<_>>()
                    });
                    answers.push(rows.collect());
                }
                Does::Barrier => {}
            }
        }
        answers
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_whole_state_is_what_all_snapshots_add_up_to(before in steps(), after in steps(), kind in 0..3) {
            let inputs = if kind == 0 { 2 } else { 1 };
            let made = || match kind {
                0 => joining(),
                1 => sorting(Some(1)),
                _ => sorting(None),
            };
            let (mut running, mut snapshots, mut time) = (made(), vec![], 0);
            for does in before.iter().chain([&Does::Barrier]) {
                step(does, inputs, &mut time, &mut [&mut running]);
                if let Does::Barrier = does {
                    snapshots.extend(running.snapshot(&mut Output::default()).unwrap());
                }
            }
            let mut compacting = made();
            snapshots.into_iter().for_each(|state| compacting.restore(state).unwrap());
            let mut restored = made();
            compacting.state().unwrap().into_iter().for_each(|state| restored.restore(state).unwrap());
            for does in after.iter().chain([&Does::Advance(i64::MAX / 2)]) {
                let answers = step(does, inputs, &mut time, &mut [&mut running, &mut compacting, &mut restored]);
                prop_assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
            }
        }
    }
}
