//! The final phase of sessions: which fragments are one session, and when it closes.
//!
//! Fragments of a key that overlap are one session, with one exception. A row that its own watermark W had passed
//! already came behind everything that W had closed, so it must not touch a session that ends at or before W + 1, even
//! if a slower split has kept that session open here. So a key's sessions are replayed in order of watermarks: sessions
//! close when the watermark reaches their end − 1, and a fragment behind its watermark joins what is still open when
//! the watermark is its own ([`replay`]). The outcome does not depend on the order in which fragments arrive.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use smallvec::{SmallVec, smallvec};

use super::accumulators::Accumulators;
use super::fragments::merge_fragments;
use super::lateness::IN_TIME;
use super::layout::{Bounds, Layout};

/// Stored fragments are merged when there are more of them than this and twice as many as after the last time.
const FRAGMENTS_WORTH_MERGING: usize = 4 * 1024;
/// Batches with fewer rows than this, taken together, are worth being put together.
const ROWS_WORTH_A_BATCH: usize = 64;

/// The groups of a row, comparable and hashable.
type Key = Arc<[u8]>;

/// Most keys have one session, and all that came of it is merged.
type Fragments = SmallVec<[Fragment; 1]>;

/// The open sessions of all keys.
pub(super) struct SessionStore {
    layout: Arc<Layout>,
    converter: Option<RowConverter>,
    batches: Vec<RecordBatch>,
    /// Rows of `batches`, those of closed sessions included.
    rows: usize,
    rows_after_merge: usize,
    /// Where each key is in `slots`.
    places: HashMap<Key, u32, ahash::RandomState>,
    slots: Vec<Slot>,
    /// Slots without a key.
    free: Vec<u32>,
    /// When to look at a slot again: some fragment in it ends then, or ended before the slot got another key.
    deadlines: BinaryHeap<Reverse<(i64, u32)>>,
    /// Slots with new fragments since the last publication, in a store whose open sessions are published.
    changed: Option<Vec<u32>>,
}

/// A key and what is open of it.
#[derive(Default)]
struct Slot {
    key: Key,
    fragments: Fragments,
    /// Whether the slot waits for the next publication.
    changed: bool,
}

/// A stored fragment: its span, what it is too late for, and which row of which batch holds the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fragment {
    start: i64,
    end: i64,
    from: i64,
    at: (u32, u32),
}

/// A session: its span and its fragments.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Session {
    start: i64,
    end: i64,
    fragments: Fragments,
}

impl SessionStore {
    /// A store whose open sessions can be asked for if they are `published`.
    pub(super) fn new(layout: Arc<Layout>, published: bool) -> Result<SessionStore> {
        let fields: Vec<SortField> =
            layout.groups.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(SessionStore {
            layout,
            converter,
            batches: vec![],
            rows: 0,
            rows_after_merge: 0,
            places: HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
            slots: vec![],
            free: vec![],
            deadlines: BinaryHeap::new(),
            changed: published.then(Vec::new),
        })
    }

