//! The options of a table that is read: what, by which cursor, how often, and from where.

use std::time::Duration;

use arrow::datatypes::Schema;

use super::{SqlName, SqlTableOptions, quoted};
use crate::catalog::options::{OptionValue, Options, closest};
use crate::catalog::{ColumnDefinition, ColumnKind, TableDefinition};
use crate::formats::DecodeOptions;

/// How often a database is asked for new rows.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Options that say how a table is written.
const OF_SINKS: [&str; 3] = ["create", "on_error", "delivery"];

/// How a table is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CursorOptions {
    /// `table` or `query`.
    pub rows: Rows,
    /// `cursor`: a column of whole numbers, each given once and in the order of insertion.
    pub cursor: String,
    /// `cursor_table`: the table whose INSERTs give the cursor, if it is not the one that is read.
    pub cursor_table: Option<SqlName>,
    /// `poll_interval`: how long after the last row to ask for the next.
    pub poll_interval: Duration,
    /// `source.offset`: where to begin without a checkpoint.
    pub start: Start,
}

/// What is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rows {
    /// A table or view.
    Table(SqlName),
    /// What a query gives.
    Query(String),
}

/// Where a reader begins without a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// At the first row.
    #[default]
    Earliest,
    /// Behind the last row that is there then.
    Latest,
}

impl Rows {
    /// As it stands behind FROM. What ends a query, such as a comment, must not reach further.
    pub fn from_clause(&self) -> String {
        match self {
            Rows::Table(name) => name.quoted(),
            Rows::Query(query) => format!("(\n{query}\n)"),
        }
    }

    /// `table orders` or `query`.
    pub fn describe(&self) -> String {
        match self {
            Rows::Table(name) => format!("table {name}"),
            Rows::Query(_) => "query".into(),
        }
    }
}

impl CursorOptions {
    /// Takes `cursor` and what goes with it; `None` for a table that is not read. `writers_are_concurrent` in databases
    /// where a row may commit after one with a higher cursor.
    pub fn take(
        connector: &str,
        table: &TableDefinition,
        sql_table: &SqlTableOptions,
        writers_are_concurrent: bool,
        options: &mut Options,
    ) -> Option<CursorOptions> {
        let query = options.take(&["query"]);
        let cursor_table = if writers_are_concurrent { options.take(&["cursor_table"]) } else { None };
        let companion = [&query, &cursor_table].into_iter().flatten().map(|option| option.location).next();
        let companion = companion.or(options.location(&["poll_interval", "source.offset"]));
        let poll_interval = options.duration(&["poll_interval"]).unwrap_or(POLL_INTERVAL);
        let starts = [("earliest", Start::Earliest), ("latest", Start::Latest)];
        let start = options.choice(&["source.offset"], &starts).unwrap_or_default();
        let Some(cursor) = options.take(&["cursor"]) else {
            if let Some(location) = companion {
                let message = "option 'cursor' is missing, without which the table cannot be read";
                options.error(location, message.into(), Some(cursor_help(table)));
            }
            return None;
        };
        check_cursor(connector, table, &cursor, options);
        let rows = match query {
            None => Rows::Table(SqlName { schema: sql_table.schema.clone(), name: sql_table.name.clone() }),
            Some(query) => {
                if writers_are_concurrent && cursor_table.is_none() {
                    let message = "option 'cursor_table' is missing: a query does not say whose writers to wait for";
                    let help = format!("add 'cursor_table' = '...', the table whose INSERTs give {}", cursor.text);
                    options.error(query.location, message.into(), Some(help));
                }
                check_query(options);
                Rows::Query(query.text.trim().trim_end_matches(';').to_owned())
            }
        };
        let cursor_table = cursor_table.and_then(|option| SqlName::of_option(&option, options));
        Some(CursorOptions { rows, cursor: cursor.text, cursor_table, poll_interval, start })
    }

    /// The cursor's name as it stands in a statement.
    pub fn quoted_cursor(&self) -> String {
        quoted(&self.cursor)
    }
}

