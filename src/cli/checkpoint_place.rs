//! Where a pipeline's checkpoints are, as the commands share it.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::store::{self, Store, StoreError};

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
    pub fn open(&self, data_dir: &Path, pipeline: &str) -> Result<Arc<dyn Store>, StoreError> {
        let root = match &self.checkpoints {
            Some(place) => place.trim_end_matches('/').to_owned(),
            None => data_dir.join("checkpoints").to_string_lossy().into_owned(),
        };
        store::open(&format!("{root}/{pipeline}"))
    }
}
