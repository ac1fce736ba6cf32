//! Statistics of a data file for the log: by them readers pass over files.
//!
//! They are made of what the Parquet writer has counted. A bound that cannot be told exactly is left wider, or out.

use std::cmp::Ordering;

use chrono::{DateTime, Days, NaiveDate};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Map, Value, json};

/// As many columns have statistics, from the first on: Delta's usual number.
const COLUMNS: usize = 32;

/// A decimal with more digits is not told exactly by a JSON number.
const EXACT_DIGITS: i32 = 15;

/// The statistics of a file, as the text that stands in the log.
pub(super) fn stats(file: &ParquetMetaData) -> String {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    let schema = file.file_metadata().schema_descr();
    for (at, column) in schema.columns().iter().enumerate().take(COLUMNS) {
        // What is in lists has none.
        if column.max_rep_level() > 0 {
            continue;
        }
        let with_rows =
            file.row_groups().iter().map(|group| Some((group.column(at).statistics()?, group.num_rows() as u64)));
        let Some(groups) = with_rows.collect::<Option<Vec<(&Statistics, u64)>>>() else { continue };
        let path = column.path().parts();
        if let Some(count) = groups.iter().map(|(group, _)| group.null_count_opt()).sum::<Option<u64>>() {
            put(&mut nulls, path, json!(count));
        }
        if let Some((low, high)) = bounds(&groups, column) {
            put(&mut least, path, low);
            put(&mut greatest, path, high);
        }
    }
    let records = file.file_metadata().num_rows();
    json!({"numRecords": records, "minValues": least, "maxValues": greatest, "nullCount": nulls}).to_string()
}

fn put(into: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            into.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            if let Value::Object(inner) = into.entry(name.clone()).or_insert_with(|| json!({})) {
                put(inner, rest, value);
            }
        }
    }
}

/// The least and the greatest value over all row groups, if all that have values tell theirs.
fn bounds(groups: &[(&Statistics, u64)], column: &ColumnDescriptor) -> Option<(Value, Value)> {
    let mut found: Option<(Bound, Bound)> = None;
    for (group, rows) in groups {
        // Nothing but nulls says nothing.
        if group.null_count_opt() == Some(*rows) {
            continue;
        }
        let (low, high) = group_bounds(group, column)?;
        found = Some(match found {
            None => (low, high),
            Some((least, greatest)) => {
                (if low.less(&least) { low } else { least }, if greatest.less(&high) { high } else { greatest })
            }
        });
    }
    let (least, greatest) = found?;
    Some((least.told(column, false)?, greatest.told(column, true)?))
}

/// A bound, comparable with those of the same column.
#[derive(Clone, PartialEq, Debug)]
enum Bound {
    Boolean(bool),
    Number(i64),
    Real(f64),
    Text(String),
}

impl Bound {
    fn less(&self, other: &Bound) -> bool {
        let order = match (self, other) {
            (Bound::Boolean(one), Bound::Boolean(other)) => one.cmp(other),
            (Bound::Number(one), Bound::Number(other)) => one.cmp(other),
            (Bound::Real(one), Bound::Real(other)) => one.total_cmp(other),
            (Bound::Text(one), Bound::Text(other)) => one.cmp(other),
            _ => Ordering::Equal,
        };
        order == Ordering::Less
    }

    /// As JSON; times are rounded down or `up` to the milliseconds that readers expect.
    fn told(&self, column: &ColumnDescriptor, up: bool) -> Option<Value> {
        let number = match self {
            Bound::Boolean(value) => return Some(json!(value)),
            Bound::Real(value) => return value.is_finite().then(|| json!(value)),
            Bound::Text(value) => return Some(json!(value)),
            Bound::Number(number) => *number,
        };
        match column.logical_type_ref() {
            Some(LogicalType::Date) => date(number).map(|date| json!(date)),
            Some(LogicalType::Timestamp(timestamp)) => {
                let micros = match timestamp.unit {
                    TimeUnit::MICROS => number,
                    _ => return None,
                };
                let millis = micros.div_euclid(1000) + i64::from(up && micros.rem_euclid(1000) != 0);
                let time = DateTime::from_timestamp_millis(millis)?;
                let format = match timestamp.is_adjusted_to_u_t_c {
                    true => "%Y-%m-%dT%H:%M:%S%.3fZ",
                    false => "%Y-%m-%d %H:%M:%S%.3f",
                };
                is_usual_year(time.date_naive()).then(|| json!(time.format(format).to_string()))
            }
            Some(LogicalType::Decimal(decimal)) if decimal.precision > EXACT_DIGITS => None,
            Some(LogicalType::Decimal(decimal)) if decimal.scale > 0 => {
                Some(json!(number as f64 / 10_f64.powi(decimal.scale)))
            }
            _ => Some(json!(number)),
        }
    }
}

fn date(days: i64) -> Option<String> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let date = match u64::try_from(days) {
        Ok(days) => epoch.checked_add_days(Days::new(days)),
        Err(_) => epoch.checked_sub_days(Days::new(days.unsigned_abs())),
    };
    date.filter(|date| is_usual_year(*date)).map(|date| date.format("%Y-%m-%d").to_string())
}

/// Years with other than four digits are read in several ways.
fn is_usual_year(date: NaiveDate) -> bool {
    use chrono::Datelike;
    (1..=9999).contains(&date.year())
}

fn group_bounds(group: &Statistics, column: &ColumnDescriptor) -> Option<(Bound, Bound)> {
    let both = match group {
        Statistics::Boolean(values) => (Bound::Boolean(*values.min_opt()?), Bound::Boolean(*values.max_opt()?)),
        Statistics::Int32(values) => {
            (Bound::Number(i64::from(*values.min_opt()?)), Bound::Number(i64::from(*values.max_opt()?)))
        }
        Statistics::Int64(values) => (Bound::Number(*values.min_opt()?), Bound::Number(*values.max_opt()?)),
        Statistics::Float(values) => {
            (Bound::Real(f64::from(*values.min_opt()?)), Bound::Real(f64::from(*values.max_opt()?)))
        }
        Statistics::Double(values) => (Bound::Real(*values.min_opt()?), Bound::Real(*values.max_opt()?)),
        // Cut short they are still bounds: the writer sees to that.
        Statistics::ByteArray(_) if matches!(column.logical_type_ref(), Some(LogicalType::String)) => {
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(|text| Bound::Text(text.to_owned()));
            (text(group.min_bytes_opt()?)?, text(group.max_bytes_opt()?)?)
        }
        _ => return None,
    };
    Some(both)
}
