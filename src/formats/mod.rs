//! Bytes to record batches and back.
//!
//! A source hands over [`RawRecords`], the bytes of many records at once; a [`Decoder`] turns them into one
//! Arrow batch that holds only the columns the plan needs, and says which records it could not read. Sinks
//! that store bytes use an [`Encoder`], the other direction. Nothing here knows a connector, a clock or a plan,
//! so a faster decoder replaces one file.

mod cells;
mod column;
mod csv;
mod iso8601;
mod json;
mod number;
pub mod options;
mod raw;
mod trouble;

use std::ops::Range;

use arrow::array::RecordBatch;
use thiserror::Error;

pub use options::{DecodeOptions, EncodeOptions};
pub(crate) use trouble::type_name;

/// Index of a split within one source instance: a Kafka partition, a file. Dense, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SplitIndex(pub u32);

/// A stretch of consecutive records that come from the same split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitRun {
    /// The split they come from.
    pub split: SplitIndex,
    /// How many records, at least one.
    pub rows: usize,
}

/// The undecoded records of one fetch, in the order of their splits.
///
/// Values lie in one buffer, so that a decoder scans memory straight on and a fetch allocates a few vectors and
/// not one per record. `spans`, `offsets` and, where present, `timestamps` and `keys` have one entry a record.
#[derive(Clone, Debug, Default)]
pub struct RawRecords {
    /// The values of all records (with whatever separates them, which no span covers).
    pub bytes: Vec<u8>,
    /// Where in `bytes` each record's value lies.
    pub spans: Vec<Span>,
    /// Where each record stands in its split: a Kafka offset, a line number from 1. The next read after a record
    /// at `o` starts at `o + 1`.
    pub offsets: Vec<i64>,
    /// Which split each record comes from; the rows add up to `spans.len()`.
    pub runs: Vec<SplitRun>,
    /// Broker timestamps in milliseconds since 1970, where the table or its dead letters ask for them.
    pub timestamps: Option<Vec<Option<i64>>>,
    /// Keys, where the table or its dead letters ask for them.
    pub keys: Option<Keys>,
    /// Headers, where the table or its dead letters ask for them, which is seldom.
    pub headers: Option<Box<Headers>>,
}

/// A half-open range of bytes in a [`RawRecords`] buffer, in 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The range to index a buffer with.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The keys of a fetch; `None` is a record without a key.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// All keys one after another.
    pub bytes: Vec<u8>,
    /// Where each record's key lies.
    pub spans: Vec<Option<Span>>,
}

/// The headers of a fetch, in the order in which each record has them; a name may come twice.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    /// Name and value of each header of all records.
    entries: Vec<(Span, Option<Span>)>,
    /// Where each record's headers end among the entries.
    ends: Vec<usize>,
}

impl Headers {
    /// Appends a header to the record that [`Headers::end_record`] will end.
    pub fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        let name = self.keep(name);
        let value = value.map(|value| self.keep(value));
        self.entries.push((name, value));
    }

    /// The headers pushed since the last end are one record's; a record without any has its end all the same.
    pub fn end_record(&mut self) {
        self.ends.push(self.entries.len());
    }

    /// Name and value of each header of record `row`.
    pub fn of(&self, row: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let bytes = |span: Span| &self.bytes[span.range()];
        self.entries[start..self.ends[row]].iter().map(move |(name, value)| (bytes(*name), value.map(bytes)))
    }

    /// How many bytes names and values take.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, end: self.bytes.len() as u32 }
    }
}

impl RawRecords {
    /// How many records.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes of record `row`.
    pub fn value(&self, row: usize) -> &[u8] {
        &self.bytes[self.spans[row].range()]
    }

    /// The key of record `row`, if keys were asked for and it has one.
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        let keys = self.keys.as_ref()?;
        keys.spans[row].map(|span| &keys.bytes[span.range()])
    }

    /// Appends one record; `offset` is its place in `split`.
    pub fn push(&mut self, split: SplitIndex, offset: i64, value: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.spans.push(Span { start, end: self.bytes.len() as u32 });
        self.offsets.push(offset);
        match self.runs.last_mut() {
            Some(run) if run.split == split => run.rows += 1,
            _ => self.runs.push(SplitRun { split, rows: 1 }),
        }
    }
}

