//! What the SQL databases share: the options of a table, the statements that make it, and its transactions, with
//! their markers, their fences and the search for the rows that a database refuses.
//!
//! A database brings a [`database::Database`]; [`transactions::Transactions`] writes through it. [`TableSink`] gives it
//! bigger batches less often, with the last row for each key when the table has one; [`TableEpochs`] gives it whole
//! epochs.

pub mod create;
pub mod cursor_options;
pub mod cursor_reader;
pub mod cursor_source;
pub mod database;
mod epochs;
pub mod keyed;
pub mod markers;
pub mod migrations;
mod no_rows;
pub mod origin;
pub mod own_tables;
pub mod savepoints;
mod sink;
pub mod transactions;

use std::fmt;

use arrow::datatypes::Schema;

use crate::catalog::options::{OptionValue, Options, closest};
use crate::catalog::{ColumnKind, TableDefinition};

pub use epochs::TableEpochs;
pub use migrations::Migrations;
pub use no_rows::NoRows;
pub(crate) use sink::arrow_error;
pub use sink::{RowStore, TableSink};

use self::keyed::LastPerKey;
use super::delivery::{Delivery, Promise};
use super::refused_rows::OnError;
use super::{ConnectorError, SinkMode};

/// The options that every SQL database takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqlTableOptions {
    /// The schema in front of the name, if one was given.
    pub schema: Option<String>,
    /// `table`: the name in the database; the table's own name if it was not given.
    pub name: String,
    /// `create`: make the table from its columns when it is missing. `None` if it was not said.
    pub create: Option<bool>,
    /// `migrate`: bring this set of tables up to date first. `None` if it was not said.
    pub migrate: Option<Migrations>,
    /// `on_error`: what becomes of rows that the database refuses.
    pub on_error: OnError,
    /// `delivery`: whether rows come once, or sooner.
    pub promise: Promise,
    /// The columns of the primary key; empty when rows are only added.
    pub key: Vec<String>,
}

impl SqlTableOptions {
    /// Takes `table`, `create`, `migrate`, `on_error` and `delivery`, and notes what a database cannot hold.
    pub fn take(connector: &str, table: &TableDefinition, options: &mut Options) -> SqlTableOptions {
        for column in &table.columns {
            if let ColumnKind::Metadata(_) = column.kind {
                options.error(
                    column.location,
                    format!("connector '{connector}' has no metadata for column {}", column.name),
                    Some("leave METADATA away: a plain column is written to the column of that name".into()),
                );
            }
        }
        let named = options.take(&["table", "table_name"]).and_then(|option| SqlName::of_option(&option, options));
        let SqlName { schema, name } = named.unwrap_or(SqlName { schema: None, name: table.name.clone() });
        SqlTableOptions {
            schema,
            name,
            create: options.boolean(&["create"]),
            migrate: options.choice(&["migrate"], &Migrations::NAMES),
            on_error: OnError::take_with_dead_letters(options),
            promise: Promise::take(options),
            key: table.primary_key.clone(),
        }
    }

    /// Added rows, or rows that replace those with the same primary key.
    pub fn mode(&self) -> SinkMode {
        if self.key.is_empty() { SinkMode::Append } else { SinkMode::Upsert(self.key.clone()) }
    }

    /// Whole epochs where rows are added, each once; otherwise at once.
    pub fn delivery(&self) -> Delivery {
        match (self.mode(), self.promise) {
            (SinkMode::Append, Promise::ExactlyOnce) => Delivery::PerEpoch,
            _ => Delivery::AtOnce,
        }
    }

    /// What finds the last row of each key in rows of `schema`; `None` when rows are only added.
    ///
    /// # Errors
    /// When a key column is not among the rows or cannot be compared.
    pub fn keyed(&self, schema: &Schema, what: &str) -> Result<Option<LastPerKey>, ConnectorError> {
        if self.key.is_empty() {
            return Ok(None);
        }
        let places = self.key.iter().map(|column| schema.index_of(column)).collect::<Result<Vec<_>, _>>();
        let keyed = places.and_then(|places| LastPerKey::new(schema, places));
        keyed.map(Some).map_err(|error| ConnectorError::Refused {
            what: what.into(),
            message: format!("PRIMARY KEY ({}): {error}", self.key.join(", ")),
        })
    }

    /// The name as a person writes it.
    pub fn display_name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// The name as it stands in a statement.
    pub fn quoted_name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => quoted(&self.name),
        }
    }
}

/// The name of a table in a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqlName {
    /// The schema in front of it, if one was given.
    pub schema: Option<String>,
    /// The name itself.
    pub name: String,
}

