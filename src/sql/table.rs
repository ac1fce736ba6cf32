//! `CREATE TABLE`: the grammar that is Acequia's own.
//!
//! Beside SQL's columns it knows where a column comes from (`GENERATED ALWAYS AS`, `METADATA FROM`), event time
//! (`WATERMARK FOR`) and the options of a connector (`WITH`), in Arroyo's and in Flink's spelling.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::names::Name;
use super::statement::{Parse, StatementParser};
use super::{Location, SqlError};

/// `CREATE TABLE`, as written.
#[derive(Debug)]
pub struct CreateTable {
    /// The table's name.
    pub name: Name,
    /// Its columns.
    pub columns: Vec<Column>,
    /// The columns in `PRIMARY KEY (a, b)`, or those that say `PRIMARY KEY` themselves.
    pub primary_key: Vec<Name>,
    /// `WATERMARK FOR`.
    pub watermark: Option<Watermark>,
    /// `WITH`.
    pub options: Vec<OptionText>,
}

/// A column, as written.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: Name,
    /// Its SQL type.
    pub data_type: ast::DataType,
    /// Where the type stands.
    pub type_location: Location,
    /// Whether it says `NOT NULL`.
    pub not_null: bool,
    /// Where its values come from.
    pub origin: Origin,
}

/// Where a column's values come from, as written.
#[derive(Debug)]
pub enum Origin {
    /// The record.
    Physical,
    /// `GENERATED ALWAYS AS (expression)`, with the expression's place.
    Generated(Box<ast::Expr>, Location),
    /// `METADATA FROM 'key'`, or `METADATA` for the column's own name, with the key's place.
    Metadata(String, Location),
}

/// `WATERMARK FOR column [AS expression]`.
#[derive(Debug)]
pub struct Watermark {
    /// The event time.
    pub column: Name,
    /// The watermark of a row, if it is not the event time itself.
    pub expression: Option<Box<ast::Expr>>,
    /// From `WATERMARK` to the end of the expression.
    pub location: Location,
}

/// `'key' = 'value'`, as written: variables are not yet put in.
#[derive(Clone)]
pub struct OptionText {
    /// The key.
    pub key: Name,
    /// The value without its quotes.
    pub value: String,
    /// Where the value stands, with its quotes.
    pub location: Location,
}

// The value may be a password.
impl std::fmt::Debug for OptionText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}' = '***'", self.key.text)
    }
}

