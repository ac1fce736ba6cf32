//! What Redis gets once, and gets back: fences, markers, lost servers, stalled ones.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::delivery::{Delivery, EpochSink, OpenSink, Writer};
use acequia::connectors::{ConnectorError, Sink, SinkContext, SinkFactory};
use acequia::time::{Epoch, Incarnation, LogId};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio_util::sync::CancellationToken;

use super::{Server, batch, context, factory};

const FENCE: &str = "acequia:test:t:writer";

fn run(incarnation: u64, resumed: u64) -> Writer {
    let (log, incarnation) = (LogId("log-1".into()), Incarnation(incarnation));
    Writer { pipeline: "test".into(), log, incarnation, resumed: Epoch(resumed), fresh: false }
}

fn rows(pairs: &[(&str, i64)]) -> RecordBatch {
    batch(vec![
        ("word", Arc::new(StringArray::from_iter_values(pairs.iter().map(|pair| pair.0))) as ArrayRef),
        ("number", Arc::new(Int64Array::from_iter_values(pairs.iter().map(|pair| pair.1)))),
    ])
}

fn table(url: &str, more: &[(&str, &str)]) -> Arc<dyn SinkFactory> {
    let mut options = vec![("url", url), ("timeout", "500 ms")];
    options.extend(more);
    factory("redis", "t", &rows(&[]).schema(), &[], &options)
}

fn written_by(writer: Writer) -> SinkContext {
    SinkContext { writer: Some(writer), ..context(&rows(&[]).schema(), &CancellationToken::new()) }
}

async fn keys(factory: &Arc<dyn SinkFactory>, writer: Writer) -> Result<Box<dyn Sink>, ConnectorError> {
    assert_eq!(factory.delivery(), Delivery::AtOnce);
    Ok(factory.open(written_by(writer)).await?.at_once().unwrap())
}

async fn stream(
    factory: &Arc<dyn SinkFactory>,
    writer: Writer,
) -> Result<(Box<dyn EpochSink>, Option<Epoch>), ConnectorError> {
    assert_eq!(factory.delivery(), Delivery::PerEpoch);
    match factory.open(written_by(writer)).await? {
        OpenSink::PerEpoch { sink, settled } => Ok((sink, settled)),
        OpenSink::AtOnce(_) => panic!("it should take whole epochs"),
    }
}

