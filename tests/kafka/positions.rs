//! Positions of a checkpoint that do not fit what is there: an error that says the way out, or a warning.

use std::time::Duration;

use acequia::connectors::SourceContext;
use rdkafka::producer::Producer;

use crate::cluster::Cluster;
use crate::table::{Reading, at, bounded, log, unbounded};

/// Reading that goes on from an offset of partition 0.
fn restored(topic: &str, offset: i64, accept: bool) -> SourceContext {
    SourceContext { positions: at(&format!("{topic}[0]"), offset), accept_lost_input: accept, ..bounded() }
}

/// What a source says that goes on from `context`.
async fn refusal(kafka: &Cluster, topic: &str, context: SourceContext) -> String {
    let error = Reading::open(&kafka.servers, topic, &[], context).await.error().await;
    error.strip_prefix(&format!("Kafka at {}: ", kafka.servers)).unwrap().to_owned()
}

/// The values that are read when what is lost is accepted.
async fn accepted(kafka: &Cluster, topic: &str, context: SourceContext) -> Vec<String> {
    let context = SourceContext { accept_lost_input: true, ..context };
    let mut read = Reading::open(&kafka.servers, topic, &[], context).await;
    read.until(|read| read.ended).await;
    read.values().into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_took_are_counted() {
    let kafka = Cluster::shared();
    kafka.create_topic("short", 1).await;
    kafka.produce("short", 0, &["a", "b", "c", "d"]);
    kafka.delete_before("short", 3).await;
    assert_eq!(
        refusal(kafka, "short", restored("short", 1, false)).await,
        "partition short[0] begins at offset 3, after 1, where reading was to go on: up to 2 records were deleted by the \
         topic's retention before they were read. To go on without them, run with --accept-lost-input"
    );
    assert_eq!(accepted(kafka, "short", restored("short", 1, true)).await, ["d"]);
    assert!(log().contains("up to 2 records were deleted by the topic's retention before they were read; going on"));
    // Nothing is missing after the last that was read.
    assert_eq!(accepted(kafka, "short", restored("short", 3, false)).await, ["d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_ends_before_the_position_is_told() {
    let kafka = Cluster::shared();
    kafka.create_topic("cut", 1).await;
    kafka.produce("cut", 0, &["a"]);
    assert_eq!(
        refusal(kafka, "cut", restored("cut", 9, false)).await,
        "partition cut[0] ends at offset 1, before 9, where reading was to go on: the topic was made anew or has lost \
         its last 8 records. To go on without them, run with --accept-lost-input"
    );
    assert_eq!(accepted(kafka, "cut", restored("cut", 9, true)).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_another_even_if_it_is_longer() {
    let kafka = Cluster::shared();
    kafka.create_topic("anew", 1).await;
    kafka.produce("anew", 0, &["old"]);
    let mut read = Reading::open(&kafka.servers, "anew", &[], unbounded()).await;
    read.until(|read| !read.caught_up.is_empty()).await;
    let origin = read.source().origin();
    let known = origin.clone().unwrap();
    assert!(known.starts_with("cluster ") && known.contains("; anew "), "{known}");
    drop(read);
    let context = || SourceContext { origin: origin.clone(), ..restored("anew", 1, false) };
    assert_eq!(accepted(kafka, "anew", context()).await, Vec::<String>::new());

    kafka.delete_topic("anew").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    kafka.create_topic("anew", 1).await;
    kafka.produce("anew", 0, &["new", "newer", "newest"]);
    let said = refusal(kafka, "anew", context()).await;
    let way_out = "records that were not read are lost. To go on with the first record of the new topic, run with \
                   --accept-lost-input";
    assert!(said.starts_with("topic anew was deleted and made anew since the checkpoint (its id was "), "{said}");
    assert!(said.ends_with(way_out), "{said}");
    assert_eq!(accepted(kafka, "anew", context()).await, ["new", "newer", "newest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_told() {
    let kafka = Cluster::shared();
    kafka.create_topic("elsewhere", 1).await;
    kafka.produce("elsewhere", 0, &["a", "b"]);
    let context = || SourceContext { origin: Some("cluster their-id".into()), ..restored("elsewhere", 1, false) };
    let said = refusal(kafka, "elsewhere", context()).await;
    assert!(said.starts_with("the checkpoint was made with another cluster (their-id; this one is "), "{said}");
    assert!(said.contains("Point 'bootstrap_servers' to that cluster, begin anew with --fresh, or"), "{said}");
    assert_eq!(accepted(kafka, "elsewhere", context()).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_or_topic_that_is_gone_is_told() {
    let kafka = Cluster::shared();
    kafka.create_topic("fewer", 1).await;
    let mut context = restored("fewer", 0, false);
    context.positions.insert("fewer[3]".into(), 17);
    assert_eq!(
        refusal(kafka, "fewer", context).await,
        "partition fewer[3], which the checkpoint has read, does not exist any more: the topic has 1 partitions; records \
         that were not read are lost. To go on without them, run with --accept-lost-input"
    );
    let mut context = restored("gone-by-now", 4, false);
    context.bounded = false;
    assert_eq!(
        refusal(kafka, "gone-by-now", context).await,
        "topic gone-by-now, which the checkpoint has read, does not exist any more; records that were not read are lost. \
         To go on without them, run with --accept-lost-input"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_with_an_open_transaction_is_not_caught_up() {
    let kafka = Cluster::shared();
    kafka.create_topic("pending", 1).await;
    kafka.produce("pending", 0, &["before"]);
    let transaction = kafka.open_transaction("pending", &["held back"]);
    let mut read = Reading::open(&kafka.servers, "pending", &[], unbounded()).await;
    read.until(|read| read.records.len() == 1).await;
    let silent = tokio::time::timeout(Duration::from_secs(2), read.until(|read| !read.caught_up.is_empty())).await;
    assert!(silent.is_err(), "records of an open transaction are still to come");
    transaction.commit_transaction(Duration::from_secs(20)).unwrap();
    read.until(|read| read.records.len() == 2 && !read.caught_up.is_empty()).await;
    // A marker of a transaction is the last thing in the partition; the end is reached all the same.
    let transaction = kafka.open_transaction("pending", &["taken back"]);
    transaction.abort_transaction(Duration::from_secs(20)).unwrap();
    kafka.produce("pending", 0, &["after"]);
    read.until(|read| read.records.len() == 3 && !read.caught_up.is_empty()).await;
    assert_eq!(read.values(), ["before", "held back", "after"]);
}
