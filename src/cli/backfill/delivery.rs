//! Whether results may go to their own destinations: not where a run has brought such rows already, since rows that are
//! added would be there twice.
//!
//! What a destination has had is in the checkpoints that brought it: those of the pipeline, and those of its backfills,
//! each of which has a name of its own for the tables that it was asked for. A marker in the destination does not tell,
//! since it is its pipeline's own.

use std::sync::Arc;

use thiserror::Error;

use crate::checkpoint::inspection;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::{Store, StoreError};
use crate::cli::checkpoint_place::folder_name;
use crate::cli::exit::Exit;
use crate::cli::run::RunArguments;
use crate::connectors::SinkMode;
use crate::dataflow::graph::SinkNode;

/// Why results are not delivered.
#[derive(Debug, Error)]
pub enum DeliveryError {
    /// Rows of another run are there.
    #[error(
        "table {table} has {rows} rows from {of} already (checkpoints in {place}), and the backfill would add to them. \
         Leave --deliver out and look at the results first; to go on, remove those rows and checkpoints, or let the query \
         write another table"
    )]
    HasRows {
        /// The table.
        table: String,
        /// How many.
        rows: u64,
        /// The checkpoints' folder: a pipeline's name.
        of: String,
        /// Where the checkpoints are.
        place: String,
    },
    /// This backfill has been here before.
    #[error(
        "this backfill was delivered already, at {written} (checkpoints in {place}). --fresh delivers it again: remove \
         its rows first, they stay"
    )]
    Done {
        /// When it ended.
        written: String,
        /// Where its checkpoints are.
        place: String,
    },
    /// Checkpoints cannot be read.
    #[error("checkpoints: {0}")]
    Store(#[from] StoreError),
}

impl DeliveryError {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        match self {
            DeliveryError::HasRows { .. } | DeliveryError::Done { .. } => Exit::Mismatch,
            DeliveryError::Store(_) => Exit::Runtime,
        }
    }
}

/// The name of the backfill of a pipeline: for some of its tables another than for all, so that each is delivered once.
pub fn pipeline(live: &str, only: &[String]) -> String {
    let mut tables: Vec<&str> = only.iter().map(String::as_str).collect();
    tables.sort_unstable();
    tables.dedup();
    match tables.as_slice() {
        [] => format!("{live}-backfill"),
        tables => format!("{live}-backfill-{}", tables.join("+")),
    }
}

/// Checks that no run of pipeline `live`, and no backfill of it beside this one, `own`, has brought rows to `sinks`.
pub async fn check<'a>(
    arguments: &RunArguments,
    live: &str,
    own: &str,
    sinks: impl Iterator<Item = &'a SinkNode>,
) -> Result<(), DeliveryError> {
    let sinks: Vec<&SinkNode> = sinks.filter(|sink| sink.factory.mode() == SinkMode::Append).collect();
    let place = arguments.recovery.place();
    let (live, own) = (folder_name(live), folder_name(own));
    let backfills = format!("{live}-backfill");
    let folders =
        place.folders(&arguments.data_dir).unwrap_or_else(|| vec![live.clone(), backfills.clone(), own.clone()]);
    for folder in folders.iter().filter(|folder| **folder == live || folder.starts_with(&backfills)) {
        let store = place.open_folder(&arguments.data_dir, folder)?;
        let Some(newest) = newest(&store).await? else { continue };
        if *folder == own {
            if newest.finished && !arguments.recovery.begins_anew() {
                return Err(DeliveryError::Done { written: newest.written, place: store.describe() });
            }
            continue;
        }
        for sink in &sinks {
            let rows = newest.sinks.get(&sink.table).map_or(0, |sink| sink.ledger.rows);
            if rows > 0 {
                let (table, of) = (sink.table.clone(), folder.clone());
                return Err(DeliveryError::HasRows { table, rows, of, place: store.describe() });
            }
        }
    }
    Ok(())
}

/// The newest checkpoint that is whole, if there is any.
async fn newest(store: &Arc<dyn Store>) -> Result<Option<Manifest>, StoreError> {
    let found = inspection::list(store).await?;
    let whole = found.into_iter().filter_map(|found| found.manifest.ok());
    Ok(whole.max_by_key(|manifest| (manifest.incarnation, manifest.epoch)))
}
