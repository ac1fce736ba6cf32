//! Reading as a task that is a little ahead of who asks: files are decoded while the pipeline works.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::connectors::read_ahead::{ReadAhead, Sender};
use crate::connectors::{ConnectorError, Source, SourceEvent};

/// Where the reading task puts events. It is told by an error when nobody wants more.
pub(super) struct Outlet(Sender);

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

/// Starts `reading`; when it is done the source has come to its end.
pub(super) fn read_ahead(
    what: String,
    origin: Option<String>,
    stop: CancellationToken,
    reading: impl Reading,
) -> Box<dyn Source> {
    let (sender, source) = ReadAhead::new(what, origin, stop);
    tokio::spawn(async move {
        let outlet = Outlet(sender);
        let last = match reading.read(&outlet).await {
            Ok(()) => Ok(SourceEvent::End),
            Err(Halt::Failed(error)) => Err(error),
            Err(Halt::Unwanted) => return,
        };
        // Nobody may listen any more.
        let _ = outlet.0.send(last).await;
    });
    Box::new(source)
}

/// Reads something to its end.
#[async_trait]
pub(super) trait Reading: Send + 'static {
    /// Sends all that there is.
    async fn read(self, outlet: &Outlet) -> Result<(), Halt>;
}
