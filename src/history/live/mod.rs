//! Live tables for batch SQL: what the destinations of a running pipeline do not hold yet.
//!
//! `SELECT .. FROM t UNION ALL SELECT .. FROM live.t` gives the state at the end of one epoch: the history pins its
//! version of `t` first and asks with the marker that it found there. What is asked is the run in this process
//! ([`RunningLive`]) or one elsewhere, by its console ([`RemoteLive`]).

mod remote;
mod run_file;

use std::sync::Arc;

use async_trait::async_trait;

use crate::console::live::LiveView;

pub use crate::dataflow::live::{LiveError, LiveKind, LiveRows, LiveTable, Marker, Since};
pub use remote::RemoteLive;
pub use run_file::RunFile;

/// Answers for live tables.
#[async_trait]
pub trait LiveTables: Send + Sync {
    /// The tables that there are.
    ///
    /// # Errors
    /// When there is no pipeline to ask.
    async fn names(&self) -> Result<Vec<LiveTable>, LiveError>;

    /// All rows of `table` that are not in the given version of its destination, as of an epoch that ends now, with
    /// what its open windows would give if they closed now.
    ///
    /// # Errors
    /// [`LiveError::Settled`] when the destination has a newer version: read it again and ask again. Otherwise a
    /// message for whoever asked.
    async fn rows(&self, table: &str, since: Since) -> Result<LiveRows, LiveError>;
}

/// Asks the run in this process.
pub struct RunningLive(Arc<LiveView>);

impl RunningLive {
    /// Asks what `view` shows.
    pub fn new(view: Arc<LiveView>) -> RunningLive {
        RunningLive(view)
    }
}

#[async_trait]
impl LiveTables for RunningLive {
    async fn names(&self) -> Result<Vec<LiveTable>, LiveError> {
        Ok(self.0.tables())
    }

    async fn rows(&self, table: &str, since: Since) -> Result<LiveRows, LiveError> {
        self.0.rows(table, &since).await
    }
}
