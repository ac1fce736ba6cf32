//! What of a folder can be computed from its histories: the same program with the recorded sources replaced, and without
//! the queries that read anything else.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use thiserror::Error;

use crate::catalog::{BadRows, ColumnKind, MetadataKey};
use crate::cli::exit::Exit;
use crate::cli::folder;
use crate::connectors::delta::recorded::{PlaceColumns, Recording, recorded};
use crate::connectors::delta::{DeltaHistory, DeltaPlace};
use crate::connectors::{Boundedness, ConnectorTable, SinkFactory, SourceFactory};
use crate::dataflow::graph::{Graph, NodeKind};
use crate::program::{Insert, Program, Table};
use crate::sql::names::{fold_text, meant, relations};

/// What says where a record stood: a split's name and an offset do.
const PLACE: [MetadataKey; 3] = [MetadataKey::Topic, MetadataKey::Partition, MetadataKey::Offset];

/// A program that reads histories.
pub struct Recomputed {
    /// The queries that can be computed, over tables of which the recorded ones are replaced.
    pub program: Program,
    /// The sources that are read from their histories, each with the history's name.
    pub recorded: BTreeMap<String, String>,
    /// The other queries.
    pub left_out: Vec<LeftOut>,
    /// Whether its queries were asked for by name, so that none may be left out.
    asked_for: bool,
}

/// A query that cannot be computed from histories.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    query: String,
    why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.query, self.why)
    }
}

/// Why nothing is computed.
#[derive(Debug, Error)]
pub enum BackfillError {
    /// The folder keeps no history.
    #[error(
        "no table of the folder records what a source sends, so there is no past to compute. Declare one, CREATE TABLE \
         {of}_history (...) WITH (connector = 'delta', history_of = '{of}'), and fill it, INSERT INTO \
         {of}_history SELECT * FROM {of}; what comes from then on is recorded"
    )]
    NoHistory {
        /// A table that is read.
        of: String,
    },
    /// `--only` names what is not there.
    #[error("--only {table}: no query of the folder writes such a table: {help}")]
    NoTable {
        /// The name.
        table: String,
        /// What would be right.
        help: String,
    },
    /// `--only` names a history.
    #[error("--only {table}: it records {of}, and what is recorded is not recorded again; it is read")]
    IsHistory {
        /// The name.
        table: String,
        /// What it records.
        of: String,
    },
    /// `--only` names a query that cannot be computed.
    #[error("--only: {0}. Record what it reads first, in a table with 'history_of'")]
    CannotBe(LeftOut),
    /// No query is left.
    #[error("no query can be computed from what is recorded: {0}. Record what they read in tables with 'history_of'")]
    NothingLeft(String),
}

impl Recomputed {
    /// Makes it of a program without mistakes. With `only`, of the queries that write these tables.
    ///
    /// # Errors
    /// When `only` names what cannot be computed, or nothing is left.
    pub fn of(program: Program, only: &[String], data_dir: &Path) -> Result<Recomputed, BackfillError> {
        let only: Vec<String> = only.iter().map(|name| fold_text(name)).collect();
        let histories = Histories::of(&program, data_dir);
        check_only(&only, &program)?;
        if histories.0.is_empty() {
            return Err(no_history(&program));
        }
        let (mut inserts, mut left_out) = (vec![], vec![]);
        let mut read: BTreeMap<String, String> = BTreeMap::new();
        for insert in wanted(&program, &only) {
            match histories.sources_of(insert, &program) {
                Ok(sources) => {
                    read.extend(sources);
                    inserts.push(insert.clone());
                }
                Err(why) => left_out.push(LeftOut { query: insert.name.clone(), why }),
            }
        }
        check_left_out(!only.is_empty(), &inserts, &left_out)?;
        for (source, history) in &read {
            warn_of_part(source, history, &program);
        }
        let Program { files, mut tables, views, .. } = program;
        for table in &mut tables {
            if let Some(Ok(history)) = histories.0.get(&table.definition.name) {
                *table = history.replace(table);
            }
            // Late rows of the queries that are wanted go only where it is wanted, too.
            let wanted = |late: &str| only.is_empty() || only.iter().any(|only| only == late);
            table.settings.late_rows = table.settings.late_rows.take().filter(|late| wanted(&late.name));
        }
        let program = Program { files, tables, views, inserts };
        Ok(Recomputed { program, recorded: read, left_out, asked_for: !only.is_empty() })
    }

    /// Leaves out the queries that read beside the records what their history does not give.
    ///
    /// # Errors
    /// The exit code, after it was said why, when such a query was asked for or none is left.
    pub async fn leave_out_unrecorded(&mut self) -> Result<(), Exit> {
        for insert in std::mem::take(&mut self.program.inserts) {
            let Program { files, tables, views, .. } = &self.program;
            let (files, tables, views) = (files.clone(), tables.clone(), views.clone());
            let alone = Program { files, tables, views, inserts: vec![insert.clone()] };
            let planned = folder::plan_program(alone, true).await?;
            match self.unrecorded(&planned.graph) {
                Some(why) => self.left_out.push(LeftOut { query: insert.name.clone(), why }),
                None => self.program.inserts.push(insert),
            }
        }
        check_left_out(self.asked_for, &self.program.inserts, &self.left_out).map_err(|error| {
            tracing::error!("{error}");
            Exit::Usage
        })
    }

