//! What the planner makes of programs, and what it says to those that cannot run.

use std::sync::Arc;

use super::*;
use crate::connectors::delivery::OpenSink;
use crate::connectors::{ConnectorError, SinkContext, SinkMode};
use crate::dataflow::graph::{Distribution, NodeKind};
use crate::sql::Variables;

const TABLES: &str = "
CREATE TABLE clicks (id BIGINT NOT NULL, ts TIMESTAMP NOT NULL, page TEXT, price DECIMAL(12, 2), tags TEXT[],
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'kafka', bootstrap_servers = 'x:1', topic = 'clicks');
CREATE TABLE views (id BIGINT, ts TIMESTAMP, page TEXT, WATERMARK FOR ts AS ts)
    WITH (connector = 'kafka', bootstrap_servers = 'x:1', topic = 'views');
CREATE TABLE untimed (id BIGINT, page TEXT) WITH (connector = 'kafka', bootstrap_servers = 'x:1', topic = 'untimed');
CREATE TABLE log (id BIGINT, ts TIMESTAMP, page TEXT) WITH (connector = 'file', path = 'log.jsonl');
CREATE TABLE pages (page TEXT, hits BIGINT, PRIMARY KEY (page))
    WITH (connector = 'redis', url = 'embedded', key = 'pages:{page}');
CREATE TABLE strict (id BIGINT NOT NULL, page TEXT) WITH (connector = 'blackhole');
";

struct Nowhere;

#[async_trait::async_trait]
impl SinkFactory for Nowhere {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        "nowhere".into()
    }

    async fn open(&self, _context: SinkContext) -> Result<OpenSink, ConnectorError> {
        Err(ConnectorError::Refused { what: "nowhere".into(), message: "it is only planned".into() })
    }
}

fn planned(query: &str) -> Result<Graph, SqlErrors> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tables.sql"), TABLES).unwrap();
    std::fs::write(folder.path().join("query.sql"), query).unwrap();
    let program = Program::read(folder.path(), &Variables::default())?;
    let options = PlanOptions { bounded: false, print: Arc::new(Nowhere) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(plan(&program, &options))
}

fn graph(query: &str) -> Graph {
    planned(query).unwrap_or_else(|errors| panic!("{:#?}", errors.errors))
}

/// Message and help of the only error.
fn refusal(query: &str) -> (String, String) {
    let Err(errors) = planned(query) else { panic!("planned: {query}") };
    let [error] = errors.errors.as_slice() else { panic!("{:#?}", errors.errors) };
    assert!(error.location.is_some());
    (error.message.clone(), error.help.clone().unwrap_or_default())
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.name.as_str()).collect()
}

#[track_caller]
fn refuses(query: &str, message: &str, help: &str) {
    let (actual, actual_help) = refusal(query);
    assert_eq!(actual, message);
    assert!(actual_help.contains(help), "help: {actual_help}");
}

/// The names of the sinks, and by what checkpoints know them.
fn sinks(graph: &Graph) -> Vec<(&str, &str)> {
    let sinks = graph.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Sink(_)));
    sinks.map(|node| (node.name.as_str(), node.identity())).collect()
}

#[test]
fn a_table_that_is_written_and_read_has_two_nodes_and_its_sink_keeps_its_identity() {
    let write = "INSERT INTO untimed SELECT id, page FROM clicks;";
    assert_eq!(sinks(&graph(write)), [("untimed", "untimed")]);
    let both = graph(&format!("{write} SELECT page FROM untimed;"));
    assert_eq!(names(&both), ["clicks", "untimed", "untimed.map", "query.map", "untimed.sink", "query.print"]);
    assert_eq!(sinks(&both), [("untimed.sink", "untimed"), ("query.print", "query.print")]);
}

