//! A producer's transactions: calls that block in librdkafka, made off the runtime's threads and in short steps, so that
//! a stop is heard.
//!
//! Errors are of three classes. *Call again*: the server is slow or away, and the call goes on where it was. *Refused*:
//! a right or a setting is missing. All else, an abort that is required, a fatal error, a fence, an outcome that is
//! not known, is `Unavailable`: whoever made the producer makes another, whose `init` ends what this one has begun.

use std::time::{Duration, Instant};

use super::errors::classify;
use super::messages::{self, TransactionCall};
use super::producer::{Producer, STEP};
use crate::connectors::ConnectorError;

/// How long to try to end a transaction that has failed, for the sake of readers who wait for its end.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

impl Producer {
    /// Fences every producer with the same transactional id, and ends what it has begun. Waits for the servers.
    pub(super) async fn init(&mut self) -> Result<(), ConnectorError> {
        self.call(TransactionCall::Init, None).await
    }

    /// Begins a transaction; the servers hear of it with the first record.
    pub(super) fn begin(&self) -> Result<(), ConnectorError> {
        messages::transaction(&self.producer, TransactionCall::Begin, STEP)
            .map_err(|error| classify(&self.what, error.code, &error.reason))
    }

    /// Makes the records of the transaction visible. It is of no use to wait longer than `lifetime`, the time after
    /// which the servers give the transaction up.
    pub(super) async fn commit(&mut self, lifetime: Duration) -> Result<(), ConnectorError> {
        self.troubles.lock().disturbed = false;
        self.call(TransactionCall::Commit, Some(lifetime)).await
    }

    /// Ends the transaction without a trace, if that is to be had soon.
    pub(super) async fn abort(&mut self) {
        if let Err(error) = self.call(TransactionCall::Abort, Some(ABORT_PATIENCE)).await {
            tracing::debug!("could not end a transaction: {error}");
        }
    }

    /// Whether a connection broke since the last commit began, so that a request to end the transaction may still be
    /// on its way.
    pub(super) fn was_disturbed(&self) -> bool {
        self.troubles.lock().disturbed
    }

    async fn call(&mut self, call: TransactionCall, patience: Option<Duration>) -> Result<(), ConnectorError> {
        let since = Instant::now();
        loop {
            let producer = self.producer.clone();
            let made = tokio::task::spawn_blocking(move || messages::transaction(&producer, call, STEP)).await;
            match made {
                Ok(Ok(())) => {
                    self.outage.up(&self.what);
                    self.troubles.lock().last = None;
                    return Ok(());
                }
                Ok(Err(error)) if !error.call_again => {
                    // The first trouble says more than what follows from it.
                    self.check()?;
                    return Err(classify(&self.what, error.code, &error.reason));
                }
                Ok(Err(error)) if patience.is_some_and(|patience| since.elapsed() > patience) => {
                    return Err(self.unavailable(error.reason));
                }
                // An abort is made in the course of a stop, too.
                _ if self.stop.is_cancelled() && !matches!(call, TransactionCall::Abort) => return Err(self.stopped()),
                Ok(Err(_)) => {
                    self.check()?;
                    self.report(since);
                }
                Err(_) => return Err(self.stopped()),
            }
        }
    }
}
