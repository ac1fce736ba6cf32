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

/// A query whose text is the same in both forms, but for the windowed aggregations in it.
#[derive(Clone, Debug)]
pub struct Query {
    pub shape: Shape,
    pub rows: Windowed,
    /// The other side of a join or union; it differs in this alone.
    pub other_filter: Option<&'static str>,
}

/// What is done with the rows of windows.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Plain,
    /// With others of equal windows and groups.
    Join(&'static str),
    /// The two first of each window.
    Top,
    Union,
    /// Tumbling windows over windows.
    Again(Seconds),
    /// Grouped by what tells the window, without a further one.
    ByWindow,
}

/// A windowed aggregation over the table `events(ts, k, g, v, d, s)`.
#[derive(Clone, Debug)]
pub struct Windowed {
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
        let joins = prop::sample::select(vec!["INNER", "LEFT", "RIGHT", "FULL"]);
        let shape = prop_oneof![
            4 => Just(Shape::Plain),
            3 => joins.prop_map(Shape::Join),
            1 => Just(Shape::Top),
            1 => Just(Shape::Union),
            1 => prop::sample::select(vec![1, 20, 60]).prop_map(Shape::Again),
            1 => Just(Shape::ByWindow),
        ];
        let filter = prop::option::weighted(0.8, prop::sample::select(FILTERS.to_vec()));
        (shape, Windowed::any(), filter).prop_map(|(shape, rows, other_filter)| Query { shape, rows, other_filter })
    }

    /// Acequia's form.
    pub fn streaming(&self) -> String {
        self.text(Windowed::streaming, |width, rows| {
            let groups = self.rows.groups();
            format!(
                "SELECT again.start AS w_start, again.end AS w_end{groups}, n, most FROM (\n  SELECT tumble(INTERVAL \
                 '{width} seconds') AS again{groups}, count(*) AS n, max(a0) AS most FROM ({rows}) GROUP BY again{groups})"
            )
        })
    }

    /// The same as a batch query.
    pub fn batch(&self) -> String {
        self.text(Windowed::batch, |width, rows| {
            let groups = self.rows.groups();
            // Rows of a window stand at its last nanosecond.
            format!(
                "SELECT again AS w_start, again + INTERVAL '{width} seconds' AS w_end{groups}, count(*) AS n, max(a0) \
                 AS most FROM (\n  SELECT *, date_bin(INTERVAL '{width} seconds', w_end - INTERVAL '1 nanosecond') AS \
                 again FROM ({rows})) GROUP BY again{groups}"
            )
        })
    }

    fn text(&self, form: fn(&Windowed) -> String, again: impl Fn(Seconds, &str) -> String) -> String {
        let rows = form(&self.rows);
        let other = form(&Windowed { filter: self.other_filter, ..self.rows.clone() });
        let groups = &self.rows.groups;
        match self.shape {
            Shape::Plain => rows,
            Shape::Join(kind) => {
                let keys: String = groups.iter().map(|group| format!(" AND l.{group} = r.{group}")).collect();
                let columns: String =
                    groups.iter().map(|group| format!(", l.{group} AS l_{group}, r.{group} AS r_{group}")).collect();
                format!(
                    "SELECT l.w_start AS l_start, r.w_end AS r_end{columns}, l.a0 AS l0, r.a0 AS r0 FROM ({rows}) AS l\n\
                     {kind} JOIN ({other}) AS r ON l.w_start = r.w_start AND l.w_end = r.w_end{keys}"
                )
            }
            Shape::Top => {
                let order: String = groups.iter().map(|group| format!(", {group} NULLS FIRST")).collect();
                format!(
                    "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY w_start, w_end ORDER BY a0 DESC NULLS \
                     LAST{order}) AS place FROM ({rows})) WHERE place <= 2"
                )
            }
            Shape::Union => format!("{rows}\nUNION ALL\n{other}"),
            Shape::Again(width) => again(width, &rows),
            Shape::ByWindow => {
                format!("SELECT w_start, count(*) AS n, min(a0) AS least FROM ({rows}) GROUP BY w_start")
            }
        }
    }
}

impl Windowed {
    fn any() -> impl Strategy<Value = Windowed> {
        let window = prop_oneof![
            prop::sample::select(vec![1, 7, 30, 60]).prop_map(Window::Tumble),
            prop::sample::select(vec![(1, 5), (10, 30), (10, 60), (7, 7)]).prop_map(|(s, w)| Window::Hop(s, w)),
            prop::sample::select(vec![1, 5, 20]).prop_map(Window::Session),
        ];
        let groups = prop::sample::select(vec![vec![], vec!["k"], vec!["g"], vec!["k", "g"]]);
        let aggregates = prop::sample::subsequence(AGGREGATES.to_vec(), 1..6);
        let filter = prop::option::weighted(0.4, prop::sample::select(FILTERS.to_vec()));
        (window, groups, aggregates, filter).prop_map(|(window, groups, aggregates, filter)| Windowed {
            window,
            groups,
            aggregates,
            filter,
        })
    }

    /// Acequia's form: `start`, `end`, the groups, the aggregates as `a0`, `a1`, ...
    fn streaming(&self) -> String {
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
    fn batch(&self) -> String {
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
