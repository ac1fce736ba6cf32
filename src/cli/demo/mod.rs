//! `acequia demo`: InstaShop alive in one process, with nothing installed: its databases, the broker, the pipeline and the
//! page, in a folder that goes at the end.
//!
//! It is `run` on files that the binary brings along, with every part embedded whatever the environment says, and with a
//! generator in the shop's place.

mod folder;
mod greeting;
mod queries;
mod shop;

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Args, FromArgMatches};

use super::exit::Exit;
use super::folder::{plan_files, plan_with};
use super::run::{self, Beside, Feed, RunArguments, Served};
use super::{parse, sample};
use crate::generator::Destinations;
use folder::DataFolder;
use greeting::Greeting;
use shop::DemoShop;

/// Show the shop with nothing installed: generated customers, the pipeline and the page in one process.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia demo                          a day's past, then 10 events a second, until Ctrl-C
  acequia demo --rate 1000              a busy shop
  acequia demo --data-dir shop          keep what it has made, and go on with it the next time

No server is asked, whatever KAFKA_BROKERS, DWH_URL and the others say.")]
pub struct DemoArguments {
    /// A folder to run in the place of the shop's own SQL
    folder: Option<PathBuf>,

    /// Events a second
    #[arg(long, value_name = "EVENTS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,

    /// How far back the shop's past begins, at 15 events a minute or fewer
    #[arg(long, value_name = "TIME", default_value = "1day", value_parser = parse::duration)]
    history: Duration,

    /// Begin with an empty shop
    #[arg(long, conflicts_with = "history")]
    no_history: bool,

    /// Keep all files here, and go on from them the next time [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,

    /// Where /metrics and the API are served [default: 127.0.0.1:9464, or a free port]
    #[arg(long, value_name = "ADDRESS", value_parser = parse::address)]
    http: Option<SocketAddr>,

    /// Where the page is served [default: 127.0.0.1:8501, or a free port]
    #[arg(long, value_name = "ADDRESS", value_parser = parse::address)]
    page: Option<SocketAddr>,
}

/// Runs the demo until it is told to stop.
pub async fn demo(arguments: DemoArguments) -> Exit {
    let folder = match DataFolder::open(arguments.data_dir.as_deref()) {
        Ok(folder) => folder,
        Err(error) => {
            let place = arguments.data_dir.unwrap_or_else(std::env::temp_dir);
            tracing::error!(
                "cannot make a data folder in {}: {error}; choose another with --data-dir",
                place.display()
            );
            return Exit::Usage;
        }
    };
    let exit = run_in(&folder, &arguments).await;
    let path = folder.path().to_owned();
    if let Err(error) = folder.close().await {
        tracing::warn!("{} could not be removed: {error}", path.display());
    }
    exit
}

async fn run_in(folder: &DataFolder, arguments: &DemoArguments) -> Exit {
    let variables = queries::variables(folder.path());
    let planned = match &arguments.folder {
        Some(folder) => plan_with(folder, &variables, false).await,
        None => plan_files(queries::files(), &variables).await,
    };
    let planned = match planned {
        Ok(planned) => planned,
        Err(exit) => return exit,
    };
    let greeting = Greeting::new(folder);
    // A reader that has gone, such as `head`, is no reason to stop.
    let greet = move |served: &Served| drop(std::io::stdout().write_all(greeting.text(served).as_bytes()));
    let destinations = sample::destinations(&planned.program, folder.path());
    let feed = destinations.map(|destinations| feed(arguments, destinations, folder.path()));
    let beside = Beside { greet: Some(Box::new(greet)), feed };
    match run_arguments(arguments, folder.path()) {
        Ok(arguments) => run::run_planned(&arguments, planned, beside).await,
        Err(error) => {
            tracing::error!("{error}");
            Exit::Usage
        }
    }
}

/// The arguments of `run` that say the same. Its environment variables do not count: they are about the user's pipelines.
fn run_arguments(arguments: &DemoArguments, data_dir: &Path) -> Result<RunArguments, clap::Error> {
    let mut words: Vec<OsString> = vec!["--data-dir".into(), data_dir.into()];
    match &arguments.folder {
        Some(folder) => words.push(folder.into()),
        None => words.extend(["--name".into(), queries::PIPELINE.into()]),
    }
    for (option, address) in [("--http", arguments.http), ("--page", arguments.page)] {
        if let Some(address) = address {
            words.extend([option.into(), address.to_string().into()]);
        }
    }
    let run = clap::Command::new("run").no_binary_name(true);
    let run = RunArguments::augment_args(run).mut_args(|argument| argument.env(Resettable::Reset));
    RunArguments::from_arg_matches(&run.try_get_matches_from(words)?)
}

fn feed(arguments: &DemoArguments, destinations: Destinations, data_dir: &Path) -> Feed {
    let shop = DemoShop {
        destinations,
        data_dir: data_dir.to_owned(),
        history: (!arguments.no_history).then_some(arguments.history),
        events_per_second: arguments.rate,
    };
    Box::new(move |stop| Box::pin(shop.open(stop)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Demo {
        #[command(flatten)]
        arguments: DemoArguments,
    }

    fn arguments(words: &[&str]) -> DemoArguments {
        Demo::try_parse_from([&["demo"], words].concat()).unwrap_or_else(|error| panic!("{error}")).arguments
    }

    #[test]
    fn it_is_run_with_runs_own_defaults() {
        let run = run_arguments(&arguments(&["--http", "127.0.0.1:0"]), Path::new("/data")).unwrap();
        assert_eq!(run.data_dir, Path::new("/data"));
        assert_eq!((run.batch_size, run.shutdown_timeout.as_secs(), run.bounded), (8192, 25, false));
        let run = run_arguments(&arguments(&["sales"]), Path::new("/data")).unwrap();
        assert_eq!(run.folder, Path::new("sales"));
    }

    #[test]
    fn it_has_the_defaults_that_its_help_promises() {
        let demo = arguments(&[]);
        assert_eq!((demo.rate, demo.history, demo.no_history), (10, Duration::from_secs(24 * 3600), false));
        assert!(demo.data_dir.is_none());
        assert!(arguments(&["--no-history"]).no_history);
    }
}
