//! The receiving end of a source that reads ahead, in a thread or a task of its own: so nothing is lost when nobody waits
//! for the next event any more, and reading goes on while the pipeline works.

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ConnectorError, Source, SourceEvent};

/// Events that are read before they are asked for.
const AHEAD: usize = 2;

/// Where the reader puts events. An error to it says that nobody wants more.
pub(super) type Sender = mpsc::Sender<Result<SourceEvent, ConnectorError>>;

/// A source whose events come from a reader. Ends with [`SourceEvent::End`].
pub(super) struct ReadAhead {
    events: mpsc::Receiver<Result<SourceEvent, ConnectorError>>,
    what: String,
    origin: Option<String>,
    stop: CancellationToken,
    ended: bool,
}

impl ReadAhead {
    /// A source, and where its reader puts what it has read of `what`.
    pub(super) fn new(what: String, origin: Option<String>, stop: CancellationToken) -> (Sender, ReadAhead) {
        let (sender, events) = mpsc::channel(AHEAD);
        (sender, ReadAhead { events, what, origin, stop, ended: false })
    }
}

#[async_trait]
impl Source for ReadAhead {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        if self.ended {
            return Ok(SourceEvent::End);
        }
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = self.stop.cancelled() => return Err(ConnectorError::Stopped { what: self.what.clone() }),
        };
        let Some(event) = event else {
            let message = "what reads it has died: a defect of Acequia".into();
            return Err(ConnectorError::Refused { what: self.what.clone(), message });
        };
        self.ended = matches!(event, Ok(SourceEvent::End));
        event
    }

    fn origin(&self) -> Option<String> {
        self.origin.clone()
    }
}
