//! The Redis sink against redis-server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::redis::embedded;
use acequia::connectors::{ConnectorError, Sink};
use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio_util::sync::CancellationToken;

use super::{Server, batch, context, factory, open, refusal};

async fn client(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn products(rows: &[(Option<&str>, i64)]) -> RecordBatch {
    let count = rows.len();
    let revenue = Decimal128Array::from_iter_values(rows.iter().map(|(_, sales)| i128::from(*sales) * 1010));
    batch(vec![
        ("timestamp", Arc::new(TimestampMillisecondArray::from(vec![1_700_000_000_500; count])) as ArrayRef),
        ("category", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.0)))),
        ("product_sales", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)))),
        ("category_revenue", Arc::new(revenue.with_precision_and_scale(12, 2).unwrap())),
    ])
}

async fn sink(url: &str, more: &[(&str, &str)], rows: &RecordBatch) -> Box<dyn Sink> {
    let mut options = vec![("url", url)];
    options.extend(more);
    open(&factory("redis", "products", &rows.schema(), &[], &options), &rows.schema()).await.unwrap()
}

#[tokio::test]
async fn strings_hold_the_newest_row_of_each_key_for_their_lifetime() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let rows = products(&[(Some("Books"), 1), (Some("Toys"), 2), (Some("Books"), 3), (None, 4)]);
    let mut sink = sink(&url, &[("key", "metrics:products:{category}"), ("ttl", "1 hour")], &rows).await;
    sink.write(rows).await.unwrap();
    sink.flush().await.unwrap();
    let mut client = client(&url).await;
    let mut keys: Vec<String> = client.keys("metrics:*").await.unwrap();
    keys.sort();
    assert_eq!(keys, ["metrics:products:Books", "metrics:products:Toys", "metrics:products:null"]);
    let text: String = client.get("metrics:products:Books").await.unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["product_sales"], 3);
    assert_eq!(value["category"], "Books");
    assert!(text.contains("30.30"), "a decimal keeps its digits: {text}");
    assert!(text.contains("2023-11-14T22:13:20.5"), "a timestamp is ISO 8601: {text}");
    let ttl: i64 = client.ttl("metrics:products:Books").await.unwrap();
    assert!((3590..=3600).contains(&ttl), "{ttl}");
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut client).await.unwrap();
    assert!(stats.contains("cmdstat_set:calls=3,"), "the older row of a key is not sent: {stats}");
}

#[tokio::test]
async fn hashes_streams_and_channels() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let mut client = client(&url).await;
    let rows = products(&[(Some("Books"), 1), (Some("Books"), 2)]);

    let mut hash = sink(&url, &[("key", "h:{category}"), ("data_type", "hash"), ("ttl", "5 s")], &rows).await;
    hash.write(rows.clone()).await.unwrap();
    let fields: BTreeMap<String, String> = client.hgetall("h:Books").await.unwrap();
    assert_eq!(fields["product_sales"], "2");
    assert_eq!(fields["category"], "Books");
    assert!(fields["timestamp"].starts_with("2023-11-14T22:13:20.5"), "{fields:?}");
    assert!(client.ttl::<_, i64>("h:Books").await.unwrap() > 0);
    // A column that is null now goes away.
    let mut fixed = sink(&url, &[("key", "h:fixed"), ("data_type", "hash")], &rows).await;
    fixed.write(products(&[(Some("Books"), 1)])).await.unwrap();
    fixed.write(products(&[(None, 1)])).await.unwrap();
    assert!(!client.hexists::<_, _, bool>("h:fixed", "category").await.unwrap());

    let more = [("key", "sales"), ("data_type", "stream"), ("max_length", "1000")];
    let mut stream = sink(&url, &more, &rows).await;
    stream.write(rows.clone()).await.unwrap();
    stream.write(rows.clone()).await.unwrap();
    assert_eq!(client.xlen::<_, usize>("sales").await.unwrap(), 4);
    let entries: redis::streams::StreamRangeReply = client.xrange_all("sales").await.unwrap();
    assert_eq!(entries.ids[1].get::<String>("product_sales").unwrap(), "2");

    let mut listener = redis::Client::open(url.as_str()).unwrap().get_async_pubsub().await.unwrap();
    listener.subscribe("news:Books").await.unwrap();
    let mut publish = sink(&url, &[("key", "news:{category}"), ("data_type", "publish")], &rows).await;
    publish.write(rows).await.unwrap();
    let mut messages = listener.into_on_message();
    for expected in [1, 2] {
        let wait = tokio::time::timeout(Duration::from_secs(5), futures::StreamExt::next(&mut messages));
        let text: String = wait.await.unwrap().unwrap().get_payload().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["product_sales"], expected);
    }
}

