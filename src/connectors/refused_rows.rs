//! Rows that a destination refuses: what the table's `on_error` says becomes of them, and the words for it.
//!
//! A refusal is about one row's values (text too long, a broken constraint, a key that cannot be a key), never about
//! the server being away. The databases and Redis share this, so that the option means the same everywhere.

use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::time::Instant;

use super::ConnectorError;
use crate::catalog::options::Options;

/// How much of a row a message shows, in characters.
const SHOWN: usize = 200;
/// Skipped rows are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What becomes of a row that the destination refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnError {
    /// `'fail'`: the pipeline stops with the row and the destination's words.
    #[default]
    Fail,
    /// `'skip'`: the row is left out, counted and logged (at most one line every 10 s).
    Skip,
    /// `'dead_letters'`: as `'skip'`, and the destination keeps the row in a table apart.
    DeadLetters,
}

impl OnError {
    /// Takes the option `on_error` of a destination that has no place for refused rows.
    pub fn take(options: &mut Options) -> OnError {
        options.choice(&["on_error"], &[("fail", OnError::Fail), ("skip", OnError::Skip)]).unwrap_or_default()
    }

    /// Takes the option `on_error` of a destination that can keep refused rows, and keeps them by default.
    pub fn take_with_dead_letters(options: &mut Options) -> OnError {
        let choices = [("dead_letters", OnError::DeadLetters), ("fail", OnError::Fail), ("skip", OnError::Skip)];
        options.choice(&["on_error"], &choices).unwrap_or(OnError::DeadLetters)
    }
}

/// Carries out the policy for one sink.
#[derive(Debug)]
pub struct RefusedRows {
    policy: OnError,
    what: String,
    skipped: u64,
    logged: Option<Instant>,
}

impl RefusedRows {
    /// `what` names the destination in messages, such as `PostgreSQL table events at localhost:5432/shop`.
    pub fn new(policy: OnError, what: impl Into<String>) -> RefusedRows {
        RefusedRows { policy, what: what.into(), skipped: 0, logged: None }
    }

    /// What becomes of refused rows.
    pub fn policy(&self) -> OnError {
        self.policy
    }

    /// How many rows have been left out so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Row `row` of `batch` was refused, for the reason in `message`: counts it, or gives the error to stop with.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] with the row when the policy is [`OnError::Fail`].
    pub fn refuse(&mut self, batch: &RecordBatch, row: usize, message: &str) -> Result<(), ConnectorError> {
        match self.policy {
            OnError::Fail => Err(ConnectorError::Refused {
                what: self.what.clone(),
                message: format!(
                    "{message}; the row is {}. 'on_error' = 'skip' would leave such rows out",
                    row_text(batch, row)
                ),
            }),
            OnError::Skip | OnError::DeadLetters => {
                self.skipped += 1;
                if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                    let (what, total, row) = (&self.what, self.skipped, row_text(batch, row));
                    let done = if self.policy == OnError::Skip { "left a row out" } else { "a row is a dead letter" };
                    tracing::warn!("{what}: {done} ({total} so far): {message}; the row is {row}");
                    self.logged = Some(Instant::now());
                }
                Ok(())
            }
        }
    }
}

/// A row as JSON; `None` if a column's type has no place in JSON.
pub fn row_json(batch: &RecordBatch, row: usize) -> Option<String> {
    let mut bytes = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut bytes);
    writer.write(&batch.slice(row, 1)).and_then(|()| writer.finish()).ok()?;
    drop(writer);
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// A row as JSON for a message, cut to 200 characters.
pub fn row_text(batch: &RecordBatch, row: usize) -> String {
    let Some(text) = row_json(batch, row) else { return format!("number {row} of its batch") };
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(name: &str) -> RecordBatch {
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec!["a", name])) as ArrayRef),
        ])
        .unwrap()
    }

    #[test]
    fn failing_names_the_row_and_the_way_out() {
        let mut refused = RefusedRows::new(OnError::Fail, "PostgreSQL table t at localhost:5432/shop");
        let error = refused.refuse(&batch("b"), 1, "value too long").unwrap_err();
        assert_eq!(
            error.to_string(),
            "PostgreSQL table t at localhost:5432/shop: value too long; the row is {\"id\":2,\"name\":\"b\"}. \
             'on_error' = 'skip' would leave such rows out"
        );
    }

    #[test]
    fn skipping_counts() {
        for policy in [OnError::Skip, OnError::DeadLetters] {
            let mut refused = RefusedRows::new(policy, "a table");
            for _ in 0..3 {
                refused.refuse(&batch("b"), 1, "value too long").unwrap();
            }
            assert_eq!(refused.skipped(), 3);
        }
    }

    #[test]
    fn what_becomes_of_them_depends_on_where_they_can_be_kept() {
        let options = |text: &'static str| crate::connectors::sql_table::tests::options(&[("on_error", text)]);
        let none = || crate::connectors::sql_table::tests::options(&[]);
        assert_eq!(OnError::take(&mut none()), OnError::Fail);
        assert_eq!(OnError::take_with_dead_letters(&mut none()), OnError::DeadLetters);
        assert_eq!(OnError::take_with_dead_letters(&mut options("fail")), OnError::Fail);
        let mut wrong = options("dead_letters");
        OnError::take(&mut wrong);
        let errors = wrong.finish("redis");
        assert_eq!(errors[0].message, "option 'on_error' does not take 'dead_letters'");
        assert_eq!(errors[0].help.as_deref(), Some("it takes 'fail' or 'skip'"));
    }

    #[test]
    fn a_long_row_is_cut_between_characters() {
        let text = row_text(&batch(&"é".repeat(500)), 1);
        assert_eq!(text.chars().count(), SHOWN + 1);
        assert!(text.ends_with("é…"), "{text}");
    }
}
