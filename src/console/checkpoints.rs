//! Checkpoints and delivery in the console: as metrics, in the API, and as what keeps a pipeline from being ready.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use serde_json::{Value, json};

use crate::dataflow::statistics::{CheckpointStatistics, DeliveryStatistics, Role, Statistics};

/// What waits for longer than this is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keeps the pipeline from its work: it recovers, its checkpoints are stuck, or a sink waits for its server.
/// `tables` are the nodes' names as the console shows them.
pub fn trouble<'a>(statistics: &Statistics, tables: impl Iterator<Item = &'a str>) -> Option<String> {
    let checkpoints = &statistics.checkpoints;
    if checkpoints.is_recovering() {
        return Some("recovering".into());
    }
    if let Some(time) = checkpoints.append.time().filter(|time| *time > PATIENCE) {
        return Some(format!("the checkpoint has been waiting for its store for {} s", time.as_secs()));
    }
    let sinks = statistics.nodes().iter().zip(tables).filter(|(node, _)| node.role == Role::Sink);
    let waits = sinks.filter_map(|(node, table)| Some((node.delivery.call.time()?, table)));
    let (time, table) = waits.filter(|(time, _)| *time > PATIENCE).max_by_key(|(time, _)| *time)?;
    Some(format!("table {table} has been waiting for its server for {} s", time.as_secs()))
}

/// The metrics of a run that keeps checkpoints.
pub fn render(checkpoints: &CheckpointStatistics) {
    let of = |figure: &AtomicU64| figure.load(Relaxed);
    let number = |figure: &AtomicU64| of(figure) as f64;
    gauge!("acequia_checkpoint_incarnation").set(number(&checkpoints.incarnation));
    gauge!("acequia_checkpoint_recovered_epoch").set(number(&checkpoints.recovered_epoch));
    gauge!("acequia_checkpoint_recovery_seconds").set(seconds(&checkpoints.recovery_nanos));
    gauge!("acequia_checkpoint_durable_epoch").set(number(&checkpoints.durable_epoch));
    counter!("acequia_checkpoint_completed_total").absolute(of(&checkpoints.completed));
    counter!("acequia_checkpoint_failures_total").absolute(of(&checkpoints.failures));
    if let Some(age) = checkpoints.age() {
        gauge!("acequia_checkpoint_age_seconds").set(age.as_secs_f64());
    }
    gauge!("acequia_checkpoint_last_duration_seconds").set(seconds(&checkpoints.last_nanos));
    gauge!("acequia_checkpoint_max_duration_seconds").set(seconds(&checkpoints.max_nanos));
    counter!("acequia_checkpoint_milliseconds_total").absolute(of(&checkpoints.total_nanos) / 1_000_000);
    gauge!("acequia_checkpoint_last_bytes").set(number(&checkpoints.last_bytes));
    counter!("acequia_checkpoint_written_bytes_total").absolute(of(&checkpoints.total_bytes));
    gauge!("acequia_checkpoint_state_bytes").set(number(&checkpoints.state_bytes));
    gauge!("acequia_checkpoint_outbox_bytes").set(number(&checkpoints.outbox_bytes));
}

/// The metrics of a sink in such a run.
pub fn render_sink(delivery: &DeliveryStatistics, table: &str) {
    let of = |figure: &AtomicU64| figure.load(Relaxed);
    let table = table.to_owned();
    gauge!("acequia_sink_settled_epoch", "table" => table.clone()).set(of(&delivery.settled_epoch) as f64);
    gauge!("acequia_sink_undelivered_epochs", "table" => table.clone()).set(of(&delivery.undelivered_epochs) as f64);
    gauge!("acequia_sink_undelivered_rows", "table" => table.clone()).set(of(&delivery.undelivered_rows) as f64);
    gauge!("acequia_sink_undelivered_bytes", "table" => table.clone()).set(of(&delivery.undelivered_bytes) as f64);
    counter!("acequia_sink_delivered_rows_total", "table" => table.clone()).absolute(of(&delivery.delivered_rows));
    counter!("acequia_sink_refused_rows_total", "table" => table.clone()).absolute(of(&delivery.refused_rows));
    let waiting = delivery.call.time().unwrap_or_default().as_secs_f64();
    gauge!("acequia_sink_waiting_seconds", "table" => table).set(waiting);
}

