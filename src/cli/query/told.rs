//! What the prompt tells of the tables: `\d`.

use arrow::datatypes::Schema;

use crate::connectors::delta::types::sql_name;
use crate::history::{HistoryKind, HistoryTable};

/// All tables, a line each.
pub fn tables(tables: &[HistoryTable]) -> String {
    if tables.is_empty() {
        return "the folder keeps nothing: declare a table with connector = 'delta' and INSERT INTO it\n".into();
    }
    let width = tables.iter().map(|table| table.name.chars().count()).max().unwrap_or(0);
    let line = |table: &HistoryTable| {
        let what = match &table.kind {
            HistoryKind::Table => table.place.clone(),
            HistoryKind::Source { recorded_in } => format!("the source, as recorded in {recorded_in}"),
        };
        format!("{:width$}  {what}\n", table.name)
    };
    tables.iter().map(line).collect()
}

/// The columns of a table, with what is known of them.
pub fn columns(table: &HistoryTable, schema: &Schema) -> String {
    let width = schema.fields().iter().map(|field| field.name().chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for field in schema.fields() {
        let mut notes = vec![];
        if table.partition_by.contains(field.name()) {
            notes.push("partition");
        }
        if table.event_time.as_ref() == Some(field.name()) {
            notes.push("event time");
        }
        let line = format!("{:width$}  {:12}  {}", field.name(), sql_name(field.data_type()), notes.join(", "));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, TimeUnit};

    use super::*;

    fn history() -> HistoryTable {
        let fields = vec![
            Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("kind", DataType::Utf8View, true),
            Field::new("day", DataType::Date32, true),
        ];
        HistoryTable {
            name: "clicks_history".into(),
            kind: HistoryKind::Table,
            place: "Delta table data/history/clicks_history".into(),
            columns: Arc::new(Schema::new(fields)),
            partition_by: vec!["day".into()],
            event_time: Some("timestamp".into()),
        }
    }

    #[test]
    fn tables_say_where_they_are_and_sources_where_they_are_recorded() {
        let recorded_in = "clicks_history".to_owned();
        let source = HistoryTable { name: "clicks".into(), kind: HistoryKind::Source { recorded_in }, ..history() };
        assert_eq!(
            tables(&[history(), source]),
            "clicks_history  Delta table data/history/clicks_history\n\
             clicks          the source, as recorded in clicks_history\n"
        );
        assert!(tables(&[]).starts_with("the folder keeps nothing"));
    }

    #[test]
    fn columns_have_their_types_in_sql() {
        let table = history();
        assert_eq!(
            columns(&table, &table.columns),
            "timestamp  TIMESTAMP     event time\nkind       TEXT\nday        DATE          partition\n"
        );
    }
}
