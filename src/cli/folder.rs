//! Reading and planning a folder, and what a person is told when that fails.

use std::path::Path;

use super::exit::Exit;
use super::logs;
use crate::connectors::{registry, stdout};
use crate::dataflow::graph::Graph;
use crate::planner::{self, PlanOptions};
use crate::program::Program;
use crate::sql::{SourceFiles, SqlError, SqlErrors, Variables};

/// A folder that has no mistakes.
pub struct Planned {
    /// Its tables and queries.
    pub program: Program,
    /// What runs.
    pub graph: Graph,
}

/// Reads and plans the folder; `bounded` if it will run to the end of what is there. Its mistakes are printed on stderr.
pub async fn plan(folder: &Path, bounded: bool) -> Result<Planned, Exit> {
    plan_with(folder, &Variables::from_environment(), bounded).await
}

/// The same with other variables than the environment's.
pub async fn plan_with(folder: &Path, variables: &Variables, bounded: bool) -> Result<Planned, Exit> {
    let (program, mistakes) = Program::sound_part(folder, variables, &registry::connectors());
    plan_sound(program, mistakes, bounded).await
}

/// Plans files that the binary brings along, to run without an end.
pub async fn plan_files(files: SourceFiles, variables: &Variables) -> Result<Planned, Exit> {
    match Program::parse(files, variables, &registry::connectors()) {
        Ok(program) => plan_sound(program, vec![], false).await,
        Err(errors) => Err(report(&errors)),
    }
}

/// Plans a program that was made of one without mistakes.
pub async fn plan_program(program: Program, bounded: bool) -> Result<Planned, Exit> {
    plan_sound(program, vec![], bounded).await
}

async fn plan_sound(program: Program, mut mistakes: Vec<SqlError>, bounded: bool) -> Result<Planned, Exit> {
    let options = PlanOptions { bounded, print: stdout::factory() };
    // What reading has left whole is planned in any case: all mistakes are told at once.
    match planner::plan(&program, &options).await {
        Ok(graph) if mistakes.is_empty() => return Ok(Planned { program, graph }),
        Ok(_) => {}
        Err(planning) => mistakes.extend(planning.errors),
    }
    Err(report(&SqlErrors::new(program.files, mistakes)))
}

/// Prints mistakes with their places on stderr.
fn report(errors: &SqlErrors) -> Exit {
    eprintln!("{}", errors.render(logs::color()).trim_end());
    Exit::Failed
}

/// A pipeline's name when none is given: the folder's.
pub fn name(folder: &Path) -> String {
    let absolute = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    let name = if absolute.is_file() { absolute.file_stem() } else { absolute.file_name() };
    match name {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "acequia".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_named_like_its_folder_or_its_file() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("sales");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("one.sql"), "").unwrap();
        assert_eq!(name(&folder), "sales");
        assert_eq!(name(&folder.join(".")), "sales");
        assert_eq!(name(&folder.join("one.sql")), "one");
        assert_eq!(name(Path::new("/")), "acequia");
    }
}
