//! Where a Delta table lies, and how it is opened: a folder that keeps what it is given through a loss of power, or a
//! prefix in a bucket.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::{DeltaTable, DeltaTableError};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, RetryConfig};
use url::Url;

use super::loading::Outliving;
use super::store::DurableFolder;
use crate::connectors::ConnectorError;
use crate::connectors::disk::waiting;

/// What a store says that does not let one in.
const DENIED: &[&str] = &[
    "403 Forbidden",
    "401 Unauthorized",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "lacked the necessary privileges",
    "lacked valid authentication",
];

/// Where a Delta table lies and how it is opened.
#[derive(Clone)]
pub struct DeltaPlace {
    url: Url,
    root: Root,
    shown: String,
}

#[derive(Clone)]
enum Root {
    /// A folder, with its whole path.
    Folder(PathBuf),
    /// A bucket, with what the options say of its access.
    Bucket(BTreeMap<String, String>),
    /// A test's store.
    #[cfg(test)]
    Given(Arc<dyn ObjectStore>),
}

// The access may hold a password.
impl fmt::Debug for DeltaPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl DeltaPlace {
    /// A folder, which need not be there yet. A relative one starts at the working directory.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] when it is relative and there is no working directory.
    pub fn folder(folder: impl Into<PathBuf>) -> Result<DeltaPlace, ConnectorError> {
        let folder = folder.into();
        let shown = folder.display().to_string();
        let refused = |message: String| ConnectorError::Refused { what: format!("Delta table {shown}"), message };
        let whole = whole_path(&folder).map_err(|error| refused(format!("it has no whole path: {error}")))?;
        let url = Url::from_directory_path(&whole).map_err(|()| refused("its path makes no URL".into()))?;
        Ok(DeltaPlace { url, root: Root::Folder(whole), shown })
    }

    /// A prefix in a bucket, such as `s3://bucket/folder`. What `access` does not say of the access, by object_store's
    /// names (`aws_endpoint`), comes from the environment (`AWS_ENDPOINT`).
    pub fn bucket(url: &Url, access: BTreeMap<String, String>) -> DeltaPlace {
        DeltaPlace { url: url.clone(), root: Root::Bucket(access), shown: url.as_str().trim_end_matches('/').into() }
    }

    /// A table `t` in a test's store.
    #[cfg(test)]
    pub(super) fn given(store: Arc<dyn ObjectStore>) -> DeltaPlace {
        let url = Url::parse("memory:///t/").unwrap();
        DeltaPlace { url, root: Root::Given(store), shown: "t".into() }
    }

    /// The table's own URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What to call it in a message. Holds no secret.
    pub fn describe(&self) -> String {
        format!("Delta table {}", self.shown)
    }

