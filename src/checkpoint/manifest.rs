//! What a checkpoint consists of: the file that makes an epoch durable once it is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ledger::{Due, Tally};
use super::state::SourceState;
use crate::connectors::Positions;
use crate::time::{Epoch, EventTime, Incarnation};

/// A checkpoint. State and outbox are in the files that it names.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the layout.
    pub format: u64,
    /// The pipeline's name.
    pub pipeline: String,
    /// The log's name.
    pub log: String,
    /// The run that wrote it.
    pub incarnation: u64,
    /// The epoch at whose end this was so.
    pub epoch: u64,
    /// When it was written, in UTC.
    pub written: String,
    /// The input had come to its end.
    pub finished: bool,
    /// The checkpoints that were kept beside it, rising.
    pub earlier: Vec<u64>,
    /// The sources.
    pub sources: BTreeMap<String, SourceEntry>,
    /// The operators with state.
    pub operators: BTreeMap<String, OperatorEntry>,
    /// The sinks.
    pub sinks: BTreeMap<String, SinkEntry>,
    /// The files that are named above.
    pub files: BTreeMap<String, FileEntry>,
}

/// Where a source stands.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SourceEntry {
    /// What tells the place apart from another with the same names.
    pub origin: Option<String>,
    /// The same of single splits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub split_origins: BTreeMap<String, String>,
    /// The offset of the next record, by split.
    pub positions: Positions,
    /// By split.
    #[serde(with = "times")]
    pub watermarks: BTreeMap<String, EventTime>,
}

/// Where an operator's state is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OperatorEntry {
    /// What it computes.
    pub fingerprint: String,
    /// The watermark that it had seen.
    #[serde(with = "time")]
    pub watermark: EventTime,
    /// Its state, oldest first.
    pub parts: Vec<Part>,
}

/// State in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The file.
    pub file: String,
    /// The operator's name in there: what it was called when it was written.
    pub name: String,
    /// The whole state and not what an epoch has changed.
    pub base: bool,
}

/// What waits for a sink, and what it has had.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SinkEntry {
    /// The last epoch that was known to be in the destination.
    pub settled: Option<u64>,
    /// The destination, as it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// It is another than what is settled went to, and has got nothing yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    /// That is what a sink has confirmed that takes rows at once: the destination has no marker of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
    /// The last epoch whose rows are kept no more, of those that went in with a marker: a destination whose marker is
    /// older has lost rows that nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_go: Option<u64>,
    /// All rows so far.
    pub ledger: Tally,
    /// Epochs whose rows are kept, rising.
    pub outbox: Vec<OutboxEntry>,
}

/// The rows of an epoch for a sink.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// The epoch.
    pub epoch: u64,
    /// The file.
    pub file: String,
    /// How many rows, and their hash.
    #[serde(flatten)]
    pub tally: Tally,
    /// Bytes in the file.
    pub bytes: u64,
    /// They are all rows of the epoch.
    pub whole: bool,
}

/// A file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its size.
    pub bytes: u64,
    /// Its checksum.
    pub crc32: String,
}

impl FileEntry {
    /// Of a file with these bytes.
    pub fn of(bytes: &[u8]) -> FileEntry {
        FileEntry { bytes: bytes.len() as u64, crc32: format!("{:08x}", crc32fast::hash(bytes)) }
    }
}

impl Manifest {
    /// Bytes of the files that hold state.
    pub fn state_bytes(&self) -> u64 {
        let names: BTreeSet<&str> = self.parts().map(|part| part.file.as_str()).collect();
        names.iter().filter_map(|name| self.files.get(*name)).map(|file| file.bytes).sum()
    }

    /// Bytes of rows that are not known to be in their destination.
    pub fn outbox_bytes(&self) -> u64 {
        self.sinks.values().flat_map(SinkEntry::unsettled).map(|entry| entry.bytes).sum()
    }

    /// All parts of all operators.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.operators.values().flat_map(|operator| &operator.parts)
    }

    /// Forgets files that nothing names any more.
    pub fn drop_unnamed_files(&mut self) {
        let parts = self.operators.values().flat_map(|operator| &operator.parts).map(|part| part.file.clone());
        let rows = self.sinks.values().flat_map(|sink| &sink.outbox).map(|entry| entry.file.clone());
        let named: BTreeSet<String> = parts.chain(rows).collect();
        self.files.retain(|name, _| named.contains(name));
    }
}

impl SinkEntry {
    /// What must be delivered after a restart, as far as is known.
    pub fn unsettled(&self) -> impl Iterator<Item = &OutboxEntry> {
        self.outbox.iter().filter(|entry| self.settled.is_none_or(|settled| entry.epoch > settled))
    }

    /// What an audit must find in the destination: everything, or less while the newest epochs are under way.
    pub fn due(&self) -> Due {
        let mut due = Due::from(self.ledger);
        let under_way: Vec<&OutboxEntry> = self.unsettled().filter(|entry| entry.whole).collect();
        for entry in under_way.into_iter().rev() {
            let later = due.earlier.last().copied().unwrap_or(due.all);
            due.earlier.push(later.without(entry.tally));
        }
        due
    }

