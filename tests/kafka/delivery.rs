//! Exactly once: what readers of committed records see after every kind of trouble.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use acequia::catalog::TableDefinition;
use acequia::connectors::delivery::{Delivery, EpochSink, OpenSink, Writer};
use acequia::connectors::{ConnectorError, SinkContext};
use acequia::faults::{Bug, plant};
use acequia::time::{Epoch, Incarnation, LogId};

use crate::cluster::{Cluster, end_of, reader, until_over};
use crate::sink::batch;
use crate::table::{Reading, definition, sink_context, table};

/// Rows of an epoch.
const ROWS: i64 = 100;

pub fn context(definition: &TableDefinition, name: &str, incarnation: u64, resumed: u64) -> SinkContext {
    let writer = Writer {
        pipeline: format!("pipeline-{name}"),
        log: LogId("log-of-tests".into()),
        incarnation: Incarnation(incarnation),
        resumed: Epoch(resumed),
        fresh: false,
    };
    SinkContext { pipeline: writer.pipeline.clone(), writer: Some(writer), ..sink_context(definition) }
}

type Opened = (Box<dyn EpochSink>, Option<Epoch>);

async fn try_open(servers: &str, topic: &str, context: SinkContext) -> Result<Opened, ConnectorError> {
    let pairs = [("topic", topic), ("properties.transaction.timeout.ms", "10000")];
    let factory = table(&definition(&[]), servers, &pairs).sink().unwrap();
    assert_eq!(factory.delivery(), Delivery::PerEpoch);
    match factory.open(context).await? {
        OpenSink::PerEpoch { sink, settled } => Ok((sink, settled)),
        OpenSink::AtOnce(_) => panic!("opened another kind of sink than promised"),
    }
}

/// A sink of run `incarnation`, which goes on from epoch `resumed`.
async fn open(servers: &str, topic: &str, incarnation: u64, resumed: u64) -> Opened {
    try_open(servers, topic, context(&definition(&[]), topic, incarnation, resumed)).await.unwrap()
}

async fn deliver(sink: &mut dyn EpochSink, epoch: u64) -> Result<Epoch, ConnectorError> {
    // In two batches: numbers within an epoch go on over both.
    let first = ROWS * epoch as i64;
    let rows = [batch(&definition(&[]), first, ROWS / 2), batch(&definition(&[]), first + ROWS / 2, ROWS / 2)];
    sink.deliver(Epoch(epoch), &rows).await
}

/// How often each row is in the topic, as a reader of committed records sees it. Rows of later epochs come later.
async fn counts(servers: &str, topic: &str) -> BTreeMap<i64, usize> {
    until_over(servers, topic);
    let read = Reading::all(servers, topic, &[]).await;
    let mut counts = BTreeMap::new();
    for record in &read.records {
        let value: serde_json::Value = serde_json::from_str(&record.value).unwrap();
        *counts.entry(value["id"].as_i64().unwrap()).or_default() += 1;
    }
    counts
}

/// Every row of epochs 1 to `last`, each once.
fn once(last: u64) -> BTreeMap<i64, usize> {
    (ROWS..ROWS * (last as i64 + 1)).map(|id| (id, 1)).collect()
}

