//! `/api/page/shop`: the shop's figures, put together from what was last seen of each part.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::kafka::KafkaPart;
use super::lights::{self, KafkaLight, Known};
use super::metrics::{Metrics, MetricsFigures};
use super::part::{Part, Seen};
use super::warehouse::sql::{WINDOW, json_time};
use super::warehouse::tally::{Hour, Tally};
use super::warehouse::windows::{SHOWN, Window, Windows};
use crate::connectors::looking::TableDatabase;
use crate::console::{Console, Phase};
use crate::dataflow::graph::{Graph, NodeKind};
use crate::program::Program;
use crate::time::EventTime;

/// How often the page is told of something new, in milliseconds.
const INTERVAL_MS: u64 = 1000;
/// So many hours of activity are shown.
const HOURS: i64 = 24;
const HOUR: i64 = 3600;
/// The first picture is whole, unless a part takes longer than this.
const FIRST_PICTURE: Duration = Duration::from_secs(3);
/// The warehouse's tables are there so long after the start, at most.
const FIRST_TABLES: Duration = Duration::from_secs(10);
/// A window's last row is in Redis so long after its watermark, at most; one more look has then seen it.
const FINAL_AFTER: Duration = Duration::from_secs(2);

/// The folder's tables that the shop's page is made of.
pub struct ShopTables {
    /// The metrics in Redis.
    pub metrics: Option<Metrics>,
    /// `realtime_events`.
    pub events: Option<TableDatabase>,
    /// `customer_sessions`.
    pub sessions: Option<TableDatabase>,
}

impl ShopTables {
    /// Those of a folder; `None` when it has none of them: another program than the shop's.
    pub fn of(program: &Program, data_dir: &Path) -> Option<ShopTables> {
        let database = |name: &str| program.table(name).and_then(|table| table.connector.database(data_dir));
        let tables = ShopTables {
            metrics: Metrics::of(program),
            events: database("realtime_events"),
            sessions: database("customer_sessions"),
        };
        let has_any = tables.metrics.is_some() || tables.events.is_some() || tables.sessions.is_some();
        has_any.then_some(tables)
    }
}

/// What is last seen of each part.
pub struct Views {
    /// Redis.
    pub metrics: watch::Receiver<Seen<MetricsFigures>>,
    /// The last minutes.
    pub windows: watch::Receiver<Seen<Windows>>,
    /// All events.
    pub tally: watch::Receiver<Seen<Tally>>,
    /// Sessions by outcome.
    pub sessions: watch::Receiver<Seen<BTreeMap<String, i64>>>,
    /// Kafka.
    pub kafka: watch::Receiver<Seen<()>>,
    /// The start of the window that the metrics show, for who looks for the one before.
    pub shown: watch::Sender<Option<i64>>,
}

/// Where the parts are, as far as the folder has them.
pub struct Places {
    /// Redis.
    pub metrics: Option<String>,
    /// The database of events.
    pub events: Option<String>,
    /// That of sessions.
    pub sessions: Option<String>,
    /// Kafka.
    pub kafka: Kafka,
}

/// Where Kafka is.
pub enum Kafka {
    /// No table is one of Kafka's.
    None,
    /// In this process.
    Embedded,
    /// At these brokers.
    At(String),
}

impl Kafka {
    /// Where the tables of a folder have it.
    pub fn of(program: &Program, part: Option<&KafkaPart>) -> Kafka {
        match part {
            Some(part) => Kafka::At(part.place()),
            None if program.tables.iter().any(|table| table.connector.embedded() == Some("Kafka")) => Kafka::Embedded,
            None => Kafka::None,
        }
    }
}

/// Puts it together.
pub struct ShopPart {
    views: Views,
    places: Places,
    console: Arc<Console>,
    /// The nodes that read from Kafka.
    kafka_sources: Vec<usize>,
    /// The sink of the transactions' metrics.
    metrics_sink: Option<usize>,
    /// That sink's watermark at earlier looks.
    watermarks: VecDeque<(Instant, EventTime)>,
    kafka_light: KafkaLight,
    is_first: bool,
}

impl ShopPart {
    /// Of the parts that are looked at, and of a graph that counts in the console's statistics.
    pub fn new(views: Views, places: Places, program: &Program, graph: &Graph, console: Arc<Console>) -> ShopPart {
        let is_kafka = |name: &str| program.table(name).is_some_and(|table| table.connector_name == "kafka");
        let at = |wanted: &dyn Fn(&NodeKind) -> bool| -> Vec<usize> {
            let nodes = graph.nodes.iter().enumerate();
            nodes.filter(|(_, node)| wanted(&node.kind)).map(|(at, _)| at).collect()
        };
        let kafka_sources = at(&|kind| matches!(kind, NodeKind::Source(source) if is_kafka(&source.table)));
        let metrics = at(&|kind| matches!(kind, NodeKind::Sink(sink) if sink.table == "metrics_transactions"));
        ShopPart {
            views,
            places,
            console,
            kafka_sources,
            metrics_sink: metrics.first().copied(),
            watermarks: VecDeque::new(),
            kafka_light: KafkaLight::default(),
            is_first: true,
        }
    }

