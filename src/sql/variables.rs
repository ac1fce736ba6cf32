//! `${NAME}` in option values: where the values come from, and how they are put in.
//!
//! They are put in after parsing and only in the texts of `WITH (...)`, so that no value can become SQL:
//!
//! | written | means |
//! |---|---|
//! | `${NAME}` | the variable's value; not set or set to nothing is an error |
//! | `${NAME:-default}` | the same, or `default` (which may be empty) |
//! | `${NAME:?message}` | the same, or an error with `message` |
//! | `${file:/run/secrets/pg}` | what the file holds, without the line break at its end |
//! | `$${` | `${` itself; a `$` before anything else stands for itself |

use std::collections::HashMap;

use super::{Location, SourceFiles, SqlError};

/// The variables that option values may name.
#[derive(Clone, Default)]
pub struct Variables {
    values: HashMap<String, String>,
}

// Values may be secrets.
impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// A text with its variables put in.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// The names of the variables in it, in order, whether set or defaulted; a file is `file:/its/path`.
    pub variables: Vec<String>,
    /// What came from outside the SQL: the values of variables that are set, and of files.
    pub values: Vec<String>,
}

impl std::fmt::Debug for Filled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filled").field("variables", &self.variables).finish_non_exhaustive()
    }
}

impl Variables {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn from_environment() -> Variables {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(utf8).collect()
    }

    /// The same with these in the place of any of their names.
    pub fn with<'a>(mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Variables {
        self.values.extend(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// The value of a variable; one that is set to nothing counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Puts the variables into `text`, the value of an option that stands at `location`.
    ///
    /// # Errors
    /// All variables that cannot be had, each with its place.
    pub fn fill(&self, text: &str, location: Location, files: &SourceFiles) -> Result<Filled, Vec<SqlError>> {
        let mut filled = Filled::default();
        let mut errors = vec![];
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                filled.text.push_str(&rest[..at - 1]);
                filled.text.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            filled.text.push_str(&rest[..at]);
            let nth = text[..text.len() - rest.len() + at].matches("${").count();
            let Some(length) = rest[at..].find('}') else {
                let place = place(location, files, nth);
                let error = SqlError::new(place, "a '${' is not closed");
                errors.push(error.help("write ${NAME}, or $${ for a '${' that begins no variable"));
                rest = "";
                break;
            };
            let place = place(location, files, nth);
            match self.value(&rest[at + 2..at + length]) {
                Ok(value) => filled.push(value),
                Err((message, help)) => errors.push(SqlError::new(place, message).maybe_help(help)),
            }
            rest = &rest[at + length + 1..];
        }
        filled.text.push_str(rest);
        if errors.is_empty() { Ok(filled) } else { Err(errors) }
    }

    /// What stands for `inside`, the text between `${` and `}`.
    fn value(&self, inside: &str) -> Result<Value, Wrong> {
        if let Some(path) = inside.strip_prefix("file:") {
            return file(path);
        }
        let name_end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
        let (name, rest) = inside.split_at(name_end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            let help = "a name has letters, digits and _, as in ${NAME}; write $${ for a '${' that begins no variable";
            return Err(("'${' must be followed by the name of a variable".into(), Some(help.into())));
        }
        let otherwise = match (rest.get(..2), rest.get(2..)) {
            (None, _) if rest.is_empty() => None,
            (Some(":-"), Some(default)) if default.contains("${") => {
                return Err((format!("the default of {name} holds another variable"), Some("use one of them".into())));
            }
            (Some(":-"), Some(default)) => Some(Ok(default)),
            (Some(":?"), Some(message)) => Some(Err(message)),
            _ => {
                let help = format!("write ${{{name}}}, ${{{name}:-default}} or ${{{name}:?message}}");
                return Err((format!("'{rest}' cannot follow the name of a variable"), Some(help)));
            }
        };
        match (self.get(name), otherwise) {
            (Some(value), _) => {
                checked(value, &format!("the value of {name}"))?;
                Ok(Value { name: name.into(), text: value.into(), from_outside: true })
            }
            (None, Some(Ok(default))) => Ok(Value { name: name.into(), text: default.into(), from_outside: false }),
            (None, Some(Err(message))) => Err((format!("variable {name} is not set: {message}"), None)),
            (None, None) => {
                let help = format!("set it in the environment, or give a default: ${{{name}:-default}}");
                Err((format!("variable {name} is not set"), Some(help)))
            }
        }
    }
}

/// Whether an option of this name could hold a password, a key or a token.
pub fn is_secret(key: &str) -> bool {
    const SIGNS: [&str; 12] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "credential",
        "private",
        "access_key",
        "access.key",
        "api_key",
        "key.pem",
        "jaas",
    ];
    let key = key.to_ascii_lowercase();
    SIGNS.iter().any(|sign| key.contains(sign))
}

/// Whether the text of a value holds a secret itself: a default does, and so does a URL with a password.
pub(super) fn holds_secret(key: &str, value: &str) -> bool {
    let is_only_a_name = value.starts_with("${") && !value.contains(":-");
    let authority = value.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    let login = authority.and_then(|authority| authority.rsplit_once('@'));
    login.is_some_and(|(user, _)| user.contains(':')) || (is_secret(key) && !is_only_a_name)
}

/// What is wrong and what would be right.
type Wrong = (String, Option<String>);

struct Value {
    name: String,
    text: String,
    from_outside: bool,
}

