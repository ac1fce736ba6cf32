//! Files and folders that are named by their paths.

use super::*;

/// A folder of files, and a session that reads them.
async fn folder(files: &[(&str, &str)]) -> (Place, HistorySession) {
    let place = Place::new();
    for (name, text) in files {
        let path = place.data_dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let session = place.session().await;
    (place, session)
}

/// The statement with the folder's path for `@`.
fn at(place: &Place, sql: &str) -> String {
    sql.replace('@', &place.data_dir().display().to_string())
}

/// What is said of it, the folder's path again as `@`.
async fn refused(place: &Place, session: &HistorySession, sql: &str) -> String {
    mistake(session, &at(place, sql)).await.replace(&place.data_dir().display().to_string(), "@")
}

#[tokio::test]
async fn a_line_an_object_has_three_endings() {
    let text = "{\"a\": 1}\n{\"a\": 2}\n";
    let (place, session) = folder(&[("x.json", text), ("x.jsonl", text), ("x.ndjson", text), ("Y.JSONL", text)]).await;
    for name in ["x.json", "x.jsonl", "x.ndjson", "Y.JSONL"] {
        let sql = at(&place, &format!("SELECT sum(a) FROM '@/{name}'"));
        assert_eq!(values(&session, &sql).await, ["3"], "{name}");
    }
    assert_eq!(values(&session, &at(&place, "SELECT count(*) FROM '@/x.*'")).await, ["6"]);
    let described = shown(&session, &at(&place, "DESCRIBE '@/x.jsonl'")).await;
    assert!(described.contains("| a "), "{described}");
}

#[tokio::test]
async fn a_name_that_says_nothing_is_told_what_would() {
    let (place, session) = folder(&[("x.txt", "a"), ("x", "a"), ("x.parquet.gz", "a"), ("y.csv", "a\n1\n")]).await;
    let known = "(files are read that end with .parquet, .csv, .json, .jsonl, .ndjson or .arrow; behind .csv and the JSON \
                 ones .gz, .zst, .bz2 or .xz may stand)";
    for name in ["x.txt", "x", "x.parquet.gz"] {
        assert_eq!(
            refused(&place, &session, &format!("SELECT * FROM '@/{name}'")).await,
            format!("query:1:15 the ending of '@/{name}' does not say what is in the file {known}")
        );
    }
    let said = refused(&place, &session, "SELECT * FROM '@/*'").await;
    assert!(said.contains("'@/x' does not say what is in the file"), "{said}");
    assert_eq!(
        mistake(&session, "SELECT * FROM 's3://bucket/x.csv'").await,
        "query:1:15 's3://bucket/x.csv' is no path of this machine, and no others are read (a table in a bucket is declared \
         in the folder: CREATE TABLE ... WITH (connector = 'delta', path = ...))"
    );
    assert_eq!(values(&session, &at(&place, "SELECT a FROM 'file://@/y.csv'")).await, ["1"]);
}

#[tokio::test]
async fn a_pattern_finds_every_file_that_fits_it_in_whichever_folder() {
    let rows = ["a\n1\n", "a\n20\n", "a\n300\n", "a\n4000\n"];
    let names = ["g/1.csv", "g/x/2.csv", "g/x/y/3.csv", "g/z/4.csv"];
    let files: Vec<(&str, &str)> = names.into_iter().zip(rows).chain([("g/.hidden.csv", "a\n9\n")]).collect();
    let (place, session) = folder(&files).await;
    for (pattern, sum) in [
        ("g/*.csv", "1"),
        ("g/*/*.csv", "4020"),
        ("g/**/*.csv", "4321"),
        ("g/[xz]/?.csv", "4020"),
        ("g", "4321"),
        ("g/x", "320"),
        ("g/x/../1.csv", "1"),
    ] {
        let sql = at(&place, &format!("SELECT sum(a) FROM '@/{pattern}'"));
        assert_eq!(values(&session, &sql).await, [sum], "{pattern}");
    }
    assert_eq!(
        refused(&place, &session, "SELECT * FROM '@/g/*x'").await,
        "query:1:15 '@/g/*x' fits folders only, and a pattern is one of files (a folder is read by its path: FROM '@/g/x')"
    );
    let said = refused(&place, &session, "SELECT * FROM '@/g/[.csv'").await;
    assert!(said.contains("'@/g/[.csv' is no pattern: "), "{said}");
}

#[tokio::test]
async fn files_of_two_kinds_are_no_table() {
    let (place, session) = folder(&[("g/1.csv", "a\n1\n"), ("g/2.json", "{\"a\": 1}\n")]).await;
    for path in ["@/g", "@/g/*"] {
        let said = refused(&place, &session, &format!("SELECT * FROM '{path}'")).await;
        assert_eq!(
            said,
            "query:1:15 '@/g/1.csv' and '@/g/2.json' are of two kinds (name files of one kind, such as FROM \
             'logs/**/*.json')"
        );
    }
}

#[tokio::test]
async fn columns_of_objects_go_by_name_and_those_of_lines_by_place() {
    let files = [
        ("j/1.json", "{\"a\": 1, \"b\": 2}\n"),
        ("j/2.jsonl", "{\"c\": 3, \"b\": 4}\n"),
        ("c/1.csv", "a,b\n1,2\n"),
        ("c/2.csv", "b,a\n3,4\n"),
    ];
    let (place, session) = folder(&files).await;
    let sql = at(&place, "SELECT sum(a) || ' ' || sum(b) || ' ' || sum(c) FROM '@/j'");
    assert_eq!(values(&session, &sql).await, ["1 6 3"]);
    assert_eq!(
        refused(&place, &session, "SELECT * FROM '@/c/*.csv'").await,
        "'@/c/*.csv' cannot be read: '@/c/1.csv' has the columns a, b and '@/c/2.csv' has b, a: CSV files are one table if \
         they have the same columns in the same order"
    );
}

#[tokio::test]
async fn the_folders_of_a_folder_give_columns() {
    let files = [
        ("g/day=1/k=a/x.csv", "n\n1\n"),
        ("g/day=2/k=b/x.csv", "n\n2\n"),
        ("g/day=2/k=b/more/x.csv", "n\n3\n"),
        ("g/_SUCCESS", ""),
    ];
    let (place, session) = folder(&files).await;
    let sql = at(&place, "SELECT day || k || n FROM '@/g' ORDER BY 1");
    assert_eq!(values(&session, &sql).await, ["1a1", "2b2", "2b3"]);
    let sql = at(&place, "SELECT sum(n) FROM '@/g' WHERE day = '2'");
    assert_eq!(values(&session, &sql).await, ["5"]);
    std::fs::write(place.data_dir().join("g/y.csv"), "n\n4\n").unwrap();
    let session = place.session().await;
    let said = refused(&place, &session, "SELECT * FROM '@/g'").await;
    assert!(said.contains("give other columns"), "{said}");
    std::fs::rename(place.data_dir().join("g/y.csv"), place.data_dir().join("g/day=1/.y.csv")).unwrap();
    let said = refused(&place, &session, "SELECT * FROM '@/g'").await;
    assert!(said.contains("'@/g/day=1/.y.csv' is hidden among files that are read"), "{said}");
}

#[tokio::test]
async fn a_delta_table_is_read_as_its_log_has_it() {
    let place = Place::new();
    for n in 1..=3 {
        place.write(&[("a", n, n * 10, DAY + n as i32)]).await;
    }
    let again = place.write(&[("a", 4, 40, DAY + 1)]).await;
    let (optimized, _) = again.optimize().await.unwrap();
    assert_eq!(optimized.version(), Some(4));
    let path = place.table("events_history").display().to_string();
    let history = place.history();
    let session = history.session(Paths::Allowed).await.unwrap();
    let sql = format!("SELECT count(*) || ' ' || count(DISTINCT amount) FROM '{path}'");
    assert_eq!(values(&session, &sql).await, ["4 4"]);
    // The folders give their columns, in their types.
    let sql = format!("SELECT count(*) FROM '{path}/' WHERE day = DATE '2026-11-30'");
    assert_eq!(values(&session, &sql).await, ["2"]);
    for (version, sum) in [(0, "10"), (2, "60"), (3, "100")] {
        for form in ["VERSION AS OF", "FOR VERSION AS OF"] {
            let sql = format!("SELECT sum(amount) FROM '{path}' {form} {version}");
            assert_eq!(values(&session, &sql).await, [sum], "{sql}");
        }
    }
    let sql = format!("SELECT sum(amount) FROM '{path}' TIMESTAMP AS OF now()");
    assert_eq!(values(&session, &sql).await, ["100"]);
    let sql = format!(
        "SELECT new.amount FROM '{path}' VERSION AS OF 3 AS new LEFT JOIN '{path}' VERSION AS OF 2 AS old ON new.amount = \
         old.amount WHERE old.amount IS NULL"
    );
    assert_eq!(values(&session, &sql).await, ["40"]);
    let said = refused(&place, &session, &format!("SELECT 1 FROM '{path}' VERSION AS OF 7")).await;
    assert!(
        said.contains("there is no version 7 of table '@/history/events_history' (there are versions 0 ("),
        "{said}"
    );
    // One session has one state, the next the newest.
    place.write(&[("a", 5, 50, DAY)]).await;
    let sql = format!("SELECT sum(amount) FROM '{path}'");
    assert_eq!(values(&session, &sql).await, ["100"]);
    assert_eq!(values(&history.session(Paths::Allowed).await.unwrap(), &sql).await, ["150"]);
}

#[tokio::test]
async fn files_of_a_delta_table_are_no_table_without_its_log() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    let session = place.session().await;
    let table = "@/history/events_history";
    for path in ["*/*.parquet", "**/*.parquet", "day=2026-11-29"] {
        let said = refused(&place, &session, &format!("SELECT * FROM '{table}/{path}'")).await;
        assert_eq!(
            said,
            format!(
                "query:1:15 '{table}/{path}' means files of a Delta table, among which may be some that others have \
                 replaced (the table as its log has it is FROM '{table}')"
            )
        );
    }
    assert_eq!(
        refused(&place, &session, "SELECT * FROM '@/history'").await,
        format!(
            "query:1:15 there are Delta tables in '@/history', and each is read by its own path (write FROM '{table}')"
        )
    );
    let log = at(&place, &format!("SELECT count(*) > 0 FROM '{table}/_delta_log/*.json'"));
    assert_eq!(values(&session, &log).await, ["true"]);
    let file =
        std::fs::read_dir(place.table("events_history").join("day=2026-11-29")).unwrap().next().unwrap().unwrap();
    let one = format!("SELECT amount FROM '{}'", file.path().display());
    assert_eq!(values(&session, &one).await, ["10"]);
}

#[tokio::test]
async fn a_file_that_is_called_as_a_table_is_told_from_it() {
    let place = Place::new();
    let session = place.session().await;
    assert_eq!(
        mistake(&session, "SELECT * FROM 'events'").await,
        "query:1:15 there is no file 'events' (a table is written without quotes: FROM events)"
    );
}
