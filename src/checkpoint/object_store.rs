//! Blobs in an object store, with put-if-absent by a condition on the request. There are no locks: the runs' numbers
//! keep them apart.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};

use super::store::{Lock, Store, StoreError};

/// A prefix in a bucket, or a test's memory.
pub struct ObjectStorage {
    objects: Arc<dyn ObjectStore>,
    place: String,
    prefix: Path,
    keeps_copies: bool,
}

impl ObjectStorage {
    /// `s3://bucket/prefix`, with the access that `AWS_ACCESS_KEY_ID` and its like give.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the URL or the settings make no sense.
    pub fn s3(url: &str) -> Result<ObjectStorage, StoreError> {
        let text = |text: OsString| text.into_string().ok();
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        ObjectStorage::s3_with(url, variables)
    }

    /// With the access that these variables of the environment give.
    pub(super) fn s3_with(
        url: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<ObjectStorage, StoreError> {
        let refused = |message: String| StoreError::Refused {
            place: "s3".into(),
            message: format!("{message}; checkpoints in S3 are named s3://bucket/prefix"),
        };
        let rest = url.strip_prefix("s3://").unwrap_or(url);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(refused("the URL names no bucket".into()));
        }
        let prefix = Path::from(prefix);
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(retries());
        for (name, value) in variables {
            if name.starts_with("AWS_")
                && let Ok(key) = name.to_ascii_lowercase().parse()
            {
                builder = builder.with_config(key, value);
            }
        }
        let built = builder.build();
        let objects = built.map_err(|error| refused(error.to_string()))?;
        let place = format!("s3://{bucket}/{prefix}");
        Ok(ObjectStorage { objects: Arc::new(objects), place, prefix, keeps_copies: true })
    }

    /// A memory of its own.
    pub fn memory() -> ObjectStorage {
        let (place, prefix) = ("memory:///".to_owned(), Path::default());
        ObjectStorage { objects: Arc::new(InMemory::new()), place, prefix, keeps_copies: false }
    }

    fn path(&self, path: &str) -> Path {
        path.split('/').fold(self.prefix.clone(), |folder, part| folder.join(part))
    }

    fn failure(&self, path: &str, error: Error) -> StoreError {
        let place = format!("{}/{path}", self.place.trim_end_matches('/'));
        // Of a listing the library only gives the server's words.
        let words = error.to_string();
        let says = |codes: &[&str]| codes.iter().any(|code| words.contains(code));
        if says(&["NoSuchBucket"]) {
            let message = "there is no such bucket: create it, or name another one".into();
            return StoreError::Refused { place: self.place.clone(), message };
        }
        let not_allowed = says(&["403 Forbidden", "401 Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch"]);
        match error {
            Error::NotFound { .. } => StoreError::Missing { place },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => self.not_allowed(&words),
            Error::Generic { .. } if not_allowed => self.not_allowed(&words),
            Error::Generic { .. } => StoreError::Unavailable { place, message: words },
            _ => StoreError::Refused { place, message: words },
        }
    }

    fn not_allowed(&self, words: &str) -> StoreError {
        let message = format!(
            "access is denied: the key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be right, and allowed to list, \
             read, write and delete there. {words}"
        );
        StoreError::Refused { place: self.place.clone(), message }
    }
}

/// Few and short: the log goes on trying itself, and says so.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() }
}

#[async_trait]
impl Store for ObjectStorage {
    fn describe(&self) -> String {
        self.place.clone()
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.objects.put(&self.path(path), bytes.into()).await;
        put.map(drop).map_err(|error| self.failure(path, error))
    }

    async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&self.path(path), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failure(path, error)),
        }
    }

    fn keeps_copies(&self) -> bool {
        self.keeps_copies
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let read = async { self.objects.get(&self.path(path)).await?.bytes().await };
        read.await.map_err(|error| self.failure(path, error))
    }

    async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let prefix = self.path(folder);
        let found: Vec<_> = match self.objects.list(Some(&prefix)).try_collect().await {
            Ok(found) => found,
            Err(error) => return Err(self.failure(folder, error)),
        };
        let mut blobs: Vec<(String, u64)> = found
            .into_iter()
            .filter_map(|meta| {
                let parts = meta.location.prefix_match(&self.prefix)?;
                let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
                Some((parts.join("/"), meta.size))
            })
            .collect();
        blobs.sort();
        Ok(blobs)
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(path)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failure(path, error)),
        }
    }

    async fn lock(&self) -> Result<Option<Lock>, StoreError> {
        Ok(Some(Box::new(())))
    }
}
