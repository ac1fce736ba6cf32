//! The search for the rows that a database refuses: halves of a batch behind savepoints, within one transaction.
//!
//! One bad row spoils a whole COPY or INSERT. Bisection finds it in about 2 log2(n) attempts and leaves all other
//! rows written, so that they commit together.

use std::ops::Range;

use async_trait::async_trait;

use super::database::{Failure, Refusals};

/// What came of writing some rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// They are written, but for these, counted from the first of them.
    Written(Refusals),
    /// A value among them was refused, in the database's words; nothing of them is written.
    Refused(String),
}

/// An open transaction that can take back its last step.
#[async_trait]
pub trait Savepoints: Send {
    /// Writes these rows of the batch, or leaves the transaction as it was.
    ///
    /// # Errors
    /// When the transaction is lost.
    async fn attempt(&mut self, rows: Range<usize>) -> Result<Attempt, Failure>;
}

/// Writes every row that is accepted; gives the others, in order, with the reasons. Stops at the first when `first`.
///
/// # Errors
/// When the transaction is lost.
pub async fn write_accepted(transaction: &mut dyn Savepoints, rows: usize, first: bool) -> Result<Refusals, Failure> {
    let mut refused = vec![];
    #[expect(clippy::single_range_in_vec_init, reason = "a stack of ranges, with the whole to begin with")]
    let mut pending = vec![0..rows];
    while let Some(range) = pending.pop() {
        if range.is_empty() {
            continue;
        }
        match transaction.attempt(range.clone()).await? {
            Attempt::Written(left_out) => {
                refused.extend(left_out.into_iter().map(|(row, message)| (range.start + row, message)));
            }
            Attempt::Refused(message) if range.len() == 1 => refused.push((range.start, message)),
            Attempt::Refused(_) => {
                let middle = range.start + range.len() / 2;
                pending.push(middle..range.end);
                pending.push(range.start..middle);
            }
        }
        if first && !refused.is_empty() {
            break;
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory {
        bad: Vec<usize>,
        written: Vec<usize>,
        attempts: usize,
    }

    #[async_trait]
    impl Savepoints for Memory {
        async fn attempt(&mut self, rows: Range<usize>) -> Result<Attempt, Failure> {
            self.attempts += 1;
            if let Some(row) = self.bad.iter().find(|row| rows.contains(row)) {
                return Ok(Attempt::Refused(format!("row {row}")));
            }
            self.written.extend(rows);
            Ok(Attempt::Written(vec![]))
        }
    }

    #[tokio::test]
    async fn it_finds_every_bad_row_and_writes_the_rest_in_order() {
        let mut memory = Memory { bad: vec![0, 617, 618, 999], ..Memory::default() };
        let refused = write_accepted(&mut memory, 1000, false).await.unwrap();
        assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), memory.bad);
        assert_eq!(memory.written, (0..1000).filter(|row| !memory.bad.contains(row)).collect::<Vec<_>>());
        assert!(memory.attempts < 80, "{}", memory.attempts);
    }

    #[tokio::test]
    async fn it_can_stop_at_the_first() {
        let mut memory = Memory { bad: vec![3, 5], ..Memory::default() };
        let refused = write_accepted(&mut memory, 8, true).await.unwrap();
        assert_eq!(refused, [(3, "row 3".to_string())]);
    }
}
