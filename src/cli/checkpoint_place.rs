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
    /// The store of a pipeline: a folder named like it, so that pipelines can share the place.
    ///
    /// # Errors
    /// When the place is none.
    pub fn open(&self, data_dir: &Path, pipeline: &str) -> Result<Arc<dyn Store>, StoreError> {
        store::open(&self.place(data_dir, pipeline))
    }

    /// The names of the folders of all pipelines that keep their checkpoints there; `None` where folders cannot be listed.
    pub fn folders(&self, data_dir: &Path) -> Option<Vec<String>> {
        let all = self.all(data_dir);
        let folder = all.strip_prefix("file://").unwrap_or(&all);
        if folder.contains("://") {
            return None;
        }
        // None has been made yet, or whoever opens one of them will say what is wrong.
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        Some(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// The store in one of [`CheckpointArguments::folders`].
    ///
    /// # Errors
    /// As for [`CheckpointArguments::open`].
    pub fn open_folder(&self, data_dir: &Path, folder: &str) -> Result<Arc<dyn Store>, StoreError> {
        store::open(&format!("{}/{folder}", self.all(data_dir)))
    }

    fn place(&self, data_dir: &Path, pipeline: &str) -> String {
        format!("{}/{}", self.all(data_dir), folder_name(pipeline))
    }

    fn all(&self, data_dir: &Path) -> String {
        match &self.checkpoints {
            Some(place) => place.trim_end_matches('/').to_owned(),
            None => data_dir.join("checkpoints").display().to_string(),
        }
    }
}

/// A name as that of a folder: what could lead out of it, or mean something in a URL, is written as %XX.
pub fn folder_name(pipeline: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let leads_out = pipeline.bytes().all(|byte| byte == b'.');
    let encoded = |byte: u8| match plain(byte) && !leads_out {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    pipeline.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pipeline_has_a_folder_of_its_own() {
        let place = |url: Option<&str>, name: &str| {
            let arguments = CheckpointArguments { checkpoints: url.map(str::to_owned) };
            arguments.place(Path::new("data"), name)
        };
        assert_eq!(place(None, "shop"), "data/checkpoints/shop");
        assert_eq!(place(Some("s3://bucket/prefix/"), "shop"), "s3://bucket/prefix/shop");
        assert_eq!(place(Some("/var/lib"), "../x y"), "/var/lib/..%2Fx%20y");
        assert_eq!(place(Some("/var/lib"), ".."), "/var/lib/%2E%2E");
    }
}
