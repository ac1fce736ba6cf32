//! DataFusion's aggregate functions, as its SQL plans them: both phases must find what DataFusion finds in a batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::harness::{batch_of, share};
use super::model::Row;
use crate::operators::aggregate::{FinalAggregate, PartialAggregate};
use crate::operators::window::{AggregateCall, EVENT_TIME, TIME_TYPE, WindowAggregate, WindowKind};
use crate::operators::{Operator, Output};
use crate::time::EventTime;

/// Each is planned and run by itself, so that a failure names its function.
const CALLS: [&str; 45] = [
    "count(*)",
    "count(value)",
    "count(DISTINCT text)",
    "count(DISTINCT weight)",
    "count(value, text)",
    "sum(value)",
    "sum(DISTINCT value)",
    "sum(CAST(value AS DECIMAL(10, 2)))",
    "sum(value) FILTER (WHERE flag)",
    "count(*) FILTER (WHERE weight > 0)",
    "avg(value)",
    "avg(CAST(value AS DECIMAL(10, 2)))",
    "avg(weight) FILTER (WHERE NOT flag)",
    "min(text)",
    "max(flag)",
    "min(weight)",
    "max(CAST(id AS TIMESTAMP))",
    "median(weight)",
    "median(DISTINCT value)",
    "stddev(weight)",
    "stddev_pop(weight)",
    "var_samp(weight)",
    "var_pop(weight)",
    "corr(value, weight)",
    "covar_samp(value, weight)",
    "covar_pop(value, weight)",
    "regr_slope(value, weight)",
    "regr_r2(value, weight)",
    "bit_and(id)",
    "bit_or(id)",
    "bit_xor(id)",
    "bool_and(flag)",
    "bool_or(flag)",
    "approx_distinct(text)",
    "approx_distinct(value)",
    "percentile_cont(0.25) WITHIN GROUP (ORDER BY weight)",
    "array_agg(text ORDER BY id)",
    "array_agg(text ORDER BY text DESC, id) FILTER (WHERE flag)",
    "array_agg(DISTINCT text ORDER BY text)",
    "string_agg(text, ',' ORDER BY id DESC)",
    "first_value(text ORDER BY id)",
    "last_value(value ORDER BY weight, id)",
    "nth_value(id, 3 ORDER BY id DESC)",
    "nth_value(id, -2 ORDER BY id)",
    "array_agg(named_struct('a', value, 'b', text) ORDER BY id)",
];

fn rows() -> Vec<Row> {
    (0..97)
        .map(|id| Row {
            id: id * 37 % 97,
            key: (id % 5 != 0).then(|| format!("k{}", id % 3)),
            value: (id % 7 != 0).then_some(id * id % 23 - 8),
            weight: (id % 6 != 1).then(|| (id * 29 % 31) as f64 / 4.0 - 3.0),
            text: (id % 4 != 2).then(|| format!("t{}", id * 13 % 17)),
            flag: (id % 8 != 3).then_some(id % 3 == 1),
            time: id,
            watermark: i64::MIN,
        })
        .collect()
}

/// Without the optimizer, so that the plan is one aggregation over the whole table.
fn session() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().optimizer.max_passes = 0;
    let session = SessionContext::new_with_config(config);
    let batch = batch_of(&rows());
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
    session.register_table("t", Arc::new(table)).unwrap();
    session
}

fn find(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    match plan.downcast_ref::<AggregateExec>() {
        Some(aggregate) => Some(aggregate),
        None => plan.children().into_iter().find_map(find),
    }
}

/// The aggregation of a plan as a windowed one.
fn specification(aggregate: &AggregateExec, window: WindowKind) -> Arc<WindowAggregate> {
    let mut fields = aggregate.input_schema().fields().to_vec();
    if aggregate.input_schema().column_with_name(EVENT_TIME).is_none() {
        fields.push(Arc::new(Field::new(EVENT_TIME, TIME_TYPE, false)));
    }
    let calls = aggregate.aggr_expr().iter().zip(aggregate.filter_expr());
    let aggregates =
        calls.map(|(function, filter)| AggregateCall { function: Arc::clone(function), filter: filter.clone() });
    let group = &aggregate.group_expr().expr()[0].0;
    let groups = vec![(Arc::clone(group), Arc::new(Field::new("key", DataType::Utf8, true)))];
    Arc::new(WindowAggregate::new(window, Arc::new(Schema::new(fields)), groups, aggregates.collect()))
}

