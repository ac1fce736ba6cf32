//! The server beside a run: the same tables, and those that the run has not written yet.

use std::time::{Duration, Instant};

use crate::pipeline::{Pipeline, acequia};
use crate::serving::{Serving, ask, cells, said, shop};

#[tokio::test]
async fn a_run_serves_its_history_and_what_is_not_in_it_yet() {
    // The history is written when the run ends; until then all rows are live.
    let place = tempfile::tempdir().unwrap();
    shop(place.path(), (", follow = 'true'", ", commit_interval = '1 hour'"));
    let mut command = acequia();
    command.args(["run", "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0", "--no-page", "--name", "shop"]);
    command.arg(place.path().join("shop.sql")).arg("--data-dir").arg(place.path().join("data"));
    let mut serving = Serving::of(Pipeline::start(command));
    let mut client = serving.client().await;
    let both = "SELECT count(*), sum(transaction_id) FROM (SELECT transaction_id FROM transactions_history \
                UNION ALL SELECT transaction_id FROM live.transactions_history)";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        // Until the run has begun there is nobody to say what is live.
        let found = ask(&mut client, both).await;
        if found.as_ref().is_ok_and(|found| cells(found) == [["1000", "499500"]]) {
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::task::yield_now().await;
    }
    let kept = ask(&mut client, "SELECT count(*) FROM transactions_history").await.unwrap();
    assert_eq!(cells(&kept), [["0"]]);
    let listed = client.get_tables(Default::default()).await.unwrap();
    let listed = crate::serving::table(&crate::serving::fetch(&mut client, listed).await.unwrap());
    let tables: Vec<String> = cells(&listed).iter().map(|row| format!("{}.{} {}", row[1], row[2], row[3])).collect();
    assert_eq!(
        tables,
        ["history.transactions VIEW", "history.transactions_history TABLE", "live.transactions_history TABLE"]
    );
    ask(&mut client, "SELECT missing").await.unwrap_err();

    assert!(serving.process.figure("acequia_flight_queries_total") >= 2);
    assert!(serving.process.figure("acequia_flight_rows_total") >= 2);
    let metrics = serving.process.get("/metrics");
    for line in ["acequia_flight_active_queries 0", "acequia_flight_refused_logins_total 0"] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
    }

    serving.process.signal("-TERM");
    assert_eq!(serving.process.exit_code(), Some(0), "{}", serving.process.said());
}

#[test]
fn a_run_starts_no_server_that_is_not_guarded() {
    let place = tempfile::tempdir().unwrap();
    shop(place.path(), ("", ""));
    let run = |more: &[&str]| {
        let mut command = acequia();
        command.args(["run", "--bounded", "--no-http", "--no-page"]).args(more);
        command.arg(place.path().join("shop.sql")).output().unwrap()
    };
    let output = run(&["--flight", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("nobody would be asked for a password"), "{}", said(&output));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = run(&["--flight", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("choose another address with --flight"), "{}", said(&output));
}
