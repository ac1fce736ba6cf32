//! Behaviour worth an example of its own.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::bit_and_or_xor::bit_xor_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;

use super::harness::{Pipeline, batch_of, call, column, input_schema, lines, specification};
use super::model::Row;
use crate::operators::aggregate::{FinalAggregate, PartialAggregate};
use crate::operators::window::{AggregateCall, EVENT_TIME, ROW_WATERMARK, WindowAggregate, WindowKind};
use crate::operators::{LATE, MAIN, Operator, Output};
use crate::time::EventTime;

const SECOND: i64 = 1_000_000_000;

fn row(time: i64, key: &str, value: i64) -> Row {
    Row {
        id: time,
        key: Some(key.to_owned()),
        value: Some(value),
        weight: None,
        text: None,
        flag: None,
        time,
        watermark: i64::MIN,
    }
}

fn counting() -> Vec<AggregateCall> {
    vec![call(count_udaf(), vec![column("value")], None), call(sum_udaf(), vec![column("value")], None)]
}

fn sorted(spec: &WindowAggregate, batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = lines(spec, batches);
    lines.sort();
    lines
}

/// Ten keys in each of `seconds` seconds; returns rows aggregated, states merged and result rows.
fn work_of(window: WindowKind, seconds: i64) -> (u64, u64, usize) {
    let mut pipeline = Pipeline::new(&specification(window, true, counting()), 1, 1);
    for second in 0..seconds {
        let rows: Vec<Row> = (0..50).map(|i| row(second * SECOND + i, &format!("k{}", i % 10), 1)).collect();
        pipeline.batch(0, &rows);
        pipeline.watermark(0, second * SECOND);
    }
    pipeline.end();
    let rows = pipeline.results.iter().map(RecordBatch::num_rows).sum();
    (pipeline.partials[0].rows_aggregated(), pipeline.finals[0].states_merged(), rows)
}

#[test]
fn a_hop_window_aggregates_each_row_once_and_merges_a_few_states_for_a_result() {
    let (rows, merged, results) = work_of(WindowKind::Tumble { width: SECOND }, 300);
    assert_eq!((rows, merged, results), (15_000, 3_000, 3_000));
    let (rows, merged, results) = work_of(WindowKind::Hop { slide: SECOND, width: 60 * SECOND }, 300);
    assert_eq!(rows, 15_000, "as many as for tumbling windows");
    assert_eq!(results, 3_590);
    // Each result has up to 60 panes. Merging them anew each time would take some 180,000 merges.
    assert!(merged < 8 * 3_590, "{merged}");
}

#[test]
fn closed_windows_give_their_memory_back() {
    for window in [
        WindowKind::Tumble { width: 10 },
        WindowKind::Hop { slide: 5, width: 20 },
        WindowKind::Session { gap: 5 },
        WindowKind::Instant,
    ] {
        let mut pipeline = Pipeline::new(&specification(window, true, counting()), 1, 1);
        let rows: Vec<Row> = (0..5000).map(|i| row(i % 40, &format!("key {i}"), i)).collect();
        pipeline.batch(0, &rows);
        assert!(pipeline.partials[0].state_bytes() > 100_000, "{window:?}");
        pipeline.tick();
        assert_eq!(pipeline.partials[0].state_bytes(), 0, "{window:?}");
        assert!(pipeline.finals[0].state_bytes() > 100_000, "{window:?}");
        pipeline.watermark(0, 1000);
        assert_eq!(pipeline.finals[0].state_bytes(), 0, "{window:?}");
    }
}

#[test]
fn a_tick_publishes_open_windows_that_changed_and_keeps_their_state() {
    let spec = specification(WindowKind::Tumble { width: 10 }, true, counting());
    let mut pipeline = Pipeline::new(&spec, 2, 2);
    pipeline.batch(0, &[row(1, "a", 5), row(12, "b", 1)]);
    pipeline.batch(1, &[row(2, "a", 6)]);
    let published = pipeline.tick();
    assert_eq!(sorted(&spec, &published), ["0 | 10 | a | 2 | 11", "10 | 20 | b | 1 | 1"]);
    pipeline.batch(1, &[row(3, "a", 7)]);
    let published = pipeline.tick();
    assert_eq!(sorted(&spec, &published), ["0 | 10 | a | 3 | 18"]);
    assert!(pipeline.tick().is_empty());
    pipeline.end();
    assert_eq!(sorted(&spec, &pipeline.results), ["0 | 10 | a | 3 | 18", "10 | 20 | b | 1 | 1"]);
}

