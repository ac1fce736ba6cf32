//! A part of the outside that is looked at again and again while somebody looks at the page.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

use super::audience::Audience;

/// A look that took long is followed by so many times its own time of rest, so that the page stays a small part of
/// what a server has to do.
const REST: u32 = 20;
/// And by no more than this.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// A look that failed is tried again so soon: the server may be back.
const RETRY: Duration = Duration::from_secs(1);

/// Something that can be looked at, with connections of its own.
#[async_trait]
pub trait Part: Send + 'static {
    /// What is seen.
    type Figures: Send + Sync + 'static;

    /// Time from one look to the next.
    const INTERVAL: Duration;

    /// Looks, and waits for nothing for long.
    ///
    /// # Errors
    /// Why nothing is seen, for a person.
    async fn look(&mut self) -> Result<Self::Figures, String>;

    /// Nobody looks at the page: closes connections.
    fn rest(&mut self);
}

/// What was seen at the last look.
pub struct Seen<F> {
    /// The figures; `None` before the first look, and when the last one failed.
    pub figures: Option<Arc<F>>,
    /// Why the last look failed.
    pub trouble: Option<Trouble>,
}

/// Why nothing is seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// For a person.
    pub message: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

// Derived ones would want figures that can be cloned and have a default.
impl<F> Clone for Seen<F> {
    fn clone(&self) -> Seen<F> {
        Seen { figures: self.figures.clone(), trouble: self.trouble.clone() }
    }
}

impl<F> Default for Seen<F> {
    fn default() -> Seen<F> {
        Seen { figures: None, trouble: None }
    }
}

impl<F> Seen<F> {
    /// Whether there was a look since somebody came.
    pub fn is_known(&self) -> bool {
        self.figures.is_some() || self.trouble.is_some()
    }

    fn after(&self, outcome: Result<F, String>, now: DateTime<Utc>) -> Seen<F> {
        match outcome {
            Ok(figures) => Seen { figures: Some(Arc::new(figures)), trouble: None },
            Err(message) => {
                let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
                Seen { figures: None, trouble: Some(Trouble { message, since }) }
            }
        }
    }
}

/// Looks at a part for as long as there is an audience, and tells `seen`. Goes on until dropped.
pub async fn watch_part<P: Part>(mut part: P, audience: Arc<Audience>, seen: watch::Sender<Seen<P::Figures>>) {
    loop {
        if !audience.is_there() {
            part.rest();
            seen.send_replace(Seen::default());
            audience.arrival().await;
        }
        let began = Instant::now();
        let outcome = part.look().await;
        let pause = match &outcome {
            Ok(_) => P::INTERVAL.max(LONGEST_REST.min(began.elapsed() * REST)),
            Err(_) => RETRY,
        };
        let next = seen.borrow().after(outcome, Utc::now());
        seen.send_replace(next);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    /// Counts its looks; the third and fourth fail.
    struct Counting(Arc<AtomicU32>, Arc<AtomicU32>);

    #[async_trait]
    impl Part for Counting {
        type Figures = u32;
        const INTERVAL: Duration = Duration::from_secs(1);

        async fn look(&mut self) -> Result<u32, String> {
            let look = self.0.fetch_add(1, Relaxed) + 1;
            if matches!(look, 3 | 4) { Err(format!("look {look}")) } else { Ok(look) }
        }

        fn rest(&mut self) {
            self.1.fetch_add(1, Relaxed);
        }
    }

    async fn after(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_looked_at_without_an_audience() {
        let (looks, rests) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let audience = Audience::new();
        let (sender, receiver) = watch::channel(Seen::default());
        let part = Counting(Arc::clone(&looks), Arc::clone(&rests));
        let task = tokio::spawn(watch_part(part, Arc::clone(&audience), sender));
        let half = Duration::from_millis(500);
        after(Duration::from_secs(100)).await;
        assert_eq!((looks.load(Relaxed), receiver.borrow().is_known()), (0, false));

        let seat = audience.take_seat();
        after(half).await;
        assert_eq!(receiver.borrow().figures.as_deref(), Some(&1));
        after(Duration::from_secs(2)).await;
        let first = receiver.borrow().trouble.clone().unwrap();
        assert_eq!((first.message.as_str(), receiver.borrow().figures.is_none()), ("look 3", true));
        after(Duration::from_secs(1)).await;
        let second = receiver.borrow().trouble.clone().unwrap();
        assert_eq!((second.message.as_str(), second.since), ("look 4", first.since));
        after(Duration::from_secs(1)).await;
        assert_eq!((receiver.borrow().figures.as_deref(), receiver.borrow().trouble.is_none()), (Some(&5), true));

        drop(seat);
        let rested = rests.load(Relaxed);
        after(Duration::from_secs(15)).await;
        let seen = looks.load(Relaxed);
        after(Duration::from_secs(100)).await;
        assert_eq!((looks.load(Relaxed), rests.load(Relaxed)), (seen, rested + 1));
        assert!(!receiver.borrow().is_known(), "old figures would be shown as new ones to who comes next");
        task.abort();
    }
}
