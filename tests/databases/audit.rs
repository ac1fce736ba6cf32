//! An audit of a PostgreSQL table: every row that is lost, there twice or changed behind its back is found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use acequia::checkpoint::ledger::Tally;
use acequia::connectors::delivery::{Delivery, OpenSink};
use acequia::connectors::{ConnectorError, SinkContext, SinkFactory, SinkMode, registry};
use acequia::dataflow::audit::{AuditOptions, Finding, Verdict, audit};
use acequia::dataflow::graph::{Graph, Node, NodeKind, SinkNode};
use acequia::program::Program;
use acequia::sql::{SourceFiles, Variables};
use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::array::{TimestampNanosecondArray, new_null_array};
use arrow::compute::{cast, concat};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::postgres::{Database, database};

/// The table's sink, said to deliver by the epoch whatever it does.
struct PerEpoch(Arc<dyn SinkFactory>);

#[async_trait]
impl SinkFactory for PerEpoch {
    fn mode(&self) -> SinkMode {
        self.0.mode()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        self.0.open(context).await
    }
}

fn program(database: &Database, columns: &str) -> Program {
    let url = database.url();
    let sql = format!("CREATE TABLE t ({columns}) WITH (connector = 'postgres', url = '{url}', create = 'true');");
    let mut files = SourceFiles::default();
    files.add("t.sql".into(), sql);
    match Program::parse(files, &Variables::from_environment(), &registry::connectors()) {
        Ok(program) => program,
        Err(errors) => panic!("{}", errors.render(false)),
    }
}

fn graph(program: &Program) -> Graph {
    let table = &program.tables[0];
    let factory = Arc::new(PerEpoch(table.connector.sink().unwrap()));
    let kind = NodeKind::Sink(SinkNode { table: "t".into(), factory, schema: table.definition.writable_schema() });
    Graph { nodes: vec![Node { name: "t".into(), detail: String::new(), kind, inputs: vec![], outputs: vec![] }] }
}

/// Nine rows and one of nulls; the sums of epochs are what a log would have counted.
async fn write(program: &Program, graph: &Graph) -> Tally {
    let schema = program.tables[0].definition.writable_schema();
    let columns: [ArrayRef; 6] = [
        Arc::new(Int64Array::from_iter_values(0..9)),
        Arc::new(StringArray::from_iter_values((0..9).map(|row| format!("\"n{row}\"\n, é")))),
        Arc::new(
            Decimal128Array::from_iter_values((0..9).map(|row| row * 101 - 300))
                .with_precision_and_scale(12, 2)
                .unwrap(),
        ),
        Arc::new(Float64Array::from_iter_values((0..9).map(|row| f64::from(row) / 3.0))),
        Arc::new(TimestampNanosecondArray::from_iter_values((0..9).map(|row| row * 1_000_001_000))),
        Arc::new(BooleanArray::from_iter((0..9).map(|row| Some(row % 2 == 0)))),
    ];
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| {
        let column = cast(column, field.data_type()).unwrap();
        concat(&[&column, &new_null_array(field.data_type(), 1)]).unwrap()
    });
    let rows = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
    let NodeKind::Sink(node) = &graph.nodes[0].kind else { panic!("a sink") };
    let mut sink = super::open(&node.factory, &schema).await.unwrap();
    let mut tally = Tally::default();
    for batch in [rows.slice(0, 4), rows.slice(4, 6)] {
        tally.add(&batch).unwrap();
        sink.write(batch).await.unwrap();
        sink.flush().await.unwrap();
    }
    tally
}

async fn audited(program: &Program, graph: &Graph, expected: Tally) -> Finding {
    let options = AuditOptions { pipeline: "p".into(), data_dir: PathBuf::new(), stop: CancellationToken::new() };
    audit(program, graph, &BTreeMap::from([("t".to_owned(), expected)]), &options).await.remove(0)
}

const COLUMNS: &str = "id BIGINT, name TEXT, price DECIMAL(12, 2), share DOUBLE, ts TIMESTAMP, yes BOOLEAN";

#[tokio::test]
async fn every_row_that_is_lost_doubled_or_changed_is_found() {
    let database = database().await;
    let program = program(&database, COLUMNS);
    let graph = graph(&program);
    let expected = write(&program, &graph).await;
    let verdict = async || audited(&program, &graph, expected).await.verdict;
    assert_eq!(verdict().await, Verdict::Whole);
    database.run("CREATE TABLE kept AS SELECT * FROM t").await;
    let damages = [
        ("DELETE FROM t WHERE id = 3", Verdict::Missing(1)),
        ("DELETE FROM t WHERE id IS NULL", Verdict::Missing(1)),
        ("INSERT INTO t SELECT * FROM t WHERE id = 3", Verdict::Surplus(1)),
        ("INSERT INTO t SELECT * FROM t", Verdict::Surplus(10)),
        ("UPDATE t SET name = name || ' ' WHERE id = 3", Verdict::Changed),
        ("UPDATE t SET price = price + 0.01 WHERE id = 3", Verdict::Changed),
        ("UPDATE t SET share = 0.1 WHERE id = 3", Verdict::Changed),
        ("UPDATE t SET ts = ts + INTERVAL '1 microsecond' WHERE id = 3", Verdict::Changed),
        ("UPDATE t SET yes = NOT yes WHERE id = 3", Verdict::Changed),
        ("UPDATE t SET yes = false WHERE id IS NULL", Verdict::Changed),
        ("UPDATE t SET id = 4 WHERE id = 3", Verdict::Changed),
    ];
    for (damage, wanted) in damages {
        database.run(damage).await;
        assert_eq!(verdict().await, wanted, "{damage}");
        database.run("TRUNCATE t; INSERT INTO t SELECT * FROM kept").await;
        assert_eq!(verdict().await, Verdict::Whole);
    }
}

#[tokio::test]
async fn a_column_that_does_not_come_back_as_it_was_written_proves_nothing() {
    let database = database().await;
    database.run("CREATE TABLE t (doc JSONB)").await;
    let documents = program(&database, "doc TEXT");
    let finding = audited(&documents, &graph(&documents), Tally::default()).await;
    let why = "cannot be proved: column doc is jsonb, which keeps what JSON means and not its text";
    assert_eq!(finding.verdict.to_string(), why);
    database.run("DROP TABLE t").await;
    let finding = audited(&documents, &graph(&documents), Tally::default()).await;
    assert!(finding.verdict.to_string().ends_with("there is no such table"), "{}", finding.verdict);
    assert!(finding.verdict.is_wrong());
}
