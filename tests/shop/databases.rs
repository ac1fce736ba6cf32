//! The whole way on real servers: rows of the shop's and the CRM's databases become events of the topics, rows of the
//! warehouse, sessions and figures in Redis, though the pipeline is killed on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use acequia::shop::ShopOptions;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::feed::{PATIENCE, Sent, write};
use crate::outcome::{
    arrive, redis_holds_the_newest_windows, the_items_are_complete, the_topics_hold_each_event_once,
    the_warehouse_holds_each_event_once,
};
use crate::pipeline::Pipeline;
use crate::results::{canonical, cents, count, millis, query};
use crate::{Servers, TOPICS, wait_until};

/// Ten minutes' worth, in two halves.
const EVENTS: usize = 6_000;
/// What comes an hour later, so that all sessions before it close: enough for each partition of each topic.
const CLOSING: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_shop_and_crm_arrive_once_though_the_pipeline_is_killed() {
    let servers = Servers::new(1);
    for topic in TOPICS {
        servers.kafka.create_topic(topic, 3).await;
    }
    servers.postgres.start(&[]);
    servers.redis.start(&[]);
    for name in ["instashop", "crm_db", "dwh_db"] {
        let mut client = PgConnection::connect(&servers.database_url()).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut client).await.unwrap();
    }
    let [shop, crm, warehouse] = ["instashop", "crm_db", "dwh_db"].map(|name| servers.database(name));
    let place = tempfile::tempdir().unwrap();
    let start = || Pipeline::start(run(&servers, place.path(), [&shop, &crm, &warehouse]));

    let mut pipeline = start();
    let mut sent = Sent::nothing();
    let options = ShopOptions { seed: 20_261_129, ..ShopOptions::default() };
    let mut events = write(&shop, &crm, &options, EVENTS / 2, &mut sent).await;
    let some = async |_: &mut Pipeline| {
        let there = "SELECT CASE WHEN to_regclass('realtime_events') IS NULL THEN 0 ELSE 1 END::BIGINT";
        count(&warehouse, there).await > 0 && count(&warehouse, "SELECT count(*) FROM realtime_events").await > 0
    };
    wait_until("some events in the warehouse", &mut pipeline, PATIENCE, some).await;
    let later = |milliseconds: i64| ShopOptions { start: options.start + milliseconds, ..options.clone() };
    events.extend(write(&shop, &crm, &later(300_000), EVENTS / 2, &mut sent).await);
    // What was just written is on its way: in a poll, in a topic, in an outbox.
    pipeline.kill();
    let arrived = count(&warehouse, "SELECT count(*) FROM realtime_events").await;
    assert!(arrived < sent.rows(), "all had arrived before the kill");
    let mut pipeline = start();
    arrive(&mut pipeline, &warehouse, &sent).await;

    let last = later(3_600_000);
    write(&shop, &crm, &last, CLOSING, &mut sent).await;
    arrive(&mut pipeline, &warehouse, &sent).await;
    let expected = sessions_of(&events);
    let closed = async |_: &mut Pipeline| {
        count(&warehouse, "SELECT count(*) FROM customer_sessions").await >= expected.len() as i64
    };
    wait_until("the sessions", &mut pipeline, PATIENCE, closed).await;

    the_topics_hold_each_event_once(&servers.kafka.servers, &sent);
    the_items_are_complete(&servers.kafka.servers, &sent);
    the_warehouse_holds_each_event_once(&warehouse, &sent).await;
    redis_holds_the_newest_windows(&mut pipeline, &servers.redis_url(), &sent).await;
    let found = query(
        &warehouse,
        "SELECT session_id, customer_id::TEXT, outcome, (EXTRACT(EPOCH FROM timestamp) * 1000)::BIGINT::TEXT, \
         session_data::TEXT FROM customer_sessions",
    )
    .await;
    assert_eq!(found.len(), expected.len(), "what has come last is still open");
    for row in found {
        let data: Value = serde_json::from_str(&row[4]).unwrap();
        let found = (row[1].clone(), row[2].clone(), row[3].parse().unwrap(), canonical(&data));
        assert_eq!(Some(&found), expected.get(&row[0]), "session {}", row[0]);
    }
    let outcomes: BTreeMap<&str, usize> = expected.values().fold(BTreeMap::new(), |mut all, (_, outcome, ..)| {
        *all.entry(outcome.as_str()).or_default() += 1;
        all
    });
    println!("{} sessions: {outcomes:?}", expected.len());
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");

    let metrics = pipeline.get("/metrics");
    for line in metrics.lines().filter(|line| line.starts_with("acequia_late_rows_total{") && !line.ends_with(" 0")) {
        // After a halt the CRM's few rows may come behind the shop's of the same time.
        let by_kind = ["operator=\"metrics_behavior.partial\"", "operator=\"behavior_metrics.partial\""];
        assert!(by_kind.iter().any(|operator| line.contains(operator)), "{line}");
    }
    pipeline.signal("-TERM");
    assert_eq!(pipeline.exit_code(), Some(0), "{}", pipeline.said());
    assert!(pipeline.said().contains(" 0 bad,") && !pipeline.said().contains("embedded"), "{}", pipeline.said());
}

