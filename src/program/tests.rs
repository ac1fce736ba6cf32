use super::*;
use crate::catalog::options::Options;
use crate::catalog::{BadRows, FutureLimit, Percent, TableName};
use crate::connectors::delivery::OpenSink;
use crate::connectors::{
    Boundedness, ConnectorError, Decoding, SinkContext, SinkFactory, SinkMode, Source, SourceContext, SourceFactory,
};
use async_trait::async_trait;
use std::time::Duration;

/// A connector that opens nothing: `both` can be read and written, `in` and `out` only one of them, and `keyed` is
/// written by key. All take `topic`, `brokers` and `password`.
struct Fake(&'static str);

struct FakeTable {
    name: &'static str,
    embedded: bool,
}

struct FakeEnd(SinkMode);

impl Connector for Fake {
    fn name(&self) -> &'static str {
        self.0
    }

    fn table(&self, _: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        match self.0 {
            "both" => options.required(&["topic"], "transactions"),
            _ => options.string(&["topic"]).unwrap_or_default(),
        };
        let brokers = options.take(&["brokers"]);
        if let Some(brokers) = brokers.as_ref().filter(|brokers| brokers.text.contains(' ')) {
            options.error(brokers.location, format!("'{}' is no address", brokers.text), Some("host:port".into()));
        }
        options.string(&["password"]);
        Arc::new(FakeTable { name: self.0, embedded: brokers.is_some_and(|brokers| brokers.text == "embedded") })
    }
}

impl ConnectorTable for FakeTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        matches!(self.name, "both" | "in").then(|| Arc::new(FakeEnd(SinkMode::Append)) as Arc<dyn SourceFactory>)
    }

    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        let mode = if self.name == "keyed" { SinkMode::Upsert(vec![]) } else { SinkMode::Append };
        (self.name != "in").then(|| Arc::new(FakeEnd(mode)) as Arc<dyn SinkFactory>)
    }

    fn embedded(&self) -> Option<&'static str> {
        self.embedded.then_some("Kafka")
    }
}

#[async_trait]
impl SourceFactory for FakeEnd {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn decoding(&self) -> Decoding {
        Decoding::Rows
    }
    fn describe(&self) -> String {
        "fake".into()
    }
    async fn instances(&self, _: &SourceContext, _: usize) -> Result<usize, ConnectorError> {
        Ok(1)
    }
    async fn open(&self, _: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        Err(ConnectorError::Stopped { what: "a fake".into() })
    }
}

#[async_trait]
impl SinkFactory for FakeEnd {
    fn mode(&self) -> SinkMode {
        self.0.clone()
    }
    fn describe(&self) -> String {
        "fake".into()
    }
    async fn open(&self, _: SinkContext) -> Result<OpenSink, ConnectorError> {
        Err(ConnectorError::Stopped { what: "a fake".into() })
    }
}

pub(super) fn connectors() -> Vec<Box<dyn Connector>> {
    ["both", "in", "out", "keyed"].into_iter().map(|name| Box::new(Fake(name)) as Box<dyn Connector>).collect()
}

pub(super) fn variables() -> Variables {
    [("BROKERS", "one two"), ("TOKEN", "s3cr3t-token")]
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .into_iter()
        .collect()
}

fn parse(texts: &[&str]) -> Result<Program, SqlErrors> {
    let mut files = SourceFiles::default();
    for (at, text) in texts.iter().enumerate() {
        files.add(format!("{at}.sql").into(), (*text).into());
    }
    Program::parse(files, &variables(), &connectors())
}

fn program(sql: &str) -> Program {
    match parse(&[sql]) {
        Ok(program) => program,
        Err(errors) => panic!("{errors}"),
    }
}

/// `line:column: message (help)` of each mistake.
fn errors(sql: &str) -> Vec<String> {
    let Err(errors) = parse(&[sql]) else { panic!("no mistake in {sql}") };
    let show = |error: &SqlError| {
        let place = error.location.map_or((0, 0), |location| errors.files.line_and_column(location));
        let help = error.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{}:{}: {}{help}", place.0, place.1, error.message)
    };
    errors.errors.iter().map(show).collect()
}

