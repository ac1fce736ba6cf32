//! A query at work: its rows on their way to a client, and everything that ends it before its time.
//!
//! A task of its own drives the plan and hands each batch over as the client takes the one before, so that nothing is
//! gathered and a slow client slows its own query only. What ends a query early is seen by that task, and not by the
//! stream that the client may have stopped to read: its memory is given back at once.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{plain, status};
use crate::console::FlightFigures;
use crate::history::HistoryError;

/// Batches between the plan and the client.
const AHEAD: usize = 1;

/// What ends a query early.
pub struct Ending {
    /// The client, by an action.
    pub cancelled: CancellationToken,
    /// The server's own end.
    pub server: CancellationToken,
    /// So long may a query take, with the time that its client needs to read it.
    pub patience: Duration,
}

impl Ending {
    async fn reached(&self, deadline: tokio::time::Instant) -> Status {
        tokio::select! {
            () = self.cancelled.cancelled() => Status::cancelled("the query was cancelled"),
            () = self.server.cancelled() => Status::unavailable("the server stops"),
            () = tokio::time::sleep_until(deadline) => Status::deadline_exceeded(format!(
                "the query was stopped after {} (--query-timeout)", humantime::format_duration(self.patience)
            )),
        }
    }
}

/// Runs `batches` to their end, or until `ending` comes before it; gives them as they are sent. What the query holds while
/// it is at work is `held`, and given back at its end.
pub fn send(
    batches: impl Future<Output = Result<BoxStream<'static, Result<RecordBatch, HistoryError>>, HistoryError>>
    + Send
    + 'static,
    schema: SchemaRef,
    ending: Ending,
    figures: Arc<FlightFigures>,
    held: impl Send + 'static,
) -> BoxStream<'static, Result<FlightData, Status>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (say, said) = oneshot::channel();
    let sent = Arc::clone(&schema);
    figures.queries.fetch_add(1, Relaxed);
    let active = Active::new(figures);
    tokio::spawn(async move {
        let deadline = tokio::time::Instant::now() + ending.patience;
        let outcome = tokio::select! {
            biased;
            early = ending.reached(deadline) => Err(early),
            // The client has gone: nobody is told.
            () = sender.closed() => Err(Status::cancelled("the client has gone")),
            outcome = drive(batches, &schema, &sender, &active.0) => outcome,
        };
        if outcome.is_err() {
            active.0.failed.fetch_add(1, Relaxed);
        }
        // First all is given back, then it is said.
        drop((held, active));
        let _ = say.send(outcome);
    });
    FlightDataEncoderBuilder::new().with_schema(sent).build(received(receiver, said)).map_err(Status::from).boxed()
}

/// Counts a query as active while it is there.
struct Active(Arc<FlightFigures>);

