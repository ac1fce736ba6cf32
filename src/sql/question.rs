//! Statements that ask the history: DataFusion's queries, EXPLAIN, DESCRIBE and SHOW, with the versions that they ask
//! for taken out.
//!
//! `FROM t VERSION AS OF 3` is in no grammar that DataFusion plans by. So `VERSION AS OF 3` is cut out of the tokens
//! before they are parsed, and noted with the place of the name before it: all other places stay right.

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::names::closest;
use super::statement::{DIALECT, StatementParser, tokenizer_error};
use super::{Location, SourceFiles, SqlError, chains};

/// Where the name of a version may stand.
pub const AS_OF_HELP: &str = "write it behind the name of a table: FROM t VERSION AS OF 3, or FROM t TIMESTAMP AS OF \
                              '2026-11-29 12:00:00'";

/// The statements that there are.
const READS: [&str; 9] = ["SELECT", "WITH", "FROM", "VALUES", "TABLE", "EXPLAIN", "DESCRIBE", "DESC", "SHOW"];

/// Statements of DataFusion and of others that change something.
const WRITES: [&str; 22] = [
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "BEGIN",
    "CALL",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DELETE",
    "DROP",
    "EXECUTE",
    "INSERT",
    "LOAD",
    "MERGE",
    "PREPARE",
    "RESET",
    "ROLLBACK",
    "SET",
    "TRUNCATE",
    "UPDATE",
    "USE",
];

/// One statement.
#[derive(Debug)]
pub struct Question {
    /// From its first token to its last, without the `;`.
    pub location: Location,
    /// What it says.
    pub statement: Statement,
    /// The versions that it asks for.
    pub travels: Vec<Travel>,
}

/// `VERSION AS OF ...` behind the name of a table.
#[derive(Clone, Debug)]
pub struct Travel {
    /// Where the name stands, of one with a schema its last part.
    pub name: Location,
    /// Which version.
    pub as_of: AsOf,
    /// Where all of it stands, without the name.
    pub location: Location,
}

/// Which version is asked for, by an expression without columns.
#[derive(Clone, Debug)]
pub enum AsOf {
    /// The one with this number.
    Version(ast::Expr),
    /// The newest one at this time.
    Time(ast::Expr),
}

/// The statements of file number `file`, and what is wrong in it.
pub fn questions(files: &SourceFiles, file: u32) -> (Vec<Question>, Vec<SqlError>) {
    let (mut questions, mut errors) = (vec![], vec![]);
    let mut tokens = vec![];
    let unfinished = Tokenizer::new(&DIALECT, files.text(file)).tokenize_with_location_into_buf(&mut tokens).err();
    let mut chunks: Vec<&[TokenWithSpan]> = tokens.split(|token| token.token == Token::SemiColon).collect();
    if let Some(error) = unfinished {
        // The statement in which the tokens end is not whole.
        chunks.pop();
        errors.push(tokenizer_error(&error, files, file));
    }
    for chunk in chunks {
        let solid: Vec<TokenWithSpan> =
            chunk.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).cloned().collect();
        if !solid.is_empty() {
            match question(&solid, files, file) {
                Ok(question) => questions.push(question),
                Err(error) => errors.push(error),
            }
        }
    }
    (questions, errors)
}

/// Whether `text` ends with a whole statement: its last token is a `;`.
pub fn is_complete(text: &str) -> bool {
    let mut tokens = vec![];
    let whole = Tokenizer::new(&DIALECT, text).tokenize_with_location_into_buf(&mut tokens).is_ok();
    let last = tokens.iter().rev().find(|token| !matches!(token.token, Token::Whitespace(_)));
    whole && last.is_some_and(|token| token.token == Token::SemiColon)
}

/// One statement from its tokens, among which is no whitespace.
fn question(tokens: &[TokenWithSpan], files: &SourceFiles, file: u32) -> Result<Question, SqlError> {
    let whole = StatementParser::new(tokens, files, file);
    let location = whole.place_of_all();
    check_kind(&tokens[0], files, file)?;
    if let Some(operators) = chains::too_long(tokens) {
        let error = SqlError::new(location, format!("{operators} operators in a row are too many"));
        return Err(error.help("a list is written IN (1, 2, 3)"));
    }
    let (kept, travels) = cut_travels(&whole)?;
    let wrong = |error: DataFusionError| match parser_error(&error) {
        Some(error) => whole.parser_error(error),
        None => SqlError::new(location, error.strip_backtrace()),
    };
    let mut parser = DFParserBuilder::new(kept).with_dialect(&DIALECT).build().map_err(wrong)?;
    let statement = parser.parse_statement().map_err(wrong)?;
    let next = parser.parser.peek_token();
    if next.token != Token::EOF {
        let message = format!("expected ';' or the end of the statement, found {}", next.token);
        return Err(SqlError::new(files.location(file, next.span), message));
    }
    Ok(Question { location, statement, travels })
}

