//! The newest value of each live key that this run has written, to be published again when Redis has lost it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use tokio::time::Instant;

use super::commands::Command;

/// What a key costs beside its text, about.
const OVERHEAD: usize = 200;

/// Values by key, the newest writes within a limit of bytes.
pub(super) struct CurrentState {
    what: String,
    limit: usize,
    bytes: usize,
    writes: u64,
    keys: AHashMap<Arc<str>, Kept>,
    /// By the number of the write: all keys of a table live equally long, so that the oldest also expires first.
    order: BTreeMap<u64, Arc<str>>,
    warned: bool,
}

struct Kept {
    write: u64,
    command: Command,
    expires: Option<Instant>,
    bytes: usize,
}

impl CurrentState {
    /// Keeps up to `limit` bytes; `what` names the destination.
    pub(super) fn new(what: String, limit: u64) -> CurrentState {
        CurrentState {
            what,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            bytes: 0,
            writes: 0,
            keys: AHashMap::new(),
            order: BTreeMap::new(),
            warned: false,
        }
    }

    /// These commands have been carried out. Those that are not about a key's whole value are not kept.
    pub(super) fn keep(&mut self, commands: Vec<Command>) {
        for command in commands {
            let (Command::Set { key, ttl, .. } | Command::Hash { key, ttl, .. }) = &command else { continue };
            let (key, expires): (Arc<str>, _) = (key.as_str().into(), ttl.map(|ttl| Instant::now() + ttl));
            self.forget(&key);
            self.writes += 1;
            let (write, bytes) = (self.writes, OVERHEAD + 2 * key.len() + size(&command));
            self.bytes += bytes;
            self.order.insert(write, key.clone());
            self.keys.insert(key, Kept { write, command, expires, bytes });
        }
        self.let_go();
    }

    /// What is to be written so that every key is as it should be, oldest first, with what is left of its lifetime.
    pub(super) fn commands(&self) -> Vec<Command> {
        let now = Instant::now();
        let live = self.order.values().filter_map(|key| self.keys.get(key));
        live.filter_map(|kept| {
            let left = match kept.expires {
                Some(at) => Some(at.checked_duration_since(now).filter(|left| !left.is_zero())?),
                None => None,
            };
            Some(with_lifetime(kept.command.clone(), left))
        })
        .collect()
    }

    fn forget(&mut self, key: &str) {
        if let Some(kept) = self.keys.remove(key) {
            self.order.remove(&kept.write);
            self.bytes -= kept.bytes;
        }
    }

    /// Forgets what has expired, and the oldest of what is too much.
    fn let_go(&mut self) {
        let now = Instant::now();
        while let Some((_, key)) = self.order.first_key_value() {
            let key = key.clone();
            let expired = self.keys.get(&key).is_some_and(|kept| kept.expires.is_some_and(|at| at <= now));
            if !expired && self.bytes <= self.limit {
                return;
            }
            if !expired && !self.warned {
                self.warned = true;
                tracing::warn!(
                    "{}: more than {} bytes of keys are alive, which is 'republish_limit': if the server loses its data, \
                     the oldest are not published again before they change",
                    self.what,
                    self.limit
                );
            }
            self.forget(&key);
        }
    }
}

fn size(command: &Command) -> usize {
    match command {
        Command::Set { value, .. } => value.len(),
        Command::Hash { fields, absent, .. } => {
            let fields: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
            fields + absent.iter().map(|name| name.len() + 24).sum::<usize>()
        }
        Command::Add { .. } | Command::Publish { .. } => 0,
    }
}

fn with_lifetime(mut command: Command, left: Option<Duration>) -> Command {
    if let Command::Set { ttl, .. } | Command::Hash { ttl, .. } = &mut command {
        *ttl = left;
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str, ttl: Option<u64>) -> Command {
        Command::Set { key: key.into(), value: value.into(), ttl: ttl.map(Duration::from_secs) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_value_of_each_live_key_is_kept() {
        let mut current = CurrentState::new("Redis".into(), 1 << 20);
        current.keep(vec![set("a", "1", Some(10)), set("b", "2", Some(10))]);
        tokio::time::advance(Duration::from_secs(4)).await;
        current.keep(vec![set("a", "3", Some(10)), Command::Publish { channel: "c".into(), message: "m".into() }]);
        assert_eq!(current.commands(), [set("b", "2", Some(6)), set("a", "3", Some(10))]);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(current.commands(), [set("a", "3", Some(4))]);
        current.keep(vec![set("c", "4", None)]);
        assert_eq!(current.keys.len(), 2, "what has expired takes no memory");
    }

    #[test]
    fn the_oldest_make_room() {
        let mut current = CurrentState::new("Redis".into(), 3 * (OVERHEAD as u64 + 10));
        for number in 0..10 {
            current.keep(vec![set(&format!("k{number}"), "value", None)]);
        }
        let kept: Vec<Command> = (7..10).map(|number| set(&format!("k{number}"), "value", None)).collect();
        assert_eq!(current.commands(), kept);
        assert!(current.warned);
        assert!(current.bytes <= current.limit);
    }
}