const IN: &str = "CREATE TABLE src (id BIGINT, ts TIMESTAMP) WITH ('connector' = 'in');\n";
const OUT: &str = "CREATE TABLE dst (id BIGINT) WITH ('connector' = 'out');\n";

#[test]
fn a_program_is_read_whatever_its_order() {
    let program = parse(&[
        "INSERT INTO dst (id) SELECT * FROM last; INSERT INTO dst SELECT id FROM first;",
        "CREATE VIEW last AS SELECT id FROM first; CREATE VIEW first AS SELECT id FROM src; SELECT 1; SELECT 2;",
        &format!("{IN}{OUT}"),
    ]);
    let Ok(program) = program else { panic!("{}", program.err().unwrap()) };
    let views: Vec<&str> = program.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(views, ["first", "last"]);
    let inserts: Vec<&str> = program.inserts.iter().map(|insert| insert.name.as_str()).collect();
    assert_eq!(inserts, ["dst", "dst_2", "query", "query_2"]);
    let target = program.inserts[0].target.as_ref().unwrap();
    assert_eq!((target.table.as_str(), target.columns.as_slice()), ("dst", ["id".to_string()].as_slice()));
    assert_eq!(program.files.slice(program.inserts[2].location), "SELECT 1");
    assert_eq!(program.table("src").unwrap().connector_name, "in");
    assert!(program.table("nothing").is_none());
}

#[test]
fn the_number_of_an_insert_is_never_another_tables_name() {
    let program = program(&format!(
        "{OUT}CREATE TABLE dst_2 (id BIGINT) WITH ('connector' = 'out');
         INSERT INTO dst SELECT 1; INSERT INTO dst SELECT 2; INSERT INTO dst_2 SELECT 3;"
    ));
    let names: Vec<&str> = program.inserts.iter().map(|insert| insert.name.as_str()).collect();
    assert_eq!(names, ["dst", "dst_3", "dst_2"]);
}

#[test]
fn settings_are_taken_before_the_connector_sees_the_options() {
    let program = program(
        "CREATE TABLE late (id BIGINT) WITH ('connector' = 'out');
         CREATE TABLE src (id BIGINT) WITH ('connector' = 'in', 'bad_rows' = 'LATE', 'late_rows' = 'late',
             'idle_timeout' = '5 seconds');
         CREATE TABLE dst (id BIGINT PRIMARY KEY) WITH ('connector' = 'out', 'emit_early' = '1s', 'bad_rows' = 'fail');
         CREATE TABLE cache (id BIGINT) WITH ('connector' = 'keyed', 'emit_early' = '250 ms')",
    );
    let settings = &program.table("src").unwrap().settings;
    assert!(matches!(&settings.bad_rows, BadRows::Table(TableName { name, .. }) if name == "late"));
    assert_eq!(settings.late_rows.as_ref().map(|table| table.name.as_str()), Some("late"));
    assert_eq!(settings.idle_timeout, std::time::Duration::from_secs(5));
    let settings = &program.table("dst").unwrap().settings;
    assert_eq!(settings.bad_rows, BadRows::Fail);
    assert_eq!(settings.emit_early, Some(std::time::Duration::from_secs(1)));
}

#[test]
fn an_embedded_part_names_the_variable_of_the_real_one() {
    let program = program(
        "CREATE TABLE a (id BIGINT) WITH ('connector' = 'in', 'topic' = '${TOPIC:-t}',
             'brokers' = '${KAFKA_BROKERS:-embedded}');
         CREATE TABLE b (id BIGINT) WITH ('connector' = 'in', 'brokers' = 'embedded')",
    );
    assert_eq!(program.table("a").unwrap().variable.as_deref(), Some("KAFKA_BROKERS"));
    assert_eq!(program.table("b").unwrap().variable, None);
}

