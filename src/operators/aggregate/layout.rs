//! The shape of partial states between the phases, and the checks that a specification must pass.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimestampNanosecondType};
use datafusion::common::{Result, internal_datafusion_err, plan_err};

use super::super::window::{EVENT_TIME, ROW_WATERMARK, TIME_TYPE, WindowAggregate, WindowKind};
use super::accumulators::{Accumulators, Call};
use super::groups::GroupStates;
use super::lateness::Place;

/// First column of a partial state: start of the pane, event time of an instant, start of a piece of a session.
pub const PANE: &str = "__pane";
/// Second column of a partial state of a session: where this piece of it ends.
pub const SESSION_END: &str = "__session_end";
/// What a partial state is too late for. Hop windows: the end of the first window that it counts in. Sessions: it
/// must not touch a session that this watermark has closed.
pub const FROM: &str = "__from";

impl WindowAggregate {
    /// The schema between the phases: [`PANE`]; for sessions [`SESSION_END`]; for hop windows and sessions [`FROM`];
    /// the groups; and the states of all aggregates. Groups and states are named by position, so that the state in a
    /// checkpoint does not depend on what a query calls its columns.
    ///
    /// # Errors
    /// When an aggregate does not say what its state is.
    pub fn partial_schema(&self) -> Result<SchemaRef> {
        let mut fields: Vec<FieldRef> =
            key_names(self.window).iter().map(|name| Arc::new(Field::new(*name, TIME_TYPE, false))).collect();
        for (position, (_, field)) in self.group_by.iter().enumerate() {
            let name = format!("__group_{position}");
            fields.push(Arc::new(Field::new(name, field.data_type().clone(), field.is_nullable())));
        }
        let mut position = 0;
        for call in &self.aggregates {
            for field in call.function.state_fields()? {
                let name = format!("__state_{position}");
                fields.push(Arc::new(field.as_ref().clone().with_name(name).with_nullable(true)));
                position += 1;
            }
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Where the groups are in [`WindowAggregate::partial_schema`]: what the exchange hashes. Empty without groups.
    pub fn partial_group_columns(&self) -> Vec<usize> {
        let keys = key_names(self.window).len();
        (keys..keys + self.group_by.len()).collect()
    }

    /// Whether the operators can run this.
    ///
    /// # Errors
    /// A plan error that says what is wrong: a window's length, a missing event time, or an aggregate that DataFusion
    /// cannot compute in the form asked for.
    pub fn check(&self) -> Result<()> {
        check_window(self.window)?;
        check_time_column(&self.input, EVENT_TIME, true)?;
        check_time_column(&self.input, ROW_WATERMARK, false)?;
        self.partial_schema()?;
        for call in &self.aggregates {
            if let Err(error) = Accumulators::probe(&call.function) {
                return plan_err!("{} cannot be computed: {}", call.function.name(), error.strip_backtrace());
            }
        }
        Ok(())
    }
}

fn key_names(window: WindowKind) -> &'static [&'static str] {
    match window {
        WindowKind::Session { .. } => &[PANE, SESSION_END, FROM],
        WindowKind::Hop { .. } => &[PANE, FROM],
        WindowKind::Tumble { .. } | WindowKind::Instant | WindowKind::Global => &[PANE],
    }
}

fn check_window(window: WindowKind) -> Result<()> {
    match window {
        WindowKind::Tumble { width } if width <= 0 => plan_err!("tumble(width): the width must be above zero"),
        WindowKind::Session { gap } if gap <= 0 => plan_err!("session(gap): the gap must be above zero"),
        WindowKind::Hop { slide, width } if slide <= 0 || width <= 0 => {
            plan_err!("hop(slide, width): slide and width must be above zero")
        }
        WindowKind::Hop { slide, width } if width % slide != 0 => {
            plan_err!("hop(slide, width): the width must be a multiple of the slide")
        }
        _ => Ok(()),
    }
}

fn check_time_column(input: &Schema, name: &str, required: bool) -> Result<()> {
    match input.field_with_name(name) {
        Ok(field) if *field.data_type() == TIME_TYPE => Ok(()),
        Ok(field) => plan_err!("the input's {name} must be {TIME_TYPE}, but it is {}", field.data_type()),
        Err(_) if required => plan_err!("the input of a windowed aggregation must have the column {name}"),
        Err(_) => Ok(()),
    }
}

/// A specification made ready to run: what both operators and all their windows share.
pub(super) struct Layout {
    pub(super) window: WindowKind,
    pub(super) partial: SchemaRef,
    pub(super) output: SchemaRef,
    /// The groups alone.
    pub(super) groups: SchemaRef,
    pub(super) calls: Vec<Call>,
    /// How many key columns stand before the groups in `partial`.
    pub(super) keys: usize,
    /// States merged into others, for tests and tuning.
    pub(super) states_merged: AtomicU64,
}

impl Layout {
    pub(super) fn new(spec: &WindowAggregate) -> Result<Layout> {
        spec.check()?;
        let groups: Fields = spec.group_by.iter().map(|(_, field)| Arc::clone(field)).collect();
        let mut calls = vec![];
        let mut start = 0;
        for call in &spec.aggregates {
            let end = start + call.function.state_fields()?.len();
            calls.push(Call::new(call, start..end));
            start = end;
        }
        Ok(Layout {
            window: spec.window,
            partial: spec.partial_schema()?,
            output: Arc::clone(&spec.output),
            groups: Arc::new(Schema::new(groups)),
            calls,
            keys: key_names(spec.window).len(),
            states_merged: AtomicU64::new(0),
        })
    }

