//! One table of the history: opened at its newest version, or at an earlier one.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use deltalake_core::logstore::commit_uri_from_version;
use deltalake_core::logstore::object_store::ObjectStoreExt;
use deltalake_core::{DeltaTable, ObjectStore, ObjectStoreError, Path};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use thiserror::Error;
use tokio::sync::Mutex;

use super::files::{self, UnreadableTable};
use super::scan::{Columns, DeltaScan, as_read};
use super::versions::Versions;
use super::{HistoryError, HistoryKind, HistoryTable};
use crate::catalog::TableDefinition;
use crate::connectors::ConnectorError;
use crate::connectors::delta::place::DeltaPlace;
use crate::connectors::delta::{DeltaHistory, types};

/// So many files are looked for at once.
const LOOKED_FOR_AT_ONCE: usize = 16;

/// A table of the folder that keeps what it is given.
pub struct Kept {
    /// What it is.
    pub table: HistoryTable,
    place: DeltaPlace,
    /// The name under which sessions know its store.
    url: ObjectStoreUrl,
    opened: Mutex<Option<Arc<Pinned>>>,
}

/// One version of a table, which stays as it is.
pub struct Pinned {
    /// The version as Delta knows it; `None` while nothing has been written.
    pub delta: Option<DeltaTable>,
    /// How it is read.
    pub provider: Arc<dyn TableProvider>,
    /// The files and what is known of them; `None` while nothing has been written.
    pub(super) scan: Option<Arc<DeltaScan>>,
}

impl Pinned {
    /// The version's number.
    pub fn version(&self) -> Option<u64> {
        self.delta.as_ref()?.version()
    }
}

/// Why a version cannot be had.
#[derive(Debug, Error)]
pub enum TravelError {
    /// There is no such version: what was asked for, and what there is.
    #[error("{asked}")]
    NotThere {
        /// What is not there.
        asked: String,
        /// What is.
        versions: String,
    },
    /// The table cannot be read at all.
    #[error(transparent)]
    Table(#[from] HistoryError),
}

/// A version, by its number or by a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// The one with this number.
    Version(u64),
    /// The newest one at this time.
    Time(DateTime<Utc>),
}

impl Kept {
    /// The table, if its connector keeps a history; `number` tells it from the others of its folder.
    pub(super) fn new(table: HistoryTable, history: DeltaHistory, number: usize) -> Result<Kept, HistoryError> {
        let url = ObjectStoreUrl::parse(format!("history://table-{number}")).map_err(HistoryError::Engine)?;
        Ok(Kept { table, place: history.place, url, opened: Mutex::new(None) })
    }

    /// The table in `folder`, which a statement names by `path`; its log says what it has.
    pub(super) fn at_path(path: &str, folder: &std::path::Path, number: usize) -> Result<Kept, HistoryError> {
        let place = DeltaPlace::folder(folder)?;
        let table = HistoryTable {
            name: path.to_owned(),
            kind: HistoryKind::Table,
            place: place.describe(),
            columns: Arc::new(Schema::empty()),
            partition_by: vec![],
            event_time: None,
        };
        Kept::new(table, DeltaHistory { place, partition_by: vec![], history_of: None }, number)
    }

    /// The newest version. What is known of an earlier one is used again.
    ///
    /// # Errors
    /// When it cannot be reached or read.
    pub async fn newest(&self, runtime: &RuntimeEnv) -> Result<Arc<Pinned>, HistoryError> {
        let mut opened = self.opened.lock().await;
        if let Some(known) = opened.take()
            && let Some(mut delta) = known.delta.clone()
            && delta.update_incremental(None).await.is_ok()
            // A table that was made anew at its place need not have the version that was known.
            && has_its_commit(&delta).await
        {
            let newest = if delta.version() == known.version() { known } else { self.pin(delta, true, runtime)? };
            *opened = Some(Arc::clone(&newest));
            return Ok(newest);
        }
        let newest = match self.place.open().await? {
            Some(delta) => self.pin(delta, true, runtime)?,
            None => {
                let provider = Arc::new(EmptyTable::new(Arc::clone(&self.table.columns)));
                return Ok(Arc::new(Pinned { delta: None, provider, scan: None }));
            }
        };
        *opened = Some(Arc::clone(&newest));
        Ok(newest)
    }

