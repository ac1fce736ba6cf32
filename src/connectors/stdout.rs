//! Rows to stdout: JSON lines for programs, CSV, or a table for people. What a bare `SELECT` prints goes here too.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::lines::{CsvHeader, LineSink, Output};
use super::{Connector, ConnectorError, ConnectorTable, Sink, SinkContext, SinkFactory, SinkMode};
use crate::catalog::TableDefinition;
use crate::catalog::options::Options;
use crate::connectors::delivery::OpenSink;
use crate::formats::{EncodeOptions, FormatError};

/// What [`ConnectorError::Refused`] says when the reader of stdout has gone, as `head` does: no failure, but the end.
pub const CLOSED: &str = "stdout was closed";

/// Whether the error only means that nobody reads stdout any more.
pub fn is_closed(error: &ConnectorError) -> bool {
    matches!(error, ConnectorError::Refused { message, .. } if message == CLOSED)
}

/// The connector `stdout`. Option `format`: `json` (default), `csv`, `table`, or another format's name; `csv.header`:
/// `true` (default) or `false`. With a PRIMARY KEY every version of a row is printed.
pub struct StdoutConnector;

impl Connector for StdoutConnector {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn table(&self, table: &TableDefinition, options: &mut Options) -> Arc<dyn ConnectorTable> {
        if options.peek("format") == Some("table") {
            options.take(&["format"]);
            return Arc::new(StdoutTable(Arc::new(Stdout { layout: Layout::Table, key: table.primary_key.clone() })));
        }
        let csv = options.peek("format") == Some("csv");
        let header = csv.then(|| {
            let wanted = options.boolean(&["csv.header"]).unwrap_or(true);
            CsvHeader { delimiter: CsvHeader::byte(options.peek("csv.delimiter"), b','), wanted }
        });
        Arc::new(StdoutTable(lines(EncodeOptions::take(table, options), header, table.primary_key.clone())))
    }
}

struct StdoutTable(Arc<dyn SinkFactory>);

impl ConnectorTable for StdoutTable {
    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        Some(self.0.clone())
    }
}

/// Prints rows of any schema as JSON lines: the sink of a bare `SELECT`.
pub fn factory() -> Arc<dyn SinkFactory> {
    lines(EncodeOptions::of("json"), None, vec![])
}

/// Prints rows as lines; with a `key`, each row is a newer version of the one with the same key.
pub(super) fn lines(encode: EncodeOptions, header: Option<CsvHeader>, key: Vec<String>) -> Arc<dyn SinkFactory> {
    Arc::new(Stdout { layout: Layout::Lines(encode, header), key })
}

struct Stdout {
    layout: Layout,
    key: Vec<String>,
}

enum Layout {
    Lines(EncodeOptions, Option<CsvHeader>),
    Table,
}

#[async_trait]
impl SinkFactory for Stdout {
    fn mode(&self) -> SinkMode {
        if self.key.is_empty() { SinkMode::Append } else { SinkMode::Upsert(self.key.clone()) }
    }

    fn describe(&self) -> String {
        "stdout".into()
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let output = Arc::new(Mutex::new(Stream(std::io::stdout())));
        Ok(OpenSink::AtOnce(match &self.layout {
            Layout::Table => Box::new(TableSink { output, batches: vec![] }),
            Layout::Lines(encode, header) => {
                let names = context.schema.fields().iter().map(|field| field.name());
                let first = header.map(|header| header.line(names)).unwrap_or_default();
                Box::new(LineSink::new(output, encode.encoder(context.schema.clone())?, first))
            }
        }))
    }
}

/// A stream whose reader may go.
struct Stream<W>(W);

impl<W: Write + Send> Output for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectorError> {
        self.0.write_all(bytes).map_err(|error| stream_error(&error))
    }

    fn sync(&mut self) -> Result<(), ConnectorError> {
        self.0.flush().map_err(|error| stream_error(&error))
    }
}

fn stream_error(error: &std::io::Error) -> ConnectorError {
    let message = match error.kind() {
        std::io::ErrorKind::BrokenPipe => CLOSED.into(),
        std::io::ErrorKind::StorageFull => {
            "cannot be written: the disk that it goes to is full; free some space and start again".into()
        }
        _ => format!("cannot be written: {error}"),
    };
    ConnectorError::Refused { what: "stdout".into(), message }
}

/// Prints what came between two flushes as one table with aligned columns.
struct TableSink {
    output: Arc<Mutex<dyn Output>>,
    batches: Vec<RecordBatch>,
}

#[async_trait]
impl Sink for TableSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        if batch.num_rows() > 0 {
            self.batches.push(batch);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let table = pretty_format_batches(&std::mem::take(&mut self.batches))
            .map_err(|source| FormatError::Arrow { context: "printing a table".into(), source })?;
        let (output, text) = (self.output.clone(), format!("{table}\n"));
        let task = tokio::task::spawn_blocking(move || {
            let mut output = output.lock();
            output.write(text.as_bytes())?;
            output.sync()
        });
        task.await.map_err(|error| ConnectorError::Refused { what: "stdout".into(), message: error.to_string() })?
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;
    use crate::formats::{EncodedRows, Encoder, Span};

    /// Keeps what is written where the test can see it.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A reader that has gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Writes `x` for each row.
    struct Crosses;

    impl Encoder for Crosses {
        fn encode(&mut self, batch: &RecordBatch, out: &mut EncodedRows) -> Result<(), FormatError> {
            for _ in 0..batch.num_rows() {
                let start = out.bytes.len() as u32;
                out.bytes.push(b'x');
                out.spans.push(Span { start, end: start + 1 });
            }
            Ok(())
        }
    }

    fn batch() -> RecordBatch {
        let numbers = Arc::new(Int64Array::from(vec![1, 20]));
        let words = Arc::new(StringArray::from(vec!["one", "twenty"]));
        RecordBatch::try_from_iter([("n", numbers as _), ("word", words as _)]).unwrap()
    }

    #[tokio::test]
    async fn a_table_is_aligned() {
        let shared = Shared::default();
        let mut sink = TableSink { output: Arc::new(Mutex::new(Stream(shared.clone()))), batches: vec![] };
        sink.write(batch()).await.unwrap();
        sink.flush().await.unwrap();
        sink.flush().await.unwrap();
        let text = String::from_utf8(shared.0.lock().clone()).unwrap();
        assert_eq!(
            text,
            "+----+--------+\n| n  | word   |\n+----+--------+\n| 1  | one    |\n| 20 | twenty |\n+----+--------+\n"
        );
    }

    #[tokio::test]
    async fn lines_appear_at_a_flush() {
        let shared = Shared::default();
        let output = Arc::new(Mutex::new(Stream(shared.clone())));
        let mut sink = LineSink::new(output, Box::new(Crosses), b"head\n".to_vec());
        sink.write(batch()).await.unwrap();
        assert!(shared.0.lock().is_empty());
        sink.flush().await.unwrap();
        assert_eq!(*shared.0.lock(), b"head\nx\nx\n");
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_told_apart() {
        let mut sink = LineSink::new(Arc::new(Mutex::new(Stream(Gone))), Box::new(Crosses), vec![]);
        sink.write(batch()).await.unwrap();
        let error = sink.flush().await.unwrap_err();
        assert!(is_closed(&error));
        assert_eq!(error.to_string(), "stdout: stdout was closed");
        let full = stream_error(&std::io::ErrorKind::StorageFull.into());
        assert!(!is_closed(&full));
        assert!(full.to_string().starts_with("stdout: cannot be written: the disk that it goes to is full"));
    }
}
