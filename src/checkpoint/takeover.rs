//! From the state of yesterday's queries to the operators of today's.
//!
//! An operator with state has a fingerprint: what it computes, over what, kept in which columns. State goes to the
//! operator with the same fingerprint, whatever its name is now. A name counts only where fingerprints cannot tell: among
//! operators that compute the same, and to see that one computes something else than before.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::log::Recovered;
use super::state::EpochState;
use crate::time::Epoch;

/// What an operator computes and how its state looks, in a form that stays the same from run to run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Fingerprint(pub String);

/// How the fingerprint of an operator begins that keeps a watermark but no rows across a barrier, by which it tells late
/// rows. Where it is new or gone, so is the operator behind it, which is said of that one alone.
pub const FIRST_PHASE: &str = "first phase of ";

/// The longest text of a fingerprint.
const LONGEST_TEXT: usize = 1500;

impl Fingerprint {
    /// Of a text that says all about the operator.
    pub fn new(text: &str) -> Fingerprint {
        Fingerprint(format!("{} #{:016x}", shortened(text, LONGEST_TEXT), xxh3_64(text.as_bytes())))
    }

    /// Whether there are rows in its state.
    fn keeps_rows(&self) -> bool {
        !self.0.starts_with(FIRST_PHASE)
    }

    /// The text for people, without the hash.
    pub fn text(&self) -> &str {
        self.0.rsplit_once(" #").map_or(self.0.as_str(), |(text, _)| text)
    }
}

/// The text, or if it is longer than `longest` characters its beginning and a hash of the whole.
pub fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…{:016x}", &text[..end], xxh3_64(text.as_bytes())),
    }
}

/// The parts of a graph that checkpoints know, by node name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identities {
    /// Operators with state.
    pub operators: BTreeMap<String, Fingerprint>,
    /// Sources.
    pub sources: BTreeSet<String>,
    /// Sinks.
    pub sinks: BTreeMap<String, String>,
}

/// What a run goes on from, under the names of its own graph.
#[derive(Clone, Debug, Default)]
pub struct Takeover {
    /// The state.
    pub state: EpochState,
    /// Its operators: from the name that they had to the name that they have.
    pub renamed: BTreeMap<String, String>,
    /// Epochs to deliver, rising, by sink.
    pub undelivered: BTreeMap<String, Vec<Epoch>>,
    /// What a user should know: operators that begin empty, state that nobody takes any more. One line each.
    pub notes: Vec<String>,
}

/// The folder has changed so that some state cannot be taken over.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct TakeoverError {
    /// Which state, why, and the flag that accepts its loss.
    pub message: String,
}

/// Matches what was recovered with today's graph. With `accept_lost_state`, state that cannot be taken over is left
/// behind, with a note.
///
/// A run that had come to the end of its input has no state left but where its sources stand, so nothing is said about
/// its operators.
///
/// # Errors
/// When an operator of the same name computes something else now, or rows wait for a sink that is gone.
pub fn take_over(
    recovered: &Recovered,
    identities: &Identities,
    accept_lost_state: bool,
) -> Result<Takeover, TakeoverError> {
    let mut takeover =
        Takeover { state: EpochState { epoch: recovered.state.epoch, ..EpochState::default() }, ..Takeover::default() };
    let mut lost = vec![];
    if !recovered.finished {
        take_operators(recovered, identities, &mut takeover, &mut lost);
    }
    for (source, state) in &recovered.state.sources {
        if identities.sources.contains(source) {
            takeover.state.sources.insert(source.clone(), state.clone());
            // The watermark of all its splits, which stands under the same name.
            if let Some(watermark) = recovered.state.operators.get(source) {
                takeover.state.operators.insert(source.clone(), watermark.clone());
            }
        } else {
            takeover.notes.push(format!("{source} is not read any more: where its reading stood is forgotten"));
        }
    }
    for (sink, epochs) in recovered.undelivered.iter().filter(|(_, epochs)| !epochs.is_empty()) {
        if identities.sinks.contains_key(sink) {
            takeover.undelivered.insert(sink.clone(), epochs.clone());
        } else {
            lost.push(Lost::Rows { sink, epochs });
        }
    }
    if lost.is_empty() {
        return Ok(takeover);
    }
    if accept_lost_state {
        takeover.notes.extend(lost.iter().map(Lost::note));
        return Ok(takeover);
    }
    let all: String = lost.iter().map(|lost| format!("\n{lost}")).collect();
    Err(TakeoverError {
        message: format!(
            "the checkpoint of epoch {} does not fit the queries of this folder any more:{all}\nput back what was there, \
             or start with --accept-lost-state: what cannot be taken over is then left behind, and the rest goes on",
            recovered.state.epoch
        ),
    })
}