#[test]
fn only_needed_columns_are_read_and_a_table_is_read_once() {
    let graph = graph(
        "SELECT page, count(*) FROM clicks GROUP BY tumble(INTERVAL '1 minute'), page;
         SELECT sum(price) FROM clicks WHERE page = 'home' GROUP BY hop(INTERVAL '1 minute', INTERVAL '5 minutes');",
    );
    let sources: Vec<_> = graph.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Source(_))).collect();
    assert_eq!(sources.len(), 1);
    let columns: Vec<&str> = sources[0].outputs[0].fields().iter().map(|field| field.name().as_str()).collect();
    // No query reads id, but it is NOT NULL.
    assert_eq!(columns, ["id", "ts", "page", "price", "__event_time", "__row_watermark"]);
}

#[test]
fn a_windowed_query_is_partial_exchange_final_sink() {
    let graph = graph("SELECT page, count(*) AS hits FROM clicks GROUP BY tumble(INTERVAL '1 minute'), page;");
    assert_eq!(names(&graph), ["clicks", "query.map", "query.partial", "query.window", "query.map_2", "query.print"]);
    assert_eq!(graph.nodes[3].inputs[0][0].distribution, Distribution::Hash(vec![1]));
    let detail = &graph.nodes[3].detail;
    assert_eq!(detail, "tumble(1m) by page: count(*)");
}

#[test]
fn filters_are_applied_before_rows_are_aggregated() {
    let graph = graph(
        "SELECT * FROM (SELECT page, id FROM clicks) WHERE page LIKE 'a%';
         SELECT count(*) FROM (SELECT page AS p FROM clicks) WHERE p = 'b' GROUP BY tumble(INTERVAL '1 minute');",
    );
    for name in ["query.map", "query_2.map"] {
        let node = graph.nodes.iter().find(|node| node.name == name).unwrap();
        assert!(node.detail.contains("where"), "{}", node.detail);
    }
}

#[test]
fn early_results_reach_only_windows_that_lead_straight_to_the_sink() {
    let graph = graph(
        "CREATE TABLE top (page TEXT, hits BIGINT, PRIMARY KEY (page))
             WITH (connector = 'redis', url = 'embedded', key = 'top:{page}', emit_early = '1 second');
         INSERT INTO top SELECT page, count(*) FROM clicks GROUP BY tumble(INTERVAL '1 minute'), page;
         INSERT INTO top SELECT page, hits FROM (SELECT page, hits, ROW_NUMBER() OVER (PARTITION BY window ORDER BY hits) AS n
             FROM (SELECT tumble(INTERVAL '1 minute') AS window, page, count(*) AS hits FROM clicks GROUP BY window, page))
             WHERE n = 1;",
    );
    let ticks = |name: &str| {
        let node = graph.nodes.iter().find(|node| node.name == name).unwrap();
        match &node.kind {
            NodeKind::Operator(operator) => operator.tick,
            _ => None,
        }
    };
    assert!(ticks("top.partial").is_some() && ticks("top.window").is_some());
    assert_eq!((ticks("top_2.partial"), ticks("top_2.window")), (None, None));
}

#[test]
fn a_key_shows_its_newest_window_whether_or_not_it_is_selected() {
    let details = |query: &str| graph(query).nodes.into_iter().map(|node| node.detail).collect::<Vec<_>>();
    let keeps = |query: &str| details(query).contains(&"keep the newest window of each page".to_owned());
    assert!(keeps("INSERT INTO pages SELECT page, count(*) FROM clicks GROUP BY tumble(INTERVAL '1 minute'), page"));
    assert!(keeps(
        "INSERT INTO pages SELECT page, sum(n) FROM
         (SELECT hop(INTERVAL '10 s', INTERVAL '1 minute') AS w, page, id, count(*) AS n FROM clicks GROUP BY w, page, id)
         GROUP BY w, page"
    ));
    // Rows that are no window's come as they come.
    assert!(!keeps("INSERT INTO pages SELECT page, id FROM clicks"));
    assert!(!keeps("INSERT INTO pages SELECT page, count(*) FROM clicks GROUP BY page"));
}

