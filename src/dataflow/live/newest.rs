//! The rows of a table whose destination keeps one for each key: they are read where they are.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use serde_json::{Map, Value};

use super::MOST_BYTES;
use crate::connectors::ConnectorError;
use crate::dataflow::read_back::{ReadBack, ReadOptions, as_written};
use crate::formats::{DecodeOptions, RawRecords, SplitIndex};
use crate::program::Table;

/// All rows that the destination of `table` holds now, in `columns`, of which any may be null.
///
/// # Errors
/// When it does not answer, cannot be read, or holds something else than the table's rows.
pub async fn newest(
    table: &Table,
    columns: &SchemaRef,
    options: &ReadOptions,
) -> Result<Vec<RecordBatch>, ConnectorError> {
    if let Some(mut current) = table.connector.current() {
        let rows = current.rows().await?;
        let what = current.place();
        return Ok(vec![decoded(&rows, columns, &what)?]);
    }
    // Where there is more than the newest of each key, such as in a topic, reading all of it says nothing.
    let factory = table.connector.read_back().filter(|_| table.connector.database(&options.data_dir).is_some());
    let Some(factory) = factory else {
        return Err(ConnectorError::Refused {
            what: format!("table {}", table.definition.name),
            message: "its destination cannot be asked for the rows that it holds".into(),
        });
    };
    let what = factory.describe();
    let refused = |message: String| ConnectorError::Refused { what: what.clone(), message };
    let mut back = ReadBack::open(table, factory, options).await?.without_dead_letters();
    let (mut batches, mut bytes) = (vec![], 0);
    while let Some(piece) = back.next().await? {
        if let Some(bad) = piece.read.bad.first() {
            return Err(refused(format!(
                "it holds a row that is not one of table {}: {}",
                table.definition.name, bad.message
            )));
        }
        let rows = as_written(&piece.read.batch, columns).map_err(|error| refused(error.strip_backtrace()))?;
        bytes += rows.get_array_memory_size();
        if bytes > MOST_BYTES {
            return Err(refused(format!("it holds more than {} MB of rows: ask it itself", MOST_BYTES >> 20)));
        }
        batches.push(rows);
    }
    Ok(batches)
}

/// Rows that came as JSON.
fn decoded(rows: &[Map<String, Value>], columns: &SchemaRef, what: &str) -> Result<RecordBatch, ConnectorError> {
    let refused = |message: String| ConnectorError::Refused { what: what.into(), message };
    let mut records = RawRecords::default();
    for (row, object) in (0..).zip(rows) {
        let text = serde_json::to_vec(object).map_err(|error| refused(error.to_string()))?;
        records.push(SplitIndex(0), row, &text);
    }
    let mut decoder = DecodeOptions::default().decoder(SchemaRef::clone(columns))?;
    let decoded = decoder.decode(&records)?;
    if let Some(bad) = decoded.bad.first() {
        return Err(refused(format!("it holds a row that is not one of the table's: {}", bad.message)));
    }
    as_written(&decoded.batch, columns).map_err(|error: DataFusionError| refused(error.strip_backtrace()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use arrow::util::pretty::pretty_format_batches;
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::connectors::registry;
    use crate::program::Program;
    use crate::sql::{SourceFiles, Variables};

    fn columns() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("category", DataType::Utf8, true),
            Field::new("sales", DataType::Decimal128(10, 2), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
        ]))
    }

    fn rows(values: Vec<Value>) -> Vec<Map<String, Value>> {
        values.into_iter().map(|value| value.as_object().unwrap().clone()).collect()
    }

    #[tokio::test]
    async fn a_destination_that_cannot_be_asked_says_so() {
        let mut files = SourceFiles::default();
        let sql = "CREATE TABLE t (category TEXT, PRIMARY KEY (category)) WITH (connector = 'blackhole');";
        files.add("t.sql".into(), sql.into());
        let Ok(program) = Program::parse(files, &Variables::default(), &registry::connectors()) else {
            panic!("{sql}")
        };
        let options = ReadOptions { pipeline: "p".into(), data_dir: PathBuf::new(), stop: CancellationToken::new() };
        let told = newest(&program.tables[0], &columns(), &options).await.unwrap_err();
        assert_eq!(told.to_string(), "table t: its destination cannot be asked for the rows that it holds");
    }

    #[test]
    fn json_rows_get_the_columns_of_the_table() {
        let given = rows(vec![
            json!({"category": "toys", "sales": "12.50", "at": "2026-11-29T12:00:00Z", "other": 1}),
            json!({"category": "food"}),
        ]);
        let batch = decoded(&given, &columns(), "Redis").unwrap();
        assert_eq!(
            pretty_format_batches(&[batch]).unwrap().to_string().lines().skip(3).take(2).collect::<Vec<_>>(),
            ["| toys     | 12.50 | 2026-11-29T12:00:00 |", "| food     |       |                     |"]
        );
        let error = decoded(&rows(vec![json!({"sales": "many"})]), &columns(), "Redis at localhost:6379").unwrap_err();
        assert!(
            error.to_string().starts_with("Redis at localhost:6379: it holds a row that is not one of the table's: "),
            "{error}"
        );
    }
}
