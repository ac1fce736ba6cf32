//! One case: its files, its runs.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::compare::Difference;
use super::connector;
use super::error::CaseError;
use super::sink::{Collected, collector};
use super::source::Partition;
use crate::catalog::options::closest;
use crate::connectors::SinkMode;
use crate::dataflow::graph::{Graph, NodeKind};
use crate::dataflow::statistics::Statistics;
use crate::dataflow::{self, RunOptions};
use crate::planner::{self, PlanOptions};
use crate::program::{Program, Table};
use crate::sql::{SqlErrors, Variables};

/// A case takes well under a second; one that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the file with the rows of bare `SELECT`s is called.
const STDOUT: &str = "stdout";

/// A folder of given and expected rows for a program.
#[derive(Clone, Debug)]
pub struct Case {
    /// The case's name: its folder's.
    pub name: String,
    program: PathBuf,
    input: Vec<(Rows, Vec<Partition>)>,
    expected: Vec<(Rows, Vec<Value>)>,
    folder: PathBuf,
}

/// Whose rows a file holds.
#[derive(Clone, Debug)]
struct Rows {
    table: String,
    path: PathBuf,
}

/// How a case ended, if well.
#[derive(PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The expected rows came out, with all settings.
    Passed,
    /// These files were written.
    Updated(Vec<String>),
}

/// How a case is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Instances of keyed operators.
    pub parallelism: usize,
    /// Most rows in a batch.
    pub batch_size: usize,
    /// How partitions interleave; with 0 they follow each other.
    pub seed: u64,
}

impl Settings {
    /// Parallelism 1, 2 and 7, batches of 1, 3 and 8192 rows, three interleavings.
    pub fn thorough() -> Vec<Settings> {
        let mut all = vec![];
        for parallelism in [1, 2, 7] {
            for batch_size in [1, 3, 8192] {
                all.extend((0..3).map(|seed| Settings { parallelism, batch_size, seed }));
            }
        }
        all
    }
}

/// What is said of bad records: that they are bad does not depend on the settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Warnings {
    /// As in any run.
    Told,
    /// A run with other settings has told them.
    KnownAlready,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { parallelism, batch_size, seed } = self;
        write!(f, "parallelism {parallelism}, batches of {batch_size} rows, interleaving {seed}")
    }
}

/// The cases of a program folder, by name.
///
/// # Errors
/// When there are none, or one's files cannot be read.
pub fn discover(program: &Path) -> Result<Vec<Case>, CaseError> {
    if !program.exists() {
        return Err(CaseError::NoFolder(program.to_path_buf()));
    }
    let tests = program.join("tests");
    let mut cases = vec![];
    for folder in entries(&tests).map_err(|_| CaseError::NoCases(tests.clone()))? {
        if folder.is_dir() {
            cases.push(Case::read(program, &folder)?);
        }
    }
    if cases.is_empty() { Err(CaseError::NoCases(tests)) } else { Ok(cases) }
}

