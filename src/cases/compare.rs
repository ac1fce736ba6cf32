//! Rows that came out against rows that were expected: as bags, values by what they mean.
//!
//! Numbers are equal by value (floating ones to 9 digits), moments of time by the moment, and a column that is null
//! is equal to one that is not there.

use std::collections::HashMap;
use std::fmt::Write;

use chrono::{DateTime, NaiveDateTime, SecondsFormat};
use serde_json::{Map, Number, Value};

/// More rows than these are only counted.
const SHOWN: usize = 20;

/// Rows that are only on one side.
#[derive(PartialEq, Debug, Default)]
pub struct Difference {
    /// Expected, but did not come.
    pub missing: Vec<Value>,
    /// Came, but were not expected.
    pub unexpected: Vec<Value>,
}

impl Difference {
    /// Compares two bags of rows.
    pub fn between(expected: &[Value], actual: &[Value]) -> Difference {
        let mut waiting: HashMap<String, Vec<&Value>> = HashMap::new();
        for row in expected {
            waiting.entry(canonical(row).to_string()).or_default().push(row);
        }
        let mut unexpected = vec![];
        for row in actual {
            if waiting.get_mut(&canonical(row).to_string()).and_then(Vec::pop).is_none() {
                unexpected.push(row.clone());
            }
        }
        // What is left may still be equal but for the last digits of a floating number.
        let mut missing = vec![];
        for row in waiting.into_values().flatten() {
            match unexpected.iter().position(|other| is_close(&canonical(row), &canonical(other))) {
                Some(at) => drop(unexpected.swap_remove(at)),
                None => missing.push(row.clone()),
            }
        }
        missing.sort_by_cached_key(Value::to_string);
        unexpected.sort_by_cached_key(Value::to_string);
        Difference { missing, unexpected }
    }

    /// Whether both bags were equal.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty()
    }

    /// For a person: `-` before a row that is missing, `+` before one that was not expected.
    pub fn render(&self, table: &str, color: bool) -> String {
        let (missing, unexpected) = (self.missing.len(), self.unexpected.len());
        let mut text = format!("  {table}: {missing} missing (-), {unexpected} not expected (+)\n");
        let (red, green, end) = if color { ("\x1b[31m", "\x1b[32m", "\x1b[0m") } else { ("", "", "") };
        for (rows, sign, start) in [(&self.missing, '-', red), (&self.unexpected, '+', green)] {
            for row in rows.iter().take(SHOWN) {
                let _ = writeln!(text, "    {start}{sign} {row}{end}");
            }
            if rows.len() > SHOWN {
                let _ = writeln!(text, "    {sign} ... and {} more", rows.len() - SHOWN);
            }
        }
        text
    }
}

/// The value in the one form that all equal values share.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields = fields.into_iter().map(|(name, value)| (name.clone(), canonical(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Number(number) => Value::Number(canonical_number(number)),
        Value::String(text) => canonical_time(text).map_or_else(|| value.clone(), Value::String),
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// `2.0` is `2`.
fn canonical_number(number: &Number) -> Number {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => Number::from(float as i64),
        _ => number.clone(),
    }
}

/// A moment of time in one spelling: `2026-01-01T00:00:00Z` for `2026-01-01T00:00:00.000` and `...+00:00`.
fn canonical_time(text: &str) -> Option<String> {
    let is_date = text.len() >= 19 && text.as_bytes()[10] == b'T';
    if !is_date {
        return None;
    }
    let time = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc(),
        Err(_) => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc(),
    };
    Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn is_close(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => are_close_numbers(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_close(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| is_close(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}

fn are_close_numbers(one: &Number, other: &Number) -> bool {
    if !one.is_f64() && !other.is_f64() {
        return one == other;
    }
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * one.abs().max(other.abs()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn equal(one: Value, other: Value) -> bool {
        Difference::between(&[one], &[other]).is_empty()
    }

    #[test]
    fn values_are_compared_by_what_they_mean() {
        assert!(equal(json!({"a": 1, "b": 2.50}), json!({"b": 2.5, "a": 1.0})));
        assert!(equal(json!({"a": 0.1 + 0.2}), json!({"a": 0.3})));
        assert!(equal(json!({"t": "2026-01-01T00:00:30Z"}), json!({"t": "2026-01-01T00:00:30.000"})));
        assert!(equal(json!({"t": "2026-01-01T01:00:30+01:00"}), json!({"t": "2026-01-01T00:00:30Z"})));
        assert!(equal(json!({"a": 1, "b": null}), json!({"a": 1})));
        assert!(equal(json!({"w": {"start": "2026-01-01T00:00:00Z"}}), json!({"w": {"start": "2026-01-01T00:00:00"}})));
    }

    #[test]
    fn values_that_mean_something_else_differ() {
        assert!(!equal(json!({"a": 1}), json!({"a": "1"})));
        assert!(!equal(json!({"a": 1}), json!({"a": 2})));
        assert!(!equal(json!({"a": 1.000_001}), json!({"a": 1.0})));
        assert!(!equal(json!({"a": 9_007_199_254_740_993_i64}), json!({"a": 9_007_199_254_740_992_i64})));
        assert!(!equal(json!({"t": "2026-01-01T00:00:30Z"}), json!({"t": "2026-01-01T00:00:31Z"})));
        assert!(!equal(json!({"a": []}), json!({"a": [null]})));
        assert!(!equal(json!({"a": 1}), json!({"a": 1, "b": 2})));
    }

    #[test]
    fn rows_count_as_often_as_they_come_and_in_any_order() {
        let (one, two) = (json!({"a": 1}), json!({"a": 2}));
        let bag = |rows: &[&Value]| rows.iter().map(|row| (*row).clone()).collect::<Vec<_>>();
        assert!(Difference::between(&bag(&[&one, &two, &one]), &bag(&[&one, &one, &two])).is_empty());
        let difference = Difference::between(&bag(&[&one, &one]), &bag(&[&one, &two]));
        assert_eq!(difference, Difference { missing: vec![one], unexpected: vec![two] });
    }

    #[test]
    fn a_difference_shows_both_sides() {
        let difference = Difference::between(&[json!({"k": "a", "n": 2})], &[json!({"k": "a", "n": 3})]);
        assert_eq!(
            difference.render("totals", false),
            "  totals: 1 missing (-), 1 not expected (+)\n    - {\"k\":\"a\",\"n\":2}\n    + {\"k\":\"a\",\"n\":3}\n"
        );
        assert!(difference.render("totals", true).contains("\x1b[31m- {"));
        let many: Vec<Value> = (0..30).map(|n| json!({ "n": n })).collect();
        assert!(Difference::between(&many, &[]).render("t", false).contains("... and 10 more"));
    }
}