#[test]
fn connectors_are_named_and_suggested() {
    assert_eq!(
        errors(
            "CREATE TABLE a (id BIGINT) WITH ('connector' = 'bth');
CREATE TABLE b (id BIGINT) WITH ('topic' = 't');
CREATE TABLE c (id BIGINT);
CREATE TABLE d (id BIGINT) WITH ('connector' = 'both', 'topik' = 't');"
        ),
        [
            "1:48: there is no connector 'bth' (did you mean 'both'? It takes 'both', 'in', 'keyed' or 'out')",
            "2:14: table 'b' has no connector (add WITH ('connector' = ...): it takes 'both', 'in', 'keyed' or 'out')",
            "3:14: table 'c' has no connector (add WITH ('connector' = ...): it takes 'both', 'in', 'keyed' or 'out')",
            "4:14: option 'topic' is missing (add 'topic' = 'transactions')",
            "4:56: connector 'both' has no option 'topik' (did you mean 'topic'?)",
        ]
    );
}

#[test]
fn variables_that_are_missing_are_the_only_mistake_of_their_option() {
    assert_eq!(
        errors(
            "CREATE TABLE a (id BIGINT) WITH ('connector' = 'both', 'topic' = 'a-${TOPIC}');
CREATE TABLE b (id BIGINT) WITH ('connector' = '${KIND}')"
        ),
        [
            "1:69: variable TOPIC is not set (set it in the environment, or give a default: ${TOPIC:-default})",
            "2:49: variable KIND is not set (set it in the environment, or give a default: ${KIND:-default})",
        ]
    );
}

