//! A topic that has no records beside one that has: the binary on a real cluster.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::pipeline::{Pipeline, acequia};

/// Rows of a file of lines.
fn lines(path: &Path) -> BTreeSet<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

async fn until(path: &Path, rows: &[&str], pipeline: &mut Pipeline) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let wanted: BTreeSet<String> = rows.iter().map(|row| (*row).to_owned()).collect();
    while lines(path) != wanted {
        assert!(!pipeline.has_ended() && Instant::now() < deadline, "{:?}\n{}", lines(path), pipeline.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_topic_holds_back_neither_a_union_nor_a_join() {
    let cluster = Cluster::shared();
    for topic in ["silent-views", "silent-searches", "silent-carts"] {
        cluster.create_topic(topic, 2).await;
    }
    // Hours, so that the clock, at whose pace silent topics go on, closes no window meanwhile.
    let event = |hour: u32, minute: u32| format!(r#"{{"k":"a","ts":"2026-05-01T{hour:02}:{minute:02}:00"}}"#);
    cluster.produce("silent-views", 0, &[&event(0, 10), &event(0, 40), &event(1, 30)]);
    cluster.produce("silent-views", 1, &[&event(1, 20)]);
    cluster.produce("silent-carts", 1, &[&event(0, 50), &event(1, 30)]);
    let place = tempfile::tempdir().unwrap();
    let topic = |name: &str| {
        format!(
            "CREATE TABLE {name} (k TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds') WITH (connector = 'kafka',
             bootstrap_servers = '{}', topic = 'silent-{name}', 'source.offset' = 'earliest', idle_timeout = '2 seconds');\n",
            cluster.servers
        )
    };
    let file = |name: &str, columns: &str| {
        format!(
            "CREATE TABLE {name} ({columns}) WITH (connector = 'file', path = '{}', format = 'json');\n",
            place.path().join(format!("{name}.jsonl")).display()
        )
    };
    let sql = [
        topic("views"),
        topic("searches"),
        topic("carts"),
        file("both", "k TEXT, n BIGINT"),
        file("joined", "k TEXT, views BIGINT, searches BIGINT"),
        "INSERT INTO both SELECT k, count(*) FROM
             (SELECT k, ts FROM views UNION ALL SELECT k, ts FROM searches UNION ALL SELECT k, ts FROM carts)
         GROUP BY tumble(INTERVAL '1 hour'), k;
         CREATE VIEW viewed AS SELECT tumble(INTERVAL '1 hour') AS w, k, count(*) AS n FROM views GROUP BY w, k;
         CREATE VIEW searched AS SELECT tumble(INTERVAL '1 hour') AS w, k, count(*) AS n FROM searches GROUP BY w, k;
         INSERT INTO joined SELECT v.k, v.n, s.n FROM viewed AS v LEFT JOIN searched AS s ON v.w = s.w AND v.k = s.k;"
            .to_owned(),
    ];
    std::fs::create_dir(place.path().join("queries")).unwrap();
    std::fs::write(place.path().join("queries/all.sql"), sql.concat()).unwrap();
    let mut command = acequia();
    command.arg("run").arg(place.path().join("queries")).arg("--data-dir").arg(place.path().join("data"));
    command.arg("--no-http");
    let mut pipeline = Pipeline::start(command);
    let (both, joined) = (place.path().join("both.jsonl"), place.path().join("joined.jsonl"));
    until(&both, &[r#"{"k":"a","n":3}"#], &mut pipeline).await;
    until(&joined, &[r#"{"k":"a","views":2,"searches":null}"#], &mut pipeline).await;
    // What then comes into the empty topic counts in the windows that are open.
    cluster.produce("silent-searches", 1, &[&event(1, 50), &event(3, 0)]);
    for topic in ["silent-views", "silent-carts"] {
        cluster.produce(topic, 0, &[&event(3, 0)]);
        cluster.produce(topic, 1, &[&event(3, 0)]);
    }
    until(&both, &[r#"{"k":"a","n":3}"#, r#"{"k":"a","n":4}"#], &mut pipeline).await;
    let second = r#"{"k":"a","views":2,"searches":1}"#;
    until(&joined, &[r#"{"k":"a","views":2,"searches":null}"#, second], &mut pipeline).await;
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
}
