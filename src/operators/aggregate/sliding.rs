//! The final phase of overlapping windows: panes, merged into windows by two stacks.
//!
//! A window of k panes is not merged from k panes each time. As in the "two-stacks" algorithm for sliding-window
//! aggregation (Tangwongsan, Hirzel and Schneider, *Low-latency sliding-window aggregation in worst-case constant
//! time*, DEBS 2017, section 2, where it is credited to adamax), the older panes are kept as suffixes: each already
//! merged with all younger ones of its stack. The younger panes are kept as they are, with their merge beside them. A
//! window is then one suffix and one merge, and when the suffixes are used up the younger panes become suffixes, which
//! merges each of them once. So a window costs a few merges of its groups, however many panes it has.
//!
//! A pane is frozen when its first window closes. What comes later is late for that window and says so; such states
//! are few and stay apart, with the windows that they still count in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::Result;

use super::groups::{GroupStates, GroupTable};
use super::lateness::Place;
use super::layout::{Bounds, Layout};

/// The panes of all open windows.
pub(super) struct SlidingStore {
    layout: Arc<Layout>,
    slide: i64,
    width: i64,
    /// Panes none of whose windows has closed, by start.
    growing: BTreeMap<i64, GroupTable>,
    /// Panes some of whose windows have closed.
    frozen: TwoStacks,
    /// States that are late for some windows of their pane.
    behind: BTreeMap<Place, Vec<GroupStates>>,
    /// End of the last window that was closed.
    closed_to: Option<i64>,
    /// Panes with new states since the last publication.
    changed: BTreeSet<i64>,
}

impl SlidingStore {
    pub(super) fn new(layout: Arc<Layout>, slide: i64, width: i64) -> SlidingStore {
        SlidingStore {
            layout,
            slide,
            width,
            growing: BTreeMap::new(),
            frozen: TwoStacks::default(),
            behind: BTreeMap::new(),
            closed_to: None,
            changed: BTreeSet::new(),
        }
    }

    pub(super) fn insert(&mut self, place: Place, groups: &[ArrayRef], states: &[ArrayRef], rows: usize) -> Result<()> {
        let Place { pane, from } = place;
        let first_open = self.closed_to.is_none_or(|closed| from > closed);
        self.changed.insert(pane);
        if from == pane + self.slide && first_open {
            if !self.growing.contains_key(&pane) {
                self.growing.insert(pane, GroupTable::new(&self.layout)?);
            }
            if let Some(table) = self.growing.get_mut(&pane) {
                table.merge(groups, states, rows)?;
            }
        } else {
            let columns = groups.iter().chain(states).cloned().collect();
            self.behind.entry(place).or_default().push(GroupStates { columns, rows });
        }
        Ok(())
    }

    /// The end of the first window that is not closed and holds something.
    fn next_end(&self) -> Option<i64> {
        let following = self.closed_to.map(|closed| closed + self.slide);
        let frozen = if self.frozen.is_empty() { None } else { following };
        let growing = self.growing.first_key_value().map(|(pane, _)| pane + self.slide);
        let behind = self.behind.keys().map(|place| following.map_or(place.from, |end| end.max(place.from))).min();
        [frozen, growing, behind].into_iter().flatten().min()
    }

    /// Closes the windows that `watermark` closes, in order of their ends; their results, if wanted.
    pub(super) fn close(&mut self, watermark: i64, wanted: bool) -> Result<Vec<RecordBatch>> {
        let mut results = vec![];
        while let Some(end) = self.next_end().filter(|end| end - 1 <= watermark) {
            self.freeze_before(end)?;
            self.frozen.expire(&self.layout, end - self.width)?;
            if wanted {
                let parts = self.frozen.all().chain(self.behind_of(end));
                results.extend(self.results(end, parts)?);
            }
            self.closed_to = Some(end);
            // What the next window does not need is given back now.
            self.frozen.expire(&self.layout, end + self.slide - self.width)?;
            self.behind.retain(|place, _| place.pane + self.width > end);
        }
        if let Some(closed) = self.closed_to {
            self.changed.retain(|pane| pane + self.width > closed);
        }
        Ok(results)
    }

    /// Freezes the panes of the window that ends at `end`.
    fn freeze_before(&mut self, end: i64) -> Result<()> {
        while let Some(first) = self.growing.first_entry() {
            if *first.key() > end - self.slide {
                break;
            }
            let (pane, table) = first.remove_entry();
            self.frozen.push(&self.layout, pane, table.take_states()?)?;
        }
        Ok(())
    }

    fn behind_of(&self, end: i64) -> impl Iterator<Item = &GroupStates> {
        let counts = move |place: &Place| place.from <= end && place.pane + self.width >= end;
        self.behind.iter().filter(move |(place, _)| counts(place)).flat_map(|(_, states)| states)
    }

