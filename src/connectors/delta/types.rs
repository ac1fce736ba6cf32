//! Columns of a Delta table: which types it can hold, and as what.
//!
//! A Delta table has fewer types than Arrow. Times are microseconds; what has no place there is refused where the folder
//! is read, with a type that does.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use crate::catalog::options::Options;
use crate::catalog::{ColumnKind, TableDefinition};
use crate::formats::type_name;

/// What a column's name must not have in it: Parquet files of Delta tables cannot hold it without a table of names.
const FORBIDDEN: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// The type as which a Delta table keeps values of `data_type`.
///
/// # Errors
/// A type in SQL that it can keep instead.
pub(crate) fn stored(data_type: &DataType) -> Result<DataType, &'static str> {
    let stored = match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary => data_type.clone(),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Decimal128(_, scale) if *scale >= 0 => data_type.clone(),
        DataType::Decimal128(..) | DataType::Decimal256(..) => return Err("DECIMAL(38, ...) or DOUBLE"),
        DataType::UInt8 => return Err("SMALLINT"),
        DataType::UInt16 => return Err("INT"),
        DataType::UInt32 => return Err("BIGINT"),
        DataType::UInt64 => return Err("DECIMAL(20, 0)"),
        DataType::Time32(_) | DataType::Time64(_) => return Err("BIGINT, as microseconds since midnight, or TEXT"),
        DataType::Interval(_) | DataType::Duration(_) => return Err("BIGINT, as microseconds, or TEXT"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new("element", stored(item.data_type())?, item.is_nullable())))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(stored_field).collect::<Result<_, _>>()?),
        _ => return Err("TEXT"),
    };
    Ok(stored)
}

fn stored_field(field: &FieldRef) -> Result<FieldRef, &'static str> {
    Ok(Arc::new(Field::new(field.name(), stored(field.data_type())?, field.is_nullable())))
}

/// The columns as the Delta table keeps them; those that it cannot keep were refused before.
pub(super) fn stored_schema(schema: &Schema) -> Result<SchemaRef, String> {
    let fields =
        schema.fields().iter().map(|field| stored_field(field).map_err(|_| refusal(field.name(), field.data_type())));
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?)))
}

/// Whether a column of type `here` holds every value of a column of type `there`.
pub(crate) fn holds(here: &DataType, there: &DataType) -> bool {
    match (stored(here), stored(there)) {
        (Ok(here), Ok(there)) => is_same(&here, &there),
        _ => false,
    }
}

/// Whether two types are the same but for what may be null, and for the names of a list's items.
pub(super) fn is_same(one: &DataType, other: &DataType) -> bool {
    match (one, other) {
        (DataType::List(one), DataType::List(other)) => is_same(one.data_type(), other.data_type()),
        (DataType::Struct(one), DataType::Struct(other)) => {
            let same = |(one, other): (&FieldRef, &FieldRef)| {
                one.name() == other.name() && is_same(one.data_type(), other.data_type())
            };
            one.len() == other.len() && one.iter().zip(other).all(same)
        }
        _ => one == other,
    }
}

/// Whether values of this type can be names of folders.
pub(super) fn can_partition(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 | DataType::Binary => false,
        other => !other.is_nested(),
    }
}

/// Notes what a Delta table cannot hold.
pub(super) fn check_columns(table: &TableDefinition, options: &mut Options) {
    let mut names: Vec<(String, &str)> = vec![];
    for column in &table.columns {
        if let ColumnKind::Metadata(_) = column.kind {
            let message = format!("column '{}' takes METADATA, but a Delta table has none", column.name);
            let help = "declare it as a column like any other, and write it from the source's own";
            options.error(column.location, message, Some(help.into()));
            continue;
        }
        if let Err(instead) = stored(&column.data_type) {
            let message = refusal(&column.name, &column.data_type);
            options.error(column.location, message, Some(format!("make it {instead}, and CAST where it is written")));
        }
        if column.name.is_empty() || column.name.contains(FORBIDDEN) {
            let message = format!("a Delta table cannot have a column named '{}'", column.name);
            let help = "leave out spaces and , ; { } ( ) =, and write SELECT ... AS the new name";
            options.error(column.location, message, Some(help.into()));
        }
        let folded = column.name.to_lowercase();
        if let Some((_, first)) = names.iter().find(|(name, _)| *name == folded) {
            let message =
                format!("a Delta table does not tell capital letters: '{first}' and '{}' are one", column.name);
            options.error(column.location, message, Some("give one of them another name".into()));
        }
        names.push((folded, &column.name));
    }
}

fn refusal(name: &str, data_type: &DataType) -> String {
    format!("a Delta table cannot hold column '{name}' of type {}", sql_name(data_type))
}

/// A type as SQL writes it.
pub(crate) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".into(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("{}[]", sql_name(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), sql_name(field.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        other => type_name(other).to_uppercase(),
    }
}
