//! `acequia audit`: proves that destinations have every row, each once, or says what is wrong with them.
//!
//! It takes no lock and no number, so that a pipeline may be running. The checkpoints are read before and after the
//! destinations, and destinations that fit neither are read again a few times: rows may have been on their way.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::checkpoint_place::CheckpointArguments;
use super::exit::Exit;
use super::folder::{self, Planned};
use super::format::Format;
use crate::checkpoint::inspection;
use crate::checkpoint::ledger::Due;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::{Store, StoreError};
use crate::dataflow::audit::{self, AuditOptions, Finding, Verdict};
use crate::dataflow::graph::{Graph, Node, NodeKind};

/// How often a destination is read that does not fit, while rows may be on their way to it.
const ATTEMPTS: u32 = 5;
/// How often at most while the checkpoints stay as they are, because no run may be alive.
const IDLE_ATTEMPTS: u32 = 3;
/// How long it has in between: more than the time of an epoch.
const PAUSE: Duration = Duration::from_millis(1200);

/// Prove that every row is in its destination, once.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  acequia audit                    the destinations of the folder ./queries
  acequia audit queries --name shop --checkpoints s3://bucket/prefix
  acequia audit --format json

Each destination is read from its first row on and held against the number and the hashes of the rows that the
checkpoints have counted for it. The pipeline may be running. Exit codes: 1 when a destination is wrong or cannot be
read, 2 when there are no checkpoints of this folder, 5 when none is whole.")]
pub struct AuditArguments {
    /// The folder, or one SQL file
    #[arg(default_value = "queries")]
    folder: PathBuf,

    #[command(flatten)]
    place: CheckpointArguments,

    /// Where checkpoints and embedded parts keep their files
    #[arg(long, value_name = "FOLDER", env = "ACEQUIA__RUN__DATA_DIR", default_value = "acequia-data")]
    data_dir: PathBuf,

    /// The pipeline's name [default: the folder's name]
    #[arg(long, env = "ACEQUIA__RUN__NAME")]
    name: Option<String>,

