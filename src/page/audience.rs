//! Who looks at the page: without anybody, nothing is asked of any server.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// So long after the last one has left it goes on: a page that is reloaded finds everything as it was.
const LINGER: Duration = Duration::from_secs(10);

/// Those who look.
pub struct Audience {
    seats: watch::Sender<usize>,
    left: Mutex<Option<Instant>>,
}

/// One who looks, until it is dropped.
pub struct Seat(Arc<Audience>);

impl Audience {
    /// Nobody.
    pub fn new() -> Arc<Audience> {
        Arc::new(Audience { seats: watch::Sender::new(0), left: Mutex::new(None) })
    }

    /// One more.
    pub fn take_seat(self: &Arc<Audience>) -> Seat {
        self.seats.send_modify(|seats| *seats += 1);
        Seat(Arc::clone(self))
    }

    /// Whether somebody looks, or did a moment ago.
    pub fn is_there(&self) -> bool {
        *self.seats.borrow() > 0 || self.left.lock().is_some_and(|left| left.elapsed() < LINGER)
    }

    /// How many look.
    #[cfg(test)]
    pub fn seats(&self) -> usize {
        *self.seats.borrow()
    }

    /// Returns when somebody looks.
    pub async fn arrival(&self) {
        // The sender is this audience's own, so that it is not gone.
        let _ = self.seats.subscribe().wait_for(|seats| *seats > 0).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *self.0.left.lock() = Some(Instant::now());
        self.0.seats.send_modify(|seats| *seats -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_there_until_a_while_after_the_last_has_left() {
        let audience = Audience::new();
        assert!(!audience.is_there() && audience.arrival().now_or_never().is_none());
        let (one, other) = (audience.take_seat(), audience.take_seat());
        drop(one);
        tokio::time::advance(LINGER * 2).await;
        assert!(audience.is_there() && audience.arrival().now_or_never().is_some());
        drop(other);
        tokio::time::advance(LINGER / 2).await;
        assert!(audience.is_there());
        tokio::time::advance(LINGER / 2).await;
        assert!(!audience.is_there());
    }
}
