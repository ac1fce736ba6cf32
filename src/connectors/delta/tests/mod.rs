//! Delta tables as sinks: what is in them after crashes, unknown outcomes, other runs and other columns.

mod epochs;
mod evolution;
mod fencing;
mod flaky;
mod options;
mod s3;
mod values;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use tokio_util::sync::CancellationToken;

use super::commit::marker_of;
use super::options::DeltaOptions;
use super::place::DeltaPlace;
use super::sink::DeltaEpochs;
use crate::catalog::TableDefinition;
use crate::connectors::delivery::{EpochSink, Marker, Writer};
use crate::connectors::sql_table::tests as sql_table;
use crate::connectors::{ConnectorError, SinkContext};
use crate::time::{Epoch, Incarnation, LogId};
use flaky::FlakyStore;

/// A run: its number, and the epoch from which it goes on.
fn run(incarnation: u64, resumed: u64) -> Writer {
    let (log, incarnation) = (LogId("3f9a2c11-77".into()), Incarnation(incarnation));
    Writer { pipeline: "shop".into(), log, incarnation, resumed: Epoch(resumed), fresh: false }
}

fn table(columns: &[(&str, DataType)]) -> TableDefinition {
    sql_table::table("events", columns, &[])
}

fn two_columns() -> TableDefinition {
    table(&[("word", DataType::Utf8), ("n", DataType::Int64)])
}

fn taken(definition: &TableDefinition, pairs: &[(&str, &str)]) -> DeltaOptions {
    let mut options = sql_table::options(pairs);
    let taken = DeltaOptions::take(definition, &mut options);
    assert_eq!(options.finish("delta"), []);
    taken
}

fn context(schema: SchemaRef, writer: Option<Writer>) -> SinkContext {
    SinkContext {
        table: "events".into(),
        pipeline: "shop".into(),
        writer,
        schema,
        data_dir: "unused".into(),
        stop: CancellationToken::new(),
    }
}

/// Rows whose words are `a`, `b`, `c` in turn.
fn rows(numbers: &[i64]) -> Vec<RecordBatch> {
    let words: Vec<&str> = numbers.iter().map(|number| ["a", "b", "c"][(number % 3) as usize]).collect();
    let columns: [ArrayRef; 2] = [Arc::new(StringArray::from(words)), Arc::new(Int64Array::from(numbers.to_vec()))];
    vec![RecordBatch::try_new(two_columns().writable_schema(), columns.to_vec()).unwrap()]
}

/// A table in memory and what its SQL says.
struct Table {
    store: FlakyStore,
    place: DeltaPlace,
    definition: TableDefinition,
    options: DeltaOptions,
}

impl Table {
    /// One that commits each epoch.
    fn new(pairs: &[(&str, &str)]) -> Table {
        Table::of(two_columns(), pairs)
    }

    fn of(definition: TableDefinition, pairs: &[(&str, &str)]) -> Table {
        let store = FlakyStore::default();
        let place = DeltaPlace::given(Arc::new(store.clone()));
        let mut all = vec![("commit_rows", "1")];
        if pairs.iter().any(|(key, _)| *key == "commit_rows") {
            all.clear();
        }
        all.extend(pairs);
        let options = taken(&definition, &all);
        Table { store, place, definition, options }
    }

    /// The same table under another declaration.
    fn declared(&self, definition: TableDefinition, pairs: &[(&str, &str)]) -> Table {
        Table { store: self.store.clone(), place: self.place.clone(), ..Table::of(definition, pairs) }
    }

    async fn try_open(&self, writer: Writer) -> Result<(DeltaEpochs, Option<Epoch>), ConnectorError> {
        let context = context(self.definition.writable_schema(), Some(writer));
        DeltaEpochs::open(&self.options, self.place.clone(), &context).await
    }

    async fn open(&self, writer: Writer) -> (DeltaEpochs, Option<Epoch>) {
        self.try_open(writer).await.unwrap()
    }

    async fn refusal(&self, writer: Writer) -> ConnectorError {
        self.try_open(writer).await.err().expect("it is not refused")
    }

    /// What a reader that somebody else has written finds.
    async fn query(&self, sql: &str) -> String {
        let table = self.place.open().await.unwrap().expect("there is no table");
        let session = SessionContext::new();
        table.update_datafusion_session(&session.state()).unwrap();
        session.register_table("events", table.table_provider().await.unwrap()).unwrap();
        let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    /// All numbers in the table, in their order.
    async fn numbers(&self) -> Vec<i64> {
        let found = self.query("SELECT n FROM events ORDER BY n").await;
        found.lines().filter_map(|line| line.trim_matches(['|', ' ']).parse().ok()).collect()
    }

    async fn marker(&self) -> Option<Marker> {
        let table = self.place.open().await.unwrap()?;
        marker_of(&table, "shop", "events").await.unwrap()
    }

    async fn version(&self) -> u64 {
        self.place.open().await.unwrap().unwrap().version().unwrap()
    }
}

async fn deliver(sink: &mut DeltaEpochs, epoch: u64, numbers: &[i64]) -> Epoch {
    sink.deliver(Epoch(epoch), &rows(numbers)).await.unwrap()
}
