//! Whether what a destination says it has, and what the checkpoints keep for it, meet: a destination that was restored from
//! a backup may lack rows that nobody has any more.

use thiserror::Error;

use crate::checkpoint::log::Confirmed;
use crate::time::Epoch;

/// A destination lacks rows that are kept no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LostOutput {
    /// Its marker is older than what is kept.
    #[error(
        "it has rows up to epoch {has} and had confirmed those up to epoch {confirmed}; those in between up to epoch \
         {let_go} are kept no more. Was a backup restored? Restore a newer one, begin anew with --fresh, or go on without \
         the rows that are lost with --accept-lost-output"
    )]
    Older {
        /// The marker's epoch.
        has: Epoch,
        /// The last that the checkpoints know to have been there.
        confirmed: Epoch,
        /// The last whose rows are kept no more.
        let_go: Epoch,
    },
    /// It has no marker.
    #[error(
        "it says nothing of this pipeline, which has delivered rows up to epoch {confirmed} to it: it was made anew, or \
         its marker was removed. Go on with the rows that are not delivered yet \
         with --accept-lost-output, or begin anew with --fresh"
    )]
    Unknown {
        /// The last that the checkpoints know to have been delivered.
        confirmed: Epoch,
    },
}

/// The epoch after which a sink goes on that takes whole epochs, given the marker in its destination.
///
/// # Errors
/// When rows after the marker are kept no more.
pub fn goes_on_after(marker: Option<Epoch>, known: Confirmed) -> Result<Option<Epoch>, LostOutput> {
    if known.at_once {
        // Before, it took rows at once, and left no marker.
        return Ok(marker.max(known.settled));
    }
    if known.moved && marker.is_none() {
        // The rows up to there are where it went before.
        return Ok(known.settled);
    }
    let Some(let_go) = known.let_go.filter(|let_go| marker < Some(*let_go)) else { return Ok(marker) };
    let confirmed = known.settled.unwrap_or(let_go);
    Err(match marker {
        Some(has) => LostOutput::Older { has, confirmed, let_go },
        None => LostOutput::Unknown { confirmed },
    })
}

impl LostOutput {
    /// Where it goes on if the loss is accepted: with what is kept, or with what is not delivered yet.
    pub fn accepted(self) -> Epoch {
        match self {
            LostOutput::Older { has, .. } => has,
            LostOutput::Unknown { confirmed } => confirmed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(settled: u64, let_go: Option<u64>) -> Confirmed {
        Confirmed { settled: Some(Epoch(settled)), let_go: let_go.map(Epoch), ..Confirmed::default() }
    }

    #[test]
    fn a_destination_goes_on_where_nothing_between_is_lost() {
        assert_eq!(goes_on_after(None, Confirmed::default()), Ok(None));
        assert_eq!(goes_on_after(None, known(9, None)), Ok(None), "all of it is kept");
        assert_eq!(goes_on_after(Some(Epoch(24)), known(40, Some(24))), Ok(Some(Epoch(24))));
        assert_eq!(goes_on_after(Some(Epoch(41)), known(40, Some(24))), Ok(Some(Epoch(41))), "newer than is known");
    }

    #[test]
    fn rows_that_nobody_has_are_told() {
        let older = goes_on_after(Some(Epoch(3)), known(40, Some(24))).unwrap_err();
        assert_eq!(older.accepted(), Epoch(3));
        assert_eq!(
            older.to_string(),
            "it has rows up to epoch 3 and had confirmed those up to epoch 40; those in between up to epoch 24 are kept no \
             more. Was a backup restored? Restore a newer one, begin anew with --fresh, or go on without the rows that are \
             lost with --accept-lost-output"
        );
        let unknown = goes_on_after(None, known(40, Some(24))).unwrap_err();
        assert_eq!(unknown.accepted(), Epoch(40));
        assert_eq!(
            unknown.to_string(),
            "it says nothing of this pipeline, which has delivered rows up to epoch 40 to it: it was made anew, or its marker \
             was removed. Go on with the rows that are not delivered yet with --accept-lost-output, or begin anew with \
             --fresh"
        );
    }

    #[test]
    fn another_destination_begins_with_what_is_not_delivered_yet() {
        let moved = Confirmed { moved: true, ..known(40, Some(24)) };
        assert_eq!(goes_on_after(None, moved), Ok(Some(Epoch(40))));
        // The same one under another name, perhaps from a backup: what it says counts.
        assert_eq!(goes_on_after(Some(Epoch(38)), moved), Ok(Some(Epoch(38))));
        assert!(goes_on_after(Some(Epoch(3)), moved).is_err());
    }

    #[test]
    fn what_went_there_at_once_needs_no_marker() {
        let at_once = Confirmed { at_once: true, ..known(40, None) };
        assert_eq!(goes_on_after(None, at_once), Ok(Some(Epoch(40))));
        assert_eq!(goes_on_after(Some(Epoch(12)), at_once), Ok(Some(Epoch(40))), "a marker of a time before that");
    }
}