impl SqlName {
    /// The name that an option holds, or a mistake noted and none.
    fn of_option(option: &OptionValue, options: &mut Options) -> Option<SqlName> {
        let parts: Vec<&str> = option.text.split('.').collect();
        match parts.as_slice() {
            [name] if !name.is_empty() => Some(SqlName { schema: None, name: (*name).into() }),
            [schema, name] if !schema.is_empty() && !name.is_empty() => {
                Some(SqlName { schema: Some((*schema).into()), name: (*name).into() })
            }
            _ => {
                options.error(
                    option.location,
                    format!("option '{}' does not take '{}'", option.key, option.text),
                    Some("it takes a table's name, such as 'events' or 'public.events'".into()),
                );
                None
            }
        }
    }

    /// As it stands in a statement.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => quoted(&self.name),
        }
    }
}

/// As a person writes it.
impl fmt::Display for SqlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// An identifier in double quotes, whatever it holds.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Identifiers in double quotes, with commas.
pub fn quoted_list<'a>(identifiers: impl IntoIterator<Item = &'a str>) -> String {
    identifiers.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// What to say of a column that the database's table does not have.
pub fn missing_column<'a>(column: &str, existing: impl Iterator<Item = &'a str> + Clone) -> String {
    match closest(column, existing.clone()) {
        Some(close) => format!("column {column} is not there; did you mean {close}?"),
        None => format!("column {column} is not there; it has {}", existing.collect::<Vec<_>>().join(", ")),
    }
}

/// The columns of `ON CONFLICT (key) DO UPDATE SET ...`, or `DO NOTHING` when the key is all there is.
pub fn conflict_clause(key: &[String], columns: &[String]) -> String {
    let others: Vec<String> = columns
        .iter()
        .filter(|column| !key.contains(column))
        .map(|column| format!("{0} = excluded.{0}", quoted(column)))
        .collect();
    let target = quoted_list(key.iter().map(String::as_str));
    match others.as_slice() {
        [] => format!("ON CONFLICT ({target}) DO NOTHING"),
        others => format!("ON CONFLICT ({target}) DO UPDATE SET {}", others.join(", ")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::catalog::options::OptionError;
    use crate::catalog::{ColumnDefinition, MetadataKey};
    use crate::sql::Location;

    /// A table with these columns, for the tests of connectors.
    pub(crate) fn table(name: &str, columns: &[(&str, DataType)], key: &[&str]) -> TableDefinition {
        TableDefinition {
            name: name.into(),
            location: Location::default(),
            columns: columns
                .iter()
                .map(|(name, data_type)| ColumnDefinition {
                    name: (*name).into(),
                    data_type: data_type.clone(),
                    nullable: true,
                    kind: ColumnKind::Physical,
                    location: Location::default(),
                })
                .collect(),
            primary_key: key.iter().map(|column| (*column).into()).collect(),
            watermark: None,
        }
    }

    /// Options from pairs, for the tests of connectors.
    pub(crate) fn options(pairs: &[(&str, &str)]) -> Options {
        let values = pairs.iter().map(|(key, text)| OptionValue::new(*key, *text)).collect();
        Options::new(Location::default(), values)
    }

    fn take(pairs: &[(&str, &str)]) -> (SqlTableOptions, Vec<OptionError>) {
        let mut options = options(pairs);
        let taken = SqlTableOptions::take("postgres", &table("events", &[("id", DataType::Int64)], &[]), &mut options);
        (taken, options.finish("postgres"))
    }

    #[test]
    fn the_name_may_have_a_schema() {
        assert_eq!(take(&[]).0.quoted_name(), "\"events\"");
        assert_eq!(take(&[("table", "dwh.clicks")]).0.quoted_name(), "\"dwh\".\"clicks\"");
        let (_, errors) = take(&[("table", "a.b.c")]);
        assert_eq!(errors[0].message, "option 'table' does not take 'a.b.c'");
        assert_eq!(errors[0].help.as_deref(), Some("it takes a table's name, such as 'events' or 'public.events'"));
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
    }

    #[test]
    fn a_metadata_column_is_refused() {
        let mut definition = table("events", &[("at", DataType::Int64)], &[]);
        definition.columns[0].kind = ColumnKind::Metadata(MetadataKey::Offset);
        let mut options = options(&[]);
        SqlTableOptions::take("postgres", &definition, &mut options);
        let errors = options.finish("postgres");
        assert_eq!(errors[0].message, "connector 'postgres' has no metadata for column at");
    }

    #[test]
    fn a_conflict_updates_what_is_not_key() {
        let columns = ["k".to_string(), "v".to_string()];
        assert_eq!(
            conflict_clause(&columns[..1], &columns),
            "ON CONFLICT (\"k\") DO UPDATE SET \"v\" = excluded.\"v\""
        );
        assert_eq!(conflict_clause(&columns[..1], &columns[..1]), "ON CONFLICT (\"k\") DO NOTHING");
    }

    #[test]
    fn a_missing_column_names_the_closest() {
        let existing = ["customer_id", "amount"];
        assert_eq!(
            missing_column("custmer_id", existing.into_iter()),
            "column custmer_id is not there; did you mean customer_id?"
        );
        assert_eq!(missing_column("x", existing.into_iter()), "column x is not there; it has customer_id, amount");
    }
}
