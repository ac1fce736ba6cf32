//! Events to Arrow columns, a whole column at a time.

use std::sync::Arc;

use arrow::array::TimestampMillisecondArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use chrono::Utc;

use super::columns::Column;
use super::house::{House, Value};
use super::sequence::{Event, Kind};

/// Events of which columns are made.
pub(super) struct Rows<'a> {
    pub(super) house: &'a House,
    pub(super) events: Vec<Event>,
}

impl Rows<'_> {
    /// The rows in the columns of `schema`, which are among `columns`.
    ///
    /// # Errors
    /// When one is not.
    pub(super) fn batch(&self, schema: &SchemaRef, columns: &[(String, Column)]) -> Result<RecordBatch, ArrowError> {
        let mut arrays = vec![];
        for field in schema.fields() {
            let column = columns.iter().find(|(name, _)| name == field.name());
            let (_, column) =
                column.ok_or_else(|| ArrowError::SchemaError(format!("there is no column {}", field.name())))?;
            arrays.push(self.column(column, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.events.len()));
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
    }

    fn column(&self, column: &Column, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        match (column, data_type) {
            (Column::Field(value), _) => self.values(*value, None, data_type),
            (Column::MadeAt, _) => {
                let now = TimestampMillisecondArray::from_value(Utc::now().timestamp_millis(), self.events.len());
                cast(&now, data_type)
            }
            (Column::Event(kind, values), DataType::Struct(parts)) => {
                let nulls: NullBuffer = self.events.iter().map(|event| event.kind == *kind).collect();
                let some = Some((*kind, &nulls));
                let arrays = values.iter().zip(parts).map(|(value, part)| self.values(*value, some, part.data_type()));
                let arrays = arrays.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
                Ok(Arc::new(StructArray::try_new(parts.clone(), arrays, Some(nulls))?))
            }
            (Column::Event(..), _) => Err(ArrowError::SchemaError("an event is a struct".into())),
        }
    }

    /// One value for each event, or for each of a kind if there are `some` of it; others are null.
    fn values(
        &self,
        value: Value,
        some: Option<(Kind, &NullBuffer)>,
        data_type: &DataType,
    ) -> Result<ArrayRef, ArrowError> {
        let nulls = some.map(|(_, nulls)| nulls.clone());
        let is_there = |event: &Event| some.is_none_or(|(kind, _)| event.kind == kind);
        let number = |make: fn(&House, &Event) -> i64| -> Vec<i64> {
            self.events.iter().map(|event| if is_there(event) { make(self.house, event) } else { 0 }).collect()
        };
        let array: ArrayRef = match value {
            Value::Number(make) => Arc::new(Int64Array::try_new(number(make).into(), nulls)?),
            Value::Time(make) => Arc::new(TimestampMillisecondArray::try_new(number(make).into(), nulls)?),
            Value::Text(make) => {
                let mut bytes = vec![];
                let mut ends = Vec::with_capacity(self.events.len() + 1);
                ends.push(0);
                for event in &self.events {
                    if is_there(event) {
                        make(self.house, event, &mut bytes);
                    }
                    ends.push(i32::try_from(bytes.len()).map_err(|_| ArrowError::OffsetOverflowError(bytes.len()))?);
                }
                Arc::new(StringArray::try_new(OffsetBuffer::new(ends.into()), Buffer::from_vec(bytes), nulls)?)
            }
        };
        if array.data_type() == data_type { Ok(array) } else { cast(&array, data_type) }
    }
}
