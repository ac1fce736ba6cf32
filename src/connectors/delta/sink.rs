//! Rows into a Delta table: whole epochs with checkpoints, exactly once; without them at once, commit by commit.
//!
//! Epochs are gathered as Parquet in memory until a commit is due. Until then they stay in the checkpoints' outbox and
//! come again after a crash; then their files are put into the store, and one commit makes them visible together with
//! the marker. Files that no commit names are nobody's, and are cleared away later.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use deltalake_core::kernel::Action;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::evolution::Wanted;
use super::options::{CommitRule, DeltaOptions};
use super::place::DeltaPlace;
use super::target::{FileStore, Target};
use super::types::stored_schema;
use super::upkeep::Upkeep;
use super::upkeep_task::UpkeepTask;
use super::writer::{DataFile, Files};
use crate::connectors::delivery::{Delivery, EpochSink, OpenSink, Writer};
use crate::connectors::retry::until_available;
use crate::connectors::{ConnectorError, Sink, SinkContext, SinkFactory, SinkMode};
use crate::faults::{Bug, planted};
use crate::time::{Epoch, WallClock};

/// So many files are put into the store at a time.
const AT_ONCE: usize = 8;

/// Opens a Delta table for writing.
pub(super) struct DeltaSinkFactory {
    pub(super) options: DeltaOptions,
}

#[async_trait]
impl SinkFactory for DeltaSinkFactory {
    fn mode(&self) -> SinkMode {
        SinkMode::Append
    }

    fn describe(&self) -> String {
        self.options.describe()
    }

    fn delivery(&self) -> Delivery {
        Delivery::PerEpoch
    }

    async fn open(&self, context: SinkContext) -> Result<OpenSink, ConnectorError> {
        let place = self.options.place(&context.data_dir)?;
        if context.writer.is_none() {
            let (commits, _) = Commits::open(&self.options, place, &context).await?;
            return Ok(OpenSink::AtOnce(Box::new(DeltaAtOnce { commits })));
        }
        let (sink, settled) = DeltaEpochs::open(&self.options, place, &context).await?;
        Ok(OpenSink::PerEpoch { sink: Box::new(sink), settled })
    }
}

/// Rows on their way into commits.
struct Commits {
    place: DeltaPlace,
    target: Arc<Mutex<Target>>,
    store: FileStore,
    /// `None` while a thread has it, and after a failure.
    files: Option<Files>,
    /// Files that are in the store and in no commit.
    put: Vec<Action>,
    rule: CommitRule,
    /// When the first of the rows came that are in no commit.
    began: Option<Instant>,
    /// What keeps the table healthy meanwhile.
    upkeep: UpkeepTask,
    stop: CancellationToken,
}

impl Commits {
    /// Takes the table over. Returns the last epoch that it has.
    async fn open(
        options: &DeltaOptions,
        place: DeltaPlace,
        context: &SinkContext,
    ) -> Result<(Commits, Option<Epoch>), ConnectorError> {
        let refused = |message: String| ConnectorError::Refused { what: place.describe(), message };
        let schema = stored_schema(&context.schema).map_err(refused)?;
        let wanted = Wanted {
            schema: Arc::clone(&schema),
            partition_by: options.partition_by.clone(),
            upkeep: options.upkeep.clone(),
            log: None,
        };
        let names = (context.pipeline.as_str(), context.table.as_str());
        let what = place.describe();
        let open = || take_over(&place, names, &wanted, context.writer.clone());
        let (target, settled) = until_available(&what, &context.stop, open).await?;
        place.clear_staging();
        let memory = options.commit.bytes.saturating_mul(2);
        let files = Files::new(what, schema, &options.partition_by, options.upkeep.target_file_size, memory)?;
        let (wanted, writer) = (options.upkeep.clone(), context.writer.clone());
        let upkeep = Upkeep::new(place.clone(), wanted, names, writer, WallClock::system());
        let upkeep = UpkeepTask::start(upkeep, target.version(), &context.stop);
        let commits = Commits {
            place,
            upkeep,
            store: target.files(),
            target: Arc::new(Mutex::new(target)),
            files: Some(files),
            put: vec![],
            rule: options.commit.clone(),
            began: None,
            stop: context.stop.clone(),
        };
        Ok((commits, settled))
    }

    /// Takes rows in; files that are full go into the store.
    async fn gather(&mut self, rows: Vec<RecordBatch>) -> Result<(), ConnectorError> {
        self.upkeep.verdict().await?;
        self.began.get_or_insert_with(Instant::now);
        let waiting = self.with_files(move |files| {
            rows.iter().try_for_each(|batch| files.write(batch))?;
            Ok(files.waiting())
        });
        let waiting = waiting.await?;
        self.put(waiting).await
    }

    fn is_due(&self) -> bool {
        let (Some(began), Some(files)) = (self.began, &self.files) else { return false };
        began.elapsed() >= self.rule.interval || files.rows() >= self.rule.rows || files.bytes() >= self.rule.bytes
    }