/// What cannot be taken over.
enum Lost<'a> {
    /// The state of an operator that computes something else now.
    State { operator: &'a str, was: &'a Fingerprint, is: &'a Fingerprint },
    /// Rows for a sink that is gone.
    Rows { sink: &'a str, epochs: &'a [Epoch] },
}

impl std::fmt::Display for Lost<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Lost::State { operator, was, is } => {
                let (was, is) = match (was.text(), is.text()) {
                    (then, now) if then == now => (was.0.clone(), is.0.clone()),
                    (then, now) => (differing(then, now), differing(now, then)),
                };
                write!(f, "  {operator} computes something else than its state is of\n    was: {was}\n    is:  {is}")
            }
            Lost::Rows { sink, epochs } => {
                let rows = epochs_of(epochs);
                write!(f, "  {sink} is not written any more, and rows of {rows} have not been delivered to it")
            }
        }
    }
}

/// `text` from a little before where it parts from `other` to a little behind where it meets it again.
fn differing(text: &str, other: &str) -> String {
    const BEFORE: usize = 80;
    const BEHIND: usize = 30;
    let common = |(a, b): &(char, char)| a == b;
    let (all, rest): (Vec<char>, Vec<char>) = (text.chars().collect(), other.chars().collect());
    let prefix = all.iter().copied().zip(rest.iter().copied()).take_while(common).count();
    let most = all.len().min(rest.len()) - prefix;
    let suffix = all.iter().rev().copied().zip(rest.iter().rev().copied()).take(most).take_while(common).count();
    let start = if prefix > BEFORE + 20 { prefix - BEFORE } else { 0 };
    let end = if suffix > BEHIND + 20 { all.len() - suffix + BEHIND } else { all.len() };
    let shown: String = all[start..end].iter().collect();
    let (before, behind) = (if start > 0 { "…" } else { "" }, if end < all.len() { "…" } else { "" });
    format!("{before}{shown}{behind}")
}

impl Lost<'_> {
    fn note(&self) -> String {
        match self {
            Lost::State { operator, was, .. } => {
                format!("{operator} begins empty: its state is left behind, which was of {}", was.text())
            }
            Lost::Rows { sink, epochs } => {
                format!("{sink} is not written any more: rows of {} are never delivered to it", epochs_of(epochs))
            }
        }
    }
}

fn epochs_of(epochs: &[Epoch]) -> String {
    match epochs {
        [] => "no epoch".into(),
        [one] => format!("epoch {one}"),
        [first, .., last] => format!("epochs {first} to {last}"),
    }
}

/// Gives each of today's operators the state of one that computed the same.
fn take_operators<'a>(
    recovered: &'a Recovered,
    identities: &'a Identities,
    takeover: &mut Takeover,
    lost: &mut Vec<Lost<'a>>,
) {
    let pairs = matched(&recovered.operators, &identities.operators);
    for (was, is) in &pairs {
        takeover.renamed.insert((*was).to_owned(), (*is).to_owned());
        if let Some(state) = recovered.state.operators.get(*was) {
            takeover.state.operators.insert((*is).to_owned(), state.clone());
        }
    }
    let taken: BTreeSet<&str> = pairs.iter().map(|(was, _)| *was).collect();
    let filled: BTreeSet<&str> = pairs.iter().map(|(_, is)| *is).collect();
    let open = |(name, is): &(&String, &Fingerprint)| is.keeps_rows() && !filled.contains(name.as_str());
    for (operator, is) in identities.operators.iter().filter(open) {
        match recovered.operators.get(operator).filter(|_| !taken.contains(operator.as_str())) {
            Some(was) => lost.push(Lost::State { operator, was, is }),
            None => {
                takeover.notes.push(format!("{operator} is new: it begins empty, with the rows that come from now on"))
            }
        }
    }
    let left = |(name, was): &(&String, &Fingerprint)| was.keeps_rows() && !taken.contains(name.as_str());
    for (operator, was) in recovered.operators.iter().filter(left) {
        if !identities.operators.contains_key(operator) || filled.contains(operator.as_str()) {
            let text = was.text();
            takeover.notes.push(format!("{operator} is gone: its state is left behind, which was of {text}"));
        }
    }
}

