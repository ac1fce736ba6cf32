//! The final phase of sessions: which fragments are one session, and when it closes.
//!
//! Fragments of a key that overlap are one session, with one exception. A row that its own watermark W had passed
//! already came behind everything that W had closed, so it must not touch a session that ends at or before W + 1, even
//! if a slower split has kept that session open here. So a key's sessions are replayed in order of watermarks: sessions
//! close when the watermark reaches their end − 1, and a fragment behind its watermark joins what is still open when
//! the watermark is its own ([`replay`]). The outcome does not depend on the order in which fragments arrive.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;

use super::accumulators::Accumulators;
use super::fragments::merge_fragments;
use super::lateness::IN_TIME;
use super::layout::{Bounds, Layout};

/// Stored fragments are merged when there are more of them than this and twice as many as after the last time.
const FRAGMENTS_WORTH_MERGING: usize = 4 * 1024;

/// The groups of a row, comparable and hashable.
type Key = Arc<[u8]>;

/// The open sessions of all keys.
pub(super) struct SessionStore {
    layout: Arc<Layout>,
    converter: Option<RowConverter>,
    batches: Vec<RecordBatch>,
    /// Rows of `batches`, those of closed sessions included.
    rows: usize,
    rows_after_merge: usize,
    fragments: HashMap<Key, Vec<Fragment>, ahash::RandomState>,
    /// When to look at a key again: some fragment of it ends then.
    deadlines: BinaryHeap<Reverse<(i64, Key)>>,
    /// Keys with new fragments since the last publication.
    changed: BTreeSet<Key>,
}

/// A stored fragment: its span, what it is too late for, and which row of which batch holds the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fragment {
    start: i64,
    end: i64,
    from: i64,
    at: (usize, usize),
}

/// A session: its span and its fragments.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Session {
    start: i64,
    end: i64,
    fragments: Vec<Fragment>,
}

impl SessionStore {
    pub(super) fn new(layout: Arc<Layout>) -> Result<SessionStore> {
        let fields: Vec<SortField> =
            layout.groups.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(SessionStore {
            layout,
            converter,
            batches: vec![],
            rows: 0,
            rows_after_merge: 0,
            fragments: new_map(),
            deadlines: BinaryHeap::new(),
            changed: BTreeSet::new(),
        })
    }

    pub(super) fn insert(&mut self, batch: RecordBatch) -> Result<()> {
        let keys = self.keys(&batch)?;
        self.changed.extend(keys.iter().cloned());
        self.index(batch, keys)?;
        if self.rows > FRAGMENTS_WORTH_MERGING.max(2 * self.rows_after_merge) {
            self.rewrite()?;
        }
        Ok(())
    }

    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Key>> {
        let Some(converter) = &self.converter else {
            return Ok(vec![Arc::from([]); batch.num_rows()]);
        };
        let rows = converter.convert_columns(self.layout.groups_of(batch))?;
        Ok(rows.iter().map(|row| Arc::from(row.as_ref())).collect())
    }

    fn index(&mut self, batch: RecordBatch, keys: Vec<Key>) -> Result<()> {
        let key_column = |index| self.layout.key(&batch, index);
        let (starts, ends, froms) = (key_column(0)?, key_column(1)?, key_column(2)?);
        for (row, key) in keys.into_iter().enumerate() {
            let fragment =
                Fragment { start: starts[row], end: ends[row], from: froms[row], at: (self.batches.len(), row) };
            self.deadlines.push(Reverse((fragment.end, Arc::clone(&key))));
            self.fragments.entry(key).or_default().push(fragment);
        }
        self.rows += batch.num_rows();
        self.batches.push(batch);
        Ok(())
    }

    /// Drops the rows of closed sessions and merges the fragments of open ones.
    fn rewrite(&mut self) -> Result<()> {
        let live = self.states()?;
        self.fragments = new_map();
        self.deadlines.clear();
        self.batches.clear();
        self.rows = 0;
        for batch in live {
            let keys = self.keys(&batch)?;
            self.index(batch, keys)?;
        }
        self.rows_after_merge = self.rows;
        Ok(())
    }

    /// The fragments of every open session, merged; the store stays as it is.
    pub(super) fn states(&self) -> Result<Vec<RecordBatch>> {
        let live: Vec<(usize, usize)> = self.fragments.values().flatten().map(|fragment| fragment.at).collect();
        if live.is_empty() {
            return Ok(vec![]);
        }
        let columns = self.gather(0..self.layout.partial.fields().len(), &live)?;
        let batch = self.layout.partial_batch(columns, vec![], live.len())?;
        Ok(vec![merge_fragments(&self.layout, &[batch])?])
    }

