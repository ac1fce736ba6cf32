//! What does not go, in the words that a user meets.

use crate::{Place, said};

/// A source of a file that is followed, which has no history; one that has; and what they are counted into.
fn sql(history: &str) -> String {
    format!(
        "CREATE TABLE plain (n BIGINT) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'plain');
         CREATE TABLE clicks (n BIGINT, \"partition\" INT METADATA FROM 'partition', \"offset\" BIGINT METADATA FROM 'offset',
             ip TEXT METADATA FROM 'key')
         WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'clicks');
         {history}
         CREATE TABLE numbers (n BIGINT) WITH (connector = 'blackhole');
         INSERT INTO numbers SELECT n FROM plain;
         CREATE TABLE addresses (ip TEXT) WITH (connector = 'blackhole');
         INSERT INTO addresses SELECT ip FROM clicks;"
    )
}

const HISTORY: &str = "CREATE TABLE clicks_history (n BIGINT, \"partition\" INT, \"offset\" BIGINT)
         WITH (connector = 'delta', history_of = 'clicks');
         INSERT INTO clicks_history SELECT n, \"partition\", \"offset\" FROM clicks WHERE n > 0;";

/// The same with every column of the source.
fn whole() -> String {
    let declared = HISTORY.replace("\"offset\" BIGINT)", "\"offset\" BIGINT, ip TEXT)");
    declared.replace("\"offset\" FROM clicks", "\"offset\", ip FROM clicks")
}

/// That a backfill ends with this code and says so.
fn told(history: &str, arguments: &[&str], code: i32, words: &str) {
    let place = Place::new(|_| sql(history));
    let output = place.backfill(arguments);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    assert!(said(&output).contains(words), "{}\nnot: {words}", said(&output));
}

#[test]
fn a_folder_without_a_history_is_told_how_to_keep_one() {
    told(
        "",
        &[],
        2,
        "no table of the folder records what a source sends, so there is no past to compute. Declare one, CREATE TABLE \
         plain_history (...) WITH (connector = 'delta', history_of = 'plain'), and fill it, INSERT INTO plain_history \
         SELECT * FROM plain; what comes from then on is recorded",
    );
}

#[test]
fn tables_that_are_asked_for_must_be_such_that_a_query_writes_and_a_history_gives() {
    told(
        HISTORY,
        &["--only", "numbrs"],
        2,
        "--only numbrs: no query of the folder writes such a table: did you mean 'numbers'?",
    );
    told(HISTORY, &["--only", "x"], 2, "no query of the folder writes such a table: they write addresses, numbers");
    told(
        HISTORY,
        &["--only", "clicks_history"],
        2,
        "--only clicks_history: it records clicks, and what is recorded is not recorded again; it is read",
    );
    told(
        HISTORY,
        &["--only", "numbers"],
        2,
        "--only: numbers reads plain, which has no history. Record what it reads first, in a table with 'history_of'",
    );
}

#[test]
fn what_a_history_does_not_hold_is_named() {
    let words = "addresses reads column ip of clicks (METADATA FROM 'key'), for which its history clicks_history has no column \
                 of that name";
    let none = format!(
        "no query can be computed from what is recorded: numbers reads plain, which has no history; {words}. Record"
    );
    told(HISTORY, &[], 2, &none);
    told(HISTORY, &["--only", "addresses"], 2, &format!("--only: {words}. Record what it reads first"));
    told(&whole(), &[], 3, "left out: numbers reads plain, which has no history");
    told(
        HISTORY,
        &[],
        2,
        "clicks_history is filled by more than SELECT ... FROM clicks: what that leaves out or changes",
    );
    told(&whole(), &[], 3, "nothing of clicks has been recorded there yet: 'acequia run' makes the table");
}

#[test]
fn its_options_belong_together() {
    told(HISTORY, &["--deliver", "--output", "x"], 2, "cannot be used with");
    let place = Place::new(|_| sql(HISTORY));
    for arguments in [&["--from-history"][..], &["--bounded", "--only", "numbers"], &["--bounded", "--deliver"]] {
        let output = place.run(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("required arguments were not provided"), "{}", said(&output));
    }
}

#[test]
fn files_that_no_backfill_has_made_are_not_replaced() {
    let place = Place::new(|_| sql(&whole()));
    let folder = place.path("mine");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("addresses.parquet"), "precious").unwrap();
    let output = place.backfill(&["--output", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let words = format!(
        "{} is there already, and no backfill has made it: name another folder with --output",
        folder.join("addresses.parquet").display()
    );
    assert!(said(&output).contains(&words), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(folder.join("addresses.parquet")).unwrap(), "precious");

    let busy = place.path("busy");
    std::fs::create_dir(&busy).unwrap();
    let held = std::fs::File::create(busy.join(".acequia-backfill")).unwrap();
    held.try_lock().unwrap();
    let output = place.backfill(&["--output", busy.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("another backfill writes into "), "{}", said(&output));
}
