//! Records of Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use acequia::generator::{Destinations, End, Figures, GeneratorOptions, Pace};
use acequia::shop::{Ledger, ShopEvents, ShopOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

use crate::kafka::Cluster;
use crate::{START, feed, past, shop_options};

const TOPICS: [&str; 4] = ["transactions", "user_behavior", "searches", "cart_events"];
const PARTITIONS: i32 = 3;

/// All records: topic, key, value.
fn records(servers: &str) -> Vec<(String, String, Vec<u8>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "counts")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for topic in TOPICS {
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    let (mut found, mut open) = (vec![], list.count());
    let deadline = Instant::now() + Duration::from_secs(100);
    while open > 0 {
        assert!(Instant::now() < deadline, "{} records, {open} partitions not at their end", found.len());
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(record) => {
                let record = record.unwrap();
                let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
                found.push((record.topic().to_owned(), key, record.payload().unwrap().to_vec()));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_hold_each_event_of_the_seed_once_under_its_customer() {
    const COUNT: u64 = 20_000;
    let kafka = Cluster::start();
    for topic in TOPICS {
        kafka.create_topic(topic, PARTITIONS).await;
    }
    let destination = || Destinations::Topics { bootstrap_servers: kafka.servers.clone() };
    let written = feed(destination(), past(5, START, COUNT)).await.unwrap();
    assert_eq!(written.events, COUNT);
    let mut ledger = Ledger::new(30_000);
    let mut expected: Vec<Vec<u8>> = vec![];
    let mut events = ShopEvents::new(shop_options(5, START));
    for _ in 0..COUNT {
        let mut json = vec![];
        let (event, at) = events.next_into(&mut json);
        ledger.add(events.catalogue(), &event, at);
        expected.push(json);
    }
    let found = records(&kafka.servers);
    let mut kinds: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for (topic, key, value) in &found {
        let value: Value = serde_json::from_slice(value).unwrap();
        assert_eq!(*key, value["customer_id"].to_string());
        *kinds.entry((topic, value["event_type"].as_str().unwrap().to_owned())).or_default() += 1;
    }
    let counted: BTreeMap<(&str, String), u64> =
        ledger.counts.iter().map(|((topic, kind), count)| ((*topic, (*kind).to_owned()), *count)).collect();
    assert_eq!(kinds, counted);
    let mut values: Vec<Vec<u8>> = found.into_iter().map(|(.., value)| value).collect();
    values.sort_unstable();
    expected.sort_unstable();
    assert!(values == expected, "the events of the seed, byte for byte");

    // At full speed: the events have the clock's times, and all are there when it says that it is done.
    let before = chrono::Utc::now();
    let fast = GeneratorOptions {
        shop: ShopOptions::default(),
        pace: Pace::Unbound,
        end: End::Events(100_000),
        figures: Arc::new(Figures::default()),
    };
    let began = Instant::now();
    assert_eq!(feed(destination(), fast).await.unwrap().events, 100_000);
    println!("{:.0} events/s to Kafka", 100_000.0 / began.elapsed().as_secs_f64());
    let found = records(&kafka.servers);
    assert_eq!(found.len() as u64, COUNT + 100_000);
    let new = found.iter().filter(|(.., value)| {
        let value: Value = serde_json::from_slice(value).unwrap();
        let time = chrono::DateTime::parse_from_rfc3339(value["timestamp"].as_str().unwrap()).unwrap();
        // Milliseconds are cut off.
        time >= before - chrono::TimeDelta::milliseconds(1) && time <= chrono::Utc::now()
    });
    assert_eq!(new.count(), 100_000);
}
