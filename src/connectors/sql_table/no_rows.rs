//! `url = 'none'`: a table that is read and has no rows, for a folder that can do without it.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::connectors::{Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceEvent, SourceFactory};
use crate::formats::{DecodeOptions, SplitIndex};

const SPLIT: SplitIndex = SplitIndex(0);

/// A source without rows.
pub struct NoRows;

#[async_trait]
impl SourceFactory for NoRows {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Format(DecodeOptions::database_rows())
    }

    fn describe(&self) -> String {
        "no rows (url 'none')".into()
    }

    async fn instances(&self, _context: &SourceContext, _parallelism: usize) -> Result<usize, ConnectorError> {
        Ok(1)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let mut events = vec![SourceEvent::CaughtUp(SPLIT), SourceEvent::Split(SPLIT, context.table.clone(), None)];
        if context.bounded {
            events.splice(0..1, [SourceEvent::End, SourceEvent::SplitEnd(SPLIT)]);
        }
        Ok(Box::new(OpenNoRows { table: context.table, stop: context.stop, events }))
    }
}

struct OpenNoRows {
    table: String,
    stop: CancellationToken,
    /// What it has to say, the first last.
    events: Vec<SourceEvent>,
}

#[async_trait]
impl Source for OpenNoRows {
    /// Without a bound it does not end, so that event time behind it is not over when it has rows again the next time.
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        if let Some(event) = self.events.pop() {
            return Ok(event);
        }
        self.stop.cancelled().await;
        Err(ConnectorError::Stopped { what: format!("table {}", self.table) })
    }
}
