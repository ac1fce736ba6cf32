//! `--state-limit`: ends a run whose state outgrows what it may hold, before the system ends it.
//!
//! Sources are not paused instead: what would make the state smaller, a watermark that closes windows, comes from them.
//! The run stops in order, so its checkpoints are whole and a next run goes on from there.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::progress::bytes;
use crate::dataflow::statistics::Statistics;

/// How often the state is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// What was found.
#[derive(Default)]
pub struct StateLimit(OnceLock<String>);

impl StateLimit {
    /// Looks at the state until it is larger than `limit` bytes; then stops the run by `drain`.
    pub async fn watch(self: Arc<Self>, limit: u64, statistics: Arc<Statistics>, drain: CancellationToken) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Some(excess) = excess(&statistics, limit) {
                let _ = self.0.set(excess);
                return drain.cancel();
            }
        }
    }

    /// Why the run was stopped, if it was.
    pub fn exceeded(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

fn excess(statistics: &Statistics, limit: u64) -> Option<String> {
    let state = || statistics.nodes().iter().map(|node| (node.state_bytes.load(Relaxed), &node.name));
    let total = state().map(|(bytes, _)| bytes).sum();
    if total <= limit {
        return None;
    }
    let (largest, name) = state().max()?;
    Some(format!(
        "the state has grown to {}, more than --state-limit {}; {} of it are in {name}. The run has stopped in order, \
         and a next one goes on from its checkpoint: raise the limit, or let the query keep less, with shorter windows, \
         fewer keys or a smaller delay of the watermark",
        bytes(total),
        bytes(limit),
        bytes(largest),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::statistics::Role;

    #[tokio::test(start_paused = true)]
    async fn a_state_that_outgrows_its_limit_stops_the_run_and_is_named() {
        let statistics = Arc::new(Statistics::new(["a.window", "b.window"].map(|name| (name.into(), Role::Operator))));
        statistics.nodes()[0].state_bytes.store(3 << 20, Relaxed);
        let (limit, drain) = (Arc::new(StateLimit::default()), CancellationToken::new());
        tokio::spawn(Arc::clone(&limit).watch(8 << 20, Arc::clone(&statistics), drain.clone()));
        tokio::time::sleep(INTERVAL * 3).await;
        assert!(!drain.is_cancelled() && limit.exceeded().is_none());
        statistics.nodes()[1].state_bytes.store(6 << 20, Relaxed);
        tokio::time::sleep(INTERVAL * 3).await;
        assert!(drain.is_cancelled());
        assert_eq!(
            limit.exceeded(),
            Some(
                "the state has grown to 9.0 MB, more than --state-limit 8.0 MB; 6.0 MB of it are in b.window. The run \
                 has stopped in order, and a next one goes on from its checkpoint: raise the limit, or let the query \
                 keep less, with shorter windows, fewer keys or a smaller delay of the watermark"
            )
        );
    }
}
