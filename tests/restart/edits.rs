//! What an edit of the folder does to state: which operators go on, under which name, and what stops the start.

use std::collections::BTreeMap;

use acequia::checkpoint::log::Recovered;
use acequia::checkpoint::state::OperatorState;
use acequia::checkpoint::takeover::{Identities, Takeover, TakeoverError, take_over};
use acequia::connectors::stdout;
use acequia::dataflow::identities;
use acequia::planner::{PlanOptions, plan};
use acequia::program::Program;
use acequia::sql::Variables;
use acequia::time::{Epoch, EventTime};

const TABLES: &str = "
CREATE TABLE clicks (n BIGINT, k TEXT, g BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'clicks');
CREATE TABLE orders (k TEXT, g BIGINT, v BIGINT, tags TEXT[], ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'orders');
CREATE TABLE sums (w TIMESTAMP, k TEXT, s BIGINT) WITH (connector = 'blackhole');
CREATE TABLE newest (k TEXT, w TIMESTAMP, s BIGINT, PRIMARY KEY (k)) WITH (connector = 'redis', url = 'embedded', key = 'newest:{k}');
CREATE TABLE best (w TIMESTAMP, k TEXT, place BIGINT) WITH (connector = 'blackhole');
CREATE TABLE joined (w TIMESTAMP, k TEXT, s BIGINT, m BIGINT) WITH (connector = 'blackhole');
";

const VIEWS: &str = "
CREATE VIEW sales AS
SELECT tumble(INTERVAL '30 seconds') AS window, k, sum(v) AS s FROM clicks WHERE v > 3 AND g = 1 GROUP BY window, k;
CREATE VIEW tagged AS
SELECT tumble(INTERVAL '30 seconds') AS window, k, max(v) AS m
FROM (SELECT o.*, t.tag FROM orders AS o CROSS JOIN UNNEST(o.tags) AS t(tag)) WHERE tag = 'x' GROUP BY window, k;
";

const QUERIES: [(&str, &str); 4] = [
    ("sums", "INSERT INTO sums SELECT window['start'], k, s FROM sales;"),
    ("newest", "INSERT INTO newest SELECT k, window['end'], s FROM sales;"),
    (
        "best",
        "INSERT INTO best SELECT window['start'], k, place FROM
         (SELECT *, ROW_NUMBER() OVER (PARTITION BY window ORDER BY s DESC, k) AS place FROM sales) WHERE place <= 2;",
    ),
    (
        "joined",
        "INSERT INTO joined
         SELECT a.window['start'], a.k, a.s, b.m FROM sales AS a JOIN tagged AS b ON a.window = b.window AND a.k = b.k;",
    ),
];

/// A folder by file name.
type Folder = BTreeMap<String, String>;

fn folder() -> Folder {
    let queries = QUERIES.iter().map(|(name, text)| (format!("{name}.sql"), (*text).to_owned()));
    let fixed = [("tables.sql", TABLES), ("views.sql", VIEWS)].map(|(name, text)| (name.to_owned(), text.to_owned()));
    queries.chain(fixed).collect()
}

/// The folder with `from` replaced by `to` in one file.
fn edited(file: &str, from: &str, to: &str) -> Folder {
    let mut folder = folder();
    let text = folder.get_mut(file).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    *text = text.replace(from, to);
    folder
}

async fn planned(folder: &Folder) -> Identities {
    let place = tempfile::tempdir().unwrap();
    for (name, text) in folder {
        std::fs::write(place.path().join(name), text).unwrap();
    }
    let program =
        Program::read(place.path(), &Variables::default()).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let options = PlanOptions { bounded: false, print: stdout::factory() };
    let graph = plan(&program, &options).await.unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    identities(&graph)
}

/// Takes the state of one folder over into another.
async fn taken(then: &Folder, now: &Folder) -> Result<Takeover, TakeoverError> {
    let mut recovered = Recovered { operators: planned(then).await.operators, ..Recovered::default() };
    recovered.state.epoch = Epoch(7);
    for name in recovered.operators.keys() {
        let state = OperatorState { watermark: EventTime(1), batches: vec![] };
        recovered.state.operators.insert(name.clone(), state);
    }
    take_over(&recovered, &planned(now).await, false)
}

/// Everything goes on, under the names that differ from those before.
async fn goes_on(now: Folder) -> Vec<(String, String)> {
    let takeover = taken(&folder(), &now).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(takeover.notes, [""; 0]);
    let states: Vec<&String> = takeover.state.operators.keys().collect();
    let mut names: Vec<&String> = takeover.renamed.values().collect();
    names.sort();
    assert_eq!((states, takeover.renamed.len()), (names, planned(&folder()).await.operators.len()));
    takeover.renamed.into_iter().filter(|(was, is)| was != is).collect()
}

/// The names of the operators that no longer fit, and the whole message.
async fn stops(now: Folder) -> (Vec<String>, String) {
    let message = taken(&folder(), &now).await.unwrap_err().to_string();
    let operator =
        |line: &str| line.trim().strip_suffix(" computes something else than its state is of").map(str::to_owned);
    (message.lines().filter_map(operator).collect(), message)
}

