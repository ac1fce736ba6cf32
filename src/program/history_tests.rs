//! `history_of`: what it may name, and what the two tables must have in common.

use super::*;
use crate::connectors::registry;

/// `line:column: message (help)` of each mistake in a folder with this table of Kafka's and this Delta table.
fn mistakes(source: &str, history: &str) -> Vec<String> {
    let sql = format!(
        "CREATE TABLE clicks ({source}) WITH ('connector' = 'kafka', 'topic' = 'clicks', 'bootstrap_servers' = 'k:9092');
         CREATE VIEW few AS SELECT * FROM clicks;
CREATE TABLE kept ({history}) WITH ('connector' = 'delta', {HISTORY_OF});"
    );
    found(&sql)
}

const HISTORY_OF: &str = "'history_of' = 'clicks'";
const PLACE: &str = "\"partition\" INT METADATA FROM 'partition', \"offset\" BIGINT METADATA FROM 'offset'";

fn found(sql: &str) -> Vec<String> {
    let mut files = SourceFiles::default();
    files.add("0.sql".into(), sql.into());
    let Err(errors) = Program::parse(files, &Variables::default(), &registry::connectors()) else { return vec![] };
    let show = |error: &SqlError| {
        let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{}{help}", error.message)
    };
    errors.errors.iter().map(show).collect()
}

#[test]
fn a_table_can_record_another_by_name_of_column() {
    let source = format!(
        "id BIGINT NOT NULL, at TIMESTAMP(3), tags TEXT[], day DATE GENERATED ALWAYS AS (CAST(at AS DATE)), {PLACE}"
    );
    let history = "\"offset\" BIGINT, tags TEXT[], \"partition\" BIGINT, id BIGINT, at TIMESTAMP, note TEXT";
    assert_eq!(mistakes(&source, history), [""; 0]);
}

#[test]
fn what_is_missing_or_unlike_is_named_with_its_declaration() {
    let source = format!("id BIGINT NOT NULL, at TIMESTAMP, word TEXT, {PLACE}");
    assert_eq!(
        mistakes(&source, "at TIMESTAMPTZ, id INT NOT NULL, word TEXT NOT NULL, \"partition\" INT"),
        [
            "table 'kept' cannot record 'clicks': its column 'id' is of type INT, the source's is of type BIGINT (declare it \
             as \"id\" BIGINT NOT NULL)",
            "table 'kept' cannot record 'clicks': its column 'at' is of type TIMESTAMPTZ, the source's is of type TIMESTAMP \
             (declare it as \"at\" TIMESTAMP)",
            "table 'kept' cannot record 'clicks': its column 'word' is NOT NULL, the source's may be null (declare it as \
             \"word\" TEXT)",
            "table 'kept' cannot record 'clicks': it has no column 'offset' (add \"offset\" BIGINT, and write it in the \
             INSERT)",
        ]
    );
}

#[test]
fn a_source_must_say_where_its_rows_stand() {
    assert_eq!(
        mistakes("id BIGINT", "id BIGINT"),
        ["table 'clicks' does not say at which offset a row stands, so its history has no order (declare \"offset\" \
             BIGINT METADATA FROM 'offset' there (and, for Kafka, \"partition\" INT METADATA FROM 'partition'), and write \
             them here too)",]
    );
}

#[test]
fn only_a_table_that_is_read_has_a_history() {
    let of = |name: &str| {
        let source =
            "CREATE TABLE clicks (id BIGINT) WITH ('connector' = 'blackhole'); CREATE VIEW few AS SELECT 1 AS id;";
        found(&format!("{source} CREATE TABLE kept (id BIGINT) WITH ('connector' = 'delta', 'history_of' = '{name}')"))
    };
    assert_eq!(of("clik"), ["there is no table or view 'clik' (did you mean 'clicks'?)"]);
    assert_eq!(of("few"), ["'few' is a view ('history_of' takes a table that is read: what comes in is recorded)"]);
    assert!(of("clicks")[0].starts_with("table 'clicks' can only be written"), "{:?}", of("clicks"));
}
