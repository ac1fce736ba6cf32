//! Random texts, appended to a column's bytes.

use super::dice::Stream;

/// The least letters of a random text.
const SHORTEST: u64 = 3;

/// A text of 3 to `longest - 1` letters, one in 13 of them `special`; blanks at its ends are taken off.
pub(super) fn word(stream: &mut Stream, longest: u64, special: u8, out: &mut Vec<u8>) {
    let length = SHORTEST + stream.below(longest - SHORTEST);
    let start = out.len();
    out.extend((0..length).map(|_| match stream.below(13 * 26) {
        roll if roll < 26 => special,
        roll => b'a' + (roll % 26) as u8,
    }));
    out.truncate(start + out[start..].trim_ascii_end().len());
    let blanks = out.len() - start - out[start..].trim_ascii_start().len();
    out.drain(start..start + blanks);
}

/// So many letters.
pub(super) fn letters(stream: &mut Stream, length: usize, out: &mut Vec<u8>) {
    let letter = |bits: u64| b'a' + (((bits & 0xffff) * 26) >> 16) as u8;
    let end = out.len() + length;
    out.reserve(length + 4);
    while out.len() < end {
        let bits = stream.bits();
        out.extend_from_slice(&[letter(bits), letter(bits >> 16), letter(bits >> 32), letter(bits >> 48)]);
    }
    out.truncate(end);
}

/// How many letters bring an event of `size` bytes to `average` ones, give or take a fifth of what is missing; `roll`
/// gives a number below its argument.
pub(super) fn padding(size: usize, average: usize, roll: impl FnOnce(u64) -> u64) -> usize {
    let Some(missing) = average.checked_sub(size) else { return 0 };
    // A fifth, rounded.
    let spread = (2 * missing + 5) / 10;
    missing - spread + if spread == 0 { 0 } else { roll(2 * spread as u64) as usize }
}

/// Texts that are made once and chosen from.
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    /// The texts that `write` appends for each of so many places.
    pub(super) fn made(count: usize, mut write: impl FnMut(usize, &mut Vec<u8>)) -> Texts {
        let mut texts = Texts { bytes: vec![], ends: vec![0] };
        for place in 0..count {
            write(place, &mut texts.bytes);
            texts.ends.push(texts.bytes.len());
        }
        texts
    }

    /// The text at that place.
    pub(super) fn get(&self, place: usize) -> &[u8] {
        &self.bytes[self.ends[place]..self.ends[place + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_the_lengths_and_the_special_letters_of_the_specification() {
        let mut stream = Stream::of(7);
        let (mut letters, mut special) = (0, 0);
        for _ in 0..2000 {
            let mut word_ = vec![];
            word(&mut stream, 20, b'_', &mut word_);
            assert!((3..20).contains(&word_.len()));
            assert!(word_.iter().all(|letter| letter.is_ascii_lowercase() || *letter == b'_'));
            letters += word_.len();
            special += word_.iter().filter(|letter| **letter == b'_').count();
        }
        assert!((21_000..23_000).contains(&letters), "{letters}: 11 on average");
        assert!((0.07..0.084).contains(&(special as f64 / letters as f64)), "{special} of {letters}: one in 13");
        let mut blank = b"x".to_vec();
        for _ in 0..2000 {
            word(&mut stream, 5, b' ', &mut blank);
            blank.push(b'.');
        }
        assert!(!blank.windows(2).any(|pair| pair == b" ." || pair == b". "));
    }

    #[test]
    fn letters_are_spread_evenly() {
        let mut text = vec![];
        letters(&mut Stream::of(1), 260_003, &mut text);
        assert_eq!(text.len(), 260_003);
        for letter in b'a'..=b'z' {
            let count = text.iter().filter(|other| **other == letter).count();
            assert!((9_500..10_500).contains(&count), "{count} times {}", char::from(letter));
        }
    }

    #[test]
    fn padding_fills_up_to_the_average() {
        assert_eq!(padding(32, 100, |_| 0), 54);
        assert_eq!(padding(32, 100, |end| end - 1), 54 + 27);
        assert_eq!(padding(101, 100, |_| 0), 0);
        assert_eq!(padding(98, 100, |_| panic!("nothing to roll for")), 2);
    }
}