#[tokio::test]
async fn what_an_operator_computes_can_be_read() {
    let operators = planned(&folder()).await.operators;
    let texts: Vec<(&str, &str)> =
        operators.iter().map(|(name, fingerprint)| (name.as_str(), fingerprint.text())).collect();
    for (name, text) in &texts {
        println!("{name}: {text}");
    }
    let sales = "tumble(30s) over clicks.ts, watermark (clicks.ts - 10s), by clicks.k: sum(clicks.v) from clicks where \
                 (clicks.g = Int64(1)) and (clicks.v > Int64(3))";
    let window = "Struct(\"start\": non-null Timestamp(ns), \"end\": non-null Timestamp(ns)) not null";
    let kept = format!("({window}, Utf8, Int64, Timestamp(ns) not null)");
    let tagged = "tumble(30s) over orders.ts, watermark (orders.ts - 5s), by orders.k: max(orders.v) from [unnest \
                  orders.tags to 1 (Drop) in orders] where (unnest(orders.tags).0 = Utf8(\"x\"))";
    let sums = "kept as (Timestamp(ns) not null, Utf8, Int64)";
    let expected = [
        (
            "best.over",
            format!(
                "row_number() PARTITION BY [window] ORDER BY [sum(clicks.v) DESC NULLS FIRST, clicks.k ASC NULLS LAST] RANGE \
             BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW in each window of (window, clicks.k, sum(clicks.v), window time) \
             from [{sales}], kept as {kept}"
            ),
        ),
        ("best.partial", format!("first phase of {sales}")),
        ("best.window", format!("{sales}, {sums}")),
        (
            "joined.join",
            format!(
                "Inner join on left clicks.k = right orders.k and left window = right window (NullEqualsNothing) in each \
             window of (window, clicks.k, sum(clicks.v), window time) from [{sales}] with (window, orders.k, \
             max(orders.v), window time) from [{tagged}], kept as {kept} and {kept}"
            ),
        ),
        ("joined.partial", format!("first phase of {sales}")),
        ("joined.partial_2", format!("first phase of {tagged}")),
        ("joined.window", format!("{sales}, {sums}")),
        ("joined.window_2", format!("{tagged}, {sums}")),
        (
            "newest.newest",
            format!("newest window of each clicks.k from [{sales}], kept as (Utf8, Timestamp(ns) not null)"),
        ),
        ("newest.partial", format!("first phase of {sales}")),
        ("newest.window", format!("{sales}, {sums}")),
        ("sums.partial", format!("first phase of {sales}")),
        ("sums.window", format!("{sales}, {sums}")),
    ];
    let expected: Vec<(&str, &str)> = expected.iter().map(|(name, text)| (*name, text.as_str())).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn names_are_free() {
    // A query is called after what it writes.
    let mut query = folder();
    query.values_mut().for_each(|text| *text = text.replace("sums", "totals"));
    let expected = ["partial", "window"].map(|part| (format!("sums.{part}"), format!("totals.{part}")));
    assert_eq!(goes_on(query).await, expected);

    let files = folder().into_iter().map(|(name, text)| (format!("z{name}"), text)).collect();
    assert_eq!(goes_on(files).await, []);

    let mut views = folder();
    views.values_mut().for_each(|text| *text = text.replace("sales", "proceeds").replace("tagged", "marked"));
    assert_eq!(goes_on(views).await, []);

    let mut columns = folder();
    columns.values_mut().for_each(|text| {
        *text = text
            .replace("AS s ", "AS proceeds ")
            .replace("a.s,", "a.proceeds,")
            .replace(", k, s FROM", ", k, proceeds FROM");
        *text = text.replace("['end'], s FROM", "['end'], proceeds FROM").replace("BY s DESC", "BY proceeds DESC");
    });
    assert_eq!(goes_on(columns).await, []);
}

#[tokio::test]
async fn the_form_is_free() {
    let mut spaces = folder();
    spaces.values_mut().for_each(|text| *text = text.replace(", ", " , ").replace("FROM", "\n  FROM -- from\n"));
    assert_eq!(goes_on(spaces).await, []);
    let mut order = folder();
    let text = order.get_mut("views.sql").unwrap();
    *text = text.split_inclusive(';').rev().collect();
    assert_eq!(goes_on(order).await, []);
    assert_eq!(goes_on(edited("views.sql", "v > 3 AND g = 1", "g = 1 AND v > 3")).await, []);
    let nested = "(SELECT v AS amount, k, ts FROM (SELECT * FROM clicks WHERE g = 1)) WHERE amount > 3";
    let nested = edited("views.sql", "clicks WHERE v > 3 AND g = 1", nested);
    let nested = nested.into_iter().map(|(name, text)| (name, text.replace("sum(v)", "sum(amount)"))).collect();
    assert_eq!(goes_on(nested).await, []);
    // Nobody's state is what is computed from results.
    assert_eq!(goes_on(edited("sums.sql", "k, s", "upper(k), s * 2")).await, []);
    assert_eq!(goes_on(edited("best.sql", "place <= 2", "place <= 3")).await, []);
}

#[tokio::test]
async fn options_of_sinks_and_places_of_sources_are_free() {
    for (from, to) in [
        ("'newest:{k}'", "'latest:{k}', emit_early = '1 second'"),
        ("topic = 'clicks'", "topic = 'clicks2', idle_timeout = '1 minute'"),
        ("s BIGINT) WITH (connector = 'blackhole')", "s BIGINT) WITH (connector = 'file', path = 'sums.jsonl')"),
        ("CREATE TABLE clicks (n BIGINT, k TEXT", "CREATE TABLE clicks (k TEXT, extra TEXT, n BIGINT"),
    ] {
        assert_eq!(goes_on(edited("tables.sql", from, to)).await, []);
    }
}

#[tokio::test]
async fn a_query_more_changes_no_other_although_the_table_is_read_with_more_columns() {
    let mut more = folder();
    let another =
        "SELECT n, g, k, hop(INTERVAL '5 seconds', INTERVAL '30 seconds') AS w, min(v) FROM clicks GROUP BY n, g, k, w;
                   SELECT ts, tags, g FROM orders WHERE v < 0;
                   CREATE TABLE totals (w TIMESTAMP, k TEXT, s BIGINT) WITH (connector = 'blackhole');
                   INSERT INTO totals SELECT window['start'], k, s FROM sales;";
    more.insert("a_first.sql".into(), another.into());
    let takeover = taken(&folder(), &more).await.unwrap();
    let before = planned(&folder()).await.operators;
    assert!(takeover.renamed.iter().all(|(was, is)| was == is) && takeover.renamed.len() == before.len());
    assert_eq!(takeover.notes.len(), 2, "{:?}", takeover.notes);
    assert!(takeover.notes.iter().all(|note| note.contains("is new: it begins empty")), "{:?}", takeover.notes);

    // And back again.
    let takeover = taken(&more, &folder()).await.unwrap();
    assert_eq!(takeover.renamed.len(), before.len());
    assert!(takeover.renamed.iter().all(|(was, is)| was == is), "{:?}", takeover.renamed);
    assert_eq!(takeover.notes.len(), 2, "{:?}", takeover.notes);
    assert!(takeover.notes.iter().all(|note| note.contains("is gone")), "{:?}", takeover.notes);
}

#[tokio::test]
async fn another_window_filter_or_event_time_stops_the_start() {
    let all =
        ["best.over", "best.window", "joined.join", "joined.window", "newest.newest", "newest.window", "sums.window"];
    let (operators, message) = stops(edited("views.sql", "v > 3", "v > 4")).await;
    assert_eq!(operators, all);
    let shown = |what: &str| message.lines().any(|line| line.trim().starts_with(what));
    assert!(shown("was: …") && message.contains("(clicks.v > Int64(3))"), "{message}");
    assert!(shown("is:  …") && message.contains("(clicks.v > Int64(4))"), "{message}");
    assert!(message.ends_with(
        "or start with --accept-lost-state: what cannot be taken over is then left behind, and the rest goes on"
    ));

    let width = "INTERVAL '30 seconds') AS window, k, sum";
    let (operators, message) = stops(edited("views.sql", width, "INTERVAL '60 seconds') AS window, k, sum")).await;
    assert!(operators.contains(&"sums.window".to_string()) && message.contains("is:  tumble(1m) over"), "{message}");

    for (file, from, to, operators) in [
        ("views.sql", "sum(v)", "avg(v)", &all[..]),
        ("views.sql", "sum(v)", "sum(v) FILTER (WHERE v < 9)", &all[..]),
        ("views.sql", "sum(v)", "sum(DISTINCT v)", &all[..]),
        ("views.sql", "g = 1 GROUP BY window, k", "g = 1 GROUP BY window, k, g", &all[..]),
        ("views.sql", "tag = 'x'", "tag = 'y'", &["joined.join", "joined.window_2"][..]),
        ("tables.sql", "'10 seconds'", "'11 seconds'", &all[..]),
        ("tables.sql", "AS ts - INTERVAL '5 seconds'", "AS ts", &["joined.join", "joined.window_2"][..]),
        ("tables.sql", "n BIGINT, k TEXT", "n BIGINT, k BYTEA", &all[..]),
        ("best.sql", "s DESC", "s ASC", &["best.over"][..]),
        ("joined.sql", "sales AS a JOIN", "sales AS a LEFT JOIN", &["joined.join"][..]),
        ("newest.sql", "FROM sales", "FROM sales WHERE s > 0", &["newest.newest"][..]),
    ] {
        let (found, message) = stops(edited(file, from, to)).await;
        assert_eq!(found, operators, "{to}: {message}");
    }
}

#[tokio::test]
async fn a_removed_query_leaves_its_state_and_says_so() {
    let mut fewer = folder();
    fewer.remove("joined.sql");
    let takeover = taken(&folder(), &fewer).await.unwrap();
    assert_eq!(takeover.notes.len(), 3, "{:?}", takeover.notes);
    assert!(
        takeover.notes.iter().all(|note| note.starts_with("joined.") && note.contains(" is gone: its state is left"))
    );
}
