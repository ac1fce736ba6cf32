//! Lines out of blocks: the hot path of every file source.
//!
//! A block is read straight into the buffer that the decoder will get, newlines are found by SIMD search, and each
//! line becomes a span: no line is copied or allocated. Only what follows the last whole line moves, once a batch.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use memchr::{memchr, memchr_iter, memchr2};

use super::CsvContent;
use super::trace::{Passed, Trace};
use crate::formats::{RawRecords, Span, SplitIndex, SplitRun};

/// At most so much is read at once, and a batch ends once it has as much.
const BLOCK: usize = 4 << 20;
/// At least so much is read at once.
const SMALLEST_READ: usize = 16 << 10;
/// Where spans end.
const LARGEST_BUFFER: usize = u32::MAX as usize;

/// Cuts one file into records.
pub(super) struct LineReader {
    input: Input,
    split: SplitIndex,
    csv: Option<CsvContent>,
    /// The number of the line at which `carry` begins.
    line: i64,
    /// Read, but not yet sent.
    carry: Vec<u8>,
    /// What stands before `carry`.
    passed: Passed,
    /// The line after that of the last record.
    next_record: i64,
    /// Whether the file's first line is still to come and holds names.
    header_comes: bool,
    /// Bytes a record, to read about as much as a batch needs.
    record_size: usize,
    /// Whether an end without a newline is an end: not so when more may be appended.
    ends: bool,
}

/// Where bytes come from.
pub(super) enum Input {
    /// Gives as much as is asked for until it ends.
    File(File),
    /// The same, out of a compressed file.
    Unpacked(Box<dyn Read + Send>),
    /// Gives what is there: a batch does not wait for more once it has a record.
    Stream(Box<dyn Read + Send>),
    /// A file that is closed for now, or not yet there: gives nothing.
    Closed,
}

/// What went wrong with lines.
#[derive(Debug)]
pub(super) enum LineError {
    /// The system could not read.
    Io(std::io::Error),
    /// The file does not hold what it should; the message follows the path.
    Content(String),
    /// What was read before is not there any more; the message follows the path.
    Gone(String),
}

impl From<std::io::Error> for LineError {
    fn from(error: std::io::Error) -> LineError {
        LineError::Io(error)
    }
}

/// Where a scan stands in its buffer.
struct Scan {
    spans: Vec<Span>,
    offsets: Vec<i64>,
    limit: usize,
    /// Where the record begins that is not yet complete.
    start: usize,
    /// The line on which it begins.
    start_line: i64,
    /// The line at which the search stands.
    line: i64,
    /// How far the search has come.
    scanned: usize,
    /// Whether the search stands between quotes.
    quoted: bool,
}

impl LineReader {
    /// Reads records of `split`; `ends` says whether the input's end is the end.
    pub(super) fn new(input: Input, split: SplitIndex, csv: Option<CsvContent>, ends: bool) -> LineReader {
        let header_comes = csv.as_ref().is_some_and(|csv| csv.header);
        let (line, next_record, carry, passed) = (1, 1, vec![], Passed::default());
        LineReader { input, split, csv, line, carry, passed, next_record, header_comes, record_size: 256, ends }
    }

    /// The split whose records these are.
    pub(super) fn split(&self) -> SplitIndex {
        self.split
    }

    /// Where the records that were given end, and what stands before.
    pub(super) fn trace(&self) -> Trace {
        self.passed.trace(self.next_record, self.line)
    }

    /// How many bytes were read, those that are not a whole line yet included.
    pub(super) fn read_to(&self) -> u64 {
        self.passed.bytes() + self.carry.len() as u64
    }

    /// The file that is open.
    pub(super) fn file(&self) -> Option<&File> {
        match &self.input {
            Input::File(file) => Some(file),
            _ => None,
        }
    }

    /// Whether `file` has what was read, as far as the last bytes tell.
    pub(super) fn goes_on_in(&self, file: &File) -> std::io::Result<bool> {
        self.passed.is_before(&self.carry, file)
    }