#[test]
fn what_never_ends_is_refused_with_the_form_that_runs() {
    refuses(
        "SELECT page, count(*) FROM clicks GROUP BY page;",
        "an aggregate without a window never ends on an input without end, and the sink can only add rows",
        "GROUP BY tumble(INTERVAL '1 minute')",
    );
    refuses(
        "SELECT * FROM clicks ORDER BY ts;",
        "ORDER BY would need all rows of an input without end",
        "ORDER BY window",
    );
    refuses("SELECT * FROM clicks LIMIT 5;", "LIMIT has no meaning on an input without end", "ROW_NUMBER()");
    refuses(
        "SELECT a.id FROM clicks a JOIN views b ON a.id = b.id;",
        "a join of streams needs equal windows on both sides",
        "join ON a.window = b.window",
    );
    refuses(
        "SELECT id, ROW_NUMBER() OVER (PARTITION BY page ORDER BY ts) FROM clicks;",
        "a window function (OVER) would need all rows of an input without end",
        "OVER (PARTITION BY window ORDER BY ...)",
    );
    refuses(
        "SELECT DISTINCT page FROM clicks;",
        "an aggregate without a window never ends on an input without end, and the sink can only add rows",
        "PRIMARY KEY",
    );
    refuses(
        "SELECT DISTINCT ON (page) page, id FROM clicks;",
        "SELECT DISTINCT ON has no streaming form",
        "ROW_NUMBER()",
    );
}

#[test]
fn a_sink_with_a_key_takes_updates_and_a_bounded_input_ends() {
    graph("INSERT INTO pages SELECT page, count(*) FROM clicks GROUP BY page;");
    graph("SELECT page, count(*) FROM log GROUP BY page ORDER BY page LIMIT 3;");
    graph("SELECT a.id FROM log a JOIN log b ON a.id = b.id;");
    graph("SELECT id, ROW_NUMBER() OVER (ORDER BY id) FROM log;");
}

#[test]
fn windows_stand_in_group_by_and_need_event_time() {
    refuses("SELECT tumble(INTERVAL '1 minute') FROM clicks;", "tumble() stands outside GROUP BY", "GROUP BY window");
    refuses(
        "SELECT count(*) FROM untimed GROUP BY tumble(INTERVAL '1 minute');",
        "a window needs an event time, and these rows have none",
        "declare WATERMARK FOR column",
    );
    refuses(
        "SELECT count(*) FROM clicks GROUP BY tumble(INTERVAL '1 minute'), hop(INTERVAL '1 minute', INTERVAL '2 minutes');",
        "GROUP BY has two windows",
        "keep one",
    );
    refuses(
        "SELECT page, count(*) FROM clicks GROUP BY ROLLUP (page);",
        "GROUPING SETS, ROLLUP and CUBE have no streaming form",
        "UNION ALL",
    );
}

#[test]
fn clocks_chance_and_subqueries_are_refused() {
    refuses("SELECT now() FROM clicks;", "now() would give another result at every run", "METADATA FROM 'timestamp'");
    refuses("SELECT random() FROM clicks;", "random() would give another result at every run", "md5");
    refuses(
        "SELECT id FROM clicks WHERE id IN (SELECT id FROM views);",
        "a subquery inside an expression has no streaming form",
        "join",
    );
    refuses("SELECT 1;", "the query reads no table", "SELECT ... FROM table");
}

#[test]
fn inserts_fit_their_table() {
    refuses(
        "INSERT INTO pages SELECT page FROM clicks;",
        "the query gives 1 column and pages takes 2 columns",
        "in this order: page, hits",
    );
    refuses(
        "INSERT INTO strict (page) SELECT page FROM clicks;",
        "column id of strict is NOT NULL and the query does not give it",
        "add it to the list",
    );
    refuses(
        "INSERT INTO pages SELECT page, tags FROM clicks;",
        "column tags is List(Utf8), and pages takes Int64 there",
        "CAST",
    );
    let graph = graph("INSERT INTO strict (page, id) SELECT page, id FROM clicks;");
    assert_eq!(names(&graph), ["clicks", "strict.map", "strict"]);
}

