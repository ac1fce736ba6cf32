//! What clients hold by a handle and may forget to give back: bounded in number and in age.
//!
//! Time comes in as an argument, so that what expires when is a matter of plain tests.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Values by handle. One that nobody has used for long is dropped; so is the one longest unused when there is no room.
pub struct Handles<K, T> {
    most: usize,
    rest: Duration,
    entries: HashMap<K, Entry<T>>,
}

struct Entry<T> {
    value: T,
    used: Instant,
}

impl<K: Eq + Hash + Clone, T> Handles<K, T> {
    /// Holds `most` values, each for as long as it is used at least once in `rest`.
    pub fn new(most: usize, rest: Duration) -> Handles<K, T> {
        Handles { most, rest, entries: HashMap::new() }
    }

    /// Keeps a value, and drops others if it has to.
    pub fn insert(&mut self, handle: K, value: T, now: Instant) {
        if self.entries.len() >= self.most {
            self.sweep(now);
        }
        if self.entries.len() >= self.most
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())
        {
            self.entries.remove(&oldest);
        }
        self.entries.insert(handle, Entry { value, used: now });
    }

    /// The value, which is used by that.
    pub fn get(&mut self, handle: &K, now: Instant) -> Option<&mut T> {
        let rest = self.rest;
        let entry = self.entries.get_mut(handle).filter(|entry| now.duration_since(entry.used) <= rest)?;
        entry.used = now;
        Some(&mut entry.value)
    }

    /// Gives the value away.
    pub fn take(&mut self, handle: &K, now: Instant) -> Option<T> {
        let entry = self.entries.remove(handle)?;
        (now.duration_since(entry.used) <= self.rest).then_some(entry.value)
    }

    /// Drops what has expired.
    pub fn sweep(&mut self, now: Instant) {
        let rest = self.rest;
        self.entries.retain(|_, entry| now.duration_since(entry.used) <= rest);
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_used_stays_and_what_is_not_expires() {
        let start = Instant::now();
        let mut handles = Handles::new(10, REST);
        handles.insert("used", 1, start);
        handles.insert("forgotten", 2, start);
        assert_eq!(handles.get(&"used", start + REST), Some(&mut 1));
        let later = start + REST + Duration::from_secs(1);
        assert_eq!(handles.get(&"forgotten", later), None);
        assert_eq!(handles.take(&"forgotten", later), None);
        assert_eq!(handles.get(&"used", later), Some(&mut 1));
        handles.insert("third", 3, start);
        handles.sweep(later);
        assert_eq!((handles.count(), handles.take(&"used", later)), (1, Some(1)));
        assert_eq!(handles.take(&"used", later), None);
    }

    #[test]
    fn who_never_gives_back_takes_no_room_from_who_does() {
        let start = Instant::now();
        let mut handles = Handles::new(3, REST);
        handles.insert(0, "in use", start);
        for leak in 1..100 {
            let now = start + Duration::from_millis(leak);
            assert!(handles.get(&0, now).is_some(), "dropped at {leak}");
            handles.insert(leak, "leaked", now);
            assert!(handles.count() <= 3);
        }
        assert!(handles.get(&99, start + REST).is_some());
        assert!(handles.get(&1, start + REST).is_none());
    }
}