fn parser_error(error: &DataFusionError) -> Option<&datafusion::sql::sqlparser::parser::ParserError> {
    match error {
        DataFusionError::SQL(error, _) => Some(error),
        DataFusionError::Diagnostic(_, source) | DataFusionError::Context(_, source) => parser_error(source),
        _ => None,
    }
}

/// Refuses statements that do not read, by their first word.
fn check_kind(first: &TokenWithSpan, files: &SourceFiles, file: u32) -> Result<(), SqlError> {
    let place = files.location(file, first.span);
    let word = match &first.token {
        Token::LParen => return Ok(()),
        Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
        other => return Err(SqlError::new(place, format!("expected a query, found {other}")).help("write SELECT ...")),
    };
    if READS.contains(&word.as_str()) {
        return Ok(());
    }
    if WRITES.contains(&word.as_str()) {
        let error = SqlError::new(place, format!("{word} is not possible here: the history is only read"));
        return Err(error.help("rows come into it by INSERT INTO in a folder that 'acequia run' runs"));
    }
    let statements = "the statements are SELECT, EXPLAIN, DESCRIBE and SHOW";
    let error = SqlError::new(place, format!("there is no statement {word} here"));
    Err(match closest(&word, READS.into_iter().chain(WRITES)) {
        Some(meant) if READS.contains(&meant) => error.help(format!("did you mean {meant}? {statements}")),
        _ => error.help(statements),
    })
}

/// The tokens without what asks for versions, and what that is.
fn cut_travels(whole: &StatementParser<'_>) -> Result<(Vec<TokenWithSpan>, Vec<Travel>), SqlError> {
    let tokens = &whole.tokens;
    let (mut kept, mut travels): (Vec<TokenWithSpan>, Vec<Travel>) = (vec![], vec![]);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let Some(begin) = kept.last().and_then(|name| AsOfWords::at(&tokens[at..], name)) else {
            kept.push(token.clone());
            at += 1;
            continue;
        };
        let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens[at + begin.words..].to_vec());
        let expr = whole.checked(parser.parse_expr())?;
        let end = at + begin.words + parser.index();
        let name = &kept[kept.len() - 1];
        travels.push(Travel {
            name: whole.between(name.span.start, name.span.end),
            as_of: if begin.by_time { AsOf::Time(expr) } else { AsOf::Version(expr) },
            location: whole.between(token.span.start, tokens[end - 1].span.end),
        });
        // The parser forgets where a name in single quotes stands; one in double quotes means the same.
        if let Some(name) = kept.last_mut()
            && let Token::SingleQuotedString(path) = &name.token
        {
            name.token = Token::make_word(path, Some('"'));
        }
        at = end;
    }
    Ok((kept, travels))
}

/// `[FOR] VERSION AS OF`, `[FOR] TIMESTAMP AS OF`, `FOR SYSTEM_TIME AS OF`.
struct AsOfWords {
    words: usize,
    by_time: bool,
}

