//! SQL types to Arrow types: DataFusion's mapping, and a few names more that Arroyo, Flink and PostgreSQL users write.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::logical_expr::planner::{ContextProvider, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, Ident};

use super::options::closest;

/// The names that messages offer.
const NAMES: [&str; 23] = [
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "REAL",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "CHAR",
    "VARCHAR",
    "TEXT",
    "STRING",
    "JSON",
    "BYTEA",
    "BYTES",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "INTERVAL",
];

/// The Arrow type of a SQL type. Text is `Utf8`, `TIMESTAMP` is nanoseconds without a time zone, `TIMESTAMPTZ` is
/// nanoseconds in UTC, `JSON` is text.
///
/// # Errors
/// What is wrong and what would be right.
pub fn arrow_type(sql: &ast::DataType) -> std::result::Result<DataType, (String, String)> {
    let types = Types::new();
    let options = ParserOptions::new().with_map_string_types_to_utf8view(false);
    let column = ast::ColumnDef { name: Ident::new("c"), data_type: sql.clone(), options: vec![] };
    let schema = SqlToRel::new_with_options(&types, options).build_schema(vec![column]);
    let data_type = schema.map(|schema| schema.field(0).data_type().clone());
    match data_type {
        Ok(data_type) if has_empty_struct(&data_type) => {
            Err(("a STRUCT needs its fields".into(), "write STRUCT<name TYPE, ...>".into()))
        }
        Ok(data_type) => Ok(data_type),
        Err(error) => Err(wrong(sql, &error.strip_backtrace())),
    }
}

fn wrong(sql: &ast::DataType, reason: &str) -> (String, String) {
    let written = sql.to_string();
    let unknown = format!("there is no type {written}");
    if let ast::DataType::Timestamp(Some(_), _) = sql {
        return (unknown, "TIMESTAMP has 0, 3, 6 or 9 digits; without a number it has 9".into());
    }
    if reason.contains("recision") {
        return (
            unknown,
            "DECIMAL(precision, scale) has a precision from 1 to 76 and a scale up to the precision".into(),
        );
    }
    let word = written.split(['(', '<', ' ']).next().unwrap_or_default().to_uppercase();
    let names = format!("the types are {}, STRUCT<name TYPE, ...> and TYPE[]", NAMES.join(", "));
    match closest(&word, NAMES) {
        Some(meant) if meant != word => (unknown, format!("did you mean {meant}?")),
        _ => (unknown, names),
    }
}

fn has_empty_struct(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.is_empty() || fields.iter().any(|field| has_empty_struct(field.data_type())),
        DataType::List(item) | DataType::FixedSizeList(item, _) => has_empty_struct(item.data_type()),
        _ => false,
    }
}

/// What DataFusion's planner asks for when it converts types: no tables and no functions.
#[derive(Debug)]
struct Types {
    options: ConfigOptions,
}

impl Types {
    fn new() -> Types {
        let mut options = ConfigOptions::new();
        options.execution.time_zone = Some("+00:00".into());
        Types { options }
    }
}

impl ContextProvider for Types {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("no table {name} in a type")
    }
    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(MoreNames))
    }
    fn get_function_meta(&self, _: &str) -> Option<Arc<ScalarUDF>> {
        None
    }
    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }
    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }
    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }
    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        &self.options
    }
    fn udf_names(&self) -> Vec<String> {
        vec![]
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }
    fn udaf_names(&self) -> Vec<String> {
        vec![]
    }
    fn udwf_names(&self) -> Vec<String> {
        vec![]
    }
}

/// Names that DataFusion does not know.
#[derive(Debug)]
struct MoreNames;

