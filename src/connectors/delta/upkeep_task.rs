//! The upkeep at work beside its sink.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::upkeep::Upkeep;
use crate::connectors::ConnectorError;

/// Looked after at least so often, also when nothing is written: files become older by themselves.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What is under way when the sink closes has so long to come to its end: otherwise the files of runs that end after a
/// few seconds would never be put together.
const GRACE: Duration = Duration::from_secs(5);

/// A table's upkeep in a task of its own.
pub(super) struct UpkeepTask {
    /// The version that the sink knows, before there is a table none; gone when the sink closes.
    versions: Option<watch::Sender<Option<u64>>>,
    /// Cancelled when what is under way is to be given up.
    enough: CancellationToken,
    /// Cancelled when the pipeline is to end at once.
    stop: CancellationToken,
    task: Option<JoinHandle<Result<(), ConnectorError>>>,
}

impl UpkeepTask {
    /// Begins with a table at this version.
    pub(super) fn start(mut upkeep: Upkeep, version: Option<u64>, stop: &CancellationToken) -> UpkeepTask {
        let (versions, mut told) = watch::channel(version);
        let enough = stop.child_token();
        let told_enough = enough.clone();
        let work = async move {
            loop {
                let version = *told.borrow_and_update();
                if let Some(version) = version {
                    upkeep.look(version, &told_enough).await?;
                }
                tokio::select! {
                    changed = told.changed() => if changed.is_err() { return Ok(()) },
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = told_enough.cancelled() => return Ok(()),
                }
            }
        };
        UpkeepTask { versions: Some(versions), enough, stop: stop.clone(), task: Some(tokio::spawn(work)) }
    }

    /// The sink has made a commit.
    pub(super) fn committed(&self, version: Option<u64>) {
        if let Some(versions) = &self.versions {
            versions.send_replace(version);
        }
    }

    /// Asked before rows are taken in.
    ///
    /// # Errors
    /// What has ended the upkeep, and must end the pipeline.
    pub(super) async fn verdict(&mut self) -> Result<(), ConnectorError> {
        match self.task.take_if(|task| task.is_finished()) {
            Some(ended) => outcome(ended.await),
            None => Ok(()),
        }
    }

    /// Lets it finish what is under way, if that does not take long.
    ///
    /// # Errors
    /// As for [`UpkeepTask::verdict`].
    pub(super) async fn close(&mut self) -> Result<(), ConnectorError> {
        self.versions = None;
        let Some(mut task) = self.task.take() else { return Ok(()) };
        tokio::select! {
            ended = &mut task => return outcome(ended),
            () = tokio::time::sleep(GRACE) => self.enough.cancel(),
            () = self.stop.cancelled() => {}
        }
        tokio::select! {
            ended = &mut task => outcome(ended),
            () = self.stop.cancelled() => {
                task.abort();
                Ok(())
            }
        }
    }
}

/// A mistake in the upkeep does not keep rows from being delivered.
fn outcome(ended: Result<Result<(), ConnectorError>, JoinError>) -> Result<(), ConnectorError> {
    ended.unwrap_or_else(|mistake| {
        tracing::error!("a Delta table is not looked after any more until the next start: {mistake}");
        Ok(())
    })
}

impl Drop for UpkeepTask {
    fn drop(&mut self) {
        self.enough.cancel();
    }
}