#[test]
fn secrets_are_in_no_message() {
    let Err(errors) = parse(&["CREATE TABLE a (id BIGINT) WITH ('connector' = 'in', 'brokers' = '${BROKERS}',
        'pasword' = 'x', 'password' = 'hunter2', 'url' = 'postgres://me:hunter2@db/x', 'idle_timeout' = '${TOKEN}')"])
    else {
        panic!("no mistake")
    };
    let shown = errors.render(false);
    assert!(shown.contains("'***' is no address"), "{shown}");
    assert!(shown.contains("option 'idle_timeout' does not take the value of ${TOKEN}"), "{shown}");
    assert!(shown.contains("connector 'in' has no option 'pasword'"), "{shown}");
    for secret in ["hunter2", "one two", "s3cr3t"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn secrets_are_hidden_in_statements_that_cannot_be_parsed() {
    for sql in [
        "CREATE TABLE a (id BIGINT) WITH ('password' = 'hunter2' 'x' = 'y')",
        "CREATE TABLE a (id BIGINT) WITH ('password' 'hunter2')",
        "CREATE TABLE a (id BIGINT) WITH (ssl.key.password = 'hunter2', 'url' = 'x://me:hunter2@h/', =)",
        "CREATE TABLE a (id BIGINT) WITH ('password' = '${PW:-hunter2}' 'x')",
    ] {
        let Err(errors) = parse(&[sql]) else { panic!("no mistake in {sql}") };
        assert!(!errors.render(false).contains("hunter2"), "{errors}");
    }
}

#[test]
fn the_statements_of_a_shop_are_understood() {
    let program = program(
        "CREATE TABLE transactions (
             event_type TEXT, \"timestamp\" TIMESTAMP NOT NULL, customer_id BIGINT, total_amount DECIMAL(12, 2),
             items STRUCT<product_id BIGINT, category TEXT, quantity INT, unit_price DECIMAL(12, 2)>[],
             raw_data TEXT METADATA FROM 'value',
             WATERMARK FOR \"timestamp\" AS \"timestamp\" - INTERVAL '10 seconds'
         ) WITH ('connector' = 'in', 'brokers' = '${KAFKA_BROKERS:-embedded}');
         CREATE TABLE metrics (category TEXT PRIMARY KEY, sales BIGINT)
         WITH ('connector' = 'keyed', 'emit_early' = '1 second');
         CREATE VIEW items AS SELECT customer_id, unnest(items) AS item FROM transactions;
         INSERT INTO metrics
         SELECT item['category'], count(*) FILTER (WHERE item['quantity'] > 0)
         FROM items GROUP BY item['category'], tumble(INTERVAL '30 seconds') HAVING count(*) > 0;
         SELECT * FROM (
             SELECT *, row_number() OVER (PARTITION BY customer_id ORDER BY item DESC) AS n FROM items
         ) WHERE n <= 3;",
    );
    let watermark = program.tables[0].definition.watermark.as_ref().map(|watermark| watermark.column.as_str());
    assert_eq!(watermark, Some("timestamp"));
    assert_eq!((program.tables.len(), program.views.len(), program.inserts.len()), (2, 1, 2));
}

#[test]
fn duplicates_name_both_places() {
    let Err(errors) = parse(&[IN, "CREATE VIEW Src AS SELECT 1"]) else { panic!("no mistake") };
    assert_eq!(
        errors.render(false),
        "error: 'src' is declared twice
 --> 1.sql:1:13
  |
1 | CREATE VIEW Src AS SELECT 1
  |             ^^^
 ::: 0.sql:1:14
  |
1 | CREATE TABLE src (id BIGINT, ts TIMESTAMP) WITH ('connector' = 'in');
  |              ^^^ first declared here
  = help: give one of them another name: a folder is one program

1 error
"
    );
}

#[test]
fn unknown_tables_are_suggested_or_listed() {
    assert_eq!(
        errors(&format!("{IN}{OUT}SELECT * FROM scr;\nINSERT INTO warehouse SELECT 1;\nSELECT * FROM shop.src")),
        [
            "3:15: there is no table or view 'scr' (did you mean 'src'?)",
            "4:13: there is no table or view 'warehouse' (there are dst, src)",
            "5:15: there is no table or view 'shop.src' \
             (did you mean 'src'? The names of tables and views have no schema before them)",
        ]
    );
    assert_eq!(
        errors("SELECT * FROM t"),
        ["1:15: there is no table or view 't' (declare it with CREATE TABLE or CREATE VIEW)"]
    );
}

#[test]
fn ctes_and_aliases_are_no_tables_of_the_program() {
    let program =
        program(&format!("{IN}WITH dst AS (SELECT id FROM src AS s) SELECT dst.id FROM dst JOIN src AS o ON true"));
    assert_eq!(program.inserts.len(), 1);
}

#[test]
fn tables_are_used_in_the_direction_they_have() {
    assert_eq!(
        errors(&format!(
            "{IN}{OUT}CREATE VIEW v AS SELECT 1;
INSERT INTO src SELECT 1; SELECT * FROM dst; INSERT INTO v SELECT 1"
        )),
        [
            "4:13: table 'src' can only be read (connector 'in' has no sink)",
            "4:41: table 'dst' can only be written \
             (connector 'out' has no source; read what is written to it instead)",
            "4:58: 'v' is a view (INSERT INTO takes a table that can be written)",
        ]
    );
}

#[test]
fn columns_of_an_insert_are_checked() {
    assert_eq!(
        errors(
            "CREATE TABLE dst (id BIGINT, double BIGINT GENERATED ALWAYS AS (id * 2), raw TEXT METADATA FROM 'value',
  k TEXT METADATA FROM 'key') WITH ('connector' = 'out');
INSERT INTO dst (idd, double, id, id, raw, k) SELECT 1, 2, 3, 4, 5, 6"
        ),
        [
            "3:18: there is no column 'idd' in table 'dst' (did you mean 'id'?)",
            "3:23: column 'double' is generated: it cannot be written \
             (leave it out: it is computed when the table is read)",
            "3:35: column 'id' is listed twice",
            "3:39: column 'raw' is METADATA: it cannot be written (leave it out: it is told when the table is read)",
        ]
    );
}

#[test]
fn circles_of_views_are_shown_whole() {
    let Err(errors) = parse(&[
        "CREATE VIEW a AS SELECT * FROM b;\nCREATE VIEW own AS SELECT * FROM own;",
        "CREATE VIEW b AS SELECT * FROM c JOIN a;\nCREATE VIEW c AS SELECT * FROM a;",
    ]) else {
        panic!("no mistake")
    };
    assert_eq!(
        errors.render(false),
        "error: views use each other in a circle: a → b → c → a
 --> 0.sql:1:32
  |
1 | CREATE VIEW a AS SELECT * FROM b;
  |                                ^ 'a' uses 'b'
 ::: 1.sql:1:32
  |
1 | CREATE VIEW b AS SELECT * FROM c JOIN a;
  |                                ^ 'b' uses 'c'
 ::: 1.sql:2:32
  |
2 | CREATE VIEW c AS SELECT * FROM a;
  |                                ^ 'c' uses 'a'
  = help: one of them must be made from tables alone

error: views use each other in a circle: a → b → a
 --> 0.sql:1:32
  |
1 | CREATE VIEW a AS SELECT * FROM b;
  |                                ^ 'a' uses 'b'
 ::: 1.sql:1:39
  |
1 | CREATE VIEW b AS SELECT * FROM c JOIN a;
  |                                       ^ 'b' uses 'a'
  = help: one of them must be made from tables alone

error: view 'own' uses itself
 --> 0.sql:2:34
  |
2 | CREATE VIEW own AS SELECT * FROM own;
  |                                  ^^^
  = help: name a table or another view here

3 errors
"
    );
}

#[test]
fn tables_named_in_settings_exist_and_can_be_written() {
    assert_eq!(
        errors(&format!(
            "{IN}CREATE TABLE a (id INT) WITH ('connector' = 'in', 'bad_rows' = 'cuont', 'late_rows' = 'src');
CREATE TABLE b (id INT) WITH ('connector' = 'in', 'bad_rows' = 'b')"
        )),
        [
            "2:64: there is no table or view 'cuont' \
             (there are a, b, src\nbad_rows takes 'count', 'fail' or the name of a table)",
            "2:87: table 'src' can only be read (connector 'in' has no sink)",
            "3:64: 'bad_rows' of table 'b' is the table itself (name another table)",
        ]
    );
}

#[test]
fn the_limits_of_trouble_are_read() {
    let with = |options: &str| {
        let sql = format!("CREATE TABLE a (id INT) WITH ('connector' = 'in', {options})");
        parse(&[&sql]).map(|program| program.tables[0].settings.clone()).ok()
    };
    let settings = with("'bad_rows_limit' = '0.5 percent', 'future_limit' = '1 hour', 'late_rows' = 'drop'").unwrap();
    assert_eq!(settings.bad_rows_limit, Some(Percent(0.5)));
    assert_eq!(settings.future_limit, FutureLimit::Ahead(Duration::from_secs(3600)));
    assert_eq!(settings.late_rows, None);
    let settings = with("'bad_rows_limit' = 'none', 'future_limit' = 'none'").unwrap();
    assert_eq!((settings.bad_rows_limit, settings.future_limit), (None, FutureLimit::None));
    let settings = with("'bad_rows_limit' = '20%'").unwrap();
    assert_eq!((settings.bad_rows_limit, settings.future_limit), (Some(Percent(20.0)), FutureLimit::Usual));
    assert_eq!(
        errors(
            "CREATE TABLE a (id INT) WITH ('connector' = 'in', 'bad_rows_limit' = '5', 'future_limit' = 'soon');
CREATE TABLE b (id INT) WITH ('connector' = 'in', 'late_rows' = 'update', 'bad_rows_limit' = '100 percent')"
        ),
        [
            "1:70: option 'bad_rows_limit' does not take '5' \
             (it takes a share below 100 such as '5 percent' or '0.5 %', or 'none')",
            "1:92: option 'future_limit' does not take 'soon' \
             (it takes a length of time such as '250 ms', '1 second' or '1 hour')",
            "2:65: 'late_rows' does not take 'update': a window that is closed is not opened again \
             (let windows wait longer, WATERMARK FOR ts AS ts - INTERVAL '1 hour', and publish them meanwhile with \
             'emit_early' on a table with a PRIMARY KEY; or name a table that keeps the late rows, or 'drop')",
            "2:94: option 'bad_rows_limit' does not take '100 percent' \
             (it takes a share below 100 such as '5 percent' or '0.5 %', or 'none')",
        ]
    );
}

#[test]
fn early_results_need_a_key() {
    assert_eq!(
        errors(
            "CREATE TABLE a (id INT) WITH ('connector' = 'out', 'emit_early' = '1s');
CREATE TABLE b (id INT) WITH ('connector' = 'in', 'emit_early' = '1s')"
        ),
        [
            "1:67: 'emit_early' needs a key: table 'a' would keep every early result \
             (declare a PRIMARY KEY, so that a later result replaces an earlier one)",
            "2:66: 'emit_early' has no meaning for table 'b': it can only be read (leave it out)",
        ]
    );
}

#[test]
fn uses_of_a_broken_table_are_no_mistakes() {
    assert_eq!(
        errors(
            "CREATE TABLE t (a STRNG) WITH ('connector' = 'in'); CREATE VIEW v AS SELECT (; \
                INSERT INTO t SELECT * FROM t, v"
        ),
        [
            "1:19: there is no type STRNG (did you mean STRING?)",
            "1:78: expected an expression, found the end of the statement",
        ]
    );
}

#[test]
fn a_folder_without_a_query_has_nothing_to_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.sql"), IN).unwrap();
    let read = || Program::read_with(folder.path(), &variables(), &connectors());
    let Err(errors) = read() else { panic!("no mistake") };
    assert_eq!(
        errors.render(false),
        format!(
            "error: there is nothing to run in {}\n = help: add an INSERT INTO ... SELECT, or a SELECT, which prints\n\n1 error\n",
            folder.path().display()
        )
    );
    std::fs::write(folder.path().join("b.sql"), "SELECT * FROM src").unwrap();
    assert!(read().is_ok());
    assert!(Program::read(Path::new("/nowhere"), &variables()).is_err());
}

