//! The options in a table's `WITH (...)`, on their way from text to a connector's typed struct.
//!
//! A connector takes what it knows, by name; each mistake is noted with the place of the value and the reading goes
//! on, so that one `check` reports them all. What nobody took is unknown: [`Options::finish`] says so and names the
//! closest option that exists.

use std::time::Duration;

use crate::sql::Location;

pub use crate::sql::names::closest;
pub use crate::sql::variables::is_secret;

/// One `'key' = 'value'` with variables already put in.
#[derive(Clone)]
pub struct OptionValue {
    /// The option's name.
    pub key: String,
    /// Its value.
    pub text: String,
    /// Where the key stands.
    pub key_location: Location,
    /// Where the value stands.
    pub location: Location,
    /// The variables that the text names, whether set or defaulted.
    pub variables: Vec<String>,
}

// The text may hold a password.
impl std::fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}' = '***'", self.key)
    }
}

impl OptionValue {
    /// An option that stands in no file: one that a connector gives itself, or a test.
    pub fn new(key: impl Into<String>, text: impl Into<String>) -> OptionValue {
        let (key, text) = (key.into(), text.into());
        OptionValue { key, text, key_location: Location::default(), location: Location::default(), variables: vec![] }
    }

    /// The value as a message may show it: in quotes, or where it came from if that is outside the SQL, or nothing
    /// of it if the option holds a secret.
    pub fn shown(&self) -> String {
        match self.variables.as_slice() {
            _ if is_secret(&self.key) => "its value".into(),
            [] => format!("'{}'", self.text),
            variables => {
                let names: Vec<String> = variables.iter().map(|name| format!("${{{name}}}")).collect();
                format!("the value of {}", names.join(" and "))
            }
        }
    }
}

/// A mistake in an option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionError {
    /// The value's place, the key's, or the table's.
    pub location: Location,
    /// What is wrong. Never holds the value of an option that could be secret.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// The options of one table.
#[derive(Debug)]
pub struct Options {
    table: Location,
    remaining: Vec<OptionValue>,
    taken: Vec<OptionValue>,
    known: Vec<&'static str>,
    errors: Vec<OptionError>,
}

impl Options {
    /// All options of a table whose name stands at `table`.
    pub fn new(table: Location, values: Vec<OptionValue>) -> Options {
        Options { table, remaining: values, taken: vec![], known: vec![], errors: vec![] }
    }

