//! The records of one partition within a frame, in blocks: what is read, and checked, at a time.
//!
//! A record is its timestamp (8 bytes, little-endian), then, each with its length before it, key, value and headers.
//! Lengths are varints of seven bits a byte; that of a key or of a header's value is one more than it is, so that 0
//! says that there is none. A record's offset is not written: it follows from its place.

use crate::connectors::kafka::records::Fetched;

/// A block that has so many bytes takes no more records.
const FULL: usize = 1 << 20;

/// What is to be written.
pub(super) struct NewRecord<'a> {
    /// In milliseconds since 1970.
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
    pub(super) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Records of one partition, encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u32,
    /// The newest of its records' times.
    pub(super) newest: i64,
}

impl Default for Block {
    fn default() -> Block {
        Block { bytes: vec![], records: 0, newest: i64::MIN }
    }
}

impl Block {
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    pub(super) fn push(&mut self, record: &NewRecord<'_>) {
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(&record.timestamp.to_le_bytes());
        push_optional(bytes, record.key);
        push_length(bytes, record.value.len());
        bytes.extend_from_slice(record.value);
        push_length(bytes, record.headers.len());
        for (name, value) in record.headers {
            push_length(bytes, name.len());
            bytes.extend_from_slice(name.as_bytes());
            push_optional(bytes, *value);
        }
        self.records += 1;
        self.newest = self.newest.max(record.timestamp);
    }
}

fn push_optional(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
    push_length(bytes, value.map_or(0, |value| value.len() + 1));
    bytes.extend_from_slice(value.unwrap_or_default());
}

fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// A record in a block that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored<'a> {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    key: Option<&'a [u8]>,
    value: &'a [u8],
    headers: Headers<'a>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl Fetched for Stored<'_> {
    fn offset(&self) -> i64 {
        self.offset
    }

    fn value(&self) -> &[u8] {
        self.value
    }

    fn key(&self) -> Option<&[u8]> {
        self.key
    }

    fn timestamp(&self) -> Option<i64> {
        Some(self.timestamp)
    }

    fn headers(&self, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
        let mut rest = self.headers.bytes;
        for _ in 0..self.headers.count {
            let Some((name, value)) = take_header(&mut rest) else { return };
            each(name, value);
        }
    }
}

/// Takes the next record off `rest`; `None` when that is none, which a block with the right checksum never says.
pub(super) fn take_record<'a>(rest: &mut &'a [u8], offset: i64) -> Option<Stored<'a>> {
    let (timestamp, after) = rest.split_first_chunk()?;
    *rest = after;
    let key = take_optional(rest)?;
    let value = take_bytes(rest)?;
    let count = take_length(rest)?;
    let from = *rest;
    for _ in 0..count {
        take_header(rest)?;
    }
    let headers = Headers { count, bytes: &from[..from.len() - rest.len()] };
    Some(Stored { offset, timestamp: i64::from_le_bytes(*timestamp), key, value, headers })
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    Some((take_bytes(rest)?, take_optional(rest)?))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(rest)?;
    take(rest, length)
}

/// Outside: whether it could be read. Inside: whether there is one.
fn take_optional<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_length(rest)?.checked_sub(1) {
        None => Some(None),
        Some(length) => take(rest, length).map(Some),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    type Header<'a> = (&'a str, Option<&'a [u8]>);

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let long = vec![b'x'; 70_000];
        let headers: [Header<'_>; 3] = [("a", None), ("", Some(b"")), ("a", Some(b"\x00\xff"))];
        let keys: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"k"), Some(&long)];
        let mut block = Block::default();
        for (at, key) in keys.into_iter().enumerate() {
            let (value, headers) = (&long[..at * 20_000], &headers[..at]);
            block.push(&NewRecord { timestamp: -5 * at as i64, key, value, headers });
        }
        assert_eq!((block.records, block.newest), (4, 0));
        let mut rest = &block.bytes[..];
        for (at, key) in keys.into_iter().enumerate() {
            let record = take_record(&mut rest, 10 + at as i64).unwrap();
            assert_eq!((record.offset(), record.timestamp()), (10 + at as i64, Some(-5 * at as i64)));
            assert_eq!((record.key(), record.value().len()), (key, at * 20_000));
            let mut found = vec![];
            record.headers(|name, value| found.push((name.to_vec(), value.map(<[u8]>::to_vec))));
            let written = headers[..at].iter();
            let written = written.map(|(name, value)| (name.as_bytes().to_vec(), value.map(<[u8]>::to_vec)));
            assert_eq!(found, Vec::from_iter(written));
        }
        assert_eq!((rest.len(), take_record(&mut rest, 0)), (0, None));
    }

    #[test]
    fn half_a_record_is_none() {
        let mut block = Block::default();
        block.push(&NewRecord { timestamp: 1, key: Some(b"key"), value: b"value", headers: &[("h", Some(b"v"))] });
        for length in 0..block.bytes.len() {
            assert_eq!(take_record(&mut &block.bytes[..length], 0), None, "{length}");
        }
        assert_eq!(take_length(&mut &[0xff_u8; 20][..]), None);
    }
}