fn check_cursor(connector: &str, table: &TableDefinition, cursor: &OptionValue, options: &mut Options) {
    let (message, help) = match table.column(&cursor.text) {
        Some(column) if is_whole_number(column) => return check_types(connector, table, options),
        Some(column) => (
            format!("option 'cursor' names column {}, which is no whole number", column.name),
            "declare it BIGINT, or name the column that counts the rows as they are inserted".to_owned(),
        ),
        None => (
            format!("option 'cursor' names '{}', which is no column of {}", cursor.text, table.name),
            cursor_name_help(table, &cursor.text),
        ),
    };
    options.error(cursor.location, message, Some(help));
}

/// Notes the options that a query leaves without a meaning.
fn check_query(options: &mut Options) {
    if let Some(name) = options.take(&["table", "table_name"]) {
        let message = "options 'table' and 'query' exclude each other".into();
        options.error(name.location, message, Some("leave one of them out".into()));
    }
    for option in OF_SINKS.map(|name| options.take(&[name])).into_iter().flatten() {
        let message = format!("option '{}' has no meaning with 'query': nothing is written", option.key);
        options.error(option.key_location, message, Some("leave it out".into()));
    }
}

/// What would let a table be read that has no `cursor`.
pub fn cursor_help(table: &TableDefinition) -> String {
    let example = table.columns.iter().find(|column| is_whole_number(column)).map_or("id", |column| &column.name);
    format!("add 'cursor' = '{example}': a column of whole numbers, given once each and in the order of insertion")
}

fn cursor_name_help(table: &TableDefinition, wrong: &str) -> String {
    let numbers: Vec<&str> =
        table.columns.iter().filter(|column| is_whole_number(column)).map(|column| column.name.as_str()).collect();
    match closest(wrong, numbers.iter().copied()) {
        Some(close) => format!("did you mean '{close}'?"),
        None if numbers.is_empty() => "declare it BIGINT".into(),
        None => format!("its columns of whole numbers are {}", numbers.join(", ")),
    }
}

fn is_whole_number(column: &ColumnDefinition) -> bool {
    column.kind == ColumnKind::Physical && column.data_type.is_integer()
}

