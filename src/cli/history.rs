//! `acequia history`: what a folder keeps, and the versions of one of its tables.

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::exit::Exit;
use super::format::Format;
use super::{kept, logs};
use crate::history::{HistoryTable, Limits, TableOverview, VersionOverview};
use crate::sql::names::{fold_text, meant};

/// List what the folder has recorded: tables, or the versions of one.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia history                                tables with their rows, files, sizes and times
  acequia history transactions_history           its versions, newest first
  acequia history --format json

'acequia query' reads them: SELECT * FROM transactions_history VERSION AS OF 3. Exit codes: 1 when there is no such table,
3 when a table cannot be read, 4 when a store cannot be reached.")]
pub struct HistoryArguments {
    /// The table whose versions are listed
    table: Option<String>,

    #[command(flatten)]
    kept: kept::KeptArguments,

    /// The most versions that are listed
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// How results are printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Shows what there is.
pub async fn history(arguments: &HistoryArguments) -> Exit {
    // Nothing is sorted or joined: no memory is asked for.
    let limits = Limits { memory: u64::MAX, spill: None, parallelism: None };
    let kept = match arguments.kept.open(limits) {
        Ok(kept) => kept,
        Err(exit) => return exit,
    };
    if let Some(mistakes) = &kept.mistakes {
        eprintln!("{}\n", mistakes.render(logs::color()).trim_end());
    }
    let shown = match &arguments.table {
        None => kept.history.overview().await.map(|tables| shown_tables(&tables, arguments.format)),
        Some(name) => {
            let name = fold_text(name);
            match kept.history.versions(&name, arguments.limit as usize).await {
                Ok(Some(versions)) => Ok(shown_versions(&name, &versions, arguments)),
                Ok(None) => return no_table(&name, &kept.history.tables()),
                Err(error) => Err(error),
            }
        }
    };
    match shown {
        Ok(shown) => {
            print!("{shown}");
            Exit::Success
        }
        Err(error) => kept::report(&error),
    }
}

fn no_table(name: &str, tables: &[HistoryTable]) -> Exit {
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let help = match meant(name, names.iter().copied()) {
        Some(help) => help,
        None if names.is_empty() => NOTHING.into(),
        None => format!("the folder keeps {}", names.join(", ")),
    };
    eprintln!("error: there is no table '{name}' that is kept: {help}");
    Exit::Failed
}

const NOTHING: &str = "the folder keeps nothing; declare a table with connector = 'delta' and INSERT INTO it";

fn shown_tables(tables: &[TableOverview], format: Format) -> String {
    if format == Format::Json {
        return format!("{:#}\n", tables.iter().map(table_json).collect::<Value>());
    }
    if tables.is_empty() {
        return format!("{NOTHING}\n");
    }
    let heads = ["table", "version", "rows", "files", "size", "from", "to", "partitions"];
    let cells = tables.iter().map(|overview| {
        let or_none = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
        let time = |time: Option<DateTime<Utc>>| time.map_or("-".into(), seconds);
        [
            overview.table.name.clone(),
            or_none(overview.version),
            or_none(overview.rows),
            overview.files.to_string(),
            HumanBytes(overview.bytes).to_string(),
            time(overview.times.map(|times| times.0)),
            time(overview.times.map(|times| times.1)),
            match overview.partitions {
                Some(count) => format!("{count} by {}", overview.table.partition_by.join(", ")),
                None => "-".into(),
            },
        ]
    });
    aligned(heads, &cells.collect::<Vec<_>>(), &[false, true, true, true, true, false, false, false])
}

fn table_json(overview: &TableOverview) -> Value {
    json!({
        "table": overview.table.name,
        "place": overview.table.place,
        "version": overview.version,
        "rows": overview.rows,
        "files": overview.files,
        "bytes": overview.bytes,
        "event_time": overview.table.event_time,
        "from": overview.times.map(|times| exact(times.0)),
        "to": overview.times.map(|times| exact(times.1)),
        "partition_by": overview.table.partition_by,
        "partitions": overview.partitions,
    })
}

fn shown_versions(name: &str, versions: &[VersionOverview], arguments: &HistoryArguments) -> String {
    if arguments.format == Format::Json {
        let version = |version: &VersionOverview| {
            json!({
                "version": version.version,
                "written": version.written.map(exact),
                "operation": version.operation,
                "rows": version.rows,
                "epoch": version.epoch,
            })
        };
        return format!("{:#}\n", versions.iter().map(version).collect::<Value>());
    }
    let Some(oldest) = versions.last() else { return format!("nothing has been written to {name} yet\n") };
    let heads = ["version", "written (UTC)", "operation", "rows", "epoch"];
    let cells = versions.iter().map(|version| {
        let or_none = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
        [
            version.version.to_string(),
            version.written.map_or("-".into(), seconds),
            version.operation.clone(),
            or_none(version.rows),
            or_none(version.epoch),
        ]
    });
    let mut shown = aligned(heads, &cells.collect::<Vec<_>>(), &[true, false, false, true, true]);
    if versions.len() == arguments.limit as usize && oldest.version > 0 {
        shown.push_str("older ones are listed with a larger --limit\n");
    }
    shown
}

fn seconds(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn exact(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Columns of one width each; `right` says which ones end in line.
fn aligned<const N: usize>(heads: [&str; N], rows: &[[String; N]], right: &[bool; N]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(heads[column].chars().count())
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: [&str; N]| {
        let cell = |(column, cell): (usize, &str)| match right[column] {
            true => format!("{cell:>width$}", width = widths[column]),
            false => format!("{cell:width$}", width = widths[column]),
        };
        let cells: Vec<String> = cells.into_iter().enumerate().map(cell).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(heads)).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), "12345".to_owned()]];
        assert_eq!(aligned(["table", "rows"], &rows, &[false, true]), "table   rows\na          1\nlong   12345\n");
    }
}
