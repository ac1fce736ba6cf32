//! A task behind an exchange: a gate, a chain of operators, and nothing else.

use tokio::time::{Instant, sleep_until};

use super::RunError;
use super::chain::Chain;
use super::gate::{Gate, GateEvent};
use super::report::{Reporter, TaskSnapshot};

/// Runs a chain behind its gate until all senders have ended.
///
/// # Errors
/// The first failure of an operator.
pub async fn run(mut gate: Gate, mut chain: Chain, reporter: Reporter) -> Result<(), RunError> {
    loop {
        match next(&mut gate, chain.next_tick()).await {
            Some(GateEvent::Batch(input, batch)) => chain.batch(input, batch)?,
            Some(GateEvent::Watermark(watermark)) => chain.watermark(watermark)?,
            Some(GateEvent::Barrier(barrier)) => {
                let operators = chain.barrier(&barrier, gate.take_shown())?;
                deliver(&mut chain).await?;
                reporter.passed(barrier.epoch, TaskSnapshot { operators, ..TaskSnapshot::default() });
            }
            Some(GateEvent::End) => {
                let operators = chain.end();
                deliver(&mut chain).await?;
                reporter.ended(TaskSnapshot { operators, ..TaskSnapshot::default() });
                return Ok(());
            }
            None => {}
        }
        // A busy gate must not keep the timers from going off.
        if chain.next_tick().is_some_and(|at| at <= Instant::now()) {
            chain.tick(Instant::now())?;
        }
        // Rows that a watermark or a timer has set free want an epoch even if nothing is read any more.
        if chain.has_rows() {
            reporter.active();
        }
        deliver(&mut chain).await?;
    }
}

/// The next event, or `None` when a timer is due first.
async fn next(gate: &mut Gate, tick_at: Option<Instant>) -> Option<GateEvent> {
    let Some(at) = tick_at else { return Some(gate.next().await) };
    tokio::select! {
        biased;
        event = gate.next() => Some(event),
        () = sleep_until(at) => None,
    }
}

/// Sends what the chain has put out. When a receiver is gone its task has failed: waits to be stopped with the run.
pub async fn deliver(chain: &mut Chain) -> Result<(), RunError> {
    if !chain.flush().await? {
        std::future::pending::<()>().await;
    }
    Ok(())
}
