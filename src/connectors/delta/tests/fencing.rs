//! Two runs of a pipeline at one table: the later one has it, whatever the earlier one has under way.

use deltalake_core::kernel::Action;

use super::flaky::Fault;
use super::*;
use crate::connectors::delta::evolution::Wanted;
use crate::connectors::delta::target::Target;
use crate::connectors::delta::types::stored_schema;
use crate::faults::{Bug, plant};

const FENCED: &str = "Delta table t: run 2 of pipeline shop has taken over from this one, run 1";

/// Two runs are open; the earlier one goes on delivering. What becomes of it, and the numbers in the table.
async fn zombie(fault: Option<Fault>) -> (Result<Epoch, String>, Vec<i64>) {
    let table = Table::new(&[]);
    let (mut first, _) = table.open(run(1, 0)).await;
    deliver(&mut first, 1, &[1]).await;
    let (mut second, settled) = table.open(run(2, 1)).await;
    assert_eq!(settled, Some(Epoch(1)));
    deliver(&mut second, 2, &[2]).await;
    if let Some(fault) = fault {
        table.store.fail("_delta_log", fault);
    }
    let outcome = first.deliver(Epoch(2), &rows(&[2])).await.map_err(|error| error.to_string());
    deliver(&mut second, 3, &[3]).await;
    (outcome, table.numbers().await)
}

#[tokio::test]
async fn an_earlier_run_finds_that_it_is_fenced() {
    for fault in [None, Some(Fault::Lost), Some(Fault::AnswerLost)] {
        assert_eq!(zombie(fault).await, (Err(FENCED.to_owned()), vec![1, 2, 3]), "{fault:?}");
    }
    plant(Some(Bug::FenceForgotten));
    let (outcome, _) = zombie(None).await;
    plant(None);
    assert_ne!(outcome, Err(FENCED.to_owned()), "FenceForgotten is not noticed");
}

#[tokio::test]
async fn a_fence_alone_is_enough() {
    let table = Table::new(&[("commit_rows", "2")]);
    let (mut first, _) = table.open(run(1, 0)).await;
    deliver(&mut first, 1, &[1]).await;
    let (_, settled) = table.open(run(2, 0)).await;
    assert_eq!(settled, Some(Epoch(0)));
    let error = first.deliver(Epoch(2), &rows(&[2])).await.unwrap_err();
    assert!(matches!(&error, ConnectorError::Fenced { .. }), "{error}");
    assert_eq!(table.refusal(run(1, 0)).await.to_string(), FENCED, "nor can it open the table again");
    assert_eq!(table.numbers().await, Vec::<i64>::new());
}

/// An earlier run that commits between the moment at which a later one has read the log and its fence: the epoch that the
/// later one finds.
async fn overtaken_fence() -> Option<Epoch> {
    let table = Table::new(&[]);
    let (mut first, _) = table.open(run(1, 0)).await;
    deliver(&mut first, 1, &[1]).await;
    let wanted = Wanted {
        schema: stored_schema(&table.definition.writable_schema()).unwrap(),
        partition_by: vec![],
        upkeep: table.options.upkeep.clone(),
        log: None,
    };
    let mut second = Target::open(&table.place, ("shop", "events"), wanted, Some(run(2, 2))).await.unwrap();
    deliver(&mut first, 2, &[2]).await;
    second.take_over().await.unwrap()
}

#[tokio::test]
async fn the_marker_is_read_after_the_fence() {
    assert_eq!(overtaken_fence().await, Some(Epoch(2)));
    plant(Some(Bug::MarkerBeforeFence));
    let found = overtaken_fence().await;
    plant(None);
    assert_ne!(found, Some(Epoch(2)), "MarkerBeforeFence is not noticed");
}

#[tokio::test]
async fn of_runs_that_open_at_the_same_time_the_latest_has_it() {
    let table = Table::new(&[]);
    let opened = futures::future::join_all((1..=4).map(|number| table.try_open(run(number, 0)))).await;
    let mut sinks: Vec<DeltaEpochs> = opened.into_iter().filter_map(|opened| Some(opened.ok()?.0)).collect();
    let mut last = sinks.pop().expect("one has it");
    assert_eq!(deliver(&mut last, 1, &[1]).await, Epoch(1));
    for sink in &mut sinks {
        let error = sink.deliver(Epoch(1), &rows(&[1])).await.unwrap_err();
        assert!(matches!(&error, ConnectorError::Fenced { .. }), "{error}");
    }
    assert_eq!((table.marker().await.unwrap().incarnation, table.numbers().await), (Incarnation(4), vec![1]));
}

#[tokio::test]
async fn rows_of_other_checkpoints_are_refused_unless_it_begins_anew() {
    let table = Table::new(&[]);
    let (mut sink, _) = table.open(run(3, 0)).await;
    deliver(&mut sink, 1, &[1]).await;
    deliver(&mut sink, 7, &[2]).await;
    let other = Writer { log: LogId("other".into()), ..run(1, 0) };
    let error = table.refusal(other.clone()).await;
    assert!(matches!(&error, ConnectorError::Mismatch { .. }), "{error}");
    assert!(
        error.to_string().starts_with(
            "Delta table t: it was written by pipeline shop with other checkpoints (log 3f9a2c11-77, epoch 7), which are \
             not the ones in use (log other)"
        ),
        "{error}"
    );
    // Refused, it has not taken the table over.
    assert_eq!(deliver(&mut sink, 8, &[3]).await, Epoch(8));
    let error = table.refusal(run(4, 2)).await.to_string();
    assert!(
        error.starts_with("Delta table t: it has rows up to epoch 8, but this run goes on from epoch 2"),
        "{error}"
    );

    let (mut anew, settled) = table.open(Writer { fresh: true, ..other }).await;
    assert_eq!(settled, None);
    let error = sink.deliver(Epoch(9), &rows(&[4])).await.unwrap_err();
    assert!(matches!(&error, ConnectorError::Fenced { .. }), "{error}");
    assert_eq!(deliver(&mut anew, 1, &[5]).await, Epoch(1));
    let marker = table.marker().await.unwrap();
    assert_eq!((marker.log.0.as_str(), marker.incarnation, marker.epoch), ("other", Incarnation(1), Epoch(1)));
    assert_eq!(table.numbers().await, [1, 2, 3, 5], "rows that were there stay");
}

#[tokio::test]
async fn a_table_that_was_replaced_is_not_written_any_more() {
    let table = Table::new(&[]);
    let (mut sink, _) = table.open(run(1, 0)).await;
    deliver(&mut sink, 1, &[1]).await;
    let store = table.place.log_store().unwrap().object_store(None);
    let entry = table.place.log_store().unwrap().read_commit_entry(0).await.unwrap().unwrap();
    let actions = deltalake_core::logstore::get_actions(0, &entry).unwrap();
    let mut lines = String::new();
    for action in actions {
        let Action::Metadata(metadata) = action else { continue };
        let mut value = serde_json::to_value(&metadata).unwrap();
        value["schemaString"] = value["schemaString"].as_str().unwrap().replace("\"long\"", "\"string\"").into();
        lines = serde_json::json!({"metaData": value}).to_string();
    }
    let path = deltalake_core::logstore::commit_uri_from_version(Some(2));
    object_store::ObjectStoreExt::put(&store, &path, lines.into()).await.unwrap();
    let error = sink.deliver(Epoch(2), &rows(&[2])).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "Delta table t: its column 'n' is of type TEXT, not BIGINT: a column keeps its type. Declare \"n\" TEXT, give the \
         new one another name, or name another 'path'"
    );
}
