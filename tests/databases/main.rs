//! The sinks and sources for databases and Redis against real servers, which `scripts/` start in temporary folders on free ports
//! and which are stopped, by their pids, when a test ends in whatever way.

mod audit;
mod cursor;
mod cursor_faults;
mod cursor_run;
mod cursor_sqlite;
mod once;
mod page;
#[path = "../servers/pipeline.rs"]
mod pipeline;
mod postgres;
mod postgres_faults;
#[path = "../servers/proxy.rs"]
mod proxy;
mod proxy_faults;
mod reading;
mod redis_delivery;
mod redis_server;
#[path = "../servers/server.rs"]
mod server;
mod sqlite;

use std::sync::Arc;

use acequia::catalog::options::{OptionError, OptionValue, Options};
use acequia::catalog::{ColumnDefinition, ColumnKind, TableDefinition};
use acequia::connectors::delivery::{OpenSink, Writer};
use acequia::connectors::registry::connector;
use acequia::connectors::{ConnectorError, ConnectorTable, Sink, SinkContext, SinkFactory};
use acequia::sql::Location;
use acequia::time::{Epoch, Incarnation, LogId};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use tokio_util::sync::CancellationToken;

use server::Server;

/// A sink as a table's options describe it.
fn factory(
    connector_name: &str,
    name: &str,
    schema: &SchemaRef,
    key: &[&str],
    options: &[(&str, &str)],
) -> Arc<dyn SinkFactory> {
    let (table, errors) = definition(connector_name, name, schema, key, options);
    assert!(errors.is_empty(), "{errors:?}");
    table.sink().unwrap()
}

/// A table as its options describe it, and what is wrong with these.
fn definition(
    connector_name: &str,
    name: &str,
    schema: &SchemaRef,
    key: &[&str],
    options: &[(&str, &str)],
) -> (Arc<dyn ConnectorTable>, Vec<OptionError>) {
    let definition = TableDefinition {
        name: name.into(),
        location: Location::default(),
        columns: schema
            .fields()
            .iter()
            .map(|field| ColumnDefinition {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                nullable: field.is_nullable(),
                kind: ColumnKind::Physical,
                location: Location::default(),
            })
            .collect(),
        primary_key: key.iter().map(|column| (*column).into()).collect(),
        watermark: None,
    };
    let values = options.iter().map(|(key, text)| OptionValue::new(*key, *text)).collect();
    let mut options = Options::new(Location::default(), values);
    let table = connector(connector_name).unwrap().table(&definition, &mut options);
    (table, options.finish(connector_name))
}

/// Opens a sink of run `run` as a run with checkpoints does.
async fn open_run(factory: &Arc<dyn SinkFactory>, schema: &SchemaRef, run: Writer) -> Result<OpenSink, ConnectorError> {
    let context = SinkContext { writer: Some(run), ..context(schema, &CancellationToken::new()) };
    factory.open(context).await
}

/// Run `incarnation` of the pipeline, which goes on from epoch `resumed` of the log `ours`.
fn run(incarnation: u64, resumed: u64) -> Writer {
    Writer {
        pipeline: "test".into(),
        log: LogId("ours".into()),
        incarnation: Incarnation(incarnation),
        resumed: Epoch(resumed),
        fresh: false,
    }
}

fn context(schema: &SchemaRef, stop: &CancellationToken) -> SinkContext {
    SinkContext {
        table: "t".into(),
        pipeline: "test".into(),
        writer: None,
        schema: schema.clone(),
        data_dir: std::env::temp_dir(),
        stop: stop.clone(),
    }
}

/// Opens a sink and expects it to work.
async fn open(factory: &Arc<dyn SinkFactory>, schema: &SchemaRef) -> Result<Box<dyn Sink>, ConnectorError> {
    let opened = factory.open(context(schema, &CancellationToken::new())).await?;
    Ok(opened.at_once().unwrap_or_else(|| panic!("without a writer, rows are taken at once")))
}

/// What a sink that cannot be opened says.
async fn refusal(factory: &Arc<dyn SinkFactory>, schema: &SchemaRef) -> String {
    match open(factory, schema).await {
        Ok(_) => panic!("it should not have opened"),
        Err(error) => error.to_string(),
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}