#[test]
fn all_mistakes_of_a_folder_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "1.sql",
        b"CREATE TABLE orders (\n  id BIGNT,\n  ts BIGINT,\n  WATERMARK FOR ts\n) WITH ('connector' = 'on');\n",
    );
    write("2.sql", b"SELEC 1;\nINSERT INTO nowhere SELECT * FROM odrers;\n");
    write(
        "3.sql",
        b"CREATE VIEW a AS SELECT * FROM b;\nCREATE VIEW b AS SELECT * FROM a;\nCREATE VIEW a AS SELECT 1;\n",
    );
    write("4.sql", b"SELECT '\xff';\n");
    let Err(errors) = Program::read_with(folder.path(), &variables(), &connectors()) else { panic!("no mistake") };
    let shown = errors.render(false).replace(&format!("{}/", folder.path().display()), "");
    assert_eq!(
        shown,
        "error: 4.sql is not UTF-8: line 1 has a byte that cannot be
 = help: save the file as UTF-8

error: there is no type BIGNT
 --> 1.sql:2:6
  |
2 |   id BIGNT,
  |      ^^^^^
  = help: did you mean BIGINT?

error: the event time must be a TIMESTAMP, and 'ts' is BIGINT
 --> 1.sql:4:17
  |
4 |   WATERMARK FOR ts
  |                 ^^
 ::: 1.sql:3:3
  |
3 |   ts BIGINT,
  |   ^^ declared here
  = help: add a column event_time TIMESTAMP GENERATED ALWAYS AS (to_timestamp_millis(ts)) and name that one

error: there is no connector 'on'
 --> 1.sql:5:23
  |
5 | ) WITH ('connector' = 'on');
  |                       ^^^^
  = help: did you mean 'in'? It takes 'both', 'in', 'keyed' or 'out'

