//! Scalar functions that Flink's SQL has and DataFusion has not, or has with another meaning.
//!
//! | function | value |
//! |---|---|
//! | `split_index(text, separator, n)` | part *n* of the text, counted from 0; null if there are fewer |
//! | `regexp_extract(text, pattern, n)` | what group *n* of the pattern's first match holds, the whole match without *n*; null without a match |
//! | `date_format(time, pattern)` | the time as text, by a pattern such as `yyyy-MM-dd HH:mm` or, as in DataFusion, `%Y-%m-%d` |
//! | `year`, `month`, `dayofmonth`, `hour`, `minute`, `second` | that part of a time |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Datum, StringArray};
use arrow::compute::{DatePart, cast, date_part, regexp_match};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

/// Makes the functions known to a session.
///
/// # Errors
/// When the registry takes no functions.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let text = DataType::Utf8;
    let exact = |types: &[DataType]| TypeSignature::Exact(types.to_vec());
    let extract = vec![exact(&[text.clone(), text.clone()]), exact(&[text.clone(), text.clone(), DataType::Int64])];
    let mut functions = vec![
        ("split_index", Kind::SplitIndex, exact(&[text.clone(), text.clone(), DataType::Int64])),
        ("regexp_extract", Kind::RegexpExtract, TypeSignature::OneOf(extract)),
        ("date_format", Kind::DateFormat, TypeSignature::Any(2)),
    ];
    functions.extend(PARTS.map(|(name, _)| (name, Kind::Part, TypeSignature::Any(1))));
    for (name, kind, signature) in functions {
        let signature = Signature::new(signature, Volatility::Immutable);
        registry.register_udf(Arc::new(ScalarUDF::from(FlinkFunction { name, kind, signature })))?;
    }
    Ok(())
}

/// One of the functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FlinkFunction {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    SplitIndex,
    RegexpExtract,
    DateFormat,
    /// The part of a time that has the function's name.
    Part,
}

/// The parts of a time.
const PARTS: [(&str, DatePart); 6] = [
    ("year", DatePart::Year),
    ("month", DatePart::Month),
    ("dayofmonth", DatePart::Day),
    ("hour", DatePart::Hour),
    ("minute", DatePart::Minute),
    ("second", DatePart::Second),
];

impl ScalarUDFImpl for FlinkFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let is_time = |data_type: &DataType| data_type.is_null() || data_type.is_temporal();
        match (self.kind, arguments) {
            (Kind::Part | Kind::DateFormat, [time, ..]) if !is_time(time) => {
                plan_err!("{}() takes a time, not {time}", self.name)
            }
            (Kind::Part, _) => Ok(DataType::Int64),
            _ => Ok(DataType::Utf8),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.kind {
            Kind::SplitIndex => split_index(&arguments),
            Kind::RegexpExtract => regexp_extract(&arguments),
            Kind::DateFormat => date_format(arguments),
            Kind::Part => {
                let time = arguments.args[0].to_array(arguments.number_rows)?;
                let Some((_, part)) = PARTS.iter().find(|(name, _)| *name == self.name) else {
                    return internal_err!("{} is no part of a time", self.name);
                };
                Ok(ColumnarValue::Array(cast(&date_part(&time, *part)?, &DataType::Int64)?))
            }
        }
    }
}

fn split_index(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
    let (texts, separators) = (arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>());
    let numbers = arrays[2].as_primitive::<Int64Type>();
    let part = |((text, separator), number): ((Option<&'_ str>, Option<&str>), Option<i64>)| {
        let (text, separator) = (text?, separator.filter(|separator| !separator.is_empty())?);
        text.split(separator).nth(usize::try_from(number?).ok()?).map(str::to_owned)
    };
    let parts: StringArray = texts.iter().zip(separators).zip(numbers).map(part).collect();
    Ok(ColumnarValue::Array(Arc::new(parts)))
}

fn regexp_extract(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = arguments.args[0].to_array(arguments.number_rows)?;
    let ColumnarValue::Scalar(ScalarValue::Utf8(pattern)) = &arguments.args[1] else {
        return plan_err!("regexp_extract() takes a constant pattern");
    };
    let group = match arguments.args.get(2) {
        None => Some(0),
        Some(ColumnarValue::Scalar(ScalarValue::Int64(group))) => *group,
        Some(_) => return plan_err!("regexp_extract() takes a constant number of a group"),
    };
    let (Some(pattern), Some(group)) = (pattern, group) else {
        return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None)));
    };
    let pattern = only_group(pattern, group)?;
    let matches = regexp_match(&texts, &StringArray::new_scalar(pattern) as &dyn Datum, None)?;
    let matches = matches.as_list::<i32>();
    let found = matches.values().as_string::<i32>();
    let ends = matches.value_offsets().windows(2);
    let first = ends.map(|ends| (ends[0] < ends[1]).then(|| found.value(ends[0] as usize)));
    Ok(ColumnarValue::Array(Arc::new(first.collect::<StringArray>())))
}

