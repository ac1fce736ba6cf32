//! How a run is going, on stderr: a live line on a terminal, a log line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::summary::thousands;
use crate::console::{Console, Figures};

/// The live line that is being shown, for [`super::logs`] to step around.
pub static LIVE: Mutex<Option<ProgressBar>> = Mutex::new(None);

const LIVE_INTERVAL: Duration = Duration::from_millis(500);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Shows progress until dropped. `live` asks for the live line, which a terminal on stderr must back.
pub async fn show(console: Arc<Console>, live: bool) {
    if live && std::io::stderr().is_terminal() {
        show_live(&console).await;
    } else {
        log(&console).await;
    }
}

async fn show_live(console: &Console) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let _shown = Shown::new(bar.clone());
    let mut pace = Pace::new(console.figures().rows_in);
    loop {
        tokio::time::sleep(LIVE_INTERVAL).await;
        let figures = console.figures();
        let rate = pace.rate(figures.rows_in);
        bar.set_message(line(&figures, rate, console.furthest_behind(), console.trouble(), SystemTime::now()));
        bar.tick();
    }
}

async fn log(console: &Console) {
    let mut pace = Pace::new(console.figures().rows_in);
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        let figures = console.figures();
        let rate = pace.rate(figures.rows_in);
        tracing::info!("{}", line(&figures, rate, console.furthest_behind(), console.trouble(), SystemTime::now()));
    }
}

/// Takes the live line away when what it shows ends, however it ends.
pub struct Shown(ProgressBar);

impl Shown {
    /// `bar` is the live line from now on.
    pub fn new(bar: ProgressBar) -> Shown {
        *LIVE.lock() = Some(bar.clone());
        Shown(bar)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut live = LIVE.lock();
        self.0.finish_and_clear();
        *live = None;
    }
}

/// Events a second since the last look.
struct Pace {
    rows: u64,
    at: Instant,
}

impl Pace {
    fn new(rows: u64) -> Pace {
        Pace { rows, at: Instant::now() }
    }

    fn rate(&mut self, rows: u64) -> u64 {
        let seconds = self.at.elapsed().as_secs_f64();
        let new = rows.saturating_sub(self.rows);
        *self = Pace::new(rows);
        if seconds > 0.0 { (new as f64 / seconds).round() as u64 } else { 0 }
    }
}

/// The figures on one line. What is zero and worth a look only when it is not is left out.
fn line(
    figures: &Figures,
    rate: u64,
    furthest_behind: Option<(&str, u64)>,
    trouble: Option<String>,
    now: SystemTime,
) -> String {
    let mut parts = vec![
        format!("{} events/s", thousands(rate)),
        format!("{} in", thousands(figures.rows_in)),
        format!("{} out", thousands(figures.rows_out)),
        format!("lag {}", thousands(figures.lag)),
    ];
    if let Some(age) = figures.watermark_age(now) {
        parts.push(format!("watermark {} ago", short(age)));
    }
    parts.push(format!("state {}", bytes(figures.state_bytes)));
    if figures.late_rows > 0 {
        parts.push(format!("{} late", thousands(figures.late_rows)));
    }
    if figures.bad_rows > 0 {
        parts.push(format!("{} bad", thousands(figures.bad_rows)));
    }
    if figures.undelivered_rows > 0 {
        let table = furthest_behind.map(|(table, rows)| format!(" ({} to {table})", thousands(rows)));
        parts.push(format!("{} undelivered{}", thousands(figures.undelivered_rows), table.unwrap_or_default()));
    }
    parts.extend(trouble);
    parts.join(" · ")
}

/// `4.2 s`, `3 min`, `5 h`, `12 d`: one figure is enough.
fn short(time: Duration) -> String {
    match time.as_secs() {
        0..120 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// `512 B`, `1.5 KB`, `20.0 MB`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KB", "MB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::EventTime;

    #[test]
    fn a_line_has_what_matters_and_no_more() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let mut figures = Figures { rows_in: 12_345, rows_out: 67, state_bytes: 1536, ..Figures::default() };
        assert_eq!(line(&figures, 1000, None, None, now), "1,000 events/s · 12,345 in · 67 out · lag 0 · state 1.5 KB");
        figures.watermark = Some(EventTime(90_000_000_000));
        figures.late_rows = 2;
        figures.bad_rows = 3;
        figures.lag = 4;
        figures.undelivered_rows = 5000;
        let trouble = Some("table t has been waiting for its server for 12 s".into());
        assert_eq!(
            line(&figures, 0, Some(("t", 4000)), trouble, now),
            "0 events/s · 12,345 in · 67 out · lag 4 · watermark 10.0 s ago · state 1.5 KB · 2 late · 3 bad · \
             5,000 undelivered (4,000 to t) · table t has been waiting for its server for 12 s"
        );
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(20 << 20), "20.0 MB");
        assert_eq!(bytes(3 << 40), "3072.0 GB");
        assert_eq!(short(Duration::from_secs(119)), "119.0 s");
        assert_eq!(short(Duration::from_secs(7199)), "119 min");
        assert_eq!(short(Duration::from_secs(7200)), "2 h");
        assert_eq!(short(Duration::from_secs(864_000)), "10 d");
    }

    /// A terminal that notes, each time something is written, whether a log line could come in between.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<Vec<bool>>>);

    impl Terminal {
        fn note(&self) -> std::io::Result<()> {
            self.0.lock().push(LIVE.try_lock().is_some());
            Ok(())
        }
    }

    impl indicatif::TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, _: &str) -> std::io::Result<()> {
            self.note()
        }
        fn write_str(&self, _: &str) -> std::io::Result<()> {
            self.note()
        }
        fn clear_line(&self) -> std::io::Result<()> {
            self.note()
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_log_line_comes_between_while_the_live_line_is_taken_away() {
        let terminal = Terminal::default();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        let shown = Shown::new(bar.clone());
        bar.set_message("10 events/s");
        bar.tick();
        terminal.0.lock().clear();
        drop(shown);
        let free = terminal.0.lock().clone();
        assert!(!free.is_empty() && free.iter().all(|free| !free), "{free:?}");
        assert!(LIVE.lock().is_none());
    }
}