    /// Whether `file` begins with what this one begins with, as far as it goes.
    pub(super) fn begins_as(&self, file: &File) -> std::io::Result<bool> {
        self.passed.begins(file)
    }

    /// Closes the file.
    pub(super) fn close(&mut self) {
        if matches!(self.input, Input::File(_)) {
            self.input = Input::Closed;
            self.carry = vec![];
        }
    }

    /// Goes on in `file` behind the last whole line: in the same one, opened again, or in one that has the same lines.
    pub(super) fn go_on_in(&mut self, mut file: File) -> std::io::Result<()> {
        file.seek(SeekFrom::Start(self.passed.bytes()))?;
        self.carry.clear();
        self.input = Input::File(file);
        Ok(())
    }

    /// Begins with `input` where `trace` ends, which it is known to fit.
    pub(super) fn resume(&mut self, mut input: Input, trace: &Trace) -> std::io::Result<()> {
        self.passed = match &mut input {
            Input::File(file) => {
                let passed = Passed::of(file, trace)?;
                file.seek(SeekFrom::Start(trace.bytes))?;
                passed
            }
            Input::Unpacked(stream) | Input::Stream(stream) => Passed::through(stream, trace.bytes)?,
            Input::Closed => Passed::default(),
        };
        (self.line, self.next_record, self.input) = (trace.line, trace.next, input);
        self.header_comes &= trace.bytes == 0;
        Ok(())
    }

    /// The last line of a file that will not grow any more, if it has no newline.
    pub(super) fn last_line(&mut self) -> Result<Option<RawRecords>, LineError> {
        (self.ends, self.input) = (true, Input::Closed);
        self.next(1)
    }

    /// Goes on with line `line`, which was the next one to come when the position was noted.
    pub(super) fn skip_to(&mut self, line: i64) -> Result<(), LineError> {
        while self.line < line {
            if self.carry.is_empty() && self.input.fill(BLOCK, &mut self.carry)? == 0 {
                let lines = self.line - 1;
                return Err(LineError::Gone(format!(
                    "it has {lines} lines, but {} were read before: it was replaced, or cut off",
                    line - 1
                )));
            }
            self.header_comes = false;
            let wanted = (line - self.line) as usize;
            match memchr_iter(b'\n', &self.carry).nth(wanted - 1) {
                Some(at) => {
                    self.line = line;
                    self.passed.add(&self.carry[..=at]);
                    self.carry.drain(..=at);
                }
                None => {
                    self.line += memchr_iter(b'\n', &self.carry).count() as i64;
                    // A last line without a newline was a record too.
                    let unfinished = self.carry.last() != Some(&b'\n');
                    self.passed.add(&self.carry);
                    self.carry.clear();
                    if unfinished && self.line == line - 1 && self.input.fill(SMALLEST_READ, &mut self.carry)? == 0 {
                        self.line = line;
                    }
                }
            }
        }
        self.next_record = self.next_record.max(line);
        Ok(())
    }

