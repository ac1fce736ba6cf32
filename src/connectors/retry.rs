//! Waiting for a server that is away: backoff, a log line a person can use, and an end when the pipeline stops.

use std::future::Future;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

use super::ConnectorError;

/// Tries `attempt` until it gives something other than [`ConnectorError::Unavailable`].
///
/// The pause grows from 100 ms to 10 s, with jitter. The first failure is logged, then every one at the long pause;
/// so is the return. `what` names the part and its address, such as `Redis at localhost:6379`.
///
/// # Errors
/// [`ConnectorError::Stopped`] when `stop` is cancelled; otherwise what `attempt` says.
pub async fn until_available<T, F, Fut>(
    what: &str,
    stop: &CancellationToken,
    mut attempt: F,
) -> Result<T, ConnectorError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, ConnectorError>>,
{
    let began = Instant::now();
    let mut failures = 0_u32;
    let mut last_logged: Option<Instant> = None;
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        let outcome = tokio::select! {
            outcome = attempt() => outcome,
            () = stop.cancelled() => return Err(ConnectorError::Stopped { what: what.into() }),
        };
        match outcome {
            Err(ConnectorError::Unavailable { message, .. }) => {
                failures += 1;
                let pause = pauses.next().unwrap_or(Duration::from_secs(10));
                if last_logged.is_none_or(|at| at.elapsed() >= Duration::from_secs(10)) {
                    tracing::warn!("waiting for {what}: {message} (attempt {failures})");
                    last_logged = Some(Instant::now());
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return Err(ConnectorError::Stopped { what: what.into() }),
                }
            }
            outcome => {
                if failures > 0 && outcome.is_ok() {
                    tracing::info!("{what} is back after {:.1} s", began.elapsed().as_secs_f64());
                }
                return outcome;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> ConnectorError {
        ConnectorError::Unavailable { what: "a part".into(), message: "connection refused".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_until_the_server_answers() {
        let mut attempts = 0;
        let stop = CancellationToken::new();
        let outcome = until_available("a part", &stop, || {
            attempts += 1;
            let answer = if attempts < 5 { Err(away()) } else { Ok(attempts) };
            async move { answer }
        });
        assert_eq!(outcome.await.unwrap(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_when_told_to_stop() {
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            stopper.cancel();
        });
        let outcome = until_available("a part", &stop, || async { Err::<(), _>(away()) }).await;
        assert_eq!(outcome.unwrap_err().to_string(), "stopped while waiting for a part");
    }

    #[tokio::test]
    async fn a_refusal_is_not_tried_again() {
        let mut attempts = 0;
        let stop = CancellationToken::new();
        let outcome = until_available("a part", &stop, || {
            attempts += 1;
            async { Err::<(), _>(ConnectorError::Refused { what: "a part".into(), message: "no rights".into() }) }
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "a part: no rights");
        assert_eq!(attempts, 1);
    }
}
