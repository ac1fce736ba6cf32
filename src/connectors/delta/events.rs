//! A source whose reading is a task of its own, a little ahead of who asks: so nothing is lost when nobody waits for
//! the next event any more, and files are decoded while the pipeline works.

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::reading::refused;
use crate::connectors::{ConnectorError, Source, SourceEvent};

/// Events that are read before they are asked for.
const READ_AHEAD: usize = 2;

/// Where the reading task puts events. It is told by an error when nobody wants more.
pub(super) struct Outlet(mpsc::Sender<Result<SourceEvent, ConnectorError>>);

/// Nobody wants more events.
pub(super) struct Unwanted;

/// Why a reading task ends early.
pub(super) enum Halt {
    Unwanted,
    Failed(ConnectorError),
}

impl From<Unwanted> for Halt {
    fn from(_: Unwanted) -> Halt {
        Halt::Unwanted
    }
}

impl From<ConnectorError> for Halt {
    fn from(error: ConnectorError) -> Halt {
        Halt::Failed(error)
    }
}

impl Outlet {
    pub(super) async fn send(&self, event: SourceEvent) -> Result<(), Unwanted> {
        self.0.send(Ok(event)).await.map_err(|_| Unwanted)
    }
}

/// The receiving end.
pub(super) struct Events {
    events: mpsc::Receiver<Result<SourceEvent, ConnectorError>>,
    what: String,
    origin: Option<String>,
    stop: CancellationToken,
    ended: bool,
}

impl Events {
    /// Starts `read`; when it is done the source has come to its end.
    pub(super) fn of<F>(what: String, origin: Option<String>, stop: CancellationToken, read: F) -> Events
    where
        F: Reading,
    {
        let (sender, events) = mpsc::channel(READ_AHEAD);
        tokio::spawn(async move {
            let outlet = Outlet(sender);
            let last = match read.read(&outlet).await {
                Ok(()) => Ok(SourceEvent::End),
                Err(Halt::Failed(error)) => Err(error),
                Err(Halt::Unwanted) => return,
            };
            // Nobody may listen any more.
            let _ = outlet.0.send(last).await;
        });
        Events { events, what, origin, stop, ended: false }
    }
}

/// Reads something to its end.
#[async_trait]
pub(super) trait Reading: Send + 'static {
    /// Sends all that there is.
    async fn read(self, outlet: &Outlet) -> Result<(), Halt>;
}

#[async_trait]
impl Source for Events {
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
            return Err(refused(&self.what, "the task that reads it has died: a defect of Acequia"));
        };
        self.ended = matches!(event, Ok(SourceEvent::End));
        event
    }

    fn origin(&self) -> Option<String> {
        self.origin.clone()
    }
}