impl Case {
    fn read(program: &Path, folder: &Path) -> Result<Case, CaseError> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut case =
            Case { name, program: program.into(), input: vec![], expected: vec![], folder: folder.to_path_buf() };
        for path in optional_entries(&folder.join("input"))? {
            let rows = Rows { table: table_of(&path)?, path: path.clone() };
            let partitions = if path.is_dir() { entries(&path).map_err(at(&path))? } else { vec![path] };
            let partitions = partitions.iter().map(|path| Ok(Partition::of(&std::fs::read(path).map_err(at(path))?)));
            case.input.push((rows, partitions.collect::<Result<_, _>>()?));
        }
        for path in optional_entries(&folder.join("expected"))? {
            case.expected.push((Rows { table: table_of(&path)?, path: path.clone() }, read_rows(&path)?));
        }
        Ok(case)
    }

    /// Runs the case with each of `settings` until one fails.
    ///
    /// # Errors
    /// When other rows came out than were expected, or the program has mistakes, or its run failed.
    pub async fn run(&self, settings: &[Settings], color: bool) -> Result<Outcome, CaseError> {
        if self.expected.is_empty() {
            let message = "the case expects nothing: write expected/TABLE.jsonl, or use --update".into();
            return Err(CaseError::Name { path: self.folder.clone(), message });
        }
        let mut program = self.program(color)?;
        let tables = program.tables.clone();
        for (before, settings) in settings.iter().enumerate() {
            let warnings = if before == 0 { Warnings::Told } else { Warnings::KnownAlready };
            let written = self.run_once(&mut program, &tables, *settings, warnings, color).await?;
            let mut differences = String::new();
            for (rows, expected) in &self.expected {
                let difference = Difference::between(expected, &written.rows_of(rows, *settings)?);
                if !difference.is_empty() {
                    differences.push_str(&difference.render(&rows.table, color));
                }
            }
            if !differences.is_empty() {
                return Err(CaseError::Rows { differences, settings: settings.to_string() });
            }
        }
        Ok(Outcome::Passed)
    }

    /// Runs the case once and writes what came out into its expected files: those that are there, or one for each
    /// table that the program writes, since that nothing comes out is an expectation too.
    ///
    /// # Errors
    /// As for [`Case::run`], or when a file cannot be written.
    pub async fn update(&self) -> Result<Outcome, CaseError> {
        let settings = Settings { parallelism: 1, batch_size: 8192, seed: 0 };
        let mut program = self.program(false)?;
        let tables = program.tables.clone();
        let written = self.run_once(&mut program, &tables, settings, Warnings::Told, false).await?;
        let folder = self.folder.join("expected");
        std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        let wanted: Vec<Rows> = if self.expected.is_empty() {
            let file = |table: &String| Rows { table: table.clone(), path: folder.join(format!("{table}.jsonl")) };
            written.tables.iter().map(file).collect()
        } else {
            self.expected.iter().map(|(rows, _)| rows.clone()).collect()
        };
        let mut files = vec![];
        for rows in wanted {
            let mut lines: Vec<String> =
                written.rows_of(&rows, settings)?.iter().map(|row| format!("{row}\n")).collect();
            lines.sort_unstable();
            std::fs::write(&rows.path, lines.concat()).map_err(at(&rows.path))?;
            files.push(rows.table);
        }
        Ok(Outcome::Updated(files))
    }

    fn program(&self, color: bool) -> Result<Program, CaseError> {
        let program = Program::read(&self.program, &Variables::from_environment()).map_err(sql(color))?;
        let names: Vec<&str> = program.tables.iter().map(|table| table.definition.name.as_str()).collect();
        for (rows, _) in &self.input {
            rows.must_be_one_of(&names)?;
        }
        let mut names = names;
        names.extend(program.inserts.iter().map(|insert| insert.name.as_str()));
        names.push(STDOUT);
        for (rows, _) in &self.expected {
            rows.must_be_one_of(&names)?;
        }
        Ok(program)
    }

    /// Runs `program` once, with the connectors of `tables`, which are its own, replaced.
    async fn run_once(
        &self,
        program: &mut Program,
        tables: &[Table],
        settings: Settings,
        warnings: Warnings,
        color: bool,
    ) -> Result<Written, CaseError> {
        let mut written = Written::default();
        program.tables.clear();
        for table in tables {
            let name = &table.definition.name;
            let input = self.input.iter().find(|(rows, _)| rows.table == *name);
            let partitions = input.map(|(_, partitions)| partitions.as_slice()).unwrap_or_default();
            let (table, collected) = connector::replace(table, partitions, settings.seed);
            written.outputs.extend(collected.map(|collected| (vec![name.clone()], collected)));
            program.tables.push(table);
        }
        // Planned as for a run without end: a case shows what the folder does when it is deployed.
        let options = PlanOptions { bounded: false, print: collector(SinkMode::Append).0 };
        let mut graph = planner::plan(program, &options).await.map_err(sql(color))?;
        self.check_inputs(&graph)?;
        written.replace_stdout(&mut graph);
        execute(graph, settings, warnings).await?;
        Ok(written)
    }

    /// An input that no query reads is a mistake in the case.
    fn check_inputs(&self, graph: &Graph) -> Result<(), CaseError> {
        for (rows, _) in &self.input {
            let reads = |kind: &NodeKind| matches!(kind, NodeKind::Source(source) if source.table == rows.table);
            if !graph.nodes.iter().any(|node| reads(&node.kind)) {
                let message = format!("no query reads table '{}'", rows.table);
                return Err(CaseError::Name { path: rows.path.clone(), message });
            }
        }
        Ok(())
    }
}

