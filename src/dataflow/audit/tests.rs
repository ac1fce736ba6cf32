//! Files of lines and Parquet: written by the connector's own sinks, then damaged row by row.

use std::path::{Path, PathBuf};

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::connectors::delivery::OpenSink;
use crate::connectors::{
    Boundedness, Decoding, SinkContext, SinkFactory, Source, SourceContext, SourceEvent, registry,
};
use crate::dataflow::graph::Node;
use crate::sql::{SourceFiles, Variables};

/// A file's sink, said to deliver so, whatever it does.
struct Delivering(Arc<dyn SinkFactory>, Delivery);

#[async_trait]
impl SinkFactory for Delivering {
    fn mode(&self) -> SinkMode {
        self.0.mode()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn delivery(&self) -> Delivery {
        self.1
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        self.0.open(context).await
    }
}

fn program(path: &Path, format: &str) -> Program {
    let sql = format!(
        "CREATE TABLE t (id BIGINT NOT NULL, name TEXT, price DECIMAL(12, 2), share DOUBLE, ts TIMESTAMP)\n\
         WITH (connector = 'file', path = '{}', format = '{format}');",
        path.display()
    );
    let mut files = SourceFiles::default();
    files.add("t.sql".into(), sql);
    match Program::parse(files, &Variables::from_environment(), &registry::connectors()) {
        Ok(program) => program,
        Err(errors) => panic!("{}", errors.render(false)),
    }
}

fn graph(program: &Program, delivery: Delivery) -> Graph {
    let table = &program.tables[0];
    let factory = Arc::new(Delivering(table.connector.sink().unwrap(), delivery));
    let schema = table.definition.writable_schema();
    let kind = NodeKind::Sink(SinkNode { table: "t".into(), factory, schema });
    Graph { nodes: vec![Node { name: "t.sink".into(), detail: String::new(), kind, inputs: vec![], outputs: vec![] }] }
}

/// Ten rows, with nulls, signs, quotes and nanoseconds.
fn rows(schema: &SchemaRef) -> RecordBatch {
    let some = |row: i64| (row % 4 != 3).then_some(row);
    let names = (0..10).map(|row| some(row).map(|row| format!("\"n{row}\"\n, é")));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..10)),
        Arc::new(StringArray::from_iter(names)),
        Arc::new(Decimal128Array::from_iter((0..10).map(|row| some(row).map(|row| i128::from(row * 101 - 300))))),
        Arc::new(Float64Array::from_iter((0..10).map(|row| some(row).map(|row| row as f64 / 3.0)))),
        Arc::new(TimestampNanosecondArray::from_iter((0..10).map(|row| some(row).map(|row| row * 1_000_000_001)))),
    ];
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()).unwrap());
    let columns: Vec<ArrayRef> =
        columns.enumerate().map(|(at, column)| if at == 2 { prices(schema) } else { column }).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

fn prices(schema: &SchemaRef) -> ArrayRef {
    let prices = (0..10).map(|row| (row % 4 != 3).then_some(row * 101 - 300));
    Arc::new(Decimal128Array::from_iter(prices).with_data_type(schema.field(2).data_type().clone()))
}

async fn write(graph: &Graph, batches: &[RecordBatch]) -> Tally {
    let NodeKind::Sink(sink) = &graph.nodes[0].kind else { panic!("a sink") };
    let context = SinkContext {
        table: "t".into(),
        pipeline: "p".into(),
        writer: None,
        schema: Arc::clone(&sink.schema),
        data_dir: PathBuf::new(),
        stop: CancellationToken::new(),
    };
    let mut open = sink.factory.open(context).await.unwrap().at_once().unwrap();
    let mut tally = Tally::default();
    for batch in batches {
        tally.add(batch).unwrap();
        open.write(batch.clone()).await.unwrap();
    }
    open.flush().await.unwrap();
    open.close().await.unwrap();
    tally
}

async fn audited(program: &Program, graph: &Graph, expected: Tally) -> Finding {
    let options = AuditOptions { pipeline: "p".into(), data_dir: PathBuf::new(), stop: CancellationToken::new() };
    let expected = BTreeMap::from([("t".to_owned(), expected)]);
    audit(program, graph, &expected, &options).await.remove(0)
}

fn schema_of(program: &Program) -> Arc<Schema> {
    program.tables[0].definition.writable_schema()
}

