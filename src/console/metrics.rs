//! `/metrics` in Prometheus' text format, made afresh from the statistics at each scrape: no series outlives what it
//! counts, and between scrapes metrics cost nothing.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::{Console, Label, checkpoints, figures, flight};
use crate::dataflow::statistics::{NodeStatistics, Role};

/// All metrics at `now`.
pub fn render(console: &Console, now: SystemTime) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        let version = env!("CARGO_PKG_VERSION");
        gauge!("acequia_build_info", "version" => version, "pipeline" => console.pipeline.clone()).set(1.0);
        gauge!("acequia_epoch").set(console.statistics.epoch.load(Relaxed) as f64);
        let checkpoints = &console.statistics.checkpoints;
        let are_kept = checkpoints.are_kept();
        if are_kept {
            checkpoints::render(checkpoints);
        }
        if let Some(figures) = &console.flight {
            flight::render(figures);
        }
        for (node, label) in console.statistics.nodes().iter().zip(&console.labels) {
            match node.role {
                Role::Source => source(node, label, now),
                Role::Operator => operator(node, label),
                Role::Sink => {
                    sink(node, &label.name);
                    if are_kept {
                        checkpoints::render_sink(&node.delivery, &label.name);
                    }
                }
            }
        }
    });
    recorder.handle().render()
}

fn source(node: &NodeStatistics, label: &Label, now: SystemTime) {
    let table = label.name.clone();
    counter!("acequia_rows_read_total", "table" => table.clone()).absolute(node.rows_in.load(Relaxed));
    counter!("acequia_read_bytes_total", "table" => table.clone()).absolute(node.bytes_in.load(Relaxed));
    let bad = node.bad_rows();
    let bad_of_any_reason = bad.values().sum();
    rows(
        node,
        &[("read", node.rows_in.load(Relaxed)), ("bad", bad_of_any_reason), ("passed", node.rows_out.load(Relaxed))],
    );
    for (reason, rows) in bad {
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
        let late = node.late_rows.load(Relaxed);
        counter!("acequia_late_rows_total", "operator" => name.clone(), "table" => label.reads.join(","))
            .absolute(late);
        rows(
            node,
            &[("in", node.rows_in.load(Relaxed)), ("late", late), ("aggregated", node.aggregated_rows.load(Relaxed))],
        );
    } else {
        rows(node, &[("in", node.rows_in.load(Relaxed)), ("filtered", node.filtered_rows.load(Relaxed))]);
    }
    gauge!("acequia_state_bytes", "operator" => name.clone()).set(node.state_bytes.load(Relaxed) as f64);
}

fn sink(node: &NodeStatistics, table: &str) {
    counter!("acequia_rows_written_total", "table" => table.to_owned()).absolute(node.rows_out.load(Relaxed));
}

