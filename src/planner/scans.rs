//! Tables that are read: their declared expressions resolved, and one source node for all queries of a table.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, TableReference, plan_datafusion_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use super::session::declared_expression;
use crate::catalog::ColumnKind;
use crate::connectors::Boundedness;
use crate::dataflow::graph::{EventTimeSpec, Node, NodeKind, SourceNode};
use crate::operators::window::{EVENT_TIME, ROW_WATERMARK, TIME_TYPE};
use crate::program::Table;

/// A table with the expressions of its declaration in DataFusion's terms, over physical and metadata columns.
pub struct TableExpressions {
    /// The table.
    pub table: Table,
    /// Whether its source ends by itself.
    pub bounded: bool,
    /// One expression a column, in order: the column itself, or a generated column's expression.
    columns: Vec<Expr>,
    /// Event time and watermark, both `Timestamp(Nanosecond)`.
    time: Option<(Expr, Expr)>,
}

impl TableExpressions {
    /// Resolves the declarations of `table`; `bounded` says that every source stops at its end.
    ///
    /// # Errors
    /// Unknown columns and functions, types that do not fit.
    pub fn new(table: &Table, bounded: bool, session: &SessionState) -> Result<TableExpressions> {
        let definition = &table.definition;
        let schema = DFSchema::try_from(definition.schema())?;
        let mut columns = vec![];
        for column in &definition.columns {
            columns.push(match &column.kind {
                ColumnKind::Generated(expression) => {
                    declared_expression(expression, &column.data_type, &schema, session)?
                }
                ColumnKind::Physical | ColumnKind::Metadata(_) => Expr::Column(Column::from_name(&column.name)),
            });
        }
        let time = match &definition.watermark {
            None => None,
            Some(watermark) => {
                let column = datafusion::sql::sqlparser::ast::Expr::Identifier(
                    datafusion::sql::sqlparser::ast::Ident::with_quote('"', &watermark.column),
                );
                let event_time = declared_expression(&column, &TIME_TYPE, &schema, session)?;
                let row_watermark = declared_expression(&watermark.expression, &TIME_TYPE, &schema, session)?;
                Some((event_time, row_watermark))
            }
        };
        let mut resolved = TableExpressions {
            table: table.clone(),
            bounded: bounded
                || table.connector.source().is_some_and(|source| source.boundedness() == Boundedness::Bounded),
            columns,
            time,
        };
        resolved.inline_generated_columns()?;
        Ok(resolved)
    }

    /// Generated columns may use each other; here each comes down to physical and metadata columns.
    fn inline_generated_columns(&mut self) -> Result<()> {
        for _ in 0..self.columns.len() {
            let before = self.columns.clone();
            let columns = before.iter().map(|expr| self.inlined(expr, &before)).collect::<Result<Vec<_>>>()?;
            if columns == self.columns {
                break;
            }
            self.columns = columns;
        }
        if let Some((event_time, watermark)) = self.time.take() {
            self.time = Some((self.inlined(&event_time, &self.columns)?, self.inlined(&watermark, &self.columns)?));
        }
        Ok(())
    }

    fn inlined(&self, expr: &Expr, columns: &[Expr]) -> Result<Expr> {
        let replaced = expr.clone().transform_up(|part| {
            let Expr::Column(column) = &part else { return Ok(Transformed::no(part)) };
            let at = self.table.definition.columns.iter().position(|declared| declared.name == column.name);
            match at.map(|at| &columns[at]) {
                Some(meaning) if *meaning != part => Ok(Transformed::yes(meaning.clone())),
                _ => Ok(Transformed::no(part)),
            }
        })?;
        Ok(replaced.data)
    }

    /// Event time and watermark of a row, over physical and metadata columns.
    pub fn time(&self) -> Option<(&Expr, &Expr)> {
        self.time.as_ref().map(|(event_time, watermark)| (event_time, watermark))
    }

    /// The column of that name, as an expression over a read of the table under the name `qualifier`.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn column(&self, name: &str, qualifier: &TableReference) -> Result<Expr> {
        let at = self
            .table
            .definition
            .columns
            .iter()
            .position(|column| column.name == name)
            .ok_or_else(|| plan_datafusion_err!("table {} has no column {name}", self.table.definition.name))?;
        let qualified = qualify(self.columns[at].clone(), qualifier)?;
        Ok(match &self.table.definition.columns[at].kind {
            ColumnKind::Generated(_) => qualified.alias_qualified(Some(qualifier.clone()), name),
            _ => qualified,
        })
    }

    /// The node that reads the columns of these names, `__event_time` among them if wanted. It reads columns that are
    /// declared NOT NULL as well, whoever wants them: which records are bad may not depend on the queries.
    ///
    /// # Errors
    /// When an expression has no physical form, or the table cannot be read.
    pub fn source_node(&self, wanted: &BTreeSet<String>, session: &SessionState) -> Result<Node> {
        let definition = &self.table.definition;
        let timed = wanted.contains(EVENT_TIME) || wanted.contains(ROW_WATERMARK);
        let time = self.time.as_ref().filter(|_| timed);
        let mut names = wanted.clone();
        for expr in time.iter().flat_map(|(event_time, watermark)| [event_time, watermark]) {
            names.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
        }
        let mut physical: Vec<FieldRef> = vec![];
        let mut metadata = vec![];
        for column in definition.columns.iter().filter(|column| !column.nullable || names.contains(&column.name)) {
            let field = Arc::new(Field::new(&column.name, column.data_type.clone(), column.nullable));
            match column.kind {
                ColumnKind::Physical => physical.push(field),
                ColumnKind::Metadata(key) => metadata.push((key, field)),
                ColumnKind::Generated(_) => {}
            }
        }
        let physical = Arc::new(Schema::new(physical));
        let mut fields: Vec<FieldRef> = physical.fields().to_vec();
        fields.extend(metadata.iter().map(|(_, field)| Arc::clone(field)));
        let event_time = match time {
            None => None,
            Some((event_time, watermark)) => {
                let schema = DFSchema::try_from(Schema::new(fields.clone()))?;
                fields.extend([EVENT_TIME, ROW_WATERMARK].map(|name| Arc::new(Field::new(name, TIME_TYPE, false))));
                Some(EventTimeSpec {
                    event_time: session.create_physical_expr(event_time.clone(), &schema)?,
                    watermark: session.create_physical_expr(watermark.clone(), &schema)?,
                    column: definition.watermark.as_ref().map(|w| w.column.clone()).unwrap_or_default(),
                })
            }
        };
        let factory = self.table.connector.source().ok_or_else(|| self.cannot_be_read())?;
        let outputs = vec![Arc::new(Schema::new(fields))];
        let detail = factory.describe();
        Ok(Node {
            name: definition.name.clone(),
            detail,
            kind: NodeKind::Source(SourceNode {
                table: definition.name.clone(),
                factory,
                physical,
                metadata,
                event_time,
                settings: self.table.settings.clone(),
                dead_letters: None,
            }),
            inputs: vec![],
            outputs,
        })
    }

    fn cannot_be_read(&self) -> DataFusionError {
        plan_datafusion_err!(
            "table {} is read, and its connector '{}' can only be written",
            self.table.definition.name,
            self.table.connector_name
        )
    }
}

/// The same expression over columns of `qualifier`.
fn qualify(expr: Expr, qualifier: &TableReference) -> Result<Expr> {
    let qualified = expr.transform_up(|part| match part {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new(Some(qualifier.clone()), column.name)))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(qualified.data)
}
