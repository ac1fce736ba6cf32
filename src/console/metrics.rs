//! `/metrics` in Prometheus' text format, made afresh from the statistics at each scrape: no series outlives what it
//! counts, and between scrapes metrics cost nothing.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::{Console, Label, figures};
use crate::dataflow::statistics::{NodeStatistics, Role};

/// All metrics at `now`.
pub fn render(console: &Console, now: SystemTime) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        let version = env!("CARGO_PKG_VERSION");
        gauge!("acequia_build_info", "version" => version, "pipeline" => console.pipeline.clone()).set(1.0);
        gauge!("acequia_epoch").set(console.statistics.epoch.load(Relaxed) as f64);
        for (node, label) in console.statistics.nodes().iter().zip(&console.labels) {
            match node.role {
                Role::Source => source(node, label, now),
                Role::Operator => operator(node, label),
                Role::Sink => sink(node, &label.name),
            }
        }
    });
    recorder.handle().render()
}

fn source(node: &NodeStatistics, label: &Label, now: SystemTime) {
    let table = label.name.clone();
    counter!("acequia_rows_read_total", "table" => table.clone()).absolute(node.rows_in.load(Relaxed));
    counter!("acequia_read_bytes_total", "table" => table.clone()).absolute(node.bytes_in.load(Relaxed));
    for (reason, rows) in node.bad_rows() {
        counter!("acequia_dead_letter_rows_total", "table" => table.clone(), "reason" => reason).absolute(rows);
    }
    if let Some(watermark) = figures::moving(node.watermark()) {
        let lag = figures::age(watermark, now).as_secs_f64();
        gauge!("acequia_watermark_lag_seconds", "table" => table.clone()).set(lag);
    }
    let Some(group) = &label.group else { return };
    for (split, lag) in node.lag() {
        if let Some((topic, partition)) = topic_and_partition(&split) {
            gauge!(
                "kafka_consumergroup_lag",
                "consumergroup" => group.clone(), "topic" => topic.to_owned(), "partition" => partition.to_owned()
            )
            .set(lag as f64);
        }
    }
}

fn operator(node: &NodeStatistics, label: &Label) {
    let name = &label.name;
    if label.tells_late {
        counter!("acequia_late_rows_total", "operator" => name.clone()).absolute(node.late_rows.load(Relaxed));
    }
    gauge!("acequia_state_bytes", "operator" => name.clone()).set(node.state_bytes.load(Relaxed) as f64);
}

fn sink(node: &NodeStatistics, table: &str) {
    counter!("acequia_rows_written_total", "table" => table.to_owned()).absolute(node.rows_out.load(Relaxed));
}

/// `transactions[3]` is partition 3 of topic `transactions`; other sources name their splits in other ways.
fn topic_and_partition(split: &str) -> Option<(&str, &str)> {
    let (topic, partition) = split.strip_suffix(']')?.rsplit_once('[')?;
    partition.parse::<u32>().is_ok().then_some((topic, partition))
}

fn describe() {
    describe_gauge!("acequia_build_info", "Always 1; the labels say what runs.");
    describe_gauge!("acequia_epoch", "The last epoch that is complete in every sink.");
    describe_counter!("acequia_rows_read_total", "Records read from a table, bad ones included.");
    describe_counter!("acequia_read_bytes_total", Unit::Bytes, "Bytes read from a table, undecoded.");
    describe_counter!("acequia_rows_written_total", "Rows written to a table.");
    describe_counter!("acequia_late_rows_total", "Rows that came after their window had closed.");
    describe_counter!("acequia_dead_letter_rows_total", "Records that could not be read, by reason.");
    describe_gauge!("acequia_watermark_lag_seconds", Unit::Seconds, "How far the watermark is behind the clock.");
    describe_gauge!("acequia_state_bytes", Unit::Bytes, "Bytes held in state.");
    describe_gauge!("kafka_consumergroup_lag", "Records of a partition that have not been read.");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::console;
    use super::*;

    #[test]
    fn the_figures_appear_under_the_names_that_monitors_know() {
        let text = render(&console(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_004));
        for line in [
            r#"acequia_rows_read_total{table="transactions"} 100"#,
            r#"acequia_read_bytes_total{table="transactions"} 17000"#,
            r#"acequia_rows_written_total{table="metrics"} 9"#,
            r#"acequia_late_rows_total{operator="metrics.window"} 2"#,
            r#"acequia_dead_letter_rows_total{table="transactions",reason="malformed"} 3"#,
            r#"acequia_watermark_lag_seconds{table="transactions"} 4"#,
            r#"acequia_state_bytes{operator="metrics.window"} 4096"#,
            r#"kafka_consumergroup_lag{consumergroup="shop-transactions",topic="transactions",partition="1"} 5"#,
            "acequia_epoch 12",
            "# TYPE acequia_rows_read_total counter",
            "# TYPE acequia_state_bytes gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert!(
            !text.contains(r#"acequia_late_rows_total{operator="metrics.map"}"#),
            "a map has no late rows:\n{text}"
        );
        assert!(text.contains(concat!(r#"acequia_build_info{version=""#, env!("CARGO_PKG_VERSION"))), "{text}");
    }

    #[test]
    fn every_metric_has_a_description() {
        let text = render(&console(), SystemTime::now());
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no description");
        }
    }

    #[test]
    fn a_split_that_is_no_partition_has_no_consumer_group() {
        assert_eq!(topic_and_partition("transactions[3]"), Some(("transactions", "3")));
        assert_eq!(topic_and_partition("clicks.jsonl"), None);
        assert_eq!(topic_and_partition("a[b]"), None);
    }
}
