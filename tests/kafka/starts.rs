//! Where reading begins is decided once: a run that goes on from a checkpoint decides nothing anew, also for partitions
//! of which nothing was read.

use std::time::{Duration, Instant};

use acequia::connectors::{BEGINNING, Positions, SourceContext};
use acequia::time::Epoch;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::cluster::Cluster;
use crate::embedded::{feed, until_let_go, within};
use crate::table::{Reading, at, bounded, unbounded};

type Pairs<'a> = &'a [(&'a str, &'a str)];

const LATEST: [(&str, &str); 1] = [("source.offset", "latest")];

fn positions<const N: usize>(of: [(&str, i64); N]) -> Positions {
    of.into_iter().map(|(split, offset)| (split.to_owned(), offset)).collect()
}

/// What a run reads that goes on from `context`, up to what is there now.
async fn rest(kafka: &Cluster, topic: &str, pairs: &[(&str, &str)], context: SourceContext) -> Reading {
    let mut read = Reading::open(&kafka.servers, topic, pairs, context).await;
    read.until(|read| read.ended).await;
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_to_be_skipped_stays_skipped_and_what_comes_meanwhile_is_read() {
    let kafka = Cluster::shared();
    let millis = [("source.offset", "timestamp"), ("scan.startup.timestamp-millis", "1500")];
    let offsets = [
        ("source.offset", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:0,offset:3;partition:1,offset:3"),
    ];
    // Records are a second apart, the first at 1 s.
    let cases: [(&str, Pairs, usize, i64); 3] =
        [("skip-latest", &LATEST, 0, 3), ("skip-time", &millis, 4, 1), ("skip-offset", &offsets, 0, 3)];
    for (topic, pairs, at_first, begins) in cases {
        kafka.create_topic(topic, 2).await;
        kafka.produce(topic, 0, &["a", "b", "c"]);
        kafka.produce(topic, 1, &["d", "e", "f"]);
        // The first checkpoint, before a record was read.
        let mut read = Reading::open(&kafka.servers, topic, pairs, unbounded()).await;
        read.until(|read| read.splits.len() == 2).await;
        let [first, second] = [0, 1].map(|partition| format!("{topic}[{partition}]"));
        assert_eq!(read.positions, positions([(&first, begins), (&second, begins)]), "{topic}");
        // Later ones: partition 0 has had a record, partition 1 none.
        kafka.produce(topic, 0, &["new"]);
        read.until(|read| read.records.len() == at_first + 1).await;
        let resumed = read.resumed(bounded());
        drop(read);
        kafka.produce(topic, 1, &["meanwhile"]);
        let read = rest(kafka, topic, pairs, resumed).await;
        assert_eq!(read.values(), ["meanwhile"], "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_read_nothing_skips_nothing_that_comes_after_it() {
    let kafka = Cluster::shared();
    kafka.create_topic("quiet", 1).await;
    kafka.produce("quiet", 0, &["old"]);
    let mut read = Reading::open(&kafka.servers, "quiet", &LATEST, unbounded()).await;
    read.until(|read| !read.caught_up.is_empty()).await;
    assert_eq!(read.source().lag(), [("quiet[0]".to_owned(), 0)]);
    let resumed = read.resumed(bounded());
    drop(read);
    kafka.produce("quiet", 0, &["while it was stopped"]);
    assert_eq!(rest(kafka, "quiet", &LATEST, resumed).await.values(), ["while it was stopped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_younger_than_the_pipeline_is_read_from_its_beginning_also_after_a_restart() {
    let kafka = Cluster::shared();
    let pairs = [("partition_discovery", "500 ms"), ("source.offset", "latest")];
    // A topic that is not there before the run is over.
    let mut read = Reading::open(&kafka.servers, "young", &pairs, unbounded()).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while read.source().origin().is_none_or(|origin| !origin.contains("partitions of young 0")) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let resumed = read.resumed(unbounded());
    drop(read);
    kafka.create_topic("young", 1).await;
    kafka.produce("young", 0, &["first"]);
    let mut read = Reading::open(&kafka.servers, "young", &pairs, resumed).await;
    read.until(|read| read.records.len() == 1).await;
    // A partition that comes while it is read, without a record until it is over.
    kafka.add_partitions("young", 2).await;
    read.until(|read| read.splits.len() == 2).await;
    assert_eq!(read.positions, positions([("young[0]", 1), ("young[1]", BEGINNING)]));
    let resumed = read.resumed(bounded());
    drop(read);
    kafka.produce("young", 1, &["second"]);
    // And one that comes when nobody looks.
    kafka.add_partitions("young", 3).await;
    kafka.produce("young", 2, &["third"]);
    let mut read = rest(kafka, "young", &pairs, resumed).await;
    read.records.sort_by(|a, b| a.split.cmp(&b.split));
    assert_eq!(read.values(), ["second", "third"]);
}

/// The first checkpoint may be of a moment when only some of the instances have begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_no_checkpoint_has_though_it_was_there_at_the_start_is_not_taken_for_a_new_one() {
    let kafka = Cluster::shared();
    kafka.create_topic("halfway", 2).await;
    kafka.produce("halfway", 0, &["a"]);
    kafka.produce("halfway", 1, &["b"]);
    let alone = SourceContext { instances: 2, ..unbounded() };
    let mut read = Reading::open(&kafka.servers, "halfway", &LATEST, alone).await;
    read.until(|read| read.splits.len() == 1).await;
    let resumed = read.resumed(bounded());
    assert_eq!(resumed.positions, at("halfway[0]", 1));
    assert_eq!(rest(kafka, "halfway", &LATEST, resumed).await.values(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_moves_on_before_anything_was_read_is_no_loss() {
    let kafka = Cluster::shared();
    kafka.create_topic("moving", 2).await;
    let mut read = Reading::open(&kafka.servers, "moving", &[("group_id", "moving-group")], unbounded()).await;
    read.until(|read| read.splits.len() == 2).await;
    kafka.produce("moving", 1, &["a"]);
    read.until(|read| read.records.len() == 1).await;
    let resumed = read.resumed(bounded());
    assert_eq!(resumed.positions, positions([("moving[0]", BEGINNING), ("moving[1]", 1)]));
    // The group hears of numbers only.
    let committed = resumed.positions.clone();
    read.source().committed(Epoch(1), &committed).await.unwrap();
    let group: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &kafka.servers).set("group.id", "moving-group").create().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut list = TopicPartitionList::new();
        list.add_partition_range("moving", 0, 1);
        let known = group.committed_offsets(list, Duration::from_secs(10)).unwrap();
        let offsets = [0, 1].map(|partition| known.find_partition("moving", partition).unwrap().offset());
        if offsets == [Offset::Invalid, Offset::Offset(1)] {
            break;
        }
        assert!(Instant::now() < deadline, "{offsets:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(read);
    kafka.produce("moving", 0, &["b", "c", "d"]);
    kafka.delete_before("moving", 2).await;
    assert_eq!(rest(kafka, "moving", &[], resumed).await.values(), ["d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_losses_are_not_followed_by_silent_ones() {
    let kafka = Cluster::shared();
    kafka.create_topic("again", 2).await;
    kafka.produce("again", 0, &["a"]);
    kafka.produce("again", 1, &["b", "c"]);
    let mut read = Reading::open(&kafka.servers, "again", &[], unbounded()).await;
    read.until(|read| read.records.len() == 3).await;
    let resumed = read.resumed(unbounded());
    drop(read);
    kafka.delete_topic("again").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    kafka.create_topic("again", 2).await;
    let accepting = SourceContext { accept_lost_input: true, ..resumed };
    let mut read = Reading::open(&kafka.servers, "again", &[], accepting).await;
    kafka.produce("again", 0, &["new"]);
    read.until(|read| read.records.len() == 1).await;
    assert_eq!(read.positions, positions([("again[0]", 1), ("again[1]", BEGINNING)]));
    let resumed = read.resumed(bounded());
    drop(read);
    kafka.produce("again", 1, &["d", "e", "f"]);
    assert_eq!(rest(kafka, "again", &[], resumed).await.values(), ["d", "e", "f"]);

    // A partition that has lost its end.
    kafka.create_topic("shorter", 1).await;
    kafka.produce("shorter", 0, &["a"]);
    let accepting = SourceContext { positions: at("shorter[0]", 4), accept_lost_input: true, ..bounded() };
    let resumed = rest(kafka, "shorter", &[], accepting).await.resumed(bounded());
    assert_eq!(resumed.positions, at("shorter[0]", 1));
    kafka.produce("shorter", 0, &["b", "c", "d", "e"]);
    assert_eq!(rest(kafka, "shorter", &[], resumed).await.values(), ["b", "c", "d", "e"]);
}

/// Values with keys whose homes are the partitions with these numbers.
fn keyed<const N: usize>(of: [(usize, &str); N]) -> [(Option<String>, String); N] {
    of.map(|(partition, value)| (Some(["k2", "k3", "k0"][partition].to_owned()), value.to_owned()))
}

/// What an embedded topic has for a run that goes on from `context`, sorted.
async fn embedded_rest(topic: &str, pairs: &[(&str, &str)], context: SourceContext) -> (Vec<String>, Positions) {
    let mut read = Reading::open("embedded", topic, pairs, context).await;
    read.until(|read| read.ended).await;
    let mut values: Vec<String> = read.values().into_iter().map(str::to_owned).collect();
    values.sort();
    (values, read.positions)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_topic_begins_where_it_was_decided_at_first() {
    let place = tempfile::tempdir().unwrap();
    let context = |context| within(place.path(), context);
    feed(place.path(), "skip", keyed([(0, "a"), (1, "b"), (1, "c")])).await;
    let mut read = Reading::open("embedded", "skip", &LATEST, context(unbounded())).await;
    read.until(|read| read.splits.len() == 3).await;
    let begins = positions([("skip[0]", 1), ("skip[1]", 2), ("skip[2]", 0)]);
    assert_eq!(read.positions, begins);
    let nothing_read = read.resumed(context(bounded()));
    feed(place.path(), "skip", keyed([(0, "new")])).await;
    read.until(|read| read.records.len() == 1).await;
    let resumed = read.resumed(context(bounded()));
    drop(read);
    feed(place.path(), "skip", keyed([(1, "meanwhile"), (2, "then")])).await;
    assert_eq!(embedded_rest("skip", &LATEST, resumed).await.0, ["meanwhile", "then"]);
    assert_eq!(embedded_rest("skip", &LATEST, nothing_read.clone()).await.0, ["meanwhile", "new", "then"]);
    // Not in the checkpoint, though it was there: it is no new one.
    let mut halfway = nothing_read;
    halfway.positions.remove("skip[1]");
    assert_eq!(embedded_rest("skip", &LATEST, halfway).await.0, ["new", "then"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_an_embedded_topic_moves_with_its_retention_and_its_loss_is_accepted_once() {
    let place = tempfile::tempdir().unwrap();
    let context = |context| within(place.path(), context);
    feed(place.path(), "moving", keyed([(1, "a")])).await;
    let (values, positions_before) = embedded_rest("moving", &[], context(bounded())).await;
    let begun = positions([("moving[0]", BEGINNING), ("moving[1]", 1), ("moving[2]", BEGINNING)]);
    assert_eq!((values, &positions_before), (vec!["a".to_owned()], &begun));
    let large = (0..300).map(|_| (Some("k2".to_owned()), "v".repeat(1000)));
    let retention = [("embedded_retention", "100KB")];
    let keeping = Reading::open("embedded", "moving", &retention, context(unbounded())).await;
    for record in large {
        feed(place.path(), "moving", [record]).await;
    }
    drop(keeping);
    let going_on = || SourceContext { positions: at("moving[0]", BEGINNING), ..context(bounded()) };
    let mut read = Reading::open("embedded", "moving", &retention, going_on()).await;
    read.until(|read| read.ended).await;
    let first = read.records.iter().find(|record| record.split == "moving[0]").unwrap().offset;
    assert!(first > 0, "retention took none");
    let origin = read.source().origin();
    drop(read);

    // Made anew, and its second partition has nothing until the run that accepts it is over.
    until_let_go(place.path()).await;
    std::fs::remove_dir_all(place.path().join("kafka/moving")).unwrap();
    feed(place.path(), "moving", keyed([(0, "new")])).await;
    let positions_before = positions([("moving[0]", 1), ("moving[1]", 2)]);
    let accepting =
        SourceContext { positions: positions_before, origin, accept_lost_input: true, ..context(unbounded()) };
    let mut read = Reading::open("embedded", "moving", &[], accepting).await;
    read.until(|read| read.records.len() == 1).await;
    let resumed = read.resumed(context(bounded()));
    drop(read);
    feed(place.path(), "moving", keyed([(1, "b"), (1, "c"), (1, "d")])).await;
    assert_eq!(embedded_rest("moving", &[], resumed).await.0, ["b", "c", "d"]);
}
