//! Drives several instances of both phases by hand: splits, tasks, the exchange, watermarks, barriers, crashes.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::compute::{SortOptions, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimestampNanosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::functions_aggregate::{
    approx_distinct::approx_distinct_udaf, array_agg::array_agg_udaf, average::avg_udaf, count::count_udaf,
    first_last::first_value_udaf, median::median_udaf, min_max::max_udaf, min_max::min_udaf, nth_value::nth_value_udaf,
    stddev::stddev_udaf, string_agg::string_agg_udaf, sum::sum_udaf,
};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{col, lit};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::super::{FinalAggregate, PartialAggregate};
use super::model::{Row, show, show_float};
use crate::operators::window::{AggregateCall, EVENT_TIME, ROW_WATERMARK, TIME_TYPE, WindowAggregate, WindowKind};
use crate::operators::{LATE, MAIN, Operator, Output};
use crate::time::EventTime;

pub(super) fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Int64, true),
        Field::new("weight", DataType::Float64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new(EVENT_TIME, TIME_TYPE, false),
        Field::new(ROW_WATERMARK, TIME_TYPE, false),
    ]))
}

pub(super) fn batch_of(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.key.as_deref()))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.value))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.weight))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.text.as_deref()))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.flag))),
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.time))),
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.watermark))),
    ];
    RecordBatch::try_new(input_schema(), columns).unwrap()
}

/// A call of `function` on columns of the input, `ORDER BY id` if asked for.
pub(super) fn call(
    function: Arc<AggregateUDF>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    by_id: Option<SortOptions>,
) -> AggregateCall {
    let schema = input_schema();
    let order = by_id.map(|options| PhysicalSortExpr { expr: col("id", &schema).unwrap(), options });
    let builder = AggregateExprBuilder::new(function, arguments).schema(schema).alias("a");
    let function = builder.order_by(order.into_iter().collect()).build().unwrap();
    AggregateCall { function: Arc::new(function), filter: None }
}

pub(super) fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    col(name, &input_schema()).unwrap()
}

/// The aggregates whose results `super::model::results` knows.
pub(super) fn aggregates() -> Vec<AggregateCall> {
    let plain = |function, name| call(function, vec![column(name)], None);
    let ascending = Some(SortOptions { descending: false, nulls_first: false });
    let descending = Some(SortOptions { descending: true, nulls_first: false });
    let filtered = AggregateCall { filter: Some(column("flag")), ..plain(sum_udaf(), "value") };
    let distinct = AggregateExprBuilder::new(count_udaf(), vec![column("value")]).schema(input_schema());
    let distinct = Arc::new(distinct.alias("distinct").distinct().build().unwrap());
    vec![
        plain(count_udaf(), "value"),
        plain(sum_udaf(), "value"),
        plain(min_udaf(), "value"),
        plain(max_udaf(), "value"),
        filtered,
        AggregateCall { function: distinct, filter: None },
        plain(avg_udaf(), "weight"),
        plain(stddev_udaf(), "weight"),
        plain(median_udaf(), "weight"),
        plain(min_udaf(), "text"),
        plain(max_udaf(), "text"),
        plain(approx_distinct_udaf(), "text"),
        plain(array_agg_udaf(), "value"),
        call(array_agg_udaf(), vec![column("id")], ascending),
        call(first_value_udaf(), vec![column("id")], descending),
        call(nth_value_udaf(), vec![column("id"), lit(2_i64)], ascending),
        call(string_agg_udaf(), vec![column("text"), lit("")], ascending),
    ]
}

pub(super) fn specification(window: WindowKind, grouped: bool, aggregates: Vec<AggregateCall>) -> Arc<WindowAggregate> {
    let group = (column("key"), Arc::new(Field::new("key", DataType::Utf8, true)));
    let groups = if grouped { vec![group] } else { vec![] };
    Arc::new(WindowAggregate::new(window, input_schema(), groups, aggregates))
}

