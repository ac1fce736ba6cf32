//! The stand-in for a Redis server: one store in this process, for `url = 'embedded'`.
//!
//! It holds what the sink writes and forgets it when its lifetime is over, by tokio's clock. The console reads it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::commands::Command;

/// A stream without `max_length` keeps so many entries, since nothing else bounds it.
const STREAM_ENTRIES: usize = 100_000;
/// A subscriber that is so many messages behind loses the oldest.
const CHANNEL_MESSAGES: usize = 1024;
/// Keys whose time is over are swept out after so many writes.
const SWEEP_EVERY: usize = 1024;

/// The one store of this process.
pub fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(Store::default)
}

/// An entry of a stream: names and values.
pub type StreamEntry = Vec<(String, String)>;

/// Keys and what they hold.
#[derive(Default)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    keys: BTreeMap<String, Entry>,
    channels: BTreeMap<String, broadcast::Sender<String>>,
    writes: usize,
}

struct Entry {
    value: Value,
    expires: Option<Instant>,
}

enum Value {
    String(String),
    Hash(BTreeMap<String, String>),
    Stream(VecDeque<StreamEntry>),
}

impl Store {
    /// The keys that match a pattern, in order: `*` is any text, `?` any character, `[a-z]` one of a set, `\` escapes.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let pattern: Vec<char> = pattern.chars().collect();
        let inner = self.inner.lock();
        let alive = inner.keys.iter().filter(|(_, entry)| entry.is_alive());
        let matching = alive.filter(|(key, _)| matches(&pattern, &key.chars().collect::<Vec<char>>()));
        matching.map(|(key, _)| key.clone()).collect()
    }

    /// The string at a key; `None` when there is none or it is something else.
    pub fn get(&self, key: &str) -> Option<String> {
        match self.inner.lock().alive(key)? {
            Value::String(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// The fields of the hash at a key.
    pub fn hash(&self, key: &str) -> Option<BTreeMap<String, String>> {
        match self.inner.lock().alive(key)? {
            Value::Hash(fields) => Some(fields.clone()),
            _ => None,
        }
    }

    /// The entries of the stream at a key, the oldest first; empty when there is none.
    pub fn stream(&self, key: &str) -> Vec<StreamEntry> {
        match self.inner.lock().alive(key) {
            Some(Value::Stream(entries)) => entries.iter().cloned().collect(),
            _ => vec![],
        }
    }

    /// How long a key still lives; `None` when it is not there or lives on.
    pub fn ttl(&self, key: &str) -> Option<Duration> {
        let inner = self.inner.lock();
        let entry = inner.keys.get(key).filter(|entry| entry.is_alive())?;
        entry.expires.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The messages of a channel from now on.
    pub fn subscribe(&self, channel: &str) -> broadcast::Receiver<String> {
        let mut inner = self.inner.lock();
        let channel = inner.channels.entry(channel.into());
        channel.or_insert_with(|| broadcast::channel(CHANNEL_MESSAGES).0).subscribe()
    }

    /// Carries the commands out. A key that holds another kind of value is replaced.
    pub fn apply(&self, commands: Vec<Command>) {
        let mut inner = self.inner.lock();
        for command in commands {
            inner.apply(command);
        }
    }
}

impl Inner {
    fn alive(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|entry| entry.is_alive()).map(|entry| &entry.value)
    }

    fn apply(&mut self, command: Command) {
        self.writes += 1;
        if self.writes.is_multiple_of(SWEEP_EVERY) {
            self.keys.retain(|_, entry| entry.is_alive());
        }
        match command {
            Command::Set { key, value, ttl } => {
                self.keys.insert(key, Entry { value: Value::String(value), expires: expires(ttl) });
            }
            Command::Hash { key, fields, ttl, .. } => {
                // A row writes every column, so that the fields that are null now are simply not there.
                let value = Value::Hash(fields.into_iter().collect());
                self.keys.insert(key, Entry { value, expires: expires(ttl) });
            }
            Command::Add { key, fields, max_length } => {
                let fresh = || Entry { value: Value::Stream(VecDeque::new()), expires: None };
                let entry = self.keys.entry(key).or_insert_with(fresh);
                if !matches!(entry.value, Value::Stream(_)) {
                    *entry = fresh();
                }
                if let Value::Stream(entries) = &mut entry.value {
                    entries.push_back(fields);
                    let most = max_length.and_then(|most| usize::try_from(most).ok()).unwrap_or(STREAM_ENTRIES);
                    while entries.len() > most {
                        entries.pop_front();
                    }
                }
            }
            Command::Publish { channel, message } => {
                if let Some(sender) = self.channels.get(&channel) {
                    // Nobody may be listening any more.
                    let _ = sender.send(message);
                }
            }
        }
    }
}

impl Entry {
    fn is_alive(&self) -> bool {
        self.expires.is_none_or(|at| at > Instant::now())
    }
}

fn expires(ttl: Option<Duration>) -> Option<Instant> {
    ttl.map(|ttl| Instant::now() + ttl)
}

/// Redis' glob, by trying: patterns are short.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        ['?', rest @ ..] => !text.is_empty() && matches(rest, &text[1..]),
        ['[', rest @ ..] => {
            let (Some(end), Some(first)) = (rest.iter().position(|c| *c == ']'), text.first()) else {
                return false;
            };
            let (set, negated) = match &rest[..end] {
                ['^', set @ ..] => (set, true),
                set => (set, false),
            };
            in_set(set, *first) != negated && matches(&rest[end + 1..], &text[1..])
        }
        ['\\', literal, rest @ ..] | [literal, rest @ ..] => text.first() == Some(literal) && matches(rest, &text[1..]),
    }
}

