//! What `run` says at the start and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::console::Figures;
use crate::program::Program;

/// `3 tables, 1 query`.
pub fn counted(tables: usize, queries: usize) -> String {
    let tables = format!("{tables} table{}", if tables == 1 { "" } else { "s" });
    let queries = format!("{queries} {}", if queries == 1 { "query" } else { "queries" });
    format!("{tables}, {queries}")
}

/// One line for each embedded part, with the variables that connect the real ones.
pub fn embedded_parts(program: &Program) -> Vec<String> {
    let mut parts: BTreeMap<&'static str, BTreeSet<&str>> = BTreeMap::new();
    for table in &program.tables {
        if let Some(part) = table.connector.embedded() {
            parts.entry(part).or_default().extend(table.variable.as_deref());
        }
    }
    parts.into_iter().map(|(part, variables)| embedded_part(part, &variables)).collect()
}

fn embedded_part(part: &str, variables: &BTreeSet<&str>) -> String {
    let what = match part {
        "PostgreSQL" => "SQLite files in the data folder".to_owned(),
        "Kafka" => "a log in the data folder".to_owned(),
        _ => "empty at the start, gone at the end".to_owned(),
    };
    let names: Vec<&str> = variables.iter().copied().collect();
    match names.split_last() {
        None => format!("{part} is embedded ({what}): its table's options name no variable that would connect yours"),
        Some((last, [])) => format!("{part} is embedded ({what}): set {last} to use yours"),
        Some((last, names)) => {
            format!("{part} is embedded ({what}): set {} and {last} to use yours", names.join(", "))
        }
    }
}

/// The closing line of a run.
pub fn closing(figures: &Figures, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { figures.rows_in as f64 / seconds } else { 0.0 };
    format!(
        "{} rows in, {} rows out, {} late, {} bad, in {seconds:.2} s ({} events/s)",
        thousands(figures.rows_in),
        thousands(figures.rows_out),
        thousands(figures.late_rows),
        thousands(figures.bad_rows),
        thousands(rate.round() as u64),
    )
}

/// `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn one_query_is_singular() {
        assert_eq!(counted(1, 1), "1 table, 1 query");
        assert_eq!(counted(0, 2), "0 tables, 2 queries");
    }

    #[test]
    fn an_embedded_part_names_the_variable_that_connects_the_real_one() {
        assert_eq!(
            embedded_part("Kafka", &["KAFKA_BROKERS"].into()),
            "Kafka is embedded (a log in the data folder): set KAFKA_BROKERS to use yours"
        );
        assert_eq!(
            embedded_part("PostgreSQL", &["SHOP_URL", "DWH_URL", "CRM_URL"].into()),
            "PostgreSQL is embedded (SQLite files in the data folder): set CRM_URL, DWH_URL and SHOP_URL to use yours"
        );
    }

    #[test]
    fn the_closing_line_has_totals_and_the_rate() {
        let figures = Figures { rows_in: 3000, rows_out: 12, late_rows: 2, bad_rows: 1, ..Figures::default() };
        assert_eq!(
            closing(&figures, Duration::from_secs(2)),
            "3,000 rows in, 12 rows out, 2 late, 1 bad, in 2.00 s (1,500 events/s)"
        );
    }
}
