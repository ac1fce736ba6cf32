//! Records that are not what their table declares, and topics without any.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::kafka::Cluster;
use crate::pipeline::Pipeline;
use crate::{command, folder, lines, stderr};

const PROGRAM: &str = "
CREATE TABLE events (
    id BIGINT NOT NULL, amount DECIMAL(12, 2), name TEXT, at TIMESTAMP,
    tags TEXT[], part STRUCT<x INT>
) WITH (connector = 'kafka', bootstrap_servers = '${KAFKA_BROKERS}', topic = '${TOPIC}', bad_rows = '${BAD_ROWS:-bad}');
CREATE TABLE bad (reason TEXT, error TEXT, \"offset\" BIGINT, value TEXT)
WITH (connector = 'file', path = 'bad.jsonl');
CREATE TABLE good (id BIGINT, amount DECIMAL(12, 2), size BIGINT) WITH (connector = 'file', path = 'good.jsonl');
INSERT INTO good SELECT id, amount, character_length(name) FROM events;
";

/// Sends values, `None` without one, to partition 0 of a topic.
fn send(kafka: &Cluster, topic: &str, values: &[Option<Vec<u8>>]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.servers).set("message.max.bytes", "2000000");
    let producer: BaseProducer = config.create().unwrap();
    for value in values {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(0);
        record.payload = value.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

fn good(id: usize) -> String {
    format!(r#"{{"id":{id},"amount":0.10,"name":"n","at":"2026-01-01T00:00:00Z","tags":["a",null],"part":{{"x":1}}}}"#)
}

fn nested(levels: usize) -> String {
    format!(r#"{{"id":1,"other":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_told_apart_from_good_ones() {
    let kafka = Cluster::start();
    kafka.create_topic("events", 1).await;
    let megabyte = "x".repeat(1_000_000);
    let cut = |text: String| text[..text.len() - 1].to_owned();
    // The reason and a part of the message; an empty reason is a good record.
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        ("".into(), "malformed", "the record is empty, not a JSON object"),
        ("{".into(), "malformed", "the record ends where a key in quotes should be"),
        ("null".into(), "malformed", "the record is null, not a JSON object"),
        ("[{\"id\":1}]".into(), "malformed", "expected a JSON object, found '[' (byte 0)"),
        ("{\"id\":1} {\"id\":2}".into(), "malformed", "nothing behind the object"),
        ("{\"id\":1,}".into(), "malformed", "expected a key in quotes, found '}' (byte 8)"),
        ("{'id':1}".into(), "malformed", "expected a key in quotes"),
        ("{\"id\":1,\"name\":\"\\u00\"}".into(), "malformed", "an escape that JSON does not have"),
        ("{\"id\":1,\"other\":01}".into(), "malformed", "a number that JSON does not have"),
        ("{\"id\":NaN}".into(), "malformed", "expected a value, found 'N'"),
        (b"{\"id\":1,\"name\":\"\xff\"}".to_vec(), "malformed", "UTF-8"),
        (b"\0\0\0\0\x2a{\"id\":1}".to_vec(), "malformed", ""),
        ("{\"id\":\"one\"}".into(), "wrong_type", "column id"),
        ("{\"id\":1.5}".into(), "wrong_type", "column id"),
        ("{\"id\":9223372036854775808}".into(), "wrong_type", "column id"),
        ("{\"id\":1e400}".into(), "wrong_type", "column id"),
        ("{\"id\":{}}".into(), "wrong_type", "column id"),
        ("{\"id\":1,\"amount\":0.001}".into(), "wrong_type", "column amount"),
        ("{\"id\":1,\"amount\":12345678901.00}".into(), "wrong_type", "column amount"),
        ("{\"id\":1,\"amount\":[]}".into(), "wrong_type", "column amount"),
        ("{}".into(), "missing_value", "column id is NOT NULL, but the record has no such key"),
        ("{\"id\":null}".into(), "missing_value", "column id is NOT NULL, but its value is null"),
        (nested(100).into(), "", ""),
        (nested(1000).into(), "too_large", "nested more than 128 levels deep"),
        (nested(100_000).into(), "too_large", "nested more than 128 levels deep"),
        (format!("{{\"id\":1,\"name\":\"{megabyte}\"}}").into(), "", ""),
        (cut(format!("{{\"id\":1,\"name\":\"{megabyte}\"}}")).into(), "malformed", ""),
        (format!("{{\"id\":1,\"{megabyte}\":1}}").into(), "", ""),
        (format!("{{\"id\":{}}}", "9".repeat(900_000)).into(), "wrong_type", "column id"),
    ];
    let mut values = vec![Some(good(1000).into_bytes())];
    let (mut expected_good, mut expected_bad) = (vec![1000], vec![]);
    for (number, (value, reason, message)) in cases.iter().enumerate() {
        // An even place: between two good records.
        values.push(Some(value.clone()));
        values.push(Some(good(number).into_bytes()));
        match *reason {
            "" => expected_good.extend([1, number]),
            reason => {
                expected_bad.push((2 * number as u64 + 1, reason, *message));
                expected_good.push(number);
            }
        }
    }
    values.push(None);
    values.push(Some(good(2000).into_bytes()));
    expected_bad.push((values.len() as u64 - 2, "malformed", ""));
    expected_good.push(2000);
    send(&kafka, "events", &values);

    let place = folder(&[("queries/p.sql", PROGRAM.as_bytes())]);
    let run = |bad_rows: &str| {
        let mut run = command(place.path(), &["run", "queries", "--bounded", "--fresh", "--no-http"]);
        run.env("KAFKA_BROKERS", &kafka.servers).env("TOPIC", "events").env("BAD_ROWS", bad_rows);
        run.output().unwrap()
    };
    let output = run("bad");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let bad: Vec<serde_json::Value> =
        lines(&place.path().join("bad.jsonl")).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (bad, (offset, reason, message)) in bad.iter().zip(&expected_bad) {
        let error = bad["error"].as_str().unwrap();
        assert_eq!((bad["offset"].as_u64(), bad["reason"].as_str()), (Some(*offset), Some(*reason)), "{error}");
        assert!(error.contains(message) && error.len() < 300, "offset {offset}: {error}");
        // A record without a value counts as an empty one.
        let sent = values[*offset as usize].as_deref().unwrap_or_default();
        assert_eq!(bad["value"].as_str(), Some(&*String::from_utf8_lossy(sent)), "as it came");
    }
    assert_eq!(bad.len(), expected_bad.len());
    let ids: Vec<usize> = lines(&place.path().join("good.jsonl"))
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap() as usize)
        .collect();
    assert_eq!(ids, expected_good);
    let rows = format!("{} rows in, ", values.len());
    let said = stderr(&output);
    assert!(said.contains(&rows) && said.contains(&format!(" {} bad,", bad.len())), "{said}");

    // Counted, the good rows are the same; the log tells.
    std::fs::remove_file(place.path().join("good.jsonl")).unwrap();
    let output = run("count");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(lines(&place.path().join("good.jsonl")).len(), expected_good.len());
    let said = stderr(&output);
    assert!(
        said.contains(&format!(" {} bad,", bad.len())) && said.contains("(malformed): the record is empty"),
        "{said}"
    );

    let output = run("fail");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("events: record events[0] offset 1 is bad: "), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"));

    topics_without_records(&kafka).await;
}

/// An empty topic is no mistake; one that is not there is waited for.
async fn topics_without_records(kafka: &Cluster) {
    kafka.create_topic("empty", 2).await;
    let place = folder(&[("queries/p.sql", PROGRAM.as_bytes())]);
    let run = |topic: &str, more: &[&str]| {
        let mut run = command(place.path(), &[&["run", "queries", "--no-http"], more].concat());
        run.env("KAFKA_BROKERS", &kafka.servers).env("TOPIC", topic);
        run
    };
    let output = run("empty", &["--bounded"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("0 rows in, 0 rows out, 0 late, 0 bad"), "{}", stderr(&output));
    assert!(!place.path().join("bad.jsonl").exists() || lines(&place.path().join("bad.jsonl")).is_empty());

    let mut pipeline = Pipeline::start(run("empty", &[]));
    pipeline.until("running");
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());

    let mut pipeline = Pipeline::start(run("missing", &[]));
    pipeline.until(&format!("WARN topic missing does not exist yet at {}; waiting", kafka.servers));
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());

    let mut pipeline = Pipeline::start(run("missing", &[]));
    pipeline.until("topic missing does not exist yet");
    kafka.create_topic("missing", 1).await;
    send(kafka, "missing", &[Some(good(7).into_bytes())]);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(place.path().join("good.jsonl")).is_ok_and(|text| text.contains("\"id\":7")) {
        assert!(std::time::Instant::now() < deadline, "{}", pipeline.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
}