    /// Commits all that is gathered; `epoch` is then the last one that the table has.
    async fn commit(&mut self, epoch: Option<Epoch>) -> Result<(), ConnectorError> {
        if planted(Bug::MarkerBeforeData) && epoch.is_some() {
            self.publish(epoch, vec![]).await?;
        }
        let waiting = self.with_files(Files::take).await?;
        self.put(waiting).await?;
        let files = std::mem::take(&mut self.put);
        if epoch.is_some() || !files.is_empty() {
            self.publish(epoch.filter(|_| !planted(Bug::MarkerBeforeData)), files).await?;
        }
        self.began = None;
        Ok(())
    }

    /// Puts files into the store, some at a time, and waits for it if it is away.
    async fn put(&mut self, files: Vec<DataFile>) -> Result<(), ConnectorError> {
        let (store, stop, what) = (&self.store, &self.stop, &self.place.describe());
        let puts = files.into_iter().map(|file| async move {
            until_available(what, stop, || store.put(&file)).await?;
            Ok::<Action, ConnectorError>(Action::Add(file.add))
        });
        let put: Vec<Action> = stream::iter(puts).buffered(AT_ONCE).try_collect().await?;
        self.put.extend(put);
        Ok(())
    }

    async fn publish(&mut self, epoch: Option<Epoch>, files: Vec<Action>) -> Result<(), ConnectorError> {
        let actions: Arc<[Action]> = self.target.lock().await.actions(epoch, files).into();
        let attempt = || {
            let (target, actions) = (Arc::clone(&self.target), Arc::clone(&actions));
            async move { target.lock().await.publish(epoch, &actions).await }
        };
        until_available(&self.place.describe(), &self.stop, attempt).await?;
        self.upkeep.committed(self.target.lock().await.version());
        Ok(())
    }

    /// Encoding is work for a thread of its own.
    async fn with_files<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Files) -> Result<T, ConnectorError> + Send + 'static,
    ) -> Result<T, ConnectorError> {
        let refused = |message: &str| ConnectorError::Refused { what: self.place.describe(), message: message.into() };
        let mut files = self.files.take().ok_or_else(|| refused("it has failed before"))?;
        let task = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut files);
            (files, outcome)
        });
        let (files, outcome) = task.await.map_err(|error| refused(&error.to_string()))?;
        self.files = Some(files);
        outcome
    }
}

async fn take_over(
    place: &DeltaPlace,
    names: (&str, &str),
    wanted: &Wanted,
    writer: Option<Writer>,
) -> Result<(Target, Option<Epoch>), ConnectorError> {
    let mut target = Target::open(place, names, wanted.clone(), writer).await?;
    let settled = target.take_over().await?;
    Ok((target, settled))
}

/// A table that gets whole epochs.
pub(super) struct DeltaEpochs {
    commits: Commits,
    /// The last epoch that is taken in, if it is not settled yet.
    gathered: Option<Epoch>,
    settled: Option<Epoch>,
}

impl DeltaEpochs {
    /// Takes the table over. Returns the last epoch that it has, too.
    ///
    /// # Errors
    /// As for [`SinkFactory::open`].
    pub(super) async fn open(
        options: &DeltaOptions,
        place: DeltaPlace,
        context: &SinkContext,
    ) -> Result<(DeltaEpochs, Option<Epoch>), ConnectorError> {
        let (commits, settled) = Commits::open(options, place, context).await?;
        Ok((DeltaEpochs { commits, gathered: None, settled }, settled))
    }

    async fn commit_if(&mut self, now: bool) -> Result<(), ConnectorError> {
        let Some(last) = self.gathered.take_if(|_| now || self.commits.is_due()) else { return Ok(()) };
        self.commits.commit(Some(last)).await?;
        self.settled = Some(last);
        Ok(())
    }
}

#[async_trait]
impl EpochSink for DeltaEpochs {
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError> {
        if self.gathered.max(self.settled).is_none_or(|last| last < epoch) {
            self.commits.gather(rows.to_vec()).await?;
            self.gathered = Some(epoch);
        }
        self.commit_if(false).await?;
        Ok(self.settled.unwrap_or_default())
    }

    async fn settle(&mut self, now: bool) -> Result<Option<Epoch>, ConnectorError> {
        self.commit_if(now).await?;
        Ok(self.settled)
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.commits.upkeep.close().await
    }
}

/// A table that gets rows as they come: what was not committed at a crash is lost.
struct DeltaAtOnce {
    commits: Commits,
}

#[async_trait]
impl Sink for DeltaAtOnce {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), ConnectorError> {
        self.commits.gather(vec![batch]).await?;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        if self.commits.is_due() { self.commits.commit(None).await } else { Ok(()) }
    }

    fn holds_back(&self) -> bool {
        self.commits.began.is_some()
    }

    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.commits.commit(None).await?;
        self.commits.upkeep.close().await
    }
}
