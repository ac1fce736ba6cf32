//! Rows on their way into a table: gathered until a transaction is worth its round trips.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::database::Database;
use super::keyed::LastPerKey;
use super::transactions::Transactions;
use crate::connectors::{ConnectorError, Sink};

/// A transaction begins when so many rows wait, whatever the linger time.
const MAX_ROWS: usize = 10_000;
/// The same for their bytes in memory.
const MAX_BYTES: usize = 8 << 20;

/// Writes batches into one table of a database.
#[async_trait]
pub trait RowStore: Send {
    /// Writes all rows in one transaction, and returns when it is committed. Waits for a database that is away and
    /// sends the rows again, so that rows of a transaction whose commit was not answered may be there twice.
    ///
    /// # Errors
    /// As for [`Sink::write`].
    async fn store(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError>;

    /// Closes the connection.
    ///
    /// # Errors
    /// As for [`Sink::close`].
    async fn close(&mut self) -> Result<(), ConnectorError>;

    /// How many rows were refused so far.
    fn refused(&self) -> u64;
}

#[async_trait]
impl<D: Database> RowStore for Transactions<D> {
    async fn store(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        Transactions::store(self, std::slice::from_ref(rows)).await
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        Transactions::close(self).await
    }

    fn refused(&self) -> u64 {
        Transactions::refused(self)
    }
}

/// A sink that gathers up to 10,000 rows or 8 MB between flushes and stores them in one transaction.
pub struct TableSink {
    store: Box<dyn RowStore>,
    schema: SchemaRef,
    keyed: Option<LastPerKey>,
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl TableSink {
    /// Writes rows of `schema` through `store`; with `keyed`, only the last row of each key in a transaction.
    pub fn new(store: Box<dyn RowStore>, schema: SchemaRef, keyed: Option<LastPerKey>) -> TableSink {
        TableSink { store, schema, keyed, waiting: vec![], rows: 0, bytes: 0 }
    }
}

#[async_trait]
impl Sink for TableSink {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
        self.waiting.push(batch);
        if self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        let mut rows = match self.waiting.as_slice() {
            [] => return Ok(()),
            [only] => only.clone(),
            several => concat_batches(&self.schema, several).map_err(|source| arrow_error("joining rows", source))?,
        };
        if let Some(keyed) = &self.keyed {
            rows = keyed.last(&rows).map_err(|source| arrow_error("comparing keys", source))?;
        }
        self.store.store(&rows).await?;
        self.waiting.clear();
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.store.close().await
    }

    fn refused(&self) -> u64 {
        self.store.refused()
    }
}

/// Arrow's refusal in the words of a connector.
pub(crate) fn arrow_error(context: &str, source: arrow::error::ArrowError) -> ConnectorError {
    crate::formats::FormatError::Arrow { context: context.into(), source }.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use parking_lot::Mutex;

    use super::*;

    type Stored = Arc<Mutex<Vec<Vec<i64>>>>;

    struct Memory(Stored);

    #[async_trait]
    impl RowStore for Memory {
        async fn store(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
            self.0.lock().push(rows.column(0).as_primitive::<Int64Type>().values().to_vec());
            Ok(())
        }

        async fn close(&mut self) -> Result<(), ConnectorError> {
            Ok(())
        }

        fn refused(&self) -> u64 {
            0
        }
    }

    fn batch(values: Vec<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap()
    }

    #[tokio::test]
    async fn rows_wait_for_a_flush_or_for_enough_of_them() {
        let stored = Stored::default();
        let mut sink = TableSink::new(Box::new(Memory(stored.clone())), batch(vec![]).schema(), None);
        sink.write(batch(vec![1, 2])).await.unwrap();
        sink.write(batch(vec![3])).await.unwrap();
        assert!(stored.lock().is_empty());
        sink.flush().await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(*stored.lock(), [vec![1, 2, 3]]);
        sink.write(batch((0..MAX_ROWS as i64).collect())).await.unwrap();
        assert_eq!(stored.lock().len(), 2);
    }
}
