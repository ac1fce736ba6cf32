//! A value that tasks watch, as tokio's channel of that name, but that wakes them in the order in which they began to
//! wait.
//!
//! tokio's wakes them in a random order, and then a seed of the simulation would not replay a run.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Sets the value.
pub struct Sender<T>(Arc<Shared<T>>);

/// Watches the value.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that it knows.
    seen: u64,
}

struct Shared<T> {
    value: Mutex<(T, u64)>,
    changed: Notify,
}

impl<T: Copy> Sender<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Sender<T> {
        Sender(Arc::new(Shared { value: Mutex::new((value, 0)), changed: Notify::new() }))
    }

    /// One that knows the value as it is now.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { shared: Arc::clone(&self.0), seen: self.0.value.lock().1 }
    }

    /// The value.
    pub fn get(&self) -> T {
        self.0.value.lock().0
    }

    /// Sets the value, and tells all.
    pub fn set(&self, value: T) {
        {
            let mut current = self.0.value.lock();
            *current = (value, current.1 + 1);
        }
        self.0.changed.notify_waiters();
    }
}

impl<T: Copy> Receiver<T> {
    /// The value.
    pub fn get(&self) -> T {
        self.shared.value.lock().0
    }

    /// What it is now is known.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.value.lock().1;
    }

    /// Returns when it has been set since it was known, and knows it then. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let changed = self.shared.changed.notified();
            let version = self.shared.value.lock().1;
            if version != self.seen {
                self.seen = version;
                return;
            }
            changed.await;
        }
    }

    /// Returns when the value is as wanted.
    pub async fn wait_for(&mut self, wanted: impl Fn(T) -> bool) {
        while !wanted(self.get()) {
            self.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_watcher_hears_of_what_it_does_not_know() {
        let sender = Sender::new(1);
        let (mut one, mut other) = (sender.subscribe(), sender.subscribe());
        assert!(one.changed().now_or_never().is_none());
        sender.set(2);
        assert_eq!((one.changed().now_or_never(), one.get()), (Some(()), 2));
        assert!(one.changed().now_or_never().is_none());
        other.mark_unchanged();
        assert!(other.changed().now_or_never().is_none());
        assert!(other.wait_for(|value| value > 2).now_or_never().is_none());
        sender.set(3);
        assert!(other.wait_for(|value| value > 2).now_or_never().is_some());
    }

    #[tokio::test]
    async fn watchers_wake_in_the_order_in_which_they_wait() {
        for _ in 0..20 {
            let (sender, order) = (Sender::new(0), Arc::new(Mutex::new(vec![])));
            let watchers: Vec<_> = (0..10)
                .map(|number| {
                    let (mut watcher, order) = (sender.subscribe(), Arc::clone(&order));
                    tokio::spawn(async move {
                        watcher.changed().await;
                        order.lock().push(number);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            sender.set(1);
            futures::future::join_all(watchers).await;
            assert_eq!(*order.lock(), (0..10).collect::<Vec<_>>());
        }
    }
}
