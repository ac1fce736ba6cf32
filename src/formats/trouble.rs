//! What is wrong with a record, in words that a person can act on: every decoder tells it in the same way.

use arrow::datatypes::DataType;

use super::BadReason;

/// A record that cannot be read, on its way out of a decoder. Boxed, so that the good way stays narrow.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub reason: BadReason,
    pub message: String,
}

impl Trouble {
    #[cold]
    pub(crate) fn new(reason: BadReason, message: String) -> Box<Trouble> {
        Box::new(Trouble { reason, message })
    }
}

/// A type as SQL calls it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::UInt8 => "tinyint unsigned".into(),
        DataType::UInt16 => "smallint unsigned".into(),
        DataType::UInt32 => "int unsigned".into(),
        DataType::UInt64 => "bigint unsigned".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("decimal({precision},{scale})")
        }
        DataType::Date32 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".into(),
        DataType::Struct(_) => "struct".into(),
        DataType::List(_) => "array".into(),
        other => other.to_string(),
    }
}

/// A value for a message: at most 40 characters of it.
pub(crate) fn cut(shown: &[u8]) -> String {
    let text = String::from_utf8_lossy(&shown[..shown.len().min(200)]).replace(|c: char| c.is_control(), " ");
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
