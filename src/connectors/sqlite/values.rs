//! Arrow's columns as the five kinds of values that SQLite has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimeUnit};
use arrow::util::display::FormatOptions;
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;

use crate::connectors::ConnectorError;
use crate::connectors::json_column::JsonColumn;
use crate::connectors::sql_table::arrow_error;
use crate::connectors::sql_table::create::is_nested;

/// A column ready to be bound.
pub(super) enum Column {
    Integer(Int64Array),
    Real(Float64Array),
    Text(StringViewArray),
    Blob(BinaryViewArray),
}

/// Turns batches of one schema into bindable columns.
pub(super) struct Values {
    schema: SchemaRef,
    json: Vec<Option<JsonColumn>>,
}

/// A whole batch ready to be bound, and the rows that cannot be.
pub(super) struct Bindable {
    pub(super) columns: Vec<Column>,
    pub(super) bad: Vec<(usize, String)>,
}

impl Values {
    pub(super) fn new(schema: SchemaRef) -> Result<Values, ConnectorError> {
        let json = schema
            .fields()
            .iter()
            .map(|field| is_nested(field.data_type()).then(|| JsonColumn::new(field)).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Values { schema, json })
    }

    pub(super) fn bindable(&mut self, batch: &RecordBatch) -> Result<Bindable, ConnectorError> {
        let mut bindable = Bindable { columns: vec![], bad: vec![] };
        for (at, array) in batch.columns().iter().enumerate() {
            let array: ArrayRef = match &mut self.json[at] {
                Some(json) => Arc::new(json.text(array)?),
                None => array.clone(),
            };
            let name = self.schema.field(at).name();
            let converted = cast(&array).map_err(|source| arrow_error(&format!("column {name}"), source))?;
            if converted.null_count() != array.null_count() {
                for row in (0..array.len()).filter(|&row| array.is_valid(row) && converted.is_null(row)) {
                    bindable.bad.push((row, format!("column {name} holds a value outside the range of SQLite")));
                }
            }
            bindable.columns.push(match converted.data_type() {
                DataType::Int64 => Column::Integer(converted.as_primitive::<Int64Type>().clone()),
                DataType::Float64 => Column::Real(converted.as_primitive::<Float64Type>().clone()),
                DataType::BinaryView => Column::Blob(converted.as_binary_view().clone()),
                _ => Column::Text(converted.as_string_view().clone()),
            });
        }
        bindable.bad.sort_by_key(|(row, _)| *row);
        bindable.bad.dedup_by_key(|(row, _)| *row);
        Ok(bindable)
    }
}

impl Column {
    /// Binds the value of `row`.
    pub(super) fn bind(&self, row: usize, arguments: &mut SqliteArguments) -> Result<(), BoxDynError> {
        match self {
            Column::Integer(array) => arguments.add(array.is_valid(row).then(|| array.value(row))),
            Column::Real(array) => arguments.add(array.is_valid(row).then(|| array.value(row))),
            Column::Text(array) => arguments.add(array.is_valid(row).then(|| array.value(row))),
            Column::Blob(array) => arguments.add(array.is_valid(row).then(|| array.value(row))),
        }
    }
}

fn cast(array: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
    let data_type = match array.data_type() {
        DataType::Dictionary(_, values) => values,
        other => other,
    };
    let moment = "%Y-%m-%d %H:%M:%S%.f";
    let format = FormatOptions::new().with_timestamp_format(Some(moment)).with_datetime_format(Some(moment));
    let to = |array: &ArrayRef, to: DataType| {
        cast_with_options(array, &to, &CastOptions { safe: true, format_options: format.clone() })
    };
    match data_type {
        DataType::Boolean => to(array, DataType::Int64),
        whole if whole.is_integer() => to(array, DataType::Int64),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => to(array, DataType::Float64),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            to(array, DataType::BinaryView)
        }
        // The zone says how a moment is shown; here all are shown in UTC.
        DataType::Timestamp(unit, Some(_)) => {
            let utc = to(array, DataType::Timestamp(*unit, Some("+00:00".into())))?;
            let utc = to(&utc, DataType::Timestamp(*unit, None))?;
            to(&utc, DataType::Utf8View)
        }
        DataType::Date64 => to(&to(array, DataType::Date32)?, DataType::Utf8View),
        DataType::Time32(TimeUnit::Second | TimeUnit::Millisecond) => to(array, DataType::Utf8View),
        _ => to(array, DataType::Utf8View),
    }
}
