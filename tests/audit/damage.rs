//! A run, then damage by hand in each of its destinations.

use std::path::Path;

use crate::cluster::{Cluster, until_over};
use crate::{Place, Postgres, table};

const ROWS: i64 = 1000;

/// Rows with nulls, quotes, signs, nanoseconds and -0.0.
fn write_input(path: &Path) {
    let line = |id: i64| {
        let name = if id % 4 == 3 { "null".into() } else { format!("\"\\\"n{id}\\\" é\"") };
        let price =
            if id % 5 == 4 { "null".into() } else { format!("{}{}.{:02}", ["", "-"][id as usize % 2], id, id % 100) };
        let share = if id == 10 { "-0.0".into() } else { (id as f64 / 3.0).to_string() };
        let ts = format!("{}-01-01T00:00:00.{:09}Z", 1960 + id % 80, id * 1_001_001 % 1_000_000_000);
        format!(
            "{{\"id\":{id},\"name\":{name},\"price\":{price},\"share\":{share},\"ts\":\"{ts}\",\"yes\":{}}}\n",
            id % 2 == 0
        )
    };
    std::fs::write(path, (0..ROWS).map(line).collect::<String>()).unwrap();
}

/// The rows of the file `input.jsonl`, with a NaN among them, into each of these tables.
fn into_all(place: &Path, tables: &[(&str, String)]) -> String {
    let input = format!("connector = 'file', path = '{}', format = 'json'", place.join("input.jsonl").display());
    let share = "CASE WHEN id = 5 THEN CAST('NaN' AS DOUBLE) ELSE share END AS share";
    let mut sql = table("input", &input);
    for (name, options) in tables {
        sql.push_str(&table(name, options));
        sql.push_str(&format!("INSERT INTO {name} SELECT id, name, price, {share}, ts, yes FROM input;\n"));
    }
    sql
}

const LOST: &str = "1 row is missing";
const TWICE: &str = "1 row is too many: there twice, or not written by this pipeline";
const CHANGED: &str =
    "as many rows as there must be, but not the same ones: some are changed, or as many are missing as are too many";

/// Statements that a table must not survive unseen.
const DAMAGES: [(&str, &str); 6] = [
    ("DELETE FROM t WHERE id = 17", LOST),
    ("INSERT INTO t SELECT * FROM t WHERE id = 17", TWICE),
    ("UPDATE t SET name = 'other' WHERE id = 17", CHANGED),
    ("UPDATE t SET price = price + 1 WHERE id = 17", CHANGED),
    ("UPDATE t SET share = 0.1 WHERE id = 17", CHANGED),
    ("UPDATE t SET yes = NOT yes WHERE id = 17", CHANGED),
];