error: there is no statement SELEC here
 --> 2.sql:1:1
  |
1 | SELEC 1;
  | ^^^^^
  = help: did you mean SELECT? the statements are CREATE TABLE, CREATE VIEW, INSERT INTO and SELECT

error: there is no table or view 'nowhere'
 --> 2.sql:2:13
  |
2 | INSERT INTO nowhere SELECT * FROM odrers;
  |             ^^^^^^^
  = help: there are a, b, orders

error: there is no table or view 'odrers'
 --> 2.sql:2:35
  |
2 | INSERT INTO nowhere SELECT * FROM odrers;
  |                                   ^^^^^^
  = help: did you mean 'orders'?

error: views use each other in a circle: a → b → a
 --> 3.sql:1:32
  |
1 | CREATE VIEW a AS SELECT * FROM b;
  |                                ^ 'a' uses 'b'
 ::: 3.sql:2:32
  |
2 | CREATE VIEW b AS SELECT * FROM a;
  |                                ^ 'b' uses 'a'
  = help: one of them must be made from tables alone

error: 'a' is declared twice
 --> 3.sql:3:13
  |
3 | CREATE VIEW a AS SELECT 1;
  |             ^
 ::: 3.sql:1:13
  |
1 | CREATE VIEW a AS SELECT * FROM b;
  |             ^ first declared here
  = help: give one of them another name: a folder is one program