fn run(servers: &Servers, place: &Path, [shop, crm, warehouse]: [&str; 3]) -> Command {
    let mut command = servers.run("queries", place);
    // Both runs are one pipeline.
    command.env("ACEQUIA__RUN__DATA_DIR", place.join("data"));
    command.env("SHOP_URL", shop).env("CRM_URL", crm).env("DWH_URL", warehouse);
    command
}

/// Customer, outcome, time of the last event in milliseconds since 1970, data.
type Session = (String, String, i64, String);

/// What the events say of each session, worked out from their JSON alone. No visitor pauses for ten minutes.
fn sessions_of(events: &[Value]) -> BTreeMap<String, Session> {
    let mut by_session: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in events {
        if let Some(session) = event["session_id"].as_str() {
            by_session.entry(session).or_default().push(event);
        }
    }
    by_session.into_iter().map(|(session, events)| (session.to_owned(), session_of(&events))).collect()
}

fn session_of(events: &[&Value]) -> Session {
    let mut events = events.to_vec();
    events.sort_by_key(|event| millis(&event["timestamp"]));
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["interaction_type"].as_str().or(event["event_type"].as_str()).unwrap())
        .collect();
    let number_of = |wanted: &[&str]| kinds.iter().filter(|kind| wanted.contains(kind)).count();
    let mut products: Vec<u64> = events.iter().filter_map(|event| event["product_id"].as_u64()).collect();
    products.sort_unstable();
    products.dedup();
    let (first, last) = (&events[0]["timestamp"], &events[events.len() - 1]["timestamp"]);
    let mut carts = events.iter().filter(|event| !event["cart_total"].is_null());
    let data = json!({
        "events": events.len(),
        "views": number_of(&["page_view", "product_view"]),
        "searches": number_of(&["search"]),
        "cart_changes": number_of(&["cart_event"]),
        "purchases": number_of(&["purchase"]),
        "cart_total": carts.next_back().map(|event| cents(&event["cart_total"]) as f64 / 100.0),
        "channel": events.iter().find_map(|event| event["channel"].as_str()),
        "products": products,
        "first_event": first,
        "last_event": last,
        "duration_seconds": (millis(last) - millis(first)) as f64 / 1000.0,
    });
    let outcome = match (number_of(&["purchase"]), number_of(&["cart_abandonment"])) {
        (0, 0) => "bounce",
        (0, _) => "cart_abandonment",
        _ => "conversion",
    };
    (events[0]["customer_id"].to_string(), outcome.to_owned(), millis(last), canonical(&data))
}
