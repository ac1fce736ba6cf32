//! A source whose rows are recorded, under its own name and columns: a view over the table that holds them.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder};

use super::kept::{Kept, recorded_type};
use super::{HistoryKind, HistoryTable};
use crate::catalog::{ColumnDefinition, ColumnKind, TableDefinition};
use crate::planner::session;

/// A source and the table that holds its rows.
pub(super) struct RecordedSource {
    /// The source as a table of the history.
    pub table: HistoryTable,
    source: TableDefinition,
    kept: Arc<Kept>,
}

impl RecordedSource {
    /// The source `source`, whose rows `kept` holds.
    pub fn new(source: TableDefinition, kept: Arc<Kept>) -> RecordedSource {
        let recorded = &kept.table;
        let is_held = |column: &&ColumnDefinition| {
            recorded.columns.column_with_name(&column.name).is_some() || matches!(column.kind, ColumnKind::Generated(_))
        };
        let fields = source.columns.iter().filter(is_held).map(|column| {
            let held = recorded.columns.column_with_name(&column.name).map(|(_, field)| field.data_type().clone());
            Field::new(&column.name, held.unwrap_or_else(|| recorded_type(&column.data_type)), true)
        });
        let table = HistoryTable {
            name: source.name.clone(),
            kind: HistoryKind::Source { recorded_in: recorded.name.clone() },
            columns: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            event_time: source.watermark.as_ref().map(|watermark| watermark.column.clone()),
            ..recorded.clone()
        };
        RecordedSource { table, source, kept }
    }

    /// The table that holds its rows.
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// The source's columns over a version of that table. Those that are not recorded are not there, and generated
    /// ones are computed again.
    pub fn view(&self, recorded: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
        let schema = DFSchema::try_from(recorded.schema())?;
        let mut columns = vec![];
        for column in &self.source.columns {
            match &column.kind {
                _ if schema.has_column_with_unqualified_name(&column.name) => {
                    columns.push(Expr::Column(Column::from_name(&column.name)));
                }
                ColumnKind::Generated(expression) => {
                    let data_type = recorded_type(&column.data_type);
                    let session = session::session()?;
                    // It may be made of a column that is not recorded: then it is not there either.
                    if let Ok(computed) = session::declared_expression(expression, &data_type, &schema, &session) {
                        columns.push(computed.cast_to(&data_type, &schema)?.alias(&column.name));
                    }
                }
                ColumnKind::Physical | ColumnKind::Metadata(_) => {}
            }
        }
        let plan = LogicalPlanBuilder::scan(self.kept.table.name.as_str(), provider_as_source(recorded), None)?;
        Ok(Arc::new(ViewTable::new(plan.project(columns)?.build()?, None)))
    }
}
