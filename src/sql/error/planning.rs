//! DataFusion's errors as ours: the place from its spans, its message without prefixes, and what would be right.

use std::error::Error;

use datafusion::common::{Column, Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateDefaults;
use datafusion::sql::sqlparser::tokenizer;

use super::SqlError;
use super::wording::{clean, wrong_arguments};
use crate::sql::names::{closest, meant};
use crate::sql::{Location, SourceFiles};

/// At most this many columns are listed where none is like the one that was written.
const LISTED_COLUMNS: usize = 12;

/// What is wrong with a statement of `file` that DataFusion could not plan. An error whose place DataFusion does not
/// know gets the first mention of the name that it complains about within `fallback`, the whole statement, or all of
/// `fallback`.
pub fn from_datafusion(error: DataFusionError, file: u32, fallback: Location, files: &SourceFiles) -> Vec<SqlError> {
    let mut found = vec![];
    let statement = Statement { file, fallback, files };
    statement.collect(&error, None, &mut found);
    found
}

/// Where the error came from.
struct Statement<'a> {
    file: u32,
    fallback: Location,
    files: &'a SourceFiles,
}

impl Statement<'_> {
    /// Walks down to where the error began; `diagnostic` is the outermost one on the way.
    fn collect(&self, error: &DataFusionError, diagnostic: Option<&Diagnostic>, found: &mut Vec<SqlError>) {
        match error {
            DataFusionError::Collection(errors) => {
                for error in errors {
                    self.collect(error, diagnostic, found);
                }
            }
            DataFusionError::Diagnostic(inner, source) => self.collect(source, diagnostic.or(Some(inner)), found),
            DataFusionError::Context(_, source) => self.collect(source, diagnostic, found),
            DataFusionError::Shared(source) => self.collect(source, diagnostic, found),
            DataFusionError::SchemaError(schema, _) => found.push(self.schema_error(schema, diagnostic)),
            DataFusionError::External(source) if source.is::<DataFusionError>() => {
                if let Some(source) = source.downcast_ref() {
                    self.collect(source, diagnostic, found);
                }
            }
            other => found.push(match diagnostic {
                Some(diagnostic) => self.diagnosed(diagnostic),
                None => self.undiagnosed(other),
            }),
        }
    }

    fn schema_error(&self, error: &SchemaError, diagnostic: Option<&Diagnostic>) -> SqlError {
        let place = |name: &str| self.place(diagnostic, name);
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let message = match &field.relation {
                    Some(relation) => format!("there is no column '{}' in '{relation}'", field.name),
                    None => format!("there is no column '{}'", field.name),
                };
                SqlError::new(place(&field.name), message).maybe_help(column_help(field, valid_fields))
            }
            SchemaError::AmbiguousReference { field } => {
                let error = SqlError::new(place(&field.name), format!("column '{}' is ambiguous", field.name));
                let possible: Vec<&str> = diagnostic.map_or(vec![], |diagnostic| {
                    let notes = diagnostic.notes.iter();
                    notes.filter_map(|note| note.message.strip_prefix("possible column ")).collect()
                });
                match possible.is_empty() {
                    true => error.help(format!("write the table before it, as in t.{}", field.name)),
                    false => error.help(format!("write {}", possible.join(" or "))),
                }
            }
            SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
                SqlError::new(place(name), format!("there are two columns '{name}'"))
                    .help("give one of them another name with AS")
            }
        }
    }

    fn diagnosed(&self, diagnostic: &Diagnostic) -> SqlError {
        if let Some(name) = diagnostic.message.strip_prefix("Invalid function ").and_then(quoted) {
            let suggested = diagnostic.notes.iter().find_map(|note| quoted(&note.message));
            return self.unknown_function(name, suggested, Some(diagnostic));
        }
        let mut error = SqlError::new(self.place(Some(diagnostic), ""), clean(&diagnostic.message));
        let mut advice: Vec<String> = diagnostic.helps.iter().map(|help| clean(&help.message)).collect();
        for note in &diagnostic.notes {
            match note.span {
                Some(span) => error = error.related(self.location(span), clean(&note.message)),
                None => advice.push(clean(&note.message)),
            }
        }
        error.maybe_help((!advice.is_empty()).then(|| advice.join("\n")))
    }

    fn undiagnosed(&self, error: &DataFusionError) -> SqlError {
        let text = error.strip_backtrace();
        let text = text.trim();
        if let Some(at) = text.find("Invalid function ")
            && let Some(name) = quoted(&text[at..])
        {
            let suggested = text.split_once("Did you mean ").and_then(|(_, rest)| quoted(rest));
            return self.unknown_function(name, suggested, None);
        }
        if let Some(error) = self.same_names(text) {
            return error;
        }
        if let Some(wrong) = wrong_arguments(text) {
            return SqlError::new(self.place(None, &wrong.function), wrong.message).maybe_help(wrong.help);
        }
        if text.contains("Dot access not supported") || text.contains("dot access not supported") {
            let error = SqlError::new(self.fallback, "a part of this expression cannot be taken with a dot");
            return error.help("put its name into brackets: tumble(...)['start']");
        }
        if let Some((_, name)) = text.split_once("Unsupported SQL type ") {
            return SqlError::new(self.place(None, name), format!("there is no type {name}"));
        }
        if let Some(name) = text.split_once("able function ").and_then(|(_, rest)| quoted(rest)) {
            return SqlError::new(self.place(None, name), format!("there is no table function '{name}'"));
        }
        if let Some((_, value)) = text.split_once("Cannot cast string ")
            && let Some(value) = quoted(value)
        {
            let place = self.first_text(value).unwrap_or(self.fallback);
            return SqlError::new(place, clean(&caused_by(error).unwrap_or_else(|| text.to_string())));
        }
        // Type errors name what they are about only in their text: `Cannot infer common argument type ... a + b`.
        SqlError::new(self.fallback, clean(&caused_by(error).unwrap_or_else(|| text.to_string())))
    }

    /// Two expressions of a SELECT with one name, which DataFusion says in a sentence:
    /// `... expression "t.a AS x" at position 0 and "t.b AS x" at position 1 have the same name`.
    fn same_names(&self, text: &str) -> Option<SqlError> {
        let (_, rest) = text.split_once("require unique expression names but the expression \"")?;
        let (first, rest) = rest.split_once("\" at position ")?;
        let (second, _) = rest.split_once(" and \"")?.1.split_once("\" at position ")?;
        let name = second.rsplit([' ', '.']).next().unwrap_or(second);
        let message = match first == second {
            true => format!("{first} is there twice"),
            false => format!("{first} and {second} have the same name"),
        };
        let error = SqlError::new(self.place(None, name), message);
        Some(error.help("give one of them another name with AS"))
    }

    fn unknown_function(&self, name: &str, suggested: Option<&str>, diagnostic: Option<&Diagnostic>) -> SqlError {
        let error = SqlError::new(self.place(diagnostic, name), format!("there is no function '{name}'"));
        // DataFusion has a suggestion of its own, however far-fetched, which knows functions that are no defaults.
        let known = default_functions();
        let meant = closest(name, known.iter().map(String::as_str).chain(suggested));
        error.maybe_help(meant.map(|meant| format!("did you mean '{meant}'?")))
    }

    fn place(&self, diagnostic: Option<&Diagnostic>, name: &str) -> Location {
        match diagnostic.and_then(|diagnostic| diagnostic.span) {
            Some(span) => self.location(span),
            None => self.first_mention(name).unwrap_or(self.fallback),
        }
    }

    fn location(&self, span: datafusion::common::Span) -> Location {
        let place = |at: datafusion::common::Location| tokenizer::Location::new(at.line, at.column);
        let span = tokenizer::Span::new(place(span.start), place(span.end));
        self.files.location_or(Location { file: self.file, ..self.fallback }, span)
    }

    /// Where `value` first stands in the statement in single quotes.
    fn first_text(&self, value: &str) -> Option<Location> {
        let quoted = format!("'{}'", value.replace('\'', "''"));
        let at = self.files.slice(self.fallback).find(&quoted)?;
        let start = self.fallback.start + at as u32;
        Some(Location { start, end: start + quoted.len() as u32, ..self.fallback })
    }

    /// Where `name` first stands in the statement as a word of its own.
    fn first_mention(&self, name: &str) -> Option<Location> {
        if name.is_empty() {
            return None;
        }
        let text = self.files.slice(self.fallback).to_ascii_lowercase();
        let name = name.to_ascii_lowercase();
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        let (at, _) = text
            .match_indices(&name)
            .find(|(at, _)| !text[..*at].ends_with(in_word) && !text[at + name.len()..].starts_with(in_word))?;
        let start = self.fallback.start + at as u32;
        Some(Location { start, end: start + name.len() as u32, ..self.fallback })
    }
}