/// Notes each column whose values rows do not come with.
fn check_types(connector: &str, table: &TableDefinition, options: &mut Options) {
    for column in table.columns.iter().filter(|column| column.kind == ColumnKind::Physical) {
        let alone: Vec<_> =
            table.physical_schema().fields().iter().filter(|field| *field.name() == column.name).cloned().collect();
        if DecodeOptions::database_rows().decoder(Schema::new(alone).into()).is_err() {
            let message = format!("connector '{connector}' cannot read column {} of its type", column.name);
            options.error(column.location, message, Some("declare it TEXT and convert it in the query".into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::connectors::sql_table::tests::{options, table};

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    const COLUMNS: [(&str, DataType); 3] =
        [("id", DataType::Int64), ("name", DataType::Utf8), ("amount", DataType::Float64)];

    fn take(pairs: &[(&str, &str)]) -> (Option<CursorOptions>, Vec<(String, String)>) {
        take_of(&table("orders", &COLUMNS, &[]), pairs, true)
    }

    fn take_of(
        table: &TableDefinition,
        pairs: &[(&str, &str)],
        concurrent: bool,
    ) -> (Option<CursorOptions>, Vec<(String, String)>) {
        let mut options = options(pairs);
        let sql_table = SqlTableOptions::take("postgres", table, &mut options);
        let taken = CursorOptions::take("postgres", table, &sql_table, concurrent, &mut options);
        let errors = options.finish("postgres").into_iter();
        (taken, errors.map(|error| (error.message, error.help.unwrap_or_default())).collect())
    }

    #[test]
    fn a_table_is_read_by_its_cursor() {
        let (taken, errors) = take(&[("cursor", "id"), ("table", "shop.orders")]);
        let taken = taken.unwrap();
        assert_eq!(errors, []);
        assert_eq!(taken.rows.from_clause(), "\"shop\".\"orders\"");
        assert_eq!((taken.poll_interval, taken.start), (Duration::from_secs(2), Start::Earliest));
        assert_eq!(take(&[]), (None, vec![]));
    }

    #[test]
    fn a_query_is_read_within_brackets_of_its_own() {
        let options = [
            ("cursor", "id"),
            ("query", "SELECT * FROM orders -- all;\n;\n"),
            ("cursor_table", "orders"),
            ("poll_interval", "500 ms"),
            ("source.offset", "latest"),
        ];
        let (taken, errors) = take(&options);
        let taken = taken.unwrap();
        assert_eq!(errors, []);
        assert_eq!(taken.rows.from_clause(), "(\nSELECT * FROM orders -- all;\n\n)");
        assert_eq!((taken.poll_interval, taken.start), (Duration::from_millis(500), Start::Latest));
        assert_eq!(taken.cursor_table.unwrap().quoted(), "\"orders\"");
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        let cursor = ("cursor", "id");
        let query = ("query", "SELECT 1");
        let of_orders = ("cursor_table", "orders");
        let cases: [(Pairs<'_>, &str, &str); 10] = [
            (
                &[query, of_orders],
                "option 'cursor' is missing, without which the table cannot be read",
                "add 'cursor' = 'id': a column of whole numbers, given once each and in the order of insertion",
            ),
            (
                &[("source.offset", "latest")],
                "option 'cursor' is missing, without which the table cannot be read",
                "add 'cursor' = 'id': a column of whole numbers, given once each and in the order of insertion",
            ),
            (&[("cursor", "ids")], "option 'cursor' names 'ids', which is no column of orders", "did you mean 'id'?"),
            (
                &[("cursor", "order_number")],
                "option 'cursor' names 'order_number', which is no column of orders",
                "its columns of whole numbers are id",
            ),
            (
                &[("cursor", "amount")],
                "option 'cursor' names column amount, which is no whole number",
                "declare it BIGINT, or name the column that counts the rows as they are inserted",
            ),
            (
                &[cursor, query, of_orders, ("table", "orders")],
                "options 'table' and 'query' exclude each other",
                "leave one of them out",
            ),
            (
                &[cursor, query],
                "option 'cursor_table' is missing: a query does not say whose writers to wait for",
                "add 'cursor_table' = '...', the table whose INSERTs give id",
            ),
            (
                &[cursor, query, of_orders, ("on_error", "skip")],
                "option 'on_error' has no meaning with 'query': nothing is written",
                "leave it out",
            ),
            (
                &[cursor, ("cursor_table", "a.b.c")],
                "option 'cursor_table' does not take 'a.b.c'",
                "it takes a table's name, such as 'events' or 'public.events'",
            ),
            (
                &[cursor, ("source.offset", "erliest")],
                "option 'source.offset' does not take 'erliest'",
                "did you mean 'earliest'? It takes 'earliest' or 'latest'",
            ),
        ];
        for (pairs, message, help) in cases {
            let errors = take(pairs).1;
            assert_eq!(errors, [(message.to_owned(), help.to_owned())], "{pairs:?}");
        }
    }

    #[test]
    fn one_writer_at_a_time_needs_no_cursor_table() {
        let definition = table("orders", &COLUMNS, &[]);
        let (taken, errors) = take_of(&definition, &[("cursor", "id"), ("query", "SELECT 1")], false);
        assert_eq!((taken.unwrap().cursor_table, errors), (None, vec![]));
        let errors = take_of(&definition, &[("cursor", "id"), ("cursor_table", "orders")], false).1;
        assert_eq!(errors[0].0, "connector 'postgres' has no option 'cursor_table'");
    }

    #[test]
    fn a_column_that_rows_cannot_fill_is_named() {
        let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        let definition = table("orders", &[("id", DataType::Int64), ("wait", interval)], &[]);
        let errors = take_of(&definition, &[("cursor", "id")], true).1;
        let message = "connector 'postgres' cannot read column wait of its type";
        assert_eq!(errors, [(message.to_owned(), "declare it TEXT and convert it in the query".to_owned())]);
    }
}
