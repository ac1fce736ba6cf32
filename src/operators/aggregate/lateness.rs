//! Which pane a row belongs to, and whether the row comes too late.
//!
//! A watermark W says that no row at or before W counts any more: a window `[start, end)` is closed when
//! W ≥ `end` − 1. A row is judged by its own watermark, or by the operator's if that is ahead, which happens only
//! when a split was left out as idle. A row whose window would reach beyond what 64-bit nanoseconds can say (before
//! 1677, after 2262) counts as late, because no watermark could ever close such a window in order.

use std::collections::BTreeMap;

use super::super::window::WindowKind;

/// Where a row is aggregated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    /// Start of the pane; the event time itself for instants and sessions; 0 for the global window.
    pub(super) pane: i64,
    /// See [`super::layout::FROM`]; 0 where there is no such column.
    pub(super) from: i64,
}

/// In [`Place::from`] of a session's row: it came before its watermark passed it, so it meets no closed session.
pub(super) const IN_TIME: i64 = i64::MIN;

/// The multiple of `step` at or before `time`, also before 1970.
fn floor_to(time: i64, step: i64) -> Option<i64> {
    time.div_euclid(step).checked_mul(step)
}

/// Where a row at `time` belongs if `watermark` has closed windows before it; `None` if it is late.
pub(super) fn place(window: WindowKind, time: i64, watermark: i64) -> Option<Place> {
    match window {
        WindowKind::Tumble { width } => {
            let pane = floor_to(time, width)?;
            (pane.checked_add(width)? - 1 > watermark).then_some(Place { pane, from: 0 })
        }
        WindowKind::Hop { slide, width } => {
            let pane = floor_to(time, slide)?;
            // The first window that holds the pane must be one that can be said, too.
            pane.checked_add(slide)?.checked_sub(width)?;
            let (first, last) = (pane + slide, pane.checked_add(width)?);
            if last - 1 <= watermark {
                return None;
            }
            // Ends are multiples of the slide; the first one that is still open is the first above `watermark` + 1.
            let open = if first - 1 > watermark { first } else { (watermark + 1).div_euclid(slide) * slide + slide };
            Some(Place { pane, from: open })
        }
        WindowKind::Session { gap } => {
            let end = time.checked_add(gap)?;
            let from = if time > watermark { IN_TIME } else { watermark };
            (end - 1 > watermark).then_some(Place { pane: time, from })
        }
        WindowKind::Instant => (time > watermark).then_some(Place { pane: time, from: 0 }),
        WindowKind::Global => (watermark < i64::MAX).then_some(Place { pane: 0, from: 0 }),
    }
}

/// The smallest watermark at which the final phase must have the state of `place`: it closes the first window that
/// the state counts in.
pub(super) fn needed_at(window: WindowKind, place: Place) -> i64 {
    match window {
        WindowKind::Tumble { width } => place.pane + (width - 1),
        WindowKind::Hop { .. } => place.from - 1,
        WindowKind::Session { .. } | WindowKind::Instant => place.pane,
        WindowKind::Global => i64::MAX,
    }
}

/// Event times and watermarks of a batch.
pub(super) struct RowTimes<'a> {
    pub(super) times: &'a [i64],
    /// Each row's own watermark, if the input has them.
    pub(super) watermarks: Option<&'a [i64]>,
    /// The operator's watermark.
    pub(super) watermark: i64,
}

impl RowTimes<'_> {
    /// The watermark that row `row` is judged by.
    pub(super) fn watermark(&self, row: usize) -> i64 {
        self.watermarks.map_or(self.watermark, |watermarks| watermarks[row].max(self.watermark))
    }

    fn newest_watermark(&self) -> i64 {
        let newest = self.watermarks.and_then(|watermarks| watermarks.iter().copied().max());
        newest.unwrap_or(i64::MIN).max(self.watermark)
    }

    /// The place of all rows if they share one: the usual case, found without looking at each row's place.
    pub(super) fn common_place(&self, window: WindowKind) -> Option<Place> {
        let (first, last) = (self.times.iter().copied().min()?, self.times.iter().copied().max()?);
        let newest = self.newest_watermark();
        let place_of_first = place(window, first, newest)?;
        // Judged by the newest watermark, some row might count in fewer windows than by its own.
        let all_windows = place(window, first, i64::MIN)? == place_of_first;
        (all_windows && place(window, last, newest)? == place_of_first).then_some(place_of_first)
    }
}

/// Rows sorted by place.
pub(super) struct Places {
    /// All rows that are not late, place by place, each in the order in which they came.
    pub(super) order: Vec<u32>,
    /// The places, with how many of the rows in `order` are theirs.
    pub(super) runs: Vec<(Place, usize)>,
    /// The late rows.
    pub(super) late: Vec<u32>,
}

