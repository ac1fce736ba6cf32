//! The Kafka in the data folder: read and written as the real one is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use acequia::connectors::delivery::{Delivery, EpochSink, OpenSink};
use acequia::connectors::kafka::embedded::{Feeder, PARTITIONS, look};
use acequia::connectors::{ConnectorError, ConnectorTable, SinkContext, SourceContext};
use acequia::time::{Epoch, LogId};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::delivery;
use crate::sink::batch;
use crate::table::{Reading, at, bounded, definition, log, sink_context, table, unbounded};

fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A source's context in that data folder.
pub fn within(place: &Path, context: SourceContext) -> SourceContext {
    SourceContext { data_dir: place.to_owned(), ..context }
}

/// Records with these keys and values.
pub async fn feed(place: &Path, topic: &str, records: impl IntoIterator<Item = (Option<String>, String)>) {
    let mut feeder = Feeder::open(place, CancellationToken::new()).await.unwrap();
    for (key, value) in records {
        feeder.send(topic, key.as_ref().map(String::as_bytes), value.as_bytes()).await.unwrap();
    }
    feeder.flush().await.unwrap();
}

fn numbers(count: usize) -> impl Iterator<Item = (Option<String>, String)> {
    (0..count).map(|number| (Some(format!("k{}", number % 10)), number.to_string()))
}

/// All that a bounded source of the topic reads.
async fn all(place: &Path, topic: &str, pairs: &[(&str, &str)]) -> Reading {
    let mut read = Reading::open("embedded", topic, pairs, within(place, bounded())).await;
    read.until(|read| read.ended).await;
    read
}

