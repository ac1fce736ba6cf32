//! A table's columns, key and watermark: `CREATE TABLE` as written to a checked [`TableDefinition`].

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, Ident, Visit, Visitor};

use crate::catalog::types::arrow_type;
use crate::catalog::{ColumnDefinition, ColumnKind, MetadataKey, TableDefinition, TableName, WatermarkDefinition};
use crate::sql::names::{Name, closest, fold, meant};
use crate::sql::table::{Column, CreateTable, Origin, Watermark};
use crate::sql::{Location, SourceFiles, SqlError};

/// Event time as options: Arroyo's `event_time_field` and `watermark_field`.
#[derive(Debug, Default)]
pub(super) struct EventTimeOptions {
    /// The column that is the event time.
    pub event_time: Option<TableName>,
    /// The column that is the watermark; without it the event time is.
    pub watermark: Option<TableName>,
}

/// The table's definition, and what is wrong with it. With mistakes it is still good enough to look for more of
/// them: a column whose type is not known counts as text.
pub(super) fn define(
    create: &CreateTable,
    options: &EventTimeOptions,
    files: &SourceFiles,
) -> (TableDefinition, Vec<SqlError>) {
    let mut definer = Definer { create, files, errors: vec![] };
    let columns = create.columns.iter().map(|column| definer.column(column)).collect();
    let mut table = TableDefinition {
        name: create.name.text.clone(),
        location: create.name.location,
        columns,
        primary_key: create.primary_key.iter().map(|name| name.text.clone()).collect(),
        watermark: None,
    };
    definer.duplicates();
    definer.primary_key(&table);
    definer.generated(&table);
    table.watermark = definer.watermark(&table, options);
    (table, definer.errors)
}

struct Definer<'a> {
    create: &'a CreateTable,
    files: &'a SourceFiles,
    errors: Vec<SqlError>,
}