impl TypePlanner for MoreNames {
    fn plan_type_field(&self, sql: &ast::DataType) -> Result<Option<FieldRef>> {
        use ast::DataType as Sql;
        let data_type = match sql {
            Sql::Nvarchar(_)
            | Sql::Character(_)
            | Sql::CharacterVarying(_)
            | Sql::CharVarying(_)
            | Sql::JSON
            | Sql::JSONB => DataType::Utf8,
            Sql::Bytes(_) | Sql::Blob(_) | Sql::Binary(_) | Sql::Varbinary(_) => DataType::Binary,
            Sql::Int16 => DataType::Int16,
            Sql::Int32 => DataType::Int32,
            Sql::Int64 => DataType::Int64,
            Sql::UInt8 => DataType::UInt8,
            Sql::UInt16 => DataType::UInt16,
            Sql::UInt32 => DataType::UInt32,
            Sql::UInt64 => DataType::UInt64,
            Sql::Float32 => DataType::Float32,
            Sql::Float64 => DataType::Float64,
            Sql::Date32 => DataType::Date32,
            Sql::Datetime(None) | Sql::TimestampNtz(None) => DataType::Timestamp(TimeUnit::Nanosecond, None),
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn convert(sql: &str) -> std::result::Result<DataType, (String, String)> {
        arrow_type(&Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap().parse_data_type().unwrap())
    }

    #[test]
    fn types_are_those_of_datafusion() {
        for (sql, expected) in [
            ("BOOLEAN", DataType::Boolean),
            ("SMALLINT", DataType::Int16),
            ("INT", DataType::Int32),
            ("BIGINT", DataType::Int64),
            ("INT UNSIGNED", DataType::UInt32),
            ("REAL", DataType::Float32),
            ("DOUBLE PRECISION", DataType::Float64),
            ("DECIMAL(12, 2)", DataType::Decimal128(12, 2)),
            ("VARCHAR(50)", DataType::Utf8),
            ("TEXT", DataType::Utf8),
            ("JSON", DataType::Utf8),
            ("BYTEA", DataType::Binary),
            ("BYTES", DataType::Binary),
            ("DATE", DataType::Date32),
            ("TIMESTAMP", DataType::Timestamp(TimeUnit::Nanosecond, None)),
            ("TIMESTAMP(3)", DataType::Timestamp(TimeUnit::Millisecond, None)),
            ("TIMESTAMP WITH TIME ZONE", DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()))),
        ] {
            assert_eq!(convert(sql), Ok(expected), "{sql}");
        }
    }

    #[test]
    fn lists_and_structs_nest() {
        let DataType::List(item) = convert("STRUCT<Product_Id BIGINT, tags TEXT[], raw BYTES>[]").unwrap() else {
            panic!("no list")
        };
        let DataType::Struct(fields) = item.data_type() else { panic!("no struct") };
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["product_id", "tags", "raw"]);
        assert!(matches!(fields[1].data_type(), DataType::List(item) if item.data_type() == &DataType::Utf8));
        assert_eq!(fields[2].data_type(), &DataType::Binary);
        assert_eq!(convert("ARRAY<INT>"), convert("INT[]"));
    }

    #[test]
    fn unknown_types_say_what_would_be_right() {
        assert_eq!(convert("STRNG"), Err(("there is no type STRNG".into(), "did you mean STRING?".into())));
        assert_eq!(
            convert("TIMESTAMP(5)").unwrap_err().1,
            "TIMESTAMP has 0, 3, 6 or 9 digits; without a number it has 9"
        );
        assert_eq!(
            convert("DECIMAL(99, 2)").unwrap_err().1,
            "DECIMAL(precision, scale) has a precision from 1 to 76 and a scale up to the precision"
        );
        assert_eq!(convert("STRUCT").unwrap_err().0, "a STRUCT needs its fields");
        let (message, help) = convert("GEOGRAPHY").unwrap_err();
        assert_eq!(message, "there is no type GEOGRAPHY");
        assert!(help.starts_with("the types are BOOLEAN, TINYINT, ") && help.ends_with(" and TYPE[]"), "{help}");
    }
}