impl Rows {
    fn must_be_one_of(&self, names: &[&str]) -> Result<(), CaseError> {
        if names.contains(&self.table.as_str()) {
            return Ok(());
        }
        let help = match closest(&self.table, names.iter().copied()) {
            Some(name) => format!("did you mean '{name}'?"),
            None => format!("there are {}", names.join(", ")),
        };
        let message = format!("the program has no table '{}': {help}", self.table);
        Err(CaseError::Name { path: self.path.clone(), message })
    }
}

/// What a run wrote: each output with the names that it goes by.
#[derive(Default)]
struct Written {
    outputs: Vec<(Vec<String>, Arc<Collected>)>,
    /// What the program writes to: its tables by their names, and [`STDOUT`].
    tables: BTreeSet<String>,
}

impl Written {
    /// Bare `SELECT`s write to no table of the program, so their sinks are replaced in the graph.
    fn replace_stdout(&mut self, graph: &mut Graph) {
        for node in &mut graph.nodes {
            let NodeKind::Sink(sink) = &mut node.kind else { continue };
            let known = self.outputs.iter().any(|(names, _)| names.contains(&sink.table));
            self.tables.insert(if known { sink.table.clone() } else { STDOUT.into() });
            if !known {
                let (factory, collected) = collector(SinkMode::Append);
                sink.factory = factory;
                let query = node.name.split('.').next().unwrap_or(&node.name).to_owned();
                self.outputs.push((vec![STDOUT.into(), query], collected));
            }
        }
    }

    fn rows_of(&self, rows: &Rows, settings: Settings) -> Result<Vec<Value>, CaseError> {
        let mut found = vec![];
        for (_, collected) in self.outputs.iter().filter(|(names, _)| names.contains(&rows.table)) {
            let rows = collected.rows();
            found.extend(rows.map_err(|error| CaseError::Run {
                message: format!("the rows cannot be shown as JSON: {error}"),
                settings: settings.to_string(),
            })?);
        }
        Ok(found)
    }
}

async fn execute(graph: Graph, settings: Settings, warnings: Warnings) -> Result<(), CaseError> {
    let abort = CancellationToken::new();
    let options = RunOptions {
        pipeline: "test".into(),
        parallelism: settings.parallelism,
        batch_size: settings.batch_size,
        bounded: true,
        checkpoint_interval: Duration::from_secs(1),
        checkpoint_bytes: 64 << 20,
        linger: Duration::from_millis(200),
        data_dir: std::env::temp_dir(),
        wall_clock: None,
        drain: CancellationToken::new(),
        abort: abort.clone(),
    };
    let statistics = Statistics::of(&graph);
    let statistics = Arc::new(match warnings {
        Warnings::Told => statistics,
        Warnings::KnownAlready => statistics.without_warnings(),
    });
    let failed = |message: String| CaseError::Run { message, settings: settings.to_string() };
    match tokio::time::timeout(PATIENCE, dataflow::run(graph, options, statistics)).await {
        Ok(outcome) => outcome.map_err(|error| failed(error.to_string())),
        Err(_) => {
            abort.cancel();
            Err(failed(format!("the run did not end within {} s", PATIENCE.as_secs())))
        }
    }
}

