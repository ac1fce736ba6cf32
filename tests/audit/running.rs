//! Audits of a pipeline that goes on meanwhile.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::pipeline::Pipeline;
use crate::{Place, Postgres, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pipeline_is_right_at_any_moment_and_damage_is_seen_all_the_same() {
    let (kafka, postgres) = (Cluster::start(), Postgres::start());
    kafka.create_topic("copies", 3).await;
    let place = Place::new(|place| {
        let path = |name: &str| format!("path = '{}'", place.join(name).display());
        let tables = [
            ("t", format!("connector = 'postgres', url = '{}', create = 'true'", postgres.url)),
            ("lines", format!("connector = 'file', format = 'json', {}", path("out.jsonl"))),
            ("s", format!("connector = 'sqlite', create = 'true', {}", path("s.sqlite"))),
            (
                "copies",
                format!(
                    "connector = 'kafka', bootstrap_servers = '{}', topic = 'copies', format = 'json'",
                    kafka.servers
                ),
            ),
        ];
        let mut sql = table("input", "connector = 'datagen', rows_per_second = '500', seed = '7'");
        for (name, options) in &tables {
            sql.push_str(&table(name, options));
            sql.push_str(&format!("INSERT INTO {name} SELECT * FROM input;\n"));
        }
        sql
    });
    let mut running = Pipeline::start(place.command(&["run", "--no-http"]));
    // Until the first rows are there.
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(place.path("out.jsonl")).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < deadline, "{}", running.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    for moment in 1..=3 {
        place.assert_right(&format!("moment {moment}"));
    }
    postgres.run("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)").await;
    let (code, finding) = place.finding("t");
    assert_eq!((code, finding["wrong"].as_bool()), (Some(1), Some(true)), "{finding}");
    assert!(!running.has_ended(), "{}", running.said());
    running.signal("-TERM");
    assert_eq!(running.exit_code(), Some(0), "{}", running.said());
    place.assert_told("t", "a row, and the run has ended", "1 row is missing");
    for sink in ["lines", "s", "copies"] {
        let (_, finding) = place.finding(sink);
        assert_eq!(finding["verdict"], "complete", "{finding}");
        assert!(finding["found"].as_u64() > Some(500), "{finding}");
    }
}
