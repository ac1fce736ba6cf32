//! What a table is: its columns and their types, its key, its watermark, its options.
//!
//! [`TableDefinition`] is what `CREATE TABLE` said, with types resolved; it is what connectors and formats are given.
//! How a folder's statements become tables is the business of [`crate::program`].

pub mod options;
pub mod types;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast;

use crate::sql::Location;

/// A table as `CREATE TABLE` declared it.
#[derive(Clone, Debug)]
pub struct TableDefinition {
    /// Its name, as queries use it.
    pub name: String,
    /// Where the name stands.
    pub location: Location,
    /// Its columns in the order of declaration.
    pub columns: Vec<ColumnDefinition>,
    /// The columns of the primary key; empty if there is none.
    pub primary_key: Vec<String>,
    /// Its watermark, if it has one.
    pub watermark: Option<WatermarkDefinition>,
}

/// One column of a table.
#[derive(Clone, Debug)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub data_type: DataType,
    /// Whether it may be null.
    pub nullable: bool,
    /// Where its values come from.
    pub kind: ColumnKind,
    /// Where the name stands.
    pub location: Location,
}

/// Where a column's values come from.
#[derive(Clone, PartialEq, Debug)]
pub enum ColumnKind {
    /// From the record itself.
    Physical,
    /// `GENERATED ALWAYS AS (expr)`: computed from the physical and metadata columns. Cannot be written.
    Generated(Box<ast::Expr>),
    /// `METADATA FROM '...'`: from what surrounds the record.
    Metadata(MetadataKey),
}

/// What surrounds a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MetadataKey {
    /// The topic, or the file's path: text.
    Topic,
    /// The number of the partition: int.
    Partition,
    /// The place in the partition: bigint.
    Offset,
    /// The broker's time: timestamp in milliseconds. Can also be written.
    Timestamp,
    /// The key: text or bytes. Can also be written.
    Key,
    /// The record as it came, undecoded: text or bytes.
    Value,
    /// The headers in their order, `STRUCT<name TEXT, value TEXT>[]` or with the value as bytes. Can also be written.
    Headers,
}

impl MetadataKey {
    /// Every key with its name in SQL.
    pub const ALL: [(&'static str, MetadataKey); 7] = [
        ("topic", MetadataKey::Topic),
        ("partition", MetadataKey::Partition),
        ("offset", MetadataKey::Offset),
        ("timestamp", MetadataKey::Timestamp),
        ("key", MetadataKey::Key),
        ("value", MetadataKey::Value),
        ("headers", MetadataKey::Headers),
    ];

    /// Whether a record can be given it; the rest follows from where it stands and what is in it.
    pub fn can_be_written(self) -> bool {
        matches!(self, MetadataKey::Key | MetadataKey::Timestamp | MetadataKey::Headers)
    }

    /// The fields of a header, if `data_type` can hold headers.
    pub fn header_fields(data_type: &DataType) -> Option<&Fields> {
        let DataType::List(item) = data_type else { return None };
        let DataType::Struct(fields) = item.data_type() else { return None };
        match fields.as_ref() {
            [name, value]
                if name.name() == "name"
                    && value.name() == "value"
                    && *name.data_type() == DataType::Utf8
                    && matches!(value.data_type(), DataType::Utf8 | DataType::Binary) =>
            {
                Some(fields)
            }
            _ => None,
        }
    }
}

/// `WATERMARK FOR column AS expression`, or the options that stand for it.
#[derive(Clone, Debug)]
pub struct WatermarkDefinition {
    /// The column that is the event time.
    pub column: String,
    /// The watermark of a row, an expression over the table's columns.
    pub expression: Box<ast::Expr>,
    /// Where the declaration stands.
    pub location: Location,
}

impl TableDefinition {
    /// The columns that a record holds, in order: what a format decodes and encodes.
    pub fn physical_schema(&self) -> SchemaRef {
        self.schema_where(|column| column.kind == ColumnKind::Physical)
    }

    /// The columns that can be written, in order: physical ones, and of the metadata what a record can be given. So a
    /// table that is read with its offsets or its records as they came can be written too.
    pub fn writable_schema(&self) -> SchemaRef {
        self.schema_where(|column| match column.kind {
            ColumnKind::Physical => true,
            ColumnKind::Generated(_) => false,
            ColumnKind::Metadata(key) => key.can_be_written(),
        })
    }

