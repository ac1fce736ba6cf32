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

use super::events::{Halt, Outlet, Reading, read_ahead};
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
        Ok(read_ahead(what, Some(origin), stop, scan))
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
        outlet.send(SourceEvent::Split(SPLIT, self.context.table.clone(), None)).await?;
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

#[cfg(test)]
mod tests {

    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::options::Path;
    use super::super::written::{Sent, Written};
    use super::*;
    use crate::catalog::TableDefinition;
    use crate::catalog::options::Options;
    use crate::sql::Location;

    fn factory(table: &Written, event_time: bool) -> DeltaSourceFactory {
        let definition = TableDefinition {
            name: "t".into(),
            location: Location::default(),
            columns: vec![],
            primary_key: vec![],
            watermark: None,
        };
        let mut options = DeltaOptions::take(&definition, &mut Options::new(Location::default(), vec![]));
        options.path = Path::Folder(table.place.url().to_file_path().unwrap());
        DeltaSourceFactory { options, event_time: event_time.then(|| "ts".into()) }
    }

    fn context(column: &str, next: Option<i64>, origin: Option<String>) -> SourceContext {
        let schema = Arc::new(Schema::new(vec![Field::new(column, DataType::Utf8, true)]));
        let positions = next.map(|next| ("t".to_owned(), next)).into_iter().collect();
        SourceContext { positions, origin, ..SourceContext::alone(schema, 3) }
    }

    /// All that comes, each row as `offset:value`.
    async fn all(source: &mut dyn Source) -> String {
        let mut said = vec![];
        loop {
            match source.next().await.unwrap() {
                SourceEvent::Split(_, name, _) => said.push(format!("+{name}")),
                SourceEvent::SplitEnd(_) => said.push("-".into()),
                SourceEvent::End => return said.join(" "),
                SourceEvent::Rows(batch, _, offsets) => {
                    let values = batch.column(0).as_string::<i32>();
                    said.extend(
                        offsets.iter().zip(values).map(|(offset, value)| format!("{offset}:{}", value.unwrap())),
                    );
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn row(time: i64, value: &str) -> Sent {
        Sent { partition: 0, offset: 0, time, value: value.into() }
    }

    #[tokio::test]
    async fn files_are_read_by_event_time_or_as_they_were_written() {
        let mut table = Written::new(false).await;
        for rows in [&[row(9_000_000, "c")][..], &[row(1_500, "a"), row(8_000_000, "d")], &[row(1_500_500, "b")]] {
            table.commit(rows).await;
        }
        let mut source = factory(&table, true).open(context("value", None, None)).await.unwrap();
        assert_eq!(all(&mut *source).await, "+t 0:a 1:d 2:b 3:c -");
        let mut source = factory(&table, false).open(context("value", None, None)).await.unwrap();
        assert_eq!(all(&mut *source).await, "+t 0:c 1:a 2:d 3:b -");
    }

    #[tokio::test]
    async fn a_restart_goes_on_in_the_same_version() {
        let mut table = Written::new(false).await;
        table.commit(&[row(1, "a"), row(2, "b"), row(3, "c"), row(4, "d"), row(5, "e")]).await;
        table.commit(&[row(6, "f")]).await;
        let factory = factory(&table, true);
        let origin = factory.open(context("value", None, None)).await.unwrap().origin();
        // Earlier by more than the millisecond to which the log is exact.
        table.commit(&[row(-1_000_000, "before all of them")]).await;
        for (next, rest) in [(0, "+t 0:a 1:b 2:c 3:d 4:e 5:f -"), (4, "+t 4:e 5:f -"), (5, "+t 5:f -"), (6, "+t -")] {
            let mut source = factory.open(context("value", Some(next), origin.clone())).await.unwrap();
            assert_eq!(all(&mut *source).await, rest, "from {next}");
        }
        let mut source = factory.open(context("value", None, None)).await.unwrap();
        let newest = all(&mut *source).await;
        assert!(newest.starts_with("+t 0:before all of them 1:a"), "{newest}");

        let other = Some(Origin { id: "other".into(), version: 1 }.to_string());
        let error = factory.open(context("value", Some(4), other)).await.err().unwrap();
        assert!(matches!(error, ConnectorError::Mismatch { .. }));
        assert!(error.to_string().contains("it is not the table that was being read (its id is "), "{error}");
        let gone = Some(Origin { id: "x".into(), version: 99 }.to_string());
        let error = factory.open(context("value", Some(4), gone)).await.err().unwrap().to_string();
        assert!(error.contains("version 99, which was being read, cannot be had any more"), "{error}");
    }

    #[tokio::test]
    async fn a_table_that_is_not_there_and_a_column_that_it_has_not_are_told() {
        let mut table = Written::new(false).await;
        table.commit(&[row(1, "a")]).await;
        let error = factory(&table, true).open(context("valeu", None, None)).await.err().unwrap().to_string();
        assert!(error.ends_with("has no column 'valeu' at version 1: did you mean 'value'?"), "{error}");
        let mut factory = factory(&table, true);
        factory.options.path = Path::Folder("/nowhere/at/all".into());
        let error = factory.open(context("value", None, None)).await.err().unwrap().to_string();
        let words = "Delta table /nowhere/at/all: there is no such table yet: it is made by the first rows that are \
                     written to it";
        assert_eq!(error, words);
    }
}