#[tokio::test]
async fn every_line_that_is_lost_doubled_or_changed_is_found() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("out.jsonl");
    let program = program(&path, "json");
    let graph = graph(&program, Delivery::PerEpoch);
    let rows = rows(&schema_of(&program));
    let expected = write(&graph, &[rows.slice(0, 4), rows.slice(4, 6)]).await;
    let whole = audited(&program, &graph, expected).await;
    assert_eq!((whole.expected, whole.found, whole.verdict), (Some(10), Some(10), Verdict::Whole));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 10);
    for at in 0..10 {
        let damaged = async |lines: Vec<String>| {
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            audited(&program, &graph, expected).await.verdict
        };
        let mut lost: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let line = lost.remove(at);
        assert_eq!(damaged(lost.clone()).await, Verdict::Missing(1));
        let mut doubled = lost.clone();
        doubled.extend([line.clone(), line.clone()]);
        assert_eq!(damaged(doubled).await, Verdict::Surplus(1));
        // Another order is no difference; another value of any column is.
        let mut moved = lost.clone();
        moved.push(line.clone());
        assert_eq!(damaged(moved).await, Verdict::Whole);
        for column in ["id", "name", "price", "share", "ts"] {
            let mut row: serde_json::Value = serde_json::from_str(&line).unwrap();
            row[column] = match &row[column] {
                serde_json::Value::Null => serde_json::json!(match column {
                    "name" => serde_json::json!(""),
                    "ts" => serde_json::json!("1970-01-01T00:00:00Z"),
                    _ => serde_json::json!(0),
                }),
                _ if column == "ts" => serde_json::json!("1970-01-01T00:00:00.000002Z"),
                _ if column == "name" => serde_json::json!("other"),
                _ => serde_json::json!(77),
            };
            let mut changed = lost.clone();
            changed.push(row.to_string());
            assert_eq!(damaged(changed).await, Verdict::Changed, "{row}");
        }
        // One lost and another twice: as many rows, and seen all the same.
        let mut swapped = lost.clone();
        swapped.push(lost[0].clone());
        assert_eq!(damaged(swapped).await, Verdict::Changed);
        let mut torn = lost.clone();
        torn.push(line[..line.len() / 2].to_owned());
        assert!(matches!(damaged(torn).await, Verdict::Unreadable(1, _)));
    }
}

#[tokio::test]
async fn parquet_comes_back_as_it_was_written() {
    let place = tempfile::tempdir().unwrap();
    let program = program(&place.path().join("out"), "parquet");
    let graph = graph(&program, Delivery::PerEpoch);
    let rows = rows(&schema_of(&program));
    let expected = write(&graph, std::slice::from_ref(&rows)).await;
    assert_eq!(audited(&program, &graph, expected).await.verdict, Verdict::Whole);
    let mut more = expected;
    more.add(&rows.slice(0, 2)).unwrap();
    assert_eq!(audited(&program, &graph, more).await.verdict, Verdict::Missing(2));
}

#[tokio::test]
async fn what_cannot_be_proved_is_said() {
    let place = tempfile::tempdir().unwrap();
    let program = program(&place.path().join("out.jsonl"), "json");
    let found = audited(&program, &graph(&program, Delivery::AtOnce), Tally::default()).await;
    let text = found.verdict.to_string();
    assert_eq!(text, "cannot be proved: its rows are delivered at least once, so some may rightly be there twice");
    assert!(!found.verdict.is_wrong());
    // Nothing was ever written.
    let found = audited(&program, &graph(&program, Delivery::PerEpoch), Tally::default()).await;
    assert!(matches!(&found.verdict, Verdict::Failed(why) if why.contains("no such file")), "{:?}", found.verdict);
}

/// A server that never answers.
struct Silent;

#[async_trait]
impl SourceFactory for Silent {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Rows
    }

    fn describe(&self) -> String {
        "Kafka at nowhere".into()
    }

    async fn instances(&self, _context: &SourceContext, _parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(1)
    }

    async fn open(&self, _context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        Ok(Box::new(Silent))
    }
}