/// The pattern with no other group that captures than number `wanted`; with none for 0, the whole match.
fn only_group(pattern: &str, wanted: i64) -> Result<String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let (mut groups, mut in_class) = (0, 0_usize);
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        let (head, tail) = rest.split_at(letter.len_utf8());
        match letter {
            '\\' => {
                let escaped = tail.chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..1 + escaped]);
                rest = &tail[escaped..];
                continue;
            }
            '[' => in_class += 1,
            ']' => in_class = in_class.saturating_sub(1),
            '(' if in_class == 0 => {
                let name = ["?P<", "?<"].iter().find(|mark| tail.starts_with(**mark));
                let named = name.and_then(|_| tail.find('>')).map(|end| end + 1);
                if named.is_some() || !tail.starts_with('?') {
                    groups += 1;
                    out.push_str(if groups == wanted { "(" } else { "(?:" });
                    rest = &tail[named.unwrap_or(0)..];
                    continue;
                }
            }
            _ => {}
        }
        out.push_str(head);
        rest = tail;
    }
    if (0..=groups).contains(&wanted) {
        return Ok(out);
    }
    plan_err!("regexp_extract(): the pattern '{pattern}' has {groups} groups, and no number {wanted}")
}

fn date_format(mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let ColumnarValue::Scalar(ScalarValue::Utf8(pattern)) = &arguments.args[1] else {
        return plan_err!("date_format() takes a constant pattern");
    };
    if let Some(java) = pattern.as_ref().filter(|pattern| !pattern.contains('%')) {
        arguments.args[1] = ColumnarValue::Scalar(ScalarValue::Utf8(Some(strftime(java)?)));
    }
    let formatted = datafusion::functions::datetime::to_char().invoke_with_args(arguments)?;
    Ok(match formatted {
        ColumnarValue::Array(array) => ColumnarValue::Array(as_text(array)?),
        scalar => scalar,
    })
}

fn as_text(array: ArrayRef) -> Result<ArrayRef> {
    if *array.data_type() == DataType::Utf8 { Ok(array) } else { Ok(cast(&array, &DataType::Utf8)?) }
}

/// What a pattern of Java's is in the notation of `strftime`.
fn strftime(java: &str) -> Result<String> {
    const LETTERS: [(&str, &str); 17] = [
        ("yyyy", "%Y"),
        ("yy", "%y"),
        ("MMMM", "%B"),
        ("MMM", "%b"),
        ("MM", "%m"),
        ("M", "%-m"),
        ("dd", "%d"),
        ("d", "%-d"),
        ("HH", "%H"),
        ("H", "%-H"),
        ("hh", "%I"),
        ("mm", "%M"),
        ("ss", "%S"),
        ("SSS", "%3f"),
        ("a", "%p"),
        ("EEEE", "%A"),
        ("EEE", "%a"),
    ];
    let mut out = String::new();
    let mut rest = java;
    while let Some(letter) = rest.chars().next() {
        let run = rest.len() - rest.trim_start_matches(letter).len();
        let (same, tail) = rest.split_at(run);
        if letter == '\'' {
            rest = quoted(rest, &mut out);
            continue;
        }
        match LETTERS.iter().find(|(pattern, _)| *pattern == same) {
            Some((_, meaning)) => out.push_str(meaning),
            None if letter.is_ascii_alphabetic() => {
                let known: Vec<&str> = LETTERS.iter().map(|(pattern, _)| *pattern).collect();
                return plan_err!("date_format() does not know '{same}' in '{java}': it takes {}", known.join(", "));
            }
            None => out.push_str(same),
        }
        rest = tail;
    }
    Ok(out)
}