impl Active {
    fn new(figures: Arc<FlightFigures>) -> Active {
        figures.active.fetch_add(1, Relaxed);
        Active(figures)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

async fn drive(
    batches: impl Future<Output = Result<BoxStream<'static, Result<RecordBatch, HistoryError>>, HistoryError>>,
    schema: &SchemaRef,
    sender: &mpsc::Sender<RecordBatch>,
    figures: &FlightFigures,
) -> Result<(), Status> {
    let mut batches = batches.await.map_err(|error| status::of_history(&error))?;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| status::of_history(&error))?;
        let batch = plain::rows(&batch, schema).map_err(|error| Status::internal(error.to_string()))?;
        figures.rows.fetch_add(batch.num_rows() as u64, Relaxed);
        // Closed: the client has gone.
        if sender.send(batch).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What came, and how it ended.
fn received(
    receiver: mpsc::Receiver<RecordBatch>,
    said: oneshot::Receiver<Result<(), Status>>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send {
    futures::stream::unfold((receiver, Some(said)), |(mut receiver, mut said)| async move {
        if let Some(batch) = receiver.recv().await {
            return Some((Ok(batch), (receiver, said)));
        }
        let failure = match said.take()?.await {
            Ok(Ok(())) => return None,
            Ok(Err(status)) => status,
            // The task has panicked, which is in the log.
            Err(_) => Status::internal("the query has failed, by a defect of the server: its log has more"),
        };
        Some((Err(FlightError::from(failure)), (receiver, None)))
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use tokio::sync::Semaphore;

    use super::*;

    struct Running {
        figures: Arc<FlightFigures>,
        slots: Arc<Semaphore>,
        cancelled: CancellationToken,
        server: CancellationToken,
    }

    impl Running {
        fn new() -> Running {
            Running {
                figures: Arc::default(),
                slots: Arc::new(Semaphore::new(1)),
                cancelled: CancellationToken::new(),
                server: CancellationToken::new(),
            }
        }

        fn send(
            &self,
            batches: impl Stream<Item = Result<RecordBatch, HistoryError>> + Send + 'static,
        ) -> BoxStream<'static, Result<FlightData, Status>> {
            let ending = Ending {
                cancelled: self.cancelled.clone(),
                server: self.server.clone(),
                patience: Duration::from_secs(60),
            };
            let slot = Arc::clone(&self.slots).try_acquire_owned().unwrap();
            send(async { Ok(batches.boxed()) }, batch(0).schema(), ending, Arc::clone(&self.figures), slot)
        }

        /// Queries begun, failed, active, and free places.
        fn counts(&self) -> (u64, u64, u64, usize) {
            let figures = &self.figures;
            let (queries, failed, active) = (&figures.queries, &figures.failed, &figures.active);
            (queries.load(Relaxed), failed.load(Relaxed), active.load(Relaxed), self.slots.available_permits())
        }
    }

    fn batch(value: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![value])) as ArrayRef)]).unwrap()
    }

    fn endless() -> impl Stream<Item = Result<RecordBatch, HistoryError>> + Send {
        futures::stream::iter(0..).map(|value| Ok(batch(value)))
    }

    async fn code_at_end(mut stream: BoxStream<'static, Result<FlightData, Status>>) -> Option<(tonic::Code, String)> {
        while let Some(item) = stream.next().await {
            if let Err(status) = item {
                return Some((status.code(), status.message().to_owned()));
            }
        }
        None
    }

    #[tokio::test]
    async fn all_rows_come_and_the_place_is_free_again() {
        let running = Running::new();
        let sent: Vec<_> = running.send(endless().take(3)).collect().await;
        // The schema, and the batches.
        assert_eq!(sent.iter().filter(|item| item.is_ok()).count(), 4);
        assert_eq!((running.counts(), running.figures.rows.load(Relaxed)), ((1, 0, 0, 1), 3));
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_can_be_cancelled() {
        let running = Running::new();
        let stream = running.send(endless());
        running.cancelled.cancel();
        while running.counts().2 > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(running.counts(), (1, 1, 0, 1), "all is given back although nobody has read");
        assert_eq!(code_at_end(stream).await, Some((tonic::Code::Cancelled, "the query was cancelled".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_takes_too_long_is_stopped() {
        let running = Running::new();
        let (code, said) = code_at_end(running.send(futures::stream::pending())).await.unwrap();
        assert_eq!(code, tonic::Code::DeadlineExceeded);
        assert_eq!(said, "the query was stopped after 1m (--query-timeout)");
        assert_eq!(running.counts(), (1, 1, 0, 1));
    }

    #[tokio::test]
    async fn a_client_that_goes_stops_its_query() {
        let running = Running::new();
        drop(running.send(futures::stream::pending()));
        while running.counts().2 > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(running.counts(), (1, 1, 0, 1));
    }

    #[tokio::test]
    async fn the_end_of_the_server_and_failures_are_told() {
        let running = Running::new();
        running.server.cancel();
        let stopped = code_at_end(running.send(futures::stream::pending())).await;
        assert_eq!(stopped, Some((tonic::Code::Unavailable, "the server stops".into())));

        let running = Running::new();
        let failing = endless().take(2).chain(futures::stream::iter([Err(HistoryError::Running("no".into()))]));
        assert_eq!(code_at_end(running.send(failing)).await, Some((tonic::Code::Internal, "no".into())));
        let panicking = endless().map(|batch| if false { batch } else { panic!("planted") });
        let (code, said) = code_at_end(running.send(panicking)).await.unwrap();
        assert_eq!((code, said.contains("its log has more")), (tonic::Code::Internal, true));
        assert_eq!(running.counts(), (2, 1, 0, 1));
    }
}
