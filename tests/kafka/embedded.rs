//! The Kafka inside the process: what a demo needs of it.

use acequia::connectors::kafka::embedded;
use acequia::connectors::kafka::producer::Feeder;
use tokio_util::sync::CancellationToken;

use crate::table::{Reading, definition, log, table, unbounded};

/// An odd number without pattern.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

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
    // The cluster keeps 5 MB of a partition, and one key is one partition. Digits of a hash are hard to compress.
    for number in 0..120_000_u128 {
        let value = format!("{:032x}{:032x}{number}", number.wrapping_mul(SPREAD), (number << 1).wrapping_mul(SPREAD));
        feeder.send("gap", Some(b"k"), value.as_bytes()).await.unwrap();
    }
    feeder.flush().await.unwrap();
    let options = [
        ("source.offset", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:0,offset:0;partition:1,offset:0;partition:2,offset:0"),
    ];
    let read = Reading::all("embedded", "gap", &options).await;
    assert!(!read.records.is_empty() && read.records.len() < 120_000, "{}", read.records.len());
    assert!(log().contains("before they were read: it keeps the newest 5 MB of a partition"), "{}", log());
}
