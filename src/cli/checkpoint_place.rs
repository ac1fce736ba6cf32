//! Where a pipeline's checkpoints are, as the commands share it.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::store::{Store, StoreError};

/// Where checkpoints are.
#[derive(clap::Args, Debug)]
pub struct CheckpointArguments {
    /// Where checkpoints are kept: a folder, or a URL such as s3://bucket/prefix [default: checkpoints in the data folder]
    #[arg(long, value_name = "URL", env = "ACEQUIA__RUN__CHECKPOINTS")]
    checkpoints: Option<String>,
}

impl CheckpointArguments {
    /// The store of a pipeline.
    ///
    /// # Errors
    /// When the place is none.
    pub fn open(&self, _data_dir: &Path, _pipeline: &str) -> Result<Arc<dyn Store>, StoreError> {
        unimplemented!("{:?}", self.checkpoints)
    }
}