    fn results<'a>(&self, end: i64, parts: impl Iterator<Item = &'a GroupStates>) -> Result<Option<RecordBatch>> {
        let (columns, rows) = GroupTable::merged(&self.layout, parts)?.take_results()?;
        if rows == 0 {
            return Ok(None);
        }
        self.layout.output_batch(Bounds::constant(end - self.width, end, rows), columns).map(Some)
    }

    /// The results so far of every window still open at `watermark` that changed since this was last asked.
    pub(super) fn publish(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        let mut ends = BTreeSet::new();
        for pane in std::mem::take(&mut self.changed) {
            let all = (1..=self.width / self.slide).map(|slides| pane + slides * self.slide);
            ends.extend(all.filter(|end| end - 1 > watermark && self.closed_to.is_none_or(|closed| *end > closed)));
        }
        let mut growing = BTreeMap::new();
        for (&pane, table) in &mut self.growing {
            growing.insert(pane, table.copy_states()?);
        }
        let mut results = vec![];
        for end in ends {
            let start = end - self.width;
            let young = growing.range(start..=end - self.slide).map(|(_, states)| states);
            let parts = self.frozen.from(start).chain(young).chain(self.behind_of(end));
            results.extend(self.results(end, parts)?);
        }
        Ok(results)
    }

    /// The states of every pane that an open window needs, each as it came: one for each pane and what it is late for.
    pub(super) fn states(&mut self) -> Result<Vec<(Place, GroupStates)>> {
        let place = |pane| Place { pane, from: pane + self.slide };
        let mut states: Vec<_> = self.frozen.panes().map(|(pane, states)| (place(pane), states.clone())).collect();
        for (&pane, table) in &mut self.growing {
            states.push((place(pane), table.copy_states()?));
        }
        for (place, parts) in &self.behind {
            states.push((*place, GroupTable::merged(&self.layout, parts)?.take_states()?));
        }
        Ok(states)
    }

    pub(super) fn size(&self) -> usize {
        self.growing.values().map(GroupTable::size).sum::<usize>()
            + self.frozen.size()
            + self.behind.values().flatten().map(GroupStates::size).sum::<usize>()
    }
}

/// A queue of panes whose merge is always at hand.
#[derive(Default)]
struct TwoStacks {
    /// The older panes, youngest first.
    suffixes: Vec<Suffix>,
    /// The younger panes, oldest first.
    young: Vec<(i64, GroupStates)>,
    /// All of `young`, merged.
    young_merged: Option<GroupStates>,
}

/// An older pane.
struct Suffix {
    pane: i64,
    /// Alone, for the state that a checkpoint keeps.
    own: GroupStates,
    /// Merged with all younger ones of its stack.
    merged: GroupStates,
}

impl TwoStacks {
    fn is_empty(&self) -> bool {
        self.suffixes.is_empty() && self.young.is_empty()
    }

    fn push(&mut self, layout: &Arc<Layout>, pane: i64, states: GroupStates) -> Result<()> {
        self.young_merged = Some(merge_two(layout, self.young_merged.take(), &states)?);
        self.young.push((pane, states));
        Ok(())
    }

    /// Drops the panes that start before `start`.
    fn expire(&mut self, layout: &Arc<Layout>, start: i64) -> Result<()> {
        while self.suffixes.last().is_some_and(|suffix| suffix.pane < start) {
            self.suffixes.pop();
        }
        if self.suffixes.is_empty() && self.young.first().is_some_and(|(pane, _)| *pane < start) {
            self.young_merged = None;
            let mut suffix = None;
            for (pane, states) in std::mem::take(&mut self.young).into_iter().rev() {
                if pane < start {
                    break;
                }
                let merged = merge_two(layout, suffix, &states)?;
                self.suffixes.push(Suffix { pane, own: states, merged: merged.clone() });
                suffix = Some(merged);
            }
        }
        Ok(())
    }

    /// States that make up all panes.
    fn all(&self) -> impl Iterator<Item = &GroupStates> {
        self.suffixes.last().map(|suffix| &suffix.merged).into_iter().chain(&self.young_merged)
    }

    /// States that make up the panes from `start` on.
    fn from(&self, start: i64) -> impl Iterator<Item = &GroupStates> {
        let suffix = self.suffixes.iter().rev().find(|suffix| suffix.pane >= start).map(|suffix| &suffix.merged);
        let whole = self.young.first().is_some_and(|(pane, _)| *pane >= start);
        let merged = self.young_merged.iter().filter(move |_| whole);
        let single = self.young.iter().filter(move |(pane, _)| !whole && *pane >= start).map(|(_, states)| states);
        suffix.into_iter().chain(merged).chain(single)
    }

    /// Every pane by itself.
    fn panes(&self) -> impl Iterator<Item = (i64, &GroupStates)> {
        let older = self.suffixes.iter().map(|suffix| (suffix.pane, &suffix.own));
        older.chain(self.young.iter().map(|(pane, states)| (*pane, states)))
    }

    fn size(&self) -> usize {
        let merged = self.suffixes.iter().map(|suffix| &suffix.merged).chain(&self.young_merged);
        merged.chain(self.panes().map(|(_, states)| states)).map(GroupStates::size).sum()
    }
}

fn merge_two(layout: &Arc<Layout>, older: Option<GroupStates>, younger: &GroupStates) -> Result<GroupStates> {
    match older {
        None => Ok(younger.clone()),
        Some(older) => GroupTable::merged(layout, [&older, younger])?.take_states(),
    }
}
