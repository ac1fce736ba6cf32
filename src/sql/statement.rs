//! One file's text to its statements: `CREATE TABLE`, `CREATE VIEW`, `INSERT INTO` and bare queries.
//!
//! The grammar of queries and expressions is sqlparser's. Statements are cut at `;` before they are parsed, so that
//! a mistake in one leaves the others whole and all mistakes of a file are found at once.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{self, Token, TokenWithSpan, Tokenizer};

use super::names::{Name, closest, fold};
use super::table::CreateTable;
use super::variables::holds_secret;
use super::{Location, SourceFiles, SqlError, chains};

/// What there is.
const STATEMENTS: &str = "the statements are CREATE TABLE, CREATE VIEW, INSERT INTO and SELECT";

/// DataFusion's own default.
pub(super) static DIALECT: GenericDialect = GenericDialect {};

/// The statements of a file, and its mistakes.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The statements without mistakes, in order.
    pub statements: Vec<Statement>,
    /// The mistakes.
    pub errors: Vec<SqlError>,
    /// Tables and views whose declarations hold a mistake: they exist, though nothing else is known of them, so
    /// that their uses are not mistakes too.
    pub broken: Vec<Name>,
    /// Where passwords and the like stand: [`SourceFiles::hide`] is for them.
    pub secrets: Vec<Location>,
}

/// A statement.
#[derive(Debug)]
pub struct Statement {
    /// From its first token to its last, without the `;`.
    pub location: Location,
    /// What it says.
    pub kind: StatementKind,
}

/// What a statement says.
#[derive(Debug)]
pub enum StatementKind {
    /// `CREATE TABLE`.
    CreateTable(CreateTable),
    /// `CREATE VIEW`.
    CreateView(CreateView),
    /// `INSERT INTO`, or a bare query.
    Insert(InsertInto),
}

/// `CREATE VIEW name AS query`.
#[derive(Debug)]
pub struct CreateView {
    /// The view's name.
    pub name: Name,
    /// Its query; column names in parentheses after the view's name are already part of it.
    pub query: Box<ast::Query>,
}

/// `INSERT INTO name (columns) query`, or a bare query.
#[derive(Debug)]
pub struct InsertInto {
    /// The table's name, or `None` for a bare query.
    pub target: Option<Name>,
    /// The columns in parentheses, or none.
    pub columns: Vec<Name>,
    /// What is written.
    pub query: Box<ast::Query>,
}

/// Parses file number `file`.
pub fn parse(files: &SourceFiles, file: u32) -> Parsed {
    let mut parsed = Parsed::default();
    let mut tokens = vec![];
    let unfinished = Tokenizer::new(&DIALECT, files.text(file)).tokenize_with_location_into_buf(&mut tokens).err();
    let mut chunks: Vec<&[TokenWithSpan]> = tokens.split(|token| token.token == Token::SemiColon).collect();
    if let Some(error) = unfinished {
        // The statement in which the tokens end is not whole.
        chunks.pop();
        parsed.errors.push(tokenizer_error(&error, files, file));
    }
    for chunk in chunks {
        let solid: Vec<TokenWithSpan> =
            chunk.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).cloned().collect();
        parsed.secrets.extend(secrets(&solid).map(|span| files.location(file, span)));
        let mut starts: Vec<usize> = (1..solid.len()).filter(|at| begins_statement(&solid[*at..])).collect();
        starts.push(solid.len());
        let mut start = 0;
        for end in starts {
            let missing = (end < solid.len()).then(|| solid[end - 1].span.end);
            if start < end {
                parse_one(&solid[start..end], files, file, &mut parsed);
            }
            if let Some(at) = missing {
                let place = files.location(file, tokenizer::Span::new(at, at));
                parsed.errors.push(SqlError::new(place, "expected ';' after this statement").help("add the ';'"));
            }
            start = end;
        }
    }
    parsed
}

/// Texts that are secrets, by the word before them. They are found among the tokens, so that a statement that cannot
/// be parsed does not show them.
fn secrets(tokens: &[TokenWithSpan]) -> impl Iterator<Item = tokenizer::Span> {
    let key = |token: Option<&TokenWithSpan>| match token.map(|token| &token.token) {
        Some(Token::SingleQuotedString(key)) => key.clone(),
        Some(Token::Word(word)) => word.value.clone(),
        _ => String::new(),
    };
    let is_secret = move |at: usize| {
        let before = match at.checked_sub(1).map(|at| &tokens[at].token) {
            Some(Token::Eq) => at.checked_sub(2),
            _ => at.checked_sub(1),
        };
        matches!(&tokens[at].token, Token::SingleQuotedString(value)
            if holds_secret(&key(before.and_then(|at| tokens.get(at))), value))
    };
    (0..tokens.len()).filter(move |at| is_secret(*at)).map(|at| tokens[at].span)
}

