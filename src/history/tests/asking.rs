//! What can be asked, and what is said when it cannot.

use super::*;

#[tokio::test]
async fn a_table_stays_as_it_was_at_its_first_mention() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    let history = place.history();
    let session = history.session(Paths::Allowed).await.unwrap();
    assert_eq!(values(&session, "SELECT count(*) FROM events_history").await, ["1"]);
    place.write(&[("b", 2, 20, DAY)]).await;
    assert_eq!(values(&session, "SELECT count(*) FROM events_history").await, ["1"]);
    assert_eq!(values(&session, "SELECT count(*) FROM events").await, ["1"]);
    let next = history.session(Paths::Allowed).await.unwrap();
    assert_eq!(values(&next, "SELECT count(*) FROM events_history").await, ["2"]);
}

#[tokio::test]
async fn a_table_that_was_never_written_is_empty() {
    let place = Place::new();
    let session = place.session().await;
    assert_eq!(values(&session, "SELECT count(*) FROM empty WHERE kind = 'a'").await, ["0"]);
    assert_eq!(values(&session, "SELECT kind FROM events").await, [""; 0]);
    let columns = session.columns("empty").await.unwrap();
    let types: Vec<String> = columns.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Utf8View", "Timestamp(µs)"]);
}

#[tokio::test]
async fn a_source_is_read_under_its_own_name_and_columns() {
    let place = Place::new();
    place.write(&[("a", 1_000_000, 10, DAY)]).await;
    let session = place.session().await;
    assert_eq!(
        shown(&session, "SELECT * FROM events").await,
        "+------+---------------------+--------+---------+--------+\n\
         | kind | ts                  | amount | doubled | offset |\n\
         +------+---------------------+--------+---------+--------+\n\
         | a    | 2026-11-29T00:00:01 | 10     | 20      | 0      |\n\
         +------+---------------------+--------+---------+--------+"
    );
    let tables = place.history().tables();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["events_history", "empty", "events"]);
    assert_eq!(tables[0].event_time.as_deref(), Some("ts"));
}

#[tokio::test]
async fn functions_are_those_of_streaming_queries() {
    let place = Place::new();
    let session = place.session().await;
    for (sql, value) in [
        ("SELECT json_get_int('{\"a\": 3}', 'a')", "3"),
        ("SELECT '{\"a\": \"x\"}' ->> 'a'", "x"),
        ("SELECT date_bin(INTERVAL '1 minute', TIMESTAMP '2026-11-29 12:00:31')", "2026-11-29T12:00:00"),
        ("SELECT arrow_typeof(CAST('2026-11-29T00:00:00Z' AS TIMESTAMPTZ))", "Timestamp(ns, \"+00:00\")"),
    ] {
        assert_eq!(values(&session, sql).await, [value], "{sql}");
    }
}

#[tokio::test]
async fn tables_are_listed_and_described() {
    let place = Place::new();
    let session = place.session().await;
    let listed = shown(&session, "SHOW TABLES").await;
    for name in ["events_history", "empty", "events"] {
        assert!(listed.contains(&format!("| acequia       | history            | {name}")), "{listed}");
    }
    let described = shown(&session, "DESCRIBE events_history").await;
    assert!(described.contains("| amount"), "{described}");
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'empty' ORDER BY 1";
    assert_eq!(values(&session, columns).await, ["kind", "ts"]);
}

#[tokio::test]
async fn mistakes_have_a_place_and_a_way_out() {
    let place = Place::new();
    let session = place.session().await;
    for (sql, said) in [
        (
            "SELECT * FROM event_history",
            "query:1:15 there is no table 'event_history' (did you mean 'events_history'?)",
        ),
        (
            "SELECT * FROM somewhere.else",
            "query:1:15 there is no table 'somewhere.else' (the folder keeps events_history, empty, events)",
        ),
        ("DESCRIBE evnts", "query:1:10 there is no table 'evnts' (did you mean 'events'?)"),
        ("SELECT amout FROM events", "query:1:8 there is no column 'amout' (did you mean 'amount'?)"),
        ("SELECT 1; SELECT 2", "query:1:11 only one statement can be asked at a time (ask one after the other)"),
        ("  ;", "there is no statement (write SELECT ...)"),
        (
            "DELETE FROM events",
            "query:1:1 DELETE is not possible here: the history is only read (rows come into it by INSERT INTO in a \
             folder that 'acequia run' runs)",
        ),
        (
            "EXPLAIN INSERT INTO empty SELECT kind, ts FROM events",
            "query:1:1 the history is only read (write a query: SELECT ...)",
        ),
        (
            "SELECT tumble(INTERVAL '1 minute'), count(*) FROM events GROUP BY 1",
            "query:1:8 there is no function 'tumble' (windows of streams are not there in a batch: GROUP BY \
             date_bin(INTERVAL '1 minute', \"timestamp\"))",
        ),
        (
            "SELECT * FROM live.events",
            "query:1:15 there is no table 'live.events' (did you mean \"events\"? Names with capital letters need double \
             quotes)",
        ),
    ] {
        let found = mistake(&session, sql).await;
        assert_eq!(found, said, "{sql}");
    }
    let empty = Place::of("CREATE TABLE t (a INT) WITH (connector = 'stdout');");
    assert_eq!(
        mistake(&empty.session().await, "SELECT * FROM t").await,
        "query:1:15 there is no table 't' (the folder keeps nothing: declare a table with connector = 'delta' and INSERT \
         INTO it)"
    );
}

