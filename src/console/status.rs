//! `/api/v1/status`: the statistics as JSON.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Console, checkpoints, figures};
use crate::dataflow::statistics::{NodeStatistics, Role};

/// Totals and every node's figures.
pub fn render(console: &Console) -> Value {
    let totals = console.figures();
    let nodes: Vec<Value> = console
        .statistics
        .nodes()
        .iter()
        .zip(&console.labels)
        .map(|(node, label)| render_node(node, &label.name))
        .collect();
    json!({
        "pipeline": console.pipeline,
        "version": env!("CARGO_PKG_VERSION"),
        "phase": console.phase().as_str(),
        "uptime_seconds": console.uptime().as_secs_f64(),
        "epoch": totals.epoch,
        "rows_in": totals.rows_in,
        "rows_out": totals.rows_out,
        "late_rows": totals.late_rows,
        "bad_rows": totals.bad_rows,
        "lag": totals.lag,
        "state_bytes": totals.state_bytes,
        "watermark": totals.watermark.map(|watermark| watermark.to_string()),
        "watermark_age_seconds": totals.watermark_age(SystemTime::now()).map(|age| age.as_secs_f64()),
        "trouble": console.trouble(),
        "checkpoints": checkpoints::status(&console.statistics.checkpoints),
        "nodes": nodes,
    })
}

fn render_node(node: &NodeStatistics, label: &str) -> Value {
    let role = match node.role {
        Role::Source => "source",
        Role::Operator => "operator",
        Role::Sink => "sink",
    };
    json!({
        "name": node.name,
        "role": role,
        "table": (node.role != Role::Operator).then_some(label),
        "rows_in": node.rows_in.load(Relaxed),
        "rows_out": node.rows_out.load(Relaxed),
        "bytes_in": node.bytes_in.load(Relaxed),
        "late_rows": node.late_rows.load(Relaxed),
        "aggregated_rows": node.aggregated_rows.load(Relaxed),
        "filtered_rows": node.filtered_rows.load(Relaxed),
        "bad_rows": node.bad_rows(),
        "lag": node.lag(),
        "state_bytes": node.state_bytes.load(Relaxed),
        "delivery": (node.role == Role::Sink).then(|| checkpoints::sink_status(&node.delivery)),
        "watermark": figures::moving(node.watermark()).map(|watermark| watermark.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::console;
    use super::*;

    #[test]
    fn the_status_has_totals_and_nodes() {
        let status = render(&console());
        assert_eq!(status["phase"], "starting");
        assert_eq!(status["rows_in"], 100);
        assert_eq!(status["lag"], 12);
        assert_eq!(status["watermark"], "2023-11-14T22:13:20Z");
        assert_eq!(status["nodes"][0]["bad_rows"]["malformed"], 3);
        assert_eq!(status["nodes"][0]["lag"]["transactions[1]"], 5);
        assert_eq!(status["nodes"][1]["table"], Value::Null);
        assert_eq!((&status["checkpoints"], &status["trouble"]), (&Value::Null, &Value::Null));
        assert_eq!(status["nodes"][3]["delivery"]["settled_epoch"], 0);
        assert_eq!(status["nodes"][1]["aggregated_rows"], 88);
        assert_eq!(status["nodes"][3]["table"], "metrics");
    }
}
