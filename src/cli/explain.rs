//! `acequia explain`: the dataflow graph of a folder, or of one of its queries.

mod diagram;

use std::path::PathBuf;

use clap::ValueEnum;

use super::exit::Exit;
use super::folder;
use crate::catalog::options::closest;
use diagram::Selection;

/// Show how a folder's queries would run: sources, operators, exchanges and sinks.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia explain queries
  acequia explain queries product_metrics          only what leads to one table or query
  acequia explain queries --format mermaid > queries.mmd")]
pub struct ExplainArguments {
    /// The folder, or one SQL file
    #[arg(default_value = "queries")]
    folder: PathBuf,

    /// A table that is written, a query or a node: only what leads to it is shown
    name: Option<String>,

    /// Explain a run with --bounded
    #[arg(long)]
    bounded: bool,

    /// How the graph is written
    #[arg(long, value_enum, default_value = "text")]
    format: ExplainFormat,
}

/// How the graph is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum ExplainFormat {
    /// For a person.
    Text,
    /// A Mermaid flowchart.
    Mermaid,
    /// For a program.
    Json,
}

/// Explains a folder.
pub async fn explain(arguments: &ExplainArguments) -> Exit {
    let graph = match folder::plan(&arguments.folder, arguments.bounded).await {
        Ok(planned) => planned.graph,
        Err(exit) => return exit,
    };
    let selection = match &arguments.name {
        None => Selection::all(&graph),
        Some(name) => match Selection::of(&graph, name) {
            Some(selection) => selection,
            None => {
                let names: Vec<&str> = Selection::names(&graph);
                match closest(name, names.iter().copied()) {
                    Some(meant) => eprintln!("error: nothing is called '{name}': did you mean '{meant}'?"),
                    None => eprintln!("error: nothing is called '{name}': there are {}", names.join(", ")),
                }
                return Exit::Usage;
            }
        },
    };
    let text = match arguments.format {
        ExplainFormat::Text => selection.text(),
        ExplainFormat::Mermaid => selection.mermaid(),
        ExplainFormat::Json => selection.json(),
    };
    print!("{text}");
    Exit::Success
}
