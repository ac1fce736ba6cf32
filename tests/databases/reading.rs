//! A table that is read, as a run does it: its events decoded, its positions kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acequia::connectors::{
    ConnectorError, ConnectorTable, Decoding, Source, SourceContext, SourceEvent, SourceFactory,
};
use acequia::formats::Decoder;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tokio_util::sync::CancellationToken;

use super::definition;

/// Long enough for any server; only there to end a test that hangs.
const PATIENCE: Duration = Duration::from_secs(90);
/// Long enough that a row that should not come would have come.
const MOMENT: Duration = Duration::from_millis(400);

/// A table's columns.
pub fn columns(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// A table as its options describe it.
pub fn table(
    name: &str,
    schema: &SchemaRef,
    connector_name: &str,
    options: &[(&str, &str)],
) -> Arc<dyn ConnectorTable> {
    let (table, errors) = definition(connector_name, name, schema, &[], options);
    assert!(errors.is_empty(), "{errors:?}");
    table
}

/// How a table is to be opened; the fields may be changed before.
pub fn context(schema: &SchemaRef) -> SourceContext {
    SourceContext {
        table: "t".into(),
        pipeline: "test".into(),
        instance: 0,
        instances: 1,
        bounded: false,
        schema: schema.clone(),
        wants_keys: false,
        wants_timestamps: false,
        wants_headers: false,
        batch_size: 8192,
        positions: BTreeMap::new(),
        origin: None,
        split_origins: Default::default(),
        accept_lost_input: false,
        data_dir: PathBuf::from("."),
        stop: CancellationToken::new(),
    }
}

/// A row: its cursor and its values as text.
pub type Row = (i64, String);

pub struct Reading {
    source: Box<dyn Source>,
    decoder: Box<dyn Decoder>,
    /// What came and has not been looked at yet.
    rows: Vec<Row>,
    /// Rows that could not be decoded, with the reason.
    pub bad: Vec<Row>,
    pub next: Option<i64>,
    pub caught_up: bool,
    pub ended: bool,
}

impl Reading {
    pub async fn open(table: &Arc<dyn ConnectorTable>, context: SourceContext) -> Reading {
        let factory = table.source().unwrap();
        let decoder = decoder(&factory, &context.schema);
        let source = factory.open(context).await.unwrap();
        Reading { source, decoder, rows: vec![], bad: vec![], next: None, caught_up: false, ended: false }
    }

    /// One event; whether there was one in time.
    async fn event(&mut self, patience: Duration) -> Result<bool, ConnectorError> {
        let Ok(event) = tokio::time::timeout(patience, self.source.next()).await else { return Ok(false) };
        match event? {
            SourceEvent::Records(records) => {
                self.caught_up = false;
                let decoded = self.decoder.decode(&records).unwrap();
                let bad: Vec<usize> = decoded.bad.iter().map(|bad| bad.row).collect();
                self.bad.extend(decoded.bad.into_iter().map(|bad| (records.offsets[bad.row], bad.message)));
                let good = (0..records.len()).filter(|row| !bad.contains(row)).map(|row| records.offsets[row]);
                self.rows.extend(good.zip(lines(&decoded.batch)));
                self.next = records.offsets.last().map(|last| last + 1);
            }
            SourceEvent::CaughtUp(_) => self.caught_up = true,
            SourceEvent::End => self.ended = true,
            SourceEvent::Split(_, name, position) => {
                assert_eq!(name, "t");
                self.next = position.or(self.next);
            }
            _ => {}
        }
        Ok(true)
    }

    /// The next `count` rows.
    pub async fn rows(&mut self, count: usize) -> Vec<Row> {
        while self.rows.len() < count {
            let came = self.event(PATIENCE).await.unwrap_or_else(|error| panic!("{error}"));
            assert!(came, "only {} of {count} rows came", self.rows.len());
        }
        self.rows.drain(..count).collect()
    }

    /// The next `count` rows' values.
    pub async fn values(&mut self, count: usize) -> Vec<String> {
        self.rows(count).await.into_iter().map(|(_, values)| values).collect()
    }

    /// Waits until it says that it has read all there is, and gives the rows up to there.
    pub async fn until_caught_up(&mut self) -> Vec<Row> {
        self.caught_up = false;
        while !self.caught_up {
            assert!(self.event(PATIENCE).await.unwrap(), "it never caught up");
        }
        std::mem::take(&mut self.rows)
    }

    /// The rows that come within that time.
    pub async fn rows_within(&mut self, time: Duration) -> Vec<Row> {
        let until = tokio::time::Instant::now() + time;
        while let Some(left) = until.checked_duration_since(tokio::time::Instant::now()).filter(|left| !left.is_zero())
        {
            self.event(left).await.unwrap();
        }
        std::mem::take(&mut self.rows)
    }

    /// All rows up to the end.
    pub async fn all(&mut self) -> Vec<Row> {
        while !self.ended {
            assert!(self.event(PATIENCE).await.unwrap(), "it never ended");
        }
        std::mem::take(&mut self.rows)
    }

    /// Nothing comes for a moment.
    pub async fn is_silent(&mut self) {
        assert_eq!(self.rows_within(MOMENT).await, [], "before the transaction is over");
    }

    /// What it fails with.
    pub async fn failure(&mut self) -> ConnectorError {
        loop {
            match self.event(PATIENCE).await {
                Ok(true) if self.ended => panic!("it ended without an error"),
                Ok(true) => {}
                Ok(false) => panic!("it neither failed nor read on"),
                Err(error) => return error,
            }
        }
    }

    /// What a checkpoint would hold, put into the context of the next run.
    pub fn resumed(&self, mut context: SourceContext) -> SourceContext {
        context.origin = self.source.origin().or(context.origin);
        context.positions.extend(self.next.map(|next| ("t".to_owned(), next)));
        context
    }

    pub fn lag(&self) -> Vec<(String, i64)> {
        self.source.lag()
    }

    pub fn origin(&self) -> String {
        self.source.origin().unwrap_or_default()
    }
}

fn decoder(factory: &Arc<dyn SourceFactory>, schema: &SchemaRef) -> Box<dyn Decoder> {
    match factory.decoding() {
        Decoding::Format(format) => format.decoder(schema.clone()).unwrap(),
        Decoding::Rows => panic!("it sends records"),
    }
}

/// Each row's values, with `|` between them and nothing for a null.
fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default();
    let formatters: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let line = |row| formatters.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(line).collect()
}
