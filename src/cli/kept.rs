//! What a folder keeps, as the commands that ask it share it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exit::Exit;
use super::{folder, logs};
use crate::connectors::{ConnectorError, registry};
use crate::history::live::{LiveTables, RemoteLive};
use crate::history::{History, HistoryError, Limits};
use crate::program::Program;
use crate::sql::{SqlError, SqlErrors, Variables};

/// The folder that is read when none is named, if it is there.
const USUAL_FOLDER: &str = "queries";

/// Whose history.
#[derive(clap::Args, Debug)]
pub struct KeptArguments {
    /// The folder whose tables are meant, or one SQL file [default: queries]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Where a run of the folder keeps its files
    #[arg(long, value_name = "FOLDER", env = "ACEQUIA__RUN__DATA_DIR", default_value = "acequia-data")]
    data_dir: PathBuf,

    /// The pipeline's name [default: the folder's name]
    #[arg(long, env = "ACEQUIA__RUN__NAME")]
    name: Option<String>,
}

/// What a folder keeps, and what is wrong with the folder.
pub struct KeptFolder {
    /// Its tables.
    pub history: History,
    /// What a running pipeline has not written yet, which the history knows.
    pub live: Arc<dyn LiveTables>,
    /// Mistakes in it: tables with mistakes are not among those that can be asked.
    pub mistakes: Option<SqlErrors>,
}

impl KeptArguments {
    /// Where a run of the folder keeps its files.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Reads the folder. Mistakes in it are told when they matter; a folder that was named and cannot be read is told
    /// at once.
    pub fn open(&self, limits: Limits) -> Result<KeptFolder, Exit> {
        KeptFolder::open(self.folder.as_deref(), &self.data_dir, self.name.as_deref(), limits)
    }
}

impl KeptFolder {
    /// Reads the folder that was `named`, or the usual one; as [`KeptArguments::open`].
    pub fn open(named: Option<&Path>, data_dir: &Path, name: Option<&str>, limits: Limits) -> Result<KeptFolder, Exit> {
        let folder = named.unwrap_or(Path::new(USUAL_FOLDER));
        let (program, mistakes) = Program::sound_part(folder, &Variables::from_environment(), &registry::connectors());
        let mistakes = match folder.exists() {
            // One with tables alone has nothing to run, and much to ask.
            true => mistakes.into_iter().filter(|mistake| !has_nothing_to_run(mistake)).collect(),
            false if named.is_none() => vec![],
            false => {
                eprintln!("{}", SqlErrors::new(program.files, mistakes).render(logs::color()).trim_end());
                return Err(Exit::Failed);
            }
        };
        let pipeline = name.map_or_else(|| folder::name(folder), str::to_owned);
        let history = History::of(&program, data_dir, &pipeline, limits).map_err(|error| report(&error))?;
        let live: Arc<dyn LiveTables> = Arc::new(RemoteLive::new(&pipeline, data_dir));
        let history = history.with_live(Arc::clone(&live));
        let mistakes = (!mistakes.is_empty()).then(|| SqlErrors::new(program.files, mistakes));
        Ok(KeptFolder { history, live, mistakes })
    }
}

fn has_nothing_to_run(mistake: &SqlError) -> bool {
    mistake.location.is_none() && mistake.message.starts_with("there is nothing to run")
}

/// Says on stderr why there is no answer.
pub fn report(error: &HistoryError) -> Exit {
    match error {
        HistoryError::Sql(errors) => {
            eprintln!("{}", errors.render(logs::color()).trim_end());
            Exit::Failed
        }
        HistoryError::Table(ConnectorError::Unavailable { .. }) => {
            eprintln!("error: {error}");
            Exit::Unreachable
        }
        other => {
            eprintln!("error: {other}");
            Exit::Runtime
        }
    }
}
