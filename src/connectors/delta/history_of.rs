//! `history_of`: whether a table can record every row of another.
//!
//! What is recorded must be enough to read it again in place of the source: all its columns, and for each row the place
//! at which it stood.

use arrow::datatypes::DataType;

use super::types::{holds, sql_name};
use crate::catalog::{ColumnDefinition, ColumnKind, MetadataKey, TableDefinition};

/// Why `table` cannot record the rows of `source`, with what would be right: nothing if it can.
pub(crate) fn mistakes_of_history(table: &TableDefinition, source: &TableDefinition) -> Vec<(String, String)> {
    let mut mistakes = vec![];
    for column in source.columns.iter().filter(|column| is_recorded(column)) {
        mistakes.extend(mistake_of_column(table, source, column));
    }
    if source.metadata_column(MetadataKey::Offset).is_none() {
        let message =
            format!("table '{}' does not say at which offset a row stands, so its history has no order", source.name);
        let help = "declare \"offset\" BIGINT METADATA FROM 'offset' there (and, for Kafka, \"partition\" INT METADATA \
                    FROM 'partition'), and write them here too";
        mistakes.push((message, help.into()));
    }
    mistakes
}

/// What a record holds, and where it stood.
fn is_recorded(column: &ColumnDefinition) -> bool {
    match column.kind {
        ColumnKind::Physical => true,
        ColumnKind::Generated(_) => false,
        ColumnKind::Metadata(key) => matches!(key, MetadataKey::Offset | MetadataKey::Partition),
    }
}

fn mistake_of_column(
    table: &TableDefinition,
    source: &TableDefinition,
    column: &ColumnDefinition,
) -> Option<(String, String)> {
    let declared = |nullable: bool| {
        let not_null = if nullable { "" } else { " NOT NULL" };
        format!("\"{}\" {}{not_null}", column.name, sql_name(&column.data_type))
    };
    let Some(here) = table.column(&column.name) else {
        let message =
            format!("table '{}' cannot record '{}': it has no column '{}'", table.name, source.name, column.name);
        return Some((message, format!("add {}, and write it in the INSERT", declared(column.nullable))));
    };
    if !holds(&here.data_type, &column.data_type) && !is_number_of_partition(column, &here.data_type) {
        let message = format!(
            "table '{}' cannot record '{}': its column '{}' is of type {}, the source's is of type {}",
            table.name,
            source.name,
            column.name,
            sql_name(&here.data_type),
            sql_name(&column.data_type)
        );
        return Some((message, format!("declare it as {}", declared(here.nullable))));
    }
    if column.nullable && !here.nullable && column.kind == ColumnKind::Physical {
        let message = format!(
            "table '{}' cannot record '{}': its column '{}' is NOT NULL, the source's may be null",
            table.name, source.name, column.name
        );
        return Some((message, format!("declare it as {}", declared(true))));
    }
    None
}

/// Partitions and offsets may be kept in any whole number that is wide enough.
fn is_number_of_partition(column: &ColumnDefinition, here: &DataType) -> bool {
    match column.kind {
        ColumnKind::Metadata(MetadataKey::Partition) => matches!(here, DataType::Int32 | DataType::Int64),
        ColumnKind::Metadata(MetadataKey::Offset) => *here == DataType::Int64,
        _ => false,
    }
}
