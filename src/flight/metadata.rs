//! The tables as a driver lists them.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};

use super::plain;
use crate::history::catalog::{CATALOG, HISTORY, LIVE};
use crate::history::live::LiveTables;
use crate::history::{History, HistoryKind};

/// What is kept; what is not kept yet.
const SCHEMAS: [&str; 2] = [HISTORY, LIVE];
const TABLE: &str = "TABLE";
/// The name of a source whose rows a table records.
const VIEW: &str = "VIEW";

/// A table in the list.
pub struct Listed {
    schema: &'static str,
    name: String,
    kind: &'static str,
    columns: SchemaRef,
}

/// All tables that can be asked. Live ones are left out while there is no pipeline that knows them.
pub async fn listed(history: &History, live: Option<&dyn LiveTables>) -> Vec<Listed> {
    let [kept, now] = SCHEMAS;
    let recorded = history.tables().into_iter().map(|table| Listed {
        schema: kept,
        name: table.name,
        kind: if table.kind == HistoryKind::Table { TABLE } else { VIEW },
        columns: plain::schema(&table.columns),
    });
    let running = match live {
        Some(live) => live.names().await.unwrap_or_default(),
        None => vec![],
    };
    let running = running.into_iter().map(|table| Listed {
        schema: now,
        name: table.name,
        kind: TABLE,
        columns: plain::schema(&table.columns),
    });
    recorded.chain(running).collect()
}

/// The answer to a question for tables; without `tables`, its columns alone.
///
/// # Errors
/// When it cannot be encoded.
pub fn tables(query: CommandGetTables, tables: &[Listed]) -> Result<RecordBatch, FlightError> {
    let mut builder = query.into_builder();
    for table in tables {
        builder.append(CATALOG, table.schema, &table.name, table.kind, &table.columns)?;
    }
    builder.build()
}

/// The answer to a question for catalogs.
///
/// # Errors
/// When it cannot be encoded.
pub fn catalogs(query: CommandGetCatalogs) -> Result<RecordBatch, FlightError> {
    let mut builder = query.into_builder();
    builder.append(CATALOG);
    builder.build()
}

/// The answer to a question for schemas.
///
/// # Errors
/// When it cannot be encoded.
pub fn schemas(query: CommandGetDbSchemas) -> Result<RecordBatch, FlightError> {
    let mut builder = query.into_builder();
    for schema in SCHEMAS {
        builder.append(CATALOG, schema);
    }
    builder.build()
}

/// The answer to a question for the kinds of tables.
///
/// # Errors
/// When it cannot be encoded.
pub fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch, FlightError> {
    let mut builder = query.into_builder();
    for kind in [TABLE, VIEW] {
        builder.append(kind);
    }
    builder.build()
}

/// Keys, of which there are none: a history only grows.
pub mod keys {
    use std::sync::{Arc, LazyLock};

    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let fields = fields.iter().map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The columns of an answer about primary keys, as Flight SQL defines them.
    pub static PRIMARY: LazyLock<SchemaRef> = LazyLock::new(|| {
        schema(&[
            ("catalog_name", DataType::Utf8, true),
            ("db_schema_name", DataType::Utf8, true),
            ("table_name", DataType::Utf8, false),
            ("column_name", DataType::Utf8, false),
            ("key_name", DataType::Utf8, true),
            ("key_sequence", DataType::Int32, false),
        ])
    });

    /// The columns of an answer about foreign keys.
    pub static FOREIGN: LazyLock<SchemaRef> = LazyLock::new(|| {
        schema(&[
            ("pk_catalog_name", DataType::Utf8, true),
            ("pk_db_schema_name", DataType::Utf8, true),
            ("pk_table_name", DataType::Utf8, false),
            ("pk_column_name", DataType::Utf8, false),
            ("fk_catalog_name", DataType::Utf8, true),
            ("fk_db_schema_name", DataType::Utf8, true),
            ("fk_table_name", DataType::Utf8, false),
            ("fk_column_name", DataType::Utf8, false),
            ("key_sequence", DataType::Int32, false),
            ("fk_key_name", DataType::Utf8, true),
            ("pk_key_name", DataType::Utf8, true),
            ("update_rule", DataType::UInt8, false),
            ("delete_rule", DataType::UInt8, false),
        ])
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn names(query: CommandGetTables) -> Vec<String> {
        let columns = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let listed = |schema, name: &str, kind| Listed { schema, name: name.into(), kind, columns: columns.clone() };
        let all = [
            listed("history", "sales_history", TABLE),
            listed("history", "sales", VIEW),
            listed("history", "users", TABLE),
            listed("live", "users", TABLE),
        ];
        let batch = tables(query, &all).unwrap();
        let texts = |column: usize| batch.column(column).as_string::<i32>().iter().flatten().collect::<Vec<_>>();
        texts(1).iter().zip(texts(2)).map(|(schema, name)| format!("{schema}.{name}")).collect()
    }

    #[test]
    fn tables_are_found_by_patterns_and_kinds() {
        let all = CommandGetTables::default;
        assert_eq!(names(all()), ["history.sales", "history.sales_history", "history.users", "live.users"]);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(names(CommandGetTables { db_schema_filter_pattern: some("li%"), ..all() }), ["live.users"]);
        let pattern = CommandGetTables { table_name_filter_pattern: some("sales_%"), ..all() };
        assert_eq!(names(pattern), ["history.sales_history"]);
        assert_eq!(names(CommandGetTables { table_types: vec![VIEW.into()], ..all() }), ["history.sales"]);
        assert!(names(CommandGetTables { catalog: some("other"), ..all() }).is_empty());
    }
}