    /// The store whose root is that of the file system or of the bucket.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] when the access makes no sense.
    pub fn store(&self) -> Result<Arc<dyn ObjectStore>, ConnectorError> {
        let access = match &self.root {
            Root::Folder(folder) => return Ok(Arc::new(DurableFolder::new(folder))),
            Root::Bucket(access) => access,
            #[cfg(test)]
            Root::Given(store) => return Ok(Arc::clone(store)),
        };
        let bucket = self.url.host_str().unwrap_or_default();
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(retries());
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("AWS_"))?;
            Some((name.to_ascii_lowercase(), value.into_string().ok()?))
        });
        for (name, value) in variables.chain(access.clone()) {
            if let Ok(key) = name.parse() {
                builder = builder.with_config(key, value);
            }
        }
        let refused = |message: String| ConnectorError::Refused { what: self.describe(), message };
        Ok(Arc::new(builder.build().map_err(|error| refused(error.to_string()))?))
    }

    /// The table's log and files, whether or not there is a table yet.
    ///
    /// # Errors
    /// As for [`DeltaPlace::store`].
    pub fn log_store(&self) -> Result<LogStoreRef, ConnectorError> {
        let (root, config) = (self.store()?, StorageConfig::default());
        let inside = config.decorate_store(root.clone(), &self.url).map_err(|error| self.failure(&error))?;
        Ok(Arc::new(Outliving(default_logstore(Arc::new(inside), root, &self.url, &config))))
    }

    /// The table at its newest version; `None` when there is none yet.
    ///
    /// # Errors
    /// [`ConnectorError::Unavailable`] when trying again may help, [`ConnectorError::Refused`] when it will not.
    pub async fn open(&self) -> Result<Option<DeltaTable>, ConnectorError> {
        let log_store = self.log_store()?;
        let is_there = log_store.is_delta_table_location().await;
        if !is_there.map_err(|error| self.failure(&error))? {
            return Ok(None);
        }
        let mut table = DeltaTable::new(log_store);
        table.load().await.map_err(|error| self.failure(&error))?;
        Ok(Some(table))
    }

    /// Removes what dead processes have left unfinished in a folder.
    pub(super) fn clear_staging(&self) {
        if let Root::Folder(folder) = &self.root {
            DurableFolder::clear_staging(folder);
        }
    }

    /// What went wrong with the table, in words, and whether trying again may help.
    pub fn failure(&self, error: &DeltaTableError) -> ConnectorError {
        self.failure_of(error)
    }

    /// What went wrong in the store.
    pub(super) fn store_failure(&self, error: &object_store::Error) -> ConnectorError {
        self.failure_of(error)
    }

    fn failure_of(&self, error: &(dyn std::error::Error + 'static)) -> ConnectorError {
        let causes = || {
            let mut next = Some(error);
            std::iter::from_fn(move || {
                let error = next?;
                next = error.source();
                Some(error)
            })
        };
        if let Root::Folder(folder) = &self.root
            && let Some(cause) = causes().find_map(|cause| cause.downcast_ref::<std::io::Error>())
        {
            let what = self.describe();
            return match waiting(folder, "write or read", cause) {
                ConnectorError::Unavailable { message, .. } => ConnectorError::Unavailable { what, message },
                ConnectorError::Refused { message, .. } => ConnectorError::Refused { what, message },
                other => other,
            };
        }
        // Where a listing fails, or the log is read, only words come out.
        let words = error.to_string();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
        let cause = causes().find_map(|cause| cause.downcast_ref::<object_store::Error>());
        let is_away = matches!(cause, Some(object_store::Error::Generic { .. }));
        let what = self.describe();
        if says(&["NoSuchBucket"]) {
            let message = "there is no such bucket: create it, or name another one in 'path'".into();
            ConnectorError::Refused { what, message }
        } else if says(DENIED) {
            self.denied(&words)
        } else if is_away || says(&["object store: Generic"]) {
            ConnectorError::Unavailable { what, message: words }
        } else {
            // What we have said ourselves in the library's error needs no word of whose error it is.
            let message = words.strip_prefix("Generic DeltaTable error: ").unwrap_or(&words).to_owned();
            ConnectorError::Refused { what, message }
        }
    }

    fn denied(&self, words: &str) -> ConnectorError {
        let message = format!(
            "access is denied: the key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in 's3.access_key_id' and \
             's3.secret_access_key', must be right, and allowed to list, read, write and delete there. {words}"
        );
        ConnectorError::Refused { what: self.describe(), message }
    }
}

/// The path from the root on, through no links, as far as it is there.
fn whole_path(folder: &Path) -> std::io::Result<PathBuf> {
    let whole = std::path::absolute(folder)?;
    for above in whole.ancestors() {
        if let (Ok(real), Ok(below)) = (above.canonicalize(), whole.strip_prefix(above)) {
            return Ok(if below.as_os_str().is_empty() { real } else { real.join(below) });
        }
    }
    Ok(whole)
}

/// Few and short: whoever waits for the store goes on trying, and says so.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() }
}
