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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::super::{LiveKind, Marker};
    use super::*;
    use crate::checkpoint::log::{CheckpointLog, EpochRecord, LogOptions, SinkRows};
    use crate::checkpoint::state::EpochState;
    use crate::checkpoint::store;
    use crate::time::Incarnation;

    fn batch(value: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        RecordBatch::try_from_iter([("value", column)]).unwrap()
    }

    /// A log with epochs 1 and 2; epoch 3 waits in memory, and a window is open at its end.
    async fn answer(settled: Option<u64>) -> Answer {
        let options = LogOptions { pipeline: "shop".into(), fresh: false, from: None, keep: 3 };
        let store = store::open("memory:///").unwrap();
        let (mut log, _) = CheckpointLog::open(store, options).await.unwrap();
        for epoch in [1, 2] {
            let rows = SinkRows { batches: vec![batch(epoch)], whole: true, confirmed: None };
            let added = EpochState { epoch: Epoch(epoch as u64), ..EpochState::default() };
            log.append(EpochRecord { added, outbox: [("t".into(), rows)].into(), finished: false }).await.unwrap();
        }
        let waiting = [(1, None), (2, None), (3, Some(vec![batch(3)]))].into_iter();
        let waiting = waiting.map(|(epoch, rows)| (Epoch(epoch), rows));
        let waiting = waiting.filter(|(epoch, _)| Some(epoch.0) > settled).collect();
        Answer {
            table: LiveTable { name: "t".into(), columns: batch(0).schema(), kind: LiveKind::Added },
            sink: "t".into(),
            epoch: Epoch(3),
            log: Some((log.writer().log, log.outbox())),
            unsettled: Unsettled { settled: settled.map(Epoch), waiting },
            open: vec![batch(-1)],
        }
    }

    fn values(rows: &LiveRows) -> Vec<i64> {
        rows.batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    fn marker(log: LogId, epoch: u64) -> Since {
        Since::Version(Some(Marker { log, incarnation: Incarnation(1), epoch: Epoch(epoch) }))
    }

    #[tokio::test]
    async fn what_the_version_has_is_left_out_and_the_rest_is_read_where_it_is() {
        let all = answer(None).await.rows(&Since::Version(None)).await.unwrap();
        assert_eq!((all.epoch, values(&all)), (Some(Epoch(3)), vec![1, 2, 3, -1]));
        let answer_ = answer(Some(1)).await;
        let log = answer_.log.as_ref().unwrap().0.clone();
        assert_eq!(values(&answer_.rows(&marker(log, 2)).await.unwrap()), [3, -1], "a version newer than known");
        assert_eq!(values(&answer(Some(2)).await.rows(&Since::Destination).await.unwrap()), [3, -1]);
        let of_another_log = marker(LogId("another".into()), 2);
        assert_eq!(values(&answer(None).await.rows(&of_another_log).await.unwrap()), [1, 2, 3, -1]);
    }

    #[tokio::test]
    async fn a_version_that_is_too_old_has_to_be_read_again() {
        let told = answer(Some(2)).await.rows(&Since::Version(None)).await.unwrap_err();
        assert_eq!(
            told.to_string(),
            "rows of t up to epoch 2 have got to its destination since the version that was read: read it again, and \
             ask again"
        );
        // Let go in the log since the question was put.
        let mut gone = answer(None).await;
        gone.unsettled.waiting.insert(0, (Epoch(9), None));
        let told = gone.rows(&Since::Version(None)).await.unwrap_err();
        assert_eq!(told, LiveError::Settled { table: "t".into(), settled: Epoch(9) });
    }
}
