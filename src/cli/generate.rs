//! `acequia generate`: the shop's events into its databases or into Kafka.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::destination;
use super::exit::Exit;
use super::generating;
use super::{parse, signals};
use crate::connectors::ConnectorError;
use crate::generator::{self, End, Figures, GeneratorOptions, Pace};
use crate::shop::ShopOptions;

/// How long the last group of events may take after a signal.
const PATIENCE: Duration = Duration::from_secs(10);

/// Write realistic events of the shop into its databases or into Kafka.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia generate                                     10 events/s into SHOP_URL and CRM_URL, or into shop.sqlite and
                                                       crm.sqlite in the data folder, until Ctrl-C
  acequia generate --rate 200 --duration 10m
  acequia generate --to shop=postgres://user:password@localhost:5432/instashop \\
                   --to crm=postgres://user:password@localhost:5433/crm_db
  acequia generate --to sqlite://trial.sqlite --rate max --events 100000 --seed 7
  acequia generate --to kafka://localhost:9092,localhost:9093 --rate max
  acequia generate --start 2026-11-01 --rate 2 --rhythm      a past: written at once, then it goes on as it happens

In databases, tables and base data (50 customers, 100 buyers, 200 products, segments) are made where they are missing, and
what is there is gone on behind. With the same --seed, --start and --rate the same events come again. A server that is away
is waited for. Ctrl-C ends it in order, exit code 0; 4 if events waited for a server.")]
pub struct GenerateArguments {
    /// Where to: kafka://HOST:PORT[,...], postgres://USER:PASSWORD@HOST:PORT/DATABASE, sqlite://FILE or embedded://NAME;
    /// shop=URL and crm=URL tell two databases apart [default: SHOP_URL and CRM_URL, else embedded://shop and
    /// embedded://crm]
    #[arg(long, value_name = "URL")]
    to: Vec<String>,

    /// Events a second, such as 10 or 0.5, or 'max': as fast as the destination takes them
    #[arg(long, value_name = "N", env = "ACEQUIA__GENERATE__RATE", default_value = "10", value_parser = rate)]
    rate: Rate,

    /// How many of the events are transactions, from 0 to 1
    #[arg(long, value_name = "SHARE", env = "ACEQUIA__GENERATE__TRANSACTIONS", default_value = "0.7", value_parser = share)]
    transactions: f64,

    /// Stop when the events stretch over so much time [default: go on until stopped]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    duration: Option<Duration>,

    /// Stop after so many events
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,

    /// The same seed gives the same events [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// When the first event happens, in UTC, such as 2026-11-01 or 2026-11-01T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<i64>,

    /// Quiet nights and busy evenings; --rate is the day's average then
    #[arg(long)]
    rhythm: bool,

    /// Say how far it is each time after so many events
    #[arg(long, value_name = "N", env = "ACEQUIA__GENERATE__PROGRESS", default_value = "50",
          value_parser = clap::value_parser!(u64).range(1..))]
    progress: u64,

    /// Where embedded databases keep their files
    #[arg(long, value_name = "FOLDER", env = "ACEQUIA__RUN__DATA_DIR", default_value = "acequia-data")]
    data_dir: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Rate {
    PerSecond(f64),
    Max,
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(rate) if rate.is_finite() && (0.001..=10_000_000.0).contains(&rate) => Ok(Rate::PerSecond(rate)),
        _ => Err("it takes events a second such as 10 or 0.5, up to 10,000,000, or 'max'".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it takes a share from 0 to 1, such as 0.7".into()),
    }
}

/// Milliseconds since 1970.
fn time(text: &str) -> Result<i64, String> {
    let of_day = || text.parse::<chrono::NaiveDate>().ok().map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc());
    let of_moment = || text.trim_end_matches('Z').parse::<chrono::NaiveDateTime>().ok().map(|time| time.and_utc());
    let of_zone = || text.parse::<chrono::DateTime<chrono::FixedOffset>>().ok().map(|time| time.to_utc());
    match of_day().or_else(of_moment).or_else(of_zone) {
        Some(time) => Ok(time.timestamp_millis()),
        None => Err("it takes a day or a time in UTC, such as 2026-11-01 or 2026-11-01T08:00:00Z".into()),
    }
}