#[tokio::test]
async fn a_restart_in_the_middle_is_waited_for() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let rows = products(&[(Some("a"), 0)]);
    let mut sink = sink(&url, &[("key", "p:{category}")], &rows).await;
    let writer = tokio::spawn(async move {
        for number in 0..200 {
            sink.write(products(&[(Some(&format!("c{number}")), number)])).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.stop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.start(&[]);
    tokio::time::timeout(Duration::from_secs(30), writer).await.unwrap().unwrap();
    let keys: Vec<String> = client(&url).await.keys("p:c*").await.unwrap();
    assert_eq!(keys.len(), 200);
}

#[tokio::test]
async fn a_server_that_is_down_at_start_is_waited_for_until_told_to_stop() {
    let server = Server::new("redis.sh");
    let url = format!("redis://127.0.0.1:{}", server.port);
    let rows = products(&[(Some("a"), 1)]);
    let factory = factory("redis", "p", &rows.schema(), &[], &[("url", url.as_str()), ("key", "p")]);
    let stop = CancellationToken::new();
    let waiting = tokio::spawn({
        let (factory, context) = (factory.clone(), context(&rows.schema(), &stop));
        async move { factory.open(context).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    stop.cancel();
    let Err(error) = waiting.await.unwrap() else { panic!("it should have stopped") };
    assert_eq!(error.to_string(), format!("stopped while waiting for Redis at 127.0.0.1:{}", server.port));

    let waiting = tokio::spawn({
        let (factory, context) = (factory.clone(), context(&rows.schema(), &CancellationToken::new()));
        async move { factory.open(context).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.start(&[]);
    let mut sink =
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap().at_once().unwrap();
    sink.write(rows).await.unwrap();
    assert!(client(&url).await.exists::<_, bool>("p").await.unwrap());
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_kind_of_key_are_refused_at_once() {
    let server = Server::new("redis.sh");
    let url = server.start(&["--password", "right-one"]);
    let rows = products(&[(Some("a"), 1)]);
    let wrong = format!("redis://:s3cret@127.0.0.1:{}", server.port);
    let options = [("url", wrong.as_str()), ("key", "p")];
    let message = refusal(&factory("redis", "p", &rows.schema(), &[], &options), &rows.schema()).await;
    assert!(message.starts_with(&format!("Redis at 127.0.0.1:{}: ", server.port)), "{message}");
    assert!(message.contains("AuthenticationFailed"), "{message}");
    assert!(!message.contains("s3cret"), "{message}");

    let mut client = client(&url).await;
    let _: i64 = client.rpush("list", "x").await.unwrap();
    let mut hash = sink(&url, &[("key", "list"), ("data_type", "hash")], &rows).await;
    let error = hash.write(rows).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Refused { .. }));
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
}

#[tokio::test]
async fn a_key_with_control_characters_is_refused_or_skipped() {
    let server = Server::new("redis.sh");
    let url = server.start(&[]);
    let rows = products(&[(Some("x\r\nFLUSHALL"), 1), (Some("b"), 2)]);
    let mut failing = sink(&url, &[("key", "p:{category}")], &rows).await;
    let error = failing.write(rows.clone()).await.unwrap_err().to_string();
    assert!(error.contains(r#"the key "p:x\r\nFLUSHALL" holds a control character; the row is {"#), "{error}");
    let mut skipping = sink(&url, &[("key", "p:{category}"), ("on_error", "skip")], &rows).await;
    skipping.write(rows).await.unwrap();
    assert_eq!(client(&url).await.keys::<_, Vec<String>>("*").await.unwrap(), ["p:b"]);
}

#[tokio::test]
async fn the_embedded_store_holds_the_same() {
    let rows = products(&[(Some("Books"), 1), (Some("Books"), 2)]);
    let mut sink = sink("embedded", &[("key", "embedded-test:{category}"), ("ttl", "1 hour")], &rows).await;
    sink.write(rows).await.unwrap();
    assert_eq!(embedded::store().keys("embedded-test:*"), ["embedded-test:Books"]);
    let text = embedded::store().get("embedded-test:Books").unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["product_sales"], 2);
}

#[tokio::test]
async fn tls_needs_an_authority_that_is_trusted() {
    let server = Server::new("redis.sh");
    let tls_port = Server::new("redis.sh").port.to_string();
    server.start(&["--password", "right-one", "--tls-port", &tls_port]);
    let rows = products(&[(Some("a"), 1)]);
    let url = format!("rediss://:right-one@127.0.0.1:{tls_port}");
    let schema = rows.schema();
    let unknown = factory("redis", "p", &schema, &[], &[("url", &url), ("key", "p")]);
    let strangers = refusal(&unknown, &schema);
    let message = tokio::time::timeout(Duration::from_secs(20), strangers).await.unwrap();
    assert!(message.contains("invalid peer certificate: UnknownIssuer"), "{message}");
    let authority = server.dir().join("ca.crt").display().to_string();
    let mut sink = sink(&url, &[("key", "p"), ("ca_certificate", &authority)], &rows).await;
    sink.write(rows).await.unwrap();
    let mut client = client(&format!("redis://:right-one@127.0.0.1:{}", server.port)).await;
    assert!(client.exists::<_, bool>("p").await.unwrap());
}
