//! Whole epochs into a table, each once.

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::database::Database;
use super::transactions::Transactions;
use crate::connectors::ConnectorError;
use crate::connectors::delivery::EpochSink;
use crate::time::Epoch;

/// A sink that delivers an epoch in one transaction with its marker.
pub struct TableEpochs<D: Database> {
    transactions: Transactions<D>,
    /// The last epoch that the table is known to have.
    settled: Epoch,
}

impl<D: Database> TableEpochs<D> {
    /// Goes on after the marker that was found when `transactions` were opened.
    pub fn new(transactions: Transactions<D>, settled: Option<Epoch>) -> TableEpochs<D> {
        TableEpochs { transactions, settled: settled.unwrap_or_default() }
    }
}

#[async_trait]
impl<D: Database> EpochSink for TableEpochs<D> {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        let has = self.transactions.deliver(epoch, self.settled, rows).await?;
        if has < self.settled {
            tracing::warn!(
                "{}: the database has lost what it had confirmed, epochs {} to {}; they are delivered again",
                self.transactions.what(),
                has.next(),
                self.settled
            );
        }
        self.settled = has;
        Ok(has.min(epoch))
    }

    fn takes_several(&self) -> bool {
        true
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.transactions.close().await
    }

    fn refused(&self) -> u64 {
        self.transactions.refused()
    }
}
