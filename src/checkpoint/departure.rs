//! Going on from elsewhere than the newest checkpoint: what a run leaves behind is put aside.
//!
//! A run that is told which checkpoint to go on from does this only once it is sure to go on: a destination that has had
//! the rows in between refuses it, and the next run must find everything as it was. One that begins anew does it at
//! once: to open a destination may already empty it.

use super::manifest;
use super::opening::SET_ASIDE;
use super::store::{Store, StoreError};
use crate::faults::crash_point;

/// What is to be put aside before anything of the run is written.
#[derive(Default)]
pub(super) struct Departure {
    /// The manifests of later epochs, the newest last: broken off, this leaves a log that still goes on from there.
    pub later: Vec<String>,
}

impl Departure {
    /// Moves the manifests out of the way: their files stay, their epochs' numbers are not used again.
    pub(super) async fn carry_out(&self, store: &dyn Store) -> Result<(), StoreError> {
        for path in &self.later {
            match store.get(path).await {
                Ok(bytes) => store.put(&path.replacen(manifest::FOLDER, SET_ASIDE, 1), bytes).await?,
                Err(StoreError::Missing { .. }) => continue,
                Err(error) => return Err(error),
            }
            crash_point!("log.setting_aside");
            store.delete(path).await?;
        }
        Ok(())
    }
}