    /// An earlier version.
    ///
    /// # Errors
    /// When there is none like it, or not any more.
    pub async fn at(&self, wanted: Wanted, runtime: &RuntimeEnv) -> Result<Arc<Pinned>, TravelError> {
        let newest = self.newest(runtime).await?;
        let Some(delta) = &newest.delta else {
            let versions = "nothing has been written to it yet".into();
            return Err(TravelError::NotThere { asked: self.asked(wanted), versions });
        };
        let versions = self.versions(delta).await?;
        let number = match wanted {
            Wanted::Version(number) => Some(number).filter(|number| versions.can_be_loaded(*number)),
            Wanted::Time(time) => versions.at(time),
        };
        let Some(number) = number else {
            return Err(self.not_there(wanted, &newest, &versions).await);
        };
        if Some(number) == newest.version() {
            return Ok(newest);
        }
        let mut earlier = DeltaTable::new(delta.log_store());
        earlier.load_version(number).await.map_err(|error| HistoryError::from(self.place.failure(&error)))?;
        let earlier = self.pin(earlier, false, runtime)?;
        match self.has_all_files(&earlier, &newest).await? {
            true => Ok(earlier),
            false => Err(self.not_there(wanted, &newest, &versions).await),
        }
    }

    /// The versions that the log holds.
    pub(super) async fn versions(&self, delta: &DeltaTable) -> Result<Versions, HistoryError> {
        Versions::list(delta).await.map_err(|error| self.place.failure(&error.into()).into())
    }

    /// Where it is, for messages.
    pub fn describe(&self) -> String {
        self.place.describe()
    }

    fn asked(&self, wanted: Wanted) -> String {
        let name = &self.table.name;
        match wanted {
            Wanted::Version(number) => format!("there is no version {number} of table '{name}'"),
            Wanted::Time(time) => format!("there is no version of table '{name}' at {}", shown_time(time)),
        }
    }

    async fn not_there(&self, wanted: Wanted, newest: &Pinned, versions: &Versions) -> TravelError {
        let oldest = match self.oldest_whole(newest, versions).await {
            Ok(oldest) => oldest,
            Err(error) => return error.into(),
        };
        TravelError::NotThere { asked: self.asked(wanted), versions: versions.described_from(oldest) }
    }

