//! The command line: one file a command, and what they share (exit codes, logs, reading a folder).
//!
//! Results go to stdout and everything else to stderr, so that a pipe gets rows only. Nothing imports this module.

mod audit;
mod backfill;
mod check;
mod checkpoint_place;
mod checkpoints;
mod demo;
mod destination;
mod exit;
mod explain;
mod flight;
mod folder;
mod format;
mod generate;
mod generated_rows;
mod generating;
mod history;
mod kept;
mod logs;
mod page;
mod parse;
mod progress;
mod query;
mod recovery;
mod run;
mod sample;
mod serve;
mod signals;
mod state_limit;
mod summary;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

use crate::connectors::choose_cryptography;
pub use exit::Exit;
use logs::LogFormat;

const EXIT_CODES: &str = "\
Exit codes:
  0  all went well
  1  a check, a test or an audit failed, or the SQL has errors
  2  wrong usage
  3  failure while running
  4  a server could not be reached: stopped while rows waited for it
  5  checkpoints do not fit the queries, the input or a destination, or none is whole
  6  another run of the pipeline is alive, or has taken over

Environment:
  RUST_LOG   what to log, such as 'debug' or 'acequia=debug,rdkafka=info'
  NO_COLOR   set to anything: no colours
  Variables in option values, such as '${KAFKA_BROKERS:-embedded}', are read from the environment.

Examples:
  acequia demo                     a shop with all its parts, in this process
  acequia run                      run ./queries until Ctrl-C
  acequia check queries            find every mistake in a folder
  acequia explain queries --format mermaid
  acequia test queries             run the folder's own cases
  acequia audit queries            prove that every row has arrived, once
  acequia history                  what the folder has recorded
  acequia query \"SELECT ...\"       ask it, or give no SQL for a prompt
  acequia serve queries            the same over Arrow Flight SQL, for ADBC and JDBC
  acequia generate --rate 100      events of the shop into its databases";

/// Turns a folder of SQL files into a running streaming pipeline.
#[derive(Parser, Debug)]
#[command(name = "acequia", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Arguments {
    /// How log lines look on stderr
    #[arg(long, global = true, value_enum, default_value = "text", env = "ACEQUIA__LOG", value_name = "FORMAT")]
    log: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(demo::DemoArguments),
    Run(Box<run::RunArguments>),
    Audit(audit::AuditArguments),
    Check(check::CheckArguments),
    Checkpoints(checkpoints::CheckpointsArguments),
    Explain(explain::ExplainArguments),
    Generate(generate::GenerateArguments),
    Serve(serve::ServeArguments),
    History(history::HistoryArguments),
    Query(query::QueryArguments),
    Test(test::TestArguments),
}

/// Stack of the thread that plans, in bytes; memory that is not touched costs nothing.
const PLANNING_STACK: usize = 256 << 20;

impl Command {
    /// What is logged when nothing is asked for. Cases run many times over, and how each run goes is nobody's news.
    fn log_level(&self) -> LevelFilter {
        match self {
            Command::Demo(_) | Command::Generate(_) | Command::Run(_) | Command::Serve(_) => LevelFilter::INFO,
            Command::Audit(_)
            | Command::Check(_)
            | Command::Checkpoints(_)
            | Command::Explain(_)
            | Command::History(_)
            | Command::Query(_)
            | Command::Test(_) => LevelFilter::WARN,
        }
    }
}

/// Reads the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logs::start(arguments.log, arguments.command.log_level());
    choose_cryptography();
    // Planning walks deep syntax trees by recursion, deeper than the stack of the main thread allows.
    let work = std::thread::Builder::new().name("acequia".into()).stack_size(PLANNING_STACK);
    let outcome = work.spawn(move || run_command(arguments.command)).map(std::thread::JoinHandle::join);
    match outcome {
        Ok(Ok(exit)) => exit.into(),
        // A panic has been shown already.
        Ok(Err(_)) => Exit::Runtime.into(),
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            Exit::Runtime.into()
        }
    }
}

fn run_command(command: Command) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // DataFusion's planner recurses deeply on long expressions.
        .thread_stack_size(8 << 20)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return Exit::Runtime;
        }
    };
    let exit = runtime.block_on(dispatch(command));
    // A connector may still wait in a blocking call; state is safe by now, so the process does not wait for it.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit
}

async fn dispatch(command: Command) -> Exit {
    match command {
        Command::Demo(arguments) => demo::demo(arguments).await,
        Command::Run(arguments) => run::run(*arguments).await,
        Command::Audit(arguments) => audit::audit(&arguments).await,
        Command::Check(arguments) => check::check(&arguments).await,
        Command::Checkpoints(arguments) => checkpoints::checkpoints(&arguments).await,
        Command::Explain(arguments) => explain::explain(&arguments).await,
        Command::Generate(arguments) => generate::generate(arguments).await,
        Command::Serve(arguments) => serve::serve(arguments).await,
        Command::History(arguments) => history::history(&arguments).await,
        Command::Query(arguments) => query::query(arguments).await,
        Command::Test(arguments) => test::test(&arguments).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("acequia "), "{} has no example", command.get_name());
        }
    }

    #[test]
    fn run_has_the_defaults_that_its_help_promises() {
        let arguments = Arguments::try_parse_from(["acequia", "run"]).unwrap();
        let Command::Run(run) = arguments.command else { panic!("not run") };
        assert_eq!(run.folder.to_str(), Some("queries"));
        assert_eq!(run.batch_size, 8192);
        assert_eq!(run.shutdown_timeout.as_secs(), 25);
        assert!(!run.bounded);
    }
}
