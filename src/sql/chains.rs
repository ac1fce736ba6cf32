//! Chains of operators that are too long: each operator of `a OR b OR c` lies a level deeper in the syntax tree, and
//! planning walks the tree by recursion, so that a statement with very many of them would overflow the stack.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The most operators in a row. The stacks of the threads that plan and work hold more.
const MOST: usize = 1000;

/// What has come since a bracket was opened.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators since the last comma or branch of a CASE.
    operators: usize,
    /// Queries put together by UNION and its like.
    queries: usize,
}

/// How many operators the longest chain has, if that is too long. A chain goes on until a comma, its closing bracket
/// or the next branch of a CASE; one of queries until its closing bracket.
pub(super) fn too_long(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut around: Vec<Level> = vec![];
    let (mut level, mut longest) = (Level::default(), 0);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => around.push(std::mem::take(&mut level)),
            Token::RParen | Token::RBracket => level = around.pop().unwrap_or_default(),
            Token::Comma => level.operators = 0,
            Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat
            | Token::DoubleColon
            | Token::Ampersand
            | Token::Pipe
            | Token::Caret => level.operators += 1,
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::AND | Keyword::OR => level.operators += 1,
                Keyword::WHEN | Keyword::THEN | Keyword::ELSE => level.operators = 0,
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                    level = Level { operators: 0, queries: level.queries + 1 };
                }
                _ => {}
            },
            _ => {}
        }
        longest = longest.max(level.operators).max(level.queries);
    }
    (longest > MOST).then_some(longest)
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn operators(sql: &str) -> Option<usize> {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
        too_long(&tokens)
    }

    #[test]
    fn only_what_lies_on_one_another_is_a_chain() {
        let many = |part: &str, count: usize| part.repeat(count);
        assert_eq!(operators(&format!("SELECT a{}", many(" + 1", 1001))), Some(1001));
        assert_eq!(operators(&format!("SELECT a{}", many(" + 1", 1000))), None);
        assert_eq!(operators(&format!("WHERE a = 0{}", many(" OR (a = 1 AND b)", 2000))), Some(2000));
        assert_eq!(operators(&format!("SELECT a, b{}", many(" UNION SELECT a, b + 1", 2000))), Some(2000));
        assert_eq!(operators(&format!("SELECT f(0{})", many(", 1 + 2", 5000))), None);
        assert_eq!(operators(&format!("CASE{} END", many(" WHEN a AND b THEN c + d", 5000))), None);
        assert_eq!(operators(&many("\"and\" ", 5000)), None, "a quoted name is none");
    }
}