#[tokio::test(flavor = "multi_thread")]
async fn postgres_with_its_dead_letters() {
    let postgres = Postgres::start();
    postgres
        .run(
            "CREATE TABLE t (id bigint CHECK (id NOT IN (40, 41)), name text, price numeric(12, 2), \
              share double precision, ts timestamp, yes boolean)",
        )
        .await;
    let options = format!("connector = 'postgres', url = '{}'", postgres.url);
    let place = Place::new(|place| into_all(place, &[("t", options)]));
    write_input(&place.path("input.jsonl"));
    place.run();
    let (code, finding) = place.finding("t");
    assert_eq!(code, Some(0), "{finding}");
    let counts = ["expected", "found", "dead_letters"].map(|count| finding[count].as_i64().unwrap());
    assert_eq!(counts, [ROWS, ROWS, 2]);
    assert_eq!(finding["message"], "complete, no row twice; 2 of them are dead letters");

    postgres.run("CREATE TABLE kept AS SELECT * FROM t").await;
    for (damage, words) in DAMAGES {
        postgres.run(damage).await;
        place.assert_told("t", damage, &format!("{words}; 2 of them are dead letters"));
        postgres.run("TRUNCATE t; INSERT INTO t SELECT * FROM kept").await;
    }
    // Another pipeline's, and another table's, are not ours.
    let own = "INSERT INTO _acequia.dead_letters SELECT";
    postgres.run(&format!("{own} 'other', sink, epoch, error, refused_row FROM _acequia.dead_letters")).await;
    postgres.run(&format!("{own} pipeline, 'u', epoch, error, refused_row FROM _acequia.dead_letters")).await;
    place.assert_right("others' dead letters");
    postgres.run("DELETE FROM _acequia.dead_letters WHERE refused_row->>'id' = '40'").await;
    place.assert_told("t", "a dead letter is lost", "1 row is missing; 1 of them is a dead letter");
    postgres.run("DROP TABLE t").await;
    let (code, finding) = place.finding("t");
    let message = finding["message"].as_str().unwrap();
    assert!(code == Some(1) && message.ends_with("there is no such table"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_read_by_what_is_committed() {
    let kafka = Cluster::start();
    kafka.create_topic("copies", 1).await;
    let options =
        format!("connector = 'kafka', bootstrap_servers = '{}', topic = 'copies', format = 'json'", kafka.servers);
    let place = Place::new(|place| into_all(place, &[("copies", options)]));
    write_input(&place.path("input.jsonl"));
    place.run();
    let (code, finding) = place.finding("copies");
    assert_eq!((code, finding["found"].as_i64()), (Some(0), Some(ROWS)), "{finding}");

    let row = "{\"id\":17,\"name\":\"\\\"n17\\\" é\"}";
    kafka.produce_in_transaction("copies", &[row, row], false);
    place.assert_right("a transaction that was aborted");
    let open = kafka.open_transaction("copies", &[row]);
    place.assert_right("a transaction that is open");
    drop(open);
    kafka.produce_in_transaction("copies", &[row], true);
    // Readers wait for the open one; whoever takes its writer's name over gives it up.
    drop(kafka.open_transaction("copies", &[]));
    until_over(&kafka.servers, "copies");
    place.assert_told("copies", "a row that somebody else committed", TWICE);
    kafka.delete_before("copies", 1).await;
    place.assert_told("copies", "one more, one less", CHANGED);
    kafka.delete_before("copies", 3).await;
    place.assert_told("copies", "three less, one more", "2 rows are missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_parquet() {
    let file = |place: &Path, name: &str, format: &str| {
        format!("connector = 'file', path = '{}', format = '{format}'", place.join(name).display())
    };
    let place = Place::new(|place| {
        let tables = [
            ("lines", file(place, "out.jsonl", "json")),
            ("cells", file(place, "out.csv", "csv")),
            ("parts", file(place, "parts", "parquet")),
        ];
        into_all(place, &tables)
    });
    write_input(&place.path("input.jsonl"));
    place.run();
    place.assert_right("a run");
    for (sink, name) in [("lines", "out.jsonl"), ("cells", "out.csv")] {
        let path = place.path(name);
        let whole = std::fs::read_to_string(&path).unwrap();
        let line = whole.lines().find(|line| line.contains("n17")).unwrap().to_owned() + "\n";
        for (damaged, words) in [
            (whole.replace(&line, ""), LOST),
            (whole.clone() + &line, TWICE),
            (whole.replace("n17", "n71"), CHANGED),
            (whole.replace("n17", "m17"), CHANGED),
        ] {
            assert_ne!(damaged, whole);
            std::fs::write(&path, &damaged).unwrap();
            place.assert_told(sink, "a line", words);
        }
        std::fs::write(&path, &whole).unwrap();
        place.assert_right("everything is put back");
    }
    let part = std::fs::read_dir(place.path("parts")).unwrap().map(|entry| entry.unwrap().path());
    let part = part.filter(|path| path.extension().is_some_and(|end| end == "parquet")).min().unwrap();
    let mut copy = part.clone();
    copy.set_file_name("another.parquet");
    std::fs::copy(&part, &copy).unwrap();
    let (code, finding) = place.finding("parts");
    assert_eq!((code, finding["verdict"].as_str()), (Some(1), Some("surplus")), "{finding}");
    std::fs::remove_file(copy).unwrap();
    let bytes = std::fs::read(&part).unwrap();
    std::fs::remove_file(&part).unwrap();
    let (code, finding) = place.finding("parts");
    assert_eq!(code, Some(1), "{finding}");
    std::fs::write(&part, bytes).unwrap();
    place.assert_right("the part is put back");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_the_embedded_warehouse() {
    let place = Place::new(|place| {
        let file = |name: &str| format!("path = '{}'", place.join(name).display());
        let tables = [
            ("t", format!("connector = 'sqlite', {}", file("own.sqlite"))),
            ("skipping", format!("connector = 'sqlite', {}, create = 'true', on_error = 'skip'", file("skip.sqlite"))),
            ("warehouse", "connector = 'postgres', url = 'embedded'".to_owned()),
        ];
        into_all(place, &tables)
    });
    let create = "CREATE TABLE t (id INTEGER CHECK (id NOT IN (40, 41)), name TEXT, price DECIMAL(12, 2), share REAL, \
                  ts TEXT, yes BOOLEAN)";
    place.sqlite("own.sqlite", create).await;
    place.sqlite("skip.sqlite", &create.replace("TABLE t", "TABLE skipping")).await;
    write_input(&place.path("input.jsonl"));
    place.run();
    let (code, finding) = place.finding("t");
    assert_eq!(code, Some(0), "{finding}");
    assert_eq!(finding["message"], "complete, no row twice; 2 of them are dead letters");
    let (_, finding) = place.finding("skipping");
    assert_eq!(
        finding["message"],
        "cannot be proved: 2 rows are not there; 'on_error' = 'skip' may have left them out, and keeps no count of it"
    );
    let (_, finding) = place.finding("warehouse");
    assert_eq!(finding["message"], "complete, no row twice");

    place.sqlite("own.sqlite", "CREATE TABLE kept AS SELECT * FROM t").await;
    for (damage, words) in DAMAGES {
        place.sqlite("own.sqlite", damage).await;
        place.assert_told("t", damage, &format!("{words}; 2 of them are dead letters"));
        place.sqlite("own.sqlite", "DELETE FROM t; INSERT INTO t SELECT * FROM kept").await;
    }
    place.assert_right("everything is put back");
    place.sqlite("own.sqlite", "UPDATE t SET ts = 'yesterday' WHERE id = 17").await;
    let (code, finding) = place.finding("t");
    assert_eq!((code, finding["verdict"].as_str()), (Some(1), Some("unreadable")), "{finding}");
    place.sqlite("data/warehouse.sqlite", "DELETE FROM warehouse WHERE id = 17").await;
    place.assert_told("warehouse", "a row of the embedded warehouse", LOST);
    place.sqlite("data/warehouse.sqlite", "DELETE FROM warehouse").await;
    // A run that has come to its end knows that all was delivered.
    place.assert_told("warehouse", "all rows", &format!("{ROWS} rows are missing"));
}
