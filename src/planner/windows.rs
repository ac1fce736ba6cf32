//! What columns say about the window of their row.
//!
//! Rows of one window come out of it with one event time, so work may be divided by event time exactly where an
//! expression tells the window: that decides about GROUP BY, PARTITION BY, ORDER BY and JOIN without a further window.

use std::collections::HashMap;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Column;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, JoinType};
use datafusion::scalar::ScalarValue;

use crate::operators::window::WindowKind;

/// What a column says about the window of its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WindowPart {
    /// The window itself.
    Whole,
    /// Its start.
    Start,
    /// Its end.
    End,
}

/// A column that has to do with its row's window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowColumn {
    part: WindowPart,
    /// Of which kind the windows are, if all are of one.
    kind: Option<WindowKind>,
    /// A bit for each input of outer joins that gives the column: it is null where none of them has a row.
    inputs: u64,
}

/// The columns of a plan that have to do with windows.
#[derive(Clone, Debug)]
pub struct Windows {
    columns: HashMap<Column, WindowColumn>,
    /// The sets of joined inputs that a row may be made of, as bits.
    rows: Vec<u64>,
    /// How many inputs have been joined.
    inputs: u32,
}

impl Windows {
    /// Rows that belong to no window.
    pub fn none() -> Windows {
        Windows { columns: HashMap::new(), rows: vec![1], inputs: 1 }
    }

    /// Whether no column has to do with a window.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Notes that `column` is the window that an aggregation of `kind` makes.
    pub fn insert_window(&mut self, column: Column, kind: WindowKind) {
        self.columns.insert(column, WindowColumn { part: WindowPart::Whole, kind: Some(kind), inputs: 1 });
    }

    /// Notes that `column` is what `expr` was in the input of an aggregation, which has a row for each window.
    pub fn insert_group(&mut self, column: Column, expr: &Expr, input: &Windows) {
        if let Some(window) = input.told(expr) {
            self.columns.insert(column, WindowColumn { inputs: 1, ..window });
        }
    }

