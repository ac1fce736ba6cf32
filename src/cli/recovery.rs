//! How a run begins: from its checkpoints, from an older one, or from nothing.

use std::sync::Arc;
use std::time::Instant;

use super::checkpoint_place::CheckpointArguments;
use super::exit::Exit;
use crate::checkpoint::log::{CheckpointError, LogOptions};
use crate::dataflow::RunOptions;
use crate::dataflow::graph::Graph;
use crate::dataflow::recovery::{Beginning, Found, RecoveryError};
use crate::dataflow::statistics::Statistics;
use crate::time::Epoch;

/// How many checkpoints stay.
const KEEP: usize = 3;

/// The options of `run` that say where a run goes on.
#[derive(clap::Args, Debug)]
pub struct RecoveryArguments {
    #[command(flatten)]
    place: CheckpointArguments,

    /// Keep no checkpoints: a restart begins anew, and sinks get their rows at least once
    #[arg(long, conflicts_with_all = ["fresh", "from_checkpoint", "accept_lost_state", "checkpoints"])]
    no_checkpoints: bool,

    /// Begin anew, whatever checkpoints there are; rows already delivered stay
    #[arg(long)]
    fresh: bool,

    /// Go on from this epoch and not from the newest
    #[arg(long, value_name = "EPOCH", conflicts_with = "fresh")]
    from_checkpoint: Option<u64>,

    /// Leave behind the state of queries that have changed
    #[arg(long)]
    accept_lost_state: bool,

    /// Go on at the nearest records there are where those to be read next are gone
    #[arg(long)]
    pub(super) accept_lost_input: bool,

    /// Go on where a destination lacks rows that are kept no more, such as after a restored backup
    #[arg(long)]
    pub(super) accept_lost_output: bool,
}

impl RecoveryArguments {
    /// Keeps no checkpoints, and looks at none.
    pub fn keep_none(&mut self) {
        self.no_checkpoints = true;
    }

    /// Where checkpoints are.
    pub fn place(&self) -> &CheckpointArguments {
        &self.place
    }

    /// Whether the run begins anew, whatever checkpoints there are.
    pub fn begins_anew(&self) -> bool {
        self.fresh || self.no_checkpoints
    }

    /// Opens the checkpoints and says what was found. `began` is when the process began to look.
    ///
    /// # Errors
    /// The exit code, after the message was logged.
    pub async fn begin(
        &self,
        graph: &Graph,
        options: &RunOptions,
        began: Instant,
        statistics: &Statistics,
    ) -> Result<Beginning, Exit> {
        if self.no_checkpoints {
            return Ok(Beginning::default());
        }
        statistics.checkpoints.recovering();
        let store = self.place.open(&options.data_dir, &options.pipeline).map_err(|error| {
            tracing::error!("checkpoints: {error}");
            Exit::Usage
        })?;
        let place = store.describe();
        let log = LogOptions {
            pipeline: options.pipeline.clone(),
            fresh: self.fresh,
            from: self.from_checkpoint.map(Epoch),
            keep: KEEP,
        };
        // A store that is full or away is waited for.
        let recovered = tokio::select! {
            biased;
            recovered = Beginning::recover(graph, Arc::clone(&store), log, self.accept_lost_state) => recovered,
            () = options.drain.cancelled() => {
                tracing::info!("stopped before the checkpoints in {place} could be read");
                return Err(Exit::Success);
            }
        };
        let (beginning, found) = recovered.map_err(|error| {
            tracing::error!("{error}");
            exit_of(&error)
        })?;
        statistics.checkpoints.recovered(found.incarnation, found.epoch.unwrap_or_default(), began.elapsed());
        tell(&found, &place);
        Ok(beginning)
    }
}

fn tell(found: &Found, place: &str) {
    match found.epoch {
        Some(epoch) => tracing::info!("run {} goes on from epoch {epoch}, checkpoints in {place}", found.incarnation),
        None => tracing::info!("run {} begins from nothing, checkpoints in {place}", found.incarnation),
    }
    for note in &found.notes {
        tracing::warn!("{note}");
    }
}

fn exit_of(error: &RecoveryError) -> Exit {
    match error {
        RecoveryError::Log(CheckpointError::Held(_) | CheckpointError::Fenced(_)) => Exit::Replaced,
        RecoveryError::Log(CheckpointError::Damaged(_)) | RecoveryError::Takeover(_) => Exit::Mismatch,
        RecoveryError::Log(CheckpointError::Store(_) | CheckpointError::Arrow { .. }) => Exit::Runtime,
    }
}
