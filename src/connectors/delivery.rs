//! How rows reach a destination, each once: whole epochs with a marker, or at once and again without harm.
//!
//! A sink that adds rows gets them by the epoch ([`EpochSink`]): rows and a [`Marker`] that names the epoch become
//! visible together, so that a second delivery after a crash is recognised. A sink whose rows replace one another gets
//! them at once ([`super::Sink`]): writing them again changes nothing. Both fence their predecessor when they open: what
//! it may still have under way must not arrive any more. Only then is the marker read, because before the fence it can
//! still move.

use std::fmt;

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::{ConnectorError, Sink};
use crate::catalog::options::Options;
use crate::time::{Epoch, Incarnation, LogId};

/// When a destination gets its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// As they come. After a restart some are written again.
    AtOnce,
    /// When their epoch is durable, together with a marker.
    PerEpoch,
}

/// What the option `delivery` promises to those who read the destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Promise {
    /// `'exactly_once'`.
    #[default]
    ExactlyOnce,
    /// `'at_least_once'`: rows come sooner, and after a crash some come again.
    AtLeastOnce,
}

impl Promise {
    /// Takes the option `delivery`, which Arroyo calls `sink.commit_mode`.
    pub fn take(options: &mut Options) -> Promise {
        let choices = [
            ("exactly_once", Promise::ExactlyOnce),
            ("at_least_once", Promise::AtLeastOnce),
            ("exactly-once", Promise::ExactlyOnce),
            ("at-least-once", Promise::AtLeastOnce),
        ];
        options.choice(&["delivery", "sink.delivery", "sink.commit_mode"], &choices).unwrap_or_default()
    }
}

/// An open sink.
pub enum OpenSink {
    /// Takes rows as they come.
    AtOnce(Box<dyn Sink>),
    /// Takes whole epochs.
    PerEpoch {
        /// The sink.
        sink: Box<dyn EpochSink>,
        /// The marker found after fencing: the last epoch that the destination has. `None` if it has none.
        settled: Option<Epoch>,
    },
}

impl OpenSink {
    /// The sink that takes rows at once, if that is what was opened: what a run without checkpoints gets.
    pub fn at_once(self) -> Option<Box<dyn Sink>> {
        match self {
            OpenSink::AtOnce(sink) => Some(sink),
            OpenSink::PerEpoch { .. } => None,
        }
    }
}

/// Takes whole epochs. Calls come one at a time.
#[async_trait]
pub trait EpochSink: Send {
    /// Brings the rows of an epoch in together with its marker, or finds that they are there. Epochs rise from call to
    /// call, with gaps where an epoch has no rows or comes with a later one ([`EpochSink::takes_several`]).
    ///
    /// Returns the last epoch that is settled: in the destination for good. That is `epoch` itself, or an earlier one
    /// for a sink that gathers several epochs before they become visible. If it is lower than what was returned
    /// before, the destination has lost what it had confirmed, and the caller delivers from there again.
    ///
    /// A server that is away is waited for, with a log line and backoff, inside this call. After an outcome that is
    /// not known, the marker decides.
    ///
    /// # Errors
    /// When waiting cannot help; [`ConnectorError::Fenced`] when a newer instance has taken over.
    async fn deliver(&mut self, epoch: Epoch, rows: &[RecordBatch]) -> Result<Epoch, ConnectorError>;

    /// Makes what is gathered visible if it is due, or, with `now`, whether or not it is due. Called now and then, and
    /// with `now` before [`EpochSink::close`]. Returns what is settled, `None` when nothing ever was.
    ///
    /// # Errors
    /// As for [`EpochSink::deliver`].
    async fn settle(&mut self, _now: bool) -> Result<Option<Epoch>, ConnectorError> {
        Ok(None)
    }

    /// The last call: closes files and connections.
    ///
    /// # Errors
    /// As for [`EpochSink::deliver`].
    async fn close(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// Whether epochs that have fallen behind may come as one, with the last one's number and the rows of all in order.
    /// Only for a sink that brings a delivery in whole or not at all: another run may put the same epochs together in
    /// another way.
    fn takes_several(&self) -> bool {
        false
    }

    /// How many rows the destination has refused so far, and the sink has left out or put apart.
    fn refused(&self) -> u64 {
        0
    }
}

/// Who writes: what markers carry, and what fences are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Writer {
    /// The pipeline's name. With the table's name it names the marker in the destination.
    pub pipeline: String,
    /// The checkpoint log that counts the epochs.
    pub log: LogId,
    /// Which run of the pipeline this is; a higher one fences all lower ones.
    pub incarnation: Incarnation,
    /// The epoch that this run goes on from; 0 at a start from nothing.
    pub resumed: Epoch,
    /// Told to begin anew (`--fresh`): markers of other logs and of later epochs are replaced, not refused.
    pub fresh: bool,
}