/// Whether a statement must begin here though no `;` stands before it: a query would take `CREATE` for an alias.
fn begins_statement(tokens: &[TokenWithSpan]) -> bool {
    let keyword = |at: usize| match tokens.get(at).map(|token| &token.token) {
        Some(Token::Word(word)) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    matches!(
        (keyword(0), keyword(1)),
        (Keyword::CREATE, Keyword::TABLE | Keyword::VIEW) | (Keyword::INSERT, Keyword::INTO)
    )
}

/// Parses one statement from its tokens, among which is no whitespace.
fn parse_one(tokens: &[TokenWithSpan], files: &SourceFiles, file: u32, parsed: &mut Parsed) {
    let mut parser = StatementParser::new(tokens, files, file);
    if let Some(operators) = chains::too_long(tokens) {
        let error = SqlError::new(parser.place_of_all(), format!("{operators} operators in a row are too many"));
        parsed.errors.push(error.help("a list is written IN (1, 2, 3); what is left can be spread over several views"));
        return;
    }
    match parser.statement() {
        Ok(kind) if *parser.peek() == Token::EOF => {
            parsed.statements.push(Statement { location: parser.since(0), kind });
        }
        result => {
            parsed.errors.push(result.err().unwrap_or_else(|| parser.expected("';' or the end of the statement")));
            parsed.broken.extend(parser.declared.take());
        }
    }
}

pub(super) fn tokenizer_error(error: &tokenizer::TokenizerError, files: &SourceFiles, file: u32) -> SqlError {
    let place = files.location(file, tokenizer::Span::new(error.location, error.location));
    let (message, help) = match error.message.as_str() {
        "Unterminated string literal" => ("a text begins here and does not end", Some("close it with '")),
        "Unexpected EOF while in a multi-line comment" => {
            ("a comment is still open at the end of the file", Some("close it with */"))
        }
        other => (other, None),
    };
    SqlError::new(place, message).maybe_help(help.map(str::to_string))
}

/// sqlparser's parser over the tokens of one statement, with mistakes as [`SqlError`]s.
pub(super) struct StatementParser<'a> {
    pub(super) parser: Parser<'static>,
    pub(super) files: &'a SourceFiles,
    pub(super) tokens: Vec<TokenWithSpan>,
    file: u32,
    /// The table or view that the statement declares, once its name has been read.
    pub(super) declared: Option<Name>,
}

/// What a rule of the grammar gives.
pub(super) type Parse<T> = Result<T, SqlError>;

impl<'a> StatementParser<'a> {
    /// Over tokens among which is no whitespace.
    pub(super) fn new(tokens: &[TokenWithSpan], files: &'a SourceFiles, file: u32) -> StatementParser<'a> {
        let mut tokens = tokens.to_vec();
        super::table::rewrite_struct_types(&mut tokens);
        let parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens.clone());
        StatementParser { parser, files, tokens, file, declared: None }
    }

    fn statement(&mut self) -> Parse<StatementKind> {
        let token = self.parser.peek_token();
        let Token::Word(word) = &token.token else {
            return match token.token {
                Token::LParen => self.bare_query(),
                _ => Err(self.expected("a statement").help(STATEMENTS)),
            };
        };
        match word.keyword {
            Keyword::CREATE => self.create(),
            Keyword::INSERT => self.insert(),
            Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::FROM => self.bare_query(),
            _ => {
                let word = word.value.to_uppercase();
                let error = SqlError::new(self.next_location(), format!("there is no statement {word} here"));
                Err(match closest(&word, ["CREATE", "INSERT", "SELECT", "WITH"]) {
                    Some(meant) => error.help(format!("did you mean {meant}? {STATEMENTS}")),
                    None => error.help(STATEMENTS),
                })
            }
        }
    }