    /// The next records, at most `limit`; `None` at the end of what is there.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<RawRecords>, LineError> {
        let mut bytes = std::mem::take(&mut self.carry);
        let mut scan = Scan::new(self.line, limit);
        loop {
            self.scan(&bytes, &mut scan, false)?;
            let enough = scan.full() || bytes.len() >= BLOCK || matches!(self.input, Input::Stream(_));
            if scan.full() || (enough && !scan.spans.is_empty()) {
                break;
            }
            // A line longer than the block is read in steps that grow with it.
            let missing = (limit - scan.spans.len()).saturating_mul(self.record_size);
            let want = missing.clamp(SMALLEST_READ, BLOCK).max(bytes.len() - scan.start);
            if bytes.len().saturating_add(want) > LARGEST_BUFFER {
                return Err(LineError::Content(format!(
                    "line {} is longer than 2 GB: this is no file of lines",
                    scan.start_line
                )));
            }
            if self.input.fill(want, &mut bytes)? == 0 {
                if self.ends {
                    self.scan(&bytes, &mut scan, true)?;
                }
                break;
            }
        }
        self.line = scan.start_line;
        self.passed.add(&bytes[..scan.start]);
        self.carry.extend_from_slice(&bytes[scan.start..]);
        bytes.truncate(scan.start);
        let rows = scan.spans.len();
        if rows == 0 {
            return Ok(None);
        }
        self.record_size = (bytes.len() / rows).max(16);
        let (spans, offsets) = (scan.spans, scan.offsets);
        self.next_record = offsets[rows - 1] + 1;
        let runs = vec![SplitRun { split: self.split, rows }];
        Ok(Some(RawRecords { bytes, spans, offsets, runs, timestamps: None, keys: None, headers: None }))
    }

    /// Finds records in what `bytes` has that `scan` has not seen; with `last`, what is left is one too.
    fn scan(&mut self, bytes: &[u8], scan: &mut Scan, last: bool) -> Result<(), LineError> {
        loop {
            match &self.csv {
                None => scan.lines(bytes),
                Some(csv) => scan.csv(bytes, csv, last),
            }
            if last && !scan.full() && scan.start < bytes.len() {
                scan.push(bytes, bytes.len(), bytes.len());
            }
            if self.line == 1 {
                scan.leave_out_byte_order_mark(bytes);
            }
            let Some(csv) = self.csv.as_ref().filter(|_| self.header_comes && !scan.spans.is_empty()) else {
                return Ok(());
            };
            csv.check_header(&bytes[scan.spans[0].range()])?;
            self.header_comes = false;
            scan.spans.remove(0);
            scan.offsets.remove(0);
        }
    }
}

impl Input {
    /// Appends at most `want` bytes; how many came. 0 is the end.
    fn fill(&mut self, want: usize, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
        match self {
            Input::File(file) => {
                bytes.reserve(want);
                file.take(want as u64).read_to_end(bytes)
            }
            Input::Unpacked(stream) => {
                bytes.reserve(want);
                stream.take(want as u64).read_to_end(bytes)
            }
            Input::Closed => Ok(0),
            Input::Stream(stream) => {
                let before = bytes.len();
                bytes.resize(before + want.min(64 << 10), 0);
                let read = loop {
                    match stream.read(&mut bytes[before..]) {
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        read => break read,
                    }
                };
                bytes.truncate(before + read.as_ref().map_or(0, |read| *read));
                read
            }
        }
    }
}

impl Scan {
    fn new(line: i64, limit: usize) -> Scan {
        let room = limit.min(8192);
        let (spans, offsets) = (Vec::with_capacity(room), Vec::with_capacity(room));
        Scan { spans, offsets, limit, start: 0, start_line: line, line, scanned: 0, quoted: false }
    }

    /// Some editors begin a file with U+FEFF, which is no part of its first line.
    fn leave_out_byte_order_mark(&mut self, bytes: &[u8]) {
        let Some(first) = self.spans.first_mut().filter(|first| first.start == 0) else { return };
        if bytes.starts_with("\u{feff}".as_bytes()) {
            first.start = 3;
            if first.start == first.end {
                self.spans.remove(0);
                self.offsets.remove(0);
            }
        }
    }

    fn full(&self) -> bool {
        self.spans.len() >= self.limit
    }

