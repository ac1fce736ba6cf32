//! Which column a key belongs to. Records of one topic mostly have the same keys in the same order, so that the key at
//! a place is compared with the one that stood there last time, before it is looked up by name.

use ahash::HashMap;

use super::cursor::{Cursor, Outcome};

/// The keys of one object and the order they came in last.
#[derive(Debug)]
pub(crate) struct Keys {
    columns: HashMap<Box<[u8]>, u32>,
    /// By place in the object.
    order: Vec<Guess>,
    /// A key that is not read because of its capitals was told.
    told: bool,
}

/// A key that is expected, as it stands in a record: with quotes and the colon.
#[derive(Clone, Copy, Debug)]
struct Guess {
    words: [u128; 2],
    masks: [u128; 2],
    length: usize,
    column: Option<u32>,
}

/// Longer keys are always looked up.
const LONGEST_GUESS: usize = 32;
/// Places behind this are not remembered, so that a hostile record costs no memory.
const MOST_GUESSES: usize = 256;

impl Keys {
    /// For columns of these names, in order.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Keys {
        let columns = names.into_iter().zip(0..).map(|(name, column)| (name.as_bytes().into(), column)).collect();
        Keys { columns, order: vec![], told: false }
    }

    /// Steps over the key at place `place` of an object, up to its value; gives its column, if it has one.
    #[inline]
    pub(super) fn step(&mut self, place: usize, cursor: &mut Cursor, scratch: &mut Vec<u8>) -> Outcome<Option<u32>> {
        if let Some(guess) = self.order.get(place)
            && (cursor.word(cursor.at) ^ guess.words[0]) & guess.masks[0] == 0
            && (guess.length <= 16 || (cursor.word(cursor.at + 16) ^ guess.words[1]) & guess.masks[1] == 0)
            && cursor.has(guess.length)
        {
            cursor.at += guess.length;
            cursor.skip_space();
            return Ok(guess.column);
        }
        self.look_up(place, cursor, scratch)
    }

    #[inline(never)]
    fn look_up(&mut self, place: usize, cursor: &mut Cursor, scratch: &mut Vec<u8>) -> Outcome<Option<u32>> {
        let start = cursor.at;
        let key = cursor.key()?;
        let text = cursor.text(key, scratch)?;
        let column = self.columns.get(text).copied();
        if column.is_none()
            && !self.told
            && let Some(warning) = self.meant(text)
        {
            tracing::warn!("{warning}");
            self.told = true;
        }
        let adjacent = cursor.peek() == b':';
        let seen = cursor.slice(start, cursor.at + usize::from(adjacent));
        if adjacent && seen.len() <= LONGEST_GUESS && place <= self.order.len() && place < MOST_GUESSES {
            let guess = Guess::new(seen, column);
            match self.order.get_mut(place) {
                Some(old) => *old = guess,
                None => self.order.push(guess),
            }
        }
        cursor.colon()?;
        Ok(column)
    }

    /// What to say of a key that no column has: one that differs by its capitals alone is most likely meant, and a column
    /// of nulls tells nobody so.
    fn meant(&self, key: &[u8]) -> Option<String> {
        let lower = key.to_ascii_lowercase();
        self.columns.contains_key(lower.as_slice()).then(|| {
            let (key, column) = (String::from_utf8_lossy(key), String::from_utf8_lossy(&lower));
            format!(
                "records have a key {key}, which is not read: column {column} reads the key {column}. Names without quotes are \
                 in lower case; declare \"{key}\" to read it"
            )
        })
    }
}

impl Guess {
    fn new(seen: &[u8], column: Option<u32>) -> Guess {
        let half = |from: usize| {
            let part = seen.get(from..).unwrap_or_default();
            let part = &part[..part.len().min(16)];
            let (mut word, mut mask) = ([0; 16], [0; 16]);
            word[..part.len()].copy_from_slice(part);
            mask[..part.len()].fill(0xff);
            (u128::from_le_bytes(word), u128::from_le_bytes(mask))
        };
        let ((first, first_mask), (second, second_mask)) = (half(0), half(16));
        Guess { words: [first, second], masks: [first_mask, second_mask], length: seen.len(), column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_differs_by_its_capitals_is_told() {
        let keys = Keys::new(["userid", "n"]);
        assert_eq!(
            keys.meant(b"userId").unwrap(),
            "records have a key userId, which is not read: column userid reads the key userid. Names without quotes are in \
             lower case; declare \"userId\" to read it"
        );
        assert_eq!(keys.meant(b"user_id"), None);
    }
}
