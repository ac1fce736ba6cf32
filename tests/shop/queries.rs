//! The folder that ships, unchanged, on real servers, over topics that others fill.

use acequia::shop::ShopOptions;

use crate::feed::{Feed, Sent};
use crate::outcome::{
    arrive, redis_holds_the_newest_windows, the_items_are_complete, the_topics_hold_each_event_once,
    the_warehouse_holds_each_event_once,
};
use crate::pipeline::Pipeline;
use crate::{Servers, TOPICS};

const EVENTS: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_shops_queries_fill_warehouse_redis_and_topic() {
    let servers = Servers::new(1);
    for topic in TOPICS {
        servers.kafka.create_topic(topic, 3).await;
    }
    let place = tempfile::tempdir().unwrap();
    let mut command = servers.run("queries", place.path());
    command.env("SHOP_URL", "none").env("CRM_URL", "none");
    let mut pipeline = Pipeline::start(command);
    let redis = format!("Redis at 127.0.0.1:{}", servers.redis.port);
    let warehouse = format!("PostgreSQL table realtime_events at 127.0.0.1:{}/postgres", servers.postgres.port);
    waits_then_goes_on(&mut pipeline, &redis, || servers.redis.start(&[]));
    waits_then_goes_on(&mut pipeline, &warehouse, || servers.postgres.start(&[]));

    let options = ShopOptions { events_per_second: 100.0, disorder: 2000, ..ShopOptions::default() };
    let mut feed = Feed::new(&servers.kafka.servers, options);
    let mut sent = Sent::nothing();
    send(&mut feed, &mut sent).await;
    let url = servers.database_url();
    arrive(&mut pipeline, &url, &sent).await;
    servers.redis.stop();
    send(&mut feed, &mut sent).await;
    waits_then_goes_on(&mut pipeline, &redis, || servers.redis.start(&[]));
    arrive(&mut pipeline, &url, &sent).await;

    the_warehouse_holds_each_event_once(&url, &sent).await;
    redis_holds_the_newest_windows(&mut pipeline, &servers.redis_url(), &sent).await;
    the_items_are_complete(&servers.kafka.servers, &sent);
    the_topics_hold_each_event_once(&servers.kafka.servers, &sent);
    pipeline.signal("-TERM");
    pipeline.until("stopping");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
    let said = pipeline.said();
    assert!(said.contains(" 0 late, 0 bad,") && !said.contains("embedded"), "{said}");
}

/// Half of the events.
async fn send(feed: &mut Feed, sent: &mut Sent) {
    let look = |catalogue: &_, event: &_, time, json: &[u8]| {
        sent.add(catalogue, event, time, &serde_json::from_slice(json).unwrap());
    };
    feed.send(EVENTS / 2, look).await;
}

/// The pipeline says that it waits for a server that is down at the start, and later that it is there.
fn waits_then_goes_on(pipeline: &mut Pipeline, what: &str, start: impl FnOnce() -> String) {
    pipeline.until(&format!("waiting for {what}: "));
    start();
    pipeline.until(&format!("{what} is back after "));
}