    /// Takes the option out, by whichever of its names is there; the first is the one that messages use. Taken again,
    /// it gives the same value: a table that is read and written takes its format once for each direction.
    pub fn take(&mut self, names: &[&'static str]) -> Option<OptionValue> {
        self.known.extend(names);
        let named = |option: &&OptionValue| names.contains(&option.key.as_str());
        if let Some(option) = self.taken.iter().find(named) {
            return Some(option.clone());
        }
        let at = self.remaining.iter().position(|option| named(&option))?;
        self.taken.push(self.remaining.remove(at));
        self.taken.last().cloned()
    }

    /// Where the value of an option stands that has not been taken yet.
    pub fn location(&self, names: &[&str]) -> Option<Location> {
        self.remaining.iter().find(|option| names.contains(&option.key.as_str())).map(|option| option.location)
    }

    /// The value of an option, left for others to take.
    pub fn peek(&self, name: &str) -> Option<&str> {
        self.remaining.iter().chain(&self.taken).find(|option| option.key == name).map(|option| option.text.as_str())
    }

    /// Gives an option the value that follows from others, such as a format from a file's extension, if the user
    /// gave it none.
    pub fn set_default(&mut self, key: &str, text: &str) {
        if self.peek(key).is_none() {
            let (key, text) = (key.to_owned(), text.to_owned());
            let value = OptionValue { key, text, key_location: self.table, location: self.table, variables: vec![] };
            self.remaining.push(value);
        }
    }

    /// Takes a text.
    pub fn string(&mut self, names: &[&'static str]) -> Option<String> {
        self.take(names).map(|option| option.text)
    }

    /// Takes a text that must be there; notes an error, with an example of what would be right, if it is not.
    pub fn required(&mut self, names: &[&'static str], example: &str) -> String {
        match self.take(names) {
            Some(option) => option.text,
            None => {
                self.error(
                    self.table,
                    format!("option '{}' is missing", names[0]),
                    Some(format!("add '{}' = '{example}'", names[0])),
                );
                String::new()
            }
        }
    }

    /// Takes one of a few words and gives what stands beside it.
    pub fn choice<T: Clone>(&mut self, names: &[&'static str], choices: &[(&str, T)]) -> Option<T> {
        let option = self.take(names)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == option.text) {
            return Some(value.clone());
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let shown = option.shown();
        let help = match closest(&option.text, words.iter().copied()) {
            Some(word) => format!("did you mean '{word}'? It takes {}", list(&words)),
            None => format!("it takes {}", list(&words)),
        };
        self.error(option.location, format!("option '{}' does not take {shown}", option.key), Some(help));
        None
    }

    /// Takes `true` or `false`.
    pub fn boolean(&mut self, names: &[&'static str]) -> Option<bool> {
        self.choice(names, &[("true", true), ("false", false)])
    }

    /// Takes a whole number in `range`.
    pub fn integer(&mut self, names: &[&'static str], range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let option = self.take(names)?;
        match option.text.trim().parse::<i64>() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let (low, high) = (range.start(), range.end());
                self.error(
                    option.location,
                    format!("option '{}' does not take {}", option.key, option.shown()),
                    Some(format!("it takes a whole number from {low} to {high}")),
                );
                None
            }
        }
    }

    /// Takes a length of time such as `250 ms`, `1 second` or `2h 30m`.
    pub fn duration(&mut self, names: &[&'static str]) -> Option<Duration> {
        let option = self.take(names)?;
        match parse_duration(&option.text) {
            Some(duration) if !duration.is_zero() => Some(duration),
            _ => {
                self.error(
                    option.location,
                    format!("option '{}' does not take {}", option.key, option.shown()),
                    Some("it takes a length of time such as '250 ms', '1 second' or '1 hour'".into()),
                );
                None
            }
        }
    }

    /// Takes a number of bytes such as `1048576`, `64MB` or `1 GB` (powers of 1024).
    pub fn size(&mut self, names: &[&'static str]) -> Option<u64> {
        let option = self.take(names)?;
        let bytes = parse_size(&option.text);
        if bytes.is_none() {
            self.error(
                option.location,
                format!("option '{}' does not take {}", option.key, option.shown()),
                Some("it takes a number of bytes such as '1048576', '64MB' or '1GB'".into()),
            );
        }
        bytes
    }

    /// Takes every option whose name begins with `prefix`; gives the names without it.
    pub fn prefixed(&mut self, prefix: &'static str) -> Vec<OptionValue> {
        let (taken, remaining) =
            std::mem::take(&mut self.remaining).into_iter().partition(|o: &OptionValue| o.key.starts_with(prefix));
        self.remaining = remaining;
        let mut taken: Vec<OptionValue> = taken;
        for option in &mut taken {
            option.key.drain(..prefix.len());
        }
        taken
    }

    /// Notes a mistake at `location`, once however often it is found.
    pub fn error(&mut self, location: Location, message: String, help: Option<String>) {
        let error = OptionError { location, message, help };
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Where the table's name stands, for mistakes that no single option has made.
    pub fn table(&self) -> Location {
        self.table
    }

    /// The mistakes so far, and one for each option that nobody took.
    pub fn finish(mut self, connector: &str) -> Vec<OptionError> {
        for option in std::mem::take(&mut self.remaining) {
            let help = match closest(&option.key, self.known.iter().copied()) {
                Some(known) => format!("did you mean '{known}'?"),
                None => {
                    let mut known = self.known.clone();
                    known.sort_unstable();
                    known.dedup();
                    format!("it takes {}", list(&known))
                }
            };
            let message = if self.known.contains(&option.key.as_str()) {
                format!("option '{}' is given twice", option.key)
            } else {
                format!("connector '{connector}' has no option '{}'", option.key)
            };
            self.errors.push(OptionError { location: option.key_location, message, help: Some(help) });
        }
        self.errors
    }
}

/// A number of bytes above 0, with a unit or without.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return None,
    };
    let number = text[..digits].parse::<u64>().ok().filter(|number| *number > 0)?;
    number.checked_mul(unit)
}

/// Parses a length of time: one or more of a number and a unit, such as `10 seconds` or `1h 30m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// `'a', 'b' or 'c'`.
pub fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    match quoted.split_last() {
        None => "no options".into(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let values = pairs.iter().map(|(key, text)| OptionValue::new(*key, *text)).collect();
        Options::new(Location::default(), values)
    }

    #[test]
    fn an_unknown_option_names_the_closest_one() {
        let mut options = options(&[("topik", "t")]);
        options.string(&["topic"]);
        let errors = options.finish("kafka");
        assert_eq!(errors[0].message, "connector 'kafka' has no option 'topik'");
        assert_eq!(errors[0].help.as_deref(), Some("did you mean 'topic'?"));
    }

    #[test]
    fn a_default_yields_to_the_user() {
        let mut options = options(&[("format", "csv")]);
        options.set_default("format", "json");
        options.set_default("mode", "append");
        assert_eq!((options.peek("format"), options.peek("mode")), (Some("csv"), Some("append")));
    }

    #[test]
    fn a_wrong_word_names_the_right_ones() {
        let mut options = options(&[("offset", "erliest")]);
        assert_eq!(options.choice(&["offset"], &[("earliest", 1), ("latest", 2)]), None);
        let errors = options.finish("kafka");
        assert_eq!(errors[0].message, "option 'offset' does not take 'erliest'");
        assert_eq!(errors[0].help.as_deref(), Some("did you mean 'earliest'? It takes 'earliest' or 'latest'"));
    }

    #[test]
    fn values_from_outside_and_secrets_are_not_shown() {
        let value = |key: &str, variables: &[&str]| OptionValue {
            key: key.into(),
            text: "hunter2".into(),
            key_location: Location::default(),
            location: Location::default(),
            variables: variables.iter().map(|name| (*name).into()).collect(),
        };
        assert_eq!(value("offset", &[]).shown(), "'hunter2'");
        assert_eq!(value("offset", &["A", "B"]).shown(), "the value of ${A} and ${B}");
        assert_eq!(value("properties.sasl.password", &[]).shown(), "its value");
        let mut options = Options::new(
            Location::default(),
            vec![value("offset", &["OFFSET"]), value("retries", &["N"]), value("ttl", &["TTL"])],
        );
        options.choice(&["offset"], &[("earliest", 1)]);
        options.integer(&["retries"], 0..=3);
        options.duration(&["ttl"]);
        let messages: Vec<String> = options.finish("kafka").into_iter().map(|error| error.message).collect();
        assert_eq!(
            messages,
            [
                "option 'offset' does not take the value of ${OFFSET}",
                "option 'retries' does not take the value of ${N}",
                "option 'ttl' does not take the value of ${TTL}",
            ]
        );
    }

    #[test]
    fn a_missing_option_comes_with_an_example() {
        let mut options = options(&[]);
        options.required(&["topic"], "transactions");
        let errors = options.finish("kafka");
        assert_eq!(errors[0].message, "option 'topic' is missing");
        assert_eq!(errors[0].help.as_deref(), Some("add 'topic' = 'transactions'"));
    }

    #[test]
    fn an_option_given_twice_is_an_error() {
        let mut options = options(&[("topic", "a"), ("topic", "b")]);
        options.string(&["topic"]);
        assert_eq!(options.finish("kafka")[0].message, "option 'topic' is given twice");
    }

    #[test]
    fn an_option_taken_again_gives_the_same_value_and_the_same_mistake_once() {
        let mut options = options(&[("format", "jsno")]);
        for _ in 0..2 {
            assert_eq!(options.choice(&["format"], &[("json", 1)]), None);
            assert_eq!(options.string(&["format"]).as_deref(), Some("jsno"));
        }
        assert_eq!(options.finish("kafka").len(), 1);
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("250 ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("1 second"), Some(Duration::from_secs(1)));
        assert_eq!(parse_duration("1h 30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("soon"), None);
        let mut options = options(&[("ttl", "0s")]);
        assert_eq!(options.duration(&["ttl"]), None);
        assert!(options.finish("redis")[0].help.as_deref().unwrap_or_default().contains("'250 ms'"));
    }
}
