//! Tables as DataFusion's planner sees them: names and types, nothing that could be scanned.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::{DefaultTableSource, TableType};
use datafusion::logical_expr::{Expr, TableScan, TableSource};
use datafusion::physical_plan::ExecutionPlan;

use crate::catalog::ColumnKind;
use crate::operators::window::{EVENT_TIME, ROW_WATERMARK, TIME_TYPE};
use crate::program::Table;

/// A declared table under its name: every column that `SELECT *` gives.
#[derive(Debug)]
pub struct DeclaredTable {
    /// Which of the program's tables.
    pub index: usize,
    schema: SchemaRef,
}

impl DeclaredTable {
    /// The program's table number `index`.
    pub fn new(index: usize, table: &Table) -> DeclaredTable {
        DeclaredTable { index, schema: table.definition.schema() }
    }

    /// The table that `scan` reads, if it is a declared one.
    pub fn of(scan: &TableScan) -> Option<usize> {
        let provider = &scan.source.downcast_ref::<DefaultTableSource>()?.table_provider;
        (provider.as_ref() as &dyn Any).downcast_ref::<DeclaredTable>().map(|table| table.index)
    }
}

#[async_trait]
impl TableProvider for DeclaredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("a declared table is read by a source, not scanned")
    }
}

/// What a source can give of a table: the physical columns, the metadata columns, and event time and watermark if
/// the table has them.
#[derive(Debug)]
pub struct SourceColumns {
    /// Which of the program's tables.
    pub index: usize,
    schema: SchemaRef,
}

impl SourceColumns {
    /// What can be had of the program's table number `index`.
    pub fn new(index: usize, table: &Table) -> SourceColumns {
        let mut fields = table.definition.physical_schema().fields().to_vec();
        for column in &table.definition.columns {
            if matches!(column.kind, ColumnKind::Metadata(_)) {
                fields.push(Arc::new(Field::new(&column.name, column.data_type.clone(), column.nullable)));
            }
        }
        if table.definition.watermark.is_some() {
            fields.extend([EVENT_TIME, ROW_WATERMARK].map(|name| Arc::new(Field::new(name, TIME_TYPE, false))));
        }
        SourceColumns { index, schema: Arc::new(Schema::new(fields)) }
    }

    /// The columns that `scan` reads, by name, with the table they belong to.
    pub fn of(scan: &TableScan) -> Option<(usize, Vec<String>)> {
        let source = scan.source.downcast_ref::<SourceColumns>()?;
        let names = scan.projected_schema.fields().iter().map(|field| field.name().clone()).collect();
        Some((source.index, names))
    }
}

impl TableSource for SourceColumns {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