const VIEWS: &str = "
CREATE VIEW a AS SELECT tumble(INTERVAL '1 minute') AS window, page, count(*) AS n FROM clicks GROUP BY window, page;
CREATE VIEW b AS SELECT tumble(INTERVAL '1 minute') AS window, page, count(*) AS m FROM views GROUP BY window, page;
CREATE VIEW s AS SELECT session(INTERVAL '1 minute') AS window, page, count(*) AS n FROM clicks GROUP BY window, page;
";

#[test]
fn what_does_not_tell_the_window_does_not_end_with_it() {
    let without_end =
        "an aggregate without a window never ends on an input without end, and the sink can only add rows";
    let refused = |query: &str, message: &str, help: &str| refuses(&format!("{VIEWS}{query}"), message, help);
    refused("SELECT CAST(window['start'] AS DATE) AS d, sum(n) FROM a GROUP BY d;", without_end, "tumble");
    refused("SELECT window['start'] AS since, sum(n) FROM s GROUP BY since;", without_end, "tumble");
    refused(
        "SELECT b.window, count(*) FROM a LEFT JOIN b ON a.window = b.window GROUP BY b.window;",
        without_end,
        "tumble",
    );
    graph(&format!("{VIEWS}SELECT window['start'] AS since, sum(n) FROM a GROUP BY since;"));
    graph(&format!("{VIEWS}SELECT CAST(window['end'] AS TIMESTAMP(0)) AS e, sum(n) FROM a GROUP BY e;"));
    graph(&format!("{VIEWS}SELECT a.window, count(*) FROM a LEFT JOIN b ON a.window = b.window GROUP BY a.window;"));
    let full =
        "SELECT w, count(*) FROM (SELECT coalesce(a.window, b.window) AS w FROM a FULL JOIN b ON a.window = b.window)";
    graph(&format!("{VIEWS}{full} GROUP BY w;"));
}

#[test]
fn columns_named_by_using_would_be_null_where_only_the_right_side_is() {
    let query = |join: &str| format!("{VIEWS}SELECT page, n, m FROM a {join} JOIN b USING (window, page);");
    for join in ["RIGHT", "FULL"] {
        refuses(&query(join), &format!("a {join} JOIN has no USING or NATURAL"), "coalesce(a.window, b.window)");
    }
    graph(&query("LEFT"));
}

#[test]
fn a_window_named_like_a_column_that_is_read_is_told_so() {
    refuses(
        &format!("{VIEWS}SELECT tumble(INTERVAL '1 hour') AS window, sum(n) FROM a GROUP BY window;"),
        "GROUP BY window means the column window that is read, not tumble()",
        "a name that no column has",
    );
}