/// One line a row: start, end, key, aggregates. Arrays without an order are sorted.
pub(super) fn lines(spec: &WindowAggregate, batches: &[RecordBatch]) -> Vec<String> {
    let batch = concat_batches(&spec.output, batches).unwrap();
    let times = |array: &ArrayRef| array.as_primitive::<TimestampNanosecondType>().values().to_vec();
    let event_times = times(batch.column(batch.num_columns() - 1));
    let windowed = usize::from(spec.window.has_window_column());
    let bounds = (windowed == 1).then(|| {
        let window = batch.column(0).as_struct();
        (times(window.column(0)), times(window.column(1)))
    });
    let options = FormatOptions::default().with_null("null");
    let mut lines = vec![];
    for row in 0..batch.num_rows() {
        let (start, end) = match &bounds {
            Some((starts, ends)) => (starts[row], ends[row]),
            None => (event_times[row], event_times[row]),
        };
        assert_eq!(event_times[row], if windowed == 1 { end - 1 } else { end });
        let mut cells = vec![start.to_string(), end.to_string()];
        if spec.group_by.is_empty() {
            cells.push("null".to_owned());
        }
        for index in windowed..batch.num_columns() - 1 {
            let array = batch.column(index);
            cells.push(match array.data_type() {
                DataType::Float64 => {
                    show_float((!array.is_null(row)).then(|| array.as_primitive::<Float64Type>().value(row)))
                }
                DataType::List(_) if !array.is_null(row) => {
                    let list = array.as_list::<i32>().value(row);
                    let mut items: Vec<String> = list.as_primitive::<Int64Type>().iter().map(show).collect();
                    if array.as_list::<i32>().value_type() == DataType::Int64 && items.iter().any(|item| item == "null")
                        || spec.output.field(index).name() == "a" && !is_ordered(spec, index - windowed)
                    {
                        items.sort();
                    }
                    format!("[{}]", items.join(", "))
                }
                _ => ArrayFormatter::try_new(array, &options).unwrap().value(row).to_string(),
            });
        }
        lines.push(cells.join(" | "));
    }
    lines
}

fn is_ordered(spec: &WindowAggregate, index: usize) -> bool {
    !spec.aggregates[index - spec.group_by.len()].function.order_bys().is_empty()
}

/// The rows of `batch` that the exchange would give to `instance`.
pub(super) fn share(spec: &WindowAggregate, batch: &RecordBatch, instance: usize, instances: usize) -> RecordBatch {
    let columns = spec.partial_group_columns();
    let options = FormatOptions::default().with_null("none");
    let mine = |row: &u32| {
        let mut hasher = DefaultHasher::new();
        for &column in &columns {
            let array = batch.column(column);
            ArrayFormatter::try_new(array, &options).unwrap().value(*row as usize).to_string().hash(&mut hasher);
        }
        let owner = if columns.is_empty() { 0 } else { hasher.finish() as usize % instances };
        owner == instance
    };
    let rows: Vec<u32> = (0..batch.num_rows() as u32).filter(mine).collect();
    take_record_batch(batch, &UInt32Array::from(rows)).unwrap()
}

/// Instances of both phases with the exchange between them.
pub(super) struct Pipeline {
    pub(super) spec: Arc<WindowAggregate>,
    pub(super) partials: Vec<PartialAggregate>,
    pub(super) finals: Vec<FinalAggregate>,
    watermarks: Vec<i64>,
    final_watermark: i64,
    pub(super) results: Vec<RecordBatch>,
    pub(super) late: Vec<RecordBatch>,
    pub(super) early: Vec<RecordBatch>,
    snapshots: Vec<RecordBatch>,
}

impl Pipeline {
    pub(super) fn new(spec: &Arc<WindowAggregate>, partials: usize, finals: usize) -> Pipeline {
        Pipeline {
            spec: Arc::clone(spec),
            partials: (0..partials).map(|_| PartialAggregate::new(Arc::clone(spec)).unwrap()).collect(),
            finals: (0..finals).map(|i| FinalAggregate::new(Arc::clone(spec), true, i).unwrap()).collect(),
            watermarks: vec![i64::MIN; partials],
            final_watermark: i64::MIN,
            results: vec![],
            late: vec![],
            early: vec![],
            snapshots: vec![],
        }
    }

    /// Sends on what task `task` has put out.
    fn exchange(&mut self, mut out: Output) {
        let instances = self.finals.len();
        for (output, batch) in out.take() {
            if output == LATE {
                self.late.push(batch);
                continue;
            }
            assert_eq!(output, MAIN);
            assert_eq!(batch.schema(), self.spec.partial_schema().unwrap());
            for (instance, operator) in self.finals.iter_mut().enumerate() {
                let mut out = Output::default();
                operator.on_batch(0, share(&self.spec, &batch, instance, instances), &mut out).unwrap();
                assert!(out.take().is_empty());
            }
        }
    }

    pub(super) fn batch(&mut self, task: usize, rows: &[Row]) {
        let mut out = Output::default();
        self.partials[task].on_batch(0, batch_of(rows), &mut out).unwrap();
        self.exchange(out);
    }