fn in_set(mut set: &[char], character: char) -> bool {
    while let [first, rest @ ..] = set {
        if let ['-', last, after @ ..] = rest {
            if (*first..=*last).contains(&character) {
                return true;
            }
            set = after;
        } else {
            if *first == character {
                return true;
            }
            set = rest;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str, ttl: Option<u64>) -> Command {
        Command::Set { key: key.into(), value: value.into(), ttl: ttl.map(Duration::from_secs) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_lives_as_long_as_it_should() {
        let store = Store::default();
        store.apply(vec![set("metrics:a", "1", Some(3600)), set("metrics:b", "2", None)]);
        assert_eq!(store.keys("metrics:*"), ["metrics:a", "metrics:b"]);
        assert_eq!(store.ttl("metrics:a"), Some(Duration::from_secs(3600)));
        tokio::time::advance(Duration::from_secs(3599)).await;
        assert_eq!(store.get("metrics:a").as_deref(), Some("1"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(store.get("metrics:a"), None);
        assert_eq!(store.keys("*"), ["metrics:b"]);
    }

    #[test]
    fn hashes_streams_and_channels_hold_what_was_written() {
        let store = Store::default();
        let mut messages = store.subscribe("news");
        let fields = || vec![("a".to_string(), "1".to_string())];
        store.apply(vec![
            Command::Hash { key: "h".into(), fields: fields(), absent: vec!["b".into()], ttl: None },
            Command::Add { key: "s".into(), fields: fields(), max_length: Some(2) },
            Command::Add { key: "s".into(), fields: fields(), max_length: Some(2) },
            Command::Add { key: "s".into(), fields: fields(), max_length: Some(2) },
            Command::Publish { channel: "news".into(), message: "hello".into() },
        ]);
        assert_eq!(store.hash("h").unwrap().get("a").map(String::as_str), Some("1"));
        assert_eq!(store.stream("s").len(), 2);
        assert_eq!(messages.try_recv().unwrap(), "hello");
        assert_eq!(store.get("h"), None);
    }

    #[test]
    fn patterns_are_those_of_redis() {
        let check = |pattern: &str, text: &str| {
            matches(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
        };
        assert!(check("metrics:*", "metrics:"));
        assert!(check("m?t[a-r]ics", "metrics"));
        assert!(check("[^a]b", "bb"));
        assert!(check(r"a\*b", "a*b"));
        assert!(!check(r"a\*b", "axb"));
        assert!(!check("metrics:?", "metrics:ab"));
        assert!(!check("[^a]b", "ab"));
    }
}
