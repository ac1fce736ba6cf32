//! A place in a record's bytes, and the steps over JSON's tokens.
//!
//! Strings are searched 16 bytes at a time. A look may go beyond the record into what follows in the buffer, but no
//! step ends there: everything found is compared with the record's end.

use crate::formats::BadReason;
use crate::formats::Span;
use crate::formats::number::Number;
use crate::formats::trouble::Trouble;

/// How deeply objects and arrays may lie in each other.
pub(super) const MAX_DEPTH: usize = 128;

/// The outcome of a step.
pub(super) type Outcome<T = ()> = Result<T, Box<Trouble>>;

/// A place in a record.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    start: usize,
    end: usize,
    /// The next byte to look at.
    pub(super) at: usize,
    /// How many objects and arrays are open around it.
    pub(super) depth: usize,
}

/// A string's bytes between its quotes.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether it has escapes.
    pub(super) escaped: bool,
    /// Whether it has bytes beyond ASCII.
    pub(super) beyond_ascii: bool,
}

impl<'a> Cursor<'a> {
    /// At the beginning of the record that `span` covers.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], span: Span) -> Cursor<'a> {
        let (start, end) = (span.start as usize, span.end as usize);
        Cursor { bytes, start, end, at: start, depth: 0 }
    }

    /// The next byte, or 0 (which no step takes for anything) at the end.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        if self.at < self.end { self.bytes[self.at] } else { 0 }
    }

    /// Whether nothing is left.
    #[inline]
    pub(super) fn at_end(&self) -> bool {
        self.at >= self.end
    }

    /// Bytes of the record, by places that steps have left.
    #[inline]
    pub(super) fn slice(&self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[from..to]
    }

    /// What is left of the record.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at.min(self.end)..self.end]
    }

    /// The place `at` as a user counts: bytes from the record's beginning.
    pub(super) fn byte(&self, at: usize) -> usize {
        at - self.start
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while self.at < self.end && matches!(self.bytes[self.at], b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// Sixteen bytes from `at` on, with zeros for what lies beyond the buffer.
    #[inline]
    fn block(&self, at: usize) -> [u8; 16] {
        match self.bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
            Some(block) => *block,
            None => self.last_block(at),
        }
    }

    #[cold]
    fn last_block(&self, at: usize) -> [u8; 16] {
        let mut block = [0; 16];
        let rest = self.bytes.get(at..).unwrap_or_default();
        block[..rest.len()].copy_from_slice(rest);
        block
    }

    /// As [`Cursor::block`], as one number to compare.
    #[inline]
    pub(super) fn word(&self, at: usize) -> u128 {
        u128::from_le_bytes(self.block(at))
    }

    /// Whether `length` more bytes belong to the record.
    #[inline]
    pub(super) fn has(&self, length: usize) -> bool {
        self.at + length <= self.end
    }

    /// Steps over a string; the next byte is its opening quote. Escapes are well-formed then, surrogates perhaps not
    /// in pairs, and bytes beyond ASCII are not looked into.
    #[inline]
    pub(super) fn string(&mut self) -> Outcome<Text> {
        let from = self.at + 1;
        let (mut at, mut escaped, mut beyond_ascii) = (from, false, 0);
        loop {
            let marks = mark(&self.block(at));
            if marks.special == 0 {
                beyond_ascii |= marks.high;
                at += 16;
                if at >= self.end {
                    return Err(self.ends("inside a string"));
                }
                continue;
            }
            let here = marks.special.trailing_zeros();
            beyond_ascii |= marks.high & ((1 << here) - 1);
            at += here as usize;
            if at >= self.end {
                return Err(self.ends("inside a string"));
            }
            match self.bytes[at] {
                b'"' => {
                    self.at = at + 1;
                    return Ok(Text { from, to: at, escaped, beyond_ascii: beyond_ascii != 0 });
                }
                b'\\' => {
                    escaped = true;
                    at += self.escape_length(at)?;
                }
                _ => return Err(self.malformed(at, "a control character inside a string")),
            }
        }
    }

    #[inline(never)]
    fn escape_length(&self, at: usize) -> Outcome<usize> {
        let escape = &self.bytes[at..self.end];
        match escape.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
            Some(b'u') if escape.len() < 6 => Err(self.ends("inside a string")),
            Some(b'u') if escape[2..6].iter().all(u8::is_ascii_hexdigit) => Ok(6),
            Some(_) => Err(self.malformed(at, "an escape that JSON does not have")),
            None => Err(self.ends("inside a string")),
        }
    }

    /// The text of a string, UTF-8 and without escapes; `scratch` holds it if it is not in the record as it is.
    #[inline]
    pub(super) fn text<'s>(&self, text: Text, scratch: &'s mut Vec<u8>) -> Outcome<&'s [u8]>
    where
        'a: 's,
    {
        let raw = &self.bytes[text.from..text.to];
        if !text.escaped && !text.beyond_ascii {
            return Ok(raw);
        }
        self.unusual_text(text, scratch)
    }

    #[inline(never)]
    fn unusual_text<'s>(&self, text: Text, scratch: &'s mut Vec<u8>) -> Outcome<&'s [u8]>
    where
        'a: 's,
    {
        let raw = &self.bytes[text.from..text.to];
        if let Err(error) = std::str::from_utf8(raw) {
            return Err(self.malformed(text.from + error.valid_up_to(), "a string that is not UTF-8"));
        }
        if !text.escaped {
            return Ok(raw);
        }
        scratch.clear();
        let mut rest = raw;
        while let Some(plain) = memchr::memchr(b'\\', rest) {
            scratch.extend_from_slice(&rest[..plain]);
            let escape = &rest[plain..];
            let (decoded, length) = match escape[1] {
                b'b' => ('\u{8}', 2),
                b'f' => ('\u{c}', 2),
                b'n' => ('\n', 2),
                b'r' => ('\r', 2),
                b't' => ('\t', 2),
                b'u' => match unicode_escape(escape) {
                    Some(decoded) => decoded,
                    None => {
                        let at = text.to - escape.len();
                        return Err(self.malformed(at, "half of a surrogate pair in a string"));
                    }
                },
                other => (char::from(other), 2),
            };
            scratch.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &escape[length..];
        }
        scratch.extend_from_slice(rest);
        Ok(scratch)
    }

    /// Steps over a number.
    #[inline]
    pub(super) fn number(&mut self) -> Outcome<Number<'a>> {
        match Number::prefix(&self.bytes[self.at..self.end]) {
            Some(number) if !number.leading_zeros => {
                self.at += number.text.len();
                Ok(number)
            }
            _ => Err(self.malformed(self.at, "a number that JSON does not have")),
        }
    }

    /// Steps over `true`, `false` or `null`.
    #[inline]
    pub(super) fn literal(&mut self, word: &'static [u8]) -> Outcome {
        if !self.bytes[self.at..self.end].starts_with(word) {
            return Err(self.no_value());
        }
        self.at += word.len();
        Ok(())
    }

    /// Steps over an opening bracket; gives whether the closing one follows at once, and steps over that too.
    #[inline]
    pub(super) fn open(&mut self, close: u8) -> Outcome<bool> {
        self.check_depth(self.depth)?;
        self.at += 1;
        self.skip_space();
        let empty = self.peek() == close;
        self.depth += usize::from(!empty);
        self.at += usize::from(empty);
        Ok(empty)
    }

    /// Steps over what follows a value in an object or array: gives whether another one comes.
    #[inline]
    pub(super) fn another(&mut self, close: u8) -> Outcome<bool> {
        self.skip_space();
        let next = self.peek();
        if next == b',' {
            self.at += 1;
            self.skip_space();
            return Ok(true);
        }
        if next != close {
            return Err(self.expected(if close == b'}' { "',' or '}'" } else { "',' or ']'" }));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(false)
    }

    /// Steps over a colon and the space around it.
    #[inline]
    pub(super) fn colon(&mut self) -> Outcome {
        self.skip_space();
        if self.peek() != b':' {
            return Err(self.expected("':' after a key"));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// Steps over a key's string.
    pub(super) fn key(&mut self) -> Outcome<Text> {
        if self.peek() != b'"' {
            return Err(self.expected("a key in quotes"));
        }
        self.string()
    }

    /// Steps over any value. Brackets, commas, colons, quotes, numbers and escapes are checked as in a decoded value;
    /// UTF-8, surrogate pairs and duplicate keys are not.
    #[inline]
    pub(super) fn skip_value(&mut self) -> Outcome {
        match self.peek() {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' => self.skip_nested(),
            _ => self.skip_scalar(),
        }
    }

    #[inline]
    fn skip_scalar(&mut self) -> Outcome {
        match self.peek() {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(self.no_value()),
        }
    }

    /// Steps over an object or array without recursion: which of the two each level is, is a bit.
    #[inline(never)]
    fn skip_nested(&mut self) -> Outcome {
        let (mut objects, mut depth) = (0u128, 0);
        loop {
            let open = self.peek();
            if matches!(open, b'{' | b'[') {
                self.check_depth(self.depth + depth)?;
                let (object, close) = if open == b'{' { (1, b'}') } else { (0, b']') };
                self.at += 1;
                self.skip_space();
                if self.peek() != close {
                    objects = (objects << 1) | object;
                    depth += 1;
                    if object == 1 {
                        self.key()?;
                        self.colon()?;
                    }
                    continue;
                }
                self.at += 1;
            } else {
                self.skip_scalar()?;
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.skip_space();
                let object = objects & 1 == 1;
                match (self.peek(), object) {
                    (b',', _) => break,
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        objects >>= 1;
                        depth -= 1;
                    }
                    _ => return Err(self.expected(if object { "',' or '}'" } else { "',' or ']'" })),
                }
            }
            self.at += 1;
            self.skip_space();
            if objects & 1 == 1 {
                self.key()?;
                self.colon()?;
            }
        }
    }

    #[inline]
    fn check_depth(&self, depth: usize) -> Outcome {
        if depth < MAX_DEPTH {
            return Ok(());
        }
        let message = format!("the record is nested more than {MAX_DEPTH} levels deep (byte {})", self.byte(self.at));
        Err(Trouble::new(BadReason::TooLarge, message))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn malformed(&self, at: usize, what: &str) -> Box<Trouble> {
        Trouble::new(BadReason::Malformed, format!("not well-formed JSON: {what} (byte {})", self.byte(at)))
    }

    #[cold]
    #[inline(never)]
    fn ends(&self, place: &str) -> Box<Trouble> {
        let length = self.end - self.start;
        Trouble::new(BadReason::Malformed, format!("not well-formed JSON: the record ends {place} (byte {length})"))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn expected(&self, what: &str) -> Box<Trouble> {
        if self.at_end() {
            return self.ends(&format!("where {what} should be"));
        }
        let rest = &self.bytes[self.at..self.end];
        let found = String::from_utf8_lossy(&rest[..rest.len().min(8)]).chars().next().unwrap_or_default();
        self.malformed(self.at, &format!("expected {what}, found {found:?}"))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn no_value(&self) -> Box<Trouble> {
        self.expected("a value")
    }
}

/// The character of `\uXXXX` or of two of them, and the length in bytes. `None` for half a surrogate pair.
fn unicode_escape(escape: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let hex = escape.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    let first = unit(0)?;
    if let Some(character) = char::from_u32(u32::from(first)) {
        return Some((character, 6));
    }
    let pair = char::decode_utf16([first, unit(6)?]).next()?;
    pair.ok().map(|character| (character, 12))
}

/// Which of 16 bytes matter to a string: one bit a byte, the first the lowest.
struct Marks {
    /// Quotes, backslashes and control characters.
    special: u32,
    /// Bytes beyond ASCII.
    high: u32,
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn mark(block: &[u8; 16]) -> Marks {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: SSE2 belongs to every x86_64 processor. The load needs no alignment and reads the 16 bytes of `block`.
    unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        let special = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control));
        Marks { special: special as u32, high: _mm_movemask_epi8(bytes) as u32 }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn mark(block: &[u8; 16]) -> Marks {
    portable_mark(block)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable_mark(block: &[u8; 16]) -> Marks {
    let (mut special, mut high) = (0, 0);
    for (bit, &byte) in block.iter().enumerate() {
        special |= u32::from(byte == b'"' || byte == b'\\' || byte < 0x20) << bit;
        high |= u32::from(byte >= 0x80) << bit;
    }
    Marks { special, high }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_mark_agree_on_every_byte() {
        for byte in 0..=255u8 {
            for at in 0..16 {
                let mut block = [b'a'; 16];
                block[at] = byte;
                let (fast, plain) = (mark(&block), portable_mark(&block));
                assert_eq!((fast.special, fast.high), (plain.special, plain.high), "byte {byte} at {at}");
            }
        }
    }

    #[test]
    fn a_string_never_ends_beyond_its_record() {
        let bytes = br#""abc"def""#;
        let mut cursor = Cursor::new(bytes, Span { start: 0, end: 4 });
        assert!(cursor.string().is_err());
        let mut cursor = Cursor::new(bytes, Span { start: 0, end: 5 });
        assert!(cursor.string().is_ok());
        assert!(cursor.at_end());
    }
}