    /// Some columns of stored rows.
    fn gather(&self, columns: std::ops::Range<usize>, rows: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
        // Only the batches that are asked for: a `dyn Array` for each of them would cost more than a few rows.
        let mut used = BTreeMap::new();
        for (batch, _) in rows {
            let next = used.len();
            used.entry(*batch).or_insert(next);
        }
        let mut order: Vec<usize> = vec![0; used.len()];
        used.iter().for_each(|(batch, at)| order[*at] = *batch);
        let rows: Vec<(usize, usize)> = rows.iter().map(|(batch, row)| (used[batch], *row)).collect();
        columns
            .map(|column| {
                let arrays: Vec<&dyn Array> =
                    order.iter().map(|&batch| self.batches[batch].column(column).as_ref()).collect();
                if arrays.is_empty() {
                    return Ok(arrow::array::new_empty_array(self.layout.partial.field(column).data_type()));
                }
                Ok(interleave(&arrays, &rows)?)
            })
            .collect()
    }

    /// Takes out the sessions that `watermark` closes; their results, if wanted.
    pub(super) fn close(&mut self, watermark: i64, wanted: bool) -> Result<Vec<RecordBatch>> {
        let mut keys = BTreeSet::new();
        while let Some(Reverse((end, _))) = self.deadlines.peek() {
            if end - 1 > watermark {
                break;
            }
            if let Some(Reverse((_, key))) = self.deadlines.pop() {
                keys.insert(key);
            }
        }
        let mut closed = vec![];
        for key in keys {
            let Some(fragments) = self.fragments.remove(&key) else { continue };
            let replayed = replay(fragments, watermark);
            closed.extend(replayed.closed);
            if let Some(deadline) = replayed.open.iter().map(|session| session.end).min() {
                self.deadlines.push(Reverse((deadline, Arc::clone(&key))));
                let open = replayed.open.into_iter().flat_map(|session| session.fragments).collect();
                self.fragments.insert(key, open);
            } else {
                self.changed.remove(&key);
            }
        }
        let results = if wanted { self.results(closed)? } else { vec![] };
        if self.fragments.is_empty() && self.rows > 0 {
            self.rewrite()?;
        }
        Ok(results)
    }

    /// The open sessions, as they are now, of every key with new rows since this was last asked.
    pub(super) fn publish(&mut self) -> Result<Vec<RecordBatch>> {
        let mut sessions = vec![];
        for key in std::mem::take(&mut self.changed) {
            if let Some(fragments) = self.fragments.get(&key) {
                sessions.extend(replay(fragments.clone(), i64::MAX).closed);
            }
        }
        self.results(sessions)
    }

    /// One batch with a row for each session, by end.
    fn results(&self, mut sessions: Vec<Session>) -> Result<Vec<RecordBatch>> {
        if sessions.is_empty() {
            return Ok(vec![]);
        }
        sessions.sort_by_key(|session| session.end);
        let groups = self.layout.keys..self.layout.keys + self.layout.groups.fields().len();
        let sample: Vec<(usize, usize)> = sessions.iter().map(|session| session.fragments[0].at).collect();
        let (mut rows, mut indices) = (vec![], vec![]);
        for (index, session) in sessions.iter().enumerate() {
            rows.extend(session.fragments.iter().map(|fragment| fragment.at));
            indices.resize(rows.len(), index);
        }
        let states = self.gather(groups.end..self.layout.partial.fields().len(), &rows)?;
        let mut accumulators = Accumulators::new(&self.layout)?;
        accumulators.merge(&self.layout, &states, &indices, sessions.len())?;
        let mut columns = self.gather(groups, &sample)?;
        columns.extend(accumulators.take_results()?);
        let bounds = Bounds {
            starts: sessions.iter().map(|session| session.start).collect(),
            ends: sessions.iter().map(|session| session.end).collect(),
        };
        Ok(vec![self.layout.output_batch(bounds, columns)?])
    }

    pub(super) fn size(&self) -> usize {
        let batches: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let fragments = self.fragments.len() * size_of::<(Key, Vec<Fragment>)>() + self.rows * size_of::<Fragment>();
        batches + fragments + self.deadlines.len() * size_of::<(i64, Key)>()
    }
}

/// A map whose order is the same in every run.
fn new_map() -> HashMap<Key, Vec<Fragment>, ahash::RandomState> {
    HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4))
}

/// What became of a key's fragments.
struct Replayed {
    closed: Vec<Session>,
    open: Vec<Session>,
}

