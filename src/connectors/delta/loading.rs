//! What reads a table's log outlives a run that goes down.
//!
//! deltalake-core loads a snapshot in a blocking task, which cannot be dropped. What that asks of the store is done by
//! tasks of the runtime in which the load was begun, and when one of those is dropped, as at the end of a run that has
//! failed, the load panics. So these tasks have a runtime of their own, which nobody shuts down: the load ends quietly.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use delta_kernel::Engine;
use deltalake_core::kernel::Version;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{CommitOrBytes, LogStore, LogStoreConfig, LogStoreRef};
use deltalake_core::{DeltaResult, DeltaTableError, ObjectStore, Path};
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use url::Url;
use uuid::Uuid;

/// So many threads wait for stores; the work on what comes is done by those who load.
const THREADS: usize = 2;

/// The log store whose log is read by tasks of the runtime of this module.
pub(super) struct Outliving(pub LogStoreRef);

/// The runtime, made at the first load; `None` where the system has no more threads.
fn outliving() -> Option<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(THREADS).thread_name("delta-log").enable_all().build().ok()
    });
    made.as_ref()
}

#[async_trait]
impl LogStore for Outliving {
    fn engine(&self, operation_id: Option<Uuid>) -> Arc<dyn Engine> {
        // In a runtime of one thread, a test's, the library makes a thread for each load, which it waits for.
        let of_one_thread = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        // The engine's tasks go to the runtime in which it is made.
        let _inside = outliving().filter(|_| !of_one_thread).map(Runtime::enter);
        self.0.engine(operation_id)
    }

    fn name(&self) -> String {
        self.0.name()
    }

    async fn refresh(&self) -> DeltaResult<()> {
        self.0.refresh().await
    }

    async fn read_commit_entry(&self, version: Version) -> DeltaResult<Option<Bytes>> {
        self.0.read_commit_entry(version).await
    }

    async fn write_commit_entry(
        &self,
        version: Version,
        commit: CommitOrBytes,
        operation_id: Uuid,
    ) -> Result<(), TransactionError> {
        self.0.write_commit_entry(version, commit, operation_id).await
    }

    async fn abort_commit_entry(
        &self,
        version: Version,
        commit: CommitOrBytes,
        operation_id: Uuid,
    ) -> Result<(), TransactionError> {
        self.0.abort_commit_entry(version, commit, operation_id).await
    }

    async fn get_latest_version(&self, start_version: Version) -> DeltaResult<Version> {
        self.0.get_latest_version(start_version).await
    }

    fn object_store(&self, operation_id: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.0.object_store(operation_id)
    }

    fn root_object_store(&self, operation_id: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.0.root_object_store(operation_id)
    }

    fn to_uri(&self, location: &Path) -> String {
        self.0.to_uri(location)
    }

    fn root_url(&self) -> &Url {
        self.0.root_url()
    }

    fn log_path(&self) -> &Path {
        self.0.log_path()
    }

    fn transaction_url(&self, operation_id: Option<Uuid>) -> Result<Url, DeltaTableError> {
        self.0.transaction_url(operation_id)
    }

    async fn is_delta_table_location(&self) -> DeltaResult<bool> {
        self.0.is_delta_table_location().await
    }

    fn config(&self) -> &LogStoreConfig {
        self.0.config()
    }

    fn object_store_url(&self) -> ObjectStoreUrl {
        self.0.object_store_url()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use deltalake_core::operations::create::CreateBuilder;
    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};

    use super::*;
    use crate::connectors::delta::place::DeltaPlace;

    #[test]
    fn a_load_does_not_panic_when_its_run_goes_down() {
        static PANICS: AtomicUsize = AtomicUsize::new(0);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let of_a_load = panic.location().is_some_and(|place| place.file().contains("executor"));
            PANICS.fetch_add(usize::from(of_a_load), Ordering::SeqCst);
            before(panic);
        }));
        let objects = InMemory::new();
        let slow = Duration::from_millis(100);
        let throttle =
            ThrottleConfig { wait_get_per_call: slow, wait_list_per_call: slow, ..ThrottleConfig::default() };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let place = DeltaPlace::given(Arc::new(objects.clone()));
            let create = CreateBuilder::new().with_log_store(place.log_store().unwrap());
            create.with_column("n", deltalake_core::DataType::LONG, true, None).await.unwrap();
        });
        let place = DeltaPlace::given(Arc::new(ThrottledStore::new(objects, throttle)));
        for waited in [20, 150, 250, 350] {
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let place = place.clone();
            runtime.spawn(async move { place.open().await });
            std::thread::sleep(Duration::from_millis(waited));
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
        // And it still loads.
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        assert_eq!(runtime.block_on(place.open()).unwrap().unwrap().version(), Some(0));
    }
}
