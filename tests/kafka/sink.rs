//! Writing, and reading back what was written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acequia::catalog::{ColumnDefinition, ColumnKind, MetadataKey, TableDefinition};
use acequia::connectors::{Sink, SinkMode};
use acequia::sql::Location;
use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMillisecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

use crate::cluster::Cluster;
use crate::table::{Reading, definition, log, sink_context, table};

async fn open(definition: &TableDefinition, servers: &str, topic: &str) -> Box<dyn Sink> {
    let factory = table(definition, servers, &[("topic", topic)]).sink().unwrap();
    factory.open(sink_context(definition)).await.unwrap().at_once().unwrap()
}

/// The timestamp of row 0, in milliseconds.
const BEGIN: i64 = 1_700_000_000_000;

/// Rows `first..first + rows` with keys `k0` to `k99` and timestamps from [`BEGIN`] on.
pub fn batch(definition: &TableDefinition, first: i64, rows: i64) -> RecordBatch {
    let ids: Vec<i64> = (first..first + rows).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.clone())),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("row {id}")))),
    ];
    if definition.primary_key.is_empty() {
        columns.push(Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("k{}", id % 100)))));
        columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(ids.iter().map(|id| BEGIN + id))));
    }
    RecordBatch::try_new(definition.writable_schema(), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_rows_come_back_with_keys_and_timestamps() {
    let kafka = Cluster::shared();
    kafka.create_topic("round-trip", 3).await;
    let definition = definition(&[]);
    let mut sink = open(&definition, &kafka.servers, "round-trip").await;
    for first in (0..100_000).step_by(8_000) {
        sink.write(batch(&definition, first, 8_000.min(100_000 - first))).await.unwrap();
    }
    sink.flush().await.unwrap();
    sink.close().await.unwrap();

    let read = Reading::all(&kafka.servers, "round-trip", &[]).await;
    assert_eq!(read.records.len(), 100_000);
    let mut home = BTreeMap::new();
    let mut newest = BTreeMap::new();
    let mut seen = vec![false; 100_000];
    for record in &read.records {
        let value: serde_json::Value = serde_json::from_str(&record.value).unwrap();
        let id = value["id"].as_i64().unwrap();
        assert_eq!(value, serde_json::json!({"id": id, "text": format!("row {id}")}));
        let key = record.key.clone().unwrap();
        assert_eq!((key.as_str(), record.timestamp), (format!("k{}", id % 100).as_str(), Some(BEGIN + id)));
        assert_eq!(home.entry(key.clone()).or_insert(&record.split), &&record.split, "a key lives in one partition");
        assert!(newest.insert(key, id).is_none_or(|before| before < id), "a key's rows keep their order");
        assert!(!std::mem::replace(&mut seen[id as usize], true), "row {id} came twice");
    }
    assert!(seen.iter().all(|seen| *seen));
    assert_eq!(read.split_ends.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_come_back_in_their_order() {
    let kafka = Cluster::shared();
    kafka.create_topic("headers", 1).await;
    let mut definition = definition(&["id"]);
    definition.primary_key.clear();
    let pair = DataType::Struct(
        vec![Field::new("name", DataType::Utf8, true), Field::new("value", DataType::Utf8, true)].into(),
    );
    let item = Arc::new(Field::new("item", pair, true));
    definition.columns.push(ColumnDefinition {
        name: "headers".into(),
        data_type: DataType::List(Arc::clone(&item)),
        nullable: true,
        kind: ColumnKind::Metadata(MetadataKey::Headers),
        location: Location::default(),
    });
    let names: ArrayRef = Arc::new(StringArray::from(vec!["trace", "trace", "empty"]));
    let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("ü"), None]));
    let DataType::Struct(fields) = item.data_type() else { panic!("not a struct") };
    let pairs = StructArray::new(fields.clone(), vec![names, values], None);
    // The second row has no headers and the third is null.
    let lengths = OffsetBuffer::from_lengths([3, 0, 0]);
    let lists = ListArray::new(item, lengths, Arc::new(pairs), Some(vec![true, true, false].into()));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    let rows = RecordBatch::try_new(definition.writable_schema(), vec![ids, texts, Arc::new(lists)]).unwrap();
    let mut sink = open(&definition, &kafka.servers, "headers").await;
    sink.write(rows).await.unwrap();
    sink.close().await.unwrap();

    let read = Reading::all(&kafka.servers, "headers", &[]).await;
    let headers: Vec<_> = read.records.iter().map(|record| record.headers.clone()).collect();
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    let first = vec![header("trace", Some("a")), header("trace", Some("ü")), header("empty", None)];
    assert_eq!(headers, [first, vec![], vec![]]);
    assert!(read.records.iter().all(|record| !record.value.contains("headers")), "the value holds the row alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_key_becomes_the_key_of_the_record() {
    let kafka = Cluster::shared();
    kafka.create_topic("upserts", 1).await;
    let definition = definition(&["id"]);
    let factory = table(&definition, &kafka.servers, &[("topic", "upserts")]).sink().unwrap();
    assert_eq!(factory.mode(), SinkMode::Upsert(vec!["id".into()]));
    assert_eq!(factory.describe(), format!("kafka topic upserts at {}", kafka.servers));
    let mut sink = factory.open(sink_context(&definition)).await.unwrap().at_once().unwrap();
    sink.write(batch(&definition, 7, 1)).await.unwrap();
    sink.close().await.unwrap();
    let read = Reading::all(&kafka.servers, "upserts", &[]).await;
    assert_eq!(read.records[0].key.as_deref(), Some(r#"{"id":7}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_broker_refuses_names_topic_and_size() {
    let kafka = Cluster::shared();
    kafka.create_topic("too-large", 1).await;
    let definition = definition(&["id"]);
    let mut sink = open(&definition, &kafka.servers, "too-large").await;
    // Random enough not to be pressed below the broker's limit of a megabyte.
    let mut state = 1_u64;
    let noise: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        char::from(b'!' + (state >> 58) as u8 % 64 + 1).to_ascii_lowercase()
    })
    .filter(|c| *c != '\\' && *c != '"')
    .take(3_000_000)
    .collect();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec![noise.as_str()]))];
    sink.write(RecordBatch::try_new(definition.writable_schema(), columns).unwrap()).await.unwrap();
    let error = sink.flush().await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "Kafka at {}: topic too-large refuses a record of 3000026 bytes as too large; raise the topic's \
             'max.message.bytes' (and 'properties.message.max.bytes' if it is set), or write smaller rows",
            kafka.servers
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_for_a_broker_that_is_away() {
    let kafka = Cluster::start();
    kafka.create_topic("patient", 1).await;
    let definition = definition(&[]);
    let mut sink = open(&definition, &kafka.servers, "patient").await;
    sink.write(batch(&definition, 0, 10)).await.unwrap();
    sink.flush().await.unwrap();
    kafka.stop_broker();
    sink.write(batch(&definition, 10, 10)).await.unwrap();
    let flushed = tokio::spawn(async move { sink.flush().await });
    let away = format!("waiting for Kafka at {}", kafka.servers);
    while !log().contains(&away) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(log().contains("(10 records not acknowledged)"), "{}", log());
    kafka.start_broker(1);
    flushed.await.unwrap().unwrap();
    assert!(log().contains(&format!("Kafka at {} is back after", kafka.servers)), "{}", log());
    assert_eq!(Reading::all(&kafka.servers, "patient", &[]).await.records.len(), 20);
}
