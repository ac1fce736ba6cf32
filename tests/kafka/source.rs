//! Reading: where it begins, where it ends, and what it survives.

use std::time::{Duration, Instant};

use acequia::time::Epoch;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::cluster::{Cluster, until_over};
use crate::table::{Reading, at, bounded, definition, log, table, unbounded};

type Pairs<'a> = &'a [(&'a str, &'a str)];

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_earliest_a_moment_or_an_offset() {
    let kafka = Cluster::shared();
    kafka.create_topic("starts", 1).await;
    kafka.produce("starts", 0, &["a", "b", "c"]);
    let cases: [(Pairs, &[&str]); 5] = [
        (&[], &["a", "b", "c"]),
        (&[("source.offset", "latest")], &[]),
        (&[("source.offset", "timestamp"), ("scan.startup.timestamp-millis", "1500")], &["b", "c"]),
        (&[("source.offset", "timestamp"), ("scan.startup.timestamp-millis", "9000")], &[]),
        (&[("source.offset", "specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:2")], &["c"]),
    ];
    for (options, expected) in cases {
        let read = Reading::all(&kafka.servers, "starts", options).await;
        assert_eq!(read.values(), expected, "{options:?}");
        assert_eq!((read.splits, read.split_ends), (vec!["starts[0]".into()], vec!["starts[0]".to_string()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_sees_what_comes_after_the_split_is_announced() {
    let kafka = Cluster::shared();
    kafka.create_topic("latest", 1).await;
    kafka.produce("latest", 0, &["old"]);
    let mut read = Reading::open(&kafka.servers, "latest", &[("source.offset", "latest")], unbounded()).await;
    read.until(|read| read.splits.len() == 1).await;
    kafka.produce("latest", 0, &["new"]);
    read.until(|read| !read.records.is_empty()).await;
    assert_eq!(read.values(), ["new"]);
    assert_eq!(read.records[0].timestamp, Some(1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_are_skipped_and_do_not_hide_the_end() {
    let kafka = Cluster::shared();
    kafka.create_topic("transactions", 1).await;
    kafka.produce_in_transaction("transactions", &["a", "b"], true);
    kafka.produce_in_transaction("transactions", &["lost"], false);
    until_over(&kafka.servers, "transactions");
    let read = Reading::all(&kafka.servers, "transactions", &[]).await;
    assert_eq!(read.values(), ["a", "b"]);
    let read = Reading::all(&kafka.servers, "transactions", &[("source.read_mode", "read_uncommitted")]).await;
    assert_eq!(read.values(), ["a", "b", "lost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_topic_is_caught_up_with_at_once() {
    let kafka = Cluster::shared();
    kafka.create_topic("empty", 2).await;
    let mut read = Reading::open(&kafka.servers, "empty", &[], unbounded()).await;
    read.until(|read| read.caught_up.len() == 2).await;
    let read = Reading::all(&kafka.servers, "empty", &[]).await;
    assert_eq!((read.records.len(), read.split_ends.len()), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_waited_for() {
    let kafka = Cluster::shared();
    let mut read = Reading::open(&kafka.servers, "to-come", &[("source.offset", "latest")], unbounded()).await;
    let line = format!("topic to-come does not exist yet at {}; waiting", kafka.servers);
    while !log().contains(&line) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    kafka.create_topic("to-come", 1).await;
    kafka.produce("to-come", 0, &["first"]);
    read.until(|read| read.records.len() == 1).await;
    assert_eq!(read.values(), ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_run_does_not_wait_for_a_topic() {
    let kafka = Cluster::shared();
    let mut read = Reading::open(&kafka.servers, "nowhere", &[], bounded()).await;
    assert_eq!(
        read.error().await,
        format!(
            "Kafka at {}: topic nowhere does not exist, and a bounded run does not wait for it; create it, for example \
             with kafka-topics.sh --create --topic nowhere",
            kafka.servers
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_are_found_and_read_from_their_start() {
    let kafka = Cluster::shared();
    kafka.create_topic("growing", 1).await;
    let options = [("partition_discovery", "500 ms"), ("source.offset", "latest")];
    let mut read = Reading::open(&kafka.servers, "growing", &options, unbounded()).await;
    read.until(|read| read.caught_up.len() == 1).await;
    kafka.add_partitions("growing", 2).await;
    kafka.produce("growing", 1, &["first"]);
    read.until(|read| read.records.len() == 1).await;
    assert_eq!((read.splits.len(), read.records[0].split.as_str()), (2, "growing[1]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_dealt_to_instances_by_their_number() {
    let kafka = Cluster::shared();
    kafka.create_topic("dealt", 3).await;
    let factory = table(&definition(&[]), &kafka.servers, &[("topic", "dealt")]).source().unwrap();
    assert_eq!(factory.instances(&unbounded(), 8).await.unwrap(), 3);
    assert_eq!(factory.instances(&unbounded(), 2).await.unwrap(), 2);
    assert_eq!(factory.describe(), format!("kafka topic dealt at {}", kafka.servers));
    for (instance, expected) in [(0, vec!["dealt[0]", "dealt[2]"]), (1, vec!["dealt[1]"])] {
        let mut context = bounded();
        (context.instance, context.instances) = (instance, 2);
        let mut read = Reading::open(&kafka.servers, "dealt", &[], context).await;
        read.until(|read| read.ended).await;
        assert_eq!(read.splits, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_position_is_gone_on_from_and_committed_to_the_group() {
    let kafka = Cluster::shared();
    kafka.create_topic("restored", 1).await;
    kafka.produce("restored", 0, &["a", "b", "c", "d"]);
    let mut context = unbounded();
    context.positions = at("restored[0]", 2);
    let mut read = Reading::open(&kafka.servers, "restored", &[("group_id", "watched")], context).await;
    read.until(|read| !read.caught_up.is_empty()).await;
    assert_eq!(read.values(), ["c", "d"]);
    assert_eq!(read.source().lag(), [("restored[0]".to_owned(), 0)]);
    read.source().committed(Epoch(1), &at("restored[0]", 4)).await.unwrap();

    let group: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &kafka.servers).set("group.id", "watched").create().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut list = TopicPartitionList::new();
        list.add_partition("restored", 0);
        let committed = group.committed_offsets(list, Duration::from_secs(10)).unwrap();
        if committed.find_partition("restored", 0).unwrap().offset() == Offset::Offset(4) {
            break;
        }
        assert!(Instant::now() < deadline, "{committed:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_while_it_is_read_is_an_error() {
    let kafka = Cluster::shared();
    kafka.create_topic("deleted", 1).await;
    kafka.produce("deleted", 0, &["a"]);
    let options = [("partition_discovery", "500 ms")];
    let mut read = Reading::open(&kafka.servers, "deleted", &options, unbounded()).await;
    read.until(|read| !read.caught_up.is_empty()).await;
    kafka.delete_topic("deleted").await;
    assert_eq!(
        read.error().await,
        format!(
            "Kafka at {}: topic deleted was deleted while it was read; create it again and start without the old \
             checkpoint",
            kafka.servers
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_is_waited_for() {
    let kafka = Cluster::start();
    kafka.create_topic("outage", 1).await;
    kafka.produce("outage", 0, &["before"]);
    let mut read = Reading::open(&kafka.servers, "outage", &[], unbounded()).await;
    read.until(|read| !read.caught_up.is_empty()).await;
    kafka.stop_broker();
    let away = format!("waiting for Kafka at {}", kafka.servers);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !log().contains(&away) {
        assert!(Instant::now() < deadline, "{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    kafka.start_broker(1);
    kafka.produce("outage", 0, &["after"]);
    read.until(|read| read.records.len() == 2).await;
    assert_eq!(read.values(), ["before", "after"]);
    assert!(log().contains(&format!("Kafka at {} is back after", kafka.servers)), "{}", log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_is_waited_for_until_the_pipeline_stops() {
    let context = unbounded();
    let stop = context.stop.clone();
    let mut read = Reading::open("127.0.0.1:1", "anything", &[], context).await;
    let stopper = async {
        while !log().contains("waiting for Kafka at 127.0.0.1:1: no answer (attempt 1)") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.cancel();
    };
    let (error, ()) = tokio::join!(read.error(), stopper);
    assert_eq!(error, "stopped while waiting for Kafka at 127.0.0.1:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_megabyte_passes() {
    let kafka = Cluster::shared();
    kafka.create_topic("large", 1).await;
    let large = "x".repeat(1_000_000);
    kafka.produce("large", 0, &["small", &large, "small"]);
    let read = Reading::all(&kafka.servers, "large", &[]).await;
    let sizes: Vec<usize> = read.records.iter().map(|record| record.value.len()).collect();
    assert_eq!(sizes, [5, 1_000_000, 5]);
}