    fn create(&mut self) -> Parse<StatementKind> {
        self.parser.next_token();
        if self.parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]) {
            let place = self.last_location();
            let error = SqlError::new(place, "there is no CREATE OR REPLACE: a folder declares each name once");
            return Err(error.help("leave OR REPLACE out"));
        }
        let temporary = self.parser.parse_keyword(Keyword::TEMPORARY) || self.parser.parse_keyword(Keyword::TEMP);
        if !temporary && self.parser.parse_keyword(Keyword::TABLE) {
            return Ok(StatementKind::CreateTable(self.create_table()?));
        }
        if self.parser.parse_keyword(Keyword::VIEW) {
            return Ok(StatementKind::CreateView(self.create_view()?));
        }
        Err(self.expected("TABLE or VIEW after CREATE").help(STATEMENTS))
    }

    fn create_view(&mut self) -> Parse<CreateView> {
        self.if_not_exists()?;
        let name = self.name("the view's name")?;
        self.declared = Some(name.clone());
        let columns = self.column_list()?;
        if !self.parser.parse_keyword(Keyword::AS) {
            return Err(self.expected("AS and the view's query"));
        }
        let query = self.query()?;
        Ok(CreateView { query: self.with_column_names(query, &name, columns)?, name })
    }

    /// `SELECT * FROM (query) AS view (columns)`.
    fn with_column_names(
        &self,
        query: Box<ast::Query>,
        name: &Name,
        columns: Vec<ast::Ident>,
    ) -> Parse<Box<ast::Query>> {
        if columns.is_empty() {
            return Ok(query);
        }
        let template = "SELECT * FROM (SELECT 1) AS v";
        let mut outer = Parser::new(&DIALECT)
            .try_with_sql(template)
            .and_then(|mut parser| parser.parse_query())
            .map_err(|error| self.parser_error(&error))?;
        if let ast::SetExpr::Select(select) = outer.body.as_mut()
            && let Some(from) = select.from.first_mut()
            && let ast::TableFactor::Derived { subquery, alias: Some(alias), .. } = &mut from.relation
        {
            *subquery = query;
            alias.name = ast::Ident::with_quote('"', &name.text);
            alias.columns =
                columns.into_iter().map(|name| ast::TableAliasColumnDef { name, data_type: None }).collect();
        }
        Ok(outer)
    }

    fn insert(&mut self) -> Parse<StatementKind> {
        self.parser.next_token();
        if !self.parser.parse_keyword(Keyword::INTO) {
            return Err(self.expected("INTO after INSERT"));
        }
        let _ = self.parser.parse_keyword(Keyword::TABLE);
        let target = self.name("the name of the table to write")?;
        let is_list = matches!(self.peek(), Token::LParen)
            && !matches!(&self.parser.peek_nth_token(1).token, Token::LParen)
            && !matches!(&self.parser.peek_nth_token(1).token, Token::Word(word)
                if matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES));
        let idents = if is_list { self.column_list()? } else { vec![] };
        let columns = idents.iter().map(|ident| self.folded(ident)).collect();
        Ok(StatementKind::Insert(InsertInto { target: Some(target), columns, query: self.query()? }))
    }

    fn bare_query(&mut self) -> Parse<StatementKind> {
        Ok(StatementKind::Insert(InsertInto { target: None, columns: vec![], query: self.query()? }))
    }

    fn query(&mut self) -> Parse<Box<ast::Query>> {
        let query = self.parser.parse_query();
        self.checked(query)
    }

    /// Skips `IF NOT EXISTS`.
    pub(super) fn if_not_exists(&mut self) -> Parse<()> {
        if self.parser.parse_keyword(Keyword::IF) && !self.parser.parse_keywords(&[Keyword::NOT, Keyword::EXISTS]) {
            return Err(self.expected("NOT EXISTS after IF"));
        }
        Ok(())
    }

    /// A table's or view's name.
    pub(super) fn name(&mut self, what: &str) -> Parse<Name> {
        let name = self.identifier(what)?;
        if matches!(self.peek(), Token::Period) {
            let error = self.expected(&format!("one name and not '{}.'", name.text));
            return Err(error.help("the names of tables and views have no schema before them"));
        }
        Ok(name)
    }

    /// One identifier.
    pub(super) fn identifier(&mut self, what: &str) -> Parse<Name> {
        match self.peek() {
            Token::Word(_) => {
                let ident = self.parser.parse_identifier();
                let ident = self.checked(ident)?;
                Ok(self.folded(&ident))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// `(a, b)`, or nothing.
    pub(super) fn column_list(&mut self) -> Parse<Vec<ast::Ident>> {
        let list = match self.peek() {
            Token::LParen => self
                .parser
                .parse_parenthesized_column_list(datafusion::sql::sqlparser::parser::IsOptional::Mandatory, false),
            _ => Ok(vec![]),
        };
        self.checked(list)
    }

    pub(super) fn folded(&self, ident: &ast::Ident) -> Name {
        Name { text: fold(ident), location: self.files.location_or(self.end(), ident.span) }
    }

    /// The next token.
    pub(super) fn peek(&self) -> &Token {
        &self.parser.peek_token_ref().token
    }

    /// Whether the next token is this word, which need not be one of sqlparser's keywords; takes it if it is.
    pub(super) fn word(&mut self, expected: &str) -> bool {
        let is_next = matches!(self.peek(), Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected));
        if is_next {
            self.parser.next_token();
        }
        is_next
    }

    /// "expected `what`, found ..." at the next token.
    pub(super) fn expected(&self, what: &str) -> SqlError {
        let found = match self.peek() {
            Token::EOF => "the end of the statement".to_string(),
            // It could be a password, on the wrong side of a forgotten comma.
            Token::SingleQuotedString(_) => "a text".to_string(),
            other => other.to_string(),
        };
        SqlError::new(self.next_location(), format!("expected {what}, found {found}"))
    }

    /// Where the next token stands.
    pub(super) fn next_location(&self) -> Location {
        let token = self.parser.peek_token_ref();
        if token.token == Token::EOF { self.end() } else { self.files.location(self.file, token.span) }
    }

    /// Where the token stands that was taken last.
    pub(super) fn last_location(&self) -> Location {
        self.files.location_or(self.end(), self.parser.get_current_token().span)
    }

    /// A position for [`StatementParser::since`].
    pub(super) fn position(&self) -> usize {
        self.parser.index()
    }

    /// From the first token after `position` to the one that was taken last.
    pub(super) fn since(&self, position: usize) -> Location {
        match &self.tokens[position..self.parser.index().clamp(position, self.tokens.len())] {
            [first, .., last] => self.between(first.span.start, last.span.end),
            [only] => self.between(only.span.start, only.span.end),
            [] => self.end(),
        }
    }

    pub(super) fn between(&self, start: tokenizer::Location, end: tokenizer::Location) -> Location {
        self.files.location(self.file, tokenizer::Span::new(start, end))
    }

    /// From the first token to the last.
    pub(super) fn place_of_all(&self) -> Location {
        match self.tokens.as_slice() {
            [first, .., last] => self.between(first.span.start, last.span.end),
            _ => self.end(),
        }
    }

    /// Just behind the last token.
    fn end(&self) -> Location {
        let end = self.tokens.last().map_or(tokenizer::Location::new(1, 1), |token| token.span.end);
        self.between(end, end)
    }

    /// What one of sqlparser's rules gave.
    pub(super) fn checked<T>(&self, result: Result<T, ParserError>) -> Parse<T> {
        result.map_err(|error| self.parser_error(&error))
    }

    pub(super) fn parser_error(&self, error: &ParserError) -> SqlError {
        let text = match error {
            ParserError::RecursionLimitExceeded => {
                let error = SqlError::new(self.since(0), "the statement is nested too deeply");
                return error.help("move inner queries into views");
            }
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        };
        let (text, place) = match text.rsplit_once(" at Line: ") {
            Some((text, place)) => (text, self.parse_place(place)),
            None => (text.as_str(), None),
        };
        let message = match text.strip_prefix("Expected: ").and_then(|text| text.split_once(", found: ")) {
            Some((expected, "EOF")) => format!("expected {expected}, found the end of the statement"),
            Some((expected, found)) => format!("expected {expected}, found {found}"),
            None => text.to_string(),
        };
        SqlError::new(place.unwrap_or_else(|| self.end()), message)
    }

    /// sqlparser's errors hold their place as text, `3, Column: 7`: the token that begins there.
    fn parse_place(&self, place: &str) -> Option<Location> {
        let (line, column) = place.split_once(", Column: ")?;
        let start = tokenizer::Location::new(line.parse().ok()?, column.parse().ok()?);
        let token = self.tokens.iter().find(|token| token.span.start == start);
        let span = token.map_or(tokenizer::Span::new(start, start), |token| token.span);
        Some(self.files.location(self.file, span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> (SourceFiles, Parsed) {
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), sql.into());
        let parsed = parse(&files, 0);
        (files, parsed)
    }

    fn errors(sql: &str) -> Vec<String> {
        let (files, parsed) = parsed(sql);
        let show = |error: &SqlError| {
            let (line, column) = files.line_and_column(error.location.unwrap());
            let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
            format!("{line}:{column}: {}{help}", error.message)
        };
        parsed.errors.iter().map(show).collect()
    }

    #[test]
    fn statements_know_their_places_in_the_file() {
        let (files, parsed) = parsed(
            "-- first\nCREATE VIEW IF NOT EXISTS V AS SELECT a FROM t;\n;\nINSERT INTO Sink (a, \"B\") SELECT a, b FROM v;\n\
             SELECT 1",
        );
        assert_eq!(parsed.errors, []);
        let texts: Vec<&str> = parsed.statements.iter().map(|statement| files.slice(statement.location)).collect();
        assert_eq!(
            texts,
            [
                "CREATE VIEW IF NOT EXISTS V AS SELECT a FROM t",
                "INSERT INTO Sink (a, \"B\") SELECT a, b FROM v",
                "SELECT 1"
            ]
        );
        let StatementKind::CreateView(view) = &parsed.statements[0].kind else { panic!("no view") };
        assert_eq!((view.name.text.as_str(), files.place(view.name.location)), ("v", "q.sql:2:27".into()));
        let StatementKind::Insert(insert) = &parsed.statements[1].kind else { panic!("no insert") };
        assert_eq!(insert.target.as_ref().map(|name| name.text.as_str()), Some("sink"));
        assert_eq!(insert.columns.iter().map(|name| name.text.as_str()).collect::<Vec<_>>(), ["a", "B"]);
    }

    #[test]
    fn a_view_with_column_names_wraps_its_query() {
        let (_, parsed) = parsed("CREATE VIEW v (x, y) AS SELECT a, b FROM t");
        let StatementKind::CreateView(view) = &parsed.statements[0].kind else { panic!("no view") };
        assert_eq!(view.query.to_string(), "SELECT * FROM (SELECT a, b FROM t) AS \"v\" (x, y)");
    }

    #[test]
    fn inserts_take_values_and_queries_in_parentheses() {
        for sql in [
            "INSERT INTO t VALUES (1), (2)",
            "INSERT INTO t (SELECT 1)",
            "INSERT INTO t WITH a AS (SELECT 1) SELECT * FROM a",
        ] {
            let (_, parsed) = parsed(sql);
            assert_eq!((parsed.errors.len(), parsed.statements.len()), (0, 1), "{sql}");
        }
    }

    #[test]
    fn other_statements_are_errors_that_name_those_there_are() {
        assert_eq!(
            errors("DROP TABLE t; SELCT 1; CREATE FUNCTION f; CREATE OR REPLACE VIEW v AS SELECT 1; 42"),
            [
                format!("1:1: there is no statement DROP here ({STATEMENTS})"),
                format!("1:15: there is no statement SELCT here (did you mean SELECT? {STATEMENTS})"),
                format!("1:31: expected TABLE or VIEW after CREATE, found FUNCTION ({STATEMENTS})"),
                "1:53: there is no CREATE OR REPLACE: a folder declares each name once (leave OR REPLACE out)".into(),
                format!("1:81: expected a statement, found 42 ({STATEMENTS})"),
            ]
        );
    }

    #[test]
    fn all_mistakes_of_a_file_are_found_at_their_places() {
        assert_eq!(
            errors("SELECT a FROM;\nINSERT t SELECT 1;\nSELECT (1 + ;\nSELECT 1 2;\nCREATE VIEW v\nSELECT 1"),
            [
                "1:14: expected identifier, found the end of the statement",
                "2:8: expected INTO after INSERT, found t",
                "3:12: expected an expression, found the end of the statement",
                "4:10: expected ';' or the end of the statement, found 2",
                "6:1: expected AS and the view's query, found SELECT",
            ]
        );
    }

    #[test]
    fn a_missing_semicolon_does_not_hide_the_next_statement() {
        let sql = "CREATE VIEW v AS SELECT a FROM t\nCREATE VIEW w AS SELECT b FROM t";
        assert_eq!(errors(sql), ["1:33: expected ';' after this statement (add the ';')"]);
        assert_eq!(parsed(sql).1.statements.len(), 2);
    }

    #[test]
    fn a_text_that_does_not_end_spoils_only_its_own_statement() {
        let sql = "SELECT 1;\nSELECT 'abc;\nSELECT 2;";
        assert_eq!(errors(sql), ["2:8: a text begins here and does not end (close it with ')"]);
        assert_eq!(parsed(sql).1.statements.len(), 1);
    }

    #[test]
    fn nesting_without_end_is_an_error_and_no_crash() {
        let sql = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
        assert_eq!(errors(&sql), ["1:1: the statement is nested too deeply (move inner queries into views)"]);
    }

    #[test]
    fn the_name_of_a_broken_declaration_is_kept() {
        let (_, parsed) = parsed("CREATE VIEW v AS SELECT (; CREATE TABLE t (a INT b)");
        let names: Vec<&str> = parsed.broken.iter().map(|name| name.text.as_str()).collect();
        assert_eq!(names, ["v", "t"]);
    }

    #[test]
    fn a_schema_before_a_name_is_an_error() {
        assert_eq!(
            errors("INSERT INTO shop.orders SELECT 1"),
            ["1:17: expected one name and not 'shop.', found . \
              (the names of tables and views have no schema before them)"]
        );
    }
}