impl Definer<'_> {
    fn column(&mut self, column: &Column) -> ColumnDefinition {
        let data_type = match arrow_type(&column.data_type) {
            Ok(data_type) => data_type,
            Err((message, help)) => {
                self.errors.push(SqlError::new(column.type_location, message).help(help));
                DataType::Utf8
            }
        };
        let kind = match &column.origin {
            Origin::Physical => ColumnKind::Physical,
            Origin::Generated(expression, _) => ColumnKind::Generated(expression.clone()),
            Origin::Metadata(key, location) => self.metadata(column, &data_type, key, *location),
        };
        ColumnDefinition {
            name: column.name.text.clone(),
            data_type,
            nullable: !column.not_null,
            kind,
            location: column.name.location,
        }
    }

    fn metadata(&mut self, column: &Column, data_type: &DataType, key: &str, location: Location) -> ColumnKind {
        let Some((_, found)) = MetadataKey::ALL.iter().find(|(name, _)| *name == key) else {
            let names = MetadataKey::ALL.map(|(name, _)| name);
            let list = format!("the keys are '{}'", names.join("', '"));
            let help = match closest(key, names) {
                Some(meant) => format!("did you mean METADATA FROM '{meant}'?"),
                None => list,
            };
            self.errors.push(SqlError::new(location, format!("there is no metadata '{key}'")).help(help));
            return ColumnKind::Physical;
        };
        let (fits, types) = match found {
            MetadataKey::Topic => (matches!(data_type, DataType::Utf8), "TEXT"),
            MetadataKey::Partition => (matches!(data_type, DataType::Int32), "INT"),
            MetadataKey::Offset => (matches!(data_type, DataType::Int64), "BIGINT"),
            MetadataKey::Timestamp => (matches!(data_type, DataType::Timestamp(_, _)), "TIMESTAMP"),
            MetadataKey::Key | MetadataKey::Value => {
                (matches!(data_type, DataType::Utf8 | DataType::Binary), "TEXT or BYTES")
            }
            MetadataKey::Headers => (
                MetadataKey::header_fields(data_type).is_some(),
                "STRUCT<name TEXT, value TEXT>[], or with value BYTES",
            ),
        };
        if !fits {
            let message = format!("metadata '{key}' is no {}", column.data_type);
            self.errors.push(SqlError::new(column.type_location, message).help(format!("it is {types}")));
        }
        if let Some(first) = self.create.columns.iter().find(|other| {
            other.location() < column.location() && matches!(&other.origin, Origin::Metadata(other, _) if other == key)
        }) {
            let message = format!("metadata '{key}' has two columns");
            self.errors.push(SqlError::new(location, message).related(first.name.location, "the first"));
        }
        ColumnKind::Metadata(*found)
    }

    fn duplicates(&mut self) {
        let columns = &self.create.columns;
        for (at, column) in columns.iter().enumerate() {
            let name = &column.name;
            if let Some(first) = columns[..at].iter().find(|other| other.name.text == name.text) {
                let message = format!("column '{}' is declared twice", name.text);
                self.errors.push(SqlError::new(name.location, message).related(first.name.location, "first here"));
            }
        }
    }

    fn primary_key(&mut self, table: &TableDefinition) {
        for (at, name) in self.create.primary_key.iter().enumerate() {
            match table.column(&name.text) {
                None => self.errors.push(unknown_column(name, table)),
                Some(column) if matches!(column.kind, ColumnKind::Generated(_)) => {
                    let message = format!("column '{}' is generated: it cannot be part of the key", name.text);
                    self.errors.push(SqlError::new(name.location, message).help("a key is written with the row"));
                }
                Some(_) => {}
            }
            if self.create.primary_key[..at].iter().any(|other| other.text == name.text) {
                let message = format!("column '{}' is twice in the key", name.text);
                self.errors.push(SqlError::new(name.location, message));
            }
        }
    }

    fn generated(&mut self, table: &TableDefinition) {
        for column in &self.create.columns {
            let Origin::Generated(expression, whole) = &column.origin else { continue };
            for name in self.columns_of(expression, *whole, table) {
                let Some(used) = table.column(&name.text) else {
                    self.errors.push(unknown_column(&name, table));
                    continue;
                };
                if used.name == column.name.text {
                    let message = format!("column '{}' is generated from itself", used.name);
                    self.errors.push(SqlError::new(name.location, message));
                } else if matches!(used.kind, ColumnKind::Generated(_)) {
                    let message = format!("column '{}' is generated too", used.name);
                    let error = SqlError::new(name.location, message).related(used.location, "declared here");
                    self.errors.push(error.help("write its expression instead of its name"));
                }
            }
        }
    }

    fn watermark(&mut self, table: &TableDefinition, options: &EventTimeOptions) -> Option<WatermarkDefinition> {
        let written = self.create.watermark.as_ref();
        let (column, expression, location) = match (written, &options.event_time) {
            (Some(watermark), Some(option)) => {
                let error = SqlError::new(option.location, "the event time is declared twice");
                self.errors.push(error.related(watermark.location, "here too").help("leave one of them out"));
                return None;
            }
            (Some(watermark), None) => self.declared(watermark, options, table),
            (None, Some(option)) => {
                let column = Name { text: option.name.clone(), location: option.location };
                let watermark = options.watermark.as_ref().unwrap_or(option);
                self.known_timestamp(&Name { text: watermark.name.clone(), location: watermark.location }, table)?;
                (column, column_expression(&watermark.name), option.location)
            }
            (None, None) => {
                if let Some(option) = &options.watermark {
                    let error = SqlError::new(option.location, "there is a watermark but no event time");
                    self.errors.push(error.help("add 'event_time_field', or declare WATERMARK FOR column"));
                }
                return None;
            }
        };
        self.known_timestamp(&column, table)?;
        Some(WatermarkDefinition { column: column.text, expression, location })
    }

    /// What `WATERMARK FOR` says.
    fn declared(
        &mut self,
        watermark: &Watermark,
        options: &EventTimeOptions,
        table: &TableDefinition,
    ) -> (Name, Box<Expr>, Location) {
        if let Some(option) = &options.watermark {
            let error = SqlError::new(option.location, "the watermark is declared twice");
            self.errors.push(error.related(watermark.location, "here too").help("leave one of them out"));
        }
        let expression = match &watermark.expression {
            Some(expression) => {
                for name in self.columns_of(expression, watermark.location, table) {
                    if table.column(&name.text).is_none() {
                        self.errors.push(unknown_column(&name, table));
                    }
                }
                if let Some(interval) = ahead(expression, &watermark.column.text) {
                    let column = &watermark.column.text;
                    let message = "the watermark is ahead of the event time: every row would be late when it comes";
                    let error = SqlError::new(watermark.location, message);
                    self.errors.push(error.help(format!(
                        "WATERMARK FOR {column} AS {column} - {interval} waits that long for rows that come out of order"
                    )));
                }
                expression.clone()
            }
            None => column_expression(&watermark.column.text),
        };
        (watermark.column.clone(), expression, watermark.location)
    }

    /// Notes an error unless `name` is a column of the table and a timestamp.
    fn known_timestamp(&mut self, name: &Name, table: &TableDefinition) -> Option<()> {
        let Some(column) = table.column(&name.text) else {
            self.errors.push(unknown_column(name, table));
            return None;
        };
        if matches!(column.data_type, DataType::Timestamp(_, _)) {
            return Some(());
        }
        let declared = self.create.columns.iter().find(|other| other.name.text == column.name);
        let sql = declared.map_or(column.data_type.to_string(), |column| column.data_type.to_string());
        let message = format!("the event time must be a TIMESTAMP, and '{}' is {sql}", column.name);
        let from = match column.data_type {
            // What is no time has none, and is a bad record: CAST would stop the run.
            DataType::Utf8 => format!("TRY_CAST({} AS TIMESTAMP)", column.name),
            _ => format!("to_timestamp_millis({})", column.name),
        };
        let help = match column.data_type {
            DataType::Int64 | DataType::UInt64 | DataType::Utf8 => {
                format!("add a column event_time TIMESTAMP GENERATED ALWAYS AS ({from}) and name that one")
            }
            _ => "name a column of type TIMESTAMP".into(),
        };
        let error = SqlError::new(name.location, message).related(column.location, "declared here");
        self.errors.push(error.help(help));
        None
    }

    /// The columns that an expression names, each mention once. A query in it is a mistake.
    fn columns_of(&mut self, expression: &Expr, whole: Location, table: &TableDefinition) -> Vec<Name> {
        let mut mentions = Mentions { names: vec![], query: false, table: &table.name };
        let _ = expression.visit(&mut mentions);
        if mentions.query {
            let error = SqlError::new(whole, "there cannot be a query in a table's expression");
            self.errors.push(error.help("an expression over the table's own columns would be right"));
        }
        let place = |ident: &Ident| self.files.location_or(whole, ident.span);
        mentions.names.iter().map(|ident| Name { text: fold(ident), location: place(ident) }).collect()
    }
}