    pub(super) fn insert(&mut self, batch: RecordBatch) -> Result<()> {
        for slot in self.index(batch)? {
            let Some(changed) = &mut self.changed else { break };
            if !std::mem::replace(&mut self.slots[slot as usize].changed, true) {
                changed.push(slot);
            }
        }
        // While nearly every row is another key's, as after a restore, there is nothing to merge.
        let gains = self.rows > 2 * self.places.len() || self.rows < ROWS_WORTH_A_BATCH * self.batches.len();
        if gains && self.rows > FRAGMENTS_WORTH_MERGING.max(2 * self.rows_after_merge) {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Stores the rows; the slot of each.
    fn index(&mut self, batch: RecordBatch) -> Result<Vec<u32>> {
        let slots = self.slots_of(&batch)?;
        let key_column = |index| self.layout.key(&batch, index);
        let (starts, ends, froms) = (key_column(0)?, key_column(1)?, key_column(2)?);
        let number = self.batches.len() as u32;
        for (row, &slot) in slots.iter().enumerate() {
            let at = (number, row as u32);
            let fragment = Fragment { start: starts[row], end: ends[row], from: froms[row], at };
            self.deadlines.push(Reverse((fragment.end, slot)));
            self.slots[slot as usize].fragments.push(fragment);
        }
        self.rows += batch.num_rows();
        self.batches.push(batch);
        Ok(slots)
    }

    /// The slot of each row's key, which is made if it is not there.
    fn slots_of(&mut self, batch: &RecordBatch) -> Result<Vec<u32>> {
        let Some(converter) = &self.converter else {
            return Ok(vec![self.slot(&[]); batch.num_rows()]);
        };
        let keys = converter.convert_columns(self.layout.groups_of(batch))?;
        Ok(keys.iter().map(|key| self.slot(key.as_ref())).collect())
    }

    fn slot(&mut self, key: &[u8]) -> u32 {
        if let Some(slot) = self.places.get(key) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let key = Key::from(key);
        self.slots[slot as usize].key = Arc::clone(&key);
        self.places.insert(key, slot);
        slot
    }

    /// Drops the rows of closed sessions and merges the fragments of open ones.
    fn rewrite(&mut self) -> Result<()> {
        let live = self.states()?;
        self.slots.iter_mut().for_each(|slot| slot.fragments.clear());
        self.deadlines.clear();
        self.batches.clear();
        self.rows = 0;
        for batch in live {
            self.index(batch)?;
        }
        self.rows_after_merge = self.rows;
        Ok(())
    }

    /// The fragments of every open session, merged; the store stays as it is.
    pub(super) fn states(&self) -> Result<Vec<RecordBatch>> {
        let live: Vec<(u32, u32)> =
            self.slots.iter().flat_map(|slot| &slot.fragments).map(|fragment| fragment.at).collect();
        if live.is_empty() {
            return Ok(vec![]);
        }
        let columns = self.gather(0..self.layout.partial.fields().len(), &live)?;
        let batch = self.layout.partial_batch(columns, vec![], live.len())?;
        Ok(vec![merge_fragments(&self.layout, &[batch])?])
    }

    /// Some columns of stored rows.
    fn gather(&self, columns: std::ops::Range<usize>, rows: &[(u32, u32)]) -> Result<Vec<ArrayRef>> {
        // Only the batches that are asked for: a `dyn Array` for each of them would cost more than a few rows.
        let mut used = BTreeMap::new();
        for (batch, _) in rows {
            let next = used.len();
            used.entry(*batch).or_insert(next);
        }
        let mut order: Vec<usize> = vec![0; used.len()];
        used.iter().for_each(|(batch, at)| order[*at] = *batch as usize);
        let rows: Vec<(usize, usize)> = rows.iter().map(|(batch, row)| (used[batch], *row as usize)).collect();
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
        let mut due = vec![];
        while let Some(Reverse((end, slot))) = self.deadlines.peek().copied()
            && end - 1 <= watermark
        {
            self.deadlines.pop();
            due.push(slot);
        }
        due.sort_unstable();
        due.dedup();
        self.sort_by_key(&mut due);
        let mut closed = vec![];
        for slot in due {
            let replayed = replay(std::mem::take(&mut self.slots[slot as usize].fragments), watermark);
            closed.extend(replayed.closed);
            if let Some(deadline) = replayed.open.iter().map(|session| session.end).min() {
                self.deadlines.push(Reverse((deadline, slot)));
                self.slots[slot as usize].fragments =
                    replayed.open.into_iter().flat_map(|session| session.fragments).collect();
            } else {
                self.free(slot);
            }
        }
        let results = if wanted { self.results(closed)? } else { vec![] };
        if self.places.is_empty() && self.rows > 0 {
            self.rewrite()?;
            self.slots.clear();
            self.free.clear();
            self.changed.iter_mut().for_each(Vec::clear);
        }
        Ok(results)
    }

    /// Takes the key out of a slot in which nothing is open, if it has one.
    fn free(&mut self, slot: u32) {
        let Slot { key, .. } = std::mem::take(&mut self.slots[slot as usize]);
        if self.places.get(&key) == Some(&slot) {
            self.places.remove(&key);
            self.free.push(slot);
        }
    }

    /// Whoever is told of several keys at once is told in an order that hangs on nothing but the keys.
    fn sort_by_key(&self, slots: &mut [u32]) {
        let key = |slot: u32| &self.slots[slot as usize].key;
        slots.sort_unstable_by(|&one, &other| key(one).cmp(key(other)));
    }

    /// The open sessions, as they are now, of every key with new rows since this was last asked.
    pub(super) fn publish(&mut self) -> Result<Vec<RecordBatch>> {
        let Some(changed) = &mut self.changed else { return Ok(vec![]) };
        let mut changed = std::mem::take(changed);
        // A slot may be named twice, or have got free since.
        changed.retain(|&slot| std::mem::take(&mut self.slots[slot as usize].changed));
        self.sort_by_key(&mut changed);
        let fragments = changed.iter().map(|&slot| self.slots[slot as usize].fragments.clone());
        let sessions = fragments.flat_map(|fragments| replay(fragments, i64::MAX).closed).collect();
        self.results(sessions)
    }

    /// One batch with a row for each session, by end.
    fn results(&self, mut sessions: Vec<Session>) -> Result<Vec<RecordBatch>> {
        if sessions.is_empty() {
            return Ok(vec![]);
        }
        sessions.sort_by_key(|session| session.end);
        let groups = self.layout.keys..self.layout.keys + self.layout.groups.fields().len();
        let sample: Vec<(u32, u32)> = sessions.iter().map(|session| session.fragments[0].at).collect();
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
        let more = self.rows.saturating_sub(self.places.len()) * size_of::<Fragment>();
        let slots = self.slots.len() * size_of::<Slot>() + self.places.len() * size_of::<(Key, u32)>();
        batches + more + slots + self.deadlines.len() * size_of::<(i64, u32)>()
    }
}

/// What became of a key's fragments.
struct Replayed {
    closed: Vec<Session>,
    open: Vec<Session>,
}

/// Replays a key's fragments up to `watermark`: which sessions have closed, and which are open.
fn replay(fragments: impl IntoIterator<Item = Fragment>, watermark: i64) -> Replayed {
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
        Session { start: fragment.start, end: fragment.end, fragments: smallvec![fragment] }
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
