//! A Delta table as a source: a scan of its newest version, that ends.
//!
//! The table is one split, because what is late may depend neither on how many files it consists of nor on how many
//! tasks read it. Its files are read one after another, those with the earliest event times first; a table without a
//! watermark is read in the order in which its files were written. A row's offset is its number in that order, so that
//! a run which goes on from a checkpoint reads the same version again and leaves out what it has had.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;

use super::events::{Events, Halt, Outlet, Reading};
use super::options::DeltaOptions;
use super::reading::{Pinned, refused};
use crate::connectors::{Boundedness, ConnectorError, Decoding, Source, SourceContext, SourceEvent, SourceFactory};
use crate::formats::{SplitIndex, SplitRun};

/// The only split there is.
const SPLIT: SplitIndex = SplitIndex(0);

/// Opens a scan.
pub(super) struct DeltaSourceFactory {
    pub(super) options: DeltaOptions,
    /// The column that is the event time, if one is.
    pub(super) event_time: Option<String>,
}

#[async_trait]
impl SourceFactory for DeltaSourceFactory {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn decoding(&self) -> Decoding {
        Decoding::Rows
    }

    fn describe(&self) -> String {
        self.options.describe()
    }

    async fn instances(&self, _: &SourceContext, _: usize) -> Result<usize, ConnectorError> {
        Ok(1)
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, ConnectorError> {
        let place = self.options.place(&context.data_dir)?;
        let first = context.positions.get(&context.table).copied();
        let origin = first.and(context.origin.as_deref()).and_then(Origin::parse);
        let version = origin.as_ref().map(|origin| origin.version);
        let Some(mut table) = Pinned::open(&place, version).await? else {
            let message = "there is no such table yet: it is made by the first rows that are written to it";
            return Err(refused(&place.describe(), message));
        };
        if let Some(origin) = &origin {
            origin.must_be_of(&table)?;
        }
        table.must_have(&context.schema)?;
        table.files.sort_by_cached_key(|file| {
            let least = self.event_time.as_deref().and_then(|column| file.least_time(column));
            (least, file.modified, file.path.to_string())
        });
        let origin = Origin { id: table.id.clone(), version: table.version }.to_string();
        let (what, stop) = (table.what.clone(), context.stop.clone());
        let scan = Scan { table: Arc::new(table), context, first: first.unwrap_or(0) };
        Ok(Box::new(Events::of(what, Some(origin), stop, scan)))
    }
}

/// A scan at work.
struct Scan {
    table: Arc<Pinned>,
    context: SourceContext,
    /// The number of the first row that is wanted.
    first: i64,
}

#[async_trait]
impl Reading for Scan {
    async fn read(self, outlet: &Outlet) -> Result<(), Halt> {
        outlet.send(SourceEvent::Split(SPLIT, self.context.table.clone())).await?;
        let mut next: i64 = 0;
        for (number, file) in self.table.files.iter().enumerate() {
            if let Some(rows) = file.rows.filter(|rows| next + rows <= self.first) {
                next += rows;
                continue;
            }
            let mut batches = self.table.read(number, &self.context.schema, self.context.batch_size, 0);
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                let known = (self.first - next).clamp(0, batch.num_rows() as i64);
                next += known;
                let batch = batch.slice(known as usize, batch.num_rows() - known as usize);
                let rows = batch.num_rows();
                if rows == 0 {
                    continue;
                }
                let offsets = (next..next + rows as i64).collect();
                next += rows as i64;
                outlet.send(SourceEvent::Rows(batch, vec![SplitRun { split: SPLIT, rows }], offsets)).await?;
            }
        }
        outlet.send(SourceEvent::SplitEnd(SPLIT)).await?;
        Ok(())
    }
}

/// Which version of which table positions are good for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Origin {
    pub(super) id: String,
    pub(super) version: u64,
}

impl Origin {
    pub(super) fn parse(text: &str) -> Option<Origin> {
        let (id, version) = text.strip_prefix("delta table ")?.split_once(" version ")?;
        Some(Origin { id: id.to_owned(), version: version.parse().ok()? })
    }

    fn must_be_of(&self, table: &Pinned) -> Result<(), ConnectorError> {
        if self.id == table.id {
            return Ok(());
        }
        Err(ConnectorError::Mismatch {
            what: table.what.clone(),
            message: format!(
                "it is not the table that was being read (its id is {}, and was {}): put that one back, or begin anew \
                 with --fresh",
                table.id, self.id
            ),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delta table {} version {}", self.id, self.version)
    }
}