    /// Every column, in order: what `SELECT *` gives.
    pub fn schema(&self) -> SchemaRef {
        self.schema_where(|_| true)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnDefinition> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The name of the column that carries `key`, if one is declared.
    pub fn metadata_column(&self, key: MetadataKey) -> Option<&str> {
        let column = self.columns.iter().find(|column| column.kind == ColumnKind::Metadata(key))?;
        Some(&column.name)
    }

    fn schema_where(&self, keep: impl Fn(&ColumnDefinition) -> bool) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .filter(|column| keep(column))
            .map(|column| Field::new(&column.name, column.data_type.clone(), column.nullable))
            .collect();
        Arc::new(Schema::new(fields))
    }
}

/// What a table's `WITH` says about its rows, whatever its connector.
#[derive(Clone, PartialEq, Debug)]
pub struct TableSettings {
    /// `bad_rows`: what becomes of records that cannot be read.
    pub bad_rows: BadRows,
    /// `bad_rows_limit`: the share of bad records in the last minute above which the run stops; `None` lets any pass.
    pub bad_rows_limit: Option<Percent>,
    /// `future_limit`: how far ahead of the clock an event time may lie.
    pub future_limit: FutureLimit,
    /// `late_rows`: where late rows go; without it they are counted and dropped.
    pub late_rows: Option<TableName>,
    /// `idle_timeout`: a split that is read to its end and silent for so long no longer holds the watermark back.
    pub idle_timeout: Duration,
    /// `emit_early`: how often open windows are published. Only for tables with a primary key that are written.
    pub emit_early: Option<Duration>,
}

impl Default for TableSettings {
    fn default() -> TableSettings {
        TableSettings {
            bad_rows: BadRows::Count,
            bad_rows_limit: Some(Percent(5.0)),
            future_limit: FutureLimit::Usual,
            late_rows: None,
            idle_timeout: Duration::from_secs(60),
            emit_early: None,
        }
    }
}

/// What becomes of records that cannot be read. They are counted by reason in any case.
#[derive(Clone, PartialEq, Debug)]
pub enum BadRows {
    /// `'count'`: nothing more.
    Count,
    /// `'fail'`: the pipeline stops with the first one's error.
    Fail,
    /// They are written to this table, by the names of its columns.
    Table(TableName),
}

/// A share of a whole, from 0 to 100.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Percent(pub f64);

impl Percent {
    /// Whether `part` is more than this share of `whole`.
    pub fn is_exceeded(self, part: u64, whole: u64) -> bool {
        part as f64 * 100.0 > self.0 * whole as f64
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} percent", self.0)
    }
}

/// How far ahead of the clock an event time may lie. A row beyond is a bad one and does not move the watermark: one
/// device with a wrong clock would close every window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FutureLimit {
    /// Nothing is said: [`FutureLimit::USUAL`] for what arrives as it happens, none for files and made-up rows.
    #[default]
    Usual,
    /// `'none'`.
    None,
    /// A length of time.
    Ahead(Duration),
}

impl FutureLimit {
    /// What clocks that are looked after do not exceed.
    pub const USUAL: Duration = Duration::from_secs(300);

    /// The limit of a table that reads what arrives as it happens, or other things.
    pub fn of(self, arrives_as_it_happens: bool) -> Option<Duration> {
        match self {
            FutureLimit::Usual => arrives_as_it_happens.then_some(FutureLimit::USUAL),
            FutureLimit::None => None,
            FutureLimit::Ahead(limit) => Some(limit),
        }
    }
}

/// The name of a table in an option, with its place.
#[derive(Clone, PartialEq, Debug)]
pub struct TableName {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub location: Location,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exceeded_only_above_it() {
        assert!(!Percent(5.0).is_exceeded(5, 100));
        assert!(Percent(5.0).is_exceeded(6, 100));
        assert!(!Percent(0.5).is_exceeded(0, 0));
        assert_eq!(Percent(0.5).to_string(), "0.5 percent");
        assert_eq!(Percent(5.0).to_string(), "5 percent");
    }

    #[test]
    fn files_and_made_up_rows_have_a_limit_only_when_they_ask_for_one() {
        let hour = Duration::from_secs(3600);
        assert_eq!(FutureLimit::Usual.of(true), Some(FutureLimit::USUAL));
        assert_eq!(FutureLimit::Usual.of(false), None);
        assert_eq!(FutureLimit::None.of(true), None);
        assert_eq!(FutureLimit::Ahead(hour).of(false), Some(hour));
    }
}