#[test]
fn a_tick_publishes_every_open_hop_window_and_session() {
    let hop = specification(WindowKind::Hop { slide: 5, width: 15 }, true, counting());
    let mut pipeline = Pipeline::new(&hop, 1, 1);
    pipeline.batch(0, &[row(1, "a", 1), row(6, "a", 10)]);
    pipeline.watermark(0, 5);
    // The window that ends at 5 is closed.
    let published = pipeline.tick();
    assert_eq!(sorted(&hop, &published), ["-5 | 10 | a | 2 | 11", "0 | 15 | a | 2 | 11", "5 | 20 | a | 1 | 10"]);
    pipeline.batch(0, &[row(12, "a", 100)]);
    let published = pipeline.tick();
    assert_eq!(sorted(&hop, &published), ["0 | 15 | a | 3 | 111", "10 | 25 | a | 1 | 100", "5 | 20 | a | 2 | 110"]);

    let session = specification(WindowKind::Session { gap: 5 }, true, counting());
    let mut pipeline = Pipeline::new(&session, 1, 1);
    pipeline.batch(0, &[row(1, "a", 1), row(3, "b", 10)]);
    let published = pipeline.tick();
    assert_eq!(sorted(&session, &published), ["1 | 6 | a | 1 | 1", "3 | 8 | b | 1 | 10"]);
    pipeline.batch(0, &[row(4, "a", 2)]);
    let published = pipeline.tick();
    assert_eq!(sorted(&session, &published), ["1 | 9 | a | 2 | 3"]);
    pipeline.end();
    assert_eq!(sorted(&session, &pipeline.results), ["1 | 9 | a | 2 | 3", "3 | 8 | b | 1 | 10"]);
}

#[test]
fn an_aggregate_over_nothing_is_one_row_at_the_end() {
    let spec = specification(WindowKind::Global, false, counting());
    let mut pipeline = Pipeline::new(&spec, 1, 3);
    pipeline.watermark(0, 100);
    assert!(pipeline.results.is_empty());
    pipeline.end();
    assert_eq!(lines(&spec, &pipeline.results), ["0 | 0 | null | 0 | null"]);

    let grouped = specification(WindowKind::Global, true, counting());
    let mut pipeline = Pipeline::new(&grouped, 1, 1);
    pipeline.end();
    assert!(pipeline.results.is_empty());
}

#[test]
fn late_rows_leave_as_they_came() {
    let spec = specification(WindowKind::Tumble { width: 10 }, true, counting());
    let mut partial = PartialAggregate::new(spec).unwrap();
    let late = Row { watermark: 9, ..row(3, "a", 1) };
    let mut out = Output::default();
    partial.on_batch(0, batch_of(&[row(1, "a", 1), late.clone()]), &mut out).unwrap();
    assert_eq!(out.take(), [(LATE, batch_of(&[late]))]);
    assert_eq!((partial.late_rows(), partial.rows_aggregated()), (1, 1));
}

#[test]
fn without_row_watermarks_the_operators_own_decides() {
    let window = WindowKind::Tumble { width: 10 };
    let with = input_schema();
    let index = with.index_of(ROW_WATERMARK).unwrap();
    let columns: Vec<usize> = (0..index).collect();
    let mut spec = (*specification(window, true, counting())).clone();
    spec.input = Arc::new(with.project(&columns).unwrap());
    let mut partial = PartialAggregate::new(Arc::new(spec)).unwrap();
    let mut out = Output::default();
    let batch = |time| batch_of(&[row(time, "a", 1)]).project(&columns).unwrap();
    partial.on_batch(0, batch(1), &mut out).unwrap();
    partial.on_watermark(EventTime(9), &mut out).unwrap();
    partial.on_batch(0, batch(2), &mut out).unwrap();
    partial.on_batch(0, RecordBatch::new_empty(batch(2).schema()), &mut out).unwrap();
    let outputs: Vec<usize> = out.take().into_iter().map(|(output, _)| output).collect();
    assert_eq!(outputs, [MAIN, LATE]);
}

#[test]
fn state_leaves_the_first_phase_before_it_grows_without_bound() {
    for window in [WindowKind::Tumble { width: 1_000_000 }, WindowKind::Session { gap: 5 }] {
        let mut partial = PartialAggregate::new(specification(window, true, counting())).unwrap();
        let mut out = Output::default();
        for part in 0..20 {
            let rows: Vec<Row> = (0..4000).map(|i| row(i, &format!("{part} {i}"), 1)).collect();
            partial.on_batch(0, batch_of(&rows), &mut out).unwrap();
        }
        let sent: usize = out.take().iter().map(|(_, batch)| batch.num_rows()).sum();
        assert_eq!(sent, 68_000, "{window:?}");
    }
}

#[test]
fn rows_that_no_window_can_hold_are_late() {
    for window in [WindowKind::Hop { slide: 5, width: 15 }, WindowKind::Session { gap: 5 }] {
        let mut pipeline = Pipeline::new(&specification(window, true, counting()), 1, 1);
        pipeline.batch(0, &[row(i64::MAX - 1, "a", 1), row(7, "a", 1)]);
        pipeline.end();
        assert_eq!(pipeline.partials[0].late_rows(), 1, "{window:?}");
        assert!(!pipeline.results.is_empty());
    }
}

