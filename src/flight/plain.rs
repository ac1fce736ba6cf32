//! Results in types that every client reads: texts and bytes without views, values without dictionaries.
//!
//! DataFusion reads Parquet into views; drivers of several years do not know them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

/// The schema in which rows of `schema` are sent.
pub fn schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The same rows in `schema`, which [`schema`] has made of theirs.
///
/// # Errors
/// When a batch is too large for its plain type: texts of more than 2 GB.
pub fn rows(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<ArrayRef>, ArrowError> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match field.data_type() {
            same if same == column.data_type() => Ok(Arc::clone(column)),
            plain => cast(column, plain),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &options)
}

/// The plain type in which values of a type are sent.
pub fn data_type(given: &DataType) -> DataType {
    match given {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => data_type(values),
        DataType::RunEndEncoded(_, values) => data_type(values.data_type()),
        DataType::List(item) | DataType::ListView(item) => DataType::List(field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}

fn field(given: &FieldRef) -> FieldRef {
    let plain = data_type(given.data_type());
    if plain == *given.data_type() {
        return Arc::clone(given);
    }
    Arc::new(Field::new(given.name(), plain, given.is_nullable()).with_metadata(given.metadata().clone()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        AsArray, BinaryViewArray, DictionaryArray, Int64Array, ListArray, StringViewArray, StructArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn views_and_dictionaries_become_plain_at_any_depth() {
        let texts = StringViewArray::from(vec!["short", "a text that is too long to stand in a view"]);
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let list = ListArray::new(item, OffsetBuffer::from_lengths([1, 1]), Arc::new(texts.clone()), None);
        let inner = Arc::new(Field::new("inner", DataType::Utf8View, false));
        let nested = StructArray::new(vec![inner].into(), vec![Arc::new(texts.clone())], None);
        let batch = RecordBatch::try_from_iter([
            ("number", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("text", Arc::new(texts)),
            ("bytes", Arc::new(BinaryViewArray::from(vec![&b"a"[..], b"b"]))),
            ("word", Arc::new(vec!["x", "y"].into_iter().collect::<DictionaryArray<Int32Type>>())),
            ("list", Arc::new(list)),
            ("nested", Arc::new(nested)),
        ])
        .unwrap();
        let plain = schema(&batch.schema());
        let types: Vec<String> = plain.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert!(types.iter().all(|name| !name.contains("View") && !name.contains("Dictionary")), "{types:?}");
        let sent = rows(&batch, &plain).unwrap();
        assert_eq!(sent.schema(), plain);
        assert_eq!(sent.column(3).as_string::<i32>().value(1), "y");
        assert_eq!(sent.column(4).as_list::<i32>().value(0).as_string::<i32>().value(0), "short");
        assert!(Arc::ptr_eq(sent.column(0), batch.column(0)));
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(rows(&empty, &schema(&empty.schema())).unwrap().num_rows(), 7);
    }
}