    /// How results are printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Why nothing was audited.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error(
        "there are no checkpoints of pipeline {pipeline} in {place}: 'acequia run' makes them. If they are elsewhere, \
         give --checkpoints or --data-dir, and --name if the run had one"
    )]
    NoCheckpoints { pipeline: String, place: String },
    #[error("no checkpoint in {place} is whole: {flaws}")]
    Damaged { place: String, flaws: String },
    #[error(
        "the checkpoints in {place} are those of other queries: they write {theirs}, and those of {folder} write \
         {ours}. Name the folder that was run, or give --name or --checkpoints"
    )]
    OtherFolder { place: String, folder: String, theirs: String, ours: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuditError {
    fn exit(&self) -> Exit {
        match self {
            AuditError::NoCheckpoints { .. } | AuditError::OtherFolder { .. } => Exit::Usage,
            AuditError::Damaged { .. } => Exit::Mismatch,
            AuditError::Store(_) => Exit::Runtime,
        }
    }
}

/// Audits a folder.
pub async fn audit(arguments: &AuditArguments) -> Exit {
    let pipeline = arguments.name.clone().unwrap_or_else(|| folder::name(&arguments.folder));
    // More can be planned for a run to the end of its input, and the names of the sinks are the same.
    let planned = match folder::plan(&arguments.folder, true).await {
        Ok(planned) => planned,
        Err(exit) => return exit,
    };
    match examine(arguments, &pipeline, &planned).await {
        Ok(findings) => {
            match arguments.format {
                Format::Table => print!("{}", audit::render(&findings)),
                Format::Json => println!("{:#}", as_json(&findings)),
            }
            if findings.iter().any(|finding| finding.verdict.is_wrong()) { Exit::Failed } else { Exit::Success }
        }
        Err(error) => {
            eprintln!("error: {error}");
            error.exit()
        }
    }
}

fn as_json(findings: &[Finding]) -> serde_json::Value {
    let finding = |finding: &Finding| {
        json!({
            "sink": finding.sink,
            "expected": finding.expected,
            "found": finding.found,
            "dead_letters": finding.dead_letters,
            "verdict": finding.verdict.name(),
            "wrong": finding.verdict.is_wrong(),
            "message": finding.told(),
        })
    };
    findings.iter().map(finding).collect()
}

async fn examine(arguments: &AuditArguments, pipeline: &str, planned: &Planned) -> Result<Vec<Finding>, AuditError> {
    let Planned { program, graph } = planned;
    let store = arguments.place.open(&arguments.data_dir, pipeline)?;
    let options = AuditOptions {
        pipeline: pipeline.to_owned(),
        data_dir: arguments.data_dir.clone(),
        stop: CancellationToken::new(),
    };
    let mut known = Checkpoint::newest(&store, pipeline).await?;
    known.refuse_other(arguments, &*store, graph)?;
    let mut findings: BTreeMap<String, Finding> = BTreeMap::new();
    let mut moves = false;
    for attempt in 1..=ATTEMPTS {
        let wanted = |sink: &str| findings.get(sink).is_none_or(|finding| is_open(&finding.verdict));
        let holdings = audit::holdings(program, graph, wanted, &options).await;
        let now = Checkpoint::newest(&store, pipeline).await?;
        for holding in &holdings {
            findings.insert(holding.sink.clone(), audit::judge(holding, &[&known.due, &now.due]));
        }
        moves |= now != known;
        let settled = !moves && now.due.values().all(|due| due.earlier.is_empty());
        known = now;
        if settled || !findings.values().any(|finding| is_open(&finding.verdict)) {
            break;
        }
        if attempt >= if moves { ATTEMPTS } else { IDLE_ATTEMPTS } {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    // In the graph's order, and after these what is not in the folder any more.
    let mut in_order: Vec<Finding> = sinks(graph).filter_map(|sink| findings.remove(sink)).collect();
    for finding in &mut in_order {
        if let (Verdict::UnderWay(rows), false) = (&finding.verdict, moves) {
            finding.verdict = Verdict::Undelivered(*rows);
        }
    }
    let gone = known.due.iter().filter(|(sink, _)| !sinks(graph).any(|known| known == *sink));
    in_order.extend(gone.map(|(sink, due)| Finding {
        sink: sink.clone(),
        expected: Some(due.all.rows),
        found: None,
        dead_letters: 0,
        verdict: Verdict::Unprovable("the folder does not write it any more".into()),
    }));
    Ok(in_order)
}

/// Whether reading it again may show something else.
fn is_open(verdict: &Verdict) -> bool {
    verdict.is_wrong() || matches!(verdict, Verdict::UnderWay(_))
}

fn sinks(graph: &Graph) -> impl Iterator<Item = &str> {
    graph.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Sink(_))).map(Node::identity)
}

/// What the newest checkpoint says of the sinks.
#[derive(PartialEq, Eq)]
struct Checkpoint {
    epoch: u64,
    due: BTreeMap<String, Due>,
}

impl Checkpoint {
    async fn newest(store: &Arc<dyn Store>, pipeline: &str) -> Result<Checkpoint, AuditError> {
        let found = inspection::list(store).await?;
        let (whole, flaws): (Vec<_>, Vec<_>) = found.into_iter().map(|found| found.manifest).partition(Result::is_ok);
        // A later run's epochs come after all of an earlier one's, also when it went on from an older one.
        let newest = whole.into_iter().flatten().max_by_key(|manifest| (manifest.incarnation, manifest.epoch));
        let place = store.describe();
        match newest {
            Some(Manifest { epoch, sinks, .. }) => {
                let due = sinks.into_iter().map(|(name, sink)| (name, sink.due()));
                Ok(Checkpoint { epoch, due: due.collect() })
            }
            None if flaws.is_empty() => Err(AuditError::NoCheckpoints { pipeline: pipeline.into(), place }),
            None => {
                let flaws: Vec<String> = flaws.into_iter().filter_map(Result::err).collect();
                Err(AuditError::Damaged { place, flaws: flaws.join("; ") })
            }
        }
    }

    /// Refuses a folder with none of the sinks that the checkpoints know.
    fn refuse_other(&self, arguments: &AuditArguments, store: &dyn Store, graph: &Graph) -> Result<(), AuditError> {
        if self.due.is_empty() || sinks(graph).any(|sink| self.due.contains_key(sink)) {
            return Ok(());
        }
        let ours: Vec<&str> = sinks(graph).collect();
        let theirs: Vec<&str> = self.due.keys().map(String::as_str).collect();
        Err(AuditError::OtherFolder {
            place: store.describe(),
            folder: arguments.folder.display().to_string(),
            theirs: theirs.join(", "),
            ours: ours.join(", "),
        })
    }
}
