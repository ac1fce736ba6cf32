//! Faults on purpose, for the tests of what must survive them.
//!
//! A build without debug assertions has none of this. In others, `ACEQUIA_CRASH_AT=point` or `point:n` in the
//! environment kills the process the n-th time that it comes to `crash_point!` of that name, and `ACEQUIA_STOP_AT` stops
//! it there as SIGSTOP does. `ACEQUIA_PLANT=bug` (or [`plant`], for the calling thread) makes [`planted`] true for one
//! known mistake, which the tests must notice.

/// The known mistakes that can be planted: a test suite that does not notice one of them is not good enough.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "each is described where it is planted")]
pub enum Bug {
    MarkerBeforeData,
    NoSync,
    NoFolderSync,
    MarkerBeforeFence,
    OutboxDroppedEarly,
    DeliveredBeforeDurable,
    ManifestFirst,
    ChecksumIgnored,
    BarrierNotAligned,
    StateDeltaLost,
    PositionAhead,
    IncarnationNotTaken,
    EpochReused,
    CompactionDropsDelta,
    RewindForgotten,
    DataBeforeMarker,
    FenceForgotten,
    UnknownTakenForDone,
    UnknownTakenForFailed,
    ProducerNotRecycled,
    WritersNotAwaited,
    CompactedTwice,
    VacuumTakesLive,
}

/// Dies here if the environment says so. Names are listed in [`POINTS`].
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::faults::reached($name);
    };
}

pub(crate) use crash_point;

/// Every crash point of the crate.
pub const POINTS: &[&str] = &[
    "checkpointer.durable",
    "deliverer.after_deliver",
    "deliverer.after_fence",
    "deliverer.before_deliver",
    "log.before_files",
    "log.before_manifest",
    "log.before_prune",
    "log.compacted",
    "log.incarnation_taken",
    "log.locked",
    "log.outbox_written",
    "log.pruning",
    "log.published",
    "log.setting_aside",
    "log.state_written",
    "recovery.loaded",
    "sink.delta.after_commit",
    "sink.delta.after_compaction_commit",
    "sink.delta.after_fence",
    "sink.delta.after_file",
    "sink.delta.after_log_checkpoint",
    "sink.delta.after_vacuum",
    "sink.delta.amid_compaction",
    "sink.delta.amid_vacuum",
    "sink.delta.before_commit",
    "sink.delta.before_compaction_commit",
    "sink.delta.before_fence",
    "sink.delta.before_file",
    "sink.delta.before_log_checkpoint",
    "sink.file.after_fence",
    "sink.file.after_marker",
    "sink.file.amid_rows",
    "sink.file.before_marker",
    "sink.file.before_rows",
    "sink.file.before_sync",
    "sink.kafka.after_claim",
    "sink.kafka.after_commit",
    "sink.kafka.after_fence",
    "sink.kafka.before_claim",
    "sink.kafka.before_commit",
    "sink.kafka.before_fence",
    "sink.kafka.before_marker",
    "sink.kafka.embedded.after_claim",
    "sink.kafka.embedded.after_sync",
    "sink.kafka.embedded.amid_frame",
    "sink.kafka.embedded.before_claim",
    "sink.kafka.embedded.before_frame",
    "sink.kafka.embedded.before_roll",
    "sink.kafka.embedded.before_sync",
    "sink.parquet.after_fence",
    "sink.parquet.after_marker",
    "sink.parquet.before_marker",
    "sink.parquet.before_part",
    "sink.parquet.before_rename",
    "sink.postgres.after_commit",
    "sink.postgres.after_fence",
    "sink.postgres.before_commit",
    "sink.postgres.before_data",
    "sink.postgres.before_marker",
    "sink.redis.after_fence",
    "sink.redis.after_write",
    "sink.redis.before_write",
    "sink.redis.between_chunks",
    "sink.sqlite.after_commit",
    "sink.sqlite.after_fence",
    "sink.sqlite.before_commit",
    "sink.sqlite.before_data",
    "sink.sqlite.before_marker",
    "store.named",
    "store.synced",
    "store.written",
];

#[cfg(debug_assertions)]
mod armed {
    use std::cell::RefCell;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Bug;

    static CRASH_AT: OnceLock<Option<At>> = OnceLock::new();
    static STOP_AT: OnceLock<Option<At>> = OnceLock::new();
    static PLANTED: OnceLock<Option<String>> = OnceLock::new();

    thread_local! {
        static HERE: RefCell<Option<Bug>> = const { RefCell::new(None) };
    }

    /// The n-th time at a point.
    struct At {
        point: String,
        times: u64,
        passed: AtomicU64,
    }

    impl At {
        fn of(variable: &str) -> Option<At> {
            let at = std::env::var(variable).ok()?;
            let (point, times) = at.split_once(':').unwrap_or((&at, "1"));
            Some(At { point: point.to_owned(), times: times.parse().unwrap_or(1), passed: AtomicU64::new(0) })
        }

        fn is_here(&self, name: &str) -> bool {
            self.point == name && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.times
        }
    }

    /// The work of `crash_point!`.
    pub fn reached(name: &str) {
        let is_here = |at: &Option<At>| at.as_ref().is_some_and(|at| at.is_here(name));
        if is_here(CRASH_AT.get_or_init(|| At::of("ACEQUIA_CRASH_AT"))) {
            eprintln!("crash point {name}");
            std::process::abort();
        }
        if is_here(STOP_AT.get_or_init(|| At::of("ACEQUIA_STOP_AT"))) {
            eprintln!("stops at {name}");
            let stopped = std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
            assert!(stopped.is_ok_and(|status| status.success()), "it does not stop");
        }
    }

    /// Plants a mistake for this thread, or takes it out.
    pub fn plant(bug: Option<Bug>) {
        HERE.with(|here| *here.borrow_mut() = bug);
    }

    /// Whether a mistake is planted.
    pub fn planted(bug: Bug) -> bool {
        let by_environment = PLANTED.get_or_init(|| std::env::var("ACEQUIA_PLANT").ok());
        HERE.with(|here| *here.borrow() == Some(bug))
            || by_environment.as_deref().is_some_and(|name| name == format!("{bug:?}"))
    }
}

#[cfg(debug_assertions)]
pub use armed::{plant, planted, reached};

/// Whether a mistake is planted: never in this build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn planted(_: Bug) -> bool {
    false
}