    /// What a graph reads beside the records that no history gives, if it reads any such thing.
    fn unrecorded(&self, graph: &Graph) -> Option<String> {
        graph.nodes.iter().find_map(|node| {
            let NodeKind::Source(source) = &node.kind else { return None };
            let history = self.recorded.get(&source.table)?;
            let (key, column) = source.metadata.iter().find(|(key, _)| !PLACE.contains(key))?;
            let key = MetadataKey::ALL.iter().find(|(_, known)| known == key).map_or("", |(name, _)| *name);
            Some(format!(
                "reads column {} of {} (METADATA FROM '{key}'), for which its history {history} has no column of that name",
                column.name(),
                source.table
            ))
        })
    }
}

/// The queries to be computed, as far as they can: histories are not written again.
fn wanted<'a>(program: &'a Program, only: &'a [String]) -> impl Iterator<Item = &'a Insert> {
    program.inserts.iter().filter(move |insert| match &insert.target {
        Some(target) => {
            let is_history = program.table(&target.table).is_some_and(|table| table.connector.history_of().is_some());
            !is_history && (only.is_empty() || only.contains(&target.table))
        }
        None => only.is_empty(),
    })
}

fn check_only(only: &[String], program: &Program) -> Result<(), BackfillError> {
    for name in only {
        let source = program.table(name).and_then(|table| table.connector.history_of());
        if let Some(source) = source {
            return Err(BackfillError::IsHistory { table: name.clone(), of: source.name.clone() });
        }
        let targets = program.inserts.iter().filter_map(|insert| Some(insert.target.as_ref()?.table.as_str()));
        let late = program.tables.iter().filter_map(|table| Some(table.settings.late_rows.as_ref()?.name.as_str()));
        let mut known: Vec<&str> = targets.chain(late).collect();
        known.retain(|known| program.table(known).is_some_and(|table| table.connector.history_of().is_none()));
        known.sort_unstable();
        known.dedup();
        if !known.contains(&name.as_str()) {
            let help = meant(name, known.iter().copied()).unwrap_or_else(|| match known.as_slice() {
                [] => "none writes a table".into(),
                known => format!("they write {}", known.join(", ")),
            });
            return Err(BackfillError::NoTable { table: name.clone(), help });
        }
    }
    Ok(())
}

fn no_history(program: &Program) -> BackfillError {
    let is_stream = |table: &&Table| {
        let source = table.connector.source();
        source.is_some_and(|source| source.boundedness() == Boundedness::Unbounded)
    };
    let source = program.tables.iter().find(is_stream).or(program.tables.first());
    BackfillError::NoHistory { of: source.map_or("events".into(), |table| table.definition.name.clone()) }
}

/// A query that is asked for must not be left out, and some query must be left.
fn check_left_out(asked_for: bool, inserts: &[Insert], left_out: &[LeftOut]) -> Result<(), BackfillError> {
    if let Some(left_out) = left_out.first().filter(|_| asked_for) {
        return Err(BackfillError::CannotBe(left_out.clone()));
    }
    if !inserts.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = left_out.iter().map(LeftOut::to_string).collect();
    Err(BackfillError::NothingLeft(match why.as_slice() {
        [] => "all they do is record".into(),
        why => why.join("; "),
    }))
}

/// How to read each recorded source, or why its history does not do.
struct Histories(BTreeMap<String, Result<History, String>>);

/// A history that can be read.
struct History {
    recording: Recording,
    /// The columns of the source that come from what surrounds a record and are recorded, beside its place.
    surroundings: Vec<String>,
}

impl Histories {
    fn of(program: &Program, data_dir: &Path) -> Histories {
        let mut all = BTreeMap::new();
        for history in &program.tables {
            let Some(DeltaHistory { place, history_of: Some(name), .. }) = history.connector.history(data_dir) else {
                continue;
            };
            let Some(source) = program.table(&name) else { continue };
            // Of several, the first.
            all.entry(name).or_insert_with(|| History::of(source, history, place, program));
        }
        Histories(all)
    }

    /// The recorded sources of a query with their histories; or what it reads that cannot be had again.
    fn sources_of(&self, insert: &Insert, program: &Program) -> Result<BTreeMap<String, String>, String> {
        let mut recorded = BTreeMap::new();
        let mut missing = vec![];
        for name in base_tables(insert, program) {
            let Some(table) = program.table(&name) else { continue };
            let ends = table.connector.source().is_some_and(|source| source.boundedness() == Boundedness::Bounded);
            match self.0.get(&name) {
                Some(Ok(history)) => {
                    recorded.insert(name, history.recording.history.clone());
                }
                Some(Err(why)) => missing.push(format!("{name}, {why}")),
                // A file is read again as it was.
                None if ends => {}
                None => missing.push(format!("{name}, which has no history")),
            }
        }
        match missing.as_slice() {
            [] if recorded.is_empty() => Err("reads nothing that is recorded".into()),
            [] => Ok(recorded),
            missing => Err(format!("reads {}", missing.join(" and "))),
        }
    }
}

