//! Rows as text, the same for what is found and what is expected.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType};

/// One line a row: values between bars, times in milliseconds.
pub fn lines(batch: &RecordBatch) -> Vec<String> {
    let all: Vec<usize> = (0..batch.num_columns()).collect();
    columns(batch, &all)
}

/// The same of some columns.
pub fn columns(batch: &RecordBatch, which: &[usize]) -> Vec<String> {
    (0..batch.num_rows())
        .map(|row| {
            let mut line = String::new();
            for &column in which {
                let array = batch.column(column);
                if !line.is_empty() {
                    line.push('|');
                }
                line.push_str(&cell(array.as_ref(), row));
            }
            line
        })
        .collect()
}

fn cell(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "null".into();
    }
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Timestamp(..) => (array.as_primitive::<TimestampNanosecondType>().value(row) / 1_000_000).to_string(),
        other => panic!("a column of type {other}"),
    }
}

/// A line from its values.
#[macro_export]
macro_rules! line {
    ($($value:expr),* $(,)?) => { [$($crate::rows::text(&$value)),*].join("|") };
}

/// A value as text.
pub fn text(value: &dyn Value) -> String {
    value.text()
}

pub trait Value {
    fn text(&self) -> String;
}

impl Value for i64 {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for usize {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for &str {
    fn text(&self) -> String {
        (*self).to_owned()
    }
}

impl<T: Value> Value for Option<T> {
    fn text(&self) -> String {
        self.as_ref().map_or_else(|| "null".to_owned(), Value::text)
    }
}