/// Replays a key's fragments up to `watermark`: which sessions have closed, and which are open.
fn replay(fragments: Vec<Fragment>, watermark: i64) -> Replayed {
    let (in_time, mut behind): (Vec<_>, Vec<_>) = fragments.into_iter().partition(|fragment| fragment.from == IN_TIME);
    // A row that came in time overlaps no session that had closed by then, so all of those can join at the start.
    let mut open: Vec<Session> = vec![];
    in_time.into_iter().for_each(|fragment| join(&mut open, fragment));
    behind.sort_by_key(|fragment| Reverse(fragment.from));
    let mut closed = vec![];
    loop {
        let next_close = open.iter().map(|session| session.end - 1).min();
        let next_join = behind.last().map(|fragment| fragment.from);
        match (next_close, next_join) {
            // At the same watermark closing comes first: a row finds closed what its own watermark closes.
            (Some(close), join) if close <= watermark && join.is_none_or(|join| close <= join) => {
                let (done, left) = open.into_iter().partition(|session| session.end - 1 <= close);
                let done: Vec<Session> = done;
                closed.extend(done);
                open = left;
            }
            (_, Some(from)) if from <= watermark => {
                if let Some(fragment) = behind.pop() {
                    join(&mut open, fragment);
                }
            }
            _ => break,
        }
    }
    // Behind a watermark that has not come here yet: they wait.
    open.extend(behind.into_iter().map(Session::from));
    Replayed { closed, open }
}

impl From<Fragment> for Session {
    fn from(fragment: Fragment) -> Session {
        Session { start: fragment.start, end: fragment.end, fragments: vec![fragment] }
    }
}

/// Adds a fragment to the sessions of its key, merging those that it bridges.
fn join(sessions: &mut Vec<Session>, fragment: Fragment) {
    let mut joined = Session::from(fragment);
    let mut index = 0;
    while index < sessions.len() {
        // Sessions do not overlap each other, so growing by one does not make the span meet another.
        if sessions[index].start < fragment.end && fragment.start < sessions[index].end {
            let bridged = sessions.swap_remove(index);
            joined.start = joined.start.min(bridged.start);
            joined.end = joined.end.max(bridged.end);
            joined.fragments.extend(bridged.fragments);
        } else {
            index += 1;
        }
    }
    sessions.push(joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(start: i64, end: i64, from: i64) -> Fragment {
        Fragment { start, end, from, at: (0, 0) }
    }

    fn spans(sessions: &[Session]) -> Vec<(i64, i64)> {
        sessions.iter().map(|session| (session.start, session.end)).collect()
    }

    #[test]
    fn a_row_bridges_sessions_but_touching_ones_stay_apart() {
        let replayed = replay(vec![fragment(0, 10, IN_TIME), fragment(10, 20, IN_TIME)], 100);
        assert_eq!(spans(&replayed.closed), [(0, 10), (10, 20)]);
        let bridge = fragment(5, 15, IN_TIME);
        let replayed = replay(vec![fragment(0, 10, IN_TIME), fragment(10, 20, IN_TIME), bridge], 100);
        assert_eq!(spans(&replayed.closed), [(0, 20)]);
    }

    #[test]
    fn a_row_behind_its_watermark_does_not_touch_what_the_watermark_had_closed() {
        // The row at 5 came when its watermark was 12, which had closed [0, 10): a slower split does not change that.
        let replayed = replay(vec![fragment(0, 10, IN_TIME), fragment(5, 15, 12)], 100);
        assert_eq!(spans(&replayed.closed), [(0, 10), (5, 15)]);
        // With the watermark at 8 the session was open.
        let replayed = replay(vec![fragment(0, 10, IN_TIME), fragment(5, 15, 8)], 100);
        assert_eq!(spans(&replayed.closed), [(0, 15)]);
        // At 9 it had just closed.
        let replayed = replay(vec![fragment(0, 10, IN_TIME), fragment(5, 15, 9)], 100);
        assert_eq!(spans(&replayed.closed), [(0, 10), (5, 15)]);
    }

    #[test]
    fn only_what_the_watermark_has_passed_closes() {
        let replayed = replay(vec![fragment(0, 10, IN_TIME), fragment(20, 30, IN_TIME)], 9);
        assert_eq!(spans(&replayed.closed), [(0, 10)]);
        assert_eq!(spans(&replayed.open), [(20, 30)]);
        assert_eq!(spans(&replay(vec![fragment(0, 10, IN_TIME)], 8).open), [(0, 10)]);
    }
}
