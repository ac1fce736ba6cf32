//! The names of a session: catalog `acequia` with the schemas `history` and `live`, over tables that stay at one
//! version from their first mention on.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, MemTable, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;

use super::kept::{Kept, Pinned, TravelError, Wanted};
use super::live::{LiveError, LiveRows, LiveTables, Since};
use super::sources::RecordedSource;
use super::{History, HistoryError};
use crate::connectors::delta::commit::marker_of;

/// The catalog's name.
pub(crate) const CATALOG: &str = "acequia";
/// The schema of what is recorded, which needs no mention.
pub(crate) const HISTORY: &str = "history";
/// The schema of what a running pipeline has not written yet.
pub(crate) const LIVE: &str = "live";

/// How often a destination may have moved on before an answer fits it.
const LIVE_ATTEMPTS: u32 = 10;
/// A question ends an epoch, which then is on its way to the destination. Who reads that anew before it is there is
/// outrun by it with the next question, and so on: the pause grows until it has arrived.
const LIVE_PAUSE: Duration = Duration::from_millis(30);

/// The tables of a session, each as it was at its first mention.
pub(super) struct Pins {
    tables: Vec<Arc<Kept>>,
    sources: Vec<Arc<RecordedSource>>,
    pipeline: String,
    runtime: Arc<RuntimeEnv>,
    live: Option<Arc<dyn LiveTables>>,
    /// By the names of tables; held while one is opened, so that two mentions see one version.
    pinned: tokio::sync::Mutex<HashMap<String, Arc<Pinned>>>,
    live_pinned: tokio::sync::Mutex<HashMap<String, Arc<dyn TableProvider>>>,
    /// Versions that were asked for, by the names that [`Pins::travel`] gave them.
    versions: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
    /// What was named by its path.
    paths: Mutex<HashMap<String, ByPath>>,
    /// The Delta tables that any session of the history has named so, by their folders.
    by_path: Arc<Mutex<HashMap<PathBuf, Arc<Kept>>>>,
}

/// What is at a path.
#[derive(Clone)]
enum ByPath {
    Delta(Arc<Kept>),
    Files(Arc<dyn TableProvider>),
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("tables", &self.names()).finish_non_exhaustive()
    }
}

/// A table of the history by its name.
enum Known {
    Table(Arc<Kept>),
    Source(Arc<RecordedSource>),
}

impl Known {
    /// The table that holds the rows.
    fn kept(&self) -> &Arc<Kept> {
        match self {
            Known::Table(kept) => kept,
            Known::Source(source) => source.kept(),
        }
    }

    fn provider(&self, pinned: &Pinned) -> Result<Arc<dyn TableProvider>> {
        let recorded = Arc::clone(&pinned.provider);
        match self {
            Known::Table(_) => Ok(recorded),
            Known::Source(source) => source.view(recorded),
        }
    }
}

impl Pins {
    /// Nothing is opened yet.
    pub fn new(history: &History) -> Pins {
        Pins {
            tables: history.tables.clone(),
            sources: history.sources.clone(),
            pipeline: history.pipeline.clone(),
            runtime: Arc::clone(&history.runtime),
            live: history.live.clone(),
            pinned: tokio::sync::Mutex::default(),
            live_pinned: tokio::sync::Mutex::default(),
            versions: Mutex::default(),
            paths: Mutex::default(),
            by_path: Arc::clone(&history.by_path),
        }
    }

    /// The names of the schema `history`.
    pub fn names(&self) -> Vec<String> {
        let tables = self.tables.iter().map(|kept| kept.table.name.clone());
        tables.chain(self.sources.iter().map(|source| source.table.name.clone())).collect()
    }

    /// Whether there is a schema `live`.
    pub fn has_live(&self) -> bool {
        self.live.is_some()
    }

    fn known(&self, name: &str) -> Option<Known> {
        if let Some(ByPath::Delta(kept)) = self.paths.lock().get(name) {
            return Some(Known::Table(Arc::clone(kept)));
        }
        let table = self.tables.iter().find(|kept| kept.table.name == name).cloned().map(Known::Table);
        table.or_else(|| self.sources.iter().find(|source| source.table.name == name).cloned().map(Known::Source))
    }

    /// Whether `path` was named before: then it stays what it was.
    pub fn knows_path(&self, path: &str) -> bool {
        self.paths.lock().contains_key(path)
    }

    /// From now on `path` means these files.
    pub fn name_files(&self, path: &str, files: Arc<dyn TableProvider>) {
        self.paths.lock().insert(path.to_owned(), ByPath::Files(files));
    }

    /// From now on `path` means the Delta table in `folder`.
    ///
    /// # Errors
    /// When the folder has no whole path.
    pub fn name_delta(&self, path: &str, folder: &Path) -> std::result::Result<(), HistoryError> {
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        let mut by_path = self.by_path.lock();
        let kept = match by_path.get(&whole) {
            Some(kept) => Arc::clone(kept),
            None => {
                let number = self.tables.len() + by_path.len();
                let kept = Arc::new(Kept::at_path(path, folder, number)?);
                by_path.insert(whole, Arc::clone(&kept));
                kept
            }
        };
        self.paths.lock().insert(path.to_owned(), ByPath::Delta(kept));
        Ok(())
    }

    async fn pin(&self, kept: &Kept) -> std::result::Result<Arc<Pinned>, HistoryError> {
        let mut pinned = self.pinned.lock().await;
        if let Some(known) = pinned.get(&kept.table.name) {
            return Ok(Arc::clone(known));
        }
        let newest = kept.newest(&self.runtime).await?;
        pinned.insert(kept.table.name.clone(), Arc::clone(&newest));
        Ok(newest)
    }

