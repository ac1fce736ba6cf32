//! `acequia check`: reads and plans a folder, and says what is wrong with it.

use std::path::PathBuf;

use super::exit::Exit;
use super::folder;

/// Find every mistake in a folder of SQL files without running it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia check                    the folder ./queries
  acequia check queries/20_metrics.sql

Every mistake is reported with its file, line and column; exit code 1 if there is one.")]
pub struct CheckArguments {
    /// The folder, or one SQL file
    #[arg(default_value = "queries")]
    folder: PathBuf,

    /// Check for a run with --bounded, where more queries can run
    #[arg(long)]
    bounded: bool,
}

/// Checks a folder.
pub async fn check(arguments: &CheckArguments) -> Exit {
    match folder::plan(&arguments.folder, arguments.bounded).await {
        Ok(planned) => {
            let (tables, queries) = (planned.program.tables.len(), planned.program.inserts.len());
            println!("{}: {}", arguments.folder.display(), super::summary::counted(tables, queries));
            Exit::Success
        }
        Err(exit) => exit,
    }
}
