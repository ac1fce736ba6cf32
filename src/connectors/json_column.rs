//! One column as JSON text, for destinations that hold columns and not records: structs and lists in a database,
//! fields of a Redis hash.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringViewArray, StringViewBuilder};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::ConnectorError;
use super::sql_table::arrow_error;
use crate::formats::{EncodeOptions, EncodedRows, Encoder};

/// The values of one column as JSON text, written by the format's encoder as objects of one field.
pub struct JsonColumn {
    schema: SchemaRef,
    encoder: Box<dyn Encoder>,
}

impl JsonColumn {
    /// For columns of that field's type.
    ///
    /// # Errors
    /// When the type has no place in JSON.
    pub fn new(field: &Field) -> Result<JsonColumn, ConnectorError> {
        let schema = Arc::new(Schema::new(vec![Field::new("v", field.data_type().clone(), true)]));
        Ok(JsonColumn { encoder: EncodeOptions::default().encoder(schema.clone())?, schema })
    }

    /// Each value as JSON; null stays null.
    ///
    /// # Errors
    /// When a value cannot be JSON.
    pub fn text(&mut self, array: &ArrayRef) -> Result<StringViewArray, ConnectorError> {
        let batch = RecordBatch::try_new(self.schema.clone(), vec![array.clone()])
            .map_err(|source| arrow_error("a column as JSON", source))?;
        let mut rows = EncodedRows::default();
        self.encoder.encode(&batch, &mut rows)?;
        let mut builder = StringViewBuilder::with_capacity(array.len());
        for (row, object) in rows.iter().enumerate() {
            // {"v":VALUE}
            let value = object.get(5..object.len().saturating_sub(1)).filter(|_| array.is_valid(row));
            builder.append_option(value.and_then(|value| std::str::from_utf8(value).ok()));
        }
        Ok(builder.finish())
    }
}