9 errors
"
    );
}

/// A folder with these files.
fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn one_file_borrows_what_it_names_from_those_beside_it() {
    let folder = folder_of(&[
        (
            "tables.sql",
            "CREATE TABLE t (a INT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'in', late_rows = 'late');
                        CREATE TABLE late (a INT) WITH (connector = 'out');
                        CREATE TABLE o (a INT) WITH (connector = 'out', password = 'hunter2');
                        CREATE TABLE other (a INT) WITH (connector = 'nonsense');",
        ),
        ("views.sql", "CREATE VIEW v AS SELECT a FROM w; CREATE VIEW w AS SELECT a FROM t;"),
        ("one.sql", "INSERT INTO o SELECT a FROM v;"),
        ("two.sql", "INSERT INTO o SELECT a FROM nothing; SELEC a;"),
    ]);
    let read = |file: &str| Program::read_with(&folder.path().join(file), &variables(), &connectors());
    let program = read("one.sql").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let names = |tables: &[Table]| tables.iter().map(|t| t.definition.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&program.tables), ["o", "t", "late"]);
    assert_eq!(program.views.len(), 2);
    assert_eq!(program.inserts.len(), 1);
    // What a file declares itself is its own, whatever stands beside it.
    let alone = "CREATE TABLE t (b INT) WITH (connector = 'in'); SELECT b FROM t;";
    std::fs::write(folder.path().join("alone.sql"), alone).unwrap();
    let Ok(alone) = read("alone.sql") else { panic!("mistakes") };
    assert!(alone.tables.len() == 1 && alone.tables[0].definition.column("b").is_some());
    // What is declared nowhere is still a mistake, and of the files beside it only those that are used.
    let Err(errors) = read("two.sql") else { panic!("no mistake") };
    let errors = errors.render(false);
    assert!(errors.contains("there is no table or view 'nothing'"), "{errors}");
    assert!(!errors.contains("nonsense"), "{errors}");
}

#[test]
fn a_mistake_in_what_is_borrowed_is_told() {
    let folder = folder_of(&[
        ("tables.sql", "CREATE TABLE t (a INT) WITH (connector = 'in', late_rows 'late');"),
        ("others.sql", "CREATE TABLE u (a INT) WITH (connector 'in');"),
        ("one.sql", "SELECT a FROM t;"),
    ]);
    let path = folder.path().join("one.sql");
    let Err(errors) = Program::read_with(&path, &variables(), &connectors()) else { panic!("no mistake") };
    let errors = errors.render(false);
    assert!(errors.contains("tables.sql:1:") && !errors.contains("others.sql"), "{errors}");
}
