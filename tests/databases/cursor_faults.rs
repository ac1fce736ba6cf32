//! The PostgreSQL source while its server goes away and comes back or the network fails, and prepared transactions, which
//! outlive their server.

use std::time::{Duration, Instant};

use arrow::datatypes::DataType;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::Server;
use super::postgres::database;
use super::proxy::Proxy;
use super::reading::{Reading, columns, context, table};

async fn client(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn run(client: &mut PgConnection, statement: &str) {
    client.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_waited_for_and_nothing_is_lost_or_read_twice() {
    let server = Server::new("postgres.sh");
    let url = server.start(&[]);
    run(&mut client(&url).await, "CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, name TEXT)").await;
    run(&mut client(&url).await, "ALTER SYSTEM SET max_prepared_transactions = 5").await;
    let schema = columns(&[("id", DataType::Int64)]);
    let options = [("url", url.as_str()), ("cursor", "id"), ("table", "orders"), ("poll_interval", "10 ms")];
    let table = table("t", &schema, "postgres", &options);
    let mut context = context(&schema);
    context.batch_size = 100;
    server.stop();
    let mut reading = Reading::open(&table, context).await;
    reading.is_silent().await;
    server.start(&[]);

    let mut expected = 0;
    for _ in 0..3 {
        let more = "INSERT INTO orders (name) SELECT 'n' FROM generate_series(1, 1000)";
        run(&mut client(&url).await, more).await;
        // In the middle of the pages.
        let before = reading.rows(150).await;
        server.kill();
        tokio::task::spawn_blocking(move || std::thread::sleep(Duration::from_millis(50))).await.unwrap();
        server.start(&[]);
        let after = reading.rows(850).await;
        let ids: Vec<i64> = before.into_iter().chain(after).map(|(id, _)| id).collect();
        // A crash leaves gaps in a sequence.
        let there: Vec<(i64,)> = sqlx::query_as("SELECT id FROM orders ORDER BY id OFFSET $1")
            .bind(expected)
            .fetch_all(&mut client(&url).await)
            .await
            .unwrap();
        assert_eq!(ids, there.into_iter().map(|(id,)| id).collect::<Vec<_>>());
        expected += 1000;
    }
    assert_eq!(reading.until_caught_up().await, []);

    // A transaction that was prepared is still open, under another number; also over a restart.
    let [mut late, mut early] = [client(&url).await, client(&url).await];
    run(&mut late, "BEGIN; INSERT INTO orders (name) VALUES ('late')").await;
    run(&mut early, "INSERT INTO orders (name) VALUES ('early')").await;
    reading.is_silent().await;
    run(&mut late, "PREPARE TRANSACTION 'p'").await;
    reading.is_silent().await;
    server.kill();
    server.start(&[]);
    reading.is_silent().await;
    run(&mut client(&url).await, "COMMIT PREPARED 'p'").await;
    let ids: Vec<i64> = reading.rows(2).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids[1], ids[0] + 1);
    assert_eq!(reading.until_caught_up().await, []);

    // A standby knows nothing of who writes at its primary.
    server.stop();
    std::fs::write(server.dir().join("data/standby.signal"), "").unwrap();
    server.start(&[]);
    let refused = reading.failure().await.to_string();
    assert!(
        refused.ends_with(
            ": it is a standby, which does not see who writes at its primary, so that rows that commit late would be \
             missed: connect to the primary"
        ),
        "{refused}"
    );
}

/// What the network does when a statement passes.
type Trap = fn(&Proxy, &str);

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_loses_no_row_and_repeats_none() {
    let database = database().await;
    database.run("CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, name TEXT)").await;
    let (server, name) = database.address.split_once('/').unwrap();
    let proxy = Proxy::to(server);
    let url = format!("postgres://postgres@{}/{name}", proxy.address());
    let schema = columns(&[("id", DataType::Int64)]);
    let options = [
        ("url", url.as_str()),
        ("cursor", "id"),
        ("table", "orders"),
        ("poll_interval", "10 ms"),
        ("timeout", "1 second"),
    ];
    let table = table("t", &schema, "postgres", &options);
    let mut place = context(&schema);
    let mut next = 1;
    for statement in ["pg_is_in_recovery", "DESC LIMIT", "pg_locks", "row_to_json"] {
        let traps: [Trap; 3] = [Proxy::cut_before, Proxy::swallow_answer, Proxy::stall_after];
        for (kind, trap) in traps.into_iter().enumerate() {
            let sprung = proxy.sprung();
            trap(&proxy, statement);
            database.run("INSERT INTO orders (name) VALUES ('n')").await;
            let mut reading = Reading::open(&table, place.clone()).await;
            if kind == 2 {
                until(|| proxy.sprung() > sprung).await;
                // The silent connection is given up.
                let connections = proxy.connections();
                until(|| proxy.connections() > connections).await;
                proxy.resume();
            }
            assert_eq!(reading.rows(1).await, [(next, next.to_string())], "{statement}, {kind}");
            assert_eq!(proxy.sprung(), sprung + 1, "{statement}, {kind}");
            place = reading.resumed(place);
            next += 1;
        }
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(90), "it never came to that");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