#[test]
fn groups_alone_are_the_distinct_ones_of_each_window() {
    let spec = specification(WindowKind::Tumble { width: 10 }, true, vec![]);
    let mut pipeline = Pipeline::new(&spec, 1, 2);
    pipeline.batch(0, &[row(1, "a", 1), row(2, "b", 1), row(3, "a", 1), row(14, "a", 1)]);
    pipeline.end();
    assert_eq!(sorted(&spec, &pipeline.results), ["0 | 10 | a", "0 | 10 | b", "10 | 20 | a"]);
}

#[test]
fn windows_alone_without_groups_or_aggregates_are_those_that_hold_rows() {
    for window in [WindowKind::Tumble { width: 10 }, WindowKind::Hop { slide: 10, width: 10 }] {
        let spec = specification(window, false, vec![]);
        let mut pipeline = Pipeline::new(&spec, 1, 1);
        pipeline.batch(0, &[row(1, "a", 1), row(2, "b", 1), row(24, "a", 1)]);
        pipeline.end();
        assert_eq!(sorted(&spec, &pipeline.results), ["0 | 10 | null", "20 | 30 | null"]);
    }
}

#[test]
fn several_groups_of_any_type_are_told_apart() {
    let mut spec = (*specification(WindowKind::Session { gap: 5 }, true, counting())).clone();
    let value = (column("value"), Arc::new(Field::new("value", DataType::Int64, true)));
    let spec = Arc::new(WindowAggregate::new(
        spec.window,
        Arc::clone(&spec.input),
        vec![spec.group_by.remove(0), value],
        spec.aggregates,
    ));
    let mut pipeline = Pipeline::new(&spec, 1, 2);
    pipeline.batch(0, &[row(1, "a", 1), row(2, "a", 2), row(3, "a", 1), row(4, "b", 1)]);
    pipeline.end();
    assert_eq!(
        sorted(&spec, &pipeline.results),
        ["1 | 8 | a | 1 | 2 | 2", "2 | 7 | a | 2 | 1 | 2", "4 | 9 | b | 1 | 1 | 1"]
    );
}

#[test]
fn the_same_input_gives_the_same_rows_in_the_same_order() {
    for window in [WindowKind::Session { gap: 5 }, WindowKind::Hop { slide: 5, width: 15 }] {
        let spec = specification(window, true, counting());
        let run = || {
            let mut pipeline = Pipeline::new(&spec, 1, 1);
            for part in 0..20 {
                let rows: Vec<Row> = (0..500).map(|i| row(part * 10 + i % 9, &format!("{}", i * 7 % 300), i)).collect();
                pipeline.batch(0, &rows);
                pipeline.watermark(0, part * 10 - 3);
            }
            pipeline.end();
            lines(&spec, &pipeline.results)
        };
        assert_eq!(run(), run());
    }
}

#[test]
fn ends_come_in_order() {
    for window in [WindowKind::Session { gap: 5 }, WindowKind::Hop { slide: 5, width: 15 }, WindowKind::Instant] {
        let spec = specification(window, true, counting());
        let mut pipeline = Pipeline::new(&spec, 1, 1);
        pipeline.batch(0, &(0..200).map(|i| row(i * 37 % 200, &format!("k{}", i % 5), i)).collect::<Vec<_>>());
        pipeline.end();
        let all = arrow::compute::concat_batches(&spec.output, &pipeline.results).unwrap();
        let times = all.column_by_name(EVENT_TIME).unwrap();
        let times = times.as_primitive::<arrow::datatypes::TimestampNanosecondType>();
        assert!(times.values().is_sorted(), "{window:?}");
    }
}

#[test]
fn bit_xor_distinct_counts_each_value_once() {
    let function = AggregateExprBuilder::new(bit_xor_udaf(), vec![column("value")]).schema(input_schema());
    let function = Arc::new(function.alias("a").distinct().build().unwrap());
    let call = AggregateCall { function, filter: None };
    let spec = specification(WindowKind::Tumble { width: 10 }, true, vec![call]);
    let mut pipeline = Pipeline::new(&spec, 1, 1);
    pipeline.batch(0, &[row(1, "a", 5), row(2, "a", 5), row(3, "a", 2)]);
    pipeline.tick();
    pipeline.batch(0, &[row(4, "a", 2)]);
    pipeline.end();
    assert_eq!(lines(&spec, &pipeline.results), ["0 | 10 | a | 7"]);
}

fn complaint(spec: &WindowAggregate) -> String {
    spec.check().unwrap_err().strip_backtrace()
}