/// What a destination says about the last epoch that it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// The checkpoint log that counted it.
    pub log: LogId,
    /// The run that wrote it.
    pub incarnation: Incarnation,
    /// The epoch.
    pub epoch: Epoch,
}

impl Writer {
    /// The marker of `epoch`.
    pub fn marker(&self, epoch: Epoch) -> Marker {
        Marker { log: self.log.clone(), incarnation: self.incarnation, epoch }
    }

    /// From which epoch on `what` needs rows, given the marker found in it *after* fencing: the last one it has.
    ///
    /// # Errors
    /// [`ConnectorError::Fenced`] when a later run has been there; [`ConnectorError::Mismatch`] when its rows belong to
    /// checkpoints that are not here, so that going on would write some of them twice.
    pub fn resume(&self, what: &str, found: Option<&Marker>) -> Result<Option<Epoch>, ConnectorError> {
        let Some(found) = found else { return Ok(None) };
        let mismatch = |message: String| ConnectorError::Mismatch { what: what.into(), message };
        if found.log != self.log {
            return match self.fresh || found.epoch == Epoch::default() {
                // Nothing was delivered by it.
                true => Ok(None),
                false => Err(mismatch(format!(
                    "it was written by pipeline {} with other checkpoints (log {}, epoch {}), which are not the ones \
                     in use (log {}): point --checkpoints to those, or begin anew with --fresh: rows already there stay",
                    self.pipeline, found.log, found.epoch, self.log
                ))),
            };
        }
        if found.incarnation > self.incarnation {
            return Err(self.fenced(what, found));
        }
        if found.epoch > self.resumed && found.incarnation < self.incarnation {
            return match self.fresh {
                true => Ok(None),
                false => Err(mismatch(format!(
                    "it has rows up to epoch {}, but this run goes on from epoch {}: the rows between would be written \
                     twice. Restore the checkpoints that are missing, or remove those rows and go on with --fresh",
                    found.epoch, self.resumed
                ))),
            };
        }
        Ok(Some(found.epoch))
    }

    /// A later run has taken over `what`.
    pub fn fenced(&self, what: &str, found: &Marker) -> ConnectorError {
        ConnectorError::Fenced {
            what: what.into(),
            message: format!(
                "run {} of pipeline {} has taken over from this one, run {}",
                found.incarnation, self.pipeline, self.incarnation
            ),
        }
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of log {}, run {}", self.epoch, self.log, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(fresh: bool) -> Writer {
        let (log, incarnation) = (LogId("ours".into()), Incarnation(3));
        Writer { pipeline: "shop".into(), log, incarnation, resumed: Epoch(10), fresh }
    }

    fn marker(log: &str, incarnation: u64, epoch: u64) -> Marker {
        Marker { log: LogId(log.into()), incarnation: Incarnation(incarnation), epoch: Epoch(epoch) }
    }

    fn refusal(found: &Marker) -> String {
        writer(false).resume("PostgreSQL table t", Some(found)).unwrap_err().to_string()
    }

    #[test]
    fn a_destination_goes_on_after_its_marker() {
        assert_eq!(writer(false).resume("t", None).unwrap(), None);
        assert_eq!(writer(false).resume("t", Some(&marker("ours", 2, 9))).unwrap(), Some(Epoch(9)));
        assert_eq!(writer(false).resume("t", Some(&marker("ours", 2, 10))).unwrap(), Some(Epoch(10)));
        // Our own, after a connection was lost.
        assert_eq!(writer(false).resume("t", Some(&marker("ours", 3, 14))).unwrap(), Some(Epoch(14)));
    }

    #[test]
    fn a_later_run_fences_this_one() {
        assert_eq!(
            refusal(&marker("ours", 4, 9)),
            "PostgreSQL table t: run 4 of pipeline shop has taken over from this one, run 3"
        );
    }

    #[test]
    fn rows_of_other_checkpoints_are_not_written_twice() {
        assert_eq!(
            refusal(&marker("theirs", 1, 7)),
            "PostgreSQL table t: it was written by pipeline shop with other checkpoints (log theirs, epoch 7), which \
             are not the ones in use (log ours): point --checkpoints to those, or begin anew with --fresh: rows already \
             there stay"
        );
        assert_eq!(
            refusal(&marker("ours", 2, 12)),
            "PostgreSQL table t: it has rows up to epoch 12, but this run goes on from epoch 10: the rows between would \
             be written twice. Restore the checkpoints that are missing, or remove those rows and go on with --fresh"
        );
        assert_eq!(writer(false).resume("t", Some(&marker("theirs", 1, 0))).unwrap(), None, "nothing of it is there");
        assert_eq!(writer(true).resume("t", Some(&marker("theirs", 1, 7))).unwrap(), None);
        assert_eq!(writer(true).resume("t", Some(&marker("ours", 2, 12))).unwrap(), None);
    }
}
