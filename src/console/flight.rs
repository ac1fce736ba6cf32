//! What the Flight SQL server of a run counts, and its metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Counted by the server, read at each scrape.
#[derive(Debug, Default)]
pub struct FlightFigures {
    /// Queries that were begun.
    pub queries: AtomicU64,
    /// Of these, those that failed, were cancelled or took too long.
    pub failed: AtomicU64,
    /// Queries at work now.
    pub active: AtomicU64,
    /// Rows that were sent.
    pub rows: AtomicU64,
    /// Logins that were refused.
    pub refused_logins: AtomicU64,
}

/// The metrics of a run that has such a server.
pub fn render(figures: &FlightFigures) {
    describe_counter!("acequia_flight_queries_total", Unit::Count, "Queries by Flight SQL that were begun");
    describe_counter!(
        "acequia_flight_failed_queries_total",
        Unit::Count,
        "Queries by Flight SQL that failed, were cancelled or took too long"
    );
    describe_gauge!("acequia_flight_active_queries", Unit::Count, "Queries by Flight SQL at work now");
    describe_counter!("acequia_flight_rows_total", Unit::Count, "Rows sent by Flight SQL");
    describe_counter!("acequia_flight_refused_logins_total", Unit::Count, "Logins by Flight SQL that were refused");
    counter!("acequia_flight_queries_total").absolute(figures.queries.load(Relaxed));
    counter!("acequia_flight_failed_queries_total").absolute(figures.failed.load(Relaxed));
    gauge!("acequia_flight_active_queries").set(figures.active.load(Relaxed) as f64);
    counter!("acequia_flight_rows_total").absolute(figures.rows.load(Relaxed));
    counter!("acequia_flight_refused_logins_total").absolute(figures.refused_logins.load(Relaxed));
}
