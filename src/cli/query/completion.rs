//! What a word at the prompt could become: keywords, tables, columns, and the prompt's own commands.

use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use reedline::{Completer, Span, Suggestion};

use crate::history::HistoryTable;

/// The keywords that are worth offering.
const KEYWORDS: [&str; 63] = [
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CROSS",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "OF",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "ROLLUP",
    "SELECT",
    "SHOW",
    "SUM",
    "SYSTEM_TIME",
    "TABLES",
    "THEN",
    "TIMESTAMP",
    "UNION",
    "USING",
    "VALUES",
    "VERSION",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "date_bin",
    "date_trunc",
];

/// The prompt's own commands.
pub const COMMANDS: [&str; 6] = ["\\d", "\\q", "\\timing", "\\?", "help", "quit"];

/// Completes from the tables of a folder.
pub struct SqlCompleter {
    tables: Vec<HistoryTable>,
}

impl SqlCompleter {
    /// Over these tables.
    pub fn new(tables: Vec<HistoryTable>) -> SqlCompleter {
        SqlCompleter { tables }
    }

    /// The words that the end of `before` could become, and where in it that end begins.
    fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        let word = &before[start..];
        if let Some(command) = before.trim_start().strip_prefix('\\') {
            return self.of_command(before, command, start, word);
        }
        if in_text(before) {
            return (start, vec![]);
        }
        let mut found = match before[..start].strip_suffix('.') {
            Some(qualified) => self.behind_dot(qualified, word),
            None => self.anywhere(before, start, word),
        };
        found.dedup();
        (start, found)
    }

    fn of_command(&self, before: &str, command: &str, start: usize, word: &str) -> (usize, Vec<String>) {
        match command.split_once(' ') {
            Some(("d", _)) => (start, fitting(word, self.tables.iter().map(|table| quoted(&table.name)))),
            Some(_) => (start, vec![]),
            None => {
                let at = before.len() - command.len() - 1;
                (at, fitting(&before[at..], COMMANDS.map(str::to_owned)))
            }
        }
    }

    /// Columns of the table, alias or schema before the dot.
    fn behind_dot(&self, before: &str, word: &str) -> Vec<String> {
        let qualifier = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '"')).next().unwrap_or("");
        let qualifier = qualifier.trim_matches('"').to_lowercase();
        if ["history", "live"].contains(&qualifier.as_str()) {
            return fitting(word, self.tables.iter().map(|table| quoted(&table.name)));
        }
        let named: Vec<&HistoryTable> =
            self.tables.iter().filter(|table| table.name.to_lowercase() == qualifier).collect();
        // An alias may stand for any of the tables that are named.
        let tables = if named.is_empty() { self.mentioned(before) } else { named };
        fitting(word, tables.into_iter().flat_map(columns))
    }

    fn anywhere(&self, before: &str, start: usize, word: &str) -> Vec<String> {
        if word.is_empty() {
            return vec![];
        }
        let last_word = before[..start].split_whitespace().next_back().unwrap_or("").to_uppercase();
        let tables = self.tables.iter().map(|table| quoted(&table.name));
        if ["FROM", "JOIN", "DESCRIBE", "TABLE"].contains(&last_word.as_str()) {
            return fitting(word, tables.chain(["history".into(), "live".into()]));
        }
        let columns = self.mentioned(before).into_iter().flat_map(columns);
        let upper = word.chars().all(|c| !c.is_lowercase());
        let keywords = KEYWORDS.iter().map(|keyword| match upper {
            true => (*keyword).to_owned(),
            false => keyword.to_lowercase(),
        });
        let commands = before[..start].trim().is_empty().then(|| ["help".to_owned(), "quit".to_owned()]);
        fitting(word, columns.chain(tables).chain(keywords).chain(commands.into_iter().flatten()))
    }

    /// The tables that the statement names; all of them, if it names none yet.
    fn mentioned(&self, text: &str) -> Vec<&HistoryTable> {
        let words: Vec<String> =
            text.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_lowercase).collect();
        let named: Vec<&HistoryTable> =
            self.tables.iter().filter(|table| words.contains(&table.name.to_lowercase())).collect();
        if named.is_empty() { self.tables.iter().collect() } else { named }
    }
}

