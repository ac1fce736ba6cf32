//! A store in memory that fails when it is told to, and counts what it is asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// What happens to a put, or to a get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It does not arrive.
    Lost,
    /// It arrives, its answer does not.
    AnswerLost,
    /// It cannot be read this time.
    Unread,
}

#[derive(Clone, Default, Debug)]
pub(super) struct FlakyStore {
    pub(super) objects: Arc<InMemory>,
    /// Parts of paths, with what befalls the next puts or gets there, one after another.
    faults: Arc<Mutex<Vec<(String, Fault)>>>,
    asked: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl fmt::Display for FlakyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlakyStore")
    }
}

impl FlakyStore {
    /// The next put into a path with `part` in it, or the next get there, meets `fault`.
    pub(super) fn fail(&self, part: &str, fault: Fault) {
        self.faults.lock().push((part.to_owned(), fault));
    }

    /// What has been asked since the last call.
    pub(super) fn asked(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.asked.lock())
    }

    /// Takes out what befalls a put into `path`, or a get there.
    fn fault(&self, path: &Path, is_get: bool) -> Option<Fault> {
        let mut faults = self.faults.lock();
        let befalls = |(part, fault): &(String, Fault)| {
            path.as_ref().contains(part.as_str()) && (*fault == Fault::Unread) == is_get
        };
        let at = faults.iter().position(befalls);
        at.map(|at| faults.remove(at).1)
    }

    /// Whether all that was to fail has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.faults.lock().is_empty()
    }

    fn count(&self, what: &'static str) {
        *self.asked.lock().entry(what).or_default() += 1;
    }
}

fn lost() -> Error {
    Error::Generic { store: "FlakyStore", source: "the connection was reset".into() }
}

#[async_trait]
impl ObjectStore for FlakyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.count("put");
        let fault = self.fault(path, false);
        if fault == Some(Fault::Lost) {
            return Err(lost());
        }
        let put = self.objects.put_opts(path, payload, options).await?;
        if fault == Some(Fault::AnswerLost) { Err(lost()) } else { Ok(put) }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.count("put");
        self.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.count("get");
        if self.fault(path, true).is_some() {
            return Err(lost());
        }
        self.objects.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("list");
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.count("list");
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
