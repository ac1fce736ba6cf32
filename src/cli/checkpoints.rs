//! `acequia checkpoints`: a look at what a pipeline goes on from, and removing it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::checkpoint_place::CheckpointArguments;
use super::exit::Exit;
use super::folder;
use super::format::Format;
use crate::checkpoint::inspection::{self, Checkpoint, Remove};
use crate::checkpoint::log::CheckpointError;
use crate::checkpoint::manifest::{Manifest, SinkEntry};
use crate::checkpoint::store::Store;
use crate::connectors::BEGINNING;
use crate::time::Epoch;

/// List, show, verify or remove the checkpoints of a pipeline.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  acequia checkpoints list                          those of the folder ./queries
  acequia checkpoints show                          what the newest one holds
  acequia checkpoints verify --name shop --checkpoints s3://bucket/prefix
  acequia checkpoints remove --keep 1

Exit codes: 1 when verify finds damage, 6 when a run uses what is to be removed.")]
pub struct CheckpointsArguments {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    place: CheckpointArguments,

    /// Where checkpoints and embedded parts keep their files
    #[arg(long, global = true, value_name = "FOLDER", env = "ACEQUIA__RUN__DATA_DIR", default_value = "acequia-data")]
    data_dir: PathBuf,

    /// The folder of the pipeline, or its SQL file
    #[arg(long, global = true, default_value = "queries")]
    folder: PathBuf,

    /// The pipeline's name [default: the folder's name]
    #[arg(long, global = true, env = "ACEQUIA__RUN__NAME")]
    name: Option<String>,

    /// How results are printed
    #[arg(long, global = true, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// The checkpoints, oldest first
    List,
    /// What a checkpoint holds
    Show {
        /// Its epoch [default: the newest]
        epoch: Option<u64>,
    },
    /// Read every file and compare it with its checksums
    Verify,
    /// Remove checkpoints; a run must not be using them
    Remove(RemoveArguments),
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct RemoveArguments {
    /// The epoch of the one to remove
    epoch: Option<u64>,

    /// Remove all: the next run begins from nothing
    #[arg(long)]
    all: bool,

    /// Remove all but the newest N
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
}

/// Does what the arguments say.
pub async fn checkpoints(arguments: &CheckpointsArguments) -> Exit {
    match act(arguments).await {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                CheckpointError::Held(_) | CheckpointError::Fenced(_) => Exit::Replaced,
                CheckpointError::Damaged(_) => Exit::Failed,
                CheckpointError::Store(_) | CheckpointError::Arrow { .. } => Exit::Runtime,
            }
        }
    }
}

async fn act(arguments: &CheckpointsArguments) -> Result<Exit, CheckpointError> {
    let name = arguments.name.clone().unwrap_or_else(|| folder::name(&arguments.folder));
    let store = arguments.place.open(&arguments.data_dir, &name)?;
    match &arguments.action {
        Action::List => list(&store, arguments.format).await,
        Action::Show { epoch } => show(&store, epoch.map(Epoch), arguments.format).await,
        Action::Verify => verify(&store, arguments.format).await,
        Action::Remove(remove) => {
            let which = match (remove.epoch, remove.keep) {
                (Some(epoch), _) => Remove::One(Epoch(epoch)),
                (_, Some(keep)) => Remove::AllBut(keep),
                _ => Remove::All,
            };
            remove_some(store, which, arguments.format).await
        }
    }
}

async fn list(store: &Arc<dyn Store>, format: Format) -> Result<Exit, CheckpointError> {
    let found = inspection::list(store).await?;
    if format == Format::Json {
        print_json(&Value::Array(found.iter().map(summary).collect()));
    } else if found.is_empty() {
        println!("no checkpoints in {}", store.describe());
    } else {
        println!("{:>10}  {:>5}  {:24}  {:>10}  {:>12}", "epoch", "run", "written", "state", "rows waiting");
        for checkpoint in &found {
            println!("{}", line(checkpoint));
        }
    }
    Ok(Exit::Success)
}

fn line(checkpoint: &Checkpoint) -> String {
    let epoch = checkpoint.epoch.0;
    match &checkpoint.manifest {
        Ok(manifest) => {
            let Manifest { incarnation, written, .. } = manifest;
            let (state, rows) = (size(manifest.state_bytes()), waiting(manifest));
            let finished = if manifest.finished { "  end of the input" } else { "" };
            format!("{epoch:>10}  {incarnation:>5}  {written:24}  {state:>10}  {rows:>12}{finished}")
        }
        Err(flaw) => format!("{epoch:>10}  damaged: {flaw}"),
    }
}

fn summary(checkpoint: &Checkpoint) -> Value {
    match &checkpoint.manifest {
        Ok(manifest) => json!({
            "epoch": manifest.epoch,
            "incarnation": manifest.incarnation,
            "written": manifest.written,
            "finished": manifest.finished,
            "state_bytes": manifest.state_bytes(),
            "rows_waiting": waiting(manifest),
        }),
        Err(flaw) => json!({ "epoch": checkpoint.epoch.0, "damaged": flaw }),
    }
}