/// Takes text in quotes from the beginning of `pattern`, in which two quotes stand for one, as they do by themselves.
/// Returns what is behind it.
fn quoted<'a>(pattern: &'a str, out: &mut String) -> &'a str {
    if let Some(rest) = pattern.strip_prefix("''") {
        out.push('\'');
        return rest;
    }
    let mut rest = pattern.strip_prefix('\'').unwrap_or(pattern);
    loop {
        let (literal, after) = rest.split_once('\'').unwrap_or((rest, ""));
        out.push_str(literal);
        let Some(after_two) = after.strip_prefix('\'') else { return after };
        out.push('\'');
        rest = after_two;
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn value(sql: &str) -> Result<Option<String>> {
        let mut session = SessionContext::new();
        register(&mut session)?;
        let batches = session.sql(&format!("SELECT {sql}")).await?.collect().await?;
        let text = cast(batches[0].column(0), &DataType::Utf8)?;
        let text = text.as_string::<i32>();
        Ok(text.is_valid(0).then(|| text.value(0).to_owned()))
    }

    #[tokio::test]
    async fn values_are_flinks() {
        for (sql, expected) in [
            ("split_index('https://a.b/c/d', '/', 0)", Some("https:")),
            ("split_index('https://a.b/c/d', '/', 1)", Some("")),
            ("split_index('https://a.b/c/d', '/', 4)", Some("d")),
            ("split_index('https://a.b/c/d', '/', 5)", None),
            ("split_index('https://a.b/c/d', '/', -1)", None),
            ("split_index('abc', '', 0)", None),
            ("regexp_extract('x?a=1&channel_id=77&b=2', '(&|^)channel_id=([^&]*)', 2)", Some("77")),
            ("regexp_extract('channel_id=', '(&|^)channel_id=([^&]*)', 2)", Some("")),
            ("regexp_extract('channel', '(&|^)channel_id=([^&]*)', 2)", None),
            ("regexp_extract('abcd', '(x)?b(c)', 2)", Some("c")),
            ("regexp_extract('abcd', '(x)?b(c)', 1)", None),
            ("regexp_extract('abcd', '(x)?b(c)')", Some("bc")),
            ("regexp_extract('a(b', '[(](b)', 1)", Some("b")),
            ("regexp_extract('a(b', '\\((?:a|(b))', 1)", Some("b")),
            ("regexp_extract('ab', '(?<one>a)(?P<two>b)', 2)", Some("b")),
            (
                "date_format(TIMESTAMP '2024-02-29 13:04:05.678', 'yyyy-MM-dd HH:mm:ss.SSS')",
                Some("2024-02-29 13:04:05.678"),
            ),
            ("date_format(TIMESTAMP '2024-02-09 03:04:05', 'd.M.yy ''at'' H''h''')", Some("9.2.24 at 3h")),
            ("date_format(TIMESTAMP '2024-02-09 03:04:05', 'H ''o''''clock''')", Some("3 o'clock")),
            ("date_format(TIMESTAMP '2024-02-09 03:04:05', 'H''''''''H')", Some("3''3")),
            ("date_format(TIMESTAMP '2024-02-09 03:04:05', '''''''H''''H''')", Some("'H'H")),
            ("date_format(TIMESTAMP '2024-02-29 13:04:05', '%H-%M')", Some("13-04")),
            ("date_format(CAST(NULL AS TIMESTAMP), 'yyyy')", None),
            ("hour(TIMESTAMP '2024-02-29 13:04:05')", Some("13")),
            ("year(TIMESTAMP '2024-02-29 13:04:05') + month(DATE '2024-02-29')", Some("2026")),
            ("dayofmonth(DATE '2024-02-29')", Some("29")),
            ("minute(TIMESTAMP '2024-02-29 13:04:05') * 60 + second(TIMESTAMP '2024-02-29 13:04:05')", Some("245")),
        ] {
            assert_eq!(value(sql).await.unwrap().as_deref(), expected, "{sql}");
        }
    }

    #[tokio::test]
    async fn mistakes_say_what_would_be_right() {
        for (sql, expected) in [
            ("hour('13:00')", "hour() takes a time, not Utf8"),
            ("regexp_extract('a', '(a)', 2)", "regexp_extract(): the pattern '(a)' has 1 groups, and no number 2"),
            ("date_format(TIMESTAMP '2024-02-29 13:04:05', 'YYYY')", "date_format() does not know 'YYYY' in 'YYYY'"),
        ] {
            let error = value(sql).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
}