#[test]
fn what_nothing_takes_back_is_not_published_early() {
    let early = |query: &str| {
        let table = "CREATE TABLE top (page TEXT, hits BIGINT, since TIMESTAMP, PRIMARY KEY (page, since)) WITH (connector = 'redis',
            url = 'embedded', key = 'top:{page}:{since}', emit_early = '1 second');";
        let graph = graph(&format!("{table} INSERT INTO top SELECT page, hits, window['start'] FROM ({query});"));
        let node = graph.nodes.iter().find(|node| node.name == "top.window").unwrap();
        matches!(&node.kind, NodeKind::Operator(operator) if operator.tick.is_some())
    };
    let windowed = |window: &str, having: &str| {
        format!("SELECT {window} AS window, page, count(*) AS hits FROM clicks GROUP BY window, page {having}")
    };
    assert!(early(&windowed("tumble(INTERVAL '1 minute')", "")));
    assert!(early(&windowed("tumble(INTERVAL '1 minute')", "HAVING page <> 'home'")));
    assert!(!early(&windowed("tumble(INTERVAL '1 minute')", "HAVING count(*) < 5")), "5 may come after 4");
    assert!(!early(&windowed("session(INTERVAL '1 minute')", "")), "a session's start is in the key and may change");
    refuses(
        "INSERT INTO pages SELECT page, count(*) FROM clicks GROUP BY page HAVING count(*) < 5;",
        "rows of an aggregate without a window change for ever, and what HAVING, WHERE or a changed key leaves behind would stay",
        "only what is in GROUP BY",
    );
    refuses(
        "INSERT INTO pages SELECT 'all', count(*) FROM (SELECT page, count(*) FROM clicks GROUP BY page);",
        "an aggregate over an aggregate without a window never gets its input on an input without end",
        "add a window to the inner one",
    );
}

#[test]
fn a_mistake_in_a_view_does_not_hide_those_of_other_queries() {
    let Err(errors) = planned(
        "CREATE VIEW bad AS SELECT colour FROM clicks; CREATE VIEW worse AS SELECT * FROM bad;
         SELECT * FROM worse; SELECT idd FROM clicks; SELECT id FROM views;",
    ) else {
        panic!("planned")
    };
    let messages: Vec<&str> = errors.errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["there is no column 'colour'", "there is no column 'idd'"]);
}

#[test]
fn a_length_of_time_is_printed_as_text() {
    let graph = graph(&format!("{VIEWS}SELECT window['end'] - window['start'] AS length FROM s;"));
    let sink = graph.nodes.iter().find(|node| node.name == "query.print").unwrap();
    let NodeKind::Sink(sink) = &sink.kind else { panic!("no sink") };
    assert_eq!(sink.schema.field(0).data_type(), &arrow::datatypes::DataType::Utf8);
}

#[test]
fn only_unnest_is_joined_with_each_row() {
    graph("SELECT id, tag FROM clicks CROSS JOIN UNNEST(tags) AS u(tag) WHERE tag <> page;");
    graph("SELECT id, tag FROM clicks CROSS JOIN UNNEST(tags) AS tag;");
    graph("SELECT c.id, u.tag FROM clicks AS c, LATERAL UNNEST(c.tags) AS u(tag);");
    refuses(
        "SELECT id, tag FROM clicks LEFT JOIN UNNEST(tags) AS u(tag) ON true;",
        "a join with a query over each row has no streaming form",
        "CROSS JOIN UNNEST(list) AS u(item)",
    );
    refuses("SELECT id FROM clicks JOIN (VALUES (1)) AS v(x) ON id = x;", "VALUES has no streaming form", "CASE");
}

#[test]
fn what_is_inserted_goes_by_place_whatever_its_name() {
    graph("INSERT INTO untimed SELECT id, CAST(id AS TEXT) FROM clicks;");
    graph(
        "INSERT INTO untimed SELECT id, CAST(id AS TEXT) FROM clicks
         UNION ALL SELECT id, CAST(id AS TEXT) FROM clicks;",
    );
    let (message, _) = refusal("SELECT id, CAST(id AS TEXT) FROM clicks;");
    assert!(message.ends_with("have the same name"), "a printed row needs names: {message}");
}

#[test]
fn what_cannot_be_printed_or_windowed_is_told() {
    refuses(
        "SELECT json_get(page, 'a') AS j FROM clicks;",
        "column j is a JSON value of any type, which cannot be printed",
        "json_get_str() give text",
    );
    let (message, _) = refusal("SELECT count(*) FROM clicks GROUP BY tumble(ts, INTERVAL '1 minute');");
    assert_eq!(
        message,
        "tumble() takes no column: the time is the one of the table's WATERMARK. Write tumble(INTERVAL '30 seconds')"
    );
}
