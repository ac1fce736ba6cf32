//! Live tables beside recorded ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::TimestampNanosecondArray;
use async_trait::async_trait;

use super::super::live::{LiveError, LiveRows, LiveTable, LiveTables, Since};
use super::*;
use crate::time::Epoch;

/// A pipeline that says once that its destination has moved on, and then gives one row.
struct Moving {
    asked: AtomicUsize,
    settled: usize,
}

#[async_trait]
impl LiveTables for Moving {
    async fn names(&self) -> Result<Vec<LiveTable>, LiveError> {
        Ok(vec![])
    }

    async fn rows(&self, table: &str, since: Since) -> Result<LiveRows, LiveError> {
        match table {
            "events_history" => assert_eq!(since, Since::Version(None)),
            "keyed" => assert_eq!(since, Since::Destination),
            _ => return Err(LiveError::Unknown { table: table.into(), known: vec!["events_history".into()] }),
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.settled {
            return Err(LiveError::Settled { table: table.into(), settled: Epoch(7) });
        }
        let batch = RecordBatch::try_from_iter([
            ("kind", Arc::new(StringArray::from(vec!["live"])) as ArrayRef),
            ("ts", Arc::new(TimestampNanosecondArray::from(vec![1_000])) as ArrayRef),
        ]);
        let batch = batch.unwrap();
        Ok(LiveRows { epoch: Some(Epoch(8)), columns: batch.schema(), batches: vec![batch] })
    }
}

async fn session(place: &Place, settled: usize) -> HistorySession {
    let live = Moving { asked: AtomicUsize::new(0), settled };
    place.history().with_live(Arc::new(live)).session(Paths::Allowed).await.unwrap()
}

#[tokio::test]
async fn live_rows_go_with_the_version_that_they_come_after() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    let session = session(&place, 2).await;
    let sql = "SELECT kind FROM events_history UNION ALL SELECT kind FROM live.events_history ORDER BY kind";
    assert_eq!(values(&session, sql).await, ["a", "live"]);
    assert_eq!(
        values(&session, "SELECT arrow_typeof(ts) FROM live.events_history").await,
        ["Timestamp(µs)"],
        "another type than that of the table"
    );
    assert_eq!(values(&session, "SELECT kind FROM acequia.live.keyed").await, ["live"]);
}

#[tokio::test]
async fn a_version_that_was_read_is_not_changed_for_live_rows() {
    let place = Place::new();
    place.write(&[("a", 1, 10, DAY)]).await;
    let session = session(&place, 1).await;
    assert_eq!(values(&session, "SELECT kind FROM events_history").await, ["a"]);
    let said = mistake(&session, "SELECT kind FROM live.events_history").await;
    assert!(said.starts_with("rows of events_history up to epoch 7 have got to its destination"), "{said}");
}

#[tokio::test]
async fn the_pipelines_refusals_come_through() {
    let place = Place::new();
    let session = session(&place, 0).await;
    let said = mistake(&session, "SELECT * FROM live.nothing").await;
    assert_eq!(said, "there is no live table nothing: the running pipeline writes events_history");
    let without = place.session().await;
    let said = mistake(&without, "SELECT * FROM live.events_history").await;
    assert!(said.contains("there is no table 'live.events_history'"), "{said}");
}