/// Says what the metrics mean.
pub fn describe() {
    describe_gauge!("acequia_checkpoint_incarnation", "Which run of the pipeline over its checkpoints this is.");
    describe_gauge!("acequia_checkpoint_recovered_epoch", "The epoch that the run went on from; 0 from nothing.");
    describe_gauge!("acequia_checkpoint_recovery_seconds", Unit::Seconds, "How long recovery took.");
    describe_gauge!("acequia_checkpoint_durable_epoch", "The newest durable epoch.");
    describe_counter!("acequia_checkpoint_completed_total", "Epochs made durable by this run.");
    describe_counter!("acequia_checkpoint_failures_total", "Attempts that the store refused; each is tried again.");
    describe_gauge!("acequia_checkpoint_age_seconds", Unit::Seconds, "Time since the last epoch became durable.");
    describe_gauge!("acequia_checkpoint_last_duration_seconds", Unit::Seconds, "From its barrier to its manifest.");
    describe_gauge!("acequia_checkpoint_max_duration_seconds", Unit::Seconds, "The slowest of this run.");
    describe_counter!("acequia_checkpoint_milliseconds_total", "How long all checkpoints of this run took.");
    describe_gauge!("acequia_checkpoint_last_bytes", Unit::Bytes, "Bytes written for the last checkpoint.");
    describe_counter!("acequia_checkpoint_written_bytes_total", Unit::Bytes, "Bytes written for all checkpoints.");
    describe_gauge!("acequia_checkpoint_state_bytes", Unit::Bytes, "All state that the newest checkpoint refers to.");
    describe_gauge!("acequia_checkpoint_outbox_bytes", Unit::Bytes, "Rows in checkpoints that sinks lack.");
    describe_gauge!("acequia_sink_settled_epoch", "The last epoch that a table has for good.");
    describe_gauge!("acequia_sink_undelivered_epochs", "Durable epochs whose rows a table lacks.");
    describe_gauge!("acequia_sink_undelivered_rows", "Their rows.");
    describe_gauge!("acequia_sink_undelivered_bytes", Unit::Bytes, "Their bytes in memory.");
    describe_counter!("acequia_sink_delivered_rows_total", "Rows of settled epochs, each counted once.");
    describe_counter!("acequia_sink_refused_rows_total", "Rows that a table refused and that were left out.");
    describe_gauge!("acequia_sink_waiting_seconds", Unit::Seconds, "How long a table's last call has been under way.");
}

/// The figures of the API; null when the run keeps no checkpoints.
pub fn status(checkpoints: &CheckpointStatistics) -> Value {
    if !checkpoints.are_kept() {
        return Value::Null;
    }
    let of = |figure: &AtomicU64| figure.load(Relaxed);
    json!({
        "incarnation": of(&checkpoints.incarnation),
        "recovering": checkpoints.is_recovering(),
        "recovered_epoch": of(&checkpoints.recovered_epoch),
        "recovery_seconds": seconds(&checkpoints.recovery_nanos),
        "durable_epoch": of(&checkpoints.durable_epoch),
        "completed": of(&checkpoints.completed),
        "failures": of(&checkpoints.failures),
        "age_seconds": checkpoints.age().map(|age| age.as_secs_f64()),
        "last_seconds": seconds(&checkpoints.last_nanos),
        "max_seconds": seconds(&checkpoints.max_nanos),
        "total_seconds": seconds(&checkpoints.total_nanos),
        "last_bytes": of(&checkpoints.last_bytes),
        "total_bytes": of(&checkpoints.total_bytes),
        "state_bytes": of(&checkpoints.state_bytes),
        "outbox_bytes": of(&checkpoints.outbox_bytes),
    })
}

/// A sink's figures in the API.
pub fn sink_status(delivery: &DeliveryStatistics) -> Value {
    let of = |figure: &AtomicU64| figure.load(Relaxed);
    json!({
        "settled_epoch": of(&delivery.settled_epoch),
        "undelivered_epochs": of(&delivery.undelivered_epochs),
        "undelivered_rows": of(&delivery.undelivered_rows),
        "undelivered_bytes": of(&delivery.undelivered_bytes),
        "delivered_rows": of(&delivery.delivered_rows),
        "refused_rows": of(&delivery.refused_rows),
        "waiting_seconds": delivery.call.time().map(|time| time.as_secs_f64()),
    })
}

fn seconds(nanos: &AtomicU64) -> f64 {
    Duration::from_nanos(nanos.load(Relaxed)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Epoch, Incarnation};

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_long_is_named() {
        let console = super::super::tests::console();
        let said = || console.trouble();
        let checkpoints = &console.statistics.checkpoints;
        assert_eq!(said(), None);
        checkpoints.recovering();
        assert_eq!(said().as_deref(), Some("recovering"));
        checkpoints.recovered(Incarnation(2), Epoch(7), Duration::from_secs(1));
        assert_eq!(said(), None);
        let append = checkpoints.append.begin();
        let call = console.statistics.nodes()[3].delivery.call.begin();
        tokio::time::advance(PATIENCE).await;
        assert_eq!(said(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(said().as_deref(), Some("the checkpoint has been waiting for its store for 11 s"));
        drop(append);
        assert_eq!(said().as_deref(), Some("table metrics has been waiting for its server for 11 s"));
        drop(call);
        assert_eq!(said(), None);
    }

    #[test]
    fn a_run_without_checkpoints_has_none_to_show() {
        let console = super::super::tests::console();
        let checkpoints = &console.statistics.checkpoints;
        assert_eq!(status(checkpoints), Value::Null);
        checkpoints.recovered(Incarnation(2), Epoch(7), Duration::from_millis(1500));
        checkpoints.durable(Epoch(8), Duration::from_millis(20), 512);
        let shown = status(checkpoints);
        assert_eq!((&shown["durable_epoch"], &shown["recovery_seconds"]), (&json!(8), &json!(1.5)));
        assert_eq!((&shown["last_bytes"], &shown["last_seconds"]), (&json!(512), &json!(0.02)));
        let delivery = &console.statistics.nodes()[3].delivery;
        delivery.waits(2, 30, 4000);
        delivery.settled(Epoch(6), 9);
        let shown = sink_status(delivery);
        assert_eq!((&shown["settled_epoch"], &shown["undelivered_rows"]), (&json!(6), &json!(30)));
        assert_eq!((&shown["delivered_rows"], &shown["waiting_seconds"]), (&json!(9), &Value::Null));
    }
}