impl StatementParser<'_> {
    /// What follows `CREATE TABLE`.
    pub(super) fn create_table(&mut self) -> Parse<CreateTable> {
        self.if_not_exists()?;
        let name = self.name("the table's name")?;
        self.declared = Some(name.clone());
        let mut table = CreateTable { name, columns: vec![], primary_key: vec![], watermark: None, options: vec![] };
        if !self.parser.consume_token(&Token::LParen) {
            return Err(self.expected("'(' and the table's columns"));
        }
        loop {
            self.element(&mut table)?;
            match self.parser.next_token().token {
                Token::Comma => {}
                Token::RParen => break,
                _ => {
                    self.parser.prev_token();
                    return Err(self.after_column());
                }
            }
        }
        if self.parser.parse_keyword(Keyword::WITH) {
            table.options = self.options()?;
        }
        Ok(table)
    }

    fn after_column(&self) -> SqlError {
        self.expected("',' or ')'").help(
            "after a column's type there can be NOT NULL, PRIMARY KEY, GENERATED ALWAYS AS (expression) \
             and METADATA FROM 'key'",
        )
    }

    /// A column, the primary key or the watermark.
    fn element(&mut self, table: &mut CreateTable) -> Parse<()> {
        let start = self.position();
        if self.next_words(&["WATERMARK", "FOR"]) {
            let watermark = self.watermark(start)?;
            if let Some(first) = &table.watermark {
                let error = SqlError::new(watermark.location, "the table has two watermarks");
                return Err(error.related(first.location, "the first"));
            }
            table.watermark = Some(watermark);
            return Ok(());
        }
        if self.next_words(&["CONSTRAINT"]) {
            self.identifier("the constraint's name")?;
            if !self.next_words(&["PRIMARY", "KEY"]) {
                return Err(self.expected("PRIMARY KEY: it is the only constraint"));
            }
            return self.primary_key(start, table);
        }
        if self.next_words(&["PRIMARY", "KEY"]) {
            return self.primary_key(start, table);
        }
        self.column(table)
    }

    fn watermark(&mut self, start: usize) -> Parse<Watermark> {
        let column = self.identifier("the column that is the event time")?;
        let expression = match self.parser.parse_keyword(Keyword::AS) {
            true => {
                let expression = self.parser.parse_expr();
                Some(Box::new(self.checked(expression)?))
            }
            false => None,
        };
        Ok(Watermark { column, expression, location: self.since(start) })
    }

    fn primary_key(&mut self, start: usize, table: &mut CreateTable) -> Parse<()> {
        if !matches!(self.peek(), Token::LParen) {
            return Err(self.expected("'(' and the columns of the key"));
        }
        let columns = self.column_list()?;
        self.next_words(&["NOT", "ENFORCED"]);
        if !table.primary_key.is_empty() {
            return Err(SqlError::new(self.since(start), "the table has two primary keys")
                .help("name all columns of the key in one PRIMARY KEY (a, b)"));
        }
        table.primary_key = columns.iter().map(|column| self.folded(column)).collect();
        Ok(())
    }

    fn column(&mut self, table: &mut CreateTable) -> Parse<()> {
        let name = self.identifier("a column's name")?;
        let start = self.position();
        match self.peek() {
            Token::Word(word) if word.keyword == Keyword::AS && word.quote_style.is_none() => {
                let help = format!("write {} TYPE GENERATED ALWAYS AS (expression)", name.text);
                return Err(SqlError::new(self.next_location(), "a computed column needs a type").help(help));
            }
            Token::Word(_) => {}
            _ => return Err(self.expected(&format!("the type of column '{}'", name.text))),
        }
        let data_type = self.parser.parse_data_type();
        let data_type = self.checked(data_type)?;
        let type_location = self.since(start);
        let mut column = Column { name, data_type, type_location, not_null: false, origin: Origin::Physical };
        while self.column_option(&mut column, table)? {}
        table.columns.push(column);
        Ok(())
    }

    /// What may stand after a column's type; whether there was any.
    fn column_option(&mut self, column: &mut Column, table: &mut CreateTable) -> Parse<bool> {
        if self.next_words(&["NOT", "NULL"]) {
            column.not_null = true;
        } else if self.next_words(&["NULL"]) {
            column.not_null = false;
        } else if self.next_words(&["PRIMARY", "KEY"]) {
            self.next_words(&["NOT", "ENFORCED"]);
            table.primary_key.push(column.name.clone());
        } else if self.next_words(&["GENERATED", "ALWAYS", "AS"]) {
            column.origin = self.generated()?;
        } else if self.word("METADATA") {
            column.origin = self.metadata(&column.name)?;
        } else if self.next_words(&["COMMENT"]) {
            let comment = self.parser.parse_literal_string();
            self.checked(comment)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn generated(&mut self) -> Parse<Origin> {
        if !self.parser.consume_token(&Token::LParen) {
            return Err(self.expected("'(' and an expression"));
        }
        let start = self.position();
        let expression = self.parser.parse_expr();
        let expression = self.checked(expression)?;
        let location = self.since(start);
        if !self.parser.consume_token(&Token::RParen) {
            return Err(self.expected("')' after the expression"));
        }
        let _ = self.word("STORED") || self.word("VIRTUAL");
        Ok(Origin::Generated(Box::new(expression), location))
    }

    fn metadata(&mut self, column: &Name) -> Parse<Origin> {
        let origin = if self.parser.parse_keyword(Keyword::FROM) {
            let Token::SingleQuotedString(key) = self.peek().clone() else {
                return Err(self.expected("the metadata's key in quotes, such as 'offset'"));
            };
            self.parser.next_token();
            Origin::Metadata(key, self.last_location())
        } else {
            Origin::Metadata(column.text.clone(), column.location)
        };
        self.word("VIRTUAL");
        Ok(origin)
    }

    fn options(&mut self) -> Parse<Vec<OptionText>> {
        if !self.parser.consume_token(&Token::LParen) {
            return Err(self.expected("'(' and the table's options"));
        }
        let mut options = vec![];
        while !self.parser.consume_token(&Token::RParen) {
            options.push(self.option()?);
            if !self.parser.consume_token(&Token::Comma) && !matches!(self.peek(), Token::RParen) {
                return Err(self.expected("',' or ')' after an option"));
            }
        }
        Ok(options)
    }

    fn option(&mut self) -> Parse<OptionText> {
        let key = self.option_key()?;
        if !self.parser.consume_token(&Token::Eq) {
            return Err(self.expected(&format!("'=' after '{}'", key.text)));
        }
        let location = self.next_location();
        let value = match self.peek().clone() {
            Token::SingleQuotedString(text) | Token::Number(text, _) => text,
            Token::Word(word) if matches!(word.keyword, Keyword::TRUE | Keyword::FALSE) => word.value.to_lowercase(),
            Token::Word(word) => {
                let error = self.expected(&format!("the value of '{}' in single quotes", key.text));
                return Err(error.help(format!("write '{}' = '{}'", key.text, word.value)));
            }
            _ => return Err(self.expected(&format!("the value of '{}' in single quotes", key.text))),
        };
        self.parser.next_token();
        Ok(OptionText { key, value, location })
    }

    /// `'a.b'`, or `a.b` without quotes.
    fn option_key(&mut self) -> Parse<Name> {
        let start = self.position();
        if let Token::SingleQuotedString(text) = self.peek().clone() {
            self.parser.next_token();
            return Ok(Name { text, location: self.since(start) });
        }
        let mut text = self.identifier("an option, such as 'connector' = 'kafka'")?.text;
        while self.parser.consume_token(&Token::Period) {
            text = format!("{text}.{}", self.identifier("the rest of the option's name")?.text);
        }
        Ok(Name { text, location: self.since(start) })
    }

    /// Whether these words come next; takes them if they do, and none of them if not.
    fn next_words(&mut self, words: &[&str]) -> bool {
        let are_next = words.iter().enumerate().all(|(n, expected)| {
            matches!(&self.parser.peek_nth_token_ref(n).token, Token::Word(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
        });
        if are_next {
            for _ in words {
                self.parser.next_token();
            }
        }
        are_next
    }
}

/// Writes `STRUCT(a INT)` and `ROW<a INT>` in the types of a `CREATE TABLE` as `STRUCT<a INT>`, the one form that
/// sqlparser reads. Only types are touched: in an expression, `struct(...)` is a function. The tokens are those of
/// one statement, without whitespace.
pub(super) fn rewrite_struct_types(tokens: &mut [TokenWithSpan]) {
    if !(is_word(tokens, 0, &["CREATE"]) && is_word(tokens, 1, &["TABLE"])) {
        return;
    }
    let mut depth = 0;
    let mut at = 2;
    while at < tokens.len() {
        match tokens[at].token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return,
            Token::RParen => depth -= 1,
            _ => {}
        }
        let begins_column = depth == 1 && matches!(tokens[at].token, Token::LParen | Token::Comma);
        if begins_column && is_word(tokens, at + 2, &["STRUCT", "ROW", "ARRAY"]) {
            at = rewrite_type(tokens, at + 2);
        } else {
            at += 1;
        }
    }
}

fn is_word(tokens: &[TokenWithSpan], at: usize, words: &[&str]) -> bool {
    matches!(tokens.get(at).map(|token| &token.token), Some(Token::Word(word))
        if word.quote_style.is_none() && words.iter().any(|expected| word.value.eq_ignore_ascii_case(expected)))
}

/// Rewrites one type, whose first token is `tokens[at]`; gives the place after its last bracket.
fn rewrite_type(tokens: &mut [TokenWithSpan], mut at: usize) -> usize {
    // The brackets that are open, each with the one that closes it in the rewritten form.
    let mut open = vec![];
    while at < tokens.len() {
        if is_word(tokens, at, &["ROW"]) {
            tokens[at].token = Token::make_keyword("STRUCT");
        }
        let after_struct = is_word(tokens, at - 1, &["STRUCT"]);
        let token = &mut tokens[at].token;
        match token {
            Token::LParen if after_struct => {
                *token = Token::Lt;
                open.push(Token::Gt);
            }
            Token::LParen => open.push(Token::RParen),
            Token::Lt => open.push(Token::Gt),
            Token::RParen | Token::Gt => match open.pop() {
                Some(closing) => *token = closing,
                None => return at,
            },
            Token::ShiftRight => open.truncate(open.len().saturating_sub(2)),
            Token::Word(_) => {}
            _ if open.is_empty() => return at,
            _ => {}
        }
        let closed = matches!(tokens[at].token, Token::Gt | Token::ShiftRight | Token::RParen);
        at += 1;
        if closed && open.is_empty() {
            return at;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::SourceFiles;
    use crate::sql::statement::{self, StatementKind};

    fn table(sql: &str) -> (SourceFiles, CreateTable) {
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), sql.into());
        let mut parsed = statement::parse(&files, 0);
        assert_eq!(parsed.errors, []);
        match parsed.statements.remove(0).kind {
            StatementKind::CreateTable(table) => (files, table),
            other => panic!("{other:?}"),
        }
    }

    fn error(sql: &str) -> String {
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), sql.into());
        let parsed = statement::parse(&files, 0);
        assert_eq!(parsed.errors.len(), 1, "{parsed:?}");
        let error = &parsed.errors[0];
        let (line, column) = files.line_and_column(error.location.unwrap());
        let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{line}:{column}: {}{help}", error.message)
    }

    fn types(sql: &str) -> Vec<String> {
        table(sql).1.columns.iter().map(|column| column.data_type.to_string()).collect()
    }

    #[test]
    fn reads_every_part_of_a_table() {
        let (files, table) = table(
            "CREATE TABLE IF NOT EXISTS Orders (
                id BIGINT NOT NULL,
                ms BIGINT,
                ts TIMESTAMP GENERATED ALWAYS AS (to_timestamp_millis(ms)) STORED,
                at_offset BIGINT METADATA FROM 'offset' VIRTUAL,
                partition INT METADATA,
                note TEXT COMMENT 'free',
                PRIMARY KEY (id) NOT ENFORCED,
                WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
            ) WITH ('connector' = 'kafka', topic = 'o''k', properties.retries = 3, 'follow' = TRUE)",
        );
        assert_eq!(table.name.text, "orders");
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.text.as_str()).collect();
        assert_eq!(names, ["id", "ms", "ts", "at_offset", "partition", "note"]);
        assert!(table.columns[0].not_null && !table.columns[1].not_null);
        let Origin::Generated(expression, location) = &table.columns[2].origin else { panic!("not generated") };
        assert_eq!(expression.to_string(), "to_timestamp_millis(ms)");
        assert_eq!(files.slice(*location), "to_timestamp_millis(ms)");
        assert!(matches!(&table.columns[3].origin, Origin::Metadata(key, _) if key == "offset"));
        assert!(matches!(&table.columns[4].origin, Origin::Metadata(key, _) if key == "partition"));
        assert_eq!(table.primary_key.len(), 1);
        let watermark = table.watermark.as_ref().unwrap();
        assert_eq!(files.slice(watermark.location), "WATERMARK FOR ts AS ts - INTERVAL '10 seconds'");
        let options: Vec<(&str, &str)> =
            table.options.iter().map(|option| (option.key.text.as_str(), option.value.as_str())).collect();
        assert_eq!(
            options,
            [("connector", "kafka"), ("topic", "o'k"), ("properties.retries", "3"), ("follow", "true")]
        );
        assert_eq!(files.slice(table.options[1].location), "'o''k'");
        assert_eq!(files.slice(table.options[2].key.location), "properties.retries");
    }

    #[test]
    fn words_of_the_grammar_can_be_columns() {
        let (_, table) = table("CREATE TABLE t (watermark TIMESTAMP, metadata TEXT, primary INT PRIMARY KEY, row INT)");
        assert_eq!(table.columns.len(), 4);
        assert_eq!(table.primary_key[0].text, "primary");
    }

    #[test]
    fn structs_have_three_spellings() {
        let expected = "STRUCT<a INT, b STRUCT<c DECIMAL(12,2), d TEXT>>";
        for sql in [
            "CREATE TABLE t (s STRUCT<a INT, b STRUCT<c DECIMAL(12,2), d TEXT>>, z INT)",
            "CREATE TABLE t (s STRUCT(a INT, b STRUCT(c DECIMAL(12,2), d TEXT)), z INT)",
            "CREATE TABLE t (s ROW<a INT, b ROW<c DECIMAL(12,2), d TEXT>>, z INT)",
            "CREATE TABLE t (s ROW(a INT, b STRUCT<c DECIMAL(12,2), d TEXT>), z INT)",
        ] {
            assert_eq!(types(sql)[0].replace(", 2", ",2"), expected, "{sql}");
            assert_eq!(types(sql)[1], "INT", "{sql}");
        }
    }

    #[test]
    fn lists_have_two_spellings_and_nest() {
        assert_eq!(types("CREATE TABLE t (a INT[], b ARRAY<ARRAY<TEXT>>)"), ["INT[]", "ARRAY<ARRAY<TEXT>>"]);
        assert_eq!(
            types("CREATE TABLE t (a STRUCT(x INT)[], b ARRAY<STRUCT(x ARRAY<INT>)>, c ROW<x INT>[])"),
            ["STRUCT<x INT>[]", "ARRAY<STRUCT<x ARRAY<INT>>>", "STRUCT<x INT>[]"]
        );
    }

    #[test]
    fn struct_and_row_in_an_expression_stay() {
        let (_, table) = table("CREATE TABLE t (a INT, s STRUCT(x INT) GENERATED ALWAYS AS (struct(a)))");
        let Origin::Generated(expression, _) = &table.columns[1].origin else { panic!("not generated") };
        assert_eq!(expression.to_string(), "STRUCT(a)");
    }

    #[test]
    fn mistakes_say_what_is_expected() {
        let after = "after a column's type there can be NOT NULL, PRIMARY KEY, GENERATED ALWAYS AS (expression) \
                     and METADATA FROM 'key'";
        assert_eq!(
            error("CREATE TABLE t"),
            "1:15: expected '(' and the table's columns, found the end of the statement"
        );
        assert_eq!(error("CREATE TABLE t ()"), "1:17: expected a column's name, found )");
        assert_eq!(error("CREATE TABLE t (a)"), "1:18: expected the type of column 'a', found )");
        assert_eq!(
            error("CREATE TABLE t (a INT DEFAULT 1)"),
            format!("1:23: expected ',' or ')', found DEFAULT ({after})")
        );
        assert_eq!(
            error("CREATE TABLE t (a AS b + 1)"),
            "1:19: a computed column needs a type (write a TYPE GENERATED ALWAYS AS (expression))"
        );
        assert_eq!(
            error("CREATE TABLE t (a INT METADATA FROM offset)"),
            "1:37: expected the metadata's key in quotes, such as 'offset', found offset"
        );
        assert_eq!(
            error("CREATE TABLE t (a INT, CONSTRAINT c UNIQUE (a))"),
            "1:37: expected PRIMARY KEY: it is the only constraint, found UNIQUE"
        );
        assert_eq!(
            error("CREATE TABLE t (a TIMESTAMP, WATERMARK FOR a, WATERMARK FOR a)"),
            "1:47: the table has two watermarks"
        );
        assert_eq!(
            error("CREATE TABLE t (a INT PRIMARY KEY, b INT, PRIMARY KEY (b))"),
            "1:43: the table has two primary keys (name all columns of the key in one PRIMARY KEY (a, b))"
        );
    }

    #[test]
    fn mistakes_in_options_say_what_is_expected_and_show_no_text() {
        assert_eq!(
            error("CREATE TABLE t (a INT) WITH (format = json)"),
            "1:39: expected the value of 'format' in single quotes, found json (write 'format' = 'json')"
        );
        assert_eq!(
            error("CREATE TABLE t (a INT) WITH ('password' 'hunter2')"),
            "1:41: expected '=' after 'password', found a text"
        );
        assert_eq!(
            error("CREATE TABLE t (a INT) WITH ('a' = 'b' 'c' = 'd')"),
            "1:40: expected ',' or ')' after an option, found a text"
        );
        assert_eq!(
            error("CREATE TABLE t (a INT) WITH ('a' = 'b'"),
            "1:39: expected ',' or ')' after an option, found the end of the statement"
        );
    }
}