impl History {
    fn of(source: &Table, history: &Table, place: DeltaPlace, program: &Program) -> Result<History, String> {
        let name = &history.definition.name;
        let reads = source.connector.source();
        let topics = reads.as_ref().map_or(&[][..], |source| source.topics());
        let column = |key| {
            let name = source.definition.metadata_column(key).filter(|name| history.definition.column(name).is_some());
            name.map(str::to_owned)
        };
        let offset = column(MetadataKey::Offset);
        let columns = PlaceColumns {
            topic: column(MetadataKey::Topic),
            partition: column(MetadataKey::Partition),
            offset: offset.ok_or_else(|| format!("whose history {name} does not say the offset"))?,
        };
        if !topics.is_empty() && columns.partition.is_none() {
            return Err(format!("whose history {name} does not say the partition"));
        }
        if topics.len() > 1 && columns.topic.is_none() {
            return Err(format!("whose history {name} does not say which of its topics a row came from"));
        }
        let recording = Recording {
            table: source.definition.name.clone(),
            history: name.clone(),
            place,
            columns,
            topic: topics.first().unwrap_or(&source.definition.name).clone(),
            event_time: source.definition.watermark.as_ref().map(|watermark| watermark.column.clone()),
        };
        let is_place = |key| PLACE.contains(&key);
        // A column that cannot be written would become one that has to be, if the folder writes the table, too.
        let targets = program.inserts.iter().filter_map(|insert| insert.target.as_ref());
        let is_written = targets.map(|target| &target.table).any(|target| *target == source.definition.name);
        let surroundings = source.definition.columns.iter().filter(|column| match column.kind {
            ColumnKind::Metadata(key) => !is_place(key) && (key.can_be_written() || !is_written),
            _ => false,
        });
        let recorded = surroundings.filter(|column| history.definition.column(&column.name).is_some());
        Ok(History { recording, surroundings: recorded.map(|column| column.name.clone()).collect() })
    }

    /// The same table, read from its history.
    fn replace(&self, table: &Table) -> Table {
        let mut table = table.clone();
        for column in &mut table.definition.columns {
            // What a record was given beside its value is a column like any other in the history.
            if self.surroundings.contains(&column.name) {
                column.kind = ColumnKind::Physical;
            }
        }
        if matches!(table.settings.bad_rows, BadRows::Table(_)) {
            // Bad rows are not in the history; what is bad now, because the table was changed since, is counted.
            table.settings.bad_rows = BadRows::Count;
        }
        let sink = table.connector.sink();
        table.connector = Arc::new(ReplacedTable { source: Some(recorded(self.recording.clone())), sink });
        table
    }
}

/// The tables that a query reads, through views.
fn base_tables(insert: &Insert, program: &Program) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    let mut queries = vec![(&*insert.query, insert.location)];
    while let Some((query, place)) = queries.pop() {
        for name in relations(query, place, &program.files) {
            if names.contains(&name.text) {
                continue;
            }
            let view = program.views.iter().find(|view| view.name == name.text);
            queries.extend(view.map(|view| (&*view.query, view.location)));
            names.push(name.text);
        }
    }
    names.retain(|name| program.table(name).is_some());
    names.sort_unstable();
    names
}

/// A table of which one end is another.
pub struct ReplacedTable {
    /// How it is read.
    pub source: Option<Arc<dyn SourceFactory>>,
    /// How it is written.
    pub sink: Option<Arc<dyn SinkFactory>>,
}

impl ConnectorTable for ReplacedTable {
    fn source(&self) -> Option<Arc<dyn SourceFactory>> {
        self.source.clone()
    }

    fn sink(&self) -> Option<Arc<dyn SinkFactory>> {
        self.sink.clone()
    }
}

/// Says so if what fills a history leaves rows of the source out.
fn warn_of_part(source: &str, history: &str, program: &Program) {
    for insert in &program.inserts {
        let fills = insert.target.as_ref().is_some_and(|target| target.table == history);
        if fills && !copies(insert, source, program) {
            tracing::warn!(
                "{history} is filled by more than SELECT ... FROM {source}: what that leaves out or changes is not what \
                 {source} sent, and results may differ by it"
            );
        }
    }
}

/// Whether a query gives every row of `source`.
fn copies(insert: &Insert, source: &str, program: &Program) -> bool {
    let ast::SetExpr::Select(select) = insert.query.body.as_ref() else { return false };
    let ungrouped = matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty());
    let plain = select.selection.is_none() && select.distinct.is_none() && select.having.is_none() && ungrouped;
    let whole = insert.query.limit_clause.is_none() && insert.query.with.is_none();
    let read = relations(&insert.query, insert.location, &program.files);
    let joined = select.from.len() != 1 || select.from.iter().any(|from| !from.joins.is_empty());
    plain && whole && !joined && read.iter().all(|name| name.text == source)
}
