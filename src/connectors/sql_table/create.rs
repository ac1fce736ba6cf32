//! `CREATE TABLE` from a table's columns, in the words of each database.

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::{SqlTableOptions, quoted, quoted_list};

/// Whose SQL it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// The statement that makes the table for rows of `schema`.
pub fn create_table(dialect: Dialect, table: &SqlTableOptions, schema: &Schema) -> String {
    let mut lines: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| {
            let required = if field.is_nullable() { "" } else { " NOT NULL" };
            format!("    {} {}{required}", quoted(field.name()), column_type(dialect, field.data_type()))
        })
        .collect();
    if !table.key.is_empty() {
        lines.push(format!("    PRIMARY KEY ({})", quoted_list(table.key.iter().map(String::as_str))));
    }
    format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n)", table.quoted_name(), lines.join(",\n"))
}

/// The type of a column that holds values of `data_type` without loss.
pub fn column_type(dialect: Dialect, data_type: &DataType) -> String {
    match dialect {
        Dialect::Postgres => postgres_type(data_type),
        Dialect::Sqlite => sqlite_type(data_type),
    }
}

fn postgres_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 => "numeric(20, 0)".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("numeric({precision}, {scale})"),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytea".into()
        }
        DataType::Dictionary(_, values) => postgres_type(values),
        nested if is_nested(nested) => "jsonb".into(),
        _ => "text".into(),
    }
}

fn sqlite_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "REAL".into(),
        // A NUMERIC column keeps 15 digits and would round the rest away; text keeps all of them.
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            if *precision <= 15 {
                format!("DECIMAL({precision}, {scale})")
            } else {
                "TEXT".into()
            }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BLOB".into(),
        DataType::Dictionary(_, values) => sqlite_type(values),
        DataType::Duration(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond) => {
            "TEXT".into()
        }
        whole if whole.is_integer() => "INTEGER".into(),
        _ => "TEXT".into(),
    }
}

/// Whether values of the type are written as JSON.
pub fn is_nested(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Struct(_)
            | DataType::List(_)
            | DataType::LargeList(_)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::FixedSizeList(..)
            | DataType::Map(..)
    )
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;
    use crate::connectors::sql_table::tests::{options, table};

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("price", DataType::Decimal128(12, 2), true),
            Field::new("huge", DataType::Decimal128(30, 2), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
            Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
        ])
    }

    fn sql_table(pairs: &[(&str, &str)]) -> SqlTableOptions {
        let definition = table("t", &[("id", DataType::Int64)], &["id"]);
        SqlTableOptions::take("postgres", &definition, &mut options(pairs))
    }

    #[test]
    fn for_postgres() {
        assert_eq!(
            create_table(Dialect::Postgres, &sql_table(&[("table", "shop.t")]), &schema()),
            "CREATE TABLE IF NOT EXISTS \"shop\".\"t\" (\n    \"id\" bigint NOT NULL,\n    \"price\" numeric(12, 2),\n    \
             \"huge\" numeric(30, 2),\n    \"at\" timestamp,\n    \"tags\" jsonb,\n    PRIMARY KEY (\"id\")\n)"
        );
    }

    #[test]
    fn for_sqlite() {
        assert_eq!(
            create_table(Dialect::Sqlite, &sql_table(&[]), &schema()),
            "CREATE TABLE IF NOT EXISTS \"t\" (\n    \"id\" INTEGER NOT NULL,\n    \"price\" DECIMAL(12, 2),\n    \
             \"huge\" TEXT,\n    \"at\" TEXT,\n    \"tags\" TEXT,\n    PRIMARY KEY (\"id\")\n)"
        );
    }
}