#[tokio::test]
async fn files_are_read_on_the_command_line_and_nowhere_else() {
    let place = Place::new();
    let file = place.data_dir().join("rows.csv");
    std::fs::write(&file, "a,b\n1,x\n2,y\n").unwrap();
    std::fs::write(place.data_dir().join("rows.json"), "{\"a\": 5}\n").unwrap();
    let session = place.session().await;
    let path = file.display();
    assert_eq!(values(&session, &format!("SELECT sum(a) FROM '{path}'")).await, ["3"]);
    let pattern = place.data_dir().join("*.json");
    assert_eq!(values(&session, &format!("SELECT a FROM '{}'", pattern.display())).await, ["5"]);
    assert_eq!(
        mistake(&session, "SELECT * FROM 'no.parquet'").await,
        "query:1:15 there is no file 'no.parquet' (a relative path begins at the working directory)"
    );
    assert_eq!(
        mistake(&session, "SELECT * FROM 'no*.parquet'").await,
        "query:1:15 no file fits 'no*.parquet' (a relative path begins at the working directory, and '**' stands for any \
         folders)"
    );
    assert_eq!(
        mistake(&session, "SELECT * FROM rows.csv").await,
        "query:1:15 there is no table 'rows.csv' (a file is written in single quotes: FROM 'rows.csv')"
    );
    let server = place.history().session(Paths::Refused).await.unwrap();
    for sql in [format!("SELECT * FROM '{path}'"), format!("EXPLAIN SELECT * FROM '{path}'")] {
        let said = mistake(&server, &sql).await;
        assert!(
            said.ends_with(
                "files are not read here, only tables ('acequia query' on the machine with the files \
                                reads them)"
            ),
            "{said}"
        );
    }
    let said = mistake(&server, &format!("SELECT * FROM \"{path}\"")).await;
    assert!(said.contains("there is no table"), "{said}");
}

#[tokio::test]
async fn servers_send_texts_that_every_client_knows() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    let session = place.history().session(Paths::Refused).await.unwrap();
    let batches = rows(&session, "SELECT kind FROM events_history").await.unwrap();
    assert_eq!(batches[0].schema().field(0).data_type(), &arrow::datatypes::DataType::LargeUtf8);
}

/// Sorts three million rows, some 50 MB of them. Numbers, since batches of texts are larger than they look.
const SORT: &str = "SELECT max(v), min(v), sum(n) FROM (SELECT v, row_number() OVER (ORDER BY v DESC) AS n FROM (SELECT \
                    value * 7919 % 3000017 AS v FROM generate_series(1, 3000000))) WHERE n % 2 = 0";

#[tokio::test]
async fn what_does_not_fit_into_memory_goes_to_the_disk() {
    let place = Place::new();
    let tmp = place.data_dir().join("tmp");
    let memory = 32 << 20;
    let history = place.history_within(Limits { memory, spill: Some(tmp.clone()), parallelism: Some(2) });
    let session = history.session(Paths::Allowed).await.unwrap();
    let spilled = values(&session, SORT).await;
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0, "names are left, or nothing was spilled");
    let roomy = place.history().session(Paths::Allowed).await.unwrap();
    assert_eq!(spilled, values(&roomy, SORT).await);
    drop((session, history));
    assert!(!tmp.exists());
    let tight = place.history_within(Limits { memory, spill: None, parallelism: Some(2) });
    let said = mistake(&tight.session(Paths::Allowed).await.unwrap(), SORT).await;
    assert!(said.starts_with("the query needs more memory than its limit: raise the limit, or ask for less"), "{said}");
}
