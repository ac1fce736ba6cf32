//! One query in two forms: as a stream with windows, and as a batch over the same rows.

use std::fmt;

use proptest::prelude::*;

/// Seconds.
type Seconds = u32;

/// A window of either form.
#[derive(Clone, Copy, Debug)]
pub enum Window {
    Tumble(Seconds),
    Hop(Seconds, Seconds),
    Session(Seconds),
}

/// A windowed aggregation over the table `events(ts, k, g, v, d, s)`.
#[derive(Clone, Debug)]
pub struct Query {
    pub window: Window,
    pub groups: Vec<&'static str>,
    pub aggregates: Vec<&'static str>,
    pub filter: Option<&'static str>,
}

/// Each is exact and independent of the order of rows.
const AGGREGATES: [&str; 16] = [
    "count(*)",
    "count(v)",
    "sum(v)",
    "min(v)",
    "max(v)",
    "avg(v)",
    "sum(d)",
    "max(d)",
    "min(s)",
    "max(s)",
    "count(DISTINCT g)",
    "count(DISTINCT v)",
    "sum(v) FILTER (WHERE v > 0)",
    "count(*) FILTER (WHERE s IS NOT NULL)",
    "approx_distinct(s)",
    "bool_or(v > 40)",
];

const FILTERS: [&str; 4] = ["v > 0", "k IS NOT NULL", "s LIKE 'a%' OR v < 10", "d >= 1.5"];

impl Query {
    /// Any query.
    pub fn any() -> impl Strategy<Value = Query> {
        let window = prop_oneof![
            prop::sample::select(vec![1, 7, 30, 60]).prop_map(Window::Tumble),
            prop::sample::select(vec![(1, 5), (10, 30), (10, 60), (7, 7)]).prop_map(|(s, w)| Window::Hop(s, w)),
            prop::sample::select(vec![1, 5, 20]).prop_map(Window::Session),
        ];
        let groups = prop::sample::select(vec![vec![], vec!["k"], vec!["g"], vec!["k", "g"]]);
        let aggregates = prop::sample::subsequence(AGGREGATES.to_vec(), 1..6);
        let filter = prop::option::weighted(0.4, prop::sample::select(FILTERS.to_vec()));
        (window, groups, aggregates, filter).prop_map(|(window, groups, aggregates, filter)| Query {
            window,
            groups,
            aggregates,
            filter,
        })
    }

    /// Acequia's form: `start`, `end`, the groups, the aggregates as `a0`, `a1`, ...
    pub fn streaming(&self) -> String {
        let window = match self.window {
            Window::Tumble(width) => format!("tumble(INTERVAL '{width} seconds')"),
            Window::Hop(slide, width) => format!("hop(INTERVAL '{slide} seconds', INTERVAL '{width} seconds')"),
            Window::Session(gap) => format!("session(INTERVAL '{gap} seconds')"),
        };
        format!(
            "SELECT w.start AS w_start, w.end AS w_end{groups}{names} FROM (\n  SELECT {window} AS w{groups}{aggregates} FROM events {filter} GROUP BY w{groups})",
            groups = self.groups(),
            names = (0..self.aggregates.len()).map(|i| format!(", a{i}")).collect::<String>(),
            aggregates = self.aggregates(),
            filter = self.filter(),
        )
    }

    /// The same as a batch query.
    pub fn batch(&self) -> String {
        let (groups, aggregates, filter) = (self.groups(), self.aggregates(), self.filter());
        match self.window {
            Window::Tumble(width) => format!(
                "SELECT w_start, w_start + INTERVAL '{width} seconds' AS w_end{groups}{aggregates} FROM (\n  SELECT *, \
                 date_bin(INTERVAL '{width} seconds', ts) AS w_start FROM events {filter}) GROUP BY w_start{groups}"
            ),
            Window::Hop(slide, width) => {
                let copies: Vec<String> =
                    (0..width / slide).map(|copy| format!("(INTERVAL '{} seconds')", copy * slide)).collect();
                format!(
                    "SELECT w_start, w_start + INTERVAL '{width} seconds' AS w_end{groups}{aggregates} FROM (\n  \
                     SELECT *, date_bin(INTERVAL '{slide} seconds', ts) - back AS w_start FROM \
                     events CROSS JOIN (VALUES {}) AS copies(back) {filter}) GROUP BY w_start{groups}",
                    copies.join(", ")
                )
            }
            Window::Session(gap) => {
                let keys = if self.groups.is_empty() { "1".to_string() } else { self.groups.join(", ") };
                format!(
                    "SELECT min(ts) AS w_start, max(ts) + INTERVAL '{gap} seconds' AS w_end{groups}{aggregates} FROM (\n  \
                     SELECT *, sum(opens) OVER (PARTITION BY {keys} ORDER BY ts, n) AS session FROM (\n    SELECT *, \
                     CASE WHEN ts - lag(ts) OVER (PARTITION BY {keys} ORDER BY ts, n) < INTERVAL '{gap} seconds' THEN \
                     0 ELSE 1 END AS opens FROM events {filter})) GROUP BY session{groups}"
                )
            }
        }
    }

    fn groups(&self) -> String {
        self.groups.iter().map(|group| format!(", {group}")).collect()
    }

    fn aggregates(&self) -> String {
        self.aggregates.iter().enumerate().map(|(i, aggregate)| format!(", {aggregate} AS a{i}")).collect()
    }

    fn filter(&self) -> String {
        self.filter.map(|filter| format!("WHERE {filter}")).unwrap_or_default()
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n-- as a batch:\n{}", self.streaming(), self.batch())
    }
}
