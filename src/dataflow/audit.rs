//! Holds destinations against the epochs: reads each back and compares what is found with the log's tally.
//!
//! A tally is a count and a sum of row hashes ([`Tally`]), so a single row that is lost, there twice or changed shows.
//! What cannot be proved is said: where rows replace one another, where they are delivered at least once, where nothing
//! can be read back. Rows that others have written into the same place count as surplus.
//!
//! A pipeline may be running meanwhile. Its destinations then have everything up to some epoch between the last one
//! that was known to be settled before the reading and the newest one after it: each of these is right ([`Due`]).

mod rows;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use self::rows::Rows;
use super::graph::{Graph, NodeKind, SinkNode};
pub use super::read_back::ReadOptions as AuditOptions;
use crate::checkpoint::ledger::{Due, Tally};
use crate::connectors::delivery::Delivery;
use crate::connectors::{ConnectorError, SinkMode, SourceFactory};
use crate::program::{Program, Table};

/// What was found about a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The sink's node.
    pub sink: String,
    /// Rows that the epochs say it must have, if they say.
    pub expected: Option<u64>,
    /// Rows that are there, if they were counted; with the dead letters.
    pub found: Option<u64>,
    /// Rows that the destination refused and keeps apart.
    pub dead_letters: u64,
    /// What follows.
    pub verdict: Verdict,
}

impl Finding {
    /// The verdict, with what the destination has refused.
    pub fn told(&self) -> String {
        match self.dead_letters {
            0 => self.verdict.to_string(),
            1 => format!("{}; 1 of them is a dead letter", self.verdict),
            count => format!("{}; {count} of them are dead letters", self.verdict),
        }
    }
}

/// What follows from the rows of a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All rows are there, each once, as they were written.
    Whole,
    /// All is as it must be but for the newest epochs, with so many rows, which are on their way.
    UnderWay(u64),
    /// The newest epochs, with so many rows, are not there, and nobody is seen to bring them.
    Undelivered(u64),
    /// So many too few. Others may be changed besides.
    Missing(u64),
    /// So many too many: there twice, or somebody else's.
    Surplus(u64),
    /// As many as there must be, but not the same ones.
    Changed,
    /// So many cannot be read as rows of the table; with the first one's trouble.
    Unreadable(u64, String),
    /// Nothing can be proved, and why.
    Unprovable(String),
    /// It could not be read, and why.
    Failed(String),
}