impl AsOfWords {
    /// The words at the beginning of `tokens`, if they stand there and `before` can be a name.
    fn at(tokens: &[TokenWithSpan], before: &TokenWithSpan) -> Option<AsOfWords> {
        let word = |at: usize| match tokens.get(at).map(|token| &token.token) {
            Some(Token::Word(word)) if word.quote_style.is_none() => Some(word),
            _ => None,
        };
        let is = |at: usize, text: &str| word(at).is_some_and(|word| word.value.eq_ignore_ascii_case(text));
        let for_ = usize::from(is(0, "FOR"));
        let by_time = is(for_, "TIMESTAMP") || is(for_, "SYSTEM_TIME");
        let asked = (by_time || is(for_, "VERSION")) && is(for_ + 1, "AS") && is(for_ + 2, "OF");
        // `SELECT version AS of, ...` gives a column a name.
        let is_name = match &before.token {
            Token::Word(word) => word.quote_style.is_some() || word.keyword != Keyword::SELECT,
            Token::SingleQuotedString(_) => true,
            _ => false,
        };
        let follows = tokens.get(for_ + 3).map(|token| &token.token);
        let is_value = match follows {
            Some(Token::Word(word)) => !matches!(word.keyword, Keyword::FROM),
            Some(Token::Number(..) | Token::SingleQuotedString(_) | Token::LParen | Token::Minus) => true,
            _ => false,
        };
        (asked && is_name && is_value).then_some(AsOfWords { words: for_ + 3, by_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> (SourceFiles, Vec<Question>, Vec<SqlError>) {
        let mut files = SourceFiles::default();
        files.add("query".into(), sql.into());
        let (questions, errors) = questions(&files, 0);
        (files, questions, errors)
    }

    fn travels(sql: &str) -> (String, Vec<String>) {
        let (files, questions, errors) = read(sql);
        assert_eq!(errors, [], "{sql}");
        let question = &questions[0];
        let show = |travel: &Travel| {
            let expr = match &travel.as_of {
                AsOf::Version(expr) => format!("version {expr}"),
                AsOf::Time(expr) => format!("time {expr}"),
            };
            format!("{}@{} {expr} [{}]", files.slice(travel.name), travel.name.start, files.slice(travel.location))
        };
        (question.statement.to_string(), question.travels.iter().map(show).collect())
    }

    fn errors(sql: &str) -> Vec<String> {
        let (files, _, errors) = read(sql);
        let show = |error: &SqlError| {
            let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
            format!("{}: {}{help}", files.place(error.location.unwrap()), error.message)
        };
        errors.iter().map(show).collect()
    }

    #[test]
    fn versions_are_taken_out_in_every_form() {
        let (sql, found) = travels("SELECT * FROM t FOR VERSION AS OF 3 WHERE a = 1");
        assert_eq!(sql, "SELECT * FROM t WHERE a = 1");
        assert_eq!(found, ["t@14 version 3 [FOR VERSION AS OF 3]"]);
        let (sql, found) = travels(
            "SELECT * FROM t VERSION AS OF 3 AS x JOIN history.u TIMESTAMP AS OF '2026-11-29 12:00:00' USING (k)",
        );
        assert_eq!(sql, "SELECT * FROM t AS x JOIN history.u USING(k)");
        assert_eq!(
            found,
            [
                "t@14 version 3 [VERSION AS OF 3]",
                "u@50 time '2026-11-29 12:00:00' [TIMESTAMP AS OF '2026-11-29 12:00:00']"
            ]
        );
        let (sql, found) =
            travels("EXPLAIN SELECT 1 FROM \"T\" for system_time as of now() - INTERVAL '1 hour' LIMIT 1");
        assert_eq!(sql, "EXPLAIN SELECT 1 FROM \"T\" LIMIT 1");
        assert_eq!(
            found,
            ["\"T\"@22 time now() - INTERVAL '1 hour' [for system_time as of now() - INTERVAL '1 hour']"]
        );
    }

    #[test]
    fn a_path_has_versions_too() {
        let (sql, found) =
            travels("SELECT * FROM 'h/t' VERSION AS OF 1 AS a JOIN 'h/t' VERSION AS OF 2 AS b USING (k)");
        assert_eq!(sql, "SELECT * FROM \"h/t\" AS a JOIN \"h/t\" AS b USING(k)");
        assert_eq!(found, ["'h/t'@14 version 1 [VERSION AS OF 1]", "'h/t'@46 version 2 [VERSION AS OF 2]"]);
    }

    #[test]
    fn columns_may_be_called_version_and_of() {
        let (_, found) = travels("SELECT version AS of, t.timestamp AS of FROM t");
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn what_does_not_read_is_refused_by_name() {
        let only = "the history is only read (rows come into it by INSERT INTO in a folder that 'acequia run' runs)";
        for (sql, word) in [
            ("INSERT INTO t VALUES (1)", "INSERT"),
            ("COPY t TO 'x.csv'", "COPY"),
            ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'x'", "CREATE"),
            ("set datafusion.execution.batch_size = 1", "SET"),
            ("DROP TABLE t", "DROP"),
        ] {
            assert_eq!(errors(sql), [format!("query:1:1: {word} is not possible here: {only}")]);
        }
        assert_eq!(
            errors("SELCT 1; FETCH 3; 42"),
            [
                "query:1:1: there is no statement SELCT here (did you mean SELECT? the statements are SELECT, EXPLAIN, \
                 DESCRIBE and SHOW)",
                "query:1:10: there is no statement FETCH here (the statements are SELECT, EXPLAIN, DESCRIBE and SHOW)",
                "query:1:19: expected a query, found 42 (write SELECT ...)",
            ]
        );
    }

    #[test]
    fn places_are_right_behind_what_was_taken_out() {
        assert_eq!(
            errors("SELECT * FROM t\nVERSION AS OF 3 WHERE a = ;\nSELECT 1 2; SELECT * FROM t VERSION AS OF (;"),
            [
                "query:2:26: expected an expression, found the end of the statement",
                "query:3:10: expected ';' or the end of the statement, found 2",
                "query:3:44: expected an expression, found the end of the statement",
            ]
        );
    }

    #[test]
    fn a_statement_is_complete_with_its_semicolon() {
        assert!(is_complete("SELECT 1;") && is_complete("SELECT ';' ; -- end"));
        for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT 2", "/* ; ", ""] {
            assert!(!is_complete(open), "{open}");
        }
    }
}
