//! Ctrl-C and SIGTERM: the first stops in order, the second at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What is said at the first signal of a run.
const DRAINING: &str = "stopping: no more input is read, what was read is worked off (again to stop at once)";

/// As [`watch_saying`], in the words of a run.
///
/// # Errors
/// When the signals cannot be watched.
pub fn watch(
    drain: CancellationToken,
    abort: CancellationToken,
    patience: Duration,
) -> std::io::Result<impl Future<Output = ()>> {
    watch_saying(DRAINING, drain, abort, patience)
}

/// Says so and cancels `drain` at the first signal, and `abort` at the second or when `patience` has passed since the first.
/// Goes on until dropped.
///
/// # Errors
/// When the signals cannot be watched.
pub fn watch_saying(
    stopping: &'static str,
    drain: CancellationToken,
    abort: CancellationToken,
    patience: Duration,
) -> std::io::Result<impl Future<Output = ()>> {
    // Watched from here on, not from the first poll: a signal in between would end the process.
    let mut signals =
        Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
    Ok(async move {
        signals.next().await;
        tracing::info!("{stopping}");
        drain.cancel();
        tokio::select! {
            () = signals.next() => tracing::warn!("stopping at once"),
            () = tokio::time::sleep(patience) => {
                tracing::warn!("not done after {}: stopping at once", humantime::format_duration(patience));
            }
        }
        abort.cancel();
        std::future::pending::<()>().await;
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
