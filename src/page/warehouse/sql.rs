//! The page's queries in the two dialects: each pair gives the same rows.
//!
//! Times are UTC without zone in both; a bound is written as `'2026-01-31 12:00:00'`, which PostgreSQL reads as a
//! timestamp and SQLite compares as text, as it is stored. So both use the index on `timestamp`. Money is added up in
//! cents in SQLite, whose own sums are floats.

use chrono::{DateTime, SecondsFormat, Utc};

/// Whose SQL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// PostgreSQL's.
    Postgres,
    /// SQLite's.
    Sqlite,
}

/// Length of a window of the metrics, in seconds.
pub const WINDOW: i64 = 30;

/// What is not a behaviour event.
const SALES: &str = "('transaction', 'transaction_item')";

/// A window of transactions: its start in seconds since 1970, revenue, transactions, customers.
pub type WindowRow = (i64, f64, i64, i64);

/// Transactions by window, from `from` on and before `to`, in seconds since 1970.
pub fn windows(dialect: Dialect, table: &str, from: i64, to: Option<i64>) -> String {
    let columns = match dialect {
        Dialect::Postgres => format!(
            "CAST(floor(extract(epoch FROM timestamp) / {WINDOW}) * {WINDOW} AS BIGINT), \
             CAST(COALESCE(sum(amount), 0) AS DOUBLE PRECISION)"
        ),
        Dialect::Sqlite => format!(
            "CAST(strftime('%s', timestamp) AS INTEGER) / {WINDOW} * {WINDOW}, \
             COALESCE(sum(CAST(round(amount * 100) AS INTEGER)), 0) / 100.0"
        ),
    };
    let until = to.map_or(String::new(), |to| format!(" AND timestamp < '{}'", literal(to)));
    format!(
        "SELECT {columns}, count(*), count(DISTINCT customer_id) FROM {table} \
         WHERE event_type = 'transaction' AND timestamp >= '{}'{until} GROUP BY 1",
        literal(from)
    )
}

/// The least and the greatest id.
pub fn ids(table: &str) -> String {
    // Apart, so that SQLite takes each from the index.
    format!("SELECT (SELECT CAST(min(id) AS BIGINT) FROM {table}), (SELECT CAST(max(id) AS BIGINT) FROM {table})")
}

/// An hour of events: its start in seconds since 1970, events, transactions, behaviour, the first and the last time as
/// text.
pub type HourRow = (Option<i64>, i64, i64, i64, String, String);

/// Events by hour, of the ids after `after` up to `through`.
pub fn hours(dialect: Dialect, table: &str, after: i64, through: i64) -> String {
    let (hour, group, first, last) = match dialect {
        Dialect::Postgres => (
            "CAST(extract(epoch FROM date_trunc('hour', timestamp)) AS BIGINT)",
            "date_trunc('hour', timestamp)",
            "to_char(min(timestamp), 'YYYY-MM-DD HH24:MI:SS.US')",
            "to_char(max(timestamp), 'YYYY-MM-DD HH24:MI:SS.US')",
        ),
        Dialect::Sqlite => (
            "CAST(strftime('%s', substr(timestamp, 1, 13) || ':00:00') AS INTEGER)",
            "substr(timestamp, 1, 13)",
            "min(timestamp)",
            "max(timestamp)",
        ),
    };
    format!(
        "SELECT {hour}, count(*), count(*) FILTER (WHERE event_type = 'transaction'), \
         count(*) FILTER (WHERE event_type NOT IN {SALES}), {first}, {last} \
         FROM {table} WHERE id > {after} AND id <= {through} GROUP BY {group}"
    )
}

/// The customers of the ids after `after` up to `through`.
pub fn customers(table: &str, after: i64, through: i64) -> String {
    format!(
        "SELECT DISTINCT CAST(customer_id AS BIGINT) FROM {table} \
         WHERE id > {after} AND id <= {through} AND customer_id IS NOT NULL"
    )
}

/// Sessions by outcome.
pub fn sessions(table: &str) -> String {
    format!("SELECT outcome, count(*) FROM {table} WHERE outcome IS NOT NULL GROUP BY outcome")
}

fn literal(seconds: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time as JSON has it, to the millisecond: `2026-01-31T12:00:00.500Z`.
pub fn json_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