    /// Notes the record that ends before `end` and goes on at `next`. Blank lines are counted and left out.
    #[inline]
    fn push(&mut self, bytes: &[u8], end: usize, next: usize) {
        let start = self.start;
        let end = if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end };
        if end > start {
            self.spans.push(Span { start: start as u32, end: end as u32 });
            self.offsets.push(self.line);
        }
        self.line += 1;
        (self.start, self.start_line, self.scanned) = (next, self.line, next);
    }

    fn lines(&mut self, bytes: &[u8]) {
        let base = self.scanned;
        for at in memchr_iter(b'\n', &bytes[base..]) {
            self.push(bytes, base + at, base + at + 1);
            if self.full() {
                return;
            }
        }
        self.scanned = bytes.len();
    }

    /// As [`Scan::lines`], but a newline between quotes ends nothing (RFC 4180: a quote opens at the beginning of a
    /// field, and a doubled one inside stands for itself). A record counts as the last line that it spans, so that
    /// the line after it is where the next one begins.
    fn csv(&mut self, bytes: &[u8], csv: &CsvContent, last: bool) {
        while !self.full() {
            let at = self.scanned;
            if self.quoted {
                let quote = memchr(csv.quote, &bytes[at..]).map(|found| at + found);
                self.line += memchr_iter(b'\n', &bytes[at..quote.unwrap_or(bytes.len())]).count() as i64;
                match quote {
                    None => {
                        self.scanned = bytes.len();
                        return;
                    }
                    Some(quote) if quote + 1 == bytes.len() && !last => {
                        // The next byte, still to come, says whether the quote is doubled.
                        self.scanned = quote;
                        return;
                    }
                    Some(quote) if bytes.get(quote + 1) == Some(&csv.quote) => self.scanned = quote + 2,
                    Some(quote) => (self.quoted, self.scanned) = (false, quote + 1),
                }
            } else {
                let Some(found) = memchr2(csv.quote, b'\n', &bytes[at..]).map(|found| at + found) else {
                    self.scanned = bytes.len();
                    return;
                };
                if bytes[found] == b'\n' {
                    self.push(bytes, found, found + 1);
                } else {
                    self.quoted = found == self.start || bytes[found - 1] == csv.delimiter;
                    self.scanned = found + 1;
                }
            }
        }
    }
}