async fn client(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    for _ in 0..100 {
        if let Ok(connection) = client.get_multiplexed_async_connection().await {
            return connection;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no connection to {url}");
}

async fn value(client: &mut MultiplexedConnection, key: &str) -> Option<i64> {
    let text: Option<String> = client.get(key).await.unwrap();
    text.map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap()["number"].as_i64().unwrap())
}

async fn entries(client: &mut MultiplexedConnection, key: &str) -> Vec<i64> {
    let entries: redis::streams::StreamRangeReply = client.xrange_all(key).await.unwrap();
    entries.ids.iter().map(|entry| entry.get("number").unwrap()).collect()
}

/// Stops the server as a loss of power would, without what it had saved, and starts it again.
fn lose_everything(server: &Server) -> String {
    server.stop();
    std::fs::remove_dir_all(server.dir().join("appendonlydir")).unwrap();
    server.start(&[])
}

fn signal(server: &Server, name: &str) {
    let pid = std::fs::read_to_string(server.dir().join("redis.pid")).unwrap();
    let status = std::process::Command::new("kill").args([name, pid.trim()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn an_older_run_that_wakes_up_overwrites_nothing() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    for (kind, more) in
        [("hash", vec![("key", "h:{word}"), ("data_type", "hash")]), ("string", vec![("key", "s:{word}")])]
    {
        let table = table(&url, &more);
        let mut old = keys(&table, run(1, 0)).await.unwrap();
        old.write(rows(&[("a", 1)])).await.unwrap();
        let mut new = keys(&table, run(2, 1)).await.unwrap();
        new.write(rows(&[("a", 2)])).await.unwrap();
        let error = old.write(rows(&[("a", 3)])).await.unwrap_err();
        assert!(matches!(error, ConnectorError::Fenced { .. }), "{kind}: {error}");
        let what = format!("Redis at 127.0.0.1:{}", server.port);
        assert_eq!(error.to_string(), format!("{what}: run 2 of pipeline test has taken over from this one, run 1"));
        assert!(matches!(keys(&table, run(1, 1)).await.err().unwrap(), ConnectorError::Fenced { .. }));
        let _: () = client(&url).await.del(FENCE).await.unwrap();
    }
    let mut client = client(&url).await;
    assert_eq!(value(&mut client, "s:a").await, Some(2));
    assert_eq!(client.hget::<_, _, i64>("h:a", "number").await.unwrap(), 2);
    // Rows that replace one another may be written from nothing: other checkpoints take over, for good.
    let table = table(&url, &[("key", "s:{word}")]);
    let mut ours = keys(&table, run(7, 3)).await.unwrap();
    let other = Writer { log: LogId("log-2".into()), ..run(1, 0) };
    keys(&table, other).await.unwrap().write(rows(&[("a", 9)])).await.unwrap();
    assert!(matches!(ours.write(rows(&[("a", 7)])).await.unwrap_err(), ConnectorError::Fenced { .. }));
    assert_eq!(value(&mut client, "s:a").await, Some(9));
}

#[tokio::test]
async fn a_server_that_lost_everything_gets_the_current_values_again() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    for (number, more) in [vec![], vec![("delivery", "at_least_once")]].into_iter().enumerate() {
        let mut options = vec![("key", "s:{word}"), ("ttl", "1 hour")];
        options.extend(more);
        let mut sink = keys(&table(&url, &options), run(number as u64 + 1, 0)).await.unwrap();
        sink.write(rows(&[("a", 1), ("b", 2)])).await.unwrap();
        sink.write(rows(&[("a", 3)])).await.unwrap();
        lose_everything(&server);
        // With the next rows.
        sink.write(rows(&[("c", 4)])).await.unwrap();
        let mut connection = client(&url).await;
        for (key, expected) in [("s:a", 3), ("s:b", 2), ("s:c", 4)] {
            assert_eq!(value(&mut connection, key).await, Some(expected), "{key}");
            assert!(connection.ttl::<_, i64>(key).await.unwrap() > 3500);
        }
        // Without any.
        lose_everything(&server);
        let mut connection = client(&url).await;
        for _ in 0..50 {
            sink.flush().await.unwrap();
            if value(&mut connection, "s:c").await == Some(4) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!([value(&mut connection, "s:a").await, value(&mut connection, "s:c").await], [Some(3), Some(4)]);
    }
    // Emptied under an open connection: the fence key is missed.
    let mut sink = keys(&table(&url, &[("key", "s:{word}")]), run(9, 0)).await.unwrap();
    sink.write(rows(&[("a", 1)])).await.unwrap();
    let mut connection = client(&url).await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    sink.write(rows(&[("b", 2)])).await.unwrap();
    assert_eq!([value(&mut connection, "s:a").await, value(&mut connection, "s:b").await], [Some(1), Some(2)]);
}

#[tokio::test]
async fn a_stream_gets_each_epoch_once() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let table = table(&url, &[("key", "events"), ("data_type", "stream")]);
    let (mut sink, settled) = stream(&table, run(1, 0)).await.unwrap();
    assert_eq!(settled, None);
    assert_eq!(sink.settle(false).await.unwrap(), None);
    let mut client = client(&url).await;
    // Several scripts; the run dies after the first.
    let many: Vec<(&str, i64)> = (0..12_000).map(|number| ("w", number)).collect();
    let _: () = client.hset_multiple(FENCE, &[("part", "3"), ("done", "2")]).await.unwrap();
    let _: () = client.xadd("events", "*", &[("number", "0")]).await.unwrap();
    let _: () = client.xadd("events", "*", &[("number", "1")]).await.unwrap();
    assert_eq!(sink.deliver(Epoch(3), &[rows(&many)]).await.unwrap(), Epoch(3));
    let all: Vec<i64> = (0..12_000).collect();
    assert_eq!(entries(&mut client, "events").await, all);
    assert_eq!(sink.deliver(Epoch(3), &[rows(&many)]).await.unwrap(), Epoch(3));
    assert_eq!(client.xlen::<_, usize>("events").await.unwrap(), 12_000);
    let (mut new, settled) = stream(&table, run(2, 3)).await.unwrap();
    assert_eq!(settled, Some(Epoch(3)));
    let error = sink.deliver(Epoch(4), &[rows(&[("w", -1)])]).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Fenced { .. }), "{error}");
    assert_eq!(new.deliver(Epoch(4), &[rows(&[("w", 12_000)]), rows(&[("w", 12_001)])]).await.unwrap(), Epoch(4));
    assert_eq!(client.xlen::<_, usize>("events").await.unwrap(), 12_002);
    assert_eq!(new.settle(true).await.unwrap(), Some(Epoch(4)));
    // Rows of other checkpoints.
    let other = Writer { log: LogId("log-2".into()), ..run(1, 0) };
    let error = stream(&table, other.clone()).await.err().unwrap();
    assert!(matches!(error, ConnectorError::Mismatch { .. }));
    assert!(error.to_string().contains("it was written by pipeline test with other checkpoints (log log-1, epoch 4)"));
    let behind = stream(&table, run(3, 2)).await.err().unwrap().to_string();
    assert!(behind.contains("it has rows up to epoch 4, but this run goes on from epoch 2"), "{behind}");
    let fresh = Writer { fresh: true, ..run(3, 2) };
    let (mut anew, settled) = stream(&table, fresh).await.unwrap();
    assert_eq!(settled, None);
    anew.deliver(Epoch(3), &[rows(&[("w", 5)])]).await.unwrap();
    let (mut sink, settled) = stream(&table, Writer { fresh: true, ..other }).await.unwrap();
    assert_eq!(settled, None);
    sink.deliver(Epoch(1), &[rows(&[("w", 6)])]).await.unwrap();
    assert_eq!(entries(&mut client, "events").await[12_002..], [5, 6]);
}

