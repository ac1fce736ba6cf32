//! How `generate` is going, on stderr: a live line on a terminal, a log line each so many events elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress::Shown;
use super::summary::thousands;
use crate::generator::{Figures, Written};

/// What is said at the first signal.
pub const STOPPING: &str = "stopping: no more events, those on their way are written (again to stop at once)";

const LIVE_INTERVAL: Duration = Duration::from_millis(500);
/// At high rates a line for each so many events would be read by nobody.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Shows progress until dropped: a log line each `every` events, or a live line on a terminal, with a bar if it is known
/// how many events there will be.
pub async fn show(figures: Arc<Figures>, every: u64, total: Option<u64>) {
    if std::io::stderr().is_terminal() {
        show_live(&figures, total).await;
    } else {
        log(&figures, every).await;
    }
}

async fn show_live(figures: &Figures, total: Option<u64>) {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = if total.is_some() { "{spinner} {bar:20} {percent}% {msg}" } else { "{spinner} {msg}" };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let _shown = Shown::new(bar.clone());
    let mut pace = Pace::new(figures.now().events);
    loop {
        tokio::time::sleep(LIVE_INTERVAL).await;
        let written = figures.now();
        bar.set_message(line(&written, pace.rate(written.events)));
        bar.set_position(written.events);
    }
}

async fn log(figures: &Figures, every: u64) {
    let mut next = every;
    let mut pace = Pace::new(figures.now().events);
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        let written = figures.now();
        if written.events >= next {
            tracing::info!("{}", line(&written, pace.rate(written.events)));
            next = (written.events / every + 1) * every;
        }
    }
}

/// Events a second since the last look.
struct Pace {
    events: u64,
    at: Instant,
}

impl Pace {
    fn new(events: u64) -> Pace {
        Pace { events, at: Instant::now() }
    }

    fn rate(&mut self, events: u64) -> f64 {
        let rate = (events - self.events) as f64 / self.at.elapsed().as_secs_f64().max(0.001);
        *self = Pace::new(events);
        rate
    }
}

fn line(written: &Written, rate: f64) -> String {
    let at = DateTime::from_timestamp_millis(written.event_time).unwrap_or_default();
    format!("{} · {} events/s · at {}", counts(written), per_second(rate), at.format("%Y-%m-%d %H:%M:%S"))
}

/// The closing line.
pub fn closing(written: &Written, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = written.events as f64 / seconds.max(0.001);
    format!("{}, in {seconds:.2} s ({} events/s)", counts(written), per_second(rate))
}

fn counts(written: &Written) -> String {
    format!(
        "{} events: {} transactions ({} items, {}.{:02}), {} behaviour, {} interactions",
        thousands(written.events),
        thousands(written.transactions),
        thousands(written.items),
        thousands(written.cents / 100),
        written.cents % 100,
        thousands(written.behaviour()),
        thousands(written.interactions),
    )
}

fn per_second(rate: f64) -> String {
    if rate < 9.95 { format!("{rate:.1}") } else { thousands(rate.round() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_counts_money_and_pace() {
        let written = Written {
            events: 1250,
            transactions: 875,
            items: 2412,
            cents: 12_345_605,
            interactions: 22,
            event_time: 1_769_860_800_500,
        };
        assert_eq!(
            line(&written, 9.96),
            "1,250 events: 875 transactions (2,412 items, 123,456.05), 353 behaviour, 22 interactions · 10 events/s · \
             at 2026-01-31 12:00:00"
        );
        assert_eq!(
            closing(&written, Duration::from_millis(500)),
            "1,250 events: 875 transactions (2,412 items, 123,456.05), 353 behaviour, 22 interactions, in 0.50 s (2,500 \
             events/s)"
        );
        assert_eq!(per_second(0.46), "0.5");
    }
}