    pub(super) fn watermark(&mut self, task: usize, watermark: i64) {
        if watermark <= self.watermarks[task] {
            return;
        }
        self.watermarks[task] = watermark;
        let mut out = Output::default();
        self.partials[task].on_watermark(EventTime(watermark), &mut out).unwrap();
        self.exchange(out);
        let lowest = self.watermarks.iter().copied().min().unwrap();
        if lowest > self.final_watermark {
            self.final_watermark = lowest;
            let mut out = Output::default();
            for operator in &mut self.finals {
                operator.on_watermark(EventTime(lowest), &mut out).unwrap();
            }
            self.results.extend(out.take().into_iter().map(|(_, batch)| batch));
        }
    }

    pub(super) fn end(&mut self) {
        (0..self.partials.len()).for_each(|task| self.watermark(task, i64::MAX));
    }

    /// A tick everywhere; returns what it published.
    pub(super) fn tick(&mut self) -> Vec<RecordBatch> {
        for task in 0..self.partials.len() {
            let mut out = Output::default();
            self.partials[task].on_tick(&mut out).unwrap();
            self.exchange(out);
        }
        let mut out = Output::default();
        self.finals.iter_mut().for_each(|operator| operator.on_tick(&mut out).unwrap());
        let published: Vec<RecordBatch> = out.take().into_iter().map(|(_, batch)| batch).collect();
        self.early.extend(published.iter().cloned());
        published
    }

    pub(super) fn barrier(&mut self) {
        for task in 0..self.partials.len() {
            let mut out = Output::default();
            assert!(self.partials[task].snapshot(&mut out).unwrap().is_empty());
            assert!(self.partials[task].state_bytes() == 0, "a barrier leaves nothing behind");
            self.exchange(out);
        }
        for operator in &mut self.finals {
            self.snapshots.extend(operator.snapshot(&mut Output::default()).unwrap());
        }
    }

    /// Replaces the snapshots by the whole state: that of the running instances, or what `instances` that took the
    /// snapshots back say it is.
    pub(super) fn compact(&mut self, instances: Option<usize>) {
        self.barrier();
        let snapshots = std::mem::take(&mut self.snapshots);
        match instances {
            None => self.finals.iter_mut().for_each(|operator| self.snapshots.extend(operator.state().unwrap())),
            Some(instances) => {
                for instance in 0..instances {
                    let mut operator = self.restored(&snapshots, instance, instances);
                    self.snapshots.extend(operator.state().unwrap());
                }
            }
        }
    }

    fn restored(&self, snapshots: &[RecordBatch], instance: usize, instances: usize) -> FinalAggregate {
        let mut operator = FinalAggregate::new(Arc::clone(&self.spec), true, instance).unwrap();
        for snapshot in snapshots {
            operator.restore(share(&self.spec, snapshot, instance, instances)).unwrap();
        }
        if self.final_watermark > i64::MIN {
            operator.on_watermark(EventTime(self.final_watermark), &mut Output::default()).unwrap();
        }
        operator
    }

    /// What the open windows would give if they closed now, right after a barrier: others are made from the state of the
    /// running instances, and their time ends.
    pub(super) fn look(&mut self) -> Vec<RecordBatch> {
        self.barrier();
        let states: Vec<Vec<RecordBatch>> = self.finals.iter_mut().map(|operator| operator.state().unwrap()).collect();
        let mut out = Output::default();
        for (instance, state) in states.iter().enumerate() {
            let mut operator = FinalAggregate::new(Arc::clone(&self.spec), true, instance).unwrap();
            state.iter().for_each(|state| operator.restore(state.clone()).unwrap());
            if self.final_watermark > i64::MIN {
                operator.on_watermark(EventTime(self.final_watermark), &mut Output::default()).unwrap();
            }
            operator.on_watermark(EventTime::MAX, &mut out).unwrap();
        }
        out.take().into_iter().map(|(_, batch)| batch).collect()
    }

    /// All that was handed over at barriers.
    pub(super) fn snapshots(&self) -> &[RecordBatch] {
        &self.snapshots
    }

    /// Rows in all snapshots.
    pub(super) fn snapshot_rows(&self) -> usize {
        self.snapshots.iter().map(RecordBatch::num_rows).sum()
    }

    /// Loses all instances right after a barrier and takes the snapshots back, in `instances` instances.
    pub(super) fn crash(&mut self, instances: usize) {
        self.barrier();
        for partial in &mut self.partials {
            *partial = PartialAggregate::new(Arc::clone(&self.spec)).unwrap();
        }
        self.finals = (0..instances).map(|instance| self.restored(&self.snapshots, instance, instances)).collect();
    }
}
