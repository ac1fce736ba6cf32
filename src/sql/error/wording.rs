//! DataFusion's sentences in the words of a person who writes SQL.

/// A message without DataFusion's prefixes, advice for its own developers and capital letter, with SQL's names for
/// Arrow's types.
pub(crate) fn clean(message: &str) -> String {
    const PREFIXES: [&str; 11] = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Invalid or Unsupported Configuration: ",
        "Schema error: ",
        "SQL error: ",
        "Arrow error: ",
        "Parser error: ",
        "Cast error: ",
        "Execution error: ",
        "External error: ",
        "Internal error: ",
    ];
    let mut text = message.split("\n\nbacktrace:").next().unwrap_or_default().trim();
    text = text.split("This issue was likely caused by a bug").next().unwrap_or_default().trim_end();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest.trim_start();
    }
    let text = text.replace("datafusion.public.", "").replace("DataFusion", "the planner");
    let text = sql_types(text.strip_suffix('.').unwrap_or(&text));
    let mut characters = text.chars();
    let second_is_small = text.chars().nth(1).is_some_and(|c| c.is_lowercase() || c == ' ');
    match characters.next() {
        Some(first) if second_is_small => first.to_lowercase().chain(characters).collect(),
        _ => text,
    }
}

/// SQL's names for Arrow's types, wherever one stands as a word of its own.
fn sql_types(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for character in text.chars() {
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        out.push_str(sql_type(&word));
        word.clear();
        out.push(character);
    }
    out.push_str(sql_type(&word));
    out.replace("Timestamp(ns)", "TIMESTAMP").replace("Timestamp(ms)", "TIMESTAMP(3)")
}

fn sql_type(word: &str) -> &str {
    match word {
        "Utf8" | "Utf8View" | "LargeUtf8" => "TEXT",
        "Int8" => "TINYINT",
        "Int16" => "SMALLINT",
        "Int32" => "INT",
        "Int64" => "BIGINT",
        "UInt32" => "INT UNSIGNED",
        "UInt64" => "BIGINT UNSIGNED",
        "Float32" => "REAL",
        "Float64" => "DOUBLE",
        "Decimal128" => "DECIMAL",
        "Date32" => "DATE",
        "Binary" | "BinaryView" => "BYTES",
        other => other,
    }
}

/// What is wrong with the arguments of a function.
pub(super) struct WrongArguments {
    /// The function.
    pub function: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// Reads DataFusion's sentences on arguments, of which there are two kinds: `Function 'f' failed to match any
/// signature, errors: ...`, with a reason for each signature, and `... Candidate functions: ...`.
pub(super) fn wrong_arguments(text: &str) -> Option<WrongArguments> {
    let at = text.find("unction '")? + "unction '".len();
    let function = text[at..].split('\'').next()?.to_string();
    if let Some((_, reasons)) = text.split_once("failed to match any signature, errors: ") {
        let mut needed = vec![];
        for reason in reasons.split("requires ").skip(1) {
            let name = sql_types(reason.split([',', ' ']).next().unwrap_or_default());
            if !needed.contains(&name) {
                needed.push(name);
            }
        }
        let received = reasons.split("(DataType: ").nth(1).and_then(|rest| rest.split(").").next());
        let message = match received {
            Some(received) => format!("function '{function}' does not take {}", sql_types(received)),
            None => format!("function '{function}' does not take these arguments"),
        };
        let help = (!needed.is_empty()).then(|| format!("it takes {}", needed.join(", ")));
        return Some(WrongArguments { function, message, help });
    }
    let (sentence, candidates) = text.split_once("Candidate functions:")?;
    let sentence = sentence.split("No function matches").next().unwrap_or_default();
    let candidates: Vec<&str> = candidates.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let message = match clean(sentence) {
        empty if empty.is_empty() => format!("function '{function}' does not take these arguments"),
        sentence => sentence.replace("expects 1 arguments", "expects 1 argument"),
    };
    Some(WrongArguments { function, message, help: Some(format!("there is {}", sql_types(&candidates.join(", ")))) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_advice_for_developers_are_taken_off() {
        assert_eq!(clean("Error during planning: Schema error: No such thing."), "no such thing");
        assert_eq!(clean("UNION differs"), "UNION differs");
        assert_eq!(clean("Internal error: Odd.\nThis issue was likely caused by a bug in DataFusion's code."), "odd");
    }

    #[test]
    fn types_have_their_names_in_sql() {
        assert_eq!(clean("has type Utf8View, not Int64 or Timestamp(ns)"), "has type TEXT, not BIGINT or TIMESTAMP");
        assert_eq!(sql_types("Utf8Views"), "Utf8Views");
    }
}
