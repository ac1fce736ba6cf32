//! Records as they are fetched to [`RawRecords`]: one copy of each value into one buffer, and nothing else a record.

use super::messages::Message;
use crate::formats::{Keys, RawRecords, Span, SplitIndex, SplitRun};

/// The most bytes of values, and of keys, in one event, unless one record alone is larger. Far below what a span can
/// address, and enough that it seldom cuts a batch.
const MAX_BYTES: usize = 16 << 20;

/// A record where it was fetched: in librdkafka's memory, or in a block of the embedded log.
pub(super) trait Fetched {
    /// Its place in the partition.
    fn offset(&self) -> i64;
    /// Its value; empty if it has none.
    fn value(&self) -> &[u8];
    /// Its key, if it has one.
    fn key(&self) -> Option<&[u8]>;
    /// In milliseconds since 1970, if it has one.
    fn timestamp(&self) -> Option<i64>;
    /// Gives each of its headers to `each`, name and value, in their order.
    fn headers(&self, each: impl FnMut(&[u8], Option<&[u8]>));
}

impl Fetched for Message<'_> {
    fn offset(&self) -> i64 {
        Message::offset(self)
    }

    fn value(&self) -> &[u8] {
        Message::value(self)
    }

    fn key(&self) -> Option<&[u8]> {
        Message::key(self)
    }

    fn timestamp(&self) -> Option<i64> {
        Message::timestamp(self)
    }

    fn headers(&self, each: impl FnMut(&[u8], Option<&[u8]>)) {
        Message::headers(self, each);
    }
}

/// Gathers the records of the next event.
#[derive(Debug)]
pub(super) struct Gatherer {
    records: RawRecords,
    wants_keys: bool,
    wants_timestamps: bool,
    wants_headers: bool,
}

impl Gatherer {
    /// Gathers keys, timestamps and headers only if they are wanted.
    pub(super) fn new(wants_keys: bool, wants_timestamps: bool, wants_headers: bool) -> Gatherer {
        Gatherer { records: RawRecords::default(), wants_keys, wants_timestamps, wants_headers }
    }

    /// Makes room for `rows` records of `bytes` bytes in all, so that none of them moves those before it.
    pub(super) fn reserve(&mut self, rows: usize, bytes: usize) {
        self.records.bytes.reserve(bytes.min(MAX_BYTES));
        self.records.spans.reserve(rows);
        self.records.offsets.reserve(rows);
        if self.wants_timestamps {
            self.records.timestamps.get_or_insert_default().reserve(rows);
        }
        if self.wants_keys {
            self.records.keys.get_or_insert_default().spans.reserve(rows);
        }
    }

    /// Whether the record no longer fits into this event.
    pub(super) fn is_full_for(&self, message: &impl Fetched) -> bool {
        let keys = self.records.keys.as_ref().map_or(0, |keys| keys.bytes.len());
        let headers = self.records.headers.as_ref().map_or(0, |headers| headers.len_bytes());
        !self.records.is_empty()
            && (self.records.bytes.len() + message.value().len() > MAX_BYTES
                || headers > MAX_BYTES
                || (self.wants_keys && keys + message.key().map_or(0, <[u8]>::len) > MAX_BYTES))
    }

    /// Appends a record. A tombstone has an empty value, which no format takes for a row.
    pub(super) fn push(&mut self, split: SplitIndex, message: &impl Fetched) {
        let records = &mut self.records;
        let start = records.bytes.len() as u32;
        records.bytes.extend_from_slice(message.value());
        records.spans.push(Span { start, end: records.bytes.len() as u32 });
        records.offsets.push(message.offset());
        match records.runs.last_mut() {
            Some(run) if run.split == split => run.rows += 1,
            _ => records.runs.push(SplitRun { split, rows: 1 }),
        }
        if self.wants_timestamps {
            records.timestamps.get_or_insert_default().push(message.timestamp());
        }
        if self.wants_headers {
            let headers = records.headers.get_or_insert_default();
            message.headers(|name, value| headers.push(name, value));
            headers.end_record();
        }
        if self.wants_keys {
            let Keys { bytes, spans } = records.keys.get_or_insert_default();
            spans.push(message.key().map(|key| {
                let start = bytes.len() as u32;
                bytes.extend_from_slice(key);
                Span { start, end: bytes.len() as u32 }
            }));
        }
    }

    /// How many records were gathered.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// What was gathered, if anything was.
    pub(super) fn take(&mut self) -> Option<RawRecords> {
        (!self.records.is_empty()).then(|| std::mem::take(&mut self.records))
    }
}