    pub(super) fn count_merged(&self, states: usize) {
        self.states_merged.fetch_add(states as u64, Ordering::Relaxed);
    }

    fn group_range(&self) -> Range<usize> {
        self.keys..self.keys + self.groups.fields().len()
    }

    /// The groups in a batch of partial states.
    pub(super) fn groups_of<'a>(&self, batch: &'a RecordBatch) -> &'a [ArrayRef] {
        &batch.columns()[self.group_range()]
    }

    /// The states in a batch of partial states.
    pub(super) fn states_of<'a>(&self, batch: &'a RecordBatch) -> &'a [ArrayRef] {
        &batch.columns()[self.group_range().end..]
    }

    /// One key column of a batch of partial states.
    pub(super) fn key<'a>(&self, batch: &'a RecordBatch, index: usize) -> Result<&'a [i64]> {
        nanoseconds(batch.column(index))
    }

    /// A batch of partial states from its key columns and the rest.
    pub(super) fn partial_batch(&self, keys: Vec<ArrayRef>, rest: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let columns = keys.into_iter().chain(rest).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.partial), columns, &options)?)
    }

    /// A batch of the partial states of one place.
    pub(super) fn batch_at(&self, place: Place, states: GroupStates) -> Result<RecordBatch> {
        let mut keys = vec![moment(place.pane, states.rows)];
        if self.keys > 1 {
            keys.push(moment(place.from, states.rows));
        }
        self.partial_batch(keys, states.columns, states.rows)
    }

    /// A batch of results. `bounds` are the windows' starts and ends, row by row.
    pub(super) fn output_batch(&self, bounds: Bounds, rest: Vec<ArrayRef>) -> Result<RecordBatch> {
        let Bounds { starts, ends } = bounds;
        let event_times: ArrayRef = Arc::new(match self.window {
            WindowKind::Instant | WindowKind::Global => TimestampNanosecondArray::from(starts.clone()),
            _ => TimestampNanosecondArray::from_iter_values(ends.iter().map(|end| end - 1)),
        });
        let mut columns: Vec<ArrayRef> = vec![];
        if self.window.has_window_column() {
            let DataType::Struct(fields) = self.output.field(0).data_type() else {
                return Err(internal_datafusion_err!("a window is not a struct"));
            };
            let ends: [ArrayRef; 2] =
                [Arc::new(TimestampNanosecondArray::from(starts)), Arc::new(TimestampNanosecondArray::from(ends))];
            columns.push(Arc::new(StructArray::try_new(fields.clone(), ends.into(), None)?));
        }
        columns.extend(rest);
        columns.push(event_times);
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

/// Starts and ends of the windows of some rows.
pub(super) struct Bounds {
    pub(super) starts: Vec<i64>,
    pub(super) ends: Vec<i64>,
}

impl Bounds {
    /// One window for all of `rows`.
    pub(super) fn constant(start: i64, end: i64, rows: usize) -> Bounds {
        Bounds { starts: vec![start; rows], ends: vec![end; rows] }
    }
}

/// A column of one moment.
fn moment(nanoseconds: i64, rows: usize) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from_value(nanoseconds, rows))
}

/// The values of a time column that holds no null.
pub(super) fn nanoseconds(column: &ArrayRef) -> Result<&[i64]> {
    match column.as_primitive_opt::<TimestampNanosecondType>() {
        Some(times) if times.null_count() == 0 => Ok(times.values()),
        Some(_) => Err(internal_datafusion_err!("a time column of a windowed aggregation holds null")),
        None => Err(internal_datafusion_err!("a time column of a windowed aggregation is {}", column.data_type())),
    }
}
