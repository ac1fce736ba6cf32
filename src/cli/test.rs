//! `acequia test`: the cases of a folder.

use std::path::PathBuf;

use super::exit::Exit;
use super::logs;
use crate::cases::{self, Outcome, Settings};

/// Run the folder's own cases: given rows in, expected rows out.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia test queries
  acequia test queries --case late_rows            only the cases whose names hold this text
  acequia test queries --update                    write what comes out as what is expected: read the diff

A case is a folder FOLDER/tests/NAME with input/TABLE.jsonl (or input/TABLE/0.jsonl, 1.jsonl ... for several
partitions) and expected/TABLE.jsonl, one JSON object a row; a bare SELECT's rows are in expected/stdout.jsonl. Each
case runs at parallelism 1, 2 and 7 with batches of 1, 3 and 8192 rows and different interleavings of the partitions:
the rows must be the same each time, in any order. Exit code 1 if a case fails.")]
pub struct TestArguments {
    /// The folder
    #[arg(default_value = "queries")]
    folder: PathBuf,

    /// Only cases whose names hold this text
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,

    /// Write the rows that come out into the expected files
    #[arg(long)]
    update: bool,
}

/// Runs the cases of a folder.
pub async fn test(arguments: &TestArguments) -> Exit {
    let cases = match cases::discover(&arguments.folder) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::Failed;
        }
    };
    let wanted = arguments.case.as_deref().unwrap_or_default();
    let mut failed = 0;
    let mut passed = 0;
    for case in cases.iter().filter(|case| case.name.contains(wanted)) {
        let outcome =
            if arguments.update { case.update().await } else { case.run(&Settings::thorough(), logs::color()).await };
        match outcome {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("ok      {}", case.name);
            }
            Ok(Outcome::Updated(files)) => {
                passed += 1;
                println!("updated {} ({})", case.name, files.join(", "));
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  {}\n{}", case.name, error.to_string().trim_end());
            }
        }
    }
    if passed + failed == 0 {
        eprintln!("error: no case is called like '{wanted}' below {}/tests", arguments.folder.display());
        return Exit::Failed;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { Exit::Success } else { Exit::Failed }
}