#[async_trait]
impl Source for Silent {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_is_not_waited_for_for_ever() {
    let program = program(Path::new("out.jsonl"), "json");
    let graph = graph(&program, Delivery::PerEpoch);
    let NodeKind::Sink(sink) = &graph.nodes[0].kind else { panic!("a sink") };
    let options = AuditOptions { pipeline: "p".into(), data_dir: PathBuf::new(), stop: CancellationToken::new() };
    let error = rows::read(&program.tables[0], sink, Arc::new(Silent), &options).await.unwrap_err();
    assert_eq!(error.to_string(), "Kafka at nowhere: nothing has come from it for 30 s");
}

fn counted(rows: u64) -> Tally {
    Tally { rows, hash: u128::from(rows) * 1_000_003 }
}

fn holding(rows: Rows) -> Holding {
    Holding { sink: "t".into(), held: Held::Rows(rows) }
}

/// What follows from so many rows, where the checkpoints say this before and after the reading.
fn judged(rows: u64, due: &[Due]) -> Verdict {
    let due: Vec<_> = due.iter().map(|due| BTreeMap::from([("t".to_owned(), due.clone())])).collect();
    let due: Vec<_> = due.iter().collect();
    judge(&holding(Rows { tally: counted(rows), ..Rows::default() }), &due).verdict
}

#[test]
fn a_running_pipeline_may_have_the_newest_epochs_on_their_way() {
    let due = |all: u64, earlier: &[u64]| Due {
        all: counted(all),
        earlier: earlier.iter().map(|rows| counted(*rows)).collect(),
    };
    // Epochs of ten rows; those up to 70, and later up to 90, were known to be there.
    let [before, after] = [due(100, &[90, 80, 70]), due(120, &[110, 100, 90])];
    let both = [before.clone(), after.clone()];
    for whole in [100, 120] {
        assert_eq!(judged(whole, &both), Verdict::Whole);
    }
    for (found, under_way) in [(110, 10), (90, 30), (70, 50)] {
        assert_eq!(judged(found, &both), Verdict::UnderWay(under_way));
    }
    assert_eq!(judged(60, &both), Verdict::Missing(60));
    assert_eq!(judged(99, &both), Verdict::Missing(21));
    assert_eq!(judged(130, &both), Verdict::Surplus(10));
    assert_eq!(judged(80, std::slice::from_ref(&after)), Verdict::Missing(40));
    // As many rows as an epoch would leave, but not the same.
    let other = Rows { tally: Tally { rows: 90, hash: 1 }, ..Rows::default() };
    let due = BTreeMap::from([("t".to_owned(), before)]);
    assert_eq!(judge(&holding(other), &[&due]).verdict, Verdict::Missing(10));
}

#[test]
fn what_may_rightly_differ_is_not_called_wrong() {
    let due = BTreeMap::from([("t".to_owned(), Due::from(counted(10)))]);
    let told = |rows: Rows| judge(&holding(rows), &[&due]).told();
    assert_eq!(
        told(Rows { tally: counted(9), some_left_out: true, ..Rows::default() }),
        "cannot be proved: 1 row is not there; 'on_error' = 'skip' may have left them out, and keeps no count of it"
    );
    let surplus = told(Rows { tally: counted(11), some_left_out: true, ..Rows::default() });
    assert!(surplus.starts_with("1 row is too many"), "{surplus}");
    let unlike = Some("why".to_owned());
    let other = Tally { rows: 10, hash: 1 };
    assert_eq!(told(Rows { tally: other, unlike, ..Rows::default() }), "cannot be proved: why");
    assert_eq!(
        told(Rows { tally: counted(10), dead_letters: 1, ..Rows::default() }),
        "complete, no row twice; 1 of them is a dead letter"
    );
}

#[test]
fn where_no_rows_have_come_nothing_need_be_there() {
    let nothing = BTreeMap::new();
    let of = |held| judge(&Holding { sink: "t".into(), held }, &[&nothing]).verdict;
    assert_eq!(of(Held::Rows(Rows::default())), Verdict::Whole);
    let some = of(Held::Rows(Rows { tally: counted(3), ..Rows::default() }));
    assert_eq!(some.to_string(), "cannot be proved: no checkpoint has counted rows for it");
    let failed = of(Held::Failed("no such file".into()));
    assert_eq!(failed.to_string(), "cannot be proved: no rows have come for it, and it cannot be read");
}

#[test]
fn rows_that_no_run_brings_are_missing() {
    assert!(Verdict::Undelivered(2).is_wrong() && !Verdict::UnderWay(2).is_wrong());
    assert_eq!(Verdict::UnderWay(1).to_string(), "complete so far, no row twice; 1 row is under way");
    assert_eq!(
        Verdict::Undelivered(2).to_string(),
        "2 rows are missing, all of the newest epochs: not delivered yet, and no run is seen to do so, or removed \
         together"
    );
}

#[test]
fn the_findings_stand_in_columns() {
    let finding =
        |sink: &str, expected, found, verdict| Finding { sink: sink.into(), expected, found, dead_letters: 0, verdict };
    let table = render(&[
        finding("events", Some(1000), Some(1000), Verdict::Whole),
        finding("t", Some(12), Some(11), Verdict::Missing(1)),
        finding("u", Some(12), Some(14), Verdict::Surplus(2)),
        finding("metrics", None, None, Verdict::Unprovable("why not".into())),
    ]);
    assert_eq!(
        table,
        "\
sink     expected  found  verdict
events       1000   1000  complete, no row twice
t              12     11  1 row is missing
u              12     14  2 rows are too many: there twice, or not written by this pipeline
metrics         -      -  cannot be proved: why not
"
    );
}