impl Verdict {
    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Whole => "complete",
            Verdict::UnderWay(_) => "under_way",
            Verdict::Undelivered(_) => "undelivered",
            Verdict::Missing(_) => "missing",
            Verdict::Surplus(_) => "surplus",
            Verdict::Changed => "changed",
            Verdict::Unreadable(..) => "unreadable",
            Verdict::Unprovable(_) => "unprovable",
            Verdict::Failed(_) => "failed",
        }
    }

    /// Whether the destination is known to be wrong.
    pub fn is_wrong(&self) -> bool {
        !matches!(self, Verdict::Whole | Verdict::UnderWay(_) | Verdict::Unprovable(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Whole => f.write_str("complete, no row twice"),
            Verdict::UnderWay(count) => write!(f, "complete so far, no row twice; {} under way", rows_are(*count)),
            Verdict::Undelivered(count) => write!(
                f,
                "{} missing, all of the newest epochs: not delivered yet, and no run is seen to do so, or removed \
                 together",
                rows_are(*count)
            ),
            Verdict::Missing(count) => write!(f, "{} missing", rows_are(*count)),
            Verdict::Surplus(count) => {
                write!(f, "{} too many: there twice, or not written by this pipeline", rows_are(*count))
            }
            Verdict::Changed => f.write_str(
                "as many rows as there must be, but not the same ones: some are changed, or \
                                            as many are missing as are too many",
            ),
            Verdict::Unreadable(count, why) => write!(f, "{} not readable as the table's: {why}", rows_are(*count)),
            Verdict::Unprovable(why) => write!(f, "cannot be proved: {why}"),
            Verdict::Failed(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

/// What is at a sink's destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    /// The sink's node.
    pub sink: String,
    held: Held,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Held {
    Rows(Rows),
    Unprovable(String),
    Failed(String),
}

/// Holds every sink of a graph against `expected`, the tallies of the newest checkpoint, by the sink's identity.
pub async fn audit(
    program: &Program,
    graph: &Graph,
    expected: &BTreeMap<String, Tally>,
    options: &AuditOptions,
) -> Vec<Finding> {
    let due = expected.iter().map(|(sink, tally)| (sink.clone(), Due::from(*tally))).collect();
    let holdings = holdings(program, graph, |_| true, options).await;
    holdings.iter().map(|holding| judge(holding, &[&due])).collect()
}

/// Reads back what the `wanted` sinks of a graph have written.
pub async fn holdings(
    program: &Program,
    graph: &Graph,
    wanted: impl Fn(&str) -> bool,
    options: &AuditOptions,
) -> Vec<Holding> {
    let mut holdings = vec![];
    for node in graph.nodes.iter().filter(|node| wanted(node.identity())) {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        let table = program.tables.iter().find(|table| table.definition.name == sink.table);
        holdings.push(Holding { sink: node.identity().to_owned(), held: hold(table, sink, options).await });
    }
    holdings
}

async fn hold(table: Option<&Table>, sink: &SinkNode, options: &AuditOptions) -> Held {
    let (table, source) = match provable(table, sink) {
        Ok(provable) => provable,
        Err(why) => return Held::Unprovable(why.into()),
    };
    match rows::read(table, sink, source, options).await {
        Ok(rows) => Held::Rows(rows),
        Err(ConnectorError::Mismatch { message, .. }) => Held::Unprovable(message),
        Err(error) => Held::Failed(error.to_string()),
    }
}

/// How to read a sink back, or why nothing could be proved by that.
fn provable<'a>(
    table: Option<&'a Table>,
    sink: &SinkNode,
) -> Result<(&'a Table, Arc<dyn SourceFactory>), &'static str> {
    if let SinkMode::Upsert(_) = sink.factory.mode() {
        return Err("its rows replace one another, so the epochs do not say which ones are there");
    }
    if sink.factory.delivery() == Delivery::AtOnce {
        return Err("its rows are delivered at least once, so some may rightly be there twice");
    }
    let table = table.ok_or("what was printed cannot be read back")?;
    let source = table.connector.read_back().ok_or("its connector cannot read it back")?;
    Ok((table, source))
}

/// What follows from a holding. `due` is what the sink must have, as the checkpoints said before and after it was read:
/// in between, a running pipeline may have brought more.
pub fn judge(holding: &Holding, due: &[&BTreeMap<String, Due>]) -> Finding {
    let due: Vec<&Due> = due.iter().filter_map(|due| due.get(&holding.sink)).collect();
    let finding = |expected: Option<Tally>, rows: Option<&Rows>, verdict: Verdict| Finding {
        sink: holding.sink.clone(),
        expected: expected.map(|tally| tally.rows),
        found: rows.map(|rows| rows.tally.rows),
        dead_letters: rows.map_or(0, |rows| rows.dead_letters),
        verdict,
    };
    let unprovable = |rows, why: &str| finding(None, rows, Verdict::Unprovable(why.to_owned()));
    let newest = due.last().map(|due| due.all);
    let (rows, newest) = match (&holding.held, newest) {
        (Held::Rows(rows), Some(newest)) => (rows, newest),
        (Held::Rows(rows), None) if rows.tally == Tally::default() && rows.unreadable == 0 => (rows, rows.tally),
        (Held::Rows(rows), None) => return unprovable(Some(rows), "no checkpoint has counted rows for it"),
        (Held::Unprovable(why), _) => return unprovable(None, why),
        // It may not have been made yet.
        (Held::Failed(_), None) => return unprovable(None, "no rows have come for it, and it cannot be read"),
        (Held::Failed(why), newest) => return finding(newest, None, Verdict::Failed(why.clone())),
    };
    if let Some(why) = &rows.unreadable_because {
        return finding(Some(newest), Some(rows), Verdict::Unreadable(rows.unreadable, why.clone()));
    }
    if rows.tally == newest || due.iter().any(|due| due.all == rows.tally) {
        return finding(Some(rows.tally), Some(rows), Verdict::Whole);
    }
    if due.iter().any(|due| due.earlier.contains(&rows.tally)) {
        let under_way = newest.rows.saturating_sub(rows.tally.rows);
        return finding(Some(newest), Some(rows), Verdict::UnderWay(under_way));
    }
    finding(Some(newest), Some(rows), differs(newest, rows))
}

fn differs(expected: Tally, rows: &Rows) -> Verdict {
    let found = rows.tally.rows;
    match found.cmp(&expected.rows) {
        Ordering::Less if rows.some_left_out => Verdict::Unprovable(format!(
            "{} not there; 'on_error' = 'skip' may have left them out, and keeps no count of it",
            rows_are(expected.rows - found)
        )),
        Ordering::Less => Verdict::Missing(expected.rows - found),
        Ordering::Greater => Verdict::Surplus(found - expected.rows),
        Ordering::Equal => rows.unlike.clone().map_or(Verdict::Changed, Verdict::Unprovable),
    }
}

fn rows_are(count: u64) -> String {
    if count == 1 { "1 row is".to_owned() } else { format!("{count} rows are") }
}

/// The findings as a table, a sink a line.
pub fn render(findings: &[Finding]) -> String {
    let number = |rows: Option<u64>| rows.map_or("-".to_owned(), |rows| rows.to_string());
    let mut lines = vec![["sink", "expected", "found", "verdict"].map(str::to_owned)];
    lines.extend(
        findings
            .iter()
            .map(|finding| [finding.sink.clone(), number(finding.expected), number(finding.found), finding.told()]),
    );
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let show = |[sink, expected, found, verdict]: &[String; 4]| {
        format!("{sink:<a$}  {expected:>b$}  {found:>c$}  {verdict}\n", a = widths[0], b = widths[1], c = widths[2])
    };
    lines.iter().map(show).collect()
}

#[cfg(test)]
mod tests;