/// The end of partition 0 for readers of committed records and the end as such: the same while no transaction is open.
fn ends(servers: &str, topic: &str) -> [i64; 2] {
    ["read_committed", "read_uncommitted"].map(|isolation| end_of(&reader(servers, isolation), topic, 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_there_once() {
    let kafka = Cluster::shared();
    kafka.create_topic("once", 1).await;
    let (mut sink, settled) = open(&kafka.servers, "once", 1, 0).await;
    assert_eq!(settled, None);
    assert_eq!(deliver(sink.as_mut(), 1).await.unwrap(), Epoch(1));
    assert_eq!(deliver(sink.as_mut(), 1).await.unwrap(), Epoch(1));
    assert_eq!(sink.deliver(Epoch(2), &[]).await.unwrap(), Epoch(2));
    assert_eq!(deliver(sink.as_mut(), 3).await.unwrap(), Epoch(3));
    until_over(&kafka.servers, "once");
    let [committed, end] = ends(&kafka.servers, "once");
    assert_eq!(committed, end, "an idle sink holds up no reader");

    let (_, settled) = open(&kafka.servers, "once", 2, 3).await;
    assert_eq!(settled, Some(Epoch(3)));
    let read = Reading::all(&kafka.servers, "once", &[]).await;
    assert_eq!(read.records.len() as i64, 2 * ROWS);
    assert!(read.records.iter().all(|record| record.headers.is_empty()), "nobody has asked for headers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_says_which_epoch_it_came_in_if_it_is_asked_to() {
    let kafka = Cluster::shared();
    kafka.create_topic("told", 1).await;
    let definition = definition(&[]);
    let pairs = [("topic", "told"), ("audit_headers", "true")];
    let factory = table(&definition, &kafka.servers, &pairs).sink().unwrap();
    let OpenSink::PerEpoch { mut sink, .. } = factory.open(context(&definition, "told", 1, 0)).await.unwrap() else {
        panic!("not by the epoch")
    };
    for epoch in [1, 3] {
        deliver(sink.as_mut(), epoch).await.unwrap();
    }
    until_over(&kafka.servers, "told");
    let read = Reading::all(&kafka.servers, "told", &[]).await;
    assert_eq!(read.records.len() as i64, 2 * ROWS);
    for (number, record) in read.records.iter().enumerate() {
        let header = |name: &str, value: i64| (name.to_owned(), Some(value.to_string()));
        let epoch = if number < ROWS as usize { 1 } else { 3 };
        assert_eq!(
            record.headers,
            [header("acequia-epoch", epoch), header("acequia-seq", number as i64 % ROWS)],
            "record {number}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_key_is_written_by_the_epoch_too() {
    let kafka = Cluster::shared();
    kafka.create_topic("upsert-epochs", 1).await;
    let definition = definition(&["id"]);
    let factory = table(&definition, &kafka.servers, &[("topic", "upsert-epochs")]).sink().unwrap();
    let context = context(&definition, "upsert-epochs", 1, 0);
    let OpenSink::PerEpoch { mut sink, .. } = factory.open(context).await.unwrap() else { panic!("not by the epoch") };
    for epoch in 1..=2 {
        sink.deliver(Epoch(epoch), &[batch(&definition, 7, 1)]).await.unwrap();
    }
    until_over(&kafka.servers, "upsert-epochs");
    let read = Reading::all(&kafka.servers, "upsert-epochs", &[]).await;
    assert!(read.records.len() == 2 && read.records.iter().all(|record| record.key.as_deref() == Some(r#"{"id":7}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_promised_rows_come_at_once() {
    let definition = definition(&[]);
    for servers in ["embedded", "127.0.0.1:1"] {
        let pairs = [("topic", "at-once"), ("delivery", "at_least_once")];
        let factory = table(&definition, servers, &pairs).sink().unwrap();
        assert_eq!(factory.delivery(), Delivery::AtOnce);
        assert!(factory.open(context(&definition, "at-once", 1, 0)).await.unwrap().at_once().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_other_checkpoints_and_earlier_runs_are_refused() {
    let kafka = Cluster::shared();
    kafka.create_topic("refused", 1).await;
    let (mut sink, _) = open(&kafka.servers, "refused", 2, 0).await;
    deliver(sink.as_mut(), 1).await.unwrap();
    let mut other = context(&definition(&[]), "refused", 1, 5);
    other.writer.as_mut().unwrap().log = LogId("another-log".into());
    let error = try_open(&kafka.servers, "refused", other).await.err().unwrap();
    assert!(matches!(error, ConnectorError::Mismatch { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "Kafka at {}: it was written by pipeline pipeline-refused with other checkpoints (log log-of-tests, epoch \
             1), which are not the ones in use (log another-log): point --checkpoints to those, or begin anew with \
             --fresh: rows already there stay",
            kafka.servers
        )
    );
    let early = context(&definition(&[]), "refused", 1, 5);
    let error = try_open(&kafka.servers, "refused", early).await.err().unwrap();
    assert!(matches!(error, ConnectorError::Fenced { .. }));
    assert_eq!(
        error.to_string(),
        format!("Kafka at {}: run 2 of pipeline pipeline-refused has taken over from this one, run 1", kafka.servers)
    );
    // Both have fenced the rightful writer, which makes itself anew.
    deliver(sink.as_mut(), 2).await.unwrap();
    assert_eq!(counts(&kafka.servers, "refused").await, once(2));
}

/// The body of a process that the tests below kill: delivers epochs 1 to `EPOCHS`, as often as needed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by other tests, in a process of its own"]
async fn a_writer_in_a_process_of_its_own() {
    let variable = |name: &str| std::env::var(name).expect("set by the test that starts this");
    let (servers, topic) = (variable("WRITER_SERVERS"), variable("WRITER_TOPIC"));
    let (mut sink, _) = open(&servers, &topic, 1, 0).await;
    for epoch in 1..=variable("WRITER_EPOCHS").parse().unwrap() {
        deliver(sink.as_mut(), epoch).await.unwrap();
    }
}

fn writer(kafka: &Cluster, topic: &str, epochs: u64, environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "delivery::a_writer_in_a_process_of_its_own", "--nocapture"]);
    command.env("WRITER_SERVERS", &kafka.servers).env("WRITER_TOPIC", topic).env("WRITER_EPOCHS", epochs.to_string());
    command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A writer dies at a crash point, and the next run goes on. Returns what is in the topic then.
async fn after_crash(topic: &str, point: &str, more: &[(&str, &str)]) -> BTreeMap<i64, usize> {
    let kafka = Cluster::shared();
    kafka.create_topic(topic, 1).await;
    let child = writer(kafka, topic, 3, &[&[("ACEQUIA_CRASH_AT", point)], more].concat());
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = point.split(':').next().unwrap();
    assert!(said.contains(&format!("crash point {name}")), "{point} was not come to: {said}");
    let (mut sink, settled) = open(&kafka.servers, topic, 2, 3).await;
    for epoch in settled.unwrap_or_default().0 + 1..=3 {
        deliver(sink.as_mut(), epoch).await.unwrap();
    }
    counts(&kafka.servers, topic).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_loses_nothing_and_doubles_nothing() {
    for (number, point) in [
        "sink.kafka.before_fence",
        "sink.kafka.after_fence",
        "sink.kafka.before_claim",
        "sink.kafka.after_claim",
        "sink.kafka.before_marker:2",
        "sink.kafka.before_commit:2",
        "sink.kafka.after_commit:2",
    ]
    .into_iter()
    .enumerate()
    {
        let counts = after_crash(&format!("crash-{number}"), point, &[]).await;
        assert!(counts == once(3), "{point}: {} rows, {:?}", counts.len(), counts.iter().find(|(_, n)| **n != 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_before_its_rows_is_noticed() {
    let planted = [("ACEQUIA_PLANT", "MarkerBeforeData")];
    let counts = after_crash("planted-marker", "sink.kafka.before_marker:2", &planted).await;
    assert!(counts.len() < once(3).len(), "the planted mistake loses epoch 2");
}

/// A run delivers on and on while the next one opens; both the rows and the old run are looked at afterwards.
async fn overtaken(topic: &str, bug: Option<Bug>) -> BTreeMap<i64, usize> {
    let kafka = Cluster::shared();
    kafka.create_topic(topic, 1).await;
    let (mut old, _) = open(&kafka.servers, topic, 1, 0).await;
    deliver(old.as_mut(), 1).await.unwrap();
    let zombie = tokio::spawn(async move {
        for epoch in 2.. {
            if let Err(error) = deliver(old.as_mut(), epoch).await {
                return (epoch, error);
            }
        }
        unreachable!()
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    plant(bug);
    let opened = open(&kafka.servers, topic, 2, 1_000_000).await;
    plant(None);
    let (mut new, settled) = opened;
    let (stopped_at, error) = zombie.await.unwrap();
    assert!(matches!(error, ConnectorError::Fenced { .. }), "{error}");
    // The old one could not get its last epoch in, nor any after that.
    for epoch in settled.unwrap().0 + 1..=stopped_at {
        deliver(new.as_mut(), epoch).await.unwrap();
    }
    let mut counts = counts(&kafka.servers, topic).await;
    for id in once(stopped_at).keys() {
        // What is as it should be is taken out, so that what is left is wrong.
        match counts.remove(id) {
            Some(1) => {}
            count => drop(counts.insert(*id, count.unwrap_or(0))),
        }
    }
    counts
}

// On one thread: a bug is planted for a thread.
#[tokio::test]
async fn a_run_that_was_overtaken_brings_nothing_in_any_more() {
    for round in 0..3 {
        assert_eq!(overtaken(&format!("zombie-{round}"), None).await, BTreeMap::new());
    }
}

#[tokio::test]
async fn a_marker_read_before_the_fence_is_noticed() {
    for round in 0..10 {
        if !overtaken(&format!("planted-fence-{round}"), Some(Bug::MarkerBeforeFence)).await.is_empty() {
            return;
        }
    }
    panic!("the planted mistake doubled nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_die_during_commits_lose_nothing() {
    let kafka = Cluster::of(3);
    kafka.create_topic("moving", 3).await;
    kafka.create_topic("moving-too", 1).await;
    // The topic of progress is made by two at once.
    let (first, second) = tokio::join!(open(&kafka.servers, "moving", 1, 0), open(&kafka.servers, "moving-too", 1, 0));
    let made = kafka.admin().inner().fetch_metadata(Some("__acequia_progress"), Duration::from_secs(10)).unwrap();
    let partitions = made.topics()[0].partitions();
    assert_eq!((partitions.len(), partitions[0].replicas().len()), (16, 3));
    drop(second);
    let (mut sink, _) = first;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let writer = tokio::spawn(async move {
        let mut stopped = stopped;
        for epoch in 1.. {
            deliver(sink.as_mut(), epoch).await.unwrap();
            if stopped.try_recv().is_ok() {
                return epoch;
            }
        }
        unreachable!()
    });
    // Each in turn, so that the coordinator, wherever it is, moves once at least.
    for node in 1..=3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::task::block_in_place(|| kafka.kill_broker(node));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        tokio::task::block_in_place(|| kafka.start_broker(node));
    }
    tokio::time::sleep(Duration::from_millis(1000)).await;
    stop.send(()).unwrap();
    let last = tokio::time::timeout(Duration::from_secs(100), writer).await.unwrap().unwrap();
    println!("{last} epochs through three dead brokers");
    let counts = counts(&kafka.servers, "moving").await;
    assert!(counts == once(last), "of {last} epochs: {:?}", counts.iter().find(|(_, count)| **count != 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_given_up_by_the_servers_is_made_again() {
    let kafka = Cluster::shared();
    kafka.create_topic("slept", 1).await;
    let mut child = writer(kafka, "slept", 400, &[]);
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    };
    while ends(&kafka.servers, "slept")[0] < 10 * ROWS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    signal("-STOP");
    // Its transaction lives for 10 s, and servers look for dead ones every 10 s.
    let deadline = Instant::now() + Duration::from_secs(60);
    tokio::time::sleep(Duration::from_secs(1)).await;
    while ends(&kafka.servers, "slept").windows(2).any(|ends| ends[0] != ends[1]) {
        assert!(Instant::now() < deadline, "the transaction is still open");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    signal("-CONT");
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(status.success());
    assert_eq!(counts(&kafka.servers, "slept").await, once(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_epochs_cost() {
    const BATCHES: i64 = 40;
    let kafka = Cluster::shared();
    let definition = definition(&[]);
    let rows: Vec<_> = (0..BATCHES).map(|number| batch(&definition, number * 8192, 8192)).collect();
    kafka.create_topic("cost-at-once", 1).await;
    kafka.create_topic("cost-epochs", 1).await;
    let factory = table(&definition, &kafka.servers, &[("topic", "cost-at-once")]).sink().unwrap();
    let mut sink = factory.open(sink_context(&definition)).await.unwrap().at_once().unwrap();
    let began = Instant::now();
    for rows in &rows {
        sink.write(rows.clone()).await.unwrap();
    }
    sink.flush().await.unwrap();
    let at_once = began.elapsed();

    let began = Instant::now();
    let (mut sink, _) = open(&kafka.servers, "cost-epochs", 1, 0).await;
    let opened = began.elapsed();
    let began = Instant::now();
    for (epoch, rows) in rows.chunks(10).enumerate() {
        sink.deliver(Epoch(epoch as u64 + 1), rows).await.unwrap();
    }
    let by_epochs = began.elapsed();
    let (began, last) = (Instant::now(), 104);
    for epoch in 5..=last {
        sink.deliver(Epoch(epoch), &[batch(&definition, 0, 1)]).await.unwrap();
    }
    println!(
        "{} rows at once {at_once:?}, in 4 epochs {by_epochs:?}; to open {opened:?}; an epoch of one row {:?}",
        BATCHES * 8192,
        began.elapsed() / 100
    );
    let began = Instant::now();
    drop(open(&kafka.servers, "cost-epochs", 2, last).await);
    println!("to open again {:?}", began.elapsed());
}
