//! The command as a person uses it.

use std::process::Command;
use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::pipeline::{Pipeline, acequia};
use crate::server::Server;

fn generate(place: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = acequia();
    command.current_dir(place).env_remove("ACEQUIA__RUN__DATA_DIR").arg("generate").args(arguments);
    command
}

async fn number(file: &std::path::Path, query: &str) -> i64 {
    let mut client = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut client).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anything_said_it_fills_files_at_its_rate_and_says_how_far_it_is() {
    let place = tempfile::tempdir().unwrap();
    let before = chrono::Utc::now();
    let began = Instant::now();
    let mut run = Pipeline::start(generate(place.path(), &["--rate", "40", "--duration", "3s", "--rhythm"]));
    run.until("into acequia-data/shop.sqlite and acequia-data/crm.sqlite");
    run.until(" events: ");
    assert_eq!(run.exit_code(), Some(0), "{}", run.said());
    assert!(began.elapsed().as_secs_f64() > 2.5, "it took {:?}", began.elapsed());
    let shop = place.path().join("acequia-data/shop.sqlite");
    let events = number(&shop, "SELECT (SELECT count(*) FROM \"transaction\") + (SELECT count(*) FROM userbehavior)")
        .await
        + number(&place.path().join("acequia-data/crm.sqlite"), "SELECT count(*) FROM interaction").await;
    // The rhythm has hours with a sixth and hours with almost twice the rate.
    assert!((15..=220).contains(&events), "{events}");
    assert!(run.said().contains(&format!("{events} events: ")), "{}", run.said());
    let first = "SELECT CAST(strftime('%s', min(transaction_date)) AS INTEGER) FROM \"transaction\"";
    let first = number(&shop, first).await;
    assert!((before.timestamp() - 1..=before.timestamp() + 60).contains(&first), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_server_and_ends_in_order() {
    let server = Server::new("postgres.sh");
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let place = tempfile::tempdir().unwrap();
    let what = format!("PostgreSQL at 127.0.0.1:{}/postgres", server.port);

    let mut run = Pipeline::start(generate(place.path(), &["--to", &url]));
    run.until(&format!("waiting for {what}: "));
    run.signal("-TERM");
    run.until("stopping: no more events");
    assert_eq!(run.exit_code(), Some(4), "{}", run.said());
    assert!(run.said().contains(&format!("stopped while waiting for {what}")), "{}", run.said());

    let mut command = generate(place.path(), &["--rate", "200"]);
    command.env("SHOP_URL", &url).env("CRM_URL", &url);
    let mut run = Pipeline::start(command);
    run.until(&format!("waiting for {what}: "));
    server.start(&[]);
    run.until(&format!("{what} is back after "));
    run.until(" events/s");
    run.signal("-INT");
    assert_eq!(run.exit_code(), Some(0), "{}", run.said());
    assert!(!place.path().join("acequia-data").exists());
}

#[test]
fn brokers_that_are_away_are_waited_for_too() {
    let place = tempfile::tempdir().unwrap();
    let mut run = Pipeline::start(generate(place.path(), &["--to", "kafka://127.0.0.1:1"]));
    run.until("into Kafka at 127.0.0.1:1");
    run.until("waiting for Kafka at 127.0.0.1:1: ");
    run.signal("-INT");
    assert_eq!(run.exit_code(), Some(4), "{}", run.said());
    assert!(run.said().contains("stopped while waiting for Kafka at 127.0.0.1:1"), "{}", run.said());
    assert!(run.said().contains(" 0 events: 0 transactions"), "what no broker has is not counted: {}", run.said());
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let place = tempfile::tempdir().unwrap();
    for (arguments, right) in [
        (&["--to", "mysql://root:s3cret@db/shop"][..], "it takes kafka://localhost:9092, postgres://user:password@"),
        (&["--to", "crm=embedded://crm"], "add --to shop=URL"),
        (&["--to", "kafka://a:1", "--to", "embedded://shop"], "start a second 'acequia generate'"),
        (&["--rate", "fast"], "such as 10 or 0.5"),
        (&["--rate", "max", "--start", "2026-11-01"], "such as --rate 1000"),
        (&["--transactions", "70"], "a share from 0 to 1"),
        (&["--events", "5", "--duration", "5s"], "cannot be used with"),
        (&["--start", "yesterday"], "such as 2026-11-01"),
    ] {
        let output = generate(place.path(), arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(right), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty() && !said.contains("s3cret"), "{said}");
    }
    let mut command = generate(place.path(), &[]);
    let output = command.env("SHOP_URL", "mysql://root:s3cret@db/shop").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("SHOP_URL does not begin with postgres://") && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_database_that_refuses_ends_with_3() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("no.sqlite"), "this is no database at all, only some words in a file").unwrap();
    let output = generate(place.path(), &["--to", "sqlite://no.sqlite", "--events", "1"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("SQLite file no.sqlite: file is not a database"), "{said}");
}
