//! What was read of a file, so that another file that takes its name can be told from it.
//!
//! Logs are rotated, cut off and copied, and a position is a number of lines: good for nothing in another file. The last
//! bytes before it tell: they are the same in a copy on another machine, and in a file that has only grown.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;

/// So many bytes before the position, and at the file's beginning, are compared.
const COMPARED: usize = 1024;

/// Where reading stands in a file, as a checkpoint keeps it. Prints as `next 5, line 6, byte 230, sum 1a2b3c4d`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Trace {
    /// The position: the line after that of the last record.
    pub(super) next: i64,
    /// The line that begins behind `bytes`: blank ones may lie between.
    pub(super) line: i64,
    /// How many bytes stand before.
    pub(super) bytes: u64,
    /// The checksum of the last of them.
    sum: u32,
}

/// What stands in a file before the place that was read to.
#[derive(Default)]
pub(super) struct Passed {
    bytes: u64,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Trace {
    /// In a file of which nothing was read.
    pub(super) fn empty() -> Trace {
        Passed::default().trace(1, 1)
    }

    /// What was printed.
    pub(super) fn parse(text: &str) -> Option<Trace> {
        let mut parts = text.split(", ");
        let mut part = |name: &str| parts.next()?.strip_prefix(name);
        Some(Trace {
            next: part("next ")?.parse().ok()?,
            line: part("line ")?.parse().ok()?,
            bytes: part("byte ")?.parse().ok()?,
            sum: u32::from_str_radix(part("sum ")?, 16).ok()?,
        })
    }

    /// Whether `file` has what was read.
    pub(super) fn fits(&self, file: &File) -> std::io::Result<bool> {
        Ok(match before(file, self.bytes)? {
            Some(last) => crc32fast::hash(&last) == self.sum,
            None => false,
        })
    }

    /// Whether the bytes that come from `stream`, which is at its beginning, are what was read. Reads up to there.
    pub(super) fn fits_stream(&self, stream: &mut dyn Read) -> std::io::Result<bool> {
        let passed = Passed::through(stream, self.bytes)?;
        Ok(passed.bytes == self.bytes && crc32fast::hash(&passed.last) == self.sum)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "next {}, line {}, byte {}, sum {:08x}", self.next, self.line, self.bytes, self.sum)
    }
}

impl Passed {
    /// What stands in `file` before the end of `trace`.
    pub(super) fn of(file: &File, trace: &Trace) -> std::io::Result<Passed> {
        let cut_off = || std::io::Error::from(ErrorKind::UnexpectedEof);
        let last = before(file, trace.bytes)?.ok_or_else(cut_off)?;
        let mut first = vec![0; last.len()];
        file.read_exact_at(&mut first, 0)?;
        Ok(Passed { bytes: trace.bytes, first, last })
    }

    /// The next `bytes` of `stream`, or as many as there are.
    pub(super) fn through(stream: &mut dyn Read, bytes: u64) -> std::io::Result<Passed> {
        let mut passed = Passed::default();
        let mut block = vec![0; 64 << 10];
        while passed.bytes < bytes {
            let wanted = usize::try_from(bytes - passed.bytes).map_or(block.len(), |left| left.min(block.len()));
            match stream.read(&mut block[..wanted]) {
                Ok(0) => break,
                Ok(read) => passed.add(&block[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(passed)
    }

    /// How many bytes they are.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What comes behind them.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let missing = COMPARED - self.first.len();
        self.first.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        self.bytes += bytes.len() as u64;
        if bytes.len() < COMPARED {
            let too_many = (self.last.len() + bytes.len()).saturating_sub(COMPARED);
            self.last.drain(..too_many);
        } else {
            self.last.clear();
        }
        self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(COMPARED)..]);
    }

    /// As a checkpoint keeps it.
    pub(super) fn trace(&self, next: i64, line: i64) -> Trace {
        Trace { next, line, bytes: self.bytes, sum: crc32fast::hash(&self.last) }
    }

    /// Whether `file` has these bytes and then `more`, as far as the last of them tell.
    pub(super) fn is_before(&self, more: &[u8], file: &File) -> std::io::Result<bool> {
        let there = before(file, self.bytes + more.len() as u64)?;
        Ok(there.is_some_and(|there| match there.len().checked_sub(more.len()) {
            Some(passed) => self.last.ends_with(&there[..passed]) && there[passed..] == *more,
            None => more.ends_with(&there),
        }))
    }

    /// Whether `file` begins with what these bytes begin with, as far as it goes.
    pub(super) fn begins(&self, file: &File) -> std::io::Result<bool> {
        let mut there = vec![0; self.first.len()];
        let mut read = 0;
        while read < there.len() {
            match file.read_at(&mut there[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(there[..read] == self.first[..read])
    }
}

/// The last bytes of `file` before `end`; `None` if it is shorter.
fn before(file: &File, end: u64) -> std::io::Result<Option<Vec<u8>>> {
    let length = usize::try_from(end).map_or(COMPARED, |end| end.min(COMPARED));
    let mut last = vec![0; length];
    match file.read_exact_at(&mut last, end - length as u64) {
        Ok(()) => Ok(Some(last)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        file
    }

    #[test]
    fn a_file_is_known_by_its_last_bytes_wherever_it_was_cut_into_pieces() {
        let bytes: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
        for (end, piece) in [(0, 1), (10, 3), (1024, 1000), (1500, 7), (5000, 5000), (20_000, 1023)] {
            let mut passed = Passed::default();
            bytes[..end].chunks(piece).for_each(|piece| passed.add(piece));
            let trace = passed.trace(5, 6);
            assert_eq!(Trace::parse(&trace.to_string()), Some(trace.clone()));
            assert!(trace.fits(&file(&bytes)).unwrap(), "{end}");
            assert!(trace.fits_stream(&mut &bytes[..]).unwrap(), "{end}");
            let again = Passed::of(&file(&bytes), &trace).unwrap();
            assert_eq!((again.first, again.last), (passed.first.clone(), passed.last.clone()));
            for more in [0, 10, 3000] {
                let there = (end + more).min(bytes.len());
                assert!(passed.is_before(&bytes[end..there], &file(&bytes)).unwrap(), "{end} and {more}");
            }
            if end > 0 {
                let mut other = bytes.clone();
                other[end - 1] ^= 1;
                assert!(!trace.fits(&file(&other)).unwrap());
                assert!(!passed.is_before(b"", &file(&other)).unwrap());
                assert!(!trace.fits(&file(&bytes[..end - 1])).unwrap());
                assert!(!trace.fits_stream(&mut &bytes[..end - 1]).unwrap());
            }
            assert!(passed.begins(&file(&bytes[..end / 2])).unwrap());
            assert!(end == 0 || !passed.begins(&file(b"other")).unwrap());
        }
        assert_eq!(Trace::parse("cluster 5"), None);
    }
}
