//! Earlier versions.

use super::*;

async fn three_versions() -> Place {
    let place = Place::new();
    for n in 1..=3 {
        place.write(&[("a", n, n * 10, DAY)]).await;
    }
    place
}

/// The time at which a version was written, as its log file has it.
fn written(place: &Place, version: u64) -> String {
    let log = place.table("events_history").join(format!("_delta_log/{version:020}.json"));
    let time: chrono::DateTime<chrono::Utc> = std::fs::metadata(log).unwrap().modified().unwrap().into();
    time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

fn set_written(place: &Place, version: u64, seconds: u64) {
    let log = place.table("events_history").join(format!("_delta_log/{version:020}.json"));
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_796_000_000 + seconds);
    std::fs::File::options().write(true).open(log).unwrap().set_modified(time).unwrap();
}

#[tokio::test]
async fn a_version_is_read_by_its_number() {
    let place = three_versions().await;
    let session = place.session().await;
    for form in ["VERSION AS OF", "FOR VERSION AS OF"] {
        for (version, sum) in [(0, "10"), (1, "30"), (2, "60")] {
            let sql = format!("SELECT sum(amount) FROM events_history {form} {version}");
            assert_eq!(values(&session, &sql).await, [sum], "{sql}");
        }
    }
    assert_eq!(values(&session, "SELECT sum(amount) FROM events_history").await, ["60"]);
}

#[tokio::test]
async fn a_version_is_read_by_a_time() {
    let place = three_versions().await;
    (0..3).for_each(|version| set_written(&place, version, version * 60));
    let session = place.session().await;
    // 2026-11-30 00:53:20, and a minute between the versions.
    for (time, sum) in [
        ("TIMESTAMP AS OF '2026-11-30 00:53:20'", "10"),
        ("FOR TIMESTAMP AS OF '2026-11-30 00:54:19'", "10"),
        ("FOR SYSTEM_TIME AS OF TIMESTAMP '2026-11-30 00:54:20'", "30"),
        ("TIMESTAMP AS OF TIMESTAMP '2026-11-30 00:54:20' + INTERVAL '1 minute'", "60"),
        ("TIMESTAMP AS OF '2099-01-01'", "60"),
    ] {
        let sql = format!("SELECT sum(amount) FROM events_history {time}");
        assert_eq!(values(&session, &sql).await, [sum], "{sql}");
    }
    assert_eq!(
        mistake(&session, "SELECT 1 FROM events_history TIMESTAMP AS OF '2026-11-30 00:53:19'").await,
        "query:1:30 there is no version of table 'events_history' at 2026-11-30 00:53:19.000 UTC (there are versions 0 \
         (2026-11-30 00:53:20.000 UTC) to 2 (2026-11-30 00:55:20.000 UTC))"
    );
}

#[tokio::test]
async fn versions_stand_beside_each_other() {
    let place = three_versions().await;
    let session = place.session().await;
    let sql = "SELECT new.amount FROM events_history AS new LEFT JOIN history.events_history FOR VERSION AS OF 1 AS old \
               ON new.amount = old.amount WHERE old.amount IS NULL";
    assert_eq!(values(&session, sql).await, ["30"]);
    // Without another name the version has the table's.
    let sql = "SELECT events_history.amount FROM events_history VERSION AS OF 0";
    assert_eq!(values(&session, sql).await, ["10"]);
    let plan = shown(&session, "EXPLAIN SELECT amount FROM events_history VERSION AS OF 0").await;
    assert!(plan.contains("events_history VERSION AS OF 0"), "{plan}");
}

#[tokio::test]
async fn a_version_that_is_not_there_is_told_with_those_that_are() {
    let place = three_versions().await;
    let (first, last) = (written(&place, 0), written(&place, 2));
    let versions = format!("there are versions 0 ({} UTC) to 2 ({} UTC)", &first[..23], &last[..23]);
    let session = place.session().await;
    assert_eq!(
        mistake(&session, "SELECT 1\nFROM events_history VERSION AS OF 3").await,
        format!("query:2:21 there is no version 3 of table 'events_history' ({versions})")
    );
    assert_eq!(
        mistake(&session, "SELECT 1 FROM empty VERSION AS OF 0").await,
        "query:1:21 there is no version 0 of table 'empty' (nothing has been written to it yet)"
    );
}

#[tokio::test]
async fn a_version_whose_files_were_cleared_away_is_not_half_read() {
    let place = three_versions().await;
    let table = place.write(&[("a", 4, 40, DAY)]).await;
    let (table, _) = table.optimize().await.unwrap();
    assert_eq!(table.version(), Some(4));
    // As vacuum does: the file that only the versions before the optimization need.
    let folder = place.table("events_history").join("day=2026-11-29");
    let first =
        std::fs::read_to_string(place.table("events_history").join(format!("_delta_log/{:020}.json", 1))).unwrap();
    let name = first.split("day=2026-11-29/").nth(1).unwrap().split('"').next().unwrap();
    std::fs::remove_file(folder.join(name)).unwrap();
    let session = place.session().await;
    assert_eq!(values(&session, "SELECT sum(amount) FROM events_history").await, ["100"]);
    let said = mistake(&session, "SELECT sum(amount) FROM events_history VERSION AS OF 3").await;
    assert!(
        said.starts_with("query:1:40 there is no version 3 of table 'events_history' (there is version 4 ("),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_no_version_is_told() {
    let place = three_versions().await;
    let session = place.session().await;
    for (sql, said) in [
        (
            "SELECT 1 FROM events_history VERSION AS OF -1",
            "query:1:30 a version is a number from 0 on, not -1 ('acequia history TABLE' lists the versions of a table)",
        ),
        (
            "SELECT 1 FROM events_history e WHERE e.amount VERSION AS OF 1 = 1",
            "query:1:47 AS OF stands behind the name of a table only (write it behind the name of a table: FROM t VERSION \
             AS OF 3, or FROM t TIMESTAMP AS OF '2026-11-29 12:00:00')",
        ),
        (
            "SELECT 1 FROM information_schema.tables VERSION AS OF 1",
            "query:1:41 'tables' has no versions (tables of the schema 'history' have versions, and Delta tables \
             that are read by their paths)",
        ),
    ] {
        assert_eq!(mistake(&session, sql).await, said, "{sql}");
    }
    let said = mistake(&session, "SELECT 1 FROM events_history TIMESTAMP AS OF 'yesterday'").await;
    assert!(said.starts_with("query:1:30 ") && said.contains("AS OF takes a value that is the same"), "{said}");
    let said = mistake(&session, "SELECT 1 FROM events_history TIMESTAMP AS OF ts").await;
    assert!(said.contains("there is no column 'ts'"), "{said}");
}

#[tokio::test]
async fn a_recorded_source_travels_too() {
    let place = three_versions().await;
    let session = place.session().await;
    assert_eq!(values(&session, "SELECT sum(doubled) FROM events VERSION AS OF 1").await, ["60"]);
}
