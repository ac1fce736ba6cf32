//! The answer to one question: what waits for a destination at the end of an epoch, and what open windows would add.

use arrow::array::RecordBatch;

use super::{LiveError, LiveRows, LiveTable, MOST_BYTES, Since};
use crate::checkpoint::log::OutboxReader;
use crate::dataflow::outbox::Unsettled;
use crate::time::{Epoch, LogId};

/// What is known at the end of an epoch.
pub struct Answer {
    /// The table.
    pub table: LiveTable,
    /// By what the log knows its rows.
    pub sink: String,
    /// The epoch.
    pub epoch: Epoch,
    /// The log that counts the epochs, and the way to the rows in it; `None` when the run keeps none.
    pub log: Option<(LogId, OutboxReader)>,
    /// The rows of epochs that have ended.
    pub unsettled: Unsettled,
    /// What open windows would give.
    pub open: Vec<RecordBatch>,
}

impl Answer {
    /// The rows that are not in the destination as it was seen, read from the log where they are no longer in memory.
    ///
    /// # Errors
    /// When the destination has got more since, the log cannot be read, or there are too many rows.
    pub async fn rows(self, since: &Since) -> Result<LiveRows, LiveError> {
        let after = self.after(since)?;
        let Answer { table, sink, epoch, log, unsettled, open } = self;
        let too_much = || LiveError::TooMuch { table: table.name.clone() };
        let mut bytes: usize = open.iter().map(RecordBatch::get_array_memory_size).sum();
        let mut batches = vec![];
        for (epoch, rows) in unsettled.waiting.into_iter().filter(|(epoch, _)| *epoch > after) {
            let rows = match (rows, &log) {
                (Some(rows), _) => rows,
                (None, Some((_, reader))) => read(reader, &sink, &table.name, epoch).await?,
                (None, None) => vec![],
            };
            bytes = rows.iter().map(RecordBatch::get_array_memory_size).fold(bytes, usize::saturating_add);
            if bytes > MOST_BYTES {
                return Err(too_much());
            }
            batches.extend(rows);
        }
        batches.extend(open);
        Ok(LiveRows { epoch: Some(epoch), columns: table.columns, batches })
    }

    /// The last epoch whose rows are not asked for.
    fn after(&self, since: &Since) -> Result<Epoch, LiveError> {
        let Since::Version(marker) = since else { return Ok(Epoch::default()) };
        let table = self.table.name.clone();
        let Some((log, _)) = &self.log else { return Err(LiveError::NoCheckpoints { table }) };
        // Rows that were counted by another log are not among those that wait.
        let own = marker.as_ref().filter(|marker| marker.log == *log);
        let after = own.map_or(Epoch::default(), |marker| marker.epoch);
        match self.unsettled.settled {
            Some(settled) if settled > after => Err(LiveError::Settled { table, settled }),
            _ => Ok(after),
        }
    }
}

/// The rows of an epoch from the log, which keeps them until a while after they are settled.
async fn read(reader: &OutboxReader, sink: &str, table: &str, epoch: Epoch) -> Result<Vec<RecordBatch>, LiveError> {
    let is_kept = || reader.epochs(sink, Epoch(epoch.0.saturating_sub(1))).first() == Some(&epoch);
    let gone = || LiveError::Settled { table: table.to_owned(), settled: epoch };
    if !is_kept() {
        return Err(gone());
    }
    match reader.read(sink, epoch).await {
        Ok(rows) => Ok(rows),
        Err(_) if !is_kept() => Err(gone()),
        Err(error) => Err(LiveError::Unreadable { table: table.to_owned(), message: error.to_string() }),
    }
}
