//! Windows of event time, and the shape of an aggregation over them: what the planner tells the operators.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

/// The hidden column that carries a row's event time through every stateless step: `Timestamp(Nanosecond)`, not null.
pub const EVENT_TIME: &str = "__event_time";
/// The hidden column with the watermark of a row's own split just before the row: `Timestamp(Nanosecond)`, not null.
/// A row counts as late by this and not by what other splits or tasks have done, so that lateness does not depend on
/// parallelism, batch sizes or timing.
pub const ROW_WATERMARK: &str = "__row_watermark";

/// The type of [`EVENT_TIME`], [`ROW_WATERMARK`] and the two ends of a window.
pub const TIME_TYPE: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

/// How rows are put into windows. All lengths are nanoseconds of event time, above zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WindowKind {
    /// Windows of `width` side by side, aligned to 1970-01-01.
    Tumble {
        /// Length of a window.
        width: i64,
    },
    /// Windows of `width` that begin every `slide`; `width` is a multiple of `slide`, which is then a pane's length.
    Hop {
        /// From one window's start to the next one's.
        slide: i64,
        /// Length of a window.
        width: i64,
    },
    /// A window ends when nothing has come for `gap`: its end is the last event time plus `gap`. One row alone makes a
    /// window of length `gap`; two rows exactly `gap` apart belong to two windows.
    Session {
        /// The silence that ends a window.
        gap: i64,
    },
    /// Rows that come out of windows already: those of equal event time belong together. No `window` column is added.
    Instant,
    /// One window over all time, closed when the input ends. No `window` column is added.
    Global,
}

impl WindowKind {
    /// Whether the aggregate's output begins with a `window` column.
    pub fn has_window_column(self) -> bool {
        !matches!(self, WindowKind::Instant | WindowKind::Global)
    }
}

/// The type of a `window` column: a struct of `start` and `end`.
pub fn window_type() -> DataType {
    let ends = ["start", "end"].map(|name| Field::new(name, TIME_TYPE, false));
    DataType::Struct(ends.into_iter().collect())
}

/// One aggregate call, resolved: `SUM(x) FILTER (WHERE y)`.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// The function with its arguments.
    pub function: Arc<AggregateFunctionExpr>,
    /// Its FILTER clause.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// A windowed aggregation.
///
/// The input has [`EVENT_TIME`], may have [`ROW_WATERMARK`], and the columns that the expressions use. The output has
/// `window` (if [`WindowKind::has_window_column`]), the groups, the aggregates, and [`EVENT_TIME`], which is the
/// window's end minus 1 ns (for [`WindowKind::Instant`] the input's; for [`WindowKind::Global`] 0).
#[derive(Clone, Debug)]
pub struct WindowAggregate {
    /// How rows are put into windows.
    pub window: WindowKind,
    /// The input's schema.
    pub input: SchemaRef,
    /// The group expressions, without the window, with their output fields.
    pub group_by: Vec<(Arc<dyn PhysicalExpr>, FieldRef)>,
    /// The aggregates.
    pub aggregates: Vec<AggregateCall>,
    /// The output's schema, as above.
    pub output: SchemaRef,
}

impl WindowAggregate {
    /// Assembles the specification; the output's schema follows from the parts.
    pub fn new(
        window: WindowKind,
        input: SchemaRef,
        group_by: Vec<(Arc<dyn PhysicalExpr>, FieldRef)>,
        aggregates: Vec<AggregateCall>,
    ) -> WindowAggregate {
        let mut fields: Vec<FieldRef> = vec![];
        if window.has_window_column() {
            fields.push(Arc::new(Field::new("window", window_type(), false)));
        }
        fields.extend(group_by.iter().map(|(_, field)| Arc::clone(field)));
        fields.extend(aggregates.iter().map(|call| call.function.field()));
        fields.push(Arc::new(Field::new(EVENT_TIME, TIME_TYPE, false)));
        let output = Arc::new(Schema::new(fields));
        WindowAggregate { window, input, group_by, aggregates, output }
    }
}