/// The names of the functions that every query can use.
fn default_functions() -> Vec<String> {
    let scalar = SessionStateDefaults::default_scalar_functions().into_iter().map(|f| f.name().to_string());
    let aggregate = SessionStateDefaults::default_aggregate_functions().into_iter().map(|f| f.name().to_string());
    let window = SessionStateDefaults::default_window_functions().into_iter().map(|f| f.name().to_string());
    let streaming = ["tumble", "hop", "session"].map(str::to_string);
    scalar.chain(aggregate).chain(window).chain(streaming).collect()
}

fn column_help(field: &Column, valid: &[Column]) -> Option<String> {
    let of_relation: Vec<&str> = valid
        .iter()
        .filter(|column| field.relation.is_none() || column.relation == field.relation)
        .map(|column| column.name.as_str())
        .collect();
    if let Some(relation) = &field.relation
        && of_relation.is_empty()
        && ["start", "end"].contains(&field.name.as_str())
    {
        let name = &field.name;
        return Some(format!(
            "write {relation}['{name}'] for a part of the column '{relation}'; a name that this SELECT gives with AS \
             has parts only in a query around it: SELECT {relation}.{name} FROM (...)"
        ));
    }
    if field.relation.is_some() && of_relation.is_empty() {
        return Some("there is no table or alias of that name in this query".into());
    }
    if let Some(help) = meant(&field.name, of_relation.iter().copied()) {
        return Some(help);
    }
    let mut names: Vec<&str> = vec![];
    for name in of_relation {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(LISTED_COLUMNS);
    names.truncate(LISTED_COLUMNS);
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("the columns are {}", names.join(", "))),
        (false, more) => Some(format!("the columns are {} and {more} more", names.join(", "))),
    }
}

