//! A Delta table read by a query of another folder.

use serde_json::{Value, json};

use crate::{Place, said};

/// Twenty numbers into a table of their own.
fn numbers(place: &std::path::Path) -> String {
    format!(
        "CREATE TABLE numbers (n BIGINT, ts TIMESTAMP) WITH (connector = 'file', path = '{place}/numbers.jsonl');
         CREATE TABLE kept (n BIGINT, ts TIMESTAMP, half TEXT)
         WITH (connector = 'delta', path = '{place}/kept', partition_by = 'half');
         INSERT INTO kept SELECT n, ts, CASE WHEN n < 10 THEN 'first' ELSE 'second' END FROM numbers;",
        place = place.display()
    )
}

fn reader(place: &Place, columns: &str, query: &str) -> Place {
    let kept = place.path("kept").display().to_string();
    Place::new(|_| format!("CREATE TABLE kept ({columns}) WITH (connector = 'delta', path = '{kept}');\n{query}"))
}

/// The rows that a bounded run prints.
fn printed(place: &Place) -> Vec<Value> {
    let output = place.run(&["--bounded", "--no-http", "--no-page"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_delta_table_is_a_source_that_ends() {
    let place = Place::new(numbers);
    let rows = (0..20).map(|n| format!("{{\"n\": {n}, \"ts\": \"2026-11-29T12:00:{n:02}\"}}\n"));
    std::fs::write(place.path("numbers.jsonl"), rows.collect::<String>()).unwrap();
    place.run_bounded();
    let windows = reader(
        &place,
        "n BIGINT, half TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts",
        "SELECT half, count(*) AS c, sum(n) AS s FROM kept GROUP BY tumble(INTERVAL '5 seconds'), half;",
    );
    let mut found = printed(&windows);
    found.sort_by_key(|row| row["s"].as_i64());
    let row = |half: &str, s: i64| json!({"half": half, "c": 5, "s": s});
    assert_eq!(found, [row("first", 10), row("first", 35), row("second", 60), row("second", 85)]);
    // No column at all is needed for this.
    assert_eq!(printed(&reader(&place, "n BIGINT", "SELECT count(*) AS c FROM kept;")), [json!({"c": 20})]);

    let audit = place.command("audit").output().unwrap();
    let told = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert_eq!(audit.status.code(), Some(0), "{told}{}", said(&audit));
    assert!(told.contains("20     20  complete, no row twice"), "{told}");
}

#[test]
fn what_cannot_be_read_is_told() {
    let place = Place::new(numbers);
    let wrong = reader(&place, "n BIGINT", "SELECT n FROM kept;");
    let output = wrong.run(&["--bounded", "--no-http", "--no-page"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let words = format!(
        "Delta table {}: there is no such table yet: it is made by the first rows that are written to it",
        place.path("kept").display()
    );
    assert!(said(&output).contains(&words), "{}", said(&output));
}
