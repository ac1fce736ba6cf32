//! The upkeep at work beside its sink.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::upkeep::Upkeep;
use crate::connectors::ConnectorError;

/// Looked after at least so often, also when nothing is written: files become older by themselves.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A table's upkeep in a task of its own.
pub(super) struct UpkeepTask {
    /// The version that the sink knows; `None` before there is a table.
    versions: watch::Sender<Option<u64>>,
    /// Cancelled when it is to come to an end.
    enough: CancellationToken,
    /// Cancelled when it is to end at once.
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
            while !told_enough.is_cancelled() {
                let version = *told.borrow_and_update();
                if let Some(version) = version {
                    upkeep.look(version, &told_enough).await?;
                }
                tokio::select! {
                    changed = told.changed() => if changed.is_err() { break },
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = told_enough.cancelled() => {}
                }
            }
            Ok(())
        };
        UpkeepTask { versions, enough, stop: stop.clone(), task: Some(tokio::spawn(work)) }
    }

    /// The sink has made a commit.
    pub(super) fn committed(&self, version: Option<u64>) {
        self.versions.send_replace(version);
    }

    /// Asked before each delivery.
    ///
    /// # Errors
    /// What has ended the upkeep, and must end the pipeline.
    pub(super) async fn verdict(&mut self) -> Result<(), ConnectorError> {
        match self.task.take_if(|task| task.is_finished()) {
            Some(ended) => ended.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }

    /// Lets it finish what is under way, unless the pipeline is told to stop at once.
    ///
    /// # Errors
    /// As for [`UpkeepTask::verdict`].
    pub(super) async fn close(&mut self) -> Result<(), ConnectorError> {
        self.enough.cancel();
        let Some(mut task) = self.task.take() else { return Ok(()) };
        tokio::select! {
            ended = &mut task => ended.unwrap_or(Ok(())),
            () = self.stop.cancelled() => {
                task.abort();
                Ok(())
            }
        }
    }
}

impl Drop for UpkeepTask {
    fn drop(&mut self) {
        self.enough.cancel();
    }
}