/// Pairs of names, then and now, with equal fingerprints: those of equal names first, the others in order.
fn matched<'a>(
    then: &'a BTreeMap<String, Fingerprint>,
    now: &'a BTreeMap<String, Fingerprint>,
) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![];
    let mut left: BTreeMap<&Fingerprint, Vec<&str>> = BTreeMap::new();
    for (name, fingerprint) in then {
        if now.get(name) == Some(fingerprint) {
            pairs.push((name.as_str(), name.as_str()));
        } else {
            left.entry(fingerprint).or_default().push(name);
        }
    }
    for (name, fingerprint) in now.iter().filter(|(name, fingerprint)| then.get(*name) != Some(*fingerprint)) {
        if let Some(names) = left.get_mut(fingerprint).filter(|names| !names.is_empty()) {
            pairs.push((names.remove(0), name));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::super::state::{OperatorState, SourceState};
    use super::*;
    use crate::time::EventTime;

    /// Operators of these names and fingerprints, each with a watermark that tells it apart.
    fn recovered(operators: &[(&str, &str)]) -> Recovered {
        let mut recovered = Recovered::default();
        recovered.state.epoch = Epoch(12);
        for (at, (name, fingerprint)) in operators.iter().enumerate() {
            recovered.operators.insert((*name).into(), Fingerprint::new(fingerprint));
            let state = OperatorState { watermark: EventTime(at as i64), batches: vec![] };
            recovered.state.operators.insert((*name).into(), state);
        }
        recovered
    }

    fn identities(operators: &[(&str, &str)]) -> Identities {
        let operators = operators.iter().map(|(name, text)| ((*name).into(), Fingerprint::new(text))).collect();
        Identities { operators, ..Identities::default() }
    }

    /// Which operator of `then` each of `now` goes on from, and the notes.
    fn taken(then: &[(&str, &str)], now: &[(&str, &str)], accept: bool) -> (Vec<(String, i64)>, Vec<String>) {
        let takeover = take_over(&recovered(then), &identities(now), accept).unwrap();
        let states = takeover.state.operators.into_iter().map(|(name, state)| (name, state.watermark.0)).collect();
        (states, takeover.notes)
    }

    fn refusal(recovered: &Recovered, identities: &Identities) -> String {
        take_over(recovered, identities, false).unwrap_err().to_string()
    }

    #[test]
    fn state_follows_what_is_computed_and_not_the_name() {
        let (states, notes) = taken(&[("a", "x"), ("b", "y")], &[("a", "y"), ("c", "x")], false);
        assert_eq!(states, [("a".into(), 1), ("c".into(), 0)]);
        assert!(notes.is_empty(), "{notes:?}");
        let renamed = take_over(&recovered(&[("a", "x")]), &identities(&[("c", "x")]), false).unwrap().renamed;
        assert_eq!(renamed, BTreeMap::from([("a".into(), "c".into())]));
    }

    #[test]
    fn among_equals_the_name_decides_and_then_the_order() {
        let then = [("a", "x"), ("b", "x"), ("c", "x")];
        assert_eq!(taken(&then, &[("a", "x"), ("b", "x"), ("c", "x")], false).0[1], ("b".into(), 1));
        let (states, notes) = taken(&then, &[("c", "x"), ("d", "x")], false);
        assert_eq!(states, [("c".into(), 2), ("d".into(), 0)]);
        assert_eq!(notes, ["b is gone: its state is left behind, which was of x"]);
    }

    #[test]
    fn what_is_new_begins_empty_and_what_is_gone_is_listed() {
        let (states, notes) = taken(&[("a", "x"), ("b", "y")], &[("a", "x"), ("n", "z")], false);
        assert_eq!(states, [("a".into(), 0)]);
        assert_eq!(
            notes,
            [
                "n is new: it begins empty, with the rows that come from now on",
                "b is gone: its state is left behind, which was of y"
            ]
        );
        // Where its state went to another name, an operator of the old name is simply new.
        let (states, notes) = taken(&[("a", "x")], &[("a", "z"), ("b", "x")], false);
        assert_eq!(states, [("b".into(), 0)]);
        assert_eq!(notes, ["a is new: it begins empty, with the rows that come from now on"]);
        // And where an operator of that name got another's state, the state that it had is gone.
        let (states, notes) = taken(&[("a", "x"), ("b", "z")], &[("a", "z")], false);
        assert_eq!(states, [("a".into(), 1)]);
        assert_eq!(notes, ["a is gone: its state is left behind, which was of x"]);
    }

    #[test]
    fn an_operator_that_computes_something_else_stops_the_start() {
        let (then, now) = ([("sales.window", "tumble(30s)"), ("b", "y")], [("sales.window", "tumble(1m)"), ("b", "y")]);
        assert_eq!(
            refusal(&recovered(&then), &identities(&now)),
            "the checkpoint of epoch 12 does not fit the queries of this folder any more:\n  sales.window computes \
             something else than its state is of\n    was: tumble(30s)\n    is:  tumble(1m)\nput back what was there, or \
             start with --accept-lost-state: what cannot be taken over is then left behind, and the rest goes on"
        );
        let (states, notes) = taken(&then, &now, true);
        assert_eq!(states, [("b".into(), 1)]);
        assert_eq!(notes, ["sales.window begins empty: its state is left behind, which was of tumble(30s)"]);
    }

    #[test]
    fn of_a_phase_that_keeps_no_rows_nothing_is_said() {
        let then = [("a", "x"), ("a.partial", "first phase of x"), ("b.partial", "first phase of y")];
        let (states, notes) =
            taken(&then, &[("c", "x"), ("c.partial", "first phase of x"), ("b.partial", "first phase of z")], false);
        assert_eq!(states, [("c".into(), 0), ("c.partial".into(), 1)]);
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn what_differs_beyond_the_shown_text_is_told_by_its_hash() {
        let long = |end: &str| format!("{}{end}", "x".repeat(LONGEST_TEXT));
        assert_ne!(Fingerprint::new(&long("a")), Fingerprint::new(&long("b")));
        let hidden = (Fingerprint("x #1".into()), Fingerprint("x #2".into()));
        let lost = Lost::State { operator: "q", was: &hidden.0, is: &hidden.1 };
        assert_eq!(lost.to_string(), "  q computes something else than its state is of\n    was: x #1\n    is:  x #2");
    }

    #[test]
    fn only_what_differs_is_shown_of_long_texts() {
        let of = |filter: &str| {
            format!(
                "tumble(30s) over clicks.ts, watermark (clicks.ts - 10s), by clicks.k: sum(clicks.v), count(*), max(clicks.v), \
                     min(clicks.v) from clicks where {filter}, kept as (Timestamp(ns) not null, Utf8, Int64, Int64, Int64, Int64)"
            )
        };
        assert_eq!(
            differing(&of("(clicks.v > Int64(3))"), &of("(clicks.v > Int64(14))")),
            "….v), count(*), max(clicks.v), min(clicks.v) from clicks where (clicks.v > Int64(3)), kept as (Timestamp(ns) not…"
        );
        assert_eq!(differing("tumble(30s)", "tumble(1m)"), "tumble(30s)");
        assert_eq!(differing("aa", "aaa"), "aa");
    }

    #[test]
    fn rows_that_wait_for_a_sink_that_is_gone_stop_the_start() {
        let mut waiting = recovered(&[]);
        waiting.undelivered.insert("sales".into(), vec![Epoch(9), Epoch(11), Epoch(12)]);
        waiting.undelivered.insert("log".into(), vec![Epoch(12)]);
        waiting.undelivered.insert("done".into(), vec![]);
        let mut now = identities(&[]);
        now.sinks.insert("log".into(), "file log".into());
        assert_eq!(
            refusal(&waiting, &now),
            "the checkpoint of epoch 12 does not fit the queries of this folder any more:\n  sales is not written any \
             more, and rows of epochs 9 to 12 have not been delivered to it\nput back what was there, or start with \
             --accept-lost-state: what cannot be taken over is then left behind, and the rest goes on"
        );
        let takeover = take_over(&waiting, &now, true).unwrap();
        assert_eq!(takeover.undelivered, BTreeMap::from([("log".into(), vec![Epoch(12)])]));
        assert_eq!(takeover.notes, ["sales is not written any more: rows of epochs 9 to 12 are never delivered to it"]);
        waiting.undelivered.insert("sales".into(), vec![Epoch(9)]);
        assert!(refusal(&waiting, &now).contains("rows of epoch 9 have not"));
    }

    #[test]
    fn sources_go_on_by_name() {
        let mut then = recovered(&[]);
        for (name, offset) in [("clicks", 5), ("views", 6)] {
            let positions = [("0".to_string(), offset)].into_iter().collect();
            then.state.sources.insert(name.into(), SourceState { positions, ..SourceState::default() });
        }
        let mut now = identities(&[]);
        now.sources.extend(["clicks".to_string(), "orders".to_string()]);
        let takeover = take_over(&then, &now, false).unwrap();
        assert_eq!(takeover.state.sources.keys().collect::<Vec<_>>(), ["clicks"]);
        assert_eq!(takeover.state.sources["clicks"], then.state.sources["clicks"]);
        assert_eq!(takeover.state.epoch, Epoch(12));
        assert_eq!(takeover.notes, ["views is not read any more: where its reading stood is forgotten"]);
    }

    #[test]
    fn after_the_end_of_the_input_any_queries_can_follow() {
        let mut ended = recovered(&[("a", "x"), ("b", "y")]);
        ended.finished = true;
        ended.undelivered.insert("sales".into(), vec![Epoch(12)]);
        let mut now = identities(&[("a", "z"), ("n", "n")]);
        assert!(refusal(&ended, &now).contains("sales is not written"), "rows may wait still");
        now.sinks.insert("sales".into(), "file sales".into());
        let takeover = take_over(&ended, &now, false).unwrap();
        assert!(takeover.state.operators.is_empty() && takeover.renamed.is_empty() && takeover.notes.is_empty());
        assert_eq!(takeover.undelivered["sales"], [Epoch(12)]);
    }
}