/// Generates events.
pub async fn generate(arguments: GenerateArguments) -> Exit {
    if arguments.rate == Rate::Max && arguments.start.is_some() {
        eprintln!(
            "error: --rate max gives events the time at which they are written; with --start say how many happen in a \
             second, such as --rate 1000: what lies in the past is written as fast as it goes"
        );
        return Exit::Usage;
    }
    let surroundings = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // Read here and not by clap, which would show a password that stands in what it refuses.
    let targets =
        arguments.to.iter().map(|text| destination::target(text).map_err(|problem| format!("--to {problem}")));
    let destinations = targets.collect::<Result<Vec<_>, _>>();
    let destinations = destinations.and_then(|targets| destination::of(&targets, surroundings, &arguments.data_dir));
    let destinations = match destinations {
        Ok(destinations) => destinations,
        Err(message) => {
            eprintln!("error: {message}");
            return Exit::Usage;
        }
    };
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    let watch = match signals::watch_saying(generating::STOPPING, stop.clone(), abort.clone(), PATIENCE) {
        Ok(watch) => tokio::spawn(watch),
        Err(error) => {
            tracing::error!("cannot watch for signals: {error}");
            return Exit::Runtime;
        }
    };
    let options = options(&arguments);
    tracing::info!("events of seed {} into {}", options.shop.seed, destinations.describe());
    let figures = Arc::clone(&options.figures);
    let showing = tokio::spawn(generating::show(Arc::clone(&figures), arguments.progress, arguments.events));
    let began = std::time::Instant::now();
    let outcome = tokio::select! {
        outcome = generator::feed(destinations, options, stop) => Some(outcome),
        () = abort.cancelled() => None,
    };
    showing.abort();
    let _ = showing.await;
    watch.abort();
    tracing::info!("{}", generating::closing(&figures.now(), began.elapsed()));
    match outcome {
        Some(Ok(())) => Exit::Success,
        Some(Err(error)) => {
            tracing::error!("{error}");
            exit_of(&error)
        }
        // Told to stop at once.
        None => Exit::Runtime,
    }
}

fn options(arguments: &GenerateArguments) -> GeneratorOptions {
    let events_per_second = match arguments.rate {
        Rate::PerSecond(rate) => rate,
        // So many visitors are there at the same time.
        Rate::Max => 1000.0,
    };
    GeneratorOptions {
        shop: ShopOptions {
            seed: arguments.seed.unwrap_or_else(some_seed),
            events_per_second,
            transaction_share: arguments.transactions,
            rhythm: arguments.rhythm,
            ..ShopOptions::default()
        },
        pace: match (arguments.rate, arguments.start) {
            (Rate::Max, _) => Pace::Unbound,
            (Rate::PerSecond(_), None) => Pace::Live,
            (Rate::PerSecond(_), Some(start)) => Pace::From { start, past_events_per_second: None },
        },
        end: match (arguments.events, arguments.duration) {
            (Some(events), _) => End::Events(events),
            (None, Some(duration)) => End::Duration(duration),
            (None, None) => End::Never,
        },
        figures: Arc::new(Figures::default()),
    }
}

/// Short enough to be typed again.
fn some_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos() ^ std::process::id())
}

fn exit_of(error: &ConnectorError) -> Exit {
    match error {
        ConnectorError::Unavailable { .. } | ConnectorError::Stopped { .. } => Exit::Unreachable,
        _ => Exit::Runtime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_shares_and_times_say_what_they_take() {
        assert_eq!((rate("max"), rate("0.5")), (Ok(Rate::Max), Ok(Rate::PerSecond(0.5))));
        for wrong in ["", "0", "-1", "fast", "NaN", "1e9"] {
            assert_eq!(
                rate(wrong),
                Err("it takes events a second such as 10 or 0.5, up to 10,000,000, or 'max'".into()),
                "{wrong}"
            );
        }
        assert_eq!(share("0"), Ok(0.0));
        for wrong in ["70", "-0.1", "NaN", "70%"] {
            assert_eq!(share(wrong), Err("it takes a share from 0 to 1, such as 0.7".into()), "{wrong}");
        }
        let noon = 1_769_860_800_000;
        for text in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "2026-01-31T13:00:00+01:00"] {
            assert_eq!(time(text), Ok(noon), "{text}");
        }
        assert_eq!(time("2026-01-31"), Ok(noon - 12 * 3_600_000));
        assert!(time("yesterday").unwrap_err().contains("such as 2026-11-01 or 2026-11-01T08:00:00Z"));
    }

    #[test]
    fn a_server_that_was_waited_for_has_an_exit_code_of_its_own() {
        let what = || String::from("Kafka at localhost:9092");
        assert_eq!(exit_of(&ConnectorError::Stopped { what: what() }), Exit::Unreachable);
        assert_eq!(exit_of(&ConnectorError::Refused { what: what(), message: String::new() }), Exit::Runtime);
    }
}
