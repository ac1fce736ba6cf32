//! A sink that keeps what it is given.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;

use crate::connectors::delivery::OpenSink;
use crate::connectors::{ConnectorError, Sink, SinkContext, SinkFactory, SinkMode};
use crate::formats::{EncodeOptions, EncodedRows, FormatError};

/// What a collecting sink has been given.
#[derive(Debug)]
pub struct Collected {
    mode: SinkMode,
    batches: Mutex<Vec<RecordBatch>>,
}

/// A sink of this mode that collects, and the place where it does.
pub fn collector(mode: SinkMode) -> (Arc<dyn SinkFactory>, Arc<Collected>) {
    let collected = Arc::new(Collected { mode, batches: Mutex::default() });
    (Arc::new(CollectorFactory(Arc::clone(&collected))), collected)
}

impl Collected {
    /// The rows as the JSON format writes them; where the sink replaces rows, the last one per key.
    ///
    /// # Errors
    /// When a column's type has no place in JSON.
    pub fn rows(&self) -> Result<Vec<Value>, FormatError> {
        let mut rows = vec![];
        for batch in self.batches.lock().iter() {
            rows.extend(to_json(batch)?);
        }
        Ok(match &self.mode {
            SinkMode::Append => rows,
            SinkMode::Upsert(key) => last_per_key(rows, key),
        })
    }
}

fn to_json(batch: &RecordBatch) -> Result<Vec<Value>, FormatError> {
    let mut encoded = EncodedRows::default();
    EncodeOptions::default().encoder(batch.schema())?.encode(batch, &mut encoded)?;
    // What the encoder wrote and serde cannot read shows up in the comparison as it is.
    let parse = |bytes: &[u8]| {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
    };
    Ok(encoded.iter().map(parse).collect())
}

fn last_per_key(rows: Vec<Value>, key: &[String]) -> Vec<Value> {
    let mut last = std::collections::BTreeMap::new();
    for row in rows {
        let values: Vec<&Value> = key.iter().map(|column| &row[column]).collect();
        let values = serde_json::to_string(&values).unwrap_or_default();
        last.insert(values, row);
    }
    last.into_values().collect()
}

struct CollectorFactory(Arc<Collected>);

#[async_trait]
impl SinkFactory for CollectorFactory {
    fn mode(&self) -> SinkMode {
        self.0.mode.clone()
    }

    fn describe(&self) -> String {
        "the case's output".into()
    }

    async fn open(&self, _: SinkContext) -> Result<OpenSink, ConnectorError> {
        Ok(OpenSink::AtOnce(Box::new(Collector(Arc::clone(&self.0)))))
    }
}

struct Collector(Arc<Collected>);

#[async_trait]
impl Sink for Collector {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        self.0.batches.lock().push(batch);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_row_of_a_key_counts() {
        let rows = vec![json!({"k": 1, "v": 1}), json!({"k": 2, "v": 2}), json!({"k": 1, "v": 3})];
        let key = |columns: &[&str]| columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
        assert_eq!(last_per_key(rows.clone(), &key(&["k"])), [json!({"k": 1, "v": 3}), json!({"k": 2, "v": 2})]);
        assert_eq!(last_per_key(rows, &[]), [json!({"k": 1, "v": 3})]);
    }
}
