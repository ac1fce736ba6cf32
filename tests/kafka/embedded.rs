//! The Kafka inside the process: what a demo needs of it.

use acequia::connectors::kafka::embedded;
use acequia::connectors::kafka::producer::Feeder;
use tokio_util::sync::CancellationToken;

use crate::table::{Reading, definition, log, table, unbounded};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fed_is_read() {
    let embedded = table(&definition(&[]), "embedded", &[("topic", "fed")]);
    assert_eq!(embedded.embedded(), Some("Kafka"));
    let factory = embedded.source().unwrap();
    assert_eq!(factory.describe(), "kafka topic fed (embedded)");
    assert_eq!(factory.instances(&unbounded(), 8).await.unwrap(), embedded::PARTITIONS as usize);

    let mut feeder = Feeder::new("embedded", "feeder", CancellationToken::new()).unwrap();
    for number in 0..30_000 {
        let (key, value) = (format!("k{}", number % 10), format!("{{\"number\":{number}}}"));
        feeder.send("fed", Some(key.as_bytes()), value.as_bytes()).await.unwrap();
    }
    feeder.flush().await.unwrap();
    let read = Reading::all("embedded", "fed", &[]).await;
    assert_eq!((read.splits.len(), read.records.len()), (3, 30_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_logged() {
    let mut feeder = Feeder::new("embedded", "feeder", CancellationToken::new()).unwrap();
    // The cluster keeps 100,000 records of a partition; one key is one partition.
    for _ in 0..120_000 {
        feeder.send("gap", Some(b"k"), b"{}").await.unwrap();
    }
    feeder.flush().await.unwrap();
    let start = [("source.offset", "specific-offsets")];
    let offsets = [("scan.startup.specific-offsets", "partition:0,offset:0;partition:1,offset:0;partition:2,offset:0")];
    let reset = [("properties.auto.offset.reset", "earliest")];
    let options = [start, offsets, reset].concat();
    let read = Reading::all("embedded", "gap", &options).await;
    assert!(read.records.len() < 120_000, "{}", read.records.len());
    assert!(log().contains("before they were read: it keeps the newest 5 MB of a partition"), "{}", log());
}