impl CsvContent {
    /// Refuses a header that holds the table's columns in another order.
    fn check_header(&self, header: &[u8]) -> Result<(), LineError> {
        let header = String::from_utf8_lossy(header);
        let names: Vec<&str> = header
            .split(char::from(self.delimiter))
            .map(|name| name.trim().trim_matches(char::from(self.quote)))
            .collect();
        for (place, name) in names.iter().enumerate() {
            let column = self.columns.iter().position(|column| column.eq_ignore_ascii_case(name));
            if column.is_some_and(|column| column != place) {
                return Err(LineError::Content(format!(
                    "its header says '{}', but the table's columns are '{}', and CSV columns go by position: declare \
                     the columns in the file's order",
                    names.join(", "),
                    self.columns.join(", ")
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes a few at a time.
    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    fn reader(text: &[u8], step: usize, csv: Option<CsvContent>) -> LineReader {
        LineReader::new(Input::Stream(Box::new(Trickle(text.to_vec(), step))), SplitIndex(0), csv, true)
    }

    fn csv(columns: &[&str]) -> Option<CsvContent> {
        Some(CsvContent {
            delimiter: b',',
            quote: b'"',
            header: true,
            columns: columns.iter().map(|c| (*c).into()).collect(),
        })
    }

    fn all(mut reader: LineReader, limit: usize) -> Vec<(i64, String)> {
        let mut records = vec![];
        while let Some(batch) = reader.next(limit).unwrap() {
            assert!(batch.len() <= limit);
            assert_eq!(batch.runs, [SplitRun { split: SplitIndex(0), rows: batch.len() }]);
            for row in 0..batch.len() {
                records.push((batch.offsets[row], String::from_utf8(batch.value(row).to_vec()).unwrap()));
            }
        }
        records
    }

    fn lines(records: &[(i64, &str)]) -> Vec<(i64, String)> {
        records.iter().map(|(offset, text)| (*offset, (*text).into())).collect()
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        let text = b"\xEF\xBB\xBFone\r\n\n\r\ntwo\nthree";
        let expected = lines(&[(1, "one"), (4, "two"), (5, "three")]);
        for step in [1, 2, 3, 7, 100] {
            for limit in [1, 2, 3, 8192] {
                assert_eq!(all(reader(text, step, None), limit), expected, "step {step}, limit {limit}");
            }
        }
    }

    #[test]
    fn quoted_newlines_stay_in_their_csv_record() {
        let text = b"a,b\n1,\"x\ny \"\"z\"\"\"\n\n2,5\" pipe\n3,\"\"\n\"\n\",4";
        let expected = lines(&[(3, "1,\"x\ny \"\"z\"\"\""), (5, "2,5\" pipe"), (6, "3,\"\""), (8, "\"\n\",4")]);
        for step in [1, 2, 3, 7, 100] {
            for limit in [1, 2, 8192] {
                assert_eq!(all(reader(text, step, csv(&["a", "b"])), limit), expected, "step {step}, limit {limit}");
            }
        }
        let mut restored = reader(text, 100, csv(&["a", "b"]));
        restored.skip_to(4).unwrap();
        assert_eq!(all(restored, 100), expected[1..]);
    }

    #[test]
    fn a_header_in_another_order_is_refused() {
        let mut reader = reader(b"b,a\n1,2\n", 100, csv(&["a", "b"]));
        let Err(LineError::Content(message)) = reader.next(10) else { panic!("it was read") };
        assert_eq!(
            message,
            "its header says 'b, a', but the table's columns are 'a, b', and CSV columns go by position: declare the \
             columns in the file's order"
        );
    }

    #[test]
    fn a_restored_reader_goes_on_with_the_next_line() {
        let text = b"one\ntwo\n\nthree";
        let expected = all(reader(text, 100, None), 100);
        for step in [1, 3, 100] {
            for position in 1..=5_i64 {
                let mut restored = reader(text, step, None);
                restored.skip_to(position).unwrap();
                let rest: Vec<_> = expected.iter().filter(|(line, _)| *line >= position).cloned().collect();
                assert_eq!(all(restored, 2), rest, "position {position}, step {step}");
            }
        }
        let Err(LineError::Gone(message)) = reader(text, 100, None).skip_to(9) else { panic!("it was skipped") };
        assert_eq!(message, "it has 3 lines, but 8 were read before: it was replaced, or cut off");
    }

    #[test]
    fn long_lines_and_large_files_come_through() {
        let mut text = vec![b'x'; 9 << 20];
        text.push(b'\n');
        for number in 0..200_000 {
            text.extend_from_slice(format!("{{\"n\":{number}}}\n").as_bytes());
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.jsonl");
        std::fs::write(&path, &text).unwrap();
        let file = Input::File(std::fs::File::open(&path).unwrap());
        let records = all(LineReader::new(file, SplitIndex(0), None, true), 8192);
        assert_eq!(records.len(), 200_001);
        assert_eq!(records[0].1.len(), 9 << 20);
        assert_eq!(records[200_000], (200_001, "{\"n\":199999}".into()));
    }

    /// Prints what the scan costs; run it in release to compare with 0.008 µs a line.
    #[test]
    fn timing_of_the_scan() {
        let line = [&[b'x'; 173][..], b"\n"].concat();
        let text = line.repeat(200_000);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let input = Input::File(std::fs::File::open(file.path()).unwrap());
        let mut reader = LineReader::new(input, SplitIndex(0), None, true);
        let (mut rows, began) = (0, std::time::Instant::now());
        while let Some(batch) = reader.next(8192).unwrap() {
            rows += batch.len();
        }
        let read_and_scan = began.elapsed().as_secs_f64() * 1e6 / rows as f64;
        let mut scan = Scan::new(1, usize::MAX);
        let began = std::time::Instant::now();
        scan.lines(&text);
        let scan_only = began.elapsed().as_secs_f64() * 1e6 / scan.spans.len() as f64;
        println!("{rows} lines of 174 bytes: {read_and_scan:.4} µs each read and cut, {scan_only:.4} µs cut alone");
        assert_eq!(rows, 200_000);
    }
}