#[tokio::test]
async fn a_stream_that_lost_entries_says_from_where_on() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let table = table(&url, &[("key", "events"), ("data_type", "stream")]);
    let (mut sink, _) = stream(&table, run(1, 0)).await.unwrap();
    for number in 1..=3 {
        sink.deliver(Epoch(number), &[rows(&[("w", number as i64)])]).await.unwrap();
    }
    // An older replica has taken over.
    let mut connection = client(&url).await;
    let _: () = connection.hset(FENCE, "epoch", "2").await.unwrap();
    assert_eq!(sink.deliver(Epoch(4), &[rows(&[("w", 4)])]).await.unwrap(), Epoch(2));
    assert_eq!(sink.settle(false).await.unwrap(), Some(Epoch(2)));
    assert_eq!(sink.deliver(Epoch(3), &[rows(&[("w", 3)])]).await.unwrap(), Epoch(3));
    drop(connection);
    lose_everything(&server);
    let mut lost = None;
    for _ in 0..50 {
        lost = sink.settle(false).await.unwrap();
        if lost == Some(Epoch(0)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(lost, Some(Epoch(0)));
    for number in 1..=4 {
        sink.deliver(Epoch(number), &[rows(&[("w", number as i64)])]).await.unwrap();
    }
    assert_eq!(entries(&mut client(&url).await, "events").await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_entry_that_is_refused_does_not_bring_others_twice() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let mut client = client(&url).await;
    let _: () = client.rpush("e:b", "x").await.unwrap();
    let table = table(&url, &[("key", "e:{word}"), ("data_type", "stream")]);
    let (mut sink, _) = stream(&table, run(1, 0)).await.unwrap();
    let epoch = [rows(&[("a", 1), ("b", 2), ("c", 3)])];
    let error = sink.deliver(Epoch(1), &epoch).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Refused { .. }));
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    let _: () = client.del("e:b").await.unwrap();
    let (mut sink, settled) = stream(&table, run(2, 1)).await.unwrap();
    assert_eq!(settled, None);
    sink.deliver(Epoch(1), &epoch).await.unwrap();
    for (key, number) in [("e:a", 1), ("e:b", 2), ("e:c", 3)] {
        assert_eq!(entries(&mut client, key).await, [number], "{key}");
    }
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_and_gets_each_row_once() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let events = table(&url, &[("key", "events"), ("data_type", "stream")]);
    let (mut sink, _) = stream(&events, run(1, 0)).await.unwrap();
    sink.deliver(Epoch(1), &[rows(&[("w", 1)])]).await.unwrap();
    signal(&server, "-STOP");
    let waiting = tokio::spawn(async move {
        let delivered = sink.deliver(Epoch(2), &[rows(&[("w", 2), ("w", 3)])]).await.unwrap();
        (sink, delivered)
    });
    // Longer than the timeout, so that what was sent is still under way when the next connection sends it again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!waiting.is_finished());
    signal(&server, "-CONT");
    let (_, delivered) = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
    assert_eq!(delivered, Epoch(2));
    let mut connection = client(&url).await;
    assert_eq!(entries(&mut connection, "events").await, [1, 2, 3]);

    let _: () = connection.del(FENCE).await.unwrap();
    let mut sink = keys(&table(&url, &[("key", "s:{word}")]), run(1, 0)).await.unwrap();
    signal(&server, "-STOP");
    let waiting = tokio::spawn(async move { sink.write(rows(&[("a", 1)])).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    signal(&server, "-CONT");
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(value(&mut connection, "s:a").await, Some(1));
}

/// Answers everything with one error, as a node of a cluster does.
fn cluster_node() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(4) {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    let commands = bytes[..read].iter().filter(|byte| **byte == b'*').count();
                    let answer = "-MOVED 1234 127.0.0.1:7001\r\n".repeat(commands);
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_cluster_is_refused_in_words() {
    let url = format!("redis://127.0.0.1:{}", cluster_node());
    let table = table(&url, &[("key", "s:{word}")]);
    let opening = tokio::time::timeout(Duration::from_secs(20), keys(&table, run(1, 0)));
    let error = opening.await.unwrap().err().unwrap();
    assert!(matches!(error, ConnectorError::Refused { .. }));
    let message = error.to_string();
    let expected = "it is part of a Redis Cluster, which is not supported: name a server of its own, or a proxy in front of \
                    the cluster in 'url' (MOVED 1234 127.0.0.1:7001)";
    assert!(message.ends_with(expected), "{message}");
}

#[tokio::test]
async fn a_user_without_rights_to_scripts_is_told_which() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let mut client = client(&url).await;
    let rule = ["SETUSER", "plain", "on", ">pw", "~*", "+@all", "-evalsha", "-info"];
    let _: () = redis::cmd("ACL").arg(&rule).query_async(&mut client).await.unwrap();
    let plain = format!("redis://plain:pw@127.0.0.1:{}", server.port);
    let error = keys(&table(&plain, &[("key", "s:{word}")]), run(1, 0)).await.err().unwrap().to_string();
    assert!(error.contains("Exactly once needs the rights to EVALSHA, SCRIPT LOAD"), "{error}");
    let at_least_once = table(&plain, &[("key", "s:{word}"), ("delivery", "at_least_once")]);
    let mut sink = keys(&at_least_once, run(1, 0)).await.unwrap();
    sink.write(rows(&[("a", 1)])).await.unwrap();
    assert_eq!(value(&mut client, "s:a").await, Some(1));
}