#[test]
fn a_specification_that_cannot_run_says_why() {
    let hop = specification(WindowKind::Hop { slide: 7, width: 15 }, true, counting());
    assert_eq!(complaint(&hop), "Error during planning: hop(slide, width): the width must be a multiple of the slide");
    let none = specification(WindowKind::Tumble { width: 0 }, true, counting());
    assert_eq!(complaint(&none), "Error during planning: tumble(width): the width must be above zero");
    let mut timeless = (*specification(WindowKind::Instant, true, counting())).clone();
    timeless.input = Arc::new(Schema::empty());
    assert_eq!(
        complaint(&timeless),
        "Error during planning: the input of a windowed aggregation must have the column __event_time"
    );
    let order = PhysicalSortExpr { expr: column("id"), options: SortOptions::default() };
    let distinct = AggregateExprBuilder::new(array_agg_udaf(), vec![column("value")])
        .schema(input_schema())
        .alias("array_agg(DISTINCT value ORDER BY id)")
        .distinct()
        .order_by(vec![order]);
    let distinct = AggregateCall { function: Arc::new(distinct.build().unwrap()), filter: None };
    let spec = specification(WindowKind::Instant, true, vec![distinct]);
    assert_eq!(
        complaint(&spec),
        "Error during planning: array_agg(DISTINCT value ORDER BY id) cannot be computed: Execution error: In an \
         aggregate with DISTINCT, ORDER BY expressions must appear in argument list"
    );
}

#[test]
fn a_snapshot_of_another_aggregation_is_refused() {
    let spec = specification(WindowKind::Tumble { width: 10 }, true, counting());
    let mut pipeline = Pipeline::new(&spec, 1, 1);
    pipeline.batch(0, &[row(1, "a", 1)]);
    pipeline.tick();
    let snapshot = pipeline.finals[0].snapshot(&mut Output::default()).unwrap().remove(0);
    let fewer = specification(WindowKind::Tumble { width: 10 }, true, vec![]);
    let mut other = FinalAggregate::new(Arc::clone(&fewer), false, 0).unwrap();
    assert_eq!(
        other.restore(snapshot).unwrap_err().strip_backtrace(),
        "Execution error: the snapshot holds the state of another aggregation: its columns are __pane \
         Timestamp(ns), __group_0 Utf8, __state_0 Int64, __state_1 Int64, here they are __pane Timestamp(ns), \
         __group_0 Utf8"
    );
    let bare = RecordBatch::new_empty(fewer.partial_schema().unwrap());
    assert_eq!(
        other.restore(bare).unwrap_err().strip_backtrace(),
        "Execution error: a snapshot of a windowed aggregation must carry its watermark (acequia.watermark)"
    );
}

#[test]
fn a_compacted_state_has_one_row_for_each_open_window_and_group() {
    for window in
        [WindowKind::Tumble { width: 10 }, WindowKind::Hop { slide: 5, width: 10 }, WindowKind::Session { gap: 6 }]
    {
        let mut pipeline = Pipeline::new(&specification(window, true, counting()), 1, 1);
        for _ in 0..3 {
            pipeline.batch(0, &[row(1, "a", 1), row(12, "a", 1), row(16, "b", 1), row(17, "b", 1), row(12, "a", 1)]);
            pipeline.barrier();
        }
        pipeline.batch(0, &[row(11, "a", 1)]);
        pipeline.watermark(0, 9);
        pipeline.compact(Some(1));
        assert_eq!(pipeline.snapshot_rows(), 2, "{window:?}");
    }
}

#[test]
fn a_snapshot_holds_what_is_new_and_still_open() {
    let spec = specification(WindowKind::Tumble { width: 10 }, true, counting());
    let mut pipeline = Pipeline::new(&spec, 1, 1);
    let rows_of = |pipeline: &mut Pipeline| -> Vec<usize> {
        let snapshot = pipeline.finals[0].snapshot(&mut Output::default()).unwrap();
        snapshot.iter().map(RecordBatch::num_rows).collect()
    };
    assert_eq!(rows_of(&mut pipeline), [0; 0]);
    pipeline.batch(0, &[row(1, "a", 1), row(2, "b", 1), row(11, "a", 1)]);
    pipeline.tick();
    assert_eq!(rows_of(&mut pipeline), [3]);
    assert_eq!(rows_of(&mut pipeline), [0; 0], "nothing is new");
    pipeline.batch(0, &[row(1, "a", 1), row(13, "a", 1)]);
    pipeline.watermark(0, 9);
    pipeline.tick();
    assert_eq!(rows_of(&mut pipeline), [1], "the first window has closed");
    pipeline.watermark(0, 10);
    assert_eq!(rows_of(&mut pipeline), [0], "only the watermark is new");
}