    /// Lets go what is settled, but for the newest `spare` epochs of it: those that are not settled, however many they
    /// are, take no room from them.
    pub fn let_go(&mut self, spare: usize) {
        let is_settled = |entry: &OutboxEntry| self.settled.is_some_and(|settled| entry.epoch <= settled);
        let settled = self.outbox.iter().take_while(|entry| is_settled(entry)).count();
        for entry in self.outbox.drain(..settled.saturating_sub(spare)).filter(|entry| entry.whole) {
            self.let_go = self.let_go.max(Some(entry.epoch));
        }
    }
}

impl From<&SourceState> for SourceEntry {
    fn from(state: &SourceState) -> SourceEntry {
        let SourceState { positions, origin, split_origins, watermarks } = state.clone();
        SourceEntry { origin, split_origins, positions, watermarks }
    }
}

impl From<&SourceEntry> for SourceState {
    fn from(entry: &SourceEntry) -> SourceState {
        let SourceEntry { origin, split_origins, positions, watermarks } = entry.clone();
        SourceState { positions, origin, split_origins, watermarks }
    }
}

/// Where run `incarnation` puts the manifest of an epoch. Each run has names of its own, so that what an earlier run had
/// under way cannot take the place of a later one's, however late it arrives. Older versions left the run out.
pub fn path(epoch: Epoch, incarnation: Incarnation) -> String {
    format!("{FOLDER}/{:012}-{}.json", epoch.0, incarnation.0)
}

/// The folder of the manifests.
pub const FOLDER: &str = "manifests";

/// The number that a file's name begins with.
pub fn number(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next()?;
    let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    name[..digits].parse().ok()
}

/// Of a file named `EPOCH-INCARNATION-…`, the incarnation.
pub fn incarnation(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.split('-').nth(1).and_then(number)
}

/// A moment as people write it.
mod time {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::time::EventTime;

    pub fn serialize<S: Serializer>(time: &EventTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom(format!("'{text}' is not a time")))
    }

    pub fn parse(text: &str) -> Option<EventTime> {
        [EventTime::MIN, EventTime::MAX].into_iter().find(|end| end.to_string() == text).or_else(|| {
            let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
            time.timestamp_nanos_opt().map(EventTime)
        })
    }
}

/// Moments by name.
mod times {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::time::EventTime;

    pub fn serialize<S: Serializer>(times: &BTreeMap<String, EventTime>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(times.iter().map(|(name, time)| (name, time.to_string())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, EventTime>, D::Error> {
        let times = BTreeMap::<String, String>::deserialize(deserializer)?;
        let parsed = times.into_iter().map(|(name, text)| match super::time::parse(&text) {
            Some(time) => Ok((name, time)),
            None => Err(D::Error::custom(format!("'{text}' is not a time"))),
        });
        parsed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_taken_from_what_is_due_epoch_by_epoch() {
        let tally = |rows: u64| Tally { rows, hash: u128::from(rows) << 100 };
        let entry = |epoch, whole| {
            let file = String::new();
            OutboxEntry { epoch, file, tally: tally(epoch), bytes: 0, whole }
        };
        // Epoch 4 went to it at once, and is not counted.
        let outbox = vec![entry(2, true), entry(3, true), entry(4, false), entry(5, true)];
        let sink = SinkEntry { settled: Some(2), ledger: tally(20), outbox, ..SinkEntry::default() };
        assert_eq!(sink.due(), Due { all: tally(20), earlier: vec![tally(15), tally(12)] });
        let text = serde_json::to_string(&sink).unwrap();
        assert!(text.contains(r#""epoch":5,"file":"","rows":5,"hash":"0000005"#), "{text}");
        assert_eq!(serde_json::from_str::<SinkEntry>(&text).unwrap(), sink);
        assert_eq!(SinkEntry { settled: Some(5), ..sink }.due(), Due::from(tally(20)));
    }

    #[test]
    fn what_is_settled_is_let_go_but_for_the_newest_of_it() {
        let entry = |epoch| OutboxEntry { epoch, file: String::new(), tally: Tally::default(), bytes: 0, whole: true };
        let outbox: Vec<OutboxEntry> = (1..=40).map(entry).collect();
        let mut sink = SinkEntry { outbox, ..SinkEntry::default() };
        sink.let_go(16);
        assert_eq!((sink.outbox.len(), sink.let_go), (40, None), "nothing is settled");
        sink.settled = Some(20);
        sink.let_go(16);
        assert_eq!((sink.outbox[0].epoch, sink.outbox.len(), sink.let_go), (5, 36, Some(4)));
        sink.settled = Some(40);
        sink.let_go(16);
        assert_eq!((sink.outbox[0].epoch, sink.outbox.len(), sink.let_go), (25, 16, Some(24)));
    }
}