impl Column {
    fn location(&self) -> Location {
        self.name.location
    }
}

/// Finds the columns that an expression names.
struct Mentions<'a> {
    names: Vec<Ident>,
    query: bool,
    table: &'a str,
}

impl Visitor for Mentions<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
        self.query = true;
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        match expression {
            Expr::Identifier(ident) => self.names.push(ident.clone()),
            // `table.column`, or `column.field` of a struct.
            Expr::CompoundIdentifier(idents) => match idents.as_slice() {
                [table, column, ..] if fold(table) == self.table => self.names.push(column.clone()),
                [column, ..] => self.names.push(column.clone()),
                [] => {}
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The interval by which `expression` is more than `column`.
fn ahead(expression: &Expr, column: &str) -> Option<String> {
    let Expr::BinaryOp { left, op, right } = plain(expression) else { return None };
    let is_column = |side: &Expr| matches!(side, Expr::Identifier(ident) if fold(ident) == column);
    let (interval, added) = match (plain(left), op, plain(right)) {
        (side, BinaryOperator::Plus, Expr::Interval(interval)) if is_column(side) => (interval, true),
        (Expr::Interval(interval), BinaryOperator::Plus, side) if is_column(side) => (interval, true),
        (side, BinaryOperator::Minus, Expr::Interval(interval)) if is_column(side) => (interval, false),
        _ => return None,
    };
    let text = interval.value.to_string();
    let is_negative = text.trim_start_matches('\'').trim_start().starts_with('-');
    let is_something = text.contains(|digit: char| ('1'..='9').contains(&digit));
    (is_something && added != is_negative).then(|| interval.to_string().replacen('-', "", 1))
}

fn plain(expression: &Expr) -> &Expr {
    match expression {
        Expr::Nested(inner) => plain(inner),
        other => other,
    }
}

fn column_expression(name: &str) -> Box<Expr> {
    Box::new(Expr::Identifier(Ident::with_quote('"', name)))
}

/// "there is no column ...", with the closest one or all of them.
pub(super) fn unknown_column(name: &Name, table: &TableDefinition) -> SqlError {
    let names = || table.columns.iter().map(|column| column.name.as_str());
    let help = match meant(&name.text, names().collect::<Vec<_>>()) {
        Some(help) => help,
        None => format!("the columns are {}", names().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("there is no column '{}' in table '{}'", name.text, table.name);
    SqlError::new(name.location, message).help(help)
}

/// What is wrong with writing that column, if it has no place in what is written.
pub(super) fn unwritable_column(name: &Name, column: &ColumnDefinition) -> Option<SqlError> {
    let (what, help) = match column.kind {
        ColumnKind::Generated(_) => ("is generated", "leave it out: it is computed when the table is read"),
        ColumnKind::Metadata(key) if !key.can_be_written() => {
            ("is METADATA", "leave it out: it is told when the table is read")
        }
        ColumnKind::Physical | ColumnKind::Metadata(_) => return None,
    };
    let message = format!("column '{}' {what}: it cannot be written", name.text);
    Some(SqlError::new(name.location, message).related(column.location, "declared here").help(help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{self, StatementKind};

    fn defined(columns: &str) -> (SourceFiles, TableDefinition, Vec<SqlError>) {
        defined_with(columns, None, None)
    }

    fn defined_with(
        columns: &str,
        event_time: Option<&str>,
        watermark: Option<&str>,
    ) -> (SourceFiles, TableDefinition, Vec<SqlError>) {
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), format!("CREATE TABLE t ({columns})"));
        let parsed = statement::parse(&files, 0);
        assert_eq!(parsed.errors, []);
        let StatementKind::CreateTable(create) = &parsed.statements[0].kind else { panic!("no table") };
        let option =
            |name: Option<&str>| name.map(|name| TableName { name: name.into(), location: Location::default() });
        let options = EventTimeOptions { event_time: option(event_time), watermark: option(watermark) };
        let (table, errors) = define(create, &options, &files);
        (files, table, errors)
    }

    fn errors(columns: &str) -> Vec<String> {
        let (files, _, errors) = defined(columns);
        let show = |error: &SqlError| {
            let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
            format!("{}: {}{help}", files.slice(error.location.unwrap()), error.message)
        };
        errors.iter().map(show).collect()
    }

    #[test]
    fn a_whole_table_is_defined() {
        let (_, table, errors) = defined(
            "id BIGINT PRIMARY KEY NOT NULL, ms BIGINT, at INT METADATA FROM 'partition',
             ts TIMESTAMP GENERATED ALWAYS AS (to_timestamp_millis(ms)), WATERMARK FOR ts AS ts - INTERVAL '1 second'",
        );
        assert_eq!(errors, []);
        assert_eq!(table.primary_key, ["id"]);
        assert!(!table.columns[0].nullable && table.columns[1].nullable);
        assert_eq!(table.columns[2].kind, ColumnKind::Metadata(MetadataKey::Partition));
        assert!(
            matches!(&table.columns[3].kind, ColumnKind::Generated(e) if e.to_string() == "to_timestamp_millis(ms)")
        );
        let watermark = table.watermark.unwrap();
        assert_eq!(
            (watermark.column.as_str(), watermark.expression.to_string().as_str()),
            ("ts", "ts - INTERVAL '1 second'")
        );
    }

    #[test]
    fn a_watermark_has_four_spellings() {
        let expression = |(_, table, errors): (SourceFiles, TableDefinition, Vec<SqlError>)| {
            assert_eq!(errors, []);
            table.watermark.unwrap().expression.to_string()
        };
        assert_eq!(expression(defined("ts TIMESTAMP, WATERMARK FOR ts AS ts")), "ts");
        assert_eq!(expression(defined("ts TIMESTAMP, WATERMARK FOR ts")), "\"ts\"");
        assert_eq!(expression(defined_with("ts TIMESTAMP", Some("ts"), None)), "\"ts\"");
        assert_eq!(expression(defined_with("ts TIMESTAMP, wm TIMESTAMP", Some("ts"), Some("wm"))), "\"wm\"");
    }

    #[test]
    fn the_event_time_is_declared_once_and_completely() {
        let messages = |(_, _, errors): (SourceFiles, TableDefinition, Vec<SqlError>)| -> Vec<String> {
            errors.into_iter().map(|error| error.message).collect()
        };
        let both = defined_with("ts TIMESTAMP, WATERMARK FOR ts", Some("ts"), None);
        assert_eq!(messages(both), ["the event time is declared twice"]);
        let both = defined_with("ts TIMESTAMP, WATERMARK FOR ts", None, Some("ts"));
        assert_eq!(messages(both), ["the watermark is declared twice"]);
        let half = defined_with("ts TIMESTAMP", None, Some("ts"));
        assert_eq!(messages(half), ["there is a watermark but no event time"]);
        let unknown = defined_with("ts TIMESTAMP", Some("tss"), None);
        assert_eq!(messages(unknown), ["there is no column 'tss' in table 't'"]);
    }

    #[test]
    fn an_event_time_that_is_no_timestamp_says_how_to_make_one() {
        assert_eq!(
            errors("ms BIGINT, WATERMARK FOR ms"),
            ["ms: the event time must be a TIMESTAMP, and 'ms' is BIGINT \
              (add a column event_time TIMESTAMP GENERATED ALWAYS AS (to_timestamp_millis(ms)) and name that one)"]
        );
        assert_eq!(
            errors("s TEXT, WATERMARK FOR s"),
            ["s: the event time must be a TIMESTAMP, and 's' is TEXT \
              (add a column event_time TIMESTAMP GENERATED ALWAYS AS (TRY_CAST(s AS TIMESTAMP)) and name that one)"]
        );
        assert_eq!(
            errors("d DATE, WATERMARK FOR d"),
            ["d: the event time must be a TIMESTAMP, and 'd' is DATE (name a column of type TIMESTAMP)"]
        );
    }

    #[test]
    fn a_watermark_ahead_of_the_event_time_is_refused() {
        for expression in [
            "ts + INTERVAL '5 minutes'",
            "(ts + (INTERVAL '5' MINUTE))",
            "INTERVAL '5 minutes' + ts",
            "ts - INTERVAL '-5 minutes'",
        ] {
            let columns = format!("ts TIMESTAMP, WATERMARK FOR ts AS {expression}");
            let said = errors(&columns);
            let begins = format!(
                "WATERMARK FOR ts AS {expression}: the watermark is ahead of the event time: every row would be late when \
                 it comes (WATERMARK FOR ts AS ts - INTERVAL '5"
            );
            assert!(said.len() == 1 && said[0].starts_with(&begins), "{said:?}");
        }
        for expression in ["ts - INTERVAL '5 minutes'", "ts", "ts + INTERVAL '0 seconds'", "ts + INTERVAL '-5 minutes'"]
        {
            assert_eq!(errors(&format!("ts TIMESTAMP, WATERMARK FOR ts AS {expression}")), [""; 0], "{expression}");
        }
    }

    #[test]
    fn names_in_expressions_must_be_columns() {
        assert_eq!(
            errors("ts TIMESTAMP, WATERMARK FOR ts AS tz - INTERVAL '1 second'"),
            ["tz: there is no column 'tz' in table 't' (did you mean 'ts'?)"]
        );
        assert_eq!(
            errors("a STRUCT<b INT>, c INT GENERATED ALWAYS AS (t.a.b + a.b + x)"),
            ["x: there is no column 'x' in table 't' (the columns are a, c)"]
        );
        assert_eq!(
            errors("a INT, b INT GENERATED ALWAYS AS ((SELECT 1))"),
            ["(SELECT 1): there cannot be a query in a table's expression \
              (an expression over the table's own columns would be right)"]
        );
    }

    #[test]
    fn generated_columns_do_not_use_each_other() {
        assert_eq!(
            errors("a INT GENERATED ALWAYS AS (b), b INT GENERATED ALWAYS AS (a), c INT GENERATED ALWAYS AS (c)"),
            [
                "b: column 'b' is generated too (write its expression instead of its name)",
                "a: column 'a' is generated too (write its expression instead of its name)",
                "c: column 'c' is generated from itself",
            ]
        );
    }

    #[test]
    fn metadata_is_known_and_its_type_fits() {
        assert_eq!(
            errors(
                "a BIGINT METADATA FROM 'ofset', color TEXT METADATA, o INT METADATA FROM 'offset', \
                    topic TEXT METADATA, again TEXT METADATA FROM 'topic', h TEXT METADATA FROM 'headers'"
            ),
            [
                "'ofset': there is no metadata 'ofset' (did you mean METADATA FROM 'offset'?)",
                "color: there is no metadata 'color' \
                 (the keys are 'topic', 'partition', 'offset', 'timestamp', 'key', 'value', 'headers')",
                "INT: metadata 'offset' is no INT (it is BIGINT)",
                "'topic': metadata 'topic' has two columns",
                "TEXT: metadata 'headers' is no TEXT (it is STRUCT<name TEXT, value TEXT>[], or with value BYTES)",
            ]
        );
        for value in ["TEXT", "BYTES"] {
            let column = format!("h STRUCT<name TEXT, value {value}>[] METADATA FROM 'headers'");
            assert_eq!(errors(&column), [""; 0], "{column}");
        }
    }

    #[test]
    fn columns_keys_and_types_are_checked() {
        assert_eq!(
            errors("a INT, A TEXT, b STRNG, g INT GENERATED ALWAYS AS (a), PRIMARY KEY (c, a, g, a)"),
            [
                "STRNG: there is no type STRNG (did you mean STRING?)",
                "A: column 'a' is declared twice",
                "c: there is no column 'c' in table 't' (the columns are a, a, b, g)",
                "g: column 'g' is generated: it cannot be part of the key (a key is written with the row)",
                "a: column 'a' is twice in the key",
            ]
        );
    }
}
