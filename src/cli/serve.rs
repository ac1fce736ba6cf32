//! `acequia serve`: the history of a folder over Arrow Flight SQL, whether its pipeline runs or not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::flight::{Asked, FlightArguments, Listening};
use super::kept::KeptFolder;
use super::{logs, parse, signals};
use crate::flight::bind::DEFAULT_ADDRESS;
use crate::history::Limits;

const STOPPING: &str = "stopping: no more is asked, what is asked is answered (again to stop at once)";

/// Serve the history of a folder over Arrow Flight SQL.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia serve                                    the history of ./queries, on 127.0.0.1:32010
  acequia serve examples/shop --bind 127.0.0.1:0   on a free port
  acequia serve --bind 0.0.0.0:32010 --user ana --password-file ana.secret --tls-cert cert.pem --tls-key key.pem

ADBC, JDBC and BI tools connect to it: docs/flight.md says how. What a running pipeline has not written yet is in the
schema 'live', as long as it runs with the same --data-dir. Ctrl-C or SIGTERM stops in order, a second one at once.")]
pub struct ServeArguments {
    /// The folder, or one SQL file
    #[arg(default_value = "queries")]
    folder: PathBuf,

    /// Where to listen; an address that other machines can reach needs --user and --tls-cert
    #[arg(long, value_name = "ADDRESS", env = "ACEQUIA__SERVE__BIND", default_value_t = DEFAULT_ADDRESS,
          value_parser = parse::address)]
    bind: SocketAddr,

    /// Allow an address that other machines can reach without encryption, where the network itself is guarded
    #[arg(long)]
    insecure_bind: bool,

    /// Where the pipeline keeps its files
    #[arg(long, value_name = "FOLDER", env = "ACEQUIA__RUN__DATA_DIR", default_value = "acequia-data")]
    data_dir: PathBuf,

    /// The pipeline's name [default: the folder's name]
    #[arg(long, env = "ACEQUIA__RUN__NAME")]
    name: Option<String>,

    /// Memory for sorts, joins and aggregates of all queries together; what does not fit goes to the disk, into
    /// DATA_DIR/tmp
    #[arg(long, value_name = "SIZE", env = "ACEQUIA__QUERY__MEMORY_LIMIT", default_value = "2GB",
          value_parser = parse::size)]
    memory_limit: u64,

    /// How long a stop in order may take
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = parse::duration)]
    shutdown_timeout: Duration,

    #[command(flatten)]
    flight: FlightArguments,
}

/// Serves a folder until a signal.
pub async fn serve(arguments: ServeArguments) -> Exit {
    let (data_dir, name) = (&arguments.data_dir, arguments.name.as_deref());
    let limits = Limits { memory: arguments.memory_limit, spill: Some(data_dir.join("tmp")), parallelism: None };
    let kept = match KeptFolder::open(Some(&arguments.folder), data_dir, name, limits) {
        Ok(kept) => kept,
        Err(exit) => return exit,
    };
    if let Some(mistakes) = &kept.mistakes {
        eprintln!("{}", mistakes.render(logs::color()).trim_end());
        return Exit::Failed;
    }
    let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
    let watch = match signals::watch_saying(STOPPING, drain.clone(), abort.clone(), arguments.shutdown_timeout) {
        Ok(watch) => tokio::spawn(watch),
        Err(error) => {
            tracing::error!("cannot watch for signals: {error}");
            return Exit::Runtime;
        }
    };
    let listening = Listening { address: arguments.bind, option: "--bind", insecure: arguments.insecure_bind };
    let asked = Asked { history: kept.history, live: kept.live, figures: Arc::default() };
    let exit = match arguments.flight.begin(listening, asked).await {
        Err(error) => {
            tracing::error!("{error}");
            Exit::Usage
        }
        Ok(begun) => match begun.serve(drain, abort).await {
            Ok(()) => Exit::Success,
            Err(error) => {
                tracing::error!("{error}");
                Exit::Runtime
            }
        },
    };
    watch.abort();
    exit
}