/// What stands between the first two single quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('\'').nth(1)
}

/// The innermost error's own words.
fn caused_by(error: &DataFusionError) -> Option<String> {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    let mut last = None;
    while let Some(error) = source {
        last = Some(error.to_string());
        source = error.source();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::SqlErrors;
    use datafusion::prelude::{SessionConfig, SessionContext};

    /// Plans `sql`, the second statement of its file, over two tables.
    async fn planned(sql: &str) -> (SourceFiles, Vec<SqlError>) {
        let mut config = SessionConfig::new();
        config.options_mut().sql_parser.collect_spans = true;
        let context = SessionContext::new_with_config(config);
        for ddl in [
            "CREATE TABLE orders (id BIGINT, amount DOUBLE, category VARCHAR) AS VALUES (1, 1.0, 'a')",
            "CREATE TABLE payments (id BIGINT, \"Method\" VARCHAR) AS VALUES (1, 'card')",
        ] {
            context.sql(ddl).await.unwrap();
        }
        let mut files = SourceFiles::default();
        files.add("queries/q.sql".into(), format!("SELECT 1;\n{sql};\n"));
        let parsed = crate::sql::statement::parse(&files, 0);
        assert_eq!(parsed.errors, []);
        let statement = &parsed.statements[1];
        let crate::sql::statement::StatementKind::Insert(insert) = &statement.kind else { panic!("no query") };
        let ast = datafusion::sql::sqlparser::ast::Statement::Query(insert.query.clone());
        let df = datafusion::sql::parser::Statement::Statement(Box::new(ast));
        let result = async {
            let plan = context.state().statement_to_plan(df).await?;
            context.state().optimize(&plan)
        };
        let error = result.await.expect_err(sql);
        let errors = from_datafusion(error, 0, statement.location, &files);
        (files, errors)
    }

    async fn shown(sql: &str) -> String {
        let (files, errors) = planned(sql).await;
        SqlErrors::new(files, errors).render(false)
    }

    async fn message(sql: &str) -> String {
        let (files, errors) = planned(sql).await;
        let error = &errors[0];
        let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{}: {}{help}", files.slice(error.location.unwrap()), error.message)
    }

    #[tokio::test]
    async fn an_unknown_column_is_shown_where_it_stands() {
        assert_eq!(
            shown("SELECT category,\n  sum(amout)\nFROM orders GROUP BY category").await,
            "error: there is no column 'amout'
 --> queries/q.sql:3:7
  |
3 |   sum(amout)
  |       ^^^^^
  = help: did you mean 'amount'?

1 error
"
        );
    }

    #[tokio::test]
    async fn columns_are_suggested_or_listed() {
        assert_eq!(
            message("SELECT colour FROM orders").await,
            "colour: there is no column 'colour' (the columns are id, amount, category)"
        );
        assert_eq!(
            message("SELECT o.idd FROM orders o").await,
            "o.idd: there is no column 'idd' in 'o' (did you mean 'id'?)"
        );
        assert_eq!(
            message("SELECT x.id FROM orders o").await,
            "x.id: there is no column 'id' in 'x' (there is no table or alias of that name in this query)"
        );
        assert_eq!(
            message("SELECT Method FROM payments").await,
            "Method: there is no column 'method' \
             (did you mean \"Method\"? Names with capital letters need double quotes)"
        );
    }

    #[tokio::test]
    async fn parts_of_a_window_are_told_how_to_be_read() {
        assert_eq!(
            message("SELECT id AS window, window.start FROM orders").await,
            "window.start: there is no column 'start' in 'window' (write window['start'] for a part of the column \
             'window'; a name that this SELECT gives with AS has parts only in a query around it: SELECT window.start \
             FROM (...))"
        );
        assert_eq!(
            message("SELECT struct(id).c0 FROM orders").await,
            "SELECT struct(id).c0 FROM orders: a part of this expression cannot be taken with a dot \
             (put its name into brackets: tumble(...)['start'])"
        );
    }

    #[tokio::test]
    async fn an_ambiguous_column_names_its_tables() {
        assert_eq!(
            message("SELECT id FROM orders, payments").await,
            "id: column 'id' is ambiguous (write orders.id or payments.id)"
        );
    }

    #[tokio::test]
    async fn an_unknown_function_is_suggested_only_when_it_is_like_one() {
        assert_eq!(
            message("SELECT cuont(id) FROM orders").await,
            "cuont: there is no function 'cuont' (did you mean 'count'?)"
        );
        assert_eq!(message("SELECT frobnicate(id) FROM orders").await, "frobnicate: there is no function 'frobnicate'");
    }

    #[tokio::test]
    async fn a_column_outside_group_by_says_what_to_do() {
        let message = message("SELECT id, sum(amount) FROM orders GROUP BY category").await;
        assert!(message.starts_with("id: 'orders.id' must appear in GROUP BY clause"), "{message}");
        assert!(message.contains("either add 'orders.id' to GROUP BY clause"), "{message}");
    }

    #[tokio::test]
    async fn both_sides_of_a_union_are_shown() {
        let shown = shown("SELECT id, amount FROM orders\nUNION ALL\nSELECT id FROM payments").await;
        assert!(shown.starts_with("error: UNION queries have different number of columns\n"), "{shown}");
        assert!(shown.contains("this side has 2 fields") && shown.contains("this side has 1 fields"), "{shown}");
    }

    #[tokio::test]
    async fn two_columns_of_one_name_are_shown() {
        assert_eq!(
            message("SELECT * FROM (SELECT id AS x, amount AS x FROM orders)").await,
            "x: orders.id AS x and orders.amount AS x have the same name (give one of them another name with AS)"
        );
    }

    #[tokio::test]
    async fn wrong_arguments_are_shown_at_the_function() {
        assert_eq!(
            message("SELECT abs(category, 1) FROM orders").await,
            "abs: function 'abs' expects 1 argument but received 2 (there is abs(Numeric(1)))"
        );
        assert_eq!(
            message("SELECT id, sum(category) FROM orders GROUP BY id").await,
            "sum: function 'sum' does not take TEXT \
             (it takes Decimal, BIGINT UNSIGNED, BIGINT, DOUBLE, Duration, Interval)"
        );
        assert_eq!(message("SELECT * FROM frob(1)").await, "frob: there is no table function 'frob'");
        assert_eq!(message("SELECT CAST(id AS GEOGRAPHY) FROM orders").await, "GEOGRAPHY: there is no type GEOGRAPHY");
    }

    #[tokio::test]
    async fn types_that_do_not_fit_are_shown_with_their_names_in_sql() {
        assert_eq!(
            shown("SELECT id + category FROM orders").await,
            "error: expressions have incompatible types
 --> queries/q.sql:2:8
  |
2 | SELECT id + category FROM orders;
  |        ^^^^^^^^^^^^^
 ::: queries/q.sql:2:8
  |
2 | SELECT id + category FROM orders;
  |        ^^ has type BIGINT
 ::: queries/q.sql:2:13
  |
2 | SELECT id + category FROM orders;
  |             ^^^^^^^^ has type TEXT

1 error
"
        );
    }

    #[tokio::test]
    async fn prefixes_are_taken_off() {
        assert_eq!(
            message("SELECT id FROM orders WHERE amount").await,
            "SELECT id FROM orders WHERE amount: \
             cannot create filter with non-boolean predicate 'orders.amount' returning DOUBLE"
        );
        assert_eq!(
            message("SELECT 1 + INTERVAL '1 secnd' FROM orders").await,
            "SELECT 1 + INTERVAL '1 secnd' FROM orders: invalid input syntax for type interval: \"1 secnd\""
        );
    }

    #[test]
    fn a_collection_gives_all_its_errors() {
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), "SELECT 1".into());
        let errors = vec![DataFusionError::Plan("First".into()), DataFusionError::NotImplemented("Second".into())];
        let fallback = Location { file: 0, start: 0, end: 8 };
        let found = from_datafusion(DataFusionError::Collection(errors), 0, fallback, &files);
        let messages: Vec<&str> = found.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(messages, ["first", "second"]);
        assert_eq!(found[0].location, Some(fallback));
    }
}