/// Key and aggregate of each row, without the window and the event time.
fn lines(batches: &[RecordBatch], columns: [usize; 2]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut lines = vec![];
    for batch in batches {
        let cell = |array: &ArrayRef, row| match array.as_primitive_opt::<Float64Type>() {
            Some(floats) if !floats.is_null(row) => format!("{:.6}", floats.value(row) + 0.0),
            _ => ArrayFormatter::try_new(array, &options).unwrap().value(row).to_string(),
        };
        for row in 0..batch.num_rows() {
            lines.push(columns.map(|column| cell(batch.column(column), row)).join(" | "));
        }
    }
    lines.sort();
    lines
}

/// Runs batches of seven rows through two first phases and two second ones, with ticks in between.
fn run(spec: &Arc<WindowAggregate>, input: &RecordBatch) -> Vec<RecordBatch> {
    let mut partials = [(); 2].map(|()| PartialAggregate::new(Arc::clone(spec)).unwrap());
    let mut finals = [0, 1].map(|instance| FinalAggregate::new(Arc::clone(spec), true, instance).unwrap());
    let exchange = |out: &mut Output, finals: &mut [FinalAggregate; 2]| {
        for (_, batch) in out.take() {
            for (instance, operator) in finals.iter_mut().enumerate() {
                let mine = share(spec, &batch, instance, 2);
                operator.on_batch(0, mine, &mut Output::default()).unwrap();
                operator.on_tick(&mut Output::default()).unwrap();
            }
        }
    };
    let mut out = Output::default();
    for (index, offset) in (0..input.num_rows()).step_by(7).enumerate() {
        let batch = input.slice(offset, 7.min(input.num_rows() - offset));
        partials[index % 2].on_batch(0, batch, &mut out).unwrap();
        if index % 4 == 3 {
            partials[index / 4 % 2].on_tick(&mut out).unwrap();
            exchange(&mut out, &mut finals);
        }
    }
    let mut results = Output::default();
    for partial in &mut partials {
        partial.on_watermark(EventTime::MAX, &mut out).unwrap();
    }
    exchange(&mut out, &mut finals);
    finals.iter_mut().for_each(|operator| operator.on_watermark(EventTime::MAX, &mut results).unwrap());
    results.take().into_iter().map(|(_, batch)| batch).collect()
}

#[tokio::test]
async fn every_function_finds_in_two_phases_what_datafusion_finds_in_one_batch() {
    let session = session();
    for call in CALLS {
        let frame = session.sql(&format!("SELECT key, {call} AS a FROM t GROUP BY key")).await.expect(call);
        let wanted = lines(&frame.clone().collect().await.expect(call), [0, 1]);
        assert_eq!(wanted.len(), 4);
        let plan = frame.create_physical_plan().await.expect(call);
        let aggregate = find(&plan).expect(call);
        let input = datafusion::physical_plan::collect(Arc::clone(aggregate.input()), session.task_ctx()).await;
        let input = arrow::compute::concat_batches(&aggregate.input_schema(), &input.unwrap()).unwrap();
        for (window, columns) in [
            (WindowKind::Global, [0, 1]),
            (WindowKind::Tumble { width: 1_000 }, [1, 2]),
            (WindowKind::Hop { slide: 500, width: 500 }, [1, 2]),
            (WindowKind::Session { gap: 1_000 }, [1, 2]),
        ] {
            let spec = specification(aggregate, window);
            let mut columns_of_input = input.columns().to_vec();
            if columns_of_input.len() < spec.input.fields().len() {
                let times = TimestampNanosecondArray::from_iter_values(0..input.num_rows() as i64);
                columns_of_input.push(Arc::new(times));
            }
            let input = RecordBatch::try_new(Arc::clone(&spec.input), columns_of_input).unwrap();
            assert_eq!(lines(&run(&spec, &input), columns), wanted, "{call} in {window:?}");
        }
    }
}