fn embedded(pairs: &[(&str, &str)]) -> std::sync::Arc<dyn ConnectorTable> {
    table(&definition(&[]), "embedded", pairs)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fed_is_read_also_in_another_run() {
    let place = place();
    let fed = embedded(&[("topic", "fed")]);
    assert_eq!(fed.embedded(), Some("Kafka"));
    let factory = fed.source().unwrap();
    assert_eq!(factory.describe(), "kafka topic fed (embedded)");
    assert_eq!(factory.instances(&unbounded(), 8).await.unwrap(), PARTITIONS);
    assert_eq!(factory.consumer_group("shop", "fed").as_deref(), Some("shop-fed"));

    feed(place.path(), "fed", numbers(30_000)).await;
    for _ in 0..2 {
        let read = all(place.path(), "fed", &[]).await;
        assert_eq!(read.splits, ["fed[0]", "fed[1]", "fed[2]"]);
        assert_eq!(read.split_ends.len(), 3);
        assert_eq!(read.records.len(), 30_000);
        let mut home = BTreeMap::new();
        let mut next: BTreeMap<&str, i64> = BTreeMap::new();
        for record in &read.records {
            assert_eq!(home.entry(record.key.clone()).or_insert(&record.split), &&record.split, "a key has one home");
            let next = next.entry(&record.split).or_default();
            assert_eq!((record.offset, record.timestamp.is_some()), (*next, true));
            *next += 1;
        }
    }
    // As Kafka's own clients would deal them.
    let read = all(place.path(), "fed", &[]).await;
    let home = |key: &str| &read.records.iter().find(|record| record.key.as_deref() == Some(key)).unwrap().split;
    assert_eq!((home("k0").as_str(), home("k2").as_str(), home("k3").as_str()), ("fed[2]", "fed[0]", "fed[1]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_woken_by_what_comes_and_knows_its_lag() {
    let place = place();
    let context = within(place.path(), unbounded());
    let mut read = Reading::open("embedded", "live, more", &[], context).await;
    read.until(|read| read.caught_up.len() == 6).await;
    for round in 1..=3 {
        feed(place.path(), "live", numbers(100)).await;
        feed(place.path(), "more", numbers(10)).await;
        read.until(|read| read.records.len() == 110 * round && read.caught_up.len() == 6).await;
        assert!(read.source().lag().iter().all(|(_, lag)| *lag == 0));
    }
    feed(place.path(), "live", numbers(50)).await;
    assert_eq!(read.source().lag().iter().map(|(_, lag)| lag).sum::<i64>(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_share_the_partitions() {
    let place = place();
    feed(place.path(), "shared", numbers(1000)).await;
    let mut found = 0;
    for instance in 0..2 {
        let context = within(place.path(), SourceContext { instance, instances: 2, batch_size: 7, ..bounded() });
        let mut read = Reading::open("embedded", "shared", &[], context).await;
        read.until(|read| read.ended).await;
        assert_eq!(read.splits.len(), 2 - instance);
        found += read.records.len();
    }
    assert_eq!(found, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_where_the_options_say() {
    let place = place();
    feed(place.path(), "starts", (0..9).map(|number| (None, number.to_string()))).await;
    let newest = all(place.path(), "starts", &[]).await.records.iter().filter_map(|record| record.timestamp).max();
    let count = async |pairs: &[(&str, &str)]| all(place.path(), "starts", pairs).await.records.len();
    assert_eq!(count(&[]).await, 9);
    assert_eq!(count(&[("source.offset", "latest")]).await, 0);
    for (millis, expected) in [(1, 9), (newest.unwrap() + 1, 0)] {
        let pairs = [("source.offset", "timestamp"), ("scan.startup.timestamp-millis", &millis.to_string())];
        assert_eq!(count(&pairs).await, expected);
    }
    let specific = [("source.offset", "specific-offsets"), ("scan.startup.specific-offsets", "partition:1,offset:2")];
    assert_eq!(count(&specific).await, 7, "three partitions of three, and two of one are left out");
}

/// Reading that goes on from an offset of partition 0.
fn restored(place: &Path, topic: &str, offset: i64) -> SourceContext {
    within(place, SourceContext { positions: at(&format!("{topic}[0]"), offset), ..bounded() })
}

async fn refusal(topic: &str, pairs: &[(&str, &str)], context: SourceContext) -> String {
    let factory = embedded(&[&[("topic", topic)], pairs].concat()).source().unwrap();
    let error = factory.open(context).await.err().unwrap();
    assert!(matches!(error, ConnectorError::Mismatch { .. }), "{error}");
    error.to_string().split_once("/kafka: ").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_do_not_fit_are_told_in_the_words_of_the_real_one() {
    let place = place();
    feed(place.path(), "cut", [(Some("k2".into()), "a".into())]).await;
    assert_eq!(
        refusal("cut", &[], restored(place.path(), "cut", 9)).await,
        "partition cut[0] ends at offset 1, before 9, where reading was to go on: the topic was made anew or has lost \
         its last 8 records. To go on without them, run with --accept-lost-input"
    );
    let context = SourceContext { accept_lost_input: true, ..restored(place.path(), "cut", 9) };
    let mut read = Reading::open("embedded", "cut", &[], context).await;
    read.until(|read| read.ended).await;
    assert_eq!(read.records.len(), 0);
    let origin = read.source().origin().unwrap();
    assert!(origin.starts_with("cluster embedded-") && origin.contains("; cut "), "{origin}");
    drop(read);

    let here = || SourceContext { origin: Some(origin.clone()), ..restored(place.path(), "cut", 1) };
    let mut read = Reading::open("embedded", "cut", &[], here()).await;
    read.until(|read| read.ended).await;
    assert_eq!(read.records.len(), 0, "its only record was read");
    drop(read);
    let elsewhere = SourceContext { origin: Some("cluster theirs; cut t1".into()), ..here() };
    let said = refusal("cut", &[], elsewhere).await;
    assert!(said.starts_with("the checkpoint was made with another cluster (theirs; this one is embedded-"), "{said}");

    until_let_go(place.path()).await;
    std::fs::remove_dir_all(place.path().join("kafka/cut")).unwrap();
    feed(place.path(), "cut", [(Some("k2".into()), "b".into()), (Some("k2".into()), "c".into())]).await;
    let said = refusal("cut", &[], here()).await;
    assert!(said.starts_with("topic cut was deleted and made anew since the checkpoint (its id was "), "{said}");
    let mut read = Reading::open("embedded", "cut", &[], SourceContext { accept_lost_input: true, ..here() }).await;
    read.until(|read| read.ended).await;
    assert_eq!(read.values(), ["b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_an_error_also_in_the_midst_of_reading() {
    let place = place();
    let pairs = [("embedded_retention", "100KB")];
    let value = || (Some("k2".to_owned()), "v".repeat(1000));
    let context = SourceContext { batch_size: 1, ..within(place.path(), unbounded()) };
    let mut slow = Reading::open("embedded", "short", &pairs, context.clone()).await;
    feed(place.path(), "short", (0..10).map(|_| value())).await;
    slow.until(|read| read.records.len() == 1).await;
    for _ in 0..50 {
        feed(place.path(), "short", (0..10).map(|_| value())).await;
    }
    let said = slow.error().await;
    assert!(said.contains("partition short[0] begins at offset "), "{said}");
    assert!(said.contains("records were deleted by the topic's retention before they were read. To go on"), "{said}");
    let said = refusal("short", &pairs, restored(place.path(), "short", 1)).await;
    assert!(said.contains("after 1, where reading was to go on: up to "), "{said}");
    let accepting = SourceContext { accept_lost_input: true, ..restored(place.path(), "short", 1) };
    let mut read = Reading::open("embedded", "short", &pairs, accepting).await;
    read.until(|read| read.ended).await;
    assert!(read.records.len() >= 50 && read.records.len() < 300, "{}", read.records.len());
    assert!(
        log().contains("records were deleted by the topic's retention before they were read; going on without them")
    );

    let audit = embedded(&[("topic", "short")]).read_back().unwrap();
    let error = audit.open(within(place.path(), bounded())).await.err().unwrap().to_string();
    assert!(error.ends_with(" records were deleted by the topic's retention"), "{error}");
}

/// Waits until nobody in this process has the topics open: the thread of a reader ends a little after the reader.
pub async fn until_let_go(place: &Path) {
    let lock = std::fs::File::open(place.join("kafka/@lock")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while lock.try_lock().is_err() {
        assert!(Instant::now() < deadline, "the topics are not let go");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A run of the pipeline, which goes on from an epoch, and its table.
struct Run {
    number: u64,
    resumed: u64,
    table: &'static str,
}

const FIRST: Run = Run { number: 1, resumed: 0, table: "events" };

impl Run {
    fn context(&self, place: &Path) -> SinkContext {
        let context = delivery::context(&definition(&[]), "embedded", self.number, self.resumed);
        SinkContext { data_dir: place.to_owned(), table: self.table.into(), ..context }
    }

    async fn open(&self, place: &Path, topic: &str) -> Result<(Box<dyn EpochSink>, Option<Epoch>), ConnectorError> {
        let factory = embedded(&[("topic", topic), ("audit_headers", "true")]).sink().unwrap();
        assert_eq!(factory.delivery(), Delivery::PerEpoch);
        match factory.open(self.context(place)).await? {
            OpenSink::PerEpoch { sink, settled } => Ok((sink, settled)),
            OpenSink::AtOnce(_) => panic!("opened another kind of sink than promised"),
        }
    }
}

/// Ten rows of an epoch, in two batches.
async fn deliver(sink: &mut dyn EpochSink, epoch: u64) -> Result<Epoch, ConnectorError> {
    let first = 10 * epoch as i64;
    sink.deliver(Epoch(epoch), &[batch(&definition(&[]), first, 4), batch(&definition(&[]), first + 4, 6)]).await
}

async fn ids(place: &Path, topic: &str) -> Vec<i64> {
    let read = all(place, topic, &[]).await;
    let id = |value: &str| serde_json::from_str::<serde_json::Value>(value).unwrap()["id"].as_i64().unwrap();
    let mut ids: Vec<i64> = read.records.iter().map(|record| id(&record.value)).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_there_once_however_often_it_is_delivered() {
    let place = place();
    let (mut sink, settled) = FIRST.open(place.path(), "out").await.unwrap();
    assert_eq!(settled, None);
    for (epoch, settled) in [(1, 1), (2, 2), (2, 2), (1, 2)] {
        assert_eq!(deliver(sink.as_mut(), epoch).await.unwrap(), Epoch(settled));
    }
    drop(sink);
    let (mut sink, settled) = Run { number: 2, resumed: 2, ..FIRST }.open(place.path(), "out").await.unwrap();
    assert_eq!(settled, Some(Epoch(2)));
    assert_eq!(deliver(sink.as_mut(), 2).await.unwrap(), Epoch(2));
    assert_eq!(sink.deliver(Epoch(3), &[]).await.unwrap(), Epoch(3));
    assert_eq!(deliver(sink.as_mut(), 4).await.unwrap(), Epoch(4));
    sink.close().await.unwrap();
    assert_eq!(ids(place.path(), "out").await, Vec::from_iter((10..30).chain(40..50)));

    let read = all(place.path(), "out", &[]).await;
    let record = read.records.iter().find(|record| record.value.contains("\"id\":47")).unwrap();
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    assert_eq!(record.headers, [header("acequia-epoch", "4"), header("acequia-seq", "7")]);
    assert_eq!((record.key.as_deref(), record.timestamp), (Some("k47"), Some(1_700_000_000_047)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_run_and_rows_of_other_checkpoints_are_kept_out() {
    let place = place();
    let (mut old, _) = FIRST.open(place.path(), "fenced").await.unwrap();
    deliver(old.as_mut(), 1).await.unwrap();
    let (_new, settled) = Run { number: 2, resumed: 1, ..FIRST }.open(place.path(), "fenced").await.unwrap();
    assert_eq!(settled, Some(Epoch(1)));
    let error = deliver(old.as_mut(), 2).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Fenced { .. }));
    let shown = place.path().display();
    assert_eq!(
        error.to_string(),
        format!(
            "embedded Kafka in {shown}/kafka: run 2 of pipeline pipeline-embedded has taken over from this one, run 1"
        )
    );
    assert!(matches!(FIRST.open(place.path(), "fenced").await, Err(ConnectorError::Fenced { .. })));

    let mut other = Run { number: 3, resumed: 9, ..FIRST }.context(place.path());
    other.writer.as_mut().unwrap().log = LogId("another-log".into());
    let factory = embedded(&[("topic", "fenced")]).sink().unwrap();
    let error = factory.open(other.clone()).await.err().unwrap();
    assert!(matches!(error, ConnectorError::Mismatch { .. }));
    assert!(
        error.to_string().starts_with(&format!(
            "embedded Kafka in {shown}/kafka, topic fenced: it was written by pipeline pipeline-embedded with other \
             checkpoints (log log-of-tests, epoch 1), which are not the ones in use (log another-log)"
        )),
        "{error}"
    );
    other.writer.as_mut().unwrap().fresh = true;
    assert!(factory.open(other).await.is_ok(), "--fresh begins anew");
    assert_eq!(ids(place.path(), "fenced").await, Vec::from_iter(10..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tables_write_one_topic_and_each_is_audited_by_itself() {
    let place = place();
    let (mut one, _) = FIRST.open(place.path(), "both").await.unwrap();
    let (mut two, _) = Run { table: "others", ..FIRST }.open(place.path(), "both").await.unwrap();
    deliver(one.as_mut(), 1).await.unwrap();
    deliver(two.as_mut(), 2).await.unwrap();
    deliver(one.as_mut(), 3).await.unwrap();
    let mut at_once = embedded(&[("topic", "both"), ("delivery", "at_least_once")]).sink().unwrap();
    assert_eq!(at_once.delivery(), Delivery::AtOnce);
    for with_checkpoints in [true, false] {
        let mut context = SinkContext { data_dir: place.path().into(), ..sink_context(&definition(&[])) };
        if with_checkpoints {
            context.writer = FIRST.context(place.path()).writer;
        } else {
            at_once = embedded(&[("topic", "both")]).sink().unwrap();
        }
        let mut sink = at_once.open(context).await.unwrap().at_once().unwrap();
        sink.write(batch(&definition(&[]), 100, 5)).await.unwrap();
        sink.flush().await.unwrap();
        sink.close().await.unwrap();
    }
    let plain = Vec::from_iter((100..105).flat_map(|id| [id, id]));
    assert_eq!(ids(place.path(), "both").await, [Vec::from_iter(10..40), plain].concat());
    for (table, rows) in [("events", 20), ("others", 10), ("nobody", 0)] {
        let context = SourceContext {
            pipeline: "pipeline-embedded".into(),
            table: table.into(),
            ..within(place.path(), bounded())
        };
        let mut source = embedded(&[("topic", "both")]).read_back().unwrap().open(context).await.unwrap();
        let mut found = 0;
        loop {
            match source.next().await.unwrap() {
                acequia::connectors::SourceEvent::Records(records) => found += records.len(),
                acequia::connectors::SourceEvent::End => break,
                _ => {}
            }
        }
        assert_eq!(found, rows, "{table}");
    }
    let missing = embedded(&[("topic", "never-written")]).read_back().unwrap();
    let error = missing.open(within(place.path(), bounded())).await.err().unwrap().to_string();
    assert!(
        error.ends_with("there is no topic never-written; is --data-dir the one that the pipeline runs with?"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_can_be_looked_at() {
    let place = place();
    feed(place.path(), "looked-at", (0..100).map(|number| (Some("k2".into()), number.to_string()))).await;
    let feeder = Feeder::open(place.path(), CancellationToken::new()).await.unwrap();
    let topics = look::topics().unwrap();
    let topic = topics.iter().find(|topic| topic.name == "looked-at").unwrap();
    assert_eq!((topic.records, topic.partitions.len()), (100, PARTITIONS));
    assert_eq!(topic.partitions.iter().map(|partition| partition.next_offset).sum::<i64>(), 100);
    assert!(topic.bytes > 100);
    let newest = look::messages("looked-at", 3).unwrap().unwrap();
    let shown: Vec<(i64, &str)> = newest.iter().map(|message| (message.offset, message.value.as_str())).collect();
    assert_eq!(shown, [(99, "99"), (98, "98"), (97, "97")]);
    assert_eq!((newest[0].partition, newest[0].key.as_deref()), (0, Some("k2")));
    assert_eq!(look::messages("never-written", 3).unwrap(), None);
    drop(feeder);
}
