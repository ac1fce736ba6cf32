//! Key templates: `metrics:products:{category}`, read when the SQL is read and filled in for each row.

use std::fmt;

use arrow::array::{Array, StringViewArray};

use crate::catalog::options::closest;

/// The longest key, in bytes. Redis would take 512 MB.
pub const MAX_KEY_BYTES: usize = 1024;

/// A key with places for columns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyTemplate {
    parts: Vec<Part>,
    columns: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    /// Its index in `columns`.
    Column(usize),
}

/// What is wrong with a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyMistake {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl KeyTemplate {
    /// Reads a template whose places may name `columns`.
    ///
    /// # Errors
    /// An unknown column, an open brace, an empty template, a control character.
    pub fn parse(text: &str, columns: &[&str]) -> Result<KeyTemplate, KeyMistake> {
        let mistake = |message: String, help: String| Err(KeyMistake { message, help });
        let braces = "{column} stands for a column's value, {{ and }} for braces".to_string();
        let mut parts = vec![];
        let mut named: Vec<String> = vec![];
        let mut literal = String::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '{' | '}' if characters.peek() == Some(&character) => {
                    characters.next();
                    literal.push(character);
                }
                '}' => return mistake("} closes nothing".into(), braces),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match characters.next() {
                            Some('}') => break,
                            Some(character) => name.push(character),
                            None => return mistake("{ is never closed".into(), braces),
                        }
                    }
                    if !columns.contains(&name.as_str()) {
                        let help = match closest(&name, columns.iter().copied()) {
                            Some(column) => format!("did you mean {{{column}}}?"),
                            None => format!("a key can hold {}", columns.join(", ")),
                        };
                        return mistake(format!("there is no column {name}"), help);
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    let at = named.iter().position(|other| *other == name).unwrap_or_else(|| {
                        named.push(name);
                        named.len() - 1
                    });
                    parts.push(Part::Column(at));
                }
                control if control.is_control() => {
                    return mistake("it holds a control character".into(), "keys are plain text".into());
                }
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if parts.is_empty() {
            return mistake("it is empty".into(), "it takes a text such as 'metrics:products:{category}'".into());
        }
        Ok(KeyTemplate { parts, columns: named })
    }

    /// The columns that it names, each once, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The key, if it is the same for all rows.
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// A pattern in Redis' own language that all its keys match: `metrics:products:*`.
    pub fn pattern(&self) -> String {
        let mut pattern = String::new();
        for part in &self.parts {
            match part {
                Part::Column(_) => pattern.push('*'),
                Part::Text(text) => text.chars().for_each(|character| {
                    if matches!(character, '*' | '?' | '[' | ']' | '^' | '\\') {
                        pattern.push('\\');
                    }
                    pattern.push(character);
                }),
            }
        }
        pattern
    }

    /// The key of `row`; `values` are the columns of [`KeyTemplate::columns`] as text.
    ///
    /// # Errors
    /// What is wrong with the key, for a person.
    pub fn key(&self, values: &[StringViewArray], row: usize) -> Result<String, String> {
        let mut key = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Column(at) => match values.get(*at).filter(|column| column.is_valid(row)) {
                    Some(column) => key.push_str(column.value(row)),
                    None => key.push_str("null"),
                },
            }
        }
        if key.chars().any(char::is_control) {
            return Err(format!("the key {key:?} holds a control character"));
        }
        if key.is_empty() {
            return Err("the key is empty".into());
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(format!("the key has {} bytes; at most {MAX_KEY_BYTES} are allowed", key.len()));
        }
        Ok(key)
    }
}

/// As it stands in SQL.
impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Part::Column(at) => write!(f, "{{{}}}", self.columns[*at])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &str, values: &[Option<&str>]) -> Result<String, String> {
        let template = KeyTemplate::parse(template, &["a", "b"]).unwrap();
        let columns: Vec<_> = values.iter().map(|value| StringViewArray::from(vec![*value])).collect();
        template.key(&columns, 0)
    }

    #[test]
    fn columns_are_filled_in_and_braces_escaped() {
        assert_eq!(key("m:{a}:{b}:{a}", &[Some("x"), Some("y")]).unwrap(), "m:x:y:x");
        assert_eq!(key("{{{a}}}", &[Some("x")]).unwrap(), "{x}");
        assert_eq!(key("plain", &[]).unwrap(), "plain");
        assert_eq!(key("m:{a}", &[None]).unwrap(), "m:null");
    }

    #[test]
    fn a_key_that_cannot_be_one_is_refused() {
        assert_eq!(
            key("m:{a}", &[Some("x\r\nDEL y")]).unwrap_err(),
            r#"the key "m:x\r\nDEL y" holds a control character"#
        );
        assert_eq!(key("{a}", &[Some("")]).unwrap_err(), "the key is empty");
        let long = "x".repeat(1025);
        assert_eq!(key("{a}", &[Some(&long)]).unwrap_err(), "the key has 1025 bytes; at most 1024 are allowed");
    }

    #[test]
    fn mistakes_are_explained() {
        let mistake = |text: &str| KeyTemplate::parse(text, &["a", "b"]).unwrap_err().message;
        assert_eq!(mistake("m:{a"), "{ is never closed");
        assert_eq!(mistake("m:a}"), "} closes nothing");
        assert_eq!(mistake(""), "it is empty");
        assert_eq!(mistake("m:{zzz}"), "there is no column zzz");
        assert_eq!(mistake("a\nb"), "it holds a control character");
    }

    #[test]
    fn its_pattern_finds_its_keys_and_no_more_than_it_must() {
        let template = |text: &str| KeyTemplate::parse(text, &["a"]).unwrap();
        assert_eq!(template("m:{a}:[*]?").pattern(), r"m:*:\[\*\]\?");
        assert_eq!((template("m:{a}").constant(), template("m:{{a}}").constant()), (None, Some("m:{a}")));
    }

    #[test]
    fn it_prints_as_it_was_written() {
        let text = "m:{a}:{{x}}";
        assert_eq!(KeyTemplate::parse(text, &["a"]).unwrap().to_string(), text);
    }
}