    async fn wait_for_all(&mut self) {
        let Views { metrics, windows, tally, sessions, kafka, .. } = &mut self.views;
        let Places { metrics: redis, events, sessions: ended, kafka: brokers } = &self.places;
        let all = async {
            // The senders live as long as the page.
            if redis.is_some() {
                let _ = metrics.wait_for(Seen::is_known).await;
            }
            if events.is_some() {
                let _ = windows.wait_for(Seen::is_known).await;
                let _ = tally.wait_for(Seen::is_known).await;
            }
            if ended.is_some() {
                let _ = sessions.wait_for(Seen::is_known).await;
            }
            if matches!(brokers, Kafka::At(_)) {
                let _ = kafka.wait_for(Seen::is_known).await;
            }
        };
        // Who takes longer is shown as starting.
        let _ = tokio::time::timeout(FIRST_PICTURE, all).await;
    }

    fn lights(&mut self) -> Vec<Value> {
        let Views { metrics, windows, tally, sessions, kafka, .. } = &self.views;
        let (metrics, windows, tally) = (metrics.borrow(), windows.borrow(), tally.borrow());
        let (sessions, kafka) = (sessions.borrow(), kafka.borrow());
        // The first run of a pipeline has yet to make its tables.
        let starting = self.console.phase() == Phase::Starting || self.console.uptime() < FIRST_TABLES;
        let mut all = vec![];
        if let Some(place) = &self.places.metrics {
            all.push(lights::server("redis", place, &Known::from(&*metrics), false));
        }
        all.push(lights::pipeline(&self.console));
        let nodes = self.kafka_sources.iter().map(|at| &self.console.statistics().nodes()[*at]);
        let (lag, read) = nodes.fold((0, 0), |(lag, read), node| {
            let waiting: u64 = node.lag().values().map(|lag| (*lag).max(0) as u64).sum();
            (lag + waiting, read + node.rows_in.load(Relaxed))
        });
        match &self.places.kafka {
            Kafka::None => {}
            Kafka::Embedded => all.push(self.kafka_light.light("embedded Kafka", None, lag, read)),
            Kafka::At(place) => all.push(self.kafka_light.light(place, Some(&Known::from(&*kafka)), lag, read)),
        }
        if let Some(place) = self.places.events.as_ref().or(self.places.sessions.as_ref()) {
            let trouble = windows.trouble.as_ref().or(tally.trouble.as_ref()).or(sessions.trouble.as_ref());
            let asked = windows.is_known() || tally.is_known() || sessions.is_known();
            all.push(lights::server("warehouse", place, &Known { asked, trouble }, starting));
        }
        all.iter().map(lights::Light::shown).collect()
    }

    /// The watermark that was the metrics' a moment ago: all that it has closed is to be seen now.
    fn settled_watermark(&mut self) -> EventTime {
        let now = self.metrics_sink.map_or(EventTime::MIN, |at| self.console.statistics().nodes()[at].watermark());
        self.watermarks.push_back((Instant::now(), now));
        while self.watermarks.get(1).is_some_and(|(at, _)| at.elapsed() >= FINAL_AFTER) {
            self.watermarks.pop_front();
        }
        let oldest = self.watermarks.front().filter(|(at, _)| at.elapsed() >= FINAL_AFTER);
        oldest.map_or(EventTime::MIN, |(_, watermark)| *watermark)
    }

    fn snapshot(&mut self, now: DateTime<Utc>) -> Value {
        let watermark = self.settled_watermark();
        let lights = self.lights();
        let metrics = self.views.metrics.borrow().figures.clone().unwrap_or_default();
        let windows = self.views.windows.borrow().figures.clone();
        let tally = self.views.tally.borrow().figures.clone();
        let sessions = self.views.sessions.borrow().figures.clone();
        let start = metrics.transactions.as_ref().and_then(start_of);
        self.views.shown.send_if_modified(|shown| std::mem::replace(shown, start) != start);
        let tiles = metrics.transactions.as_ref().zip(start).map(|(row, start)| {
            let before = before(start, windows.as_deref(), tally.as_deref());
            let end = EventTime((start + WINDOW).saturating_mul(1_000_000_000));
            tiles(row, start, before, watermark >= end)
        });
        json!({
            "interval_ms": INTERVAL_MS,
            "lights": lights,
            "tiles": tiles,
            "transactions": metrics.transactions,
            "behavior": metrics.behavior,
            "products": metrics.products,
            "recent": windows.as_deref().map(|windows| recent(windows, now)),
            "activity": tally.as_deref().map(|tally| activity(tally, now)),
            "warehouse": tally.as_deref().map(totals),
            "sessions": sessions.as_deref().map(outcomes),
        })
    }
}

