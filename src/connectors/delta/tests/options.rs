//! Options and columns: what is taken, and what is said of the rest.

use std::path::Path;
use std::time::Duration;

use arrow::datatypes::{Field, IntervalUnit, TimeUnit};

use super::*;
use crate::connectors::delta::options;

fn mistakes(definition: &TableDefinition, pairs: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    let mut options = sql_table::options(pairs);
    DeltaOptions::take(definition, &mut options);
    options.finish("delta").into_iter().map(|error| (error.message, error.help)).collect()
}

fn mistake(pairs: &[(&str, &str)]) -> (String, String) {
    let mut found = mistakes(&two_columns(), pairs);
    assert_eq!(found.len(), 1, "{found:?}");
    let (message, help) = found.remove(0);
    (message, help.unwrap_or_default())
}

fn wrong_column(name: &str, data_type: DataType) -> (String, String) {
    let mut found = mistakes(&table(&[(name, data_type)]), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    let (message, help) = found.remove(0);
    (message, help.unwrap_or_default())
}

#[test]
fn every_option_has_a_default() {
    let options = taken(&two_columns(), &[]);
    assert_eq!(options.commit.interval, Duration::from_secs(10));
    assert_eq!((options.commit.rows, options.commit.bytes), (1_000_000, 128 << 20));
    assert_eq!(options.upkeep, options::UpkeepOptions::default());
    let place = options.place(Path::new("/data")).unwrap();
    assert_eq!(
        (place.url().as_str(), place.describe().as_str()),
        ("file:///data/history/events/", "Delta table /data/history/events")
    );
}

#[test]
fn options_are_taken() {
    let options = taken(
        &two_columns(),
        &[
            ("path", "s3://bucket/a b/events/"),
            ("s3.endpoint", "http://127.0.0.1:9000"),
            ("partition_by", "word"),
            ("history_of", "Clicks"),
            ("commit_interval", "1 minute"),
            ("commit_rows", "5"),
            ("commit_bytes", "1MB"),
            ("target_file_size", "2MB"),
            ("compaction", "false"),
            ("compaction_interval", "1 hour"),
            ("retention", "30 days"),
            ("checkpoint_every", "10"),
        ],
    );
    assert_eq!(options.partition_by, ["word"]);
    assert_eq!(options.history_of.as_ref().unwrap().name, "clicks");
    assert_eq!((options.commit.rows, options.commit.bytes), (5, 1 << 20));
    assert_eq!(
        options.upkeep,
        options::UpkeepOptions {
            target_file_size: 2 << 20,
            compaction: false,
            compaction_interval: Duration::from_secs(3600),
            retention: Duration::from_secs(30 * 24 * 3600),
            checkpoint_every: 10,
        }
    );
    let place = options.place(Path::new("/data")).unwrap();
    assert_eq!(place.describe(), "Delta table s3://bucket/a%20b/events");
    place.store().unwrap();
}

#[test]
fn a_relative_folder_starts_at_the_working_directory() {
    let options = taken(&two_columns(), &[("path", "out put/events")]);
    let place = options.place(Path::new("/data")).unwrap();
    let here = std::env::current_dir().unwrap().canonicalize().unwrap();
    assert_eq!(place.url().to_file_path().unwrap(), here.join("out put/events"));
    assert_eq!(place.describe(), "Delta table out put/events");
}

#[test]
fn mistakes_in_options_say_what_would_be_right() {
    assert_eq!(
        mistake(&[("path", "gs://bucket/x")]),
        (
            "option 'path' does not take 'gs://bucket/x': there is no store for gs://".into(),
            "it takes a folder, or 's3://bucket/folder' for S3 and what speaks its protocol".into()
        )
    );
    assert_eq!(
        mistake(&[("path", "s3:///x")]),
        ("option 'path' does not take 's3:///x': it names no bucket".into(), "write 's3://bucket/folder'".into())
    );
    assert_eq!(
        mistake(&[("path", "s3://bucket/x"), ("s3.endpiont", "x")]),
        ("connector 'delta' has no option 's3.endpiont'".into(), "did you mean 's3.endpoint'?".into())
    );
    assert_eq!(
        mistake(&[("path", "x"), ("s3.region", "x")]),
        (
            "option 's3.region' has no meaning for a folder".into(),
            "remove it, or write 'path' = 's3://bucket/folder'".into()
        )
    );
    assert_eq!(
        mistake(&[("partition_by", "wrod")]),
        ("'partition_by' names a column 'wrod', which is not there".into(), "did you mean 'word'?".into())
    );
    assert_eq!(mistake(&[("partition_by", "word, word")]).0, "'partition_by' names column 'word' twice");
    assert_eq!(
        mistake(&[("partition_by", "word, n")]),
        (
            "'partition_by' names every column, so that nothing is left to be in the files".into(),
            "leave out a column".into()
        )
    );
    assert_eq!(
        mistake(&[("history_of", "events")]),
        ("'history_of' of table 'events' is the table itself".into(), "name the table whose rows it records".into())
    );
    assert_eq!(mistake(&[("comit_rows", "1")]).1, "did you mean 'commit_rows'?");
    let partition = mistakes(&table(&[("x", DataType::Float64), ("n", DataType::Int64)]), &[("partition_by", "x")]);
    assert_eq!(partition[0].0, "column 'x' is of type DOUBLE, which makes no folders");
}

#[test]
fn a_key_is_refused() {
    let definition = sql_table::table("events", &[("n", DataType::Int64)], &["n"]);
    let found = mistakes(&definition, &[]);
    assert_eq!(
        found,
        [(
            "a Delta table keeps every row that it is given, but table events has a PRIMARY KEY".to_owned(),
            Some("remove PRIMARY KEY, or write to a connector that replaces rows, such as 'postgres'".to_owned())
        )]
    );
}

#[test]
fn columns_that_a_delta_table_cannot_hold_come_with_one_that_it_can() {
    for (data_type, name, instead) in [
        (DataType::UInt64, "BIGINT UNSIGNED", "DECIMAL(20, 0)"),
        (DataType::UInt8, "TINYINT UNSIGNED", "SMALLINT"),
        (DataType::Time64(TimeUnit::Nanosecond), "TIME", "BIGINT, as microseconds since midnight, or TEXT"),
        (DataType::Interval(IntervalUnit::MonthDayNano), "INTERVAL(MONTHDAYNANO)", "BIGINT, as microseconds, or TEXT"),
        (DataType::Decimal256(50, 2), "DECIMAL(50,2)", "DECIMAL(38, ...) or DOUBLE"),
    ] {
        assert_eq!(
            wrong_column("x", data_type),
            (
                format!("a Delta table cannot hold column 'x' of type {name}"),
                format!("make it {instead}, and CAST where it is written")
            )
        );
    }
    let nested = DataType::List(Arc::new(Field::new("item", DataType::UInt16, true)));
    assert_eq!(wrong_column("x", nested).0, "a Delta table cannot hold column 'x' of type SMALLINT UNSIGNED[]");
    assert_eq!(
        wrong_column("a b", DataType::Utf8),
        (
            "a Delta table cannot have a column named 'a b'".into(),
            "leave out spaces and , ; { } ( ) =, and write SELECT ... AS the new name".into()
        )
    );
    let found = mistakes(&table(&[("Day", DataType::Utf8), ("day", DataType::Utf8)]), &[]);
    assert_eq!(found[0].0, "a Delta table does not tell capital letters: 'Day' and 'day' are one");
}