impl Filled {
    fn push(&mut self, value: Value) {
        self.text.push_str(&value.text);
        self.variables.push(value.name);
        if value.from_outside {
            self.values.push(value.text);
        }
    }
}

fn file(path: &str) -> Result<Value, Wrong> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let help = "check that it exists, may be read and is text".to_string();
        (format!("cannot read the file {path}: {error}"), Some(help))
    })?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    checked(text, &format!("the file {path}"))?;
    Ok(Value { name: format!("file:{path}"), text: text.into(), from_outside: true })
}

fn checked(value: &str, what: &str) -> Result<(), Wrong> {
    match value.contains(['\n', '\r', '\0']) {
        true => Err((format!("{what} holds a line break or a NUL"), Some("it must be one line of text".into()))),
        false => Ok(()),
    }
}

/// The place of the `nth` `${` (from 0) of the option value at `location`, up to its `}`. A quote is written twice in
/// the file and stands once in the value, so that bytes of the two do not match, but the order of `${` does.
fn place(location: Location, files: &SourceFiles, nth: usize) -> Location {
    let text = files.slice(location).trim_end_matches('\'');
    let Some((at, _)) = text.match_indices("${").nth(nth) else { return location };
    let length = text[at..].find('}').map_or(text.len() - at, |close| close + 1);
    let start = location.start + at as u32;
    Location { start, end: start + length as u32, ..location }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Variables {
        Variables { values: pairs.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<Filled, Vec<String>> {
        let variables: Variables = [("HOST", "db"), ("EMPTY", ""), ("TWO", "a\nb"), ("NESTED", "${HOST}")]
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into_iter()
            .collect();
        let raw = format!("'{}'", text.replace('\'', "''"));
        let mut files = SourceFiles::default();
        files.add("q.sql".into(), raw.clone());
        let location = Location { file: 0, start: 0, end: raw.len() as u32 };
        variables.fill(text, location, &files).map_err(|errors| {
            let show = |error: &SqlError| {
                let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
                format!("{}: {}{help}", files.slice(error.location.unwrap()), error.message)
            };
            errors.iter().map(show).collect()
        })
    }

    fn filled(text: &str) -> String {
        fill(text).unwrap().text
    }

    #[test]
    fn values_and_defaults_are_put_in() {
        assert_eq!(filled("x://${HOST}:${PORT:-5432}/"), "x://db:5432/");
        assert_eq!(filled("${EMPTY:-d}${HOST:?needed}${NONE:-}"), "ddb");
        let filled = fill("${HOST}${PORT:-1}").unwrap();
        assert_eq!(filled.variables, ["HOST", "PORT"]);
        assert_eq!(filled.values, ["db"]);
    }

    #[test]
    fn dollars_that_begin_no_variable_stay() {
        assert_eq!(filled("a$b $$ pa$$word $"), "a$b $$ pa$$word $");
        assert_eq!(filled("$${HOST} and ${HOST}"), "${HOST} and db");
    }

    #[test]
    fn values_are_not_looked_at_again() {
        assert_eq!(filled("${NESTED}"), "${HOST}");
    }

    #[test]
    fn what_cannot_be_had_is_named_with_its_place() {
        assert_eq!(
            fill("it's ${PORT} and ${EMPTY}").unwrap_err(),
            [
                "${PORT}: variable PORT is not set (set it in the environment, or give a default: ${PORT:-default})",
                "${EMPTY}: variable EMPTY is not set (set it in the environment, or give a default: ${EMPTY:-default})",
            ]
        );
        assert_eq!(
            fill("${PORT:?where PostgreSQL listens}").unwrap_err(),
            ["${PORT:?where PostgreSQL listens}: variable PORT is not set: where PostgreSQL listens"]
        );
        assert_eq!(
            fill("$${X} ${TWO}").unwrap_err(),
            ["${TWO}: the value of TWO holds a line break or a NUL (it must be one line of text)"]
        );
    }

    #[test]
    fn malformed_variables_are_errors() {
        assert_eq!(
            fill("a ${HOST").unwrap_err(),
            ["${HOST: a '${' is not closed (write ${NAME}, or $${ for a '${' that begins no variable)"]
        );
        assert_eq!(
            fill("${HOST-x}").unwrap_err(),
            ["${HOST-x}: '-x' cannot follow the name of a variable \
              (write ${HOST}, ${HOST:-default} or ${HOST:?message})"]
        );
        assert_eq!(
            fill("${1}").unwrap_err(),
            ["${1}: '${' must be followed by the name of a variable \
              (a name has letters, digits and _, as in ${NAME}; write $${ for a '${' that begins no variable)"]
        );
        assert_eq!(
            fill("${A:-${HOST}}").unwrap_err(),
            ["${A:-${HOST}: the default of A holds another variable (use one of them)"]
        );
    }

    #[test]
    fn files_are_read_without_their_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hunter2\r\n").unwrap();
        let filled = fill(&format!("pw=${{file:{}}}", path.display())).unwrap();
        assert_eq!(filled.text, "pw=hunter2");
        assert_eq!(filled.variables, [format!("file:{}", path.display())]);
        let errors = fill("${file:/nowhere}").unwrap_err();
        assert!(errors[0].starts_with("${file:/nowhere}: cannot read the file /nowhere: No such file"), "{errors:?}");
    }

    #[test]
    fn debug_output_holds_no_value() {
        let variables: Variables = [("A".to_string(), "hunter2".to_string())].into_iter().collect();
        assert_eq!(format!("{variables:?}"), "{\"A\"}");
    }
}
