//! A row of SQLite as a JSON object, for the decoder of database rows: what stands in a cell decides, since SQLite takes
//! any value in any column.

use std::fmt::Write;

use arrow::datatypes::{DataType, SchemaRef};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, TypeInfo, ValueRef};

/// The columns of `schema`, which stand in the row behind its first column.
pub(super) fn row_json(row: &SqliteRow, schema: &SchemaRef) -> Result<String, sqlx::Error> {
    let cells = schema.fields().iter().enumerate().map(|(at, field)| {
        let name = serde_json::Value::from(field.name().as_str());
        Ok(format!("{name}:{}", cell_json(row, at + 1, field.data_type())?))
    });
    Ok(format!("{{{}}}", cells.collect::<Result<Vec<String>, sqlx::Error>>()?.join(",")))
}

fn cell_json(row: &SqliteRow, at: usize, data_type: &DataType) -> Result<String, sqlx::Error> {
    let cell = row.try_get_raw(at)?;
    if cell.is_null() {
        return Ok("null".into());
    }
    let kind = cell.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "INTEGER" => match (row.try_get_unchecked::<i64, _>(at)?, data_type) {
            (0, DataType::Boolean) => "false".into(),
            (1, DataType::Boolean) => "true".into(),
            (number, _) => number.to_string(),
        },
        "REAL" => real_json(row.try_get_unchecked::<f64, _>(at)?, data_type),
        "BLOB" => hexadecimal(&row.try_get_unchecked::<Vec<u8>, _>(at)?),
        _ if is_binary(data_type) => hexadecimal(row.try_get_unchecked::<String, _>(at)?.as_bytes()),
        _ => serde_json::Value::from(row.try_get_unchecked::<String, _>(at)?).to_string(),
    })
}

/// SQLite keeps decimals as floats, which hold 15 digits: so many are meant.
fn real_json(value: f64, data_type: &DataType) -> String {
    match data_type {
        _ if value.is_infinite() => if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }.into(),
        DataType::Decimal128(..) | DataType::Decimal256(..) => format!("{value:.14e}"),
        _ => serde_json::Value::from(value).to_string(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2 + 5);
    text.push_str("\"\\\\x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('"');
    text
}

/// Whether values of this type are bytes.
pub(super) fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}