    /// The same rows with the columns `outputs`, which `exprs` compute.
    pub fn projected<'a>(&self, exprs: impl IntoIterator<Item = &'a Expr>, outputs: Vec<Column>) -> Windows {
        let columns = exprs.into_iter().zip(outputs).filter_map(|(expr, output)| Some((output, self.of(expr)?)));
        Windows { columns: columns.collect(), ..self.clone() }
    }

    /// Whether rows of which `expr` is equal belong to one window, and all rows of that window have it.
    pub fn tell(&self, expr: &Expr) -> bool {
        self.told(expr).is_some()
    }

    fn told(&self, expr: &Expr) -> Option<WindowColumn> {
        let always_there = |column: &WindowColumn| self.rows.iter().all(|row| row & column.inputs != 0);
        // Sessions that begin together may end at different times; so may windows of different widths.
        let tells = |column: &WindowColumn| column.part != WindowPart::Start || column.has_one_width();
        self.of(expr).filter(always_there).filter(tells)
    }

    fn of(&self, expr: &Expr) -> Option<WindowColumn> {
        match expr {
            Expr::Column(column) => self.columns.get(column).copied(),
            Expr::Alias(alias) => self.of(&alias.expr),
            Expr::Cast(cast) => self.of(&cast.expr).filter(|column| column.survives(cast.field.data_type())),
            Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "coalesce" => {
                let mut columns = args.iter().map(|arg| self.of(arg));
                columns.next()?.and_then(|first| columns.try_fold(first, |all, next| all.or(next?)))
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "get_field" => {
                let window = self.of(args.first()?).filter(|column| column.part == WindowPart::Whole)?;
                let Expr::Literal(ScalarValue::Utf8(Some(name)), _) = args.get(1)? else { return None };
                let part = match name.as_str() {
                    "start" => WindowPart::Start,
                    "end" => WindowPart::End,
                    _ => return None,
                };
                Some(WindowColumn { part, ..window })
            }
            _ => None,
        }
    }

    /// The rows of a join.
    pub fn joined(&self, right: &Windows, join_type: JoinType) -> Windows {
        // More inputs than bits: what the further ones say about windows is given up.
        let shift = self.inputs.min(63);
        let pairs = self.rows.iter().flat_map(|l| right.rows.iter().map(move |r| l | (r << shift)));
        let (left_alone, right_alone) = (self.rows.iter().copied(), right.rows.iter().map(|row| row << shift));
        let mut rows: Vec<u64> = match join_type {
            JoinType::Left | JoinType::LeftMark => pairs.chain(left_alone).collect(),
            JoinType::Right | JoinType::RightMark => pairs.chain(right_alone).collect(),
            JoinType::Full => pairs.chain(left_alone).chain(right_alone).collect(),
            _ => pairs.collect(),
        };
        rows.sort_unstable();
        rows.dedup();
        let mut columns = self.columns.clone();
        let moved = |(name, column): (&Column, &WindowColumn)| {
            (name.clone(), WindowColumn { inputs: column.inputs << shift, ..*column })
        };
        if self.inputs + right.inputs <= 63 {
            columns.extend(right.columns.iter().map(moved));
        }
        Windows { columns, rows, inputs: self.inputs + right.inputs }
    }

    /// Whether `left` of these rows and `right` of the others, being equal, mean that both rows are of one event time.
    pub fn meet(&self, left: &Expr, other: &Windows, right: &Expr) -> bool {
        match (self.of(left), other.of(right)) {
            (Some(a), Some(b)) => a.or(b).is_some_and(|both| both.part != WindowPart::Start || both.has_one_width()),
            _ => false,
        }
    }

    /// The rows of a union whose inputs have the columns `inputs` and which has the columns `outputs`.
    pub fn united(inputs: &[(&Windows, Vec<Column>)], outputs: Vec<Column>) -> Windows {
        let mut windows = Windows::none();
        for (index, output) in outputs.into_iter().enumerate() {
            let mut told = inputs.iter().map(|(windows, columns)| {
                columns.get(index).and_then(|column| windows.told(&Expr::Column(column.clone())))
            });
            let column = told.next().flatten().and_then(|first| told.try_fold(first, |all, next| all.or(next?)));
            windows.columns.extend(column.map(|column| (output, WindowColumn { inputs: 1, ..column })));
        }
        windows
    }
}

impl WindowColumn {
    fn has_one_width(&self) -> bool {
        matches!(self.kind, Some(WindowKind::Tumble { .. } | WindowKind::Hop { .. }))
    }

    /// The column that is sometimes this and sometimes the other.
    fn or(self, other: WindowColumn) -> Option<WindowColumn> {
        let kind = if self.kind == other.kind { self.kind } else { None };
        let inputs = self.inputs | other.inputs;
        (self.part == other.part).then_some(WindowColumn { part: self.part, kind, inputs })
    }

    /// Whether different values stay different as `data_type`.
    fn survives(&self, data_type: &DataType) -> bool {
        let unit = match (self.part, data_type) {
            (WindowPart::Whole, DataType::Struct(parts)) => {
                return parts
                    .iter()
                    .all(|part| WindowColumn { part: WindowPart::End, ..*self }.survives(part.data_type()));
            }
            (WindowPart::Whole, _) => return false,
            (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => return true,
            // A local time may be of two instants.
            (_, DataType::Timestamp(_, Some(zone))) if !["UTC", "+00:00"].contains(&zone.as_ref()) => return false,
            (_, DataType::Timestamp(TimeUnit::Nanosecond, _)) => return true,
            (_, DataType::Timestamp(TimeUnit::Microsecond, _)) => 1_000,
            (_, DataType::Timestamp(TimeUnit::Millisecond, _)) => 1_000_000,
            (_, DataType::Timestamp(TimeUnit::Second, _)) => 1_000_000_000,
            (_, DataType::Date32) => 86_400_000_000_000,
            _ => return false,
        };
        match self.kind {
            Some(WindowKind::Tumble { width: grain } | WindowKind::Hop { slide: grain, .. }) => grain % unit == 0,
            _ => false,
        }
    }
}