fn waiting(manifest: &Manifest) -> u64 {
    manifest.sinks.values().flat_map(SinkEntry::unsettled).map(|entry| entry.tally.rows).sum()
}

async fn show(store: &Arc<dyn Store>, epoch: Option<Epoch>, format: Format) -> Result<Exit, CheckpointError> {
    let mut found = inspection::list(store).await?;
    let chosen = match epoch {
        Some(epoch) => found.iter().position(|checkpoint| checkpoint.epoch == epoch),
        None => found.len().checked_sub(1),
    };
    let Some(chosen) = chosen else {
        let which = epoch.map_or_else(String::new, |epoch| format!(" {epoch}"));
        let place = store.describe();
        return Err(CheckpointError::Damaged(format!(
            "there is no checkpoint{which} in {place}: `acequia checkpoints list` shows what there is"
        )));
    };
    let checkpoint = found.swap_remove(chosen);
    let manifest = checkpoint.manifest.map_err(CheckpointError::Damaged)?;
    match format {
        Format::Json => print_json(&serde_json::to_value(&manifest).unwrap_or_default()),
        Format::Table => print!("{}", described(&manifest)),
    }
    Ok(Exit::Success)
}

fn described(manifest: &Manifest) -> String {
    let Manifest { epoch, pipeline, log, incarnation, written, .. } = manifest;
    let mut lines =
        vec![format!("checkpoint {epoch} of {pipeline}, written {written} by run {incarnation}, log {log}")];
    lines.push("\nsources".into());
    for (name, source) in &manifest.sources {
        lines.push(format!(
            "  {name}{}",
            source.origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"))
        ));
        for (split, offset) in &source.positions {
            let watermark = source.watermarks.get(split).map_or_else(String::new, |time| format!(", watermark {time}"));
            let place = if *offset == BEGINNING { "its beginning".into() } else { offset.to_string() };
            lines.push(format!("    {split} at {place}{watermark}"));
        }
    }
    lines.push("\noperators".into());
    // Steps without state have only a watermark.
    for (name, operator) in manifest.operators.iter().filter(|(_, operator)| !operator.parts.is_empty()) {
        let bytes =
            operator.parts.iter().filter_map(|part| manifest.files.get(&part.file)).map(|file| file.bytes).sum();
        let (files, watermark) = (operator.parts.len(), operator.watermark);
        lines.push(format!("  {name}: {files} files with {}, watermark {watermark}", size(bytes)));
    }
    lines.push("\nsinks".into());
    for (name, sink) in &manifest.sinks {
        let rows: u64 = sink.unsettled().map(|entry| entry.tally.rows).sum();
        let settled =
            sink.settled.map_or_else(|| "nothing settled".into(), |epoch| format!("settled up to epoch {epoch}"));
        lines.push(format!("  {name}: {settled}, {rows} rows waiting, {} rows in all", sink.ledger.rows));
    }
    lines.join("\n") + "\n"
}

async fn verify(store: &Arc<dyn Store>, format: Format) -> Result<Exit, CheckpointError> {
    let verified = inspection::verify(store).await?;
    let (checkpoints, files, flaws, gaps) = (verified.checkpoints, verified.files, &verified.flaws, &verified.gaps);
    match format {
        Format::Json => {
            print_json(&json!({ "checkpoints": checkpoints, "files": files, "damage": flaws, "gaps": gaps }))
        }
        Format::Table => {
            flaws.iter().for_each(|flaw| println!("damaged: {flaw}"));
            gaps.iter().for_each(|gap| println!("there once: {gap}"));
            let end = if flaws.is_empty() { "all whole".into() } else { format!("{} damaged", flaws.len()) };
            let plural = if checkpoints == 1 { "" } else { "s" };
            println!("{checkpoints} checkpoint{plural}, {files} files in {}: {end}", store.describe());
        }
    }
    Ok(if flaws.is_empty() { Exit::Success } else { Exit::Failed })
}

async fn remove_some(store: Arc<dyn Store>, which: Remove, format: Format) -> Result<Exit, CheckpointError> {
    let gone = inspection::remove(&store, which).await?;
    match format {
        Format::Json => print_json(&json!({ "removed": gone.iter().map(|epoch| epoch.0).collect::<Vec<_>>() })),
        Format::Table if gone.is_empty() => println!("nothing to remove in {}", store.describe()),
        Format::Table => {
            let epochs: Vec<String> = gone.iter().map(ToString::to_string).collect();
            println!("removed from {}: {}", store.describe(), epochs.join(", "));
        }
    }
    Ok(Exit::Success)
}

fn print_json(value: &Value) {
    println!("{value:#}");
}

fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}
