//! `acequia run --bounded --from-history`: the queries of a folder over the past that was recorded.
//!
//! [`recomputed`] makes of the folder's program one that reads histories, [`output`] takes the results. What runs it is
//! what runs any folder. With `--deliver` the results go to the real destinations, which [`delivery`] allows where they
//! do not have them already.

mod delivery;
mod output;
mod recomputed;

use std::path::PathBuf;

use arrow::datatypes::SchemaRef;

use output::Output;
use recomputed::Recomputed;

use super::exit::Exit;
use super::folder::{self, Planned};
use super::run::{self, Beside, RunArguments};
use crate::dataflow::graph::{NodeKind, SinkNode};
use crate::program::Program;

/// The options of `run` that compute the past again.
#[derive(clap::Args, Debug)]
pub struct BackfillArguments {
    /// Compute the queries over what the histories of their sources have recorded (tables with 'history_of')
    #[arg(long, requires = "bounded")]
    pub(super) from_history: bool,

    /// Only the queries that write this table; may be given several times
    #[arg(long, value_name = "TABLE", requires = "from_history")]
    only: Vec<String>,

    /// Where the results go, a Parquet file for each table [default: the folder backfill in the data folder]
    #[arg(long, value_name = "FOLDER", requires = "from_history", conflicts_with = "deliver")]
    output: Option<PathBuf>,

    /// Write the results to the tables' own destinations
    #[arg(long, requires = "from_history")]
    deliver: bool,
}

/// Computes the past again. The folder has no mistakes.
pub async fn run(mut arguments: RunArguments, program: Program) -> Exit {
    let mut recomputed = match Recomputed::of(program, &arguments.backfill.only, &arguments.data_dir) {
        Ok(recomputed) => recomputed,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Usage;
        }
    };
    if let Err(exit) = recomputed.leave_out_unrecorded().await {
        return exit;
    }
    for left_out in &recomputed.left_out {
        tracing::warn!("left out: {left_out}");
    }
    // A page shows what destinations hold, and a console is for what goes on running.
    arguments.page.leave_out();
    arguments.leave_out_console();
    if arguments.backfill.deliver {
        return deliver(arguments, recomputed).await;
    }
    let folder = arguments.backfill.output.clone().unwrap_or_else(|| arguments.data_dir.join("backfill"));
    let output = match Output::prepare(&folder) {
        Ok(output) => output,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Usage;
        }
    };
    for table in &mut recomputed.program.tables {
        table.connector = output.replace(table);
    }
    // Nothing is delivered, so that there is nothing to go on with: a backfill that was broken off begins anew.
    arguments.recovery.keep_none();
    let planned = match folder::plan_program(recomputed.program, true).await {
        Ok(planned) => planned,
        Err(exit) => return exit,
    };
    let tables: Vec<(String, SchemaRef)> =
        sinks(&planned).map(|sink| (sink.table.clone(), sink.schema.clone())).collect();
    match run::run_planned(&arguments, planned, Beside::default()).await {
        Exit::Success => {}
        exit => return exit,
    }
    match output.finish(&tables) {
        Ok(files) => {
            for (file, rows) in files {
                println!("{}: {rows} rows", file.display());
            }
            Exit::Success
        }
        Err(error) => {
            tracing::error!("{error}");
            Exit::Runtime
        }
    }
}

/// Delivers the results under a name of the backfill's own, so that its checkpoints and markers are its own, too.
async fn deliver(mut arguments: RunArguments, recomputed: Recomputed) -> Exit {
    let live = run::pipeline(&arguments);
    let planned = match folder::plan_program(recomputed.program, true).await {
        Ok(planned) => planned,
        Err(exit) => return exit,
    };
    let name = delivery::pipeline(&live, &arguments.backfill.only);
    if let Err(error) = delivery::check(&arguments, &live, &name, sinks(&planned)).await {
        tracing::error!("{error}");
        return error.exit();
    }
    arguments.name = Some(name);
    run::run_planned(&arguments, planned, Beside::default()).await
}

/// The sinks that are tables of the program.
fn sinks(planned: &Planned) -> impl Iterator<Item = &SinkNode> {
    planned.graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => planned.program.table(&sink.table).map(|_| sink),
        _ => None,
    })
}