/// What came of decoding one [`RawRecords`].
#[derive(Debug)]
pub struct Decoded {
    /// The rows that could be read, in the order of their records. Its schema is the decoder's.
    pub batch: RecordBatch,
    /// The records that could not, in order; `batch.num_rows() + bad.len()` is the number of records.
    pub bad: Vec<BadRecord>,
}

/// A record that could not be decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRecord {
    /// Its index in the [`RawRecords`].
    pub row: usize,
    /// The kind of trouble, for counting.
    pub reason: BadReason,
    /// What is wrong and where, for a person: column, byte position, what would be right.
    pub message: String,
}

/// Why a record is bad: the label `reason` of `acequia_dead_letter_rows_total`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BadReason {
    /// Not well-formed in its format, or not UTF-8.
    Malformed,
    /// Well-formed, but a value does not fit its column's type.
    WrongType,
    /// A `NOT NULL` column or the event time is missing or null.
    MissingValue,
    /// Larger or deeper than the limits.
    TooLarge,
    /// The event time lies too far in the future.
    FutureEventTime,
}

impl BadReason {
    /// The label as it stands in metrics and dead letters.
    pub fn as_str(self) -> &'static str {
        match self {
            BadReason::Malformed => "malformed",
            BadReason::WrongType => "wrong_type",
            BadReason::MissingValue => "missing_value",
            BadReason::TooLarge => "too_large",
            BadReason::FutureEventTime => "future_event_time",
        }
    }
}

/// Turns the bytes of many records into one record batch.
pub trait Decoder: Send {
    /// Decodes every record of `records`. A bad record never spoils its neighbours.
    ///
    /// # Errors
    /// Only for trouble that is no record's fault, such as a batch that outgrows Arrow's 32-bit offsets.
    fn decode(&mut self, records: &RawRecords) -> Result<Decoded, FormatError>;
}

/// Turns a record batch into the bytes of many records, one a row.
pub trait Encoder: Send {
    /// Appends the rows of `batch` to `out`, one span a row.
    ///
    /// # Errors
    /// When a value cannot be written in this format; names the column.
    fn encode(&mut self, batch: &RecordBatch, out: &mut EncodedRows) -> Result<(), FormatError>;
}

/// Encoded rows: one buffer, one span a row.
#[derive(Clone, Debug, Default)]
pub struct EncodedRows {
    /// The bytes of all rows.
    pub bytes: Vec<u8>,
    /// Where each row lies.
    pub spans: Vec<Span>,
}

impl EncodedRows {
    /// The bytes of each row in turn.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.bytes[span.range()])
    }

    /// Ends the row that begins at byte `start`.
    fn push_span(&mut self, start: usize) -> Result<(), FormatError> {
        let end = self.bytes.len();
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else {
            let source = arrow::error::ArrowError::OffsetOverflowError(end);
            return Err(FormatError::Arrow { context: "encoding more than 4 GiB at once".into(), source });
        };
        self.spans.push(Span { start, end });
        Ok(())
    }

    /// Takes back what `encode` has written if it fails.
    fn all_or_nothing(
        &mut self,
        encode: impl FnOnce(&mut EncodedRows) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let (bytes, spans) = (self.bytes.len(), self.spans.len());
        let outcome = encode(self);
        if outcome.is_err() {
            self.bytes.truncate(bytes);
            self.spans.truncate(spans);
        }
        outcome
    }
}

/// Trouble with a format as a whole, not with one record.
#[derive(Debug, Error)]
pub enum FormatError {
    /// A column's type has no place in the format.
    #[error("format '{format}' cannot hold column {column} of type {data_type}{hint}")]
    UnsupportedType {
        /// The format's name in SQL.
        format: &'static str,
        /// The column.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// What would be right, beginning with ": " or empty.
        hint: String,
    },
    /// Arrow refused.
    #[error("{context}: {source}")]
    Arrow {
        /// What was being done.
        context: String,
        /// Arrow's own words.
        source: arrow::error::ArrowError,
    },
}
