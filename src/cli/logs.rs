//! Log lines on stderr, in a person's form or as JSON.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::progress::LIVE;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether stderr takes colours.
pub fn color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What is not worth a line unless asked for: a migration that finds its own table makes PostgreSQL say so, and whenever
/// a Delta table is opened its libraries tell of each step.
const QUIET: &str = "sqlx::postgres::notice=warn,deltalake_core=warn,buoyant_kernel=warn";

/// Sends the log of this process to stderr. `RUST_LOG` says what is logged; without it, `level` and worse.
pub fn start(format: LogFormat, level: LevelFilter) {
    let filter = match std::env::var("RUST_LOG") {
        Ok(wanted) if !wanted.is_empty() => {
            EnvFilter::builder().with_default_directive(level.into()).parse_lossy(wanted)
        }
        _ => EnvFilter::new(format!("{level},{QUIET}")),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AroundProgress).with_target(false);
    // A second start, as in tests within one process, keeps the first.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(color()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
}

/// Writes to stderr and takes the live progress lines away for as long as that lasts, so that the two never mix.
struct AroundProgress;

impl<'a> MakeWriter<'a> for AroundProgress {
    type Writer = AroundProgress;

    fn make_writer(&'a self) -> AroundProgress {
        AroundProgress
    }
}

impl Write for AroundProgress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().lock().write_all(bytes);
        // Locked until all is written: a live line that is taken away meanwhile would take this line with it.
        match &*LIVE.lock() {
            Some(live) => live.suspend(write),
            None => write(),
        }?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
