//! `acequia query`: batch SQL over what a folder keeps, once or at a prompt.

mod answer;
mod asking;
mod completion;
mod prompt;
mod told;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use super::exit::Exit;
use super::{kept, parse};
use crate::history::Limits;
use crate::history::session::TYPED;
use crate::sql::SourceFiles;
use answer::{AnswerFormat, Destination};
use asking::Asking;

/// Ask what the folder has recorded, in SQL.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia query                                                   a prompt, when stdin is a terminal
  acequia query \"SELECT count(*) FROM transactions_history\"
  acequia query \"SELECT * FROM totals VERSION AS OF 3\" --format csv
  acequia query -f report.sql --output report.parquet
  acequia query \"SELECT * FROM 'part-1.parquet' LIMIT 5\"
  acequia query \"SELECT * FROM t UNION ALL SELECT * FROM live.t\"    with what a running pipeline has not written yet

The tables are those of the folder with connector = 'delta'; a source that one of them records, history_of, can be read
by its own name. A pipeline may be running. Ctrl-C stops a query. Exit codes: 1 when the SQL has mistakes, 3 when it fails
while running, takes longer than --timeout or is stopped, 4 when a store cannot be reached.")]
pub struct QueryArguments {
    /// What to ask; several statements have a ';' between them [default: a prompt, or what stdin says]
    #[arg(conflicts_with = "file")]
    sql: Option<String>,

    /// Ask what a file says
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    kept: kept::KeptArguments,

    /// How rows are written [default: what the name of --output says, or table]
    #[arg(long, value_enum)]
    format: Option<AnswerFormat>,

    /// Write the rows into a file, all of them: NAME.csv, NAME.json, NAME.jsonl, NAME.ndjson or NAME.parquet, or any name with --format
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The most rows of a table on the screen
    #[arg(long, value_name = "ROWS", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    max_rows: u32,

    /// Memory for sorts, joins and aggregates; what does not fit goes to the disk, into DATA_DIR/tmp
    #[arg(long, value_name = "SIZE", env = "ACEQUIA__QUERY__MEMORY_LIMIT", default_value = "2GB",
          value_parser = parse::size)]
    memory_limit: u64,

    /// How long a query may take [default: as long as it takes]
    #[arg(long, value_name = "TIME", env = "ACEQUIA__QUERY__TIMEOUT", value_parser = parse::duration)]
    timeout: Option<Duration>,
}

/// Asks, and says what came of it.
pub async fn query(arguments: QueryArguments) -> Exit {
    let format = match (arguments.format, arguments.output.as_deref()) {
        (Some(format), _) => format,
        (None, None) => AnswerFormat::Table,
        (None, Some(path)) => match AnswerFormat::of(path) {
            Some(format) => format,
            None => {
                eprintln!(
                    "error: the name of {} does not say how the rows are written: --output takes names that end with {}; \
                     --format says it for any other",
                    path.display(),
                    AnswerFormat::known_endings()
                );
                return Exit::Usage;
            }
        },
    };
    if format == AnswerFormat::Parquet && arguments.output.is_none() {
        eprintln!("error: Parquet is no text: give --output FILE");
        return Exit::Usage;
    }
    let questions = match text(&arguments) {
        Ok(questions) => questions,
        Err(message) => {
            eprintln!("error: {message}");
            return Exit::Runtime;
        }
    };
    if questions.is_none() && arguments.output.is_some() {
        eprintln!("error: the prompt writes no file: say what to ask, as SQL or with --file FILE");
        return Exit::Usage;
    }
    let limits = Limits {
        memory: arguments.memory_limit,
        spill: Some(arguments.kept.data_dir().join("tmp")),
        parallelism: None,
    };
    let kept = match arguments.kept.open(limits) {
        Ok(kept) => kept,
        Err(exit) => return exit,
    };
    let asking = Asking { kept, timeout: arguments.timeout };
    let Some((name, questions)) = questions else {
        let destination = Destination::stdout(format, arguments.max_rows as usize);
        return prompt::prompt(&asking, &destination, arguments.kept.data_dir()).await;
    };
    let mut files = SourceFiles::default();
    files.add(name, questions);
    let most = arguments.max_rows as usize;
    let destination = match arguments.output {
        None => Ok(Destination::stdout(format, most)),
        Some(path) => Destination::file(path, format),
    };
    match destination {
        Ok(destination) => asking.all(&files, destination).await,
        Err(error) => {
            eprintln!("error: {error}");
            Exit::Runtime
        }
    }
}

/// What is asked, with a name for messages; `None` where a person is to be asked what to ask.
fn text(arguments: &QueryArguments) -> Result<Option<(PathBuf, String)>, String> {
    if let Some(sql) = &arguments.sql {
        return Ok(Some((TYPED.into(), sql.clone())));
    }
    if let Some(file) = &arguments.file {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        return Ok(Some((file.clone(), text)));
    }
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("stdin cannot be read: {error}"))?;
    Ok(Some(("stdin".into(), text)))
}