/// What has become of a node's rows: figures that add up from the sources to the windows.
fn rows(node: &NodeStatistics, figures: &[(&'static str, u64)]) {
    for (what, rows) in figures {
        counter!("acequia_rows_total", "node" => node.name.clone(), "what" => *what).absolute(*rows);
    }
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
    describe_counter!(
        "acequia_rows_total",
        "What has become of a node's rows: read = bad + passed, in = late + aggregated."
    );
    checkpoints::describe();
    describe_counter!("acequia_late_rows_total", "Rows that came after their window had closed.");
    describe_counter!("acequia_dead_letter_rows_total", "Records that could not be read, by reason.");
    describe_gauge!("acequia_watermark_lag_seconds", Unit::Seconds, "How far the watermark is behind the clock.");
    describe_gauge!("acequia_state_bytes", Unit::Bytes, "Bytes held in state.");
    describe_gauge!("kafka_consumergroup_lag", "Records of a partition that have not been read.");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::FlightFigures;
    use super::super::tests::console;
    use super::*;
    use crate::time::{Epoch, Incarnation};

    #[test]
    fn the_figures_appear_under_the_names_that_monitors_know() {
        let text = render(&console(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_004));
        for line in [
            r#"acequia_rows_read_total{table="transactions"} 100"#,
            r#"acequia_read_bytes_total{table="transactions"} 17000"#,
            r#"acequia_rows_written_total{table="metrics"} 9"#,
            r#"acequia_late_rows_total{operator="metrics.window",table="transactions"} 2"#,
            r#"acequia_rows_total{node="transactions",what="read"} 100"#,
            r#"acequia_rows_total{node="transactions",what="bad"} 3"#,
            r#"acequia_rows_total{node="transactions",what="passed"} 97"#,
            r#"acequia_rows_total{node="metrics.map",what="in"} 97"#,
            r#"acequia_rows_total{node="metrics.map",what="filtered"} 7"#,
            r#"acequia_rows_total{node="metrics.window",what="in"} 90"#,
            r#"acequia_rows_total{node="metrics.window",what="late"} 2"#,
            r#"acequia_rows_total{node="metrics.window",what="aggregated"} 88"#,
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
    fn checkpoints_appear_when_they_are_kept() {
        let console = console();
        let text = render(&console, SystemTime::now());
        assert!(!text.contains("acequia_checkpoint_") && !text.contains("acequia_sink_"), "{text}");
        keep_checkpoints(&console);
        let text = render(&console, SystemTime::now());
        for line in [
            "acequia_checkpoint_incarnation 2",
            "acequia_checkpoint_recovered_epoch 7",
            "acequia_checkpoint_recovery_seconds 1.5",
            "acequia_checkpoint_durable_epoch 8",
            "acequia_checkpoint_completed_total 1",
            "acequia_checkpoint_last_duration_seconds 0.02",
            "acequia_checkpoint_milliseconds_total 20",
            "acequia_checkpoint_written_bytes_total 512",
            r#"acequia_sink_settled_epoch{table="metrics"} 6"#,
            r#"acequia_sink_undelivered_rows{table="metrics"} 30"#,
            r#"acequia_sink_delivered_rows_total{table="metrics"} 9"#,
            r#"acequia_sink_waiting_seconds{table="metrics"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
    }

    fn keep_checkpoints(console: &Console) {
        console.statistics.checkpoints.recovered(Incarnation(2), Epoch(7), Duration::from_millis(1500));
        console.statistics.checkpoints.durable(Epoch(8), Duration::from_millis(20), 512);
        let delivery = &console.statistics.nodes()[3].delivery;
        delivery.waits(2, 30, 4000);
        delivery.settled(Epoch(6), 9);
    }

    #[test]
    fn a_flight_server_is_shown_where_there_is_one() {
        assert!(!render(&console(), SystemTime::now()).contains("acequia_flight_"));
        let figures = Arc::new(FlightFigures::default());
        figures.queries.store(3, Relaxed);
        let text = render(&with_flight(figures), SystemTime::now());
        for line in ["acequia_flight_queries_total 3", "acequia_flight_active_queries 0"] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        for line in text.lines().filter(|line| line.starts_with("# TYPE acequia_flight_")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no description");
        }
    }

    fn with_flight(figures: Arc<FlightFigures>) -> Console {
        Arc::try_unwrap(console()).unwrap().with_flight(figures)
    }

    #[test]
    fn every_metric_has_a_description() {
        let console = console();
        keep_checkpoints(&console);
        let text = render(&console, SystemTime::now());
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no description");
        }
    }

    #[test]
    fn the_readme_has_every_metric_and_no_other() {
        let console = console();
        keep_checkpoints(&console);
        let text = render(&console, SystemTime::now());
        let shown: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let table = include_str!("../../README.md").lines().skip_while(|line| !line.starts_with("| metric |"));
        let names = table.take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
        let told: BTreeSet<&str> = names.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert_eq!(shown, told);
    }

    #[test]
    fn a_split_that_is_no_partition_has_no_consumer_group() {
        assert_eq!(topic_and_partition("transactions[3]"), Some(("transactions", "3")));
        assert_eq!(topic_and_partition("clicks.jsonl"), None);
        assert_eq!(topic_and_partition("a[b]"), None);
    }
}