fn read_rows(path: &Path) -> Result<Vec<Value>, CaseError> {
    let text = std::fs::read_to_string(path).map_err(at(path))?;
    let mut rows = vec![];
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let wrong = |message: String| CaseError::Line { path: path.into(), line, message };
        match serde_json::from_str(text) {
            Ok(row @ Value::Object(_)) => rows.push(row),
            Ok(_) => return Err(wrong("not a JSON object: a line is a row such as {\"k\": 1}".into())),
            Err(error) => return Err(wrong(format!("not JSON: {error}"))),
        }
    }
    Ok(rows)
}

/// The table that a file `TABLE.jsonl` or a folder `TABLE` is for.
fn table_of(path: &Path) -> Result<String, CaseError> {
    let wrong = || CaseError::FileName(path.to_path_buf());
    let name = if path.is_dir() {
        path.file_name()
    } else if path.extension().is_some_and(|extension| extension == "jsonl") {
        path.file_stem()
    } else {
        None
    };
    Ok(name.ok_or_else(wrong)?.to_string_lossy().into_owned())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn optional_entries(folder: &Path) -> Result<Vec<PathBuf>, CaseError> {
    match entries(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        outcome => outcome.map_err(at(folder)),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CaseError {
    let path = path.to_path_buf();
    move |source| CaseError::File { path, source }
}

fn sql(color: bool) -> impl Fn(SqlErrors) -> CaseError {
    move |errors| CaseError::Sql(errors.render(color))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        place
    }

    #[test]
    fn a_case_has_partitions_in_and_rows_out() {
        let place = folder(&[
            ("tests/one/input/clicks/0.jsonl", "{\"a\":1}\nbroken\n"),
            ("tests/one/input/clicks/1.jsonl", "{\"a\":2}\n"),
            ("tests/one/input/orders.jsonl", ""),
            ("tests/one/expected/totals.jsonl", "{\"n\": 2}\n\n"),
        ]);
        let cases = discover(place.path()).unwrap();
        let [case] = cases.as_slice() else { panic!("one case") };
        assert_eq!(case.name, "one");
        let lines: Vec<(&str, Vec<usize>)> = case
            .input
            .iter()
            .map(|(rows, partitions)| (rows.table.as_str(), partitions.iter().map(|p| p.lines.len()).collect()))
            .collect();
        assert_eq!(lines, [("clicks", vec![2, 1]), ("orders", vec![0])]);
        assert_eq!(case.expected[0].1.len(), 1);
    }

    #[test]
    fn mistakes_in_a_case_name_the_file() {
        let nowhere = discover(Path::new("no/where")).unwrap_err().to_string();
        assert_eq!(nowhere, "there is no folder no/where");
        let no_cases = discover(folder(&[]).path()).unwrap_err().to_string();
        assert!(no_cases.starts_with("there are no cases below "), "{no_cases}");
        let place = folder(&[("tests/one/expected/t.jsonl", "{\"a\": 1}\n[1]\n")]);
        let error = discover(place.path()).unwrap_err().to_string();
        assert!(error.contains("t.jsonl:2: not a JSON object"), "{error}");
        let place = folder(&[("tests/one/expected/t.json", "")]);
        let error = discover(place.path()).unwrap_err().to_string();
        assert!(error.contains("t.json: not a file of a case"), "{error}");
    }

    #[test]
    fn a_misspelt_table_is_recognised() {
        let rows = Rows { table: "clisk".into(), path: "input/clisk.jsonl".into() };
        let error = rows.must_be_one_of(&["clicks", "orders"]).unwrap_err().to_string();
        assert_eq!(error, "input/clisk.jsonl: the program has no table 'clisk': did you mean 'clicks'?");
    }

    #[test]
    fn thorough_settings_cover_what_rows_may_not_depend_on() {
        let all = Settings::thorough();
        assert_eq!(all.len(), 27);
        assert!(all.contains(&Settings { parallelism: 7, batch_size: 1, seed: 2 }));
        assert_eq!(all[0].to_string(), "parallelism 1, batches of 1 rows, interleaving 0");
    }
}