#[async_trait]
impl Part for ShopPart {
    type Figures = Value;
    /// What it is made of changes at its own times.
    const INTERVAL: Duration = Duration::from_millis(250);

    async fn look(&mut self) -> Result<Value, String> {
        if std::mem::take(&mut self.is_first) {
            self.wait_for_all().await;
        }
        Ok(self.snapshot(Utc::now()))
    }

    fn rest(&mut self) {
        self.is_first = true;
        self.watermarks.clear();
    }
}

/// The start of the window of a row, in seconds since 1970.
fn start_of(row: &Map<String, Value>) -> Option<i64> {
    let text = row.get("timestamp")?.as_str()?;
    let with_zone = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp());
    let without = || Some(NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc().timestamp());
    with_zone.ok().or_else(without)
}

/// The window before the one that starts at `start`. One without transactions has zeros, if the shop had any event
/// before its end.
fn before(start: i64, windows: Option<&Windows>, tally: Option<&Tally>) -> Option<Window> {
    let windows = windows?;
    let known = windows.by_start.get(&(start - WINDOW)).copied();
    known.or_else(|| {
        let first = time_of_text(tally?.totals().first.as_deref()?)?;
        (first.timestamp() < start).then_some(Window::default())
    })
}

fn tiles(row: &Map<String, Value>, start: i64, before: Option<Window>, is_final: bool) -> Value {
    let tile = |column: &str, before: Option<Value>| {
        let value = row.get(column).cloned().unwrap_or_default();
        let previous = before.as_ref().and_then(Value::as_f64).filter(|previous| *previous != 0.0);
        let change = value.as_f64().zip(previous).map(|(value, previous)| (value - previous) / previous);
        json!({ "value": value, "previous": before, "change": change })
    };
    json!({
        "window_start": time(start),
        "window_end": time(start + WINDOW),
        "final": is_final,
        "revenue": tile("total_revenue", before.map(|before| before.revenue.into())),
        "transactions": tile("transaction_count", before.map(|before| before.transactions.into())),
        "customers": tile("unique_customers", before.map(|before| before.customers.into())),
    })
}

/// The last windows up to the one that is open, the oldest first.
fn recent(windows: &Windows, now: DateTime<Utc>) -> Vec<Value> {
    let current = now.timestamp().div_euclid(WINDOW) * WINDOW;
    let starts = (0..SHOWN).rev().map(|back| current - back * WINDOW);
    starts
        .map(|start| {
            let window = windows.by_start.get(&start).copied().unwrap_or_default();
            json!({ "timestamp": time(start), "revenue": window.revenue, "transactions": window.transactions })
        })
        .collect()
}

/// The last hours up to the one that is open, the oldest first.
fn activity(tally: &Tally, now: DateTime<Utc>) -> Vec<Value> {
    let current = now.timestamp().div_euclid(HOUR) * HOUR;
    let none = Hour::default();
    let starts = (0..HOURS).rev().map(|back| current - back * HOUR);
    starts
        .map(|start| {
            let Hour { events, transactions, behavior, .. } = tally.hours.get(&Some(start)).unwrap_or(&none);
            json!({ "hour": time(start), "events": events, "transactions": transactions, "behavior": behavior })
        })
        .collect()
}

fn totals(tally: &Tally) -> Value {
    let totals = tally.totals();
    let time = |text: Option<String>| text.and_then(|text| time_of_text(&text)).map(json_time);
    json!({
        "events": totals.events,
        "transactions": totals.transactions,
        "behavior": totals.behavior,
        "customers": totals.customers,
        "active_days": totals.active_days,
        "first_event": time(totals.first),
        "last_event": time(totals.last),
    })
}

fn outcomes(sessions: &BTreeMap<String, i64>) -> Value {
    let of = |outcome: &str| sessions.get(outcome).copied().unwrap_or_default();
    json!({ "conversion": of("conversion"), "cart_abandonment": of("cart_abandonment"), "bounce": of("bounce") })
}

fn time(seconds: i64) -> String {
    json_time(DateTime::from_timestamp(seconds, 0).unwrap_or_default())
}