impl Places {
    pub(super) fn new(window: WindowKind, rows: &RowTimes) -> Places {
        let mut slots: BTreeMap<Place, usize> = BTreeMap::new();
        let mut counts: Vec<usize> = vec![];
        let mut late = vec![];
        let mut previous = None;
        let mut slot_of_row = Vec::with_capacity(rows.times.len());
        for (row, &time) in rows.times.iter().enumerate() {
            let Some(place) = place(window, time, rows.watermark(row)) else {
                late.push(row as u32);
                slot_of_row.push(usize::MAX);
                continue;
            };
            let slot = match previous {
                Some((known, slot)) if known == place => slot,
                _ => *slots.entry(place).or_insert_with(|| {
                    counts.push(0);
                    counts.len() - 1
                }),
            };
            previous = Some((place, slot));
            counts[slot] += 1;
            slot_of_row.push(slot);
        }
        // A counting sort: `next` holds where the next row of each place goes.
        let mut next = vec![0; counts.len()];
        let mut runs = Vec::with_capacity(counts.len());
        let mut start = 0;
        for (&place, &slot) in &slots {
            next[slot] = start;
            start += counts[slot];
            runs.push((place, counts[slot]));
        }
        let mut order = vec![0; start];
        for (row, &slot) in slot_of_row.iter().enumerate() {
            if slot != usize::MAX {
                order[next[slot]] = row as u32;
                next[slot] += 1;
            }
        }
        Places { order, runs, late }
    }

    /// Whether `order` is simply all rows as they came, so that nothing has to be moved.
    pub(super) fn in_order(&self) -> bool {
        self.late.is_empty() && self.order.is_sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUMBLE: WindowKind = WindowKind::Tumble { width: 10 };
    const HOP: WindowKind = WindowKind::Hop { slide: 5, width: 15 };

    #[test]
    fn a_window_closes_one_nanosecond_before_its_end() {
        assert_eq!(place(TUMBLE, 13, 18), Some(Place { pane: 10, from: 0 }));
        assert_eq!(place(TUMBLE, 13, 19), None);
    }

    #[test]
    fn panes_before_1970_round_down() {
        assert_eq!(place(TUMBLE, -1, i64::MIN), Some(Place { pane: -10, from: 0 }));
        assert_eq!(place(TUMBLE, -10, i64::MIN), Some(Place { pane: -10, from: 0 }));
        assert_eq!(place(TUMBLE, -11, i64::MIN), Some(Place { pane: -20, from: 0 }));
    }

    #[test]
    fn a_row_of_a_hop_window_counts_in_the_windows_that_are_open() {
        // Pane [10, 15) is in the windows that end at 15, 20 and 25.
        let from = |watermark| place(HOP, 12, watermark).map(|place| place.from);
        assert_eq!(from(i64::MIN), Some(15));
        assert_eq!(from(13), Some(15));
        assert_eq!(from(14), Some(20));
        assert_eq!(from(18), Some(20));
        assert_eq!(from(19), Some(25));
        assert_eq!(from(23), Some(25));
        assert_eq!(from(24), None);
    }

    #[test]
    fn a_row_at_the_ends_of_time_is_late() {
        for window in [TUMBLE, HOP, WindowKind::Session { gap: 10 }] {
            assert_eq!(place(window, i64::MAX, i64::MIN), None, "{window:?}");
        }
        assert_eq!(place(TUMBLE, i64::MIN, i64::MIN), None);
        assert_eq!(place(HOP, i64::MIN, i64::MIN), None);
    }

    #[test]
    fn rows_are_sorted_by_place_and_late_ones_set_apart() {
        let rows = RowTimes { times: &[25, 3, 21, 14], watermarks: Some(&[0, 12, 12, 12]), watermark: i64::MIN };
        assert_eq!(rows.common_place(TUMBLE), None);
        let places = Places::new(TUMBLE, &rows);
        assert_eq!(places.order, [3, 0, 2]);
        assert_eq!(places.runs, [(Place { pane: 10, from: 0 }, 1), (Place { pane: 20, from: 0 }, 2)]);
        assert_eq!(places.late, [1]);
    }

    #[test]
    fn a_batch_within_a_pane_is_not_split() {
        let rows = RowTimes { times: &[12, 10, 14], watermarks: Some(&[5, 9, 13]), watermark: i64::MIN };
        assert_eq!(rows.common_place(HOP), Some(Place { pane: 10, from: 15 }));
        let behind = RowTimes { times: &[12, 10, 14], watermarks: Some(&[5, 9, 14]), watermark: i64::MIN };
        assert_eq!(behind.common_place(HOP), None);
    }
}