impl Completer for SqlCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> Vec<Suggestion> {
        let (start, found) = self.candidates(line.get(..pos).unwrap_or(line));
        let suggestion = |value: String| Suggestion {
            value,
            span: Span::new(start, pos),
            append_whitespace: false,
            ..Suggestion::default()
        };
        found.into_iter().map(suggestion).collect()
    }
}

fn columns(table: &HistoryTable) -> impl Iterator<Item = String> {
    table.columns.fields().iter().map(|field| quoted(field.name()))
}

/// Those that begin with `word`, whatever the case of its letters, without the one that it is already.
fn fitting(word: &str, candidates: impl IntoIterator<Item = String>) -> Vec<String> {
    let word = word.to_lowercase();
    let fits = |candidate: &String| {
        let bare = candidate.trim_start_matches('"').to_lowercase();
        bare.starts_with(&word) && bare != word
    };
    let mut found: Vec<String> = vec![];
    for candidate in candidates.into_iter().filter(fits) {
        if !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    found
}

/// A name as SQL needs it.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let word = name.starts_with(|c: char| !c.is_ascii_digit());
    if plain && word && !is_reserved(name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Names of columns that mean something else without quotes.
fn is_reserved(name: &str) -> bool {
    ["timestamp", "partition", "offset", "order", "group", "end", "limit", "values", "table", "user"].contains(&name)
}

/// Whether `before` ends inside a text or a comment, where nothing is completed.
fn in_text(before: &str) -> bool {
    let mut tokens = vec![];
    let dialect = datafusion::sql::sqlparser::dialect::GenericDialect {};
    let whole = Tokenizer::new(&dialect, before).tokenize_with_location_into_buf(&mut tokens).is_ok();
    let in_comment = matches!(
        tokens.last().map(|token| &token.token),
        Some(Token::Whitespace(
            datafusion::sql::sqlparser::tokenizer::Whitespace::SingleLineComment { comment, .. }
        )) if !comment.ends_with('\n')
    );
    !whole || in_comment
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::history::HistoryKind;

    fn table(name: &str, columns: &[&str]) -> HistoryTable {
        let fields: Vec<Field> = columns.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        HistoryTable {
            name: name.into(),
            kind: HistoryKind::Table,
            place: String::new(),
            columns: Arc::new(Schema::new(fields)),
            partition_by: vec![],
            event_time: None,
        }
    }

    fn complete(text: &str) -> Vec<String> {
        let mut completer = SqlCompleter::new(vec![
            table("orders", &["id", "amount", "timestamp"]),
            table("totals", &["category", "amount_sum", "Total"]),
        ]);
        let suggestions = completer.complete(text, text.len());
        suggestions.iter().map(|suggestion| format!("{}@{}", suggestion.value, suggestion.span.start)).collect()
    }

    #[test]
    fn a_keyword_is_written_as_it_was_begun() {
        assert_eq!(complete("SEL"), ["SELECT@0"]);
        assert_eq!(complete("sel"), ["select@0"]);
        assert_eq!(complete("SELECT 1 FROM orders WHE"), ["WHEN@21", "WHERE@21"]);
    }

    #[test]
    fn tables_come_behind_from() {
        assert_eq!(complete("SELECT * FROM o"), ["orders@14"]);
        assert_eq!(complete("SELECT * FROM orders JOIN tot"), ["totals@26"]);
        assert_eq!(complete("SELECT * FROM history.t"), ["totals@22"]);
    }

    #[test]
    fn columns_are_those_of_the_tables_that_are_named() {
        assert_eq!(complete("SELECT * FROM totals WHERE am"), ["amount_sum@27"]);
        assert_eq!(complete("SELECT am"), ["amount@7", "amount_sum@7"]);
        assert_eq!(complete("SELECT orders.ti"), ["\"timestamp\"@14"]);
        assert_eq!(complete("SELECT * FROM totals t WHERE t.to"), ["\"Total\"@31"]);
    }

    #[test]
    fn nothing_is_completed_in_texts_and_comments() {
        assert_eq!(complete("SELECT 'SEL"), [""; 0]);
        assert_eq!(complete("SELECT 1 -- SEL"), [""; 0]);
        assert_eq!(complete("SELECT "), [""; 0]);
    }

    #[test]
    fn the_commands_of_the_prompt_are_completed_too() {
        assert_eq!(complete("\\t"), ["\\timing@0"]);
        assert_eq!(complete("\\d to"), ["totals@3"]);
        assert_eq!(complete("hel"), ["help@0"]);
    }
}