/// A time as the warehouse has it: UTC without zone.
fn time_of_text(text: &str) -> Option<DateTime<Utc>> {
    Some(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_764_417_600;

    fn row(revenue: f64, count: i64, customers: i64) -> Map<String, Value> {
        let Value::Object(row) = json!({
            "timestamp": time(START), "total_revenue": revenue, "transaction_count": count, "unique_customers": customers,
        }) else {
            panic!("an object")
        };
        row
    }

    fn windows(windows: &[(i64, f64, i64, i64)]) -> Windows {
        let window = |(start, revenue, transactions, customers): &(i64, f64, i64, i64)| {
            (*start, Window { revenue: *revenue, transactions: *transactions, customers: *customers })
        };
        Windows { by_start: windows.iter().map(window).collect() }
    }

    fn tally(first: &str) -> Tally {
        let hour = Hour { events: 3, transactions: 1, behavior: 1, first: first.into(), last: first.into() };
        let start = time_of_text(first).unwrap().timestamp().div_euclid(HOUR) * HOUR;
        Tally { hours: [(Some(start), hour)].into(), customers: [7, 8].into(), ..Tally::default() }
    }

    #[test]
    fn a_tile_has_its_change_against_the_window_before() {
        let windows = windows(&[(START - WINDOW, 100.0, 4, 0)]);
        let tiles = tiles(&row(123.5, 3, 2), START, before(START, Some(&windows), None), true);
        assert_eq!(tiles["window_start"], "2025-11-29T12:00:00.000Z");
        assert_eq!((&tiles["window_end"], &tiles["final"]), (&json!("2025-11-29T12:00:30.000Z"), &json!(true)));
        assert_eq!(tiles["revenue"], json!({"value": 123.5, "previous": 100.0, "change": 0.235}));
        assert_eq!(tiles["transactions"], json!({"value": 3, "previous": 4, "change": -0.25}));
        assert_eq!(tiles["customers"], json!({"value": 2, "previous": 0, "change": null}));
    }

    #[test]
    fn a_window_before_the_first_event_is_none_and_a_silent_one_has_zeros() {
        let windows = windows(&[]);
        let ahead = tally("2025-11-29 12:00:00.5");
        assert_eq!(before(START, Some(&windows), Some(&ahead)), None);
        let behind = tally("2025-11-29 09:00:00");
        assert_eq!(before(START, Some(&windows), Some(&behind)), Some(Window::default()));
        assert_eq!(before(START, None, Some(&behind)), None);
        let tiles = tiles(&row(1.0, 1, 1), START, None, false);
        assert_eq!(tiles["revenue"], json!({"value": 1.0, "previous": null, "change": null}));
    }

    #[test]
    fn charts_have_their_empty_places() {
        let now = DateTime::from_timestamp(START + 44, 0).unwrap();
        let recent = recent(&windows(&[(START, 9.5, 2, 1), (START - 19 * WINDOW, 1.0, 1, 1)]), now);
        assert_eq!(recent.len(), 20);
        assert_eq!(recent[18], json!({"timestamp": "2025-11-29T12:00:00.000Z", "revenue": 9.5, "transactions": 2}));
        assert_eq!(recent[19], json!({"timestamp": "2025-11-29T12:00:30.000Z", "revenue": 0.0, "transactions": 0}));
        let activity = activity(&tally("2025-11-29 12:00:00"), now);
        assert_eq!((activity.len(), &activity[0]["hour"]), (24, &json!("2025-11-28T13:00:00.000Z")));
        assert_eq!(activity[23]["events"], 3);
        assert_eq!(
            activity[22],
            json!({"hour": "2025-11-29T11:00:00.000Z", "events": 0, "transactions": 0, "behavior": 0})
        );
    }

    #[test]
    fn totals_and_outcomes() {
        let expected = json!({
            "events": 3, "transactions": 1, "behavior": 1, "customers": 2, "active_days": 1,
            "first_event": "2025-11-29T09:00:00.250Z", "last_event": "2025-11-29T09:00:00.250Z",
        });
        assert_eq!(totals(&tally("2025-11-29 09:00:00.25")), expected);
        assert_eq!(totals(&Tally::default())["first_event"], Value::Null);
        let sessions = outcomes(&[("bounce".to_owned(), 4), ("other".to_owned(), 1)].into());
        assert_eq!(sessions, json!({"conversion": 0, "cart_abandonment": 0, "bounce": 4}));
    }

    #[test]
    fn a_row_says_when_its_window_starts() {
        let of = |text: &str| start_of(&[("timestamp".to_owned(), json!(text))].into_iter().collect());
        assert_eq!(of("2025-11-29T12:00:00Z"), Some(START));
        assert_eq!(of("2025-11-29T13:00:00.000+01:00"), Some(START));
        assert_eq!(of("2025-11-29T12:00:00"), Some(START));
        assert_eq!(of("yesterday"), None);
    }
}