    /// Opens the version of `name` that is wanted; gives the name under which the schema `history` knows it then, made
    /// of `name` and `shown`. `None` if there is no such table.
    pub async fn travel(
        &self,
        name: &str,
        wanted: Wanted,
        shown: &str,
    ) -> std::result::Result<Option<String>, TravelError> {
        let Some(known) = self.known(name) else { return Ok(None) };
        let pinned = known.kept().at(wanted, &self.runtime).await?;
        let provider = known.provider(&pinned).map_err(HistoryError::from)?;
        let name = format!("{name} {shown}");
        self.versions.lock().insert(name.clone(), provider);
        Ok(Some(name))
    }

    /// Opens `live.name`, and with it the table that it goes with, so that the two are of one epoch.
    pub async fn pin_live(&self, name: &str) -> std::result::Result<Arc<dyn TableProvider>, HistoryError> {
        let mut pinned = self.live_pinned.lock().await;
        if let Some(known) = pinned.get(name) {
            return Ok(Arc::clone(known));
        }
        let live = self.live.as_ref().ok_or_else(|| LiveError::NotRunning("there are no live tables here".into()))?;
        let kept = self.tables.iter().find(|kept| kept.table.name == name);
        let rows = self.live_rows(live.as_ref(), name, kept).await?;
        let provider = live_table(rows, kept.map(Arc::as_ref))?;
        pinned.insert(name.to_owned(), Arc::clone(&provider));
        Ok(provider)
    }

    async fn live_rows(
        &self,
        live: &dyn LiveTables,
        name: &str,
        kept: Option<&Arc<Kept>>,
    ) -> std::result::Result<LiveRows, HistoryError> {
        let Some(kept) = kept else { return Ok(live.rows(name, Since::Destination).await?) };
        // A version that a statement has read already stays, whatever became of the table since.
        let is_fixed = self.pinned.lock().await.contains_key(name);
        let (mut attempt, attempts) = (0, if is_fixed { 1 } else { LIVE_ATTEMPTS });
        loop {
            let table = self.pin(kept).await?;
            let marker = match &table.delta {
                Some(delta) => marker_of(delta, &self.pipeline, name).await?,
                None => None,
            };
            attempt += 1;
            match live.rows(name, Since::Version(marker)).await {
                Err(LiveError::Settled { .. }) if attempt < attempts => {
                    tokio::time::sleep(LIVE_PAUSE * attempt).await;
                    self.pinned.lock().await.remove(name);
                }
                answer => return Ok(answer?),
            }
        }
    }

    async fn provider(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(version) = self.versions.lock().get(name) {
            return Ok(Some(Arc::clone(version)));
        }
        if let Some(ByPath::Files(files)) = self.paths.lock().get(name) {
            return Ok(Some(Arc::clone(files)));
        }
        let Some(known) = self.known(name) else { return Ok(None) };
        let pinned = self.pin(known.kept()).await?;
        known.provider(&pinned).map(Some)
    }
}

/// Live rows as a table, in the types of the table that they go with.
fn live_table(rows: LiveRows, kept: Option<&Kept>) -> std::result::Result<Arc<dyn TableProvider>, HistoryError> {
    let kept_type = |field: &FieldRef| -> DataType {
        let column = kept.and_then(|kept| kept.table.columns.column_with_name(field.name()));
        column.map_or_else(|| field.data_type().clone(), |(_, column)| column.data_type().clone())
    };
    let field = |field: &FieldRef| Field::new(field.name(), kept_type(field), true);
    let schema = Arc::new(Schema::new(rows.columns.fields().iter().map(field).collect::<Vec<_>>()));
    let retyped = |batch: &RecordBatch| {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
        RecordBatch::try_new(Arc::clone(&schema), columns.collect::<std::result::Result<_, _>>()?)
    };
    let batches: std::result::Result<Vec<RecordBatch>, _> = rows.batches.iter().map(retyped).collect();
    let batches = batches.map_err(datafusion::error::DataFusionError::from)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![batches])?))
}

/// The catalog of a session.
#[derive(Debug)]
pub(super) struct HistoryCatalog(pub Arc<Pins>);

impl CatalogProvider for HistoryCatalog {
    fn schema_names(&self) -> Vec<String> {
        let live = self.0.has_live().then(|| LIVE.to_owned());
        std::iter::once(HISTORY.to_owned()).chain(live).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            HISTORY => Some(Arc::new(HistorySchema(Arc::clone(&self.0)))),
            LIVE if self.0.has_live() => Some(Arc::new(LiveSchema(Arc::clone(&self.0)))),
            _ => None,
        }
    }
}

/// What is recorded.
#[derive(Debug)]
struct HistorySchema(Arc<Pins>);

#[async_trait]
impl SchemaProvider for HistorySchema {
    fn table_names(&self) -> Vec<String> {
        self.0.names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.0.provider(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.known(name).is_some()
    }
}

/// What a running pipeline has not written yet. Its tables are not listed: to list them the pipeline would have to be
/// asked, and who asks for names only does not expect that.
#[derive(Debug)]
struct LiveSchema(Arc<Pins>);

#[async_trait]
impl SchemaProvider for LiveSchema {
    fn table_names(&self) -> Vec<String> {
        vec![]
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(self.0.pin_live(name).await?))
    }

    fn table_exist(&self, _name: &str) -> bool {
        true
    }
}