    /// The oldest version whose files are all there: files go in the order in which they were replaced.
    async fn oldest_whole(&self, newest: &Pinned, versions: &Versions) -> Result<u64, HistoryError> {
        let candidates = versions.loadable();
        let (mut low, mut high) = (0, candidates.len().saturating_sub(1));
        while low < high {
            let middle = low.midpoint(high);
            if self.is_whole(candidates[middle], newest).await? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(candidates.get(low).copied().unwrap_or_default())
    }

    async fn is_whole(&self, version: u64, newest: &Pinned) -> Result<bool, HistoryError> {
        let Some(delta) = &newest.delta else { return Ok(false) };
        let mut earlier = DeltaTable::new(delta.log_store());
        earlier.load_version(version).await.map_err(|error| self.place.failure(&error))?;
        let (scan, _) = self.scan(&earlier, false)?;
        self.files_are_there(&scan, newest, delta.log_store().object_store(None)).await
    }

    async fn has_all_files(&self, earlier: &Pinned, newest: &Pinned) -> Result<bool, HistoryError> {
        match (&earlier.scan, &newest.delta) {
            (Some(scan), Some(delta)) => self.files_are_there(scan, newest, delta.log_store().object_store(None)).await,
            _ => Ok(true),
        }
    }

    /// Whether the files are there that the newest version does not need: those may have been cleared away.
    async fn files_are_there(
        &self,
        scan: &DeltaScan,
        newest: &Pinned,
        store: Arc<dyn ObjectStore>,
    ) -> Result<bool, HistoryError> {
        let needed = newest.scan.iter().flat_map(|scan| scan.files());
        let needed: HashSet<&str> = needed.map(|file| file.meta.location.as_ref()).collect();
        let old = scan.files().iter().map(|file| &file.meta.location).filter(|path| !needed.contains(path.as_ref()));
        let looking: Vec<_> = old.map(|path| self.is_there(path.clone(), Arc::clone(&store))).collect();
        let mut found = futures::stream::iter(looking).buffer_unordered(LOOKED_FOR_AT_ONCE);
        while let Some(is_there) = found.try_next().await? {
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_there(&self, path: Path, store: Arc<dyn ObjectStore>) -> BoxFuture<'static, Result<bool, HistoryError>> {
        let place = self.place.clone();
        async move {
            match store.head(&path).await {
                Ok(_) => Ok(true),
                Err(ObjectStoreError::NotFound { .. }) => Ok(false),
                Err(error) => Err(HistoryError::from(place.failure(&error.into()))),
            }
        }
        .boxed()
    }

    fn pin(&self, delta: DeltaTable, with_declared: bool, runtime: &RuntimeEnv) -> Result<Arc<Pinned>, HistoryError> {
        let (scan, store) = self.scan(&delta, with_declared)?;
        runtime.register_object_store(self.url.as_ref(), store);
        let scan = Arc::new(scan);
        Ok(Arc::new(Pinned { delta: Some(delta), provider: Arc::clone(&scan) as _, scan: Some(scan) }))
    }

    fn scan(&self, delta: &DeltaTable, with_declared: bool) -> Result<(DeltaScan, Arc<dyn ObjectStore>), HistoryError> {
        let refused = |error: UnreadableTable| ConnectorError::Refused {
            what: self.place.describe(),
            message: error.to_string(),
        };
        let state = delta.snapshot().map_err(|error| self.place.failure(&error))?;
        let properties = state.metadata().configuration();
        if let Some(mode) = properties.get("delta.columnMapping.mode").filter(|mode| *mode != "none") {
            return Err(refused(UnreadableTable::ColumnMapping(mode.clone())).into());
        }
        let mut fields: Vec<FieldRef> = state.snapshot().arrow_schema().fields().to_vec();
        if with_declared {
            // A column that is declared by now and was never written: it is null, and not unknown.
            let is_new = |declared: &&FieldRef| fields.iter().all(|field| field.name() != declared.name());
            let new: Vec<FieldRef> = self.table.columns.fields().iter().filter(is_new).map(nullable).collect();
            fields.extend(new);
        }
        let columns = Columns::new(&Schema::new(fields), state.metadata().partition_columns());
        let files = files::files(state, &columns).map_err(refused)?;
        let store = delta.log_store().object_store(None);
        Ok((DeltaScan::new(columns, files, self.url.clone(), Arc::clone(&store)), store))
    }
}

/// Whether the log still holds the newest commit that is known.
async fn has_its_commit(delta: &DeltaTable) -> bool {
    let log_store = delta.log_store();
    log_store.object_store(None).head(&commit_uri_from_version(delta.version())).await.is_ok()
}

fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), field.data_type().clone(), true))
}

/// A time as messages show it.
pub fn shown_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

/// The type in which values of a declared type are kept.
pub(super) fn recorded_type(declared: &DataType) -> DataType {
    types::stored(declared).unwrap_or_else(|_| declared.clone())
}

/// The columns of a table as they will be read, before anything is written.
pub(super) fn declared_columns(table: &TableDefinition) -> SchemaRef {
    let recorded = |field: &FieldRef| Field::new(field.name(), recorded_type(field.data_type()), true);
    let fields: Vec<Field> = table.writable_schema().fields().iter().map(recorded).collect();
    as_read(&Schema::new(fields))
}
